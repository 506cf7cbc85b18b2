//! What the receiver counts.

use std::time::Duration;

use axum::http::StatusCode;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::answer::Answer;
use super::signature::{Refusal, Scheme};

/// Counters, gauges and times of the receiver; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    requests: IntCounterVec,
    accepted: IntCounter,
    gone: IntCounter,
    pub(super) signature_checks: IntCounterVec,
    signature_check: Histogram,
    acknowledge: Histogram,
    pub(super) refused_body_bytes: IntCounter,
    pub(super) requests_in_flight: IntGauge,
    pub(super) bytes_in_flight: IntGauge,
    pub(super) connections: IntGauge,
    pub(super) seen_events: IntGauge,
    pub(super) duplicates: IntCounter,
    pub(super) unknown_types: IntCounter,
    pub(super) without_conversation: IntCounter,
    pub(super) handshakes: IntCounter,
    pub(super) accept_failures: IntCounter,
}

impl Metrics {
    /// Makes and registers them.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = request_counters(registry)?;
        let signature_checks = signature_check_counters(registry)?;
        Ok(Self {
            accepted: requests.with_label_values(&["200", "accepted"]),
            gone: requests.with_label_values(&["none", "gone"]),
            requests,
            signature_checks,
            signature_check: histogram(
                registry,
                "signature_check_seconds",
                "Time to hash a body and compare, all secrets of its scheme together.",
                &[
                    0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001,
                    0.005,
                ],
            )?,
            acknowledge: histogram(
                registry,
                "acknowledge_seconds",
                "Time from the end of a request's head to the answer 200 for stored events.",
                &[
                    0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
                ],
            )?,
            refused_body_bytes: counter(
                registry,
                "refused_body_bytes_total",
                "Bytes of bodies answered 413: as announced, or as far as they were read.",
            )?,
            requests_in_flight: gauge(registry, "requests_in_flight", "Requests being worked on.")?,
            bytes_in_flight: gauge(registry, "in_flight_bytes", "Bytes of bodies being held.")?,
            connections: gauge(registry, "connections", "Open connections.")?,
            seen_events: gauge(registry, "seen_events", "Events remembered as stored.")?,
            duplicates: counter(
                registry,
                "duplicates_total",
                "Events known as stored, and not stored again.",
            )?,
            unknown_types: counter(
                registry,
                "unknown_types_total",
                "Events of types that the mapping does not know.",
            )?,
            without_conversation: counter(
                registry,
                "events_without_conversation_total",
                "Events that name no conversation: stored, never refreshed.",
            )?,
            accept_failures: counter(
                registry,
                "accept_failures_total",
                "Connections that could not be accepted: out of file descriptors, mostly.",
            )?,
            handshakes: counter(
                registry,
                "handshakes_total",
                "Handshakes answered with their challenge.",
            )?,
        })
    }

    pub(super) fn answered(&self, answer: &Answer, took: Duration) {
        if let Answer::Accepted { .. } = answer {
            self.accepted.inc();
            self.acknowledge.observe(took.as_secs_f64());
            return;
        }
        self.count(answer.status(), answer.reason());
    }

    pub(super) fn count(&self, status: StatusCode, reason: &str) {
        self.requests.with_label_values(&[status.as_str(), reason]).inc();
    }

    /// Counts a request whose sender did not wait for the answer.
    pub(super) fn gone(&self) {
        self.gone.inc();
    }

    /// Counts a signature that is not good.
    pub(super) fn refused(&self, refusal: &Refusal) {
        self.signature_checks.with_label_values(&labels_of(refusal)).inc();
    }

    /// Notes how long a body was hashed.
    pub(super) fn took(&self, took: Duration) {
        self.signature_check.observe(took.as_secs_f64());
    }
}

fn request_counters(registry: &Registry) -> Result<IntCounterVec, prometheus::Error> {
    let requests = counters(
        registry,
        "requests_total",
        "Requests by status code and reason; answer \"none\" when the sender hung up before it.",
        &["answer", "reason"],
    )?;
    for (status, reason) in Answer::all() {
        requests.with_label_values(&[status.as_str(), reason]);
    }
    Ok(requests)
}

fn signature_check_counters(registry: &Registry) -> Result<IntCounterVec, prometheus::Error> {
    let checks = counters(
        registry,
        "signature_checks_total",
        "Signatures checked, by scheme, name of the secret that matched and verdict.",
        &["scheme", "secret", "verdict"],
    )?;
    for refusal in Refusal::all() {
        checks.with_label_values(&labels_of(&refusal));
    }
    Ok(checks)
}

fn labels_of(refusal: &Refusal) -> [&'static str; 3] {
    let scheme = refusal.scheme.map_or("none", Scheme::as_str);
    [scheme, "none", refusal.reason.as_str()]
}

fn name(name: &str) -> String {
    format!("frontstream_receiver_{name}")
}

fn counters(
    registry: &Registry,
    short: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(name(short), help), labels)?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn counter(registry: &Registry, short: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let counter = IntCounter::new(name(short), help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn gauge(registry: &Registry, short: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(name(short), help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn histogram(
    registry: &Registry,
    short: &str,
    help: &str,
    buckets: &[f64],
) -> Result<Histogram, prometheus::Error> {
    let histogram = Histogram::with_opts(HistogramOpts::new(name(short), help).buckets(buckets.to_vec()))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}
