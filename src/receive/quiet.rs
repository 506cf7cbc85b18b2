//! Log lines that a stranger can cause: at most one a second of each sort, with how many were left out.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::model::Timestamp;

const PAUSE_MS: i64 = 1_000;

/// One sort of line.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    next: AtomicI64,
    left_out: AtomicU64,
}

impl Quiet {
    /// Returns how many lines were left out since the last one, if it is time for another.
    pub(super) fn due(&self, now: Timestamp) -> Option<u64> {
        let now = now.as_millis();
        let next = self.next.load(Ordering::Relaxed);
        // A clock that was set back a long way must not keep it quiet for as long.
        let is_due = now >= next || next - now > PAUSE_MS;
        let taken = is_due
            && self
                .next
                .compare_exchange(
                    next,
                    now.saturating_add(PAUSE_MS),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok();
        if taken {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_once_a_second_and_counts_the_rest() {
        let quiet = Quiet::default();
        let at = Timestamp::from_millis;
        assert_eq!(quiet.due(at(10_000)), Some(0));
        assert_eq!(quiet.due(at(10_001)), None);
        assert_eq!(quiet.due(at(10_999)), None);
        assert_eq!(quiet.due(at(11_000)), Some(2));
        assert_eq!(quiet.due(at(500)), Some(0), "the clock was set back");
    }
}
