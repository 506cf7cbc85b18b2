//! `topics`, `lag` and `tail` on a broker, as an operator types them.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::{self, Cluster, Planted, checkpoint, frontstream, refresh};

#[test]
fn topics_are_created_once_and_what_differs_is_found() {
    let cluster = support::kafka();
    let prefix = format!("topics.prefix={}", cluster.unique_prefix("topics"));
    let run = |action: &str, more: &[&str]| {
        let mut arguments = vec!["topics", action, "--json", "--set", &prefix];
        arguments.extend([
            "--set",
            "topics.events_partitions=3",
            "--set",
            "topics.refresh_partitions=3",
        ]);
        arguments.extend(more);
        operator(cluster, &arguments)
    };

    let nothing_there = run("check", &[]);
    assert_eq!(nothing_there.status.code(), Some(1));
    assert_eq!(whats(&nothing_there), ["missing", "missing", "missing"]);

    for outcome in ["created", "existed"] {
        let created = run("create", &[]);
        assert_eq!(created.status.code(), Some(0), "{created:?}");
        let answer = json_of(&created);
        let outcomes: Vec<&Value> = answer["topics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|topic| &topic["outcome"])
            .collect();
        assert_eq!(outcomes, [outcome; 3]);
        assert_eq!(answer["differences"], json!([]));
    }
    assert_eq!(run("check", &[]).status.code(), Some(0));

    let other_settings = run(
        "check",
        &[
            "--set",
            "topics.refresh_retention=1h",
            "--set",
            "topics.dead_letters_partitions=5",
        ],
    );
    assert_eq!(other_settings.status.code(), Some(1));
    assert_eq!(whats(&other_settings), ["retention.ms", "the partition count"]);
}

#[test]
fn the_largest_record_of_the_event_topic_fits_into_a_dead_letter_with_its_origin() {
    let settings = support::settings("127.0.0.1:9092", &["receiver.body_bytes_max=3MiB"]);
    let [events, refresh, dead_letters] = &frontstream::operate::topics::wanted(&settings)[..] else {
        panic!("three topics");
    };
    let event = events.record_bytes_max.unwrap();
    assert!(event >= 3 * 1_024 * 1_024 + 32 * 1_024, "{event}");
    assert!(dead_letters.record_bytes_max.unwrap() >= event + 32 * 1_024);
    assert_eq!(refresh.record_bytes_max, None);
}

#[test]
fn the_command_that_topics_check_names_mends_the_topic() {
    let Some(cluster) = support::real_kafka() else {
        return;
    };
    let prefix = cluster.unique_prefix("mend");
    let set = format!("topics.prefix={prefix}");
    let run = |action: &str| {
        let partitions = [
            "--set",
            "topics.events_partitions=2",
            "--set",
            "topics.refresh_partitions=2",
        ];
        let mut arguments = vec!["topics", action, "--json", "--set", &set];
        arguments.extend(partitions);
        operator(cluster, &arguments)
    };
    run("create");
    let topic = format!("{prefix}front.refresh");
    let alter = [
        "--alter",
        "--entity-type",
        "topics",
        "--entity-name",
        &topic,
        "--add-config",
    ];
    cluster.tool(
        "kafka-configs",
        &[&alter[..], &["cleanup.policy=compact"]].concat(),
    );
    cluster.tool(
        "kafka-topics",
        &["--alter", "--topic", &topic, "--partitions", "4"],
    );
    let found = run("check");
    assert_eq!(
        whats(&found),
        [
            "the partition count",
            "cleanup.policy",
            &format!("the partition count beside {prefix}front.events")
        ]
    );
    let differences = json_of(&found)["differences"].clone();
    let fix = differences[1]["fix"].as_str().unwrap();
    let words: Vec<&str> = fix.split(' ').collect();
    assert_eq!(
        words[..3],
        ["kafka-configs", "--bootstrap-server", &cluster.bootstrap]
    );
    cluster.tool(words[0], &words[3..]);
    assert!(!whats(&run("check")).contains(&"cleanup.policy".to_owned()));
}

#[test]
fn lag_is_told_from_what_the_group_committed() {
    let cluster = support::kafka();
    let planted = Planted::new(cluster, "lag", 3);
    for id in ["evt_1", "evt_2", "evt_3", "evt_4"] {
        planted.event(0, Some("cnv_1"), id);
        planted.event(1, Some("cnv_1"), id);
    }
    planted.commit(0, &[], &checkpoint(3, &[1]));
    planted.begin(2, &[]);
    planted.end(2, frontstream::model::Offset::ZERO, "not ours");

    let lag = |more: &[&str]| {
        let set = planted.arguments();
        let mut arguments = vec!["lag"];
        arguments.extend(set.iter().map(String::as_str));
        arguments.extend(more);
        operator(cluster, &arguments)
    };
    let output = lag(&["--json"]);
    assert_eq!(
        output.status.code(),
        Some(1),
        "metadata that is not ours stops a worker"
    );
    let answer = json_of(&output);
    assert_eq!(answer["total_lag"], 5);
    let rows = answer["partitions"].as_array().unwrap();
    let field = |name: &str| -> Vec<&Value> { rows.iter().map(|row| &row[name]).collect() };
    assert_eq!(field("state"), ["working", "nothing committed", "unreadable"]);
    assert_eq!(field("lag"), [1, 4, 0]);
    assert_eq!(field("position"), [&json!(3), &Value::Null, &Value::Null]);
    assert_eq!(field("committed_offset"), [&json!(1), &Value::Null, &json!(0)]);
    assert_eq!(field("open_windows"), [&json!(1), &Value::Null, &Value::Null]);
    assert!(rows[0]["staleness_ms"].is_u64() && rows[2]["staleness_ms"].is_null());

    // With good metadata again, only --max decides.
    planted.commit(2, &[], &checkpoint(0, &[]));
    assert_eq!(lag(&["--max", "4"]).status.code(), Some(0));
    assert_eq!(lag(&["--max", "3"]).status.code(), Some(1));
    let text = String::from_utf8(lag(&[]).stdout).unwrap();
    assert!(
        text.ends_with(&format!("group {}: 5 records behind in all\n", planted.group)),
        "{text}"
    );
}

#[test]
fn tail_decodes_all_three_topics() {
    let cluster = support::kafka();
    let planted = Planted::new(cluster, "tail", 2);
    planted.event(0, Some("cnv_1"), "evt_1");
    planted.event(0, None, "evt_2");
    planted.bytes(0, b"\x01garbage\x1b[31m");
    planted.event(1, Some("cnv_2"), "evt_3");
    planted.dead_letter(0, 2, "neither framing");
    let right = refresh(0, "cnv_1", &[("evt_1", 0)]);
    planted.begin(0, std::slice::from_ref(&right));
    planted.abort();
    planted.commit(0, &[right], &checkpoint(3, &[]));

    let tail = |topic: &str, more: &[&str]| {
        let set = planted.arguments();
        let mut arguments = vec!["tail", topic, "--no-follow"];
        arguments.extend(set.iter().map(String::as_str));
        arguments.extend(more);
        let output = operator(cluster, &arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let json_lines = |topic: &str, more: &[&str]| -> Vec<Value> {
        let text = tail(topic, &[&["--json"], more].concat());
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };

    let events = json_lines("events", &["--from", "beginning", "--partition", "0"]);
    assert_eq!(events.len(), 3);
    assert_eq!(events[0]["conversation"], "cnv_1");
    assert_eq!(events[0]["event_id"], "evt_1");
    assert_eq!(events[0]["payload_bytes"], 27);
    assert_eq!(
        events[0].get("payload"),
        None,
        "bodies are shown only when asked for"
    );
    assert_eq!(events[1]["conversation"], Value::Null);
    assert!(events[2]["error"].as_str().unwrap().contains("0x01"));

    let with_payload = json_lines(
        "events",
        &["--from", "1", "--payload", "--partition", "0", "--max", "1"],
    );
    assert_eq!(with_payload.len(), 1);
    assert_eq!(with_payload[0]["offset"], 1);
    assert_eq!(with_payload[0]["payload"], r#"{"type":"inbound_received"}"#);

    let refreshes = json_lines("refresh", &["--from", "beginning"]);
    assert_eq!(refreshes.len(), 1, "the aborted one is not there");
    assert_eq!(refreshes[0]["refresh_id"], "0-0-0");
    assert_eq!(refreshes[0]["key"], "cnv_1");
    assert_eq!(refreshes[0]["run_started_at"], "2026-11-18T11:06:40.000Z");

    let letters = json_lines("dead-letters", &["--from", "10m"]);
    assert_eq!(letters[0]["reason"], "neither framing");
    assert_eq!(
        (&letters[0]["origin_partition"], &letters[0]["origin_offset"]),
        (&json!(0), &json!(2))
    );
    assert_eq!(letters[0].get("value"), None);

    assert_eq!(tail("events", &["--from", "end"]), "");
    assert_eq!(tail("events", &["--from", "2100-01-01T00:00:00Z"]), "");
    let readable = tail("events", &["--from", "beginning", "--payload"]);
    assert_eq!(readable.lines().count(), 4, "{readable}");
    assert!(
        readable.contains(" 1@0 high   message.received cnv_2 of cmp_3k9dz evt_3 (webhook, 27 bytes) {"),
        "{readable}"
    );
}

#[test]
fn tail_follows_until_it_has_enough() {
    let cluster = support::kafka();
    let planted = Planted::new(cluster, "follow", 1);
    planted.event(0, Some("cnv_1"), "evt_1");
    let set = planted.arguments();
    let mut arguments = vec!["tail", "events", "--json", "--from", "beginning", "--max", "2"];
    arguments.extend(["--brokers", &cluster.bootstrap]);
    arguments.extend(set.iter().map(String::as_str));
    let mut child = frontstream(&arguments)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().contains("evt_1"));
    // It has read everything there is, and waits.
    planted.event(0, Some("cnv_1"), "evt_2");
    assert!(lines.next().unwrap().unwrap().contains("evt_2"));
    assert!(lines.next().is_none());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn without_the_topics_every_command_says_what_to_do() {
    let cluster = support::kafka();
    let prefix = format!("topics.prefix={}", cluster.unique_prefix("absent"));
    for command in [&["lag"][..], &["audit"], &["tail", "refresh"]] {
        let output = operator(cluster, &[command, &["--set", &prefix]].concat());
        assert_eq!(output.status.code(), Some(3), "{command:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.contains("frontstream topics create"),
            "{command:?}: {error}"
        );
    }
}

fn operator(cluster: &Cluster, arguments: &[&str]) -> Output {
    frontstream(&[arguments, &["--brokers", &cluster.bootstrap]].concat())
        .output()
        .unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Returns what `topics check` found, in its order.
fn whats(output: &Output) -> Vec<String> {
    let differences = json_of(output)["differences"].as_array().cloned().unwrap();
    let what = |difference: &Value| difference["what"].as_str().unwrap().to_owned();
    differences.iter().map(what).collect()
}
