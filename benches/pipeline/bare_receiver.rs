//! The reference receiver: axum, one HMAC, one produced record, one answer; nothing else. Runs until it is killed.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frontstream::config::{self, Environment, Purpose, Sources};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rdkafka::producer::{FutureProducer, FutureRecord};
use sha2::Sha256;

use crate::cluster::SECRET;

struct Bare {
    producer: FutureProducer,
    topic: String,
    key: Hmac<Sha256>,
}

pub(crate) fn run() -> anyhow::Result<()> {
    let sources = Sources {
        file: None,
        environment: Environment::of_process(),
        set: Vec::new(),
        brokers: None,
    };
    let settings = config::load(&sources, Purpose::Receiver)?;
    let mut producer = settings.kafka.client_config();
    // What the receiver's own producer has.
    producer
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", settings.receiver.linger.as_millis().to_string())
        .set("socket.nagle.disable", "true");
    let bare = Arc::new(Bare {
        producer: producer.create()?,
        topic: settings.topics.names.events.clone(),
        key: Hmac::new_from_slice(SECRET.as_bytes()).context("any length is a key")?,
    });
    let router = Router::new()
        .route("/api/webhooks/front", post(receive))
        .with_state(bare);
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(settings.receiver.listen).await?;
        axum::serve(listener, router).await.context("serving")
    })
}

async fn receive(State(bare): State<Arc<Bare>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if !is_authentic(&bare.key, &headers, &body) {
        return StatusCode::UNAUTHORIZED;
    }
    let record = FutureRecord::to(&bare.topic)
        .key(key_of(&body))
        .payload(&body[..]);
    let Ok(delivery) = bare.producer.send_result(record) else {
        return StatusCode::SERVICE_UNAVAILABLE;
    };
    match delivery.await {
        Ok(Ok(_)) => StatusCode::OK,
        Ok(Err(_)) | Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn is_authentic(key: &Hmac<Sha256>, headers: &HeaderMap, body: &[u8]) -> bool {
    let text = |name: &str| headers.get(name).map(axum::http::HeaderValue::as_bytes);
    let (Some(timestamp), Some(signature)) = (text("x-front-request-timestamp"), text("x-front-signature"))
    else {
        return false;
    };
    let mut mac = key.clone();
    mac.update(timestamp);
    mac.update(b":");
    mac.update(body);
    STANDARD
        .decode(signature)
        .is_ok_and(|signature| mac.verify_slice(&signature).is_ok())
}

/// The first conversation id in the body, found without parsing, so that records spread over partitions as ours do.
fn key_of(body: &[u8]) -> &[u8] {
    let begin = body
        .windows(5)
        .position(|five| five == b"/cnv_")
        .map_or(0, |at| at + 1);
    &body[begin..body.len().min(begin + 12)]
}
