//! Storing records: acknowledgements, sequences of idempotent producers, limits, refusals.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::records::Compression;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::Check;
use super::raw::{Fetch, PRODUCE, Producer, Raw, encode, error, plain, produce_request, topic_name, values};
use crate::support::Cluster;
use crate::support::process::PATIENCE;

const AREA: &str = "Produce";

pub(super) const CHECKS: &[Check] = &[
    Check {
        area: AREA,
        name: "batches get consecutive offsets",
        run: consecutive_offsets,
    },
    Check {
        area: AREA,
        name: "acks 1 and all are answered, acks 0 is not but stored, another number is refused",
        run: acks,
    },
    Check {
        area: AREA,
        name: "an unknown topic or partition is refused, and the others of the request are stored",
        run: unknown_partitions,
    },
    Check {
        area: AREA,
        name: "idempotent: every producer gets an id of its own",
        run: own_ids,
    },
    Check {
        area: AREA,
        name: "idempotent: a batch that is sent again is answered with its offset and stored once, up to five batches back",
        run: sent_again,
    },
    Check {
        area: AREA,
        name: "idempotent: an older batch that is sent again is refused",
        run: sent_again_too_late,
    },
    Check {
        area: AREA,
        name: "idempotent: a gap in the sequence is refused, and the right batch goes on",
        run: gap,
    },
    Check {
        area: AREA,
        name: "idempotent: a batch that overlaps what is stored is refused",
        run: overlap,
    },
    Check {
        area: AREA,
        name: "idempotent: a producer that the partition does not know may begin anywhere",
        run: unknown_producer,
    },
    Check {
        area: AREA,
        name: "idempotent: a newer epoch begins at 0, and an older one is refused then",
        run: epochs,
    },
    Check {
        area: AREA,
        name: "idempotent: after the greatest sequence number comes 0",
        run: wrapped_sequence,
    },
    Check {
        area: AREA,
        name: "idempotent: producers and partitions do not disturb each other",
        run: independent_sequences,
    },
    Check {
        area: AREA,
        name: "idempotent: librdkafka stores thousands of records in order",
        run: librdkafka_idempotent,
    },
    Check {
        area: AREA,
        name: "a batch beyond max.message.bytes is refused, the topic's own or the default",
        run: too_large,
    },
    Check {
        area: AREA,
        name: "a damaged batch is refused, and nothing of it is stored",
        run: damaged,
    },
    Check {
        area: AREA,
        name: "no batch, an empty batch, two batches, an old format and a control batch are refused",
        run: not_one_good_batch,
    },
    Check {
        area: AREA,
        name: "a batch of a transaction that the partition is no part of is refused",
        run: no_transaction,
    },
];

fn topic(cluster: &Cluster, test: &str, partitions: i32) -> String {
    let topic = cluster.unique_prefix(test);
    cluster.create_topic(&topic, partitions);
    topic
}

/// Produces a batch and says at which offset it is, or why it was refused.
fn produced(raw: &mut Raw, topic: &str, batch: Bytes) -> Result<i64, ResponseError> {
    let answer = raw.produce(topic, 0, batch);
    error(answer.error_code).map_or(Ok(answer.base_offset), Err)
}

/// Reads the whole partition 0.
fn stored(raw: &mut Raw, topic: &str) -> Vec<String> {
    values(&raw.fetch(topic, 0, 0, &Fetch::default()))
}

fn consecutive_offsets(cluster: &Cluster) {
    let topic = topic(cluster, "offsets", 1);
    let mut raw = Raw::connect(cluster);
    assert_eq!(raw.store(&topic, 0, &plain(&["a", "b"])), 0);
    assert_eq!(raw.store(&topic, 0, &plain(&["c"])), 2);
    let answer = raw.produce(&topic, 0, plain(&["d", "e", "f"]));
    assert_eq!((answer.error_code, answer.base_offset), (0, 3));
    assert_eq!((answer.log_start_offset, answer.log_append_time_ms), (0, -1));
    let read = raw.fetch(&topic, 0, 0, &Fetch::default());
    let offsets: Vec<i64> = super::raw::records(&read)
        .iter()
        .map(|record| record.offset)
        .collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4, 5]);
    assert_eq!(values(&read), ["a", "b", "c", "d", "e", "f"]);
    assert_eq!((read.high_watermark, read.last_stable_offset), (6, 6));
}

fn acks(cluster: &Cluster) {
    let topic = topic(cluster, "acks", 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["first"]));
    for (acks, value) in [(1, "one"), (-1, "all")] {
        let request = produce_request(&topic, &[(0, plain(&[value]))]).with_acks(acks);
        let answer = raw.ask(PRODUCE, &request);
        assert_eq!(
            answer.responses[0].partition_responses[0].error_code, 0,
            "acks {acks}"
        );
    }
    raw.send(
        PRODUCE,
        &produce_request(&topic, &[(0, plain(&["none"]))]).with_acks(0),
    );
    // The next answer is that of the next request: there was none for this one.
    assert_eq!(produced(&mut raw, &topic, plain(&["last"])), Ok(4));
    assert_eq!(stored(&mut raw, &topic), ["first", "one", "all", "none", "last"]);
    let answer = raw.ask(
        PRODUCE,
        &produce_request(&topic, &[(0, plain(&["two"]))]).with_acks(2),
    );
    assert_eq!(
        error(answer.responses[0].partition_responses[0].error_code),
        Some(ResponseError::InvalidRequiredAcks)
    );
    assert_eq!(stored(&mut raw, &topic).len(), 5);
}

fn unknown_partitions(cluster: &Cluster) {
    let topic = topic(cluster, "known", 2);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["zero"]));
    raw.store(&topic, 1, &plain(&["one"]));
    let mut request = produce_request(
        &topic,
        &[(0, plain(&["a"])), (2, plain(&["b"])), (1, plain(&["c"]))],
    );
    let other: ProduceRequest = produce_request("nobody-made-this", &[(0, plain(&["d"]))]);
    let other: Vec<TopicProduceData> = other.topic_data;
    request.topic_data.extend(other);
    let answer = raw.ask(PRODUCE, &request);
    let code = |name: &str, partition: i32| {
        let topic = answer
            .responses
            .iter()
            .find(|topic| topic.name == topic_name(name));
        let partitions = &topic.expect("each topic is answered").partition_responses;
        let found = partitions.iter().find(|answer| answer.index == partition);
        error(found.expect("each partition is answered").error_code)
    };
    assert_eq!(code(&topic, 0), None);
    assert_eq!(code(&topic, 1), None);
    assert_eq!(code(&topic, 2), Some(ResponseError::UnknownTopicOrPartition));
    assert_eq!(
        code("nobody-made-this", 0),
        Some(ResponseError::UnknownTopicOrPartition)
    );
    assert_eq!(stored(&mut raw, &topic), ["zero", "a"]);
    assert_eq!(values(&raw.fetch(&topic, 1, 0, &Fetch::default())), ["one", "c"]);
}

fn own_ids(cluster: &Cluster) {
    let mut raw = Raw::connect(cluster);
    let producers = [(); 3].map(|()| raw.init_producer(None));
    for producer in producers {
        assert!(producer.id >= 0);
        assert_eq!(producer.epoch, 0);
        assert_eq!(producers.iter().filter(|other| **other == producer).count(), 1);
    }
}

fn sent_again(cluster: &Cluster) {
    let topic = topic(cluster, "again", 1);
    let mut raw = Raw::connect(cluster);
    let producer = raw.init_producer(None);
    let batches: Vec<Bytes> = (0..5)
        .map(|number| producer.batch(2 * number, &[&format!("{number}a"), &format!("{number}b")]))
        .collect();
    for (offset, batch) in (0..).step_by(2).zip(&batches) {
        assert_eq!(raw.store(&topic, 0, batch), offset);
    }
    for (offset, batch) in (0..).step_by(2).zip(&batches) {
        assert_eq!(produced(&mut raw, &topic, batch.clone()), Ok(offset), "again");
    }
    assert_eq!(stored(&mut raw, &topic).len(), 10);
    // A connection of its own makes no difference.
    let mut other = Raw::connect(cluster);
    assert_eq!(produced(&mut other, &topic, batches[4].clone()), Ok(8));
    assert_eq!(
        produced(&mut other, &topic, producer.batch(10, &["next"])),
        Ok(10)
    );
    assert_eq!(stored(&mut raw, &topic).len(), 11);
}

fn sent_again_too_late(cluster: &Cluster) {
    let topic = topic(cluster, "late", 1);
    let mut raw = Raw::connect(cluster);
    let producer = raw.init_producer(None);
    for sequence in 0..6 {
        raw.store(&topic, 0, &producer.batch(sequence, &["x"]));
    }
    assert_eq!(
        produced(&mut raw, &topic, producer.batch(0, &["x"])),
        Err(ResponseError::OutOfOrderSequenceNumber)
    );
    assert_eq!(produced(&mut raw, &topic, producer.batch(1, &["x"])), Ok(1));
    assert_eq!(stored(&mut raw, &topic).len(), 6);
}

fn gap(cluster: &Cluster) {
    let topic = topic(cluster, "gap", 1);
    let mut raw = Raw::connect(cluster);
    let producer = raw.init_producer(None);
    raw.store(&topic, 0, &producer.batch(0, &["a", "b"]));
    assert_eq!(
        produced(&mut raw, &topic, producer.batch(3, &["d"])),
        Err(ResponseError::OutOfOrderSequenceNumber)
    );
    assert_eq!(produced(&mut raw, &topic, producer.batch(2, &["c"])), Ok(2));
    assert_eq!(produced(&mut raw, &topic, producer.batch(3, &["d"])), Ok(3));
    assert_eq!(stored(&mut raw, &topic), ["a", "b", "c", "d"]);
}

fn overlap(cluster: &Cluster) {
    let topic = topic(cluster, "overlap", 1);
    let mut raw = Raw::connect(cluster);
    let producer = raw.init_producer(None);
    raw.store(&topic, 0, &producer.batch(0, &["a", "b", "c"]));
    for (sequence, values) in [(0, &["a", "b"][..]), (1, &["b", "c"]), (2, &["c", "d"])] {
        assert_eq!(
            produced(&mut raw, &topic, producer.batch(sequence, values)),
            Err(ResponseError::OutOfOrderSequenceNumber),
            "{values:?}"
        );
    }
    assert_eq!(stored(&mut raw, &topic), ["a", "b", "c"]);
}

fn unknown_producer(cluster: &Cluster) {
    let topic = topic(cluster, "unknown", 1);
    let mut raw = Raw::connect(cluster);
    let producer = raw.init_producer(None);
    assert_eq!(raw.store(&topic, 0, &producer.batch(7, &["a"])), 0);
    assert_eq!(produced(&mut raw, &topic, producer.batch(8, &["b"])), Ok(1));
    assert_eq!(
        produced(&mut raw, &topic, producer.batch(0, &["c"])),
        Err(ResponseError::OutOfOrderSequenceNumber),
        "known by now"
    );
}

fn epochs(cluster: &Cluster) {
    let topic = topic(cluster, "epochs", 1);
    let mut raw = Raw::connect(cluster);
    let old = raw.init_producer(None);
    let new = Producer {
        epoch: old.epoch + 1,
        ..old
    };
    raw.store(&topic, 0, &old.batch(0, &["a"]));
    assert_eq!(
        produced(&mut raw, &topic, new.batch(1, &["b"])),
        Err(ResponseError::OutOfOrderSequenceNumber)
    );
    assert_eq!(produced(&mut raw, &topic, new.batch(0, &["c"])), Ok(1));
    assert_eq!(
        produced(&mut raw, &topic, old.batch(1, &["d"])),
        Err(ResponseError::InvalidProducerEpoch)
    );
    assert_eq!(stored(&mut raw, &topic), ["a", "c"]);
}

fn wrapped_sequence(cluster: &Cluster) {
    let topic = topic(cluster, "wraps", 1);
    let mut raw = Raw::connect(cluster);
    let producer = raw.init_producer(None);
    raw.store(&topic, 0, &producer.batch(i32::MAX - 2, &["a", "b"]));
    let across = encode(&across_the_end(producer), Compression::None);
    assert_eq!(produced(&mut raw, &topic, across.clone()), Ok(2));
    assert_eq!(produced(&mut raw, &topic, across), Ok(2), "again");
    assert_eq!(produced(&mut raw, &topic, producer.batch(1, &["e"])), Ok(4));
    assert_eq!(stored(&mut raw, &topic), ["a", "b", "c", "d", "e"]);
}

/// Makes the records with the greatest sequence number and with 0: in one batch, whose header has the first only.
fn across_the_end(producer: Producer) -> Vec<kafka_protocol::records::Record> {
    producer.records(i32::MAX, &["c", "d"])
}

fn independent_sequences(cluster: &Cluster) {
    let topic = topic(cluster, "independent", 2);
    let mut raw = Raw::connect(cluster);
    let (one, other) = (raw.init_producer(None), raw.init_producer(None));
    raw.store(&topic, 0, &one.batch(0, &["a"]));
    raw.store(&topic, 1, &one.batch(0, &["b"]));
    raw.store(&topic, 0, &other.batch(0, &["c"]));
    assert_eq!(produced(&mut raw, &topic, plain(&["nobody's"])), Ok(2));
    assert_eq!(produced(&mut raw, &topic, one.batch(1, &["d"])), Ok(3));
    assert_eq!(produced(&mut raw, &topic, other.batch(1, &["e"])), Ok(4));
    assert_eq!(produced(&mut raw, &topic, one.batch(0, &["a"])), Ok(0), "again");
    assert_eq!(stored(&mut raw, &topic), ["a", "c", "nobody's", "d", "e"]);
}

fn librdkafka_idempotent(cluster: &Cluster) {
    const RECORDS: usize = 5_000;
    let topic = topic(cluster, "idempotent", 1);
    let mut config = cluster.client_config();
    config.set("enable.idempotence", "true").set("linger.ms", "1");
    // Many small batches, five of them on their way at once.
    config.set("batch.num.messages", "20");
    let producer: BaseProducer = config.create().expect("a producer");
    for number in 0..RECORDS {
        let value = number.to_string();
        let record = BaseRecord::<str, str>::to(&topic).payload(&value);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(PATIENCE).expect("delivered");
    let records = cluster.records(&topic);
    assert_eq!(records.len(), RECORDS);
    for (number, record) in records.iter().enumerate() {
        use rdkafka::Message as _;
        assert_eq!(record.payload(), Some(number.to_string().as_bytes()));
    }
}

fn too_large(cluster: &Cluster) {
    let topic = topic(cluster, "large", 1);
    let mut raw = Raw::connect(cluster);
    // The limit is of the whole batch. From a million on, all lengths in it take the same room.
    let million = plain(&[&"x".repeat(1_000_000)]).len();
    let fits = "x".repeat(1_000_000 + 1_048_588 - million);
    assert_eq!(produced(&mut raw, &topic, plain(&[&fits])), Ok(0));
    assert_eq!(
        produced(&mut raw, &topic, plain(&[&format!("{fits}x")])),
        Err(ResponseError::MessageTooLarge)
    );
    let own = small_topic(cluster);
    raw.store(&own, 0, &plain(&[&"x".repeat(400)]));
    assert_eq!(
        produced(&mut raw, &own, plain(&[&"x".repeat(500)])),
        Err(ResponseError::MessageTooLarge)
    );
    assert_eq!(stored(&mut raw, &own).len(), 1);
    assert_eq!(raw.list_offset(&topic, 0, -1).offset, 1);
}

/// Makes a topic that takes batches of 500 bytes.
fn small_topic(cluster: &Cluster) -> String {
    super::configs::topic_with(cluster, "small", &[("max.message.bytes", "500")])
}

fn damaged(cluster: &Cluster) {
    let topic = topic(cluster, "damaged", 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["good"]));
    let good = plain(&["bad"]);
    let mut flipped = good.to_vec();
    *flipped.last_mut().expect("not empty") ^= 1;
    let mut wrong_crc = good.to_vec();
    wrong_crc[17] ^= 0xFF;
    for bytes in [flipped, wrong_crc] {
        assert_eq!(
            produced(&mut raw, &topic, bytes.into()),
            Err(ResponseError::CorruptMessage)
        );
    }
    assert_eq!(produced(&mut raw, &topic, good), Ok(1));
    assert_eq!(stored(&mut raw, &topic), ["good", "bad"]);
}

fn not_one_good_batch(cluster: &Cluster) {
    let topic = topic(cluster, "not-one", 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["good"]));
    let two = [plain(&["a"]), plain(&["b"])].concat();
    let mut control = Producer::NONE.records(-1, &["c"]);
    control[0].control = true;
    let mut old = plain(&["d"]).to_vec();
    old[16] = 1;
    for (what, bytes) in [
        ("no batch", Bytes::new()),
        ("an empty batch", empty_batch()),
        ("two batches", two.into()),
        ("an old format", old.into()),
        ("a control batch", encode(&control, Compression::None)),
    ] {
        assert_eq!(
            produced(&mut raw, &topic, bytes),
            Err(ResponseError::InvalidRecord),
            "{what}"
        );
    }
    assert_eq!(stored(&mut raw, &topic), ["good"]);
}

fn no_transaction(cluster: &Cluster) {
    let topic = topic(cluster, "no-transaction", 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["good"]));
    let producer = raw.init_producer(Some(&topic));
    let batch = producer.transactional_batch(0, &["x"]);
    let named = raw.produce_as(Some(&topic), &topic, 0, batch.clone());
    assert_eq!(error(named.error_code), Some(ResponseError::TransactionAbortable));
    let nameless = raw.produce(&topic, 0, batch);
    assert_ne!(error(nameless.error_code), None);
    assert_eq!(stored(&mut raw, &topic), ["good"]);
}

/// Makes the header of a batch with no records behind it.
fn empty_batch() -> Bytes {
    const HEADER: usize = 61;
    let mut batch = plain(&["x"])[..HEADER].to_vec();
    // What the length counts begins after it.
    batch[8..12].copy_from_slice(&49_u32.to_be_bytes());
    batch[57..].copy_from_slice(&0_u32.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}
