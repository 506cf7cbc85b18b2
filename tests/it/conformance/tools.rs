//! Kafka's own command-line tools, which are Java clients: they work, and say what is so.

use std::io::Write as _;
use std::process::Stdio;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::Check;
use super::raw::{Raw, plain};
use crate::support::Cluster;
use crate::support::process::{PATIENCE, wait_until};

/// They need Java and Kafka's jars: run only where the real Kafka runs too.
pub(super) const AREA: &str = "Kafka's own tools";

pub(super) const CHECKS: &[Check] = &[
    Check {
        area: AREA,
        name: "kafka-topics creates, lists, describes, grows and deletes",
        run: topics,
    },
    Check {
        area: AREA,
        name: "kafka-configs describes, sets and resets a topic's settings",
        run: configs,
    },
    Check {
        area: AREA,
        name: "kafka-console-producer writes what kafka-console-consumer reads from the beginning",
        run: console,
    },
    Check {
        area: AREA,
        name: "kafka-console-consumer reads committed records only, as asked",
        run: console_read_committed,
    },
    Check {
        area: AREA,
        name: "kafka-get-offsets and kafka-delete-records agree on the ends of a partition",
        run: offsets_and_deleted_records,
    },
    Check {
        area: AREA,
        name: "kafka-transactions lists and describes transactions and producers",
        run: transactions,
    },
    Check {
        area: AREA,
        name: "kafka-producer-perf-test, idempotent and compressed, stores every record",
        run: java_producer,
    },
    Check {
        area: AREA,
        name: "kafka-broker-api-versions shows what is offered",
        run: api_versions,
    },
];

pub(super) fn topic(cluster: &Cluster, test: &str, partitions: i32) -> String {
    let topic = cluster.unique_prefix(test);
    cluster.create_topic(&topic, partitions);
    topic
}

fn topics(cluster: &Cluster) {
    let name = cluster.unique_prefix("kafka-topics");
    let run = |arguments: &[&str]| cluster.tool("kafka-topics", arguments);
    let create = [
        "--create",
        "--topic",
        &name,
        "--partitions",
        "3",
        "--config",
        "retention.ms=1000000",
    ];
    assert!(run(&create).contains("Created topic"));
    assert!(run(&["--list"]).lines().any(|line| line == name));
    let describe = ["--describe", "--topic", &name];
    let described = run(&describe);
    assert!(
        described.contains("PartitionCount: 3\tReplicationFactor: 1\t"),
        "{described}"
    );
    assert!(described.contains("retention.ms=1000000"), "{described}");
    assert_eq!(described.matches("\tPartition: ").count(), 3, "{described}");
    run(&["--alter", "--topic", &name, "--partitions", "5"]);
    wait_until("the tool sees the new partitions", || {
        run(&describe).contains("PartitionCount: 5\t")
    });
    let refused = refused(
        cluster,
        "kafka-topics",
        &["--alter", "--topic", &name, "--partitions", "2"],
    );
    assert!(refused.contains("InvalidPartitionsException"), "{refused}");
    run(&["--delete", "--topic", &name]);
    wait_until("the tool does not see the topic", || {
        !run(&["--list"]).contains(&name)
    });
}

/// Runs a tool that must fail, and returns all it said.
pub(super) fn refused(cluster: &Cluster, tool: &str, arguments: &[&str]) -> String {
    let output = cluster
        .tool_command(tool, arguments)
        .output()
        .expect("the tool starts");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let said = said.concat();
    assert!(
        !output.status.success() || said.contains("Error"),
        "it did not fail: {said}"
    );
    said
}

fn configs(cluster: &Cluster) {
    let topic = topic(cluster, "kafka-configs", 1);
    let entity = ["--entity-type", "topics", "--entity-name", &topic];
    let run = |arguments: &[&str]| cluster.tool("kafka-configs", &[arguments, &entity].concat());
    run(&[
        "--alter",
        "--add-config",
        "max.message.bytes=2000,retention.ms=60000",
    ]);
    let set = "max.message.bytes=2000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:max.message.bytes=2000";
    wait_until("the tool sees the setting", || run(&["--describe"]).contains(set));
    run(&["--alter", "--delete-config", "max.message.bytes"]);
    wait_until("the tool does not see the setting", || {
        let described = run(&["--describe"]);
        described.contains("retention.ms=60000") && !described.contains("max.message.bytes")
    });
    let all = run(&["--describe", "--all"]);
    assert!(
        all.contains("max.message.bytes=1048588 sensitive=false synonyms={"),
        "{all}"
    );
    let refused = refused(
        cluster,
        "kafka-configs",
        &[&["--alter", "--add-config", "no.such=1"][..], &entity].concat(),
    );
    assert!(refused.contains("no.such"), "{refused}");
}

fn console(cluster: &Cluster) {
    let topic = topic(cluster, "console", 3);
    let parse = ["--topic", &topic, "--reader-property", "parse.key=true"];
    let mut producer = cluster
        .tool_command("kafka-console-producer", &parse)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the tool starts");
    let mut input = producer.stdin.take().expect("a pipe");
    let sent: Vec<String> = (0..20)
        .map(|number| format!("key {}\tvalue {number}", number % 5))
        .collect();
    input
        .write_all(format!("{}\n", sent.join("\n")).as_bytes())
        .expect("the tool reads");
    drop(input);
    assert!(producer.wait().expect("the tool ends").success());
    let read = cluster.tool(
        "kafka-console-consumer",
        &[
            "--topic",
            &topic,
            "--from-beginning",
            "--max-messages",
            "20",
            "--timeout-ms",
            "30000",
            "--formatter-property",
            "print.key=true",
        ],
    );
    let mut read: Vec<&str> = read.lines().collect();
    for key in 0..5 {
        let of_key = |lines: &[&str]| -> Vec<String> {
            let prefix = format!("key {key}\t");
            let lines = lines.iter().filter(|line| line.starts_with(&prefix));
            lines.map(|line| (*line).to_owned()).collect()
        };
        let sent: Vec<&str> = sent.iter().map(String::as_str).collect();
        assert_eq!(of_key(&read), of_key(&sent), "in order for each key");
    }
    read.sort_unstable();
    let mut sent = sent;
    sent.sort_unstable();
    assert_eq!(read, sent);
}

fn console_read_committed(cluster: &Cluster) {
    let topic = topic(cluster, "committed", 1);
    let mut config = cluster.client_config();
    config.set("transactional.id", &topic);
    let producer: BaseProducer = config.create().expect("a producer");
    producer.init_transactions(PATIENCE).expect("a producer id");
    for (value, commit) in [("first", true), ("aborted", false), ("second", true)] {
        producer.begin_transaction().expect("begun");
        let record = BaseRecord::<str, str>::to(&topic).payload(value);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
        producer.flush(PATIENCE).expect("delivered");
        if commit {
            producer.commit_transaction(PATIENCE).expect("committed");
        } else {
            producer.abort_transaction(PATIENCE).expect("aborted");
        }
    }
    let read = |isolation: &str, count: &str| {
        let common = ["--topic", &topic, "--from-beginning", "--timeout-ms", "30000"];
        let these = ["--isolation-level", isolation, "--max-messages", count];
        cluster.tool("kafka-console-consumer", &[&common[..], &these].concat())
    };
    assert_eq!(read("read_committed", "2"), "first\nsecond\n");
    assert_eq!(read("read_uncommitted", "3"), "first\naborted\nsecond\n");
}

fn offsets_and_deleted_records(cluster: &Cluster) {
    let topic = topic(cluster, "ends", 2);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["a", "b", "c"]));
    raw.store(&topic, 1, &plain(&["d"]));
    let offsets = |time: &str| {
        let said = cluster.tool("kafka-get-offsets", &["--topic", &topic, "--time", time]);
        let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let both = |one: i64, other: i64| [format!("{topic}:0:{one}"), format!("{topic}:1:{other}")];
    assert_eq!(offsets("latest"), both(3, 1));
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let wanted = serde_json::json!({
        "version": 1,
        "partitions": [{ "topic": topic, "partition": 0, "offset": 2 }],
    });
    file.write_all(wanted.to_string().as_bytes()).expect("written");
    let path = file.path().to_str().expect("a path");
    let said = cluster.tool("kafka-delete-records", &["--offset-json-file", path]);
    assert!(said.contains("low_watermark: 2"), "{said}");
    assert_eq!(offsets("earliest"), both(2, 0));
    assert_eq!(offsets("latest"), both(3, 1));
}

fn transactions(cluster: &Cluster) {
    let topic = topic(cluster, "tool-transactions", 1);
    let id = format!("{topic}id");
    let mut config = cluster.client_config();
    config.set("transactional.id", &id);
    let producer: BaseProducer = config.create().expect("a producer");
    producer.init_transactions(PATIENCE).expect("a producer id");
    let run = |arguments: &[&str]| cluster.tool("kafka-transactions", arguments);
    let listed = || {
        let said = run(&["list"]);
        let line = said.lines().find(|line| line.starts_with(&id)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{id} is not in {said}"))
    };
    assert!(listed().contains("Empty"), "{}", listed());
    producer.begin_transaction().expect("begun");
    let record = BaseRecord::<str, str>::to(&topic).payload("x");
    producer.send(record).map_err(|(error, _)| error).expect("queued");
    producer.flush(PATIENCE).expect("delivered");
    assert!(listed().contains("Ongoing"), "{}", listed());
    let described = run(&["describe", "--transactional-id", &id]);
    assert!(
        described.contains("Ongoing") && described.contains(&format!("{topic}-0")),
        "{described}"
    );
    let producers = run(&["describe-producers", "--topic", &topic, "--partition", "0"]);
    let columns: Vec<&str> = producers
        .lines()
        .nth(1)
        .expect("one producer")
        .split_whitespace()
        .collect();
    assert_eq!(
        (columns[3], columns[5]),
        ("0", "0"),
        "last sequence and start of the transaction: {producers}"
    );
    producer.commit_transaction(PATIENCE).expect("committed");
    wait_until("the tool sees the end", || listed().contains("CompleteCommit"));
    let producers = run(&["describe-producers", "--topic", &topic, "--partition", "0"]);
    let columns: Vec<&str> = producers
        .lines()
        .nth(1)
        .expect("one producer")
        .split_whitespace()
        .collect();
    assert_eq!(columns[5], "None", "{producers}");
}

fn java_producer(cluster: &Cluster) {
    let topic = topic(cluster, "perf", 2);
    let arguments = [
        "--topic",
        &topic,
        "--num-records",
        "5000",
        "--record-size",
        "200",
        "--throughput",
        "-1",
        "--command-property",
        "compression.type=zstd",
        "enable.idempotence=true",
        "acks=all",
        "batch.size=2000",
    ];
    let said = cluster.tool("kafka-producer-perf-test", &arguments);
    assert!(said.contains("5000 records sent"), "{said}");
    assert_eq!(cluster.records(&topic).len(), 5_000);
}

fn api_versions(cluster: &Cluster) {
    let said = cluster.tool("kafka-broker-api-versions", &[]);
    assert!(
        said.starts_with(&format!("{} (id: 1 ", cluster.bootstrap)),
        "{said}"
    );
    for api in [
        "Produce(0): ",
        "Fetch(1): ",
        "JoinGroup(11): ",
        "InitProducerId(22): ",
    ] {
        let line = said.lines().find(|line| line.trim_start().starts_with(api));
        let line = line.unwrap_or_else(|| panic!("no {api}in {said}"));
        assert!(line.contains("usable: "), "{line}");
    }
}
