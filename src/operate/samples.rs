//! Webhooks made from Front's own bodies: the same shapes and sizes, with ids and times of their own.

use std::fmt::Write as _;

use crate::model::Timestamp;

use super::sign::Scheme;

/// What happened to a conversation: one body for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Happening {
    /// A customer wrote.
    Inbound,
    /// A teammate wrote.
    Outbound,
    /// A teammate answered.
    Reply,
    /// Somebody got the conversation.
    Assign,
    /// Nobody has it any more.
    Unassign,
    /// It was put away.
    Archive,
    /// It came back.
    Reopen,
    /// It went to another inbox.
    Move,
    /// It was thrown away.
    Trash,
    /// A teammate commented.
    Comment,
    /// It got a tag.
    Tag,
    /// It lost a tag.
    Untag,
    /// A message did not arrive.
    Failed,
}

impl Happening {
    /// All, in the order of their declaration.
    pub(crate) const ALL: [Self; 13] = [
        Self::Inbound,
        Self::Outbound,
        Self::Reply,
        Self::Assign,
        Self::Unassign,
        Self::Archive,
        Self::Reopen,
        Self::Move,
        Self::Trash,
        Self::Comment,
        Self::Tag,
        Self::Untag,
        Self::Failed,
    ];
}

macro_rules! body {
    ($path:literal) => {
        include_str!(concat!("../../tests/data/front/", $path))
    };
}

/// Returns the application webhook's body.
fn application(happening: Happening) -> &'static str {
    match happening {
        Happening::Inbound => body!("application/inbound_received.json"),
        Happening::Outbound => body!("application/outbound_sent.json"),
        Happening::Reply => body!("application/outbound_sent_reply.json"),
        Happening::Assign => body!("application/assignee_changed_assign.json"),
        Happening::Unassign => body!("application/assignee_changed_unassign.json"),
        Happening::Archive => body!("application/conversation_archived.json"),
        Happening::Reopen => body!("application/conversation_reopened.json"),
        Happening::Move => body!("application/conversation_moved.json"),
        Happening::Trash => body!("application/conversation_deleted.json"),
        Happening::Comment => body!("application/new_comment_added.json"),
        Happening::Tag => body!("application/tag_added.json"),
        Happening::Untag => body!("application/tag_removed.json"),
        Happening::Failed => body!("application/message_delivery_failed.json"),
    }
}

/// Returns the rule webhook's body; a rule has no body for what only an application is told, so the nearest is taken.
fn rule(happening: Happening) -> &'static str {
    match happening {
        Happening::Inbound => body!("rule/inbound.json"),
        Happening::Outbound | Happening::Reply => body!("rule/out_reply.json"),
        Happening::Assign => body!("rule/assign.json"),
        Happening::Unassign => body!("rule/unassign.json"),
        Happening::Archive | Happening::Reopen => body!("rule/archive.json"),
        Happening::Move => body!("rule/move.json"),
        Happening::Trash => body!("rule/trash.json"),
        Happening::Comment => body!("rule/comment.json"),
        Happening::Tag => body!("rule/tag.json"),
        Happening::Untag => body!("rule/untag.json"),
        Happening::Failed => body!("rule/sending_error.json"),
    }
}

/// Returns the dotted name that a relay gives (EP-0033, the table of `front-protocol.md` section 9).
fn dotted(happening: Happening) -> &'static str {
    match happening {
        Happening::Inbound => "message.received",
        Happening::Outbound | Happening::Reply => "message.sent",
        Happening::Assign => "conversation.assigned",
        Happening::Unassign => "conversation.unassigned",
        Happening::Archive => "conversation.archived",
        Happening::Reopen => "conversation.reopened",
        Happening::Move | Happening::Failed => "conversation.updated",
        Happening::Trash => "conversation.deleted",
        Happening::Comment => "comment.added",
        Happening::Tag => "conversation.tagged",
        Happening::Untag => "conversation.untagged",
    }
}

/// A body with its ids and its time of emission taken out.
#[derive(Clone, Debug)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Event,
    Conversation,
    EmittedAt,
}

impl Template {
    /// Makes the template of what happened, as the scheme's sender would post it.
    pub(crate) fn new(scheme: Scheme, happening: Happening) -> Self {
        match scheme {
            Scheme::Application => Self::of(application(happening)),
            Scheme::Rule => Self::of(rule(happening)),
            Scheme::Relay => {
                let body = application(happening);
                let wire = between(body, "\"type\":\"", "\"").expect("an envelope names its type first");
                let (wire, dotted) = (format!("\"type\":\"{wire}\""), dotted(happening));
                Self::of(&body.replacen(&wire, &format!("\"type\":\"{dotted}\""), 1))
            }
        }
    }

    fn of(body: &str) -> Self {
        // Ids are found by what they begin with; a sample has one of each.
        let event = word(body, "evt_").expect("a sample has an event id");
        let conversation = word(body, "cnv_").expect("a sample has a conversation id");
        let emitted_at = between(body, "\"emitted_at\":", ",").expect("a sample has a time of emission");
        let emitted_at = format!("\"emitted_at\":{emitted_at}");
        let mut pieces = Vec::new();
        let mut rest = body;
        while let Some((at, length, piece)) = [
            (event, Piece::Event),
            (conversation, Piece::Conversation),
            (emitted_at.as_str(), Piece::EmittedAt),
        ]
        .into_iter()
        .filter_map(|(text, piece)| Some((rest.find(text)?, text.len(), piece)))
        .min_by_key(|(at, ..)| *at)
        {
            pieces.push(Piece::Text(rest[..at].into()));
            pieces.push(piece);
            rest = &rest[at + length..];
        }
        pieces.push(Piece::Text(rest.into()));
        Self(pieces)
    }

    /// Writes the body with these ids and this time.
    pub(crate) fn write(&self, event: &str, conversation: &str, emitted_at: Timestamp) -> String {
        let mut body = String::with_capacity(5 * 1024);
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => body.push_str(text),
                Piece::Event => body.push_str(event),
                Piece::Conversation => body.push_str(conversation),
                Piece::EmittedAt => {
                    let seconds = written_seconds(emitted_at);
                    write!(body, "\"emitted_at\":{seconds}").expect("a String takes every character");
                }
            }
        }
        body
    }
}

/// Writes the smallest body that means "a customer wrote", as the scheme's sender would post it: for people to read.
pub(super) fn small(scheme: Scheme, event: &str, conversation: &str, emitted_at: Timestamp) -> String {
    let seconds = written_seconds(emitted_at);
    let payload = format!(
        r#"{{"id":"{event}","type":"inbound","emitted_at":{seconds},"conversation":{{"id":"{conversation}"}}}}"#
    );
    let wire = match scheme {
        Scheme::Application => "inbound_received",
        Scheme::Rule => return payload,
        Scheme::Relay => dotted(Happening::Inbound),
    };
    format!(r#"{{"type":"{wire}","authorization":{{"id":"cmp_yours"}},"payload":{payload}}}"#)
}

/// Writes a time as Front does: seconds, with milliseconds behind the point.
fn written_seconds(at: Timestamp) -> String {
    let millis = at.as_millis();
    let (seconds, fraction) = (millis.div_euclid(1_000), millis.rem_euclid(1_000));
    format!("{seconds}.{fraction:03}")
}

/// Writes a number as Front writes its ids.
pub(super) fn base_36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(number % 36).expect("below 36");
        digits.push(char::from_digit(digit, 36).expect("below 36"));
        number /= 36;
        if number == 0 {
            break;
        }
    }
    digits.iter().rev().collect()
}

/// Returns the text between two others, the first such.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

/// Returns the first word that begins so.
fn word<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = &text[text.find(prefix)?..];
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    Some(&rest[..end.unwrap_or(rest.len())])
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_sample_has_the_ids_and_the_time_it_is_given_and_no_others() {
        for scheme in [Scheme::Application, Scheme::Rule, Scheme::Relay] {
            for happening in Happening::ALL {
                let template = Template::new(scheme, happening);
                let body = template.write("evt_new", "cnv_new", Timestamp::from_millis(1_700_000_000_007));
                let parsed: Value = serde_json::from_str(&body).unwrap();
                let event = if scheme == Scheme::Rule {
                    &parsed
                } else {
                    &parsed["payload"]
                };
                assert_eq!(event["id"], "evt_new", "{scheme:?} {happening:?}");
                assert_eq!(event["conversation"]["id"], "cnv_new", "{scheme:?} {happening:?}");
                assert_eq!(event["emitted_at"], 1_700_000_000.007, "{scheme:?} {happening:?}");
                for prefix in ["evt_", "cnv_"] {
                    for (at, _) in body.match_indices(prefix) {
                        assert!(
                            body[at..].starts_with(&format!("{prefix}new")),
                            "{scheme:?} {happening:?}"
                        );
                    }
                }
                if scheme == Scheme::Relay {
                    assert_eq!(parsed["type"], dotted(happening));
                }
            }
        }
    }

    #[test]
    fn a_small_body_has_the_shape_of_a_sample() {
        for scheme in [Scheme::Application, Scheme::Rule, Scheme::Relay] {
            let at = Timestamp::from_millis(1_700_000_000_007);
            let written = Template::new(scheme, Happening::Inbound).write("evt_1", "cnv_1", at);
            let (sample, small): (Value, Value) = (
                serde_json::from_str(&written).unwrap(),
                serde_json::from_str(&small(scheme, "evt_1", "cnv_1", at)).unwrap(),
            );
            let event = |body: &Value| {
                if scheme == Scheme::Rule {
                    body.clone()
                } else {
                    body["payload"].clone()
                }
            };
            for field in ["id", "type", "emitted_at"] {
                assert_eq!(event(&small)[field], event(&sample)[field], "{scheme:?} {field}");
            }
            assert_eq!(event(&small)["conversation"]["id"], "cnv_1", "{scheme:?}");
            assert_eq!(small["type"], sample["type"], "{scheme:?}");
        }
    }

    #[test]
    fn with_its_own_ids_and_time_a_sample_is_the_body_it_came_from() {
        let body = application(Happening::Inbound);
        let parsed: Value = serde_json::from_str(body).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (event, conversation) = (
            text(&parsed["payload"]["id"]),
            text(&parsed["payload"]["conversation"]["id"]),
        );
        let seconds = parsed["payload"]["emitted_at"].as_f64().unwrap();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a time of a sample, in milliseconds"
        )]
        let millis = (seconds * 1_000.0).round() as i64;
        let written = Template::new(Scheme::Application, Happening::Inbound).write(
            &event,
            &conversation,
            Timestamp::from_millis(millis),
        );
        let written: Value = serde_json::from_str(&written).unwrap();
        assert_eq!(written, parsed);
    }
}
