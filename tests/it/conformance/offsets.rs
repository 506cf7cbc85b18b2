//! Offsets looked up: by time, by the ends of a partition, by the leader's epoch.

use frontstream::lifecycle::Clock;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{BrokerId, OffsetForLeaderEpochRequest};
use kafka_protocol::records::Compression;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::Check;
use super::raw::{FETCH, Fetch, Producer, Raw, encode, error, fetch_request, plain, topic_name};
use crate::support::Cluster;
use crate::support::process::PATIENCE;

const AREA: &str = "List offsets";

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const NEWEST_TIMESTAMP: i64 = -3;

pub(super) const CHECKS: &[Check] = &[
    Check {
        area: AREA,
        name: "earliest and latest of an empty and of a filled partition",
        run: ends,
    },
    Check {
        area: AREA,
        name: "by time: the first record that is as late, even if records are in no order of time",
        run: by_time,
    },
    Check {
        area: AREA,
        name: "by time within a compressed batch",
        run: by_time_in_a_batch,
    },
    Check {
        area: AREA,
        name: "by time: not before what was deleted",
        run: by_time_after_deletion,
    },
    Check {
        area: AREA,
        name: "the newest timestamp and its offset",
        run: newest_timestamp,
    },
    Check {
        area: AREA,
        name: "an unknown topic or partition is refused",
        run: unknown,
    },
    Check {
        area: AREA,
        name: "librdkafka finds offsets by time and the watermarks",
        run: librdkafka_lookups,
    },
    Check {
        area: AREA,
        name: "the end of the leader's epoch is the end of the log; a future epoch is refused",
        run: leader_epochs,
    },
];

fn topic(cluster: &Cluster, test: &str) -> String {
    let topic = cluster.unique_prefix(test);
    cluster.create_topic(&topic, 1);
    topic
}

/// Stores one batch with records at these times.
fn store_at(raw: &mut Raw, topic: &str, times: &[i64], compression: Compression) {
    let values = vec!["some text that shrinks, shrinks, shrinks"; times.len()];
    let mut records = Producer::NONE.records(-1, &values);
    for (record, time) in records.iter_mut().zip(times) {
        record.timestamp = *time;
    }
    raw.store(topic, 0, &encode(&records, compression));
}

/// Looks up a time; answers offset and timestamp.
fn lookup(raw: &mut Raw, topic: &str, time: i64) -> (i64, i64) {
    let answer = raw.list_offset(topic, 0, time);
    assert_eq!(error(answer.error_code), None);
    (answer.offset, answer.timestamp)
}

fn ends(cluster: &Cluster) {
    let topic = topic(cluster, "ends");
    let mut raw = Raw::connect(cluster);
    for time in [EARLIEST, LATEST] {
        assert_eq!(lookup(&mut raw, &topic, time), (0, -1));
    }
    assert_eq!(lookup(&mut raw, &topic, 0), (-1, -1), "no record is as late");
    raw.store(&topic, 0, &plain(&["a", "b", "c"]));
    assert_eq!(lookup(&mut raw, &topic, EARLIEST), (0, -1));
    assert_eq!(lookup(&mut raw, &topic, LATEST), (3, -1));
}

fn by_time(cluster: &Cluster) {
    let topic = topic(cluster, "by-time");
    let mut raw = Raw::connect(cluster);
    let base = Clock::system().now().as_millis() - 100_000;
    let times = [10, 30, 20, 30, 50, 40];
    for time in times {
        store_at(&mut raw, &topic, &[base + time], Compression::None);
    }
    let mut at = |time: i64| {
        let (offset, timestamp) = lookup(&mut raw, &topic, base + time);
        (
            offset,
            if timestamp < 0 {
                timestamp
            } else {
                timestamp - base
            },
        )
    };
    assert_eq!(at(0), (0, 10));
    assert_eq!(at(10), (0, 10));
    assert_eq!(at(11), (1, 30));
    assert_eq!(at(20), (1, 30));
    assert_eq!(at(31), (4, 50));
    assert_eq!(at(50), (4, 50));
    assert_eq!(at(51), (-1, -1), "later than all");
    assert_eq!(lookup(&mut raw, &topic, 0), (0, base + 10));
}

fn by_time_in_a_batch(cluster: &Cluster) {
    let topic = topic(cluster, "in-a-batch");
    let mut raw = Raw::connect(cluster);
    let base = Clock::system().now().as_millis() - 100_000;
    store_at(&mut raw, &topic, &[base, base + 10, base + 20], Compression::None);
    store_at(
        &mut raw,
        &topic,
        &[base + 30, base + 40, base + 35],
        Compression::Zstd,
    );
    store_at(&mut raw, &topic, &[base + 36, base + 60], Compression::Gzip);
    for (time, expected) in [
        (5, (1, 10)),
        (20, (2, 20)),
        (31, (4, 40)),
        (40, (4, 40)),
        (41, (7, 60)),
    ] {
        let (offset, timestamp) = lookup(&mut raw, &topic, base + time);
        assert_eq!((offset, timestamp - base), expected, "{time}");
    }
}

fn by_time_after_deletion(cluster: &Cluster) {
    let topic = topic(cluster, "time-deleted");
    let mut raw = Raw::connect(cluster);
    let base = Clock::system().now().as_millis() - 100_000;
    store_at(
        &mut raw,
        &topic,
        &[base, base + 10, base + 20, base + 30],
        Compression::None,
    );
    assert_eq!(super::deletions::delete_before(&mut raw, &topic, 0, 2), Ok(2));
    let (offset, _) = lookup(&mut raw, &topic, base);
    // A reader that starts there must not be refused.
    let answer = raw.fetch(&topic, 0, offset.max(2), &Fetch::default());
    assert_eq!(error(answer.error_code), None);
    assert_eq!(offset, 2);
}

fn newest_timestamp(cluster: &Cluster) {
    let topic = topic(cluster, "newest");
    let mut raw = Raw::connect(cluster);
    assert_eq!(
        lookup(&mut raw, &topic, NEWEST_TIMESTAMP),
        (-1, -1),
        "of no record"
    );
    let base = Clock::system().now().as_millis() - 100_000;
    store_at(
        &mut raw,
        &topic,
        &[base + 1, base + 90, base + 2],
        Compression::Gzip,
    );
    store_at(&mut raw, &topic, &[base + 3, base + 4], Compression::None);
    assert_eq!(lookup(&mut raw, &topic, NEWEST_TIMESTAMP), (1, base + 90));
}

fn unknown(cluster: &Cluster) {
    let topic = topic(cluster, "unknown-offsets");
    let mut raw = Raw::connect(cluster);
    for (name, partition) in [(topic.as_str(), 1), ("nobody-made-this", 0)] {
        for time in [LATEST, EARLIEST, NEWEST_TIMESTAMP, 0] {
            let answer = raw.list_offset(name, partition, time);
            assert_eq!(
                (error(answer.error_code), answer.offset),
                (Some(ResponseError::UnknownTopicOrPartition), -1),
                "{name} {partition} {time}"
            );
        }
    }
}

fn librdkafka_lookups(cluster: &Cluster) {
    let topic = topic(cluster, "lookups");
    let mut raw = Raw::connect(cluster);
    let base = Clock::system().now().as_millis() - 100_000;
    store_at(&mut raw, &topic, &[base, base + 10, base + 20], Compression::None);
    let consumer: BaseConsumer = cluster
        .client_config()
        .set("group.id", "conformance-reader")
        .create()
        .expect("a consumer");
    assert_eq!(
        consumer
            .fetch_watermarks(&topic, 0, PATIENCE)
            .expect("watermarks"),
        (0, 3)
    );
    for (time, expected) in [(base + 5, Offset::Offset(1)), (base + 21, Offset::End)] {
        let mut times = TopicPartitionList::new();
        times
            .add_partition_offset(&topic, 0, Offset::Offset(time))
            .expect("a time");
        let found = consumer.offsets_for_times(times, PATIENCE).expect("offsets");
        assert_eq!(found.elements()[0].offset(), expected);
    }
}

fn leader_epochs(cluster: &Cluster) {
    let topic = topic(cluster, "epochs");
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["a", "b"]));
    let mut ask = |current: i32, wanted: i32| {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(0)
            .with_current_leader_epoch(current)
            .with_leader_epoch(wanted);
        let wanted = OffsetForLeaderTopic::default()
            .with_topic(topic_name(&topic))
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![wanted]);
        let answer = raw.ask(4, &request).topics.remove(0).partitions.remove(0);
        (error(answer.error_code), answer.leader_epoch, answer.end_offset)
    };
    assert_eq!(ask(-1, 0), (None, 0, 2));
    assert_eq!(ask(0, 0), (None, 0, 2));
    assert_eq!(ask(-1, 7), (None, -1, -1), "an epoch that has not been");
    assert_eq!(ask(7, 0), (Some(ResponseError::UnknownLeaderEpoch), -1, -1));

    let mut request = fetch_request(&topic, &[(0, 0)], &Fetch::default());
    request.topics[0].partitions[0].current_leader_epoch = 7;
    let answer = raw.ask(FETCH, &request);
    assert_eq!(
        error(answer.responses[0].partitions[0].error_code),
        Some(ResponseError::UnknownLeaderEpoch)
    );
}
