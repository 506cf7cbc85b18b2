//! The schema registry client: against a real Apicurio where `FRONTSTREAM_TEST_KAFKA=1` says so, and always against
//! what else may answer at its URL, or not.

#![expect(
    clippy::unwrap_used,
    reason = "a test's helpers fail the test, as the test itself does"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use frontstream::registry::{Error, Handle, Settings, subject_of};
use frontstream::wire::{Decoded, Encoding, EventDecoder, SchemaId, event_v1, refresh_v1};
use serde_json::{Value, json};

use crate::schemas::sample_event;
use crate::support::registry::Registry;

const PATIENCE: Duration = Duration::from_secs(20);

fn handle(url: &str) -> Handle {
    with_timeout(url, PATIENCE)
}

fn with_timeout(url: &str, timeout: Duration) -> Handle {
    let url = url.to_owned();
    Handle::new(&Settings { url, timeout }).unwrap()
}

#[tokio::test]
async fn a_first_ensure_creates_the_subject_and_its_compatibility() {
    let Some(registry) = Registry::shared() else {
        return;
    };
    let handle = handle(&registry.url);
    let subject = subject_of("front.events");
    assert_eq!(subject, "front.events-value");
    assert_eq!(handle.compatibility(&subject).await, Ok(None));

    let id = handle.ensure(&subject, event_v1::SCHEMA).await.unwrap();
    let level = handle.compatibility(&subject).await;
    assert_eq!(level, Ok(Some("FULL_TRANSITIVE".into())));
    assert_eq!(handle.ensure(&subject, event_v1::SCHEMA).await, Ok(id), "again");

    // Eight processes that start at once on one new subject agree.
    let subject = subject_of("front.refresh");
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (other, subject) = (self::handle(&registry.url), subject.clone());
        starts.spawn(async move { other.ensure(&subject, refresh_v1::SCHEMA).await.unwrap() });
    }
    let mut ids = starts.join_all().await;
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let versions = get(&format!("{}/subjects/{subject}/versions", registry.url)).await;
    assert_eq!(versions, json!([1]));

    // What another process ensured is read by id, and decodes.
    let other = self::handle(&registry.url);
    let mut decoder = EventDecoder::new();
    decoder.learn(id, &other.schema(id).await.unwrap()).unwrap();
    let mut bytes = Vec::new();
    event_v1::write(&mut bytes, Encoding::Registry(id), &sample_event());
    assert!(matches!(decoder.decode(&bytes), Ok(Decoded::InPlace(_))));
}

#[tokio::test]
async fn later_versions_are_held_to_full_transitive() {
    let Some(registry) = Registry::shared() else {
        return;
    };
    let handle = handle(&registry.url);
    let subject = subject_of("later.front.events");
    let first = handle.ensure(&subject, event_v1::SCHEMA).await.unwrap();

    let mut v1: Value = serde_json::from_str(event_v1::SCHEMA).unwrap();
    let mut demanding = v1.clone();
    demanding["fields"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"name": "region", "type": "string"}));
    let refused = handle.ensure(&subject, &demanding.to_string()).await.unwrap_err();
    let Error::Incompatible { subject: of, message } = &refused else {
        panic!("{refused}")
    };
    assert_eq!(of, &subject);
    assert!(
        message.contains("region"),
        "the registry's words say where: {message}"
    );

    // What the schema's documentation promises: a symbol may be added, and a field with a default.
    v1["fields"][6]["type"]["symbols"]
        .as_array_mut()
        .unwrap()
        .push(json!("bulk"));
    let second = handle.ensure(&subject, &v1.to_string()).await.unwrap();
    let fields = v1["fields"].as_array_mut().unwrap();
    fields.insert(10, json!({"name": "attempt", "type": "long", "default": 0}));
    let third = handle.ensure(&subject, &v1.to_string()).await.unwrap();
    assert!(first != second && second != third);
    assert_eq!(
        handle.ensure(&subject, event_v1::SCHEMA).await,
        Ok(first),
        "an older process"
    );

    let nonsense = handle.ensure(&subject, "no schema").await.unwrap_err();
    assert!(
        matches!(&nonsense, Error::Refused { attempted, .. } if attempted.contains(&subject)),
        "{nonsense}"
    );
}

#[tokio::test]
async fn an_existing_subject_keeps_its_compatibility() {
    let Some(registry) = Registry::shared() else {
        return;
    };
    let handle = handle(&registry.url);
    let schema = json!({"schema": event_v1::SCHEMA, "schemaType": "AVRO"}).to_string();
    post(&format!("{}/subjects/mine-value/versions", registry.url), schema).await;
    handle.ensure("mine-value", event_v1::SCHEMA).await.unwrap();
    let level = handle.compatibility("mine-value").await.unwrap();
    assert_ne!(level.as_deref(), Some("FULL_TRANSITIVE"), "set by who made it");
}

#[tokio::test]
async fn what_was_learned_goes_on_while_the_registry_is_away() {
    let Some(mut registry) = Registry::start("away") else {
        return;
    };
    let handle = handle(&registry.url);
    let subject = subject_of("front.events");
    let id = handle.ensure(&subject, event_v1::SCHEMA).await.unwrap();
    let missing = SchemaId(1_000_000);
    assert_eq!(handle.schema(missing).await, Err(Error::Unknown(missing)));

    registry.stop();
    assert_eq!(handle.schema(id).await.as_deref(), Ok(event_v1::SCHEMA));
    assert_eq!(
        handle.clone().schema(missing).await,
        Err(Error::Unknown(missing)),
        "believed"
    );
    let unasked = handle.schema(SchemaId(1_000_001)).await.unwrap_err();
    assert!(
        matches!(unasked, Error::Unreachable { .. }),
        "away says nothing of an id: {unasked}"
    );
    let ensured = handle.ensure(&subject, event_v1::SCHEMA).await.unwrap_err();
    assert!(matches!(ensured, Error::Unreachable { .. }), "{ensured}");

    registry.start_again();
    let again = handle.ensure(&subject, event_v1::SCHEMA).await.unwrap();
    assert_eq!(handle.schema(again).await.as_deref(), Ok(event_v1::SCHEMA));
    let unasked = handle.schema(SchemaId(1_000_001)).await;
    assert_eq!(unasked, Err(Error::Unknown(SchemaId(1_000_001))));
}

#[tokio::test]
async fn a_registry_that_is_away_at_start_is_named_with_its_reason() {
    let handle = handle(&format!("http://127.0.0.1:{}/apis/ccompat/v7", free_port()));
    let away = handle
        .ensure("front.events-value", event_v1::SCHEMA)
        .await
        .unwrap_err();
    let text = away.to_string();
    assert!(matches!(away, Error::Unreachable { .. }), "{text}");
    assert!(
        text.contains("front.events-value") && text.to_lowercase().contains("refused"),
        "{text}"
    );
    assert!(!text.contains("127.0.0.1"), "no address: {text}");
}

#[tokio::test]
async fn whatever_else_answers_denies_no_schema() {
    let id = SchemaId(7);
    let html = "<html>not here</html>";
    let registry_words = r#"{"error_code":40403,"message":"Schema 7 not found"}"#;
    let cases = [
        ("404 Not Found", html, "not a schema registry's"),
        ("200 OK", html, "not a schema registry's"),
        ("200 OK", r#"{"hello":"world"}"#, "not a schema registry's"),
        ("503 Service Unavailable", html, "is away"),
        ("500 Internal Server Error", html, "is away"),
        (
            "500 Internal Server Error",
            r#"{"error_code":50001,"message":"store"}"#,
            "is away",
        ),
        ("429 Too Many Requests", html, "is away"),
        ("401 Unauthorized", html, "refused"),
        ("404 Not Found", registry_words, "has no such schema"),
    ];
    for (status, body, expected) in cases {
        let server = Answering::with(status, body);
        let err = handle(&server.url).schema(id).await.unwrap_err();
        assert!(
            err.to_string().contains(expected),
            "{status}: {err}, not {expected:?}"
        );
        assert_eq!(
            err == Error::Unknown(id),
            body == registry_words,
            "{status}: {err}"
        );
    }
}

#[tokio::test]
async fn silence_is_an_answer_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let err = with_timeout(&url, Duration::from_millis(50))
        .schema(SchemaId(1))
        .await
        .unwrap_err();
    assert_eq!(
        err.to_string(),
        "looking up schema 1: the schema registry is away: no answer in time"
    );
}

#[test]
fn an_os_thread_asks_through_the_runtime() {
    let server = Answering::with("200 OK", r#"{"schema":"\"string\""}"#);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (registry, runtime_handle) = (handle(&server.url), runtime.handle().clone());
    let asked = std::thread::spawn(move || runtime_handle.block_on(registry.schema(SchemaId(1))));
    assert_eq!(asked.join().unwrap().as_deref(), Ok("\"string\""));
}

#[test]
fn settings_that_cannot_work_are_refused_and_kept_secret() {
    for url in ["", "registry:8080", "ftp://registry/", "http://"] {
        let settings = Settings {
            url: url.into(),
            timeout: PATIENCE,
        };
        assert!(
            matches!(Handle::new(&settings), Err(Error::Settings(_))),
            "{url:?}"
        );
    }
    let settings = Settings {
        url: "http://user:secret@registry/".into(),
        timeout: PATIENCE,
    };
    let shown = format!("{settings:?} {:?}", Handle::new(&settings).unwrap());
    assert!(!shown.contains("secret"), "{shown}");
}

/// Something at the registry's URL that gives one answer to one request.
struct Answering {
    url: String,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    fn with(status: &str, body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            read_request(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        Self {
            url,
            thread: Some(thread),
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        // Ends even when no request came.
        let address = self.url.trim_start_matches("http://");
        drop(TcpStream::connect(address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads up to the end of a request's headers: the requests sent here have no body.
fn read_request(stream: &mut TcpStream) {
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => seen.extend_from_slice(&buffer[..n]),
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

async fn get(url: &str) -> Value {
    let body = reqwest::get(url).await.unwrap().bytes().await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

async fn post(url: &str, body: String) {
    let response = reqwest::Client::new()
        .post(url)
        .header("content-type", "application/vnd.schemaregistry.v1+json")
        .body(body)
        .send()
        .await
        .unwrap();
    assert!(response.status().is_success(), "{}", response.status());
}
