//! The brokers: partitions of `front.events`, the transaction coordinator, and what read-committed readers see.

mod transactions;

use std::collections::BTreeMap;
use std::rc::Rc;

use frontstream::model::{Offset, Partition, Run, RunCause};

use self::transactions::{Open, Transactional};
use super::group::Group;
use super::oracle::{End, Stored, Written};
use super::planted::Planted;
use super::story::Story;

/// How long [`Planted::RecordsHeldBack`] holds a record back.
const HELD_BACK_US: u64 = 3_000_000;

/// One partition: its log, what the group has committed, what was written of it.
pub(super) struct Log {
    pub(super) records: Vec<Rc<Stored>>,
    pub(super) start: Offset,
    pub(super) end: Offset,
    pub(super) committed: Option<Position>,
    /// The refreshes and dead letters of committed transactions, in the order in which they became visible.
    pub(super) written: Vec<Written>,
    /// The last commit of every run.
    pub(super) ends: Vec<End>,
    /// The starts that a new run may have, each one run: what retention and operators have done.
    pub(super) starts: Vec<(RunCause, Offset)>,
    /// The run that was the last to begin.
    latest: Option<Run>,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            records: Vec::new(),
            start: Offset::ZERO,
            end: Offset::ZERO,
            committed: None,
            written: Vec::new(),
            ends: Vec::new(),
            starts: vec![(RunCause::First, Offset::ZERO)],
            latest: None,
        }
    }

    /// Says whether everything that there is was read, closed and committed.
    pub(super) fn is_complete(&self) -> bool {
        let Some(committed) = &self.committed else {
            return self.start == self.end;
        };
        if committed.offset < self.start {
            return self.start == self.end;
        }
        let done = |end: &End| end.position == self.end && end.window_starts.is_empty();
        committed.offset == self.end && (committed.metadata.is_empty() || self.ends.last().is_some_and(done))
    }

    /// Returns the index of the first record at `offset` or above.
    pub(super) fn at(&self, offset: Offset) -> usize {
        self.records.partition_point(|record| record.offset < offset)
    }
}

/// A committed offset and the metadata beside it.
#[derive(Clone, Debug)]
pub(super) struct Position {
    pub(super) offset: Offset,
    pub(super) metadata: String,
    /// When it was appended: a transaction that ends later does not undo what was committed after it.
    appended: u64,
}

/// What is checked of every commit while no fault is about.
#[derive(Default)]
pub(super) struct Promise {
    /// Since when nothing disturbs: what is appended from here on is committed in time. `None` while something does.
    pub(super) settled_us: Option<u64>,
    /// The latest that an event of a priority may be committed after it was appended.
    pub(super) delay_max_us: [u64; 3],
    /// What clocks that were stepped back since then may have cost.
    pub(super) delay_stepped_us: u64,
    /// The longest over the lane's cap that was seen.
    pub(super) worst_us: u64,
}

pub(super) struct Broker {
    pub(super) now_us: u64,
    pub(super) logs: Vec<Log>,
    pub(super) group: Group,
    pub(super) story: Story,
    pub(super) promise: Promise,
    /// What must never happen and did.
    pub(super) wrong: Vec<String>,
    pub(super) planted: Planted,
    /// Prints what happens: for a seed that is run alone.
    pub(super) loud: bool,
    transactionals: BTreeMap<String, Transactional>,
    /// What a worker's aborted transaction said, by its seat: [`Planted::WindowsKeptAfterAbort`].
    kept: BTreeMap<(usize, Partition), Position>,
    appended: u64,
    /// The earliest moment at which [`Broker::pass`] has something to do for a transaction.
    next_us: u64,
}

impl Broker {
    pub(super) fn new(partitions: usize, group: Group, planted: Planted) -> Self {
        Self {
            now_us: 1_000_000,
            logs: (0..partitions).map(|_| Log::new()).collect(),
            group,
            story: Story::default(),
            promise: Promise::default(),
            wrong: Vec::new(),
            planted,
            loud: false,
            transactionals: BTreeMap::new(),
            kept: BTreeMap::new(),
            appended: 0,
            next_us: u64::MAX,
        }
    }

    /// Tells what happens, if someone listens.
    #[expect(
        clippy::print_stdout,
        reason = "a test's output, for a seed that is run alone"
    )]
    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.loud {
            println!("{:>12} us  {}", self.now_us, what());
        }
    }

    pub(super) fn log(&self, partition: Partition) -> &Log {
        &self.logs[usize::try_from(partition.number()).expect("not negative")]
    }

    pub(super) fn log_mut(&mut self, partition: Partition) -> &mut Log {
        &mut self.logs[usize::try_from(partition.number()).expect("not negative")]
    }

    /// Returns what a reader at `position` can read.
    pub(super) fn readable(&self, partition: Partition, position: Offset) -> &[Rc<Stored>] {
        let log = self.log(partition);
        let ready = &log.records[log.at(position)..];
        if self.planted != Planted::RecordsHeldBack {
            return ready;
        }
        &ready[..ready.partition_point(|record| record.appended_us + HELD_BACK_US < self.now_us)]
    }

    /// Does what is due: aborts what has been open for too long, applies what was decided, expires members.
    pub(super) fn pass(&mut self) {
        self.group.pass(self.now_us, self.logs.len(), &mut self.story);
        if self.now_us < self.next_us {
            return;
        }
        let ids: Vec<String> = self.transactionals.keys().cloned().collect();
        for id in &ids {
            self.pass_one(id);
        }
        let open = self.transactionals.values().filter_map(|one| one.open.as_ref());
        self.next_us = open.map(Open::due_us).min().unwrap_or(u64::MAX);
    }

    /// An operator's tool writes an offset, with no metadata.
    pub(super) fn reset(&mut self, partition: Partition, offset: Offset) {
        self.appended += 1;
        let appended = self.appended;
        let log = self.log_mut(partition);
        log.committed = Some(Position {
            offset,
            metadata: String::new(),
            appended,
        });
        log.starts.push((RunCause::Reset, offset));
    }

    /// A run begins only where retention or an operator, or nothing at all, has made it begin, and once; with the next one it
    /// is over.
    fn note_run(&mut self, partition: Partition, run: Run) {
        let log = self.log_mut(partition);
        if log.ends.iter().any(|end| end.run == run) {
            if log.latest != Some(run) {
                let wrong = format!(
                    "misordered: partition {partition}: {run:?} commits when {:?} has begun",
                    log.latest
                );
                self.wrong.push(wrong);
            }
            return;
        }
        log.latest = Some(run);
        let start = log
            .starts
            .iter()
            .position(|start| *start == (run.cause, run.start));
        if let Some(start) = start {
            log.starts.swap_remove(start);
        } else {
            let wrong = format!(
                "partition {partition}: {run:?} begins where nothing made it begin: {:?}",
                log.starts
            );
            self.wrong.push(wrong);
        }
        self.story.count(match run.cause {
            RunCause::First => "run begun by first",
            RunCause::Reset => "run begun by reset",
            RunCause::Retention => "run begun by retention",
        });
    }

    /// Holds every event of the window to the promised delay, as far as nothing disturbed it.
    fn look_at_the_time(&mut self, partition: Partition, refresh: &frontstream::model::Refresh) {
        let Some(settled_us) = self.promise.settled_us else {
            return;
        };
        let log = self.log(partition);
        let from = log.at(refresh.first_offset);
        let mut delays = Vec::new();
        for record in log.records[from..]
            .iter()
            .take_while(|record| record.offset <= refresh.last_offset)
        {
            let Some(event) = &record.event else { continue };
            // A duplicate between its offsets is no event of the window.
            let ours = event.conversation.as_deref() == Some(refresh.conversation.as_str())
                && event.tenant == refresh.tenant.as_str()
                && refresh.event_ids.iter().any(|id| id.as_str() == event.id);
            if ours && record.appended_us >= settled_us {
                let lane = usize::from(event.priority as u8);
                delays.push((lane, self.now_us - record.appended_us, record.offset));
            }
        }
        for (lane, delay_us, offset) in delays {
            self.story.count("timed window");
            let max_us = self.promise.delay_max_us[lane] + self.promise.delay_stepped_us;
            self.promise.worst_us = self.promise.worst_us.max(delay_us.saturating_sub(max_us));
            if delay_us > max_us + super::world::DELAY_SLACK_US {
                self.wrong.push(format!(
                    "late: the event at {partition}/{offset} was committed after {delay_us} us, promised were {max_us}"
                ));
            }
        }
    }
}

fn closed_by(refresh: &frontstream::model::Refresh) -> &'static str {
    use frontstream::model::CloseReason as Reason;
    match refresh.closed_by {
        Reason::Gap => "refresh closed by gap",
        Reason::Cap => "refresh closed by cap",
        Reason::Chunk => "refresh closed by chunk",
        Reason::Pressure => "refresh closed by pressure",
        Reason::Stop => "refresh closed by stop",
    }
}
