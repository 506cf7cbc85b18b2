//! Watching refreshes as a subscriber sees them: a line for each, and what they amount to.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use super::decoding::Decoders;
use super::latencies::Latencies;
use super::post::millis;
use super::print;
use super::traffic::is_sample;
use crate::config::Settings;
use crate::kafka::reader::{Reader, Step};
use crate::lifecycle::{Clock, Stop};
use crate::model::{CloseReason, Priority, Refresh, Timestamp};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How many of the last refreshes are remembered: as many as a person follows.
pub(crate) const RECENT_MAX: usize = 8;

/// What is printed of each refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Nothing: somebody draws what was seen.
    Silent,
    /// A line for people.
    Plain,
    /// A line for scripts: JSON.
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
    /// The last refreshes, the newest first.
    pub(crate) recent: VecDeque<Seen>,
}

/// A refresh, as far as people look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// When it was seen.
    pub(crate) at: Timestamp,
    /// From the first receipt until then.
    pub(crate) delay: Duration,
    /// The highest of its events.
    pub(crate) priority: Priority,
    /// What is to be refreshed; without control characters.
    pub(crate) conversation: String,
    /// How many events it counts.
    pub(crate) events: u32,
    /// Their kinds; without control characters.
    pub(crate) kinds: Vec<String>,
    /// What closed the window.
    pub(crate) closed_by: CloseReason,
    /// Whether one of its events, as far as they are named, is no sample.
    pub(crate) yours: bool,
}

/// Reads the refresh topic from its beginning until `stop`, tells each refresh as `style` says, and keeps `watched` up
/// to date. Blocks.
///
/// # Errors
///
/// The topic cannot be read, or standard output is closed.
pub(crate) fn watch(
    settings: &Settings,
    style: Style,
    stop: &Stop,
    watched: &watch::Sender<Watched>,
) -> anyhow::Result<()> {
    let topic = &settings.topics.names.refresh;
    let reader = Reader::new(&settings.kafka, "frontstream-watch", ANSWER_TIMEOUT)?;
    let mut decoders = Decoders::new(&settings.registry)?;
    let clock = Clock::system();
    let mut from = Vec::new();
    for partition in reader.partitions(topic)? {
        from.push((partition, reader.bounds(topic, partition)?.start));
    }
    reader.follow(topic, &from, stop, |step| {
        if let Step::Record(record) = step {
            // A record that cannot be read is the audit's to report.
            if let Ok(refresh) = decoders.refresh(record.value())? {
                let seen = Seen::new(&refresh, clock.now());
                match style {
                    Style::Silent => {}
                    Style::Json => print(&seen.json(&refresh))?,
                    Style::Plain => print(&seen.line())?,
                }
                watched.send_modify(|watched| watched.add(seen));
            }
        }
        anyhow::Ok(ControlFlow::Continue(()))
    })
}

impl Watched {
    /// Counts a refresh.
    pub(crate) fn add(&mut self, seen: Seen) {
        self.refreshes += 1;
        self.events += u64::from(seen.events);
        for (priority, delays) in Priority::ALL.iter().zip(&mut self.delays) {
            if *priority == seen.priority {
                delays.add(seen.delay);
            }
        }
        self.recent.truncate(RECENT_MAX - 1);
        self.recent.push_front(seen);
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

impl Seen {
    pub(crate) fn new(refresh: &Refresh, at: Timestamp) -> Self {
        Self {
            at,
            delay: at.saturating_since(refresh.first_received_at),
            priority: refresh.priority,
            conversation: super::clean(refresh.conversation.as_str()),
            events: refresh.event_count,
            kinds: refresh
                .kinds
                .iter()
                .map(|kind| super::clean(kind.as_str()))
                .collect(),
            closed_by: refresh.closed_by,
            yours: refresh.event_ids.iter().any(|id| !is_sample(id.as_str())),
        }
    }

    fn json(&self, refresh: &Refresh) -> String {
        json!({
            "refresh_id": refresh.id().to_string(),
            "priority": refresh.priority.as_str(),
            "conversation": refresh.conversation.as_str(),
            "event_count": refresh.event_count,
            "kinds": refresh.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(),
            "closed_by": refresh.closed_by.as_str(),
            "delay_ms": u64::try_from(self.delay.as_millis()).unwrap_or(u64::MAX),
            "sample": !self.yours,
        })
        .to_string()
    }

    fn line(&self) -> String {
        format!(
            "{:<6}  {:<14} {:>3} {:<6}  {:>8} after the first, closed by {:<8}  {}{}",
            self.priority,
            self.conversation,
            self.events,
            if self.events == 1 { "event" } else { "events" },
            millis(self.delay),
            self.closed_by,
            self.kinds.join(", "),
            if self.yours { "  (yours)" } else { "" },
        )
    }
}
