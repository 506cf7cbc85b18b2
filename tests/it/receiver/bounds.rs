//! What is bounded, what is shared, and what goes on when nobody waits.

use std::time::Duration;

use frontstream::produce::{Error, Records};
use frontstream::receive::Settings;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::slow::{head, read_answer};
use super::support::{self, Edge, NOW, application, fixture};

const TAG_ADDED: &str = "application/tag_added.json";
const ACCEPTED: &str = r#"{"status":"accepted","events":1}"#;

#[tokio::test]
async fn more_requests_than_the_bound_are_told_to_come_back() {
    let (edge, mut orders) = Edge::start(Settings {
        requests_in_flight_max: 2,
        ..support::settings()
    })
    .await;
    let mut tasks = JoinSet::new();
    let mut waiting = Vec::new();
    for file in [TAG_ADDED, "application/tag_removed.json"] {
        let body = fixture(file);
        edge.post_beside(&mut tasks, application(&body), body);
        waiting.push(orders.recv().await.unwrap());
    }
    assert_eq!(edge.metric("requests_in_flight", &[]), 2.0);
    let body = fixture("application/link_added.json");
    let answer = edge.post(application(&body), body.clone()).await;
    answer.is(503, r#"{"status":"overloaded"}"#);
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(edge.answered("503", "requests_in_flight"), 1.0);

    for order in waiting {
        order.reply.send(Ok(())).unwrap();
    }
    for answer in tasks.join_all().await {
        answer.is(200, ACCEPTED);
    }
    edge.wait_until("the requests are over", |edge| {
        edge.metric("requests_in_flight", &[]) == 0.0
    })
    .await;
    let mut tasks = JoinSet::new();
    edge.post_beside(&mut tasks, application(&body), body);
    orders.recv().await.unwrap().reply.send(Ok(())).unwrap();
    tasks.join_next().await.unwrap().unwrap().is(200, ACCEPTED);
}

#[tokio::test]
async fn more_bytes_than_the_bound_are_told_to_come_back() {
    let body = fixture(TAG_ADDED);
    let (edge, mut orders) = Edge::start(Settings {
        bytes_in_flight_max: body.len() + 100,
        ..support::settings()
    })
    .await;
    let mut tasks = JoinSet::new();
    edge.post_beside(&mut tasks, application(&body), body.clone());
    let order = orders.recv().await.unwrap();
    assert_eq!(edge.metric("in_flight_bytes", &[]), body.len() as f64);
    let second = fixture("application/link_added.json");
    let answer = edge.post(application(&second), second).await;
    answer.is(503, r#"{"status":"overloaded"}"#);
    assert_eq!(edge.answered("503", "bytes_in_flight"), 1.0);
    order.reply.send(Ok(())).unwrap();
    tasks.join_next().await.unwrap().unwrap().is(200, ACCEPTED);
    edge.wait_until("the bytes are given back", |edge| {
        edge.metric("in_flight_bytes", &[]) == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_unread() {
    let (edge, log) = Edge::storing(Settings {
        body_bytes_max: 1_000,
        ..support::settings()
    })
    .await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    // Not a byte of the body is ever sent.
    stream
        .write_all(head(&[("content-length", "1001")]).as_bytes())
        .await
        .unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.ends_with(r#"{"status":"too_large"}"#),
        "{answer}"
    );
    assert!(
        answer.contains("connection: close\r\n"),
        "its sender is told: {answer}"
    );
    assert_eq!(edge.answered("413", "announced_size"), 1.0);
    assert_eq!(edge.metric("refused_body_bytes_total", &[]), 1_001.0);
    assert_eq!(log.take(), []);
}

#[tokio::test]
async fn a_body_that_goes_on_too_long_is_refused() {
    let (edge, log) = Edge::storing(Settings {
        body_bytes_max: 1_000,
        ..support::settings()
    })
    .await;
    let signed = application(b"x");
    let text = |name: &str| signed[name].to_str().unwrap();
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let head = head(&[
        ("transfer-encoding", "chunked"),
        ("x-front-signature", text("x-front-signature")),
        ("x-front-request-timestamp", text("x-front-request-timestamp")),
    ]);
    // 1,001 bytes, and no end.
    let chunks = format!(
        "{head}1f4\r\n{}\r\n1f5\r\n{}\r\n",
        "a".repeat(500),
        "b".repeat(501)
    );
    stream.write_all(chunks.as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(
        answer.contains("connection: close\r\n"),
        "its sender is told: {answer}"
    );
    assert_eq!(edge.answered("413", "read_size"), 1.0);
    assert_eq!(edge.metric("refused_body_bytes_total", &[]), 1_001.0);
    assert_eq!(log.take(), []);
}

#[tokio::test]
async fn a_body_of_exactly_the_bound_is_taken_in_any_framing() {
    let body = fixture(TAG_ADDED);
    let (edge, log) = Edge::storing(Settings {
        body_bytes_max: body.len(),
        ..support::settings()
    })
    .await;
    let signed = application(&body);
    let text = |name: &str| signed[name].to_str().unwrap();
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let head = head(&[
        ("transfer-encoding", "chunked"),
        ("x-front-signature", text("x-front-signature")),
        ("x-front-request-timestamp", text("x-front-request-timestamp")),
    ]);
    stream.write_all(head.as_bytes()).await.unwrap();
    for piece in body.chunks(700) {
        stream
            .write_all(format!("{:x}\r\n", piece.len()).as_bytes())
            .await
            .unwrap();
        stream.write_all(piece).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(log.events()[0].payload.as_deref(), Some(&body[..]));
    edge.post(application(&body), body)
        .await
        .is(200, r#"{"status":"duplicate"}"#);
}

#[tokio::test]
async fn a_repetition_of_what_is_in_flight_shares_its_outcome() {
    let (edge, mut orders) = Edge::start(support::settings()).await;
    let body = fixture(TAG_ADDED);
    let post_twice = async |tasks: &mut JoinSet<_>, duplicates: f64| {
        edge.post_beside(tasks, application(&body), body.clone());
        edge.post_beside(tasks, application(&body), body.clone());
        edge.wait_until("the second one waits for the first", |edge| {
            edge.metric("duplicates_total", &[]) == duplicates
        })
        .await;
    };
    let mut tasks = JoinSet::new();
    post_twice(&mut tasks, 1.0).await;
    let order = orders.recv().await.unwrap();
    order.reply.send(Err(Error::Unavailable("x".into()))).unwrap();
    for answer in tasks.join_all().await {
        answer.is(503, r#"{"status":"unavailable"}"#);
    }
    assert!(
        orders.try_recv().is_err(),
        "the second one was not stored by itself"
    );

    let mut tasks = JoinSet::new();
    post_twice(&mut tasks, 2.0).await;
    orders.recv().await.unwrap().reply.send(Ok(())).unwrap();
    let mut bodies: Vec<_> = tasks
        .join_all()
        .await
        .into_iter()
        .map(|answer| (answer.status, answer.body))
        .collect();
    bodies.sort();
    assert_eq!(
        bodies,
        [
            (200, ACCEPTED.to_owned()),
            (200, r#"{"status":"duplicate"}"#.to_owned())
        ]
    );
    assert!(orders.try_recv().is_err());
}

#[tokio::test]
async fn what_is_stored_after_its_answer_timed_out_is_known() {
    let (edge, mut orders) = Edge::start(Settings {
        answer_timeout: Duration::from_millis(20),
        ..support::settings()
    })
    .await;
    let body = fixture(TAG_ADDED);
    let answer = edge.post(application(&body), body.clone()).await;
    answer.is(503, r#"{"status":"unavailable"}"#);
    assert_eq!(answer.header("retry-after"), "5");
    assert_eq!(edge.answered("503", "answer_timeout"), 1.0);

    // The first one is still on its way: a retry waits for it, not stored by itself, and is late as well.
    edge.post(application(&body), body.clone())
        .await
        .is(503, r#"{"status":"unavailable"}"#);
    let order = orders.recv().await.unwrap();
    assert!(orders.try_recv().is_err());
    assert!(matches!(&order.records, Records::Events(events, _) if events.len() == 1));
    order.reply.send(Ok(())).unwrap();
    edge.wait_until("the late one is known", |edge| {
        edge.metric("seen_events", &[]) == 1.0
    })
    .await;
    edge.post(application(&body), body)
        .await
        .is(200, r#"{"status":"duplicate"}"#);
}

#[tokio::test]
async fn a_failure_after_the_answer_timed_out_lets_the_next_one_try() {
    let (edge, mut orders) = Edge::start(Settings {
        answer_timeout: Duration::from_millis(20),
        ..support::settings()
    })
    .await;
    let body = fixture(TAG_ADDED);
    edge.post(application(&body), body.clone())
        .await
        .is(503, r#"{"status":"unavailable"}"#);
    let order = orders.recv().await.unwrap();
    order.reply.send(Err(Error::Unavailable("x".into()))).unwrap();
    // A retry is an order of its own as soon as the failure has been heard.
    let order = loop {
        edge.post(application(&body), body.clone())
            .await
            .is(503, r#"{"status":"unavailable"}"#);
        if let Ok(order) = orders.try_recv() {
            break order;
        }
    };
    order.reply.send(Ok(())).unwrap();
    edge.wait_until("the retry is known", |edge| {
        edge.metric("seen_events", &[]) == 1.0
    })
    .await;
}

#[tokio::test]
async fn a_sender_that_hangs_up_does_not_undo_its_event() {
    let (edge, mut orders) = Edge::start(support::settings()).await;
    let body = fixture(TAG_ADDED);
    let signed = application(&body);
    let text = |name: &str| signed[name].to_str().unwrap();
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let head = head(&[
        ("content-length", &body.len().to_string()),
        ("x-front-signature", text("x-front-signature")),
        ("x-front-request-timestamp", text("x-front-request-timestamp")),
    ]);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let order = orders.recv().await.unwrap();
    drop(stream);
    edge.wait_until("the hang-up is noticed", |edge| {
        edge.answered("none", "gone") == 1.0
    })
    .await;
    assert_eq!(edge.metric("requests_in_flight", &[]), 0.0);
    order.reply.send(Ok(())).unwrap();
    edge.wait_until("it is known", |edge| edge.metric("seen_events", &[]) == 1.0)
        .await;
    edge.post(application(&body), body)
        .await
        .is(200, r#"{"status":"duplicate"}"#);
}

#[tokio::test]
async fn what_was_stored_is_forgotten_after_its_time() {
    let (edge, log) = Edge::storing(support::settings()).await;
    let body = fixture("rule/tag.json");
    let signed = support::rule(&body);
    edge.post(signed.clone(), body.clone()).await.is(200, ACCEPTED);
    edge.clock.set(NOW.plus(Duration::from_secs(599)));
    edge.post(signed.clone(), body.clone())
        .await
        .is(200, r#"{"status":"duplicate"}"#);
    edge.clock.set(NOW.plus(Duration::from_secs(600)));
    edge.post(signed, body).await.is(200, ACCEPTED);
    assert_eq!(log.take().len(), 2);
}

#[tokio::test]
async fn a_stop_lets_requests_in_flight_end_and_takes_no_more() {
    let (mut edge, mut orders) = Edge::start(support::settings()).await;
    let body = fixture(TAG_ADDED);
    let mut tasks = JoinSet::new();
    edge.post_beside(&mut tasks, application(&body), body);
    let order = orders.recv().await.unwrap();
    edge.stop.cancel();
    let mut refused = false;
    while !refused {
        refused = TcpStream::connect(edge.address).await.is_err();
    }
    order.reply.send(Ok(())).unwrap();
    tasks.join_next().await.unwrap().unwrap().is(200, ACCEPTED);
    edge.running.join_next().await.unwrap().unwrap();
}
