//! Everything that a campaign runs on: cluster, proxy, registry, topics and the fleet.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use frontstream::kafka::TopicNames;
use frontstream::lifecycle::{Clock, Instant};
use frontstream::model::RunCause;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::ends::Ends;
use super::fleet::{Fleet, Guard, INSTANCE_ID, Slot};
use super::load::SECRET;
use super::options::Options;
use super::plan::{Kind, PROCESSORS, RECEIVERS};
use super::proxy::Proxy;
use super::record::Record;
use super::verdict::{Begun, EVENT_IDS_MAX};
use crate::support::Cluster;
use crate::support::process::{Env, free_address, run};
use crate::support::registry::Registry;

/// How many partitions the topics have at the beginning.
const PARTITIONS: i32 = 6;

/// The least that a broker allows by default: a killed dynamic member's partitions move after this.
pub(crate) const SESSION: Duration = Duration::from_secs(6);

/// How long the broker keeps a dead process's transaction open.
const TRANSACTION: Duration = Duration::from_secs(5);

/// The variable that names the file with a process's clock step; only builds with debug assertions know it.
pub(crate) const CLOCK_HOOK: &str = "TEST_CLOCK_STEP";

/// How often something that brokers may refuse for a while is tried again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// For what an administrator asks of a cluster that has just lost a node.
const PATIENCE: Duration = Duration::from_secs(90);

/// What the brokers are told: shorter waits, so that a campaign is dense, and KIP-848 sessions as short as classic ones.
const BROKER_PROPERTIES: &[&str] = &[
    "broker.session.timeout.ms=4000",
    "broker.heartbeat.interval.ms=500",
    "replica.lag.time.max.ms=5000",
    "log.flush.start.offset.checkpoint.interval.ms=500",
    "group.consumer.min.session.timeout.ms=6000",
    "group.consumer.session.timeout.ms=6000",
    "group.consumer.min.heartbeat.interval.ms=1000",
    "group.consumer.heartbeat.interval.ms=1000",
];

/// The product's binary, in the campaign's folder.
const PRODUCT: &str = "frontstream";

/// Returns how often brokers look for transactions that have timed out.
///
/// One broker alone looks as rarely as by default. Started anew after it was killed, it finds itself dead in its metadata until
/// its old session has ended; a transaction that it aborts in that time, it ends without a marker in any partition
/// ("likely deleted already and hence can be skipped"), and no reader of committed records ever gets past it.
fn transaction_scan(brokers: u32) -> Duration {
    Duration::from_secs(if brokers == 1 { 10 } else { 1 })
}

/// The stage.
pub(crate) struct Stage {
    pub(crate) options: Options,
    pub(crate) dir: PathBuf,
    pub(crate) cluster: Cluster,
    pub(crate) proxy: Proxy,
    pub(crate) registry: Mutex<Registry>,
    pub(crate) names: TopicNames,
    pub(crate) group: String,
    pub(crate) receivers: Vec<SocketAddr>,
    pub(crate) fleet: Fleet,
    pub(crate) record: Record,
    /// For each partition the runs that faults made begin.
    pub(crate) begun: Mutex<BTreeMap<i32, Vec<Begun>>>,
    /// The settings of `audit` and other commands: on the plain listener.
    pub(crate) tool_env: Env,
    processor_env: Vec<(String, String)>,
}

impl Stage {
    /// Starts cluster and registry and makes the topics; the fleet stays empty.
    pub(crate) fn set(options: Options, dir: &Path) -> Self {
        // What is built meanwhile must not take part.
        let own = Path::new(env!("CARGO_BIN_EXE_frontstream"));
        let product = options.binary.as_deref().unwrap_or(own);
        fs::copy(product, dir.join(PRODUCT)).expect("the campaign's folder takes the product");
        let nodes = options.brokers as usize;
        let proxy = Proxy::reserve(nodes);
        let scan = format!(
            "transaction.abort.timed.out.transaction.cleanup.interval.ms={}",
            transaction_scan(options.brokers).as_millis()
        );
        let properties: Vec<_> = BROKER_PROPERTIES.iter().copied().chain([&*scan]).collect();
        let cluster = Cluster::start_proxied("campaign", proxy.ports(), &properties)
            .unwrap_or_else(|why| panic!("{why}"));
        proxy.lead_to(cluster.behind_proxy());
        let registry =
            Registry::start("campaign").expect("a campaign needs real parts: set FRONTSTREAM_TEST_KAFKA=1");
        let prefix = "campaign.";
        let tool_env = tool_env(&options, &cluster.bootstrap, &registry.url, prefix);
        let made = run(&["topics", "create"], &tool_env);
        assert!(
            made.status.success(),
            "topics create: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let common = common_env(&options, &proxy.bootstrap(), &registry.url, prefix);
        let receivers: Vec<_> = (0..RECEIVERS).map(|_| free_address()).collect();
        let processor_env = processor_env(&common, &options);
        let ends = Arc::<Ends>::default();
        let fleet = Fleet {
            receivers: (0..RECEIVERS)
                .map(|at| Arc::new(receiver(&common, at, receivers[at], dir, &ends)))
                .collect(),
            processors: (0..PROCESSORS)
                .map(|at| {
                    Arc::new(processor(
                        &processor_env,
                        &options,
                        &format!("processor-{}", at + 1),
                        None,
                        dir,
                        &ends,
                    ))
                })
                .collect(),
            ends,
            _guard: Guard::of(dir),
        };
        Self {
            options,
            dir: dir.to_owned(),
            cluster,
            proxy,
            registry: Mutex::new(registry),
            names: TopicNames::with_prefix(prefix),
            group: group(prefix),
            receivers,
            fleet,
            record: Record::default(),
            begun: Mutex::default(),
            tool_env,
            processor_env,
        }
    }

    /// How long it takes at most until the broker has aborted the transaction of a process that is dead or stopped.
    pub(crate) fn until_aborted(&self) -> Duration {
        TRANSACTION + transaction_scan(self.options.brokers)
    }

    /// How long after a fault's end its consequences may last: a session that must end and a rebalance, or a transaction that
    /// must time out, one after the other.
    pub(crate) fn recovery(&self) -> Duration {
        SESSION + self.until_aborted() + Duration::from_secs(3)
    }

    /// The same for one kind: a partition that nobody has is found by asking twice, ten seconds apart.
    pub(crate) fn recovery_of(&self, kind: Kind) -> Duration {
        let asking = Duration::from_secs(20);
        self.recovery()
            + if kind == Kind::PartitionsAdded {
                asking
            } else {
                Duration::ZERO
            }
    }

    /// Makes a processor beside the three; `instance` is whose instance id it takes, if it is to take one.
    pub(crate) fn extra(&self, name: &str, instance: Option<&str>) -> Slot {
        let ends = &self.fleet.ends;
        processor(
            &self.processor_env,
            &self.options,
            name,
            instance,
            &self.dir,
            ends,
        )
    }

    /// Returns how processes ended that must not end so, in words: [`Ends::unexpected`] says which.
    pub(crate) fn unexpected_ends(&self) -> Vec<String> {
        self.fleet.ends.unexpected(self.recovery())
    }

    /// Returns the node that coordinates the group: the leader of the partition of the internal topic that its hash names.
    pub(crate) fn coordinator(&self) -> Option<u32> {
        let client: BaseConsumer = self.cluster.client_config().create().expect("a consumer");
        let metadata = client
            .fetch_metadata(Some("__consumer_offsets"), Duration::from_secs(10))
            .ok()?;
        let partitions = metadata.topics().first()?.partitions();
        let count = i32::try_from(partitions.len()).ok()?;
        if count == 0 {
            return None;
        }
        let wanted = java_hash(&self.group) % count;
        let leader = partitions.iter().find(|one| one.id() == wanted)?.leader();
        u32::try_from(leader).ok()
    }

    /// Notes that a run must begin at `start`, where the group had committed `committed`; before any processor can begin it.
    pub(crate) fn note_run(&self, partition: i32, cause: RunCause, start: i64, committed: i64) {
        let begun = Begun {
            cause,
            start,
            committed,
            at: Clock::system().now(),
        };
        let mut all = self.begun.lock().expect("no one panics while holding it");
        all.entry(partition).or_default().push(begun);
    }

    /// Returns the first offset of a partition that no fault has deleted.
    pub(crate) fn earliest(&self, partition: i32) -> i64 {
        let all = self.begun.lock().expect("no one panics while holding it");
        let mut begun = all.get(&partition).into_iter().flatten();
        begun
            .rfind(|begun| begun.cause == RunCause::Retention)
            .map_or(0, |begun| begun.start)
    }

    /// Returns how many partitions `front.events` has, as the cluster says it.
    pub(crate) fn partitions(&self) -> i32 {
        let client: BaseConsumer = self.cluster.client_config().create().expect("a consumer");
        let mut count = 0;
        wait_until("the brokers tell of the topic", || {
            let metadata = client.fetch_metadata(Some(&self.names.events), Duration::from_secs(5));
            count = metadata
                .ok()
                .and_then(|found| Some(found.topics().first()?.partitions().len()))
                .unwrap_or(0);
            count > 0
        });
        i32::try_from(count).expect("a partition count")
    }

    /// Returns what the group has committed, by partition; without those that have nothing committed.
    pub(crate) fn committed(&self) -> BTreeMap<i32, i64> {
        let client: BaseConsumer = self
            .cluster
            .client_config()
            .set("group.id", &self.group)
            .create()
            .expect("a consumer");
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_range(&self.names.events, 0, self.partitions() - 1);
        let mut found = BTreeMap::new();
        wait_until("the group's offsets are told", || {
            let Ok(offsets) = client.committed_offsets(wanted.clone(), Duration::from_secs(5)) else {
                return false;
            };
            found = offsets
                .elements()
                .iter()
                .filter_map(|element| {
                    let Offset::Offset(offset) = element.offset() else {
                        return None;
                    };
                    Some((element.partition(), offset))
                })
                .collect();
            true
        });
        found
    }

    /// Returns the end of every partition of `front.events`.
    pub(crate) fn ends(&self) -> BTreeMap<i32, i64> {
        let client: BaseConsumer = self.cluster.client_config().create().expect("a consumer");
        let mut ends = BTreeMap::new();
        for partition in 0..self.partitions() {
            wait_until("the log's end is told", || {
                let found = client.fetch_watermarks(&self.names.events, partition, Duration::from_secs(5));
                if let Ok((_, end)) = found {
                    ends.insert(partition, end);
                }
                ends.contains_key(&partition)
            });
        }
        ends
    }

    /// Returns a client for an administrator's requests, with the options to give.
    pub(crate) fn admin(&self) -> (AdminClient<DefaultClientContext>, AdminOptions) {
        let client = self.cluster.client_config().create().expect("an admin client");
        let options = AdminOptions::new()
            .operation_timeout(Some(Duration::from_secs(10)))
            .request_timeout(Some(Duration::from_secs(15)));
        (client, options)
    }

    /// Sets the group back on one partition with Kafka's own tool, once it lets us: a killed static member counts as there
    /// until its session ends.
    pub(crate) fn reset(&self, partition: i32, offset: i64) {
        let topic = format!("{}:{partition}", self.names.events);
        let offset = offset.to_string();
        let mut arguments = vec!["--group", &self.group, "--topic", &topic, "--to-offset", &offset];
        arguments.extend(["--reset-offsets", "--execute"]);
        let mut said = String::new();
        let is_done = holds_within(PATIENCE, || {
            let output = self
                .cluster
                .tool_command("kafka-consumer-groups", &arguments)
                .output();
            let output = output.expect("the tool starts");
            said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            // It exits with success also when it refuses.
            output.status.success() && !said.contains("Error") && said.contains(&self.group)
        });
        assert!(is_done, "the offsets cannot be reset: {said}");
    }

    /// Steps the wall clock of a slot's processes by this much; zero puts it right.
    pub(crate) fn step_clock(&self, slot: &Slot, millis: i64) {
        let file = clock_file(&self.dir, &slot.name);
        // Whoever reads it meanwhile reads the one or the other, whole.
        let new = file.with_extension("new");
        fs::write(&new, millis.to_string()).expect("the campaign's folder takes a file");
        fs::rename(&new, &file).expect("the campaign's folder takes a file");
    }
}

/// Waits until `condition` holds.
///
/// # Panics
///
/// It does not within [`PATIENCE`].
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    assert!(
        holds_within(PATIENCE, &mut condition),
        "waited {PATIENCE:?} in vain until {what}"
    );
}

/// Waits until `condition` holds, at most so long; says whether it does.
pub(crate) fn holds_within(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > patience {
            return false;
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
    true
}

/// Lets time pass: for a fault that lasts as long as its plan says.
pub(crate) fn last(time: Duration) {
    holds_within(time, || false);
}

/// `String.hashCode` of Java, made positive as Kafka does, which is how coordinators are found.
fn java_hash(text: &str) -> i32 {
    let hash = text.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    hash & i32::MAX
}

fn group(prefix: &str) -> String {
    format!("{prefix}group")
}

fn clock_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.clock"))
}

fn common_env(options: &Options, brokers: &str, registry: &str, prefix: &str) -> Vec<(String, String)> {
    let replication = options.brokers.to_string();
    [
        ("FRONTSTREAM_KAFKA_BROKERS", brokers),
        ("FRONTSTREAM_REGISTRY_URL", registry),
        ("FRONTSTREAM_TOPICS_PREFIX", prefix),
        ("FRONTSTREAM_TOPICS_REPLICATION", &replication),
        ("FRONTSTREAM_TOPICS_EVENTS_PARTITIONS", &PARTITIONS.to_string()),
        ("FRONTSTREAM_TOPICS_REFRESH_PARTITIONS", &PARTITIONS.to_string()),
        ("FRONTSTREAM_PROCESSOR_GROUP", &group(prefix)),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

fn tool_env(options: &Options, brokers: &str, registry: &str, prefix: &str) -> Env {
    vec![
        ("FRONTSTREAM_KAFKA_BROKERS", brokers.to_owned()),
        ("FRONTSTREAM_REGISTRY_URL", registry.to_owned()),
        ("FRONTSTREAM_TOPICS_PREFIX", prefix.to_owned()),
        ("FRONTSTREAM_TOPICS_REPLICATION", options.brokers.to_string()),
        ("FRONTSTREAM_TOPICS_EVENTS_PARTITIONS", PARTITIONS.to_string()),
        ("FRONTSTREAM_TOPICS_REFRESH_PARTITIONS", PARTITIONS.to_string()),
        ("FRONTSTREAM_PROCESSOR_GROUP", group(prefix)),
    ]
}

fn processor_env(common: &[(String, String)], options: &Options) -> Vec<(String, String)> {
    let mut env = common.to_vec();
    let more = [
        (
            "FRONTSTREAM_PROCESSOR_GROUP_PROTOCOL",
            options.protocol.to_owned(),
        ),
        ("FRONTSTREAM_PROCESSOR_WORKERS", options.workers.to_string()),
        (
            "FRONTSTREAM_PROCESSOR_SESSION_TIMEOUT",
            format!("{}s", SESSION.as_secs()),
        ),
        (
            "FRONTSTREAM_PROCESSOR_TRANSACTION_TIMEOUT",
            format!("{}s", TRANSACTION.as_secs()),
        ),
        ("FRONTSTREAM_PROCESSOR_EVENT_IDS_MAX", EVENT_IDS_MAX.to_string()),
    ];
    env.extend(more.map(|(name, value)| (name.to_owned(), value)));
    env
}

fn processor(
    env: &[(String, String)],
    options: &Options,
    name: &str,
    instance: Option<&str>,
    dir: &Path,
    ends: &Arc<Ends>,
) -> Slot {
    let mut env = env.to_vec();
    env.push(("FRONTSTREAM_KAFKA_CLIENT_ID".to_owned(), name.to_owned()));
    if options.static_members {
        let id = instance.unwrap_or(name).to_owned();
        env.push((INSTANCE_ID.to_owned(), id));
    }
    slot(name, "processor", env, dir, ends)
}

fn receiver(
    common: &[(String, String)],
    at: usize,
    listen: SocketAddr,
    dir: &Path,
    ends: &Arc<Ends>,
) -> Slot {
    let name = format!("receiver-{}", at + 1);
    let mut env = common.to_vec();
    let more = [
        ("FRONTSTREAM_KAFKA_CLIENT_ID", name.clone()),
        ("FRONTSTREAM_RECEIVER_LISTEN", listen.to_string()),
        (
            "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS",
            "campaign=env:CAMPAIGN_SECRET".to_owned(),
        ),
        ("CAMPAIGN_SECRET", SECRET.to_owned()),
    ];
    env.extend(more.map(|(name, value)| (name.to_owned(), value)));
    slot(&name, "receiver", env, dir, ends)
}

fn slot(
    name: &str,
    role: &'static str,
    mut env: Vec<(String, String)>,
    dir: &Path,
    ends: &Arc<Ends>,
) -> Slot {
    let clock = clock_file(dir, name);
    fs::write(&clock, "0").expect("the campaign's folder takes a file");
    env.push((CLOCK_HOOK.to_owned(), clock.display().to_string()));
    Slot::new(name, role, &dir.join(PRODUCT), env, dir, ends)
}

#[cfg(test)]
mod tests {
    #[test]
    fn hashes_as_java_does() {
        // Source: the JDK's documentation of String.hashCode, worked out by hand for short words.
        assert_eq!(super::java_hash("ab"), 97 * 31 + 98);
        assert_eq!(
            super::java_hash("polygenelubricants"),
            0,
            "Integer.MIN_VALUE, made positive"
        );
    }
}
