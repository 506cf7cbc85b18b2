//! Before the in-process broker, with requests by hand: it tells clients to come to its own address.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{AddPartitionsToTxnRequest, ApiKey, EndTxnRequest, ProducerId};

use super::super::{Fault, Hits, Proxy, Rule};
use crate::conformance::raw::{Producer, Raw, error, topic_name, transactional};
use crate::support::in_process;
use crate::support::process::wait_until;

const ADD_PARTITIONS: i16 = 3;
const END_TXN: i16 = 3;

/// A transaction with one record, by requests through the proxy.
struct Transaction {
    id: String,
    topic: String,
    producer: Producer,
}

impl Transaction {
    fn begin(raw: &mut Raw, test: &str) -> Self {
        let id = in_process().unique_prefix(test);
        let topic = format!("{id}topic");
        in_process().create_topic(&topic, 1);
        let producer = raw.init_producer(Some(&id));
        let partitions = AddPartitionsToTxnTopic::default()
            .with_name(topic_name(&topic))
            .with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional(&id))
            .with_v3_and_below_producer_id(ProducerId(producer.id))
            .with_v3_and_below_producer_epoch(producer.epoch)
            .with_v3_and_below_topics(vec![partitions]);
        let answer = raw.ask(ADD_PARTITIONS, &request);
        let added = &answer.results_by_topic_v3_and_below[0].results_by_partition[0];
        assert_eq!(error(added.partition_error_code), None);
        let batch = producer.transactional_batch(0, &["x"]);
        let stored = raw.produce_as(Some(&id), &topic, 0, batch);
        assert_eq!(error(stored.error_code), None);
        Self { id, topic, producer }
    }

    fn commit(&self) -> EndTxnRequest {
        EndTxnRequest::default()
            .with_transactional_id(transactional(&self.id))
            .with_producer_id(ProducerId(self.producer.id))
            .with_producer_epoch(self.producer.epoch)
            .with_committed(true)
    }

    fn committed(&self) -> usize {
        in_process().records(&self.topic).len()
    }
}

fn proxy() -> (Proxy, String) {
    let proxy = Proxy::reserve(1);
    proxy.lead_to(&[in_process().bootstrap.parse().unwrap()]);
    let address = proxy.bootstrap();
    (proxy, address)
}

#[test]
fn a_commit_whose_answer_is_lost_has_been_made() {
    let (proxy, address) = proxy();
    let mut raw = Raw::connect_to(&address);
    let transaction = Transaction::begin(&mut raw, "proxy-answer");
    let loss = proxy.apply(Rule::new(Fault::LoseAnswerOf {
        api: ApiKey::EndTxn,
        times: 1,
    }));
    raw.send(END_TXN, &transaction.commit());
    raw.assert_closed();
    let one = Hits {
        connections: 1,
        pieces: 1,
    };
    assert_eq!(loss.hits(), one);
    wait_until("the record is committed", || transaction.committed() == 1);
    // Asked again, the broker says that it is done.
    let again =
        Raw::connect_to(&address).ask_settled(END_TXN, &transaction.commit(), |answer| answer.error_code);
    assert_eq!(error(again.error_code), None);
    assert_eq!((transaction.committed(), loss.hits()), (1, one));
}

#[test]
fn only_the_answer_to_a_commit_that_was_made_counts_as_that() {
    let (proxy, address) = proxy();
    let mut raw = Raw::connect_to(&address);
    let transaction = Transaction::begin(&mut raw, "proxy-commit");
    let loss = proxy.apply(Rule::new(Fault::LoseAnswerOfCommit));
    let refused = transaction
        .commit()
        .with_producer_epoch(transaction.producer.epoch + 7);
    assert!(error(raw.ask(END_TXN, &refused).error_code).is_some(), "not ours");
    let another = Transaction::begin(&mut raw, "proxy-abort");
    let abort = another.commit().with_committed(false);
    assert_eq!(error(raw.ask(END_TXN, &abort).error_code), None);
    assert_eq!(loss.hits().pieces, 0);
    raw.send(END_TXN, &transaction.commit());
    raw.assert_closed();
    assert_eq!(loss.hits().pieces, 1);
    wait_until("the record is committed", || transaction.committed() == 1);
}

#[test]
fn a_commit_that_is_lost_has_not_been_made() {
    let (proxy, address) = proxy();
    let mut raw = Raw::connect_to(&address);
    let transaction = Transaction::begin(&mut raw, "proxy-request");
    let loss = proxy.apply(Rule::new(Fault::LoseRequests).of_client("conformance"));
    raw.send(END_TXN, &transaction.commit());
    wait_until("it is lost", || loss.hits().pieces == 1);
    drop(loss);
    raw.assert_closed();
    assert_eq!(transaction.committed(), 0);
}
