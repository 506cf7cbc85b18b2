//! `send` against a running receiver: every scheme, files, folders and load, and what goes wrong.

use std::process::Output;

use serde_json::Value;

use crate::support::process::{Env, Process, free_address, run};
use crate::support::{self, Cluster, curl};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/front");

struct Receiver {
    _process: Process,
    env: Env,
}

#[test]
fn load_of_every_scheme_is_accepted() {
    let cluster = support::kafka();
    let receiver = receiver(cluster);
    for scheme in ["application", "rule", "relay"] {
        let arguments = [
            "send", "--json", "--scheme", scheme, "--rate", "400", "--count", "100", "--tenant", "acme",
        ];
        let output = run(&arguments, &receiver.env);
        let summary = summary(&output);
        assert_eq!(output.status.code(), Some(0), "{scheme}: {summary}");
        assert_eq!(summary["sent"], 100, "{scheme}");
        assert_eq!(summary["answers"]["200 accepted"], 100, "{scheme}: {summary}");
        assert!(summary["latency_us"]["p50"].as_u64().unwrap() > 0);
    }
}

#[test]
fn files_and_folders_are_posted_as_they_are() {
    let cluster = support::kafka();
    let receiver = receiver(cluster);
    let folder = format!("{FIXTURES}/application");
    let output = run(&["send", "--json", &folder], &receiver.env);
    let first = summary(&output);
    assert_eq!(output.status.code(), Some(0), "{first}");
    assert_eq!(first["sent"], 19);
    assert_eq!(
        first["answers"]["200 accepted"], 18,
        "all but the handshake: {first}"
    );

    let file = format!("{FIXTURES}/application/tag_added.json");
    let output = run(&["send", "--json", "--verbose", &file], &receiver.env);
    let again = summary(&output);
    assert_eq!(again["answers"]["200 duplicate"], 1, "{again}");
    let said: Value =
        serde_json::from_slice(output.stdout.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(said["answer"], "200 duplicate");
}

#[test]
fn the_curl_line_that_it_shows_is_accepted_as_often_as_it_is_asked_for() {
    let cluster = support::kafka();
    let receiver = receiver(cluster);
    let show = |more: &[&str]| {
        let output = run(&[&["send", "--show-curl"], more].concat(), &receiver.env);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let file = format!("{FIXTURES}/application/sync.json");
    let cases: [(&[&str], &str); 5] = [
        (&[], "accepted"),
        (&["--scheme", "rule"], "accepted"),
        (&["--scheme", "relay", "--tenant", "acme"], "accepted"),
        (&["--secret", "env:SEND_TEST_A"], "accepted"),
        (&[&file], "frontstream-send-challenge"),
    ];
    for (arguments, expected) in cases {
        let line = show(arguments);
        let answer = curl::run(&line).unwrap_or_else(|| curl::replay(&line));
        assert!(
            answer.contains(" 200 ") && answer.contains(expected),
            "{line}{answer}"
        );
        let again = curl::replay(&line);
        let expected = expected.replace("accepted", "duplicate");
        assert!(
            again.contains(" 200 ") && again.contains(&expected),
            "{line}{again}"
        );
    }
}

#[test]
fn what_is_refused_is_counted_and_decides_the_exit_code() {
    let cluster = support::kafka();
    let receiver = receiver(cluster);
    let mut env = receiver.env.clone();
    env.push(("SEND_TEST_OTHER", "not the receiver's secret".into()));
    env.retain(|(name, _)| *name != "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS");
    env.push((
        "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS",
        "other=env:SEND_TEST_OTHER".into(),
    ));
    let output = run(&["send", "--json", "--count", "5", "--rate", "100"], &env);
    assert_eq!(output.status.code(), Some(1));
    let refused = summary(&output)["answers"].as_object().unwrap().clone();
    assert!(
        refused.len() == 1 && refused.keys().all(|answer| answer.starts_with("401")),
        "{refused:?}"
    );

    let body = format!("{FIXTURES}/awkward/not_json.txt");
    let output = run(&["send", "--json", &body], &receiver.env);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_cannot_be_sent_is_said() {
    let nobody = format!("http://{}", free_address());
    let env: Env = vec![
        ("SEND_TEST", "0123456789abcdef".into()),
        (
            "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS",
            "current=env:SEND_TEST".into(),
        ),
    ];
    let send = |more: &[&str]| run(&[&["send", "--url", &nobody], more].concat(), &env);

    let output = send(&["--count", "3", "--rate", "100"]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("no answer: ") && text.contains(": 3"), "{text}");

    for (arguments, expected) in [
        (&["--scheme", "rule"][..], "receiver.rule.secrets is empty"),
        (&["--secret", "old"], "no secret named old"),
        (
            &["--secret", "env:NOT_SET_ANYWHERE"],
            "NOT_SET_ANYWHERE is not set",
        ),
        (&["/nowhere/at/all.json"], "/nowhere/at/all.json"),
        (&["--tenant", "a/b"], "path segment"),
        // The receiver takes none of these either.
        (&["--tenant", "a~b"], "path segment"),
    ] {
        let output = send(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}

fn receiver(cluster: &Cluster) -> Receiver {
    let topics = cluster.topics("send", 2);
    let env: Env = vec![
        ("FRONTSTREAM_KAFKA_BROKERS", cluster.bootstrap.clone()),
        ("FRONTSTREAM_TOPICS_PREFIX", topics.prefix),
        ("FRONTSTREAM_RECEIVER_LISTEN", free_address().to_string()),
        (
            "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS",
            "current=env:SEND_TEST_A".into(),
        ),
        (
            "FRONTSTREAM_RECEIVER_RULE_SECRETS",
            "current=env:SEND_TEST_B".into(),
        ),
        (
            "FRONTSTREAM_RECEIVER_RELAY_SECRETS",
            "current=env:SEND_TEST_C".into(),
        ),
        ("SEND_TEST_A", "0123456789abcdef-a".into()),
        ("SEND_TEST_B", "0123456789abcdef-b".into()),
        ("SEND_TEST_C", "0123456789abcdef-c".into()),
    ];
    Receiver {
        _process: Process::ready(&["receiver"], &env),
        env,
    }
}

/// Returns the last line of the output.
fn summary(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_else(|| panic!("{output:?}"));
    serde_json::from_str(last).unwrap()
}
