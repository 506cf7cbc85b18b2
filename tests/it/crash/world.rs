//! One run: a broker, processors that come and go, and everything that befalls them, drawn from a seed.

use std::time::Duration;

use frontstream::coalesce::{ChunkLimits, Coalescer, Content, DedupeHorizon, Limits, Output, Record};
use frontstream::model::{Change, Checkpoint, Lanes, Offset, Partition, Priority, Run, RunCause, Timestamp};
use frontstream::wire::checkpoint_v1;

use super::oracle::{End, Event, Log, Stored, Written};

/// A bug planted into the shell around the coalescer, so that the oracle can show that it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// The position is committed, as if no window were open.
    CommitPosition,
    /// Reading begins at the committed offset: duplicates of what stands before are not recognised.
    SkipHorizon,
    /// Outputs of an aborted transaction are written with the next.
    KeepAborted,
    /// The broker lets a zombie commit.
    NoFencing,
    /// The offset is committed, and the outputs after it.
    OutputsLater,
    /// One open window is left out of the metadata.
    ForgetWindow,
    /// After an abort reading goes on where it was.
    NoRewind,
}

impl Fault {
    pub(super) const PLANTED: [Self; 7] = [
        Self::CommitPosition,
        Self::SkipHorizon,
        Self::KeepAborted,
        Self::NoFencing,
        Self::OutputsLater,
        Self::ForgetWindow,
        Self::NoRewind,
    ];
}

/// What befell the processors.
#[derive(Debug, Default)]
pub(super) struct Story {
    records: u64,
    refreshes: u64,
    duplicates: u64,
    restored: u64,
    skipped: u64,
    chunks: u64,
    pressure: u64,
    dead_letters: u64,
    commits: u64,
    aborts: u64,
    crashes: u64,
    stops: u64,
    fenced: u64,
    resets: u64,
    retentions: u64,
}

impl Story {
    pub(super) fn add(&mut self, other: &Self) {
        for ((_, mine), (_, theirs)) in self.fields().into_iter().zip(other.clone_fields()) {
            *mine += theirs;
        }
    }

    pub(super) fn assert_eventful(&mut self) {
        for (name, count) in self.fields() {
            assert!(*count > 0, "no {name} in any run");
        }
    }

    fn fields(&mut self) -> [(&'static str, &mut u64); 15] {
        [
            ("record", &mut self.records),
            ("refresh", &mut self.refreshes),
            ("duplicate", &mut self.duplicates),
            ("restored event", &mut self.restored),
            ("skipped record", &mut self.skipped),
            ("chunk", &mut self.chunks),
            ("pressure", &mut self.pressure),
            ("dead letter", &mut self.dead_letters),
            ("commit", &mut self.commits),
            ("abort", &mut self.aborts),
            ("crash", &mut self.crashes),
            ("stop", &mut self.stops),
            ("fenced zombie", &mut self.fenced),
            ("reset", &mut self.resets),
            ("retention", &mut self.retentions),
        ]
    }

    fn clone_fields(&self) -> [(&'static str, u64); 15] {
        let mut copy = Self { ..*self };
        copy.fields().map(|(name, count)| (name, *count))
    }
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: i64) -> i64 {
        (self.next() >> 1).cast_signed() % bound
    }

    fn one_in(&mut self, chances: i64) -> bool {
        self.below(chances) == 0
    }
}

/// One partition, its group's offset, and what read-committed readers see of the output topics.
struct Broker {
    log_start: Offset,
    committed: Option<(Offset, String)>,
    /// The generation that may commit.
    generation: u64,
}

/// A processor that owns the partition, or believes so.
struct Processor {
    generation: u64,
    /// How far its clock is ahead.
    skew_ms: i64,
    limits: Limits,
    core: Coalescer,
    next: Offset,
    pending: Vec<Output>,
    /// The latest checkpoint, and how many of `pending` go with it.
    ready: Option<(Checkpoint, usize)>,
}

pub(super) struct World {
    pub(super) log: Log,
    pub(super) written: Vec<Written>,
    /// The last commit of every run.
    pub(super) ends: Vec<End>,
    pub(super) story: Story,
    fault: Fault,
    random: Random,
    now_ms: i64,
    broker: Broker,
    owner: Option<Processor>,
    zombie: Option<Processor>,
    /// Retention makes the log forget what was a duplicate: such runs have none.
    retention: bool,
    events: i64,
}

impl World {
    pub(super) fn run(seed: u64, fault: Fault) -> Self {
        let mut random = Random(seed);
        let retention = random.one_in(4);
        let horizon = DedupeHorizon {
            records: u32::try_from(random.below(60)).expect("a small number"),
            time: Duration::from_secs([1, 60, 600][usize::try_from(random.below(3)).expect("an index")]),
        };
        let mut world = Self {
            log: Log {
                records: Vec::new(),
                horizon,
            },
            written: Vec::new(),
            ends: Vec::new(),
            story: Story::default(),
            fault,
            random,
            now_ms: 1_000_000,
            broker: Broker {
                log_start: Offset::ZERO,
                committed: None,
                generation: 0,
            },
            owner: None,
            zombie: None,
            retention,
            events: 0,
        };
        for _ in 0..300 {
            world.step();
        }
        world.finish();
        world
    }

    fn step(&mut self) {
        match self.random.below(40) {
            0..8 => self.append(),
            8..12 => self.now_ms += self.random.below(700),
            12 => self.now_ms += [5_000, 60_000, 700_000][self.pick(3)],
            13 => self.reset(),
            14 if self.retention => self.delete(),
            15 => {
                self.owner = None;
                self.story.crashes += 1;
            }
            16 => self.take_over(),
            17 => self.stop(),
            18 => self.zombie_goes_on(),
            19 => self.zombie = None,
            20..26 => self.commit(),
            _ => self.poll(),
        }
    }

    fn pick(&mut self, bound: i64) -> usize {
        usize::try_from(self.random.below(bound)).expect("an index")
    }

    fn append(&mut self) {
        for _ in 0..self.random.below(12) {
            let last = self.log.records.last().map(|record| record.offset);
            let mut offset = last.map_or(Offset::ZERO, Offset::next);
            if self.random.one_in(15) {
                offset = offset_of(offset.number() + self.random.below(5));
            }
            let event = (!self.random.one_in(20)).then(|| self.event());
            // The clocks of receivers differ, and a producer may have waited.
            let late_ms = if self.random.one_in(10) {
                self.random.below(9_000)
            } else {
                0
            };
            self.log.records.push(Stored {
                offset,
                log_time: Timestamp::from_millis(self.now_ms - late_ms),
                event,
            });
            self.story.records += 1;
        }
    }

    fn event(&mut self) -> Event {
        if !self.retention && self.random.one_in(4) && !self.log.records.is_empty() {
            // A retry of Front: any earlier event, near or far.
            let back = if self.random.one_in(2) { 20 } else { 400 };
            let count = i64::try_from(self.log.records.len()).expect("a short log");
            let place = count - 1 - self.random.below(back.min(count));
            let earlier = &self.log.records[usize::try_from(place).expect("an index")];
            if let Some(event) = earlier.event.clone() {
                return event;
            }
        }
        self.events += 1;
        let conversation = self.random.below(24);
        let received_ms = self.now_ms - 3_000 + self.random.below(4_000);
        Event {
            tenant: ["acme", "bolt"][self.pick(2)],
            conversation: (conversation > 0).then(|| format!("cnv_{conversation}")),
            id: format!("evt_{}", self.events),
            kind: ["message.received", "tag.added", "comment.added"][self.pick(3)],
            priority: Priority::ALL[self.pick(3)],
            emitted_at: Timestamp::from_millis(received_ms - self.random.below(1_000)),
            received_at: Timestamp::from_millis(received_ms),
        }
    }

    /// An operator stops the group, sets the offset by the tools, which leave the metadata empty, and starts it.
    fn reset(&mut self) {
        if !self.random.one_in(4) {
            return;
        }
        self.owner = None;
        self.broker.generation += 1;
        let start = self.broker.log_start.number();
        let end = self
            .log
            .records
            .last()
            .map_or(start, |record| record.offset.number() + 1);
        let to = start + self.random.below(end - start + 1);
        self.broker.committed = Some((offset_of(to), String::new()));
        self.story.resets += 1;
    }

    /// Retention, or an operator, deletes the head of the log.
    fn delete(&mut self) {
        let end = self.log.records.last().map_or(0, |record| record.offset.number());
        let start = self.broker.log_start.number();
        let far = if self.random.one_in(3) { end - start } else { 30 };
        self.broker.log_start = offset_of((start + self.random.below(far.max(0) + 1)).min(end));
        // Who reads there gets an error, and starts again.
        if self
            .owner
            .as_ref()
            .is_some_and(|owner| owner.next < self.broker.log_start)
        {
            self.owner = None;
        }
    }

    fn limits(&mut self) -> Limits {
        // Everything but the horizon may change with a restart.
        Limits {
            lanes: Lanes::default(),
            metadata_bytes_max: [256, 4_096][self.pick(2)],
            event_ids_max: 1_000_000,
            dedupe: self.log.horizon,
            chunk: ChunkLimits {
                duration: Duration::from_millis([300, 2_000][self.pick(2)]),
                windows_max: [3, 12, 100_000, 100_000, 100_000][self.pick(5)],
                bytes_max: [20_000, 1 << 26][self.pick(2)],
            },
        }
    }

    /// Another processor is assigned the partition; the one before may not know.
    fn take_over(&mut self) {
        if let Some(before) = self.owner.take() {
            self.zombie = Some(before);
        }
        self.start();
    }

    fn start(&mut self) {
        self.broker.generation += 1;
        let begin = |start, cause| {
            Checkpoint::begin(Run {
                started_at: Timestamp::from_millis(self.now_ms),
                start,
                cause,
            })
        };
        let checkpoint = match &self.broker.committed {
            None => begin(self.broker.log_start, RunCause::First),
            Some((offset, _)) if *offset < self.broker.log_start => {
                self.story.retentions += 1;
                begin(self.broker.log_start, RunCause::Retention)
            }
            Some((offset, metadata)) if metadata.is_empty() => begin(*offset, RunCause::Reset),
            Some((offset, metadata)) => {
                checkpoint_v1::decode(metadata, *offset).expect("our own metadata can be read")
            }
        };
        let committed = checkpoint.committed_offset();
        let limits = self.limits();
        let core = Coalescer::restore(partition(), checkpoint, limits);
        let next = if self.fault == Fault::SkipHorizon {
            committed
        } else {
            core.read_from(self.broker.log_start)
        };
        self.owner = Some(Processor {
            generation: self.broker.generation,
            skew_ms: self.random.below(3) * self.random.below(8_000) - 6_000,
            limits,
            core,
            next,
            pending: Vec::new(),
            ready: None,
        });
    }

    fn poll(&mut self) {
        if self.owner.is_none() {
            self.start();
        }
        // Mostly the clock stands still, as between two polls of a backlog; now and then it is stepped back.
        self.now_ms += self.random.below(3) * self.random.below(60);
        let mut owner = self.owner.take().expect("started above");
        if self.random.one_in(60) {
            owner.skew_ms -= self.random.below(10_000);
        }
        self.feed(&mut owner);
        self.owner = Some(owner);
    }

    fn feed(&mut self, processor: &mut Processor) {
        let count = if self.random.one_in(3) { 5 } else { 200 };
        let limit = self.pick(count);
        let now = Timestamp::from_millis(self.now_ms + processor.skew_ms);
        let unread = self
            .log
            .records
            .partition_point(|record| record.offset < processor.next);
        let ready = &self.log.records[unread..];
        let batch = &ready[..limit.min(ready.len())];
        processor.core.on_batch(batch.iter().map(record), now);
        if let Some(last) = batch.last() {
            processor.next = last.offset.next();
        }
        let at_end = batch.len() == ready.len();
        self.drain(processor);
        processor.core.on_deadline(now);
        self.drain(processor);
        // A new leader may report an old end.
        if at_end || self.random.one_in(30) {
            processor.core.on_log_end(now);
            self.drain(processor);
        }
    }

    fn drain(&mut self, processor: &mut Processor) {
        while let Some(output) = processor.core.poll_output() {
            processor.pending.push(output);
        }
        if let Some(checkpoint) = processor.core.checkpoint() {
            processor.ready = Some((checkpoint, processor.pending.len()));
        }
        let counts = processor.core.counts();
        self.story.duplicates += counts.duplicates;
        self.story.restored += counts.restored;
        self.story.skipped += counts.skipped;
        self.story.chunks += counts.chunks;
        assert!(
            processor.core.is_behind()
                || processor.core.is_restoring()
                || processor.core.open_windows() <= processor.limits.chunk.windows_max,
            "more windows are open than may be"
        );
    }

    fn commit(&mut self) {
        let Some(mut owner) = self.owner.take() else {
            return;
        };
        match self.random.below(12) {
            // Died before the commit.
            0 => self.story.crashes += 1,
            // Died after it.
            1 => {
                self.try_commit(&mut owner);
                self.story.crashes += 1;
            }
            2 => {
                self.story.aborts += 1;
                let pending = owner.pending;
                let next = owner.next;
                self.start();
                let restarted = self.owner.as_mut().expect("started above");
                if self.fault == Fault::KeepAborted {
                    restarted.pending = pending;
                }
                if self.fault == Fault::NoRewind {
                    restarted.next = next;
                }
            }
            _ => {
                if self.try_commit(&mut owner) == Commit::Accepted {
                    self.owner = Some(owner);
                }
            }
        }
    }

    /// Stops cleanly: what is open is closed and committed.
    fn stop(&mut self) {
        let Some(mut owner) = self.owner.take() else {
            return;
        };
        owner
            .core
            .on_stop(Timestamp::from_millis(self.now_ms + owner.skew_ms));
        self.drain(&mut owner);
        self.try_commit(&mut owner);
        self.story.stops += 1;
    }

    /// A processor that lost its partition without knowing reads on and commits.
    fn zombie_goes_on(&mut self) {
        let Some(mut zombie) = self.zombie.take() else {
            return;
        };
        if zombie.next < self.broker.log_start {
            return;
        }
        self.feed(&mut zombie);
        if self.try_commit(&mut zombie) == Commit::Accepted {
            self.zombie = Some(zombie);
        }
    }

    /// One transaction: the outputs that a checkpoint covers, the offset and the metadata, at once or not at all.
    fn try_commit(&mut self, processor: &mut Processor) -> Commit {
        let Some((mut checkpoint, covered)) = processor.ready.take() else {
            return Commit::Accepted;
        };
        if processor.generation != self.broker.generation && self.fault != Fault::NoFencing {
            self.story.fenced += 1;
            return Commit::Refused;
        }
        if self.fault == Fault::CommitPosition {
            checkpoint.window_starts.clear();
        }
        if self.fault == Fault::ForgetWindow && checkpoint.window_starts.len() > 1 {
            checkpoint.window_starts.pop();
        }
        let bytes_max = processor.limits.metadata_bytes_max;
        let metadata = checkpoint_v1::encode(&checkpoint, bytes_max);
        self.broker.committed = Some((checkpoint.committed_offset(), metadata));
        self.story.commits += 1;
        let run = checkpoint.run;
        self.ends.retain(|end| end.run != run);
        self.ends.push(End {
            run,
            position: checkpoint.position,
            window_starts: checkpoint.window_starts,
        });
        if self.fault == Fault::OutputsLater && self.random.one_in(20) {
            return Commit::Refused;
        }
        for output in processor.pending.drain(..covered) {
            match &output {
                Output::Refresh(refresh) => {
                    self.story.refreshes += 1;
                    self.story.pressure += u64::from(refresh.closed_by.as_str() == "pressure");
                }
                Output::DeadLetter(_) => self.story.dead_letters += 1,
            }
            self.written.push(Written { run, output });
        }
        Commit::Accepted
    }

    /// The faults are over: what is left is read, everything closes, and the last run reaches the log's end.
    fn finish(&mut self) {
        self.zombie = None;
        let end = self
            .log
            .records
            .last()
            .map_or(Offset::ZERO, |record| record.offset.next());
        while self.owner.as_ref().is_none_or(|owner| owner.next < end) {
            self.poll();
        }
        let run = self.owner.as_ref().map(|owner| owner.core.run());
        self.stop();
        let last = self.ends.last().expect("the last processor has committed");
        assert_eq!(Some(last.run), run, "the last processor commits last");
        if self.fault == Fault::None {
            assert!(last.position == end.max(last.run.start) && last.window_starts.is_empty());
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Commit {
    Accepted,
    Refused,
}

fn record(stored: &Stored) -> Record<'_> {
    let content = match &stored.event {
        None => Content::Undecodable,
        Some(event) => Content::Change(Change {
            tenant: event.tenant,
            conversation: event.conversation.as_deref(),
            event_id: &event.id,
            kind: event.kind,
            priority: event.priority,
            emitted_at: event.emitted_at,
            received_at: event.received_at,
        }),
    };
    Record {
        offset: stored.offset,
        log_time: stored.log_time,
        content,
    }
}

fn partition() -> Partition {
    Partition::new(7).expect("not negative")
}

fn offset_of(number: i64) -> Offset {
    Offset::new(number).expect("not negative")
}
