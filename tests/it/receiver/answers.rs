//! The rows of the receiver's table that one request shows.

use frontstream::produce::{Error, Records};
use frontstream::receive::{Retention, Settings};
use reqwest::Method;

use super::support::{self, Edge, application, fixture, headers, relay, rule};

const TAG_ADDED: &str = "application/tag_added.json";

#[tokio::test]
async fn only_the_path_and_the_method_of_the_webhook_are_there() {
    let (edge, log) = Edge::storing(support::settings()).await;
    for method in [
        Method::GET,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::PATCH,
    ] {
        for path in ["/api/webhooks/front", "/api/webhooks/front/acme"] {
            let answer = edge.send(method.clone(), path, headers(&[]), "").await;
            answer.is(405, r#"{"status":"method_not_allowed"}"#);
            assert_eq!(answer.header("allow"), "POST");
        }
    }
    let body = fixture(TAG_ADDED);
    let paths = [
        "/",
        "/api/webhooks",
        "/api/webhooks/front/",
        "/api/webhooks/front/a/b",
        "/api/webhooks/front/a%20b",
        "/api/webhooks/front/a~b",
    ];
    for path in paths {
        let answer = edge.post_to(path, application(&body), body.clone()).await;
        answer.is(404, r#"{"status":"not_found"}"#);
    }
    assert_eq!(log.take(), []);
    assert_eq!(edge.answered("405", "method_not_allowed"), 10.0);
    assert_eq!(edge.answered("404", "not_found"), 6.0);
}

#[tokio::test]
async fn every_answer_is_json_that_nobody_sniffs() {
    let (edge, _log) = Edge::storing(support::settings()).await;
    let body = fixture(TAG_ADDED);
    let answers = [
        edge.post(application(&body), body.clone()).await,
        edge.post(application(&body), body.clone()).await,
        edge.post(headers(&[]), body).await,
        edge.send(Method::GET, "/", headers(&[]), "").await,
    ];
    assert_eq!(
        answers.each_ref().map(|answer| answer.status),
        [200, 200, 401, 404]
    );
    for answer in answers {
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        serde_json::from_str::<serde_json::Value>(&answer.body).unwrap();
    }
}

#[tokio::test]
async fn a_handshake_is_echoed_only_when_signed() {
    let (edge, log) = Edge::storing(support::settings()).await;
    let body = fixture("application/sync.json");
    let with = |challenges: &[&str]| {
        let mut signed = application(&body);
        for challenge in challenges {
            signed.append(
                "X-Front-Challenge",
                reqwest::header::HeaderValue::from_bytes(challenge.as_bytes()).unwrap(),
            );
        }
        signed
    };
    let longest = "c".repeat(512);
    for challenge in ["x", "a b~\"\\<script>", &longest] {
        let answer = edge.post(with(&[challenge]), body.clone()).await;
        let value: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(
            (answer.status, value),
            (200, serde_json::json!({ "challenge": challenge }))
        );
    }
    let too_long = "c".repeat(513);
    for challenges in [&[""][..], &["é"], &["tab\there"], &[&too_long], &["one", "two"]] {
        let answer = edge.post(with(challenges), body.clone()).await;
        answer.is(400, r#"{"status":"rejected","reason":"bad_challenge"}"#);
    }
    let unsigned = edge
        .post(headers(&[("x-front-challenge", "x")]), body.clone())
        .await;
    unsigned.is(401, r#"{"status":"unauthorized"}"#);
    let without = edge.post(application(&body), body.clone()).await;
    without.is(200, r#"{"status":"accepted","events":0}"#);
    assert_eq!(log.take(), [], "a handshake is never stored");
    assert_eq!(edge.metric("handshakes_total", &[]), 3.0);
}

#[tokio::test]
async fn a_challenge_beside_a_rule_webhook_is_nothing() {
    let (edge, log) = Edge::storing(support::settings()).await;
    let body = fixture("rule/tag.json");
    let mut signed = rule(&body);
    signed.extend(headers(&[("x-front-challenge", "x")]));
    edge.post(signed, body)
        .await
        .is(200, r#"{"status":"accepted","events":1}"#);
    assert_eq!(log.events().len(), 1);
}

#[tokio::test]
async fn headers_that_are_there_twice_are_refused() {
    let (edge, log) = Edge::storing(support::settings()).await;
    let body = fixture(TAG_ADDED);
    for name in ["x-front-signature", "x-front-request-timestamp"] {
        let mut signed = application(&body);
        let value = signed[name].clone();
        signed.append(name, value);
        edge.post(signed, body.clone())
            .await
            .is(401, r#"{"status":"unauthorized"}"#);
    }
    assert_eq!(log.take(), []);
    assert_eq!(edge.answered("401", "malformed_signature"), 1.0);
    assert_eq!(edge.answered("401", "malformed_timestamp"), 1.0);
}

#[tokio::test]
async fn the_tenant_is_that_of_the_url_the_body_the_link_or_the_setting() {
    let (edge, log) = Edge::storing(support::settings()).await;
    let cases = [
        (
            "/api/webhooks/front/acme-1",
            r#"{"type":"tag","id":"e1","authorization":{"id":"cmp_1"}}"#,
            "acme-1",
        ),
        (
            "/api/webhooks/front",
            r#"{"type":"tag","id":"e2","authorization":{"id":"cmp_1"}}"#,
            "cmp_1",
        ),
        (
            "/api/webhooks/front",
            r#"{"type":"tag","id":"e3","_links":{"self":"https://acme.api.frontapp.com/events/e3"}}"#,
            "acme",
        ),
        (
            "/api/webhooks/front",
            r#"{"type":"tag","id":"e4","_links":{"self":"https://api2.frontapp.com/events/e4"}}"#,
            "default",
        ),
    ];
    for (path, body, tenant) in cases {
        let answer = edge.post_to(path, rule(body.as_bytes()), body).await;
        answer.is(200, r#"{"status":"accepted","events":1}"#);
        assert_eq!(log.events()[0].tenant.as_str(), tenant, "{body}");
    }
}

#[tokio::test]
async fn an_event_without_an_id_is_known_by_its_bytes() {
    let (edge, log) = Edge::storing(support::settings()).await;
    let body = r#"{"type":"tag","conversation":{"id":"cnv_1"}}"#;
    edge.post(rule(body.as_bytes()), body)
        .await
        .is(200, r#"{"status":"accepted","events":1}"#);
    edge.post(rule(body.as_bytes()), body)
        .await
        .is(200, r#"{"status":"duplicate"}"#);
    // By sha256sum.
    let id = "sha256-70b3a784d64e6fb191eb80bbf2e1706f825af1352211aa4d022d2346698ef302";
    assert_eq!(log.events()[0].id.as_str(), id);
}

#[tokio::test]
async fn what_is_authentic_and_no_event_is_set_aside() {
    let (edge, log) = Edge::storing(support::settings()).await;
    let many = format!(
        r#"{{"type":"conversations_merged","target":{{"data":[{}"x"]}}}}"#,
        r#""x","#.repeat(1_000)
    );
    let long = format!(r#"{{"type":"tag","id":"{}"}}"#, "x".repeat(513));
    let cases = [
        ("", "not_json"),
        ("{", "not_json"),
        (r#"{"type":"tag","id":"e"}{}"#, "not_json"),
        ("[]", "not_an_object"),
        ("7", "not_an_object"),
        (r#"{"type":"tag","type":"untag","id":"e"}"#, "duplicate_member"),
        (r#"{"id":"e","conversation":{"id":"cnv_1"}}"#, "no_type"),
        (r#"{"type":"","id":"e"}"#, "no_type"),
        (
            r#"{"type":"tag_added","authorization":{"id":"cmp_1"}}"#,
            "no_event",
        ),
        (r#"{"type":"tag_added","payload":{}}"#, "no_event"),
        (&many, "too_many_events"),
        (&long, "name_too_long"),
    ];
    let mut counts = std::collections::BTreeMap::new();
    let mut count = |reason| {
        let count = counts.entry(reason).or_insert(0.0);
        *count += 1.0;
        *count
    };
    for (body, reason) in cases {
        let answer = edge
            .post_to(
                "/api/webhooks/front/acme",
                application(body.as_bytes()),
                body.to_owned(),
            )
            .await;
        answer.is(400, &format!(r#"{{"status":"rejected","reason":"{reason}"}}"#));
        let letter = log.dead_letter();
        assert_eq!(letter.body, body.as_bytes());
        assert_eq!(letter.received_at, support::NOW);
        let header = |name: &str| {
            letter
                .headers
                .iter()
                .find(|header| header.0 == name)
                .map(|header| header.1.as_str())
        };
        assert_eq!(header("frontstream-reason"), Some(reason));
        assert_eq!(header("frontstream-source"), Some("webhook"));
        assert_eq!(header("frontstream-tenant"), Some("acme"));
        assert_eq!(
            header("frontstream-received-at"),
            Some("2026-11-18T11:06:40.500Z")
        );
        assert!(header("frontstream-detail").is_some());
        assert_eq!(edge.answered("400", reason), count(reason));
    }
    let not_utf8 = b"{\"type\":\"tag\",\"id\":\"e\",\"x\":\"\xff\"}";
    let answer = edge.post(application(not_utf8), not_utf8.to_vec()).await;
    answer.is(400, r#"{"status":"rejected","reason":"not_utf8"}"#);
    assert_eq!(log.dead_letter().body, &not_utf8[..]);
}

#[tokio::test]
async fn a_body_that_cannot_be_set_aside_is_asked_for_again() {
    let (edge, mut orders) = Edge::start(support::settings()).await;
    let mut tasks = tokio::task::JoinSet::new();
    edge.post_beside(&mut tasks, application(b"{"), b"{".to_vec());
    let order = orders.recv().await.unwrap();
    assert!(matches!(order.records, Records::DeadLetter(_)));
    order
        .reply
        .send(Err(Error::Unavailable("no broker".into())))
        .unwrap();
    let answer = tasks.join_next().await.unwrap().unwrap();
    answer.is(503, r#"{"status":"unavailable"}"#);
    assert_eq!(answer.header("retry-after"), "5");
    assert_eq!(edge.answered("503", "dead_letter"), 1.0);
}

#[tokio::test]
async fn a_failure_to_store_is_never_200() {
    let (edge, mut orders) = Edge::start(support::settings()).await;
    let body = fixture(TAG_ADDED);
    let text = |text: &str| text.into();
    let cases = [
        (
            Some(Error::Backpressure),
            503,
            r#"{"status":"overloaded"}"#,
            "1",
            "producer_queue",
        ),
        (
            Some(Error::Unavailable(text("x"))),
            503,
            r#"{"status":"unavailable"}"#,
            "5",
            "delivery",
        ),
        (
            Some(Error::Fatal(text("x"))),
            503,
            r#"{"status":"unavailable"}"#,
            "5",
            "delivery",
        ),
        (
            Some(Error::Reject(text("x"))),
            413,
            r#"{"status":"too_large"}"#,
            "",
            "record_size",
        ),
        (None, 503, r#"{"status":"unavailable"}"#, "5", "delivery"),
    ];
    for (error, status, text, retry_after, reason) in cases {
        let before = edge.answered(&status.to_string(), reason);
        let mut tasks = tokio::task::JoinSet::new();
        edge.post_beside(&mut tasks, application(&body), body.clone());
        let order = orders.recv().await.unwrap();
        match error {
            Some(error) => order.reply.send(Err(error)).unwrap(),
            // Whoever stores has gone: the outcome is unknown.
            None => drop(order),
        }
        let answer = tasks.join_next().await.unwrap().unwrap();
        answer.is(status, text);
        assert_eq!(answer.header("retry-after"), retry_after);
        assert_eq!(edge.answered(&status.to_string(), reason), before + 1.0);
    }
    assert_eq!(edge.metric("seen_events", &[]), 0.0);
}

#[tokio::test]
async fn a_trace_is_passed_on_when_it_is_valid() {
    let (edge, log) = Edge::storing(Settings {
        seen_events_max: 0,
        ..support::settings()
    })
    .await;
    let body = fixture(TAG_ADDED);
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (header, expected) in [(Some(good), Some(good)), (Some("00-x"), None), (None, None)] {
        let mut signed = application(&body);
        signed.extend(
            header
                .map(|header| ("traceparent".parse().unwrap(), header.parse().unwrap()))
                .into_iter()
                .collect::<reqwest::header::HeaderMap>(),
        );
        edge.post(signed, body.clone())
            .await
            .is(200, r#"{"status":"accepted","events":1}"#);
        let [Records::Events(_, trace)] = &log.take()[..] else {
            panic!("not one order of events");
        };
        assert_eq!(trace.as_ref().map(|trace| trace.as_str()), expected);
    }
}

#[tokio::test]
async fn nothing_of_a_body_is_kept_where_ids_are_enough() {
    let (edge, log) = Edge::storing(Settings {
        retention: Retention::IdsOnly,
        ..support::settings()
    })
    .await;
    let body = fixture(TAG_ADDED);
    edge.post(application(&body), body.clone())
        .await
        .is(200, r#"{"status":"accepted","events":1}"#);
    let event = &log.events()[0];
    assert_eq!(
        (event.payload.as_deref(), event.id.as_str()),
        (None, "evt_6q2m81oe")
    );
}

#[tokio::test]
async fn a_scheme_without_secrets_lets_nobody_in() {
    let mut settings = support::settings();
    settings.signature.relay = Vec::new();
    let (edge, log) = Edge::storing(settings).await;
    let body = r#"{"type":"message.sent","event_id":"e1"}"#;
    edge.post(relay(body.as_bytes()), body)
        .await
        .is(401, r#"{"status":"unauthorized"}"#);
    assert_eq!(log.take(), []);
    assert_eq!(edge.answered("401", "scheme_off"), 1.0);
}
