//! Topics, their partitions and settings, and everything that reads or writes records.

pub(super) mod admin;
pub(super) mod configs;
pub(super) mod fetch;
pub(super) mod metadata;
pub(super) mod offsets;
pub(super) mod produce;

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use self::configs::Configs;
use super::clock::Now;
use super::log::{Log, TimeOf};

/// How often records are looked at for their age.
const RETENTION_CHECK: Duration = Duration::from_secs(10);

/// Every topic.
pub(super) struct Topics {
    by_name: BTreeMap<String, Topic>,
    ids: BTreeMap<Uuid, String>,
    /// Names by what they are without the difference between dot and underscore, which no two topics may differ by alone.
    alike: BTreeMap<String, String>,
    /// Partitions of all topics together.
    partitions: usize,
    /// How many topics there ever were; makes ids.
    created: u64,
    /// Bytes of all logs together, and what they may be.
    bytes: usize,
    bytes_max: usize,
    /// Somebody was told that the memory is full.
    full: bool,
    next_retention: Duration,
}

/// One topic.
pub(super) struct Topic {
    pub(super) id: Uuid,
    pub(super) partitions: Vec<Log>,
    pub(super) configs: Configs,
}

impl Topics {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            by_name: BTreeMap::new(),
            ids: BTreeMap::new(),
            alike: BTreeMap::new(),
            partitions: 0,
            created: 0,
            bytes: 0,
            bytes_max,
            full: false,
            next_retention: RETENTION_CHECK,
        }
    }

    pub(super) fn topic(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    pub(super) fn partition(&self, topic: &str, index: i32) -> Option<&Log> {
        self.topic(topic)?.partitions.get(usize::try_from(index).ok()?)
    }

    pub(super) fn partition_mut(&mut self, topic: &str, index: i32) -> Option<&mut Log> {
        let topic = self.by_name.get_mut(topic)?;
        topic.partitions.get_mut(usize::try_from(index).ok()?)
    }

    fn named(&self, id: Uuid) -> Option<&str> {
        self.ids.get(&id).map(String::as_str)
    }

    fn insert(&mut self, name: &str, partitions: i32, configs: Configs) -> Uuid {
        self.created += 1;
        let id = Uuid::from_u64_pair(0xF507_57EA_0000_4000, self.created | (1 << 63));
        let mut topic = Topic {
            id,
            partitions: Vec::new(),
            configs,
        };
        topic.grow(partitions);
        self.partitions += topic.partitions.len();
        self.by_name.insert(name.to_owned(), topic);
        self.ids.insert(id, name.to_owned());
        self.alike.insert(folded(name), name.to_owned());
        id
    }

    /// Returns the topic whose name is this one but for dots and underscores.
    fn like(&self, name: &str) -> Option<&str> {
        self.alike.get(&folded(name)).map(String::as_str)
    }

    /// Gives a topic this many partitions.
    fn grow(&mut self, name: &str, partitions: i32) {
        if let Some(topic) = self.by_name.get_mut(name) {
            self.partitions -= topic.partitions.len();
            topic.grow(partitions);
            self.partitions += topic.partitions.len();
        }
    }

    fn remove(&mut self, name: &str) -> Option<Uuid> {
        let mut topic = self.by_name.remove(name)?;
        self.ids.remove(&topic.id);
        self.alike.remove(&folded(name));
        self.partitions -= topic.partitions.len();
        for log in &mut topic.partitions {
            self.bytes -= log.bytes();
            log.wake();
        }
        Some(topic.id)
    }

    /// Changes one log and keeps account of the bytes.
    pub(super) fn change<T>(
        &mut self,
        topic: &str,
        index: i32,
        work: impl FnOnce(&mut Log) -> T,
    ) -> Option<T> {
        let log = self.partition_mut(topic, index)?;
        let before = log.bytes();
        let done = work(log);
        let after = log.bytes();
        self.bytes = self.bytes + after - before;
        Some(done)
    }

    /// Says whether there are far too many records that cannot be dropped, since transactions are open on them.
    fn is_overfull(&self) -> bool {
        self.bytes / 2 > self.bytes_max
    }

    /// Drops the oldest records of the largest logs until all of them fit into the memory that they may take.
    fn keep_within_memory(&mut self) {
        while self.bytes > self.bytes_max {
            let logs = self.by_name.iter_mut().flat_map(|(name, topic)| {
                let logs = topic.partitions.iter_mut();
                logs.enumerate().map(move |(index, log)| (name, index, log))
            });
            let droppable = logs.filter(|(_, _, log)| log.can_drop());
            let Some((name, index, log)) = droppable.max_by_key(|(_, _, log)| log.bytes()) else {
                return;
            };
            let before = log.bytes();
            // A sixteenth at a time: not a search of all logs for every append.
            let target = before - before / 16;
            let dropped = log.retain(|bytes, _| bytes > target);
            self.bytes = self.bytes + log.bytes() - before;
            if !dropped {
                return;
            }
            if !std::mem::replace(&mut self.full, true) {
                tracing::warn!(
                    topic = %name,
                    partition = index,
                    bytes_max = self.bytes_max,
                    "the in-process broker's memory is full: it drops the oldest records of its largest partitions, \
                     this one first"
                );
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        (!self.by_name.is_empty()).then_some(self.next_retention)
    }

    /// Drops records beyond their topic's `retention.ms` and `retention.bytes`, and producers that were not heard of for long.
    pub(super) fn on_time(&mut self, now: Now) {
        if now.elapsed < self.next_retention {
            return;
        }
        self.next_retention = now.elapsed + RETENTION_CHECK;
        for topic in self.by_name.values_mut() {
            let (age_max, bytes_max) = (topic.configs.retention_ms(), topic.configs.retention_bytes());
            for log in &mut topic.partitions {
                log.forget_producers(now);
                let before = log.bytes();
                log.retain(|bytes, newest| {
                    let old = age_max.is_some_and(|max| now.wall_ms.saturating_sub(newest) > max);
                    old || bytes_max.is_some_and(|max| bytes > max)
                });
                self.bytes = self.bytes + log.bytes() - before;
            }
        }
    }
}

impl Topic {
    fn grow(&mut self, partitions: i32) {
        let count = usize::try_from(partitions).unwrap_or(0);
        self.partitions.resize_with(count, Log::default);
    }

    fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    fn time_of(&self) -> TimeOf {
        self.configs.time_of()
    }
}

fn folded(name: &str) -> String {
    name.replace('.', "_")
}

/// The error code of a partition that may be missing.
fn code_of<T>(result: Result<T, ResponseError>) -> (i16, Option<T>) {
    match result {
        Ok(value) => (0, Some(value)),
        Err(error) => (error.code(), None),
    }
}

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::records::{
        Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
    };

    use super::super::batch;
    use super::super::transactions::Outcome;
    use super::*;

    const NOW: Now = Now {
        elapsed: Duration::ZERO,
        wall_ms: 1_000_000,
    };

    /// A batch of one record with a value of this many bytes.
    fn batch_of(bytes: usize, timestamp: i64) -> Bytes {
        batch_by(-1, false, bytes, timestamp)
    }

    /// The same by this producer, as its first.
    fn batch_by(producer_id: i64, transactional: bool, bytes: usize, timestamp: i64) -> Bytes {
        let known = producer_id >= 0;
        let record = Record {
            transactional,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 0,
            producer_id,
            producer_epoch: if known { 0 } else { -1 },
            timestamp_type: TimestampType::Creation,
            offset: 0,
            sequence: if known { 0 } else { -1 },
            timestamp,
            key: None,
            value: Some(vec![b'x'; bytes].into()),
            headers: Default::default(),
        };
        let options = RecordEncodeOptions {
            version: 2,
            compression: Compression::None,
        };
        let mut encoded = BytesMut::new();
        RecordBatchEncoder::encode(&mut encoded, [&record], &options).unwrap();
        encoded.freeze()
    }

    fn append(topics: &mut Topics, topic: &str, bytes: usize, timestamp: i64) {
        append_batch(topics, topic, &batch_of(bytes, timestamp));
    }

    fn append_batch(topics: &mut Topics, topic: &str, encoded: &Bytes) {
        let rules = batch::Rules {
            times: None,
            keyed: false,
        };
        let header = batch::check(encoded, &rules).unwrap();
        let appended = topics.change(topic, 0, |log| log.append(encoded, header, TimeOf::Create, NOW));
        appended.unwrap().unwrap();
        topics.keep_within_memory();
    }

    fn with(topic: &str, settings: &[(&str, &str)], bytes_max: usize) -> Topics {
        let mut topics = Topics::new(bytes_max);
        let mut configs = Configs::default();
        for (name, value) in settings {
            configs.set(name, Some(value)).map_err(|unfit| unfit.0).unwrap();
        }
        topics.insert(topic, 1, configs);
        topics
    }

    #[test]
    fn a_full_memory_drops_the_oldest_of_the_largest() {
        let mut topics = with("large", &[], 100_000);
        topics.insert("small", 1, Configs::default());
        append(&mut topics, "small", 1_000, 0);
        for _ in 0..1_000 {
            append(&mut topics, "large", 1_000, 0);
            assert!(topics.bytes <= 100_000);
        }
        let large = topics.partition("large", 0).unwrap();
        assert_eq!(large.end(), 1_000);
        assert!((900..950).contains(&large.start()), "begins at {}", large.start());
        assert_eq!(topics.partition("small", 0).unwrap().start(), 0);
        let (large, small) = (large.bytes(), topics.partition("small", 0).unwrap().bytes());
        assert_eq!(topics.bytes, large + small);
        topics.remove("large").unwrap();
        assert_eq!(topics.bytes, small);
    }

    #[test]
    fn an_open_transaction_on_the_largest_does_not_keep_the_others() {
        let mut topics = with("pinned", &[], 100_000);
        topics.insert("free", 1, Configs::default());
        append_batch(&mut topics, "pinned", &batch_by(7, true, 60_000, 0));
        append(&mut topics, "pinned", 1_000, 0);
        for _ in 0..100 {
            append(&mut topics, "free", 1_000, 0);
            assert!(topics.bytes <= 100_000, "{} bytes", topics.bytes);
        }
        assert_eq!(topics.partition("pinned", 0).unwrap().start(), 0);
        assert!(topics.partition("free", 0).unwrap().start() > 50);
        assert!(!topics.is_overfull());
        append(&mut topics, "pinned", 150_000, 0);
        assert!(topics.is_overfull(), "nothing of it can be dropped");
        topics.change("pinned", 0, |log| log.append_marker(7, 0, Outcome::Commit, NOW));
        topics.keep_within_memory();
        assert!(!topics.is_overfull());
    }

    #[test]
    fn a_producer_that_is_silent_for_a_day_is_forgotten() {
        let mut topics = with("written", &[("retention.ms", "-1")], usize::MAX);
        append_batch(&mut topics, "written", &batch_by(7, false, 10, NOW.wall_ms));
        append_batch(&mut topics, "written", &batch_by(8, true, 10, NOW.wall_ms));
        let known = |topics: &Topics| -> Vec<i64> {
            let log = topics.partition("written", 0).unwrap();
            log.producers().map(|(id, _)| id).collect()
        };
        let day_ms = 24 * 60 * 60 * 1_000;
        for (later_ms, expected) in [(day_ms, &[7, 8][..]), (day_ms + 1, &[8])] {
            topics.on_time(Now {
                elapsed: topics.next_deadline().unwrap(),
                wall_ms: NOW.wall_ms + later_ms,
            });
            assert_eq!(known(&topics), expected, "an open transaction stays");
        }
    }

    #[test]
    fn what_is_older_than_its_topic_keeps_goes() {
        let mut topics = with("aged", &[("retention.ms", "5000")], usize::MAX);
        for age in [9_000, 6_000, 4_000, 0] {
            append(&mut topics, "aged", 10, NOW.wall_ms - age);
        }
        let due = topics.next_deadline().unwrap();
        let before = Now {
            elapsed: due - Duration::from_millis(1),
            ..NOW
        };
        topics.on_time(before);
        assert_eq!(topics.partition("aged", 0).unwrap().start(), 0);
        topics.on_time(Now { elapsed: due, ..NOW });
        assert_eq!(topics.partition("aged", 0).unwrap().start(), 2);
        assert!(topics.next_deadline().unwrap() > due);
    }

    #[test]
    fn what_exceeds_the_bytes_that_its_topic_keeps_goes() {
        let mut topics = with(
            "bounded",
            &[("retention.bytes", "2500"), ("retention.ms", "-1")],
            usize::MAX,
        );
        for _ in 0..5 {
            append(&mut topics, "bounded", 1_000, 0);
        }
        topics.on_time(Now {
            elapsed: RETENTION_CHECK,
            ..NOW
        });
        let log = topics.partition("bounded", 0).unwrap();
        assert_eq!((log.start(), log.end()), (3, 5));
    }
}
