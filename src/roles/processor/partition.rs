//! One partition in a worker's hands: its coalescer, and what it has put out since the last commit.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::coalesce::{Coalescer, Limits, Output};
use crate::consume::Committed;
use crate::emit::{DeadLetter, Transaction};
use crate::lifecycle::Instant;
use crate::model::{Checkpoint, Offset, Partition, Refresh, Run, RunCause, Timestamp};
use crate::wire::checkpoint_v1;

/// How long a partition may have records and not be read: far beyond reading the dedupe horizon again (20,000 records)
/// and a leader's election.
const STALL_TIME: Duration = Duration::from_secs(60);

/// How much of the time between two looks counts: the worker looks several times a second, but for a while in which it did
/// not poll either (a commit, a schema or committed offsets that it waited for), so that nothing could be read.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// The metadata beside a committed offset is not ours to read: nothing is guessed, the worker stops.
#[derive(Debug, thiserror::Error)]
#[error(
    "partition {partition} of {topic}: the metadata of the committed offset {offset} cannot be decoded ({cause}). \
     Nothing was read or written. If another consumer or a newer frontstream committed it, start that one; otherwise stop every \
     processor of group {group} and set the partition's offset anew, which starts it with no open window: \
     kafka-consumer-groups --bootstrap-server {brokers} --group {group} --topic {topic}:{partition} \
     --reset-offsets --to-offset {offset} --execute"
)]
pub struct UnreadableMetadata {
    brokers: String,
    topic: String,
    group: String,
    partition: Partition,
    offset: Offset,
    /// Not its source: what comes after the command would be copied with it.
    cause: checkpoint_v1::Error,
}

/// A state, and how many of the waiting outputs it covers.
struct Ready {
    checkpoint: Checkpoint,
    refreshes: usize,
    dead_letters: usize,
}

/// How long after the client was at the end of a log its statistics, which come every second, may tell an older one.
const LOG_END_LATE_MAX: Duration = Duration::from_secs(3);

/// One partition that this worker owns.
pub(super) struct Owned {
    pub(super) coalescer: Coalescer,
    /// What the group's committed offset and metadata say, as far as this worker knows.
    pub(super) committed: Checkpoint,
    /// Put out since the last commit, in the order to emit.
    pub(super) refreshes: Vec<Refresh>,
    /// Put out since the last commit.
    pub(super) dead_letters: Vec<DeadLetter>,
    /// What could be committed before the last batch was fed: kept while outputs wait, because the batch may begin a
    /// chunk, in which nothing more can be committed.
    ready: Option<Ready>,
    /// Read and undecodable, until the coalescer says that they are due.
    held: BTreeMap<Offset, DeadLetter>,
    /// What lies before was read by an earlier owner.
    restored_position: Offset,
    /// The offset to read next; while the state is restored it lies before the position.
    next: Offset,
    /// `next` when last looked at, and how long it has been that.
    stood: (Offset, Duration),
    looked_at: Instant,
    /// Nothing was read since the end of the log was told.
    ended: Option<Ended>,
}

/// The end of a log, as told by the client: what lies between the last record and it are no records.
struct Ended {
    /// As reported then, or just after.
    log_end: Option<i64>,
    /// For how long that may yet be told late.
    settles_in: Duration,
}

impl Owned {
    /// Takes the partition over in `state`.
    pub(super) fn restore(committed: &Committed, state: Checkpoint, limits: Limits, now: Instant) -> Self {
        let coalescer = Coalescer::restore(committed.partition, state.clone(), limits);
        let next = coalescer.read_from(committed.log_start);
        Self {
            restored_position: state.position,
            next,
            stood: (next, Duration::ZERO),
            looked_at: now,
            ended: None,
            coalescer,
            committed: state,
            refreshes: Vec::new(),
            dead_letters: Vec::new(),
            ready: None,
            held: BTreeMap::new(),
        }
    }

    /// Returns the offset to read next.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// Hears that everything up to `last` has been read.
    pub(super) fn read(&mut self, last: Offset) {
        self.next = last.next();
        self.ended = None;
    }

    /// Hears that everything up to the end of the log has been read.
    pub(super) fn read_all(&mut self, log_end: Option<i64>) {
        self.ended = Some(Ended {
            log_end,
            settles_in: LOG_END_LATE_MAX,
        });
    }

    /// Keeps the bytes of a record that could not be decoded until the coalescer lets it out.
    pub(super) fn hold(&mut self, letter: DeadLetter) {
        if letter.offset >= self.committed.committed_offset() {
            self.held.insert(letter.offset, letter);
        }
    }

    /// Takes over what the coalescer has put out.
    pub(super) fn drain(&mut self) {
        while let Some(output) = self.coalescer.poll_output() {
            match output {
                Output::Refresh(refresh) => self.refreshes.push(refresh),
                Output::DeadLetter(offset) => {
                    let letter = self
                        .held
                        .remove(&offset)
                        .expect("every undecodable record is held");
                    self.dead_letters.push(letter);
                }
            }
        }
        if !self.coalescer.is_restoring() {
            // What was read before the restart and not let out again was set aside by an earlier transaction.
            self.held.retain(|offset, _| *offset >= self.restored_position);
        }
    }

    /// Notes what can be committed now if outputs wait; called before a batch is fed.
    pub(super) fn before_feeding(&mut self) {
        if self.has_outputs()
            && let Some(checkpoint) = self.coalescer.checkpoint()
        {
            let (refreshes, dead_letters) = (self.refreshes.len(), self.dead_letters.len());
            self.ready = Some(Ready {
                checkpoint,
                refreshes,
                dead_letters,
            });
        }
    }

    /// Moves what can be committed into `transaction`: outputs and the state that covers exactly them; nothing when
    /// the state is the committed one.
    pub(super) fn hand_to(&mut self, partition: Partition, transaction: &mut Transaction) {
        let ready = self.ready.take();
        let now = self.coalescer.checkpoint().map(|checkpoint| Ready {
            checkpoint,
            refreshes: self.refreshes.len(),
            dead_letters: self.dead_letters.len(),
        });
        let Some(ready) = now.or(ready) else { return };
        if !self.has_outputs() && ready.checkpoint == self.committed {
            return;
        }
        transaction
            .refreshes
            .extend(self.refreshes.drain(..ready.refreshes));
        transaction
            .dead_letters
            .extend(self.dead_letters.drain(..ready.dead_letters));
        transaction.checkpoints.push((partition, ready.checkpoint));
    }

    /// Says whether something waits for a commit and can be committed.
    pub(super) fn is_due(&self) -> bool {
        self.has_outputs()
            && (self.ready.is_some() || !(self.coalescer.is_behind() || self.coalescer.is_restoring()))
    }

    /// Says whether there have been records to read for [`STALL_TIME`] and none was read; to be asked after every poll, or
    /// nearly so.
    ///
    /// Not every offset is a record: where front.events is written in transactions each ends in one that is not.
    ///
    /// librdkafka stops reading a partition whose position has left the log and says so once, in an event that a
    /// rebalance at that moment makes it forget.
    pub(super) fn is_stalled(&mut self, log_end: Option<i64>, now: Instant) -> bool {
        let passed = now.since(self.looked_at).min(LOOK_MAX);
        self.looked_at = now;
        if let Some(ended) = &mut self.ended
            && !ended.settles_in.is_zero()
        {
            ended.settles_in = ended.settles_in.saturating_sub(passed);
            ended.log_end = log_end.or(ended.log_end);
        }
        let is_at_end = self.ended.as_ref().is_some_and(|ended| ended.log_end == log_end);
        let has_more = !is_at_end && log_end.is_some_and(|end| end > self.next.number());
        if !has_more || self.stood.0 != self.next {
            self.stood = (self.next, Duration::ZERO);
        } else {
            self.stood.1 += passed;
        }
        self.stood.1 >= STALL_TIME
    }

    /// Says whether something waits for a commit.
    fn has_outputs(&self) -> bool {
        !self.refreshes.is_empty() || !self.dead_letters.is_empty()
    }
}

/// Where the committed offsets stand, for the command that sets one anew.
#[derive(Clone, Copy)]
pub(super) struct Place<'s> {
    pub(super) brokers: &'s str,
    pub(super) topic: &'s str,
    pub(super) group: &'s str,
}

/// The losses that were told: until a commit, each restore finds them again.
#[derive(Debug, Default)]
pub(super) struct Losses(BTreeMap<Partition, (Offset, Offset)>);

impl Losses {
    /// Takes what lies between what was committed and what is there; returns how many offsets of it were not told of
    /// before, `None` when it is no news.
    fn take(&mut self, committed: &Committed, offset: Offset) -> Option<u64> {
        let start = committed.log_start;
        match self.0.insert(committed.partition, (offset, start)) {
            Some((told, from)) if told == offset => (start > from).then(|| start.distance_from(from)),
            Some(_) | None => Some(start.distance_from(offset)),
        }
    }
}

/// Says whether a log is told to end before what was committed or read of it: records are gone, or who told it is no longer
/// its leader.
pub(super) fn ends_too_early(committed: &Committed) -> bool {
    committed.offset.is_some_and(|offset| {
        let position = checkpoint_v1::decode(&committed.metadata, offset).map(|state| state.position);
        offset > committed.log_end || position.is_ok_and(|position| position > committed.log_end)
    })
}

/// Turns what the group committed into the state to start from, and begins a run where it holds none of ours. Returns with
/// it how many offsets were lost that `losses` did not know of; it learns of them.
///
/// # Errors
///
/// [`UnreadableMetadata`]: the worker stops.
pub(super) fn state_of(
    committed: &Committed,
    place: Place<'_>,
    now: Timestamp,
    losses: &mut Losses,
) -> Result<(Checkpoint, u64), UnreadableMetadata> {
    let partition = committed.partition;
    let begin = |start, cause| {
        Checkpoint::begin(Run {
            started_at: now,
            start,
            cause,
        })
    };
    let Some(offset) = committed.offset else {
        tracing::info!(%partition, start = %committed.log_start, "no committed offset: starts at the earliest");
        return Ok((begin(committed.log_start, RunCause::First), 0));
    };
    if offset < committed.log_start || offset > committed.log_end {
        let lost = losses.take(committed, offset);
        if lost.is_some() {
            tracing::error!(
                %partition, committed = %offset, log_start = %committed.log_start, log_end = %committed.log_end,
                "the committed offset is not in the log any more: goes on at the earliest retained; the events from the \
                 committed offset to the start of the log are lost to this group"
            );
        }
        let state = begin(committed.log_start, RunCause::Retention);
        return Ok((state, lost.unwrap_or(0)));
    }
    if committed.metadata.is_empty() {
        tracing::info!(%partition, start = %offset, "offset set by a tool: starts a new run with no open window");
        return Ok((begin(offset, RunCause::Reset), 0));
    }
    let state = checkpoint_v1::decode(&committed.metadata, offset).map_err(|cause| UnreadableMetadata {
        brokers: place.brokers.to_owned(),
        topic: place.topic.to_owned(),
        group: place.group.to_owned(),
        partition,
        offset,
        cause,
    })?;
    if state.position > committed.log_end {
        // No new leader reports an end below an earlier one unless records are gone (KIP-207), and an old one has heard of it by
        // now: an unclean election.
        if losses.take(committed, offset).is_some() {
            tracing::error!(
                %partition, position = %state.position, log_end = %committed.log_end,
                "the log ends before what was read already: records were lost by the brokers. Goes on at the committed \
                 offset as a new run, so that nothing which took their place is missed"
            );
        }
        // Not counted: how many there were is not known.
        return Ok((begin(offset, RunCause::Retention), 0));
    }
    Ok((state, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coalesce::{ChunkLimits, DedupeHorizon};
    use crate::lifecycle::Clock;
    use crate::model::Lanes;

    fn offset(number: i64) -> Offset {
        Offset::new(number).expect("not negative")
    }

    /// A partition taken over with its position at 10, of which the dedupe horizon is read again from 4 on.
    fn taken_over(now: Instant) -> Owned {
        let state = Checkpoint {
            run: Run {
                started_at: Timestamp::from_millis(1),
                start: offset(0),
                cause: RunCause::First,
            },
            position: offset(10),
            window_starts: vec![offset(9)],
        };
        let committed = Committed {
            partition: Partition::new(0).expect("not negative"),
            offset: Some(offset(9)),
            metadata: String::new(),
            log_start: offset(0),
            log_end: offset(10),
        };
        let limits = Limits {
            lanes: Lanes::default(),
            metadata_bytes_max: 4_096,
            event_ids_max: 100,
            dedupe: DedupeHorizon {
                records: 5,
                time: Duration::from_secs(600),
            },
            chunk: ChunkLimits {
                duration: Duration::from_secs(2),
                windows_max: 100,
                bytes_max: 1 << 20,
            },
        };
        Owned::restore(&committed, state, limits, now)
    }

    fn clock() -> Clock {
        Clock::set_to(Timestamp::from_millis(1))
    }

    /// Looks four times a second for `time`, and says whether a stall was seen.
    fn stalls_within(owned: &mut Owned, log_end: Option<i64>, clock: &Clock, time: Duration) -> bool {
        let look = Duration::from_millis(250);
        let mut looks = 0..time.as_millis() / look.as_millis();
        looks.any(|_| {
            clock.pass(look);
            owned.is_stalled(log_end, clock.instant())
        })
    }

    const JUST_BELOW: Duration = STALL_TIME.saturating_sub(Duration::from_secs(1));

    /// The log was cut off beyond where the horizon is read from, and nothing comes: the open window must not wait for the
    /// next event, which on a quiet partition may be tomorrow's.
    #[test]
    fn a_replay_that_does_not_go_on_is_a_stall() {
        let clock = clock();
        let mut owned = taken_over(clock.instant());
        assert_eq!(owned.next(), offset(4));
        assert!(!stalls_within(&mut owned, Some(10), &clock, JUST_BELOW));
        assert!(stalls_within(&mut owned, Some(10), &clock, STALL_TIME));
    }

    #[test]
    fn a_replay_that_takes_long_is_none() {
        let clock = clock();
        let mut owned = taken_over(clock.instant());
        for read in 4..8 {
            assert!(
                !stalls_within(&mut owned, Some(20), &clock, JUST_BELOW),
                "at {read}"
            );
            owned.read(offset(read));
        }
        assert!(stalls_within(&mut owned, Some(20), &clock, STALL_TIME * 2));
    }

    /// A commit may wait for its answer for four minutes, in which the worker does not poll.
    #[test]
    fn time_in_which_nothing_could_be_read_is_none() {
        let clock = clock();
        let mut owned = taken_over(clock.instant());
        for _ in 0..3 {
            clock.pass(STALL_TIME * 4);
            assert!(!owned.is_stalled(Some(20), clock.instant()));
        }
        assert!(stalls_within(&mut owned, Some(20), &clock, STALL_TIME));
    }

    /// Someone writes front.events in transactions: the last record is followed by what ends its transaction.
    #[test]
    fn an_end_that_is_no_record_is_none() {
        let clock = clock();
        let mut owned = taken_over(clock.instant());
        owned.read(offset(8));
        // The statistics tell the end a moment later.
        owned.read_all(Some(7));
        clock.pass(STALL_TIME * 4);
        assert!(!stalls_within(
            &mut owned,
            Some(7),
            &clock,
            Duration::from_secs(1)
        ));
        assert!(!stalls_within(&mut owned, Some(10), &clock, STALL_TIME * 60));
        // Something was written behind it and is not read.
        assert!(stalls_within(&mut owned, Some(12), &clock, STALL_TIME * 2));
        owned.read(offset(10));
        assert!(
            stalls_within(&mut owned, Some(12), &clock, STALL_TIME * 2),
            "the end was told before what was read last"
        );
    }

    #[test]
    fn nothing_to_read_is_none() {
        let clock = clock();
        let mut owned = taken_over(clock.instant());
        owned.read(offset(9));
        for log_end in [Some(10), None] {
            let stalls = stalls_within(&mut owned, log_end, &clock, STALL_TIME * 60);
            assert!(!stalls, "{log_end:?}");
        }
    }
}
