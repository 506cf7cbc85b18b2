//! `audit` on a broker, over topics whose contents and damage the test knows.

use std::process::Output;
use std::sync::mpsc;
use std::time::Duration;

use frontstream::operate::audit::{self, Plan};
use serde_json::Value;

use crate::support::{self, Planted, checkpoint, frontstream, refresh};

/// A partition for each kind of damage.
mod partition {
    pub(super) const EXACT: i32 = 0;
    pub(super) const LOST: i32 = 1;
    pub(super) const DOUBLED: i32 = 2;
    pub(super) const REORDERED: i32 = 3;
    pub(super) const MISCOUNTED: i32 = 4;
    pub(super) const NOT_SET_ASIDE: i32 = 5;
    pub(super) const OPEN: i32 = 6;
    pub(super) const RESET: i32 = 7;
    pub(super) const UNREADABLE: i32 = 8;
    pub(super) const COUNT: i32 = 9;
}

#[test]
fn each_planted_damage_is_found_and_nothing_else() {
    let cluster = support::kafka();
    let planted = Planted::new(cluster, "audit-damage", partition::COUNT);
    plant(&planted);
    // Every event at 0 and 1 was read, 2 is not.
    let events = &planted.topics.names.events;
    support::reset(
        cluster,
        &planted.group,
        events,
        Some(partition::RESET),
        support::To::Offset(2),
    );

    let output = audit(cluster, &planted, &["--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let faults = |partition: i32| -> Vec<(String, Value)> {
        let findings = report["partitions"][usize::try_from(partition).unwrap()]["findings"].as_array();
        let one = |finding: &Value| {
            (
                finding["fault"].as_str().unwrap().to_owned(),
                finding["event_offset"].clone(),
            )
        };
        findings.unwrap().iter().map(one).collect()
    };
    let fault = |name: &str, offset: Option<i64>| vec![(name.to_owned(), Value::from(offset))];
    assert_eq!(faults(partition::EXACT), []);
    assert_eq!(faults(partition::LOST), fault("lost", Some(0)));
    assert_eq!(faults(partition::DOUBLED), fault("doubled", Some(0)));
    assert_eq!(faults(partition::REORDERED), fault("misordered", Some(0)));
    assert_eq!(faults(partition::MISCOUNTED), fault("miscounted", Some(0)));
    assert_eq!(
        faults(partition::NOT_SET_ASIDE),
        fault("dead_letter_lost", Some(0))
    );
    assert_eq!(faults(partition::OPEN), []);
    assert_eq!(faults(partition::RESET), []);
    assert_eq!(faults(partition::UNREADABLE), fault("checkpoint", None));

    let totals = &report["totals"];
    assert_eq!(totals["duplicates"], 1);
    assert_eq!(totals["without_conversation"], 1);
    assert_eq!(totals["undecodable"], 2);
    assert_eq!(
        totals["open"],
        2 + 1,
        "two held open, one not read before the unreadable offset"
    );
    assert_eq!(totals["skipped"], 1, "the reset went past one open event");
}

#[test]
fn partitions_without_damage_are_exact_on_their_own() {
    let cluster = support::kafka();
    let planted = Planted::new(cluster, "audit-exact", partition::COUNT);
    plant(&planted);
    let output = audit(cluster, &planted, &["--partition", "0", "--partition", "6"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.ends_with("\nexact: 3 of 8 events counted in 2 refreshes, 2 open, 1 duplicates, 1 without conversation, 1 undecodable\n"), "{text}");
    assert!(
        text.contains("partition 6, run of 2026-11-18T11:06:40.000Z from offset 0 (first): "),
        "{text}"
    );

    let output = audit(cluster, &planted, &["--partition", "99"]);
    assert_eq!(output.status.code(), Some(3));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("no partition 99"), "{error}");
}

#[test]
fn an_audit_waits_for_an_open_transaction_to_end() {
    let cluster = support::kafka();
    let planted = Planted::new(cluster, "audit-open", 1);
    planted.event(0, Some("cnv_1"), "evt_1");
    planted.event(0, Some("cnv_1"), "evt_2");
    planted.commit(0, &[refresh(0, "cnv_1", &[("evt_1", 0)])], &checkpoint(1, &[]));
    planted.begin(0, &[refresh(0, "cnv_1", &[("evt_2", 1)])]);

    let set = [
        format!("topics.prefix={}", planted.topics.prefix),
        format!("processor.group={}", planted.group),
    ];
    let settings = support::settings(&cluster.bootstrap, &[&set[0], &set[1]]);
    let plan = Plan::of(&settings, Duration::from_secs(60));
    let (verdict, verdicts) = mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(|| verdict.send(Box::new(audit::audit(&plan))));
        let early = verdicts.recv_timeout(Duration::from_secs(4));
        assert!(
            early.is_err(),
            "whether the second event is counted is not decided yet: {early:?}"
        );
        planted.end(
            0,
            frontstream::model::Offset::new(2).unwrap(),
            &frontstream::wire::checkpoint_v1::encode(&checkpoint(2, &[]), 4_096),
        );
        let report = (*verdicts.recv_timeout(Duration::from_secs(60)).unwrap()).unwrap();
        assert!(report.exact, "{}", report.to_text());
        assert_eq!(report.totals.counted, 2, "{}", report.to_text());
    });
}

#[test]
fn without_a_broker_the_audit_says_which_address_it_tried() {
    // Nothing listens on a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("127.0.0.1:{port}");
    let output = frontstream(&["audit", "--brokers", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains(&address) && error.contains("kafka.brokers"),
        "{error}"
    );
}

fn audit(cluster: &support::Cluster, planted: &Planted, more: &[&str]) -> Output {
    let arguments = planted.arguments();
    let mut all = vec!["audit", "--brokers", &cluster.bootstrap];
    all.extend(arguments.iter().map(String::as_str));
    all.extend(more);
    frontstream(&all).output().unwrap()
}

fn plant(planted: &Planted) {
    use partition::{DOUBLED, EXACT, LOST, MISCOUNTED, NOT_SET_ASIDE, OPEN, REORDERED, RESET, UNREADABLE};

    // A retry of Front's, an event without conversation, garbage that was set aside; an aborted refresh is not there.
    planted.event(EXACT, Some("cnv_1"), "evt_1");
    planted.event(EXACT, Some("cnv_2"), "evt_2");
    planted.event(EXACT, Some("cnv_1"), "evt_1");
    planted.event(EXACT, None, "evt_3");
    planted.bytes(EXACT, b"\x01garbage");
    planted.event(EXACT, Some("cnv_1"), "evt_4");
    planted.dead_letter(EXACT, 4, "neither framing");
    let rightly = [
        refresh(EXACT, "cnv_1", &[("evt_1", 0), ("evt_4", 5)]),
        refresh(EXACT, "cnv_2", &[("evt_2", 1)]),
    ];
    planted.begin(EXACT, &rightly);
    planted.abort();
    planted.commit(EXACT, &rightly, &checkpoint(6, &[]));

    for partition in [LOST, DOUBLED, REORDERED, MISCOUNTED, RESET, UNREADABLE] {
        planted.event(partition, Some("cnv_1"), "evt_1");
        planted.event(partition, Some("cnv_1"), "evt_2");
    }
    let first = |partition| refresh(partition, "cnv_1", &[("evt_1", 0)]);
    let second = |partition| refresh(partition, "cnv_1", &[("evt_2", 1)]);
    planted.commit(LOST, &[second(LOST)], &checkpoint(2, &[]));
    planted.commit(
        DOUBLED,
        &[first(DOUBLED), second(DOUBLED), first(DOUBLED)],
        &checkpoint(2, &[]),
    );
    planted.commit(
        REORDERED,
        &[second(REORDERED), first(REORDERED)],
        &checkpoint(2, &[]),
    );
    let mut miscounted = refresh(MISCOUNTED, "cnv_1", &[("evt_1", 0), ("evt_2", 1)]);
    miscounted.event_count = 3;
    planted.commit(MISCOUNTED, &[miscounted], &checkpoint(2, &[]));

    planted.bytes(NOT_SET_ASIDE, b"\x01garbage");
    planted.commit(NOT_SET_ASIDE, &[], &checkpoint(1, &[]));

    planted.event(OPEN, Some("cnv_1"), "evt_1");
    planted.event(OPEN, Some("cnv_2"), "evt_2");
    planted.commit(OPEN, &[], &checkpoint(2, &[0, 1]));

    planted.commit(RESET, &[first(RESET)], &checkpoint(2, &[1]));
    planted.begin(UNREADABLE, &[first(UNREADABLE)]);
    planted.end(
        UNREADABLE,
        frontstream::model::Offset::new(1).unwrap(),
        "fs1:AAAA",
    );
}
