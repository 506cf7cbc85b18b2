//! How often in a row transactions were aborted: those of the worker, and those with each partition.
//!
//! What one partition brings along can make each of its transactions fail for good. It must neither go on for ever because
//! the others commit in between, nor take them with it.

use std::collections::BTreeMap;

use crate::model::Partition;
use crate::observe::Outage;

/// What was aborted and has not been committed since.
#[derive(Debug, Default)]
pub(super) struct Aborts {
    /// Since the worker's last commit, of whatever partitions.
    in_a_row: u32,
    /// Since the last commit that held the partition; only those whose last transaction was aborted.
    of: BTreeMap<Partition, u32>,
    /// What is said of it.
    pub(super) outage: Outage,
}

impl Aborts {
    /// Hears that a transaction with these partitions was aborted.
    pub(super) fn aborted(&mut self, partitions: impl Iterator<Item = Partition>) {
        self.in_a_row += 1;
        for partition in partitions {
            *self.of.entry(partition).or_default() += 1;
        }
    }

    /// Hears that a transaction with these partitions was committed.
    pub(super) fn committed(&mut self, partitions: impl Iterator<Item = Partition>) {
        self.in_a_row = 0;
        for partition in partitions {
            self.of.remove(&partition);
        }
    }

    /// Forgets a partition that is given back. Where it was the last that failed, nothing is said to be over: what is wrong with
    /// it went with it.
    pub(super) fn forget(&mut self, partition: Partition) {
        if self.of.remove(&partition).is_some() && self.of.is_empty() {
            self.outage = Outage::default();
        }
    }

    /// Returns how often in a row whatever has failed most often did.
    pub(super) fn most(&self) -> u32 {
        self.of.values().copied().max().unwrap_or(0).max(self.in_a_row)
    }

    /// Says whether everything that was aborted has been committed.
    pub(super) fn are_over(&self) -> bool {
        self.of.is_empty()
    }

    /// Returns which of `partitions` are committed together: those whose last transaction was aborted each alone, after the
    /// others, and the one that failed most often last.
    pub(super) fn apart(&self, partitions: &[Partition]) -> Vec<Vec<Partition>> {
        let (mut suspects, sound): (Vec<_>, Vec<_>) = partitions
            .iter()
            .copied()
            .partition(|partition| self.of.contains_key(partition));
        suspects.sort_by_key(|partition| self.of[partition]);
        let alone = suspects.into_iter().map(|partition| vec![partition]);
        std::iter::once(sound)
            .filter(|sound| !sound.is_empty())
            .chain(alone)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions<const N: usize>(numbers: [i32; N]) -> [Partition; N] {
        numbers.map(|number| Partition::new(number).expect("not negative"))
    }

    #[test]
    fn a_commit_of_others_does_not_clear_a_partition() {
        let mut aborts = Aborts::default();
        let [zero, one, two] = partitions([0, 1, 2]);
        assert_eq!(aborts.apart(&[zero, one, two]), [[zero, one, two]]);
        aborts.aborted([zero, one].into_iter());
        aborts.aborted([zero].into_iter());
        aborts.committed([two].into_iter());
        assert_eq!(aborts.most(), 2);
        assert_eq!(
            aborts.apart(&[zero, one, two]),
            [[two], [one], [zero]],
            "who failed is alone, and last"
        );
        aborts.committed([one].into_iter());
        assert_eq!(aborts.apart(&[zero, one, two]), [vec![one, two], vec![zero]]);
        assert!(!aborts.are_over());
        aborts.forget(zero);
        assert!(aborts.are_over());
        assert_eq!(aborts.most(), 0);
    }

    #[test]
    fn those_of_many_partitions_count_together_until_a_commit() {
        let mut aborts = Aborts::default();
        for partition in partitions([0, 1, 2]) {
            aborts.aborted([partition].into_iter());
        }
        assert_eq!(aborts.most(), 3, "in a row");
        let [zero] = partitions([0]);
        aborts.committed([zero].into_iter());
        assert_eq!(aborts.most(), 1);
    }
}
