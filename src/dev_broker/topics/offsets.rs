//! Which offsets a partition has: by time, by leader epoch.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    TopicName,
};

use super::super::batch::LEADER_EPOCH;
use super::super::log::Log;
use super::super::state::State;
use super::code_of;

/// Instead of a time: the end of the log, its beginning, its newest record.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;

/// Answers which offset belongs to a time.
pub(in super::super) fn list_offsets(
    state: &State,
    request: ListOffsetsRequest,
    version: i16,
) -> ListOffsetsResponse {
    let twice = twice(&request);
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|wanted| {
            let log = if twice.contains(&(topic.name.clone(), wanted.partition_index)) {
                Err(ResponseError::InvalidRequest)
            } else {
                let log = state.topics.partition(&topic.name, wanted.partition_index);
                log.ok_or(ResponseError::UnknownTopicOrPartition)
            };
            let found = log
                .and_then(|log| match wanted.current_leader_epoch {
                    ..=LEADER_EPOCH => Ok(log),
                    _ => Err(ResponseError::UnknownLeaderEpoch),
                })
                .and_then(|log| find(log, wanted.timestamp, request.isolation_level == 1));
            let (code, found) = code_of(found);
            let (offset, timestamp) = found.flatten().unwrap_or((-1, -1));
            ListOffsetsPartitionResponse::default()
                .with_partition_index(wanted.partition_index)
                .with_error_code(code)
                .with_offset(offset)
                .with_timestamp(timestamp)
                .with_leader_epoch(if offset < 0 || version < 4 {
                    -1
                } else {
                    LEADER_EPOCH
                })
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// Returns the partitions that are asked for more than once. Each look at one may unpack a batch.
fn twice(request: &ListOffsetsRequest) -> BTreeSet<(TopicName, i32)> {
    let mut seen = BTreeSet::new();
    let all = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|wanted| (topic.name.clone(), wanted.partition_index))
    });
    all.filter(|wanted| !seen.insert(wanted.clone())).collect()
}

fn find(log: &Log, timestamp: i64, committed_only: bool) -> Result<Option<(i64, i64)>, ResponseError> {
    let below = if committed_only {
        log.last_stable()
    } else {
        log.end()
    };
    let visible = |(offset, _): &(i64, i64)| *offset < below;
    match timestamp {
        LATEST => Ok(Some((below, -1))),
        EARLIEST => Ok(Some((log.start(), -1))),
        MAX_TIMESTAMP => Ok(log.newest().filter(visible)),
        0.. => Ok(log.first_since(timestamp).filter(visible)),
        // The newer ones are about tiered storage, which is not offered here.
        _ => Err(ResponseError::UnsupportedVersion),
    }
}

/// Answers where a leader epoch ends; there is only one.
pub(in super::super) fn offset_for_leader_epoch(
    state: &State,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|wanted| {
            let answer = EpochEndOffset::default().with_partition(wanted.partition);
            match state.topics.partition(&topic.topic, wanted.partition) {
                None => answer
                    .with_error_code(ResponseError::UnknownTopicOrPartition.code())
                    .with_leader_epoch(-1)
                    .with_end_offset(-1),
                Some(_) if wanted.current_leader_epoch > LEADER_EPOCH => answer
                    .with_error_code(ResponseError::UnknownLeaderEpoch.code())
                    .with_leader_epoch(-1)
                    .with_end_offset(-1),
                Some(_) if wanted.leader_epoch != LEADER_EPOCH => {
                    answer.with_leader_epoch(-1).with_end_offset(-1)
                }
                Some(log) => answer.with_leader_epoch(LEADER_EPOCH).with_end_offset(log.end()),
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic)
            .with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}
