//! Two readers on the plain listener that write down everything on `front.events` and, committed, on `front.refresh`, while
//! the campaign runs: retention may remove it before the end.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use frontstream::lifecycle::{Clock, Instant};
use frontstream::model::{Priority, Refresh, Timestamp};
use frontstream::wire::{DecodeError, EventDecoder, RefreshDecoder, event_v1, refresh_v1};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use super::stage::holds_within;
use crate::support::Cluster;

/// How long the last look at a topic may take, when nobody writes to it any more.
const REST_PATIENCE: Duration = Duration::from_secs(60);

/// How often a reader looks for new partitions.
const PARTITIONS_EVERY: Duration = Duration::from_secs(1);

/// A record of `front.events`.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) offset: i64,
    /// When the broker appended it.
    pub(crate) log_time: Timestamp,
    pub(crate) event: Event,
}

/// What matters of an event here.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) tenant: String,
    pub(crate) conversation: String,
    pub(crate) id: String,
    pub(crate) priority: Priority,
}

/// A committed record of `front.refresh`.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) offset: i64,
    pub(crate) refresh: Refresh,
    /// When the reader saw it.
    pub(crate) at: Timestamp,
}

/// Everything written down, by partition, in the order of offsets.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) events: Mutex<BTreeMap<i32, Vec<Stored>>>,
    pub(crate) refreshes: Mutex<BTreeMap<i32, Vec<Seen>>>,
}

impl Record {
    /// Returns how far `front.events` has been written down: the offset after the last, by partition.
    pub(crate) fn events_until(&self, partition: i32) -> i64 {
        let events = self
            .events
            .lock()
            .expect("no one panics while holding the record");
        events
            .get(&partition)
            .and_then(|stored| stored.last())
            .map_or(0, |last| last.offset + 1)
    }

    /// Reads `front.events` until told to stop, and then to its end.
    pub(crate) fn read_events(&self, cluster: &Cluster, topic: &str, is_over: impl Fn() -> bool) {
        let mut decoder = EventDecoder::new();
        follow(cluster, topic, is_over, |message| {
            let event = decode_event(&mut decoder, message.payload().expect("an event has a value"));
            let log_time = message
                .timestamp()
                .to_millis()
                .expect("the broker stamps records");
            let mut events = self
                .events
                .lock()
                .expect("no one panics while holding the record");
            let events = events.entry(message.partition()).or_default();
            assert_eq!(
                message.offset(),
                events.last().map_or(0, |last| last.offset + 1),
                "every record of {topic} partition {} is written down",
                message.partition()
            );
            events.push(Stored {
                offset: message.offset(),
                log_time: Timestamp::from_millis(log_time),
                event,
            });
        });
    }

    /// Reads `front.refresh` until told to stop, and then to its end.
    pub(crate) fn read_refreshes(&self, cluster: &Cluster, topic: &str, is_over: impl Fn() -> bool) {
        let mut decoder = RefreshDecoder::new();
        follow(cluster, topic, is_over, |message| {
            let refresh = decode_refresh(&mut decoder, message.payload().expect("a refresh has a value"));
            assert_eq!(
                message.partition(),
                refresh.partition.number(),
                "a refresh stands in the partition of its events"
            );
            let (at, offset) = (Clock::system().now(), message.offset());
            let mut refreshes = self
                .refreshes
                .lock()
                .expect("no one panics while holding the record");
            let refreshes = refreshes.entry(message.partition()).or_default();
            assert!(
                refreshes.last().is_none_or(|last| last.offset < offset),
                "the records of {topic} partition {} are written down in order",
                message.partition()
            );
            refreshes.push(Seen { offset, refresh, at });
        });
    }
}

/// Reads a topic from its beginning, partitions that are added included, until told to stop; then what is left of it.
fn follow(
    cluster: &Cluster,
    topic: &str,
    is_over: impl Fn() -> bool,
    mut each: impl FnMut(&BorrowedMessage<'_>),
) {
    let client = reader(cluster, topic);
    // Of each partition the offset to read next.
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let mut looked: Option<Instant> = None;
    while !is_over() {
        if looked.is_none_or(|at| at.elapsed() > PARTITIONS_EVERY) {
            looked = Some(Instant::now());
            assign_new(&client, topic, &mut next);
        }
        match client.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                each(&message);
                next.insert(message.partition(), message.offset() + 1);
            }
            // The client goes on by itself; what it could not read is read in the end.
            Some(Err(KafkaError::MessageConsumption(_) | KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => panic!("the record of {topic} cannot go on: {error}"),
        }
    }
    drop(client);
    read_rest(cluster, topic, next, each);
}

/// Reads to the end of every partition, which nobody writes to any more.
fn read_rest(
    cluster: &Cluster,
    topic: &str,
    mut next: BTreeMap<i32, i64>,
    mut each: impl FnMut(&BorrowedMessage<'_>),
) {
    let client = reader(cluster, topic);
    let mut open: BTreeMap<i32, i64> = BTreeMap::new();
    assert!(
        holds_within(REST_PATIENCE, || assign_new(&client, topic, &mut open)),
        "the brokers do not tell of {topic}"
    );
    for (partition, offset) in &mut open {
        *offset = next.remove(partition).unwrap_or(0);
    }
    client.assign(&positions(topic, &open)).expect("an assignment");
    let began = Instant::now();
    while !open.is_empty() {
        assert!(
            began.elapsed() < REST_PATIENCE,
            "the end of {topic} is not reached: {open:?}"
        );
        match client.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => each(&message),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(KafkaError::MessageConsumption(_))) | None => {}
            Some(Err(error)) => panic!("the record of {topic} cannot go on: {error}"),
        }
    }
}

fn reader(cluster: &Cluster, topic: &str) -> BaseConsumer {
    let mut config = cluster.client_config();
    config
        .set("group.id", format!("{topic}-record"))
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "50");
    config.create().expect("a consumer")
}

/// Assigns the partitions that are there now and were not before, from their beginning; says whether the brokers answered.
fn assign_new(client: &BaseConsumer, topic: &str, known: &mut BTreeMap<i32, i64>) -> bool {
    // Brokers may be away: later, then.
    let Ok(metadata) = client.fetch_metadata(Some(topic), Duration::from_secs(5)) else {
        return false;
    };
    let found = metadata
        .topics()
        .first()
        .map_or(0, |topic| topic.partitions().len());
    let found = i32::try_from(found).expect("a partition count");
    let new: BTreeMap<i32, i64> = (0..found)
        .filter(|partition| !known.contains_key(partition))
        .map(|partition| (partition, 0))
        .collect();
    if !new.is_empty() {
        client
            .incremental_assign(&positions(topic, &new))
            .expect("an assignment");
    }
    known.extend(new);
    found > 0
}

fn positions(topic: &str, offsets: &BTreeMap<i32, i64>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
            .expect("an offset of ours is a plain number");
    }
    list
}

fn decode_event(decoder: &mut EventDecoder, value: &[u8]) -> Event {
    if let Err(DecodeError::UnknownSchema(id)) = decoder.decode(value) {
        decoder.learn(id, event_v1::SCHEMA).expect("our own schema");
    }
    let decoded = decoder.decode(value).expect("an event of ours");
    let change = decoded.change();
    Event {
        tenant: change.tenant.to_owned(),
        conversation: change
            .conversation
            .expect("every webhook names its conversation")
            .to_owned(),
        id: change.event_id.to_owned(),
        priority: change.priority,
    }
}

fn decode_refresh(decoder: &mut RefreshDecoder, value: &[u8]) -> Refresh {
    if let Err(DecodeError::UnknownSchema(id)) = decoder.refresh(value) {
        decoder.learn(id, refresh_v1::SCHEMA).expect("our own schema");
    }
    decoder.refresh(value).expect("a refresh of ours")
}
