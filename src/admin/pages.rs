//! What the admin server answers.

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use serde_json::json;

use crate::lifecycle::Readiness;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Source: Prometheus, "Exposition formats", text format 0.0.4.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

const INDEX: &str = "\
frontstream

/healthz   200 while the process is alive
/readyz    200 when it can do its work, 503 with the reasons otherwise; JSON with Accept: application/json
/metrics   metrics in Prometheus' text format
";

#[derive(Clone)]
struct Pages {
    registry: Registry,
    readiness: Readiness,
}

/// Builds the pages.
pub(super) fn router(registry: Registry, readiness: Readiness) -> Router {
    Router::new()
        .route("/", get(|| async { page(StatusCode::OK, TEXT, INDEX) }))
        .route(
            "/healthz",
            get(|| async { page(StatusCode::OK, TEXT, "alive\n") }),
        )
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Pages { registry, readiness })
}

/// No page may be kept: each tells the state of this moment.
fn page(status: StatusCode, content_type: &'static str, body: impl Into<String>) -> Response {
    let headers = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")];
    (status, headers, body.into()).into_response()
}

async fn ready(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let state = pages.readiness.state();
    let (status, closed) = match state {
        Ok(()) => (StatusCode::OK, Vec::new()),
        Err(closed) => (StatusCode::SERVICE_UNAVAILABLE, closed),
    };
    if wants_json(&headers) {
        let reasons: Vec<_> = closed
            .iter()
            .map(|closed| json!({ "gate": closed.gate, "reason": closed.reason }))
            .collect();
        let body = json!({ "ready": closed.is_empty(), "reasons": reasons });
        return page(status, JSON, format!("{body}\n"));
    }
    let mut body = String::from(if closed.is_empty() {
        "ready\n"
    } else {
        "not ready\n"
    });
    for closed in closed {
        body.push_str(&format!("{closed}\n"));
    }
    page(status, TEXT, body)
}

/// Text unless JSON is asked for by name: probes and `curl` accept anything and are read by people.
fn wants_json(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|range| range.trim().eq_ignore_ascii_case(JSON))
}

async fn metrics(State(pages): State<Pages>) -> Response {
    match TextEncoder::new().encode_to_string(&pages.registry.gather()) {
        Ok(text) => page(StatusCode::OK, METRICS, text),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            page(
                StatusCode::INTERNAL_SERVER_ERROR,
                TEXT,
                "metrics cannot be written\n",
            )
        }
    }
}

async fn not_found() -> Response {
    page(StatusCode::NOT_FOUND, TEXT, format!("no such page\n\n{INDEX}"))
}

async fn method_not_allowed() -> Response {
    page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n")
}
