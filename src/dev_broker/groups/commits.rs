//! OffsetCommit, TxnOffsetCommit, OffsetDelete.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestPartition;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, TopicName,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::super::clock::Now;
use super::super::state::State;
use super::super::topics::Topics;
use super::super::transactions::Transactions;
use super::group::{CONSUMER, Commit, GroupState};
use super::offsets::{Committed, Offsets};
use super::{Entry, Groups, owned};

/// Kafka's default of `offset.metadata.max.bytes`, which counts characters as Java does: in UTF-16.
const METADATA_MAX: usize = 4_096;
/// From this version on a commit to a group that does not exist is told so.
const COMMIT_KNOWS_GROUPS: i16 = 9;
/// From this version on a commit outside of a transaction is told to abort (KIP-890).
const COMMIT_KNOWS_ABORTABLE: i16 = 4;

/// Stores offsets that a member, or somebody outside while there is no member, has handled.
pub(in crate::dev_broker) fn offset_commit(
    state: &mut State,
    request: OffsetCommitRequest,
    version: i16,
    now: Now,
) -> OffsetCommitResponse {
    let known = request.topics.iter().any(|topic| {
        let mut partitions = topic.partitions.iter();
        partitions.any(|partition| is_known(&state.topics, &topic.name, partition.partition_index))
    });
    let offsets = if known {
        admit(&mut state.groups, &request, version, now)
    } else {
        // Nothing will be stored, and nothing may come of it.
        Err(ResponseError::UnknownTopicOrPartition)
    };
    let mut committing = Committing {
        topics: &state.topics,
        offsets,
        producer_id: None,
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(committing.commit(&topic.name, partition.into()))
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// Stores offsets that count once the producer's transaction commits.
pub(in crate::dev_broker) fn txn_offset_commit(
    state: &mut State,
    request: TxnOffsetCommitRequest,
    version: i16,
) -> TxnOffsetCommitResponse {
    let known = request.topics.iter().any(|topic| {
        let mut partitions = topic.partitions.iter();
        partitions.any(|partition| is_known(&state.topics, &topic.name, partition.partition_index))
    });
    let offsets = if request.group_id.is_empty() {
        Err(ResponseError::InvalidGroupId)
    } else if known {
        admits_transaction(&state.transactions, &request, version)
            .and_then(|()| admit_in_transaction(&mut state.groups, &request))
    } else {
        // Nothing will be stored, and nothing may come of it.
        Err(ResponseError::UnknownTopicOrPartition)
    };
    let mut committing = Committing {
        topics: &state.topics,
        offsets,
        producer_id: Some(request.producer_id.0),
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(committing.commit(&topic.name, partition.into()))
        });
        let partitions = partitions.collect();
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

/// One partition's part of a commit.
struct Part {
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: Option<StrBytes>,
}

impl From<OffsetCommitRequestPartition> for Part {
    fn from(sent: OffsetCommitRequestPartition) -> Self {
        Self {
            partition: sent.partition_index,
            offset: sent.committed_offset,
            leader_epoch: sent.committed_leader_epoch,
            metadata: sent.committed_metadata,
        }
    }
}

impl From<TxnOffsetCommitRequestPartition> for Part {
    fn from(sent: TxnOffsetCommitRequestPartition) -> Self {
        Self {
            partition: sent.partition_index,
            offset: sent.committed_offset,
            leader_epoch: sent.committed_leader_epoch,
            metadata: sent.committed_metadata,
        }
    }
}

/// A commit on its way, partition by partition.
struct Committing<'a> {
    topics: &'a Topics,
    /// Where the offsets go, or why they may not.
    offsets: Result<&'a mut Offsets, ResponseError>,
    /// Whose transaction they belong to.
    producer_id: Option<i64>,
}

impl Committing<'_> {
    /// Stores one offset and returns the code to answer with.
    fn commit(&mut self, topic: &TopicName, part: Part) -> i16 {
        if !is_known(self.topics, topic, part.partition) {
            return ResponseError::UnknownTopicOrPartition.code();
        }
        let offsets = match &mut self.offsets {
            Ok(offsets) => offsets,
            Err(error) => return error.code(),
        };
        let metadata = part.metadata.unwrap_or_default();
        if metadata.encode_utf16().count() > METADATA_MAX {
            return ResponseError::OffsetMetadataTooLarge.code();
        }
        let committed = Committed {
            offset: part.offset,
            leader_epoch: part.leader_epoch,
            metadata: owned(&metadata),
        };
        match self.producer_id {
            None => offsets.commit(topic, part.partition, committed),
            Some(producer_id) => offsets.commit_pending(producer_id, topic, part.partition, committed),
        }
        0
    }
}

/// Finds the offsets of the group if the sender may commit to it. A commit from outside makes a group.
fn admit<'a>(
    groups: &'a mut Groups,
    request: &OffsetCommitRequest,
    version: i16,
    now: Now,
) -> Result<&'a mut Offsets, ResponseError> {
    let generation = request.generation_id_or_member_epoch;
    let missing = if version >= COMMIT_KNOWS_GROUPS {
        ResponseError::GroupIdNotFound
    } else {
        ResponseError::IllegalGeneration
    };
    let entry = find_or_create(groups, &request.group_id, generation < 0).ok_or(missing)?;
    let instance = request.group_instance_id.as_ref();
    entry
        .group
        .admit_commit(Commit::Plain, &request.member_id, instance, generation)?;
    entry.group.touch(&request.member_id, now.elapsed);
    Ok(&mut entry.offsets)
}

/// Says whether the producer's transaction is open and the group was added to it.
fn admits_transaction(
    transactions: &Transactions,
    request: &TxnOffsetCommitRequest,
    version: i16,
) -> Result<(), ResponseError> {
    let (id, epoch) = (request.producer_id.0, request.producer_epoch);
    let admitted = transactions.admits_offsets(&request.transactional_id, id, epoch, &request.group_id);
    if admitted == Err(ResponseError::InvalidTxnState) && version >= COMMIT_KNOWS_ABORTABLE {
        return Err(ResponseError::TransactionAbortable);
    }
    admitted
}

fn admit_in_transaction<'a>(
    groups: &'a mut Groups,
    request: &TxnOffsetCommitRequest,
) -> Result<&'a mut Offsets, ResponseError> {
    let generation = request.generation_id;
    let entry = find_or_create(groups, &request.group_id, generation < 0);
    let entry = entry.ok_or(ResponseError::IllegalGeneration)?;
    let instance = request.group_instance_id.as_ref();
    entry
        .group
        .admit_commit(Commit::InTransaction, &request.member_id, instance, generation)?;
    Ok(&mut entry.offsets)
}

fn find_or_create<'a>(groups: &'a mut Groups, group_id: &StrBytes, create: bool) -> Option<&'a mut Entry> {
    if create {
        Some(groups.get_or_create(group_id))
    } else {
        groups.get_mut(group_id)
    }
}

fn is_known(topics: &Topics, topic: &TopicName, partition: i32) -> bool {
    topics.partition(topic, partition).is_some()
}

/// Forgets offsets, except those of topics that the group's members subscribe to.
pub(in crate::dev_broker) fn offset_delete(
    state: &mut State,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let entry = match deletable(&mut state.groups, &request.group_id) {
        Ok(entry) => entry,
        Err(error) => return OffsetDeleteResponse::default().with_error_code(error.code()),
    };
    let topics = request.topics.into_iter();
    let topics = topics.map(|topic| delete_of_topic(entry, &state.topics, topic));
    OffsetDeleteResponse::default().with_topics(topics.collect())
}

fn deletable<'a>(groups: &'a mut Groups, group_id: &StrBytes) -> Result<&'a mut Entry, ResponseError> {
    if group_id.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    let entry = groups.get_mut(group_id).ok_or(ResponseError::GroupIdNotFound)?;
    let consumers = entry.group.protocol_type().is_some_and(|kind| *kind == *CONSUMER);
    if entry.group.state() != GroupState::Empty && !consumers {
        return Err(ResponseError::NonEmptyGroup);
    }
    Ok(entry)
}

fn delete_of_topic(
    entry: &mut Entry,
    topics: &Topics,
    topic: OffsetDeleteRequestTopic,
) -> OffsetDeleteResponseTopic {
    let subscribed = entry.group.subscribes_to(&topic.name);
    let partitions = topic.partitions.iter().map(|partition| {
        let partition = partition.partition_index;
        let code = if !is_known(topics, &topic.name, partition) {
            ResponseError::UnknownTopicOrPartition.code()
        } else if subscribed {
            ResponseError::GroupSubscribedToTopic.code()
        } else {
            entry.offsets.delete(&topic.name, partition);
            0
        };
        OffsetDeleteResponsePartition::default()
            .with_partition_index(partition)
            .with_error_code(code)
    });
    let partitions = partitions.collect();
    OffsetDeleteResponseTopic::default()
        .with_name(topic.name)
        .with_partitions(partitions)
}
