//! A signed webhook in, a refresh out: receiver and processor as processes of their own.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use frontstream::model::Priority;
use rdkafka::message::{Message as _, OwnedMessage};

use super::records::{Reader, assert_audit_exact, events_of};
use super::{PARTITIONS, processor_env};
use crate::support::process::{Env, Process, free_address, run, wait_until};
use crate::support::registry::Registry;
use crate::support::{Cluster, Topics, kafka, real_kafka};

/// The settings of both roles and of the commands beside them.
fn env(cluster: &Cluster, topics: &Topics, listen: SocketAddr) -> Env {
    let mut env = processor_env(cluster, topics, "classic");
    env.extend([
        ("FRONTSTREAM_RECEIVER_LISTEN", listen.to_string()),
        (
            "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS",
            "current=env:APPLICATION_SECRET".to_owned(),
        ),
        (
            "FRONTSTREAM_RECEIVER_RULE_SECRETS",
            "rules=env:RULE_SECRET".to_owned(),
        ),
        (
            "APPLICATION_SECRET",
            "4f1d0c9be27a4e5b8a3360d7f5c2e891".to_owned(),
        ),
        ("RULE_SECRET", "rk_test_7c0b9a51d3e84f26".to_owned()),
    ]);
    env
}

fn said(output: &std::process::Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Every fixture of an application webhook goes in; every conversation it names comes out, once, with the priority of
/// the mapping table.
fn fixtures_become_refreshes(topics: &Topics, env: &Env, cluster: &Cluster, receiver: &Process) {
    let mut reader = Reader::new(cluster, topics, PARTITIONS);

    let sent = run(&["send", "tests/data/front/application"], env);
    assert_eq!(sent.status.code(), Some(0), "{}", said(&sent));
    let rules = run(&["send", "--scheme", "rule", "tests/data/front/rule"], env);
    assert_eq!(rules.status.code(), Some(0), "{}", said(&rules));
    // Sixteen types in eighteen files beside the handshake, and eleven rule webhooks; none twice.
    let expected = 18 + 11;
    reader.read_until("all are refreshed", |seen| events_of(seen) >= expected);
    assert_eq!(reader.events(), expected);
    let conversations: BTreeSet<_> = reader
        .refreshes
        .iter()
        .map(|seen| seen.refresh.conversation.as_str())
        .collect();
    assert_eq!(
        conversations,
        BTreeSet::from(["cnv_1k7p3xq8", "cnv_1k7p4b2t", "cnv_1k7q0d5m"])
    );
    assert!(
        reader
            .refreshes
            .iter()
            .any(|seen| seen.refresh.priority == Priority::High)
    );

    // The same again: answered, and stored no second time.
    let again = run(&["send", "tests/data/front/application"], env);
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    assert_eq!(
        receiver.metric("frontstream_receiver_requests_total{answer=\"200\",reason=\"duplicate\"}"),
        18.0
    );

    let tail = run(
        &["--json", "tail", "refresh", "--from", "beginning", "--no-follow"],
        env,
    );
    assert_eq!(tail.status.code(), Some(0), "{}", said(&tail));
    let lines: Vec<serde_json::Value> = String::from_utf8_lossy(&tail.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    assert_eq!(lines.len(), reader.refreshes.len());

    wait_until("nothing lags", || {
        run(&["lag", "--max", "0"], env).status.code() == Some(0)
    });
    assert_audit_exact(env);
}

#[test]
fn without_a_registry() {
    let cluster = kafka();
    let topics = cluster.topics("whole", PARTITIONS);
    let env = env(cluster, &topics, free_address());
    let receiver = Process::ready(&["receiver"], &env);
    let processor = Process::ready(&["processor"], &env);
    fixtures_become_refreshes(&topics, &env, cluster, &receiver);
    assert!(
        cluster
            .records(&topics.names.refresh)
            .iter()
            .all(|record| starts_with(record, &[0xC3, 0x01]))
    );
    assert!(receiver.stop().success());
    assert!(processor.stop().success());
    assert_audit_exact(&env);
}

/// A first start without the registry waits and says so, and nothing is acknowledged; once schemas are known, work goes
/// on without it.
#[test]
fn with_a_registry_that_comes_late_and_goes_early() {
    let Some(cluster) = real_kafka() else { return };
    let mut registry = Registry::start("whole").expect("asked for with the broker");
    registry.stop();
    let topics = cluster.topics("registry", PARTITIONS);
    let listen = free_address();
    let mut env = env(cluster, &topics, listen);
    env.push(("FRONTSTREAM_REGISTRY_URL", registry.url.clone()));
    let mut receiver = Process::start(&["receiver"], &env);
    let mut processor = Process::start(&["processor"], &env);
    for process in [&mut receiver, &mut processor] {
        wait_until("it says what is missing", || {
            process.log().contains("schema registry is away")
        });
        assert!(process.is_running());
        let ready = process.get("/readyz").expect("the admin port answers");
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    }
    let refused = run(&["send", "tests/data/front/application/tag_added.json"], &env);
    assert_ne!(
        refused.status.code(),
        Some(0),
        "nothing is acknowledged: {}",
        said(&refused)
    );

    registry.start_again();
    receiver.wait_ready();
    processor.wait_ready();
    fixtures_become_refreshes(&topics, &env, cluster, &receiver);
    assert!(
        cluster
            .records(&topics.names.refresh)
            .iter()
            .all(|record| starts_with(record, &[0]))
    );
    assert!(
        cluster
            .records(&topics.names.events)
            .iter()
            .all(|record| starts_with(record, &[0]))
    );

    registry.stop();
    let before = cluster.records(&topics.names.events).len();
    let sent = run(&["send", "tests/data/front/awkward/unicode_emoji.json"], &env);
    assert_eq!(sent.status.code(), Some(0), "{}", said(&sent));
    assert_eq!(cluster.records(&topics.names.events).len(), before + 1);
    let mut reader = Reader::new(cluster, &topics, PARTITIONS);
    reader.read_until("it is refreshed without the registry", |seen| {
        seen.iter()
            .any(|seen| seen.refresh.conversation.as_str() == "cnv_1k7r2h0c")
    });
    assert!(receiver.stop().success());
    assert!(processor.stop().success());
}

fn starts_with(record: &OwnedMessage, bytes: &[u8]) -> bool {
    record.payload().is_some_and(|value| value.starts_with(bytes))
}
