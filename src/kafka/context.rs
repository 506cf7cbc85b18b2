//! What librdkafka says on its own account: log lines, and statistics once a second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::statistics::Statistics;

use crate::lifecycle::Instant;
use crate::observe::Outage;

/// Writes the log lines of one client of librdkafka at the levels that an operator expects of them.
///
/// A broker that is away makes librdkafka repeat itself, for each broker and each client, although it goes on trying:
/// that is a warning, and one of each sort (its *facility*, such as `FAIL`) is written every half minute; the others
/// are there at the level debug. What fails a transaction or ends a process is logged by whoever acts on it, with what
/// is done about it, so librdkafka's own words for that are left to the level debug too.
#[derive(Debug, Default)]
pub struct ClientLog {
    /// Bounded by librdkafka: its facilities are constants in its source.
    warned: Mutex<HashMap<String, Outage>>,
}

/// The sorts of lines that say what a call gives to its caller as well.
const SAID_BY_THE_CALLER: [&str; 3] = ["FATAL", "TXNERR", "GETPID"];

impl ClientLog {
    /// Writes one line.
    pub fn line(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            _ if SAID_BY_THE_CALLER.contains(&facility) => {
                tracing::debug!(target: "frontstream::librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "frontstream::librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => match self.is_due(facility) {
                Some(left_out) => {
                    tracing::warn!(target: "frontstream::librdkafka", facility, left_out, "{message}");
                }
                None => tracing::debug!(target: "frontstream::librdkafka", facility, "{message}"),
            },
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "frontstream::librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Debug => {
                tracing::debug!(target: "frontstream::librdkafka", facility, "{message}")
            }
        }
    }

    fn is_due(&self, facility: &str) -> Option<u64> {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let outage = warned.entry(facility.to_owned()).or_default();
        outage.failed(Instant::now())
    }
}

/// What the last statistics of one client said; written by its callback, read by whoever reports it.
#[derive(Debug, Default)]
pub struct ClientFacts {
    log_ends: Mutex<HashMap<(String, i32), i64>>,
    disconnected: AtomicBool,
    queued_messages: AtomicU64,
    queued_messages_max: AtomicU64,
}

impl ClientFacts {
    /// Takes one set of statistics.
    #[expect(clippy::iter_over_hash_type, reason = "each entry lands in its own place")]
    pub fn record(&self, statistics: &Statistics) {
        let up = statistics
            .brokers
            .values()
            .any(|broker| broker.nodeid >= 0 && broker.state == "UP");
        self.disconnected.store(!up, Ordering::Relaxed);
        self.queued_messages.store(statistics.msg_cnt, Ordering::Relaxed);
        self.queued_messages_max
            .store(statistics.msg_max, Ordering::Relaxed);
        let mut log_ends = self
            .log_ends
            .lock()
            .expect("no one panics while holding the log ends");
        for (name, topic) in &statistics.topics {
            for (number, partition) in &topic.partitions {
                // A read-committed reader sees up to the last stable offset; -1001 means not yet known.
                let end = if partition.ls_offset >= 0 {
                    partition.ls_offset
                } else {
                    partition.hi_offset
                };
                if *number >= 0 && partition.leader < 0 {
                    log_ends.remove(&(name.clone(), *number));
                } else if *number >= 0 && end >= 0 {
                    log_ends.insert((name.clone(), *number), end);
                }
            }
        }
    }

    /// Says whether no broker of the cluster was connected at the last report; no before the first.
    pub fn is_disconnected(&self) -> bool {
        self.disconnected.load(Ordering::Relaxed)
    }

    /// Returns the end of a partition as last reported; `None` before the first report, and while the partition has no
    /// leader: nobody can read up to an end then.
    pub fn log_end(&self, topic: &str, partition: i32) -> Option<i64> {
        let log_ends = self
            .log_ends
            .lock()
            .expect("no one panics while holding the log ends");
        log_ends.get(&(topic.to_owned(), partition)).copied()
    }

    /// Returns how full a producer's queue is, from 0 to 1; 0 before the first report.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for a gauge")]
    pub fn queue_fill(&self) -> f64 {
        let max = self.queued_messages_max.load(Ordering::Relaxed);
        if max == 0 {
            0.0
        } else {
            self.queued_messages.load(Ordering::Relaxed) as f64 / max as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::{Partition, Topic};

    use super::*;

    fn reported(leader: i32, end: i64) -> Statistics {
        let partition = Partition {
            leader,
            ls_offset: end,
            ..Partition::default()
        };
        let topic = Topic {
            partitions: HashMap::from([(0, partition)]),
            ..Topic::default()
        };
        Statistics {
            topics: HashMap::from([("front.events".to_owned(), topic)]),
            ..Statistics::default()
        }
    }

    #[test]
    fn a_partition_without_a_leader_has_no_end() {
        let facts = ClientFacts::default();
        for (leader, end, expected) in [(1, 7, Some(7)), (-1, 7, None), (2, 9, Some(9))] {
            facts.record(&reported(leader, end));
            assert_eq!(facts.log_end("front.events", 0), expected, "leader {leader}");
        }
    }
}
