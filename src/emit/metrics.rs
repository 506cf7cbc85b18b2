//! What the transactions tell from outside.

use prometheus::{CounterVec, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

/// Counters and times of one process's transactions; shared by its workers.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Transactions by outcome: `committed`, `aborted`, `exit`.
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

/// A transaction of one record takes 9 ms (design section 7); beyond a second something is wrong.
const SECONDS: [f64; 12] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

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
                .buckets(SECONDS.to_vec()),
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
        Ok(metrics)
    }
}
