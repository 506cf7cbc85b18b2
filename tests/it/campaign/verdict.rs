//! Says whether anything was lost, doubled, out of order or late. From what was sent, what was answered and what two readers
//! wrote down; it shares no code with the product's `audit`, which judges the same campaign on its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use frontstream::model::{Priority, Run, Timestamp};

use super::load::Ledger;
use super::record::{Seen, Stored};

/// The product's default horizon, within which the same event is a duplicate.
const HORIZON_RECORDS: i64 = 20_000;
const HORIZON: Duration = Duration::from_secs(600);

/// How many findings of each sort are told in full.
const TOLD: usize = 20;

/// What the judge is given.
pub(crate) struct Evidence<'e> {
    pub(crate) ledger: &'e Ledger,
    pub(crate) events: &'e BTreeMap<i32, Vec<Stored>>,
    pub(crate) refreshes: &'e BTreeMap<i32, Vec<Seen>>,
    /// For each partition the highest offset before which records were deleted unread, on purpose.
    pub(crate) deleted_before: &'e BTreeMap<i32, i64>,
    /// When a fault was at work, or the system was recovering from one.
    pub(crate) disturbed: &'e [(Timestamp, Timestamp)],
    /// How much longer than its cap a window may live on a busy machine.
    pub(crate) late_after: Duration,
}

/// What the judge found; the lists are empty in a good campaign.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Records of `front.events`.
    pub(crate) stored: usize,
    /// Of these: duplicates by the rule.
    pub(crate) duplicates: usize,
    /// Of these: removed by retention before they were counted, as the fault has it.
    pub(crate) expired: usize,
    pub(crate) refreshes: usize,
    /// Events counted by refreshes, again those of replays.
    pub(crate) counted: usize,
    /// Refreshes whose window opened and closed undisturbed, and the longest that such a window outlived its cap.
    pub(crate) undisturbed: usize,
    pub(crate) longest_over_cap: Duration,
    /// Answered 200 and on no partition.
    pub(crate) unstored: Vec<String>,
    pub(crate) lost: Vec<String>,
    pub(crate) doubled: Vec<String>,
    pub(crate) misordered: Vec<String>,
    /// Refreshes that tell something wrong of the events between their offsets.
    pub(crate) untrue: Vec<String>,
    pub(crate) late: Vec<String>,
}

impl Verdict {
    /// Returns every finding, some of each sort in full; empty: nothing is wrong.
    pub(crate) fn findings(&self) -> Vec<String> {
        let sorts = [
            ("answered 200 and not stored", &self.unstored),
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("misordered", &self.misordered),
            ("untrue", &self.untrue),
            ("late", &self.late),
        ];
        let mut findings = Vec::new();
        for (name, found) in sorts {
            if !found.is_empty() {
                findings.push(format!("{} {name}", found.len()));
                findings.extend(found.iter().take(TOLD).map(|one| format!("  {name}: {one}")));
            }
        }
        findings
    }
}

/// Judges.
pub(crate) fn judge(evidence: &Evidence<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    unstored(evidence, &mut verdict);
    let none = Vec::new();
    for (partition, stored) in evidence.events {
        let seen = evidence.refreshes.get(partition).unwrap_or(&none);
        let deleted_before = evidence.deleted_before.get(partition).copied().unwrap_or(0);
        Bench::new(*partition, stored, deleted_before).judge(seen, evidence, &mut verdict);
    }
    for partition in evidence.refreshes.keys() {
        if !evidence.events.contains_key(partition) {
            verdict
                .untrue
                .push(format!("refreshes of partition {partition}, which has no events"));
        }
    }
    verdict
}

/// Returns how many events are countable and not counted yet: zero when the processors have caught up.
pub(crate) fn open(evidence: &Evidence<'_>) -> usize {
    judge(evidence).lost.len()
}

fn unstored(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let all = evidence.events.values().flatten();
    let stored: BTreeSet<&str> = all.map(|stored| stored.event.id.as_str()).collect();
    for (id, sent) in &evidence.ledger.sent {
        if sent.accepted > 0 && !stored.contains(id.as_str()) {
            verdict.unstored.push(format!("{id} of {}", sent.conversation));
        }
    }
}

/// How an event must be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// At least once in all, at most once in each run.
    Counted,
    /// Never.
    Duplicate,
    /// Retention removed it, or what made it a duplicate: counted or not, but never twice in a run.
    Either,
}

/// One partition before the judge.
struct Bench<'e> {
    partition: i32,
    stored: &'e [Stored],
    due: Vec<Due>,
    /// The places of a conversation's events, in order.
    of_conversation: BTreeMap<(&'e str, &'e str), Vec<usize>>,
}

impl<'e> Bench<'e> {
    fn new(partition: i32, stored: &'e [Stored], deleted_before: i64) -> Self {
        let mut last: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
        let mut of_conversation: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        let mut due = Vec::with_capacity(stored.len());
        for (place, record) in stored.iter().enumerate() {
            let event = &record.event;
            let earlier = last.insert((&event.tenant, &event.conversation, &event.id), place);
            of_conversation
                .entry((event.tenant.as_str(), event.conversation.as_str()))
                .or_default()
                .push(place);
            due.push(match earlier.map(|earlier| &stored[earlier]) {
                Some(earlier) if is_within_horizon(earlier, record) => {
                    if earlier.offset < deleted_before {
                        Due::Either
                    } else {
                        Due::Duplicate
                    }
                }
                _ if record.offset < deleted_before => Due::Either,
                _ => Due::Counted,
            });
        }
        Self {
            partition,
            stored,
            due,
            of_conversation,
        }
    }

    fn judge(&self, seen: &[Seen], evidence: &Evidence<'_>, verdict: &mut Verdict) {
        verdict.stored += self.stored.len();
        verdict.duplicates += self.due.iter().filter(|due| **due == Due::Duplicate).count();
        verdict.refreshes += seen.len();
        let mut counted: BTreeMap<(i64, i64), Vec<u32>> = BTreeMap::new();
        let mut before: BTreeMap<(&str, &str), &Seen> = BTreeMap::new();
        for one in seen {
            let refresh = &one.refresh;
            let events = self.events_of(one);
            verdict.counted += events.len();
            let times = counted
                .entry(run_key(&refresh.run))
                .or_insert_with(|| vec![0; self.stored.len()]);
            for place in &events {
                times[*place] += 1;
                self.judge_count(*place, times[*place], &refresh.run, verdict);
            }
            self.judge_truth(one, &events, verdict);
            self.judge_delay(one, &events, evidence, verdict);
            let key = (refresh.tenant.as_str(), refresh.conversation.as_str());
            if let Some(earlier) = before.insert(key, one)
                && earlier.refresh.run == refresh.run
                && earlier.refresh.last_offset >= refresh.first_offset
            {
                verdict.misordered.push(self.describe(one));
            }
        }
        for (place, due) in self.due.iter().enumerate() {
            let is_counted = counted.values().any(|times| times[place] > 0);
            match due {
                Due::Counted if !is_counted => verdict.lost.push(self.name(place)),
                Due::Either if !is_counted => verdict.expired += 1,
                Due::Counted | Due::Either | Due::Duplicate => {}
            }
        }
    }

    /// The places of the events that a refresh counts: all of its conversation between its offsets that are no duplicates.
    fn events_of(&self, seen: &Seen) -> Vec<usize> {
        let refresh = &seen.refresh;
        let range = refresh.first_offset.number()..=refresh.last_offset.number();
        let key = (refresh.tenant.as_str(), refresh.conversation.as_str());
        let places = self.of_conversation.get(&key).map_or(&[][..], Vec::as_slice);
        let within = |place: &&usize| range.contains(&self.stored[**place].offset);
        let places = places.iter().filter(within).copied();
        // Of those that may be either, the refresh itself says which it counts; each id is counted once.
        let named: BTreeSet<&str> = refresh.event_ids.iter().map(|id| id.as_str()).collect();
        let mut taken: BTreeSet<&str> = BTreeSet::new();
        places
            .filter(|place| {
                let id = self.stored[*place].event.id.as_str();
                let is_counted = match self.due[*place] {
                    Due::Counted => true,
                    Due::Duplicate => false,
                    Due::Either => named.contains(id) && !taken.contains(id),
                };
                is_counted.then(|| taken.insert(id)).is_some()
            })
            .collect()
    }

    fn judge_count(&self, place: usize, times: u32, run: &Run, verdict: &mut Verdict) {
        if times > 1 {
            verdict
                .doubled
                .push(format!("{}, {times} times in one run", self.name(place)));
        }
        if self.stored[place].offset < run.start.number() {
            let name = self.name(place);
            verdict
                .doubled
                .push(format!("{name}, by a run that starts at {} only", run.start));
        }
    }

    fn judge_truth(&self, seen: &Seen, events: &[usize], verdict: &mut Verdict) {
        let refresh = &seen.refresh;
        let ids: Vec<&str> = events
            .iter()
            .map(|place| self.stored[*place].event.id.as_str())
            .collect();
        let named: Vec<&str> = refresh.event_ids.iter().map(|id| id.as_str()).collect();
        let priority = events
            .iter()
            .map(|place| self.stored[*place].event.priority)
            .max();
        let is_true = ids == named
            && refresh.event_count as usize == events.len()
            && priority == Some(refresh.priority);
        if !is_true {
            verdict
                .untrue
                .push(format!("{}: its events are {ids:?}", self.describe(seen)));
        }
    }

    fn judge_delay(&self, seen: &Seen, events: &[usize], evidence: &Evidence<'_>, verdict: &mut Verdict) {
        let Some(first) = events.first().map(|place| &self.stored[*place]) else {
            return;
        };
        let is_disturbed =
            |(from, until): &(Timestamp, Timestamp)| *from <= seen.at && first.log_time <= *until;
        if evidence.disturbed.iter().any(is_disturbed) {
            return;
        }
        verdict.undisturbed += 1;
        let over = seen
            .at
            .saturating_since(first.log_time)
            .saturating_sub(cap(first.event.priority));
        verdict.longest_over_cap = verdict.longest_over_cap.max(over);
        if over > evidence.late_after {
            verdict
                .late
                .push(format!("{}: {over:?} after its cap", self.describe(seen)));
        }
    }

    fn name(&self, place: usize) -> String {
        let Stored { offset, event, .. } = &self.stored[place];
        format!(
            "{} of {} at {}/{offset}",
            event.id, event.conversation, self.partition
        )
    }

    fn describe(&self, seen: &Seen) -> String {
        let refresh = &seen.refresh;
        format!(
            "the refresh of {} at {}/{}..={} ({} events, run {:?})",
            refresh.conversation,
            self.partition,
            refresh.first_offset,
            refresh.last_offset,
            refresh.event_count,
            refresh.run,
        )
    }
}

/// The cap of the lane that a window is opened in; a rise in priority only pulls the deadline forward. The product's defaults.
fn cap(priority: Priority) -> Duration {
    match priority {
        Priority::High => Duration::from_millis(800),
        Priority::Medium => Duration::from_millis(2_500),
        Priority::Low => Duration::from_secs(4),
    }
}

fn is_within_horizon(earlier: &Stored, record: &Stored) -> bool {
    record.offset - earlier.offset <= HORIZON_RECORDS
        && record.log_time.saturating_since(earlier.log_time) <= HORIZON
}

fn run_key(run: &Run) -> (i64, i64) {
    (run.started_at.as_millis(), run.start.number())
}

#[cfg(test)]
mod tests;
