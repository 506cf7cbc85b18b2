//! What every Kafka client of ours shares: connection settings, error classes, client logs, topic facts.

mod connect;
mod context;
mod counts;
mod errors;
pub(crate) mod properties;
pub mod reader;
pub mod topics;

use std::collections::BTreeMap;

use rdkafka::ClientConfig;

pub(crate) use connect::{await_connection, is_brokers_refusal, refusal};
pub use context::{ClientFacts, ClientLog};
pub use counts::{ErrorCounts, Reporter};
pub use errors::{
    Class, Undelivered, classify, classify_delivery, has_no_transaction, is_consequence, is_denied,
    is_out_of_state, may_have_expired,
};

/// How to reach the brokers: plain data, the same for every client of the process.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// `host:port`, comma separated.
    pub brokers: String,
    /// Shown in the brokers' logs and quotas.
    pub client_id: String,
    /// librdkafka settings passed through (security, compression of the connection, …); may hold secrets.
    pub properties: BTreeMap<String, String>,
}

/// Leaves the properties' values out: they may hold secrets.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("brokers", &self.brokers)
            .field("client_id", &self.client_id)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

impl Settings {
    /// Returns the configuration every client starts from.
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        // A partition that is added is to be read, and a leader that moved to be found, within seconds: the client looks
        // every five minutes by itself, and what a new partition gets would wait as long for its first reader.
        config.set("topic.metadata.refresh.interval.ms", "10000");
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id);
        config
    }
}

/// The names of the three topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNames {
    /// `front.events`, prefixed.
    pub events: String,
    /// `front.refresh`, prefixed.
    pub refresh: String,
    /// `front.dead-letters`, prefixed.
    pub dead_letters: String,
}

impl TopicNames {
    /// Puts `prefix` before each name; empty for none.
    pub fn with_prefix(prefix: &str) -> Self {
        let named = |name: &str| format!("{prefix}{name}");
        Self {
            events: named("front.events"),
            refresh: named("front.refresh"),
            dead_letters: named("front.dead-letters"),
        }
    }
}
