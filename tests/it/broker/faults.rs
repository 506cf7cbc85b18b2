//! Processors that die, come, go and come back from the dead; each time every event is counted exactly once.

use std::time::Duration;

use frontstream::lifecycle::Instant;
use frontstream::model::Priority;

use super::load::{Producer, in_background};
use super::records::{Reader, assert_exactly_once, count, events_of};
use super::{PARTITIONS, processor_env};
use crate::support::process::{Env, Process, wait_until};
use crate::support::{Cluster, kafka};

/// Bursty load enough to have windows open at every moment.
const PER_SECOND: u32 = 600;

/// Counts the partitions a process holds.
fn partitions_held(process: &Process) -> f64 {
    process.metric("frontstream_processor_partitions_assigned_total")
        - process.metric("frontstream_processor_partitions_released_total")
}

fn all_partitions() -> f64 {
    f64::from(PARTITIONS)
}

#[test]
fn killed_in_mid_load_and_started_again() {
    let cluster = kafka();
    for protocol in cluster.protocols() {
        let topics = cluster.topics("killed", PARTITIONS);
        let env = processor_env(cluster, &topics, protocol);
        let mut reader = Reader::new(cluster, &topics, PARTITIONS);
        let load = in_background(cluster, &topics, "killed", PER_SECOND, Duration::from_secs(8));
        for life in 1..=3 {
            let process = Process::ready(&["processor"], &env);
            let before = reader.events();
            reader.read_until("a life has done some work", |seen| events_of(seen) > before + 300);
            println!("{protocol}: killed in life {life}");
            process.kill();
        }
        let process = Process::ready(&["processor"], &env);
        let stored = load.join().expect("the load ran");
        assert_exactly_once(&mut reader, &stored, &env);
        assert!(process.stop().success());
    }
}

/// With the classic protocol and an instance id the restarted process takes its partitions over at once, although
/// the session of the killed one has not ended (design section 7).
#[test]
fn a_killed_static_member_takes_over_at_once() {
    let cluster = kafka();
    let topics = cluster.topics("static", PARTITIONS);
    let mut env = processor_env(cluster, &topics, "classic");
    let session = Duration::from_secs(40);
    env.retain(|(name, _)| *name != "FRONTSTREAM_PROCESSOR_SESSION_TIMEOUT");
    env.push((
        "FRONTSTREAM_PROCESSOR_SESSION_TIMEOUT",
        format!("{}s", session.as_secs()),
    ));
    env.push(("FRONTSTREAM_PROCESSOR_INSTANCE_ID", "pod-0".to_owned()));
    let mut reader = Reader::new(cluster, &topics, PARTITIONS);
    let load = in_background(cluster, &topics, "static", PER_SECOND, Duration::from_secs(6));
    let process = Process::ready(&["processor"], &env);
    reader.read_until("it works", |seen| events_of(seen) > 300);
    process.kill();
    let killed = Instant::now();
    let process = Process::start(&["processor"], &env);
    let before = reader.events();
    reader.read_until("it works again", |seen| events_of(seen) > before + 300);
    assert!(
        killed.elapsed() < session / 2,
        "took {:?}: it waited for the session to end",
        killed.elapsed()
    );
    let stored = load.join().expect("the load ran");
    assert_exactly_once(&mut reader, &stored, &env);
    assert!(process.stop().success());
}

/// A restarted static member gets what it had without a rebalance, and nobody sees the number of partitions change.
#[test]
fn a_partition_added_while_static_members_are_down_gets_an_owner() {
    let cluster = kafka();
    let topics = cluster.topics("grown", PARTITIONS);
    let mut env = processor_env(cluster, &topics, "classic");
    env.retain(|(name, _)| !name.ends_with("SESSION_TIMEOUT") && !name.ends_with("_PARTITIONS"));
    env.push(("FRONTSTREAM_PROCESSOR_SESSION_TIMEOUT", "120s".to_owned()));
    env.push(("FRONTSTREAM_PROCESSOR_INSTANCE_ID", "pod-0".to_owned()));
    let process = Process::ready(&["processor"], &env);
    wait_until("it has all", || partitions_held(&process) == all_partitions());
    process.kill();
    cluster.grow(&topics, PARTITIONS + 1);
    let process = Process::ready(&["processor"], &env);
    wait_until("it has the new one too", || {
        partitions_held(&process) == all_partitions() + 1.0
    });
    assert!(
        process
            .log()
            .contains(&format!("partition {PARTITIONS} has no owner in the group")),
        "{}",
        process.log()
    );
    assert!(process.stop().success());
}

#[test]
fn a_second_worker_joins_and_leaves_under_load() {
    let cluster = kafka();
    for protocol in cluster.protocols() {
        let topics = cluster.topics("joins", PARTITIONS);
        let env = processor_env(cluster, &topics, protocol);
        let mut reader = Reader::new(cluster, &topics, PARTITIONS);
        let load = in_background(cluster, &topics, "joins", PER_SECOND, Duration::from_secs(10));
        let first = Process::ready(&["processor"], &env);
        wait_until("the first has all", || {
            partitions_held(&first) == all_partitions()
        });
        let second = Process::ready(&["processor"], &env);
        wait_until("the second has its share", || partitions_held(&second) >= 1.0);
        let before = reader.events();
        reader.read_until("both work", |seen| events_of(seen) > before + 300);
        assert!(second.stop().success(), "a clean stop is a success");
        wait_until("the first has all again", || {
            partitions_held(&first) == all_partitions()
        });
        // Another one joins and is killed: its session must end first.
        let third = Process::ready(&["processor"], &env);
        wait_until("the third has its share", || partitions_held(&third) >= 1.0);
        third.kill();
        wait_until("the first has all once more", || {
            partitions_held(&first) == all_partitions()
        });
        let stored = load.join().expect("the load ran");
        assert_exactly_once(&mut reader, &stored, &env);
        assert!(first.stop().success());
    }
}

#[test]
fn a_zombie_cannot_commit() {
    let cluster = kafka();
    for protocol in cluster.protocols() {
        let topics = cluster.topics("zombie", PARTITIONS);
        let env = processor_env(cluster, &topics, protocol);
        let mut reader = Reader::new(cluster, &topics, PARTITIONS);
        let load = in_background(cluster, &topics, "zombie", PER_SECOND, Duration::from_secs(20));
        let mut zombie = Process::ready(&["processor"], &env);
        wait_until("it has all", || partitions_held(&zombie) == all_partitions());
        let before = reader.events();
        reader.read_until("it works", |seen| events_of(seen) > before + 300);
        zombie.signal("STOP");
        let heir = Process::ready(&["processor"], &env);
        wait_until("its partitions have moved", || {
            partitions_held(&heir) == all_partitions()
        });
        let before = reader.events();
        reader.read_until("the heir works", |seen| events_of(seen) > before + 300);
        zombie.signal("CONT");
        // It finds out and either joins anew or ends; both are right, committing is not.
        wait_until("the zombie knows", || {
            !zombie.is_running()
                || zombie.metric("frontstream_processor_partitions_released_total") >= all_partitions()
        });
        let stored = load.join().expect("the load ran");
        assert_exactly_once(&mut reader, &stored, &env);
        assert!(heir.stop().success());
    }
}

#[test]
fn several_workers_in_one_process() {
    let cluster = kafka();
    for protocol in cluster.protocols() {
        let topics = cluster.topics("workers", PARTITIONS);
        let mut env = processor_env(cluster, &topics, protocol);
        env.push(("FRONTSTREAM_PROCESSOR_WORKERS", "3".to_owned()));
        let mut reader = Reader::new(cluster, &topics, PARTITIONS);
        let load = in_background(cluster, &topics, "workers", PER_SECOND, Duration::from_secs(3));
        let process = Process::ready(&["processor"], &env);
        let stored = load.join().expect("the load ran");
        assert_exactly_once(&mut reader, &stored, &env);
        assert!(process.stop().success());
    }
}

/// Stopped in the middle of open windows, a processor finishes them: nothing is left to the next start.
#[test]
fn a_clean_stop_finishes_the_open_work() {
    let cluster = kafka();
    let topics = cluster.topics("stops", PARTITIONS);
    let env = processor_env(cluster, &topics, "classic");
    let mut reader = Reader::new(cluster, &topics, PARTITIONS);
    let process = Process::ready(&["processor"], &env);
    wait_until("it has all", || partitions_held(&process) == all_partitions());
    let mut producer = Producer::new(cluster, &topics, "stops");
    for number in 0..20 {
        producer.event(&format!("cnv_{number}"), Priority::Low);
    }
    let stored = producer.finish();
    wait_until("all are in windows", || {
        process.metric("frontstream_processor_open_windows") == 20.0
    });
    assert!(process.stop().success());
    reader.read_until("all are out", |seen| events_of(seen) == count(&stored));
    let reasons: Vec<_> = reader
        .refreshes
        .iter()
        .map(|seen| seen.refresh.closed_by.as_str())
        .collect();
    assert!(reasons.contains(&"stop"), "{reasons:?}");
    assert_exactly_once(&mut reader, &stored, &env);
}

/// The last window of a partition closes in time although nothing comes after it, and a restart does not lengthen it.
#[test]
fn an_idle_partition_closes_its_last_window_in_time() {
    let cluster = kafka();
    let topics = cluster.topics("idle", PARTITIONS);
    let mut env = processor_env(cluster, &topics, "classic");
    env.push(("FRONTSTREAM_PROCESSOR_INSTANCE_ID", "pod-0".to_owned()));
    let mut reader = Reader::new(cluster, &topics, PARTITIONS);
    let process = Process::ready(&["processor"], &env);
    wait_until("it has all", || partitions_held(&process) == all_partitions());
    // Warm: the first transaction of a producer asks for coordinators.
    let mut producer = Producer::new(cluster, &topics, "idle");
    producer.event("cnv_warm", Priority::High);
    producer.flush();
    reader.read_until("it is warm", |seen| events_of(seen) == 1);
    for (number, (priority, gap)) in [
        (Priority::High, 300),
        (Priority::Medium, 1_000),
        (Priority::Low, 2_000),
    ]
    .into_iter()
    .enumerate()
    {
        producer.event(&format!("cnv_idle_{number}"), priority);
        producer.flush();
        reader.read_until("it is out", |seen| events_of(seen) == 2 + number as u64);
        let seen = reader.refreshes.last().expect("one was read");
        let delay = seen.at.saturating_since(seen.refresh.first_received_at);
        let gap = Duration::from_millis(gap);
        // The bound is the promise (maximum delay and a commit interval) with room for a busy machine.
        assert!(delay >= gap, "{priority}: out after {delay:?}, before its gap");
        assert!(
            delay < gap + Duration::from_millis(1_500),
            "{priority}: out after {delay:?}"
        );
    }
    // Killed with a window open: the restart counts from the event's receipt.
    producer.event("cnv_restart", Priority::Low);
    let stored = producer.finish();
    wait_until("its window is open", || {
        process.metric("frontstream_processor_open_windows") == 1.0
    });
    process.kill();
    let process = Process::ready(&["processor"], &env);
    assert_exactly_once(&mut reader, &stored, &env);
    assert!(process.stop().success());
}

/// A wall clock that is stepped back has no part in how long the last window of an idle partition stays open.
#[test]
fn a_clock_stepped_back_does_not_hold_an_idle_partition_up() {
    let cluster = kafka();
    let topics = cluster.topics("stepped", PARTITIONS);
    let mut env = processor_env(cluster, &topics, "classic");
    let step = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(step.path(), "0").expect("written");
    env.push(("TEST_CLOCK_STEP", step.path().display().to_string()));
    let mut reader = Reader::new(cluster, &topics, PARTITIONS);
    let process = Process::ready(&["processor"], &env);
    wait_until("it has all", || partitions_held(&process) == all_partitions());
    let mut producer = Producer::new(cluster, &topics, "stepped");
    producer.event("cnv_stepped", Priority::Low);
    let stored = producer.finish();
    wait_until("its window is open", || {
        process.metric("frontstream_processor_open_windows") == 1.0
    });
    // An hour: far beyond the patience of what follows.
    let new = step.path().with_extension("new");
    std::fs::write(&new, "-3600000").expect("written");
    std::fs::rename(&new, step.path()).expect("renamed");
    assert_exactly_once(&mut reader, &stored, &env);
    assert!(process.stop().success());
}

/// More than librdkafka lets a producer send by default (1,000,000), and less than the broker's default for a topic.
const LARGE: usize = 1_040_000;

/// A record that cannot be decoded goes to the dead letters with its origin, however large, and the stream goes on.
#[test]
fn a_record_that_cannot_be_decoded_is_set_aside() {
    let cluster = kafka();
    let topics = cluster.topics("undecodable", PARTITIONS);
    let env = processor_env(cluster, &topics, "classic");
    let mut reader = Reader::new(cluster, &topics, PARTITIONS);
    let mut producer = Producer::new(cluster, &topics, "undecodable");
    producer.event("cnv_before", Priority::High);
    producer.raw(Some("cnv_bad"), b"{\"not\": \"avro\"}", Some(2));
    producer.raw(None, b"", Some(2));
    producer.raw(None, &vec![b'x'; LARGE], Some(2));
    producer.event("cnv_after", Priority::High);
    let stored = producer.finish();
    let process = Process::ready(&["processor"], &env);
    assert_exactly_once(&mut reader, &stored, &env);
    check_dead_letters(cluster, &topics.names.dead_letters, &env);
    assert!(process.stop().success());
}

fn check_dead_letters(cluster: &Cluster, topic: &str, env: &Env) {
    use rdkafka::message::{Headers as _, Message as _};
    wait_until("all are set aside", || cluster.records(topic).len() >= 3);
    let letters = cluster.records(topic);
    assert_eq!(letters.len(), 3);
    assert_eq!(letters[0].key(), Some(b"cnv_bad".as_slice()));
    assert_eq!(letters[0].payload(), Some(b"{\"not\": \"avro\"}".as_slice()));
    assert_eq!(letters[2].payload().map(<[u8]>::len), Some(LARGE));
    for letter in &letters {
        let headers = letter.headers().expect("a dead letter has headers");
        let value = |name: &str| {
            let header = headers.iter().find(|header| header.key == name);
            let value = header
                .and_then(|header| header.value)
                .unwrap_or_else(|| panic!("no header {name}"));
            String::from_utf8_lossy(value).into_owned()
        };
        let prefix = &env
            .iter()
            .find(|(name, _)| *name == "FRONTSTREAM_TOPICS_PREFIX")
            .expect("a prefix")
            .1;
        assert_eq!(value("frontstream-origin-topic"), format!("{prefix}front.events"));
        assert_eq!(value("frontstream-origin-partition"), "2");
        assert!(!value("frontstream-reason").is_empty());
    }
}
