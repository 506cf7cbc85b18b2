//! The group coordinator: members, generations, committed offsets.

use std::time::Duration;

use super::clock::Now;
use super::transactions::Outcome;

/// Every group.
pub(super) struct Groups;

impl Groups {
    pub(super) fn new() -> Self {
        Self
    }

    /// Returns when the earliest session or rebalance times out.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        None
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, now: Now) {
        let _ = now;
    }

    /// Drops what was committed for a topic that is deleted.
    pub(super) fn forget_topic(&mut self, topic: &str) {
        let _ = topic;
    }

    /// Takes over, or drops, the offsets that `producer_id` committed to `group` in its transaction that ended.
    pub(super) fn end_transaction(&mut self, group: &str, producer_id: i64, outcome: Outcome, now: Now) {
        let _ = (group, producer_id, outcome, now);
    }
}
