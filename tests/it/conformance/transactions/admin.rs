//! Transactions as a tool sees them.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::PartitionResponse;
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, ListTransactionsRequest, ProducerId,
};

use super::super::raw::{Raw, error, eventually, text, topic_name, transactional};
use super::writer::{End, Writer};
use crate::support::Cluster;

const DESCRIBE_TRANSACTIONS: i16 = 0;
const LIST_TRANSACTIONS: i16 = 1;
const DESCRIBE_PRODUCERS: i16 = 0;

fn describe(raw: &mut Raw, id: &str) -> TransactionState {
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![transactional(id)]);
    raw.ask(DESCRIBE_TRANSACTIONS, &request)
        .transaction_states
        .remove(0)
}

fn producers(raw: &mut Raw, topic: &str, partition: i32) -> PartitionResponse {
    let topic = TopicRequest::default()
        .with_name(topic_name(topic))
        .with_partition_indexes(vec![partition]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    raw.ask(DESCRIBE_PRODUCERS, &request)
        .topics
        .remove(0)
        .partitions
        .remove(0)
}

fn topic(cluster: &Cluster) -> String {
    let name = cluster.unique_prefix("txn");
    cluster.create_topic(&name, 2);
    name
}

/// A transaction's state, producer, timeout and partitions, through its life.
pub(super) fn described(cluster: &Cluster) {
    let topic = topic(cluster);
    let mut raw = Raw::connect(cluster);
    let mut writer = Writer::with_timeout(cluster, &topic, 45_000);
    let found = describe(&mut raw, &topic);
    assert_eq!(
        (error(found.error_code), &*found.transaction_state),
        (None, "Empty")
    );
    assert_eq!(found.transaction_timeout_ms, 45_000);
    assert_eq!(found.transaction_start_time_ms, -1);
    assert_eq!(
        (found.producer_id.0, found.producer_epoch),
        (writer.producer.id, writer.producer.epoch)
    );
    for (end, state) in [(End::Commit, "CompleteCommit"), (End::Abort, "CompleteAbort")] {
        writer.write(&topic, 1, &["x"]);
        writer.add(&topic, &[0]);
        let found = describe(&mut raw, &topic);
        assert_eq!(&*found.transaction_state, "Ongoing");
        assert!(found.transaction_start_time_ms > 0);
        let mut partitions = found.topics[0].partitions.clone();
        partitions.sort_unstable();
        assert_eq!(
            (&found.topics[0].topic, partitions),
            (&topic_name(&topic), vec![0, 1])
        );
        writer.end(end);
        eventually(&format!("it is {state}"), || {
            let found = describe(&mut raw, &topic);
            (&*found.transaction_state == state && found.topics.is_empty()).then_some(())
        });
    }
    let found = describe(&mut raw, &format!("{topic}unknown"));
    assert_eq!(
        error(found.error_code),
        Some(ResponseError::TransactionalIdNotFound)
    );
}

/// Lists filter by state, producer and duration, and say which states they do not know.
pub(super) fn listed(cluster: &Cluster) {
    let topic = topic(cluster);
    let mut raw = Raw::connect(cluster);
    let mut writer = Writer::new(cluster, &topic);
    writer.write(&topic, 0, &["x"]);
    let mut list = |states: &[&str], producers: &[i64], duration| {
        let request = ListTransactionsRequest::default()
            .with_state_filters(states.iter().map(|state| text(state)).collect())
            .with_producer_id_filters(producers.iter().map(|id| ProducerId(*id)).collect())
            .with_duration_filter(duration);
        let answer = raw.ask(LIST_TRANSACTIONS, &request);
        assert_eq!(error(answer.error_code), None);
        let found = answer
            .transaction_states
            .into_iter()
            .find(|found| found.transactional_id == transactional(&topic));
        let unknown: Vec<_> = answer
            .unknown_state_filters
            .iter()
            .map(ToString::to_string)
            .collect();
        (
            found.map(|found| (found.producer_id.0, found.transaction_state.to_string())),
            unknown,
        )
    };
    let ours = Some((writer.producer.id, "Ongoing".to_owned()));
    assert_eq!(list(&[], &[], -1), (ours.clone(), vec![]));
    assert_eq!(list(&["Empty", "Ongoing"], &[], -1), (ours.clone(), vec![]));
    assert_eq!(list(&["CompleteCommit"], &[], -1).0, None);
    assert_eq!(
        list(&["NoSuchState"], &[], -1),
        (None, vec!["NoSuchState".to_owned()])
    );
    assert_eq!(list(&[], &[writer.producer.id], -1).0, ours);
    assert_eq!(list(&[], &[writer.producer.id + 1_000_000], -1).0, None);
    assert_eq!(list(&[], &[], 3_600_000).0, None, "not open for an hour");
}

/// The producers of a partition, and where the open transaction of each began.
pub(super) fn producers_described(cluster: &Cluster) {
    let topic = topic(cluster);
    let mut raw = Raw::connect(cluster);
    let mut writer = Writer::new(cluster, &topic);
    writer.write(&topic, 0, &["x"]);
    writer.end(End::Commit);
    writer.write(&topic, 0, &["y", "z"]);
    let found = producers(&mut raw, &topic, 0);
    assert_eq!(error(found.error_code), None);
    assert_eq!(found.active_producers.len(), 1);
    let producer = &found.active_producers[0];
    assert_eq!(
        (producer.producer_id.0, producer.producer_epoch),
        (writer.producer.id, i32::from(writer.producer.epoch))
    );
    assert_eq!(
        (producer.current_txn_start_offset, producer.last_sequence),
        (2, 2)
    );
    assert!(producer.last_timestamp > 0);
    writer.end(End::Abort);
    eventually("it has no open transaction", || {
        let found = producers(&mut raw, &topic, 0);
        (found.active_producers[0].current_txn_start_offset == -1).then_some(())
    });
    assert_eq!(producers(&mut raw, &topic, 1).active_producers.len(), 0);
    assert_eq!(
        error(producers(&mut raw, &topic, 7).error_code),
        Some(ResponseError::UnknownTopicOrPartition)
    );
}
