//! What a worker needs of its place in the group, whoever stands behind it.

use std::time::Duration;

use super::Error;
use crate::model::{Offset, Partition, Timestamp};

/// One member of the consumer group: a client, or a model of one.
pub trait Source {
    /// A record, lent until the next poll.
    type Record<'s>: Record
    where
        Self: 's;

    /// What a commit names of this member.
    type Group;

    /// Asks for partitions; after [`Source::unsubscribe`], once the last of them is given back.
    ///
    /// # Errors
    ///
    /// The client cannot go on.
    fn subscribe(&self) -> Result<(), Error>;

    /// Wants no partitions for now: all of them come up as [`Input::Revoked`] or [`Input::Lost`].
    ///
    /// It is the way out of [`Error::Rejoin`]. With `auto.offset.reset=error` librdkafka stops the fetcher of a partition
    /// whose position is gone (`rd_kafka_offset_reset` in `rdkafka_offset.c`), and a seek is refused from there on;
    /// only a new assignment starts it again. Taking the one partition away and adding it would be taken for the
    /// answer to a rebalance that is queued.
    fn unsubscribe(&self);

    /// Waits up to `wait` for something to happen and takes all records that are ready.
    fn poll(&self, wait: Duration) -> Input<Self::Record<'_>>;

    /// Asks what the group has committed for `partitions` and where their logs begin.
    ///
    /// Waits while a transaction that holds offsets of theirs is pending, so that a new owner never sees an old
    /// offset (KIP-447: `isolation.level=read_committed` makes the client ask for stable offsets).
    ///
    /// # Errors
    ///
    /// [`Error::Retry`] when the broker did not answer in time; the others as they are named.
    fn committed(&self, partitions: &[Partition]) -> Result<Vec<Committed>, Error>;

    /// Answers [`Input::Assigned`]: reads these partitions from these offsets.
    ///
    /// # Errors
    ///
    /// The assignment no longer stands, or the client cannot go on.
    fn start(&self, positions: &[(Partition, Offset)]) -> Result<(), Error>;

    /// Answers [`Input::Revoked`] and [`Input::Lost`]: these partitions are no longer read.
    ///
    /// # Errors
    ///
    /// The client cannot go on.
    fn release(&self, partitions: &[Partition]) -> Result<(), Error>;

    /// Goes back to these offsets; what was read ahead is dropped.
    ///
    /// # Errors
    ///
    /// The broker did not answer in time, or a partition is no longer ours.
    fn rewind(&self, positions: &[(Partition, Offset)]) -> Result<(), Error>;

    /// Returns the group's metadata as of now: what makes a stale generation's commit be refused. `None` for a member
    /// that is out of the group: the metadata of one may name no generation, which a broker would not refuse.
    fn group_metadata(&self) -> Option<Self::Group>;

    /// Begins to leave the group; poll on, answering the last [`Input::Revoked`], until [`Source::is_closed`].
    ///
    /// # Errors
    ///
    /// The client cannot be closed; dropping it is all that is left.
    fn close(&self) -> Result<(), Error>;

    /// Says whether the member has left.
    fn is_closed(&self) -> bool;

    /// Returns the end of a partition as last heard of, without asking; `None` while the partition has no leader.
    fn log_end(&self, partition: Partition) -> Option<i64>;

    /// Returns a partition that the group has left to nobody, once each time that one is found.
    ///
    /// The way out is [`Source::unsubscribe`]: a leader that joins again divides the partitions anew.
    fn unowned(&self) -> Option<Partition> {
        None
    }

    /// Says whether no broker was connected when last looked at.
    fn is_disconnected(&self) -> bool;
}

/// One record of the log.
pub trait Record {
    /// Returns the partition it stands in.
    fn partition(&self) -> Partition;

    /// Returns the offset it stands at.
    fn offset(&self) -> Offset;

    /// Returns the record's own timestamp, if it has one.
    fn log_time(&self) -> Option<Timestamp>;

    /// Returns the key, if any.
    fn key(&self) -> Option<&[u8]>;

    /// Returns the value; a tombstone has none.
    fn value(&self) -> Option<&[u8]>;
}

/// What one poll gave.
#[derive(Debug)]
pub enum Input<R> {
    /// Records of one or several partitions, in log order within each.
    Batch(Vec<R>),
    /// These partitions are ours from [`Source::start`] on.
    Assigned(Vec<Partition>),
    /// These are ours until [`Source::release`]: finish first.
    Revoked(Vec<Partition>),
    /// These are someone else's already: only drop, then [`Source::release`].
    Lost(Vec<Partition>),
    /// Everything there is of this partition has been read.
    LogEnd(Partition),
    /// The client reported an error; it goes on by itself where the error is to be retried.
    Error(Error),
    /// Nothing within the time given.
    Nothing,
}

/// What the group has committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The partition.
    pub partition: Partition,
    /// The committed offset; `None` when there is none.
    pub offset: Option<Offset>,
    /// The metadata beside it; empty when a tool set the offset.
    pub metadata: String,
    /// The first offset that is retained.
    pub log_start: Offset,
    /// The offset that the next record will get.
    pub log_end: Offset,
}
