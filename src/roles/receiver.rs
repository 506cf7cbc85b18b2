//! The receiver: webhooks in, events on the log.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::lifecycle::{Clock, Exit, Gate, Instant, Readiness, Stop};
use crate::observe::Outage;
use crate::produce::{self, Encoding, Producer};
use crate::receive;

/// How long one question to the brokers may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the brokers are asked while they answer.
const PROBE_PAUSE: Duration = Duration::from_secs(5);
/// How often they are asked while they do not.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What the role is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// HTTP in.
    pub receive: receive::Settings,
    /// Events out.
    pub produce: produce::Settings,
    /// How long a clean stop may take.
    pub drain_timeout: Duration,
}

/// A receiver that is bound to its address and does not serve yet.
#[derive(Debug)]
pub struct Receiver {
    server: receive::Receiver,
    producer: Producer,
    drain_timeout: Duration,
}

impl Receiver {
    /// Binds the address, and starts the producer, which connects by itself.
    ///
    /// # Errors
    ///
    /// The client refuses its settings, or the address is taken.
    pub async fn bind(
        settings: Settings,
        encoding: Encoding,
        clock: Clock,
        registry: &prometheus::Registry,
    ) -> anyhow::Result<Self> {
        let listener = receive::listen(settings.receive.listen)
            .await
            .context(Exit::Outside)?;
        Self::on(listener, settings, encoding, clock, registry)
    }

    /// Starts the producer, and takes webhooks from a listener that is bound already.
    ///
    /// # Errors
    ///
    /// The client refuses its settings.
    pub fn on(
        listener: TcpListener,
        settings: Settings,
        encoding: Encoding,
        clock: Clock,
        registry: &prometheus::Registry,
    ) -> anyhow::Result<Self> {
        let producer = Producer::start(&settings.produce, encoding, registry)
            .context(Exit::Usage)
            .context("cannot make the receiver's Kafka producer")?;
        let server = receive::Receiver::on(listener, settings.receive, producer.handle(), clock, registry)
            .context(Exit::Outside)?;
        Ok(Self {
            server,
            producer,
            drain_timeout: settings.drain_timeout,
        })
    }

    /// Returns the secrets in force, to be replaced.
    pub fn keys(&self) -> receive::Keys {
        self.server.keys()
    }

    /// Returns the address it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Serves until `stop`, then drains: not ready, no more requests, answers to those in flight, a flushed producer.
    ///
    /// Ready while the brokers answer and have both topics. Requests are taken before that too, and answered 503 as
    /// long as they cannot be stored.
    ///
    /// # Errors
    ///
    /// The producer can do no more work ([`Exit::Fatal`]): the process is to be started again.
    pub async fn run(self, readiness: &Readiness, stop: Stop) -> anyhow::Result<()> {
        let Self {
            server,
            producer,
            drain_timeout,
        } = self;
        let gate = readiness.gate("kafka");
        let serving = stop.child_token();
        let mut server_task = JoinSet::new();
        tracing::info!(address = %server.address(), "receiving webhooks");
        server_task.spawn(server.run(serving.clone(), drain_timeout));
        let failure = tokio::select! {
            () = stop.cancelled() => None,
            failure = producer.failed() => Some(failure),
            never = watch_brokers(&producer, &gate) => match never {},
        };
        gate.not_ready(if failure.is_some() {
            "the producer failed"
        } else {
            "stopping"
        });
        let drain_began = Instant::now();
        serving.cancel();
        server_task.join_all().await;
        let left = drain_timeout.saturating_sub(drain_began.elapsed());
        if let Err(error) = producer.flush(left).await {
            tracing::warn!(%error, "records were still in flight at the end of the drain; none was acknowledged");
        }
        if let Some(failure) = failure {
            return Err(anyhow::Error::new(failure).context(Exit::Fatal));
        }
        tracing::info!("stopped receiving");
        Ok(())
    }
}

/// Asks the brokers again and again, and opens or closes the gate by what they say.
async fn watch_brokers(producer: &Producer, gate: &Gate) -> std::convert::Infallible {
    let mut ready = false;
    let away = Outage::default();
    loop {
        match producer.probe(PROBE_TIMEOUT).await {
            Ok(()) => {
                if !ready {
                    let after = away
                        .over(Instant::now())
                        .map(|over| tracing::field::debug(over.lasted));
                    tracing::info!(after, "the brokers answer and have both topics: ready");
                }
                ready = true;
                gate.ready();
            }
            Err(error) => {
                ready = false;
                if let Some(left_out) = away.failed(Instant::now()) {
                    tracing::warn!(%error, left_out, "not ready: events cannot be stored; trying again");
                }
                gate.not_ready(error.to_string());
            }
        }
        tokio::time::sleep(if ready { PROBE_PAUSE } else { RETRY_PAUSE }).await;
    }
}
