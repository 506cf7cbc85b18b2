//! Static members (KIP-345): who comes back with the same instance id takes its place over, and the former is fenced.

use std::time::Duration;

use frontstream::lifecycle::Instant;
use kafka_protocol::error::ResponseError;

use super::super::member::{Member, SESSION_MS, admit, leave, subscription};
use super::super::raw::{error, text};
use crate::support::Cluster;

const FENCED: Option<ResponseError> = Some(ResponseError::FencedInstanceId);

/// A stable group: a dynamic leader and a static follower.
fn leader_and_fixed(cluster: &Cluster) -> Vec<Member> {
    let group = cluster.unique_prefix("static");
    let mut members = Vec::new();
    admit(&mut members, Member::new(cluster, &group));
    admit(&mut members, Member::fixed(cluster, &group, "pod-0"));
    members
}

/// A static member needs no introduction.
pub(super) fn joins_at_once(cluster: &Cluster) {
    let mut member = Member::fixed(cluster, &cluster.unique_prefix("static"), "pod-0");
    let joined = member.try_to_join();
    assert_eq!((error(joined.error_code), joined.generation_id), (None, 1));
    assert_eq!(joined.members[0].group_instance_id, Some(text("pod-0")));
    assert!(joined.member_id.starts_with("pod-0-"), "{}", joined.member_id);
}

/// A follower that restarts gets a new id, its old assignment and the same generation; nobody else notices.
pub(super) fn restart_without_a_rebalance(cluster: &Cluster) {
    let mut members = leader_and_fixed(cluster);
    let (generation, old_id) = (members[1].generation, members[1].id.clone());
    let mut again = members[1].restarted(cluster);
    let joined = again.try_to_join();
    assert_eq!(
        (error(joined.error_code), joined.generation_id),
        (None, generation)
    );
    assert_ne!(again.id, old_id);
    let given = again.sync(&[]);
    assert_eq!(
        (error(given.error_code), given.assignment),
        (None, format!("for {old_id}").into())
    );
    assert_eq!((members[0].heartbeat(), again.heartbeat()), (None, None));
}

/// A leader that restarts is told so, with all members and that it need not assign.
pub(super) fn restart_of_the_leader(cluster: &Cluster) {
    let group = cluster.unique_prefix("static");
    let mut members = Vec::new();
    admit(&mut members, Member::fixed(cluster, &group, "pod-0"));
    admit(&mut members, Member::fixed(cluster, &group, "pod-1"));
    let (generation, old_id) = (members[0].generation, members[0].id.clone());
    let mut again = members[0].restarted(cluster);
    let joined = again.try_to_join();
    assert_eq!(
        (error(joined.error_code), joined.generation_id),
        (None, generation)
    );
    assert_eq!(joined.leader, text(&again.id));
    assert!(joined.skip_assignment);
    assert_eq!(joined.members.len(), 2);
    let given = again.sync(&[]);
    assert_eq!(
        (error(given.error_code), given.assignment),
        (None, format!("for {old_id}").into())
    );
    assert_eq!(members[1].heartbeat(), None);
}

/// What a restart wants to read may be another, without a rebalance; that the group's protocol must change is one.
pub(super) fn restart_with_something_new(cluster: &Cluster) {
    let group = cluster.unique_prefix("static");
    let metadata = subscription(&["some-topic"]);
    let both = vec![("range", metadata.clone()), ("roundrobin", metadata.clone())];
    let mut members = Vec::new();
    for mut newcomer in [
        Member::new(cluster, &group),
        Member::fixed(cluster, &group, "pod-0"),
    ] {
        newcomer.protocols.clone_from(&both);
        admit(&mut members, newcomer);
    }
    let mut again = members[1].restarted(cluster);
    again.protocols[0].1 = subscription(&["another-topic"]);
    let joined = again.try_to_join();
    assert_eq!(
        (error(joined.error_code), joined.generation_id),
        (None, members[1].generation)
    );
    assert_eq!(members[0].heartbeat(), None);

    let mut again = members[1].restarted(cluster);
    again.protocols.remove(0);
    let asked = again.ask_to_join();
    members[0].heartbeat_until(Some(ResponseError::RebalanceInProgress));
    let led = members[0].join();
    assert_eq!(led.generation_id, members[1].generation + 1);
    assert_eq!(led.protocol_name, Some(text("roundrobin")));
    assert_eq!(error(again.joined(asked).error_code), None);
}

/// The one whose place was taken is refused whatever it asks.
pub(super) fn former_is_fenced(cluster: &Cluster) {
    let topic = cluster.unique_prefix("fenced");
    cluster.create_topic(&topic, 1);
    let mut members = leader_and_fixed(cluster);
    let mut again = members[1].restarted(cluster);
    again.try_to_join();
    let former = &mut members[1];
    assert_eq!(former.heartbeat(), FENCED, "heartbeat");
    assert_eq!(error(former.sync(&[]).error_code), FENCED, "sync");
    assert_eq!(former.commit(&topic, 0, 1), FENCED, "commit");
    assert_eq!(error(former.try_to_join().error_code), FENCED, "join");
    assert_eq!((again.heartbeat(), again.commit(&topic, 0, 1)), (None, None));
}

/// The former is also fenced while it waits for an answer.
pub(super) fn former_is_fenced_while_it_waits(cluster: &Cluster) {
    let mut members = leader_and_fixed(cluster);
    let mut third = Member::new(cluster, &members[0].group);
    third.introduce();
    third.ask_to_join();
    let former = &mut members[1];
    former.heartbeat_until(Some(ResponseError::RebalanceInProgress));
    let waiting = former.ask_to_join();
    // Whichever arrives first, the former has lost its place.
    let mut again = former.restarted(cluster);
    again.ask_to_join();
    assert_eq!(error(former.joined(waiting).error_code), FENCED);
}

/// Leaves by id are for dynamic members; a tool removes a static one by its instance id.
pub(super) fn removed_by_instance(cluster: &Cluster) {
    let mut members = leader_and_fixed(cluster);
    let group = members[0].group.clone();
    let id = members[1].id.clone();
    let leader = &mut members[0];
    let answer = leave(
        &mut leader.raw,
        &group,
        &[
            ("", Some("pod-1")),
            ("made-up", Some("pod-0")),
            (&id, Some("pod-1")),
        ],
    );
    assert_eq!(error(answer.error_code), None);
    let refused: Vec<_> = answer
        .members
        .iter()
        .map(|member| error(member.error_code))
        .collect();
    assert_eq!(
        refused,
        [
            Some(ResponseError::UnknownMemberId),
            FENCED,
            Some(ResponseError::UnknownMemberId)
        ]
    );
    assert_eq!(leader.heartbeat(), None, "nobody was removed");
    let answer = leave(&mut leader.raw, &group, &[("", Some("pod-0"))]);
    assert_eq!(error(answer.members[0].error_code), None);
    assert_eq!(answer.members[0].group_instance_id, Some(text("pod-0")));
    assert_eq!(leader.heartbeat(), Some(ResponseError::RebalanceInProgress));
    assert_eq!(leader.join().members.len(), 1);
    assert_eq!(members[1].heartbeat(), Some(ResponseError::UnknownMemberId));
}

/// Static or not, who is silent for a session is removed.
pub(super) fn session_timeout(cluster: &Cluster) {
    let group = cluster.unique_prefix("static");
    let mut members = Vec::new();
    admit(&mut members, Member::new(cluster, &group));
    let mut silent = Member::fixed(cluster, &group, "pod-0");
    silent.session_timeout_ms = SESSION_MS;
    admit(&mut members, silent);
    let began = Instant::now();
    members[0].heartbeat_until(Some(ResponseError::RebalanceInProgress));
    assert!(
        began.elapsed() > Duration::from_secs(5),
        "after {:?}",
        began.elapsed()
    );
    assert_eq!(members[0].join().members.len(), 1);
    // It comes back as a new one.
    let mut back = members[1].restarted(cluster);
    let asked = back.ask_to_join();
    let ids = [members[0].id.clone()];
    members[0].sync(&[(&ids[0], "")]);
    members[0].heartbeat_until(Some(ResponseError::RebalanceInProgress));
    assert_eq!(members[0].join().members.len(), 2);
    assert_eq!(error(back.joined(asked).error_code), None);
}
