//! What a processor tells from outside.

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, core::Collector,
};

use crate::coalesce::Counts;
use crate::model::{CloseReason, Partition, Priority, Refresh, RunCause, Timestamp};
use crate::observe::buckets;

/// Counters, gauges and delays of one process; shared by its workers.
#[derive(Clone, Debug)]
pub struct Metrics {
    consumed: IntCounter,
    events: IntCounter,
    coalesced: IntCounter,
    duplicates: IntCounter,
    skipped: IntCounter,
    chunks: IntCounter,
    starts_missing: IntCounter,
    without_conversation: IntCounter,
    clock_went_back: IntCounter,
    refreshes: IntCounterVec,
    dead_letters: IntCounter,
    delay_from_emitted: HistogramVec,
    delay_from_received: HistogramVec,
    open_windows: IntGaugeVec,
    lag: IntGaugeVec,
    behind: IntGaugeVec,
    pub(super) assigned: IntCounter,
    pub(super) revoked: IntCounterVec,
    pub(super) rewinds: IntCounter,
    pub(super) short_logs: IntCounter,
    pub(super) runs: IntCounterVec,
    pub(super) lost_range: IntCounter,
}

impl Metrics {
    /// Registers them; every priority and closing reason shows from the start, at zero.
    ///
    /// # Errors
    ///
    /// A name is taken already: they were registered twice.
    #[expect(clippy::too_many_lines, reason = "a list: a line for each metric")]
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let count = |name, help| counter(registry, name, help);
        let count_by = |name, help, labels: &[&str]| labelled(registry, name, help, labels);
        let metrics = Self {
            consumed: count(
                "consumed_records_total",
                "Records read from front.events, replays included.",
            )?,
            events: count("events_total", "New events counted in a window.")?,
            coalesced: count(
                "coalesced_events_total",
                "Events that joined an open window: refreshes saved.",
            )?,
            duplicates: count("duplicate_events_total", "Events dropped as duplicates.")?,
            skipped: count(
                "skipped_records_total",
                "Records read again and dealt with before a restart.",
            )?,
            chunks: count("chunks_total", "Chunks of a backlog begun.")?,
            starts_missing: count(
                "window_starts_missing_total",
                "Window starts in a checkpoint gone from the log.",
            )?,
            without_conversation: count(
                "events_without_conversation_total",
                "Events with nothing to refresh.",
            )?,
            clock_went_back: count(
                "clock_went_back_total",
                "Times the clock was earlier than before.",
            )?,
            refreshes: count_by(
                "refreshes_total",
                "Refreshes committed, by priority and by what closed the window.",
                &["priority", "closed_by"],
            )?,
            dead_letters: count(
                "dead_letters_total",
                "Undecodable records committed to front.dead-letters.",
            )?,
            delay_from_emitted: delay(
                registry,
                "emitted",
                "From the first event's emission to the commit.",
            )?,
            delay_from_received: delay(
                registry,
                "received",
                "From the first event's receipt to the commit.",
            )?,
            open_windows: gauge(registry, "open_windows", "Windows open now, by partition.")?,
            lag: gauge(
                registry,
                "lag_records",
                "Records behind the last stable offset, by partition.",
            )?,
            behind: gauge(
                registry,
                "catching_up",
                "1 while a partition works off a backlog in chunks.",
            )?,
            assigned: count("partitions_assigned_total", "Partitions taken over.")?,
            revoked: count_by(
                "partitions_released_total",
                "Partitions given back, by how.",
                &["how"],
            )?,
            rewinds: count(
                "rewinds_total",
                "Times windows were dropped to go on from the committed offset.",
            )?,
            short_logs: count(
                "short_log_answers_total",
                "Answers that a log ends before what was read of it, and that were not believed yet.",
            )?,
            runs: count_by("runs_started_total", "Runs begun, by cause.", &["cause"])?,
            lost_range: count(
                "lost_offsets_total",
                "Offsets that retention removed before they were read.",
            )?,
        };
        metrics.show_zeros();
        Ok(metrics)
    }

    /// Makes every series with known labels show, so that an alert on its rate works from the first one on.
    fn show_zeros(&self) {
        for priority in Priority::ALL {
            for reason in CloseReason::ALL {
                self.refreshes
                    .with_label_values(&[priority.as_str(), reason.as_str()]);
            }
            self.delay_from_emitted.with_label_values(&[priority.as_str()]);
            self.delay_from_received.with_label_values(&[priority.as_str()]);
        }
        for cause in RunCause::ALL {
            self.runs.with_label_values(&[cause.as_str()]);
        }
        for how in ["revoked", "lost"] {
            self.revoked.with_label_values(&[how]);
        }
    }

    /// Counts records as they are read.
    pub(super) fn read(&self, records: usize) {
        self.consumed.inc_by(records as u64);
    }

    /// Counts what a coalescer did since it was last asked.
    pub(super) fn coalesced(&self, counts: &Counts) {
        self.events.inc_by(counts.events);
        self.coalesced.inc_by(counts.coalesced);
        self.chunks.inc_by(counts.chunks);
        self.starts_missing.inc_by(counts.starts_missing);
        self.duplicates.inc_by(counts.duplicates);
        self.skipped.inc_by(counts.skipped);
        self.without_conversation.inc_by(counts.without_conversation);
        self.clock_went_back.inc_by(counts.clock_went_back);
    }

    /// Counts a refresh that is committed.
    pub(super) fn committed(&self, refresh: &Refresh, now: Timestamp) {
        let priority = refresh.priority.as_str();
        self.refreshes
            .with_label_values(&[priority, refresh.closed_by.as_str()])
            .inc();
        let since = |time: Timestamp| now.saturating_since(time).as_secs_f64();
        self.delay_from_emitted
            .with_label_values(&[priority])
            .observe(since(refresh.first_emitted_at));
        self.delay_from_received
            .with_label_values(&[priority])
            .observe(since(refresh.first_received_at));
    }

    /// Counts dead letters that are committed.
    pub(super) fn set_aside(&self, letters: usize) {
        self.dead_letters.inc_by(letters as u64);
    }

    /// Shows where a partition stands.
    pub(super) fn stands(
        &self,
        partition: Partition,
        coalescer: &crate::coalesce::Coalescer,
        log_end: Option<i64>,
    ) {
        let label = partition.to_string();
        self.open_windows
            .with_label_values(&[&label])
            .set(i64::try_from(coalescer.open_windows()).unwrap_or(i64::MAX));
        self.behind
            .with_label_values(&[&label])
            .set(i64::from(coalescer.is_behind()));
        if let Some(end) = log_end {
            self.lag
                .with_label_values(&[&label])
                .set((end - coalescer.position().number()).max(0));
        }
    }

    /// Forgets a partition that is someone else's now.
    pub(super) fn gone(&self, partition: Partition) {
        let label = partition.to_string();
        for gauge in [&self.open_windows, &self.behind, &self.lag] {
            // It is absent when the partition went before it was first shown.
            drop(gauge.remove_label_values(&[&label]));
        }
    }
}

fn named(name: &str) -> String {
    format!("frontstream_processor_{name}")
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    register(registry, IntCounter::new(named(name), help)?)
}

fn labelled(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    register(
        registry,
        IntCounterVec::new(Opts::new(named(name), help), labels)?,
    )
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGaugeVec, prometheus::Error> {
    register(
        registry,
        IntGaugeVec::new(Opts::new(named(name), help), &["partition"])?,
    )
}

fn delay(registry: &Registry, from: &str, help: &str) -> Result<HistogramVec, prometheus::Error> {
    let name = named(&format!("delay_from_{from}_seconds"));
    let options = HistogramOpts::new(name, help).buckets(buckets::DELAY_SECONDS.to_vec());
    register(registry, HistogramVec::new(options, &["priority"])?)
}
