//! `dev`: the whole product, as somebody who tries it sees it. Here on brokers that run already.

mod first_meeting;
mod terminal;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{self, Cluster, frontstream};

#[test]
fn two_runs_at_once_are_each_exact_and_leave_nothing_behind() {
    let cluster = support::kafka();
    let mark = format!("topics.prefix={}", cluster.unique_prefix("dev-twice"));
    let runs: Vec<Child> = (0..2)
        .map(|_| {
            start(
                cluster,
                &[
                    "--duration",
                    "3s",
                    "--rate",
                    "60",
                    "--seed",
                    "7",
                    "--json",
                    "--set",
                    &mark,
                ],
            )
        })
        .collect();
    for run in runs {
        let output = run.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}{stderr}");
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let (summary, refreshes) = lines.split_last().unwrap();
        let summary = &summary["summary"];
        let accepted = summary["accepted"].as_u64().unwrap();
        assert!(accepted > 50, "{summary}");
        let counted: u64 = refreshes
            .iter()
            .map(|line| line["event_count"].as_u64().unwrap())
            .sum();
        assert_eq!(counted, accepted, "every accepted webhook is in a line");
        assert_eq!(summary["refreshes"], refreshes.len());
        assert_eq!(summary["audit"]["exact"], true);
        assert_eq!(summary["audit"]["totals"]["counted"], accepted);
        assert_eq!(summary["audit"]["totals"]["open"], 0);
        let answers = summary["send"]["answers"].as_object().unwrap();
        assert!(
            answers.keys().all(|answer| answer.starts_with("200 ")),
            "{answers:?}"
        );
    }
    let prefix = mark.trim_start_matches("topics.prefix=");
    // A topic's deletion is answered before the broker's own metadata knows of it, as its creation is.
    support::process::wait_until("the topics are gone", || {
        let names = cluster.topic_names();
        !names.iter().any(|name| name.contains(prefix))
    });
}

#[test]
fn ctrl_c_ends_it_with_the_summary() {
    let cluster = support::kafka();
    let mut run = start(cluster, &["--rate", "60"]);
    let mut out = BufReader::new(run.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("after the first") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "no refresh was printed");
    }
    let interrupted = Command::new("kill")
        .args(["-INT", &run.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(0), "{rest}");
    let last = rest.lines().last().unwrap();
    assert!(last.starts_with("audit     exact: "), "{rest}");
    assert!(!rest.contains('\x1b'), "no colours where there is no terminal");
}

#[test]
fn without_a_broker_it_says_which_address_it_tried() {
    let address = support::process::free_address().to_string();
    let output = frontstream(&["dev", "--duration", "1s", "--brokers", &address])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(&address), "{error}");
}

#[test]
fn the_log_is_quiet_unless_somebody_chose_a_filter_be_it_the_default_one() {
    let cluster = support::kafka();
    let log_of = |more: &[&str]| {
        let run = start(cluster, &[&["--duration", "100ms"], more].concat());
        String::from_utf8(run.wait_with_output().unwrap().stderr).unwrap()
    };
    // A real Kafka may give reason for a warning: it answers before all of it knows of a new topic.
    let quiet = log_of(&[]);
    assert!(!quiet.contains("INFO"), "{quiet}");
    let chosen = log_of(&["--set", "log.filter=info"]);
    assert!(chosen.contains("receiving webhooks"), "{chosen}");
}

fn start(cluster: &Cluster, arguments: &[&str]) -> Child {
    frontstream(&[&["dev", "--brokers", &cluster.bootstrap], arguments].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}
