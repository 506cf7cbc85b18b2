//! Time as the broker sees it, and the one timer that wakes it.

use std::time::Duration;

use crate::lifecycle;

/// One reading of both clocks, taken once per request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Since the broker started, never stepped: for timeouts.
    pub(super) elapsed: Duration,
    /// Milliseconds since 1970 on the machine's clock: for the times of records.
    pub(super) wall_ms: i64,
}

/// Reads both clocks.
#[derive(Debug)]
pub(super) struct Clock {
    started: lifecycle::Instant,
    wall: lifecycle::Clock,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            started: lifecycle::Instant::now(),
            wall: lifecycle::Clock::system(),
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            elapsed: self.started.elapsed(),
            wall_ms: self.wall.now().as_millis(),
        }
    }
}
