//! The transaction coordinator: producer ids and epochs, what a transaction touched, its end.

use std::time::Duration;

use kafka_protocol::error::ResponseError;

use super::clock::Now;
use super::groups::Groups;
use super::topics::Topics;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Commit,
    Abort,
}

/// Every transactional id.
pub(super) struct Transactions;

impl Transactions {
    pub(super) fn new() -> Self {
        Self
    }

    /// Returns when the earliest open transaction times out.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        None
    }

    /// Aborts what has timed out.
    pub(super) fn on_time(&mut self, topics: &mut Topics, groups: &mut Groups, now: Now) {
        let _ = (topics, groups, now);
    }

    /// Says whether a transactional batch of this producer may be appended to this partition now.
    ///
    /// # Errors
    ///
    /// The partition was not added to an open transaction of this producer and epoch: the error to answer with.
    pub(super) fn admits(
        &self,
        transactional_id: Option<&str>,
        producer_id: i64,
        producer_epoch: i16,
        topic: &str,
        partition: i32,
    ) -> Result<(), ResponseError> {
        let _ = (transactional_id, producer_id, producer_epoch, topic, partition);
        Ok(())
    }
}
