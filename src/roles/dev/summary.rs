//! The last words of a run: what was sent, what came of it, what the audit found.

use std::time::Duration;

use serde_json::json;

use super::prefix_of;
use crate::config::Settings;
use crate::lifecycle::Exit;
use crate::operate::audit::Report;
use crate::operate::picture::Figures;
use crate::operate::post::{Tally, millis};
use crate::operate::watch::Watched;

/// What is left of the topics afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remains {
    /// Everything, on the brokers.
    Topics,
    /// Nothing: the broker was this process.
    Nothing,
}

/// How a run went.
pub(super) struct Summary {
    /// The samples.
    pub(super) tally: Tally,
    pub(super) figures: Figures,
    pub(super) watched: Watched,
    pub(super) report: Report,
    /// How many of the oldest events the in-process broker dropped, since it holds so much and no more.
    pub(super) removed_events: u64,
}

impl Summary {
    /// Returns 0 only when the audit is exact and everything accepted was stored, counted and seen.
    pub(super) fn exit(&self) -> Exit {
        let all_seen = self.watched.events >= self.report.totals.counted;
        if self.report.exact && self.missing() == 0 && all_seen {
            Exit::Done
        } else {
            Exit::Found
        }
    }

    /// Returns how many accepted events are in no refresh, though they should be: not stored, or not counted.
    fn missing(&self) -> u64 {
        let totals = &self.report.totals;
        let settled = totals.counted + totals.duplicates + totals.without_conversation + totals.undecodable;
        let stored = totals.events + self.removed_events;
        self.figures.accepted.saturating_sub(stored) + totals.events.saturating_sub(settled)
    }

    /// Returns how many webhooks were accepted that were no samples.
    fn yours(&self) -> u64 {
        self.figures.accepted.saturating_sub(accepted(&self.tally))
    }

    pub(super) fn text(&self, settings: &Settings, remains: Remains) -> String {
        let mut lines = Vec::new();
        if self.tally.sent > 0 {
            let answers = self.tally.answers.iter();
            let answers = answers.map(|(label, count)| format!("{label}: {count}"));
            lines.push(format!(
                "webhooks  {} sent, {} accepted (answers {})",
                self.tally.sent,
                accepted(&self.tally),
                answers.collect::<Vec<_>>().join(", ")
            ));
            lines.push(format!(
                "answered  p50 {}, p99 {}",
                millis(self.tally.latencies.quantile(500)),
                millis(self.tally.latencies.quantile(990)),
            ));
        }
        if self.yours() > 0 || self.tally.sent == 0 {
            lines.push(format!("yours     {} accepted", self.yours()));
        }
        lines.push(format!("events    {}", self.report.totals.events));
        lines.push(format!(
            "refreshes {}, {:.2} events each",
            self.report.totals.refreshes,
            self.watched.events_per_refresh()
        ));
        let delays = self.watched.delays().into_iter();
        let delays =
            delays.map(|(priority, p50, p99)| format!("{priority} {} / {}", millis(p50), millis(p99)));
        let delays = delays.collect::<Vec<_>>().join(", ");
        if !delays.is_empty() {
            lines.push(format!(
                "delay     first received to visible, p50 / p99: {delays}"
            ));
        }
        lines.push(format!("audit     {}", self.report.verdict));
        if self.removed_events > 0 {
            lines.push(format!(
                "dropped   {} events, the oldest, for want of memory: the audit is of what is left; on a real Kafka \
                 (--brokers) nothing is dropped",
                self.removed_events
            ));
        }
        if self.exit() != Exit::Done {
            lines.extend(self.trouble(settings, remains));
        }
        format!("\n{}", lines.join("\n"))
    }

    fn trouble(&self, settings: &Settings, remains: Remains) -> Vec<String> {
        let mut lines = Vec::new();
        if self.missing() > 0 {
            lines.push(format!(
                "missing   {} accepted events are in no refresh",
                self.missing()
            ));
        }
        for finding in &self.report.findings {
            lines.push(format!("{}: {}", finding.fault.as_str(), finding.explanation));
        }
        lines.push(match remains {
            Remains::Topics => format!(
                "The topics are left for you to look at: frontstream audit --brokers {} --set topics.prefix={} \
                 --set processor.group={}",
                settings.kafka.brokers,
                prefix_of(&settings.topics.names),
                settings.processor.group
            ),
            Remains::Nothing => {
                "This should not happen. On a real Kafka (--brokers) the topics of such a run stay to be looked at."
                    .to_owned()
            }
        });
        lines
    }

    pub(super) fn json(&self) -> String {
        let delay = |(priority, p50, p99): (crate::model::Priority, Duration, Duration)| {
            let millis = |delay: Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            json!({ "priority": priority.as_str(), "p50_ms": millis(p50), "p99_ms": millis(p99) })
        };
        json!({
            "summary": {
                "send": self.tally.json(),
                "accepted": accepted(&self.tally),
                "yours": self.yours(),
                "refreshes": self.watched.refreshes,
                "events_per_refresh": self.watched.events_per_refresh(),
                "delays": self.watched.delays().into_iter().map(delay).collect::<Vec<_>>(),
                "removed_events": self.removed_events,
                "audit": self.report,
                "ok": self.exit() == Exit::Done,
            }
        })
        .to_string()
    }
}

fn accepted(tally: &Tally) -> u64 {
    tally.answers.get("200 accepted").copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::audit::Counts;

    /// A run with 9 samples and one webhook of somebody's own, all of them counted and seen.
    fn summary() -> Summary {
        let mut tally = Tally {
            sent: 10,
            ..Tally::default()
        };
        tally.answers.insert("200 accepted".to_owned(), 9);
        tally.answers.insert("200 duplicate".to_owned(), 1);
        Summary {
            tally,
            figures: Figures {
                accepted: 10,
                ..Figures::default()
            },
            watched: Watched {
                refreshes: 4,
                events: 9,
                ..Watched::default()
            },
            report: Report {
                exact: true,
                verdict: "exact".to_owned(),
                group: None,
                totals: Counts {
                    events: 10,
                    refreshes: 4,
                    counted: 9,
                    without_conversation: 1,
                    ..Counts::default()
                },
                partitions: Vec::new(),
                findings: Vec::new(),
                notes: Vec::new(),
            },
            removed_events: 0,
        }
    }

    #[test]
    fn all_is_well_when_everything_accepted_was_counted_and_seen() {
        let summary = summary();
        assert_eq!(
            (summary.exit(), summary.missing(), summary.yours()),
            (Exit::Done, 0, 1)
        );
    }

    #[test]
    fn what_the_broker_dropped_is_said_and_not_missed() {
        let mut dropped = summary();
        dropped.figures.accepted = 100;
        dropped.removed_events = 90;
        assert_eq!((dropped.exit(), dropped.missing()), (Exit::Done, 0));
        dropped.removed_events = 80;
        assert_eq!((dropped.exit(), dropped.missing()), (Exit::Found, 10));
    }

    #[test]
    fn what_is_accepted_and_not_stored_or_not_counted_or_not_seen_is_found() {
        let mut not_stored = summary();
        not_stored.figures.accepted = 12;
        assert_eq!((not_stored.exit(), not_stored.missing()), (Exit::Found, 2));
        let mut not_counted = summary();
        not_counted.report.totals.counted = 7;
        assert_eq!((not_counted.exit(), not_counted.missing()), (Exit::Found, 2));
        let mut not_seen = summary();
        not_seen.watched.events = 8;
        assert_eq!((not_seen.exit(), not_seen.missing()), (Exit::Found, 0));
        let mut not_exact = summary();
        not_exact.report.exact = false;
        assert_eq!(not_exact.exit(), Exit::Found);
    }
}
