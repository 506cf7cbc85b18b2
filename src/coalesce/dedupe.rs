//! Recognises the same event twice, as a function of the log alone.

use std::collections::HashMap;
use std::mem;

use crate::model::{Offset, Timestamp};

use super::face::DedupeHorizon;
use super::key::{BuildKeyHasher, Key};

/// Remembers the latest occurrence of every event within the horizon.
///
/// Two generations of `records` offsets each: the younger is filled, the older only asked, and when the younger
/// spans the horizon it becomes the older. That covers every occurrence within the horizon, costs no removal per
/// record, and never holds more than two horizons. Nothing is forgotten by time: log times need not ascend, so
/// an old entry may still be near to a later record.
#[derive(Debug)]
pub(super) struct Dedupe {
    horizon: DedupeHorizon,
    younger: Generation,
    older: Generation,
    /// The first offset that `younger` may hold.
    base: Offset,
}

type Generation = HashMap<Key, Occurrence, BuildKeyHasher>;

#[derive(Clone, Copy, Debug)]
struct Occurrence {
    offset: Offset,
    log_time: Timestamp,
}

/// Whether an event was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    First,
    Before,
}

impl Dedupe {
    pub(super) fn new(horizon: DedupeHorizon) -> Self {
        Self {
            horizon,
            younger: Generation::default(),
            older: Generation::default(),
            base: Offset::ZERO,
        }
    }

    /// Remembers an occurrence and says whether the latest earlier one is within the horizon. Offsets ascend.
    pub(super) fn observe(&mut self, occurrence: Key, offset: Offset, log_time: Timestamp) -> Seen {
        let records = u64::from(self.horizon.records);
        if offset.distance_from(self.base) > records {
            mem::swap(&mut self.younger, &mut self.older);
            self.younger.clear();
            self.base = offset;
        }
        let latest = self
            .younger
            .insert(occurrence, Occurrence { offset, log_time })
            .or_else(|| self.older.get(&occurrence).copied());
        debug_assert!(self.younger.len() as u64 <= records + 1);
        let within = latest.is_some_and(|earlier| {
            offset.distance_from(earlier.offset) <= records
                && log_time.saturating_since(earlier.log_time) <= self.horizon.time
        });
        if within { Seen::Before } else { Seen::First }
    }
}
