//! How a group gets from one generation to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ConsumerProtocolSubscription;
use kafka_protocol::protocol::StrBytes;

use super::super::super::bounded;
use super::member::refuse_sync;
use super::{CONSUMER, Group, GroupState, Subscriptions};

/// How long a generation that nobody joined is waited for at least. Members may say that they need no time at all; with
/// only static ones left, which stay until their sessions end, such a group would be looked at without a pause.
const RETRY_MIN: Duration = Duration::from_millis(100);

impl Group {
    /// Starts a rebalance, or goes on with the one that is under way.
    pub(super) fn rebalance(&mut self, now: Duration) {
        if self.state == GroupState::PreparingRebalance {
            self.complete_join_if_all_joined(now);
        } else {
            self.prepare(now);
        }
    }

    /// Goes on after members have left or were removed.
    pub(super) fn after_removal(&mut self, now: Duration) {
        if self.state != GroupState::Empty {
            self.rebalance(now);
        }
    }

    fn prepare(&mut self, now: Duration) {
        if self.state == GroupState::CompletingRebalance {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
                if let Some(answer) = member.syncing.take() {
                    refuse_sync(answer, ResponseError::RebalanceInProgress);
                    member.rearm(now);
                }
            }
        }
        self.unsynced.clear();
        self.sync_due = None;
        // With no initial delay, the first one to come is a generation of its own.
        let initial = self.state == GroupState::Empty;
        self.state = GroupState::PreparingRebalance;
        if initial || self.all_joined() {
            self.complete_join(now);
        } else {
            self.join_due = Some(now + self.rebalance_timeout());
        }
    }

    pub(super) fn complete_join_if_all_joined(&mut self, now: Duration) {
        if self.state == GroupState::PreparingRebalance && self.all_joined() {
            self.complete_join(now);
        }
    }

    fn all_joined(&self) -> bool {
        self.promised.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    /// Makes a generation of those who have joined. Of the others, static members may stay away until their sessions end.
    pub(super) fn complete_join(&mut self, now: Duration) {
        self.join_due = None;
        let missing = self
            .members
            .values()
            .filter(|member| member.joining.is_none() && member.instance.is_none());
        let missing: Vec<_> = missing.map(|member| member.id.clone()).collect();
        for member_id in &missing {
            self.remove(member_id);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            self.join_due = Some(now + self.rebalance_timeout().max(RETRY_MIN));
            return;
        }
        self.generation += 1;
        self.unsynced.clear();
        self.protocol_name = self.elect_protocol();
        self.subscriptions = self.read_subscriptions();
        if self.members.is_empty() {
            self.state = GroupState::Empty;
            return;
        }
        self.state = GroupState::CompletingRebalance;
        let answers: Vec<_> = self
            .members
            .values()
            .map(|member| (member.id.clone(), self.joined(&member.id)))
            .collect();
        for (member_id, response) in answers {
            if let Some(member) = self.members.get_mut(&member_id) {
                if let Some(answer) = member.joining.take() {
                    answer.send(response);
                }
                member.rearm(now);
                member.is_new = false;
            }
            self.unsynced.insert(member_id);
        }
        self.sync_due = Some(now + self.rebalance_timeout());
    }

    /// Members that were told the generation and then never asked for their assignment are gone.
    pub(super) fn on_sync_timeout(&mut self, now: Duration) {
        self.sync_due = None;
        let silent = std::mem::take(&mut self.unsynced);
        for member_id in &silent {
            self.remove(member_id);
        }
        if !silent.is_empty() {
            self.after_removal(now);
        }
    }

    fn rebalance_timeout(&self) -> Duration {
        let timeouts = self.members.values().map(|member| member.rebalance_timeout);
        timeouts.max().unwrap_or_default()
    }

    /// Keeps the leader if it has joined, or makes one of those who have; false if nobody has.
    fn elect_joined_leader(&mut self) -> bool {
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if leader.is_some_and(|leader| leader.joining.is_some()) {
            return true;
        }
        let joined = self.members.values().find(|member| member.joining.is_some());
        let Some(joined) = joined else { return false };
        self.leader = Some(joined.id.clone());
        true
    }

    /// Returns the protocol for the next generation: each member votes for the first of its own that everybody has.
    pub(super) fn elect_protocol(&self) -> Option<StrBytes> {
        let mut votes = BTreeMap::<&StrBytes, usize>::new();
        for member in self.members.values() {
            let choice = member
                .protocols
                .iter()
                .find(|protocol| self.everybody_offers(&protocol.name));
            if let Some(choice) = choice {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        votes
            .into_iter()
            .max_by_key(|(_, count)| *count)
            .map(|(name, _)| name.clone())
    }

    pub(super) fn everybody_offers(&self, protocol: &StrBytes) -> bool {
        self.members.values().all(|member| member.offers(protocol))
    }

    fn read_subscriptions(&self) -> Subscriptions {
        if self.protocol_type.as_ref().is_none_or(|kind| *kind != *CONSUMER) {
            return Subscriptions::None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let Some(subscribed) = subscribed_topics(member.metadata(self.protocol_name.as_ref())) else {
                return Subscriptions::Unreadable;
            };
            topics.extend(subscribed.iter().map(|topic| topic.to_string()));
        }
        Subscriptions::Topics(topics)
    }
}

/// Reads the topics out of a consumer's subscription. Version 0 is the beginning of every later one.
fn subscribed_topics(mut metadata: Bytes) -> Option<Vec<StrBytes>> {
    metadata.try_get_i16().ok()?;
    let subscription: ConsumerProtocolSubscription = bounded::decode_classic(metadata, 0).ok()?;
    Some(subscription.topics)
}
