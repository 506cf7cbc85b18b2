//! Who may go on with a transaction, and what is refused.

use std::time::Duration;

use frontstream::lifecycle::Instant;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{EndTxnRequest, InitProducerIdRequest, ProducerId};

use super::super::member::{Pending, fetch_offsets};
use super::super::raw::{Producer, Raw, error, eventually, plain, transactional};
use super::writer::{End, Writer, committed_values, init, stable_end};
use crate::support::Cluster;

const FENCED: Option<ResponseError> = Some(ResponseError::ProducerFenced);
const OLD_EPOCH: Option<ResponseError> = Some(ResponseError::InvalidProducerEpoch);
const BAD_STATE: Option<ResponseError> = Some(ResponseError::InvalidTxnState);
const BAD_MAPPING: Option<ResponseError> = Some(ResponseError::InvalidProducerIdMapping);

fn topic(cluster: &Cluster) -> String {
    let name = cluster.unique_prefix("txn");
    cluster.create_topic(&name, 2);
    name
}

/// The same id again is the same producer with the next epoch, another id another producer.
pub(super) fn epochs(cluster: &Cluster) {
    let id = cluster.unique_prefix("txn");
    let first = Writer::new(cluster, &id).producer;
    let second = Writer::new(cluster, &id).producer;
    assert_eq!((first.epoch, second.id, second.epoch), (0, first.id, 1));
    assert_ne!(Writer::new(cluster, &format!("{id}2")).producer.id, first.id);
}

/// Whoever comes up under the same id ends what the former left open.
pub(super) fn crash_recovery(cluster: &Cluster) {
    let topic = topic(cluster);
    let group = format!("{topic}group");
    let mut crashed = Writer::new(cluster, &topic);
    crashed.write(&topic, 0, &["lost"]);
    crashed.offset(&group, &topic, 1, 5);
    let mut next = Writer::new(cluster, &topic);
    next.write(&topic, 0, &["kept"]);
    next.end(End::Commit);
    assert_eq!(committed_values(cluster, &topic, 4), ["kept"]);
    let read = fetch_offsets(&mut next.raw, &group, &topic, &[1], Pending::Minded);
    assert_eq!((error(read[0].error_code), read[0].committed_offset), (None, -1));
}

/// The former can do nothing any more.
pub(super) fn zombie(cluster: &Cluster) {
    let topic = topic(cluster);
    let group = format!("{topic}group");
    let mut zombie = Writer::new(cluster, &topic);
    zombie.write(&topic, 0, &["lost"]);
    zombie.offset(&group, &topic, 1, 5);
    let mut heir = Writer::new(cluster, &topic);
    assert_eq!(zombie.add(&topic, &[1]), [FENCED]);
    assert_eq!(zombie.add_as(0, &topic, &[1]), [OLD_EPOCH], "as librdkafka asks");
    assert_eq!(
        zombie.produce(&topic, 0, &["more"]),
        Err(ResponseError::InvalidProducerEpoch)
    );
    assert_eq!(zombie.add_offsets(&group), FENCED);
    assert_eq!(zombie.add_offsets_as(0, &group), OLD_EPOCH, "as librdkafka asks");
    let request = zombie.offsets_request(&group, &topic, &[(1, 6, "")]);
    assert_eq!(zombie.commit_offsets(&request), [OLD_EPOCH]);
    for end in [End::Commit, End::Abort] {
        assert_eq!(zombie.try_to_end(end), FENCED);
        assert_eq!(zombie.end_as(1, end), OLD_EPOCH, "as librdkafka asks");
    }
    assert_eq!(zombie.next_epoch(), Err(ResponseError::ProducerFenced));
    heir.write(&topic, 0, &["kept"]);
    heir.end(End::Commit);
    assert_eq!(committed_values(cluster, &topic, 4), ["kept"]);
    let read = fetch_offsets(&mut heir.raw, &group, &topic, &[1], Pending::Minded);
    assert_eq!((error(read[0].error_code), read[0].committed_offset), (None, -1));
}

/// Nobody writes in a transaction of another's producer id.
pub(super) fn wrong_producer(cluster: &Cluster) {
    let topic = topic(cluster);
    let mut writer = Writer::new(cluster, &topic);
    let own = writer.producer;
    writer.producer.id += 1_000_000;
    assert_eq!(writer.add(&topic, &[0]), [BAD_MAPPING]);
    assert_eq!(writer.add_offsets("some-group"), BAD_MAPPING);
    assert_eq!(writer.try_to_end(End::Commit), BAD_MAPPING);
    writer.producer = own;
    writer.id = format!("{topic}-unknown");
    assert_eq!(writer.add(&topic, &[0]), [BAD_MAPPING]);
    assert_eq!(writer.try_to_end(End::Abort), BAD_MAPPING);
}

/// A transaction timeout that is not above zero, or above what the broker allows.
pub(super) fn bad_timeouts(cluster: &Cluster) {
    let id = cluster.unique_prefix("txn");
    let mut raw = Raw::connect(cluster);
    raw.find_coordinator(1, &id);
    for refused in [0, -1, 900_001] {
        let answer = init(&mut raw, &id, refused, Producer::NONE);
        assert_eq!(
            error(answer.error_code),
            Some(ResponseError::InvalidTransactionTimeout),
            "{refused} ms"
        );
    }
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(transactional("")))
        .with_transaction_timeout_ms(1_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    assert_eq!(
        error(raw.ask(4, &request).error_code),
        Some(ResponseError::InvalidRequest),
        "an empty id"
    );
    let answer = init(&mut raw, &id, 900_000, Producer::NONE);
    assert_eq!(error(answer.error_code), None);
}

/// A transaction that takes too long is aborted and its producer fenced; what it held back is free.
pub(super) fn timed_out(cluster: &Cluster) {
    const TIMEOUT_MS: i32 = 1_500;
    let topic = topic(cluster);
    let group = format!("{topic}group");
    let mut slow = Writer::with_timeout(cluster, &topic, TIMEOUT_MS);
    slow.write(&topic, 0, &["lost"]);
    let began = Instant::now();
    slow.offset(&group, &topic, 1, 5);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["after"]));
    eventually("the transaction has timed out", || {
        (stable_end(&mut raw, &topic) == 3).then_some(())
    });
    // The transaction began with its first partition, a moment before we looked at the clock.
    assert!(
        began.elapsed() + Duration::from_millis(500) > Duration::from_millis(1_500),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(committed_values(cluster, &topic, 3), ["after"]);
    let read = fetch_offsets(&mut raw, &group, &topic, &[1], Pending::Minded);
    assert_eq!((error(read[0].error_code), read[0].committed_offset), (None, -1));
    assert_eq!(slow.try_to_end(End::Commit), FENCED);
    assert_eq!(slow.add(&topic, &[0]), [FENCED]);
    assert_eq!(
        slow.produce(&topic, 0, &["more"]),
        Err(ResponseError::InvalidProducerEpoch)
    );
    // It may come back with the next epoch, as long as nobody else has come.
    let next = slow.next_epoch().expect("an epoch");
    assert_eq!(next.epoch, slow.producer.epoch + 1);
    assert_eq!(Writer::new(cluster, &topic).producer.epoch, next.epoch + 1);
    assert_eq!(slow.next_epoch(), Err(ResponseError::ProducerFenced));
}

/// The same end again is fine, the other end is refused, and so is any when nothing was begun.
pub(super) fn ended_twice(cluster: &Cluster) {
    let topic = topic(cluster);
    let mut writer = Writer::new(cluster, &topic);
    for end in [End::Commit, End::Abort] {
        assert_eq!(writer.try_to_end(end), BAD_STATE, "nothing was begun");
    }
    for (end, other) in [(End::Commit, End::Abort), (End::Abort, End::Commit)] {
        writer.write(&topic, 0, &["x"]);
        writer.end(end);
        assert_eq!(writer.try_to_end(end), None);
        assert_eq!(writer.try_to_end(other), BAD_STATE);
    }
    assert_eq!(committed_values(cluster, &topic, 4), ["x"]);
}

/// Records for a partition that is not part of the transaction are refused, and so are offsets of a group that is not.
pub(super) fn not_added(cluster: &Cluster) {
    let topic = topic(cluster);
    let mut writer = Writer::new(cluster, &topic);
    for version in [7, 10] {
        assert_eq!(
            writer.produce_as(version, &topic, 0, &["x"]),
            Err(ResponseError::InvalidTxnState)
        );
    }
    assert_eq!(
        writer.produce(&topic, 0, &["x"]),
        Err(ResponseError::TransactionAbortable)
    );
    writer.write(&topic, 1, &["y"]);
    assert_eq!(
        writer.produce_as(10, &topic, 0, &["x"]),
        Err(ResponseError::InvalidTxnState)
    );
    writer.end(End::Commit);
    assert_eq!(Raw::connect(cluster).list_offset(&topic, 0, -1).offset, 0);
    // After its end nothing is part of it any more.
    eventually("the transaction has ended", || {
        (stable_end(&mut writer.raw, &topic) == 0).then_some(())
    });
    assert_eq!(
        writer.produce_as(10, &topic, 1, &["z"]),
        Err(ResponseError::InvalidTxnState)
    );
}

/// Partitions are added all or none.
pub(super) fn unknown_partitions(cluster: &Cluster) {
    let topic = topic(cluster);
    let mut writer = Writer::new(cluster, &topic);
    let unknown = Some(ResponseError::UnknownTopicOrPartition);
    assert_eq!(
        writer.add(&topic, &[0, 7]),
        [Some(ResponseError::OperationNotAttempted), unknown]
    );
    assert_eq!(writer.add("no-such-topic", &[0]), [unknown]);
    assert_eq!(
        writer.produce_as(10, &topic, 0, &["x"]),
        Err(ResponseError::InvalidTxnState)
    );
    assert_eq!(writer.add(&topic, &[0, 1]), [None, None]);
    assert_eq!(writer.add(&topic, &[0, 1]), [None, None], "twice is no harm");
    writer.end(End::Abort);
}

/// A producer that lost count asks for the next epoch: its transaction is aborted and it goes on (KIP-360).
pub(super) fn next_epoch(cluster: &Cluster) {
    let topic = topic(cluster);
    let mut writer = Writer::new(cluster, &topic);
    writer.write(&topic, 0, &["lost"]);
    let former = writer.producer;
    let bumped = writer.next_epoch().expect("an epoch");
    // The epoch that ended the transaction is the next one, not one for nobody.
    assert_eq!((bumped.id, bumped.epoch), (former.id, former.epoch + 1));
    let mut zombie = Writer::new(cluster, &format!("{topic}other"));
    zombie.id.clone_from(&writer.id);
    zombie.producer = former;
    assert_eq!(zombie.try_to_end(End::Commit), FENCED);
    writer.become_(bumped);
    writer.write(&topic, 0, &["kept"]);
    writer.end(End::Commit);
    assert_eq!(committed_values(cluster, &topic, 4), ["kept"]);
}

/// An answer that was lost can be asked for again: the same epoch comes, not another one.
pub(super) fn next_epoch_asked_again(cluster: &Cluster) {
    let mut writer = Writer::new(cluster, &cluster.unique_prefix("txn"));
    let bumped = writer.next_epoch().expect("an epoch");
    assert_eq!(writer.next_epoch(), Ok(bumped));
    writer.producer = bumped;
    let next = writer.next_epoch().expect("an epoch");
    assert_eq!(next.epoch, bumped.epoch + 1);
    // Somebody new takes the id: who has an older epoch is a zombie.
    let heir = Writer::new(cluster, &writer.id);
    assert_eq!(heir.producer.epoch, next.epoch + 1);
    assert_eq!(writer.next_epoch(), Err(ResponseError::ProducerFenced));
    let id = writer.id.clone();
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(transactional(&id)))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(writer.producer.id))
        .with_producer_epoch(writer.producer.epoch);
    assert_eq!(
        error(writer.raw.ask(3, &request).error_code),
        OLD_EPOCH,
        "before version 4"
    );
}

/// A new epoch counts its records from zero, and a gap within one is refused.
pub(super) fn sequences(cluster: &Cluster) {
    let topic = topic(cluster);
    let mut writer = Writer::new(cluster, &topic);
    writer.write(&topic, 0, &["a", "b"]);
    let mut send = |sequence, producer: Producer| {
        let batch = producer.transactional_batch(sequence, &["x"]);
        let answer = writer.raw.produce_as(Some(&topic), &topic, 0, batch);
        (error(answer.error_code), answer.base_offset)
    };
    let producer = writer.producer;
    assert_eq!(send(3, producer).0, Some(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(send(2, producer), (None, 2));
    assert_eq!(send(2, producer), (None, 2), "a retry is not stored twice");
    writer.end(End::Commit);
    let mut next = Writer::new(cluster, &topic);
    next.write(&topic, 0, &["c"]);
    next.end(End::Commit);
    assert_eq!(committed_values(cluster, &topic, 6), ["a", "b", "x", "c"]);
}

/// A whole transaction in the versions that librdkafka asks for.
pub(super) fn old_versions(cluster: &Cluster) {
    let topic = topic(cluster);
    let group = format!("{topic}group");
    let mut writer = Writer::new(cluster, &topic);
    assert_eq!(writer.add_as(0, &topic, &[0]), [None]);
    assert_eq!(writer.produce_as(3, &topic, 0, &["x"]), Ok(0));
    assert_eq!(writer.add_offsets_as(0, &group), None);
    let request = writer.offsets_request(&group, &topic, &[(0, 7, "old")]);
    let answer = writer.raw.ask(0, &request.with_generation_id(-1));
    assert_eq!(error(answer.topics[0].partitions[0].error_code), None);
    let request = EndTxnRequest::default()
        .with_transactional_id(transactional(&topic))
        .with_producer_id(ProducerId(writer.producer.id))
        .with_producer_epoch(writer.producer.epoch)
        .with_committed(true);
    assert_eq!(error(writer.raw.ask(0, &request).error_code), None);
    assert_eq!(committed_values(cluster, &topic, 2), ["x"]);
    eventually("the offset is committed", || {
        let read = fetch_offsets(&mut writer.raw, &group, &topic, &[0], Pending::Ignored);
        (read[0].committed_offset == 7 && read[0].metadata.as_deref() == Some("old")).then_some(())
    });
}
