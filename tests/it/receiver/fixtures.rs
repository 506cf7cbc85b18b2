//! Every body of Front's fixtures becomes the event that the manifest describes.

use std::collections::BTreeMap;

use frontstream::model::{Event, Source};

use super::support::{self, Edge, Log, application, fixture, fixture_json, headers, rule};

/// What the manifest does not say: the kind and the priority of each body, from front-protocol section 9.
fn kinds() -> BTreeMap<String, (String, String)> {
    let text = include_str!("../../data/kinds.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    fields
        .map(|fields| match <[String; 3]>::try_from(fields) {
            Ok([file, kind, priority]) => (file, (kind, priority)),
            Err(fields) => panic!("not file, kind and priority: {fields:?}"),
        })
        .collect()
}

/// Turns the decimal text of seconds into milliseconds, without a float.
fn millis(seconds: &serde_json::Value) -> i64 {
    let text = seconds.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole}{fraction:0<3}").parse().unwrap()
}

fn check(entry: &serde_json::Value, event: &Event, body: &[u8], kinds: &BTreeMap<String, (String, String)>) {
    let file = entry["file"].as_str().unwrap();
    let text = |name: &str| entry[name].as_str();
    let is_application = text("scheme") == Some("application");
    let conversation = event
        .conversation
        .as_ref()
        .map(|conversation| conversation.as_str());
    assert_eq!(conversation, text("conversation_id"), "{file}");
    assert_eq!(Some(event.id.as_str()), text("event_id"), "{file}");
    assert_eq!(
        event.emitted_at.as_millis(),
        millis(&entry["emitted_at"]),
        "{file}"
    );
    assert_eq!(event.received_at, support::NOW, "{file}");
    // A body without a company is attributed by the company host of its link.
    assert_eq!(
        event.tenant.as_str(),
        text("company_id").unwrap_or("harborlight-example"),
        "{file}"
    );
    assert_eq!(
        event.front_type.as_deref(),
        text("wire_type").filter(|_| is_application),
        "{file}"
    );
    assert_eq!(event.front_inner_type.as_deref(), text("event_type"), "{file}");
    assert_eq!(
        event.source,
        if is_application {
            Source::Webhook
        } else {
            Source::Rule
        },
        "{file}"
    );
    let (kind, priority) = &kinds[file];
    assert_eq!(
        (event.kind.as_str(), event.priority.as_str()),
        (kind.as_str(), priority.as_str()),
        "{file}"
    );
    assert_eq!(
        event.payload.as_deref(),
        Some(body),
        "{file}: the bytes as received"
    );
}

async fn post(edge: &Edge, log: &Log, entry: &serde_json::Value, kinds: &BTreeMap<String, (String, String)>) {
    let file = entry["file"].as_str().unwrap();
    let body = fixture(file);
    match (entry["scheme"].as_str().unwrap(), entry["form"].as_str().unwrap()) {
        ("application", "handshake") => {
            let mut signed = application(&body);
            signed.extend(headers(&[("x-front-challenge", "Zk3v9TqXw2-8sLh0")]));
            edge.post(signed, body)
                .await
                .is(200, r#"{"challenge":"Zk3v9TqXw2-8sLh0"}"#);
            assert_eq!(log.take(), [], "{file}");
        }
        ("application", "invalid") => {
            let answer = edge.post(application(&body), body.clone()).await;
            answer.is(400, r#"{"status":"rejected","reason":"not_json"}"#);
            assert_eq!(log.dead_letter().body, body, "{file}");
        }
        ("application", _) => {
            let answer = edge.post(application(&body), body.clone()).await;
            answer.is(200, r#"{"status":"accepted","events":1}"#);
            check(entry, &log.events()[0], &body, kinds);
        }
        ("rule", _) if file == "rule-preview/conversations_merged.json" => {
            let answer = edge.post(rule(&body), body.clone()).await;
            answer.is(200, r#"{"status":"accepted","events":3}"#);
            let events = log.events();
            check(entry, &events[0], &body, kinds);
            merged(&events);
        }
        ("rule", _) => {
            let answer = edge.post(rule(&body), body.clone()).await;
            answer.is(200, r#"{"status":"accepted","events":1}"#);
            check(entry, &log.events()[0], &body, kinds);
        }
        // Not a webhook; it is there for its signature.
        ("channel", _) => {}
        other => panic!("{file}: {other:?}"),
    }
}

/// The merge is one event per conversation, alike but for that, and the bytes are shared.
fn merged(events: &[Event]) {
    let conversations = events
        .iter()
        .map(|event| event.conversation.as_ref().unwrap().as_str());
    assert_eq!(
        conversations.collect::<Vec<_>>(),
        ["cnv_1k7q0d5m", "cnv_1k7pz8h2", "cnv_1k7pzc90"]
    );
    for event in events {
        let alike = Event {
            conversation: events[0].conversation.clone(),
            ..event.clone()
        };
        assert_eq!(alike, events[0]);
        assert_eq!(
            event.payload.as_ref().unwrap().as_ptr(),
            events[0].payload.as_ref().unwrap().as_ptr()
        );
    }
}

#[tokio::test]
async fn every_body_becomes_the_event_that_the_manifest_describes() {
    let settings = frontstream::receive::Settings {
        // One of the bodies is there twice.
        seen_events_max: 0,
        ..support::settings()
    };
    let (edge, log) = Edge::storing(settings).await;
    let kinds = kinds();
    let manifest = fixture_json("manifest.json");
    let fixtures = manifest["fixtures"].as_array().unwrap();
    for entry in fixtures {
        post(&edge, &log, entry, &kinds).await;
    }
    assert_eq!(
        fixtures.len(),
        kinds.len() + 3,
        "all but a handshake, one that is not JSON and one of a channel"
    );
    assert_eq!(edge.metric("unknown_types_total", &[]), 1.0);
    assert_eq!(edge.metric("events_without_conversation_total", &[]), 2.0);
    assert_eq!(edge.metric("handshakes_total", &[]), 1.0);
}

#[tokio::test]
async fn a_repeated_delivery_is_stored_once() {
    let (edge, log) = Edge::storing(support::settings()).await;
    let body = fixture("application/inbound_received.json");
    edge.post(application(&body), body.clone())
        .await
        .is(200, r#"{"status":"accepted","events":1}"#);
    let again = fixture("awkward/dup_delivery.json");
    edge.post(application(&again), again)
        .await
        .is(200, r#"{"status":"duplicate"}"#);
    assert_eq!(log.events().len(), 1);
    assert_eq!(edge.metric("duplicates_total", &[]), 1.0);
    assert_eq!(edge.metric("seen_events", &[]), 1.0);
}
