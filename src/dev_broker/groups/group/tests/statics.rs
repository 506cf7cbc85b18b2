//! Static members: restarts without a rebalance, and the fencing of whoever was there before.

use super::*;

const FENCED: Result<(), ResponseError> = Err(ResponseError::FencedInstanceId);

#[test]
fn a_restarted_leader_keeps_its_assignment_and_fences_itself_of_before() {
    let mut lab = Lab::new();
    let mut before = Client::instance("a");
    let generation = lab.settles(&mut before);
    let mut after = Client::instance("a");
    let joined = answered(lab.joins(&after));
    after.id = joined.member_id.clone();
    assert_ne!(after.id, before.id);
    assert_eq!((joined.error_code, joined.generation_id), (0, generation));
    assert!(joined.skip_assignment);
    assert_eq!((&joined.leader, joined.members.len()), (&after.id, 1));
    let synced = answered(lab.syncs(&after, generation, &[]));
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all"[..]));

    assert_eq!(lab.beats(&before, generation), FENCED);
    assert_eq!(lab.beats(&after, generation), Ok(()));
    let fenced = ResponseError::FencedInstanceId.code();
    assert_eq!(answered(lab.joins(&before)).error_code, fenced);
    assert_eq!(answered(lab.syncs(&before, generation, &[])).error_code, fenced);
    let instance = before.instance.as_ref();
    let commit = |kind| lab.group.admit_commit(kind, &before.id, instance, generation);
    assert_eq!(commit(Commit::Plain), FENCED);
    assert_eq!(commit(Commit::InTransaction), FENCED);
    let left = lab.group.leave(&[(before.id, before.instance)], lab.now);
    assert_eq!(left, [FENCED]);
}

#[test]
fn a_restarted_leader_that_knows_no_skipping_takes_itself_for_a_follower() {
    let mut lab = Lab::new();
    let mut before = Client::instance("a");
    lab.settles(&mut before);
    let after = Client {
        version: 8,
        ..Client::instance("a")
    };
    let joined = answered(lab.joins(&after));
    assert_eq!((joined.leader, joined.members.len()), (before.id, 0));
    assert!(!joined.skip_assignment);
}

#[test]
fn a_restart_that_changes_the_protocol_is_a_rebalance() {
    let mut lab = Lab::new();
    let mut before = Client::instance("a");
    let generation = lab.settles(&mut before);
    let after = Client::instance("a").offering(&["sticky", "range"]);
    let joined = answered(lab.joins(&after));
    assert_eq!(joined.generation_id, generation + 1);
    assert_eq!(joined.protocol_name.as_deref(), Some("sticky"));
    assert!(!joined.skip_assignment);
}

#[test]
fn waiting_requests_of_the_instance_before_are_fenced() {
    let mut lab = Lab::new();
    let (mut leader, mut before) = (Client::new(), Client::instance("a"));
    lab.settles(&mut leader);
    let fenced = ResponseError::FencedInstanceId.code();
    let waiting = lab.enters(&mut before);
    let mut after = Client::instance("a");
    let joins = lab.joins(&after);
    assert_eq!(answered(waiting).error_code, fenced);
    let generation = answered(lab.joins(&leader)).generation_id;
    after.id = answered(joins).member_id;

    let synced = lab.syncs(&after, generation, &[]);
    let mut third = lab.joins(&Client::instance("a"));
    assert_eq!(answered(synced).error_code, fenced);
    assert_waits(&mut third);
    assert_eq!(lab.group.state(), GroupState::PreparingRebalance);
}

#[test]
fn static_members_are_known_by_their_id_and_instance() {
    let mut lab = Lab::new();
    let mut client = Client::instance("a");
    let generation = lab.settles(&mut client);
    let other = Client {
        instance: Some(StrBytes::from_static_str("b")),
        ..client.clone()
    };
    assert_eq!(lab.beats(&other, generation), Err(ResponseError::UnknownMemberId));
    let unnamed = Client {
        instance: None,
        ..client
    };
    assert_eq!(lab.beats(&unnamed, generation), Ok(()));
}

#[test]
fn static_members_can_be_removed_by_their_instance() {
    let mut lab = Lab::new();
    let mut client = Client::instance("a");
    lab.settles(&mut client);
    let nobody = || StrBytes::new();
    let name = |name| Some(StrBytes::from_static_str(name));
    let left = lab
        .group
        .leave(&[(nobody(), name("b")), (nobody(), name("a"))], lab.now);
    assert_eq!(left, [Err(ResponseError::UnknownMemberId), Ok(())]);
    assert_eq!(lab.group.state(), GroupState::Empty);
}

#[test]
fn a_static_member_may_miss_a_generation_but_not_its_session() {
    let mut lab = Lab::new();
    let quick = Client {
        rebalance: Duration::from_secs(2),
        ..Client::new()
    };
    let mut away = Client {
        instance: Some(StrBytes::from_static_str("a")),
        ..quick.clone()
    };
    let mut second = quick;
    lab.settles(&mut away);
    let waiting = lab.enters(&mut second);
    lab.waits(Duration::from_secs(2));
    let joined = answered(waiting);
    assert_eq!((&joined.leader, joined.members.len()), (&second.id, 2));
    lab.syncs(&second, joined.generation_id, &[]);
    lab.waits(Duration::from_secs(2));
    assert_eq!(
        lab.group.members().count(),
        1,
        "it did not ask for its assignment"
    );
}

#[test]
fn a_group_of_absent_static_members_waits_without_spinning() {
    let mut lab = Lab::new();
    let still = Client {
        rebalance: Duration::ZERO,
        ..Client::instance("a")
    };
    let (mut first, mut second) = (still.clone(), still);
    second.instance = Some(StrBytes::from_static_str("b"));
    lab.settles(&mut first);
    let joined = lab.enters(&mut second);
    lab.waits(Duration::ZERO);
    let second_id = answered(joined).member_id;
    let mut looks = 0;
    lab.group.leave(&[(second_id, second.instance)], lab.now);
    while lab.group.state() != GroupState::Empty {
        lab.now = lab.group.next_deadline().unwrap();
        lab.group.on_time(lab.now);
        looks += 1;
    }
    assert!(looks <= 102, "{looks}");
    assert!(lab.now <= Duration::from_secs(1) + SESSION);
}
