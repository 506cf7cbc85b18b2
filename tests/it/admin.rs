//! The admin server, over HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use frontstream::admin::{Server, Settings};
use frontstream::lifecycle::{Clock, Readiness, Stop};
use frontstream::observe;
use reqwest::{Client, Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

/// A server on a free port, what it tells about, and how to end it.
struct Admin {
    address: SocketAddr,
    readiness: Readiness,
    registry: prometheus::Registry,
    stop: Stop,
    serving: JoinHandle<()>,
    client: Client,
}

impl Admin {
    #[expect(clippy::disallowed_methods, reason = "the handle is kept and awaited")]
    async fn start() -> Self {
        let server = Server::bind(&Settings { listen: loopback(0) }).await.unwrap();
        let (readiness, stop) = (Readiness::new(), Stop::new());
        let registry = observe::registry(&Clock::system());
        let address = server.address();
        let serving = tokio::spawn(server.serve(registry.clone(), readiness.clone(), stop.clone()));
        Self {
            address,
            readiness,
            registry,
            stop,
            serving,
            client: Client::new(),
        }
    }

    async fn ask(&self, method: Method, path: &str, accept: &str) -> Response {
        let url = format!("http://{}{path}", self.address);
        let request = self.client.request(method, url).header("accept", accept);
        request.send().await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let response = self.ask(Method::GET, path, "*/*").await;
        (response.status().as_u16(), response.text().await.unwrap())
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}

#[tokio::test]
async fn readiness_tells_its_reasons() {
    let admin = Admin::start().await;
    let kafka = admin.readiness.gate("kafka");
    let topics = admin.readiness.gate("topics");
    assert_eq!(admin.get("/healthz").await, (200, "alive\n".to_owned()));
    let waiting = "not ready\nkafka: starting\ntopics: starting\n";
    assert_eq!(admin.get("/readyz").await, (503, waiting.to_owned()));

    topics.ready();
    kafka.not_ready("no broker answers");
    let response = admin.ask(Method::GET, "/readyz", "application/json").await;
    assert_eq!(response.status(), 503);
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(header(&response, "cache-control"), "no-store");
    assert_eq!(
        response.text().await.unwrap(),
        "{\"ready\":false,\"reasons\":[{\"gate\":\"kafka\",\"reason\":\"no broker answers\"}]}\n"
    );

    kafka.ready();
    assert_eq!(admin.get("/readyz").await, (200, "ready\n".to_owned()));
    let response = admin
        .ask(Method::GET, "/readyz", "text/html, application/json;q=0.9")
        .await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.text().await.unwrap(),
        "{\"ready\":true,\"reasons\":[]}\n"
    );

    // Stopping: no longer ready, still alive and still answering.
    admin.readiness.stopping();
    assert_eq!(
        admin.get("/readyz").await,
        (503, "not ready\nprocess: stopping\n".to_owned())
    );
    assert_eq!(admin.get("/healthz").await.0, 200);
    drop((kafka, topics));
    assert_eq!(admin.get("/readyz").await.0, 503);
}

#[tokio::test]
async fn metrics_are_in_the_text_format() {
    let admin = Admin::start().await;
    let counter = prometheus::IntCounter::new("frontstream_test_total", "A test's own.").unwrap();
    admin.registry.register(Box::new(counter.clone())).unwrap();
    counter.inc_by(3);
    let response = admin.ask(Method::GET, "/metrics", "*/*").await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        header(&response, "content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let text = response.text().await.unwrap();
    for line in [
        "# TYPE frontstream_test_total counter",
        "frontstream_test_total 3",
        "# TYPE process_cpu_seconds_total counter",
        "# TYPE process_start_time_seconds gauge",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
    let build = format!(
        "frontstream_build_info{{version=\"{}\"}} 1",
        env!("CARGO_PKG_VERSION")
    );
    assert!(text.contains(&build), "{text}");
}

#[tokio::test]
async fn only_pages_that_exist_only_read() {
    let admin = Admin::start().await;
    for path in ["/", "/healthz", "/metrics"] {
        let response = admin.ask(Method::HEAD, path, "*/*").await;
        assert_eq!(response.status(), 200, "HEAD {path}");
        assert!(
            header(&response, "content-length").parse::<u64>().unwrap() > 0,
            "HEAD {path}"
        );
        assert_eq!(response.text().await.unwrap(), "", "HEAD {path}");
        let response = admin.ask(Method::POST, path, "*/*").await;
        assert_eq!(response.status(), 405, "POST {path}");
        assert_eq!(header(&response, "allow"), "GET,HEAD", "POST {path}");
    }
    let (status, index) = admin.get("/").await;
    assert_eq!(status, 200);
    assert!(index.contains("/healthz") && index.contains("/readyz") && index.contains("/metrics"));
    let (status, body) = admin.get("/nowhere").await;
    assert_eq!(status, 404);
    assert!(body.contains("/readyz"), "{body}");
}

#[tokio::test]
async fn a_port_in_use_names_the_setting() {
    let admin = Admin::start().await;
    let error = Server::bind(&Settings {
        listen: admin.address,
    })
    .await
    .unwrap_err();
    let expected = format!("cannot listen on {}, the address of admin.listen", admin.address);
    assert_eq!(error.to_string(), expected);
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.to_string().contains("in use"), "{source}");
}

#[tokio::test]
async fn ends_when_told_to_even_with_an_idle_connection() {
    let admin = Admin::start().await;
    // One connection that never asks, then one kept open after its answer: taken in order, so both are known.
    let mut silent = tokio::net::TcpStream::connect(admin.address).await.unwrap();
    let mut kept = tokio::net::TcpStream::connect(admin.address).await.unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: admin\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 12];
    kept.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    admin.stop.cancel();
    admin.serving.await.unwrap();
    assert!(tokio::net::TcpStream::connect(admin.address).await.is_err());
    // Both are closed by the server, and sooner than a connection that goes silent is at other times.
    let closed = async {
        kept.read_to_end(&mut Vec::new()).await.unwrap();
        silent.read_to_end(&mut Vec::new()).await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(5), closed)
        .await
        .unwrap();
}

#[tokio::test]
async fn silent_connections_do_not_grow_without_bound() {
    let admin = Admin::start().await;
    let mut silent = Vec::new();
    for _ in 0..65 {
        silent.push(tokio::net::TcpStream::connect(admin.address).await.unwrap());
    }
    // The listener takes connections in order, so the last one found no place and is closed without an answer.
    let mut answer = Vec::new();
    let read = silent[64].read_to_end(&mut answer);
    // Sooner than a silent connection with a place is closed.
    let read = tokio::time::timeout(Duration::from_secs(5), read).await.unwrap();
    assert_eq!(read.unwrap_or(0), 0);
    // Once the others are gone there is room again: their places come back as their ends are noticed.
    silent.clear();
    let mut answered = false;
    for _ in 0..1_000 {
        let url = format!("http://{}/healthz", admin.address);
        if admin
            .client
            .get(url)
            .send()
            .await
            .is_ok_and(|response| response.status() == 200)
        {
            answered = true;
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(answered);
}
