//! What operators get wrong: each time a clear answer, and nothing lost.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use frontstream::lifecycle::{Clock, Instant};

use super::{PARTITIONS, processor_env};
use crate::support::kafka;
use crate::support::process::{Env, Process, free_address, run, wait_until};

/// Checks that a processor refuses to start and says each of `expected`.
fn assert_refuses(env: &Env, expected: &[&str]) {
    let mut process = Process::start(&["processor"], env);
    let status = process.wait_end();
    assert!(!status.success());
    let log = process.log();
    for expected in expected {
        assert!(log.contains(expected), "the message lacks {expected:?}:\n{log}");
    }
}

#[test]
fn a_missing_topic_names_the_command_that_makes_it() {
    let cluster = kafka();
    let mut topics = cluster.topics("missing", PARTITIONS);
    topics.prefix = cluster.unique_prefix("nowhere");
    let env = processor_env(cluster, &topics, "classic");
    assert_refuses(
        &env,
        &["missing topics", "front.events", "frontstream topics create"],
    );

    let created = run(&["topics", "create"], &env);
    assert!(
        created.status.success(),
        "{}",
        String::from_utf8_lossy(&created.stderr)
    );
    let again = run(&["topics", "create"], &env);
    assert!(again.status.success(), "creating again is no mistake");
    let checked = run(&["topics", "check"], &env);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(
        checked.status.code(),
        Some(0),
        "{said}{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    assert!(Process::ready(&["processor"], &env).stop().success());
}

#[test]
fn unequal_partition_counts_are_refused() {
    let cluster = kafka();
    let mut topics = cluster.topics("unequal", PARTITIONS);
    topics.prefix = cluster.unique_prefix("unequal");
    cluster.create_topic(&format!("{}front.events", topics.prefix), 4);
    cluster.create_topic(&format!("{}front.refresh", topics.prefix), 3);
    cluster.create_topic(&format!("{}front.dead-letters", topics.prefix), 1);
    let env = processor_env(cluster, &topics, "classic");
    assert_refuses(
        &env,
        &[
            "front.events has 4 partitions",
            "front.refresh has 3",
            "frontstream topics check",
        ],
    );
}

#[test]
fn brokers_that_are_away_are_waited_for() {
    let address = free_address();
    let env: Env = vec![("FRONTSTREAM_KAFKA_BROKERS", address.to_string())];
    let mut process = Process::start(&["processor"], &env);
    wait_until("it says so", || {
        process.log().contains(&address.to_string()) || !process.is_running()
    });
    assert!(process.is_running(), "{}", process.log());
    wait_until("it is healthy", || {
        process
            .get("/healthz")
            .is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    let ready = process.get("/readyz").expect("the admin port answers");
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    assert!(process.stop().success(), "a stop while waiting is a clean one");
}

#[test]
fn a_port_in_use_names_the_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let env: Env = vec![
        ("FRONTSTREAM_RECEIVER_LISTEN", address.clone()),
        (
            "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS",
            "current=env:SECRET_OF_THE_TEST".to_owned(),
        ),
        ("SECRET_OF_THE_TEST", "s".repeat(32)),
    ];
    let mut process = Process::start(&["receiver"], &env);
    assert!(!process.wait_end().success());
    let log = process.log();
    assert!(log.contains("receiver.listen") && log.contains(&address), "{log}");
}

/// Takes connections and never answers: whoever asks it waits.
fn silent_broker() -> (TcpListener, String) {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    (silent, address)
}

#[test]
fn a_stop_does_not_wait_for_brokers_that_do_not_answer() {
    let (_silent, brokers) = silent_broker();
    let mut process = Process::start(&["processor"], &vec![("FRONTSTREAM_KAFKA_BROKERS", brokers)]);
    wait_until("it is up", || process.get("/healthz").is_some());
    let began = Instant::now();
    process.signal("INT");
    let status = process.wait_end();
    assert!(status.success(), "{status}: {}", process.log());
    // One question to the brokers takes five seconds.
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}: {}",
        began.elapsed(),
        process.log()
    );
}

/// The first Ctrl-C asks for a clean stop, the second ends the process whatever it is waiting for.
#[test]
fn ctrl_c_twice_ends_it_at_once() {
    let (_silent, brokers) = silent_broker();
    let address = free_address();
    let env: Env = vec![
        ("FRONTSTREAM_KAFKA_BROKERS", brokers),
        ("FRONTSTREAM_RECEIVER_LISTEN", address.to_string()),
        // The drain would wait for this as long as it may: more than seven seconds.
        ("FRONTSTREAM_RECEIVER_BODY_TIMEOUT", "60s".to_owned()),
        (
            "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS",
            "current=env:SECRET_OF_THE_TEST".to_owned(),
        ),
        ("SECRET_OF_THE_TEST", "s".repeat(32)),
    ];
    let mut process = Process::start(&["receiver"], &env);
    let mut connection = None;
    wait_until("it takes connections", || {
        connection = TcpStream::connect(address).ok();
        connection.is_some()
    });
    let mut connection = connection.expect("a connection");
    let now = Clock::system().now().as_millis();
    let signature = format!("{}=", "A".repeat(43));
    // Well-formed, so that the body is waited for; it never comes.
    let head = format!(
        "POST /api/webhooks/front HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\
         x-front-request-timestamp: {now}\r\nx-front-signature: {signature}\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).expect("it reads");
    wait_until("the request is under way", || {
        process.metric("frontstream_receiver_requests_in_flight") == 1.0
    });
    process.signal("INT");
    wait_until("it is stopping", || process.log().contains("SIGINT"));
    assert!(process.is_running(), "{}", process.log());
    process.signal("INT");
    let status = process.wait_end();
    assert_eq!(status.code(), Some(130), "{}", process.log());
}
