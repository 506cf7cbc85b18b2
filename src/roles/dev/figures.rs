//! What receiver and processor counted, read from the metrics that they register.

use std::collections::VecDeque;
use std::time::Duration;

use prometheus::Registry;
use prometheus::proto::{Metric, MetricFamily};

use crate::operate::picture::Figures;

/// Reads all figures at once.
pub(super) fn figures(registry: &Registry) -> Figures {
    let families = registry.gather();
    let total = |name: &str| series(&families, name).map(value).sum::<f64>();
    let mut figures = Figures {
        stored: whole(
            series(&families, "frontstream_producer_records_total")
                .filter(|metric| label(metric, "topic") == "events")
                .map(value)
                .sum(),
        ),
        without_conversation: whole(total("frontstream_receiver_events_without_conversation_total")),
        dropped: whole(total("frontstream_processor_duplicate_events_total")),
        open_windows: whole(total("frontstream_processor_open_windows")),
        committed: whole(total("frontstream_processor_refreshes_total")),
        ..Figures::default()
    };
    for metric in series(&families, "frontstream_receiver_requests_total") {
        let count = whole(value(metric));
        figures.webhooks += count;
        match (label(metric, "answer"), label(metric, "reason")) {
            ("200", "accepted") => figures.accepted += count,
            ("200", "duplicate") => figures.duplicates += count,
            // A handshake, and whatever else is answered as it should be.
            ("200", _) => {}
            (answer, reason) if count > 0 => figures.others.push((format!("{answer} {reason}"), count)),
            _ => {}
        }
    }
    figures
}

fn series<'f>(families: &'f [MetricFamily], name: &str) -> impl Iterator<Item = &'f Metric> {
    let family = families.iter().find(|family| family.name() == name);
    family.into_iter().flat_map(MetricFamily::get_metric)
}

/// Returns what a counter or a gauge stands at; the other is zero.
fn value(metric: &Metric) -> f64 {
    metric.get_counter().get_value() + metric.get_gauge().get_value()
}

fn label<'m>(metric: &'m Metric, name: &str) -> &'m str {
    let found = metric.get_label().iter().find(|label| label.name() == name);
    found.map_or("", |label| label.value())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts, as Prometheus has them"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

/// How long a rate looks back: long enough that a burst does not look like the normal.
const RATE_OVER: Duration = Duration::from_secs(5);

/// A count's rate over the last seconds.
#[derive(Debug, Default)]
pub(super) struct Rate(VecDeque<(Duration, u64)>);

impl Rate {
    /// Takes the count as it is `now`, since the start, and returns by how much it grew a second.
    pub(super) fn at(&mut self, now: Duration, count: u64) -> f64 {
        self.0.push_back((now, count));
        while self.0.len() > 2 && now.saturating_sub(self.0[1].0) >= RATE_OVER {
            self.0.pop_front();
        }
        let (then, before) = self.0[0];
        let seconds = now.saturating_sub(then).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let grown = count.saturating_sub(before) as f64;
        if seconds > 0.0 { grown / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{IntCounterVec, IntGaugeVec, Opts};

    use super::*;

    #[test]
    fn figures_are_those_of_the_metrics() {
        let registry = Registry::new();
        let counters = |name: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, "x"), labels).unwrap();
            registry.register(Box::new(counters.clone())).unwrap();
            counters
        };
        let requests = counters("frontstream_receiver_requests_total", &["answer", "reason"]);
        for (answer, reason, count) in [
            ("200", "accepted", 7),
            ("200", "duplicate", 2),
            ("401", "signature", 3),
            ("503", "overloaded", 0),
        ] {
            requests.with_label_values(&[answer, reason]).inc_by(count);
        }
        let records = counters("frontstream_producer_records_total", &["topic"]);
        records.with_label_values(&["events"]).inc_by(7);
        records.with_label_values(&["dead_letters"]).inc_by(9);
        let windows = IntGaugeVec::new(
            Opts::new("frontstream_processor_open_windows", "x"),
            &["partition"],
        )
        .unwrap();
        registry.register(Box::new(windows.clone())).unwrap();
        windows.with_label_values(&["0"]).set(1);
        windows.with_label_values(&["5"]).set(2);
        assert_eq!(
            figures(&registry),
            Figures {
                webhooks: 12,
                accepted: 7,
                duplicates: 2,
                others: vec![("401 signature".to_owned(), 3)],
                stored: 7,
                open_windows: 3,
                ..Figures::default()
            }
        );
    }
    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::default();
        let counts = [(0, 0), (1, 10), (4, 40), (6, 40), (12, 40)];
        let grown = counts.map(|(second, count)| rate.at(Duration::from_secs(second), count));
        // From the beginning, then over the last five seconds or what is nearest to them.
        assert_eq!(grown, [0.0, 10.0, 10.0, 6.0, 0.0]);
    }
}
