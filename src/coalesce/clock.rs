//! The core's own time: it goes on with the `now` it is told, and never goes back.

use std::time::Duration;

use crate::model::Timestamp;

/// A point on the core's own time line, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(i64);

impl Tick {
    /// Before every reading.
    pub(super) const NEVER: Self = Self(i64::MIN);

    /// Returns this point moved forward by `by_ms`.
    pub(super) fn plus(self, by_ms: i64) -> Self {
        Self(self.0.saturating_add(by_ms))
    }
}

/// One reading of the time: as told, and on the core's own line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// As the shell told it: compared with times that other machines wrote.
    pub(super) wall: Timestamp,
    /// On our own line: compared with what we stored.
    pub(super) tick: Tick,
}

/// Turns the `now` of the shell into ticks.
///
/// When the wall clock is stepped back, no time passes at that step and time goes on from there. Holding on to
/// the latest time seen instead would stop every window until the clock had caught up: an hour, after a clock
/// that was an hour ahead is put right.
#[derive(Debug, Default)]
pub(super) struct Clock {
    last: Option<Timestamp>,
    /// How far our line is ahead of the wall clock: the sum of its steps back.
    lead_ms: i64,
}

/// Whether the wall clock went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    On,
    Back,
}

impl Clock {
    /// Takes a reading.
    pub(super) fn read(&mut self, wall: Timestamp) -> (Now, Went) {
        let step_back = self
            .last
            .map_or(0, |last| last.as_millis().saturating_sub(wall.as_millis()).max(0));
        self.last = Some(wall);
        self.lead_ms = self.lead_ms.saturating_add(step_back);
        let now = Now {
            wall,
            tick: self.tick(wall),
        };
        (now, if step_back == 0 { Went::On } else { Went::Back })
    }

    /// Puts a time of the wall clock onto our line.
    pub(super) fn tick(&self, wall: Timestamp) -> Tick {
        Tick(wall.as_millis().saturating_add(self.lead_ms))
    }

    /// Says when the wall clock will show `tick`, as it goes now.
    pub(super) fn wall(&self, tick: Tick) -> Timestamp {
        Timestamp::from_millis(tick.0.saturating_sub(self.lead_ms))
    }
}

/// Returns whole milliseconds, saturating.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
