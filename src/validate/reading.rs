//! What one event of Front says of itself: conversation, time, company, assignment.

use crate::model::Timestamp;
use crate::wire::front_webhook::{Conversation, FrontEvent, Links, Target};
use crate::wire::lenient::Member;

use super::mapping::{Assignment, MERGED};

/// Finds the conversation by the steps of front-protocol 5.6; `None`: it names none, and we do not guess.
pub(super) fn conversation<'e>(event: &'e FrontEvent<'_>) -> Option<&'e str> {
    let conversation = event.conversation.object();
    let target = event.target.object();
    let data = target.and_then(|target| target.data.object());
    conversation
        .and_then(|conversation| conversation.id.text())
        .or_else(|| conversation.and_then(|conversation| last_segment(own_link(&conversation.links)?)))
        .or_else(|| {
            let links = data?.links.object()?;
            last_segment(links.related.object()?.conversation.text()?)
        })
        .or_else(|| data.and_then(|data| conversation_shaped(data.id.text()?)))
        .or_else(|| target.and_then(|target| conversation_shaped(target.id.text()?)))
}

/// Tells whether the event merged conversations, and which ones went; the surviving one is [`conversation`].
pub(super) fn merged<'e>(event: &'e FrontEvent<'_>) -> Option<Merged<'e>> {
    let target = event.target.object()?;
    let kind = target.meta.object().and_then(|meta| meta.kind.text());
    if event.kind.text() != Some(MERGED) && kind != Some("deleted_conversation_ids") {
        return None;
    }
    let ids = target.data.list()?;
    Some(Merged {
        conversations: ids.iter().collect(),
        truncated: ids.truncated,
    })
}

/// The conversations that a merge ended.
pub(super) struct Merged<'e> {
    pub(super) conversations: Vec<&'e str>,
    /// Whether there were more than are read.
    pub(super) truncated: bool,
}

/// Tells whether someone was assigned, for an `assignee_changed` whose inner type does not say.
pub(super) fn assignment(event: &FrontEvent<'_>) -> Assignment {
    let Some(target) = event.target.object() else {
        return Assignment::Unassigned;
    };
    if is_teammate(target) {
        return Assignment::Assigned;
    }
    match event.conversation.object() {
        Some(Conversation {
            assignee: Member::Null,
            ..
        }) => Assignment::Unassigned,
        _ => Assignment::Assigned,
    }
}

fn is_teammate(target: &Target<'_>) -> bool {
    let kind = target.meta.object().and_then(|meta| meta.kind.text());
    kind == Some("teammate")
}

/// Turns the emission time into milliseconds; `None` when it is missing or not a time Front can have emitted.
pub(super) fn emitted_at(event: &FrontEvent<'_>) -> Option<Timestamp> {
    timestamp_of_seconds(event.emitted_at.number()?)
}

/// Rounds seconds to the nearest millisecond.
///
/// Exact for every number of up to three decimals in the range: the nearest double of n/1000, times 1000, is off
/// by less than n × 2^-51, which is below one half for all n below 2^50, and the range ends at 2^47.9. A time in
/// milliseconds, sent by mistake, lies beyond the range.
fn timestamp_of_seconds(seconds: f64) -> Option<Timestamp> {
    /// The first second of the year 10000, where RFC 3339 ends.
    const END: f64 = 253_402_300_800.0;
    if !(seconds > 0.0 && seconds < END) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range fits")]
    let millis = (seconds * 1_000.0).round() as i64;
    Some(Timestamp::from_millis(millis))
}

/// Finds the company in the event's own link: `https://<company>.api.frontapp.com/…`.
///
/// The shared host `api2.frontapp.com` names none.
pub(super) fn company_of_link<'e>(event: &'e FrontEvent<'_>) -> Option<&'e str> {
    let (_, rest) = own_link(&event.links)?.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    let company = host.strip_suffix(".api.frontapp.com")?;
    let is_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (!company.is_empty() && company.bytes().all(is_label)).then_some(company)
}

fn own_link<'e>(links: &'e Member<'_, Links<'_>>) -> Option<&'e str> {
    links.object()?.own.text()
}

/// Returns the last segment of a link's path, without query and fragment.
fn last_segment(link: &str) -> Option<&str> {
    let path = link.split(['?', '#']).next()?;
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let (_, segment) = path.trim_end_matches('/').rsplit_once('/')?;
    (!segment.is_empty()).then_some(segment)
}

fn conversation_shaped(id: &str) -> Option<&str> {
    id.starts_with("cnv_").then_some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::front_webhook::parse;

    fn event(body: &str) -> FrontEvent<'_> {
        parse(body).unwrap().into_bare_event()
    }

    #[test]
    fn finds_the_conversation_in_five_steps() {
        let cases = [
            (
                r#"{"conversation":{"id":"cnv_1","_links":{"self":"https://h/conversations/cnv_2"}},"target":{"id":"cnv_3"}}"#,
                Some("cnv_1"),
            ),
            (
                r#"{"conversation":{"id":"","_links":{"self":"https://h/conversations/cnv_2/?a=/b#/c"}},"target":{"id":"cnv_3"}}"#,
                Some("cnv_2"),
            ),
            (
                r#"{"conversation":null,"target":{"id":"cnv_3","data":{"id":"cnv_4","_links":{"related":{"conversation":"/conversations/cnv_5"}}}}}"#,
                Some("cnv_5"),
            ),
            (
                r#"{"target":{"id":"cnv_3","data":{"id":"cnv_4"}}}"#,
                Some("cnv_4"),
            ),
            (
                r#"{"target":{"id":"cnv_3","data":{"id":"msg_4"}}}"#,
                Some("cnv_3"),
            ),
            (r#"{"target":{"id":"cnv_3","data":["cnv_4"]}}"#, Some("cnv_3")),
            (r#"{"target":{"id":"tag_3","data":["cnv_4"]}}"#, None),
            (r#"{"conversation":{"_links":{"self":"https://host"}}}"#, None),
            (r#"{"conversation":"cnv_1"}"#, None),
            ("{}", None),
        ];
        for (body, id) in cases {
            assert_eq!(conversation(&event(body)), id, "{body}");
        }
    }

    #[test]
    fn finds_the_company_in_a_company_host_only() {
        let cases = [
            ("https://acme.api.frontapp.com/events/evt_1", Some("acme")),
            ("https://acme.api.frontapp.com", Some("acme")),
            ("https://api2.frontapp.com/events/evt_1", None),
            ("https://.api.frontapp.com/events/evt_1", None),
            ("https://evil.example/x.api.frontapp.com", None),
            ("https://a.b.api.frontapp.com/", None),
            ("https://user@acme.api.frontapp.com/", None),
            ("acme.api.frontapp.com/events/evt_1", None),
        ];
        for (link, company) in cases {
            let body = format!(r#"{{"_links":{{"self":"{link}"}}}}"#);
            assert_eq!(company_of_link(&event(&body)), company, "{link}");
        }
    }

    #[test]
    fn tells_assigned_from_unassigned() {
        use Assignment::{Assigned, Unassigned};
        let cases = [
            (
                r#"{"target":{"_meta":{"type":"teammate"}},"conversation":{"assignee":null}}"#,
                Assigned,
            ),
            (r#"{"conversation":{"assignee":{"id":"tea_1"}}}"#, Unassigned),
            (
                r#"{"target":{"_meta":{"type":"team"}},"conversation":{"assignee":null}}"#,
                Unassigned,
            ),
            (
                r#"{"target":{"_meta":{"type":"team"}},"conversation":{"assignee":{}}}"#,
                Assigned,
            ),
            (
                r#"{"target":{"_meta":{"type":"team"}},"conversation":{}}"#,
                Assigned,
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(assignment(&event(body)), expected, "{body}");
        }
    }

    #[test]
    fn reads_the_emission_time_exactly() {
        let cases = [
            ("1795000000.93", Some(1_795_000_000_930)),
            ("1795000000", Some(1_795_000_000_000)),
            ("1795000000.0", Some(1_795_000_000_000)),
            ("1795000300.006", Some(1_795_000_300_006)),
            ("1.795e9", Some(1_795_000_000_000)),
            ("1795000000.9996", Some(1_795_000_001_000)),
            ("253402300799.999", Some(253_402_300_799_999)),
            ("0", None),
            ("-1", None),
            ("1795000000930", None),
            ("18446744073709551615", None),
            ("1e300", None),
            (r#""1795000000.93""#, None),
            ("null", None),
        ];
        for (number, millis) in cases {
            let body = format!(r#"{{"emitted_at":{number}}}"#);
            let expected = millis.map(Timestamp::from_millis);
            assert_eq!(emitted_at(&event(&body)), expected, "{number}");
        }
    }

    proptest! {
        #[test]
        fn every_time_of_up_to_three_decimals_is_exact(millis in 1_i64..253_402_300_800_000) {
            let forms = [
                format!("{}.{:03}", millis / 1_000, millis % 1_000),
                format!("{}.{}", millis / 1_000, format!("{:03}", millis % 1_000).trim_end_matches('0')),
                format!("{millis}e-3"),
            ];
            // "5." is not a number of JSON.
            for form in forms.iter().filter(|form| !form.ends_with('.')) {
                let body = format!(r#"{{"emitted_at":{form}}}"#);
                prop_assert_eq!(emitted_at(&event(&body)), Some(Timestamp::from_millis(millis)), "{}", form);
            }
        }
    }
}
