//! The listener and its connections, all bounded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{Settings, pages};
use crate::lifecycle::{Instant, Readiness, Stop};
use crate::observe::Outage;

/// Connections at once: probes, a pair of Prometheus servers and some people need a dozen.
const CONNECTIONS_MAX: usize = 64;

/// How long a client may take to send a request, and may stay silent between two.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection lives, so that a reader that never reads holds its place no longer.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);

/// How long answers under way may take once the server stops or a connection's life ends.
const GRACE: Duration = Duration::from_secs(1);

/// Pause after a failed accept, which mostly means that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the admin server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, not ours, or not allowed: another one must be set.
    #[error("cannot listen on {address}, the address of admin.listen")]
    Bind {
        /// The address tried.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// An admin server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Takes the port.
    ///
    /// # Errors
    ///
    /// The port is in use or the address is not ours; the process should not start.
    pub async fn bind(settings: &Settings) -> Result<Self, Error> {
        let failed = |source| Error::Bind {
            address: settings.listen,
            source,
        };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Returns the address taken; with port 0 in the settings, the port that was free.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`; then lets answers under way end, for at most a second.
    pub async fn serve(self, registry: Registry, readiness: Readiness, stop: Stop) {
        let router = pages::router(registry, readiness);
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let connections = TaskTracker::new();
        tracing::info!(address = %self.address, "admin pages are served");
        let refused = Outage::default();
        while let Some(stream) = self.accept(&stop).await {
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                // Closed at once: waiting would let 64 idle connections silence the probes for minutes.
                if let Some(left_out) = refused.failed(Instant::now()) {
                    tracing::warn!(
                        connections = CONNECTIONS_MAX,
                        left_out,
                        "admin connection refused, too many are open"
                    );
                }
                continue;
            };
            let connection = connection(stream, router.clone(), stop.clone());
            connections.spawn(async move {
                connection.await;
                drop(place);
            });
        }
        connections.close();
        // Whoever is still reading after that is cut off when the runtime ends.
        let _ = tokio::time::timeout(GRACE, connections.wait()).await;
    }

    /// Waits for the next connection; `None` when it is time to stop.
    async fn accept(&self, stop: &Stop) -> Option<TcpStream> {
        let failed = Outage::default();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return None,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => return Some(stream),
                Err(error) => {
                    if let Some(left_out) = failed.failed(Instant::now()) {
                        tracing::warn!(%error, left_out, "admin connection not accepted: tries again");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, stop: Stop) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        // A client that breaks off is nobody's trouble.
        _ = serving.as_mut() => return,
        () = stop.cancelled() => {}
        () = tokio::time::sleep(CONNECTION_LIFE) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(GRACE, serving).await;
}
