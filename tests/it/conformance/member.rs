//! A member of a classic group, by hand: it does what a check tells it and nothing else, no heartbeat of its own either.

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartitions;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerProtocolSubscription, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
    SyncGroupResponse,
};
use kafka_protocol::protocol::Encodable as _;

use super::raw::{Raw, error, eventually, text, topic_name};
use crate::support::Cluster;

/// What Kafka's own clients use, or the newest that names topics.
const JOIN_GROUP: i16 = 9;
const SYNC_GROUP: i16 = 5;
const HEARTBEAT: i16 = 4;
const LEAVE_GROUP: i16 = 5;
const OFFSET_COMMIT: i16 = 9;
const OFFSET_FETCH: i16 = 9;

/// The shortest session that brokers allow by default.
pub(super) const SESSION_MS: i32 = 6_000;

/// Long enough for no check to meet it unasked.
const LONG_MS: i32 = 60_000;

/// What a member says when it joins, and what it was told.
pub(super) struct Member {
    pub(super) raw: Raw,
    pub(super) group: String,
    /// Empty before its first answer.
    pub(super) id: String,
    pub(super) instance: Option<String>,
    pub(super) generation: i32,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) protocol_type: &'static str,
    /// Names and metadata, the most wanted first.
    pub(super) protocols: Vec<(&'static str, Bytes)>,
}

impl Member {
    /// Makes a dynamic member that has not joined.
    pub(super) fn new(cluster: &Cluster, group: &str) -> Self {
        let mut raw = Raw::connect(cluster);
        raw.find_coordinator(0, group);
        Self {
            raw,
            group: group.to_owned(),
            id: String::new(),
            instance: None,
            generation: -1,
            session_timeout_ms: LONG_MS,
            rebalance_timeout_ms: LONG_MS,
            protocol_type: "consumer",
            protocols: vec![("range", subscription(&["some-topic"]))],
        }
    }

    /// Makes a static member that has not joined.
    pub(super) fn fixed(cluster: &Cluster, group: &str, instance: &str) -> Self {
        Self {
            instance: Some(instance.to_owned()),
            ..Self::new(cluster, group)
        }
    }

    /// Makes what comes up after a static member's crash: the instance is the same, and it knows nothing else.
    pub(super) fn restarted(&self, cluster: &Cluster) -> Self {
        Self {
            instance: self.instance.clone(),
            protocols: self.protocols.clone(),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            ..Self::new(cluster, &self.group)
        }
    }

    pub(super) fn join_request(&self) -> JoinGroupRequest {
        let protocols = self.protocols.iter().map(|(name, metadata)| {
            JoinGroupRequestProtocol::default()
                .with_name(text(name))
                .with_metadata(metadata.clone())
        });
        JoinGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_session_timeout_ms(self.session_timeout_ms)
            .with_rebalance_timeout_ms(self.rebalance_timeout_ms)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_protocol_type(text(self.protocol_type))
            .with_protocols(protocols.collect())
    }

    /// Asks once, waits for the answer, and remembers id and generation.
    pub(super) fn try_to_join(&mut self) -> JoinGroupResponse {
        let asked = self.ask_to_join();
        self.joined(asked)
    }

    /// Asks; the answer comes when the rebalance ends.
    pub(super) fn ask_to_join(&mut self) -> i32 {
        self.raw.send(JOIN_GROUP, &self.join_request())
    }

    /// Waits for the answer, and remembers id and generation.
    pub(super) fn joined(&mut self, asked: i32) -> JoinGroupResponse {
        let answer = self.raw.receive::<JoinGroupRequest>(JOIN_GROUP, asked);
        if matches!(
            error(answer.error_code),
            None | Some(ResponseError::MemberIdRequired)
        ) {
            self.id = answer.member_id.to_string();
            self.generation = answer.generation_id;
        }
        answer
    }

    /// Learns its id, which the first join of a dynamic member is answered with.
    pub(super) fn introduce(&mut self) {
        if self.id.is_empty() && self.instance.is_none() {
            let answer = self.try_to_join();
            assert_eq!(error(answer.error_code), Some(ResponseError::MemberIdRequired));
        }
    }

    /// Joins and waits for the end of the rebalance.
    pub(super) fn join(&mut self) -> JoinGroupResponse {
        self.introduce();
        let answer = self.try_to_join();
        assert_eq!(error(answer.error_code), None);
        answer
    }

    pub(super) fn sync_request(&self, assignments: &[(&str, &str)]) -> SyncGroupRequest {
        let assignments = assignments.iter().map(|(member, assignment)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(Bytes::copy_from_slice(assignment.as_bytes()))
        });
        SyncGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_protocol_type(Some(text(self.protocol_type)))
            .with_protocol_name(Some(text(self.protocols[0].0)))
            .with_assignments(assignments.collect())
    }

    /// Asks for its assignment; the answer comes when the leader has given them all.
    pub(super) fn ask_to_sync(&mut self) -> i32 {
        self.raw.send(SYNC_GROUP, &self.sync_request(&[]))
    }

    pub(super) fn synced(&mut self, asked: i32) -> SyncGroupResponse {
        self.raw.receive::<SyncGroupRequest>(SYNC_GROUP, asked)
    }

    /// Gives assignments, as the leader does, and returns its own.
    pub(super) fn sync(&mut self, assignments: &[(&str, &str)]) -> SyncGroupResponse {
        let asked = self.raw.send(SYNC_GROUP, &self.sync_request(assignments));
        self.synced(asked)
    }

    pub(super) fn heartbeat(&mut self) -> Option<ResponseError> {
        let request = HeartbeatRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text));
        error(self.raw.ask(HEARTBEAT, &request).error_code)
    }

    /// Waits until a heartbeat is answered with this.
    pub(super) fn heartbeat_until(&mut self, wanted: Option<ResponseError>) {
        eventually(&format!("a heartbeat is answered with {wanted:?}"), || {
            (self.heartbeat() == wanted).then_some(())
        });
    }

    pub(super) fn leave(&mut self) -> Option<ResponseError> {
        let answer = leave(&mut self.raw, &self.group, &[(&self.id, None)]);
        error(answer.members[0].error_code)
    }

    /// Commits as a member.
    pub(super) fn commit(&mut self, topic: &str, partition: i32, offset: i64) -> Option<ResponseError> {
        let request = commit_request(&self.group, topic, &[(partition, offset, "")])
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text));
        commit(&mut self.raw, &request)[0]
    }
}

/// Makes a stable group of dynamic members, the leader first.
pub(super) fn group_of(cluster: &Cluster, group: &str, count: usize) -> Vec<Member> {
    let mut members = Vec::new();
    for _ in 0..count {
        let newcomer = Member::new(cluster, group);
        admit(&mut members, newcomer);
    }
    members
}

/// Lets one more join a stable group, and brings the group to a stable state again.
pub(super) fn admit(members: &mut Vec<Member>, mut newcomer: Member) {
    newcomer.introduce();
    let asked = newcomer.ask_to_join();
    let mut asked_too = Vec::new();
    for member in &mut *members {
        member.heartbeat_until(Some(ResponseError::RebalanceInProgress));
        asked_too.push(member.ask_to_join());
    }
    for (member, asked) in members.iter_mut().zip(asked_too) {
        assert_eq!(error(member.joined(asked).error_code), None);
    }
    assert_eq!(error(newcomer.joined(asked).error_code), None);
    members.push(newcomer);
    assign(members);
}

/// Syncs all members that have joined, the leader first; each one's assignment is "for" and its id.
pub(super) fn assign(members: &mut [Member]) {
    let texts: Vec<_> = members
        .iter()
        .map(|member| (member.id.clone(), format!("for {}", member.id)))
        .collect();
    let assignments: Vec<_> = texts
        .iter()
        .map(|(id, assignment)| (id.as_str(), assignment.as_str()))
        .collect();
    for (member, (_, wanted)) in members.iter_mut().zip(&assignments) {
        let answer = member.sync(&assignments);
        assert_eq!(error(answer.error_code), None);
        assert_eq!(answer.assignment, wanted.as_bytes());
    }
}

/// Removes members, each by its id (or empty) and its instance id.
pub(super) fn leave(raw: &mut Raw, group: &str, members: &[(&str, Option<&str>)]) -> LeaveGroupResponse {
    let members = members.iter().map(|(id, instance)| {
        MemberIdentity::default()
            .with_member_id(text(id))
            .with_group_instance_id(instance.map(text))
    });
    let request = LeaveGroupRequest::default()
        .with_group_id(group_id(group))
        .with_members(members.collect());
    raw.ask(LEAVE_GROUP, &request)
}

/// Makes the metadata of a consumer that wants these topics.
pub(super) fn subscription(topics: &[&str]) -> Bytes {
    const VERSION: i16 = 1;
    let mut metadata = BytesMut::new();
    metadata.put_i16(VERSION);
    ConsumerProtocolSubscription::default()
        .with_topics(topics.iter().map(|topic| text(topic)).collect())
        .encode(&mut metadata, VERSION)
        .expect("a subscription");
    metadata.freeze()
}

/// A group's name as messages have it.
pub(super) fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

/// Makes a commit from outside of the group: partitions, offsets and metadata of one topic.
pub(super) fn commit_request(group: &str, topic: &str, offsets: &[(i32, i64, &str)]) -> OffsetCommitRequest {
    let partitions = offsets.iter().map(|(partition, offset, metadata)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text(metadata)))
    });
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(partitions.collect());
    OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

/// Commits and returns what each partition is answered with, in the order of their numbers.
pub(super) fn commit(raw: &mut Raw, request: &OffsetCommitRequest) -> Vec<Option<ResponseError>> {
    let mut answer = raw.ask_settled(OFFSET_COMMIT, request, |answer| {
        answer.topics[0].partitions[0].error_code
    });
    // The real Kafka puts what it refused first.
    let partitions = &mut answer.topics[0].partitions;
    partitions.sort_by_key(|partition| partition.partition_index);
    partitions
        .iter()
        .map(|partition| error(partition.error_code))
        .collect()
}

/// Whether a fetch of offsets minds transactions that are still open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pending {
    Ignored,
    /// `require_stable`: what a transaction may still change is not answered.
    Minded,
}

/// Fetches the committed offsets of some partitions of a topic.
pub(super) fn fetch_offsets(
    raw: &mut Raw,
    group: &str,
    topic: &str,
    partitions: &[i32],
    pending: Pending,
) -> Vec<OffsetFetchResponsePartitions> {
    let topics = OffsetFetchRequestTopics::default()
        .with_name(topic_name(topic))
        .with_partition_indexes(partitions.to_vec());
    let request = OffsetFetchRequestGroup::default()
        .with_group_id(group_id(group))
        .with_member_epoch(-1)
        .with_topics(Some(vec![topics]));
    let request = OffsetFetchRequest::default()
        .with_groups(vec![request])
        .with_require_stable(pending == Pending::Minded);
    let mut answer = raw.ask_settled(OFFSET_FETCH, &request, |answer| answer.groups[0].error_code);
    assert_eq!(error(answer.groups[0].error_code), None);
    answer.groups.remove(0).topics.remove(0).partitions
}

/// Fetches the committed offset of one partition; -1 when there is none.
pub(super) fn committed(raw: &mut Raw, group: &str, topic: &str, partition: i32) -> i64 {
    let answer = fetch_offsets(raw, group, topic, &[partition], Pending::Ignored);
    assert_eq!(error(answer[0].error_code), None);
    answer[0].committed_offset
}
