//! Senders that take their time, over raw sockets.

use std::time::Duration;

use frontstream::receive::Settings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::support::{self, Edge, PATIENCE, application, fixture};

/// Writes the head of a request to the webhook's path.
pub(crate) fn head(headers: &[(&str, &str)]) -> String {
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("POST /api/webhooks/front HTTP/1.1\r\nhost: front\r\n{lines}\r\n")
}

/// Reads one answer, as far as its length says.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let whole = |read: &[u8]| {
        let text = std::str::from_utf8(read).unwrap();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))?;
        (body.len() == length.parse::<usize>().unwrap()).then(|| text.to_owned())
    };
    let reading = async {
        loop {
            if let Some(answer) = whole(&read) {
                return answer;
            }
            let more = stream.read_buf(&mut read).await.unwrap();
            assert_ne!(more, 0, "closed after {:?}", String::from_utf8_lossy(&read));
        }
    };
    timeout(PATIENCE, reading).await.unwrap()
}

fn impatient() -> Settings {
    Settings {
        body_timeout: Duration::from_millis(50),
        ..support::settings()
    }
}

#[tokio::test]
async fn a_slow_body_is_answered_408() {
    let (edge, log) = Edge::storing(impatient()).await;
    let body = fixture("application/tag_added.json");
    let signed = application(&body);
    let text = |name: &str| signed[name].to_str().unwrap();
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let head = head(&[
        ("content-length", &body.len().to_string()),
        ("x-front-signature", text("x-front-signature")),
        ("x-front-request-timestamp", text("x-front-request-timestamp")),
    ]);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body[..100]).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.ends_with(r#"{"status":"timeout"}"#),
        "{answer}"
    );
    assert_eq!(edge.answered("408", "slow_body"), 1.0);
    assert_eq!(log.take(), []);
    edge.wait_until("its bytes are given back", |edge| {
        edge.metric("in_flight_bytes", &[]) == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_slow_head_is_answered_408_and_an_idle_connection_is_left_alone() {
    let (edge, _log) = Edge::storing(impatient()).await;
    let mut idle = TcpStream::connect(edge.address).await.unwrap();
    let mut used = TcpStream::connect(edge.address).await.unwrap();
    used.write_all(head(&[("content-length", "0")]).as_bytes())
        .await
        .unwrap();
    assert!(read_answer(&mut used).await.starts_with("HTTP/1.1 401 "));

    // Two slow ones, one after the other, outlast any patience with the idle ones.
    for count in [1.0, 2.0] {
        let mut slow = TcpStream::connect(edge.address).await.unwrap();
        slow.write_all(b"POST /api/webhooks/front HTTP/1.1\r\nhost: fro")
            .await
            .unwrap();
        let answer = read_answer(&mut slow).await;
        assert!(
            answer.starts_with("HTTP/1.1 408 ") && answer.ends_with(r#"{"status":"timeout"}"#),
            "{answer}"
        );
        assert_eq!(slow.read(&mut [0; 1]).await.unwrap(), 0, "closed");
        assert_eq!(edge.answered("408", "slow_head"), count);
    }
    for stream in [&mut idle, &mut used] {
        stream
            .write_all(head(&[("content-length", "0")]).as_bytes())
            .await
            .unwrap();
        assert!(read_answer(stream).await.starts_with("HTTP/1.1 401 "));
    }
    edge.wait_until("only the idle ones are open", |edge| {
        edge.metric("connections", &[]) == 2.0
    })
    .await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_event() {
    let (edge, log) = Edge::storing(support::settings()).await;
    let body = fixture("application/tag_added.json");
    let signed = application(&body);
    let text = |name: &str| signed[name].to_str().unwrap();
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let head = head(&[
        ("transfer-encoding", "chunked"),
        ("x-front-signature", text("x-front-signature")),
        ("x-front-request-timestamp", text("x-front-request-timestamp")),
    ]);
    stream
        .write_all(format!("{head}not a length\r\n").as_bytes())
        .await
        .unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(edge.answered("400", "broken_body"), 1.0);
    assert_eq!(log.take(), []);
}

#[tokio::test]
async fn what_the_head_gives_away_is_refused_before_the_body() {
    let (edge, log) = Edge::storing(support::settings()).await;
    let good = application(b"x");
    let signature = good["x-front-signature"].to_str().unwrap();
    let cases = [
        ("missing_signature", vec![]),
        (
            "malformed_signature",
            vec![
                ("x-front-signature", "x"),
                ("x-front-request-timestamp", "1795000000123"),
            ],
        ),
        (
            "stale_timestamp",
            vec![
                ("x-front-signature", signature),
                ("x-front-request-timestamp", "1794999700499"),
            ],
        ),
        (
            "future_timestamp",
            vec![
                ("x-front-signature", signature),
                ("x-front-request-timestamp", "1795000300501"),
            ],
        ),
        (
            "malformed_timestamp",
            vec![
                ("x-front-signature", signature),
                ("x-front-request-timestamp", "soon"),
            ],
        ),
    ];
    for (reason, mut headers) in cases {
        headers.push(("content-length", "100000"));
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        stream.write_all(head(&headers).as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(
            answer.starts_with("HTTP/1.1 401 ") && answer.ends_with(r#"{"status":"unauthorized"}"#),
            "{answer}"
        );
        assert_eq!(edge.answered("401", reason), 1.0);
    }
    assert_eq!(log.take(), []);
}

#[tokio::test]
async fn a_head_without_an_end_is_cut_off() {
    let (edge, _log) = Edge::storing(support::settings()).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let filler = "x".repeat(2 * 64 * 1_024);
    let head = head(&[("x-filler", &filler)]);
    // The rest may meet a closed connection.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}
