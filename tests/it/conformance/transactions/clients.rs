//! Transactions as librdkafka makes them.

use std::time::Duration;

use frontstream::lifecycle::Instant;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use super::super::configs::topic_with;
use super::super::member::committed;
use super::super::raw::{Raw, eventually};
use super::writer::{committed_values, stable_end};
use crate::support::Cluster;
use crate::support::process::PATIENCE;

/// Delivery reports are served by a thread of its own, also while it aborts.
type Client = ThreadedProducer<DefaultProducerContext>;

fn client(cluster: &Cluster, id: &str, timeout_ms: u32) -> Client {
    let client: Client = cluster
        .client_config()
        .set("transactional.id", id)
        .set("transaction.timeout.ms", timeout_ms.to_string())
        // More than the broker takes, so that the broker refuses and not the client.
        .set("message.max.bytes", "2000000")
        .set("retry.backoff.ms", "20")
        .create()
        .expect("a producer");
    client
        .init_transactions(PATIENCE)
        .expect("a transactional producer");
    client
}

fn send(client: &Client, topic: &str, value: &str) {
    let record = BaseRecord::<str, str>::to(topic).partition(0).payload(value);
    client.send(record).map_err(|(error, _)| error).expect("queued");
}

fn flush(client: &Client) {
    eventually("the records are stored", || {
        (client.in_flight_count() == 0).then_some(())
    });
}

/// Joins the group, so that it has a place in it.
fn member(cluster: &Cluster, topic: &str, group: &str) -> BaseConsumer {
    let consumer: BaseConsumer = cluster
        .client_config()
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[topic]).expect("a subscription");
    eventually("it has its partitions", || {
        let _ = consumer.poll(Duration::from_millis(20));
        (consumer.assignment().expect("an assignment").count() > 0).then_some(())
    });
    consumer
}

fn send_offset(client: &Client, group: &ConsumerGroupMetadata, topic: &str, offset: i64) -> KafkaResult<()> {
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(topic, 0, Offset::Offset(offset))
        .expect("an offset");
    client.send_offsets_to_transaction(&offsets, group, PATIENCE)
}

/// Records and offsets come together or not at all.
pub(super) fn commits_and_aborts(cluster: &Cluster) {
    let topic = cluster.unique_prefix("txn");
    let group = format!("{topic}group");
    cluster.create_topic(&topic, 1);
    let consumer = member(cluster, &topic, &group);
    let metadata = consumer.group_metadata().expect("a member");
    let client = client(cluster, &topic, 60_000);
    for (value, offset, commit) in [("a", 1, true), ("b", 2, false), ("c", 3, true)] {
        client.begin_transaction().expect("begun");
        send(&client, &topic, value);
        flush(&client);
        send_offset(&client, &metadata, &topic, offset).expect("sent");
        if commit {
            client.commit_transaction(PATIENCE).expect("committed");
        } else {
            client.abort_transaction(PATIENCE).expect("aborted");
        }
    }
    assert_eq!(committed_values(cluster, &topic, 6), ["a", "c"]);
    eventually("the offset is committed", || {
        (committed(&mut Raw::connect(cluster), &group, &topic, 0) == 3).then_some(())
    });
}

/// A reader that waits gets the records when they are committed, not before, and not the aborted ones.
pub(super) fn live_reader(cluster: &Cluster) {
    let topic = cluster.unique_prefix("txn");
    cluster.create_topic(&topic, 1);
    let reader = member(cluster, &topic, &format!("{topic}group"));
    let client = client(cluster, &topic, 60_000);
    for (value, commit) in [("lost", false), ("kept", true)] {
        client.begin_transaction().expect("begun");
        send(&client, &topic, value);
        flush(&client);
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(200) {
            let seen = reader.poll(Duration::from_millis(50));
            assert!(seen.is_none(), "{value}: seen before its end: {seen:?}");
        }
        if commit {
            client.commit_transaction(PATIENCE).expect("committed");
        } else {
            client.abort_transaction(PATIENCE).expect("aborted");
        }
    }
    let seen = eventually("the committed one is read", || {
        reader.poll(Duration::from_millis(50))
    });
    assert_eq!(seen.expect("a record").payload(), Some(b"kept".as_slice()));
}

/// The former of the same id learns that it is fenced, and cannot commit.
pub(super) fn fenced(cluster: &Cluster) {
    let topic = cluster.unique_prefix("txn");
    cluster.create_topic(&topic, 1);
    let zombie = client(cluster, &topic, 60_000);
    zombie.begin_transaction().expect("begun");
    send(&zombie, &topic, "lost");
    flush(&zombie);
    let heir = client(cluster, &topic, 60_000);
    heir.begin_transaction().expect("begun");
    send(&heir, &topic, "kept");
    flush(&heir);
    let Err(KafkaError::Transaction(refused)) = zombie.commit_transaction(PATIENCE) else {
        panic!("the zombie's commit was not refused");
    };
    assert!(refused.is_fatal(), "{refused:?}");
    heir.commit_transaction(PATIENCE).expect("committed");
    assert_eq!(committed_values(cluster, &topic, 4), ["kept"]);
}

/// A client that is gone in the middle: its transaction ends when another one comes up with its id.
pub(super) fn crashed(cluster: &Cluster) {
    let topic = cluster.unique_prefix("txn");
    cluster.create_topic(&topic, 1);
    let gone = client(cluster, &topic, 60_000);
    gone.begin_transaction().expect("begun");
    send(&gone, &topic, "lost");
    flush(&gone);
    drop(gone);
    let mut raw = Raw::connect(cluster);
    assert_eq!(stable_end(&mut raw, &topic), 0);
    let next = client(cluster, &topic, 60_000);
    next.begin_transaction().expect("begun");
    send(&next, &topic, "kept");
    next.commit_transaction(PATIENCE).expect("committed");
    assert_eq!(committed_values(cluster, &topic, 4), ["kept"]);
}

/// A transaction that took too long cannot be committed.
pub(super) fn timed_out(cluster: &Cluster) {
    let topic = cluster.unique_prefix("txn");
    cluster.create_topic(&topic, 1);
    let slow = client(cluster, &topic, 2_000);
    slow.begin_transaction().expect("begun");
    send(&slow, &topic, "lost");
    flush(&slow);
    let mut raw = Raw::connect(cluster);
    eventually("the broker has ended it", || {
        (stable_end(&mut raw, &topic) == 2).then_some(())
    });
    let refused = slow.commit_transaction(PATIENCE);
    assert!(refused.is_err(), "a transaction that timed out was committed");
    assert_eq!(committed_values(cluster, &topic, 2), Vec::<String>::new());
}

/// Whose place in the group is another's must abort, and can go on then.
pub(super) fn stale_generation(cluster: &Cluster) {
    let topic = cluster.unique_prefix("txn");
    let group = format!("{topic}group");
    cluster.create_topic(&topic, 1);
    let client = client(cluster, &topic, 60_000);
    let former = member(cluster, &topic, &group);
    let stale = former.group_metadata().expect("a member");
    drop(former);
    let consumer = member(cluster, &topic, &group);
    client.begin_transaction().expect("begun");
    send(&client, &topic, "lost");
    flush(&client);
    let Err(KafkaError::Transaction(refused)) = send_offset(&client, &stale, &topic, 1) else {
        panic!("offsets of a member that is gone were taken");
    };
    assert!(refused.txn_requires_abort() && !refused.is_fatal(), "{refused:?}");
    client.abort_transaction(PATIENCE).expect("aborted");

    client.begin_transaction().expect("begun");
    send(&client, &topic, "kept");
    flush(&client);
    let current = consumer.group_metadata().expect("a member");
    send_offset(&client, &current, &topic, 1).expect("sent");
    client.commit_transaction(PATIENCE).expect("committed");
    assert_eq!(committed_values(cluster, &topic, 4), ["kept"]);
}

/// A record that the broker refuses costs the transaction, not the producer: it aborts, takes the next epoch and goes on.
pub(super) fn refused_record(cluster: &Cluster) {
    let topic = topic_with(cluster, "txn", &[("max.message.bytes", "1000")]);
    let client = client(cluster, &topic, 60_000);
    client.begin_transaction().expect("begun");
    send(&client, &topic, "lost");
    flush(&client);
    send(&client, &topic, &"x".repeat(10_000));
    flush(&client);
    let mut refused = client
        .commit_transaction(PATIENCE)
        .expect_err("a record is missing");
    // The client notices the gap in its sequence numbers in the next transaction, and takes the next epoch after that.
    for _ in 0..3 {
        let KafkaError::Transaction(inner) = &refused else {
            panic!("{refused}");
        };
        assert!(inner.txn_requires_abort() && !inner.is_fatal(), "{refused}");
        client.abort_transaction(PATIENCE).expect("aborted");
        client.begin_transaction().expect("begun");
        send(&client, &topic, "kept");
        match client.commit_transaction(PATIENCE) {
            Ok(()) => {
                let values = eventually("the committed one is seen", || {
                    let values = cluster.records(&topic);
                    (!values.is_empty()).then_some(values)
                });
                let values: Vec<_> = values
                    .iter()
                    .map(|record| record.payload().unwrap_or_default())
                    .collect();
                assert_eq!(values, [b"kept"]);
                return;
            }
            Err(again) => refused = again,
        }
    }
    panic!("the producer does not get over it: {refused}");
}
