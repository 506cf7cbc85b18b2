//! Properties, against the slow twin and against the log itself.
//!
//! Proptest prints what fails, reduced, and keeps it in `proptest-regressions/`.

use std::time::Duration;

use proptest::prelude::*;

use super::super::{Coalescer, DedupeHorizon, Limits, Output};
use super::script::{Event, Row};
use super::twin::{Twin, is_duplicate};
use super::{at, limits, offset, restore};
use crate::model::{Checkpoint, CloseReason, Offset, Priority, Refresh, Run, RunCause, Timestamp};

/// What happens next, after so many milliseconds.
#[derive(Clone, Debug)]
enum Step {
    Batch {
        after_ms: i64,
        rows: Vec<Draft>,
    },
    Deadline {
        after_ms: i64,
    },
    /// Time goes on exactly to the next deadline.
    ToDeadline,
    LogEnd {
        after_ms: i64,
    },
    ClockBack {
        by_ms: i64,
    },
    /// Dropped and restored from the last commit; the log is read again in pieces of so many records.
    Restart {
        after_ms: i64,
        piece: usize,
    },
}

/// A record to be appended when its batch is read.
#[derive(Clone, Debug)]
struct Draft {
    hole: i64,
    conversation: u8,
    id: u8,
    priority: Priority,
    /// How long ago it was appended; the same for its receipt.
    log_ago_ms: i64,
    received_ago_ms: i64,
    shape: Shape,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Event,
    NoConversation,
    Undecodable,
}

/// What a log may hold.
#[derive(Clone, Copy)]
enum Times {
    /// Every record is read the moment it is appended and received.
    Live,
    /// Backlogs, clocks that differ.
    Any,
}

fn any_draft(times: Times) -> impl Strategy<Value = Draft> {
    let hole = prop_oneof![12 => Just(0_i64), 2 => 1..4_i64, 1 => Just(1_i64 << 33)];
    let shape = prop_oneof![
        12 => Just(Shape::Event),
        1 => Just(Shape::NoConversation),
        1 => Just(Shape::Undecodable)
    ];
    let ago = move || match times {
        Times::Live => Just(0_i64).boxed(),
        Times::Any => prop_oneof![6 => Just(0), 1 => -5_000..5_000_i64, 2 => Just(4_000), 2 => Just(4_001),
            2 => 5_000..90_000_i64]
        .boxed(),
    };
    let priority = prop::sample::select(Priority::ALL.to_vec());
    (hole, 0..6_u8, 0..10_u8, priority, ago(), ago(), shape).prop_map(
        |(hole, conversation, id, priority, log_ago_ms, received_ago_ms, shape)| Draft {
            hole,
            conversation,
            id,
            priority,
            log_ago_ms,
            received_ago_ms,
            shape,
        },
    )
}

fn any_step(times: Times) -> impl Strategy<Value = Step> {
    let after = || prop_oneof![2 => Just(0_i64), 4 => 0..400_i64, 2 => 0..3_000_i64];
    let rows = prop::collection::vec(any_draft(times), 0..8);
    let restart = (after(), 1..6_usize).prop_map(|(after_ms, piece)| Step::Restart { after_ms, piece });
    let back = match times {
        Times::Live => Just(0_i64).boxed(),
        Times::Any => (1..100_000_i64).boxed(),
    };
    prop_oneof![
        6 => (after(), rows).prop_map(|(after_ms, rows)| Step::Batch { after_ms, rows }),
        2 => after().prop_map(|after_ms| Step::Deadline { after_ms }),
        3 => Just(Step::ToDeadline),
        1 => after().prop_map(|after_ms| Step::LogEnd { after_ms }),
        1 => back.prop_map(|by_ms| Step::ClockBack { by_ms }),
        1 => restart,
    ]
}

fn any_steps(times: Times) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any_step(times), 1..50)
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let windows = prop_oneof![Just(1_000_usize), 1..6_usize];
    let records = prop_oneof![Just(0_u32), 1..30_u32];
    let seconds = prop_oneof![Just(0_u64), 1..4_u64, Just(600_u64)];
    let lanes = prop::collection::vec((0..3_000_u64, 0..5_000_u64), 3);
    let odd_lanes = prop_oneof![3 => Just(None), 1 => lanes.prop_map(Some)];
    (windows, records, seconds, 0..4_usize, odd_lanes).prop_map(
        |(windows_max, records, seconds, event_ids_max, odd_lanes)| {
            let mut limits = limits();
            limits.metadata_bytes_max = 256;
            limits.chunk.windows_max = windows_max;
            limits.event_ids_max = event_ids_max;
            limits.dedupe = DedupeHorizon {
                records,
                time: Duration::from_secs(seconds),
            };
            if let Some(lanes) = odd_lanes {
                let all = &mut limits.lanes;
                for (lane, (gap, cap)) in [&mut all.high, &mut all.medium, &mut all.low]
                    .into_iter()
                    .zip(lanes)
                {
                    (lane.gap, lane.cap) = (Duration::from_millis(gap), Duration::from_millis(cap));
                }
            }
            limits
        },
    )
}

fn run() -> Run {
    Run {
        started_at: at(0),
        start: offset(5),
        cause: RunCause::First,
    }
}

/// The log, the clock, and what the broker has: the world outside of the core.
struct World {
    limits: Limits,
    log: Vec<Row>,
    now: Timestamp,
    core: Coalescer,
    committed: Checkpoint,
    /// Outputs since the last commit.
    pending: Vec<Output>,
    written: Vec<(Timestamp, Output)>,
}

impl World {
    fn new(limits: Limits) -> Self {
        let committed = Checkpoint::begin(run());
        Self {
            limits,
            log: Vec::new(),
            now: at(1_000_000),
            core: restore(committed.clone(), limits),
            committed,
            pending: Vec::new(),
            written: Vec::new(),
        }
    }

    fn pass(&mut self, after_ms: i64) -> Timestamp {
        self.now = at(self.now.as_millis() + after_ms);
        self.now
    }

    fn append(&mut self, drafts: &[Draft]) -> Vec<Row> {
        let rows: Vec<Row> = drafts.iter().map(|draft| self.append_one(draft)).collect();
        rows
    }

    fn append_one(&mut self, draft: &Draft) -> Row {
        let next = self.log.last().map_or(run().start, |last| last.offset.next());
        let ago = |ms: i64| at(self.now.as_millis() - ms);
        let event = Event {
            tenant: ["acme", "bolt"][usize::from(draft.conversation % 2)].into(),
            conversation: Some(format!("c{}", draft.conversation / 2)),
            id: format!("e{}", draft.id),
            kind: format!("k{}", draft.id % 4),
            priority: draft.priority,
            emitted_at: ago(draft.received_ago_ms + i64::from(draft.id)),
            received_at: ago(draft.received_ago_ms),
        };
        let row = Row {
            offset: offset(next.number() + draft.hole),
            log_time: ago(draft.log_ago_ms),
            event: match draft.shape {
                Shape::Event => Some(event),
                Shape::NoConversation => Some(Event {
                    conversation: None,
                    ..event
                }),
                Shape::Undecodable => None,
            },
        };
        self.log.push(row.clone());
        row
    }

    /// Drains the outputs; commits them with the checkpoint, if there is one.
    fn commit(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(output) = self.core.poll_output() {
            outputs.push(output);
        }
        self.pending.extend(outputs.iter().cloned());
        if let Some(checkpoint) = self.core.checkpoint() {
            self.committed = checkpoint;
            let now = self.now;
            self.written
                .extend(self.pending.drain(..).map(|output| (now, output)));
        }
        outputs
    }

    fn restart(&mut self, piece: usize) {
        self.pending.clear();
        self.core = restore(self.committed.clone(), self.limits);
        let from = self.core.read_from(Offset::ZERO);
        let rows: Vec<Row> = self
            .log
            .iter()
            .filter(|row| row.offset >= from)
            .cloned()
            .collect();
        for rows in rows.chunks(piece) {
            self.core.on_batch(rows.iter().map(Row::record), self.now);
            self.core.on_deadline(self.now);
        }
        self.core.on_deadline(self.now);
    }
}

proptest! {
    #[test]
    fn answers_like_the_twin(limits in any_limits(), steps in any_steps(Times::Any)) {
        let mut world = World::new(limits);
        let mut twin = Twin::new(run(), limits);
        for step in steps {
            let clock_went_back = matches!(step, Step::ClockBack { .. });
            match step {
                Step::Batch { after_ms, rows } => {
                    let now = world.pass(after_ms);
                    let rows = world.append(&rows);
                    world.core.on_batch(rows.iter().map(Row::record), now);
                    twin.on_batch(&rows, now);
                    prop_assert_eq!(world.commit(), twin.outputs());
                    world.core.on_deadline(now);
                    twin.on_deadline(now);
                }
                Step::Deadline { after_ms } | Step::Restart { after_ms, .. } => {
                    let now = world.pass(after_ms);
                    world.core.on_deadline(now);
                    twin.on_deadline(now);
                }
                Step::ToDeadline => {
                    world.now = world.core.next_deadline().map_or(world.now, |(at, _)| at);
                    world.core.on_deadline(world.now);
                    twin.on_deadline(world.now);
                }
                Step::LogEnd { after_ms } => {
                    let now = world.pass(after_ms);
                    world.core.on_log_end(now);
                    twin.on_log_end(now);
                }
                Step::ClockBack { by_ms } => {
                    world.pass(-by_ms);
                }
            }
            prop_assert_eq!(world.commit(), twin.outputs());
            // After a step back the core has not heard of the new time yet.
            if !clock_went_back {
                prop_assert_eq!(world.core.next_deadline(), twin.next_deadline());
            }
            prop_assert_eq!(world.core.is_behind(), twin.is_behind());
            prop_assert_eq!(world.core.checkpoint(), twin.checkpoint());
        }
        world.core.on_stop(world.now);
        twin.on_stop(world.now);
        prop_assert_eq!(world.commit(), twin.outputs());
        prop_assert_eq!(world.core.open_windows(), 0);
    }

    /// Restarted anywhere, the refreshes are those of the processor that never stopped: the same windows, closed
    /// at the same time for the same reason.
    #[test]
    fn a_restart_changes_nothing(limits in any_limits(), steps in any_steps(Times::Live)) {
        let mut world = World::new(limits);
        let mut twin = Twin::new(run(), limits);
        for step in steps {
            match step {
                Step::Batch { after_ms, rows } => {
                    let now = world.pass(after_ms);
                    let rows = world.append(&rows);
                    world.core.on_batch(rows.iter().map(Row::record), now);
                    world.core.on_deadline(now);
                    twin.on_batch(&rows, now);
                    twin.on_deadline(now);
                }
                Step::Restart { after_ms, piece } => {
                    let now = world.pass(after_ms);
                    world.restart(piece);
                    twin.on_deadline(now);
                }
                Step::ToDeadline => {
                    world.now = twin.next_deadline().map_or(world.now, |(at, _)| at);
                    world.core.on_deadline(world.now);
                    twin.on_deadline(world.now);
                }
                Step::Deadline { after_ms } | Step::LogEnd { after_ms } => {
                    let now = world.pass(after_ms);
                    world.core.on_deadline(now);
                    twin.on_deadline(now);
                }
                Step::ClockBack { .. } => {}
            }
            prop_assert_eq!(world.commit(), twin.outputs());
            prop_assert_eq!(world.core.checkpoint(), twin.checkpoint());
            prop_assert_eq!(world.core.next_deadline(), twin.next_deadline());
        }
    }

    /// Whatever the clocks say and wherever it is restarted, also within a chunk and with outputs not yet
    /// committed: every event is counted in exactly one written refresh, in order.
    #[test]
    fn every_event_is_counted_once(limits in any_limits(), steps in any_steps(Times::Any)) {
        let mut world = World::new(Limits { event_ids_max: 1_000, ..limits });
        for step in steps {
            match step {
                Step::Batch { after_ms, rows } => {
                    let now = world.pass(after_ms);
                    let rows = world.append(&rows);
                    world.core.on_batch(rows.iter().map(Row::record), now);
                    world.core.on_deadline(now);
                }
                Step::Deadline { after_ms } => {
                    let now = world.pass(after_ms);
                    world.core.on_deadline(now);
                }
                Step::ToDeadline => {
                    world.now = world.core.next_deadline().map_or(world.now, |(at, _)| at);
                    world.core.on_deadline(world.now);
                }
                Step::LogEnd { after_ms } => {
                    let now = world.pass(after_ms);
                    world.core.on_log_end(now);
                }
                Step::ClockBack { by_ms } => {
                    world.pass(-by_ms);
                }
                Step::Restart { after_ms, piece } => {
                    world.pass(after_ms);
                    world.restart(piece);
                }
            }
            world.commit();
        }
        world.core.on_stop(world.now);
        world.commit();
        prop_assert!(world.pending.is_empty());
        prop_assert_eq!(counted(&world), Ok(()));
    }

    /// With a shell that keeps the deadlines: no event waits longer than the cap of its own lane, and a window
    /// whose priority never rose is not closed before it was quiet for the gap or lived for the cap.
    #[test]
    fn gap_and_cap_hold(steps in any_steps(Times::Live)) {
        let mut world = World::new(Limits { event_ids_max: 1_000, ..limits() });
        for step in steps {
            let Step::Batch { after_ms, rows } = step else { continue };
            let then = at(world.now.as_millis() + after_ms);
            keep_deadlines(&mut world, then);
            let rows = world.append(&rows);
            world.core.on_batch(rows.iter().map(Row::record), then);
            world.core.on_deadline(then);
            world.commit();
        }
        let end = at(world.now.as_millis() + 10_000);
        keep_deadlines(&mut world, end);
        prop_assert_eq!(counted(&world), Ok(()));
        for (written_at, output) in &world.written {
            if let Output::Refresh(refresh) = output {
                kept_its_lane(&world, refresh, *written_at)?;
            }
        }
    }
}

/// Goes to every deadline up to `then`, and then to `then`.
fn keep_deadlines(world: &mut World, then: Timestamp) {
    while let Some((deadline, _)) = world.core.next_deadline()
        && deadline < then
    {
        world.now = deadline;
        world.core.on_deadline(deadline);
        world.commit();
    }
    world.now = then;
}

fn kept_its_lane(world: &World, refresh: &Refresh, written_at: Timestamp) -> Result<(), TestCaseError> {
    let lanes = &world.limits.lanes;
    let events: Vec<&Event> = events_of(world, refresh).map(|(_, event)| event).collect();
    for event in &events {
        let waited = written_at.saturating_since(event.received_at);
        prop_assert!(
            waited <= lanes.of(event.priority).cap,
            "{event:?} waited {waited:?}"
        );
    }
    let lane = lanes.of(refresh.priority);
    if events.iter().all(|event| event.priority == refresh.priority) {
        let quiet = written_at.saturating_since(refresh.last_received_at);
        let lived = written_at.saturating_since(refresh.first_received_at);
        let (duration, bound) = match refresh.closed_by {
            CloseReason::Gap => (quiet, lane.gap),
            CloseReason::Cap => (lived, lane.cap),
            reason @ (CloseReason::Chunk | CloseReason::Pressure | CloseReason::Stop) => {
                return Err(TestCaseError::fail(format!("closed by {reason}")));
            }
        };
        prop_assert_eq!(duration, bound);
    }
    Ok(())
}

/// The events that a refresh must count: those of its conversation between its offsets, duplicates left out.
fn events_of<'w>(world: &'w World, refresh: &'w Refresh) -> impl Iterator<Item = (Offset, &'w Event)> {
    let tenant = refresh.tenant.as_str();
    let conversation = refresh.conversation.as_str();
    world
        .log
        .iter()
        .filter(|row| row.offset >= refresh.first_offset && row.offset <= refresh.last_offset)
        .filter(|row| !is_duplicate(&world.log, row, &world.limits))
        .filter_map(|row| Some((row.offset, row.event.as_ref()?)))
        .filter(move |(_, event)| {
            event.tenant == tenant && event.conversation.as_deref() == Some(conversation)
        })
}

/// Says whether the written outputs count the log exactly.
fn counted(world: &World) -> Result<(), String> {
    let mut seen: Vec<Offset> = Vec::new();
    let mut dead: Vec<Offset> = Vec::new();
    let mut ends: Vec<(&Refresh, Offset)> = Vec::new();
    for (_, output) in &world.written {
        let refresh = match output {
            Output::DeadLetter(offset) => {
                dead.push(*offset);
                continue;
            }
            Output::Refresh(refresh) => refresh,
        };
        let events: Vec<_> = events_of(world, refresh).collect();
        let ids: Vec<&str> = events.iter().map(|(_, event)| event.id.as_str()).collect();
        let named: Vec<&str> = refresh.event_ids.iter().map(|id| id.as_str()).collect();
        if ids != named || refresh.event_count as usize != ids.len() {
            return Err(format!("{refresh:?} counts {named:?} of {ids:?}"));
        }
        let before = ends.iter().rev().find(|(before, _)| {
            before.tenant == refresh.tenant && before.conversation == refresh.conversation
        });
        if before.is_some_and(|(_, end)| *end >= refresh.first_offset) {
            return Err(format!("{refresh:?} is out of order"));
        }
        ends.push((refresh, refresh.last_offset));
        seen.extend(events.iter().map(|(offset, _)| *offset));
    }
    seen.sort_unstable();
    dead.sort_unstable();
    let expected: Vec<Offset> = world
        .log
        .iter()
        .filter(|row| !is_duplicate(&world.log, row, &world.limits))
        .filter(|row| {
            row.event
                .as_ref()
                .is_some_and(|event| event.conversation.is_some())
        })
        .map(|row| row.offset)
        .collect();
    let undecodable: Vec<Offset> = world
        .log
        .iter()
        .filter(|row| row.event.is_none())
        .map(|row| row.offset)
        .collect();
    if seen != expected || dead != undecodable {
        return Err(format!(
            "counted {seen:?} of {expected:?}, set aside {dead:?} of {undecodable:?}"
        ));
    }
    Ok(())
}
