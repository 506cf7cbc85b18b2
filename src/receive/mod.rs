//! HTTP in: who may send, route, limits, raw body, signature, acknowledgement.
//!
//! Answers 200 only for what is durable, whatever the doubt asks for a retry, and tells a sender that is not
//! authentic nothing but that. Never reads an event's meaning (`validate`) and never writes to the log
//! (`produce`). HTTP/1.1 only: TLS, and with it HTTP/2, ends before us.

pub mod address;
mod answer;
mod body;
mod bounds;
mod handler;
mod keys;
mod metrics;
mod outlive;
mod quiet;
pub mod rate;
mod seen;
mod server;
pub mod signature;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::lifecycle::{Clock, Stop};
use crate::model::TenantId;
use crate::produce::Handle;
pub use crate::validate::Retention;
use bounds::Bounded;
use handler::Edge;
pub use keys::Keys;
use metrics::Metrics;
use rate::Limiter;
use seen::Seen;

/// What the receiver accepts, and how much of it at a time.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// From which networks requests are taken, and whom we believe about them.
    pub address: address::Settings,
    /// How many requests one address may send; `None`: as many as it can.
    pub address_rate: Option<rate::Rate>,
    /// The schemes that are on, with their secrets.
    pub signature: signature::Settings,
    /// The tenant of events that neither URL nor body attributes.
    pub default_tenant: TenantId,
    /// What is kept of a body.
    pub retention: Retention,
    /// The largest body, in bytes; larger ones are answered 413.
    pub body_bytes_max: usize,
    /// How long a head, and then a body, may take; slower ones are answered 408.
    pub body_timeout: Duration,
    /// How long a request waits for the log before it is answered 503. Front waits 5 s in all.
    pub answer_timeout: Duration,
    /// How many requests are worked on at a time; more are answered 503.
    pub requests_in_flight_max: usize,
    /// How many bytes of bodies are held at a time; more are answered 503.
    pub bytes_in_flight_max: usize,
    /// How many stored events are remembered, so that a repeated delivery is not stored again.
    pub seen_events_max: usize,
    /// How long they are remembered.
    pub seen_events_ttl: Duration,
}

/// Why the receiver cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, or not ours.
    #[error("receiver.listen: cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// A metric is registered twice: two receivers share a registry.
    #[error("cannot register the receiver's metrics")]
    Metrics(#[from] prometheus::Error),
}

/// Binds an address for a receiver.
///
/// # Errors
///
/// The address is taken: report and exit.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| Error::Bind { address, source })
}

/// The stage itself, bound to its address.
pub struct Receiver {
    listener: TcpListener,
    address: SocketAddr,
    edge: Arc<Edge>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receiver({})", self.address)
    }
}

impl Receiver {
    /// Binds the address; connections wait until [`Receiver::run`].
    ///
    /// # Errors
    ///
    /// The address is taken: report and exit.
    pub async fn bind(
        settings: Settings,
        producer: Handle,
        clock: Clock,
        registry: &prometheus::Registry,
    ) -> Result<Self, Error> {
        let listener = listen(settings.listen).await?;
        Self::on(listener, settings, producer, clock, registry)
    }

    /// Takes a listener that is bound already; connections wait until [`Receiver::run`].
    ///
    /// # Errors
    ///
    /// The metrics are registered already: report and exit.
    pub fn on(
        listener: TcpListener,
        settings: Settings,
        producer: Handle,
        clock: Clock,
        registry: &prometheus::Registry,
    ) -> Result<Self, Error> {
        let metrics = Metrics::new(registry)?;
        let address = listener.local_addr().map_err(|source| Error::Bind {
            address: settings.listen,
            source,
        })?;
        let edge = Arc::new(Edge {
            keys: Keys::new(settings.signature.clone(), metrics.signature_checks.clone()),
            addresses: settings.address_rate.map(|rate| Limiter::new(rate, &clock)),
            seen: Seen::new(
                settings.seen_events_max,
                settings.seen_events_ttl,
                metrics.seen_events.clone(),
            ),
            requests: Bounded::new(
                settings.requests_in_flight_max,
                metrics.requests_in_flight.clone(),
            ),
            bytes: Bounded::new(settings.bytes_in_flight_max, metrics.bytes_in_flight.clone()),
            settings,
            producer,
            clock,
            metrics,
            tasks: TaskTracker::new(),
            lines: handler::Lines::default(),
        });
        Ok(Self {
            listener,
            address,
            edge,
        })
    }

    /// Returns the address, with the port that the system chose if none was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the secrets in force, to be replaced.
    pub fn keys(&self) -> Keys {
        self.edge.keys.clone()
    }

    /// Serves until `stop`; then accepts nothing more and lets what is in flight end, at most for `drain`.
    pub async fn run(self, stop: Stop, drain: Duration) {
        let cut = Stop::new();
        let tasks = self.edge.tasks.clone();
        server::serve(self.listener, self.edge, stop, cut.clone()).await;
        tasks.close();
        if timeout(drain, tasks.wait()).await.is_err() {
            tracing::warn!(
                left = tasks.len(),
                "requests were still in flight at the end of the drain"
            );
        }
        cut.cancel();
    }
}
