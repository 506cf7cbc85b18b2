//! The offsets of one group: committed ones, and those that wait for the end of a transaction.
//!
//! They stay until they are deleted, or their topic or group is: Kafka forgets those of a group that has been empty for
//! seven days, and nothing that is in memory for development gets that old.

use std::collections::BTreeMap;

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;

use super::super::transactions::Outcome;

/// Where to go on reading one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) offset: i64,
    /// Epoch of the leader that the last record read came from; -1 if the client did not say.
    pub(super) leader_epoch: i32,
    pub(super) metadata: StrBytes,
}

/// Which of two commits came later decides, not when their transactions ended.
#[derive(Debug)]
struct Stored {
    committed: Committed,
    order: u64,
}

type ByPartition = BTreeMap<TopicName, BTreeMap<i32, Stored>>;

/// All offsets of one group.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    committed: ByPartition,
    /// By the id of the producer whose transaction is open.
    pending: BTreeMap<i64, ByPartition>,
    commits: u64,
}

impl Offsets {
    pub(super) fn commit(&mut self, topic: &TopicName, partition: i32, committed: Committed) {
        let stored = self.next(committed);
        store(&mut self.committed, topic, partition, stored);
    }

    /// Keeps an offset until the transaction of this producer ends.
    pub(super) fn commit_pending(
        &mut self,
        producer_id: i64,
        topic: &TopicName,
        partition: i32,
        committed: Committed,
    ) {
        let stored = self.next(committed);
        store(
            self.pending.entry(producer_id).or_default(),
            topic,
            partition,
            stored,
        );
    }

    pub(super) fn end_transaction(&mut self, producer_id: i64, outcome: Outcome) {
        let Some(pending) = self.pending.remove(&producer_id) else {
            return;
        };
        if outcome == Outcome::Abort {
            return;
        }
        for (topic, partitions) in pending {
            let committed = self.committed.entry(topic).or_default();
            for (partition, stored) in partitions {
                let later = committed
                    .get(&partition)
                    .is_some_and(|other| other.order > stored.order);
                if !later {
                    committed.insert(partition, stored);
                }
            }
        }
    }

    pub(super) fn get(&self, topic: &TopicName, partition: i32) -> Option<&Committed> {
        let stored = self.committed.get(topic)?.get(&partition)?;
        Some(&stored.committed)
    }

    /// Says whether an open transaction holds an offset of this partition.
    pub(super) fn is_pending(&self, topic: &TopicName, partition: i32) -> bool {
        self.pending.values().any(|by_topic| {
            by_topic
                .get(topic)
                .is_some_and(|partitions| partitions.contains_key(&partition))
        })
    }

    /// Returns every partition with a committed offset.
    pub(super) fn partitions(&self) -> impl Iterator<Item = (&TopicName, impl Iterator<Item = i32>)> {
        self.committed
            .iter()
            .map(|(topic, partitions)| (topic, partitions.keys().copied()))
    }

    /// Forgets an offset, and those of open transactions with it.
    pub(super) fn delete(&mut self, topic: &TopicName, partition: i32) {
        for by_topic in self.pending.values_mut().chain([&mut self.committed]) {
            if let Some(partitions) = by_topic.get_mut(topic) {
                partitions.remove(&partition);
                if partitions.is_empty() {
                    by_topic.remove(topic);
                }
            }
        }
    }

    /// Forgets the offsets of a topic that was deleted: one that is created under its name is another topic.
    pub(super) fn delete_topic(&mut self, topic: &TopicName) {
        for by_topic in self.pending.values_mut().chain([&mut self.committed]) {
            by_topic.remove(topic);
        }
    }

    fn next(&mut self, committed: Committed) -> Stored {
        self.commits += 1;
        Stored {
            committed,
            order: self.commits,
        }
    }
}

fn store(by_topic: &mut ByPartition, topic: &TopicName, partition: i32, stored: Stored) {
    match by_topic.get_mut(topic) {
        Some(partitions) => {
            partitions.insert(partition, stored);
        }
        // The name that came in is a slice of a whole request, which it would keep in memory.
        None => {
            let topic = TopicName(super::owned(topic));
            by_topic.insert(topic, BTreeMap::from([(partition, stored)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> TopicName {
        TopicName(StrBytes::from_static_str("orders"))
    }

    fn at(offset: i64) -> Committed {
        Committed {
            offset,
            leader_epoch: -1,
            metadata: StrBytes::from_static_str("note"),
        }
    }

    fn offset(offsets: &Offsets) -> Option<i64> {
        offsets.get(&topic(), 0).map(|committed| committed.offset)
    }

    #[test]
    fn a_transaction_s_offsets_count_once_it_commits() {
        let mut offsets = Offsets::default();
        offsets.commit(&topic(), 0, at(1));
        offsets.commit_pending(7, &topic(), 0, at(5));
        assert_eq!(offset(&offsets), Some(1));
        assert!(offsets.is_pending(&topic(), 0));
        assert!(!offsets.is_pending(&topic(), 1));
        offsets.end_transaction(8, Outcome::Commit);
        assert!(offsets.is_pending(&topic(), 0), "another producer's end");
        offsets.end_transaction(7, Outcome::Commit);
        assert_eq!(offset(&offsets), Some(5));
        assert!(!offsets.is_pending(&topic(), 0));
    }

    #[test]
    fn an_aborted_transaction_leaves_nothing() {
        let mut offsets = Offsets::default();
        offsets.commit_pending(7, &topic(), 0, at(5));
        offsets.end_transaction(7, Outcome::Abort);
        assert_eq!(offset(&offsets), None);
        assert!(!offsets.is_pending(&topic(), 0));
    }

    #[test]
    fn the_later_commit_wins_over_the_later_end_of_a_transaction() {
        let mut offsets = Offsets::default();
        offsets.commit_pending(7, &topic(), 0, at(5));
        offsets.commit(&topic(), 0, at(9));
        offsets.end_transaction(7, Outcome::Commit);
        assert_eq!(offset(&offsets), Some(9));
    }

    #[test]
    fn deleting_takes_pending_offsets_along() {
        let mut offsets = Offsets::default();
        offsets.commit(&topic(), 0, at(1));
        offsets.commit(&topic(), 1, at(1));
        offsets.commit_pending(7, &topic(), 0, at(5));
        offsets.delete(&topic(), 0);
        offsets.end_transaction(7, Outcome::Commit);
        assert_eq!(offset(&offsets), None);
        assert!(offsets.get(&topic(), 1).is_some());
        offsets.delete_topic(&topic());
        assert_eq!(offsets.partitions().count(), 0);
    }
}
