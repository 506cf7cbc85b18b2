//! What was learned of schema ids; bounded, the oldest entry goes first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::wire::SchemaId;

/// How many ids are kept. A topic has a handful of schemas; the bound is against records that name ids at random.
const IDS_MAX: usize = 256;
/// How long an id stays unknown without asking again: long enough that a batch of bad records asks once, short enough
/// that a registry restored from a backup is believed soon.
const ABSENT_FOR: Duration = Duration::from_secs(30);

/// When something was asked: the time since the cache was made, by the monotonic clock.
pub(super) type Asked = Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cached {
    /// Never changes: an id names one schema for ever.
    Schema(Arc<str>),
    /// The registry had none when it was asked.
    Absent(Asked),
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    by_id: HashMap<SchemaId, Cached>,
    /// The ids in the order in which they came.
    order: VecDeque<SchemaId>,
}

impl Cache {
    /// Returns what is known at `now`.
    pub(super) fn find(&self, id: SchemaId, now: Asked) -> Option<Cached> {
        let known = self.by_id.get(&id)?;
        let stale = matches!(known, Cached::Absent(asked) if now.saturating_sub(*asked) >= ABSENT_FOR);
        (!stale).then(|| known.clone())
    }

    /// Takes what was learned.
    pub(super) fn insert(&mut self, id: SchemaId, cached: Cached) {
        if self.by_id.insert(id, cached).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > IDS_MAX {
            self.forget_one();
        }
    }

    /// Forgets the oldest id that the registry did not know, else the oldest: bad records must not push out good schemas.
    fn forget_one(&mut self) {
        let absent = |id: &SchemaId| matches!(self.by_id.get(id), Some(Cached::Absent(_)));
        let at = self.order.iter().position(absent).unwrap_or(0);
        if let Some(id) = self.order.remove(at) {
            self.by_id.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_is_believed_for_a_while_only() {
        let asked = Duration::from_secs(100);
        let mut cache = Cache::default();
        cache.insert(SchemaId(1), Cached::Absent(asked));
        let just_before = asked + ABSENT_FOR - Duration::from_nanos(1);
        assert_eq!(cache.find(SchemaId(1), just_before), Some(Cached::Absent(asked)));
        assert_eq!(cache.find(SchemaId(1), asked + ABSENT_FOR), None);
        cache.insert(SchemaId(1), Cached::Schema("s".into()));
        let for_ever = Duration::MAX;
        assert_eq!(
            cache.find(SchemaId(1), for_ever),
            Some(Cached::Schema("s".into()))
        );
        assert_eq!(cache.find(SchemaId(2), asked), None);
    }

    #[test]
    fn bad_ids_do_not_push_out_schemas() {
        let mut cache = Cache::default();
        let now = Duration::ZERO;
        cache.insert(SchemaId(0), Cached::Schema("s".into()));
        for id in 1..10_000 {
            cache.insert(SchemaId(id), Cached::Absent(now));
        }
        assert_eq!(cache.by_id.len(), IDS_MAX);
        assert_eq!(cache.order.len(), IDS_MAX);
        assert_eq!(cache.find(SchemaId(0), now), Some(Cached::Schema("s".into())));
        for id in 10_000..20_000 {
            cache.insert(SchemaId(id), Cached::Schema("s".into()));
        }
        assert_eq!(cache.by_id.len(), IDS_MAX);
        assert_eq!(
            cache.find(SchemaId(0), now),
            None,
            "the oldest goes when all are good"
        );
    }
}
