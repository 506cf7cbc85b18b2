//! Topics made, grown and removed; records deleted.

use std::collections::BTreeMap;

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
    DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use uuid::Uuid;

use super::super::state::{NODE_ID, State};
use super::configs::Configs;
use super::{Topic, code_of, text, topic_name};

/// A partition costs some hundred bytes even when it is empty; nobody develops with more.
const PARTITIONS_MAX: i32 = 10_000;
/// How many all topics may have together: one request can name tens of thousands of topics, each with the most.
const PARTITIONS_IN_ALL_MAX: usize = 50_000;
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
    let validate_only = request.validate_only;
    let wanted = each_once(request.topics, |topic| topic.name.clone());
    let topics = wanted.into_iter().map(|(wanted, named)| {
        let made = named.and_then(|()| create(state, &wanted, validate_only));
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

/// Keeps one of those that a request names more than once, and refuses it.
fn each_once<T, K: Ord>(all: Vec<T>, key: impl Fn(&T) -> K) -> Vec<(T, Result<(), Refused>)> {
    let mut times = BTreeMap::<K, usize>::new();
    for one in &all {
        *times.entry(key(one)).or_default() += 1;
    }
    let once = all.into_iter().filter_map(|one| {
        let named = match times.remove(&key(&one))? {
            1 => Ok(()),
            _ => Err((
                ResponseError::InvalidRequest,
                "Duplicate topic in the request".to_owned(),
            )),
        };
        Some((one, named))
    });
    once.collect()
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
    if let Some(other) = state.topics.like(name) {
        let message = format!("Topic '{name}' collides with existing topic: {other}");
        return Err((ResponseError::InvalidTopicException, message));
    }
    let partitions = partitions_of(wanted)?;
    check_room(state, partitions)?;
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

/// Says whether there is room for this many more partitions.
fn check_room(state: &State, more: i32) -> Result<(), Refused> {
    let after = state
        .topics
        .partitions
        .saturating_add(usize::try_from(more).unwrap_or(0));
    if after <= PARTITIONS_IN_ALL_MAX {
        return Ok(());
    }
    let message = format!("the in-process broker has at most {PARTITIONS_IN_ALL_MAX} partitions in all");
    Err((ResponseError::PolicyViolation, message))
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
    let wanted = each_once(by_name.chain(by_either).collect(), Clone::clone);
    let responses = wanted.into_iter().map(|((name, id), named)| {
        let deleted = named.and_then(|()| delete(state, name.as_ref(), id));
        let answer = DeletableTopicResult::default();
        match deleted {
            Ok((name, id)) => answer.with_name(Some(topic_name(&name))).with_topic_id(id),
            Err((error, message)) => answer
                .with_name(name)
                .with_topic_id(id)
                .with_error_code(error.code())
                .with_error_message(Some(text(message))),
        }
    });
    DeleteTopicsResponse::default().with_responses(responses.collect())
}

fn delete(state: &mut State, name: Option<&TopicName>, id: Uuid) -> Result<(String, Uuid), Refused> {
    let (found, missing) = match name {
        Some(name) => (Some(name.to_string()), ResponseError::UnknownTopicOrPartition),
        None => (
            state.topics.named(id).map(str::to_owned),
            ResponseError::UnknownTopicId,
        ),
    };
    let unknown = || (missing, missing.to_string());
    let name = found.ok_or_else(unknown)?;
    let id = state.topics.remove(&name).ok_or_else(unknown)?;
    state.groups.forget_topic(&name);
    Ok((name, id))
}

/// Adds partitions.
pub(in super::super) fn create_partitions(
    state: &mut State,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let validate_only = request.validate_only;
    let wanted = each_once(request.topics, |topic| topic.name.clone());
    let results = wanted.into_iter().map(|(wanted, named)| {
        let answer = CreatePartitionsTopicResult::default();
        let grown = named.and_then(|()| grow(state, &wanted, validate_only));
        match grown {
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
    let topic = state.topics.topic(name).ok_or_else(|| {
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
    check_room(state, wanted.count - now)?;
    if !validate_only {
        state.topics.grow(name, wanted.count);
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
            let deleted = delete_before(state, &topic.name, wanted.partition_index, wanted.offset);
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

/// Removes records and returns where the log begins then.
fn delete_before(state: &mut State, topic: &str, partition: i32, offset: i64) -> Result<i64, ResponseError> {
    let missing = ResponseError::UnknownTopicOrPartition;
    state.topics.partition(topic, partition).ok_or(missing)?;
    let may_delete = |topic: &Topic| topic.configs.has_policy("delete");
    if !state.topics.topic(topic).is_some_and(may_delete) {
        return Err(ResponseError::PolicyViolation);
    }
    let deleted = state.topics.change(topic, partition, |log| {
        let offset = if offset == -1 { log.end() } else { offset };
        log.delete_before(offset).map(|()| log.start())
    });
    deleted.unwrap_or(Err(missing))
}

#[cfg(test)]
mod tests {
    use super::super::super::groups::Groups;
    use super::super::super::transactions::Transactions;
    use super::super::Topics;
    use super::*;

    fn state() -> State {
        State {
            address: ([127, 0, 0, 1], 9092).into(),
            topics: Topics::new(1 << 20),
            groups: Groups::new(),
            transactions: Transactions::new(),
        }
    }

    fn make(state: &mut State, name: &str, partitions: i32) -> i16 {
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        create_topics(state, request).topics[0].error_code
    }

    fn grow_to(state: &mut State, name: &str, count: i32) -> i16 {
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]);
        create_partitions(state, request).results[0].error_code
    }

    fn remove(state: &mut State, name: &str) -> i16 {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name(name)]);
        delete_topics(state, request).responses[0].error_code
    }

    #[test]
    fn partitions_of_all_topics_together_are_limited() {
        let mut state = state();
        let refused = ResponseError::PolicyViolation.code();
        for number in 0..5 {
            let count = if number == 4 {
                PARTITIONS_MAX - 1
            } else {
                PARTITIONS_MAX
            };
            assert_eq!(make(&mut state, &format!("t{number}"), count), 0);
        }
        assert_eq!(make(&mut state, "more", 2), refused);
        assert_eq!(make(&mut state, "more", 1), 0);
        assert_eq!(grow_to(&mut state, "more", 2), refused);
        assert_eq!(remove(&mut state, "t0"), 0);
        assert_eq!(grow_to(&mut state, "more", 2), 0);
        assert_eq!(state.topics.partitions, PARTITIONS_IN_ALL_MAX - 10_000 + 1);
    }

    #[test]
    fn a_name_like_that_of_a_topic_that_is_gone_is_free() {
        let mut state = state();
        assert_eq!(make(&mut state, "a.b", 1), 0);
        assert_eq!(
            make(&mut state, "a_b", 1),
            ResponseError::InvalidTopicException.code()
        );
        assert_eq!(remove(&mut state, "a.b"), 0);
        assert_eq!(make(&mut state, "a_b", 1), 0);
    }
}
