//! A TCP proxy between Kafka's clients and brokers, which does to connections what networks do: cut, stall, delay, lose one
//! direction, lose the answer of a commit that the broker has made.
//!
//! It runs on one thread of its own and is told what to do from any other. It reads frame boundaries and headers and never
//! a body, sends no byte of its own, and holds at most [a bounded buffer](connection) per connection, after which the
//! sender has to wait, as in a network.
//!
//! A cluster advertises the proxy's addresses to its clients (`scripts/kafka start --proxied`), so their ports come first:
//! [`Proxy::reserve`], start the cluster, [`Proxy::lead_to`].

mod connection;
mod frames;
mod rules;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use self::rules::{Active, Table};
pub(crate) use self::rules::{Caught, Ending, Fault, Hits, Rule};
use crate::support::say;

/// Between two attempts to take a connection, after one failed: the process has no file to spare.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The proxy of a cluster. Dropped, it closes every connection.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    ports: Vec<u16>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the test's thread and the proxy's both have.
struct Shared {
    rules: Table,
    /// Of node 1, 2, …; empty before they are known.
    targets: Mutex<Vec<SocketAddr>>,
    /// How many have come.
    connections: AtomicU64,
}

impl Shared {
    fn target(&self, node: u32) -> Option<SocketAddr> {
        let index = usize::try_from(node).expect("a node's number") - 1;
        self.targets.lock().unwrap().get(index).copied()
    }
}

impl Proxy {
    /// Listens for the clients of a cluster with this many nodes. Until [`Proxy::lead_to`] says where those are, it closes
    /// whatever comes.
    pub(crate) fn reserve(nodes: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let listeners: Vec<_> = (0..nodes).map(|_| listen()).collect();
        let ports = listeners
            .iter()
            .map(|listener| listener.local_addr().expect("it is bound").port())
            .collect();
        let shared = Arc::new(Shared {
            rules: Table::new(),
            targets: Mutex::default(),
            connections: AtomicU64::default(),
        });
        let (stop, stopped) = oneshot::channel();
        Self {
            ports,
            runtime: runtime.handle().clone(),
            stop: Some(stop),
            thread: Some(spawn(runtime, shared.clone(), listeners, stopped)),
            shared,
        }
    }

    /// Returns what the nodes are to advertise.
    pub(crate) fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Returns the servers that clients start from.
    pub(crate) fn bootstrap(&self) -> String {
        let servers: Vec<_> = self
            .ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        servers.join(",")
    }

    /// Says where the nodes are, for connections that come from now on.
    pub(crate) fn lead_to(&self, targets: &[SocketAddr]) {
        assert_eq!(targets.len(), self.ports.len(), "one for each node");
        *self.shared.targets.lock().unwrap() = targets.to_vec();
    }

    /// Makes a fault begin. What the proxy reads after this has returned is subject to it.
    pub(crate) fn apply(&self, rule: Rule) -> Applied {
        let (active, caught) = self.shared.rules.add(rule);
        Applied {
            active,
            caught,
            shared: self.shared.clone(),
            runtime: self.runtime.clone(),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Fails if the thread ended early, by a panic that is passed on below.
        let _ = self.stop.take().expect("stopped once").send(());
        let ended = self.thread.take().expect("stopped once").join();
        if !std::thread::panicking() {
            ended.expect("the proxy's thread does not panic");
        }
    }
}

/// A fault that lasts until this is dropped.
#[must_use = "the fault is over when this is dropped"]
pub(crate) struct Applied {
    active: Arc<Active>,
    caught: mpsc::Receiver<Caught>,
    shared: Arc<Shared>,
    runtime: Handle,
}

impl Applied {
    /// Returns what it has hit so far.
    pub(crate) fn hits(&self) -> Hits {
        self.active.hits()
    }

    /// Waits for the next request that [`Fault::OnRequest`] catches; `None` when none comes in time. The request goes on when
    /// it is dropped.
    pub(crate) fn next_request(&mut self, patience: Duration) -> Option<Caught> {
        let next = async { tokio::time::timeout(patience, self.caught.recv()).await };
        self.runtime.block_on(next).ok().flatten()
    }

    /// Ends the fault, and returns what it has hit.
    pub(crate) fn lift(self) -> Hits {
        let active = self.active.clone();
        drop(self);
        active.hits()
    }
}

impl Drop for Applied {
    fn drop(&mut self) {
        self.shared.rules.remove(&self.active);
    }
}

fn listen() -> std::net::TcpListener {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.set_nonblocking(true).expect("a socket option");
    listener
}

fn spawn(
    runtime: Runtime,
    shared: Arc<Shared>,
    listeners: Vec<std::net::TcpListener>,
    stopped: oneshot::Receiver<()>,
) -> JoinHandle<()> {
    let run = async move {
        let mut nodes = JoinSet::new();
        for (node, listener) in (1..).zip(listeners) {
            let listener = TcpListener::from_std(listener).expect("a listener");
            nodes.spawn(serve_node(shared.clone(), node, listener));
        }
        tokio::select! {
            // An error says that the proxy was dropped without a word, which ends it as well.
            _ = stopped => {}
            ended = nodes.join_next() => panic!("a node's listener ended: {ended:?}"),
        }
    };
    std::thread::Builder::new()
        .name("proxy".into())
        .spawn(move || runtime.block_on(run))
        .expect("a thread")
}

async fn serve_node(shared: Arc<Shared>, node: u32, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                ended.expect("a connection does not panic");
                continue;
            }
        };
        match client {
            Ok((client, _)) => {
                let scope = shared
                    .rules
                    .scope(node, shared.connections.fetch_add(1, Ordering::Relaxed));
                connections.spawn(connection::serve(shared.clone(), scope, client));
            }
            Err(error) => {
                say(&format!(
                    "the proxy of node {node} cannot take a connection: {error}"
                ));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
