//! The requests of transactional producers.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse, ProducerId,
};

use super::machine::{Outcome, Partitions, Producer, Transactions};
use crate::dev_broker::clock::Now;
use crate::dev_broker::groups::Groups;
use crate::dev_broker::state::State;
use crate::dev_broker::topics::Topics;

/// What a request says where it names no producer.
const NO_PRODUCER_ID: i64 = -1;
const NO_PRODUCER_EPOCH: i16 = -1;
/// The first version of each request whose clients know `PRODUCER_FENCED`. Source: KIP-588.
const INIT_KNOWS_FENCED: i16 = 4;
const TRANSACTION_KNOWS_FENCED: i16 = 2;

impl Transactions {
    /// Aborts what has timed out, and writes its markers.
    pub(in crate::dev_broker) fn on_time(&mut self, topics: &mut Topics, groups: &mut Groups, now: Now) {
        self.on_deadline(now);
        self.write_markers(topics, groups, now);
    }

    /// Carries out every end that is decided. A partition whose topic was deleted meanwhile has nothing to be marked.
    fn write_markers(&mut self, topics: &mut Topics, groups: &mut Groups, now: Now) {
        while let Some(ended) = self.poll_ended() {
            let Producer { id, epoch } = ended.producer;
            for (topic, partitions) in &ended.partitions {
                for partition in partitions {
                    if let Some(log) = topics.partition_mut(topic, *partition) {
                        log.append_marker(id, epoch, ended.outcome, now);
                    }
                }
            }
            for group in &ended.groups {
                groups.end_transaction(group, id, ended.outcome);
            }
        }
    }
}

/// Gives a producer its id and epoch, and fences whoever had the transactional id before.
pub(in crate::dev_broker) fn init_producer_id(
    state: &mut State,
    request: InitProducerIdRequest,
    version: i16,
    now: Now,
) -> InitProducerIdResponse {
    let named = (request.producer_id.0, request.producer_epoch);
    let given = match (&request.transactional_id, named) {
        (_, (NO_PRODUCER_ID, epoch)) if epoch != NO_PRODUCER_EPOCH => Err(ResponseError::InvalidRequest),
        (_, (id, NO_PRODUCER_EPOCH)) if id != NO_PRODUCER_ID => Err(ResponseError::InvalidRequest),
        (None, _) => Ok(state.transactions.idempotent()),
        (Some(transactional_id), (id, epoch)) => {
            let expected = (id != NO_PRODUCER_ID).then_some(Producer { id, epoch });
            let timeout_ms = request.transaction_timeout_ms;
            state
                .transactions
                .init(transactional_id, timeout_ms, expected, now)
        }
    };
    state
        .transactions
        .write_markers(&mut state.topics, &mut state.groups, now);
    let response = InitProducerIdResponse::default();
    match given {
        Ok(producer) => response
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch),
        Err(error) => response
            .with_error_code(code(error, version, INIT_KNOWS_FENCED))
            .with_producer_id(ProducerId(NO_PRODUCER_ID))
            .with_producer_epoch(NO_PRODUCER_EPOCH),
    }
}

/// Adds partitions to a producer's transaction: all of them, or none if one does not exist.
pub(in crate::dev_broker) fn add_partitions_to_txn(
    state: &mut State,
    request: AddPartitionsToTxnRequest,
    version: i16,
    now: Now,
) -> AddPartitionsToTxnResponse {
    let topics = request.v3_and_below_topics;
    let exists = |topic: &str, partition: i32| state.topics.partition(topic, partition).is_some();
    let all_exist = topics.iter().all(|topic| {
        topic
            .partitions
            .iter()
            .all(|partition| exists(&topic.name, *partition))
    });
    if !all_exist {
        return answer_each(topics, |topic, partition| {
            if exists(topic, partition) {
                ResponseError::OperationNotAttempted.code()
            } else {
                ResponseError::UnknownTopicOrPartition.code()
            }
        });
    }
    let producer = Producer {
        id: request.v3_and_below_producer_id.0,
        epoch: request.v3_and_below_producer_epoch,
    };
    let mut added = Partitions::new();
    for topic in &topics {
        added
            .entry(topic.name.to_string())
            .or_default()
            .extend(topic.partitions.iter().copied());
    }
    let done =
        state
            .transactions
            .add_partitions(&request.v3_and_below_transactional_id, producer, added, now);
    let code = done
        .err()
        .map_or(0, |error| code(error, version, TRANSACTION_KNOWS_FENCED));
    answer_each(topics, |_, _| code)
}

/// Adds a group to a producer's transaction, so that offsets of it may be committed there.
pub(in crate::dev_broker) fn add_offsets_to_txn(
    state: &mut State,
    request: AddOffsetsToTxnRequest,
    version: i16,
    now: Now,
) -> AddOffsetsToTxnResponse {
    let producer = Producer {
        id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let done = state
        .transactions
        .add_group(&request.transactional_id, producer, &request.group_id, now);
    let code = done
        .err()
        .map_or(0, |error| code(error, version, TRANSACTION_KNOWS_FENCED));
    AddOffsetsToTxnResponse::default().with_error_code(code)
}

/// Commits or aborts a producer's transaction. When it is answered the markers are written.
pub(in crate::dev_broker) fn end_txn(
    state: &mut State,
    request: EndTxnRequest,
    version: i16,
    now: Now,
) -> EndTxnResponse {
    let producer = Producer {
        id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let outcome = if request.committed {
        Outcome::Commit
    } else {
        Outcome::Abort
    };
    let done = state
        .transactions
        .end(&request.transactional_id, producer, outcome, now);
    state
        .transactions
        .write_markers(&mut state.topics, &mut state.groups, now);
    let code = done
        .err()
        .map_or(0, |error| code(error, version, TRANSACTION_KNOWS_FENCED));
    EndTxnResponse::default().with_error_code(code)
}

fn answer_each(
    topics: Vec<AddPartitionsToTxnTopic>,
    code: impl Fn(&str, i32) -> i16,
) -> AddPartitionsToTxnResponse {
    let answer = |topic: AddPartitionsToTxnTopic| {
        let results = topic.partitions.iter().map(|partition| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*partition)
                .with_partition_error_code(code(&topic.name, *partition))
        });
        AddPartitionsToTxnTopicResult::default()
            .with_results_by_partition(results.collect())
            .with_name(topic.name)
    };
    AddPartitionsToTxnResponse::default()
        .with_results_by_topic_v3_and_below(topics.into_iter().map(answer).collect())
}

/// Clients of older versions know only one word for a producer that somebody replaced.
fn code(error: ResponseError, version: i16, knows_fenced: i16) -> i16 {
    match error {
        ResponseError::ProducerFenced if version < knows_fenced => ResponseError::InvalidProducerEpoch.code(),
        error => error.code(),
    }
}
