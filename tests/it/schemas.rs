//! The contracts of the topics, `schemas/`: every example decodes, round-trips, or is refused as stated; Rust types and
//! schema files agree; every version is readable by every other.
//!
//! In a folder `v1/valid`, each `NAME.json` has its bytes beside it in `NAME.hex`, single-object framed. Those were
//! written by another implementation (fastavro), so that a change of the wire that is not meant fails here.

#![expect(
    clippy::unwrap_used,
    reason = "a test's helpers fail the test, as the test itself does"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use apache_avro::Schema;
use apache_avro::schema::RecordSchema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use apache_avro::writer::datum::GenericDatumWriter;
use frontstream::model::{
    CloseReason, ConversationId, Event, EventId, Kind, Priority, Refresh, RunCause, Source, TenantId,
    Timestamp,
};
use frontstream::wire::frame::write_header;
use frontstream::wire::{
    Encoding, EventDecoder, Fingerprint, RefreshDecoder, SchemaId, event_v1, refresh_v1,
};
use serde_json::{Value, json};

const TOPICS: [Topic; 2] = [
    Topic {
        name: "front.events",
        schema: event_v1::SCHEMA,
        fingerprint: event_v1::FINGERPRINT,
        // The model and back, from bytes to bytes and to the example's form.
        read: |bytes| {
            let event = EventDecoder::new().event(bytes).map_err(|err| err.to_string())?;
            let mut again = Vec::new();
            event_v1::write(&mut again, Encoding::SingleObject, &event);
            Ok((again, json_of_event(&event)))
        },
    },
    Topic {
        name: "front.refresh",
        schema: refresh_v1::SCHEMA,
        fingerprint: refresh_v1::FINGERPRINT,
        read: |bytes| {
            let refresh = RefreshDecoder::new()
                .refresh(bytes)
                .map_err(|err| err.to_string())?;
            let mut again = Vec::new();
            refresh_v1::write(&mut again, Encoding::SingleObject, &refresh);
            Ok((again, json_of_refresh(&refresh)))
        },
    },
];

/// What a reader made of bytes: the bytes that a writer makes of that again, and the example it shows.
type Read = Result<(Vec<u8>, Value), String>;
/// Changes the fields of a schema.
type Change = dyn Fn(&mut Vec<Value>);

struct Topic {
    name: &'static str,
    schema: &'static str,
    fingerprint: Fingerprint,
    read: fn(&[u8]) -> Read,
}

#[test]
fn valid_examples_are_read_and_written_back() {
    for topic in &TOPICS {
        let examples = files(&topic.folder().join("v1/valid"), "json");
        assert!(examples.len() >= 5, "{}: {examples:?}", topic.name);
        for path in examples {
            let example = json_file(&path);
            let golden = hex_file(&path.with_extension("hex"));
            let written = topic
                .write(&example)
                .unwrap_or_else(|err| panic!("{}: {err}", path.display()));
            assert_eq!(
                hex(&written),
                hex(&golden),
                "{}: the wire has changed",
                path.display()
            );
            let (again, seen) =
                (topic.read)(&golden).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
            assert_eq!(
                hex(&again),
                hex(&golden),
                "{}: written otherwise than read",
                path.display()
            );
            assert_eq!(seen, example, "{}", path.display());
        }
    }
}

#[test]
fn invalid_examples_are_refused_as_stated() {
    for topic in &TOPICS {
        let examples = files(&topic.folder().join("v1/invalid"), "json");
        let valid = json_file(&files(&topic.folder().join("v1/valid"), "json")[0]);
        assert!(examples.len() >= 15, "{}: {examples:?}", topic.name);
        for path in examples {
            let example = json_file(&path);
            let name = path.display();
            let reason = example["reason"].as_str().unwrap();
            match (example["refused_by"].as_str().unwrap(), example["bytes"].as_str()) {
                ("schema", None) => {
                    let mut record = example["record"].clone();
                    assert!(
                        topic.write(&record).is_err(),
                        "{name}: the schema takes it: {reason}"
                    );
                    // Only the field named is at fault: with a valid one, the record is taken.
                    let field = example["field"].as_str().unwrap();
                    record[field] = valid[field].clone();
                    topic.write(&record).unwrap_or_else(|err| panic!("{name}: {err}"));
                }
                ("reader", None) => {
                    let bytes = topic
                        .write(&example["record"])
                        .unwrap_or_else(|err| panic!("{name}: {err}"));
                    assert_eq!((topic.read)(&bytes), Err(reason.to_owned()), "{name}");
                }
                ("reader", Some(text)) => {
                    assert_eq!((topic.read)(&unhex(text)), Err(reason.to_owned()), "{name}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[test]
fn every_choice_of_a_schema_has_an_example() {
    let seen = |topic: &Topic, pointer: &str| -> BTreeSet<String> {
        let examples = files(&topic.folder().join("v1/valid"), "json");
        let word = |path: &PathBuf| json_file(path).pointer(pointer)?.as_str().map(str::to_owned);
        examples.iter().filter_map(word).collect()
    };
    let [events, refresh] = &TOPICS;
    let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(
        seen(events, "/priority"),
        names(&Priority::ALL.map(Priority::as_str))
    );
    assert_eq!(seen(events, "/source"), names(&Source::ALL.map(Source::as_str)));
    assert_eq!(
        seen(refresh, "/closed_by"),
        names(&CloseReason::ALL.map(CloseReason::as_str))
    );
    assert_eq!(
        seen(refresh, "/run/cause"),
        names(&RunCause::ALL.map(RunCause::as_str))
    );
}

#[test]
fn symbols_are_the_words_of_the_model() {
    let [events, refresh] = &TOPICS;
    let with_unknown = |names: &[&str]| {
        let unknown = std::iter::once("unknown");
        unknown
            .chain(names.iter().copied())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let priorities = Priority::ALL.map(|priority| priority.as_str().to_owned());
    for topic in [events, refresh] {
        assert_eq!(topic.symbols("/fields", "priority"), priorities, "{}", topic.name);
    }
    let sources = Source::ALL.map(|source| source.as_str().to_owned());
    assert_eq!(events.symbols("/fields", "source"), sources);
    let causes = with_unknown(&RunCause::ALL.map(RunCause::as_str));
    assert_eq!(refresh.symbols("/fields/15/type/fields", "cause"), causes);
    let reasons = with_unknown(&CloseReason::ALL.map(CloseReason::as_str));
    assert_eq!(refresh.symbols("/fields", "closed_by"), reasons);
}

#[test]
fn every_part_of_a_schema_is_documented_and_may_grow() {
    fn check(schema: &Value, at: &str, faults: &mut Vec<String>) {
        let doc = schema["doc"].as_str().unwrap_or_default();
        if matches!(schema["type"].as_str(), Some("record" | "enum")) && doc.is_empty() {
            faults.push(format!("{at}: no doc"));
        }
        if schema["type"] == "enum" && !schema["default"].is_string() {
            faults.push(format!("{at}: no default, so that no symbol can ever be added"));
        }
        for field in schema["fields"].as_array().into_iter().flatten() {
            let name = format!("{at}.{}", field["name"].as_str().unwrap());
            let doc = field["doc"].as_str().unwrap_or_default();
            if doc.is_empty() {
                faults.push(format!("{name}: no doc"));
            }
            let optional = field["type"].as_array().is_some_and(|union| union[0] == "null");
            if optional && field.get("default") != Some(&Value::Null) {
                faults.push(format!("{name}: may be null and has not null as its default"));
            }
            let time = field["type"]["logicalType"] == "timestamp-millis";
            if name.ends_with("_at") && !(time && doc.contains("milliseconds since 1970-01-01T00:00:00Z")) {
                faults.push(format!("{name}: a time without its unit"));
            }
            check(&field["type"], &name, faults);
        }
    }
    for topic in &TOPICS {
        for (version, text) in topic.versions() {
            let mut faults = Vec::new();
            check(&serde_json::from_str(&text).unwrap(), &version, &mut faults);
            assert!(faults.is_empty(), "{}: {faults:#?}", topic.name);
        }
    }
    let mut faults = Vec::new();
    let bare = json!({"type": "record", "name": "R", "fields": [
        {"name": "a_at", "type": "long"}, {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["s"]}}]});
    check(&bare, "planted", &mut faults);
    assert_eq!(faults.len(), 6, "{faults:#?}");
}

#[test]
fn an_events_payload_is_its_last_field() {
    for (version, text) in TOPICS[0].versions() {
        let schema: Value = serde_json::from_str(&text).unwrap();
        let last = schema["fields"].as_array().unwrap().last().unwrap();
        assert_eq!(last["name"], "payload", "{version}");
    }
}

#[test]
fn every_version_reads_every_other() {
    for topic in &TOPICS {
        let versions = topic.versions();
        assert_eq!(versions[0].1, topic.schema, "{}: the code has its v1", topic.name);
        let faults = incompatibilities(&versions);
        assert!(faults.is_empty(), "{}: {faults:#?}", topic.name);
    }
}

/// The check above must be able to fail: each of these is a change that some reader or writer could not live with.
#[test]
fn planted_changes_are_judged_rightly() {
    let v1: Value = serde_json::from_str(event_v1::SCHEMA).unwrap();
    let judge = |change: &Change| {
        let mut v2 = v1.clone();
        change(v2["fields"].as_array_mut().unwrap());
        let versions = [("v1".into(), v1.to_string()), ("v2".into(), v2.to_string())];
        incompatibilities(&versions)
    };
    let refused: [(&str, &Change); 7] = [
        ("a field that old records lack", &|fields| {
            fields.push(json!({"name": "region", "type": "string"}));
        }),
        ("a field that old readers need is gone", &|fields| {
            fields.remove(2);
        }),
        ("a field is renamed", &|fields| fields[3]["name"] = json!("what")),
        ("a number becomes text", &|fields| {
            fields[8]["type"] = json!("string")
        }),
        ("text may be null now", &|fields| {
            fields[0]["type"] = json!(["null", "string"]);
        }),
        ("an enum loses its default and a symbol", &|fields| {
            let priority = fields[6]["type"].as_object_mut().unwrap();
            priority.remove("default");
            priority["symbols"] = json!(["high", "low"]);
        }),
        ("an enum is another", &|fields| {
            fields[6]["type"]["name"] = json!("Urgency")
        }),
    ];
    for (name, change) in refused {
        assert_ne!(judge(change), Vec::<String>::new(), "{name}");
    }
    let allowed: [(&str, &Change); 4] = [
        ("a field with a default", &|fields| {
            fields.insert(10, json!({"name": "attempt", "type": "long", "default": 0}));
        }),
        ("an optional field is gone", &|fields| {
            fields.remove(4);
        }),
        ("a symbol more", &|fields| {
            let symbols = fields[6]["type"]["symbols"].as_array_mut().unwrap();
            symbols.push(json!("bulk"));
        }),
        ("fields in another order", &|fields| fields.swap(2, 3)),
    ];
    for (name, change) in allowed {
        assert_eq!(judge(change), Vec::<String>::new(), "{name}");
    }
}

/// Compatibility on paper is not enough: examples written by every other version are read by this one.
#[test]
fn examples_written_by_another_version_are_read() {
    let mut v2: Value = serde_json::from_str(event_v1::SCHEMA).unwrap();
    let fields = v2["fields"].as_array_mut().unwrap();
    fields.insert(0, json!({"name": "attempt", "type": "long", "default": 0}));
    fields.swap(1, 9);
    fields[7]["type"]["symbols"] = json!(["low", "medium", "high", "bulk"]);
    let v2 = v2.to_string();

    let id = SchemaId(2);
    let mut decoder = EventDecoder::new();
    decoder.learn(id, &v2).unwrap();
    for path in files(&TOPICS[0].folder().join("v1/valid"), "json") {
        let example = json_file(&path);
        let mut bytes = Vec::new();
        write_header(&mut bytes, Encoding::Registry(id), Fingerprint(0));
        bytes.extend(avro_of(&v2, &example).unwrap());
        let event = decoder.event(&bytes).unwrap();
        assert_eq!(json_of_event(&event), example, "{}", path.display());
    }
}

impl Topic {
    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("schemas")
            .join(self.name)
    }

    /// Returns the schemas of the folder, oldest first.
    fn versions(&self) -> Vec<(String, String)> {
        let number = |path: &PathBuf| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            name.strip_prefix('v').and_then(|n| n.parse::<u32>().ok())
        };
        let mut paths = files(&self.folder(), "avsc");
        paths.sort_by_key(|path| number(path).expect("a schema file is named v<number>.avsc"));
        assert!(!paths.is_empty(), "{}", self.name);
        let read = |path: PathBuf| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        };
        paths.into_iter().map(read).collect()
    }

    /// Writes an example by the reference implementation, framed.
    fn write(&self, example: &Value) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        write_header(&mut bytes, Encoding::SingleObject, self.fingerprint);
        bytes.extend(avro_of(self.schema, example)?);
        Ok(bytes)
    }

    fn symbols(&self, fields: &str, name: &str) -> Vec<String> {
        let schema: Value = serde_json::from_str(self.schema).unwrap();
        let fields = schema.pointer(fields).unwrap().as_array().unwrap();
        let field = fields.iter().find(|field| field["name"] == name).unwrap();
        serde_json::from_value(field["type"]["symbols"].clone()).unwrap()
    }
}

/// Lists each pair of versions of which one cannot read all of the other's records.
fn incompatibilities(versions: &[(String, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    for (writer, writer_text) in versions {
        for (reader, reader_text) in versions {
            let written = Schema::parse_str(writer_text).unwrap();
            let read = Schema::parse_str(reader_text).unwrap();
            match SchemaCompatibility::can_read(&written, &read) {
                Ok(Compatibility::Full) => {}
                Ok(Compatibility::Partial) => {
                    faults.push(format!("{reader} reads some records of {writer} only"));
                }
                Err(err) => faults.push(format!("{reader} cannot read {writer}: {err}")),
            }
        }
    }
    faults
}

/// Writes an example with a schema. Members that the schema lacks are mistakes, which the crate would pass over.
fn avro_of(schema: &str, example: &Value) -> Result<Vec<u8>, String> {
    let schema = Schema::parse_str(schema).unwrap();
    let Schema::Record(RecordSchema { fields, .. }) = &schema else {
        panic!("a topic's schema is a record")
    };
    for member in example.as_object().unwrap().keys() {
        assert!(
            fields.iter().any(|field| &field.name == member),
            "no field {member}"
        );
    }
    let value = apache_avro::types::Value::try_from(example.clone()).map_err(|err| err.to_string())?;
    let value = value.resolve(&schema).map_err(|err| err.to_string())?;
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    writer.write_value_to_vec(value).map_err(|err| err.to_string())
}

fn json_of_event(event: &Event) -> Value {
    json!({
        "tenant": event.tenant.as_str(),
        "conversation": event.conversation.as_ref().map(ConversationId::as_str),
        "event_id": event.id.as_str(),
        "kind": event.kind.as_str(),
        "front_type": event.front_type,
        "front_inner_type": event.front_inner_type,
        "priority": event.priority.as_str(),
        "source": event.source.as_str(),
        "emitted_at": event.emitted_at.as_millis(),
        "received_at": event.received_at.as_millis(),
        "payload": event.payload.as_ref().map(|bytes| std::str::from_utf8(bytes).unwrap()),
    })
}

fn json_of_refresh(refresh: &Refresh) -> Value {
    json!({
        "refresh_id": refresh.id().to_string(),
        "tenant": refresh.tenant.as_str(),
        "conversation": refresh.conversation.as_str(),
        "priority": refresh.priority.as_str(),
        "kinds": refresh.kinds.iter().map(Kind::as_str).collect::<Vec<_>>(),
        "event_count": refresh.event_count,
        "event_ids": refresh.event_ids.iter().map(EventId::as_str).collect::<Vec<_>>(),
        "event_ids_truncated": refresh.event_ids_truncated,
        "first_emitted_at": refresh.first_emitted_at.as_millis(),
        "last_emitted_at": refresh.last_emitted_at.as_millis(),
        "first_received_at": refresh.first_received_at.as_millis(),
        "last_received_at": refresh.last_received_at.as_millis(),
        "partition": refresh.partition.number(),
        "first_offset": refresh.first_offset.number(),
        "last_offset": refresh.last_offset.number(),
        "run": {
            "started_at": refresh.run.started_at.as_millis(),
            "start_offset": refresh.run.start.number(),
            "cause": refresh.run.cause.as_str(),
        },
        "closed_by": refresh.closed_by.as_str(),
    })
}

/// An event that any test may use.
pub(crate) fn sample_event() -> Event {
    Event {
        tenant: TenantId::new("cmp_2zk").unwrap(),
        conversation: ConversationId::new("cnv_8xk3m1"),
        id: EventId::new("evt_1a2b3c4d").unwrap(),
        kind: Kind::new("message.received").unwrap(),
        front_type: Some("inbound_received".into()),
        front_inner_type: Some("inbound".into()),
        priority: Priority::High,
        source: Source::Webhook,
        emitted_at: Timestamp::from_millis(1_795_000_000_123),
        received_at: Timestamp::from_millis(1_795_000_000_930),
        payload: Some(bytes::Bytes::from_static(b"{}")),
    }
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|err| panic!("{}: {err}", folder.display()));
    let mut paths: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    paths
}

fn json_file(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

fn hex_file(path: &Path) -> Vec<u8> {
    let text = fs::read_to_string(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    unhex(&text)
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.split_ascii_whitespace().collect();
    assert!(digits.len().is_multiple_of(2), "half a byte");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
