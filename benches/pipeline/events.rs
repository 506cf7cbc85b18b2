//! Writes events to `front.events` as the receiver would.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use frontstream::model::{ConversationId, Event, EventId, Kind, Priority, Source, TenantId, Timestamp};
use frontstream::wire::{Encoding, event_v1};
use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use crate::cluster::{Bench, Topics};
use crate::process::PATIENCE;

/// A body of Front's, 1,880 bytes: with the other fields an event has 2 KB.
const PAYLOAD: &[u8] = include_bytes!("../../tests/data/front/application/conversation_deleted.json");

/// A generator that makes the same numbers in every run (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

#[derive(Default)]
struct Deliveries {
    stored: AtomicU64,
    failed: AtomicU64,
}

struct Context(Arc<Deliveries>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() {
            &self.0.stored
        } else {
            &self.0.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A producer of events.
pub(crate) struct Writer {
    client: BaseProducer<Context>,
    topic: String,
    value: Vec<u8>,
    deliveries: Arc<Deliveries>,
    pub(crate) sent: u64,
}

impl Writer {
    /// For a backlog a long `linger` makes large batches; at a steady rate none keeps the events' age true.
    pub(crate) fn new(bench: &Bench, topics: &Topics, linger: Duration) -> anyhow::Result<Self> {
        let deliveries = Arc::<Deliveries>::default();
        let mut config = bench.client();
        config
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("batch.size", "1000000")
            .set("linger.ms", linger.as_millis().to_string());
        let context = Context(Arc::clone(&deliveries));
        Ok(Self {
            client: BaseProducer::from_config_and_context(&config, context)?,
            topic: topics.names.events.clone(),
            value: Vec::new(),
            deliveries,
            sent: 0,
        })
    }

    /// Hands over one event; its record has the event's time of receipt, as the receiver's records have.
    pub(crate) fn event(
        &mut self,
        conversation: &str,
        priority: Priority,
        received_at: Timestamp,
    ) -> anyhow::Result<()> {
        let kind = match priority {
            Priority::High => "message.received",
            Priority::Medium => "conversation.assigned",
            Priority::Low => "conversation.tagged",
        };
        let event = Event {
            tenant: TenantId::new("cmp_3k9dz").context("not empty")?,
            conversation: ConversationId::new(conversation),
            id: EventId::new(format!("evt_{:09x}", self.sent)).context("not empty")?,
            kind: Kind::new(kind).context("not empty")?,
            front_type: Some("inbound_received".into()),
            front_inner_type: Some("inbound".into()),
            priority,
            source: Source::Webhook,
            emitted_at: received_at,
            received_at,
            payload: Some(bytes::Bytes::from_static(PAYLOAD)),
        };
        self.value.clear();
        event_v1::write(&mut self.value, Encoding::SingleObject, &event);
        let mut record = BaseRecord::<str, [u8]>::to(&self.topic)
            .key(conversation)
            .payload(&self.value)
            .timestamp(received_at.as_millis());
        loop {
            match self.client.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                    record = unsent;
                    self.client.poll(Duration::from_millis(10));
                }
                Err((error, _)) => return Err(error).context("handing over an event"),
            }
        }
        self.sent += 1;
        self.serve(Duration::ZERO);
        Ok(())
    }

    /// Takes delivery reports, for at most `wait`.
    pub(crate) fn serve(&self, wait: Duration) {
        self.client.poll(wait);
    }

    /// Waits until everything is stored.
    pub(crate) fn finish(self) -> anyhow::Result<u64> {
        self.client.flush(PATIENCE).context("storing the events")?;
        let stored = self.deliveries.stored.load(Ordering::Relaxed);
        ensure!(
            stored == self.sent,
            "{} of {} events were not stored",
            self.deliveries.failed.load(Ordering::Relaxed),
            self.sent
        );
        Ok(stored)
    }
}
