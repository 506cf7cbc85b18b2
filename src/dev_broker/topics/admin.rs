//! Topics made, grown and removed; records deleted.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
};
use uuid::Uuid;

use super::super::state::{NODE_ID, State};
use super::configs::Configs;
use super::{code_of, text, topic_name};

/// A partition costs some hundred bytes even when it is empty; nobody develops with more.
const PARTITIONS_MAX: i32 = 10_000;
/// Source: Kafka's `Topic.MAX_NAME_LENGTH`.
const NAME_BYTES_MAX: usize = 249;

type Refused = (ResponseError, String);

/// Says whether Kafka allows the name.
pub(in super::super) fn is_valid_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !matches!(name, "" | "." | "..") && name.len() <= NAME_BYTES_MAX && name.bytes().all(allowed)
}

/// Makes topics.
pub(in super::super) fn create_topics(
    state: &mut State,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let twice = twice(request.topics.iter().map(|topic| topic.name.as_str()));
    let mut answered = BTreeSet::new();
    let once = request.topics.into_iter();
    let once =
        once.filter(|wanted| !twice.contains(wanted.name.as_str()) || answered.insert(wanted.name.clone()));
    let topics = once.map(|wanted| {
        let made = if twice.contains(wanted.name.as_str()) {
            let message = "Duplicate topic in the request".to_owned();
            Err((ResponseError::InvalidRequest, message))
        } else {
            create(state, &wanted, request.validate_only)
        };
        let answer = CreatableTopicResult::default().with_name(wanted.name);
        match made {
            Ok((id, partitions, configs)) => answer
                .with_topic_id(id)
                .with_num_partitions(partitions)
                .with_replication_factor(1)
                .with_configs(Some(configs.listed())),
            Err((error, message)) => answer
                .with_error_code(error.code())
                .with_error_message(Some(text(message)))
                .with_configs(None),
        }
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

fn twice<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    names
        .filter(|name| !seen.insert(*name))
        .map(str::to_owned)
        .collect()
}

fn create(
    state: &mut State,
    wanted: &CreatableTopic,
    validate_only: bool,
) -> Result<(Uuid, i32, Configs), Refused> {
    let name = wanted.name.as_str();
    if state.topics.topic(name).is_some() {
        return Err((
            ResponseError::TopicAlreadyExists,
            format!("Topic '{name}' already exists."),
        ));
    }
    if !is_valid_name(name) {
        let message = format!(
            "Topic name '{name}' is invalid: at most {NAME_BYTES_MAX} of a-z, A-Z, 0-9, '.', '_' and '-', and not \
             only '.' or '..'"
        );
        return Err((ResponseError::InvalidTopicException, message));
    }
    let alike = |other: &&String| other.replace('.', "_") == name.replace('.', "_");
    if let Some(other) = state.topics.by_name.keys().find(alike) {
        let message = format!("Topic '{name}' collides with existing topic: {other}");
        return Err((ResponseError::InvalidTopicException, message));
    }
    let partitions = partitions_of(wanted)?;
    let mut configs = Configs::default();
    for config in &wanted.configs {
        configs
            .set(&config.name, config.value.as_deref())
            .map_err(|unfit| (ResponseError::InvalidConfig, unfit.0))?;
    }
    let id = if validate_only {
        Uuid::nil()
    } else {
        state.topics.insert(name, partitions, configs.clone())
    };
    Ok((id, partitions, configs))
}

fn partitions_of(wanted: &CreatableTopic) -> Result<i32, Refused> {
    if !wanted.assignments.is_empty() {
        if wanted.num_partitions != -1 || wanted.replication_factor != -1 {
            let message = "with an assignment, partition count and replication factor must be -1";
            return Err((ResponseError::InvalidRequest, message.into()));
        }
        let mut indexes: Vec<_> = wanted.assignments.iter().map(|one| one.partition_index).collect();
        indexes.sort_unstable();
        let ours = wanted.assignments.iter().all(|one| one.broker_ids == [NODE_ID]);
        if !ours || !indexes.iter().copied().eq(0..) {
            let message = "the only node is 1, and partitions are numbered from 0";
            return Err((ResponseError::InvalidReplicaAssignment, message.into()));
        }
        return Ok(i32::try_from(indexes.len()).unwrap_or(i32::MAX));
    }
    if !matches!(wanted.replication_factor, -1 | 1) {
        let error = ResponseError::InvalidReplicationFactor;
        let message = format!(
            "Replication factor {}: there is one node, so it can only be 1",
            wanted.replication_factor
        );
        return Err((error, message));
    }
    match wanted.num_partitions {
        -1 => Ok(1),
        count @ 1..=PARTITIONS_MAX => Ok(count),
        count => Err((
            ResponseError::InvalidPartitions,
            format!("{count} partitions: the in-process broker allows 1 to {PARTITIONS_MAX}"),
        )),
    }
}

/// Removes topics by name or, from version 6 on, also by id.
pub(in super::super) fn delete_topics(
    state: &mut State,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let by_name = request
        .topic_names
        .into_iter()
        .map(|name| (Some(name), Uuid::nil()));
    let by_either = request
        .topics
        .into_iter()
        .map(|topic| (topic.name, topic.topic_id));
    let responses = by_name.chain(by_either).map(|(name, id)| {
        let found = match &name {
            Some(name) => Some(name.as_str().to_owned()),
            None => state.topics.named(id).map(str::to_owned),
        };
        let removed = found.as_deref().and_then(|name| state.topics.remove(name));
        let answer = DeletableTopicResult::default();
        match removed {
            Some(id) => {
                let name = found.unwrap_or_default();
                state.groups.forget_topic(&name);
                answer.with_name(Some(topic_name(&name))).with_topic_id(id)
            }
            None => {
                let error = match name {
                    Some(_) => ResponseError::UnknownTopicOrPartition,
                    None => ResponseError::UnknownTopicId,
                };
                answer
                    .with_name(name)
                    .with_topic_id(id)
                    .with_error_code(error.code())
                    .with_error_message(Some(text(error.to_string())))
            }
        }
    });
    DeleteTopicsResponse::default().with_responses(responses.collect())
}

/// Adds partitions.
pub(in super::super) fn create_partitions(
    state: &mut State,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let validate_only = request.validate_only;
    let results = request.topics.into_iter().map(|wanted| {
        let answer = CreatePartitionsTopicResult::default();
        match grow(state, &wanted, validate_only) {
            Ok(()) => answer,
            Err((error, message)) => answer
                .with_error_code(error.code())
                .with_error_message(Some(text(message))),
        }
        .with_name(wanted.name)
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

fn grow(state: &mut State, wanted: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Refused> {
    let name = wanted.name.as_str();
    let topic = state.topics.by_name.get_mut(name).ok_or_else(|| {
        let error = ResponseError::UnknownTopicOrPartition;
        (error, format!("The topic '{name}' does not exist."))
    })?;
    let now = topic.partition_count();
    if wanted.count <= now || wanted.count > PARTITIONS_MAX {
        let message = format!(
            "The topic {name} currently has {now} partition(s); {} would not be an increase up to {PARTITIONS_MAX}.",
            wanted.count
        );
        return Err((ResponseError::InvalidPartitions, message));
    }
    if let Some(assignments) = &wanted.assignments {
        let added = usize::try_from(wanted.count - now).unwrap_or(0);
        let ours = assignments.iter().all(|one| one.broker_ids == [NODE_ID]);
        if !ours || assignments.len() != added {
            let message = format!("{added} assignments to the only node, 1, are needed");
            return Err((ResponseError::InvalidReplicaAssignment, message));
        }
    }
    if !validate_only {
        topic.grow(wanted.count);
    }
    Ok(())
}

/// Removes records from the beginning of partitions; offset -1 means all that there are.
pub(in super::super) fn delete_records(
    state: &mut State,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|wanted| {
            let deleted = state.topics.change(&topic.name, wanted.partition_index, |log| {
                let offset = if wanted.offset == -1 {
                    log.end()
                } else {
                    wanted.offset
                };
                log.delete_before(offset).map(|()| log.start())
            });
            let deleted = deleted.unwrap_or(Err(ResponseError::UnknownTopicOrPartition));
            let (code, low_watermark) = code_of(deleted);
            DeleteRecordsPartitionResult::default()
                .with_partition_index(wanted.partition_index)
                .with_error_code(code)
                .with_low_watermark(low_watermark.unwrap_or(-1))
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}
