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

use crate::support::Cluster;

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

    /// Reads `front.events` until told to stop.
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
            events.entry(message.partition()).or_default().push(Stored {
                offset: message.offset(),
                log_time: Timestamp::from_millis(log_time),
                event,
            });
        });
    }

    /// Reads `front.refresh` until told to stop.
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
            refreshes
                .entry(message.partition())
                .or_default()
                .push(Seen { offset, refresh, at });
        });
    }
}

/// Reads a topic from its beginning, partitions that are added included, until told to stop.
fn follow(
    cluster: &Cluster,
    topic: &str,
    is_over: impl Fn() -> bool,
    mut each: impl FnMut(&BorrowedMessage<'_>),
) {
    let mut config = cluster.client_config();
    config
        .set("group.id", format!("{topic}-record"))
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "50");
    let client: BaseConsumer = config.create().expect("a consumer");
    let mut partitions = 0;
    let mut looked: Option<Instant> = None;
    while !is_over() {
        if looked.is_none_or(|at| at.elapsed() > PARTITIONS_EVERY) {
            looked = Some(Instant::now());
            partitions = assign_new(&client, topic, partitions);
        }
        match client.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => each(&message),
            // The client goes on by itself; what it could not read in the end, the verdict misses.
            Some(Err(KafkaError::MessageConsumption(_))) | None => {}
            Some(Err(error)) => panic!("the record of {topic} cannot go on: {error}"),
        }
    }
}

/// Assigns the partitions that are there now and were not before; returns how many there are.
fn assign_new(client: &BaseConsumer, topic: &str, known: i32) -> i32 {
    // Brokers may be away: later, then.
    let Ok(metadata) = client.fetch_metadata(Some(topic), Duration::from_secs(5)) else {
        return known;
    };
    let found = metadata
        .topics()
        .first()
        .map_or(0, |topic| topic.partitions().len());
    let found = i32::try_from(found).expect("a partition count");
    if found <= known {
        return known;
    }
    let mut new = TopicPartitionList::new();
    for partition in known..found {
        new.add_partition_offset(topic, partition, Offset::Beginning)
            .expect("the beginning is an offset");
    }
    client.incremental_assign(&new).expect("an assignment");
    found
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
