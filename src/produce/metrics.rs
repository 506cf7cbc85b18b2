//! What the producer counts.

use std::sync::Weak;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::Error;
use super::client::Client;

/// Counters and times of the producer; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    pub(super) events: IntCounter,
    pub(super) dead_letters: IntCounter,
    failures: IntCounterVec,
    delivery: Histogram,
}

impl Metrics {
    /// Makes and registers them.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let records = IntCounterVec::new(
            Opts::new(
                "frontstream_producer_records_total",
                "Records that became durable, by what they hold.",
            ),
            &["topic"],
        )?;
        let failures = IntCounterVec::new(
            Opts::new(
                "frontstream_producer_failures_total",
                "Records that did not become durable in time, by what the receiver does about it.",
            ),
            &["class"],
        )?;
        let delivery = Histogram::with_opts(
            HistogramOpts::new(
                "frontstream_producer_delivery_seconds",
                "Time from handing a record to the client until it was durable.",
            )
            .buckets(vec![
                0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.5, 5.0,
                10.0,
            ]),
        )?;
        registry.register(Box::new(records.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        registry.register(Box::new(delivery.clone()))?;
        for class in Error::CLASSES {
            failures.with_label_values(&[class]);
        }
        Ok(Self {
            events: records.with_label_values(&["events"]),
            dead_letters: records.with_label_values(&["dead_letters"]),
            failures,
            delivery,
        })
    }

    pub(super) fn failed(&self, error: &Error) {
        self.failures.with_label_values(&[error.class()]).inc();
    }

    pub(super) fn delivered_after(&self, took: Duration) {
        self.delivery.observe(took.as_secs_f64());
    }
}

/// Reads the client's queue when metrics are read, so that nothing has to sample it.
pub(super) struct QueueFill {
    gauge: IntGauge,
    client: Weak<Client>,
}

impl QueueFill {
    pub(super) fn register(registry: &Registry, client: Weak<Client>) -> Result<(), prometheus::Error> {
        let gauge = IntGauge::new(
            "frontstream_producer_queue_records",
            "Records handed to the client that are not durable yet, and its notices not yet heard.",
        )?;
        registry.register(Box::new(Self { gauge, client }))
    }
}

impl Collector for QueueFill {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge
            .set(self.client.upgrade().map_or(0, |client| client.waiting()));
        self.gauge.collect()
    }
}
