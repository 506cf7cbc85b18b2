//! Which failure leads to which action, as operators see it: log line, metric, exit code; and nothing lost or doubled.

use std::net::TcpStream;
use std::time::Duration;

use frontstream::lifecycle::Exit;

use super::load::in_background;
use super::records::{Reader, assert_exactly_once, events_of};
use super::{PARTITIONS, processor_env};
use crate::support::process::{Env, Process, free_address, wait_until};
use crate::support::sieve::{END_TXN, PRODUCE, Sieve};
use crate::support::{in_process, kafka};

const PER_SECOND: u32 = 200;

/// Returns `env` with these settings in the place of those it has.
fn with(env: &Env, settings: &[(&'static str, String)]) -> Env {
    let is_new = |name: &str| settings.iter().any(|(new, _)| *new == name);
    let kept = env.iter().filter(|(name, _)| !is_new(name)).cloned();
    kept.chain(settings.iter().cloned()).collect()
}

fn lines_with<'l>(log: &'l str, part: &str) -> Vec<&'l str> {
    log.lines().filter(|line| line.contains(part)).collect()
}

fn code(exit: Exit) -> Option<i32> {
    Some(i32::from(exit.code()))
}

/// Records that are not stored in time fail their transaction while the coordinator still keeps it: abort, rewind, go
/// on with the same producer.
#[test]
fn records_not_delivered_in_time_are_aborted_and_the_worker_goes_on() {
    let cluster = kafka();
    let topics = cluster.topics("undelivered", PARTITIONS);
    let direct = processor_env(cluster, &topics, "classic");
    let sieve = Sieve::before(&cluster.bootstrap);
    let env = with(
        &direct,
        &[
            ("FRONTSTREAM_KAFKA_BROKERS", sieve.address()),
            ("FRONTSTREAM_PROCESSOR_SESSION_TIMEOUT", "10s".to_owned()),
            ("FRONTSTREAM_PROCESSOR_TRANSACTION_TIMEOUT", "8s".to_owned()),
        ],
    );
    let mut reader = Reader::new(cluster, &topics, PARTITIONS);
    let load = in_background(
        cluster,
        &topics,
        "undelivered",
        PER_SECOND,
        Duration::from_secs(3),
    );
    let process = Process::ready(&["processor"], &env);
    reader.read_until("it works", |seen| events_of(seen) > 100);
    sieve.swallow(&[PRODUCE]);
    wait_until("it gives the transaction up", || {
        process.metric("frontstream_processor_transactions_total{outcome=\"aborted\"}") >= 1.0
    });
    sieve.pass_all();
    let stored = load.join().expect("the load ran");
    assert_exactly_once(&mut reader, &stored, &direct);
    let log = process.log();
    let aborted = lines_with(&log, "transaction aborted: goes back to the committed offsets");
    assert!(!aborted.is_empty(), "{log}");
    assert_eq!(
        aborted[0].matches("MessageTimedOut").count(),
        1,
        "its cause, once: {}",
        aborted[0]
    );
    assert!(
        process.metric("frontstream_processor_client_errors_total{class=\"abortable\",client=\"producer\"}")
            >= 1.0
    );
    assert!(process.stop().success());
}

/// A coordinator that had the time to end the transaction refuses its producer as it refuses one that another process
/// fenced. Nobody else is here, so the message must not say that somebody is, and a new start goes on.
#[test]
fn a_transaction_that_its_coordinator_ended_is_not_taken_for_fencing() {
    // A real broker looks for such transactions every ten seconds only.
    let cluster = in_process();
    let topics = cluster.topics("expired", PARTITIONS);
    let direct = processor_env(cluster, &topics, "classic");
    let sieve = Sieve::before(&cluster.bootstrap);
    let env = with(
        &direct,
        &[
            ("FRONTSTREAM_KAFKA_BROKERS", sieve.address()),
            ("FRONTSTREAM_PROCESSOR_TRANSACTION_TIMEOUT", "2s".to_owned()),
        ],
    );
    let mut reader = Reader::new(cluster, &topics, PARTITIONS);
    let load = in_background(cluster, &topics, "expired", PER_SECOND, Duration::from_secs(3));
    let mut process = Process::ready(&["processor"], &env);
    reader.read_until("it works", |seen| events_of(seen) > 100);
    sieve.swallow(&[PRODUCE, END_TXN]);
    // The first try to abort begins a second after the transaction and waits for two.
    wait_until(
        "the abort is not answered for longer than the transaction may last",
        || process.log().contains("step=\"abort the transaction\""),
    );
    sieve.pass_all();
    let status = process.wait_end();
    let log = process.log();
    assert_eq!(status.code(), code(Exit::Outside), "{log}");
    let ends = lines_with(&log, "frontstream: ");
    assert_eq!(ends.len(), 1, "{log}");
    assert!(
        ends[0].contains("open for longer than processor.transaction_timeout"),
        "{}",
        ends[0]
    );
    let retries = lines_with(&log, "a step of the transactional producer fails");
    assert_eq!(retries.len(), 1, "said once, not with each try:\n{log}");
    let process = Process::ready(&["processor"], &direct);
    let stored = load.join().expect("the load ran");
    assert_exactly_once(&mut reader, &stored, &direct);
    assert!(process.stop().success());
}

/// Two processes with one instance id: the later one goes on, the earlier one ends with a code of its own and says why.
#[test]
fn a_second_process_with_the_same_id_ends_the_first() {
    let cluster = kafka();
    let topics = cluster.topics("twins", PARTITIONS);
    let mut env = processor_env(cluster, &topics, "classic");
    env.push(("FRONTSTREAM_PROCESSOR_INSTANCE_ID", "pod-0".to_owned()));
    let mut reader = Reader::new(cluster, &topics, PARTITIONS);
    let load = in_background(cluster, &topics, "twins", PER_SECOND, Duration::from_secs(4));
    let mut first = Process::ready(&["processor"], &env);
    reader.read_until("the first works", |seen| events_of(seen) > 100);
    let second = Process::ready(&["processor"], &env);
    let status = first.wait_end();
    let log = first.log();
    assert_eq!(status.code(), code(Exit::Fenced), "{log}");
    let ends = lines_with(&log, "frontstream: ");
    assert_eq!(ends.len(), 1, "{log}");
    assert!(ends[0].contains("another process has this"), "{}", ends[0]);
    let stored = load.join().expect("the load ran");
    assert_exactly_once(&mut reader, &stored, &env);
    assert!(second.stop().success());
}

/// Members that come and go are the group's daily life: no warning, and no error counted.
#[test]
fn a_rebalance_is_no_error() {
    let cluster = kafka();
    for protocol in cluster.protocols() {
        let topics = cluster.topics("calm", PARTITIONS);
        let env = processor_env(cluster, &topics, protocol);
        let mut reader = Reader::new(cluster, &topics, PARTITIONS);
        let load = in_background(cluster, &topics, "calm", PER_SECOND, Duration::from_secs(6));
        let first = Process::ready(&["processor"], &env);
        for _ in 0..2 {
            let second = Process::ready(&["processor"], &env);
            let released = "frontstream_processor_partitions_released_total{how=\"revoked\"}";
            let before = first.metric(released);
            wait_until("the second has its share", || {
                second.metric("frontstream_processor_partitions_assigned_total") >= 1.0
            });
            assert!(first.metric(released) >= before);
            assert!(second.stop().success());
        }
        let stored = load.join().expect("the load ran");
        assert_exactly_once(&mut reader, &stored, &env);
        assert_eq!(first.metric("frontstream_processor_client_errors_total"), 0.0);
        assert_eq!(
            first.metric("frontstream_processor_transactions_total{outcome=\"aborted\"}"),
            0.0
        );
        let log = first.log();
        assert_eq!(lines_with(&log, " WARN "), Vec::<&str>::new(), "{protocol}");
        assert!(first.stop().success());
    }
}

/// Out of file descriptors, accepting fails twenty times a second: counted each time, said once, and over by itself.
#[test]
fn a_receiver_out_of_file_descriptors_says_so_once_and_goes_on() {
    const FILES: u32 = 64;
    let listen = free_address();
    let env: Env = vec![
        ("FRONTSTREAM_KAFKA_BROKERS", kafka().bootstrap.clone()),
        ("FRONTSTREAM_RECEIVER_LISTEN", listen.to_string()),
        (
            "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS",
            "current=env:SECRET_OF_THE_TEST".to_owned(),
        ),
        ("SECRET_OF_THE_TEST", "s".repeat(32)),
    ];
    let process = Process::start_with_files(FILES, &["receiver"], &env);
    wait_until("it listens", || TcpStream::connect(listen).is_ok());
    let refused = "frontstream_receiver_accept_failures_total";
    wait_until("it was out of file descriptors some times", || {
        // The kernel takes them whether or not the process does; dropped, they leave room to answer for the metrics.
        let connect = |_| TcpStream::connect(listen).expect("the kernel takes it");
        let crowd: Vec<_> = (0..2 * FILES).map(connect).collect();
        drop(crowd);
        process.metric(refused) >= 3.0
    });
    let said = "could not accept a connection: tries again, senders wait";
    assert_eq!(lines_with(&process.log(), said).len(), 1, "{}", process.log());
    assert!(process.stop().success());
}
