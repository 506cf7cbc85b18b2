//! Authenticated bytes to events, or a named rejection. Pure: time is an argument, nothing is logged or counted.
//!
//! A body becomes events whole or not at all. Unknown types and events without a conversation are values that we
//! carry; what cannot be read as Front's shape at all is a [`Rejection`].

mod mapping;
mod reading;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::{fmt, mem};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::model::{ConversationId, Event, EventId, Kind, Source, TenantId, Timestamp};
use crate::wire::front_relay::{self, Batch, RelayEvent};
use crate::wire::front_webhook::{self, Authorization, Error, FrontEvent, Ids, Webhook};
use crate::wire::lenient::Member;

/// What is known of a body besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The scheme under which it was signed, which tells its shape.
    pub source: Source,
    /// When it came in.
    pub received_at: Timestamp,
    /// The tenant that its URL names.
    pub url_tenant: Option<&'a TenantId>,
    /// The tenant where nothing names one.
    pub default_tenant: &'a TenantId,
    /// The event id that a relay sends beside the body: the id of a single event that has none inside.
    ///
    /// It is outside the signature, so an id inside the body wins.
    pub event_id: Option<&'a str>,
    /// What is kept of the body.
    pub retention: Retention,
}

/// What is kept of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// The bytes as received.
    Full,
    /// Ids, types and times only.
    IdsOnly,
}

/// A body that has been read.
#[derive(Clone, Debug, PartialEq)]
pub enum Validated {
    /// A handshake's body: answered, never stored.
    Sync,
    /// Its events in order: none for an empty batch, several for a batch or a merge.
    Events {
        /// The events.
        events: Vec<Event>,
        /// The types among theirs that the mapping does not know, one for each such thing that happened.
        unknown_types: Vec<Kind>,
    },
}

/// Why an authenticated body becomes no event. Carries no part of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The bytes are not UTF-8.
    #[error("not UTF-8 from byte {0} on")]
    NotUtf8(usize),
    /// The text is not JSON.
    #[error("not JSON: line {line}, column {column}")]
    NotJson {
        /// Where the parser gave up, from 1.
        line: usize,
        /// Where the parser gave up, in bytes of the line.
        column: usize,
    },
    /// A member that is read stands there twice.
    #[error("a member that is read is given twice: line {line}, column {column}")]
    DuplicateMember {
        /// Where the second one stands, from 1.
        line: usize,
        /// Where the second one stands, in bytes of the line.
        column: usize,
    },
    /// Not an object, or an event of a batch that is none.
    #[error("not an object")]
    NotAnObject,
    /// An event without a type.
    #[error("no type")]
    NoType,
    /// A type and nothing that could be an event.
    #[error("no event beside the type")]
    NoEvent,
    /// More events, or more conversations of a merge, than one body may become.
    #[error("more than {} events in one body", Rejection::EVENTS_MAX)]
    TooManyEvents,
    /// An id or a type longer than any that Front sends.
    #[error("an id or type of more than {} bytes", Rejection::NAME_BYTES_MAX)]
    NameTooLong,
}

impl Rejection {
    /// How many events one body may become.
    pub const EVENTS_MAX: usize = if Ids::MAX < Batch::EVENTS_MAX {
        Ids::MAX
    } else {
        Batch::EVENTS_MAX
    };
    /// How long an id or a type may be. Front's have up to about 30 bytes; they become keys and headers.
    pub const NAME_BYTES_MAX: usize = 512;

    /// All reasons that [`Rejection::reason`] returns.
    pub const REASONS: [&'static str; 8] = [
        "not_utf8",
        "not_json",
        "duplicate_member",
        "not_an_object",
        "no_type",
        "no_event",
        "too_many_events",
        "name_too_long",
    ];

    /// Returns the name used in metrics, headers and answers.
    pub fn reason(self) -> &'static str {
        Self::REASONS[match self {
            Self::NotUtf8(_) => 0,
            Self::NotJson { .. } => 1,
            Self::DuplicateMember { .. } => 2,
            Self::NotAnObject => 3,
            Self::NoType => 4,
            Self::NoEvent => 5,
            Self::TooManyEvents => 6,
            Self::NameTooLong => 7,
        }]
    }
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        match error {
            Error::Syntax { line, column } => Self::NotJson { line, column },
            Error::DuplicateMember { line, column } => Self::DuplicateMember { line, column },
            Error::NotAnObject => Self::NotAnObject,
        }
    }
}

/// Turns an authenticated body into events.
///
/// # Errors
///
/// The body is to be set aside whole, with the reason.
pub fn validate(body: &Bytes, delivery: &Delivery<'_>) -> Result<Validated, Rejection> {
    let text = std::str::from_utf8(body).map_err(|error| Rejection::NotUtf8(error.valid_up_to()))?;
    let mut writer = Writer {
        delivery,
        events: Vec::with_capacity(1),
        unknown_types: Vec::new(),
        copied: 0,
    };
    match delivery.source {
        Source::Webhook | Source::Rule | Source::Polling | Source::Unknown => {
            let webhook = front_webhook::parse(text)?;
            if webhook.kind.text() == Some(mapping::SYNC) && webhook.payload.object().is_none() {
                return Ok(Validated::Sync);
            }
            writer.write(&Item::of_webhook(webhook), body)?;
        }
        Source::Relay => writer.write_relay(text, body)?,
    }
    Ok(Validated::Events {
        events: writer.events,
        unknown_types: writer.unknown_types,
    })
}

/// One thing that happened, in whichever form it was sent.
struct Item<'a> {
    /// The type on the envelope.
    outer: Member<'a>,
    authorization: Member<'a, Authorization<'a>>,
    event: FrontEvent<'a>,
    /// Ids that only a relay sends.
    event_id: Member<'a>,
    conversation_id: Member<'a>,
}

impl<'a> Item<'a> {
    fn of_webhook(mut webhook: Webhook<'a>) -> Self {
        let authorization = mem::take(&mut webhook.authorization);
        let (outer, event) = match mem::take(&mut webhook.payload).into_object() {
            Some(event) => (webhook.kind, event),
            None => (Member::Absent, webhook.into_bare_event()),
        };
        Self {
            outer,
            authorization,
            event,
            event_id: Member::Absent,
            conversation_id: Member::Absent,
        }
    }

    fn of_relay(mut relayed: RelayEvent<'a>) -> Self {
        let authorization = mem::take(&mut relayed.authorization);
        let event_id = mem::take(&mut relayed.event_id);
        let conversation_id = mem::take(&mut relayed.conversation_id);
        let (outer, event) = match mem::take(&mut relayed.payload).into_object() {
            Some(event) => (relayed.kind, event),
            None => (Member::Absent, relayed.into_bare_event()),
        };
        Self {
            outer,
            authorization,
            event,
            event_id,
            conversation_id,
        }
    }

    fn event_id(&self) -> Option<&str> {
        self.event.id.text().or_else(|| self.event_id.text())
    }

    fn conversation(&self) -> Option<&str> {
        self.conversation_id
            .text()
            .or_else(|| reading::conversation(&self.event))
    }

    /// Tells whether there is nothing here that an event has, its type left out.
    fn is_empty(&self) -> bool {
        self.event_id().is_none()
            && self.conversation_id.text().is_none()
            && self.event.conversation.object().is_none()
            && self.event.target.object().is_none()
            && self.event.emitted_at.number().is_none()
    }
}

struct Writer<'a> {
    delivery: &'a Delivery<'a>,
    events: Vec<Event>,
    unknown_types: Vec<Kind>,
    /// The bytes of all copies so far.
    copied: usize,
}

impl Writer<'_> {
    /// How many bytes the copies of a body may have in all, the first one not counted.
    ///
    /// A merge of a thousand conversations in one body of 1 MiB would else be a thousand records of that size: more
    /// than the producer's queue holds, so that no retry could ever store it, and a gigabyte to encode.
    const COPIES_BYTES_MAX: usize = 4 * 1_024 * 1_024;

    fn write_relay(&mut self, text: &str, body: &Bytes) -> Result<(), Rejection> {
        let batch = match front_relay::parse(text)? {
            front_relay::Delivery::Single(relayed) => {
                let mut item = Item::of_relay(*relayed);
                if let (None, Some(id)) = (item.event_id(), self.delivery.event_id) {
                    item.event_id = Member::Text(Cow::Borrowed(id));
                }
                return self.write(&item, body);
            }
            front_relay::Delivery::Batch(batch) => batch,
        };
        if batch.truncated {
            return Err(Rejection::TooManyEvents);
        }
        for event in batch.events {
            let item = Item::of_relay(front_relay::parse_event(event)?);
            self.write(&item, &body.slice_ref(event.as_bytes()))?;
        }
        Ok(())
    }

    /// Writes one event per conversation that `item` concerns; `raw` is its own text.
    fn write(&mut self, item: &Item<'_>, raw: &Bytes) -> Result<(), Rejection> {
        let (outer, inner) = (item.outer.text(), item.event.kind.text());
        let name = outer.or(inner).ok_or(Rejection::NoType)?;
        if item.is_empty() {
            return Err(Rejection::NoEvent);
        }
        let meaning = self.meaning(name, outer, inner, &item.event);
        let kind = required(meaning.map_or(name, |meaning| meaning.kind), Kind::new)?;
        if meaning.is_none() {
            self.unknown_types.push(kind.clone());
        }
        let event = Event {
            tenant: self.tenant(item)?,
            conversation: named(item.conversation(), ConversationId::new)?,
            id: event_id(item, raw)?,
            kind,
            front_type: named(outer, |text: &str| Some(text.into()))?,
            front_inner_type: named(inner, |text: &str| Some(text.into()))?,
            priority: meaning.map_or(mapping::UNKNOWN, |meaning| meaning.priority),
            source: self.delivery.source,
            emitted_at: reading::emitted_at(&item.event).unwrap_or(self.delivery.received_at),
            received_at: self.delivery.received_at,
            payload: match self.delivery.retention {
                Retention::Full => Some(raw.clone()),
                Retention::IdsOnly => None,
            },
        };
        self.push_for_each_conversation(event, reading::merged(&item.event))
    }

    fn push_for_each_conversation(
        &mut self,
        event: Event,
        merged: Option<reading::Merged<'_>>,
    ) -> Result<(), Rejection> {
        let Some(merged) = merged.filter(|merged| !merged.conversations.is_empty()) else {
            return self.push(event);
        };
        if merged.truncated {
            return Err(Rejection::TooManyEvents);
        }
        let mut written = BTreeSet::new();
        if let Some(surviving) = event.conversation.clone() {
            written.insert(surviving);
            self.push(event.clone())?;
        }
        for conversation in merged.conversations {
            let conversation = required(conversation, ConversationId::new)?;
            if written.insert(conversation.clone()) {
                let payload = match written.len() {
                    1 => event.payload.clone(),
                    _ => self.copy(event.payload.as_ref()),
                };
                self.push(Event {
                    conversation: Some(conversation),
                    payload,
                    ..event.clone()
                })?;
            }
        }
        Ok(())
    }

    /// Returns one more copy of a body, as long as there is room for it.
    fn copy(&mut self, payload: Option<&Bytes>) -> Option<Bytes> {
        let payload = payload.filter(|payload| self.copied + payload.len() <= Self::COPIES_BYTES_MAX)?;
        self.copied += payload.len();
        Some(payload.clone())
    }

    fn push(&mut self, event: Event) -> Result<(), Rejection> {
        if self.events.len() == Rejection::EVENTS_MAX {
            return Err(Rejection::TooManyEvents);
        }
        self.events.push(event);
        Ok(())
    }

    fn meaning(
        &self,
        name: &str,
        outer: Option<&str>,
        inner: Option<&str>,
        event: &FrontEvent<'_>,
    ) -> Option<mapping::Meaning> {
        let dotted = match self.delivery.source {
            Source::Relay => mapping::meaning_of_kind(name),
            Source::Webhook | Source::Rule | Source::Polling | Source::Unknown => None,
        };
        dotted.or_else(|| mapping::meaning(outer, inner, || reading::assignment(event)))
    }

    /// Names the company: the URL, else the envelope, else the host of the event's link, else the setting.
    fn tenant(&self, item: &Item<'_>) -> Result<TenantId, Rejection> {
        if let Some(tenant) = self.delivery.url_tenant {
            return Ok(tenant.clone());
        }
        let authorization = item.authorization.object();
        let company = authorization
            .and_then(|company| company.id.text())
            .or_else(|| reading::company_of_link(&item.event));
        let tenant = named(company, TenantId::new)?;
        Ok(tenant.unwrap_or_else(|| self.delivery.default_tenant.clone()))
    }
}

/// Takes the event's id, or makes one of its text, so that a repeated delivery is still recognised.
fn event_id(item: &Item<'_>, raw: &Bytes) -> Result<EventId, Rejection> {
    match item.event_id() {
        Some(id) => required(id, EventId::new),
        None => {
            let id = format!("sha256-{}", Hex(&Sha256::digest(raw)));
            Ok(EventId::new(id).expect("it has a prefix"))
        }
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Takes a name that may be missing, within the bound.
fn named<'t, T>(
    text: Option<&'t str>,
    new: impl FnOnce(&'t str) -> Option<T>,
) -> Result<Option<T>, Rejection> {
    match text {
        Some(text) if text.len() > Rejection::NAME_BYTES_MAX => Err(Rejection::NameTooLong),
        Some(text) => Ok(new(text)),
        None => Ok(None),
    }
}

/// Takes a name that is there, within the bound.
fn required<'t, T>(text: &'t str, new: impl FnOnce(&'t str) -> Option<T>) -> Result<T, Rejection> {
    named(Some(text), new).map(|name| name.expect("an absent name was told from an empty one before"))
}
