//! Events to the topic: key, headers, delivery, back-pressure. Never decides what an event is, nor what to answer.

mod client;
mod error;
mod metrics;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

pub use error::Error;

use crate::kafka::{self, TopicNames};
use crate::model::{Event, Timestamp};
use client::Client;
use metrics::Metrics;

/// How records are written.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How to reach the brokers.
    pub kafka: kafka::Settings,
    /// Where records go.
    pub topics: TopicNames,
    /// How long the client waits for a batch to fill, 0-5 ms: throughput against latency.
    pub linger: Duration,
    /// How long the client tries to deliver a record: above the time in which requests are answered.
    ///
    /// It bounds the queue, not the answer: librdkafka was measured to report the failure up to seven seconds
    /// later than set (design section 7).
    pub message_timeout: Duration,
    /// The largest record: the largest body and what is written around it.
    pub message_bytes_max: usize,
    /// How many bytes may wait for delivery before new records are refused.
    pub queue_bytes_max: usize,
}

/// Turns an event into the value of its record.
pub type ValueEncoder = Arc<dyn Fn(&Event) -> Result<Vec<u8>, Error> + Send + Sync>;

/// One header of a record.
pub type Header<'a> = (&'static str, Cow<'a, str>);

/// Lists the headers of an event's record, given the trace its request belongs to.
pub type HeaderList = Arc<dyn for<'e> Fn(&'e Event, Option<&'e str>) -> Vec<Header<'e>> + Send + Sync>;

/// How events become records.
#[derive(Clone)]
pub struct Encoding {
    /// The value.
    pub value: ValueEncoder,
    /// The headers.
    pub headers: HeaderList,
}

/// A body set aside, with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The bytes as received.
    pub body: Bytes,
    /// Why and from where.
    pub headers: Vec<(&'static str, String)>,
    /// When they came in.
    pub received_at: Timestamp,
}

/// A trace that a request belongs to, as the `traceparent` of W3C Trace Context carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traceparent(Box<str>);

impl Traceparent {
    /// Takes a valid header of version 00; `None` for anything else, which is then not passed on.
    pub fn parse(header: &str) -> Option<Self> {
        let mut fields = header.split('-');
        let mut field = |len: usize| {
            let field = fields.next()?;
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            (field.len() == len && field.bytes().all(is_hex)).then_some(field)
        };
        let is_zero = |field: &str| field.bytes().all(|byte| byte == b'0');
        let (version, trace, parent, _flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
        let is_valid = version == "00" && !is_zero(trace) && !is_zero(parent) && fields.next().is_none();
        is_valid.then(|| Self(header.into()))
    }

    /// Returns the header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The stage itself: owned by the role, which flushes it at the end.
pub struct Producer(Arc<Client>);

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Producer")
    }
}

impl Producer {
    /// Starts the client, which connects by itself and goes on trying.
    ///
    /// # Errors
    ///
    /// The settings are not ones that the client can work with: report and exit.
    pub fn start(
        settings: &Settings,
        encoding: Encoding,
        registry: &prometheus::Registry,
    ) -> Result<Self, Error> {
        let metrics = Metrics::new(registry).map_err(|error| Error::Fatal(error.to_string().into()))?;
        Client::new(settings, encoding, metrics, registry).map(Self)
    }

    /// Returns the end to which events are given.
    pub fn handle(&self) -> Handle {
        Handle(Target::Client(Arc::clone(&self.0)))
    }

    /// Returns when the client can do no more work, and why: the process is to end. For one caller at a time.
    pub async fn failed(&self) -> Error {
        self.0.failed().await
    }

    /// Asks the brokers whether both topics are there.
    ///
    /// # Errors
    ///
    /// Nothing can be stored now, and why.
    pub async fn probe(&self, timeout: Duration) -> Result<(), Error> {
        self.blocking(move |client| client.probe(timeout)).await
    }

    /// Waits until every record is durable or has failed.
    ///
    /// # Errors
    ///
    /// Records are still in flight after `timeout`. None of them was acknowledged to anyone.
    pub async fn flush(&self, timeout: Duration) -> Result<(), Error> {
        self.blocking(move |client| client.flush(timeout)).await
    }

    async fn blocking(
        &self,
        work: impl FnOnce(&Client) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let client = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&client)).await;
        done.unwrap_or_else(|error| Err(Error::Unavailable(error.to_string().into())))
    }
}

/// The end to which events are given; cheap to clone.
#[derive(Clone)]
pub struct Handle(Target);

#[derive(Clone)]
enum Target {
    Client(Arc<Client>),
    Orders(mpsc::Sender<Order>),
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

/// Something to store, and where to say how it went.
#[derive(Debug)]
pub struct Order {
    /// What to store.
    pub records: Records,
    /// Where the outcome goes. Dropped: the outcome is unknown.
    pub reply: oneshot::Sender<Result<(), Error>>,
}

/// What to store.
#[derive(Clone, Debug, PartialEq)]
pub enum Records {
    /// Events of one request, with the trace it belongs to.
    Events(Vec<Event>, Option<Traceparent>),
    /// A body set aside.
    DeadLetter(DeadLetter),
}

impl Handle {
    /// Makes a handle whose orders somebody else carries out, `capacity` of them waiting at most.
    pub fn to_channel(capacity: usize) -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self(Target::Orders(sender)), receiver)
    }

    /// Stores all of `events`, each as one record: returns when all of them are durable.
    ///
    /// The records are on their way once this has been polled; dropping it then only gives up the answer.
    ///
    /// # Errors
    ///
    /// Not all of them are known to be durable, and what to do about it. Some may be.
    pub async fn store(&self, events: Vec<Event>, trace: Option<Traceparent>) -> Result<(), Error> {
        match &self.0 {
            Target::Client(client) => client.store(events, trace).await,
            Target::Orders(orders) => order(orders, Records::Events(events, trace)).await,
        }
    }

    /// Sets a body aside on the topic of dead letters: returns when it is durable.
    ///
    /// # Errors
    ///
    /// It is not known to be durable, and what to do about it.
    pub async fn store_dead_letter(&self, letter: DeadLetter) -> Result<(), Error> {
        match &self.0 {
            Target::Client(client) => client.store_dead_letter(letter).await,
            Target::Orders(orders) => order(orders, Records::DeadLetter(letter)).await,
        }
    }
}

async fn order(orders: &mpsc::Sender<Order>, records: Records) -> Result<(), Error> {
    let (reply, outcome) = oneshot::channel();
    orders
        .try_send(Order { records, reply })
        .map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Backpressure,
            mpsc::error::TrySendError::Closed(_) => Error::Unavailable("nobody takes orders".into()),
        })?;
    outcome
        .await
        .unwrap_or_else(|_| Err(Error::Unavailable("the order was dropped".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_on_valid_traces_only() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(
            Traceparent::parse(good).map(|trace| trace.as_str() == good),
            Some(true)
        );
        let bad = [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333g-01",
        ];
        for header in bad {
            assert_eq!(Traceparent::parse(header), None, "{header}");
        }
    }
}
