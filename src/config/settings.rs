//! The checked settings: plain data, one struct per section of the file.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::secret::NamedSecret;
use crate::admin::Settings as AdminSettings;
use crate::kafka::{self, TopicNames};
use crate::model::Lanes;
use crate::observe;

/// Everything an operator can set, checked as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How the process logs.
    pub log: observe::Settings,
    /// How to reach the brokers.
    pub kafka: kafka::Settings,
    /// The three topics.
    pub topics: TopicsSettings,
    /// The schema registry.
    pub registry: RegistrySettings,
    /// HTTP in.
    pub receiver: ReceiverSettings,
    /// Coalescing.
    pub processor: ProcessorSettings,
    /// Health and metrics.
    pub admin: AdminSettings,
}

/// The three topics: names, and how `topics create` makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicsSettings {
    /// The names, with the prefix.
    pub names: TopicNames,
    /// Copies of each partition; `None`: the broker's default.
    pub replication: Option<i32>,
    /// Copies that must have a record before it is acknowledged; `None`: two, or fewer where there are fewer copies.
    pub min_insync_replicas: Option<i32>,
    /// `front.events`.
    pub events: TopicSettings,
    /// `front.refresh`; as many partitions as `front.events`.
    pub refresh: TopicSettings,
    /// `front.dead-letters`.
    pub dead_letters: TopicSettings,
}

/// How one topic is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicSettings {
    /// At least one.
    pub partitions: i32,
    /// How long records stay.
    pub retention: Duration,
}

/// The schema registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// `http(s)://host[:port][/path]`; `None`: no registry, Avro single-object encoding.
    pub url: Option<String>,
    /// How long one request to it may take.
    pub timeout: Duration,
}

/// HTTP in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverSettings {
    /// Where webhooks are posted to.
    pub listen: SocketAddr,
    /// Networks that may send; empty: all.
    pub allowed_networks: Vec<IpNet>,
    /// Networks of the proxies before us; empty: none.
    pub trusted_proxies: Vec<IpNet>,
    /// Where they write whom they had a request from.
    pub forwarded_header: ForwardedHeader,
    /// Requests a second that one address may send; 0: as many as it can.
    pub address_rate: u32,
    /// Requests that it may send at once.
    pub address_burst: u32,
    /// Largest body taken; above it 413.
    pub body_bytes_max: usize,
    /// Longest time a body may take to arrive; beyond it 408.
    pub body_timeout: Duration,
    /// Longest time until an answer; beyond it 503.
    pub answer_timeout: Duration,
    /// Requests waiting for Kafka at once; beyond it 503.
    pub requests_in_flight_max: usize,
    /// Bytes of bodies waiting for Kafka at once; beyond it 503.
    pub bytes_in_flight_max: usize,
    /// Event ids remembered, so that a retry is not stored again.
    pub seen_events_max: usize,
    /// How long an event id is remembered.
    pub seen_events_ttl: Duration,
    /// The company, where neither the URL nor the body names one.
    pub default_tenant: String,
    /// How long the producer waits to fill a batch.
    pub linger: Duration,
    /// What of the body is stored.
    pub payload: PayloadKept,
    /// Front's application webhooks.
    pub application: ApplicationSettings,
    /// Keys of Front's rule webhooks; empty: the scheme is off.
    pub rule_secrets: Vec<NamedSecret>,
    /// Keys of a relay that speaks the scheme of EP-0033; empty: the scheme is off.
    pub relay_secrets: Vec<NamedSecret>,
}

/// The header in which proxies write whom they had a request from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The scheme of Front's application webhooks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplicationSettings {
    /// How far the request's timestamp may be from now, on both sides.
    pub window: Duration,
    /// Keys; empty: the scheme is off.
    pub secrets: Vec<NamedSecret>,
}

/// What of a webhook's body is stored in `front.events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PayloadKept {
    /// Every byte.
    #[default]
    Full,
    /// Nothing: only ids, kind, priority and times.
    IdsOnly,
}

/// Coalescing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessorSettings {
    /// The consumer group.
    pub group: String,
    /// How the group is coordinated.
    pub group_protocol: GroupProtocol,
    /// Threads, each with one consumer and one transactional producer.
    pub workers: usize,
    /// Stable name of this instance; `None`: the member is dynamic and the transactional id new at every start.
    pub instance_id: Option<String>,
    /// How long the group waits for a silent member (classic protocol).
    pub session_timeout: Duration,
    /// Shortest time between two commits.
    pub commit_interval: Duration,
    /// Shortest time between two commits that only move the position.
    pub position_commit_interval: Duration,
    /// How long the broker keeps a transaction open.
    pub transaction_timeout: Duration,
    /// The broker's `offset.metadata.max.bytes`: how much state fits beside an offset.
    pub metadata_bytes_max: usize,
    /// How far back a duplicate is recognised.
    pub dedupe: DedupeSettings,
    /// How a backlog is worked off.
    pub chunk: ChunkSettings,
    /// Event ids kept in a refresh.
    pub event_ids_max: usize,
    /// Gap and cap per priority.
    pub lanes: Lanes,
    /// Longest time a clean stop may take.
    pub drain_timeout: Duration,
}

/// How the consumer group is coordinated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The members assign the partitions, with heartbeats and a session timeout of the client.
    #[default]
    Classic,
    /// The broker assigns them (KIP-848); its session timeout is the broker's setting.
    Consumer,
}

/// How far back a duplicate is recognised: both bounds hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DedupeSettings {
    /// In time of the log.
    pub horizon: Duration,
    /// In records of one partition.
    pub records: u32,
}

/// How a backlog is worked off: the first bound reached ends a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkSettings {
    /// Time of work.
    pub duration: Duration,
    /// Open windows.
    pub windows_max: usize,
    /// Memory of the open windows.
    pub bytes_max: usize,
}

impl Settings {
    /// Makes settings to be filled from the table; on their own they mean nothing.
    pub(crate) fn blank() -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            log: observe::Settings::default(),
            kafka: kafka::Settings {
                brokers: String::new(),
                client_id: String::new(),
                properties: std::collections::BTreeMap::new(),
            },
            topics: TopicsSettings {
                names: TopicNames::with_prefix(""),
                replication: None,
                min_insync_replicas: None,
                events: TopicSettings::default(),
                refresh: TopicSettings::default(),
                dead_letters: TopicSettings::default(),
            },
            registry: RegistrySettings::default(),
            receiver: ReceiverSettings::blank(nowhere),
            processor: ProcessorSettings::default(),
            admin: AdminSettings { listen: nowhere },
        }
    }
}

impl ReceiverSettings {
    fn blank(listen: SocketAddr) -> Self {
        Self {
            listen,
            allowed_networks: Vec::new(),
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            address_rate: 0,
            address_burst: 0,
            body_bytes_max: 0,
            body_timeout: Duration::ZERO,
            answer_timeout: Duration::ZERO,
            requests_in_flight_max: 0,
            bytes_in_flight_max: 0,
            seen_events_max: 0,
            seen_events_ttl: Duration::ZERO,
            default_tenant: String::new(),
            linger: Duration::ZERO,
            payload: PayloadKept::default(),
            application: ApplicationSettings::default(),
            rule_secrets: Vec::new(),
            relay_secrets: Vec::new(),
        }
    }
}
