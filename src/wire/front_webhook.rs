//! What Front posts: the application webhook's envelope and the rule webhook's bare event, in one parse.
//!
//! Only what tells identity, type, time and conversation is read, borrowed from the body; everything else is
//! skipped. Members of unexpected types count as absent. A member that is read and given twice makes the body
//! unreadable: which one counts is anyone's guess. Unknown members may repeat.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::lenient::Member;

/// Why a body cannot be read. Carries no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The text is not JSON.
    #[error("not JSON: line {line}, column {column}")]
    Syntax {
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
    /// The text is JSON, but neither an object nor, where batches are allowed, an array.
    #[error("not an object")]
    NotAnObject,
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        // Every member takes every type of value, so a repeated member is the only mistake in the data.
        if error.is_data() {
            Self::DuplicateMember { line, column }
        } else {
            Self::Syntax { line, column }
        }
    }
}

/// Reads the body of a webhook, envelope or bare event.
///
/// # Errors
///
/// The body is to be set aside: no part of it can be trusted to mean what it says.
pub(crate) fn parse(body: &str) -> Result<Webhook<'_>, Error> {
    let read = serde_json::from_str::<Member<'_, Webhook<'_>>>(body)?;
    read.into_object().ok_or(Error::NotAnObject)
}

/// A body: an envelope around `payload`, or the event itself with its members at the top.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Webhook<'a> {
    /// The type: the application's name in an envelope, the Events API's name in a bare event.
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Member<'a>,
    #[serde(borrow)]
    pub(crate) authorization: Member<'a, Authorization<'a>>,
    #[serde(borrow)]
    pub(crate) payload: Member<'a, FrontEvent<'a>>,
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

impl<'a> Webhook<'a> {
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

/// The company that an envelope speaks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Authorization<'a> {
    #[serde(borrow)]
    pub(crate) id: Member<'a>,
}

/// The event object of front-protocol 5.4, full or preview.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FrontEvent<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Member<'a>,
    #[serde(borrow)]
    pub(crate) id: Member<'a>,
    #[serde(borrow, rename = "_links")]
    pub(crate) links: Member<'a, Links<'a>>,
    /// Seconds since the Unix epoch, up to three decimals.
    pub(crate) emitted_at: Member<'a>,
    #[serde(borrow)]
    pub(crate) conversation: Member<'a, Conversation<'a>>,
    #[serde(borrow)]
    pub(crate) target: Member<'a, Target<'a>>,
}

/// The links that are read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Links<'a> {
    #[serde(borrow, rename = "self")]
    pub(crate) own: Member<'a>,
    #[serde(borrow)]
    pub(crate) related: Member<'a, Related<'a>>,
}

/// The related links that are read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Related<'a> {
    #[serde(borrow)]
    pub(crate) conversation: Member<'a>,
}

/// The conversation that changed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Conversation<'a> {
    #[serde(borrow)]
    pub(crate) id: Member<'a>,
    #[serde(borrow, rename = "_links")]
    pub(crate) links: Member<'a, Links<'a>>,
    pub(crate) assignee: Member<'a>,
}

/// What the event acted on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Target<'a> {
    #[serde(borrow)]
    pub(crate) id: Member<'a>,
    #[serde(borrow, rename = "_meta")]
    pub(crate) meta: Member<'a, Meta<'a>>,
    #[serde(borrow)]
    pub(crate) data: Member<'a, TargetData<'a>, Ids<'a>>,
}

/// What kind of thing a target is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Meta<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Member<'a>,
}

/// A target that is one thing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TargetData<'a> {
    #[serde(borrow)]
    pub(crate) id: Member<'a>,
    #[serde(borrow, rename = "_links")]
    pub(crate) links: Member<'a, Links<'a>>,
}

/// A target that is several things: their ids, whether they stand there as text or as objects.
#[derive(Debug, Default)]
pub(crate) struct Ids<'a> {
    /// The ids, at most [`Ids::MAX`].
    pub(crate) ids: Vec<Member<'a, TargetData<'a>>>,
    /// Whether there were more.
    pub(crate) truncated: bool,
}

impl Ids<'_> {
    /// How many ids are read: a bound against one body becoming any number of records.
    pub(crate) const MAX: usize = 1_000;

    /// Returns the ids that are there, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().filter_map(|entry| {
            let object = entry.object();
            entry
                .text()
                .or_else(|| object.and_then(|object| object.id.text()))
        })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Ids<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(IdsVisitor)
    }
}

struct IdsVisitor;

impl<'de> Visitor<'de> for IdsVisitor {
    type Value = Ids<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut read = Ids::default();
        while read.ids.len() < Ids::MAX {
            let Some(entry) = seq.next_element()? else {
                return Ok(read);
            };
            read.ids.push(entry);
        }
        while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {
            read.truncated = true;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_past_surprises() {
        let body = r#"{"type":"tag","id":7,"emitted_at":"soon","conversation":[1,{"id":2}],"_links":null,
            "target":{"data":{"id":"tag_1","_links":{"related":false}},"_meta":"x"},"payload":"none"}"#;
        let webhook = parse(body).unwrap();
        assert_eq!(webhook.payload.object().map(|_| ()), None);
        let event = webhook.into_bare_event();
        assert_eq!(event.kind.text(), Some("tag"));
        assert_eq!(event.id.text(), None);
        assert_eq!(event.emitted_at.number(), None);
        assert!(event.conversation.object().is_none());
        let target = event.target.object().unwrap();
        assert_eq!(target.data.object().unwrap().id.text(), Some("tag_1"));
    }

    #[test]
    fn skips_deep_nesting_without_recursion() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let depth = 200_000;
            let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            for member in [
                "unknown",
                "id",
                "conversation",
                "target",
                "payload",
                "authorization",
            ] {
                let body = format!(r#"{{"type":"tag","{member}":{{"id":{deep}}}}}"#);
                let read = parse(&body).map(|webhook| webhook.kind.text().map(str::to_owned));
                assert_eq!(read, Ok(Some("tag".to_owned())), "{member} {open}");
            }
        }
    }

    #[test]
    fn refuses_what_is_not_an_object_of_single_members() {
        let syntax = |line, column| Error::Syntax { line, column };
        let cases = [
            ("", syntax(1, 0)),
            (r#"{"type":"tag""#, syntax(1, 13)),
            (r#"{"type":"tag"} x"#, syntax(1, 16)),
            ("{\"type\":\n\"\u{1}\"}", syntax(2, 2)),
            ("[]", Error::NotAnObject),
            (r#"["tag"]"#, Error::NotAnObject),
            ("null", Error::NotAnObject),
            (r#""tag""#, Error::NotAnObject),
            (
                r#"{"type":"a","type":"b"}"#,
                Error::DuplicateMember { line: 1, column: 18 },
            ),
            (
                r#"{"payload":{"conversation":{"id":"a","id":"b"}}}"#,
                Error::DuplicateMember { line: 1, column: 41 },
            ),
        ];
        for (body, error) in cases {
            assert_eq!(parse(body).err(), Some(error), "{body}");
        }
        assert!(
            parse(r#"{"other":1,"other":2}"#).is_ok(),
            "unknown members may repeat"
        );
    }

    #[test]
    fn reads_ids_as_text_and_as_objects_up_to_the_bound() {
        let body = r#"{"target":{"data":["cnv_1",{"id":"cnv_2"},{"id":3},null,"",["x"]]}}"#;
        let event = parse(body).unwrap().into_bare_event();
        let ids = event.target.object().unwrap().data.list().unwrap();
        assert_eq!(ids.iter().collect::<Vec<_>>(), ["cnv_1", "cnv_2"]);
        assert!(!ids.truncated);

        for (count, truncated) in [(Ids::MAX, false), (Ids::MAX + 1, true)] {
            let body = format!(
                r#"{{"target":{{"data":["cnv"{}]}}}}"#,
                r#","cnv""#.repeat(count - 1)
            );
            let event = parse(&body).unwrap().into_bare_event();
            let ids = event.target.object().unwrap().data.list().unwrap();
            assert_eq!((ids.ids.len(), ids.truncated), (Ids::MAX, truncated));
        }
    }
}
