//! What Front told us: one change of one conversation.

use std::fmt;

use super::{ConversationId, EventId, Kind, Priority, TenantId, Timestamp};

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A source that a later version added: read from such records, never written.
    Unknown,
    /// An application webhook of Front.
    Webhook,
    /// A rule webhook of Front.
    Rule,
    /// A relay that speaks the scheme of EP-0033.
    Relay,
    /// The poller of Front's events API.
    Polling,
}

impl Source {
    /// All sources, in the order of the schema.
    pub const ALL: [Self; 5] = [
        Self::Unknown,
        Self::Webhook,
        Self::Rule,
        Self::Relay,
        Self::Polling,
    ];

    /// Returns the name used in schemas and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Webhook => "webhook",
            Self::Rule => "rule",
            Self::Relay => "relay",
            Self::Polling => "polling",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One change as it is stored on `front.events`: whole, with the bytes that Front sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The company.
    pub tenant: TenantId,
    /// The conversation that changed; `None` when Front names none: stored, never refreshed.
    pub conversation: Option<ConversationId>,
    /// Front's event id; the same on every conversation that one webhook affects.
    pub id: EventId,
    /// The mapped name; Front's own name where the table has none.
    pub kind: Kind,
    /// Front's outer type as sent (`inbound_received`); `None` where there is no envelope.
    pub front_type: Option<Box<str>>,
    /// Front's inner type as sent (`inbound`); `None` where there is none.
    pub front_inner_type: Option<Box<str>>,
    /// How urgent the change is.
    pub priority: Priority,
    /// Where it came from.
    pub source: Source,
    /// When Front emitted it (event time).
    pub emitted_at: Timestamp,
    /// When our receiver took it in (received time).
    pub received_at: Timestamp,
    /// The request's body, byte for byte; `None` when only ids are retained, and in later events of a very large merge.
    pub payload: Option<bytes::Bytes>,
}

/// The part of a stored event that coalescing reads, borrowed from the record's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The company; never empty.
    pub tenant: &'a str,
    /// The conversation that changed; never empty; `None`: nothing to refresh.
    pub conversation: Option<&'a str>,
    /// Front's event id; never empty.
    pub event_id: &'a str,
    /// The mapped name; never empty.
    pub kind: &'a str,
    /// How urgent the change is.
    pub priority: Priority,
    /// When Front emitted it (event time).
    pub emitted_at: Timestamp,
    /// When our receiver took it in (received time).
    pub received_at: Timestamp,
}
