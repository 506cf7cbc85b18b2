//! Dynamic members: joining, assigning, leaving, falling silent.

use super::*;

#[test]
fn the_first_member_leads_a_generation_of_its_own() {
    let mut lab = Lab::new();
    let mut client = Client::new();
    let joined = answered(lab.enters(&mut client));
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!((&joined.leader, &joined.member_id), (&client.id, &client.id));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(lab.group.state(), GroupState::CompletingRebalance);
    let synced = answered(lab.syncs(&client, 1, &[(&client, b"all")]));
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all"[..]));
    assert_eq!(lab.group.state(), GroupState::Stable);
    assert_eq!(lab.beats(&client, 1), Ok(()));
}

#[test]
fn clients_before_version_4_join_without_asking_for_an_id() {
    let mut lab = Lab::new();
    let client = Client {
        version: 3,
        ..Client::new()
    };
    let joined = answered(lab.joins(&client));
    assert_eq!(joined.error_code, 0);
    assert!(!joined.member_id.is_empty());
}

#[test]
fn a_second_member_waits_until_the_first_has_joined_again() {
    let mut lab = Lab::new();
    let (mut first, mut second) = (Client::new(), Client::new());
    assert_eq!(lab.settles(&mut first), 1);
    let mut waiting = lab.enters(&mut second);
    assert_waits(&mut waiting);
    assert_eq!(lab.group.state(), GroupState::PreparingRebalance);
    assert_eq!(lab.beats(&first, 1), Err(ResponseError::RebalanceInProgress));
    let synced = answered(lab.syncs(&first, 1, &[]));
    assert_eq!(synced.error_code, ResponseError::RebalanceInProgress.code());
    let of_first = answered(lab.joins(&first));
    let of_second = answered(waiting);
    assert_eq!((of_first.generation_id, of_second.generation_id), (2, 2));
    assert_eq!((of_first.members.len(), of_second.members.len()), (2, 0));
    assert_eq!(of_second.leader, first.id);

    let mut follower = lab.syncs(&second, 2, &[]);
    assert_waits(&mut follower);
    answered(lab.syncs(&first, 2, &[(&first, b"a"), (&second, b"b")]));
    assert_eq!(&answered(follower).assignment[..], b"b");
    let again = answered(lab.syncs(&second, 2, &[]));
    assert_eq!(&again.assignment[..], b"b");
}

#[test]
fn whoever_does_not_join_again_in_time_is_out() {
    let mut lab = Lab::new();
    let (leader, follower, generation) = lab.pair();
    let mut third = Client::new();
    let mut waiting = lab.enters(&mut third);
    for _ in 0..7 {
        assert_eq!(
            lab.beats(&leader, generation),
            Err(ResponseError::RebalanceInProgress)
        );
        assert_eq!(
            lab.beats(&follower, generation),
            Err(ResponseError::RebalanceInProgress)
        );
        assert_waits(&mut waiting);
        lab.waits(SESSION - Duration::from_secs(1));
    }
    let joined = answered(waiting);
    assert_eq!((&joined.leader, joined.members.len()), (&third.id, 1));
    assert_eq!(
        lab.beats(&leader, generation),
        Err(ResponseError::UnknownMemberId)
    );
}

#[test]
fn a_silent_member_is_removed_and_the_others_share_anew() {
    let mut lab = Lab::new();
    let (leader, follower, generation) = lab.pair();
    lab.waits(SESSION / 2);
    assert_eq!(lab.beats(&leader, generation), Ok(()));
    lab.waits(SESSION / 2);
    assert_eq!(
        lab.beats(&leader, generation),
        Err(ResponseError::RebalanceInProgress)
    );
    assert_eq!(
        lab.beats(&follower, generation),
        Err(ResponseError::UnknownMemberId)
    );
    assert_eq!(answered(lab.joins(&leader)).generation_id, generation + 1);
    lab.waits(SESSION);
    assert_eq!(lab.group.state(), GroupState::Empty);
    assert_eq!(lab.group.next_deadline(), None);
    assert_eq!(
        lab.group.protocol_type().map(|kind| kind.as_str()),
        Some(CONSUMER)
    );
    assert_eq!(lab.group.protocol_name(), None);
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let mut lab = Lab::new();
    let mut client = Client::new();
    let generation = lab.settles(&mut client);
    for _ in 0..3 {
        lab.waits(SESSION - Duration::from_secs(1));
        lab.group.touch(&client.id, lab.now);
    }
    assert_eq!(lab.beats(&client, generation), Ok(()));
}

#[test]
fn joining_again_in_a_stable_group_is_an_answer_for_followers_and_a_rebalance_for_leaders() {
    let mut lab = Lab::new();
    let (leader, follower, generation) = lab.pair();
    let told = answered(lab.joins(&follower));
    assert_eq!((told.error_code, told.generation_id), (0, generation));
    assert_eq!((&told.leader, told.members.len()), (&leader.id, 0));
    assert_eq!(lab.group.state(), GroupState::Stable);
    let mut waiting = lab.joins(&leader);
    assert_waits(&mut waiting);
    assert_eq!(lab.group.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_follower_with_news_makes_a_rebalance() {
    let mut lab = Lab::new();
    let (_, follower, _) = lab.pair();
    let changed = follower.offering(&["range"]);
    let mut waiting = lab.joins(&changed);
    assert_waits(&mut waiting);
    assert_eq!(lab.group.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_join_whose_answer_got_lost_is_answered_again() {
    let mut lab = Lab::new();
    let mut client = Client::new();
    let first = answered(lab.enters(&mut client));
    let second = answered(lab.joins(&client));
    assert_eq!(first, second);
}

#[test]
fn a_request_asked_twice_waits_once() {
    let mut lab = Lab::new();
    let (mut first, mut second) = (Client::new(), Client::new());
    lab.settles(&mut first);
    let given_up = lab.enters(&mut second);
    let mut waiting = lab.joins(&second);
    assert_eq!(
        answered(given_up).error_code,
        ResponseError::RebalanceInProgress.code()
    );
    assert_waits(&mut waiting);
}

#[test]
fn groups_agree_on_type_and_protocol() {
    let mut lab = Lab::new();
    let mut client = Client::new().offering(&["range", "sticky"]);
    lab.settles(&mut client);
    let inconsistent = ResponseError::InconsistentGroupProtocol.code();
    let connect = Client {
        kind: "connect",
        ..Client::new()
    };
    assert_eq!(answered(lab.joins(&connect)).error_code, inconsistent);
    let other = Client::new().offering(&["robin"]);
    assert_eq!(answered(lab.joins(&other)).error_code, inconsistent);
    let mut second = Client::new().offering(&["sticky"]);
    let waiting = lab.enters(&mut second);
    answered(lab.joins(&client));
    assert_eq!(answered(waiting).protocol_name.as_deref(), Some("sticky"));
}

#[test]
fn the_protocol_that_most_prefer_wins() {
    let mut lab = Lab::new();
    let (mut first, mut second, mut third) = (
        Client::new().offering(&["range", "sticky"]),
        Client::new().offering(&["sticky", "range"]),
        Client::new().offering(&["sticky", "range"]),
    );
    lab.settles(&mut first);
    let _second = lab.enters(&mut second);
    let _third = lab.enters(&mut third);
    let joined = answered(lab.joins(&first));
    assert_eq!(joined.protocol_name.as_deref(), Some("sticky"));
}

#[test]
fn a_group_waits_for_whom_it_promised_an_id() {
    let mut lab = Lab::new();
    let (mut first, second) = (Client::new(), Client::new());
    lab.settles(&mut first);
    let promised = answered(lab.joins(&second));
    let mut waiting = lab.joins(&first);
    assert_waits(&mut waiting);
    lab.waits(SESSION - Duration::from_millis(1));
    assert_waits(&mut waiting);
    lab.waits(Duration::from_millis(1));
    assert_eq!(answered(waiting).members.len(), 1);
    let late = Client {
        id: promised.member_id,
        ..Client::new()
    };
    assert_eq!(
        answered(lab.joins(&late)).error_code,
        ResponseError::UnknownMemberId.code()
    );
}

#[test]
fn whoever_leaves_is_gone_at_once() {
    let mut lab = Lab::new();
    let (leader, follower, generation) = lab.pair();
    let left = lab.group.leave(&[(leader.id.clone(), None)], lab.now);
    assert_eq!(left, [Ok(())]);
    assert_eq!(
        lab.beats(&follower, generation),
        Err(ResponseError::RebalanceInProgress)
    );
    assert_eq!(answered(lab.joins(&follower)).leader, follower.id);
    let gone = (leader.id.clone(), None);
    let left = lab.group.leave(&[gone, (follower.id.clone(), None)], lab.now);
    assert_eq!(left, [Err(ResponseError::UnknownMemberId), Ok(())]);
    assert_eq!(lab.group.state(), GroupState::Empty);
    assert_eq!(lab.group.next_deadline(), None);
}

#[test]
fn leaving_while_it_waits_answers_the_join() {
    let mut lab = Lab::new();
    let (mut first, mut second) = (Client::new(), Client::new());
    lab.settles(&mut first);
    let waiting = lab.enters(&mut second);
    assert_eq!(lab.group.leave(&[(second.id, None)], lab.now), [Ok(())]);
    assert_eq!(
        answered(waiting).error_code,
        ResponseError::UnknownMemberId.code()
    );
}

#[test]
fn syncs_are_checked() {
    let mut lab = Lab::new();
    let mut client = Client::new();
    let generation = lab.settles(&mut client);
    let wrong = answered(lab.syncs(&client, generation + 1, &[]));
    assert_eq!(wrong.error_code, ResponseError::IllegalGeneration.code());
    let connect = Client {
        kind: "connect",
        ..client.clone()
    };
    let wrong = answered(lab.syncs(&connect, generation, &[]));
    assert_eq!(wrong.error_code, ResponseError::InconsistentGroupProtocol.code());
    let stranger = Client::new();
    let wrong = answered(lab.syncs(&stranger, generation, &[]));
    assert_eq!(wrong.error_code, ResponseError::UnknownMemberId.code());
}

#[test]
fn members_that_never_sync_are_out_after_the_rebalance_timeout() {
    let mut lab = Lab::new();
    let (mut leader, mut follower) = (Client::new(), Client::new());
    lab.settles(&mut leader);
    let waiting = lab.enters(&mut follower);
    let generation = answered(lab.joins(&leader)).generation_id;
    answered(waiting);
    let mut synced = lab.syncs(&follower, generation, &[]);
    for _ in 0..7 {
        assert_waits(&mut synced);
        assert_eq!(lab.beats(&leader, generation), Ok(()));
        lab.waits(SESSION - Duration::from_secs(1));
    }
    assert_eq!(
        answered(synced).error_code,
        ResponseError::RebalanceInProgress.code()
    );
    let joined = answered(lab.joins(&follower));
    assert_eq!((&joined.leader, joined.members.len()), (&follower.id, 1));
}

#[test]
fn a_rebalance_in_the_middle_of_another_sends_waiting_syncs_back() {
    let mut lab = Lab::new();
    let (mut leader, mut follower, mut third) = (Client::new(), Client::new(), Client::new());
    lab.settles(&mut leader);
    let waiting = lab.enters(&mut follower);
    let generation = answered(lab.joins(&leader)).generation_id;
    answered(waiting);
    let synced = lab.syncs(&follower, generation, &[]);
    let _third = lab.enters(&mut third);
    assert_eq!(
        answered(synced).error_code,
        ResponseError::RebalanceInProgress.code()
    );
}

#[test]
fn commits_from_outside_need_an_empty_group() {
    let mut lab = Lab::new();
    let nobody = StrBytes::new();
    let outside = |group: &Group, commit| group.admit_commit(commit, &nobody, None, -1);
    assert_eq!(outside(&lab.group, Commit::Plain), Ok(()));
    let mut client = Client::new();
    let generation = lab.settles(&mut client);
    assert_eq!(
        outside(&lab.group, Commit::Plain),
        Err(ResponseError::UnknownMemberId)
    );
    assert_eq!(outside(&lab.group, Commit::InTransaction), Ok(()));
    let inside = |group: &Group, commit, generation| group.admit_commit(commit, &client.id, None, generation);
    for commit in [Commit::Plain, Commit::InTransaction] {
        assert_eq!(inside(&lab.group, commit, generation), Ok(()));
        assert_eq!(
            inside(&lab.group, commit, generation - 1),
            Err(ResponseError::IllegalGeneration)
        );
        assert_eq!(
            inside(&lab.group, commit, -1),
            Err(ResponseError::IllegalGeneration)
        );
    }
    lab.joins(&client);
    let generation = generation + 1;
    assert_eq!(lab.group.state(), GroupState::CompletingRebalance);
    assert_eq!(
        inside(&lab.group, Commit::Plain, generation),
        Err(ResponseError::RebalanceInProgress)
    );
    assert_eq!(inside(&lab.group, Commit::InTransaction, generation), Ok(()));
}

#[test]
fn subscriptions_are_read_from_what_members_say() {
    let mut lab = Lab::new();
    let mut client = Client {
        // Version 1 of the subscription, which has more behind the topics.
        protocols: vec![("range", b"\0\x01\0\0\0\x01\0\x06orders\xff\xff\xff\xff\0\0\0\0")],
        ..Client::new()
    };
    assert!(!lab.group.subscribes_to("orders"));
    lab.settles(&mut client);
    assert!(lab.group.subscribes_to("orders"));
    assert!(!lab.group.subscribes_to("invoices"));
    lab.group.leave(&[(client.id, None)], lab.now);
    assert!(!lab.group.subscribes_to("orders"));
}

#[test]
fn subscriptions_that_cannot_be_read_may_be_to_anything() {
    for metadata in [&b""[..], b"\0\0\0\0\0\x01\0\x06ord", b"\0\0\x7f\xff\xff\xff\0"] {
        let mut lab = Lab::new();
        let mut client = Client {
            protocols: vec![("range", metadata)],
            ..Client::new()
        };
        lab.settles(&mut client);
        assert!(lab.group.subscribes_to("orders"));
    }
    let mut lab = Lab::new();
    let mut worker = Client {
        kind: "connect",
        protocols: vec![("range", b"")],
        ..Client::new()
    };
    lab.settles(&mut worker);
    assert!(!lab.group.subscribes_to("orders"));
}
