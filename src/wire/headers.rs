//! Record headers: the CloudEvents Kafka binding in binary mode, and a few of our own to route on.
//!
//! Source: CloudEvents 1.0.2, "Kafka Protocol Binding", section 3.2: attributes are headers `ce_<name>`, as UTF-8
//! without percent-encoding; the content type is the header `content-type`.

use std::borrow::Cow;
use std::fmt::Write;

use crate::model::{Event, Priority, Refresh, Run, TenantId, Timestamp};

/// Media type of every value of ours, whichever the framing.
pub const CONTENT_TYPE: &str = "application/avro";

/// Of a dead letter: why it was set aside.
pub const REASON: &str = "frontstream-reason";
/// Of a dead letter that was a record: the topic it was read from.
pub const ORIGIN_TOPIC: &str = "frontstream-origin-topic";
/// Of a dead letter that was a record: the partition it was read from.
pub const ORIGIN_PARTITION: &str = "frontstream-origin-partition";
/// Of a dead letter that was a record: the offset it was read from.
pub const ORIGIN_OFFSET: &str = "frontstream-origin-offset";
/// Of a dead letter that was a record: the run that set it aside, so that a replay is told from a fault.
pub const ORIGIN_RUN: &str = "frontstream-origin-run";

/// Writes a run as [`ORIGIN_RUN`] has it: when it began in milliseconds, a hyphen, its first offset.
pub fn run_text(run: Run) -> String {
    format!("{}-{}", run.started_at.as_millis(), run.start)
}

const ID: &str = "ce_id";
const TYPE: &str = "ce_type";
const SOURCE: &str = "ce_source";
const TIME: &str = "ce_time";
const SPEC_VERSION: &str = "ce_specversion";
const SUBJECT: &str = "ce_subject";
const CONTENT: &str = "content-type";
const TRACE_PARENT: &str = "traceparent";
const PRIORITY: &str = "frontstream-priority";
const TENANT: &str = "frontstream-tenant";

const EVENT_TYPE_PREFIX: &str = "com.frontapp.";
const REFRESH_TYPE: &str = "io.frontstream.refresh";
const SOURCE_PREFIX: &str = "/front/";

/// A header's name and its value, UTF-8.
pub type Header<'a> = (&'static str, Cow<'a, str>);

/// Returns the headers of an event's record; `trace_parent` is that of the request, where it has a valid one.
pub fn of_event<'a>(
    event: &'a Event,
    trace_parent: Option<&'a str>,
) -> impl Iterator<Item = Header<'a>> + use<'a> {
    let subject = event.conversation.as_ref().map(|id| id.as_str());
    let common = common(subject, event.priority, &event.tenant, event.emitted_at);
    let own = [
        Some((ID, Cow::Borrowed(event.id.as_str()))),
        Some((
            TYPE,
            Cow::Owned([EVENT_TYPE_PREFIX, event.kind.as_str()].concat()),
        )),
        trace_parent.map(|value| (TRACE_PARENT, Cow::Borrowed(value))),
    ];
    own.into_iter().chain(common).flatten()
}

/// Returns the headers of a refresh's record.
pub fn of_refresh(refresh: &Refresh) -> impl Iterator<Item = Header<'_>> + use<'_> {
    let common = common(
        Some(refresh.conversation.as_str()),
        refresh.priority,
        &refresh.tenant,
        refresh.last_emitted_at,
    );
    let own = [
        Some((ID, Cow::Owned(refresh.id().to_string()))),
        Some((TYPE, Cow::Borrowed(REFRESH_TYPE))),
    ];
    own.into_iter().chain(common).flatten()
}

fn common<'a>(
    subject: Option<&'a str>,
    priority: Priority,
    tenant: &'a TenantId,
    time: Timestamp,
) -> [Option<Header<'a>>; 7] {
    [
        Some((SOURCE, Cow::Owned(source(tenant.as_str())))),
        Some((TIME, Cow::Owned(time.to_string()))),
        Some((SPEC_VERSION, Cow::Borrowed("1.0"))),
        subject.map(|id| (SUBJECT, Cow::Borrowed(id))),
        Some((CONTENT, Cow::Borrowed(CONTENT_TYPE))),
        Some((PRIORITY, Cow::Borrowed(priority.as_str()))),
        Some((TENANT, Cow::Borrowed(tenant.as_str()))),
    ]
}

/// Makes the URI reference of a tenant: what a path segment may not hold is percent-encoded (RFC 3986, section 2).
fn source(tenant: &str) -> String {
    let mut source = String::with_capacity(SOURCE_PREFIX.len() + tenant.len());
    source.push_str(SOURCE_PREFIX);
    for byte in tenant.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            source.push(byte.into());
        } else {
            write!(source, "%{byte:02X}").expect("a String takes every character");
        }
    }
    source
}

/// What a record's headers say, as far as someone who reads it wants to show; `None` where one is absent or not UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The event id or the refresh id.
    pub id: Option<&'a str>,
    /// The CloudEvents type: `com.frontapp.<kind>` or `io.frontstream.refresh`.
    pub ce_type: Option<&'a str>,
    /// The conversation.
    pub subject: Option<&'a str>,
    /// The time of emission, RFC 3339.
    pub time: Option<&'a str>,
    /// The company.
    pub tenant: Option<&'a str>,
    /// The urgency; `None` also for a word of a later version.
    pub priority: Option<Priority>,
    /// The trace of the request.
    pub trace_parent: Option<&'a str>,
}

impl<'a> Seen<'a> {
    /// Reads headers as a Kafka client gives them; unknown ones are passed over, of equal ones the last counts.
    pub fn new(headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            let text = value.and_then(|bytes| std::str::from_utf8(bytes).ok());
            match name {
                ID => seen.id = text,
                TYPE => seen.ce_type = text,
                SUBJECT => seen.subject = text,
                TIME => seen.time = text,
                TENANT => seen.tenant = text,
                PRIORITY => seen.priority = text.and_then(Priority::from_name),
                TRACE_PARENT => seen.trace_parent = text,
                _ => {}
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        CloseReason, ConversationId, EventId, Kind, Offset, Partition, Run, RunCause, Source,
    };

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn event(tenant: &str, conversation: Option<&str>) -> Event {
        Event {
            tenant: TenantId::new(tenant).unwrap(),
            conversation: conversation.and_then(ConversationId::new),
            id: EventId::new("evt_1").unwrap(),
            kind: Kind::new("message.received").unwrap(),
            front_type: None,
            front_inner_type: None,
            priority: Priority::High,
            source: Source::Rule,
            emitted_at: Timestamp::from_millis(1_795_000_000_930),
            received_at: Timestamp::from_millis(1_795_000_001_000),
            payload: None,
        }
    }

    fn text<'a>(headers: impl Iterator<Item = Header<'a>>) -> String {
        let mut lines: Vec<_> = headers.map(|(name, value)| format!("{name}: {value}")).collect();
        lines.sort();
        lines.join("\n")
    }

    #[test]
    fn an_event_has_the_attributes_of_the_binding() {
        let headers = text(of_event(&event("cmp_a", Some("cnv_1")), Some(TRACE)));
        assert_eq!(
            headers,
            "ce_id: evt_1\nce_source: /front/cmp_a\nce_specversion: 1.0\nce_subject: cnv_1\n\
             ce_time: 2026-11-18T11:06:40.930Z\nce_type: com.frontapp.message.received\n\
             content-type: application/avro\nfrontstream-priority: high\nfrontstream-tenant: cmp_a\n\
             traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        );
        let bare = text(of_event(&event("cmp_a", None), None));
        assert!(
            !bare.contains("ce_subject") && !bare.contains("traceparent"),
            "{bare}"
        );
    }

    #[test]
    fn a_refresh_has_the_attributes_of_the_binding() {
        let at = |millis| Timestamp::from_millis(millis);
        let refresh = Refresh {
            tenant: TenantId::new("cmp_a").unwrap(),
            conversation: ConversationId::new("cnv_1").unwrap(),
            priority: Priority::Medium,
            kinds: Vec::new(),
            event_count: 2,
            event_ids: Vec::new(),
            event_ids_truncated: true,
            first_emitted_at: at(0),
            last_emitted_at: at(1_795_000_000_930),
            first_received_at: at(0),
            last_received_at: at(0),
            partition: Partition::new(3).unwrap(),
            first_offset: Offset::new(7).unwrap(),
            last_offset: Offset::new(9).unwrap(),
            run: Run {
                started_at: at(0),
                start: Offset::ZERO,
                cause: RunCause::First,
            },
            closed_by: CloseReason::Gap,
        };
        assert_eq!(
            text(of_refresh(&refresh)),
            "ce_id: 3-7-9\nce_source: /front/cmp_a\nce_specversion: 1.0\nce_subject: cnv_1\n\
             ce_time: 2026-11-18T11:06:40.930Z\nce_type: io.frontstream.refresh\n\
             content-type: application/avro\nfrontstream-priority: medium\nfrontstream-tenant: cmp_a"
        );
    }

    #[test]
    fn a_source_is_a_uri_reference_whatever_the_tenant() {
        assert_eq!(source("a b/c?é"), "/front/a%20b%2Fc%3F%C3%A9");
        let headers = text(of_event(&event("a b", None), None));
        assert!(headers.contains("frontstream-tenant: a b"), "as it is: {headers}");
    }

    #[test]
    fn what_was_written_is_seen() {
        let event = event("cmp_a", Some("cnv_1"));
        let headers: Vec<_> = of_event(&event, Some(TRACE)).collect();
        let seen = Seen::new(
            headers
                .iter()
                .map(|(name, value)| (*name, Some(value.as_bytes()))),
        );
        assert_eq!(
            seen,
            Seen {
                id: Some("evt_1"),
                ce_type: Some("com.frontapp.message.received"),
                subject: Some("cnv_1"),
                time: Some("2026-11-18T11:06:40.930Z"),
                tenant: Some("cmp_a"),
                priority: Some(Priority::High),
                trace_parent: Some(TRACE),
            }
        );
        let odd: [(&str, Option<&[u8]>); 4] = [
            (ID, None),
            (TENANT, Some(&[0xff])),
            (PRIORITY, Some(b"bulk")),
            ("other", Some(b"x")),
        ];
        assert_eq!(Seen::new(odd), Seen::default());
    }
}
