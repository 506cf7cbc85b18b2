//! How members come in: anew, with the id they were promised, again, or as the restarted instance of a static member.

use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use kafka_protocol::protocol::StrBytes;

use super::member::{JoinAnswer, Member, Protocol};
use super::{Group, GroupState};

/// From this version on, a dynamic member joins twice: first to be given its id (KIP-394).
const JOIN_WITH_ID: i16 = 4;
/// From this version on, a restarted leader can be told to keep the assignment as it is (KIP-814).
const JOIN_SKIPS_ASSIGNMENT: i16 = 9;
/// How long the first join of a member may take: it sends no heartbeats meanwhile (Kafka's fixed value).
const NEW_MEMBER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// What a JoinGroup says, and where its answer goes.
#[derive(Debug)]
pub(in crate::dev_broker::groups) struct Join {
    /// Empty when the client has none yet.
    pub(in crate::dev_broker::groups) member_id: StrBytes,
    /// The id it gets if it needs one; never used before.
    pub(in crate::dev_broker::groups) fresh_id: StrBytes,
    pub(in crate::dev_broker::groups) instance: Option<StrBytes>,
    pub(in crate::dev_broker::groups) client_id: StrBytes,
    pub(in crate::dev_broker::groups) client_host: StrBytes,
    pub(in crate::dev_broker::groups) session_timeout: Duration,
    pub(in crate::dev_broker::groups) rebalance_timeout: Duration,
    pub(in crate::dev_broker::groups) protocol_type: StrBytes,
    pub(in crate::dev_broker::groups) protocols: Vec<Protocol>,
    pub(in crate::dev_broker::groups) answer: JoinAnswer,
}

impl Group {
    /// Lets a client in, or says why not; the answer may come much later.
    pub(in crate::dev_broker::groups) fn join(&mut self, join: Join, now: Duration) {
        if !self.supports(&join.protocol_type, &join.protocols) {
            return join
                .answer
                .refuse(ResponseError::InconsistentGroupProtocol, join.member_id);
        }
        if !join.member_id.is_empty() {
            return self.join_again(join, now);
        }
        let known = join
            .instance
            .as_ref()
            .and_then(|instance| self.statics.get(instance));
        if let Some(old_id) = known.cloned() {
            self.replace_static(join, &old_id, now);
        } else if join.instance.is_none() && join.answer.version() >= JOIN_WITH_ID {
            self.promised
                .insert(join.fresh_id.clone(), now + join.session_timeout);
            join.answer.refuse(ResponseError::MemberIdRequired, join.fresh_id);
        } else {
            let member_id = join.fresh_id.clone();
            self.add(join, member_id, now);
        }
    }

    /// Says whether a member with these protocols fits in: of the group's type, and with one that everybody has.
    fn supports(&self, protocol_type: &StrBytes, protocols: &[Protocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|protocol| self.everybody_offers(&protocol.name))
    }

    fn join_again(&mut self, join: Join, now: Duration) {
        let member_id = join.member_id.clone();
        if self.promised.contains_key(&member_id) {
            if join.instance.is_some() {
                // Only dynamic members are promised ids; Kafka has no better word for it either.
                return join
                    .answer
                    .refuse(ResponseError::UnknownServerError, StrBytes::new());
            }
            return self.add(join, member_id, now);
        }
        let checked = self.check_member(&member_id, join.instance.as_ref());
        let member = match (checked, self.members.get(&member_id)) {
            (Ok(()), Some(member)) => member,
            (Err(error), _) => return join.answer.refuse(error, member_id),
            (Ok(()), None) => return join.answer.refuse(ResponseError::UnknownMemberId, member_id),
        };
        let unchanged = member.protocols == join.protocols;
        let leads = self.leader.as_ref() == Some(&member_id);
        match self.state {
            // Perhaps the answer got lost on its way: the generation stands as it is.
            GroupState::CompletingRebalance if unchanged => {
                let response = self.joined(&member_id);
                join.answer.send(response);
            }
            // A follower with nothing new; a leader that joins wants to assign anew.
            GroupState::Stable if unchanged && !leads => {
                let response = self.joined(&member_id);
                join.answer.send(response);
            }
            GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Stable => {
                self.update(&member_id, join);
                self.rebalance(now);
            }
            GroupState::Empty => join.answer.refuse(ResponseError::UnknownMemberId, member_id),
        }
    }

    fn add(&mut self, join: Join, member_id: StrBytes, now: Duration) {
        if let Some(instance) = &join.instance {
            self.statics.insert(instance.clone(), member_id.clone());
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type);
        }
        self.promised.remove(&member_id);
        self.leader.get_or_insert_with(|| member_id.clone());
        let member = Member {
            id: member_id.clone(),
            instance: join.instance,
            client_id: join.client_id,
            client_host: join.client_host,
            assignment: bytes::Bytes::new(),
            rebalance_timeout: join.rebalance_timeout,
            session_timeout: join.session_timeout,
            protocols: join.protocols,
            is_new: true,
            session_due: Some(now + NEW_MEMBER_TIMEOUT),
            joining: Some(join.answer),
            syncing: None,
        };
        self.members.insert(member_id, member);
        self.rebalance(now);
    }

    /// Takes over what a member that joins again says of itself, and whom to answer.
    fn update(&mut self, member_id: &StrBytes, join: Join) {
        let Some(member) = self.members.get_mut(member_id) else {
            return join
                .answer
                .refuse(ResponseError::UnknownMemberId, member_id.clone());
        };
        member.protocols = join.protocols;
        member.rebalance_timeout = join.rebalance_timeout;
        member.session_timeout = join.session_timeout;
        if let Some(replaced) = member.joining.replace(join.answer) {
            // The client gave up on that request and asked again: only one of the two can be waited for.
            replaced.refuse(ResponseError::RebalanceInProgress, member_id.clone());
        }
    }

    /// Puts the restarted instance of a static member into the place of the one before, which is fenced from now on.
    fn replace_static(&mut self, mut join: Join, old_id: &StrBytes, now: Duration) {
        let Some(mut member) = self.members.remove(old_id) else {
            return join
                .answer
                .refuse(ResponseError::UnknownMemberId, StrBytes::new());
        };
        let new_id = join.fresh_id.clone();
        let old_leader = self.leader.clone();
        member.dismiss(ResponseError::FencedInstanceId, old_id);
        member.id = new_id.clone();
        member.is_new = false;
        member.rearm(now);
        if let Some(instance) = join.instance.take() {
            self.statics.insert(instance, new_id.clone());
        }
        self.members.insert(new_id.clone(), member);
        if self.unsynced.remove(old_id) {
            self.unsynced.insert(new_id.clone());
        }
        if old_leader.as_ref() == Some(old_id) {
            self.leader = Some(new_id.clone());
        }
        let version = join.answer.version();
        self.update(&new_id, join);
        match self.state {
            GroupState::Stable if self.elect_protocol() == self.protocol_name => {
                self.answer_restarted(&new_id, old_leader, version);
            }
            // In the middle of a rebalance the leader may have assigned to the id that is gone.
            GroupState::Stable | GroupState::CompletingRebalance => self.rebalance(now),
            GroupState::Empty | GroupState::PreparingRebalance => self.complete_join_if_all_joined(now),
        }
    }

    /// Tells a restarted instance that everything stays as it was.
    fn answer_restarted(&mut self, member_id: &StrBytes, old_leader: Option<StrBytes>, version: i16) {
        let mut response = self.joined(member_id);
        if version >= JOIN_SKIPS_ASSIGNMENT {
            response.skip_assignment = self.leader.as_ref() == Some(member_id);
        } else {
            // A client that knows no skipping would assign anew if it saw that it leads. With the former leader's id it
            // takes itself for a follower and asks for its assignment.
            response.leader = old_leader.unwrap_or_default();
            response.members = Vec::new();
        }
        let member = self.members.get_mut(member_id);
        if let Some(answer) = member.and_then(|member| member.joining.take()) {
            answer.send(response);
        }
    }

    /// Returns what a member is told of the current generation; the leader also, who is in it.
    pub(super) fn joined(&self, member_id: &StrBytes) -> JoinGroupResponse {
        let mut response = JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_type(self.protocol_type.clone())
            .with_protocol_name(self.protocol_name.clone())
            .with_leader(self.leader.clone().unwrap_or_default())
            .with_member_id(member_id.clone());
        if self.leader.as_ref() == Some(member_id) {
            let members = self.members.values().map(|member| {
                JoinGroupResponseMember::default()
                    .with_member_id(member.id.clone())
                    .with_group_instance_id(member.instance.clone())
                    .with_metadata(member.metadata(self.protocol_name.as_ref()))
            });
            response.members = members.collect();
        }
        response
    }
}
