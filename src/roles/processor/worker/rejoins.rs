//! How often partitions were given back to be taken over anew, and it did not help.

use std::time::Duration;

use crate::lifecycle::Instant;

/// After so much time without one the next is not in a row with the last. Twice the time after which a partition that is
/// not read is given back again.
const APART: Duration = Duration::from_secs(120);

/// Counts those in a row. No commit ends the row: of a worker's partitions others may go on.
#[derive(Default)]
pub(super) struct Rejoins {
    in_a_row: u32,
    last: Option<Instant>,
}

impl Rejoins {
    /// Counts one more; returns how many are in a row now.
    pub(super) fn one_more(&mut self, now: Instant) -> u32 {
        if self.last.is_none_or(|last| now.since(last) >= APART) {
            self.in_a_row = 0;
        }
        self.last = Some(now);
        self.in_a_row += 1;
        self.in_a_row
    }
}
