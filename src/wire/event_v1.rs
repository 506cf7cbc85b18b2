//! `Event` version 1, the value of `front.events`: exactly the bytes of `schemas/front.events/v1.avsc`.

use super::avro::{self, Reader};
use super::error::Malformed;
use super::frame::{self, Encoding, Fingerprint};
use crate::model::{Change, ConversationId, Event, EventId, Kind, Priority, Source, TenantId, Timestamp};

/// The schema, as registered.
pub const SCHEMA: &str = include_str!("../../schemas/front.events/v1.avsc");

/// The schema's fingerprint, as Java's `SchemaNormalization` computes it: what single-object readers look up.
pub const FINGERPRINT: Fingerprint = Fingerprint(0x8ffb_696f_2e7c_9398);

/// Room for everything but the payload, so that writing an event seldom grows the buffer twice.
const ROOM_BYTES: usize = 384;

/// Appends an event with its frame: the value of a record.
pub fn write(out: &mut Vec<u8>, encoding: Encoding, event: &Event) {
    out.reserve(ROOM_BYTES + event.payload.as_ref().map_or(0, bytes::Bytes::len));
    frame::write_header(out, encoding, FINGERPRINT);
    encode(out, event);
}

/// Appends an event's Avro bytes, without a frame.
pub fn encode(out: &mut Vec<u8>, event: &Event) {
    avro::put_bytes(out, event.tenant.as_str().as_bytes());
    let conversation = event.conversation.as_ref().map(|id| id.as_str().as_bytes());
    avro::put_optional_bytes(out, conversation);
    avro::put_bytes(out, event.id.as_str().as_bytes());
    avro::put_bytes(out, event.kind.as_str().as_bytes());
    avro::put_optional_bytes(out, event.front_type.as_deref().map(str::as_bytes));
    avro::put_optional_bytes(out, event.front_inner_type.as_deref().map(str::as_bytes));
    avro::put_one_of(out, &Priority::ALL, &event.priority);
    avro::put_one_of(out, &Source::ALL, &event.source);
    avro::put_long(out, event.emitted_at.as_millis());
    avro::put_long(out, event.received_at.as_millis());
    avro::put_optional_bytes(out, event.payload.as_deref());
}

/// Reads what coalescing needs of an event's Avro bytes (no frame), without copying or allocating.
///
/// Accepts exactly what [`decode`] accepts: whoever reads the log, by either, decides alike on every record.
///
/// # Errors
/// [`Malformed`] when the bytes are not one whole event of this version.
#[inline]
pub fn decode_change(bytes: &[u8]) -> Result<Change<'_>, Malformed> {
    Ok(Fields::read(bytes, 0)?.change())
}

/// Reads an event from its Avro bytes (no frame).
///
/// # Errors
/// [`Malformed`] when the bytes are not one whole event of this version.
pub fn decode(bytes: &[u8]) -> Result<Event, Malformed> {
    Fields::read(bytes, 0)?.into_event()
}

/// All fields of an event, borrowed and checked.
pub(super) struct Fields<'a> {
    pub(super) tenant: &'a str,
    pub(super) conversation: Option<&'a str>,
    pub(super) event_id: &'a str,
    pub(super) kind: &'a str,
    pub(super) front_type: Option<&'a str>,
    pub(super) front_inner_type: Option<&'a str>,
    pub(super) priority: Priority,
    pub(super) source: Source,
    pub(super) emitted_at: Timestamp,
    pub(super) received_at: Timestamp,
    pub(super) payload: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    /// Reads a whole event from offset `at`; the payload is measured, not touched.
    #[inline]
    pub(super) fn read(bytes: &'a [u8], at: usize) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, at);
        let tenant = reader.name("tenant")?;
        let conversation = match reader.choice("conversation", 2)? {
            0 => None,
            _ => Some(reader.name("conversation")?),
        };
        let fields = Self {
            tenant,
            conversation,
            event_id: reader.name("event_id")?,
            kind: reader.name("kind")?,
            front_type: reader.optional_string("front_type")?,
            front_inner_type: reader.optional_string("front_inner_type")?,
            priority: reader.one_of("priority", &Priority::ALL)?,
            source: reader.one_of("source", &Source::ALL)?,
            emitted_at: Timestamp::from_millis(reader.long("emitted_at")?),
            received_at: Timestamp::from_millis(reader.long("received_at")?),
            payload: reader.optional_bytes("payload")?,
        };
        reader.finish()?;
        Ok(fields)
    }

    /// Returns what coalescing reads.
    #[inline]
    pub(super) fn change(&self) -> Change<'a> {
        Change {
            tenant: self.tenant,
            conversation: self.conversation,
            event_id: self.event_id,
            kind: self.kind,
            priority: self.priority,
            emitted_at: self.emitted_at,
            received_at: self.received_at,
        }
    }

    /// Copies the fields into an event.
    pub(super) fn into_event(self) -> Result<Event, Malformed> {
        let empty = |reading| Malformed::Value {
            reading,
            fault: "it is empty",
        };
        let conversation = match self.conversation {
            None => None,
            Some(id) => Some(ConversationId::new(id).ok_or(empty("conversation"))?),
        };
        Ok(Event {
            tenant: TenantId::new(self.tenant).ok_or(empty("tenant"))?,
            conversation,
            id: EventId::new(self.event_id).ok_or(empty("event_id"))?,
            kind: Kind::new(self.kind).ok_or(empty("kind"))?,
            front_type: self.front_type.map(Box::from),
            front_inner_type: self.front_inner_type.map(Box::from),
            priority: self.priority,
            source: self.source,
            emitted_at: self.emitted_at,
            received_at: self.received_at,
            payload: self.payload.map(bytes::Bytes::copy_from_slice),
        })
    }
}
