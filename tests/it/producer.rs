//! The producer against librdkafka's mock of a cluster: what a record holds, and how errors are sorted.
//!
//! The mock injects the errors that a real broker seldom makes; what it cannot show (durability, fencing) is the
//! real broker's to show.

#![expect(clippy::unwrap_used, reason = "clippy does not take these helpers for tests")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use frontstream::kafka::{self, TopicNames};
use frontstream::model::{ConversationId, Event, EventId, Kind, Priority, Source, TenantId, Timestamp};
use frontstream::produce::{DeadLetter, Encoding, Error, Producer, Settings, Traceparent};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const EVENTS: &str = "test.front.events";
const DEAD_LETTERS: &str = "test.front.dead-letters";

pub(crate) struct Cluster {
    pub(crate) mock: MockCluster<'static, DefaultProducerContext>,
    pub(crate) registry: prometheus::Registry,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic(EVENTS, 12, 1).unwrap();
        mock.create_topic(DEAD_LETTERS, 3, 1).unwrap();
        Self {
            mock,
            registry: prometheus::Registry::new(),
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            kafka: kafka::Settings {
                brokers: self.mock.bootstrap_servers(),
                client_id: "test".into(),
                properties: BTreeMap::new(),
            },
            topics: TopicNames::with_prefix("test."),
            linger: Duration::ZERO,
            message_timeout: PATIENCE,
            message_bytes_max: 2_000_000,
            queue_bytes_max: 64 << 20,
        }
    }

    fn producer(&self, settings: &Settings) -> Producer {
        Producer::start(settings, encoding(), &self.registry).unwrap()
    }

    /// Reads the one record of a topic.
    pub(crate) fn record(&self, topic: &str, partitions: i32) -> Record {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.mock.bootstrap_servers())
            .set("group.id", "test")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&list).unwrap();
        let message = consumer.poll(PATIENCE).unwrap().unwrap();
        let headers = message.headers().unwrap().iter();
        Record {
            partition: message.partition(),
            key: message.key().map(|key| String::from_utf8(key.to_vec()).unwrap()),
            value: message.payload().unwrap().to_vec(),
            at: message.timestamp().to_millis().unwrap(),
            headers: headers
                .map(|header| {
                    (
                        header.key.to_owned(),
                        String::from_utf8(header.value.unwrap().to_vec()).unwrap(),
                    )
                })
                .collect(),
        }
    }

    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let of_label = family
            .get_metric()
            .iter()
            .filter(|metric| label.is_empty() || metric.get_label().iter().any(|one| one.value() == label));
        of_label
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
            .sum()
    }
}

#[derive(Debug)]
pub(crate) struct Record {
    partition: i32,
    pub(crate) key: Option<String>,
    pub(crate) value: Vec<u8>,
    at: i64,
    headers: Vec<(String, String)>,
}

pub(crate) fn encoding() -> Encoding {
    Encoding {
        value: Arc::new(|event| match event.kind.as_str() {
            "explode" => panic!("the encoder exploded"),
            "unencodable" => Err(Error::Unavailable("no schema yet".into())),
            _ => Ok(event.payload.as_deref().unwrap_or_default().to_vec()),
        }),
        headers: Arc::new(|event, trace| {
            let id = [("ce_id", Cow::Borrowed(event.id.as_str()))];
            id.into_iter()
                .chain(trace.map(|trace| ("traceparent", Cow::Borrowed(trace))))
                .collect()
        }),
    }
}

fn event(conversation: Option<&str>, kind: &str, payload: impl Into<Bytes>) -> Event {
    Event {
        tenant: TenantId::new("acme").unwrap(),
        conversation: conversation.and_then(ConversationId::new),
        id: EventId::new("evt_1").unwrap(),
        kind: Kind::new(kind).unwrap(),
        front_type: None,
        front_inner_type: None,
        priority: Priority::High,
        source: Source::Webhook,
        emitted_at: Timestamp::from_millis(1_700_000_000_000),
        received_at: Timestamp::from_millis(1_795_000_000_500),
        payload: Some(payload.into()),
    }
}

#[tokio::test]
async fn a_record_holds_what_the_topic_promises() {
    let cluster = Cluster::new();
    let producer = cluster.producer(&cluster.settings());
    let trace = Traceparent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let stored = producer
        .handle()
        .store(vec![event(Some("cnv_1k7p3xq8"), "tag", "body")], trace)
        .await;
    assert_eq!(stored, Ok(()));
    let record = cluster.record(EVENTS, 12);
    assert_eq!(
        (record.key.as_deref(), &record.value[..]),
        (Some("cnv_1k7p3xq8"), &b"body"[..])
    );
    assert_eq!(record.at, 1_795_000_000_500, "the time of receipt");
    // By the Java clients' murmur2 of the key, its sign cut off, modulo 12.
    assert_eq!(record.partition, MURMUR2_OF_KEY_MODULO_12);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers =
        [("ce_id", "evt_1"), ("traceparent", trace)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(record.headers, headers);
    assert_eq!(
        cluster.metric("frontstream_producer_records_total", "events"),
        1.0
    );
    assert_eq!(cluster.metric("frontstream_producer_queue_records", ""), 0.0);
}

const MURMUR2_OF_KEY_MODULO_12: i32 = 6;

#[tokio::test]
async fn an_event_without_a_conversation_goes_by_its_id() {
    let cluster = Cluster::new();
    let producer = cluster.producer(&cluster.settings());
    assert_eq!(
        producer
            .handle()
            .store(vec![event(None, "tag", "body")], None)
            .await,
        Ok(())
    );
    assert_eq!(cluster.record(EVENTS, 12).key.as_deref(), Some("evt_1"));
}

#[tokio::test]
async fn a_dead_letter_is_the_bytes_as_received() {
    let cluster = Cluster::new();
    let producer = cluster.producer(&cluster.settings());
    let letter = DeadLetter {
        body: Bytes::from_static(b"{\xff"),
        headers: vec![("frontstream-reason", "not_utf8".to_owned())],
        received_at: Timestamp::from_millis(1_795_000_000_500),
    };
    assert_eq!(producer.handle().store_dead_letter(letter).await, Ok(()));
    let record = cluster.record(DEAD_LETTERS, 3);
    assert_eq!(
        (record.key, &record.value[..], record.at),
        (None, &b"{\xff"[..], 1_795_000_000_500)
    );
    assert_eq!(
        record.headers,
        [("frontstream-reason".to_owned(), "not_utf8".to_owned())]
    );
    assert_eq!(
        cluster.metric("frontstream_producer_records_total", "dead_letters"),
        1.0
    );
}

#[tokio::test]
async fn errors_are_sorted_by_what_to_do_about_them() {
    let cluster = Cluster::new();
    let producer = cluster.producer(&cluster.settings());
    let handle = producer.handle();
    let one = || vec![event(Some("cnv_1"), "tag", "body")];
    let inject = |errors: &[RDKafkaRespErr]| cluster.mock.request_errors(RDKafkaApiKey::Produce, errors);

    inject(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS]);
    assert_eq!(
        handle.store(one(), None).await,
        Ok(()),
        "the client tries again by itself"
    );
    inject(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    assert!(matches!(handle.store(one(), None).await, Err(Error::Reject(_))));
    let large = vec![event(Some("cnv_1"), "tag", vec![b'x'; 2_000_001])];
    assert!(
        matches!(handle.store(large, None).await, Err(Error::Reject(_))),
        "larger than the setting"
    );
    assert_eq!(
        cluster.metric("frontstream_producer_failures_total", "reject"),
        2.0
    );
}

#[tokio::test]
async fn nothing_is_sent_of_a_batch_that_cannot_be_encoded() {
    let cluster = Cluster::new();
    let producer = cluster.producer(&cluster.settings());
    let batch = vec![
        event(Some("cnv_1"), "tag", "first"),
        event(Some("cnv_1"), "unencodable", "second"),
    ];
    let stored = producer.handle().store(batch, None).await;
    assert!(matches!(stored, Err(Error::Unavailable(_))), "{stored:?}");
    assert_eq!(
        cluster.metric("frontstream_producer_failures_total", "unavailable"),
        1.0
    );
    assert_eq!(
        producer
            .handle()
            .store(vec![event(Some("cnv_1"), "tag", "third")], None)
            .await,
        Ok(())
    );
    assert_eq!(
        cluster.record(EVENTS, 12).value,
        b"third",
        "the first record there is"
    );
}

#[tokio::test]
async fn a_broker_that_is_away_is_no_more_than_unavailable() {
    let cluster = Cluster::new();
    let mut settings = cluster.settings();
    settings.message_timeout = Duration::from_millis(500);
    let producer = cluster.producer(&settings);
    cluster.mock.broker_down(1).unwrap();
    let stored = producer
        .handle()
        .store(vec![event(Some("cnv_1"), "tag", "body")], None)
        .await;
    assert!(matches!(stored, Err(Error::Unavailable(_))), "{stored:?}");
    assert!(producer.probe(Duration::from_millis(300)).await.is_err());
    cluster.mock.broker_up(1).unwrap();
    assert_eq!(producer.probe(PATIENCE).await, Ok(()));
}

#[tokio::test]
async fn a_full_queue_is_back_pressure_at_once() {
    let cluster = Cluster::new();
    let mut settings = cluster.settings();
    settings.queue_bytes_max = 1_000_000;
    let producer = cluster.producer(&settings);
    cluster.mock.broker_down(1).unwrap();
    let handle = producer.handle();
    let mut refused = Vec::new();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let one = vec![event(Some("cnv_1"), "tag", vec![b'x'; 400_000])];
        let handle = handle.clone();
        let mut storing = Box::pin(async move { handle.store(one, None).await });
        match poll_once(&mut storing).await {
            Some(outcome) => refused.push(outcome),
            None => drop(waiting.spawn(storing)),
        }
    }
    assert_eq!(
        refused,
        [Err(Error::Backpressure), Err(Error::Backpressure)],
        "two fit"
    );
    // At least: the client counts its own notices, that the broker went away, along with the records.
    assert!(cluster.metric("frontstream_producer_queue_records", "") >= 2.0);
    cluster.mock.broker_up(1).unwrap();
    assert_eq!(waiting.join_all().await, [Ok(()), Ok(())]);
    assert_eq!(producer.flush(PATIENCE).await, Ok(()));
}

/// Polls a future once.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        let poll = std::pin::Pin::new(&mut *future).poll(cx);
        std::task::Poll::Ready(match poll {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_named_with_what_makes_it() {
    let cluster = Cluster::new();
    let mut settings = cluster.settings();
    settings.topics = TopicNames::with_prefix("other.");
    cluster
        .mock
        .topic_error(
            "other.front.events",
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        )
        .unwrap();
    let producer = cluster.producer(&settings);
    let Err(Error::Unavailable(why)) = producer.probe(PATIENCE).await else {
        panic!("found");
    };
    assert!(
        why.contains("other.front.events") && why.contains("frontstream topics create"),
        "{why}"
    );
}

#[tokio::test]
async fn a_fatal_error_is_told_to_the_role() {
    let cluster = Cluster::new();
    // What a broker says to a client that may not be idempotent.
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    cluster
        .mock
        .request_errors(RDKafkaApiKey::InitProducerId, &[error; 10]);
    let producer = cluster.producer(&cluster.settings());
    let failure = tokio::time::timeout(PATIENCE, producer.failed()).await.unwrap();
    assert!(matches!(failure, Error::Fatal(_)), "{failure:?}");
    let stored = producer
        .handle()
        .store(vec![event(Some("cnv_1"), "tag", "body")], None)
        .await;
    assert!(matches!(stored, Err(Error::Fatal(_))), "{stored:?}");
}
