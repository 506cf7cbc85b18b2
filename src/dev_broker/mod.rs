//! The in-process broker of `dev` and of the fast tests: Kafka's protocol on a loopback port, in memory, one node.
//!
//! For development and tests only: whatever it holds is gone when it is dropped. Messages and their encoding are the
//! `kafka-protocol` crate's; here is what a broker decides. Its parts:
//!
//! - [`connection`] takes requests off sockets and answers them in order; [`api`] says which versions there are and who
//!   answers them; [`bounded`] keeps a hostile length from claiming memory;
//! - [`topics`] and [`log`] hold records; [`batch`] reads what must be known of a batch without decoding its records,
//!   [`unpack`] unpacks them for that;
//! - [`groups`] and [`transactions`] are the two coordinators;
//! - [`feed`] gives them bytes without a socket, for fuzzing;
//! - [`clock`] is the one source of time and wakes the state when the earliest timer is due.
//!
//! All state is behind one lock, held for one request at a time and never across a wait. A wait is a timer or a wake-up.
//! What it does not do it does not offer: such a request is refused with the protocol's own error and a log line.
//! Nothing else in the crate knows it, except the role that starts it.

mod api;
mod batch;
mod bounded;
mod clock;
mod connection;
pub mod feed;
mod groups;
mod log;
mod state;
mod topics;
mod transactions;
mod unpack;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio_util::sync::CancellationToken;

use state::Broker;

/// A running broker. Dropped, it closes its connections and is gone with all it held.
pub struct DevBroker {
    broker: Arc<Broker>,
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl DevBroker {
    /// Listens on `listen` (port 0: a free one) and serves from a thread of its own until dropped; holds up to a
    /// gibibyte of records.
    ///
    /// # Errors
    ///
    /// The address cannot be taken, or the machine gives no thread.
    pub fn start(listen: SocketAddr) -> io::Result<Self> {
        Self::with_memory(listen, 1 << 30)
    }

    /// Like [`DevBroker::start`], with records of `log_bytes_max` bytes as they are encoded; when there are more, the
    /// oldest of the largest partitions are dropped.
    ///
    /// # Errors
    ///
    /// The address cannot be taken, or the machine gives no thread.
    pub fn with_memory(listen: SocketAddr, log_bytes_max: usize) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let stopping = stop.clone();
        let broker = Arc::new(Broker::new(address, log_bytes_max));
        let serving = Arc::clone(&broker);
        let thread = std::thread::Builder::new()
            .name("dev-broker".into())
            .spawn(move || {
                if let Err(error) = runtime.block_on(connection::serve(listener, serving, stopping)) {
                    tracing::error!(%error, "the in-process broker takes no more connections");
                }
            })?;
        Ok(Self {
            broker,
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Returns where it listens: what belongs into `bootstrap.servers`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how many offsets at the beginning of `topic`'s partitions are gone: deleted, too old, or dropped for want
    /// of memory.
    pub fn removed(&self, topic: &str) -> u64 {
        self.broker.with(|state, _| {
            let partitions = state
                .topics
                .topic(topic)
                .map_or(&[][..], |topic| &topic.partitions);
            let starts = partitions
                .iter()
                .map(|log| u64::try_from(log.start()).unwrap_or(0));
            starts.sum()
        })
    }
}

impl Drop for DevBroker {
    fn drop(&mut self) {
        self.stop.cancel();
        let panicked = self.thread.take().is_some_and(|thread| thread.join().is_err());
        if panicked {
            tracing::error!("the in-process broker's thread panicked");
        }
    }
}
