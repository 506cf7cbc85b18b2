//! What the log says of requests, and what it never does.

use std::io;
use std::sync::{Arc, Mutex};

use frontstream::produce::Error;
use tokio::task::JoinSet;
use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::support::{self, APPLICATION_KEY, Edge, RELAY_KEY, RULE_KEY, application, fixture, headers};
use crate::support::process::{Process, free_address, wait_until};

/// A log that is kept in memory.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Kept {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Keeps every line of this thread, as long as the guards live.
fn keep(kept: &Kept) -> (DefaultGuard, Dispatch) {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(kept.clone())
        .finish();
    // With a single dispatcher, tracing asks the current thread's about a new line, which on the threads of other
    // tests is none: the line would be off for good. With two it asks both.
    let second = Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    (tracing::subscriber::set_default(subscriber), second)
}

#[tokio::test]
async fn says_why_and_never_what_is_in_a_body_a_secret_or_an_address() {
    let kept = Kept::default();
    let _log = keep(&kept);
    let (edge, mut orders) = Edge::start(support::settings()).await;

    let body = fixture("application/assignee_changed_assign.json");
    let wrong = headers(&[
        ("x-front-request-timestamp", "1795000000123"),
        (
            "x-front-signature",
            "83HIgYIlTEBGdtnu7dJR5MF19lLMFzt+YuI6Csm0ca8=",
        ),
    ]);
    edge.post(wrong, body.clone())
        .await
        .is(401, r#"{"status":"unauthorized"}"#);
    // Each of these is a mistake of which a JSON parser likes to quote the place.
    let bodies = [
        r#""nadia.petit@example.com""#.to_owned(),
        r#"{"type":"nadia.petit@example.com","type":"nadia.petit@example.com"}"#.to_owned(),
        r#"{"type":"tag","id":"nadia.petit@example.com" nadia}"#.to_owned(),
        format!(
            r#"{{"type":"tag","id":"{}"}}"#,
            "nadia.petit@example.com".repeat(100)
        ),
    ];
    let mut tasks = JoinSet::new();
    for body in bodies {
        edge.clock
            .set(edge.clock.now().plus(std::time::Duration::from_secs(1)));
        edge.post_beside(&mut tasks, application(body.as_bytes()), body.into_bytes());
        orders.recv().await.unwrap().reply.send(Ok(())).unwrap();
        assert_eq!(tasks.join_next().await.unwrap().unwrap().status, 400);
    }
    let unknown = r#"{"type":"pain\nted","id":"evt_1"}"#;
    edge.post_beside(&mut tasks, application(unknown.as_bytes()), unknown.into());
    orders.recv().await.unwrap().reply.send(Ok(())).unwrap();
    assert_eq!(tasks.join_next().await.unwrap().unwrap().status, 200);
    edge.post_beside(&mut tasks, application(&body), body);
    orders
        .recv()
        .await
        .unwrap()
        .reply
        .send(Err(Error::Unavailable("no leader".into())))
        .unwrap();
    assert_eq!(tasks.join_next().await.unwrap().unwrap().status, 503);

    let log = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    // The sender of this test writes there as well.
    let ours = log.lines().filter(|line| !line.contains(" hyper_util::client::"));
    let log: Vec<_> = ours.collect();
    let log = log.join("\n");
    for said in [
        r"pain\nted",
        "wrong_signature",
        "127.0.0.0/24",
        "not_an_object",
        "duplicate_member",
        "not_json",
        "name_too_long",
        "no leader",
    ] {
        assert!(log.contains(said), "{said} is not in:\n{log}");
    }
    let addresses = ["127.0.0.1", &edge.address.to_string()];
    let names = ["nadia", "tomas", "lindqvist", "83HIgYIl"];
    for never in addresses
        .into_iter()
        .chain(names)
        .chain([APPLICATION_KEY, RULE_KEY, RELAY_KEY])
    {
        assert!(!log.contains(never), "{never} is in:\n{log}");
    }
}

/// A record that the log refuses says nothing of the log: what fails next is a first failure, and what is stored next ends nothing.
#[tokio::test]
async fn a_refused_record_is_no_outage() {
    let kept = Kept::default();
    let _log = keep(&kept);
    let (edge, mut orders) = Edge::start(support::settings()).await;
    let text = || String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    let mut tasks = JoinSet::new();
    let body = fixture("application/assignee_changed_assign.json");
    let outcomes = [
        (Err(Error::Reject("too large".into())), 413),
        (Ok(()), 200),
        (Err(Error::Reject("too large".into())), 413),
        (Err(Error::Unavailable("no leader".into())), 503),
    ];
    for (number, (outcome, status)) in outcomes.into_iter().enumerate() {
        let body = String::from_utf8(body.clone()).unwrap();
        let body = body.replacen("\"id\":\"evt_", &format!("\"id\":\"evt_{number}"), 1);
        edge.post_beside(&mut tasks, application(body.as_bytes()), body.into_bytes());
        orders.recv().await.unwrap().reply.send(outcome).unwrap();
        assert_eq!(tasks.join_next().await.unwrap().unwrap().status, status);
        assert!(!text().contains("stores requests again"), "{}", text());
    }
    // The clock of this test stands still: the second refusal is left out.
    let said = |line: &str| text().matches(line).count();
    assert_eq!(said("the log refuses a record for good"), 1, "{}", text());
    assert_eq!(said("could not store a request"), 1, "{}", text());
    assert!(text().contains("no leader"), "{}", text());
}

/// librdkafka reports twenty times a second that all brokers are down; an outage must not fill the log.
#[test]
fn says_once_a_while_that_the_brokers_are_away() {
    let receiver = Process::start(
        &["receiver"],
        &vec![
            ("FRONTSTREAM_KAFKA_BROKERS", free_address().to_string()),
            ("FRONTSTREAM_RECEIVER_LISTEN", "127.0.0.1:0".to_owned()),
            (
                "FRONTSTREAM_RECEIVER_RELAY_SECRETS",
                "current=env:RELAY_SECRET".to_owned(),
            ),
            ("RELAY_SECRET", RELAY_KEY.to_owned()),
        ],
    );
    // The first question to the brokers has run into its time limit of two seconds.
    wait_until("it says that it is not ready", || {
        receiver.log().contains("not ready: ")
    });
    let log = receiver.log();
    let troubles = log.lines().filter(|line| !line.contains(" INFO "));
    assert!(troubles.count() <= 5, "{log}");
}
