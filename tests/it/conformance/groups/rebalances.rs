//! How members are brought together, by hand: what clients rely on and never show.

use std::time::Duration;

use bytes::Bytes;
use frontstream::lifecycle::Instant;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{JoinGroupRequest, SyncGroupRequest};

use super::super::member::{Member, SESSION_MS, admit, assign, group_of, subscription};
use super::super::raw::{error, text};
use crate::support::Cluster;

/// A rebalance that does not wait long for members that are gone.
const SHORT_MS: i32 = 1_500;

fn group_name(cluster: &Cluster) -> String {
    cluster.unique_prefix("groups")
}

/// A first join is answered with an id and nothing else; the second makes the group.
pub(super) fn two_phase_join(cluster: &Cluster) {
    let mut member = Member::new(cluster, &group_name(cluster));
    let told = member.try_to_join();
    assert_eq!(error(told.error_code), Some(ResponseError::MemberIdRequired));
    assert!(!told.member_id.is_empty());
    assert_eq!(told.generation_id, -1);
    let joined = member.try_to_join();
    assert_eq!(error(joined.error_code), None);
    assert_eq!(joined.member_id, told.member_id);
    assert_eq!(joined.leader, told.member_id);
    assert_eq!(joined.generation_id, 1);
    assert_eq!(joined.protocol_type, Some(text("consumer")));
    assert_eq!(joined.protocol_name, Some(text("range")));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].metadata, member.protocols[0].1);

    // Clients before version 4 know nothing of this.
    let mut old = Member::new(cluster, &group_name(cluster));
    let joined = old.raw.ask(3, &old.join_request());
    assert_eq!(error(joined.error_code), None);
    assert_eq!(joined.generation_id, 1);
    assert_eq!(joined.leader, joined.member_id);
}

/// An id that nobody was given is refused.
pub(super) fn unknown_id(cluster: &Cluster) {
    let group = group_name(cluster);
    let mut stranger = Member::new(cluster, &group);
    stranger.id = "made-up".to_owned();
    assert_eq!(
        error(stranger.try_to_join().error_code),
        Some(ResponseError::UnknownMemberId)
    );
    group_of(cluster, &group, 1);
    assert_eq!(
        error(stranger.try_to_join().error_code),
        Some(ResponseError::UnknownMemberId)
    );
}

/// Only the leader is told of all members; what it gives, each gets; a sync without the leader waits.
pub(super) fn leader_assigns(cluster: &Cluster) {
    let group = group_name(cluster);
    let mut first = group_of(cluster, &group, 1).remove(0);
    let mut second = Member::new(cluster, &group);
    second.protocols = vec![("range", subscription(&["another-topic"]))];
    second.introduce();
    let asked = second.ask_to_join();
    first.heartbeat_until(Some(ResponseError::RebalanceInProgress));
    let led = first.join();
    let followed = second.joined(asked);
    assert_eq!((led.generation_id, followed.generation_id), (2, 2));
    assert_eq!(
        (&led.leader, &followed.leader),
        (&text(&first.id), &text(&first.id))
    );
    assert!(followed.members.is_empty());
    let told: Vec<_> = led
        .members
        .iter()
        .map(|member| (member.member_id.to_string(), member.metadata.clone()))
        .collect();
    for (member, (_, metadata)) in [(&first, &first.protocols[0]), (&second, &second.protocols[0])] {
        assert!(told.contains(&(member.id.clone(), metadata.clone())), "{told:?}");
    }

    let waiting = second.ask_to_sync();
    let given = first.sync(&[(&first.id.clone(), "one"), (&second.id, "two")]);
    assert_eq!(
        (error(given.error_code), given.assignment),
        (None, Bytes::from("one"))
    );
    let given = second.synced(waiting);
    assert_eq!(
        (error(given.error_code), given.assignment),
        (None, Bytes::from("two"))
    );
    // Asked again, the same is said again, and a follower's own assignments are nothing.
    let again = second.sync(&[(&first.id, "three"), (&second.id.clone(), "four")]);
    assert_eq!(
        (error(again.error_code), again.assignment),
        (None, Bytes::from("two"))
    );
}

/// A member that the leader forgot gets an empty assignment.
pub(super) fn forgotten_member(cluster: &Cluster) {
    let group = group_name(cluster);
    let mut member = Member::new(cluster, &group);
    member.join();
    let given = member.sync(&[]);
    assert_eq!((error(given.error_code), given.assignment), (None, Bytes::new()));
    assert_eq!(member.heartbeat(), None);
}

/// The protocol is one that all members know, the one that most of them like best.
pub(super) fn common_protocol(cluster: &Cluster) {
    let group = group_name(cluster);
    let offers = [
        ["range", "roundrobin"],
        ["roundrobin", "range"],
        ["roundrobin", "sticky"],
    ];
    let metadata = subscription(&["some-topic"]);
    let mut members: Vec<Member> = Vec::new();
    for (offer, chosen) in offers.iter().zip(["range", "", "roundrobin"]) {
        let mut newcomer = Member::new(cluster, &group);
        newcomer.protocols = offer.iter().map(|name| (*name, metadata.clone())).collect();
        newcomer.introduce();
        let asked = newcomer.ask_to_join();
        let rejoining: Vec<_> = members
            .iter_mut()
            .map(|member| {
                member.heartbeat_until(Some(ResponseError::RebalanceInProgress));
                member.ask_to_join()
            })
            .collect();
        let told: Vec<_> = members
            .iter_mut()
            .zip(rejoining)
            .map(|(member, asked)| member.joined(asked))
            .collect();
        let name = newcomer.joined(asked).protocol_name.unwrap_or_default();
        // One vote for each of two: either may win.
        if !chosen.is_empty() {
            assert_eq!(&*name, chosen);
        }
        assert!(
            told.iter()
                .all(|answer| answer.protocol_name.as_ref() == Some(&name)),
            "{told:?}"
        );
        members.push(newcomer);
        for member in &mut members {
            // What is synced for is the chosen one.
            let named = member
                .protocols
                .iter()
                .position(|(offered, _)| **offered == *name);
            member.protocols.swap(0, named.expect("all know it"));
        }
        assign(&mut members);
        for (member, offer) in members.iter_mut().zip(offers) {
            member.protocols = offer.iter().map(|name| (*name, metadata.clone())).collect();
        }
    }
}

/// No protocol in common, another type, or none at all.
pub(super) fn inconsistent_protocols(cluster: &Cluster) {
    let group = group_name(cluster);
    let mut members = group_of(cluster, &group, 1);
    let refused = Some(ResponseError::InconsistentGroupProtocol);

    let mut other = Member::new(cluster, &group);
    other.protocols = vec![("roundrobin", Bytes::new())];
    assert_eq!(
        error(other.try_to_join().error_code),
        refused,
        "no protocol in common"
    );
    let mut other = Member::new(cluster, &group);
    other.protocol_type = "connect";
    assert_eq!(error(other.try_to_join().error_code), refused, "another type");
    let mut other = Member::new(cluster, &group);
    other.protocols.clear();
    assert_eq!(error(other.try_to_join().error_code), refused, "no protocol");

    let member = &mut members[0];
    assert_eq!(member.heartbeat(), None, "the group is as it was");
    let request = member
        .sync_request(&[])
        .with_protocol_name(Some(text("roundrobin")));
    let answer = member.raw.ask::<SyncGroupRequest>(5, &request);
    assert_eq!(error(answer.error_code), refused, "sync for another protocol");
}

/// Sessions shorter or longer than the broker allows, and a group without a name.
pub(super) fn refused_joins(cluster: &Cluster) {
    let mut member = Member::new(cluster, &group_name(cluster));
    for refused in [SESSION_MS - 1, 1_800_001] {
        member.session_timeout_ms = refused;
        let answer = member.try_to_join();
        assert_eq!(
            error(answer.error_code),
            Some(ResponseError::InvalidSessionTimeout),
            "{refused} ms"
        );
    }
    member.session_timeout_ms = SESSION_MS;
    let nameless = member.join_request().with_group_id(Default::default());
    let answer = member.raw.ask::<JoinGroupRequest>(9, &nameless);
    assert_eq!(error(answer.error_code), Some(ResponseError::InvalidGroupId));
    member.join();
}

/// Heartbeats, and what each is answered with.
pub(super) fn heartbeats(cluster: &Cluster) {
    let group = group_name(cluster);
    let mut stranger = Member::new(cluster, &group);
    stranger.id = "made-up".to_owned();
    stranger.generation = 1;
    assert_eq!(
        stranger.heartbeat(),
        Some(ResponseError::UnknownMemberId),
        "no such group"
    );
    let mut members = group_of(cluster, &group, 2);
    assert_eq!(stranger.heartbeat(), Some(ResponseError::UnknownMemberId));
    let generation = members[0].generation;
    for member in &mut members {
        assert_eq!(member.heartbeat(), None);
        for other in [generation - 1, generation + 1] {
            member.generation = other;
            assert_eq!(
                member.heartbeat(),
                Some(ResponseError::IllegalGeneration),
                "{other}"
            );
        }
        member.generation = generation;
    }
    // A third one is joining.
    let mut third = Member::new(cluster, &group);
    third.introduce();
    assert_eq!(
        members[0].heartbeat(),
        None,
        "an introduction alone changes nothing"
    );
    let asked = third.ask_to_join();
    for member in &mut members {
        member.heartbeat_until(Some(ResponseError::RebalanceInProgress));
    }
    let rejoining: Vec<_> = members.iter_mut().map(Member::ask_to_join).collect();
    for (member, asked) in members.iter_mut().zip(rejoining) {
        assert_eq!(error(member.joined(asked).error_code), None);
    }
    third.joined(asked);
    // All have joined and none has its assignment: it is alive.
    assert_eq!(third.heartbeat(), None);
}

/// Syncs that are out of place.
pub(super) fn refused_syncs(cluster: &Cluster) {
    let group = group_name(cluster);
    let mut stranger = Member::new(cluster, &group);
    stranger.id = "made-up".to_owned();
    stranger.generation = 1;
    assert_eq!(
        error(stranger.sync(&[]).error_code),
        Some(ResponseError::UnknownMemberId),
        "no such group"
    );
    let mut members = group_of(cluster, &group, 2);
    assert_eq!(
        error(stranger.sync(&[]).error_code),
        Some(ResponseError::UnknownMemberId)
    );
    let member = &mut members[1];
    member.generation += 1;
    assert_eq!(
        error(member.sync(&[]).error_code),
        Some(ResponseError::IllegalGeneration)
    );
    member.generation -= 1;
    let mut third = Member::new(cluster, &group);
    third.introduce();
    third.ask_to_join();
    member.heartbeat_until(Some(ResponseError::RebalanceInProgress));
    assert_eq!(
        error(member.sync(&[]).error_code),
        Some(ResponseError::RebalanceInProgress)
    );
}

/// A sync that waits is answered when a new rebalance takes its place.
pub(super) fn interrupted_sync(cluster: &Cluster) {
    let group = group_name(cluster);
    let mut members = group_of(cluster, &group, 1);
    let mut second = Member::new(cluster, &group);
    second.introduce();
    let asked = second.ask_to_join();
    members[0].heartbeat_until(Some(ResponseError::RebalanceInProgress));
    members[0].join();
    second.joined(asked);
    let waiting = second.ask_to_sync();
    // The leader leaves instead of giving assignments.
    assert_eq!(members[0].leave(), None);
    assert_eq!(
        error(second.synced(waiting).error_code),
        Some(ResponseError::RebalanceInProgress)
    );
    let joined = second.join();
    assert_eq!(joined.leader, text(&second.id), "the one who is left leads");
    assert_eq!(joined.members.len(), 1);
}

/// A follower that joins again with nothing new is told what is; the leader, or something new, makes a rebalance.
pub(super) fn joining_again(cluster: &Cluster) {
    let group = group_name(cluster);
    let mut members = group_of(cluster, &group, 2);
    let generation = members[0].generation;
    let told = members[1].try_to_join();
    assert_eq!((error(told.error_code), told.generation_id), (None, generation));
    assert_eq!(members[0].heartbeat(), None, "no rebalance");

    members[1].protocols = vec![("range", subscription(&["another-topic"]))];
    let asked = members[1].ask_to_join();
    members[0].heartbeat_until(Some(ResponseError::RebalanceInProgress));
    assert_eq!(members[0].join().generation_id, generation + 1);
    assert_eq!(members[1].joined(asked).generation_id, generation + 1);
    assign(&mut members);

    let asked = members[0].ask_to_join();
    members[1].heartbeat_until(Some(ResponseError::RebalanceInProgress));
    assert_eq!(members[1].join().generation_id, generation + 2);
    assert_eq!(members[0].joined(asked).generation_id, generation + 2);
}

/// A member that leaves is missed at once, and one that is not there cannot leave.
pub(super) fn leaving(cluster: &Cluster) {
    let group = group_name(cluster);
    let mut members = group_of(cluster, &group, 2);
    let mut gone = members.remove(0);
    assert_eq!(gone.leave(), None);
    assert_eq!(gone.leave(), Some(ResponseError::UnknownMemberId));
    assert_eq!(gone.heartbeat(), Some(ResponseError::UnknownMemberId));
    let rest = &mut members[0];
    assert_eq!(rest.heartbeat(), Some(ResponseError::RebalanceInProgress));
    let joined = rest.join();
    assert_eq!(
        (joined.generation_id, joined.members.len()),
        (gone.generation + 1, 1)
    );
    assert_eq!(joined.leader, text(&rest.id));
    let id = rest.id.clone();
    assert_eq!(error(rest.sync(&[(&id, "all")]).error_code), None);
    assert_eq!(rest.heartbeat(), None);
}

/// A member that shows no sign of life is removed after its session, not before, and the rest go on.
pub(super) fn session_timeout(cluster: &Cluster) {
    let group = group_name(cluster);
    let mut members = group_of(cluster, &group, 1);
    let mut silent = Member::new(cluster, &group);
    silent.session_timeout_ms = SESSION_MS;
    admit(&mut members, silent);
    let began = Instant::now();
    members[0].heartbeat_until(Some(ResponseError::RebalanceInProgress));
    let session = Duration::from_millis(u64::try_from(SESSION_MS).expect("a time"));
    // The session began with the last answer, a moment before we looked at the clock.
    let told = began.elapsed();
    assert!(
        told + Duration::from_millis(500) > session,
        "removed after {told:?}"
    );
    assert!(told < session + session, "removed after {told:?}");
    assert_eq!(members[0].join().members.len(), 1);
    assert_eq!(members[1].heartbeat(), Some(ResponseError::UnknownMemberId));
}

/// A member that does not join again in time is removed, and the rest go on.
pub(super) fn rebalance_timeout(cluster: &Cluster) {
    let group = group_name(cluster);
    let mut members: Vec<Member> = Vec::new();
    for _ in 0..2 {
        let mut newcomer = Member::new(cluster, &group);
        newcomer.rebalance_timeout_ms = SHORT_MS;
        admit(&mut members, newcomer);
    }
    let mut late = members.remove(1);
    let mut third = Member::new(cluster, &group);
    third.rebalance_timeout_ms = SHORT_MS;
    third.introduce();
    let began = Instant::now();
    let asked = third.ask_to_join();
    members[0].heartbeat_until(Some(ResponseError::RebalanceInProgress));
    let joined = members[0].join();
    let took = began.elapsed();
    assert!(
        took + Duration::from_millis(100) > Duration::from_millis(1_500),
        "after {took:?}"
    );
    let ids: Vec<_> = joined
        .members
        .iter()
        .map(|member| member.member_id.to_string())
        .collect();
    third.joined(asked);
    assert_eq!(ids.len(), 2);
    assert!(ids.contains(&members[0].id) && ids.contains(&third.id), "{ids:?}");
    assert_eq!(late.heartbeat(), Some(ResponseError::UnknownMemberId));
    assert_eq!(
        error(late.try_to_join().error_code),
        Some(ResponseError::UnknownMemberId)
    );
    members.push(third);
    assign(&mut members);
}

/// A member that joins and never asks for its assignment is removed too.
pub(super) fn sync_timeout(cluster: &Cluster) {
    let group = group_name(cluster);
    let mut first = Member::new(cluster, &group);
    first.rebalance_timeout_ms = SHORT_MS;
    let mut members = Vec::new();
    admit(&mut members, first);
    let mut silent = Member::new(cluster, &group);
    silent.rebalance_timeout_ms = SHORT_MS;
    silent.introduce();
    let asked = silent.ask_to_join();
    members[0].heartbeat_until(Some(ResponseError::RebalanceInProgress));
    members[0].join();
    silent.joined(asked);
    let assignments = [(members[0].id.clone(), "one"), (silent.id.clone(), "two")];
    let assignments: Vec<_> = assignments
        .iter()
        .map(|(id, given)| (id.as_str(), *given))
        .collect();
    assert_eq!(error(members[0].sync(&assignments).error_code), None);
    members[0].heartbeat_until(Some(ResponseError::RebalanceInProgress));
    assert_eq!(members[0].join().members.len(), 1);
    assert_eq!(silent.heartbeat(), Some(ResponseError::UnknownMemberId));
}

/// The last one leaves: the group is empty, and the next one to join begins with the next generation.
pub(super) fn generations_go_on(cluster: &Cluster) {
    let group = group_name(cluster);
    let mut member = group_of(cluster, &group, 1).remove(0);
    let generation = member.generation;
    assert_eq!(member.leave(), None);
    let mut next = Member::new(cluster, &group);
    // Becoming empty is a generation of its own.
    assert_eq!(next.join().generation_id, generation + 2);
}
