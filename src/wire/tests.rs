//! Our codec against the `apache-avro` crate, in both directions and on damaged bytes.

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::SchemaFingerprint;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Schema, rabin::Rabin};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::decode::canonical_form;
use super::{
    DecodeError, Decoded, Encoding, EventDecoder, Fingerprint, Malformed, RefreshDecoder, SchemaId, event_v1,
    refresh_v1,
};
use crate::model::{
    Change, CloseReason, ConversationId, Event, EventId, Kind, Offset, Partition, Priority, Refresh, Run,
    RunCause, Source, TenantId, Timestamp,
};

fn schema(text: &str) -> Schema {
    Schema::parse_str(text).unwrap()
}

fn reference_encode(schema: &Schema, value: Value) -> Vec<u8> {
    let writer = GenericDatumWriter::builder(schema).build().unwrap();
    writer.write_value_to_vec(value).unwrap()
}

/// Reads one value and demands that nothing follows: the crate itself does not.
fn reference_decode(schema: &Schema, mut bytes: &[u8]) -> Option<Value> {
    let reader = GenericDatumReader::builder(schema).build().unwrap();
    let value = reader.read_value(&mut bytes).ok()?;
    bytes.is_empty().then_some(value)
}

fn encoded(event: &Event) -> Vec<u8> {
    let mut out = Vec::new();
    event_v1::encode(&mut out, event);
    out
}

fn encoded_refresh(refresh: &Refresh) -> Vec<u8> {
    let mut out = Vec::new();
    refresh_v1::encode(&mut out, refresh);
    out
}

fn framed(encoding: Encoding, event: &Event) -> Vec<u8> {
    let mut out = Vec::new();
    event_v1::write(&mut out, encoding, event);
    out
}

/// The constants themselves were computed by Java's `SchemaNormalization` (Avro 1.12.0).
#[test]
fn fingerprints_are_those_of_the_schemas() {
    for (text, print) in [
        (event_v1::SCHEMA, event_v1::FINGERPRINT),
        (refresh_v1::SCHEMA, refresh_v1::FINGERPRINT),
    ] {
        let form = schema(&canonical_form(&schema(text)));
        let SchemaFingerprint { bytes } = form.fingerprint::<Rabin>();
        let computed = Fingerprint(u64::from_le_bytes(bytes.try_into().unwrap()));
        assert_eq!(computed, print);
    }
}

proptest! {
    #[test]
    fn events_are_written_as_the_reference_writes_them(event in event()) {
        let schema = schema(event_v1::SCHEMA);
        let bytes = encoded(&event);
        prop_assert_eq!(&bytes, &reference_encode(&schema, value_of_event(&event)));
        prop_assert_eq!(reference_decode(&schema, &bytes), Some(value_of_event(&event)));
        prop_assert_eq!(event_v1::decode_change(&bytes), Ok(change_of(&event)));
        prop_assert_eq!(event_v1::decode(&bytes), Ok(event));
    }

    #[test]
    fn refreshes_are_written_as_the_reference_writes_them(refresh in refresh()) {
        let schema = schema(refresh_v1::SCHEMA);
        let bytes = encoded_refresh(&refresh);
        prop_assert_eq!(&bytes, &reference_encode(&schema, value_of_refresh(&refresh)));
        prop_assert_eq!(reference_decode(&schema, &bytes), Some(value_of_refresh(&refresh)));
        prop_assert_eq!(refresh_v1::decode(&bytes), Ok(refresh));
    }

    /// Damaged bytes are refused, or the reference reads the same from them; both readers of an event agree.
    #[test]
    fn damaged_events_never_mislead(event in event(), damage in damage()) {
        let bytes = damage.to(encoded(&event));
        let change = event_v1::decode_change(&bytes).map(|change| format!("{change:?}"));
        match event_v1::decode(&bytes) {
            Ok(event) => {
                prop_assert_eq!(change, Ok(format!("{:?}", change_of(&event))));
                let read = reference_decode(&schema(event_v1::SCHEMA), &bytes);
                prop_assert_eq!(read, Some(value_of_event(&event)));
            }
            Err(refused) => {
                prop_assert_eq!(change, Err(refused.clone()));
                prop_assert!(refused.to_string().len() < 120, "no content in {}", refused);
            }
        }
    }

    #[test]
    fn damaged_refreshes_never_mislead(refresh in refresh(), damage in damage()) {
        let bytes = damage.to(encoded_refresh(&refresh));
        if let Ok(refresh) = refresh_v1::decode(&bytes) {
            let read = reference_decode(&schema(refresh_v1::SCHEMA), &bytes);
            prop_assert_eq!(read, Some(value_of_refresh(&refresh)));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let mut events = EventDecoder::new();
        events.learn(SchemaId(0), &with_field_before_payload()).unwrap();
        let _ = events.decode(&bytes);
        let mut as_foreign = vec![0; 5];
        as_foreign.extend(&bytes);
        let _ = events.decode(&as_foreign);
        let _ = event_v1::decode(&bytes);
        let _ = refresh_v1::decode(&bytes);
        let _ = RefreshDecoder::new().refresh(&bytes);
    }

    /// A later version with a field more is read through resolution, by both readers, and damage is refused.
    #[test]
    fn later_events_resolve_onto_ours(event in event(), cut in 1_usize..40) {
        let later = with_field_before_payload();
        let Value::Record(mut fields) = value_of_event(&event) else { unreachable!() };
        fields.insert(fields.len() - 1, ("attempt".into(), Value::Long(7)));
        let mut bytes = vec![0, 0, 0, 0, 9];
        bytes.extend(reference_encode(&schema(&later), Value::Record(fields)));

        let mut decoder = EventDecoder::new();
        prop_assert_eq!(decoder.event(&bytes), Err(DecodeError::UnknownSchema(SchemaId(9))));
        decoder.learn(SchemaId(9), &later).unwrap();
        let decoded = decoder.decode(&bytes).unwrap();
        prop_assert!(matches!(decoded, Decoded::Resolved(_)));
        prop_assert_eq!(decoded.change(), change_of(&event));
        prop_assert_eq!(decoder.event(&bytes), Ok(event));

        // The reference alone would read a record that ends early as one with nulls.
        let end = bytes.len().saturating_sub(cut).max(5);
        let refused = decoder.event(&bytes[..end]);
        prop_assert!(matches!(refused, Err(DecodeError::Malformed(_))), "{:?}", refused);
        let end = bytes.len();
        bytes.push(0);
        let trailing = Malformed::Trailing { offset: end, left: 1 };
        prop_assert_eq!(decoder.event(&bytes), Err(trailing.into()));
    }
}

#[test]
fn both_framings_are_read() {
    let event = sample_event();
    let mut decoder = EventDecoder::new();
    assert_eq!(
        decoder.event(&framed(Encoding::SingleObject, &event)),
        Ok(event.clone())
    );
    let by_id = framed(Encoding::Registry(SchemaId(7)), &event);
    assert_eq!(
        decoder.decode(&by_id).unwrap_err(),
        DecodeError::UnknownSchema(SchemaId(7))
    );
    decoder.learn(SchemaId(7), event_v1::SCHEMA).unwrap();
    let decoded = decoder.decode(&by_id).unwrap();
    assert!(
        matches!(decoded, Decoded::InPlace(_)),
        "our own schema, whichever its id"
    );
    assert_eq!(decoded.change(), change_of(&event));

    let mut strange = framed(Encoding::SingleObject, &event);
    strange[2] ^= 1;
    let refused = decoder.decode(&strange).unwrap_err();
    assert!(
        matches!(refused, DecodeError::Malformed(Malformed::UnknownFingerprint(_))),
        "{refused}"
    );
}

#[test]
fn our_schema_written_otherwise_is_still_ours() {
    let compact: serde_json::Value = serde_json::from_str(event_v1::SCHEMA).unwrap();
    let mut decoder = EventDecoder::new();
    decoder.learn(SchemaId(1), &compact.to_string()).unwrap();
    decoder
        .learn(SchemaId(2), &canonical_form(&schema(event_v1::SCHEMA)))
        .unwrap();
    for id in [1, 2] {
        let bytes = framed(Encoding::Registry(SchemaId(id)), &sample_event());
        assert!(matches!(decoder.decode(&bytes), Ok(Decoded::InPlace(_))), "{id}");
    }
}

#[test]
fn schemas_that_cannot_be_ours_are_refused_by_name() {
    let mut decoder = EventDecoder::new();
    for text in [
        "no schema",
        r#""string""#,
        refresh_v1::SCHEMA,
        r#"{"type":"record","name":"Event","fields":[{"name":"tenant","type":"string"}]}"#,
    ] {
        let refused = decoder.learn(SchemaId(3), text).unwrap_err();
        assert_eq!(refused.id, SchemaId(3));
        let bytes = framed(Encoding::Registry(SchemaId(3)), &sample_event());
        assert_eq!(
            decoder.decode(&bytes).unwrap_err(),
            DecodeError::Malformed(Malformed::Unreadable(SchemaId(3)))
        );
    }
}

#[test]
fn words_of_later_versions_get_their_defaults() {
    let later = event_v1::SCHEMA
        .replace(
            r#""symbols": ["high", "medium", "low"]"#,
            r#""symbols": ["now", "high", "medium", "low"]"#,
        )
        .replace(r#""relay", "polling"]"#, r#""relay", "polling", "import"]"#);
    let Value::Record(mut fields) = value_of_event(&sample_event()) else {
        unreachable!()
    };
    fields[6].1 = Value::Enum(0, "now".into());
    fields[7].1 = Value::Enum(5, "import".into());
    let mut bytes = vec![0, 0, 0, 0, 4];
    bytes.extend(reference_encode(&schema(&later), Value::Record(fields)));
    let mut decoder = EventDecoder::new();
    decoder.learn(SchemaId(4), &later).unwrap();
    let event = decoder.event(&bytes).unwrap();
    assert_eq!((event.priority, event.source), (Priority::High, Source::Unknown));
}

#[test]
fn an_unknown_reason_to_close_is_refused_and_says_so() {
    let later = refresh_v1::SCHEMA.replace(r#""pressure", "stop"]"#, r#""pressure", "stop", "tick"]"#);
    let Value::Record(mut fields) = value_of_refresh(&sample_refresh()) else {
        unreachable!()
    };
    fields.last_mut().unwrap().1 = Value::Enum(6, "tick".into());
    let mut bytes = vec![0, 0, 0, 0, 5];
    bytes.extend(reference_encode(&schema(&later), Value::Record(fields)));
    let mut decoder = RefreshDecoder::new();
    decoder.learn(SchemaId(5), &later).unwrap();
    assert_eq!(
        decoder.refresh(&bytes).unwrap_err().to_string(),
        "reading closed_by: it is a word of a later version"
    );
}

#[test]
fn a_hostile_schema_costs_no_stack_and_no_memory() {
    let ours: serde_json::Value = serde_json::from_str(event_v1::SCHEMA).unwrap();
    let with = |extra: serde_json::Value| {
        let mut later = ours.clone();
        later["fields"].as_array_mut().unwrap().insert(0, extra);
        later.to_string()
    };
    let endless = with(
        serde_json::json!({"name": "x", "type": {"type": "record", "name": "X", "fields": [
        {"name": "next", "type": ["null", "X"]}]}}),
    );
    let nothings = with(serde_json::json!({"name": "x", "type": {"type": "array", "items": "null"}}));
    let huge =
        with(serde_json::json!({"name": "x", "type": {"type": "fixed", "name": "F", "size": 1_u64 << 40}}));
    let cases = [
        (endless, "nested too deeply"),
        (nothings, "a length of 50001 is impossible"),
        (huge, "the record ends at byte 100008"),
    ];
    for (id, (text, expected)) in (1..).zip(cases) {
        let mut decoder = EventDecoder::new();
        decoder.learn(SchemaId(id), &text).unwrap();
        let mut bytes = vec![0, 0, 0, 0, u8::try_from(id).unwrap()];
        // As a chain: one more, one more, … As an array of nulls: a block of 50,001.
        bytes.extend(if id == 2 { [0xa2, 0x8d, 0x06] } else { [2; 3] });
        bytes.extend([2; 100_000]);
        let refused = decoder.decode(&bytes).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn a_decoder_keeps_a_bounded_number_of_schemas() {
    let mut decoder = EventDecoder::new();
    for id in 0..1_000 {
        decoder.learn(SchemaId(id), event_v1::SCHEMA).unwrap();
    }
    let by_id = |id| framed(Encoding::Registry(SchemaId(id)), &sample_event());
    assert!(decoder.decode(&by_id(999)).is_ok());
    assert_eq!(
        decoder.decode(&by_id(0)).unwrap_err(),
        DecodeError::UnknownSchema(SchemaId(0))
    );
}

/// Ours with a field more: what a version 2 may look like.
fn with_field_before_payload() -> String {
    let mut later: serde_json::Value = serde_json::from_str(event_v1::SCHEMA).unwrap();
    let fields = later["fields"].as_array_mut().unwrap();
    let attempt = serde_json::json!({"name": "attempt", "type": "long", "default": 0});
    fields.insert(fields.len() - 1, attempt);
    later.to_string()
}

fn sample_event() -> Event {
    Event {
        tenant: TenantId::new("cmp_abc").unwrap(),
        conversation: ConversationId::new("cnv_1"),
        id: EventId::new("evt_1").unwrap(),
        kind: Kind::new("message.received").unwrap(),
        front_type: Some("inbound_received".into()),
        front_inner_type: None,
        priority: Priority::Medium,
        source: Source::Rule,
        emitted_at: Timestamp::from_millis(1_795_000_000_930),
        received_at: Timestamp::from_millis(1_795_000_001_000),
        payload: Some(bytes::Bytes::from_static(b"{}")),
    }
}

fn sample_refresh() -> Refresh {
    Refresh {
        tenant: TenantId::new("cmp_abc").unwrap(),
        conversation: ConversationId::new("cnv_1").unwrap(),
        priority: Priority::High,
        kinds: vec![Kind::new("message.received").unwrap()],
        event_count: 1,
        event_ids: vec![EventId::new("evt_1").unwrap()],
        event_ids_truncated: false,
        first_emitted_at: Timestamp::from_millis(1_795_000_000_930),
        last_emitted_at: Timestamp::from_millis(1_795_000_000_930),
        first_received_at: Timestamp::from_millis(1_795_000_001_000),
        last_received_at: Timestamp::from_millis(1_795_000_001_000),
        partition: Partition::new(3).unwrap(),
        first_offset: Offset::ZERO,
        last_offset: Offset::ZERO,
        run: Run {
            started_at: Timestamp::from_millis(1_795_000_000_000),
            start: Offset::ZERO,
            cause: RunCause::First,
        },
        closed_by: CloseReason::Gap,
    }
}

fn change_of(event: &Event) -> Change<'_> {
    Change {
        tenant: event.tenant.as_str(),
        conversation: event.conversation.as_ref().map(|id| id.as_str()),
        event_id: event.id.as_str(),
        kind: event.kind.as_str(),
        priority: event.priority,
        emitted_at: event.emitted_at,
        received_at: event.received_at,
    }
}

fn event() -> impl Strategy<Value = Event> {
    (
        (name(), option::of(name()), name(), name()),
        (option::of(".{0,20}"), option::of(".{0,20}")),
        (select(Priority::ALL.to_vec()), select(Source::ALL.to_vec())),
        (any::<i64>(), any::<i64>()),
        option::of(vec(any::<u8>(), 0..300)),
    )
        .prop_map(|(ids, types, (priority, source), times, payload)| Event {
            tenant: TenantId::new(ids.0).unwrap(),
            conversation: ids.1.and_then(ConversationId::new),
            id: EventId::new(ids.2).unwrap(),
            kind: Kind::new(ids.3).unwrap(),
            front_type: types.0.map(Into::into),
            front_inner_type: types.1.map(Into::into),
            priority,
            source,
            emitted_at: Timestamp::from_millis(times.0),
            received_at: Timestamp::from_millis(times.1),
            payload: payload.map(Into::into),
        })
}

fn refresh() -> impl Strategy<Value = Refresh> {
    (
        (name(), name(), select(Priority::ALL.to_vec())),
        (vec(name(), 0..4), vec(name(), 0..5), any::<bool>()),
        (1..=u32::MAX, any::<[i64; 5]>()),
        (0..=i32::MAX, 0..=i64::MAX, 0..=i64::MAX, 0..=i64::MAX),
        (select(RunCause::ALL.to_vec()), select(CloseReason::ALL.to_vec())),
    )
        .prop_map(
            |(ids, lists, (event_count, times), at, (cause, closed_by))| Refresh {
                tenant: TenantId::new(ids.0).unwrap(),
                conversation: ConversationId::new(ids.1).unwrap(),
                priority: ids.2,
                kinds: lists.0.into_iter().filter_map(Kind::new).collect(),
                event_count,
                event_ids: lists.1.into_iter().filter_map(EventId::new).collect(),
                event_ids_truncated: lists.2,
                first_emitted_at: Timestamp::from_millis(times[0]),
                last_emitted_at: Timestamp::from_millis(times[1]),
                first_received_at: Timestamp::from_millis(times[2]),
                last_received_at: Timestamp::from_millis(times[3]),
                partition: Partition::new(at.0).unwrap(),
                first_offset: Offset::new(at.1.min(at.2)).unwrap(),
                last_offset: Offset::new(at.1.max(at.2)).unwrap(),
                run: Run {
                    started_at: Timestamp::from_millis(times[4]),
                    start: Offset::new(at.3).unwrap(),
                    cause,
                },
                closed_by,
            },
        )
}

/// An identifier: any text but the empty one, now and then longer than one length byte can say.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => ".{1,12}", 1 => "[a-z]{64,200}"]
}

/// What can happen to bytes.
#[derive(Clone, Debug)]
enum Damage {
    Cut(usize),
    Extend(Vec<u8>),
    Flip(usize, u8),
    Remove(usize),
}

impl Damage {
    fn to(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let end = bytes.len();
        match self {
            Self::Cut(cut) => bytes.truncate(end - cut % end - 1),
            Self::Extend(more) => bytes.extend(more),
            Self::Flip(at, bits) => bytes[at % end] ^= bits,
            Self::Remove(at) => drop(bytes.remove(at % end)),
        }
        bytes
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<usize>().prop_map(Damage::Cut),
        vec(any::<u8>(), 1..4).prop_map(Damage::Extend),
        (any::<usize>(), 1_u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        any::<usize>().prop_map(Damage::Remove),
    ]
}

fn value_of_event(event: &Event) -> Value {
    let text = |text: &str| Value::String(text.into());
    let optional = |value: Option<Value>| match value {
        None => Value::Union(0, Box::new(Value::Null)),
        Some(value) => Value::Union(1, Box::new(value)),
    };
    let fields = [
        ("tenant", text(event.tenant.as_str())),
        (
            "conversation",
            optional(event.conversation.as_ref().map(|id| text(id.as_str()))),
        ),
        ("event_id", text(event.id.as_str())),
        ("kind", text(event.kind.as_str())),
        ("front_type", optional(event.front_type.as_deref().map(text))),
        (
            "front_inner_type",
            optional(event.front_inner_type.as_deref().map(text)),
        ),
        (
            "priority",
            symbol(&["high", "medium", "low"], event.priority.as_str()),
        ),
        (
            "source",
            symbol(
                &["unknown", "webhook", "rule", "relay", "polling"],
                event.source.as_str(),
            ),
        ),
        ("emitted_at", time(event.emitted_at)),
        ("received_at", time(event.received_at)),
        (
            "payload",
            optional(event.payload.as_ref().map(|bytes| Value::Bytes(bytes.to_vec()))),
        ),
    ];
    record(fields)
}

fn value_of_refresh(refresh: &Refresh) -> Value {
    let text = |text: &str| Value::String(text.into());
    let causes = ["unknown", "first", "reset", "retention"];
    let reasons = ["unknown", "gap", "cap", "chunk", "pressure", "stop"];
    let run = record([
        ("started_at", time(refresh.run.started_at)),
        ("start_offset", Value::Long(refresh.run.start.number())),
        ("cause", symbol(&causes, refresh.run.cause.as_str())),
    ]);
    record([
        ("refresh_id", text(&refresh.id().to_string())),
        ("tenant", text(refresh.tenant.as_str())),
        ("conversation", text(refresh.conversation.as_str())),
        (
            "priority",
            symbol(&["high", "medium", "low"], refresh.priority.as_str()),
        ),
        (
            "kinds",
            Value::Array(refresh.kinds.iter().map(|kind| text(kind.as_str())).collect()),
        ),
        ("event_count", Value::Long(refresh.event_count.into())),
        (
            "event_ids",
            Value::Array(refresh.event_ids.iter().map(|id| text(id.as_str())).collect()),
        ),
        ("event_ids_truncated", Value::Boolean(refresh.event_ids_truncated)),
        ("first_emitted_at", time(refresh.first_emitted_at)),
        ("last_emitted_at", time(refresh.last_emitted_at)),
        ("first_received_at", time(refresh.first_received_at)),
        ("last_received_at", time(refresh.last_received_at)),
        ("partition", Value::Int(refresh.partition.number())),
        ("first_offset", Value::Long(refresh.first_offset.number())),
        ("last_offset", Value::Long(refresh.last_offset.number())),
        ("run", run),
        ("closed_by", symbol(&reasons, refresh.closed_by.as_str())),
    ])
}

fn record<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Record(fields.map(|(name, value)| (name.to_owned(), value)).into())
}

fn time(at: Timestamp) -> Value {
    Value::TimestampMillis(at.as_millis())
}

fn symbol(symbols: &[&str], name: &str) -> Value {
    let index = symbols.iter().position(|symbol| *symbol == name).unwrap();
    Value::Enum(u32::try_from(index).unwrap(), name.into())
}
