//! Replay, with Kafka's own tool where it is at hand: exactly the range that was rewound comes again, as a run of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use frontstream::lifecycle::Clock;
use frontstream::model::Priority;
use rdkafka::Message as _;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::load::Producer;
use super::records::{Reader, Seen, assert_audit_exact, assert_exactly_once, count, events_of};
use super::{PARTITIONS, group, processor_env};
use crate::support::process::{Env, Process};
use crate::support::{self, Cluster, To, Topics, kafka};

/// Resets the processor's group; the processors are stopped, as that demands.
fn reset(cluster: &Cluster, topics: &Topics, partition: Option<i32>, to: To<'_>) {
    support::reset(cluster, &group(topics), &topics.names.events, partition, to);
}

/// Counts the events stored at or above an offset of each partition.
fn stored_from(cluster: &Cluster, topics: &Topics, from: impl Fn(i32, i64, i64) -> bool) -> u64 {
    cluster
        .records(&topics.names.events)
        .iter()
        .filter(|record| {
            from(
                record.partition(),
                record.offset(),
                record.timestamp().to_millis().unwrap_or(0),
            )
        })
        .count() as u64
}

/// Starts a processor, waits until it has refreshed `events` more, and stops it.
fn run_for(events: u64, reader: &mut Reader, env: &Env) -> Vec<Seen> {
    let before = reader.refreshes.len();
    let process = Process::ready(&["processor"], env);
    reader.read_until("the range is out again", |seen| {
        events_of(&seen[before..]) >= events
    });
    assert!(process.stop().success());
    // Whatever the stop put out belongs to it too.
    for _ in 0..5 {
        reader.read(Duration::from_millis(100));
    }
    reader.refreshes[before..].to_vec()
}

#[test]
fn the_exact_range_that_was_reset_comes_again() {
    let cluster = kafka();
    let topics = cluster.topics("replay", PARTITIONS);
    let env = processor_env(cluster, &topics, "classic");
    let mut reader = Reader::new(cluster, &topics, PARTITIONS);
    let mut producer = Producer::new(cluster, &topics, "replay");
    for number in 0..200 {
        producer.event(&format!("cnv_{}", number % 37), Priority::High);
    }
    producer.flush();
    let between = Clock::system().now().plus(Duration::from_millis(5));
    support::process::wait_until("the clock has moved on", || Clock::system().now() > between);
    for number in 0..100 {
        producer.event(&format!("cnv_{}", number % 37), Priority::High);
    }
    let stored = producer.finish();
    let process = Process::ready(&["processor"], &env);
    assert_exactly_once(&mut reader, &stored, &env);
    assert!(process.stop().success());

    // To an offset, of one partition.
    reset(cluster, &topics, Some(1), To::Offset(20));
    let expected = stored_from(cluster, &topics, |partition, offset, _| {
        partition == 1 && offset >= 20
    });
    let again = run_for(expected, &mut reader, &env);
    assert_eq!(events_of(&again), expected, "to an offset");
    for Seen { refresh, .. } in &again {
        assert_eq!(refresh.partition.number(), 1);
        assert!(refresh.first_offset.number() >= 20);
        assert_eq!(
            (refresh.run.start.number(), refresh.run.cause.as_str()),
            (20, "reset")
        );
    }
    assert_audit_exact(&env);

    // To a time, of all partitions.
    let time = between.to_string();
    let time = To::Time(time.trim_end_matches('Z'), between.as_millis());
    reset(cluster, &topics, None, time);
    let expected = stored_from(cluster, &topics, |_, _, at| at >= between.as_millis());
    assert!(expected >= 100);
    let again = run_for(expected, &mut reader, &env);
    assert_eq!(events_of(&again), expected, "to a time");
    assert_audit_exact(&env);

    // To the earliest.
    reset(cluster, &topics, None, To::Earliest);
    let again = run_for(count(&stored), &mut reader, &env);
    assert_eq!(events_of(&again), count(&stored), "to the earliest");
    let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
    for Seen { refresh, .. } in &again {
        for id in &refresh.event_ids {
            *ids.entry(id.as_str()).or_default() += 1;
        }
    }
    assert!(ids.values().all(|times| *times == 1));
    assert_audit_exact(&env);
}

/// Metadata that cannot be decoded stops the processor; what it says to do gets it going again.
#[test]
fn metadata_that_cannot_be_decoded_stops_it_with_a_way_out() {
    let cluster = kafka();
    let topics = cluster.topics("metadata", PARTITIONS);
    let env = processor_env(cluster, &topics, "classic");
    let mut producer = Producer::new(cluster, &topics, "metadata");
    for number in 0..40 {
        producer.event(&format!("cnv_{number}"), Priority::High);
    }
    let stored = producer.finish();
    commit_foreign_metadata(cluster, &topics);

    let mut process = Process::start(&["processor"], &env);
    let status = process.wait_end();
    assert_eq!(status.code(), Some(6), "{}", process.log());
    let log = process.log();
    for expected in [
        "partition 3",
        "offset 2",
        "kafka-consumer-groups",
        "--to-offset 2",
        &group(&topics),
    ] {
        assert!(log.contains(expected), "the message lacks {expected:?}:\n{log}");
    }
    let command = format!(
        "kafka-consumer-groups --bootstrap-server {} --group {} --topic {}:3 --reset-offsets --to-offset 2 --execute\n",
        cluster.bootstrap,
        group(&topics),
        topics.names.events
    );
    assert!(
        log.ends_with(&command),
        "the command is whole and can be copied:\n{log}"
    );
    let mut reader = Reader::new(cluster, &topics, PARTITIONS);
    reader.read(Duration::from_millis(500));
    assert!(
        reader
            .refreshes
            .iter()
            .all(|seen| seen.refresh.partition.number() != 3),
        "nothing is guessed for the partition"
    );

    reset(cluster, &topics, Some(3), To::Offset(2));
    let skipped = 2;
    let process = Process::ready(&["processor"], &env);
    reader.read_until("the rest is out", |seen| {
        events_of(seen) == count(&stored) - skipped
    });
    assert!(process.stop().success());
    assert_audit_exact(&env);
}

fn commit_foreign_metadata(cluster: &Cluster, topics: &Topics) {
    let mut config = cluster.client_config();
    let client: BaseConsumer = config
        .set("group.id", group(topics))
        .create()
        .expect("a consumer");
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(&topics.names.events, 3, Offset::Offset(2))
        .expect("an offset");
    offsets
        .find_partition(&topics.names.events, 3)
        .expect("it was just added")
        .set_metadata("written by something else");
    client.commit(&offsets, CommitMode::Sync).expect("committed");
}

/// A position that retention removes while the processor is behind: it goes on at the earliest retained, in the same
/// process, and says what was lost.
#[test]
fn a_position_that_is_removed_while_it_works_is_gone_on_from() {
    let cluster = kafka();
    for protocol in cluster.protocols() {
        let topics = cluster.topics("removed", 1);
        let mut env = processor_env(cluster, &topics, protocol);
        for (name, value) in &mut env {
            if name.ends_with("_PARTITIONS") {
                "1".clone_into(value);
            }
        }
        let mut reader = Reader::new(cluster, &topics, 1);
        let mut producer = Producer::new(cluster, &topics, "removed");
        for number in 0..20 {
            producer.event(&format!("cnv_{number}"), Priority::High);
        }
        producer.flush();
        let process = Process::ready(&["processor"], &env);
        reader.read_until("the first are out", |seen| events_of(seen) == 20);
        process.signal("STOP");
        // A fetch that was under way is answered with nothing.
        reader.read(Duration::from_millis(500));
        for number in 0..40 {
            producer.event(&format!("cnv_{number}"), Priority::High);
        }
        producer.flush();
        delete_before(cluster, &topics.names.events, 50);
        process.signal("CONT");
        reader.read_until("what is left is out", |seen| events_of(seen) == 30);
        let last = &reader.refreshes.last().expect("some were read").refresh;
        assert_eq!(
            (last.run.start.number(), last.run.cause.as_str()),
            (50, "retention")
        );
        assert_eq!(process.metric("frontstream_processor_lost_offsets_total"), 30.0);
        assert!(process.stop().success());
    }
}

/// Removes the records of partition 0 below an offset, as retention does.
fn delete_before(cluster: &Cluster, topic: &str, offset: i64) {
    let admin: AdminClient<DefaultClientContext> = cluster.client_config().create().expect("an admin client");
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(topic, 0, Offset::Offset(offset))
        .expect("an offset");
    support::block_on(admin.delete_records(&offsets, &AdminOptions::new())).expect("removed");
}
