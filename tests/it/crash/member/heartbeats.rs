//! Its place in the group: joins, heartbeats, and the rebalances that their answers ask for.

use std::collections::BTreeSet;

use frontstream::consume::{Error, Input};
use frontstream::model::Partition;
use rdkafka::error::RDKafkaErrorCode as Code;

use super::super::broker::Broker;
use super::super::group::{Claim, Group, Protocol};
use super::super::planted::Planted;
use super::{Member, Place, Read};

/// A rebalance that the worker is to answer.
#[derive(Clone, Debug)]
pub(super) enum Rebalance {
    Assigned(BTreeSet<Partition>),
    Revoked(BTreeSet<Partition>),
    Lost(BTreeSet<Partition>),
}

impl Member {
    /// Does what librdkafka's own thread does: heartbeats, and what their answers ask for.
    pub(super) fn hear(&self) -> Result<(), Error> {
        let mut broker = self.world.broker.borrow_mut();
        broker.pass();
        let place = &mut *self.place.borrow_mut();
        if !self.client.is_heard() || place.unanswered || !place.rebalances.is_empty() || place.closed {
            return Ok(());
        }
        let now_us = broker.now_us;
        let Broker { group, story, .. } = &mut *broker;
        let Some(id) = place.id else {
            if place.closing {
                place.closed = true;
            } else if place.wants {
                place.id = group.join(&self.client, self.instance.as_deref(), now_us, story);
                (place.epoch, place.lost, place.rejoins) = (0, false, false);
                if place.id.is_none() {
                    story.count("instance id not released");
                    return Err(self.refused("read", Code::UnreleasedInstanceId));
                }
            }
            return Ok(());
        };
        let claim = Claim {
            member: id,
            epoch: place.epoch,
            instance: self.instance.clone(),
        };
        if !group.members.contains_key(&id) {
            if group.is_held_by_another(&claim) {
                story.count("fenced static member");
                // There is no place to leave.
                place.closed = place.closing;
                return Err(self.refused("read", Code::FencedInstanceId));
            }
            place.id = None;
            if !place.owned.is_empty() {
                story.count("lost assignment");
                place.lost = true;
                place.rebalances.push_back(Rebalance::Lost(place.owned.clone()));
            }
            return Ok(());
        }
        if !place.wants {
            if place.owned.is_empty() {
                self.leave(place, group, now_us);
            } else {
                place
                    .rebalances
                    .push_back(Rebalance::Revoked(place.owned.clone()));
            }
            return Ok(());
        }
        match group.protocol {
            Protocol::Eager | Protocol::Cooperative => self.hear_classic(place, &mut broker, id),
            Protocol::Consumer => self.hear_consumer(place, &mut broker, id),
        }
        Ok(())
    }

    /// Nothing is held and nothing is wanted. The place of a static member is kept for its return.
    pub(super) fn leave(&self, place: &mut Place, group: &mut Group, now_us: u64) {
        if self.instance.is_some() {
            place.rejoins = true;
            if let Some(id) = place.id {
                group.leave_for_now(id);
            }
        } else if let Some(id) = place.id.take() {
            group.leave(id, now_us);
        }
        place.closed = place.closing;
    }

    fn hear_classic(&self, place: &mut Place, broker: &mut Broker, id: u64) {
        let now_us = broker.now_us;
        let group = &mut broker.group;
        let eager = group.protocol == Protocol::Eager;
        let joined = group.members[&id].joined;
        if group.preparing_until_us.is_some() && !joined {
            if eager && !place.owned.is_empty() {
                place
                    .rebalances
                    .push_back(Rebalance::Revoked(place.owned.clone()));
            } else {
                group.rejoin(id, place.owned.clone(), now_us);
                place.rejoins = false;
            }
            return;
        }
        if group.preparing_until_us.is_none() && group.members[&id].epoch != place.epoch {
            let member = &group.members[&id];
            place.epoch = member.epoch;
            let assigned = member.assigned.clone();
            let revoked: BTreeSet<_> = place.owned.difference(&assigned).copied().collect();
            let added: BTreeSet<_> = assigned.difference(&place.owned).copied().collect();
            if !revoked.is_empty() {
                place.rebalances.push_back(Rebalance::Revoked(revoked));
                place.rejoins = true;
            }
            if eager || !added.is_empty() {
                place.rebalances.push_back(Rebalance::Assigned(added));
            }
        } else if place.rejoins {
            place.rejoins = false;
            group.rejoin(id, place.owned.clone(), now_us);
        }
    }

    fn hear_consumer(&self, place: &mut Place, broker: &mut Broker, id: u64) {
        let surplus = broker.group.surplus(id, &place.owned);
        if !surplus.is_empty() {
            place.rebalances.push_back(Rebalance::Revoked(surplus));
            return;
        }
        let added = broker.group.reconcile(id, &place.owned);
        place.epoch = broker.group.members[&id].epoch;
        if !added.is_empty() {
            place.rebalances.push_back(Rebalance::Assigned(added));
        }
    }

    pub(super) fn next_rebalance(&self) -> Option<Input<Read>> {
        let mut place = self.place.borrow_mut();
        if place.unanswered {
            return None;
        }
        let rebalance = place.rebalances.pop_front()?;
        if self.world.planted() == Planted::AssignmentNotTold
            && matches!(rebalance, Rebalance::Assigned(_))
            && self.world.below(8) == 0
        {
            return None;
        }
        place.unanswered = true;
        let list = |partitions: &BTreeSet<Partition>| partitions.iter().copied().collect();
        Some(match &rebalance {
            Rebalance::Assigned(partitions) => {
                self.world
                    .tell(|| format!("  {} is assigned {partitions:?}", self.client.seat));
                self.world.count("assignment");
                Input::Assigned(list(partitions))
            }
            Rebalance::Revoked(partitions) => {
                self.world
                    .tell(|| format!("  {} is to give back {partitions:?}", self.client.seat));
                self.world.count("revocation");
                Input::Revoked(list(partitions))
            }
            Rebalance::Lost(partitions) => Input::Lost(list(partitions)),
        })
    }
}
