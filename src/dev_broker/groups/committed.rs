//! OffsetFetch: of one group in the older versions, of several from version 8 on.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::super::bounded;
use super::super::state::State;
use super::offsets::Offsets;

/// From this version on a request names several groups.
const FETCH_BATCHED: i16 = 8;
/// What stands for an offset or a leader epoch that there is not.
const NONE: i32 = -1;

/// Says where groups stand: for the partitions asked for, or for all that they have committed.
pub(in crate::dev_broker) fn offset_fetch(
    state: &State,
    request: OffsetFetchRequest,
    version: i16,
) -> OffsetFetchResponse {
    let stable = request.require_stable;
    if version < FETCH_BATCHED {
        let wanted = request.topics.map(|topics| {
            let topics = topics.into_iter();
            topics
                .map(|topic| (topic.name, topic.partition_indexes))
                .collect()
        });
        let found = of_group(state, &request.group_id, wanted, stable);
        return OffsetFetchResponse::default().with_topics(found.into_iter().map(unbatched).collect());
    }
    let groups = bounded::once(request.groups, asked).map(|group| {
        let topics = group.topics.map(|topics| topics.into_iter().map(named).collect());
        let found = of_group(state, &group.group_id, topics, stable);
        OffsetFetchResponseGroup::default()
            .with_group_id(group.group_id)
            .with_topics(found)
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

/// Topics, and which of their partitions are asked for; all of them when none is named.
type Wanted = Option<Vec<(TopicName, Vec<i32>)>>;

/// All that an answer for a group depends on.
fn asked(group: &OffsetFetchRequestGroup) -> (GroupId, Wanted) {
    let topics = group.topics.clone();
    (
        group.group_id.clone(),
        topics.map(|topics| topics.into_iter().map(named).collect()),
    )
}

fn named(topic: OffsetFetchRequestTopics) -> (TopicName, Vec<i32>) {
    (topic.name, topic.partition_indexes)
}

/// Looks up what is wanted, all of it when that is not said. A group that does not exist has committed nothing.
fn of_group(
    state: &State,
    group_id: &GroupId,
    wanted: Wanted,
    stable: bool,
) -> Vec<OffsetFetchResponseTopics> {
    let offsets = state.groups.get(group_id).map(|entry| &entry.offsets);
    let wanted = wanted.unwrap_or_else(|| {
        let all = offsets.into_iter().flat_map(Offsets::partitions);
        all.map(|(topic, partitions)| (topic.clone(), partitions.collect()))
            .collect()
    });
    let topics = wanted.into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter();
        let found = partitions.map(|partition| of_partition(offsets, &topic, partition, stable));
        let found = found.collect();
        OffsetFetchResponseTopics::default()
            .with_name(topic)
            .with_partitions(found)
    });
    topics.collect()
}

fn of_partition(
    offsets: Option<&Offsets>,
    topic: &TopicName,
    partition: i32,
    stable: bool,
) -> OffsetFetchResponsePartitions {
    let none = OffsetFetchResponsePartitions::default()
        .with_partition_index(partition)
        .with_committed_offset(i64::from(NONE))
        .with_committed_leader_epoch(NONE)
        .with_metadata(Some(StrBytes::new()));
    let Some(offsets) = offsets else { return none };
    if stable && offsets.is_pending(topic, partition) {
        return none.with_error_code(ResponseError::UnstableOffsetCommit.code());
    }
    match offsets.get(topic, partition) {
        None => none,
        Some(committed) => none
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(committed.metadata.clone())),
    }
}

fn unbatched(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|partition| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(partition.committed_leader_epoch)
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    });
    OffsetFetchResponseTopic::default()
        .with_name(topic.name)
        .with_partitions(partitions.collect())
}
