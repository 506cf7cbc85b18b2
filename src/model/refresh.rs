//! What we tell the refresh queue: this conversation changed, refresh it, this urgently.

use std::fmt;

use super::{ConversationId, EventId, Kind, Offset, Partition, Priority, Run, TenantId, Timestamp};

/// What closed a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseReason {
    /// It was quiet for the lane's gap.
    Gap,
    /// It lived for the lane's cap.
    Cap,
    /// A chunk of a backlog ended.
    Chunk,
    /// The open windows no longer fitted the commit metadata.
    Pressure,
    /// The processor stopped.
    Stop,
}

impl CloseReason {
    /// All reasons, in the order of the schema.
    pub const ALL: [Self; 5] = [Self::Gap, Self::Cap, Self::Chunk, Self::Pressure, Self::Stop];

    /// Returns the name used in schemas and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Cap => "cap",
            Self::Chunk => "chunk",
            Self::Pressure => "pressure",
            Self::Stop => "stop",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The id of a refresh: a function of where its events stand, the same whenever the same refresh is made again.
///
/// Written `<partition>-<first offset>-<last offset>`. Two runs may give the same id: that is the same refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RefreshId {
    /// The partition of `front.events`.
    pub partition: Partition,
    /// The offset of the first event counted.
    pub first: Offset,
    /// The offset of the last event counted.
    pub last: Offset,
}

impl fmt::Display for RefreshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.partition, self.first, self.last)
    }
}

/// One coalesced burst of one conversation: a record of `front.refresh`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// The company.
    pub tenant: TenantId,
    /// The conversation to refresh.
    pub conversation: ConversationId,
    /// The highest priority of its events.
    pub priority: Priority,
    /// The kinds of its events, each once, in the order first seen, at most [`Refresh::KINDS_MAX`].
    pub kinds: Vec<Kind>,
    /// How many events are counted; at least one.
    pub event_count: u32,
    /// The ids of its events in log order, bounded.
    pub event_ids: Vec<EventId>,
    /// Whether ids beyond the bound were left out of `event_ids`.
    pub event_ids_truncated: bool,
    /// The earliest emission among its events.
    pub first_emitted_at: Timestamp,
    /// The latest emission among its events.
    pub last_emitted_at: Timestamp,
    /// The earliest receipt among its events.
    pub first_received_at: Timestamp,
    /// The latest receipt among its events.
    pub last_received_at: Timestamp,
    /// The partition of `front.events` that holds its events.
    pub partition: Partition,
    /// The offset of the first event counted.
    pub first_offset: Offset,
    /// The offset of the last event counted.
    pub last_offset: Offset,
    /// The run that counted them.
    pub run: Run,
    /// What closed the window.
    pub closed_by: CloseReason,
}

impl Refresh {
    /// How many kinds a refresh names: more than the mapping table has, and a bound against unknown types.
    pub const KINDS_MAX: usize = 32;

    /// Returns the id that its partition and offsets give.
    pub fn id(&self) -> RefreshId {
        RefreshId {
            partition: self.partition,
            first: self.first_offset,
            last: self.last_offset,
        }
    }
}
