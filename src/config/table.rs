//! Every setting, as data: its key, default, type, bounds, and what an operator needs to know.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::secret::NamedSecret;
use super::settings::{ForwardedHeader, GroupProtocol, PayloadKept, Settings};
use crate::kafka::TopicNames;
use crate::observe::Format;

/// The one setting that is a table of its own: librdkafka's names below it.
pub(crate) const PROPERTIES: &str = "kafka.properties";

/// A setting.
pub(crate) struct Setting {
    /// Its path in the file.
    pub(crate) key: &'static str,
    /// As it is written in the environment; read like any other value.
    pub(crate) default: &'static str,
    /// What it is, and where in [`Settings`] it goes.
    pub(crate) slot: Slot,
    /// What it does, its unit, and why the default is what it is.
    pub(crate) doc: &'static str,
}

/// The type of a setting with its bounds, and the field it fills.
pub(crate) enum Slot {
    /// Text that keeps a rule.
    Text(fn(&mut Settings, String), TextRule),
    /// One of some words.
    Choice(&'static [&'static str], fn(&mut Settings, &str)),
    /// A duration within bounds, both included.
    Duration(fn(&mut Settings) -> &mut Duration, Duration, Duration),
    /// A number of bytes within bounds.
    Bytes(fn(&mut Settings) -> &mut usize, u64, u64),
    /// A number of things within bounds.
    Count(fn(&mut Settings, u32), u32, u32),
    /// An IP address with a port.
    Address(fn(&mut Settings) -> &mut SocketAddr),
    /// A list of networks.
    Networks(fn(&mut Settings) -> &mut Vec<IpNet>),
    /// A list of named secrets.
    Secrets(fn(&mut Settings) -> &mut Vec<NamedSecret>),
    /// [`PROPERTIES`].
    Properties,
}

/// What text is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextRule {
    /// Anything but nothing.
    NotEmpty,
    /// `host:port`, comma separated.
    Brokers,
    /// Nothing, or what a topic's name may consist of.
    TopicPrefix,
    /// Nothing, or `http://…`, `https://…`.
    Url,
    /// Nothing, or a word that can stand in a transactional id.
    Instance,
    /// A filter of `tracing`.
    LogFilter,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn minutes(count: u64) -> Duration {
    ms(count * 60_000)
}

const fn days(count: u64) -> Duration {
    ms(count * 86_400_000)
}

const SECOND: Duration = ms(1_000);
const MINUTE: Duration = minutes(1);
const DAY: Duration = days(1);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Kafka's limit is in the millions; beyond this a typing mistake is likelier, and a cluster of three suffers.
const PARTITIONS_MAX: u32 = 1_000;

fn whole(count: u32) -> i32 {
    i32::try_from(count).expect("the bounds of a count lie within 31 bits")
}

fn size(count: u32) -> usize {
    usize::try_from(count).expect("32 bits fit an address")
}

/// The settings, in the order of the example file.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        key: "log.format",
        default: "auto",
        slot: Slot::Choice(&["auto", "text", "json"], |s, word| {
            s.log.format = match word {
                "text" => Format::Text,
                "json" => Format::Json,
                _ => Format::Auto,
            }
        }),
        doc: "auto: text on a terminal, JSON otherwise. Logs always go to stderr.",
    },
    Setting {
        key: "log.filter",
        default: "info",
        slot: Slot::Text(|s, text| s.log.filter = text, TextRule::LogFilter),
        doc: "Levels: off, error, warn, info, debug, trace; also per part, such as \"info,rdkafka=warn\".",
    },
    Setting {
        key: "kafka.brokers",
        default: "127.0.0.1:9092",
        slot: Slot::Text(|s, text| s.kafka.brokers = text, TextRule::Brokers),
        doc: "host:port of one or more brokers to begin with, comma separated. Also --brokers.",
    },
    Setting {
        key: "kafka.client_id",
        default: "frontstream",
        slot: Slot::Text(|s, text| s.kafka.client_id = text, TextRule::NotEmpty),
        doc: "Names our connections in the brokers' logs, metrics and quotas.",
    },
    Setting {
        key: PROPERTIES,
        default: "",
        slot: Slot::Properties,
        doc: "Settings of librdkafka, passed through: security.protocol, sasl.*, ssl.*, compression.type, … Those that \
              frontstream's promises rest on are refused. A value may be { env = \"NAME\" } or { file = \"/path\" }, \
              and passwords and keys must be. As variables: FRONTSTREAM_KAFKA_PROPERTIES_SASL_PASSWORD and so on.",
    },
    Setting {
        key: "topics.prefix",
        default: "",
        slot: Slot::Text(
            |s, text| s.topics.names = TopicNames::with_prefix(&text),
            TextRule::TopicPrefix,
        ),
        doc: "Stands before the names front.events, front.refresh and front.dead-letters, so that several \
              installations share a cluster. Include the separator: \"staging.\".",
    },
    Setting {
        key: "topics.replication",
        default: "0",
        slot: Slot::Count(|s, n| s.topics.replication = (n > 0).then(|| whole(n)), 0, 100),
        doc: "Copies of each partition that `topics create` asks for and `topics check` expects. 0: the broker's \
              default. Three in production.",
    },
    Setting {
        key: "topics.min_insync_replicas",
        default: "0",
        slot: Slot::Count(
            |s, n| s.topics.min_insync_replicas = (n > 0).then(|| whole(n)),
            0,
            100,
        ),
        doc: "Copies that must have a record before it counts as stored. 0: two, or one where there is only one \
              copy; with one of three a failed disk loses acknowledged webhooks.",
    },
    Setting {
        key: "topics.events_partitions",
        default: "12",
        slot: Slot::Count(|s, n| s.topics.events.partitions = whole(n), 1, PARTITIONS_MAX),
        doc: "Partitions of front.events: the most workers that can share the work. 12 divides evenly by 1, 2, 3, 4 \
              and 6. Changing it later moves conversations to other partitions.",
    },
    Setting {
        key: "topics.events_retention",
        default: "7d",
        slot: Slot::Duration(|s| &mut s.topics.events.retention, MINUTE, days(3_650)),
        doc: "How long events stay, and so how far back a replay can go. A week outlives a long weekend.",
    },
    Setting {
        key: "topics.refresh_partitions",
        default: "12",
        slot: Slot::Count(|s, n| s.topics.refresh.partitions = whole(n), 1, PARTITIONS_MAX),
        doc: "Partitions of front.refresh. Must equal topics.events_partitions: a refresh goes to the partition \
              number of its events.",
    },
    Setting {
        key: "topics.refresh_retention",
        default: "3d",
        slot: Slot::Duration(|s| &mut s.topics.refresh.retention, MINUTE, days(3_650)),
        doc: "How long refreshes stay for a reader that was away. An old refresh is worth little.",
    },
    Setting {
        key: "topics.dead_letters_partitions",
        default: "3",
        slot: Slot::Count(
            |s, n| s.topics.dead_letters.partitions = whole(n),
            1,
            PARTITIONS_MAX,
        ),
        doc: "Partitions of front.dead-letters. Few: it should be empty.",
    },
    Setting {
        key: "topics.dead_letters_retention",
        default: "30d",
        slot: Slot::Duration(|s| &mut s.topics.dead_letters.retention, MINUTE, days(3_650)),
        doc: "How long dead letters stay for somebody to look at them.",
    },
    Setting {
        key: "registry.url",
        default: "",
        slot: Slot::Text(
            |s, text| s.registry.url = (!text.is_empty()).then_some(text),
            TextRule::Url,
        ),
        doc: "Address of a schema registry that speaks Confluent's interface, such as \"http://registry:8081\". \
              Empty: none; records are then in Avro's single-object encoding.",
    },
    Setting {
        key: "registry.timeout",
        default: "2s",
        slot: Slot::Duration(|s| &mut s.registry.timeout, ms(10), MINUTE),
        doc: "How long one request to the registry may take. It is asked once per schema, then never again.",
    },
    Setting {
        key: "receiver.listen",
        default: "127.0.0.1:8080",
        slot: Slot::Address(|s| &mut s.receiver.listen),
        doc: "Where Front, or the proxy before us, posts webhooks. Loopback, so that nothing is open by accident; \
              \"0.0.0.0:8080\" in a container.",
    },
    Setting {
        key: "receiver.allowed_networks",
        default: "",
        slot: Slot::Networks(|s| &mut s.receiver.allowed_networks),
        doc: "Networks that may send, such as [\"203.0.113.0/24\", \"2001:db8::/32\"]; others are answered 403 before anything \
              else is looked at. Empty: all, for the signature decides in any case.",
    },
    Setting {
        key: "receiver.trusted_proxies",
        default: "",
        slot: Slot::Networks(|s| &mut s.receiver.trusted_proxies),
        doc: "Networks of the load balancers and proxies before us. Only from them, and from the right to the left, it is \
              believed whom they had a request from. Empty: the address of the connection counts.",
    },
    Setting {
        key: "receiver.forwarded_header",
        default: "x-forwarded-for",
        slot: Slot::Choice(&["x-forwarded-for", "forwarded"], |s, word| {
            s.receiver.forwarded_header = match word {
                "forwarded" => ForwardedHeader::Forwarded,
                _ => ForwardedHeader::XForwardedFor,
            }
        }),
        doc: "Where they write that: the one that they write or overwrite. The other may come from the sender, and is not read.",
    },
    Setting {
        key: "receiver.address_rate",
        default: "0",
        slot: Slot::Count(|s, n| s.receiver.address_rate = n, 0, 1_000_000),
        doc: "Requests a second that one address may send (of IPv6 a network of 64 bits); beyond it 429. 0: no limit, for Front \
              sends everything from a few addresses, and behind a proxy that is not in trusted_proxies all come from one.",
    },
    Setting {
        key: "receiver.address_burst",
        default: "1000",
        slot: Slot::Count(|s, n| s.receiver.address_burst = n, 1, 1_000_000),
        doc: "Requests that it may send at once, after a time without any. Only with address_rate.",
    },
    Setting {
        key: "receiver.body_bytes_max",
        default: "1MiB",
        slot: Slot::Bytes(|s| &mut s.receiver.body_bytes_max, KIB, 64 * MIB),
        doc: "Largest body taken; above it the answer is 413. The topic's max.message.bytes must be a little larger.",
    },
    Setting {
        key: "receiver.body_timeout",
        default: "5s",
        slot: Slot::Duration(|s| &mut s.receiver.body_timeout, ms(10), MINUTE),
        doc: "Longest time a body may take to arrive; beyond it the answer is 408. Front gives up after 5 s.",
    },
    Setting {
        key: "receiver.answer_timeout",
        default: "2500ms",
        slot: Slot::Duration(|s| &mut s.receiver.answer_timeout, ms(10), ms(4_900)),
        doc: "Longest time from a complete request to the answer; beyond it 503, so that Front tries again. Half of \
              Front's 5 s leaves room for the network and a proxy.",
    },
    Setting {
        key: "receiver.requests_in_flight_max",
        default: "4096",
        slot: Slot::Count(|s, n| s.receiver.requests_in_flight_max = size(n), 1, 1_000_000),
        doc: "Requests that wait for Kafka at once; beyond it 503. Four seconds of 1,000 a second.",
    },
    Setting {
        key: "receiver.bytes_in_flight_max",
        default: "64MiB",
        slot: Slot::Bytes(|s| &mut s.receiver.bytes_in_flight_max, KIB, 64 * GIB),
        doc: "Bytes of bodies that wait for Kafka at once; beyond it 503. Bounds the memory when Kafka is slow.",
    },
    Setting {
        key: "receiver.seen_events_max",
        default: "100000",
        slot: Slot::Count(|s, n| s.receiver.seen_events_max = size(n), 0, 100_000_000),
        doc: "Event ids remembered, so that a webhook sent twice is stored once. What is \
              forgotten here, the processor still recognises.",
    },
    Setting {
        key: "receiver.seen_events_ttl",
        default: "10m",
        slot: Slot::Duration(|s| &mut s.receiver.seen_events_ttl, SECOND, DAY),
        doc: "How long an event id is remembered. Front tries up to three times more and does not say when.",
    },
    Setting {
        key: "receiver.default_tenant",
        default: "default",
        slot: Slot::Text(|s, text| s.receiver.default_tenant = text, TextRule::NotEmpty),
        doc: "The company of an event where neither the URL nor the body names one, not even by a host in its links.",
    },
    Setting {
        key: "receiver.linger",
        default: "0ms",
        slot: Slot::Duration(|s| &mut s.receiver.linger, ms(0), ms(5)),
        doc: "How long the producer waits to fill a batch, 0ms to 5ms. 0ms answers soonest (p99 1.9 ms at 1,000 a \
              second); 1ms carries the highest rate (29,000 a second).",
    },
    Setting {
        key: "receiver.payload",
        default: "full",
        slot: Slot::Choice(&["full", "ids-only"], |s, word| {
            s.receiver.payload = match word {
                "ids-only" => PayloadKept::IdsOnly,
                _ => PayloadKept::Full,
            }
        }),
        doc: "full: the body is stored with the event. ids-only: no text of a customer is stored, only ids, kind, \
              priority and times.",
    },
    Setting {
        key: "receiver.application.window",
        default: "5m",
        slot: Slot::Duration(|s| &mut s.receiver.application.window, SECOND, DAY),
        doc: "How far a request's timestamp may be from now, on both sides. Front's own recommendation.",
    },
    Setting {
        key: "receiver.application.secrets",
        default: "",
        slot: Slot::Secrets(|s| &mut s.receiver.application.secrets),
        doc: "Secrets of the Front app whose application webhooks are taken; two during a rotation. Each has a name and \
              stands in a variable or a file, never here. Empty: such webhooks are refused.\n\
              \x20 application.secrets = [\n\
              \x20   { name = \"current\", env = \"FRONT_APP_SECRET\" },\n\
              \x20   { name = \"old\", file = \"/run/secrets/front-app-old\" },\n\
              \x20 ]\n\
              As a variable:\n\
              \x20 current=env:FRONT_APP_SECRET,old=file:/run/secrets/front-app-old",
    },
    Setting {
        key: "receiver.rule.secrets",
        default: "",
        slot: Slot::Secrets(|s| &mut s.receiver.rule_secrets),
        doc: "API secrets of Front's rule webhooks, written like those of receiver.application. Never the same \
              secret as there. Empty: rule webhooks are refused (they have no timestamp, so no replay protection).",
    },
    Setting {
        key: "receiver.relay.secrets",
        default: "",
        slot: Slot::Secrets(|s| &mut s.receiver.relay_secrets),
        doc: "Secrets of a relay that signs with hex HMAC-SHA256 and names events in X-Front-Event-ID, written like \
              those of receiver.application. Empty: such requests are refused.",
    },
    Setting {
        key: "processor.group",
        default: "frontstream",
        slot: Slot::Text(|s, text| s.processor.group = text, TextRule::NotEmpty),
        doc: "The consumer group, and the beginning of the transactional ids. All processors of one installation \
              share it.",
    },
    Setting {
        key: "processor.group_protocol",
        default: "classic",
        slot: Slot::Choice(&["classic", "consumer"], |s, word| {
            s.processor.group_protocol = match word {
                "consumer" => GroupProtocol::Consumer,
                _ => GroupProtocol::Classic,
            }
        }),
        doc: "classic: a restarted instance with an instance_id takes its partitions over at once. consumer: the \
              broker assigns (KIP-848, Kafka 4), and its session timeout replaces ours.",
    },
    Setting {
        key: "processor.workers",
        default: "1",
        slot: Slot::Count(|s, n| s.processor.workers = size(n), 1, 256),
        doc: "Threads, each with one consumer and one transactional producer. \
              Those beyond topics.events_partitions stand idle.",
    },
    Setting {
        key: "processor.instance_id",
        default: "",
        slot: Slot::Text(
            |s, text| s.processor.instance_id = (!text.is_empty()).then_some(text),
            TextRule::Instance,
        ),
        doc: "Stable name of this process, such as its pod's name; no two may share one. With it a restart keeps its \
              partitions and fences what it left behind. Empty: a new random id at each start.",
    },
    Setting {
        key: "processor.session_timeout",
        default: "20s",
        slot: Slot::Duration(|s| &mut s.processor.session_timeout, SECOND, minutes(30)),
        doc: "How long the group waits for a silent member before its partitions move. Longer than a restart of a \
              pod; the broker's group.min/max.session.timeout.ms bound it.",
    },
    Setting {
        key: "processor.commit_interval",
        default: "50ms",
        slot: Slot::Duration(|s| &mut s.processor.commit_interval, ms(1), ms(10_000)),
        doc: "Shortest time between two transactions; adds as much to a refresh's delay. A transaction costs about \
              10 ms.",
    },
    Setting {
        key: "processor.position_commit_interval",
        default: "5s",
        slot: Slot::Duration(|s| &mut s.processor.position_commit_interval, ms(10), minutes(60)),
        doc: "Shortest time between two commits that only move the position, when no refresh is due. Bounds what a \
              restart reads again.",
    },
    Setting {
        key: "processor.transaction_timeout",
        default: "10s",
        slot: Slot::Duration(|s| &mut s.processor.transaction_timeout, SECOND, minutes(15)),
        doc: "How long the broker keeps a transaction of a dead process open; readers of front.refresh wait for it. \
              Must be below processor.session_timeout: the partition's next owner must not meet it.",
    },
    Setting {
        key: "processor.metadata_bytes_max",
        default: "4096",
        slot: Slot::Bytes(|s| &mut s.processor.metadata_bytes_max, 128, 32_767),
        doc: "The broker's offset.metadata.max.bytes: how much state fits beside a committed offset. At 4096 some \
              thousand windows can be open per partition; raise both together.",
    },
    Setting {
        key: "processor.dedupe.horizon",
        default: "10m",
        slot: Slot::Duration(|s| &mut s.processor.dedupe.horizon, ms(0), DAY),
        doc: "How far back, in time of the log, an event is recognised as a duplicate. One from further back costs a \
              needless refresh, no more.",
    },
    Setting {
        key: "processor.dedupe.records",
        default: "20000",
        slot: Slot::Count(|s, n| s.processor.dedupe.records = n, 0, 10_000_000),
        doc: "The same bound in records of one partition. 20000 are about 40 MB to read again when a partition is \
              newly assigned.",
    },
    Setting {
        key: "processor.chunk.duration",
        default: "2s",
        slot: Slot::Duration(|s| &mut s.processor.chunk.duration, ms(10), minutes(5)),
        doc: "A backlog is worked off in chunks, so that it becomes few refreshes. A chunk ends after this much \
              work, or at one of the next two bounds.",
    },
    Setting {
        key: "processor.chunk.windows_max",
        default: "100000",
        slot: Slot::Count(|s, n| s.processor.chunk.windows_max = size(n), 1, 10_000_000),
        doc: "Conversations in one chunk.",
    },
    Setting {
        key: "processor.chunk.bytes_max",
        default: "64MiB",
        slot: Slot::Bytes(|s| &mut s.processor.chunk.bytes_max, MIB, 64 * GIB),
        doc: "Memory of one chunk, per worker.",
    },
    Setting {
        key: "processor.event_ids_max",
        default: "100",
        slot: Slot::Count(|s, n| s.processor.event_ids_max = size(n), 0, 10_000),
        doc: "Event ids listed in a refresh; the rest is counted, and the refresh says that ids are missing.",
    },
    Setting {
        key: "processor.lanes.high.gap",
        default: "300ms",
        slot: Slot::Duration(|s| &mut s.processor.lanes.high.gap, ms(0), minutes(60)),
        doc: "Messages, comments, changes of status: quiet time after which a conversation is refreshed. On a trace \
              of 233,000 events the defaults of the three lanes give 0.68 refreshes per event.",
    },
    Setting {
        key: "processor.lanes.high.cap",
        default: "800ms",
        slot: Slot::Duration(|s| &mut s.processor.lanes.high.cap, ms(1), minutes(60)),
        doc: "Longest wait, however busy the conversation is.",
    },
    Setting {
        key: "processor.lanes.medium.gap",
        default: "1s",
        slot: Slot::Duration(|s| &mut s.processor.lanes.medium.gap, ms(0), minutes(60)),
        doc: "Assignments: quiet time.",
    },
    Setting {
        key: "processor.lanes.medium.cap",
        default: "2500ms",
        slot: Slot::Duration(|s| &mut s.processor.lanes.medium.cap, ms(1), minutes(60)),
        doc: "Assignments: longest wait.",
    },
    Setting {
        key: "processor.lanes.low.gap",
        default: "2s",
        slot: Slot::Duration(|s| &mut s.processor.lanes.low.gap, ms(0), minutes(60)),
        doc: "Tags and anything unknown: quiet time.",
    },
    Setting {
        key: "processor.lanes.low.cap",
        default: "4s",
        slot: Slot::Duration(|s| &mut s.processor.lanes.low.cap, ms(1), minutes(60)),
        doc: "Tags and anything unknown: longest wait.",
    },
    Setting {
        key: "processor.drain_timeout",
        default: "20s",
        slot: Slot::Duration(|s| &mut s.processor.drain_timeout, SECOND, minutes(10)),
        doc: "Longest time a clean stop may take. Must cover processor.transaction_timeout; a pod's grace period \
              must be longer.",
    },
    Setting {
        key: "admin.listen",
        default: "127.0.0.1:9600",
        slot: Slot::Address(|s| &mut s.admin.listen),
        doc: "Where /healthz, /readyz and /metrics are served. Loopback, because the pages tell about the system; \
              \"0.0.0.0:9600\" in a container whose network is closed to strangers.",
    },
];

/// The sections of the file, with what each is about.
pub(crate) const SECTIONS: &[(&str, &str)] = &[
    ("log", "What the process says of itself, on stderr."),
    (
        "kafka",
        "How to reach the brokers; the same for every role and command.",
    ),
    (
        "topics",
        "The three topics, as `frontstream topics create` makes them and `frontstream topics check` expects them.",
    ),
    ("registry", "The schema registry, if there is one."),
    (
        "receiver",
        "The role `receiver`: webhooks in, verified, stored. At least one of the three lists of secrets is needed.",
    ),
    (
        "processor",
        "The role `processor`: many events to few refreshes, exactly once. Per priority a conversation waits for its \
         quiet time (gap), at most for its cap.",
    ),
    ("admin", "Health, readiness and metrics, beside every role."),
];

/// Returns every key, in the order of the example file.
pub(crate) fn keys() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|setting| setting.key)
}

/// Finds a setting by its key.
pub(crate) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// Says whether settings lie below `key`.
pub(crate) fn is_section(key: &str) -> bool {
    keys().any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}
