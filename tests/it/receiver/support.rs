//! A running receiver, a sender that signs, and a log that is a list.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frontstream::lifecycle::{Clock, Stop};
use frontstream::model::{Event, TenantId, Timestamp};
use frontstream::produce::{DeadLetter, Handle, Order, Records};
use frontstream::receive::signature::{self, Secret};
use frontstream::receive::{Receiver, Retention, Settings, address};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::HeaderMap;
use sha1::Sha1;
use sha2::Sha256;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(crate) const APPLICATION_KEY: &str = "4f1d0c9be27a4e5b8a3360d7f5c2e891";
pub(crate) const RULE_KEY: &str = "rk_test_7c0b9a51d3e84f26";
pub(crate) const RELAY_KEY: &str = "relay-test-key";

/// The time of the vectors, and of every test that sets none.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_500);

/// Longer than anything takes that is going to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Reads a file of Front's fixtures.
pub(crate) fn fixture(file: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/front")
        .join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads a JSON file of Front's fixtures.
pub(crate) fn fixture_json(file: &str) -> serde_json::Value {
    serde_json::from_slice(&fixture(file)).unwrap()
}

/// The settings of a test, all schemes on.
pub(crate) fn settings() -> Settings {
    let secret = |name: &str, text: &str| vec![Secret::new(name, text).unwrap()];
    Settings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        address: address::Settings::default(),
        address_rate: None,
        signature: signature::Settings {
            window: Duration::from_secs(300),
            application: secret("app", APPLICATION_KEY),
            rule: secret("rule", RULE_KEY),
            relay: secret("relay", RELAY_KEY),
        },
        default_tenant: TenantId::new("default").unwrap(),
        retention: Retention::Full,
        body_bytes_max: 1_048_576,
        body_timeout: PATIENCE,
        answer_timeout: PATIENCE,
        requests_in_flight_max: 64,
        bytes_in_flight_max: 64 << 20,
        seen_events_max: 1_000,
        seen_events_ttl: Duration::from_secs(600),
    }
}

/// A running receiver.
pub(crate) struct Edge {
    pub(crate) address: SocketAddr,
    pub(crate) clock: Clock,
    pub(crate) stop: Stop,
    registry: prometheus::Registry,
    client: reqwest::Client,
    /// The server; ends when the test does.
    pub(crate) running: JoinSet<()>,
}

impl Edge {
    /// Starts one whose orders are the test's to carry out.
    pub(crate) async fn start(settings: Settings) -> (Self, mpsc::Receiver<Order>) {
        let (handle, orders) = Handle::to_channel(1_024);
        let (clock, stop, registry) = (Clock::set_to(NOW), Stop::new(), prometheus::Registry::new());
        let receiver = Receiver::bind(settings, handle, clock.clone(), &registry)
            .await
            .unwrap();
        let address = receiver.address();
        let mut running = JoinSet::new();
        running.spawn(receiver.run(stop.clone(), PATIENCE));
        let edge = Self {
            address,
            clock,
            stop,
            registry,
            client: reqwest::Client::new(),
            running,
        };
        (edge, orders)
    }

    /// Starts one whose every order is carried out at once.
    pub(crate) async fn storing(settings: Settings) -> (Self, Log) {
        let (mut edge, mut orders) = Self::start(settings).await;
        let log = Log::default();
        let stored = log.clone();
        edge.running.spawn(async move {
            while let Some(order) = orders.recv().await {
                stored.store(order);
            }
        });
        (edge, log)
    }

    /// Posts `body` to the webhook's path.
    pub(crate) async fn post(&self, headers: HeaderMap, body: impl Into<reqwest::Body>) -> Answer {
        self.post_to("/api/webhooks/front", headers, body).await
    }

    /// Posts `body` to `path`.
    pub(crate) async fn post_to(
        &self,
        path: &str,
        headers: HeaderMap,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        self.send(reqwest::Method::POST, path, headers, body).await
    }

    /// Sends any request.
    pub(crate) async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        headers: HeaderMap,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let url = format!("http://{}{path}", self.address);
        let response = self
            .client
            .request(method, url)
            .headers(headers)
            .body(body)
            .send()
            .await
            .unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.text().await.unwrap(),
        }
    }

    /// Posts in a task of its own.
    pub(crate) fn post_beside(&self, tasks: &mut JoinSet<Answer>, headers: HeaderMap, body: Vec<u8>) {
        let request = self
            .client
            .post(format!("http://{}/api/webhooks/front", self.address))
            .headers(headers)
            .body(body);
        tasks.spawn(async move {
            let response = request.send().await.unwrap();
            Answer {
                status: response.status().as_u16(),
                headers: response.headers().clone(),
                body: response.text().await.unwrap(),
            }
        });
    }

    /// Returns the value of the series whose labels contain all of `labels`; 0 when there is none.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.registry.gather();
        let Some(family) = families
            .iter()
            .find(|family| family.name() == format!("frontstream_receiver_{name}"))
        else {
            panic!("no metric {name}");
        };
        let has = |metric: &prometheus::proto::Metric, (name, value): &(&str, &str)| {
            metric
                .get_label()
                .iter()
                .any(|label| label.name() == *name && label.value() == *value)
        };
        let of_labels = family
            .get_metric()
            .iter()
            .filter(|metric| labels.iter().all(|label| has(metric, label)));
        of_labels
            .map(|metric| {
                metric.get_counter().get_value()
                    + metric.get_gauge().get_value()
                    + metric.get_histogram().get_sample_count() as f64
            })
            .sum()
    }

    /// Returns how many requests were answered so.
    pub(crate) fn answered(&self, answer: &str, reason: &str) -> f64 {
        self.metric("requests_total", &[("answer", answer), ("reason", reason)])
    }

    /// Waits until `condition` holds.
    pub(crate) async fn wait_until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !condition(self) {
                tokio::task::yield_now().await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("never happened: {what}"));
    }
}

/// What the receiver answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// Returns a header, empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts status and body.
    #[track_caller]
    pub(crate) fn is(&self, status: u16, body: &str) {
        assert_eq!((self.status, self.body.as_str()), (status, body));
    }
}

/// Everything that was stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Records>>>);

impl Log {
    /// Stores an order and says so.
    pub(crate) fn store(&self, order: Order) {
        self.0.lock().unwrap().push(order.records);
        let _ = order.reply.send(Ok(()));
    }

    /// Takes what was stored since the last time.
    pub(crate) fn take(&self) -> Vec<Records> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// Takes the events of the one order there is.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Event> {
        match <[Records; 1]>::try_from(self.take()) {
            Ok([Records::Events(events, _)]) => events,
            other => panic!("not one order of events: {other:?}"),
        }
    }

    /// Takes the dead letter of the one order there is.
    #[track_caller]
    pub(crate) fn dead_letter(&self) -> DeadLetter {
        match <[Records; 1]>::try_from(self.take()) {
            Ok([Records::DeadLetter(letter)]) => letter,
            other => panic!("not one dead letter: {other:?}"),
        }
    }
}

/// Makes a header map.
pub(crate) fn headers(list: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        let name = reqwest::header::HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, value.parse().unwrap());
    }
    headers
}

/// Signs as Front's application webhooks are, at [`NOW`].
pub(crate) fn application(body: &[u8]) -> HeaderMap {
    let at = NOW.as_millis().to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(APPLICATION_KEY.as_bytes()).unwrap();
    mac.update(format!("{at}:").as_bytes());
    mac.update(body);
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    headers(&[
        ("x-front-request-timestamp", &at),
        ("x-front-signature", &signature),
    ])
}

/// Signs as Front's rule webhooks are.
pub(crate) fn rule(body: &[u8]) -> HeaderMap {
    let mut mac = Hmac::<Sha1>::new_from_slice(RULE_KEY.as_bytes()).unwrap();
    mac.update(body);
    headers(&[("x-front-signature", &STANDARD.encode(mac.finalize().into_bytes()))])
}

/// Signs as a relay of EP-0033 does.
pub(crate) fn relay(body: &[u8]) -> HeaderMap {
    let mut mac = Hmac::<Sha256>::new_from_slice(RELAY_KEY.as_bytes()).unwrap();
    mac.update(body);
    let digest = mac.finalize().into_bytes();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    headers(&[("X-Front-Signature", &hex)])
}
