//! The judge must see: each test damages a good campaign in one way.

use std::collections::BTreeMap;
use std::time::Duration;

use frontstream::model::{Offset, Priority, Run, RunCause, Timestamp};

use super::super::load::{Ledger, Sent};
use super::super::record::{Event, Seen, Stored};
use super::{Begun, Evidence, Verdict, judge};
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

fn run(cause: RunCause, start: i64) -> Run {
    Run {
        started_at: at(start),
        start: Offset::new(start).unwrap(),
        cause,
    }
}

fn first() -> Run {
    run(RunCause::First, 0)
}

fn replay() -> Run {
    run(RunCause::Reset, 3)
}

fn begun(cause: RunCause, start: i64, committed: i64) -> Begun {
    Begun {
        cause,
        start,
        committed,
        at: at(900),
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
    begun: Vec<Begun>,
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
        let refreshes = vec![
            seen(first(), &[&events[0], &events[2]]),
            seen(first(), &[&events[1]]),
            seen(first(), &[&events[3]]),
            seen(first(), &[&events[5]]),
            seen(replay(), &[&events[3]]),
            seen(replay(), &[&events[5]]),
        ];
        let mut ledger = Ledger::default();
        for event in &events {
            let sent = Sent {
                tenant: event.event.tenant.clone(),
                conversation: event.event.conversation.clone(),
                priority: event.event.priority,
                attempts: 1,
                accepted: 1,
            };
            ledger.sent.insert(event.event.id.clone(), sent);
        }
        Self {
            ledger,
            events,
            refreshes,
            begun: vec![begun(RunCause::Reset, 3, 6)],
            disturbed: Vec::new(),
        }
    }

    /// The same log; the record at 3 was deleted unread, and with what lies before it what made the one at 4 a duplicate.
    fn cut_off() -> Self {
        let mut campaign = Self::good();
        let events = &campaign.events;
        let rest = run(RunCause::Retention, 4);
        campaign.refreshes = vec![
            seen(first(), &[&events[0], &events[2]]),
            seen(first(), &[&events[1]]),
            seen(rest, &[&events[4]]),
            seen(rest, &[&events[5]]),
        ];
        campaign.begun = vec![begun(RunCause::Retention, 4, 3)];
        campaign
    }

    fn verdict(&self) -> Verdict {
        judge(&Evidence {
            ledger: &self.ledger,
            events: &BTreeMap::from([(PARTITION, self.events.clone())]),
            refreshes: &BTreeMap::from([(PARTITION, self.refreshes.clone())]),
            begun: &BTreeMap::from([(PARTITION, self.begun.clone())]),
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
fn what_is_stored_otherwise_than_it_was_sent_is_found() {
    for damage in [
        |event: &mut Event| event.conversation = "cnv_b".to_owned(),
        |event: &mut Event| event.tenant = "cmp_other".to_owned(),
        |event: &mut Event| event.priority = Priority::Low,
        |event: &mut Event| event.id = "evt_nobody_sent".to_owned(),
    ] {
        let mut campaign = Campaign::good();
        damage(&mut campaign.events[0].event);
        assert!(campaign.found().contains("1 mangled"), "{}", campaign.found());
    }
}

#[test]
fn a_lost_event_is_found() {
    for refresh in [1, 2, 3, 4, 5] {
        let mut campaign = Campaign::good();
        campaign.refreshes.remove(refresh);
        assert_eq!(campaign.found(), "1 lost", "without {refresh}");
    }
    let mut campaign = Campaign::good();
    campaign.refreshes.remove(0);
    assert_eq!(campaign.found(), "2 lost");
}

/// What lies behind the committed offset then was the replay's to count.
#[test]
fn what_a_run_leaves_to_the_next_is_not_lost() {
    let mut campaign = Campaign::good();
    campaign.begun[0].committed = 5;
    campaign.refreshes.remove(3);
    assert_eq!(campaign.found(), "");
}

#[test]
fn only_what_was_deleted_unread_is_missing_on_purpose() {
    let campaign = Campaign::cut_off();
    assert_eq!(campaign.found(), "");
    assert_eq!(campaign.verdict().expired, 1);
    for refresh in [1, 2, 3] {
        let mut campaign = Campaign::cut_off();
        campaign.refreshes.remove(refresh);
        assert_eq!(campaign.found(), "1 lost", "without {refresh}");
    }
}

#[test]
fn a_run_that_nothing_made_begin_is_found() {
    for other in [run(RunCause::Reset, 2), run(RunCause::Retention, 3)] {
        let mut campaign = Campaign::good();
        let again = seen(other, &[&campaign.events[3]]);
        campaign.refreshes.push(again);
        assert_eq!(campaign.found(), "1 untrue");
    }
    // The same run once more.
    let mut campaign = Campaign::good();
    let mut again = seen(replay(), &[&campaign.events[3]]);
    again.refresh.run.started_at = at(1_000);
    campaign.refreshes.push(again);
    assert_eq!(campaign.found(), "1 untrue");
}

#[test]
fn a_zombie_is_found() {
    let mut campaign = Campaign::good();
    campaign.refreshes.swap(3, 4);
    assert_eq!(campaign.found(), "1 misordered");
}

#[test]
fn a_doubled_event_is_found() {
    let mut campaign = Campaign::good();
    campaign.refreshes.insert(2, campaign.refreshes[1].clone());
    assert_eq!(campaign.found(), "1 doubled, 1 misordered");
    // A run that counts what stands before its start.
    let mut campaign = Campaign::good();
    let mut early = seen(replay(), &[&campaign.events[1]]);
    early.at = at(1_000);
    campaign.refreshes.push(early);
    assert_eq!(campaign.found(), "1 doubled");
    // A duplicate that is counted, although the refresh says so itself.
    let mut campaign = Campaign::good();
    let duplicate = seen(replay(), &[&campaign.events[4]]);
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
        |seen: &mut Seen| seen.refresh.event_ids_truncated = true,
        |seen: &mut Seen| seen.refresh.last_offset = seen.refresh.last_offset.next(),
    ] {
        let mut campaign = Campaign::good();
        damage(&mut campaign.refreshes[1]);
        assert_eq!(campaign.found(), "1 untrue");
    }
}

#[test]
fn a_late_refresh_is_found_unless_a_fault_was_at_work() {
    let mut campaign = Campaign::good();
    campaign.refreshes[1].at = at(100 + 800 + 501);
    assert_eq!(campaign.found(), "1 late");
    campaign.disturbed = vec![(at(1_000), at(1_200))];
    assert_eq!(campaign.found(), "");
    campaign.disturbed = vec![(at(1_500), at(9_000))];
    assert_eq!(
        campaign.found(),
        "1 late",
        "the fault began after it was to be seen"
    );
}

#[test]
fn a_fault_excuses_only_until_it_is_over() {
    let mut campaign = Campaign::good();
    campaign.disturbed = vec![
        (at(50), at(2_000)),
        (at(1_500), at(3_000)),
        (at(5_000), at(6_000)),
    ];
    campaign.refreshes[1].at = at(3_499);
    assert_eq!(campaign.found(), "");
    campaign.refreshes[1].at = at(3_501);
    assert_eq!(campaign.found(), "1 late");
    // The last one began before it was late from the one before.
    campaign.disturbed[2] = (at(3_400), at(6_000));
    campaign.refreshes[1].at = at(6_499);
    assert_eq!(campaign.found(), "");
}

/// A replay counts from when it began, not from when its events were stored.
#[test]
fn a_replay_is_late_when_it_is() {
    let mut campaign = Campaign::good();
    campaign.refreshes[5].at = at(900 + 800 + 499);
    assert_eq!(campaign.found(), "");
    campaign.refreshes[5].at = at(900 + 800 + 501);
    assert_eq!(campaign.found(), "1 late");
}

#[test]
fn the_event_that_is_due_first_decides_when_a_refresh_is_late() {
    let mut campaign = Campaign::good();
    // Low, and the one of a high priority 200 ms behind it.
    campaign.events[0].event.priority = Priority::Low;
    campaign.ledger.sent.get_mut("evt_0").unwrap().priority = Priority::Low;
    campaign.refreshes[0].at = at(200 + 800 + 500);
    assert_eq!(campaign.found(), "");
    campaign.refreshes[0].at = at(200 + 800 + 501);
    assert_eq!(campaign.found(), "1 late");
}
