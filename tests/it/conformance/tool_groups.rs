//! Kafka's tools for groups, and consumers in groups.

use frontstream::lifecycle::Clock;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::Check;
use super::raw::{Raw, plain};
use super::tools::{AREA, refused, topic};
use crate::support::Cluster;
use crate::support::process::{PATIENCE, wait_until};

pub(super) const CHECKS: &[Check] = &[
    Check {
        area: AREA,
        name: "kafka-console-consumer goes on with its group where it left off",
        run: console_group,
    },
    Check {
        area: AREA,
        name: "kafka-consumer-groups lists and describes a group with members and one without",
        run: groups_described,
    },
    Check {
        area: AREA,
        name: "kafka-consumer-groups resets to the earliest, an offset, a time, and by a shift",
        run: groups_reset,
    },
    Check {
        area: AREA,
        name: "kafka-consumer-groups deletes offsets and a group, but not one with members",
        run: groups_deleted,
    },
];

/// Reads `count` records with the console consumer as a member of a group, which commits when it ends.
fn consume_in_group(cluster: &Cluster, topic: &str, group: &str, count: usize) -> Vec<String> {
    let count = count.to_string();
    let arguments = [
        "--topic",
        topic,
        "--group",
        group,
        "--from-beginning",
        "--max-messages",
        &count,
        "--timeout-ms",
        "30000",
    ];
    let read = cluster.tool("kafka-console-consumer", &arguments);
    read.lines().map(str::to_owned).collect()
}

fn console_group(cluster: &Cluster) {
    let topic = topic(cluster, "console-group", 1);
    let group = format!("{topic}group");
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["a", "b", "c"]));
    assert_eq!(consume_in_group(cluster, &topic, &group, 2), ["a", "b"]);
    raw.store(&topic, 0, &plain(&["d"]));
    assert_eq!(consume_in_group(cluster, &topic, &group, 2), ["c", "d"]);
    assert_eq!(committed(cluster, &topic, &group), Offset::Offset(4));
}

/// Returns what a group has committed for partition 0, as librdkafka sees it.
fn committed(cluster: &Cluster, topic: &str, group: &str) -> Offset {
    let client: BaseConsumer = cluster
        .client_config()
        .set("group.id", group)
        .create()
        .expect("a consumer");
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition(topic, 0);
    let found = client.committed_offsets(wanted, PATIENCE).expect("an answer");
    found.elements()[0].offset()
}

/// Commits an offset for a group without members.
fn commit(cluster: &Cluster, topic: &str, group: &str, offset: i64) {
    let client: BaseConsumer = cluster
        .client_config()
        .set("group.id", group)
        .create()
        .expect("a consumer");
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(topic, 0, Offset::Offset(offset))
        .expect("an offset");
    client
        .commit(&offsets, rdkafka::consumer::CommitMode::Sync)
        .expect("committed");
}

/// Joins a group with one member and returns it when it has its partitions.
fn member(cluster: &Cluster, topic: &str, group: &str) -> BaseConsumer {
    let mut config = cluster.client_config();
    config
        .set("group.id", group)
        .set("client.id", "the-member")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    consumer.subscribe(&[topic]).expect("subscribed");
    wait_until("it has its partitions", || {
        if let Some(message) = consumer.poll(std::time::Duration::from_millis(50)) {
            message.expect("no error");
        }
        consumer.assignment().expect("an assignment").count() > 0
    });
    consumer
}

/// Returns the columns of a group's row for partition 0.
fn row(cluster: &Cluster, topic: &str, group: &str) -> Vec<String> {
    let described = cluster.tool("kafka-consumer-groups", &["--describe", "--group", group]);
    let row = described
        .lines()
        .map(|line| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<String>>()
        })
        .find(|columns| columns.len() > 2 && columns[1] == topic && columns[2] == "0");
    row.unwrap_or_else(|| panic!("no row of {topic} in {described}"))
}

fn groups_described(cluster: &Cluster) {
    let topic = topic(cluster, "described", 1);
    let group = format!("{topic}group");
    let run = |arguments: &[&str]| cluster.tool("kafka-consumer-groups", arguments);
    Raw::connect(cluster).store(&topic, 0, &plain(&["a", "b", "c"]));
    commit(cluster, &topic, &group, 1);
    assert!(run(&["--list"]).lines().any(|line| line == group));
    assert_eq!(
        row(cluster, &topic, &group)[..6],
        [&*group, &*topic, "0", "1", "3", "2"]
    );
    assert_eq!(row(cluster, &topic, &group)[6], "-", "it has no member");
    let state = run(&["--describe", "--group", &group, "--state"]);
    assert!(state.contains("Empty"), "{state}");

    let consumer = member(cluster, &topic, &group);
    let with_member = row(cluster, &topic, &group);
    assert_eq!(with_member[..6], [&*group, &*topic, "0", "1", "3", "2"]);
    assert!(with_member[6].starts_with("the-member-"), "{with_member:?}");
    assert_eq!(with_member[7..], ["/127.0.0.1", "the-member"]);
    let members = run(&["--describe", "--group", &group, "--members", "--verbose"]);
    assert!(
        members.contains(&format!("{topic}(0)")) || members.contains(&format!("{topic}:0")),
        "{members}"
    );
    let state = run(&["--describe", "--group", &group, "--state"]);
    assert!(state.contains("Stable") && state.contains("range"), "{state}");
    let listed = run(&["--list", "--state", "stable"]);
    assert!(listed.contains(&group), "{listed}");
    drop(consumer);
}

fn groups_reset(cluster: &Cluster) {
    let topic = topic(cluster, "reset", 1);
    let group = format!("{topic}group");
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["a", "b", "c"]));
    let before = Clock::system().now().plus(std::time::Duration::from_millis(5));
    wait_until("the clock has moved on", || Clock::system().now() > before);
    raw.store(&topic, 0, &plain(&["d", "e"]));
    commit(cluster, &topic, &group, 5);
    let time = before.to_string();
    for (how, expected) in [
        (&["--to-earliest"][..], 0),
        (&["--to-offset", "4"], 4),
        (&["--to-datetime", time.trim_end_matches('Z')], 3),
        (&["--shift-by", "-2"], 1),
        (&["--shift-by", "3"], 4),
        (&["--to-latest"], 5),
        (&["--to-offset", "99"], 5),
    ] {
        let common = [
            "--group",
            &group,
            "--topic",
            &topic,
            "--reset-offsets",
            "--execute",
        ];
        let said = cluster.tool("kafka-consumer-groups", &[&common[..], how].concat());
        assert_eq!(
            committed(cluster, &topic, &group),
            Offset::Offset(expected),
            "{how:?}: {said}"
        );
    }
    let consumer = member(cluster, &topic, &group);
    let arguments = [
        "--group",
        &group,
        "--topic",
        &topic,
        "--reset-offsets",
        "--execute",
        "--to-earliest",
    ];
    let refused = refused(cluster, "kafka-consumer-groups", &arguments);
    assert!(refused.contains("inactive"), "{refused}");
    drop(consumer);
    assert_eq!(committed(cluster, &topic, &group), Offset::Offset(5));
}

fn groups_deleted(cluster: &Cluster) {
    let topic = topic(cluster, "groups-deleted", 1);
    let group = format!("{topic}group");
    Raw::connect(cluster).store(&topic, 0, &plain(&["a", "b"]));
    commit(cluster, &topic, &group, 1);
    let of_group = ["--group", &group];
    let run = |arguments: &[&str]| cluster.tool("kafka-consumer-groups", &[&of_group, arguments].concat());
    let said = run(&["--delete-offsets", "--topic", &topic]);
    assert!(said.contains("Successful"), "{said}");
    assert_eq!(committed(cluster, &topic, &group), Offset::Invalid);

    commit(cluster, &topic, &group, 2);
    let consumer = member(cluster, &topic, &group);
    let delete = [&of_group[..], &["--delete"]].concat();
    let refused = refused(cluster, "kafka-consumer-groups", &delete);
    assert!(refused.contains("GroupNotEmptyException"), "{refused}");
    // Leaves the group.
    drop(consumer);
    wait_until("the group is empty", || {
        run(&["--describe", "--state"]).contains("Empty")
    });
    assert_eq!(committed(cluster, &topic, &group), Offset::Offset(2));
    let said = run(&["--delete"]);
    assert!(said.contains("was successful"), "{said}");
    assert_eq!(committed(cluster, &topic, &group), Offset::Invalid);
    assert!(
        !cluster
            .tool("kafka-consumer-groups", &["--list"])
            .contains(&group)
    );
}
