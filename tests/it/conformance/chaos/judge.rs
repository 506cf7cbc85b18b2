//! What a run must have left behind.

use std::collections::BTreeMap;

use super::key_of;

/// How many records are named that are where they should not be.
const SHOWN: usize = 5;

/// One record of the output, as a read-committed reader sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    pub(super) key: usize,
    pub(super) number: usize,
}

/// A run that has ended.
pub(super) struct Judged<'a> {
    /// How many events went in, numbered from zero.
    pub(super) events: usize,
    /// Where each partition of the input ends.
    pub(super) ends: &'a BTreeMap<i32, i64>,
    /// What the group has committed.
    pub(super) committed: &'a BTreeMap<i32, i64>,
    /// The output, in the order of its partitions and offsets.
    pub(super) copies: &'a [Copied],
}

impl Judged<'_> {
    /// Returns what is wrong, one sentence each.
    pub(super) fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut times = vec![0_u32; self.events];
        let mut latest = BTreeMap::new();
        for copy in self.copies {
            match times.get_mut(copy.number) {
                Some(times) if copy.key == key_of(copy.number) => *times += 1,
                _ => found.push(format!("{copy:?} was never an event")),
            }
            if let Some(before) = latest.insert(copy.key, copy.number)
                && before >= copy.number
            {
                found.push(format!("key {}: {} after {before}", copy.key, copy.number));
            }
        }
        let mut told = Vec::new();
        if self.committed != self.ends {
            told.push(format!(
                "committed {:?}, the ends are {:?}",
                self.committed, self.ends
            ));
        }
        let missing = times.iter().filter(|times| **times == 0).count();
        let doubled = times.iter().filter(|times| **times > 1).count();
        if missing > 0 || doubled > 0 {
            told.push(format!(
                "{missing} of {} events are missing, {doubled} doubled",
                self.events
            ));
        }
        // What went wrong once mostly goes wrong for every key.
        told.extend(found.into_iter().take(SHOWN));
        told
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Copied, Judged, key_of};

    fn violations(change: impl FnOnce(&mut Vec<Copied>, &mut BTreeMap<i32, i64>)) -> Vec<String> {
        let ends = BTreeMap::from([(0, 150)]);
        let mut committed = ends.clone();
        let mut copies: Vec<_> = (0..150)
            .map(|number| Copied {
                key: key_of(number),
                number,
            })
            .collect();
        change(&mut copies, &mut committed);
        let judged = Judged {
            events: 150,
            ends: &ends,
            committed: &committed,
            copies: &copies,
        };
        judged.violations()
    }

    #[test]
    fn an_exact_copy_is_right() {
        assert_eq!(violations(|_, _| {}), Vec::<String>::new());
    }

    #[test]
    fn every_damage_is_found() {
        assert_eq!(violations(|copies, _| _ = copies.remove(7)).len(), 1, "lost");
        assert_eq!(violations(|copies, _| copies.push(copies[7])).len(), 2, "doubled");
        assert_eq!(violations(|copies, _| copies.swap(7, 7 + 61)).len(), 1, "swapped");
        assert_eq!(violations(|copies, _| copies[7].key += 1).len(), 2, "another key");
        assert_eq!(
            violations(|_, committed| _ = committed.insert(0, 149)).len(),
            1,
            "behind"
        );
    }
}
