//! One run of an example: a process that is told by its environment what to read, and prints a line per refresh.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use super::Stream;
use crate::support::Cluster;
use crate::support::process::{PATIENCE, wait_until};

/// An example and what is its language's own way.
pub(super) struct Example {
    pub(super) language: &'static str,
    /// The exit code after SIGTERM.
    pub(super) ended_by_signal: i32,
}

impl Example {
    /// Installs its client, unless that was done before, and builds it.
    pub(super) fn build(&self) {
        let output = Command::new("scripts/examples")
            .args(["build", self.language])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "scripts/examples build {}: {wrong}",
            self.language
        );
    }
}

/// A running example. Dropped, it is killed.
pub(super) struct Consumer {
    child: Child,
    output: PathBuf,
    complaints: PathBuf,
}

impl Consumer {
    /// Starts the example on a stream, to end by itself after `count` refreshes.
    pub(super) fn start(example: &Example, stream: &Stream<'_>, count: Option<u32>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = |what: &str| {
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
                "example-{}-{}-{number}.{what}",
                example.language,
                std::process::id()
            ))
        };
        let (output, complaints) = (file("out"), file("err"));
        let run = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("target/examples")
            .join(example.language)
            .join("run");
        let child = Command::new(run)
            .env("KAFKA_BROKERS", &stream.cluster.bootstrap)
            .env("KAFKA_TOPIC", &stream.planted.topics.names.refresh)
            .env("KAFKA_GROUP", &stream.group)
            .env("COUNT", count.unwrap_or(0).to_string())
            .stdin(Stdio::null())
            .stdout(File::create(&output).unwrap())
            .stderr(File::create(&complaints).unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            output,
            complaints,
        }
    }

    /// Waits until it has ended, and returns its exit code.
    pub(super) fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("the example ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// Panics with its own words when it has ended.
    pub(super) fn is_running(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert_eq!(ended, None, "it ended: {self}");
    }

    pub(super) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success(), "kill -{name} failed");
    }

    /// What it has written to standard output so far, whole lines.
    pub(super) fn printed(&self) -> String {
        let mut text = std::fs::read_to_string(&self.output).unwrap();
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        text
    }

    /// What it has written to standard error so far.
    pub(super) fn complaints(&self) -> String {
        std::fs::read_to_string(&self.complaints).unwrap()
    }

    /// Its lines by partition, in the order printed.
    pub(super) fn by_partition(&self) -> BTreeMap<i32, Vec<Value>> {
        let mut lines: BTreeMap<i32, Vec<Value>> = BTreeMap::new();
        for line in self.printed().lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let partition = i32::try_from(line["partition"].as_i64().unwrap()).unwrap();
            lines.entry(partition).or_default().push(line);
        }
        lines
    }

    /// Its lines as printed, those of partition 0 first: two partitions may come in either order.
    pub(super) fn sorted(&self) -> String {
        let printed = self.printed();
        let mut lines: Vec<&str> = printed.lines().collect();
        lines.sort_by_key(|line| serde_json::from_str::<Value>(line).unwrap()["partition"].as_i64());
        lines.join("\n")
    }
}

impl fmt::Display for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it printed:\n{}{}", self.printed(), self.complaints())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.output);
        let _ = std::fs::remove_file(&self.complaints);
    }
}

/// The offsets that a group has committed on a topic's two partitions; those without one are left out.
pub(super) fn committed(cluster: &Cluster, group: &str, topic: &str) -> BTreeMap<i32, i64> {
    let client: BaseConsumer = cluster.client_config().set("group.id", group).create().unwrap();
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition_range(topic, 0, 1);
    let offsets = client.committed_offsets(wanted, PATIENCE).unwrap();
    let offset_of = |offset| match offset {
        Offset::Offset(offset) => Some(offset),
        Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => None,
    };
    offsets
        .elements()
        .iter()
        .filter_map(|element| Some((element.partition(), offset_of(element.offset())?)))
        .collect()
}
