//! Every signature vector gives its verdict over HTTP.

use std::time::Duration;

use frontstream::model::Timestamp;
use frontstream::produce::Records;
use frontstream::receive::Settings;
use frontstream::receive::signature::{self, Secret};

use super::support::{self, Answer, Edge, Log, NOW, fixture, fixture_json, headers};

/// A receiver with the keys of the file, as its README assumes it.
fn settings() -> Settings {
    let file = fixture_json("signatures.json");
    let key = |name: &str| Secret::new(name, file["keys"][name].as_str().unwrap()).unwrap();
    Settings {
        signature: signature::Settings {
            window: Duration::from_secs(300),
            application: vec![key("channel"), key("application_utf8"), key("application")],
            rule: vec![key("rule")],
            relay: Vec::new(),
        },
        // Several vectors carry the same event.
        seen_events_max: 0,
        ..support::settings()
    }
}

async fn send(
    edge: &Edge,
    vector: &serde_json::Value,
    name_of: impl Fn(&str) -> String,
) -> (Answer, Vec<u8>) {
    let body = match vector["body_file"].as_str() {
        Some(file) => fixture(file),
        // GET and DELETE sign this text; we take POST only, so it is posted.
        None => vector["body_utf8"].as_str().unwrap().as_bytes().to_vec(),
    };
    let list = vector["headers"].as_object().unwrap();
    let list: Vec<_> = list
        .iter()
        .map(|(name, value)| (name_of(name), value.as_str().unwrap()))
        .collect();
    let list: Vec<_> = list.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    edge.clock
        .set(vector["now_ms"].as_i64().map_or(NOW, Timestamp::from_millis));
    (edge.post(headers(&list), body.clone()).await, body)
}

fn accepted(vector: &serde_json::Value, answer: &Answer, body: &[u8], log: &Log) {
    let name = vector["name"].as_str().unwrap();
    let stored = log.take();
    match name {
        "app-sync-handshake" => {
            answer.is(200, r#"{"challenge":"Zk3v9TqXw2-8sLh0"}"#);
            assert_eq!(stored, []);
        }
        // The signature is good; what it signs is no event.
        "app-truncated-json" | "channel-get-or-delete" => {
            answer.is(400, r#"{"status":"rejected","reason":"not_json"}"#);
            let [Records::DeadLetter(letter)] = stored.as_slice() else {
                panic!("{name}: {stored:?}");
            };
            assert_eq!(letter.body, body, "{name}");
        }
        _ => {
            answer.is(200, r#"{"status":"accepted","events":1}"#);
            let [Records::Events(events, _)] = stored.as_slice() else {
                panic!("{name}: {stored:?}");
            };
            assert_eq!(events.len(), 1, "{name}");
            assert_eq!(
                events[0].payload.as_deref(),
                Some(body),
                "{name}: the bytes as received"
            );
        }
    }
}

#[tokio::test]
async fn every_vector_gives_its_verdict() {
    let (edge, log) = Edge::storing(settings()).await;
    let file = fixture_json("signatures.json");
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 55);
    let spellings: [fn(&str) -> String; 3] = [str::to_owned, str::to_uppercase, |name| {
        name.replace("x-front", "X-Front")
            .replace("signature", "Signature")
    }];
    for (index, vector) in vectors.iter().enumerate() {
        let name = vector["name"].as_str().unwrap();
        let (answer, body) = send(&edge, vector, spellings[index % 3]).await;
        match vector["expect"].as_str().unwrap() {
            "accept" => accepted(vector, &answer, &body, &log),
            // Ten digits are milliseconds of 1970, hence stale: Front sends thirteen.
            "reject" | "policy" => {
                assert_eq!(
                    (answer.status, answer.body.as_str()),
                    (401, r#"{"status":"unauthorized"}"#),
                    "{name}"
                );
                assert_eq!(log.take(), [], "{name}");
            }
            other => panic!("{name}: {other}"),
        }
    }
    let verdicts = |verdict| edge.metric("signature_checks_total", &[("verdict", verdict)]);
    assert_eq!(verdicts("accept"), 23.0);
    let refusals = signature::Reason::ALL.map(|reason| (reason.as_str(), verdicts(reason.as_str())));
    let expected = [
        ("missing_signature", 1.0),
        ("malformed_signature", 9.0),
        ("wrong_signature", 13.0),
        ("missing_timestamp", 0.0),
        ("malformed_timestamp", 1.0),
        ("stale_timestamp", 3.0),
        ("future_timestamp", 1.0),
        ("scheme_off", 4.0),
    ];
    assert_eq!(refusals, expected);
    let accepts = |scheme, secret| {
        edge.metric(
            "signature_checks_total",
            &[("scheme", scheme), ("secret", secret)],
        )
    };
    assert_eq!(accepts("application", "application"), 13.0);
    assert_eq!(accepts("application", "application_utf8"), 1.0);
    assert_eq!(accepts("application", "channel"), 3.0);
    assert_eq!(accepts("rule", "rule"), 6.0);
}

#[tokio::test]
async fn the_relay_scheme_takes_the_notes_vectors_where_it_is_on() {
    let mut settings = settings();
    settings.signature.relay = vec![Secret::new("relay", support::APPLICATION_KEY).unwrap()];
    let (edge, log) = Edge::storing(settings).await;
    let file = fixture_json("signatures.json");
    let of_note = |vector: &&serde_json::Value| vector["scheme"] == "note-hex-sha256";
    let mut count = 0;
    for vector in file["vectors"].as_array().unwrap().iter().filter(of_note) {
        let (answer, body) = send(&edge, vector, str::to_owned).await;
        if vector["name"] == "note-sync" {
            // A handshake is not a thing of this scheme, and its body is no event.
            answer.is(400, r#"{"status":"rejected","reason":"no_event"}"#);
            assert_eq!(log.dead_letter().body, body);
        } else {
            answer.is(200, r#"{"status":"accepted","events":1}"#);
            assert_eq!(log.events()[0].payload.as_deref(), Some(&body[..]));
        }
        count += 1;
    }
    assert_eq!(count, 4);
}
