//! The broker that the bench was given, and topics on it that are the bench's own.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use frontstream::kafka::TopicNames;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::options::Options;
use crate::process::{self, Env};

/// A broker on this machine answers within milliseconds; this is for one that is busy.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The secret that signs the bench's webhooks.
pub(crate) const SECRET: &str = "4f1d0c9be27a4e5b8a3360d7f5c2e891";

/// What every section needs.
pub(crate) struct Bench {
    pub(crate) options: Options,
    /// Empty when none was named: sections that need one are not run then.
    pub(crate) brokers: String,
}

impl Bench {
    /// Sees to it that the broker answers, if one was named.
    pub(crate) fn connect(options: Options) -> anyhow::Result<Self> {
        let brokers = options.brokers.clone().unwrap_or_default();
        let bench = Self { options, brokers };
        if bench.has_kafka() {
            let client: BaseConsumer = bench.client().create()?;
            client
                .fetch_metadata(None, ANSWER_TIMEOUT)
                .with_context(|| format!("no broker answers at {}", bench.brokers))?;
        }
        Ok(bench)
    }

    pub(crate) fn has_kafka(&self) -> bool {
        !self.brokers.is_empty()
    }

    /// Returns the configuration every client of the bench starts from.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "frontstream-bench");
        config
    }

    /// Makes the three topics, by the product's own command.
    pub(crate) fn topics(&self, name: &str, partitions: u32) -> anyhow::Result<Topics> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("bench-{}-{number}-{name}.", std::process::id());
        let topics = Topics {
            names: TopicNames::with_prefix(&prefix),
            prefix,
            partitions,
            config: self.client(),
            brokers: self.brokers.clone(),
        };
        let made = process::run(&["topics", "create"], &topics.env("unused"))?;
        ensure!(
            made.status.success(),
            "topics create: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        Ok(topics)
    }
}

/// Three topics of one section. Dropped, they are deleted.
pub(crate) struct Topics {
    pub(crate) names: TopicNames,
    pub(crate) partitions: u32,
    prefix: String,
    config: ClientConfig,
    brokers: String,
}

impl Topics {
    /// The settings of a process that works on these topics, as a member of `group`.
    pub(crate) fn env(&self, group: &str) -> Env {
        vec![
            ("FRONTSTREAM_KAFKA_BROKERS", self.brokers.clone()),
            ("FRONTSTREAM_TOPICS_PREFIX", self.prefix.clone()),
            (
                "FRONTSTREAM_TOPICS_EVENTS_PARTITIONS",
                self.partitions.to_string(),
            ),
            (
                "FRONTSTREAM_TOPICS_REFRESH_PARTITIONS",
                self.partitions.to_string(),
            ),
            ("FRONTSTREAM_TOPICS_DEAD_LETTERS_PARTITIONS", "1".to_owned()),
            ("FRONTSTREAM_PROCESSOR_GROUP", format!("{}{group}", self.prefix)),
            (
                "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS",
                "bench=env:SECRET_OF_THE_BENCH".to_owned(),
            ),
            ("SECRET_OF_THE_BENCH", SECRET.to_owned()),
        ]
    }

    /// Runs the product's own proof on these topics.
    pub(crate) fn audit(&self, group: &str) -> anyhow::Result<Audit> {
        let audit = process::run(&["audit", "--json", "--timeout", "60s"], &self.env(group))?;
        let said = String::from_utf8_lossy(&audit.stdout);
        let report: serde_json::Value = serde_json::from_str(&said)
            .with_context(|| format!("audit: {said}{}", String::from_utf8_lossy(&audit.stderr)))?;
        let exact = report["exact"].as_bool().context("an audit has a verdict")?;
        let total = |name: &str| -> anyhow::Result<u64> {
            report["totals"][name]
                .as_u64()
                .with_context(|| format!("an audit counts {name}: {said}"))
        };
        ensure!(
            exact == audit.status.success(),
            "the audit's exit code is not its verdict: {said}"
        );
        Ok(Audit {
            exact,
            events: total("events")?,
            counted: total("counted")?,
            refreshes: total("refreshes")?,
            open: total("open")?,
            said: said.clone().into_owned(),
        })
    }
}

/// What `frontstream audit` says.
pub(crate) struct Audit {
    pub(crate) exact: bool,
    pub(crate) events: u64,
    pub(crate) counted: u64,
    pub(crate) refreshes: u64,
    pub(crate) open: u64,
    pub(crate) said: String,
}

impl Drop for Topics {
    fn drop(&mut self) {
        let names = [&self.names.events, &self.names.refresh, &self.names.dead_letters];
        let delete = || -> anyhow::Result<()> {
            let admin: AdminClient<DefaultClientContext> = self.config.create()?;
            let options = AdminOptions::new().operation_timeout(Some(ANSWER_TIMEOUT));
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            runtime.block_on(admin.delete_topics(&names.map(String::as_str), &options))?;
            Ok(())
        };
        if let Err(error) = delete() {
            println!("   topics {}* are left behind: {error}", self.prefix);
        }
    }
}
