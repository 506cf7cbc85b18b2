//! What operators' tools ask: which transactions there are, and who writes to a partition.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::list_transactions_response::TransactionState as ListedTransaction;
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeTransactionsRequest,
    DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse, ProducerId, TopicName,
    TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::machine::{Outcome, Status, Transaction};
use crate::dev_broker::bounded;
use crate::dev_broker::clock::Now;
use crate::dev_broker::log;
use crate::dev_broker::state::State;
use crate::dev_broker::topics::Topics;
use crate::dev_broker::topics::admin::is_valid_name;

/// States of Kafka's coordinator in which nothing ever is here: a filter may name them and finds nothing.
const NEVER: [&str; 4] = ["PrepareCommit", "PrepareAbort", "Dead", "PrepareEpochFence"];

/// Says where transactional ids stand.
pub(in crate::dev_broker) fn describe_transactions(
    state: &State,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let ids = bounded::once(request.transactional_ids, Clone::clone);
    DescribeTransactionsResponse::default()
        .with_transaction_states(ids.map(|id| describe(state, id)).collect())
}

fn describe(state: &State, id: TransactionalId) -> TransactionState {
    let answer = TransactionState::default();
    let answer = match state.transactions.look(&id) {
        None if id.is_empty() => answer.with_error_code(ResponseError::InvalidRequest.code()),
        None => answer.with_error_code(ResponseError::TransactionalIdNotFound.code()),
        Some(transaction) => {
            let topics = transaction.partitions.iter().map(|(topic, partitions)| {
                TopicData::default()
                    .with_topic(TopicName(StrBytes::from_string(topic.clone())))
                    .with_partitions(partitions.iter().copied().collect())
            });
            answer
                .with_transaction_state(StrBytes::from_static_str(name(transaction.status)))
                .with_transaction_timeout_ms(transaction.timeout_ms)
                .with_transaction_start_time_ms(transaction.started_wall_ms)
                .with_producer_id(ProducerId(transaction.producer.id))
                .with_producer_epoch(transaction.producer.epoch)
                .with_topics(topics.collect())
        }
    };
    answer.with_transactional_id(id)
}

/// Lists transactional ids by state, producer and how long their transaction has been open.
pub(in crate::dev_broker) fn list_transactions(
    state: &State,
    request: &ListTransactionsRequest,
    now: Now,
) -> ListTransactionsResponse {
    let is_wanted = |transaction: &Transaction| {
        let states = &request.state_filters;
        let producers = &request.producer_id_filters;
        let age_ms = now.wall_ms.saturating_sub(transaction.started_wall_ms);
        (states.is_empty() || states.iter().any(|state| **state == *name(transaction.status)))
            && (producers.is_empty() || producers.contains(&ProducerId(transaction.producer.id)))
            && (request.duration_filter < 0 || age_ms > request.duration_filter)
    };
    let listed = state
        .transactions
        .look_at_all()
        .filter(|(_, transaction)| is_wanted(transaction))
        .map(|(id, transaction)| {
            ListedTransaction::default()
                .with_transactional_id(TransactionalId(StrBytes::from_string(id.to_owned())))
                .with_producer_id(ProducerId(transaction.producer.id))
                .with_transaction_state(StrBytes::from_static_str(name(transaction.status)))
        })
        .collect();
    let unknown = request
        .state_filters
        .iter()
        .filter(|filter| !is_state(filter))
        .cloned()
        .collect();
    ListTransactionsResponse::default()
        .with_transaction_states(listed)
        .with_unknown_state_filters(unknown)
}

fn is_state(filter: &str) -> bool {
    let occurring = [
        Status::Empty,
        Status::Ongoing,
        Status::Complete(Outcome::Commit),
        Status::Complete(Outcome::Abort),
    ];
    NEVER.contains(&filter) || occurring.into_iter().any(|status| name(status) == filter)
}

/// Kafka's name of a state.
fn name(status: Status) -> &'static str {
    match status {
        Status::Empty => "Empty",
        Status::Ongoing => "Ongoing",
        Status::Complete(Outcome::Commit) => "CompleteCommit",
        Status::Complete(Outcome::Abort) => "CompleteAbort",
    }
}

/// Says which producers partitions remember.
pub(in crate::dev_broker) fn describe_producers(
    state: &State,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let topics = bounded::once(request.topics, |topic| {
        (topic.name.clone(), topic.partition_indexes.clone())
    });
    let answers = topics.map(|topic| describe_topic(&state.topics, topic));
    DescribeProducersResponse::default().with_topics(answers.collect())
}

fn describe_topic(topics: &Topics, topic: TopicRequest) -> TopicResponse {
    let partitions = bounded::once(topic.partition_indexes, Clone::clone).map(|index| {
        let answer = PartitionResponse::default().with_partition_index(index);
        match topics.partition(&topic.name, index) {
            Some(log) => answer.with_active_producers(log.producers().map(describe_producer).collect()),
            None if !is_valid_name(&topic.name) => {
                answer.with_error_code(ResponseError::InvalidTopicException.code())
            }
            None => answer.with_error_code(ResponseError::UnknownTopicOrPartition.code()),
        }
    });
    TopicResponse::default()
        .with_partitions(partitions.collect())
        .with_name(topic.name)
}

fn describe_producer((id, producer): (i64, &log::Producer)) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(i32::from(producer.epoch))
        .with_last_sequence(producer.last_sequence())
        .with_last_timestamp(producer.wall_ms)
        .with_current_txn_start_offset(producer.open_from())
}
