//! Events for a processor to work on, and what must come of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use frontstream::lifecycle::{Clock, Instant};
use frontstream::model::{ConversationId, Event, EventId, Kind, Priority, Source, TenantId};
use frontstream::wire::{Encoding, event_v1};
use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use crate::support::process::PATIENCE;
use crate::support::{Cluster, Random, Topics};

/// What was stored: event ids by conversation.
pub(super) type Stored = BTreeMap<String, Vec<String>>;

/// Counts what was stored and refuses to go on when something was not.
struct Deliveries(Arc<AtomicU64>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => self.0.fetch_add(1, Ordering::Relaxed),
            Err((error, message)) => panic!("{} was not stored: {error}", message.topic()),
        };
    }
}

/// A producer of events with ids `evt_<name>_<number>`.
pub(super) struct Producer {
    client: BaseProducer<Deliveries>,
    topic: String,
    name: String,
    stored: Stored,
    sent: u64,
    delivered: Arc<AtomicU64>,
}

impl Producer {
    pub(super) fn new(cluster: &Cluster, topics: &Topics, name: &str) -> Self {
        let delivered = Arc::new(AtomicU64::new(0));
        let mut config = cluster.client_config();
        config
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            // The topic's limit counts, not the client's own, which is lower.
            .set("message.max.bytes", "2000000");
        let client = BaseProducer::from_config_and_context(&config, Deliveries(Arc::clone(&delivered)));
        Self {
            client: client.expect("a producer"),
            topic: topics.names.events.clone(),
            name: name.to_owned(),
            stored: Stored::new(),
            sent: 0,
            delivered,
        }
    }

    /// Stores one event of `conversation`.
    pub(super) fn event(&mut self, conversation: &str, priority: Priority) {
        let id = format!("evt_{}_{}", self.name, self.sent);
        let now = Clock::system().now();
        let event = Event {
            tenant: TenantId::new("cmp_test").expect("not empty"),
            conversation: ConversationId::new(conversation),
            id: EventId::new(id.as_str()).expect("not empty"),
            kind: Kind::new("message.received").expect("not empty"),
            front_type: Some("inbound_received".into()),
            front_inner_type: Some("inbound".into()),
            priority,
            source: Source::Webhook,
            emitted_at: now,
            received_at: now,
            payload: Some(bytes::Bytes::from_static(&[b'x'; 1_500])),
        };
        let mut value = Vec::new();
        event_v1::write(&mut value, Encoding::SingleObject, &event);
        self.raw(Some(conversation), &value, None);
        self.stored.entry(conversation.to_owned()).or_default().push(id);
    }

    /// Stores bytes as they are.
    pub(super) fn raw(&mut self, key: Option<&str>, value: &[u8], partition: Option<i32>) {
        let mut record = BaseRecord::<str, [u8]>::to(&self.topic).payload(value);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(partition) = partition {
            record = record.partition(partition);
        }
        self.client
            .send(record)
            .map_err(|(error, _)| error)
            .expect("the queue has room");
        self.sent += 1;
        self.client.poll(Duration::ZERO);
    }

    /// Waits until everything is stored.
    pub(super) fn flush(&self) {
        self.client.flush(PATIENCE).expect("everything is stored");
        assert_eq!(self.delivered.load(Ordering::Relaxed), self.sent);
    }

    /// Returns what was stored.
    pub(super) fn finish(self) -> Stored {
        self.flush();
        self.stored
    }
}

/// Bursty events at a steady rate on a thread of its own; which, follows from the rate.
pub(super) fn in_background(
    cluster: &'static Cluster,
    topics: &Topics,
    name: &str,
    per_second: u32,
    lasting: Duration,
) -> JoinHandle<Stored> {
    let mut producer = Producer::new(cluster, topics, name);
    let mut random = Random::new(u64::from(per_second));
    std::thread::spawn(move || {
        let began = Instant::now();
        while began.elapsed() < lasting {
            let due = began.elapsed().as_secs_f64() * f64::from(per_second);
            while (producer.sent as f64) < due {
                let priority = Priority::ALL[usize::try_from(random.below(3)).expect("below 3")];
                let conversation = format!("cnv_{}", random.below(200));
                producer.event(&conversation, priority);
            }
            producer.client.poll(Duration::from_millis(5));
        }
        producer.finish()
    })
}
