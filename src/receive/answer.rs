//! What a request is answered: one value for the sender's eyes, for the metrics and for the log.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::signature::{Reason, Refusal};
use crate::validate::Rejection;

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Every event is durable, and `stored` of them are new.
    Accepted {
        stored: usize,
        duplicates: usize,
    },
    /// Every event was durable before.
    Duplicate,
    /// A handshake, with its challenge.
    Handshake(Box<str>),
    /// The body of a handshake without a challenge: nothing to store.
    Sync,
    /// A challenge that we do not echo.
    BadChallenge,
    /// Authentic, unreadable, and set aside.
    Rejected(Rejection),
    /// The body ended before it was whole.
    BrokenBody,
    /// From a network that may not send.
    Forbidden,
    /// One too many of its address; there is room for one after this time.
    Limited(Duration),
    /// The body is packed: the signature is over what is unpacked, or not; nobody signs so.
    Encoded,
    /// Not authentic.
    Unauthorized(Refusal),
    NotFound,
    MethodNotAllowed,
    /// The head or the body took too long.
    Slow(Part),
    TooLarge(Oversize),
    /// A handler panicked.
    Internal,
    /// One of our bounds is reached.
    Overloaded(Bound),
    /// Not known to be durable.
    Unavailable(Why),
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Head,
    Body,
}

/// How a body turned out to be too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Oversize {
    /// Its length said so.
    Announced,
    /// It went on.
    Read,
    /// The log does not take a record of this size.
    Record,
}

/// A bound on what we hold at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Requests,
    Bytes,
    Queue,
}

/// Why something is not known to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The log did not take it.
    Delivery,
    /// The log did not say in time.
    AnswerTimeout,
    /// A body to be set aside could not be.
    DeadLetter,
}

impl Answer {
    /// Returns the status code.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Accepted { .. } | Self::Duplicate | Self::Handshake(_) | Self::Sync => StatusCode::OK,
            Self::BadChallenge | Self::Rejected(_) | Self::BrokenBody => StatusCode::BAD_REQUEST,
            Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Limited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Overloaded(_) | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the reason as metrics and logs name it.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Duplicate => "duplicate",
            Self::Handshake(_) => "handshake",
            Self::Sync => "sync",
            Self::BadChallenge => "bad_challenge",
            Self::Rejected(rejection) => rejection.reason(),
            Self::BrokenBody => "broken_body",
            Self::Encoded => "content_encoding",
            Self::Forbidden => "address",
            Self::Limited(_) => "address_rate",
            Self::Unauthorized(refusal) => refusal.reason.as_str(),
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Slow(Part::Head) => "slow_head",
            Self::Slow(Part::Body) => "slow_body",
            Self::TooLarge(Oversize::Announced) => "announced_size",
            Self::TooLarge(Oversize::Read) => "read_size",
            Self::TooLarge(Oversize::Record) => "record_size",
            Self::Internal => "panic",
            Self::Overloaded(Bound::Requests) => "requests_in_flight",
            Self::Overloaded(Bound::Bytes) => "bytes_in_flight",
            Self::Overloaded(Bound::Queue) => "producer_queue",
            Self::Unavailable(Why::Delivery) => "delivery",
            Self::Unavailable(Why::AnswerTimeout) => "answer_timeout",
            Self::Unavailable(Why::DeadLetter) => "dead_letter",
        }
    }

    /// Every pair of status and reason there is, so that each is counted from zero.
    pub(super) fn all() -> Vec<(StatusCode, &'static str)> {
        let mut answers = vec![
            Self::Accepted {
                stored: 1,
                duplicates: 0,
            },
            Self::Duplicate,
            Self::Handshake("".into()),
            Self::Sync,
            Self::BadChallenge,
            Self::BrokenBody,
            Self::Encoded,
            Self::Forbidden,
            Self::Limited(Duration::ZERO),
            Self::NotFound,
            Self::MethodNotAllowed,
            Self::Slow(Part::Head),
            Self::Slow(Part::Body),
            Self::TooLarge(Oversize::Announced),
            Self::TooLarge(Oversize::Read),
            Self::TooLarge(Oversize::Record),
            Self::Internal,
            Self::Overloaded(Bound::Requests),
            Self::Overloaded(Bound::Bytes),
            Self::Overloaded(Bound::Queue),
            Self::Unavailable(Why::Delivery),
            Self::Unavailable(Why::AnswerTimeout),
            Self::Unavailable(Why::DeadLetter),
        ];
        let unauthorized = Reason::ALL.map(|reason| Self::Unauthorized(Refusal { scheme: None, reason }));
        answers.extend(unauthorized);
        let mut all: Vec<_> = answers
            .iter()
            .map(|answer| (answer.status(), answer.reason()))
            .collect();
        all.extend(Rejection::REASONS.map(|reason| (StatusCode::BAD_REQUEST, reason)));
        all
    }

    fn body(&self) -> Bytes {
        match self {
            Self::Accepted {
                stored: 1,
                duplicates: 0,
            } => Bytes::from_static(br#"{"status":"accepted","events":1}"#),
            Self::Accepted {
                stored,
                duplicates: 0,
            } => format!(r#"{{"status":"accepted","events":{stored}}}"#).into(),
            Self::Accepted { stored, duplicates } => {
                format!(r#"{{"status":"accepted","events":{stored},"duplicates":{duplicates}}}"#).into()
            }
            Self::Sync => Bytes::from_static(br#"{"status":"accepted","events":0}"#),
            Self::Duplicate => Bytes::from_static(br#"{"status":"duplicate"}"#),
            Self::Handshake(challenge) => format!(r#"{{"challenge":{}}}"#, Quoted(challenge)).into(),
            Self::Rejected(_) | Self::BadChallenge | Self::BrokenBody => {
                format!(r#"{{"status":"rejected","reason":"{}"}}"#, self.reason()).into()
            }
            // The sender of a bad signature learns nothing but that.
            Self::Unauthorized(_) => Bytes::from_static(br#"{"status":"unauthorized"}"#),
            Self::Encoded => Bytes::from_static(br#"{"status":"unsupported"}"#),
            Self::Forbidden => Bytes::from_static(br#"{"status":"forbidden"}"#),
            Self::Limited(_) => Bytes::from_static(br#"{"status":"limited"}"#),
            Self::NotFound => Bytes::from_static(br#"{"status":"not_found"}"#),
            Self::MethodNotAllowed => Bytes::from_static(br#"{"status":"method_not_allowed"}"#),
            Self::Slow(_) => Bytes::from_static(br#"{"status":"timeout"}"#),
            Self::TooLarge(_) => Bytes::from_static(br#"{"status":"too_large"}"#),
            Self::Internal => Bytes::from_static(br#"{"status":"error"}"#),
            Self::Overloaded(_) => Bytes::from_static(br#"{"status":"overloaded"}"#),
            Self::Unavailable(_) => Bytes::from_static(br#"{"status":"unavailable"}"#),
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        match self {
            Self::MethodNotAllowed => {
                headers.insert(ALLOW, HeaderValue::from_static("POST"));
            }
            // A bound is free again soon; a broker takes longer to come back.
            Self::Overloaded(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::Unavailable(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            Self::Limited(wait) => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                headers.insert(RETRY_AFTER, seconds.max(1).into());
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            // What is left of the body is not read, so the connection ends: its sender should know.
            Self::TooLarge(Oversize::Announced | Oversize::Read)
            | Self::Slow(_)
            | Self::Encoded
            | Self::Forbidden => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Self::Accepted { .. }
            | Self::Duplicate
            | Self::Handshake(_)
            | Self::Sync
            | Self::BadChallenge
            | Self::Rejected(_)
            | Self::BrokenBody
            | Self::Unauthorized(_)
            | Self::NotFound
            | Self::TooLarge(Oversize::Record)
            | Self::Internal => {}
        }
        response
    }
}

/// Printable ASCII as a JSON string.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write as _;
        f.write_char('"')?;
        for char in self.0.chars() {
            if matches!(char, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(char)?;
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_quoted() {
        let answer = Answer::Handshake(r#"a"b\c</script>"#.into());
        let value: serde_json::Value = serde_json::from_slice(&answer.body()).unwrap();
        assert_eq!(value, serde_json::json!({ "challenge": r#"a"b\c</script>"# }));
    }

    #[test]
    fn each_reason_stands_for_one_answer() {
        let mut reasons: Vec<_> = Answer::all().into_iter().map(|(_, reason)| reason).collect();
        let count = reasons.len();
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), count);
    }
}
