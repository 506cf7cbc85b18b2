//! Says whether anything was lost, doubled, out of order or late. From what was sent, what was answered, which runs the faults
//! made begin, and what two readers wrote down. Of the product it uses the records' decoders; its rules are its own, as those
//! of the product's `audit` are, which judges the same campaign.

mod disturbed;
mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use frontstream::model::{Priority, Timestamp};

pub(crate) use self::disturbed::Disturbed;
pub(crate) use self::runs::Begun;
use self::runs::Runs;
use super::load::Ledger;
use super::record::{Seen, Stored};

/// The product's default horizon, within which the same event is a duplicate.
const HORIZON_RECORDS: i64 = 20_000;
const HORIZON: Duration = Duration::from_secs(600);

/// How many ids a refresh names, as the campaign sets it: enough for every one to be compared.
pub(crate) const EVENT_IDS_MAX: usize = 10_000;

/// How many findings of each sort are told in full.
const TOLD: usize = 20;

/// What the judge is given.
pub(crate) struct Evidence<'e> {
    pub(crate) ledger: &'e Ledger,
    pub(crate) events: &'e BTreeMap<i32, Vec<Stored>>,
    pub(crate) refreshes: &'e BTreeMap<i32, Vec<Seen>>,
    /// For each partition the runs that faults made begin, in order.
    pub(crate) begun: &'e BTreeMap<i32, Vec<Begun>>,
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
    /// Of every refresh: when its first event was there to be counted, when it was seen, and how long after its cap that was.
    pub(crate) delays: Vec<(Timestamp, Timestamp, Duration)>,
    /// Answered 200 and on no partition.
    pub(crate) unstored: Vec<String>,
    /// Stored otherwise than it was sent, or never sent.
    pub(crate) mangled: Vec<String>,
    pub(crate) lost: Vec<String>,
    pub(crate) doubled: Vec<String>,
    pub(crate) misordered: Vec<String>,
    /// Refreshes that tell something wrong of the events between their offsets, or are of a run that nothing made begin.
    pub(crate) untrue: Vec<String>,
    pub(crate) late: Vec<String>,
}

impl Verdict {
    /// Returns every finding, some of each sort in full; empty: nothing is wrong.
    pub(crate) fn findings(&self) -> Vec<String> {
        let sorts = [
            ("answered 200 and not stored", &self.unstored),
            ("mangled", &self.mangled),
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
    look_at_what_was_sent(evidence, &mut verdict);
    let disturbed = Disturbed::new(evidence.disturbed);
    for (partition, stored) in evidence.events {
        let seen = evidence.refreshes.get(partition).map_or(&[][..], Vec::as_slice);
        let begun = evidence.begun.get(partition).map_or(&[][..], Vec::as_slice);
        let judge = Judge {
            partition: *partition,
            stored,
            earlier: earlier(stored),
            of_conversation: of_conversation(stored),
            disturbed: &disturbed,
            late_after: evidence.late_after,
        };
        judge.judge(Runs::new(begun, stored.len()), seen, &mut verdict);
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

/// Everything answered 200 is stored, and what is stored is what was sent.
fn look_at_what_was_sent(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let mut stored = BTreeSet::new();
    for (partition, records) in evidence.events {
        for Stored { offset, event, .. } in records {
            stored.insert(event.id.as_str());
            let sent = evidence.ledger.sent.get(&event.id);
            let is_as_sent = sent.is_some_and(|sent| {
                (&sent.tenant, &sent.conversation, sent.priority)
                    == (&event.tenant, &event.conversation, event.priority)
            });
            if !is_as_sent {
                verdict
                    .mangled
                    .push(format!("{event:?} at {partition}/{offset} was sent as {sent:?}"));
            }
        }
    }
    for (id, sent) in &evidence.ledger.sent {
        if sent.accepted > 0 && !stored.contains(id.as_str()) {
            verdict.unstored.push(format!("{id} of {}", sent.conversation));
        }
    }
}

/// For each record, the latest one before it that is the same event, within the horizon.
fn earlier(stored: &[Stored]) -> Vec<Option<usize>> {
    let mut last: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    let earlier = stored.iter().enumerate().map(|(place, record)| {
        let event = &record.event;
        let earlier = last.insert((&event.tenant, &event.conversation, &event.id), place);
        earlier.filter(|earlier| is_within_horizon(&stored[*earlier], record))
    });
    earlier.collect()
}

/// The places of each conversation's records, in order.
fn of_conversation(stored: &[Stored]) -> BTreeMap<(&str, &str), Vec<usize>> {
    let mut places: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (place, record) in stored.iter().enumerate() {
        let key = (record.event.tenant.as_str(), record.event.conversation.as_str());
        places.entry(key).or_default().push(place);
    }
    places
}

/// The judge of one partition.
struct Judge<'e> {
    partition: i32,
    stored: &'e [Stored],
    earlier: Vec<Option<usize>>,
    of_conversation: BTreeMap<(&'e str, &'e str), Vec<usize>>,
    disturbed: &'e Disturbed,
    late_after: Duration,
}

impl Judge<'_> {
    fn judge(&self, mut runs: Runs, seen: &[Seen], verdict: &mut Verdict) {
        verdict.stored += self.stored.len();
        verdict.duplicates += self.earlier.iter().flatten().count();
        verdict.refreshes += seen.len();
        let mut before: BTreeMap<(&str, &str), &Seen> = BTreeMap::new();
        let mut latest = 0;
        for one in seen {
            let refresh = &one.refresh;
            let Some(run) = runs.find(&refresh.run, one.at) else {
                let what = self.describe(one);
                verdict
                    .untrue
                    .push(format!("{what} is of a run that nothing made begin"));
                continue;
            };
            if run < latest {
                let what = self.describe(one);
                verdict
                    .misordered
                    .push(format!("{what} comes after refreshes of a later run"));
            }
            latest = latest.max(run);
            let expected = &mut runs.0[run];
            let events = self.events_of(one, expected.floor);
            verdict.counted += events.len();
            for place in &events {
                expected.times[*place] += 1;
                self.judge_count(*place, expected.times[*place], one, verdict);
            }
            self.judge_truth(one, &events, verdict);
            self.judge_delay(one, &events, expected.at, verdict);
            let key = (refresh.tenant.as_str(), refresh.conversation.as_str());
            if let Some(earlier) = before.insert(key, one)
                && earlier.refresh.run == refresh.run
                && earlier.refresh.last_offset >= refresh.first_offset
            {
                verdict.misordered.push(self.describe(one));
            }
        }
        self.judge_rest(&runs, verdict);
    }

    /// Looks for what was never counted.
    fn judge_rest(&self, runs: &Runs, verdict: &mut Verdict) {
        for (place, record) in self.stored.iter().enumerate() {
            for run in &runs.0 {
                let is_due = run.must_count(record.offset) && !self.is_duplicate(place, run.floor);
                if is_due && run.times[place] == 0 {
                    verdict.lost.push(self.name(place));
                }
            }
            if runs.was_deleted(record.offset) && runs.0.iter().all(|run| run.times[place] == 0) {
                verdict.expired += 1;
            }
        }
    }

    /// Says whether a record is one of an event that was there before, as far back as `floor`.
    fn is_duplicate(&self, place: usize, floor: i64) -> bool {
        self.earlier[place].is_some_and(|earlier| self.stored[earlier].offset >= floor)
    }

    /// The places of the events that a refresh counts: all of its conversation between its offsets that are no duplicates.
    fn events_of(&self, seen: &Seen, floor: i64) -> Vec<usize> {
        let refresh = &seen.refresh;
        let range = refresh.first_offset.number()..=refresh.last_offset.number();
        let key = (refresh.tenant.as_str(), refresh.conversation.as_str());
        let places = self.of_conversation.get(&key).map_or(&[][..], Vec::as_slice);
        let is_counted = |place: &&usize| {
            range.contains(&self.stored[**place].offset) && !self.is_duplicate(**place, floor)
        };
        places.iter().filter(is_counted).copied().collect()
    }

    fn judge_count(&self, place: usize, times: u32, seen: &Seen, verdict: &mut Verdict) {
        if times > 1 {
            verdict
                .doubled
                .push(format!("{}, {times} times in one run", self.name(place)));
        }
        let start = seen.refresh.run.start;
        if self.stored[place].offset < start.number() {
            let name = self.name(place);
            verdict
                .doubled
                .push(format!("{name}, by a run that starts at {start} only"));
        }
    }

    fn judge_truth(&self, seen: &Seen, events: &[usize], verdict: &mut Verdict) {
        let refresh = &seen.refresh;
        let event = |place: &usize| &self.stored[*place].event;
        let ids: Vec<&str> = events.iter().map(|place| event(place).id.as_str()).collect();
        let named: Vec<&str> = refresh.event_ids.iter().map(|id| id.as_str()).collect();
        let bounds = events.first().zip(events.last()).map(|(first, last)| {
            let offset = |place: &usize| self.stored[*place].offset;
            (offset(first), offset(last))
        });
        let is_true = named.len() == ids.len().min(EVENT_IDS_MAX)
            && ids.starts_with(&named)
            && refresh.event_ids_truncated == (named.len() < ids.len())
            && refresh.event_count as usize == events.len()
            && bounds == Some((refresh.first_offset.number(), refresh.last_offset.number()))
            && events.iter().map(|place| event(place).priority).max() == Some(refresh.priority);
        if !is_true {
            verdict
                .untrue
                .push(format!("{}: its events are {ids:?}", self.describe(seen)));
        }
    }

    /// What a run counts that was stored before it began, it could not count earlier.
    fn judge_delay(&self, seen: &Seen, events: &[usize], begun_at: Timestamp, verdict: &mut Verdict) {
        let Some(first) = events.first().map(|place| &self.stored[*place]) else {
            return;
        };
        let opened = first.log_time.max(begun_at);
        // Whichever of its events is due first: one of a higher priority pulls the deadline forward.
        let due = events.iter().map(|place| {
            let Stored { log_time, event, .. } = &self.stored[*place];
            (*log_time).max(begun_at).plus(cap(event.priority))
        });
        let due = due.min().expect("there is one");
        let over = seen.at.saturating_since(due);
        verdict.delays.push((opened, seen.at, over));
        let put_off = self.disturbed.due(opened, due, self.late_after);
        if put_off == due {
            verdict.undisturbed += 1;
            verdict.longest_over_cap = verdict.longest_over_cap.max(over);
        }
        if seen.at > put_off.plus(self.late_after) {
            let (what, since) = (self.describe(seen), seen.at.saturating_since(put_off));
            let why = if put_off == due {
                "its cap"
            } else {
                "the last fault that it met"
            };
            verdict.late.push(format!("{what}: {since:?} after {why}"));
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

/// How long an event waits at most: the product's defaults.
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

#[cfg(test)]
mod tests;
