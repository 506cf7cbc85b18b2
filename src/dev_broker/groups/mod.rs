//! The group coordinator: members, generations, committed offsets.
//!
//! [`group`] is one group as a state machine without clock or randomness, [`offsets`] what it has committed. The handlers
//! are in [`membership`], [`commits`], [`committed`] and [`admin`]. There are classic groups only; those of KIP-848 are not offered. A
//! group exists from its first join or commit until it is deleted, also while it is empty.

mod admin;
mod commits;
mod committed;
mod group;
mod membership;
mod offsets;

pub(super) use admin::{delete_groups, describe_groups, find_coordinator, list_groups};
pub(super) use commits::{offset_commit, offset_delete, txn_offset_commit};
pub(super) use committed::offset_fetch;
pub(super) use membership::{heartbeat, join_group, leave_group, sync_group};

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;

use super::clock::Now;
use super::transactions::Outcome;
use group::Group;
use offsets::Offsets;

/// A group and its offsets.
struct Entry {
    group: Group,
    offsets: Offsets,
}

/// Every group.
pub(super) struct Groups {
    entries: BTreeMap<StrBytes, Entry>,
}

impl Groups {
    pub(super) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
        }
    }

    /// Returns when the earliest session or rebalance times out.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let deadlines = self
            .entries
            .values()
            .filter_map(|entry| entry.group.next_deadline());
        deadlines.min()
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, now: Now) {
        for entry in self.entries.values_mut() {
            entry.group.on_time(now.elapsed);
        }
    }

    /// Takes over, or drops, the offsets that `producer_id` committed to `group` in its transaction that ended.
    pub(super) fn end_transaction(&mut self, group: &str, producer_id: i64, outcome: Outcome) {
        if let Some(entry) = self.entries.get_mut(group.as_bytes()) {
            entry.offsets.end_transaction(producer_id, outcome);
        }
    }

    /// Drops what was committed for a topic that is deleted.
    pub(super) fn forget_topic(&mut self, topic: &str) {
        let topic = TopicName(owned(topic));
        for entry in self.entries.values_mut() {
            entry.offsets.delete_topic(&topic);
        }
    }

    fn get(&self, group: &StrBytes) -> Option<&Entry> {
        self.entries.get(group)
    }

    fn get_mut(&mut self, group: &StrBytes) -> Option<&mut Entry> {
        self.entries.get_mut(group)
    }

    fn get_or_create(&mut self, group: &StrBytes) -> &mut Entry {
        self.entries.entry(owned(group)).or_insert_with(|| Entry {
            group: Group::new(),
            offsets: Offsets::default(),
        })
    }
}

/// Copies text out of the request it came with: what is kept would keep the whole request in memory otherwise.
fn owned(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
