//! Reading records: long polls, size limits, positions.

use std::time::Duration;

use frontstream::lifecycle::Instant;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::Check;
use super::raw::{FETCH, Fetch, Raw, error, fetch_request, plain, records, topic_name, values};
use crate::support::Cluster;
use crate::support::process::PATIENCE;

const AREA: &str = "Fetch";

/// Longer than any wait that is woken, shorter than the tests' patience.
const LONG: Fetch = Fetch {
    max_wait_ms: 40_000,
    min_bytes: 1,
    max_bytes: 50 * 1_024 * 1_024,
    partition_max_bytes: 50 * 1_024 * 1_024,
    isolation_level: 0,
};

/// What is answered before this was not waited out.
const WOKEN: Duration = Duration::from_secs(20);

pub(super) const CHECKS: &[Check] = &[
    Check {
        area: AREA,
        name: "a fetch at the end waits for its time and is answered with nothing",
        run: waits_for_its_time,
    },
    Check {
        area: AREA,
        name: "a waiting fetch is woken by an append; other connections are served meanwhile",
        run: woken_by_an_append,
    },
    Check {
        area: AREA,
        name: "one append wakes every fetch that waits for it, and no other",
        run: all_are_woken,
    },
    Check {
        area: AREA,
        name: "a fetch waits until its minimum of bytes is there",
        run: minimum_of_bytes,
    },
    Check {
        area: AREA,
        name: "less than the minimum is answered when the time is over",
        run: less_than_the_minimum,
    },
    Check {
        area: AREA,
        name: "an answer keeps to the limit of a partition and to its own",
        run: size_limits,
    },
    Check {
        area: AREA,
        name: "a batch beyond every limit is answered whole, or no reader could go on",
        run: at_least_one_batch,
    },
    Check {
        area: AREA,
        name: "an offset before the start or beyond the end is refused at once",
        run: out_of_range,
    },
    Check {
        area: AREA,
        name: "a fetch from the middle of a batch is answered with the whole batch",
        run: middle_of_a_batch,
    },
    Check {
        area: AREA,
        name: "many partitions are answered at once",
        run: many_partitions,
    },
    Check {
        area: AREA,
        name: "an unknown topic or partition is refused, and the others are answered",
        run: unknown_partitions,
    },
    Check {
        area: AREA,
        name: "a fetch session that is not known is refused, and one that was opened goes on",
        run: sessions,
    },
    Check {
        area: AREA,
        name: "librdkafka reads everything in order, however small its limits",
        run: librdkafka_small_limits,
    },
];

fn topic(cluster: &Cluster, test: &str, partitions: i32) -> String {
    let topic = cluster.unique_prefix(test);
    cluster.create_topic(&topic, partitions);
    topic
}

/// Stores three batches of a little over a thousand bytes.
fn three_batches(raw: &mut Raw, topic: &str) -> usize {
    let batch = plain(&[&"x".repeat(1_000)]);
    for _ in 0..3 {
        raw.store(topic, 0, &batch);
    }
    batch.len()
}

fn size(partition: &PartitionData) -> usize {
    partition.records.as_ref().map_or(0, bytes::Bytes::len)
}

fn waits_for_its_time(cluster: &Cluster) {
    let topic = topic(cluster, "waits", 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["a"]));
    let began = Instant::now();
    let how = Fetch {
        max_wait_ms: 700,
        ..Fetch::default()
    };
    let answer = raw.fetch(&topic, 0, 1, &how);
    let took = began.elapsed();
    assert_eq!((error(answer.error_code), size(&answer)), (None, 0));
    assert_eq!(answer.high_watermark, 1);
    assert!(took >= Duration::from_millis(650), "answered after {took:?}");
    assert!(took < WOKEN, "answered after {took:?}");
}

fn woken_by_an_append(cluster: &Cluster) {
    let topic = topic(cluster, "woken", 1);
    let (mut reader, mut writer) = (Raw::connect(cluster), Raw::connect(cluster));
    writer.store(&topic, 0, &plain(&["a"]));
    let began = Instant::now();
    let waiting = reader.send(FETCH, &fetch_request(&topic, &[(0, 1)], &LONG));
    // Answered while the other one waits.
    assert_eq!(writer.list_offset(&topic, 0, -1).offset, 1);
    assert_eq!(writer.produce(&topic, 0, plain(&["b"])).base_offset, 1);
    let answer = partition(reader.receive::<FetchRequest>(FETCH, waiting));
    assert_eq!(values(&answer), ["b"]);
    assert!(began.elapsed() < WOKEN, "woken after {:?}", began.elapsed());
}

fn partition(mut answer: FetchResponse) -> PartitionData {
    assert_eq!(error(answer.error_code), None);
    answer.responses.remove(0).partitions.remove(0)
}

fn all_are_woken(cluster: &Cluster) {
    let topic = topic(cluster, "all-woken", 2);
    let mut writer = Raw::connect(cluster);
    writer.store(&topic, 0, &plain(&["a"]));
    writer.store(&topic, 1, &plain(&["a"]));
    let began = Instant::now();
    let mut readers: Vec<(Raw, i32)> = (0..10)
        .map(|_| {
            let mut raw = Raw::connect(cluster);
            let waiting = raw.send(FETCH, &fetch_request(&topic, &[(0, 1)], &LONG));
            (raw, waiting)
        })
        .collect();
    let mut other = Raw::connect(cluster);
    let others = other.send(FETCH, &fetch_request(&topic, &[(1, 1)], &LONG));
    writer.store(&topic, 0, &plain(&["b"]));
    for (reader, waiting) in &mut readers {
        let answer = partition(reader.receive::<FetchRequest>(FETCH, *waiting));
        assert_eq!(values(&answer), ["b"]);
    }
    writer.store(&topic, 1, &plain(&["c"]));
    // Had the append to partition 0 woken it, it would have been answered with nothing.
    assert_eq!(
        values(&partition(other.receive::<FetchRequest>(FETCH, others))),
        ["c"]
    );
    assert!(began.elapsed() < WOKEN, "woken after {:?}", began.elapsed());
}

fn minimum_of_bytes(cluster: &Cluster) {
    let topic = topic(cluster, "minimum", 1);
    let (mut reader, mut writer) = (Raw::connect(cluster), Raw::connect(cluster));
    writer.store(&topic, 0, &plain(&["a"]));
    let began = Instant::now();
    let how = Fetch {
        min_bytes: 2_000,
        ..LONG
    };
    let waiting = reader.send(FETCH, &fetch_request(&topic, &[(0, 1)], &how));
    writer.store(&topic, 0, &plain(&["small"]));
    writer.store(&topic, 0, &plain(&["small too"]));
    writer.store(&topic, 0, &plain(&[&"x".repeat(2_000)]));
    let answer = partition(reader.receive::<FetchRequest>(FETCH, waiting));
    assert_eq!(values(&answer).len(), 3, "not before all are there");
    assert!(began.elapsed() < WOKEN, "woken after {:?}", began.elapsed());
}

fn less_than_the_minimum(cluster: &Cluster) {
    let topic = topic(cluster, "less", 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["a"]));
    let began = Instant::now();
    let how = Fetch {
        max_wait_ms: 500,
        min_bytes: 2_000,
        ..Fetch::default()
    };
    let answer = raw.fetch(&topic, 0, 0, &how);
    assert_eq!(values(&answer), ["a"]);
    assert!(began.elapsed() >= Duration::from_millis(450));
    assert!(began.elapsed() < WOKEN);
}

fn size_limits(cluster: &Cluster) {
    let topic = topic(cluster, "limits", 1);
    let mut raw = Raw::connect(cluster);
    let batch = three_batches(&mut raw, &topic);
    for limit in [batch, batch + batch / 2] {
        let limit = i32::try_from(limit).expect("a small number");
        let of_partition = Fetch {
            partition_max_bytes: limit,
            ..Fetch::default()
        };
        let of_answer = Fetch {
            max_bytes: limit,
            ..Fetch::default()
        };
        for how in [of_partition, of_answer] {
            let answer = raw.fetch(&topic, 0, 0, &how);
            assert_eq!(values(&answer).len(), 1, "of {limit} bytes");
            assert!(size(&answer) <= usize::try_from(limit).expect("positive"));
        }
    }
    assert_eq!(values(&raw.fetch(&topic, 0, 0, &Fetch::default())).len(), 3);
}

fn at_least_one_batch(cluster: &Cluster) {
    let topic = topic(cluster, "one-batch", 3);
    let mut raw = Raw::connect(cluster);
    let batch = three_batches(&mut raw, &topic);
    raw.store(&topic, 1, &plain(&[&"y".repeat(1_000)]));
    raw.store(&topic, 2, &plain(&[&"z".repeat(1_000)]));
    let tiny = Fetch {
        max_bytes: 10,
        partition_max_bytes: 10,
        ..Fetch::default()
    };
    let answer = raw.fetch(&topic, 0, 1, &tiny);
    assert_eq!((values(&answer).len(), size(&answer)), (1, batch));
    // Of several partitions only the first with records: the limit of the answer is used up then.
    let mut answer = raw.ask(FETCH, &fetch_request(&topic, &[(0, 3), (2, 0), (1, 0)], &tiny));
    let partitions = answer.responses.remove(0).partitions;
    let answered: Vec<_> = partitions
        .iter()
        .map(|partition| (partition.partition_index, values(partition).len()))
        .collect();
    assert_eq!(answered, [(0, 0), (2, 1), (1, 0)]);
}

fn out_of_range(cluster: &Cluster) {
    let topic = topic(cluster, "range", 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["a", "b"]));
    let began = Instant::now();
    for offset in [3, -1, i64::MAX] {
        let answer = raw.fetch(&topic, 0, offset, &LONG);
        assert_eq!(
            error(answer.error_code),
            Some(ResponseError::OffsetOutOfRange),
            "{offset}"
        );
        assert_eq!(size(&answer), 0);
    }
    assert!(began.elapsed() < WOKEN, "refused after {:?}", began.elapsed());
    let at_the_end = raw.fetch(&topic, 0, 2, &Fetch::default());
    assert_eq!((error(at_the_end.error_code), size(&at_the_end)), (None, 0));
}

fn middle_of_a_batch(cluster: &Cluster) {
    let topic = topic(cluster, "middle", 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["a", "b"]));
    raw.store(&topic, 0, &plain(&["c", "d", "e"]));
    let answer = raw.fetch(&topic, 0, 3, &Fetch::default());
    let offsets: Vec<i64> = records(&answer).iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [2, 3, 4]);
    assert_eq!(
        read_from(cluster, &topic, 3, 2),
        ["d", "e"],
        "to librdkafka only from there"
    );
}

/// Reads `count` records from an offset of partition 0 with librdkafka.
fn read_from(cluster: &Cluster, topic: &str, offset: i64, count: usize) -> Vec<String> {
    let mut config = cluster.client_config();
    config
        .set("group.id", "conformance-reader")
        .set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, 0, Offset::Offset(offset))
        .expect("an offset");
    consumer.assign(&assignment).expect("an assignment");
    (0..count)
        .map(|_| {
            let message = consumer.poll(PATIENCE).expect("a record").expect("no error");
            String::from_utf8_lossy(message.payload().expect("a value")).into_owned()
        })
        .collect()
}

fn many_partitions(cluster: &Cluster) {
    const PARTITIONS: i32 = 60;
    let topic = topic(cluster, "many", PARTITIONS);
    let mut raw = Raw::connect(cluster);
    for partition in 0..PARTITIONS {
        raw.store(&topic, partition, &plain(&[&partition.to_string()]));
    }
    let from: Vec<(i32, i64)> = (0..PARTITIONS).rev().map(|partition| (partition, 0)).collect();
    let answer = raw.ask(FETCH, &fetch_request(&topic, &from, &LONG));
    assert_eq!(error(answer.error_code), None);
    let mut read: Vec<(i32, Vec<String>)> = answer.responses[0]
        .partitions
        .iter()
        .map(|partition| (partition.partition_index, values(partition)))
        .collect();
    read.sort();
    let expected: Vec<_> = (0..PARTITIONS)
        .map(|partition| (partition, vec![partition.to_string()]))
        .collect();
    assert_eq!(read, expected);
}

fn unknown_partitions(cluster: &Cluster) {
    let topic = topic(cluster, "known", 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["a"]));
    let mut request = fetch_request(&topic, &[(0, 0), (1, 0)], &LONG);
    let other = fetch_request("nobody-made-this", &[(0, 0)], &LONG);
    request.topics.extend(other.topics);
    let began = Instant::now();
    let answer = raw.ask(FETCH, &request);
    assert!(began.elapsed() < WOKEN, "answered after {:?}", began.elapsed());
    let partition = |name: &str, number: i32| {
        let topic = answer
            .responses
            .iter()
            .find(|topic| topic.topic == topic_name(name));
        let partitions = &topic.expect("each topic is answered").partitions;
        let found = partitions
            .iter()
            .find(|partition| partition.partition_index == number);
        found.expect("each partition is answered")
    };
    assert_eq!(values(partition(&topic, 0)), ["a"]);
    let refused = Some(ResponseError::UnknownTopicOrPartition);
    assert_eq!(error(partition(&topic, 1).error_code), refused);
    assert_eq!(error(partition("nobody-made-this", 0).error_code), refused);
}

fn sessions(cluster: &Cluster) {
    let topic = topic(cluster, "sessions", 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["a"]));
    let whole = |offset| fetch_request(&topic, &[(0, offset)], &LONG);
    let unknown = raw.ask(FETCH, &whole(0).with_session_id(4_711).with_session_epoch(1));
    assert_eq!(
        error(unknown.error_code),
        Some(ResponseError::FetchSessionIdNotFound)
    );

    let opened = raw.ask(FETCH, &whole(0).with_session_epoch(0));
    assert_eq!(error(opened.error_code), None);
    assert_eq!(values(&opened.responses[0].partitions[0]), ["a"]);
    raw.store(&topic, 0, &plain(&["b"]));
    // A broker may answer that it opened none; a client asks for everything again then.
    let (id, epoch) = if opened.session_id == 0 {
        (0, 0)
    } else {
        (opened.session_id, 1)
    };
    let next = raw.ask(FETCH, &whole(1).with_session_id(id).with_session_epoch(epoch));
    assert_eq!(error(next.error_code), None);
    assert_eq!(values(&next.responses[0].partitions[0]), ["b"]);
}

fn librdkafka_small_limits(cluster: &Cluster) {
    const RECORDS: usize = 1_500;
    let topic = topic(cluster, "small-limits", 1);
    let mut raw = Raw::connect(cluster);
    let sent: Vec<String> = (0..RECORDS)
        .map(|number| format!("{number} {}", "x".repeat(number % 700)))
        .collect();
    for batch in sent.chunks(13) {
        let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
        raw.store(&topic, 0, &plain(&batch));
    }
    let mut config = cluster.client_config();
    config
        .set("group.id", "conformance-reader")
        .set("enable.auto.commit", "false")
        .set("fetch.message.max.bytes", "1000")
        .set("fetch.max.bytes", "2000")
        .set("message.max.bytes", "1500");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(&topic, 0, Offset::Beginning)
        .expect("an offset");
    consumer.assign(&assignment).expect("an assignment");
    for (number, expected) in (0..).zip(&sent) {
        let message = consumer.poll(PATIENCE).expect("a record").expect("no error");
        assert_eq!(message.offset(), number);
        assert_eq!(message.payload(), Some(expected.as_bytes()));
    }
}
