//! What goes into a coalescer and what comes out.

use std::time::Duration;

use crate::model::{Change, Lanes, Offset, Refresh, Timestamp};

/// Everything that bounds a coalescer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long windows wait, per priority.
    pub lanes: Lanes,
    /// Largest commit metadata the broker takes; at least [`Limits::METADATA_BYTES_MIN`].
    pub metadata_bytes_max: usize,
    /// Event ids a refresh names; zero names none.
    pub event_ids_max: usize,
    /// How far back the same event is recognised.
    pub dedupe: DedupeHorizon,
    /// How much of a backlog is read before its windows close.
    pub chunk: ChunkLimits,
}

impl Limits {
    /// Room for the fixed part of a checkpoint and a handful of windows.
    pub const METADATA_BYTES_MIN: usize = 256;
}

/// How far back the same event is recognised: both bounds hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupeHorizon {
    /// In offsets of the partition; also what is read again before the committed offset on assignment.
    pub records: u32,
    /// In log time.
    pub time: Duration,
}

/// How much of a backlog is read before its windows close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// How long a chunk is read.
    pub duration: Duration,
    /// Most windows open at once, in a chunk or not; at least one.
    pub windows_max: usize,
    /// Most memory that open windows take (about), in a chunk or not; at least one byte.
    pub bytes_max: usize,
}

/// A record of the partition as the core sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it stands: above that of every record read before.
    pub offset: Offset,
    /// Its Kafka timestamp; where it has none (-1 on the wire) the shell says `now`, or it would look like a backlog.
    pub log_time: Timestamp,
    /// What it says.
    pub content: Content<'a>,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// A change.
    Change(Change<'a>),
    /// Nothing that we can read; the shell keeps the bytes until [`Output::DeadLetter`] asks for them, or the
    /// partition is dropped or its position committed.
    Undecodable,
}

/// What to write, in the order to write it, in the transaction that commits the next checkpoint.
///
/// A shell that gathers outputs over several batches keeps beside them the latest checkpoint it was given, and how
/// many of them it covers: a chunk that opens meanwhile then holds up none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A window closed.
    Refresh(Refresh),
    /// The record at this offset could not be decoded: set it aside.
    DeadLetter(Offset),
}

/// What happened since last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// New events counted in a window, whether they opened it or joined it.
    pub events: u64,
    /// Those of `events` that joined an open window: refreshes saved.
    pub coalesced: u64,
    /// New events dropped because the same event stands earlier within the horizon.
    pub duplicates: u64,
    /// New events that name no conversation.
    pub without_conversation: u64,
    /// New records that could not be decoded.
    pub undecodable: u64,
    /// Records read again only to recognise duplicates.
    pub remembered: u64,
    /// Events read again and put back into a window.
    pub restored: u64,
    /// Records read again that had been dealt with before.
    pub skipped: u64,
    /// Starts of windows in the checkpoint whose records are gone, or no longer say what they said.
    pub starts_missing: u64,
    /// Ends of the log reported below the recorded position (see [`super::Coalescer::on_log_end`]).
    pub log_ends_early: u64,
    /// Times that `now` was earlier than the `now` before.
    pub clock_went_back: u64,
    /// Chunks of a backlog begun.
    pub chunks: u64,
}
