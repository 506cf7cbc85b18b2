//! What records hold, from a producer to a consumer: codecs, headers, keys, timestamps.

use bytes::Bytes;
use frontstream::lifecycle::Clock;
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record, RecordBatchDecoder, TimestampType};
use rdkafka::Message as _;
use rdkafka::message::{Header, Headers as _, OwnedHeaders, OwnedMessage, Timestamp};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::Check;
use super::configs::topic_with;
use super::raw::{Fetch, Producer, Raw, encode, error, records};
use crate::support::Cluster;
use crate::support::process::PATIENCE;

const AREA: &str = "Records";

const CODECS: [(&str, Compression); 5] = [
    ("none", Compression::None),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
    ("zstd", Compression::Zstd),
];

pub(super) const CHECKS: &[Check] = &[
    Check {
        area: AREA,
        name: "every codec, librdkafka writing and reading",
        run: codecs_of_librdkafka,
    },
    Check {
        area: AREA,
        name: "every codec, stored as it was sent",
        run: codecs_as_sent,
    },
    Check {
        area: AREA,
        name: "an unknown codec and a batch that does not decompress are refused",
        run: bad_compression,
    },
    Check {
        area: AREA,
        name: "null and empty keys and values stay apart",
        run: null_and_empty,
    },
    Check {
        area: AREA,
        name: "headers keep their order, their duplicates and their null values",
        run: headers,
    },
    Check {
        area: AREA,
        name: "CreateTime: the producer's timestamps are kept, and none is answered",
        run: create_time,
    },
    Check {
        area: AREA,
        name: "LogAppendTime: the broker's time replaces the producer's and is answered",
        run: log_append_time,
    },
    Check {
        area: AREA,
        name: "a timestamp more than an hour in the future is refused",
        run: future,
    },
    Check {
        area: AREA,
        name: "a topic that is to be compacted takes no record without a key",
        run: keys_for_compaction,
    },
];

fn producer(cluster: &Cluster, settings: &[(&str, &str)]) -> BaseProducer {
    let mut config = cluster.client_config();
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().expect("a producer")
}

/// Makes a value that shrinks well, and is no other's.
fn value(codec: &str, number: usize) -> String {
    format!("{codec} {number} {}", "abcdefgh".repeat(40))
}

fn codecs_of_librdkafka(cluster: &Cluster) {
    const EACH: usize = 200;
    let topic = topic_with(cluster, "codecs", &[]);
    let mut sent = Vec::new();
    for (codec, _) in CODECS {
        let producer = producer(cluster, &[("compression.type", codec), ("linger.ms", "20")]);
        for number in 0..EACH {
            let value = value(codec, number);
            let record = BaseRecord::<str, str>::to(&topic).payload(&value);
            producer.send(record).map_err(|(error, _)| error).expect("queued");
            sent.push(value);
        }
        producer.flush(PATIENCE).expect("delivered");
    }
    let read: Vec<String> = cluster.records(&topic).iter().map(payload).collect();
    assert_eq!(read, sent);
}

fn payload(message: &OwnedMessage) -> String {
    String::from_utf8_lossy(message.payload().expect("a value")).into_owned()
}

fn codecs_as_sent(cluster: &Cluster) {
    let topic = topic_with(cluster, "as-sent", &[]);
    let mut raw = Raw::connect(cluster);
    let mut offset = 0;
    for (codec, compression) in CODECS {
        let values: Vec<String> = (0..50).map(|number| value(codec, number)).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let producer = raw.init_producer(None);
        let batch = encode(&producer.records(0, &values), compression);
        assert_eq!(raw.store(&topic, 0, &batch), offset, "{codec}");
        let read = raw.fetch(&topic, 0, offset, &Fetch::default());
        let stored = read.records.clone().expect("records");
        // All but what the broker fills in: the offset and the leader's epoch. The checksum does not cover these.
        assert_eq!(stored[17..], batch[17..], "{codec}");
        let decoded = RecordBatchDecoder::decode(&mut stored.clone()).expect("a batch");
        assert_eq!(decoded.compression, compression);
        let read: Vec<_> = decoded
            .records
            .iter()
            .map(|record| record.value.as_deref().unwrap_or_default())
            .collect();
        assert!(
            read.iter()
                .zip(&values)
                .all(|(read, sent)| *read == sent.as_bytes()),
            "{codec}"
        );
        assert_eq!(decoded.records[0].offset, offset);
        offset += 50;
    }
}

fn bad_compression(cluster: &Cluster) {
    let topic = topic_with(cluster, "bad-codec", &[]);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &super::raw::plain(&["good"]));
    let resealed = |mut batch: Vec<u8>| {
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        Bytes::from(batch)
    };
    let mut unknown = super::raw::plain(&["x"]).to_vec();
    unknown[22] |= 7;
    let answer = raw.produce(&topic, 0, resealed(unknown));
    assert_ne!(error(answer.error_code), None, "codec 7");
    for (codec, compression) in &CODECS[1..] {
        let records = Producer::NONE.records(-1, &[&value(codec, 1)]);
        let mut batch = encode(&records, *compression).to_vec();
        let body = batch.len() - 61;
        batch[61..].copy_from_slice(&vec![0xA5; body]);
        let answer = raw.produce(&topic, 0, resealed(batch));
        assert_ne!(error(answer.error_code), None, "{codec}");
    }
    assert_eq!(raw.list_offset(&topic, 0, -1).offset, 1);
}

fn null_and_empty(cluster: &Cluster) {
    let topic = topic_with(cluster, "nulls", &[]);
    let producer = producer(cluster, &[]);
    let sent: [(Option<&str>, Option<&str>); 5] = [
        (None, Some("value")),
        (Some("key"), None),
        (None, None),
        (Some(""), Some("")),
        (Some("key"), Some("value")),
    ];
    for (key, value) in sent {
        let mut record = BaseRecord::<str, str>::to(&topic).partition(0);
        record.key = key;
        record.payload = value;
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(PATIENCE).expect("delivered");
    let mut raw = Raw::connect(cluster);
    let read = records(&raw.fetch(&topic, 0, 0, &Fetch::default()));
    let read: Vec<_> = read
        .iter()
        .map(|record| (record.key.as_deref(), record.value.as_deref()))
        .collect();
    let sent = sent.map(|(key, value)| (key.map(str::as_bytes), value.map(str::as_bytes)));
    assert_eq!(read, sent);
}

fn headers(cluster: &Cluster) {
    let topic = topic_with(cluster, "headers", &[]);
    let producer = producer(cluster, &[("compression.type", "gzip")]);
    let sent = [
        ("z", Some("1")),
        ("a", Some("2")),
        ("a", Some("3")),
        ("null", None),
        ("", Some("")),
        ("a", Some("2")),
    ];
    let headers = sent.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: *value })
    });
    let record = BaseRecord::<str, str>::to(&topic).payload("x").headers(headers);
    producer.send(record).map_err(|(error, _)| error).expect("queued");
    let bare = BaseRecord::<str, str>::to(&topic).payload("y");
    producer.send(bare).map_err(|(error, _)| error).expect("queued");
    producer.flush(PATIENCE).expect("delivered");
    let records = cluster.records(&topic);
    let read: Vec<_> = records[0]
        .headers()
        .expect("headers")
        .iter()
        .map(|header| (header.key, header.value))
        .collect();
    assert_eq!(read, sent.map(|(key, value)| (key, value.map(str::as_bytes))));
    assert!(records[1].headers().is_none_or(|headers| headers.count() == 0));
}

/// Makes records with these timestamps.
fn records_at(times: &[i64]) -> Vec<Record> {
    let values = vec!["x"; times.len()];
    let mut records = Producer::NONE.records(-1, &values);
    for (record, time) in records.iter_mut().zip(times) {
        record.timestamp = *time;
        record.headers.insert(StrBytes::from_static_str("h"), None);
    }
    records
}

fn create_time(cluster: &Cluster) {
    let topic = topic_with(
        cluster,
        "create-time",
        &[("message.timestamp.type", "CreateTime")],
    );
    let mut raw = Raw::connect(cluster);
    let now = Clock::system().now().as_millis();
    let times = [now - 5_000, now - 9_000, now - 1_000];
    raw.store(&topic, 0, &super::raw::plain(&["first"]));
    let answer = raw.produce(&topic, 0, encode(&records_at(&times), Compression::Zstd));
    assert_eq!((answer.error_code, answer.log_append_time_ms), (0, -1));
    let read = records(&raw.fetch(&topic, 0, 1, &Fetch::default()));
    let read: Vec<_> = read
        .iter()
        .map(|record| (record.timestamp_type, record.timestamp))
        .collect();
    assert_eq!(read, times.map(|time| (TimestampType::Creation, time)));
    let read: Vec<_> = cluster.records(&topic)[1..]
        .iter()
        .map(rdkafka::Message::timestamp)
        .collect();
    assert_eq!(read, times.map(Timestamp::CreateTime));
}

fn log_append_time(cluster: &Cluster) {
    let topic = topic_with(
        cluster,
        "append-time",
        &[("message.timestamp.type", "LogAppendTime")],
    );
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &super::raw::plain(&["first"]));
    let before = Clock::system().now().as_millis();
    let long_ago = before - 40 * 86_400_000;
    for compression in [Compression::None, Compression::Gzip] {
        let batch = encode(&records_at(&[long_ago, long_ago + 7]), compression);
        let answer = raw.produce(&topic, 0, batch);
        let after = Clock::system().now().as_millis();
        assert_eq!(error(answer.error_code), None);
        let at = answer.log_append_time_ms;
        assert!(
            (before..=after).contains(&at),
            "{at} is not in {before}..={after}"
        );
        let read = records(&raw.fetch(&topic, 0, answer.base_offset, &Fetch::default()));
        let times: Vec<_> = read
            .iter()
            .map(|record| (record.timestamp_type, record.timestamp))
            .collect();
        assert!(
            times.iter().all(|(kind, _)| *kind == TimestampType::LogAppend),
            "{times:?}"
        );
        // To librdkafka and to the Java clients it is the batch's latest time, whatever the records' deltas say.
        let seen = cluster.records(&topic);
        let first = usize::try_from(answer.base_offset).expect("an offset");
        for record in &seen[first..] {
            assert_eq!(record.timestamp(), Timestamp::LogAppendTime(at));
        }
        assert_eq!(raw.list_offset(&topic, 0, at).timestamp, at);
    }
}

fn future(cluster: &Cluster) {
    let topic = topic_with(cluster, "future", &[]);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &super::raw::plain(&["first"]));
    let now = Clock::system().now().as_millis();
    let near = encode(&records_at(&[now + 1_800_000]), Compression::None);
    assert_eq!(error(raw.produce(&topic, 0, near).error_code), None);
    let far = encode(&records_at(&[now, now + 5_400_000]), Compression::None);
    let answer = raw.produce(&topic, 0, far);
    assert_eq!(error(answer.error_code), Some(ResponseError::InvalidTimestamp));
    assert_eq!(raw.list_offset(&topic, 0, -1).offset, 2);
}

fn keys_for_compaction(cluster: &Cluster) {
    let topic = topic_with(cluster, "keys", &[("cleanup.policy", "compact")]);
    let mut raw = Raw::connect(cluster);
    let mut records = Producer::NONE.records(-1, &["a", "b"]);
    for record in &mut records {
        record.key = Some(Bytes::from_static(b"key"));
    }
    raw.store(&topic, 0, &encode(&records, Compression::Gzip));
    records[1].key = None;
    for compression in [Compression::None, Compression::Gzip] {
        let answer = raw.produce(&topic, 0, encode(&records, compression));
        assert_eq!(error(answer.error_code), Some(ResponseError::InvalidRecord));
    }
    assert_eq!(raw.list_offset(&topic, 0, -1).offset, 2);
}
