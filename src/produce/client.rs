//! The client underneath: an idempotent producer that answers for each record.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::Notify;

use super::metrics::{Metrics, QueueFill};
use super::{DeadLetter, Encoding, Error, Settings, Traceparent};
use crate::kafka;
use crate::lifecycle::Instant;
use crate::model::{Event, Timestamp};

/// How many records may wait for delivery: librdkafka's own default, pinned because the bound is ours to promise.
const QUEUE_RECORDS_MAX: &str = "100000";

/// How long a lost broker is left alone between attempts; librdkafka's ten seconds would outlast every answer.
const RECONNECT_BACKOFF_MAX_MS: &str = "1000";

/// The producer and what it needs to turn events into records.
pub(super) struct Client {
    producer: FutureProducer<Context>,
    encoding: Encoding,
    events_topic: Box<str>,
    dead_letters_topic: Box<str>,
    metrics: Metrics,
    trouble: Arc<Notify>,
}

impl Client {
    /// Makes the client; it connects by itself and goes on trying.
    pub(super) fn new(
        settings: &Settings,
        encoding: Encoding,
        metrics: Metrics,
        registry: &prometheus::Registry,
    ) -> Result<Arc<Self>, Error> {
        let trouble = Arc::new(Notify::new());
        let context = Context {
            trouble: Arc::clone(&trouble),
            log: kafka::ClientLog::default(),
        };
        let producer = config(settings)
            .create_with_context(context)
            .map_err(|error| Error::Fatal(refused_setting(&error).into()))?;
        let client = Arc::new(Self {
            producer,
            encoding,
            events_topic: settings.topics.events.as_str().into(),
            dead_letters_topic: settings.topics.dead_letters.as_str().into(),
            metrics,
            trouble,
        });
        QueueFill::register(registry, Arc::downgrade(&client))
            .map_err(|error| Error::Fatal(error.to_string().into()))?;
        Ok(client)
    }

    /// Returns when the client can do no more work, and why.
    pub(super) async fn failed(&self) -> Error {
        loop {
            // Asked, and not read from what is told: the client tells the cause, which alone is not fatal.
            if let Some((_, why)) = self.producer.client().fatal_error() {
                return Error::Fatal(why.into());
            }
            self.trouble.notified().await;
        }
    }

    /// Stores all of `events`, or says that not all of them are known to be stored.
    pub(super) async fn store(&self, events: Vec<Event>, trace: Option<Traceparent>) -> Result<(), Error> {
        let started = Instant::now();
        // All of them before any is sent: what cannot be encoded is no half of a batch.
        let values: Result<Vec<_>, _> = events.iter().map(|event| (self.encoding.value)(event)).collect();
        let values = self.counted(values)?;
        let mut deliveries = Vec::with_capacity(events.len());
        for (event, value) in events.iter().zip(&values) {
            deliveries.push(self.counted(self.send_event(event, value, trace.as_ref()))?);
        }
        // The client has its own copy: nothing of the request waits for the broker.
        drop((events, values));
        for delivery in deliveries {
            self.counted(delivered(delivery).await)?;
            self.metrics.events.inc();
            self.metrics.delivered_after(started.elapsed());
        }
        Ok(())
    }

    /// Sets a body aside.
    pub(super) async fn store_dead_letter(&self, letter: DeadLetter) -> Result<(), Error> {
        let started = Instant::now();
        let headers = letter
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()));
        let record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&self.dead_letters_topic)
            .payload(&letter.body[..])
            .timestamp(record_time(letter.received_at))
            .headers(owned_headers(headers));
        let delivery = self.counted(self.send(record))?;
        drop(letter);
        self.counted(delivered(delivery).await)?;
        self.metrics.dead_letters.inc();
        self.metrics.delivered_after(started.elapsed());
        Ok(())
    }

    /// Waits until nothing is in flight, at most for `timeout`; blocks.
    pub(super) fn flush(&self, timeout: Duration) -> Result<(), Error> {
        self.producer.flush(timeout).map_err(|error| Error::of(&error))
    }

    /// Asks the brokers for both topics; blocks.
    pub(super) fn probe(&self, timeout: Duration) -> Result<(), Error> {
        for topic in [&self.events_topic, &self.dead_letters_topic] {
            let metadata = self
                .producer
                .client()
                .fetch_metadata(Some(topic), timeout)
                .map_err(|error| Error::of(&error))?;
            let found = metadata.topics().iter().find(|found| found.name() == &**topic);
            let unusable = |why: &str| Error::Unavailable(format!("topic {topic}: {why}").into());
            match found {
                None => return Err(unusable("not found")),
                Some(found) => match found.error() {
                    Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => {
                        return Err(unusable("does not exist; `frontstream topics create` makes it"));
                    }
                    Some(error) => return Err(unusable(&RDKafkaErrorCode::from(error).to_string())),
                    None => {}
                },
            }
        }
        Ok(())
    }

    /// Returns how many records wait to become durable.
    pub(super) fn waiting(&self) -> i64 {
        self.producer.in_flight_count().into()
    }

    fn send_event(
        &self,
        event: &Event,
        value: &[u8],
        trace: Option<&Traceparent>,
    ) -> Result<DeliveryFuture, Error> {
        let key = event
            .conversation
            .as_ref()
            .map_or(event.id.as_str(), |conversation| conversation.as_str());
        let list = (self.encoding.headers)(event, trace.map(Traceparent::as_str));
        let headers = list.iter().map(|(name, value)| (*name, value.as_bytes()));
        let record = FutureRecord::to(&self.events_topic)
            .key(key.as_bytes())
            .payload(value)
            .timestamp(record_time(event.received_at))
            .headers(owned_headers(headers));
        self.send(record)
    }

    fn send(&self, record: FutureRecord<'_, [u8], [u8]>) -> Result<DeliveryFuture, Error> {
        self.producer
            .send_result(record)
            .map_err(|(error, _)| Error::of(&error))
    }

    fn counted<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &outcome {
            self.metrics.failed(error);
            if matches!(error, Error::Fatal(_)) {
                self.trouble.notify_one();
            }
        }
        outcome
    }
}

/// The record's own time is that of receipt: retention and "how far behind" count from it, not from Front's clock.
fn record_time(received_at: Timestamp) -> i64 {
    received_at.as_millis()
}

fn owned_headers<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> OwnedHeaders {
    headers.fold(OwnedHeaders::new(), |list, (key, value)| {
        list.insert(Header {
            key,
            value: Some(value),
        })
    })
}

async fn delivered(delivery: DeliveryFuture) -> Result<(), Error> {
    match delivery.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((error, _))) => Err(Error::of(&error)),
        Err(_) => Err(Error::Unavailable("the producer was stopped".into())),
    }
}

fn config(settings: &Settings) -> rdkafka::ClientConfig {
    let mut config = settings.kafka.client_config();
    let kilobytes = settings.queue_bytes_max.div_ceil(1_024).max(1);
    config
        .set("client.id", format!("{}-receiver", settings.kafka.client_id))
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // What the Java clients do, so that any of them finds a conversation in the same partition.
        .set("partitioner", "murmur2_random")
        .set("linger.ms", settings.linger.as_millis().to_string())
        .set(
            "message.timeout.ms",
            settings.message_timeout.as_millis().to_string(),
        )
        .set("message.max.bytes", settings.message_bytes_max.to_string())
        .set("queue.buffering.max.messages", QUEUE_RECORDS_MAX)
        .set("queue.buffering.max.kbytes", kilobytes.to_string())
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.max.ms", RECONNECT_BACKOFF_MAX_MS);
    config
}

/// Says which setting the client refuses, without its value: it may be a secret.
fn refused_setting(error: &KafkaError) -> String {
    if let KafkaError::ClientConfig(_, description, key, value) = error {
        // An empty value would be found between all characters.
        let shown = if value.is_empty() {
            description.clone()
        } else {
            description.replace(value, "…")
        };
        return format!("{key}: {shown}");
    }
    error.to_string()
}

/// Hears what the client says outside of any record.
struct Context {
    trouble: Arc<Notify>,
    log: kafka::ClientLog,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Not a warning: while all brokers are away it comes twenty times a second. The role says that they are away, now
        // and then; the client's log lines say which connection failed; what is fatal ends the process with its reason.
        tracing::debug!(%error, reason, "the producer is in trouble");
        self.trouble.notify_one();
    }
}
