//! What the transactions tell from outside.

use prometheus::{CounterVec, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use crate::observe::buckets;

/// What a transaction consists of, as metrics and errors name it.
pub(super) mod step {
    pub(in crate::emit) const BEGIN: &str = "begin the transaction";
    pub(in crate::emit) const SEND: &str = "hand over the records";
    pub(in crate::emit) const AWAIT_DELIVERIES: &str = "await the deliveries";
    pub(in crate::emit) const SEND_OFFSETS: &str = "send the offsets";
    pub(in crate::emit) const COMMIT: &str = "commit the transaction";
    pub(in crate::emit) const ABORT: &str = "abort the transaction";
    pub(in crate::emit) const ALL: [&str; 6] = [BEGIN, SEND, AWAIT_DELIVERIES, SEND_OFFSETS, COMMIT, ABORT];
}

/// Counters and times of one process's transactions; shared by its workers.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Transactions by outcome: `committed`, `aborted`, `rebalanced`, `exit`.
    pub(super) transactions: IntCounterVec,
    /// From begin to the commit's answer.
    pub(super) duration: Histogram,
    /// Steps that were tried again, by step.
    pub(super) retries: IntCounterVec,
    /// Bytes of refreshes and dead letters produced, by topic role.
    pub(super) bytes: CounterVec,
    /// Refresh records committed.
    pub(super) records: IntCounter,
    /// How full the producer's queue was when last reported.
    pub(super) queue_fill: Gauge,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// A name is taken already: they were registered twice.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            transactions: IntCounterVec::new(
                Opts::new(
                    "frontstream_processor_transactions_total",
                    "Transactions by outcome.",
                ),
                &["outcome"],
            )?,
            duration: Histogram::with_opts(
                HistogramOpts::new(
                    "frontstream_processor_transaction_duration_seconds",
                    "Time from begin to the answer of commit.",
                )
                .buckets(buckets::TRANSACTION_SECONDS.to_vec()),
            )?,
            retries: IntCounterVec::new(
                Opts::new(
                    "frontstream_processor_transaction_retries_total",
                    "Steps of a transaction tried again.",
                ),
                &["step"],
            )?,
            bytes: CounterVec::new(
                Opts::new(
                    "frontstream_processor_produced_bytes_total",
                    "Bytes of values handed to the producer.",
                ),
                &["kind"],
            )?,
            records: IntCounter::new(
                "frontstream_processor_refresh_records_committed_total",
                "Refresh records in committed transactions.",
            )?,
            queue_fill: Gauge::new(
                "frontstream_processor_producer_queue_fill_ratio",
                "How full the producer's queue is, from 0 to 1.",
            )?,
        };
        registry.register(Box::new(metrics.transactions.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.retries.clone()))?;
        registry.register(Box::new(metrics.bytes.clone()))?;
        registry.register(Box::new(metrics.records.clone()))?;
        registry.register(Box::new(metrics.queue_fill.clone()))?;
        metrics.show_zeros();
        Ok(metrics)
    }

    /// Makes every series show, so that an alert on its rate works from the first one on.
    fn show_zeros(&self) {
        for outcome in ["committed", "aborted", "rebalanced", "exit"] {
            self.transactions.with_label_values(&[outcome]);
        }
        for step in step::ALL {
            self.retries.with_label_values(&[step]);
        }
        for kind in ["refresh", "dead_letter"] {
            self.bytes.with_label_values(&[kind]);
        }
    }
}
