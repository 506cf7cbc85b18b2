//! The runs that a partition must have, because faults made them begin, and which of them counts what.

use frontstream::model::{Run, RunCause, Timestamp};

/// A run that a fault made begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub(crate) cause: RunCause,
    /// Where it starts.
    pub(crate) start: i64,
    /// What the group had committed then: everything below was the earlier run's to count.
    pub(crate) committed: i64,
    /// When; before any processor could begin it.
    pub(crate) at: Timestamp,
}

/// One run that must be.
#[derive(Debug)]
pub(super) struct Expected {
    cause: RunCause,
    start: i64,
    pub(super) at: Timestamp,
    /// Everything from its start up to here it counts exactly once, what lies behind at most once.
    pub(super) until: i64,
    /// What stood before was deleted when it began: nothing is a duplicate of that.
    pub(super) floor: i64,
    /// Known once a refresh of it was seen.
    started_at: Option<Timestamp>,
    /// How often it counted each record.
    pub(super) times: Vec<u32>,
}

impl Expected {
    /// Says whether it must have counted what stands at `offset`, unless that is a duplicate.
    pub(super) fn must_count(&self, offset: i64) -> bool {
        (self.start..self.until).contains(&offset)
    }
}

/// The runs of one partition, in the order in which they begin.
#[derive(Debug)]
pub(super) struct Runs(pub(super) Vec<Expected>);

impl Runs {
    /// Every partition begins with a first run at zero.
    pub(super) fn new(begun: &[Begun], records: usize) -> Self {
        let first = Begun {
            cause: RunCause::First,
            start: 0,
            committed: 0,
            at: Timestamp::from_millis(0),
        };
        let mut floor = 0;
        let mut all: Vec<Expected> = Vec::new();
        for begun in std::iter::once(&first).chain(begun) {
            if let Some(before) = all.last_mut() {
                before.until = begun.committed;
            }
            if begun.cause == RunCause::Retention {
                floor = begun.start;
            }
            all.push(Expected {
                cause: begun.cause,
                start: begun.start,
                at: begun.at,
                until: i64::MAX,
                floor,
                started_at: None,
                times: vec![0; records],
            });
        }
        Self(all)
    }

    /// Finds the run that a refresh, seen then, says it is of; `None`: nothing made it begin.
    pub(super) fn find(&mut self, run: &Run, seen_at: Timestamp) -> Option<usize> {
        let is_it = |expected: &Expected| {
            expected.cause == run.cause
                && expected.start == run.start.number()
                && expected.at <= seen_at
                && expected.started_at.is_none_or(|at| at == run.started_at)
        };
        // Two that start alike are told apart by the time at which they did; a new one is the latest there is.
        let known = |expected: &Expected| is_it(expected) && expected.started_at.is_some();
        let at = self.0.iter().position(known);
        let at = at.or_else(|| self.0.iter().rposition(is_it))?;
        self.0[at].started_at = Some(run.started_at);
        Some(at)
    }

    /// Returns the offsets that were deleted before anybody had to count them.
    pub(super) fn was_deleted(&self, offset: i64) -> bool {
        self.0.windows(2).any(|pair| {
            pair[1].cause == RunCause::Retention && (pair[0].until..pair[1].start).contains(&offset)
        })
    }
}
