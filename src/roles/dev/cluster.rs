//! What a run is on: the in-process broker, or a real Kafka; and the ports that it takes.

use std::net::SocketAddr;

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;

use super::Chosen;
use super::announce;
use crate::admin;
use crate::config::Settings;
#[cfg(feature = "dev-broker")]
use crate::dev_broker::DevBroker;
use crate::lifecycle::Exit;

/// How many bytes of records the broker holds; beyond, the oldest go. `dev` shall fit beside whatever else runs on a
/// laptop, however long it runs and however much is sent.
#[cfg(feature = "dev-broker")]
const LOG_BYTES_MAX: usize = 64 << 20;

/// There is one broker, so a client may connect to it at once: librdkafka waits until it needs a broker, lets 50 ms pass
/// between two connections, and sometimes half a second. Measured: the workers have their partitions 25 ms after the
/// start instead of 300 or 800 (2026-11).
#[cfg(feature = "dev-broker")]
const CONNECT_AT_ONCE: (&str, &str) = ("enable.sparse.connections", "false");

/// The brokers of a run.
pub(super) enum Cluster {
    /// In this process; gone when this is dropped.
    #[cfg(feature = "dev-broker")]
    InProcess {
        broker: DevBroker,
        /// Whether somebody chose the port.
        opened: bool,
    },
    /// Those of the settings.
    Real,
}

impl Cluster {
    /// Decides by what somebody chose, and starts the in-process broker if it is to be that.
    pub(super) fn open(chosen: &Chosen, port: Option<u16>) -> anyhow::Result<Self> {
        match (&chosen.brokers, port) {
            (Some(origin), Some(_)) => Err(anyhow!(
                "--open-broker is for the in-process broker, and kafka.brokers ({origin}) names a real Kafka: \
                 leave one of them out"
            )
            .context(Exit::Usage)),
            (Some(_), None) => Ok(Self::Real),
            (None, port) => Self::in_process(port),
        }
    }

    #[cfg(feature = "dev-broker")]
    fn in_process(port: Option<u16>) -> anyhow::Result<Self> {
        let port = port.unwrap_or(0);
        let listen = SocketAddr::from(([127, 0, 0, 1], port));
        let broker = DevBroker::with_memory(listen, LOG_BYTES_MAX)
            .with_context(|| taken(listen, "the in-process broker", "--open-broker PORT"))
            .context(Exit::Outside)?;
        Ok(Self::InProcess {
            broker,
            opened: port != 0,
        })
    }

    #[cfg(not(feature = "dev-broker"))]
    fn in_process(_port: Option<u16>) -> anyhow::Result<Self> {
        Err(anyhow!(
            "this build has no in-process broker (feature dev-broker): name the brokers of a real Kafka, such as \
             --brokers 127.0.0.1:9092"
        )
        .context(Exit::Usage))
    }

    /// Returns whether the brokers, and all they hold, end with this process.
    pub(super) fn is_in_process(&self) -> bool {
        match self {
            #[cfg(feature = "dev-broker")]
            Self::InProcess { .. } => true,
            Self::Real => false,
        }
    }

    /// Returns how many of the oldest events the in-process broker no longer holds.
    #[cfg(feature = "dev-broker")]
    pub(super) fn removed_events(&self, settings: &Settings) -> u64 {
        match self {
            Self::InProcess { broker, .. } => broker.removed(&settings.topics.names.events),
            Self::Real => 0,
        }
    }

    #[cfg(not(feature = "dev-broker"))]
    pub(super) fn removed_events(&self, _settings: &Settings) -> u64 {
        0
    }

    /// Points the settings at the in-process broker: one node, reached without further ado.
    #[cfg(feature = "dev-broker")]
    pub(super) fn settle(&self, settings: &mut Settings) {
        match self {
            Self::InProcess { broker, .. } => {
                settings.kafka.brokers = broker.address().to_string();
                if !settings.kafka.properties.is_empty() {
                    tracing::warn!(
                        "kafka.properties are for a real Kafka: the in-process broker does without"
                    );
                }
                let (key, value) = CONNECT_AT_ONCE;
                settings.kafka.properties = [(key.to_owned(), value.to_owned())].into();
                settings.topics.replication = Some(1);
                settings.topics.min_insync_replicas = Some(1);
            }
            Self::Real => {}
        }
    }

    #[cfg(not(feature = "dev-broker"))]
    pub(super) fn settle(&self, _settings: &mut Settings) {}

    /// Returns what the first screen says of it.
    pub(super) fn announced<'a>(&self, settings: &'a Settings) -> announce::Cluster<'a> {
        match self {
            #[cfg(feature = "dev-broker")]
            Self::InProcess { broker, opened } => announce::Cluster::InProcess {
                address: broker.address(),
                opened: *opened,
            },
            Self::Real => announce::Cluster::Real {
                brokers: &settings.kafka.brokers,
            },
        }
    }
}

/// The ports of a run, taken before anything else is done: what fails for want of one fails at once.
pub(super) struct Ports {
    pub(super) receiver: TcpListener,
    pub(super) admin: admin::Server,
}

impl Ports {
    /// Takes the ports that somebody chose; otherwise the default ones, or any where they are taken: trying the product
    /// should not fail because something else listens on 8080. Writes into the settings which they are.
    pub(super) async fn bind(chosen: &Chosen, settings: &mut Settings) -> anyhow::Result<Self> {
        let receiver = bind_receiver(chosen.receiver, settings.receiver.listen).await?;
        let admin = bind_admin(chosen.admin, &settings.admin).await?;
        settings.receiver.listen = receiver.local_addr().context("asking for the port taken")?;
        settings.admin.listen = admin.address();
        Ok(Self { receiver, admin })
    }
}

async fn bind_receiver(chosen: bool, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = match TcpListener::bind(address).await {
        Err(_) if !chosen => TcpListener::bind(SocketAddr::new(address.ip(), 0)).await,
        bound => bound,
    };
    bound
        .with_context(|| taken(address, "webhooks", "--set receiver.listen=127.0.0.1:PORT"))
        .context(Exit::Outside)
}

async fn bind_admin(chosen: bool, settings: &admin::Settings) -> anyhow::Result<admin::Server> {
    let bound = match admin::Server::bind(settings).await {
        Err(_) if !chosen => {
            let listen = SocketAddr::new(settings.listen.ip(), 0);
            admin::Server::bind(&admin::Settings { listen }).await
        }
        bound => bound,
    };
    bound
        .map_err(|admin::Error::Bind { source, .. }| source)
        .with_context(|| {
            taken(
                settings.listen,
                "the admin pages",
                "--set admin.listen=127.0.0.1:PORT",
            )
        })
        .context(Exit::Outside)
}

/// Says what could not be taken, and how to choose another.
fn taken(address: SocketAddr, what: &str, flag: &str) -> String {
    format!("cannot listen on {address} for {what}: choose another port with {flag}, 0 for a free one")
}
