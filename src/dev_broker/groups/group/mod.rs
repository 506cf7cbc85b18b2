//! One classic group as a state machine: members, generations, who waits for what.
//!
//! Time is an argument and so is every random id. A request that has to wait leaves its answer with its member; the
//! request or the timer that decides it sends it. The rules are those of Apache Kafka's `ClassicGroup` and
//! `GroupMetadataManager` (4.3) with `group.initial.rebalance.delay.ms=0` and no limit on the size of a group.

mod join;
mod member;
mod rebalance;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::sync_group_response::SyncGroupResponse;
use kafka_protocol::protocol::StrBytes;

pub(super) use join::Join;
pub(super) use member::{JoinAnswer, Member, Protocol, SyncAnswer, refuse_sync};

/// The protocol type of consumers: the broker can read what their members subscribe to.
pub(super) const CONSUMER: &str = "consumer";

/// Where a group stands. A group that was deleted is not kept, so there is no `Dead`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupState {
    /// No members; perhaps offsets.
    Empty,
    /// Waits for its members to join.
    PreparingRebalance,
    /// Waits for the leader's assignment.
    CompletingRebalance,
    /// Members have their assignments.
    Stable,
}

impl GroupState {
    /// Returns what Kafka and its tools call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// Which members' subscriptions the broker could read.
#[derive(Debug, PartialEq, Eq)]
enum Subscriptions {
    /// The group is not one of consumers, so nothing keeps an offset.
    None,
    Topics(BTreeSet<String>),
    /// They could not be read: any topic may be among them.
    Unreadable,
}

/// What a SyncGroup says.
#[derive(Debug)]
pub(super) struct Sync {
    pub(super) member_id: StrBytes,
    pub(super) instance: Option<StrBytes>,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<StrBytes>,
    pub(super) protocol_name: Option<StrBytes>,
    /// By member id; empty unless the leader sends it.
    pub(super) assignments: BTreeMap<StrBytes, Bytes>,
}

/// How offsets are committed: what must hold differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commit {
    Plain,
    InTransaction,
}

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    state: GroupState,
    generation: i32,
    protocol_type: Option<StrBytes>,
    protocol_name: Option<StrBytes>,
    leader: Option<StrBytes>,
    members: BTreeMap<StrBytes, Member>,
    /// Member ids of static members by their instance ids.
    statics: BTreeMap<StrBytes, StrBytes>,
    /// Ids that were given out and with which nobody has joined yet, and how long they are kept.
    promised: BTreeMap<StrBytes, Duration>,
    /// Members that were told the current generation and have not sent SyncGroup for it.
    unsynced: BTreeSet<StrBytes>,
    subscriptions: Subscriptions,
    join_due: Option<Duration>,
    sync_due: Option<Duration>,
}

impl Group {
    pub(super) fn new() -> Self {
        Self {
            state: GroupState::Empty,
            generation: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            promised: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            subscriptions: Subscriptions::None,
            join_due: None,
            sync_due: None,
        }
    }

    pub(super) fn state(&self) -> GroupState {
        self.state
    }

    pub(super) fn protocol_type(&self) -> Option<&StrBytes> {
        self.protocol_type.as_ref()
    }

    pub(super) fn protocol_name(&self) -> Option<&StrBytes> {
        self.protocol_name.as_ref()
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Says whether the offsets of a topic are in use by the group's members.
    pub(super) fn subscribes_to(&self, topic: &str) -> bool {
        match &self.subscriptions {
            Subscriptions::None => false,
            Subscriptions::Topics(topics) => topics.contains(topic),
            Subscriptions::Unreadable => true,
        }
    }

    /// Takes the leader's assignment, or waits for it.
    pub(super) fn sync(&mut self, sync: Sync, answer: SyncAnswer, now: Duration) {
        if let Err(error) = self.admit_sync(&sync) {
            return refuse_sync(answer, error);
        }
        self.unsynced.remove(&sync.member_id);
        if self.unsynced.is_empty() {
            self.sync_due = None;
        }
        let Some(member) = self.members.get_mut(&sync.member_id) else {
            return refuse_sync(answer, ResponseError::UnknownMemberId);
        };
        if let Some(replaced) = member.syncing.replace(answer) {
            // The client gave up on that request and asked again: only one of the two can be waited for.
            refuse_sync(replaced, ResponseError::RebalanceInProgress);
        }
        if self.state == GroupState::Stable {
            self.send_assignments(now);
        } else if self.leader.as_ref() == Some(&sync.member_id) {
            let mut assignments = sync.assignments;
            for member in self.members.values_mut() {
                member.assignment = assignments.remove(&member.id).unwrap_or_default();
            }
            self.state = GroupState::Stable;
            self.send_assignments(now);
        }
    }

    /// Notes that a member lives.
    ///
    /// # Errors
    ///
    /// It is not one, or of another generation, or has to join again: the error to answer with.
    pub(super) fn heartbeat(
        &mut self,
        member_id: &StrBytes,
        instance: Option<&StrBytes>,
        generation: i32,
        now: Duration,
    ) -> Result<(), ResponseError> {
        self.check_member(member_id, instance)?;
        self.check_generation(generation)?;
        self.touch(member_id, now);
        match self.state {
            GroupState::Empty => Err(ResponseError::UnknownMemberId),
            GroupState::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        }
    }

    /// Removes members, each known by its id or by its instance id alone, and says how it went for each.
    pub(super) fn leave(
        &mut self,
        leaving: &[(StrBytes, Option<StrBytes>)],
        now: Duration,
    ) -> Vec<Result<(), ResponseError>> {
        let left: Vec<_> = leaving
            .iter()
            .map(|(member_id, instance)| self.leave_one(member_id, instance.as_ref()))
            .collect();
        if left.iter().any(Result::is_ok) {
            self.after_removal(now);
        }
        left
    }

    fn leave_one(&mut self, member_id: &StrBytes, instance: Option<&StrBytes>) -> Result<(), ResponseError> {
        if member_id.is_empty() {
            // Whoever administers the group knows no member ids.
            let current = instance.and_then(|instance| self.statics.get(instance)).cloned();
            self.remove(&current.ok_or(ResponseError::UnknownMemberId)?);
            return Ok(());
        }
        if self.promised.remove(member_id).is_some() {
            return Ok(());
        }
        self.check_member(member_id, instance)?;
        self.remove(member_id);
        Ok(())
    }

    /// Says whether whoever sends this may commit offsets now. Without a generation it is somebody outside: a tool, or a
    /// consumer that assigns itself its partitions.
    ///
    /// # Errors
    ///
    /// It may not: the error to answer with.
    pub(super) fn admit_commit(
        &self,
        commit: Commit,
        member_id: &StrBytes,
        instance: Option<&StrBytes>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        if generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance.is_some() {
            self.check_member(member_id, instance)?;
            self.check_generation(generation)?;
        } else if commit == Commit::Plain {
            return Err(ResponseError::UnknownMemberId);
        }
        if commit == Commit::Plain && self.state == GroupState::CompletingRebalance {
            return Err(ResponseError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Takes a member's commit as a sign of life.
    pub(super) fn touch(&mut self, member_id: &StrBytes, now: Duration) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.rearm(now);
        }
    }

    /// Returns when the earliest session, join or sync times out.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let sessions = self.members.values().filter_map(|member| member.session_due);
        let promises = self.promised.values().copied();
        sessions
            .chain(promises)
            .chain(self.join_due)
            .chain(self.sync_due)
            .min()
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, now: Duration) {
        while let Some(due) = self.next_deadline().filter(|due| *due <= now) {
            self.on_deadline(due, now);
        }
    }

    /// Runs one of the timers that are due at `due`, which takes it away or sets it later than `now`.
    fn on_deadline(&mut self, due: Duration, now: Duration) {
        if self.join_due == Some(due) {
            return self.complete_join(now);
        }
        if self.sync_due == Some(due) {
            return self.on_sync_timeout(now);
        }
        let promised = self.promised.iter().find(|(_, kept)| **kept == due);
        if let Some(member_id) = promised.map(|(member_id, _)| member_id.clone()) {
            self.promised.remove(&member_id);
            return self.complete_join_if_all_joined(now);
        }
        let silent = self
            .members
            .values_mut()
            .find(|member| member.session_due == Some(due));
        if let Some(member) = silent {
            member.session_due = None;
            if !member.may_be_silent() {
                let member_id = member.id.clone();
                self.remove(&member_id);
                self.after_removal(now);
            }
        }
    }

    fn admit_sync(&self, sync: &Sync) -> Result<(), ResponseError> {
        self.check_member(&sync.member_id, sync.instance.as_ref())?;
        self.check_generation(sync.generation)?;
        if differ(sync.protocol_type.as_ref(), self.protocol_type.as_ref())
            || differ(sync.protocol_name.as_ref(), self.protocol_name.as_ref())
        {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        if self.state == GroupState::PreparingRebalance {
            return Err(ResponseError::RebalanceInProgress);
        }
        Ok(())
    }

    fn check_member(&self, member_id: &StrBytes, instance: Option<&StrBytes>) -> Result<(), ResponseError> {
        if let Some(instance) = instance {
            let current = self.statics.get(instance).ok_or(ResponseError::UnknownMemberId)?;
            if current != member_id {
                return Err(ResponseError::FencedInstanceId);
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ResponseError::UnknownMemberId)
        }
    }

    fn check_generation(&self, generation: i32) -> Result<(), ResponseError> {
        if generation == self.generation {
            Ok(())
        } else {
            Err(ResponseError::IllegalGeneration)
        }
    }

    /// Sends everybody who waits for it its assignment; their sessions start anew, since nobody who waited sent
    /// heartbeats.
    fn send_assignments(&mut self, now: Duration) {
        let response = SyncGroupResponse::default()
            .with_protocol_type(self.protocol_type.clone())
            .with_protocol_name(self.protocol_name.clone());
        for member in self.members.values_mut() {
            if let Some(answer) = member.syncing.take() {
                // Nobody waits any more: the client hung up, and its session will tell.
                drop(answer.send(response.clone().with_assignment(member.assignment.clone())));
                member.rearm(now);
            }
        }
    }

    /// Removes a member. Whatever it waits for is answered: it may join again under another id.
    fn remove(&mut self, member_id: &StrBytes) {
        if let Some(mut member) = self.members.remove(member_id) {
            member.dismiss(ResponseError::UnknownMemberId, &StrBytes::new());
            if let Some(instance) = &member.instance {
                self.statics.remove(instance);
            }
        }
        if self.leader.as_ref() == Some(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.unsynced.remove(member_id);
    }
}

fn differ(said: Option<&StrBytes>, agreed: Option<&StrBytes>) -> bool {
    matches!((said, agreed), (Some(said), Some(agreed)) if said != agreed)
}
