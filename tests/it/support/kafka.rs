//! The broker of the tests: one that all of them share, or one of a test's own.
//!
//! Tests take it with `support::kafka()` and keep apart by topics of their own ([`Cluster::topics`]). It is the in-process
//! broker, unless `FRONTSTREAM_TEST_KAFKA` asks for a real Apache Kafka:
//!
//! | value | meaning |
//! |---|---|
//! | unset, empty, `0` | the in-process broker; tests that need the real one say so and pass |
//! | `host:port` | the cluster that runs there |
//! | anything else | one that is started through `scripts/kafka`, once per run, on a free port |
//!
//! **Stopping.** A real cluster that a run started must not outlive it, whatever ends the run: a static is never dropped, a
//! panic handler does not see SIGKILL, and watching a pid races with its reuse. So a *guard*, a shell in its own process
//! group, holds the read end of a pipe whose write end only this process has: when this process is gone, the kernel
//! closes it, and the guard kills the broker and removes its data. The guard exists before the broker does.
//! Standard library pipes are close-on-exec, so nothing that a test starts keeps the guard from its work.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use frontstream::dev_broker::DevBroker;
use frontstream::kafka::{Settings, TopicNames};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::OwnedMessage;
use rdkafka::{Message as _, Offset, TopicPartitionList};

/// A broker on this machine answers within milliseconds; this is for one that is busy with everybody's tests.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the broker that all tests of this run share: the in-process one, or the real Kafka if that is wanted.
///
/// The first call starts it, which takes some seconds for the real one. Blocks; any thread may call it.
///
/// # Panics
///
/// It cannot be started. Every later call says the same again, without another attempt.
pub(crate) fn kafka() -> &'static Cluster {
    if real_is_wanted() {
        shared_real()
    } else {
        in_process()
    }
}

/// Returns the real Kafka, or `None`, visibly, when it is not wanted: for tests of what only that has, such as several
/// nodes, [`Cluster::script`] and Kafka's own tools.
///
/// # Panics
///
/// As [`kafka`].
pub(crate) fn real_kafka() -> Option<&'static Cluster> {
    wants_real_kafka().then(shared_real)
}

/// Says whether this run may start a real Kafka, and to whoever runs it when not: for tests with a cluster of their own.
pub(crate) fn wants_real_kafka() -> bool {
    if real_is_wanted() {
        return true;
    }
    let thread = std::thread::current();
    say(&format!(
        "skipped: {} needs a real Kafka, set FRONTSTREAM_TEST_KAFKA=1",
        thread.name().unwrap_or("a test")
    ));
    false
}

/// Returns the in-process broker that all tests of this run share.
///
/// # Panics
///
/// As [`kafka`].
pub(crate) fn in_process() -> &'static Cluster {
    static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
    or_panic(SHARED.get_or_init(Cluster::start_in_process))
}

fn shared_real() -> &'static Cluster {
    static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
    or_panic(SHARED.get_or_init(|| {
        let wanted = wanted();
        if wanted.contains(':') {
            Ok(Cluster::running_at(wanted))
        } else {
            Cluster::start("tests", 1)
        }
    }))
}

fn or_panic(shared: &Result<Cluster, String>) -> &Cluster {
    match shared {
        Ok(cluster) => cluster,
        Err(why) => panic!("{why}"),
    }
}

fn real_is_wanted() -> bool {
    !matches!(wanted().as_str(), "" | "0")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the tests' own switch, which is no setting of the product"
)]
fn wanted() -> String {
    std::env::var("FRONTSTREAM_TEST_KAFKA").unwrap_or_default()
}

/// Tells whoever runs the tests. Written past the test harness, which shows what a test prints only when it fails.
pub(crate) fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes a line");
}

/// A running cluster. Dropped, it is stopped and its data removed, if it was started here.
pub(crate) struct Cluster {
    /// `host:port`, comma separated.
    pub(crate) bootstrap: String,
    backing: Backing,
}

/// What answers at a cluster's address.
enum Backing {
    /// Serves until it is dropped.
    InProcess {
        _broker: DevBroker,
    },
    Scripts(Started),
    /// Somebody else's, which is left alone.
    Elsewhere,
}

/// A real cluster that `scripts/kafka` started.
struct Started {
    name: String,
    data: PathBuf,
    /// Of node 1, 2, …: where a proxy leads clients to; empty unless it has one.
    behind_proxy: Vec<SocketAddr>,
    guard: Option<Child>,
}

/// The three topics of one test.
pub(crate) struct Topics {
    /// What stands before each name: the value for `topics.prefix`. Also good for the name of a group.
    pub(crate) prefix: String,
    pub(crate) names: TopicNames,
}

impl Cluster {
    /// Starts a cluster of a test's own, of one node or three. Tests that stop brokers use this.
    pub(crate) fn start(name: &str, nodes: u32) -> Result<Self, String> {
        Self::start_with(name, &["--nodes", &nodes.to_string()])
    }

    /// Starts a cluster of a test's own whose nodes, one or three, send clients that come through a proxy back to it: to
    /// these ports, one for each node. `properties` are settings of the brokers, `key=value`.
    ///
    /// Tools and judges reach it as any other, past the proxy.
    pub(crate) fn start_proxied(name: &str, ports: &[u16], properties: &[&str]) -> Result<Self, String> {
        let nodes = ports.len().to_string();
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        let ports = ports.join(",");
        let mut options = vec!["--nodes", &nodes, "--proxied", &ports];
        for property in properties {
            options.extend(["--property", *property]);
        }
        Self::start_with(name, &options)
    }

    fn start_with(name: &str, options: &[&str]) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{name}-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka").join(&name);
        let mut cluster = Self {
            bootstrap: String::new(),
            backing: Backing::Scripts(Started {
                guard: Some(spawn_guard(&name, &data)),
                name,
                data,
                behind_proxy: Vec::new(),
            }),
        };
        let mut options = options.to_vec();
        options.extend(["--port", "0", "--json"]);
        let answer = cluster.script("start", &options)?;
        let answer: serde_json::Value =
            serde_json::from_str(&answer).map_err(|error| format!("not JSON ({error}): {answer}"))?;
        cluster.bootstrap = answer["bootstrap_servers"]
            .as_str()
            .ok_or_else(|| format!("no bootstrap_servers in {answer}"))?
            .to_owned();
        if let Backing::Scripts(started) = &mut cluster.backing {
            let nodes = answer["nodes"].as_array().into_iter().flatten();
            let ports = nodes.filter_map(|node| u16::try_from(node["proxied_port"].as_u64()?).ok());
            started.behind_proxy = ports.map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect();
        }
        Ok(cluster)
    }

    fn start_in_process() -> Result<Self, String> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let broker =
            DevBroker::start(listen).map_err(|error| format!("start the in-process broker: {error}"))?;
        Ok(Self {
            bootstrap: broker.address().to_string(),
            backing: Backing::InProcess { _broker: broker },
        })
    }

    fn running_at(bootstrap: String) -> Self {
        Self {
            bootstrap,
            backing: Backing::Elsewhere,
        }
    }

    /// Returns the group protocols that it speaks, as `group.protocol` has them.
    pub(crate) fn protocols(&self) -> &'static [&'static str] {
        match self.backing {
            Backing::InProcess { .. } => &["classic"],
            Backing::Scripts(_) | Backing::Elsewhere => &["classic", "consumer"],
        }
    }

    /// Says whether [`Cluster::tool`] can be used in this run: Kafka's tools come with the real broker.
    #[expect(
        clippy::unused_self,
        reason = "asked of the cluster that the tools are to look at"
    )]
    pub(crate) fn has_tools(&self) -> bool {
        real_is_wanted()
    }

    /// Runs `scripts/kafka <verb>` on this cluster (`stop --node 2`, `start --node 2`, `status`) and returns its output.
    pub(crate) fn script(&self, verb: &str, options: &[&str]) -> Result<String, String> {
        output_of(self.script_command(verb, options)?)
    }

    fn script_command(&self, verb: &str, options: &[&str]) -> Result<Command, String> {
        let Backing::Scripts(started) = &self.backing else {
            return Err("this cluster was not started by scripts/kafka".to_owned());
        };
        let mut command = Command::new(script_path());
        command
            .args([verb, "--name", &started.name, "--data"])
            .arg(&started.data)
            .args(options);
        Ok(command)
    }

    /// Returns where the proxy of [`Cluster::start_proxied`] must lead clients to: node 1, 2, …
    pub(crate) fn behind_proxy(&self) -> &[SocketAddr] {
        match &self.backing {
            Backing::Scripts(started) => &started.behind_proxy,
            Backing::InProcess { .. } | Backing::Elsewhere => &[],
        }
    }

    /// Kills a node as a power cut would; the first one is 1. Returns when it is gone.
    pub(crate) fn kill_node(&self, node: u32) {
        self.on_node("stop", node, &["--kill"]);
    }

    /// Stops a node cleanly. Returns when it is gone.
    pub(crate) fn stop_node(&self, node: u32) {
        self.on_node("stop", node, &[]);
    }

    /// Starts a node where it was, and does not wait until it answers: [`Cluster::await_node`] does.
    pub(crate) fn start_node(&self, node: u32) {
        self.on_node("start", node, &["--wait", "0"]);
    }

    /// Waits until a node answers.
    pub(crate) fn await_node(&self, node: u32) {
        super::process::wait_until("the node answers", || {
            self.script("status", &["--node", &node.to_string()]).is_ok()
        });
    }

    /// Returns the process of a node; `None` while it is stopped.
    pub(crate) fn node_pid(&self, node: u32) -> Option<u32> {
        // Its exit status says whether the node answers, which is not the question: a frozen one has a process too.
        let command = self.script_command("status", &["--json", "--node", &node.to_string()]);
        let output = command.and_then(|mut command| command.output().map_err(|error| error.to_string()));
        let output = output.unwrap_or_else(|why| panic!("{why}"));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let pid = answer["nodes"][0]["pid"].as_u64()?;
        Some(u32::try_from(pid).expect("a pid"))
    }

    fn on_node(&self, verb: &str, node: u32, options: &[&str]) {
        let node = node.to_string();
        let mut all = vec!["--node", &node];
        all.extend(options);
        self.script(verb, &all).unwrap_or_else(|why| panic!("{why}"));
    }

    /// Kills all nodes and copies their data and logs to `to`, for whoever looks into what went wrong.
    pub(crate) fn keep(&self, to: &Path) {
        let Backing::Scripts(started) = &self.backing else {
            return;
        };
        if let Err(why) = self.script("stop", &["--kill"]) {
            say(&format!("the cluster does not stop: {why}"));
        }
        let copied = Command::new("cp")
            .args(["-a", "--sparse=always"])
            .arg(&started.data)
            .arg(to)
            .status();
        if !copied.is_ok_and(|status| status.success()) {
            say("the cluster's data could not be kept");
        }
    }

    /// Says whether every node has it on its disk that a partition's log begins at `start` or later, so that it still does
    /// after all of them were killed. `log.flush.start.offset.checkpoint.interval.ms` says how often a node writes it.
    pub(crate) fn is_log_start_on_disk(&self, topic: &str, partition: i32, start: i64) -> bool {
        let Backing::Scripts(started) = &self.backing else {
            panic!("only a cluster of our own has its disk here");
        };
        let begins_there = |line: &str| {
            let mut words = line.split(' ');
            (words.next(), words.next()) == (Some(topic), Some(&*partition.to_string()))
                && words
                    .next()
                    .and_then(|at| at.parse().ok())
                    .is_some_and(|at: i64| at >= start)
        };
        let nodes = self.bootstrap.split(',').count();
        (1..=nodes).all(|node| {
            let path = started
                .data
                .join(format!("node-{node}/data/log-start-offset-checkpoint"));
            // Absent until the node writes it for the first time.
            std::fs::read_to_string(path).is_ok_and(|text| text.lines().any(begins_there))
        })
    }

    /// Says whether every partition has all its copies in sync.
    pub(crate) fn is_in_sync(&self) -> bool {
        let client: BaseConsumer = self.client_config().create().expect("a consumer");
        let Ok(metadata) = client.fetch_metadata(None, ANSWER_TIMEOUT) else {
            return false;
        };
        let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        partitions.all(|one| one.isr().len() == one.replicas().len())
    }

    /// Runs one of Kafka's own tools on this cluster, such as `kafka-consumer-groups`, and returns its output.
    ///
    /// # Panics
    ///
    /// It fails; the message has what it wrote to standard error.
    pub(crate) fn tool(&self, tool: &str, arguments: &[&str]) -> String {
        output_of(self.tool_command(tool, arguments)).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Returns the command that runs one of Kafka's own tools on this cluster, for tests that feed it or expect it to fail.
    pub(crate) fn tool_command(&self, tool: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(script_path());
        command
            .args(["tools", tool, "--bootstrap-server", &self.bootstrap])
            .args(arguments);
        command
    }

    /// Returns how to reach this cluster, as the product's settings have it.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            brokers: self.bootstrap.clone(),
            client_id: "frontstream-tests".into(),
            properties: BTreeMap::new(),
        }
    }

    /// Returns the configuration of a client of the test's own.
    pub(crate) fn client_config(&self) -> ClientConfig {
        self.settings().client_config()
    }

    /// Returns a prefix for names that no other test and no other run uses.
    pub(crate) fn unique_prefix(&self, test: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // The cluster may outlive this run, and pids come back: hence something random too.
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), number);
        format!("{test}-{}-{number}-{:x}.", std::process::id(), random & 0xFFFF)
    }

    /// Makes the three topics for one test: events and refresh with `partitions` each, dead letters with one.
    pub(crate) fn topics(&self, test: &str, partitions: i32) -> Topics {
        let prefix = self.unique_prefix(test);
        let names = TopicNames::with_prefix(&prefix);
        self.create_topic(&names.events, partitions);
        self.create_topic(&names.refresh, partitions);
        self.create_topic(&names.dead_letters, 1);
        Topics { prefix, names }
    }

    /// Makes one topic and returns when it can be used.
    pub(crate) fn create_topic(&self, name: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> =
            self.client_config().create().expect("an admin client");
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        let options = AdminOptions::new().operation_timeout(Some(ANSWER_TIMEOUT));
        let results =
            super::block_on(admin.create_topics(&[topic], &options)).expect("an answer from the broker");
        for result in results {
            result.unwrap_or_else(|(topic, code)| panic!("create {topic}: {code}"));
        }
        self.await_topic(name, partitions);
    }

    /// Lets the topics of events and refreshes grow to so many partitions.
    pub(crate) fn grow(&self, topics: &Topics, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> =
            self.client_config().create().expect("an admin client");
        let options = AdminOptions::new().operation_timeout(Some(ANSWER_TIMEOUT));
        for name in [&topics.names.refresh, &topics.names.events] {
            let wanted = NewPartitions::new(name, usize::try_from(partitions).expect("a count"));
            let results = super::block_on(admin.create_partitions(&[wanted], &options))
                .expect("an answer from the broker");
            for result in results {
                result.unwrap_or_else(|(topic, code)| panic!("let {topic} grow: {code}"));
            }
            self.await_topic(name, partitions);
        }
    }

    /// Waits until a topic can be used: a broker answers before its own metadata knows of it.
    fn await_topic(&self, name: &str, partitions: i32) {
        let client: BaseConsumer = self.client_config().create().expect("a consumer");
        super::process::wait_until("the topic can be used", || {
            let metadata = client
                .fetch_metadata(Some(name), ANSWER_TIMEOUT)
                .expect("metadata");
            metadata
                .topics()
                .iter()
                .flat_map(|topic| topic.partitions())
                .filter(|one| one.leader() >= 0)
                .count()
                == usize::try_from(partitions).expect("a count")
        });
    }

    /// Returns the names of all topics.
    pub(crate) fn topic_names(&self) -> Vec<String> {
        let client: BaseConsumer = self.client_config().create().expect("a consumer");
        let metadata = client.fetch_metadata(None, ANSWER_TIMEOUT).expect("metadata");
        metadata
            .topics()
            .iter()
            .map(|topic| topic.name().to_owned())
            .collect()
    }

    /// Reads what `topic` holds now, committed records only, in the order of partitions and offsets.
    pub(crate) fn records(&self, topic: &str) -> Vec<OwnedMessage> {
        let consumer: BaseConsumer = self
            .client_config()
            .set("group.id", "frontstream-tests-records")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .create()
            .expect("a consumer");
        let partitions = partition_count(&consumer, topic);
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment
                .add_partition_offset(topic, partition, Offset::Beginning)
                .expect("the beginning is an offset");
        }
        consumer.assign(&assignment).expect("an assignment");
        let mut records = Vec::new();
        let mut at_end = std::collections::BTreeSet::new();
        while at_end.len() < usize::try_from(partitions).expect("a count") {
            match consumer
                .poll(ANSWER_TIMEOUT)
                .expect("records or the end of a partition")
            {
                Ok(message) => records.push(message.detach()),
                Err(KafkaError::PartitionEOF(partition)) => {
                    at_end.insert(partition);
                }
                Err(error) => panic!("read {topic}: {error}"),
            }
        }
        records.sort_by_key(|record| (record.partition(), record.offset()));
        records
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Backing::Scripts(started) = &mut self.backing else {
            return;
        };
        if let Some(mut guard) = started.guard.take() {
            // Closing the pipe is the signal; then its work is awaited, so that the ports are free again.
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }
}

fn spawn_guard(name: &str, data: &Path) -> Child {
    // INT and TERM of a terminal or a CI step go to a whole group; the guard must outlive them.
    let script = r#"trap '' HUP INT TERM; while read -r _; do :; done; exec "$0" stop --name "$1" --data "$2" --kill --wipe"#;
    Command::new("sh")
        .args(["-c", script])
        .arg(script_path())
        .arg(name)
        .arg(data)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("sh starts")
}

fn script_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka")
}

fn output_of(mut command: Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(stdout)
    } else {
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(format!("{command:?}: {}\n{stdout}{stderr}", output.status))
    }
}

fn partition_count(consumer: &BaseConsumer, topic: &str) -> i32 {
    let metadata = consumer
        .fetch_metadata(Some(topic), ANSWER_TIMEOUT)
        .expect("metadata of the topic");
    let count = metadata
        .topics()
        .first()
        .map_or(0, |topic| topic.partitions().len());
    assert!(count > 0, "there is no topic {topic}");
    i32::try_from(count).expect("a partition count")
}

#[cfg(test)]
mod tests {
    use frontstream::lifecycle::Instant;
    use rdkafka::Message as _;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

    use super::{ANSWER_TIMEOUT, Backing};
    use crate::support::{Cluster, kafka, real_kafka};

    #[test]
    fn the_shared_cluster_stores_records() {
        let cluster = kafka();
        let topics = cluster.topics("support", 3);
        let producer: BaseProducer = cluster.client_config().create().expect("a producer");
        for partition in [2, 0, 2] {
            let record = BaseRecord::<str, str>::to(&topics.names.events)
                .partition(partition)
                .payload("x");
            producer.send(record).map_err(|(error, _)| error).expect("queued");
        }
        producer.flush(ANSWER_TIMEOUT).expect("delivered");

        let read: Vec<_> = cluster
            .records(&topics.names.events)
            .iter()
            .map(|record| (record.partition(), record.offset()))
            .collect();
        assert_eq!(read, [(0, 0), (2, 0), (2, 1)]);

        assert!(cluster.topic_names().contains(&topics.names.dead_letters));
        assert!(topics.names.refresh.starts_with(&topics.prefix));
    }

    #[test]
    fn a_cluster_of_a_tests_own_is_gone_when_it_is_dropped() {
        if real_kafka().is_none() {
            return;
        }
        let own = Cluster::start("support-own", 1).expect("starts");
        own.script("status", &[]).expect("it runs");
        let Backing::Scripts(started) = &own.backing else {
            panic!("it was started here");
        };
        let (data, address) = (started.data.clone(), own.bootstrap.clone());
        drop(own);
        assert!(!data.exists(), "its data is removed");
        // The kernel closes a killed process's sockets a moment after it says that the process is gone.
        let dropped = Instant::now();
        while std::net::TcpStream::connect(&address).is_ok() {
            assert!(
                dropped.elapsed() < ANSWER_TIMEOUT,
                "something listens on {address} still"
            );
            std::thread::yield_now();
        }
    }
}
