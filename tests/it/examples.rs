//! The example consumers of `examples/consumers/`, each with its language's ordinary client, on a topic whose content is
//! known; and `docs/consumers.md`, which shows what they print and what a record is made of.
//!
//! The clients come from their registries and some are compiled, so this runs when `FRONTSTREAM_TEST_EXAMPLES` says so, as
//! `scripts/test` does: then a missing toolchain is a failure. What the page shows of the schema is always checked.
//!
//! `UPDATE_DOCS=1` writes the parts of the page that are shown here, to be reviewed as a diff.

mod consumer;
mod page;

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};

use frontstream::model::{CloseReason, Kind, Priority, Refresh};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};

use self::consumer::{Consumer, Example};
use crate::support::process::{PATIENCE, wait_until};
use crate::support::{self, Cluster, Planted, checkpoint, frontstream, refresh};

#[test]
fn python() {
    reads_each_committed_refresh_once(&Example {
        language: "python",
        ended_by_signal: 0,
    });
}

#[test]
fn java() {
    reads_each_committed_refresh_once(&Example {
        language: "java",
        // 128 and the signal's number: what a JVM says that ended by one, however cleanly.
        ended_by_signal: 143,
    });
}

#[test]
fn node() {
    reads_each_committed_refresh_once(&Example {
        language: "node",
        ended_by_signal: 0,
    });
}

#[test]
fn go() {
    reads_each_committed_refresh_once(&Example {
        language: "go",
        ended_by_signal: 0,
    });
}

/// One group through four runs: from the beginning to a count, on from there until a signal, to a record that is not a
/// refresh, and to it again.
fn reads_each_committed_refresh_once(example: &Example) {
    if !wanted() {
        return;
    }
    let cluster = support::kafka();
    example.build();
    let mut stream = Stream::new(cluster, example.language);
    stream.plant_sample();
    // Still open while the first run reads: nobody may see it.
    stream.planted.begin(1, &[sample("cnv_open", Priority::High)]);

    let mut first = Consumer::start(example, &stream, Some(5));
    assert_eq!(first.wait(), Some(0), "{first}");
    assert_eq!(first.by_partition(), stream.lines, "{first}");
    page::shows("output", &first.sorted());
    assert_eq!(stream.committed(), stream.after_last(), "{first}");

    stream.planted.abort();
    stream.skip(1, 1);
    stream.lines.clear();
    let mut accented = sample("cnv_9c1e5s", Priority::Low);
    accented.kinds = vec![Kind::new("conversation.réouverte").unwrap()];
    stream.commit(1, &[accented]);
    let mut second = Consumer::start(example, &stream, None);
    wait_until("a refresh is printed", || {
        second.is_running();
        !second.printed().is_empty()
    });
    second.signal("TERM");
    assert_eq!(second.wait(), Some(example.ended_by_signal), "{second}");
    assert_eq!(second.by_partition(), stream.lines, "{second}");
    let committed = stream.committed();
    assert_eq!(committed[&1], stream.after_last()[&1], "{second}");

    let offset = stream.next[&1];
    stream.framed_for_a_registry(1);
    stream.commit(1, &[sample("cnv_behind_it", Priority::High)]);
    for _ in 0..2 {
        let mut third = Consumer::start(example, &stream, None);
        assert_eq!(third.wait(), Some(1), "{third}");
        assert_eq!(third.printed(), "", "nothing is passed over: {third}");
        let place = format!("partition 1 offset {offset}: ");
        assert!(
            third.complaints().contains(place.trim_end_matches(": ")),
            "{third}"
        );
        assert_eq!(stream.committed(), committed, "{third}");
    }
}

#[test]
fn kafkas_console_consumer() {
    if !wanted() {
        return;
    }
    let cluster = support::kafka();
    let mut stream = Stream::new(cluster, "console");
    stream.plant_sample();
    let tool = format!(
        "{}/scripts/kafka tools kafka-console-consumer",
        env!("CARGO_MANIFEST_DIR")
    );
    let output = Command::new("examples/consumers/console/consume.sh")
        .args(["--max-messages", "5", "--timeout-ms", "60000"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("KAFKA_CONSOLE_CONSUMER", tool)
        .env("KAFKA_BROKERS", &cluster.bootstrap)
        .env("KAFKA_TOPIC", &stream.planted.topics.names.refresh)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut lines = lines_of(&output);
    lines.sort();
    let offsets = stream.lines.iter().flat_map(|(partition, lines)| {
        lines
            .iter()
            .map(move |line| (partition, line["offset"].as_i64().unwrap(), line))
    });
    assert_eq!(lines.len(), offsets.clone().count(), "{lines:#?}");
    for (shown, (partition, offset, line)) in lines.iter().zip(offsets) {
        let (conversation, priority) = (
            line["conversation"].as_str().unwrap(),
            line["priority"].as_str().unwrap(),
        );
        assert!(
            shown.starts_with(&format!("Partition:{partition}\tOffset:{offset}\t")),
            "{shown}"
        );
        assert!(
            shown.contains(&format!("frontstream-priority:{priority}")),
            "{shown}"
        );
        assert!(shown.ends_with(&format!("\t{conversation}")), "{shown}");
    }
    page::shows("console", &lines.join("\n"));
}

#[test]
fn tail() {
    let cluster = support::kafka();
    let mut stream = Stream::new(cluster, "tail-example");
    stream.plant_sample();
    let set = stream.planted.arguments();
    let mut arguments = vec!["tail", "refresh", "--from", "beginning", "--no-follow", "--json"];
    arguments.extend(["--brokers", &cluster.bootstrap]);
    arguments.extend(set.iter().map(String::as_str));
    let mut lines: Vec<Value> = lines_of(&frontstream(&arguments).output().unwrap())
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    lines.sort_by_key(|line| (line["partition"].as_i64(), line["offset"].as_i64()));
    let expected: Vec<&Value> = stream.lines.values().flatten().collect();
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter_mut().zip(expected) {
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&line[field], value, "{field} of {line}");
        }
        // The broker's clock: another one each time that the page is written.
        line["recorded_at"] = "2026-11-18T11:06:41.050Z".into();
    }
    page::shows("tail", &lines[0].to_string());
}

#[test]
fn the_page_shows_the_schema_as_it_is() {
    page::shows("fields", &page::fields());
    page::shows("headers", &page::headers(&sample("cnv_8xk3m1", Priority::High)));
    page::shows("fingerprints", &page::fingerprints());
}

fn lines_of(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the tests' own switch, which is no setting of the product"
)]
fn wanted() -> bool {
    let wanted =
        std::env::var("FRONTSTREAM_TEST_EXAMPLES").is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
    if !wanted {
        support::say(
            "skipped: the example consumers need clients of four languages, set FRONTSTREAM_TEST_EXAMPLES=1",
        );
    }
    wanted
}

/// A refresh topic of two partitions, and what a read-committed reader is to make of it.
struct Stream<'a> {
    cluster: &'a Cluster,
    planted: Planted,
    /// The consumers' group.
    group: String,
    /// The next offset of each partition.
    next: BTreeMap<i32, i64>,
    /// The lines of the committed refreshes, by partition, in order.
    lines: BTreeMap<i32, Vec<Value>>,
}

impl<'a> Stream<'a> {
    fn new(cluster: &'a Cluster, test: &str) -> Self {
        let planted = Planted::new(cluster, test, 2);
        Self {
            cluster,
            group: format!("{}consumers", planted.topics.prefix),
            planted,
            next: BTreeMap::from([(0, 0), (1, 0)]),
            lines: BTreeMap::new(),
        }
    }

    /// Five committed refreshes; among them two aborted transactions of the same producer in one partition, which a client
    /// that forgets the first of them takes for committed.
    fn plant_sample(&mut self) {
        let mut first = refresh(0, "cnv_8xk3m1", &[("evt_1", 0), ("evt_2", 1), ("evt_3", 4)]);
        first.kinds.push(Kind::new("conversation.assigned").unwrap());
        self.commit(0, &[first]);
        self.abort(0, &[sample("cnv_8xk3m1", Priority::High)]);
        self.commit(0, &[sample("cnv_1q5h2v", Priority::Low)]);
        self.abort(
            0,
            &[
                sample("cnv_1q5h2v", Priority::Low),
                sample("cnv_8xk3m1", Priority::Medium),
            ],
        );
        let mut capped = sample("cnv_7d2kq0", Priority::Medium);
        capped.closed_by = CloseReason::Cap;
        self.commit(1, &[sample("cnv_8zt4ub", Priority::High), capped]);
        self.abort(1, &[sample("cnv_8zt4ub", Priority::High)]);
        self.commit(1, &[sample("cnv_8zt4ub", Priority::Low)]);
    }

    fn commit(&mut self, partition: i32, refreshes: &[Refresh]) {
        for (refresh, offset) in refreshes.iter().zip(self.next[&partition]..) {
            let line = line_of(refresh, partition, offset);
            self.lines.entry(partition).or_default().push(line);
        }
        self.planted.commit(partition, refreshes, &checkpoint(9, &[]));
        self.skip(partition, refreshes.len());
    }

    fn abort(&mut self, partition: i32, refreshes: &[Refresh]) {
        self.planted.begin(partition, refreshes);
        self.planted.abort();
        self.skip(partition, refreshes.len());
    }

    /// Counts the records of a transaction and its marker.
    fn skip(&mut self, partition: i32, records: usize) {
        *self.next.get_mut(&partition).unwrap() += i64::try_from(records).unwrap() + 1;
    }

    /// Appends what a processor writes that has a registry: a value that a reader without one cannot read.
    fn framed_for_a_registry(&mut self, partition: i32) {
        let producer: BaseProducer = self.cluster.client_config().create().unwrap();
        let record = BaseRecord::to(&self.planted.topics.names.refresh)
            .partition(partition)
            .key("cnv_bad")
            .payload(b"\x00\x00\x00\x00\x07and so on");
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(PATIENCE).unwrap();
        *self.next.get_mut(&partition).unwrap() += 1;
    }

    /// The offsets that a group which has handled these lines has committed.
    fn after_last(&self) -> BTreeMap<i32, i64> {
        let after = |lines: &Vec<Value>| lines.last().unwrap()["offset"].as_i64().unwrap() + 1;
        self.lines
            .iter()
            .map(|(partition, lines)| (*partition, after(lines)))
            .collect()
    }

    /// The offsets that the consumers' group has committed.
    fn committed(&self) -> BTreeMap<i32, i64> {
        consumer::committed(self.cluster, &self.group, &self.planted.topics.names.refresh)
    }
}

/// A refresh of one event.
fn sample(conversation: &str, priority: Priority) -> Refresh {
    Refresh {
        priority,
        ..refresh(0, conversation, &[("evt_1a2b3c4d", 7)])
    }
}

fn line_of(refresh: &Refresh, partition: i32, offset: i64) -> Value {
    let kinds: Vec<&str> = refresh.kinds.iter().map(|kind| kind.as_str()).collect();
    json!({
        "tenant": refresh.tenant.as_str(),
        "conversation": refresh.conversation.as_str(),
        "priority": refresh.priority.as_str(),
        "kinds": kinds,
        "event_count": refresh.event_count,
        "closed_by": refresh.closed_by.as_str(),
        "partition": partition,
        "offset": offset,
    })
}
