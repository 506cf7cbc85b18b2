//! The whole role, from HTTP to a cluster: ready, serving, in trouble, stopping, failing.

use std::time::Duration;

use frontstream::lifecycle::{Clock, Exit, Readiness, Stop};
use frontstream::produce;
use frontstream::roles::receiver::{Receiver, Settings};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::task::JoinSet;

use super::support::{self, NOW, PATIENCE, application, fixture, rule};
use crate::producer::{Cluster, EVENTS, encoding};

struct Role {
    url: String,
    readiness: Readiness,
    stop: Stop,
    running: JoinSet<anyhow::Result<()>>,
}

async fn start(cluster: &Cluster, produce: produce::Settings) -> Role {
    let settings = Settings {
        receive: frontstream::receive::Settings {
            answer_timeout: Duration::from_millis(500),
            ..support::settings()
        },
        produce,
        drain_timeout: PATIENCE,
    };
    let role = Receiver::bind(settings, encoding(), Clock::set_to(NOW), &cluster.registry)
        .await
        .unwrap();
    let url = format!("http://{}/api/webhooks/front", role.address());
    let (readiness, stop) = (Readiness::new(), Stop::new());
    let mut running = JoinSet::new();
    let (gates, token) = (readiness.clone(), stop.clone());
    running.spawn(async move { role.run(&gates, token).await });
    Role {
        url,
        readiness,
        stop,
        running,
    }
}

impl Role {
    async fn post(&self, file: &str) -> u16 {
        let body = fixture(file);
        let request = reqwest::Client::new()
            .post(&self.url)
            .headers(application(&body))
            .body(body);
        request.send().await.unwrap().status().as_u16()
    }

    async fn wait_until(&self, what: &str, condition: impl Fn(Result<(), String>) -> bool) {
        let state = || {
            self.readiness.state().map_err(|closed| {
                let texts: Vec<_> = closed.iter().map(ToString::to_string).collect();
                texts.join(", ")
            })
        };
        let waited = tokio::time::timeout(PATIENCE, async {
            while !condition(state()) {
                tokio::task::yield_now().await;
            }
        });
        waited
            .await
            .unwrap_or_else(|_| panic!("never {what}: {:?}", state()));
    }
}

#[tokio::test]
async fn serves_while_the_brokers_answer_and_drains_at_a_stop() {
    let cluster = Cluster::new();
    let mut role = start(&cluster, cluster.settings()).await;
    role.wait_until("ready", |state| state.is_ok()).await;
    assert_eq!(role.post("application/tag_added.json").await, 200);
    let record = cluster.record(EVENTS, 12);
    assert_eq!(record.key.as_deref(), Some("cnv_1k7p3xq8"));
    assert_eq!(record.value, fixture("application/tag_added.json"));

    cluster.mock.broker_down(1).unwrap();
    assert_eq!(role.post("application/tag_removed.json").await, 503);
    role.wait_until("not ready", |state| state.is_err()).await;
    cluster.mock.broker_up(1).unwrap();
    role.wait_until("ready again", |state| state.is_ok()).await;
    assert_eq!(role.post("application/tag_removed.json").await, 200);

    role.stop.cancel();
    role.running.join_next().await.unwrap().unwrap().unwrap();
    role.wait_until("not ready at the end", |state| state.is_err())
        .await;
    assert!(
        reqwest::Client::new().post(&role.url).send().await.is_err(),
        "nobody listens"
    );
}

#[tokio::test]
async fn a_panic_costs_its_own_request_only() {
    let cluster = Cluster::new();
    let role = start(&cluster, cluster.settings()).await;
    role.wait_until("ready", |state| state.is_ok()).await;
    let body = r#"{"type":"explode","id":"evt_1","conversation":{"id":"cnv_1"}}"#;
    for _ in 0..2 {
        let request = reqwest::Client::new()
            .post(&role.url)
            .headers(rule(body.as_bytes()))
            .body(body);
        let response = request.send().await.unwrap();
        // The second one as well: the first one's claim to the event went with it.
        assert_eq!(response.status(), 500);
        assert_eq!(response.text().await.unwrap(), r#"{"status":"error"}"#);
    }
    assert_eq!(role.post("application/tag_added.json").await, 200);
    assert_eq!(
        cluster.metric("frontstream_receiver_requests_total", "panic"),
        2.0
    );
    assert_eq!(cluster.metric("frontstream_receiver_requests_in_flight", ""), 0.0);
}

#[tokio::test]
async fn ends_when_the_producer_can_do_no_more() {
    let cluster = Cluster::new();
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    cluster
        .mock
        .request_errors(RDKafkaApiKey::InitProducerId, &[error; 10]);
    let mut role = start(&cluster, cluster.settings()).await;
    let ended = tokio::time::timeout(PATIENCE, role.running.join_next())
        .await
        .unwrap();
    let error = ended.unwrap().unwrap().unwrap_err();
    assert_eq!(error.downcast_ref::<Exit>(), Some(&Exit::Fatal));
}

#[tokio::test]
async fn a_port_in_use_is_an_error_at_once() {
    let cluster = Cluster::new();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = Settings {
        receive: frontstream::receive::Settings {
            listen: taken.local_addr().unwrap(),
            ..support::settings()
        },
        produce: cluster.settings(),
        drain_timeout: PATIENCE,
    };
    let error = Receiver::bind(settings, encoding(), Clock::system(), &cluster.registry)
        .await
        .unwrap_err();
    assert_eq!(error.downcast_ref::<Exit>(), Some(&Exit::Outside));
    assert!(
        format!("{error:#}").contains(&format!("cannot listen on {}", taken.local_addr().unwrap())),
        "{error:#}"
    );
}

#[tokio::test]
async fn settings_that_the_client_refuses_are_an_error_at_once() {
    let cluster = Cluster::new();
    let mut produce = cluster.settings();
    produce
        .kafka
        .properties
        .insert("security.protocol".into(), "s3cret-by-mistake".into());
    let settings = Settings {
        receive: support::settings(),
        produce,
        drain_timeout: PATIENCE,
    };
    let error = Receiver::bind(settings, encoding(), Clock::system(), &cluster.registry)
        .await
        .unwrap_err();
    assert_eq!(error.downcast_ref::<Exit>(), Some(&Exit::Usage));
    let text = format!("{error:#} {error:?}");
    assert!(
        text.contains("security.protocol") && !text.contains("s3cret"),
        "{text}"
    );
}
