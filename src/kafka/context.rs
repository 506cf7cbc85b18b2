//! What librdkafka says on its own account: log lines, and statistics once a second.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::statistics::Statistics;

/// Writes one of librdkafka's log lines at the level that an operator expects of it.
///
/// A broker that is away makes librdkafka repeat itself at its "error" level although it goes on trying; that is a
/// warning here. What ends a process is logged by the process itself.
pub fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "frontstream::librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "frontstream::librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "frontstream::librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "frontstream::librdkafka", facility, "{message}"),
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
                if *number >= 0 && end >= 0 {
                    log_ends.insert((name.clone(), *number), end);
                }
            }
        }
    }

    /// Says whether no broker of the cluster was connected at the last report; no before the first.
    pub fn is_disconnected(&self) -> bool {
        self.disconnected.load(Ordering::Relaxed)
    }

    /// Returns the end of a partition as last reported; `None` before the first report.
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
