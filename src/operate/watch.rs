//! Watching refreshes as a subscriber sees them: a line for each, and what they amount to.

use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use super::decoding::Decoders;
use super::latencies::Latencies;
use super::post::millis;
use super::print;
use crate::config::Settings;
use crate::kafka::reader::{Reader, Step};
use crate::lifecycle::{Clock, Stop};
use crate::model::{Priority, Refresh};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// For people.
    Plain,
    /// For people at a terminal.
    Coloured,
    /// For scripts: JSON lines.
    Json,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    /// Refreshes.
    pub(crate) refreshes: u64,
    /// Events that they count.
    pub(crate) events: u64,
    /// From the first receipt to being visible, by priority in the order of [`Priority::ALL`].
    pub(crate) delays: [Latencies; 3],
}

/// Reads the refresh topic from its beginning until `stop`, printing a line for each refresh; keeps `counted` at the
/// number of events they count. Blocks.
///
/// # Errors
///
/// The topic cannot be read, or standard output is closed.
pub(crate) fn watch(
    settings: &Settings,
    style: Style,
    stop: &Stop,
    counted: &watch::Sender<u64>,
) -> anyhow::Result<Watched> {
    let topic = &settings.topics.names.refresh;
    let reader = Reader::new(&settings.kafka, "frontstream-watch", ANSWER_TIMEOUT)?;
    let mut decoders = Decoders::new(&settings.registry)?;
    let clock = Clock::system();
    let mut from = Vec::new();
    for partition in reader.partitions(topic)? {
        from.push((partition, reader.bounds(topic, partition)?.start));
    }
    let mut watched = Watched::default();
    reader.follow(topic, &from, stop, |step| {
        if let Step::Record(record) = step {
            // A record that cannot be read is the audit's to report.
            if let Ok(refresh) = decoders.refresh(record.value())? {
                let delay = clock.now().saturating_since(refresh.first_received_at);
                watched.add(&refresh, delay);
                print(&line_of(&refresh, delay, style))?;
                counted.send_replace(watched.events);
            }
        }
        anyhow::Ok(ControlFlow::Continue(()))
    })?;
    Ok(watched)
}

impl Watched {
    fn add(&mut self, refresh: &Refresh, delay: Duration) {
        self.refreshes += 1;
        self.events += u64::from(refresh.event_count);
        for (priority, delays) in Priority::ALL.iter().zip(&mut self.delays) {
            if *priority == refresh.priority {
                delays.add(delay);
            }
        }
    }

    /// Returns how many events a refresh stands for, on average.
    pub(crate) fn events_per_refresh(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "an average for people")]
        let (events, refreshes) = (self.events as f64, self.refreshes as f64);
        if self.refreshes == 0 {
            0.0
        } else {
            events / refreshes
        }
    }

    /// Returns the delays of the priorities that were seen: name, p50, p99.
    pub(crate) fn delays(&self) -> Vec<(Priority, Duration, Duration)> {
        let each = Priority::ALL.iter().zip(&self.delays);
        each.filter(|(_, delays)| delays.count() > 0)
            .map(|(priority, delays)| (*priority, delays.quantile(500), delays.quantile(990)))
            .collect()
    }
}

fn line_of(refresh: &Refresh, delay: Duration, style: Style) -> String {
    let kinds: Vec<&str> = refresh.kinds.iter().map(|kind| kind.as_str()).collect();
    if style == Style::Json {
        return json!({
            "refresh_id": refresh.id().to_string(),
            "priority": refresh.priority.as_str(),
            "conversation": refresh.conversation.as_str(),
            "event_count": refresh.event_count,
            "kinds": kinds,
            "closed_by": refresh.closed_by.as_str(),
            "delay_ms": u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        })
        .to_string();
    }
    let line = format!(
        "{:<6}  {:<14} {:>3} {:<6}  {:>8} after the first, closed by {:<8}  {}",
        refresh.priority,
        refresh.conversation,
        refresh.event_count,
        if refresh.event_count == 1 {
            "event"
        } else {
            "events"
        },
        millis(delay),
        refresh.closed_by,
        kinds.join(", ")
    );
    let line = super::clean(&line);
    match (style, refresh.priority) {
        (Style::Coloured, Priority::High) => format!("\x1b[1;31m{line}\x1b[0m"),
        (Style::Coloured, Priority::Medium) => format!("\x1b[33m{line}\x1b[0m"),
        (Style::Coloured, Priority::Low) => format!("\x1b[2m{line}\x1b[0m"),
        (Style::Plain | Style::Json, _) => line,
    }
}
