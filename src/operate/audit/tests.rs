//! The proof against logs made by a slow, obvious coalescer: what it makes is exact, and every damage is found.

use std::time::Duration;

use proptest::prelude::*;

use super::index::{Bounds, DedupeRule, IndexBuilder};
use super::proof::{Committed, DeadLetters, Found, Proof, RunKey};
use super::report::{Fault, PartitionReport, Report};
use crate::model::{
    Change, Checkpoint, CloseReason, ConversationId, EventId, Kind, Offset, Partition, Priority, Refresh,
    Run, RunCause, TenantId, Timestamp,
};

const RULE: DedupeRule = DedupeRule {
    horizon: Duration::from_secs(600),
    records: 20_000,
};
const KINDS: [(&str, Priority); 4] = [
    ("message.received", Priority::High),
    ("conversation.assigned", Priority::Medium),
    ("conversation.tagged", Priority::Low),
    ("conversation.archived", Priority::High),
];
const EVENT_IDS_MAX: usize = 3;

// --- what the proof says ----------------------------------------------------------------------------------------

#[test]
fn a_log_that_was_counted_once_is_exact() {
    let report = busy_log().judge();
    assert!(report.exact, "{report:#?}");
    let totals = report.totals;
    assert_eq!((totals.events, totals.refreshes, totals.counted), (8, 3, 6));
    assert_eq!(
        (totals.duplicates, totals.without_conversation, totals.undecodable),
        (0, 1, 1)
    );
    assert_eq!(totals.open, 0);
    assert_eq!(
        report.verdict,
        "exact: 6 of 8 events counted in 3 refreshes, 0 open, 1 without conversation, 1 undecodable"
    );
}

#[test]
fn a_lost_refresh_is_found() {
    let mut log = busy_log();
    log.refreshes.remove(0);
    let report = log.judge();
    assert_eq!(faults(&report), [Fault::Lost, Fault::Lost]);
    assert_eq!(report.totals.lost, 2);
    assert_eq!(report.findings[0].event_offset, Some(0));
    assert!(
        report.findings[0]
            .explanation
            .contains("offset 0 of partition 4 (cnv_0)"),
        "{:?}",
        report.findings[0]
    );
}

#[test]
fn a_lost_last_refresh_is_told_from_an_open_window_by_the_checkpoint() {
    let mut log = busy_log();
    log.refreshes.pop();
    assert_eq!(log.judge().totals.lost, 2, "the checkpoint holds nothing open");
    let without = log.judge_with(&Committed::NotRead);
    assert!(
        without.exact,
        "nobody knows of a checkpoint: the end of a conversation may be open"
    );
    assert_eq!(without.totals.open, 2);
}

#[test]
fn a_doubled_refresh_is_found() {
    let mut log = busy_log();
    log.refreshes.insert(2, log.refreshes[0].clone());
    let report = log.judge();
    assert_eq!(report.totals.doubled, 2);
    assert_eq!(report.findings[0].fault, Fault::Doubled);
    assert_eq!(report.findings[0].refresh_offset, Some(2));
}

#[test]
fn reordered_refreshes_are_found() {
    let mut log = busy_log();
    log.refreshes.swap(0, 2);
    let report = log.judge();
    assert_eq!(faults(&report), [Fault::Misordered]);
    assert_eq!(report.findings[0].refresh_offset, Some(2));
}

#[test]
fn what_a_refresh_says_wrongly_is_found() {
    type Alter = fn(&mut Refresh);
    let cases: [(&str, Alter); 12] = [
        ("it counts 3 events", |refresh| refresh.event_count += 1),
        ("its priority is low", |refresh| refresh.priority = Priority::Low),
        ("its kinds", |refresh| refresh.kinds.reverse()),
        ("its kinds", |refresh| refresh.kinds.truncate(1)),
        ("it names evt_99", |refresh| {
            refresh.event_ids[0] = EventId::new("evt_99").unwrap()
        }),
        ("it names 1 ids of 2 events and calls them whole", |refresh| {
            refresh.event_ids.truncate(1)
        }),
        ("calls them truncated", |refresh| {
            refresh.event_ids_truncated = true
        }),
        ("its first emission", |refresh| {
            refresh.first_emitted_at = Timestamp::from_millis(-1)
        }),
        ("its last emission", |refresh| {
            refresh.last_emitted_at = Timestamp::from_millis(-1)
        }),
        ("its first receipt", |refresh| {
            refresh.first_received_at = Timestamp::from_millis(-1)
        }),
        ("its last receipt", |refresh| {
            refresh.last_received_at = Timestamp::from_millis(-1)
        }),
        ("its last offset", |refresh| {
            refresh.last_offset = Offset::new(3).unwrap()
        }),
    ];
    for (expected, alter) in cases {
        let mut log = busy_log();
        alter(&mut log.refreshes[0]);
        let report = log.judge();
        assert!(!report.exact, "{expected}");
        let told = &report.findings[0].explanation;
        assert!(told.contains(expected), "{expected:?} in {told:?}");
    }
}

#[test]
fn a_refresh_of_what_the_log_does_not_have_is_found() {
    type Alter = fn(&mut Refresh);
    let cases: [(&str, Alter); 4] = [
        ("no event of conversation cnv_9", |refresh| {
            refresh.conversation = ConversationId::new("cnv_9").unwrap();
        }),
        ("no event of conversation cnv_0", |refresh| {
            refresh.tenant = TenantId::new("cmp_9").unwrap()
        }),
        ("the events end at offset 8", |refresh| {
            refresh.last_offset = Offset::new(8).unwrap()
        }),
        ("its first offset is above its last", |refresh| {
            refresh.first_offset = Offset::new(7).unwrap()
        }),
    ];
    for (expected, alter) in cases {
        let mut log = busy_log();
        alter(&mut log.refreshes[0]);
        let report = log.judge();
        assert_eq!(report.findings[0].fault, Fault::Unknown, "{report:#?}");
        assert!(
            report.findings[0].explanation.contains(expected),
            "{:?}",
            report.findings[0]
        );
        assert_eq!(report.totals.lost, 2, "and what it should have counted is lost");
    }
}

#[test]
fn a_refresh_on_the_wrong_partition_is_found() {
    let mut log = busy_log();
    log.refreshes[0].partition = Partition::new(5).unwrap();
    let report = log.judge();
    assert_eq!(faults(&report), [Fault::Misplaced, Fault::Lost, Fault::Lost]);
}

#[test]
fn a_zombies_write_is_found() {
    let mut log = Log::new();
    log.append(0, 0);
    log.append(0, 1);
    log.close(0);
    let old = log.refreshes[0].clone();
    log.reset(0);
    log.close(0);
    log.refreshes.push(old);
    let report = log.judge();
    assert_eq!(report.findings[0].fault, Fault::Zombie);
    assert!(
        report.findings[0].explanation.contains("had begun"),
        "{:?}",
        report.findings[0]
    );
    assert_eq!(report.totals.doubled, 2, "and it counts again within its own run");
}

#[test]
fn a_checkpoint_of_an_older_run_is_found() {
    let mut log = Log::new();
    log.append(0, 0);
    log.close(0);
    let old = log.checkpoint();
    log.reset(0);
    log.close(0);
    assert!(log.judge().exact);
    assert_eq!(
        faults(&log.judge_with(&Committed::Exact(old.clone()))),
        [Fault::Zombie]
    );
    assert!(
        log.judge_with(&Committed::NotNewer(old)).exact,
        "while the group works it may just be older"
    );
}

#[test]
fn open_windows_and_unread_events_are_no_losses() {
    let mut log = busy_log();
    log.append(0, 20);
    log.append(1, 21);
    log.append(0, 22);
    log.close(1);
    log.append_unread(2, 23);
    let report = log.judge();
    assert!(report.exact, "{report:#?}");
    assert_eq!(report.totals.open, 3, "two in a window, one not read");
}

#[test]
fn an_event_that_was_counted_and_is_held_open_would_be_counted_again() {
    let mut log = busy_log();
    log.append(0, 20);
    let held = log.checkpoint();
    log.close(0);
    assert_eq!(
        faults(&log.judge_with(&Committed::Exact(held.clone()))),
        [Fault::Doubled]
    );
    assert!(log.judge_with(&Committed::NotNewer(held)).exact);
}

#[test]
fn a_checkpoint_that_the_log_contradicts_is_found() {
    let log = busy_log();
    let honest = log.checkpoint();
    for (starts, position) in [(vec![0, 2], 8), (vec![6], 8), (vec![], 9), (vec![7], 7)] {
        let checkpoint = Checkpoint {
            position: Offset::new(position).unwrap(),
            window_starts: starts
                .into_iter()
                .map(|start| Offset::new(start).unwrap())
                .collect(),
            ..honest.clone()
        };
        let report = log.judge_with(&Committed::Exact(checkpoint.clone()));
        assert!(
            faults(&report).contains(&Fault::Checkpoint),
            "{checkpoint:?} {report:#?}"
        );
    }
    let damaged = Committed::Undecodable {
        offset: Offset::ZERO,
        why: "checksum".into(),
    };
    assert_eq!(faults(&log.judge_with(&damaged)), [Fault::Checkpoint]);
}

#[test]
fn a_reset_back_is_told_from_a_fault() {
    let mut log = busy_log();
    log.append(3, 30);
    log.reset(2);
    for conversation in [0, 1, 3] {
        log.close(conversation);
    }
    let report = log.judge();
    assert!(report.exact, "{report:#?}");
    let partition = &report.partitions[0];
    assert_eq!(partition.runs.len(), 2);
    assert_eq!(partition.runs[1].start, 2);
    assert_eq!(
        report.totals.counted, 7,
        "each event once, though two runs counted most of them"
    );
    assert_eq!(
        report.totals.left_open, 0,
        "the first run is not known to have read offset 8"
    );
}

#[test]
fn what_a_reset_leaves_open_is_named() {
    let mut log = Log::new();
    log.append(0, 0);
    log.append(1, 1);
    log.close(1);
    log.reset(0);
    log.close(0);
    log.close(1);
    let report = log.judge();
    assert!(report.exact, "{report:#?}");
    assert_eq!(report.totals.left_open, 1);
    let notes = report.partitions[0].notes.join("\n");
    assert!(
        notes.contains("left open when the run of") && notes.contains("offsets 0..1"),
        "{notes}"
    );
}

#[test]
fn what_a_reset_skips_is_named() {
    let mut log = Log::new();
    log.append(0, 0);
    log.close(0);
    log.append(0, 1);
    log.append(1, 2);
    log.append(0, 3);
    log.reset(3);
    log.close(0);
    let report = log.judge();
    assert!(report.exact, "{report:#?}");
    assert_eq!(report.totals.skipped, 2);
    let notes = report.partitions[0].notes.join("\n");
    assert!(
        notes.contains("skipped by a reset") && notes.contains("2 events, offsets 1..3"),
        "{notes}"
    );
}

#[test]
fn a_reset_that_nobody_took_up_ends_the_last_run() {
    let mut log = Log::new();
    for event in 0..4 {
        log.append(0, event);
    }
    log.append(1, 9);
    log.close(1);
    let report = log.judge_with(&Committed::Reset(Offset::new(2).unwrap()));
    assert!(report.exact, "{report:#?}");
    assert_eq!((report.totals.skipped, report.totals.left_open), (2, 2));
}

#[test]
fn two_runs_from_the_same_offset_are_two() {
    let mut log = busy_log();
    log.reset(0);
    log.close(0);
    log.close(1);
    assert!(log.judge().exact);
    assert_eq!(log.judge().partitions[0].runs.len(), 2);
}

#[test]
fn a_hole_in_an_ended_run_is_a_loss_all_the_same() {
    let mut log = busy_log();
    log.reset(0);
    log.close(0);
    log.close(1);
    log.refreshes.remove(0);
    let report = log.judge();
    assert_eq!(faults(&report), [Fault::Lost, Fault::Lost], "{report:#?}");
}

#[test]
fn duplicates_follow_the_rule() {
    let minutes = |count: i64| count * 60_000;
    // (record time of the second occurrence, records between, whether it is a duplicate)
    let cases = [
        (minutes(10), 0, true),
        (minutes(10) + 1, 0, false),
        (-minutes(60), 0, true),
        (0, 3, true),
        (0, 4, false),
    ];
    for (recorded_at, between, duplicate) in cases {
        let mut log = Log::new();
        log.rule.records = 4;
        log.append_at(0, 0, 0);
        for other in 0..between {
            log.append_at(1, 50 + other, 0);
        }
        log.append_at(0, 0, recorded_at);
        log.close(0);
        log.close(1);
        let report = log.judge();
        assert!(report.exact, "{recorded_at} {between} {report:#?}");
        assert_eq!(
            report.totals.duplicates == 1,
            duplicate,
            "{recorded_at} {between}"
        );
    }
}

#[test]
fn a_chain_of_duplicates_reaches_back() {
    let mut log = Log::new();
    for at in 0..5 {
        log.append_at(0, 0, at * 9 * 60_000);
    }
    log.close(0);
    let report = log.judge();
    assert!(report.exact);
    assert_eq!(
        report.totals.duplicates, 4,
        "each stands within ten minutes of the latest before it"
    );
}

#[test]
fn one_event_on_two_conversations_is_no_duplicate() {
    let mut log = Log::new();
    log.append(0, 7);
    log.append(1, 7);
    log.close(0);
    log.close(1);
    let report = log.judge();
    assert!(report.exact);
    assert_eq!(report.totals.duplicates, 0);
}

#[test]
fn an_undecodable_record_must_be_set_aside_once_by_each_run() {
    let mut log = busy_log();
    log.dead_letters.by_origin.clear();
    assert_eq!(faults(&log.judge()), [Fault::DeadLetterLost]);

    let mut log = busy_log();
    let letters = log.dead_letters.by_origin.first_entry().unwrap();
    let again = letters.get()[0];
    letters.into_mut().push(again);
    assert_eq!(faults(&log.judge()), [Fault::DeadLetterDoubled]);

    let mut log = busy_log();
    log.reset(0);
    log.close(0);
    log.close(1);
    assert!(log.judge().exact, "two runs, two dead letters");
    log.dead_letters.by_origin.first_entry().unwrap().get_mut().pop();
    assert_eq!(faults(&log.judge()), [Fault::DeadLetterLost]);
}

#[test]
fn a_dead_letter_that_names_no_run_stands_for_one() {
    let mut log = busy_log();
    let mut letters = log.dead_letters.by_origin.first_entry().unwrap();
    letters.insert(vec![None]);
    assert!(log.judge().exact);
    log.dead_letters
        .by_origin
        .first_entry()
        .unwrap()
        .insert(vec![None, None]);
    assert_eq!(
        faults(&log.judge()),
        [Fault::DeadLetterDoubled],
        "there was but one run"
    );
}

#[test]
fn a_record_that_is_no_refresh_is_found() {
    let report = busy_log().judge_damaged(&[1]);
    assert_eq!(report.findings[0].fault, Fault::UndecodableRefresh);
}

#[test]
fn what_retention_removed_is_said_and_is_no_loss() {
    // The first two events of the busy log are gone, and with them the beginning of a refresh.
    let mut log = busy_log();
    log.events_start = 1;
    let report = log.judge();
    assert!(report.exact, "{report:#?}");
    let notes = report.partitions[0].notes.join("\n");
    assert!(notes.contains("offsets 0..1 cannot be proven"), "{notes}");

    // The first refresh is gone, its events are not.
    let mut log = busy_log();
    log.refreshes_start = 1;
    let report = log.judge();
    assert!(report.exact, "{report:#?}");
    assert_eq!(report.totals.unproven, 2);

    // But an event much younger than the oldest refresh that is left was never in one that is gone.
    log.append_at(0, 40, 10_000_000);
    log.close(0);
    log.refreshes.pop();
    assert_eq!(faults(&log.judge()), [Fault::Lost]);
}

#[test]
fn an_event_that_may_repeat_a_removed_one_may_be_counted_or_not() {
    for counted in [true, false] {
        let mut log = Log::new();
        log.append(0, 0);
        log.append(0, if counted { 1 } else { 0 });
        log.append(0, 2);
        log.close(0);
        log.events_start = 1;
        let report = log.judge();
        assert!(report.exact, "{report:#?}");
    }
}

#[test]
fn at_most_ten_findings_are_told_and_all_are_counted() {
    let mut log = Log::new();
    for event in 0..30 {
        log.append(0, event);
    }
    log.close(0);
    log.refreshes.clear();
    let report = log.judge();
    assert_eq!((report.totals.lost, report.findings.len()), (30, 10));
    let text = report.to_text();
    assert!(text.contains("… and 20 more"), "{text}");
    assert!(
        text.ends_with("NOT EXACT: 30 lost, 0 doubled, 0 misordered, 0 miscounted, 0 other faults"),
        "{text}"
    );
}

// --- properties ---------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Step {
    Append {
        conversation: u8,
        event: u16,
        later: u32,
    },
    WithoutConversation,
    Garbage,
    Close(u8),
    Reset(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..5_u8, 0..60_u16, 0..120_000_u32)
            .prop_map(|(conversation, event, later)| Step::Append { conversation, event, later }),
        1 => Just(Step::WithoutConversation),
        1 => Just(Step::Garbage),
        6 => (0..5_u8).prop_map(Step::Close),
        1 => any::<u8>().prop_map(Step::Reset),
    ];
    prop::collection::vec(step, 1..120)
}

fn played(steps: &[Step], unread: u8) -> Log {
    let mut log = Log::new();
    log.rule.records = 25;
    let mut now = 0;
    for step in steps {
        match step {
            Step::Append {
                conversation,
                event,
                later,
            } => {
                now += i64::from(*later);
                log.append_at((*conversation).into(), (*event).into(), now);
            }
            Step::WithoutConversation => log.append_without_conversation(),
            Step::Garbage => log.append_garbage(),
            Step::Close(conversation) => log.close((*conversation).into()),
            Step::Reset(part) => log.reset(log.events.len() * usize::from(*part) / 255),
        }
    }
    for event in 0..unread {
        log.append_unread(0, 500 + usize::from(event));
    }
    log
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Drop,
    Duplicate,
    Swap,
    Alter(u8),
}

fn damages() -> impl Strategy<Value = Damage> {
    prop_oneof![
        Just(Damage::Drop),
        Just(Damage::Duplicate),
        Just(Damage::Swap),
        (0..17_u8).prop_map(Damage::Alter),
    ]
}

/// Damages one refresh; returns whether that can be seen at all.
fn damage(log: &mut Log, at: prop::sample::Index, how: Damage) -> bool {
    if log.refreshes.is_empty() {
        return false;
    }
    let at = at.index(log.refreshes.len());
    let refresh = log.refreshes[at].clone();
    let of_the_same =
        |other: &Refresh| other.conversation == refresh.conversation && other.run == refresh.run;
    let later = log.refreshes[at + 1..]
        .iter()
        .position(of_the_same)
        .map(|next| at + 1 + next);
    let in_last_run = refresh.run == log.run;
    match how {
        Damage::Drop => {
            log.refreshes.remove(at);
            // The last one of an ended run may as well have been left open by it.
            in_last_run || later.is_some()
        }
        Damage::Duplicate => {
            log.refreshes.push(refresh);
            true
        }
        Damage::Swap => {
            let Some(later) = later else { return false };
            log.refreshes.swap(at, later);
            true
        }
        Damage::Alter(field) => alter(&mut log.refreshes[at], field, in_last_run),
    }
}

fn alter(refresh: &mut Refresh, field: u8, in_last_run: bool) -> bool {
    let later = |time: Timestamp| time.plus(Duration::from_millis(1));
    match field {
        0 => refresh.event_count += 1,
        1 => refresh.event_count -= 1,
        2 => {
            refresh.priority = match refresh.priority {
                Priority::High => Priority::Low,
                Priority::Medium => Priority::High,
                Priority::Low => Priority::Medium,
            }
        }
        3 => refresh.kinds.push(Kind::new("other").unwrap()),
        4 => {
            refresh.kinds.pop();
        }
        5 => refresh.event_ids[0] = EventId::new("evt_other").unwrap(),
        6 => refresh.event_ids_truncated = !refresh.event_ids_truncated,
        7 => refresh.first_emitted_at = later(refresh.first_emitted_at),
        8 => refresh.last_emitted_at = later(refresh.last_emitted_at),
        9 => refresh.first_received_at = later(refresh.first_received_at),
        10 => refresh.last_received_at = later(refresh.last_received_at),
        11 => refresh.first_offset = refresh.first_offset.next(),
        12 => refresh.last_offset = refresh.last_offset.next(),
        13 => refresh.conversation = ConversationId::new("cnv_other").unwrap(),
        14 => refresh.tenant = TenantId::new("cmp_other").unwrap(),
        15 => refresh.partition = Partition::new(77).unwrap(),
        _ => {
            // A run of its own that ended at once: only the checkpoint tells that it cannot be the last.
            refresh.run.started_at = later(refresh.run.started_at);
            return in_last_run;
        }
    }
    true
}

proptest! {
    #[test]
    fn what_the_obvious_coalescer_makes_is_exact(steps in steps(), unread in 0..4_u8) {
        let log = played(&steps, unread);
        let report = log.judge();
        prop_assert!(report.exact, "{report:#?}");
        let totals = report.totals;
        prop_assert_eq!(totals.refreshes, log.refreshes.len() as u64);
        // Every event is one of these things, and one of them only.
        let others = totals.duplicates + totals.without_conversation + totals.undecodable;
        prop_assert_eq!(totals.counted, log.counted_once());
        let uncounted_open = totals.events - others - totals.counted - totals.skipped;
        prop_assert!(totals.open >= uncounted_open, "{totals:?}");
        prop_assert!(log.judge_with(&Committed::NotRead).exact);
        prop_assert!(log.judge_with(&Committed::NotNewer(log.checkpoint())).exact);
    }

    #[test]
    fn every_damage_is_found(steps in steps(), unread in 0..4_u8, at in any::<prop::sample::Index>(), how in damages()) {
        let mut log = played(&steps, unread);
        if damage(&mut log, at, how) {
            let report = log.judge();
            prop_assert!(!report.exact, "{how:?} {report:#?}");
            prop_assert!(!report.findings.is_empty());
        }
    }
}

// --- the slow, obvious coalescer ------------------------------------------------------------------------------------

/// Conversation 0 is counted twice (2 and 2 events), conversation 1 once (2 events); besides them one event without
/// conversation and one record that is no event.
fn busy_log() -> Log {
    let mut log = Log::new();
    log.append(0, 0);
    log.append(1, 1);
    log.append(0, 2);
    log.close(0);
    log.append_without_conversation();
    log.append(1, 3);
    log.close(1);
    log.append(0, 4);
    log.append_garbage();
    log.append(0, 5);
    log.close(0);
    log
}

fn faults(report: &Report) -> Vec<Fault> {
    report.findings.iter().map(|finding| finding.fault).collect()
}

#[derive(Clone, Debug)]
enum Stored {
    Event { conversation: usize, event: usize },
    WithoutConversation,
    Garbage,
}

/// A partition with everything that was made of it.
#[derive(Clone, Debug)]
struct Log {
    rule: DedupeRule,
    events: Vec<(Timestamp, Stored)>,
    refreshes: Vec<Refresh>,
    dead_letters: DeadLetters,
    run: Run,
    runs_begun: i64,
    position: usize,
    /// Open windows: conversation and the offsets in it.
    open: Vec<(usize, Vec<usize>)>,
    events_start: usize,
    refreshes_start: usize,
}

impl Log {
    fn new() -> Self {
        Self {
            rule: RULE,
            events: Vec::new(),
            refreshes: Vec::new(),
            dead_letters: DeadLetters::default(),
            run: Run {
                started_at: Timestamp::from_millis(1_000),
                start: Offset::ZERO,
                cause: RunCause::First,
            },
            runs_begun: 1,
            position: 0,
            open: Vec::new(),
            events_start: 0,
            refreshes_start: 0,
        }
    }

    fn append(&mut self, conversation: usize, event: usize) {
        let at = i64::try_from(self.events.len()).unwrap();
        self.append_at(conversation, event, at * 10);
    }

    fn append_at(&mut self, conversation: usize, event: usize, recorded_at: i64) {
        let recorded_at = Timestamp::from_millis(recorded_at);
        self.events
            .push((recorded_at, Stored::Event { conversation, event }));
        self.read_on();
    }

    fn append_unread(&mut self, conversation: usize, event: usize) {
        self.events
            .push((Timestamp::from_millis(0), Stored::Event { conversation, event }));
    }

    fn append_without_conversation(&mut self) {
        self.events
            .push((Timestamp::from_millis(0), Stored::WithoutConversation));
        self.read_on();
    }

    fn append_garbage(&mut self) {
        self.events.push((Timestamp::from_millis(0), Stored::Garbage));
        self.read_on();
    }

    fn read_on(&mut self) {
        while self.position < self.events.len() {
            let at = self.position;
            self.position += 1;
            match self.events[at].1 {
                Stored::Event { conversation, .. } if !self.is_duplicate(at) => {
                    match self.open.iter_mut().find(|(open, _)| *open == conversation) {
                        Some((_, window)) => window.push(at),
                        None => self.open.push((conversation, vec![at])),
                    }
                }
                Stored::Event { .. } | Stored::WithoutConversation => {}
                Stored::Garbage => {
                    let letters = self.dead_letters.by_origin.entry(offset(at)).or_default();
                    letters.push(Some(RunKey::of(self.run)));
                }
            }
        }
    }

    fn is_duplicate(&self, at: usize) -> bool {
        let Stored::Event { conversation, event } = self.events[at].1 else {
            return false;
        };
        let same = |stored: &Stored| matches!(stored, Stored::Event { conversation: c, event: e } if (*c, *e) == (conversation, event));
        let Some(earlier) = (0..at).rev().find(|earlier| same(&self.events[*earlier].1)) else {
            return false;
        };
        let apart = self.events[at].0.as_millis() - self.events[earlier].0.as_millis();
        at - earlier <= self.rule.records as usize
            && apart <= i64::try_from(self.rule.horizon.as_millis()).unwrap()
    }

    fn close(&mut self, conversation: usize) {
        let Some(at) = self.open.iter().position(|(open, _)| *open == conversation) else {
            return;
        };
        let (_, window) = self.open.remove(at);
        let refresh = self.refresh_of(conversation, &window);
        self.refreshes.push(refresh);
    }

    fn refresh_of(&self, conversation: usize, window: &[usize]) -> Refresh {
        let changes: Vec<OwnedChange> = window.iter().map(|at| self.change(*at)).collect();
        let mut kinds: Vec<Kind> = Vec::new();
        for change in &changes {
            let kind = Kind::new(change.kind).unwrap();
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        let ids = changes
            .iter()
            .map(|change| EventId::new(change.id.as_str()).unwrap());
        Refresh {
            tenant: TenantId::new("cmp_1").unwrap(),
            conversation: ConversationId::new(format!("cnv_{conversation}")).unwrap(),
            priority: changes.iter().map(|change| change.priority).max().unwrap(),
            kinds,
            event_count: u32::try_from(changes.len()).unwrap(),
            event_ids: ids.take(EVENT_IDS_MAX).collect(),
            event_ids_truncated: changes.len() > EVENT_IDS_MAX,
            first_emitted_at: changes.iter().map(|change| change.emitted_at).min().unwrap(),
            last_emitted_at: changes.iter().map(|change| change.emitted_at).max().unwrap(),
            first_received_at: changes.iter().map(|change| change.received_at).min().unwrap(),
            last_received_at: changes.iter().map(|change| change.received_at).max().unwrap(),
            partition: partition(),
            first_offset: offset(window[0]),
            last_offset: offset(*window.last().unwrap()),
            run: self.run,
            closed_by: CloseReason::Gap,
        }
    }

    /// Ends the run and begins another at `start`, which reads up to the end at once.
    fn reset(&mut self, start: usize) {
        self.runs_begun += 1;
        self.run = Run {
            started_at: Timestamp::from_millis(1_000 * self.runs_begun),
            start: offset(start),
            cause: RunCause::Reset,
        };
        self.open.clear();
        self.position = start;
        self.read_on();
    }

    fn checkpoint(&self) -> Checkpoint {
        let mut window_starts: Vec<Offset> = self.open.iter().map(|(_, window)| offset(window[0])).collect();
        window_starts.sort_unstable();
        Checkpoint {
            run: self.run,
            position: offset(self.position),
            window_starts,
        }
    }

    /// How many events are in some refresh.
    fn counted_once(&self) -> u64 {
        let counted = |at: &usize| {
            let Stored::Event { conversation, .. } = self.events[*at].1 else {
                return false;
            };
            let name = format!("cnv_{conversation}");
            !self.is_duplicate(*at)
                && self.refreshes.iter().any(|refresh| {
                    refresh.conversation.as_str() == name
                        && (refresh.first_offset..=refresh.last_offset).contains(&offset(*at))
                })
        };
        (0..self.events.len()).filter(counted).count() as u64
    }

    fn judge(&self) -> Report {
        self.judge_with(&Committed::Exact(self.checkpoint()))
    }

    fn judge_with(&self, committed: &Committed) -> Report {
        self.judge_all(committed, &[])
    }

    /// Judges with the refreshes at these places being no refreshes.
    fn judge_damaged(&self, damaged: &[usize]) -> Report {
        self.judge_all(&Committed::Exact(self.checkpoint()), damaged)
    }

    fn judge_all(&self, committed: &Committed, damaged: &[usize]) -> Report {
        let bounds = Bounds {
            start: offset(self.events_start),
            end: offset(self.events.len()),
        };
        let mut builder = IndexBuilder::new(partition(), bounds, self.rule);
        for at in self.events_start..self.events.len() {
            let recorded_at = self.events[at].0;
            match self.events[at].1 {
                Stored::Garbage => builder.undecodable(offset(at), recorded_at),
                Stored::Event { .. } | Stored::WithoutConversation => {
                    let change = self.change(at);
                    builder.event(offset(at), recorded_at, &change.borrowed());
                }
            }
        }
        let index = builder.build();
        let mut proof = Proof::new(&index, offset(self.refreshes_start));
        for (at, refresh) in self.refreshes.iter().enumerate().skip(self.refreshes_start) {
            let found = Found {
                offset: offset(at),
                recorded_at: Timestamp::from_millis(0),
                key: Some(refresh.conversation.as_str().as_bytes()),
            };
            if damaged.contains(&at) {
                proof.undecodable_refresh(found, "damaged");
            } else {
                proof.refresh(found, refresh);
            }
        }
        let partition: PartitionReport = proof.conclude(committed, &self.dead_letters);
        Report::of(None, vec![partition], Vec::new())
    }

    fn change(&self, at: usize) -> OwnedChange {
        let (conversation, event) = match self.events[at].1 {
            Stored::Event { conversation, event } => (Some(format!("cnv_{conversation}")), event),
            Stored::WithoutConversation | Stored::Garbage => (None, 1_000 + at),
        };
        let (kind, priority) = KINDS[event % KINDS.len()];
        let millis = i64::try_from(at).unwrap();
        OwnedChange {
            conversation,
            id: format!("evt_{event}"),
            kind,
            priority,
            // Emission is out of order, as Front's is.
            emitted_at: Timestamp::from_millis(1_000 + (millis * 7) % 13),
            received_at: Timestamp::from_millis(2_000 + millis),
        }
    }
}

struct OwnedChange {
    conversation: Option<String>,
    id: String,
    kind: &'static str,
    priority: Priority,
    emitted_at: Timestamp,
    received_at: Timestamp,
}

impl OwnedChange {
    fn borrowed(&self) -> Change<'_> {
        Change {
            tenant: "cmp_1",
            conversation: self.conversation.as_deref(),
            event_id: &self.id,
            kind: self.kind,
            priority: self.priority,
            emitted_at: self.emitted_at,
            received_at: self.received_at,
        }
    }
}

fn offset(at: usize) -> Offset {
    Offset::new(i64::try_from(at).unwrap()).unwrap()
}

fn partition() -> Partition {
    Partition::new(4).unwrap()
}
