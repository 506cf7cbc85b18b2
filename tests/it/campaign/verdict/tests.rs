//! The judge must see: each test damages a good campaign in one way.

use std::collections::BTreeMap;
use std::time::Duration;

use frontstream::model::{Offset, Priority, Run, RunCause, Timestamp};

use super::super::load::{Ledger, Sent};
use super::super::record::{Event, Seen, Stored};
use super::{Evidence, Verdict, judge};
use crate::support;

const PARTITION: i32 = 2;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + millis)
}

fn stored(offset: i64, conversation: &str, id: &str) -> Stored {
    Stored {
        offset,
        log_time: at(offset * 100),
        event: Event {
            tenant: "cmp_3k9dz".to_owned(),
            conversation: conversation.to_owned(),
            id: id.to_owned(),
            priority: Priority::High,
        },
    }
}

fn run_from(start: i64) -> Run {
    Run {
        started_at: at(start),
        start: Offset::new(start).unwrap(),
        cause: RunCause::Reset,
    }
}

/// A refresh of these events, seen 700 ms after the first was stored.
fn seen(run: Run, events: &[&Stored]) -> Seen {
    let first = events[0];
    let ids: Vec<_> = events
        .iter()
        .map(|stored| (stored.event.id.as_str(), stored.offset))
        .collect();
    let mut refresh = support::refresh(PARTITION, &first.event.conversation, &ids);
    refresh.run = run;
    Seen {
        offset: first.offset,
        refresh,
        at: first.log_time.plus(Duration::from_millis(700)),
    }
}

/// A good campaign: three conversations, a duplicate, and a replay from offset 3 on.
struct Campaign {
    ledger: Ledger,
    events: Vec<Stored>,
    refreshes: Vec<Seen>,
    deleted_before: i64,
    disturbed: Vec<(Timestamp, Timestamp)>,
}

impl Campaign {
    fn good() -> Self {
        let events = vec![
            stored(0, "cnv_a", "evt_0"),
            stored(1, "cnv_b", "evt_1"),
            stored(2, "cnv_a", "evt_2"),
            stored(3, "cnv_a", "evt_3"),
            stored(4, "cnv_a", "evt_2"),
            stored(5, "cnv_c", "evt_5"),
        ];
        let (first, second) = (run_from(0), run_from(3));
        let refreshes = vec![
            seen(first, &[&events[0], &events[2]]),
            seen(first, &[&events[1]]),
            seen(first, &[&events[3]]),
            seen(first, &[&events[5]]),
            seen(second, &[&events[3]]),
            seen(second, &[&events[5]]),
        ];
        let mut ledger = Ledger::default();
        for event in &events {
            let sent = Sent {
                conversation: event.event.conversation.clone(),
                attempts: 1,
                accepted: 1,
            };
            ledger.sent.insert(event.event.id.clone(), sent);
        }
        Self {
            ledger,
            events,
            refreshes,
            deleted_before: 0,
            disturbed: Vec::new(),
        }
    }

    fn verdict(&self) -> Verdict {
        judge(&Evidence {
            ledger: &self.ledger,
            events: &BTreeMap::from([(PARTITION, self.events.clone())]),
            refreshes: &BTreeMap::from([(PARTITION, self.refreshes.clone())]),
            deleted_before: &BTreeMap::from([(PARTITION, self.deleted_before)]),
            disturbed: &self.disturbed,
            late_after: Duration::from_millis(500),
        })
    }

    /// The sorts of what is found, each with how many.
    fn found(&self) -> String {
        let findings = self.verdict().findings();
        let sorts: Vec<_> = findings
            .iter()
            .filter(|line| !line.starts_with(' '))
            .cloned()
            .collect();
        sorts.join(", ")
    }
}

#[test]
fn a_good_campaign_is_good() {
    let verdict = Campaign::good().verdict();
    assert!(verdict.findings().is_empty(), "{:?}", verdict.findings());
    assert_eq!((verdict.stored, verdict.duplicates, verdict.expired), (6, 1, 0));
    assert_eq!(
        (verdict.refreshes, verdict.counted, verdict.undisturbed),
        (6, 7, 6)
    );
}

#[test]
fn what_was_answered_and_not_stored_is_found() {
    let mut campaign = Campaign::good();
    let sent = campaign.ledger.sent["evt_1"].clone();
    campaign.ledger.sent.insert("evt_9".to_owned(), sent);
    assert_eq!(campaign.found(), "1 answered 200 and not stored");
    campaign.ledger.sent.get_mut("evt_9").unwrap().accepted = 0;
    assert_eq!(campaign.found(), "", "nobody was told that it is safe");
}

#[test]
fn a_lost_event_is_found() {
    let mut campaign = Campaign::good();
    campaign.refreshes.remove(1);
    assert_eq!(campaign.found(), "1 lost");
    // Of a replay alone nothing is missing: the first run has counted it.
    let mut campaign = Campaign::good();
    campaign.refreshes.remove(4);
    assert_eq!(campaign.found(), "");
    // What retention removed is missing on purpose, what stands after it is not.
    let mut campaign = Campaign::good();
    campaign.refreshes.remove(1);
    campaign.deleted_before = 2;
    assert_eq!(campaign.verdict().expired, 1);
    assert_eq!(campaign.found(), "");
    campaign.refreshes.remove(1);
    campaign
        .refreshes
        .retain(|seen| seen.refresh.first_offset.number() != 3);
    assert_eq!(campaign.found(), "1 lost");
}

#[test]
fn a_doubled_event_is_found() {
    let mut campaign = Campaign::good();
    campaign.refreshes.insert(2, campaign.refreshes[1].clone());
    assert_eq!(campaign.found(), "1 doubled, 1 misordered");
    // A run that counts what stands before its start.
    let mut campaign = Campaign::good();
    let early = seen(run_from(3), &[&campaign.events[1]]);
    campaign.refreshes.push(early);
    assert_eq!(campaign.found(), "1 doubled");
    // A duplicate that is counted, although the refresh says so itself.
    let mut campaign = Campaign::good();
    let duplicate = seen(run_from(3), &[&campaign.events[4]]);
    campaign.refreshes.push(duplicate);
    assert!(campaign.found().contains("1 untrue"), "{}", campaign.found());
}

#[test]
fn refreshes_out_of_order_are_found() {
    let mut campaign = Campaign::good();
    campaign.refreshes.swap(0, 2);
    assert_eq!(campaign.found(), "1 misordered");
}

#[test]
fn a_refresh_that_tells_something_wrong_is_found() {
    for damage in [
        |seen: &mut Seen| seen.refresh.event_count += 1,
        |seen: &mut Seen| seen.refresh.priority = Priority::Low,
        |seen: &mut Seen| drop(seen.refresh.event_ids.pop()),
    ] {
        let mut campaign = Campaign::good();
        damage(&mut campaign.refreshes[0]);
        assert_eq!(campaign.found(), "1 untrue");
    }
}

#[test]
fn a_late_refresh_is_found_unless_a_fault_was_at_work() {
    let mut campaign = Campaign::good();
    campaign.refreshes[1].at = at(100 + 800 + 501);
    assert_eq!(campaign.found(), "1 late");
    campaign.disturbed.push((at(1_000), at(1_200)));
    assert_eq!(campaign.found(), "");
    campaign.disturbed[0] = (at(1_500), at(9_000));
    assert_eq!(campaign.found(), "1 late", "the fault began after it was seen");
}
