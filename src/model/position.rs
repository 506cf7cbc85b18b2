//! Where a record stands: its partition and its offset.

use std::fmt;

/// A partition number of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(i32);

impl Partition {
    /// Takes the number that Kafka gives; `None` when it is negative (Kafka's "unassigned").
    pub fn new(number: i32) -> Option<Self> {
        (number >= 0).then_some(Self(number))
    }

    /// Returns the number as Kafka's protocol carries it.
    pub fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A position in one partition: of a record, or the *next* one to read (a committed offset, a position).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(i64);

impl Offset {
    /// The first offset a partition can have.
    pub const ZERO: Self = Self(0);

    /// Takes the number that Kafka gives; `None` when it is negative (Kafka's symbolic offsets).
    pub fn new(number: i64) -> Option<Self> {
        (number >= 0).then_some(Self(number))
    }

    /// Returns the number as Kafka's protocol carries it.
    pub fn number(self) -> i64 {
        self.0
    }

    /// Returns the offset after this one: the only place that adds one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(
            self.0
                .checked_add(1)
                .expect("a partition never holds 2^63 records"),
        )
    }

    /// Returns the offset `records` before this one, not below zero.
    #[must_use]
    pub fn back(self, records: u32) -> Self {
        Self((self.0 - i64::from(records)).max(0))
    }

    /// Returns how many offsets lie from `earlier` up to this one; zero when `earlier` is not earlier.
    pub fn distance_from(self, earlier: Self) -> u64 {
        u64::try_from(self.0 - earlier.0).unwrap_or(0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
