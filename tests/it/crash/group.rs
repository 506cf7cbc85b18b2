//! The group coordinator: generations of the classic protocol, eager and cooperative, and the epochs of KIP-848's.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use frontstream::model::Partition;

use super::client::Client;
use super::story::Story;

/// How long a classic rebalance waits for members that are heard of and do not join.
const REBALANCE_TIMEOUT_US: u64 = 300_000_000;

/// How the members share the partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Classic: everybody gives everything back before each generation.
    Eager,
    /// Classic: only what moves is given back.
    Cooperative,
    /// KIP-848: the coordinator reconciles each member on its own.
    Consumer,
}

/// What a member says of itself when it commits.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) member: u64,
    pub(super) epoch: u32,
    pub(super) instance: Option<String>,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Someone newer has the identity.
    Fenced,
    /// The generation, the member or the transaction is not the current one.
    Stale,
    /// The coordinator has ended the transaction for time, and with it this producer.
    Expired,
    /// Ask again.
    Busy,
}

pub(super) struct Member {
    client: Rc<Client>,
    instance: Option<String>,
    seen_us: u64,
    /// The generation, or the member epoch, that it has been told.
    pub(super) epoch: u32,
    /// Classic: has joined the generation that is being made.
    pub(super) joined: bool,
    /// Cooperative: what it says it holds.
    owned: BTreeSet<Partition>,
    pub(super) assigned: BTreeSet<Partition>,
    /// KIP-848: a static member has left for a while, so that another process may take its place.
    released: bool,
    /// KIP-848: the epoch at which each partition was assigned.
    since: BTreeMap<Partition, u32>,
}

pub(super) struct Group {
    pub(super) protocol: Protocol,
    /// A member that is not heard of for longer is removed.
    session_timeout_us: u64,
    pub(super) epoch: u32,
    pub(super) members: BTreeMap<u64, Member>,
    /// Classic: until when the members may join.
    pub(super) preparing_until_us: Option<u64>,
    target: BTreeMap<u64, BTreeSet<Partition>>,
    partitions: usize,
    ids: u64,
}

impl Group {
    pub(super) fn new(protocol: Protocol, session_timeout_us: u64) -> Self {
        Self {
            protocol,
            session_timeout_us,
            epoch: 0,
            members: BTreeMap::new(),
            preparing_until_us: None,
            target: BTreeMap::new(),
            partitions: 0,
            ids: 0,
        }
    }

    pub(super) fn pass(&mut self, now_us: u64, partitions: usize, story: &mut Story) {
        let mut expired = Vec::new();
        for (id, member) in &mut self.members {
            if member.client.is_heard() {
                member.seen_us = now_us;
            } else if now_us - member.seen_us > self.session_timeout_us {
                expired.push(*id);
            }
        }
        for id in expired {
            self.members.remove(&id);
            story.count("member expired");
            self.change(now_us);
        }
        if self.partitions != partitions {
            self.partitions = partitions;
            if !self.members.is_empty() {
                self.change(now_us);
            }
        }
        let all_joined = self.members.values().all(|member| member.joined);
        if self
            .preparing_until_us
            .is_some_and(|until_us| all_joined || now_us >= until_us)
        {
            self.members.retain(|_, member| member.joined);
            self.begin_generation();
            story.count("rebalance");
        }
    }

    /// Takes a member in; a static one takes the place that it left. Returns its id; `None`: another has the place.
    pub(super) fn join(
        &mut self,
        client: &Rc<Client>,
        instance: Option<&str>,
        now_us: u64,
        story: &mut Story,
    ) -> Option<u64> {
        self.ids += 1;
        let id = self.ids;
        let place = instance.and_then(|instance| {
            let mut members = self.members.iter();
            let held = members.find(|(_, member)| member.instance.as_deref() == Some(instance));
            held.map(|(id, _)| *id)
        });
        let mut member = Member {
            client: Rc::clone(client),
            instance: instance.map(ToOwned::to_owned),
            seen_us: now_us,
            epoch: 0,
            joined: true,
            owned: BTreeSet::new(),
            assigned: BTreeSet::new(),
            released: false,
            since: BTreeMap::new(),
        };
        if self.protocol == Protocol::Consumer {
            if place.is_some_and(|place| !self.members[&place].released) {
                return None;
            }
            if let Some(place) = place {
                self.members.remove(&place);
            }
        } else if let Some(before) = place.and_then(|place| self.members.remove(&place)) {
            if before.client.is_heard() {
                story.count("instance id taken by a second process");
            }
            if self.preparing_until_us.is_none() && before.epoch == self.epoch {
                story.count("assignment handed to a returning static member");
                (member.epoch, member.assigned) = (self.epoch, before.assigned);
                self.members.insert(id, member);
                return Some(id);
            }
        }
        self.members.insert(id, member);
        self.change(now_us);
        Some(id)
    }

    /// Classic: joins the generation that is being made.
    pub(super) fn rejoin(&mut self, id: u64, owned: BTreeSet<Partition>, now_us: u64) {
        if self.preparing_until_us.is_none() {
            self.change(now_us);
        }
        let member = self.members.get_mut(&id).expect("it was looked up");
        (member.joined, member.owned) = (true, owned);
    }

    /// A static member leaves: its place is kept for its return.
    pub(super) fn leave_for_now(&mut self, id: u64) {
        if let Some(member) = self.members.get_mut(&id) {
            member.released = true;
            if self.protocol == Protocol::Consumer {
                member.assigned.clear();
                member.since.clear();
            }
        }
    }

    pub(super) fn leave(&mut self, id: u64, now_us: u64) {
        if self.members.remove(&id).is_some() {
            self.change(now_us);
        }
    }

    /// KIP-848: a member holds `owned` and nothing else; tells it what it may take besides.
    pub(super) fn reconcile(&mut self, id: u64, owned: &BTreeSet<Partition>) -> BTreeSet<Partition> {
        let target = self.target.get(&id).cloned().unwrap_or_default();
        let taken: BTreeSet<Partition> = self
            .members
            .iter()
            .filter(|(other, _)| **other != id)
            .flat_map(|(_, member)| member.assigned.iter().copied())
            .collect();
        let free: BTreeSet<Partition> = target
            .iter()
            .copied()
            .filter(|partition| !taken.contains(partition) && !owned.contains(partition))
            .collect();
        let epoch = self.epoch;
        let member = self.members.get_mut(&id).expect("it was looked up");
        (member.epoch, member.released) = (epoch, false);
        member.assigned = owned.union(&free).copied().collect();
        member.since.retain(|partition, _| owned.contains(partition));
        for partition in &free {
            member.since.insert(*partition, epoch);
        }
        free
    }

    /// KIP-848: what a member is to give back.
    pub(super) fn surplus(&self, id: u64, owned: &BTreeSet<Partition>) -> BTreeSet<Partition> {
        let target = self.target.get(&id).cloned().unwrap_or_default();
        owned.difference(&target).copied().collect()
    }

    /// Says whether a member may commit offsets of `partitions`.
    pub(super) fn admit(
        &self,
        claim: &Claim,
        mut partitions: impl Iterator<Item = Partition>,
        story: &mut Story,
    ) -> Result<(), Refused> {
        let Some(member) = self.members.get(&claim.member) else {
            if self.is_held_by_another(claim) {
                story.count("fenced static member");
                return Err(Refused::Fenced);
            }
            story.count("stale member refused");
            return Err(Refused::Stale);
        };
        let current = match self.protocol {
            Protocol::Eager | Protocol::Cooperative => claim.epoch == self.epoch,
            // KIP-1251: an epoch that is not older than the assignment of the partition.
            Protocol::Consumer => partitions.all(|partition| {
                let since = member.since.get(&partition);
                since.is_some_and(|since| *since <= claim.epoch && claim.epoch <= member.epoch)
            }),
        };
        if current {
            return Ok(());
        }
        story.count("stale member refused");
        Err(Refused::Stale)
    }

    pub(super) fn is_held_by_another(&self, claim: &Claim) -> bool {
        let mut members = self.members.iter();
        claim.instance.is_some()
            && members.any(|(id, member)| *id != claim.member && member.instance == claim.instance)
    }

    /// Says whether everybody has what the coordinator wants, and nobody is missing.
    pub(super) fn is_settled(&self) -> bool {
        self.preparing_until_us.is_none()
            && self.members.values().all(|member| member.client.is_heard())
            && match self.protocol {
                Protocol::Eager | Protocol::Cooperative => true,
                Protocol::Consumer => {
                    let mut members = self.members.iter();
                    members.all(|(id, member)| self.target.get(id) == Some(&member.assigned))
                }
            }
    }

    /// Describes where it stands, for the report of a run that failed.
    pub(super) fn describe(&self) -> String {
        let members = self.members.iter().map(|(id, member)| {
            let Member {
                epoch,
                joined,
                owned,
                assigned,
                ..
            } = member;
            format!("member {id}: epoch {epoch} joined {joined} owned {owned:?} assigned {assigned:?}")
        });
        let members = members.collect::<Vec<_>>().join("\n");
        format!(
            "{:?} {} preparing {:?}\n{members}",
            self.protocol, self.epoch, self.preparing_until_us
        )
    }

    /// Members or partitions have changed.
    pub(super) fn change(&mut self, now_us: u64) {
        match self.protocol {
            Protocol::Eager | Protocol::Cooperative => {
                if self.preparing_until_us.is_none() {
                    self.preparing_until_us = Some(now_us + REBALANCE_TIMEOUT_US);
                    for member in self.members.values_mut() {
                        // One that has not been told of any generation yet waits for its first.
                        member.joined = member.epoch == 0;
                    }
                }
            }
            Protocol::Consumer => {
                self.epoch += 1;
                let held = self
                    .members
                    .iter()
                    .map(|(id, member)| (*id, member.assigned.clone()));
                self.target = share(self.partitions, &held.collect());
            }
        }
    }

    fn begin_generation(&mut self) {
        self.preparing_until_us = None;
        self.epoch += 1;
        let held: BTreeMap<u64, BTreeSet<Partition>> = self
            .members
            .iter()
            .map(|(id, member)| (*id, member.owned.clone()))
            .collect();
        let shares = share(self.partitions, &held);
        for (id, mut share) in shares {
            if self.protocol == Protocol::Cooperative {
                // What another still holds is given back first, and assigned in the next generation.
                share.retain(|partition| {
                    let mut others = held.iter().filter(|(other, _)| **other != id);
                    !others.any(|(_, owned)| owned.contains(partition))
                });
            }
            let member = self.members.get_mut(&id).expect("it was shared among them");
            (member.epoch, member.joined, member.assigned) = (self.epoch, false, share);
        }
    }
}

/// Shares partitions evenly; who holds one keeps it as far as that goes.
fn share(partitions: usize, held: &BTreeMap<u64, BTreeSet<Partition>>) -> BTreeMap<u64, BTreeSet<Partition>> {
    let mut shares: BTreeMap<u64, BTreeSet<Partition>> =
        held.keys().map(|id| (*id, BTreeSet::new())).collect();
    if shares.is_empty() {
        return shares;
    }
    let most = partitions.div_ceil(shares.len());
    let mut free: BTreeSet<Partition> = (0..partitions)
        .map(|number| Partition::new(i32::try_from(number).expect("few")).expect("not negative"))
        .collect();
    for (id, share) in &mut shares {
        for partition in &held[id] {
            if share.len() < most && free.remove(partition) {
                share.insert(*partition);
            }
        }
    }
    for partition in free {
        let least = shares.values_mut().min_by_key(|share| share.len());
        least.expect("there are members").insert(partition);
    }
    shares
}
