//! Who may send at all, and how much.

use std::time::Duration;

use frontstream::receive::rate::Rate;
use frontstream::receive::{Settings, address};
use reqwest::Method;
use reqwest::header::HeaderMap;

use super::support::{self, Edge, application, fixture, headers};

const TAG_ADDED: &str = "application/tag_added.json";
const ACCEPTED: &str = r#"{"status":"accepted","events":1}"#;
const DUPLICATE: &str = r#"{"status":"duplicate"}"#;
const FORBIDDEN: &str = r#"{"status":"forbidden"}"#;
const LIMITED: &str = r#"{"status":"limited"}"#;

fn addresses(allowed: &[&str], proxies: &[&str]) -> address::Settings {
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    address::Settings {
        allowed: networks(allowed),
        proxies: networks(proxies),
        ..address::Settings::default()
    }
}

/// A genuine request that came through these hops.
fn through(hops: &str) -> (HeaderMap, Vec<u8>) {
    let body = fixture(TAG_ADDED);
    let mut signed = application(&body);
    signed.extend(headers(&[("x-forwarded-for", hops)]));
    (signed, body)
}

#[tokio::test]
async fn a_network_that_is_not_listed_is_refused_whatever_it_sends() {
    let settings = Settings {
        address: addresses(&["203.0.113.0/24"], &["127.0.0.0/8"]),
        ..support::settings()
    };
    let max = settings.body_bytes_max;
    let (edge, log) = Edge::storing(settings).await;
    // The last hop counts; what stands left of it the sender wrote.
    for hops in [
        "198.51.100.1",
        "203.0.113.7, 198.51.100.1",
        "2001:db8::1",
        "unknown",
    ] {
        let (signed, body) = through(hops);
        edge.post(signed, body).await.is(403, FORBIDDEN);
    }
    let large = vec![b' '; max + 1];
    edge.post(headers(&[]), large).await.is(403, FORBIDDEN);
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/api/webhooks/front"),
        (Method::POST, "/x"),
    ] {
        let (signed, _) = through("198.51.100.1");
        edge.send(method, path, signed, "").await.is(403, FORBIDDEN);
    }
    assert_eq!(edge.answered("403", "address"), 8.0);
    assert_eq!(log.take(), []);
    let (signed, body) = through("198.51.100.1, 203.0.113.7");
    edge.post(signed, body).await.is(200, ACCEPTED);
    assert_eq!(log.events().len(), 1);
}

#[tokio::test]
async fn what_a_sender_says_of_its_way_counts_nothing_without_a_proxy() {
    let settings = Settings {
        address: addresses(&["203.0.113.0/24"], &[]),
        ..support::settings()
    };
    let (edge, log) = Edge::storing(settings).await;
    let (signed, body) = through("203.0.113.7");
    edge.post(signed, body).await.is(403, FORBIDDEN);
    assert_eq!(log.take(), []);
}

#[tokio::test]
async fn an_address_that_sends_too_much_is_told_when_to_come_back() {
    let settings = Settings {
        address: addresses(&[], &["127.0.0.0/8"]),
        address_rate: Some(Rate {
            per_second: 2.try_into().unwrap(),
            burst: 3.try_into().unwrap(),
        }),
        ..support::settings()
    };
    let (edge, log) = Edge::storing(settings).await;
    // What is not authentic counts, too.
    edge.post(headers(&[("x-forwarded-for", "203.0.113.7")]), "")
        .await
        .is(401, r#"{"status":"unauthorized"}"#);
    for expected in [ACCEPTED, DUPLICATE] {
        let (signed, body) = through("203.0.113.7");
        edge.post(signed, body).await.is(200, expected);
    }
    let (signed, body) = through("203.0.113.7");
    let refused = edge.post(signed, body).await;
    refused.is(429, LIMITED);
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(edge.answered("429", "address_rate"), 1.0);
    // Others have their own; of IPv6 a network of 64 bits is one.
    for (address, status) in [
        ("203.0.113.8", 200),
        ("2001:db8::1", 200),
        ("2001:db8::2", 200),
        ("2001:db8::3", 200),
        ("2001:db8::4", 429),
        ("2001:db8:0:1::4", 200),
    ] {
        let (signed, body) = through(address);
        assert_eq!(edge.post(signed, body).await.status, status, "{address}");
    }
    edge.clock.pass(Duration::from_millis(500));
    let (signed, body) = through("203.0.113.7");
    edge.post(signed, body).await.is(200, DUPLICATE);
    assert_eq!(log.events().len(), 1);
}
