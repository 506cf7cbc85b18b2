//! What a relay of EP-0033 posts: one event, a JSON array of events, or `{"events":[…]}`.
//!
//! EP-0033 names the types (dotted) and says that conversation ids are nested, but prints no body. So an event
//! is read as Front's own, bare or in an envelope, with these members as well: `event_id` for `id`, and
//! `conversation_id` for `conversation.id`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::front_webhook::{Authorization, Conversation, Error, FrontEvent, Links, Target};
use super::lenient::Member;

/// A body of the relay.
#[derive(Debug)]
pub(crate) enum Delivery<'a> {
    /// One event, boxed for its size.
    Single(Box<RelayEvent<'a>>),
    /// Several, each as its own text: read one by one with [`parse_event`].
    Batch(Batch<'a>),
}

/// Reads the body: one event entirely, a batch only as far as its events' edges.
///
/// # Errors
///
/// The body is to be set aside whole.
pub(crate) fn parse(body: &str) -> Result<Delivery<'_>, Error> {
    match serde_json::from_str::<Member<'_, RelayEvent<'_>, Batch<'_>>>(body)? {
        Member::List(batch) => Ok(Delivery::Batch(batch)),
        Member::Object(RelayEvent {
            events: Member::List(batch),
            ..
        }) => Ok(Delivery::Batch(batch)),
        Member::Object(event) => Ok(Delivery::Single(Box::new(event))),
        Member::Absent | Member::Null | Member::Boolean | Member::Number(_) | Member::Text(_) => {
            Err(Error::NotAnObject)
        }
    }
}

/// Reads one event of a batch.
///
/// # Errors
///
/// The batch is to be set aside whole. Positions are those within the event's own text.
pub(crate) fn parse_event(text: &str) -> Result<RelayEvent<'_>, Error> {
    let read = serde_json::from_str::<Member<'_, RelayEvent<'_>>>(text)?;
    read.into_object().ok_or(Error::NotAnObject)
}

/// One event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RelayEvent<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Member<'a>,
    #[serde(borrow)]
    pub(crate) authorization: Member<'a, Authorization<'a>>,
    #[serde(borrow)]
    pub(crate) payload: Member<'a, FrontEvent<'a>>,
    #[serde(borrow)]
    pub(crate) event_id: Member<'a>,
    #[serde(borrow)]
    pub(crate) conversation_id: Member<'a>,
    #[serde(borrow)]
    events: Member<'a, serde::de::IgnoredAny, Batch<'a>>,
    #[serde(borrow)]
    id: Member<'a>,
    #[serde(borrow, rename = "_links")]
    links: Member<'a, Links<'a>>,
    emitted_at: Member<'a>,
    #[serde(borrow)]
    conversation: Member<'a, Conversation<'a>>,
    #[serde(borrow)]
    target: Member<'a, Target<'a>>,
}

impl<'a> RelayEvent<'a> {
    /// Takes the members at the top for an event.
    pub(crate) fn into_bare_event(self) -> FrontEvent<'a> {
        FrontEvent {
            kind: self.kind,
            id: self.id,
            links: self.links,
            emitted_at: self.emitted_at,
            conversation: self.conversation,
            target: self.target,
        }
    }
}

/// The events of a batch, as their own texts.
#[derive(Debug, Default)]
pub(crate) struct Batch<'a> {
    /// The texts, each a part of the body, at most [`Batch::EVENTS_MAX`].
    pub(crate) events: Vec<&'a str>,
    /// Whether there were more.
    pub(crate) truncated: bool,
}

impl Batch<'_> {
    /// How many events a batch may hold: a bound against one body becoming any number of records.
    pub(crate) const EVENTS_MAX: usize = 1_000;
}

impl<'de: 'a, 'a> Deserialize<'de> for Batch<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BatchVisitor)
    }
}

struct BatchVisitor;

impl<'de> Visitor<'de> for BatchVisitor {
    type Value = Batch<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut batch = Batch::default();
        while batch.events.len() < Batch::EVENTS_MAX {
            let Some(event) = seq.next_element::<&RawValue>()? else {
                return Ok(batch);
            };
            batch.events.push(event.get());
        }
        while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {
            batch.truncated = true;
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &str) -> Vec<&str> {
        match parse(body).unwrap() {
            Delivery::Batch(batch) => batch.events,
            Delivery::Single(_) => panic!("not a batch: {body}"),
        }
    }

    #[test]
    fn reads_one_event_and_both_forms_of_a_batch() {
        let one = r#"{"type":"message.sent","event_id":"e1","conversation_id":"cnv_1","events":"none"}"#;
        let Delivery::Single(event) = parse(one).unwrap() else {
            panic!("not one event");
        };
        assert_eq!(event.kind.text(), Some("message.sent"));
        assert_eq!(
            (event.event_id.text(), event.conversation_id.text()),
            (Some("e1"), Some("cnv_1"))
        );

        assert_eq!(
            texts(r#" [ {"a": 1} ,{"b":[]} ] "#),
            [r#"{"a": 1}"#, r#"{"b":[]}"#]
        );
        assert_eq!(texts(r#"{"sent_at":5,"events":[{"a":"\/"}]}"#), [r#"{"a":"\/"}"#]);
        assert_eq!(texts(r#"{"events":[]}"#), [""; 0]);
    }

    #[test]
    fn an_event_of_a_batch_is_an_object() {
        assert!(parse_event(r#"{"type":"comment.added"}"#).is_ok());
        for text in ["1", "[]", "null", r#""x""#] {
            assert_eq!(parse_event(text).err(), Some(Error::NotAnObject), "{text}");
        }
    }

    #[test]
    fn a_batch_is_bounded() {
        for (count, truncated) in [(Batch::EVENTS_MAX, false), (Batch::EVENTS_MAX + 1, true)] {
            let body = format!("[{{}}{}]", ",{}".repeat(count - 1));
            let Delivery::Batch(batch) = parse(&body).unwrap() else {
                panic!("not a batch");
            };
            assert_eq!(
                (batch.events.len(), batch.truncated),
                (Batch::EVENTS_MAX, truncated)
            );
        }
    }
}
