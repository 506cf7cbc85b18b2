//! Input that no correct sender writes, over raw sockets: each is answered, nothing of it is stored, and the next request of somebody
//! else is served.

use std::time::Duration;

use frontstream::receive::Settings;
use reqwest::header::{HeaderName, HeaderValue};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::slow::read_answer;
use super::support::{self, Edge, PATIENCE, application, fixture};

const TAG_ADDED: &str = "application/tag_added.json";

/// Sends bytes and returns what comes back until the receiver ends the connection.
async fn exchange(edge: &Edge, request: &[u8]) -> String {
    let talk = async {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        // Whoever is refused in mid-sentence may find the connection closed.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    timeout(PATIENCE, talk).await.unwrap()
}

/// How a request ends: the status of its answer, and whether its event is stored; 0: no answer.
type Expected = (u16, bool);

const STORED: Expected = (200, true);
const REFUSED: Expected = (400, false);
/// It never comes to its end.
const SLOW: Expected = (408, false);

/// A genuine webhook, to be framed in ways that it should not be.
struct Genuine {
    /// Asks for the end of the connection, unless it is empty.
    connection: &'static str,
    headers: String,
    body: String,
    length: usize,
}

impl Genuine {
    fn new() -> Self {
        Self::of(fixture(TAG_ADDED))
    }

    fn of(body: Vec<u8>) -> Self {
        let signed = application(&body);
        let line =
            |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}\r\n", value.to_str().unwrap());
        Self {
            connection: "connection: close\r\n",
            headers: signed.iter().map(line).collect(),
            length: body.len(),
            body: String::from_utf8(body).unwrap(),
        }
    }

    /// The same on a connection that is kept.
    fn keeping(self) -> Self {
        Self {
            connection: "",
            ..self
        }
    }

    /// With these header lines beside its own; `$` stands for its length.
    fn with(&self, lines: &str) -> Vec<u8> {
        self.to(POST, &lines.replace('$', &self.length.to_string()), &self.body)
    }

    /// With this first line.
    fn asked(&self, line: &str) -> Vec<u8> {
        self.to(line, &format!("content-length: {}\r\n", self.length), &self.body)
    }

    /// In one chunk, with these header lines.
    fn chunked(&self, lines: &str) -> Vec<u8> {
        let body = format!("{:x}\r\n{}\r\n0\r\n\r\n", self.length, self.body);
        self.to(POST, &lines.replace('$', &self.length.to_string()), &body)
    }

    /// In chunks that are written so; `#` stands for its length in hexadecimal digits, `$` for the body.
    fn in_chunks(&self, chunks: &str) -> Vec<u8> {
        let chunks = chunks
            .replace('#', &format!("{:x}", self.length))
            .replace('$', &self.body);
        self.to(POST, "transfer-encoding: chunked\r\n", &chunks)
    }

    fn to(&self, line: &str, lines: &str, body: &str) -> Vec<u8> {
        format!(
            "{line}\r\nhost: front\r\n{}{}{lines}\r\n{body}",
            self.connection, self.headers
        )
        .into_bytes()
    }
}

const POST: &str = "POST /api/webhooks/front HTTP/1.1";

/// Sends each to a receiver that forgets at once what it stored, and a good one after it.
async fn hold(cases: impl IntoIterator<Item = (&str, Vec<u8>, Expected)>) {
    let settings = Settings {
        seen_events_max: 0,
        body_timeout: Duration::from_millis(200),
        ..support::settings()
    };
    let (edge, log) = Edge::storing(settings).await;
    let good = Genuine::new().with("content-length: $\r\n");
    for (name, request, (status, is_stored)) in cases {
        let answer = exchange(&edge, &request).await;
        let said = answer
            .lines()
            .find_map(|line| line.strip_prefix("HTTP/1.")?.get(2..5));
        let said = said.map_or(0, |status| status.parse().unwrap());
        assert_eq!(said, status, "{name}: {answer}");
        assert_eq!(log.take().len(), usize::from(is_stored), "{name}");
        assert!(
            exchange(&edge, &good).await.starts_with("HTTP/1.1 200"),
            "after {name}"
        );
        assert_eq!(log.take().len(), 1, "after {name}");
    }
    assert_eq!(edge.metric("in_flight_bytes", &[]), 0.0);
    assert_eq!(edge.metric("requests_in_flight", &[]), 0.0);
}

/// Two readings of where a request ends are how one is smuggled past a proxy: what RFC 9112 leaves open is refused, or the
/// connection ends with its answer.
#[tokio::test]
async fn no_request_has_two_ends() {
    let it = Genuine::new();
    hold([
        (
            "two lengths",
            it.with("content-length: $\r\ncontent-length: 5\r\n"),
            REFUSED,
        ),
        (
            "the same length twice",
            it.with("content-length: $\r\ncontent-length: $\r\n"),
            STORED,
        ),
        ("a list of lengths", it.with("content-length: $, $\r\n"), REFUSED),
        ("a signed length", it.with("content-length: +$\r\n"), REFUSED),
        ("a negative length", it.with("content-length: -5\r\n"), REFUSED),
        (
            "a length beyond 64 bits",
            it.with("content-length: 99999999999999999999999\r\n"),
            REFUSED,
        ),
        (
            "a length that is too short",
            it.with("content-length: 5\r\n"),
            (401, false),
        ),
        (
            "a length that is too long",
            it.with("content-length: 99999\r\n"),
            SLOW,
        ),
    ])
    .await;
}

#[tokio::test]
async fn no_line_and_no_chunk_is_read_in_two_ways() {
    let it = Genuine::new();
    hold([
        ("identity", it.with("transfer-encoding: identity\r\n"), REFUSED),
        (
            "chunked, and then something",
            it.chunked("transfer-encoding: chunked, identity\r\n"),
            REFUSED,
        ),
        (
            "nearly chunked",
            it.chunked("transfer-encoding: xchunked\r\n"),
            REFUSED,
        ),
        (
            "a space before the colon",
            it.chunked("transfer-encoding : chunked\r\n"),
            REFUSED,
        ),
        (
            "a header without a name",
            it.with(": b\r\ncontent-length: $\r\n"),
            REFUSED,
        ),
        (
            "a folded line",
            it.with("x-a: b\r\n c\r\ncontent-length: $\r\n"),
            REFUSED,
        ),
        (
            "a bare carriage return",
            it.with("x-a: b\rc\r\ncontent-length: $\r\n"),
            REFUSED,
        ),
        (
            "NUL in a header",
            it.with("x-a: b\0c\r\ncontent-length: $\r\n"),
            REFUSED,
        ),
        (
            "a chunk beyond 64 bits",
            it.in_chunks("FFFFFFFFFFFFFFFFF\r\n$\r\n0\r\n\r\n"),
            REFUSED,
        ),
        (
            "a chunk of negative size",
            it.in_chunks("-1\r\n$\r\n0\r\n\r\n"),
            REFUSED,
        ),
        ("a last chunk that is missing", it.in_chunks("#\r\n$\r\n"), SLOW),
        (
            "a chunk with an extension",
            it.in_chunks("#;a=b\r\n$\r\n0\r\n\r\n"),
            STORED,
        ),
        (
            "trailers",
            it.in_chunks("#\r\n$\r\n0\r\nx-front-signature: zzz\r\n\r\n"),
            STORED,
        ),
    ])
    .await;
}

/// What stands behind the chunks is not taken for a request of its own.
#[tokio::test]
async fn a_length_beside_chunks_ends_the_connection() {
    let it = Genuine::new().keeping();
    let (edge, _log) = Edge::storing(support::settings()).await;
    for lines in [
        "content-length: $\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: $\r\n",
    ] {
        let mut request = it.chunked(lines);
        request.extend(it.with("content-length: $\r\n"));
        let answers = exchange(&edge, &request).await;
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
        assert!(answers.contains("connection: close"), "{answers}");
    }
}

#[tokio::test]
async fn only_one_form_of_the_path_is_the_webhooks() {
    let it = Genuine::new();
    let query = format!("POST /api/webhooks/front?{} HTTP/1.1", "a".repeat(70_000));
    let nowhere = (404, false);
    hold([
        (
            "a query",
            it.asked("POST /api/webhooks/front?a=b HTTP/1.1"),
            STORED,
        ),
        ("an endless query", it.asked(&query), (414, false)),
        (
            "an encoded letter",
            it.asked("POST /api/webhooks/%66ront HTTP/1.1"),
            nowhere,
        ),
        (
            "an encoded slash",
            it.asked("POST /api%2Fwebhooks/front HTTP/1.1"),
            nowhere,
        ),
        (
            "dots",
            it.asked("POST /api/x/../webhooks/front HTTP/1.1"),
            nowhere,
        ),
        (
            "two slashes",
            it.asked("POST //api/webhooks/front HTTP/1.1"),
            nowhere,
        ),
        ("capitals", it.asked("POST /API/webhooks/front HTTP/1.1"), nowhere),
        ("an authority", it.asked("POST front:80 HTTP/1.1"), nowhere),
        ("a star", it.asked("POST * HTTP/1.1"), nowhere),
        ("a tunnel", it.asked("CONNECT front:80 HTTP/1.1"), nowhere),
        (
            "a method in small letters",
            it.asked("post /api/webhooks/front HTTP/1.1"),
            (405, false),
        ),
        (
            "an older protocol",
            it.asked("POST /api/webhooks/front HTTP/1.0"),
            STORED,
        ),
        (
            "a protocol that is none",
            it.asked("POST /api/webhooks/front HTTP/1.2"),
            REFUSED,
        ),
        ("no protocol", b"POST /api/webhooks/front\r\n".to_vec(), REFUSED),
        (
            "the preface of HTTP/2",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            (0, false),
        ),
        (
            "TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            REFUSED,
        ),
    ])
    .await;
}

#[tokio::test]
async fn headers_are_read_in_every_case_and_no_more_of_them_than_are_needed() {
    let it = Genuine::new();
    let mut loud = Genuine::new();
    loud.headers = loud
        .headers
        .lines()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| format!("{}:{value}\r\n", name.to_uppercase()))
        .collect();
    let many = "x-a: b\r\n".repeat(200) + "content-length: $\r\n";
    let huge = format!("x-a: {}\r\ncontent-length: $\r\n", "b".repeat(200_000));
    hold([
        ("capitals", loud.with("CONTENT-LENGTH: $\r\n"), STORED),
        ("too many", it.with(&many), (431, false)),
        ("too large", it.with(&huge), (431, false)),
        (
            "a packed body",
            it.with("content-encoding: gzip\r\ncontent-length: $\r\n"),
            (415, false),
        ),
        (
            "packed twice",
            it.with("content-encoding: identity, gzip\r\ncontent-length: $\r\n"),
            (415, false),
        ),
        (
            "not packed",
            it.with("content-encoding: identity\r\ncontent-length: $\r\n"),
            STORED,
        ),
        (
            "two signatures",
            it.with("x-front-signature: a\r\ncontent-length: $\r\n"),
            (401, false),
        ),
        (
            "an upgrade",
            it.with("connection: upgrade\r\nupgrade: h2c\r\ncontent-length: $\r\n"),
            STORED,
        ),
    ])
    .await;
}

/// What is authentic and cannot be read is set aside; what only stands beside what is read, however deep or long, changes nothing.
#[tokio::test]
async fn bodies_that_no_json_library_wrote() {
    let text = String::from_utf8(fixture(TAG_ADDED)).unwrap();
    let beside = |member: &str| text.replacen('{', &format!("{{{member},"), 1).into_bytes();
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    let around = |before: &[u8], after: &[u8]| [before, text.as_bytes(), after].concat();
    let broken = |member: &str| {
        let bytes = beside(member).into_iter();
        bytes.map(|byte| if byte == b'~' { 0xc3 } else { byte }).collect()
    };
    let (arrays, objects) = (deep("[", "]"), deep(r#"{"a":"#, "}"));
    #[rustfmt::skip]
    let cases: [(&str, Vec<u8>, Option<&str>); 27] = [
        ("100,000 arrays", arrays.clone().into_bytes(), Some("not_an_object")),
        ("100,000 objects", objects.clone().into_bytes(), Some("no_type")),
        ("arrays without an end", "[".repeat(1_000_000).into_bytes(), Some("not_json")),
        ("100,000 arrays beside", beside(&format!(r#""x":{arrays}"#)), None),
        ("100,000 objects beside", beside(&format!(r#""x":{objects}"#)), None),
        ("a number of 100,000 digits", beside(&format!(r#""x":{}"#, "9".repeat(100_000))), None),
        ("an exponent beyond everything", beside(r#""x":1e999999999"#), None),
        ("a time beyond 64 bits", text.replace(r#""emitted_at":"#, r#""emitted_at":99999999999999999999999,"y":"#).into_bytes(), None),
        ("a member that is read, twice", beside(r#""type":"a""#), Some("duplicate_member")),
        ("a member that is not, twice", beside(r#""x":1,"x":2"#), None),
        ("half a surrogate pair", beside(r#""x":"\ud800""#), None),
        ("a mark of byte order", around(b"\xef\xbb\xbf", b""), Some("not_json")),
        ("NUL before", around(b"\0", b""), Some("not_json")),
        ("NUL behind", around(b"", b"\0"), Some("not_json")),
        ("a control character", beside("\"x\":\"\u{1}\""), Some("not_json")),
        ("not UTF-8 behind", around(b"", b"\xff"), Some("not_utf8")),
        ("not UTF-8 in a string", broken(r#""x":"~a""#), Some("not_utf8")),
        ("UTF-16", text.encode_utf16().flat_map(u16::to_le_bytes).collect(), Some("not_json")),
        ("two documents", around(b"", text.as_bytes()), Some("not_json")),
        ("a comment", around(b"/* */", b""), Some("not_json")),
        ("no number", beside(r#""x":NaN"#), Some("not_json")),
        ("a comma too many", beside(r#""x":[1,]"#), Some("not_json")),
        ("nothing", Vec::new(), Some("not_json")),
        ("spaces", vec![b' '; 1_000], Some("not_json")),
        ("null", b"null".to_vec(), Some("not_an_object")),
        ("a string", br#""a""#.to_vec(), Some("not_an_object")),
        ("packed", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03".to_vec(), Some("not_utf8")),
    ];
    let settings = Settings {
        seen_events_max: 0,
        ..support::settings()
    };
    let (edge, log) = Edge::storing(settings).await;
    for (name, body, reason) in cases {
        let answer = edge.post(application(&body), body.clone()).await;
        match reason {
            None => {
                answer.is(200, r#"{"status":"accepted","events":1}"#);
                assert_eq!(log.events()[0].payload.as_deref(), Some(&body[..]), "{name}");
            }
            Some(reason) => {
                assert_eq!(answer.status, 400, "{name}");
                assert_eq!(
                    answer.body,
                    format!(r#"{{"status":"rejected","reason":"{reason}"}}"#),
                    "{name}"
                );
                assert_eq!(log.dead_letter().body, body, "{name}");
            }
        }
    }
}

/// Beyond the bound others wait, and of those who only hold a connection some lose it to them; not before.
#[tokio::test]
async fn an_idle_connection_gives_way_to_one_that_waits() {
    let settings = Settings {
        requests_in_flight_max: 2,
        body_timeout: Duration::from_millis(50),
        ..support::settings()
    };
    let (edge, _log) = Edge::storing(settings).await;
    let good = Genuine::new().with("content-length: $\r\n");
    let kept = Genuine::new().keeping().with("content-length: $\r\n");
    let mut idle = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        stream.write_all(&kept).await.unwrap();
        read_answer(&mut stream).await;
        idle.push(stream);
    }
    // Longer than it would take if one waited.
    for stream in &mut idle {
        let ended = timeout(Duration::from_millis(100), stream.read_u8()).await;
        assert!(ended.is_err(), "nobody waits: {ended:?}");
    }
    let answer = exchange(&edge, &good).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    edge.wait_until("one has given way", |edge| edge.metric("connections", &[]) < 4.0)
        .await;
}

/// Those who only hold a connection keep nobody from being served.
#[tokio::test]
async fn a_thousand_idle_connections_keep_nobody_waiting() {
    let settings = Settings {
        requests_in_flight_max: 1_000,
        ..support::settings()
    };
    let (edge, _log) = Edge::storing(settings).await;
    // Both ends of each are ours.
    let files = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: files.maximum,
        maximum: files.maximum,
    };
    setrlimit(Resource::Nofile, most).unwrap();
    let mut idle = Vec::new();
    for _ in 0..1_000 {
        idle.push(TcpStream::connect(edge.address).await.unwrap());
    }
    edge.wait_until("they are all there", |edge| {
        edge.metric("connections", &[]) == 1_000.0
    })
    .await;
    let good = Genuine::new().with("content-length: $\r\n");
    assert!(exchange(&edge, &good).await.starts_with("HTTP/1.1 200"));
    drop(idle);
    edge.wait_until("they are gone", |edge| edge.metric("connections", &[]) == 0.0)
        .await;
}
