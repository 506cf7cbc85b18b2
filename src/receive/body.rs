//! The raw body: bounded in size and held within the bound on bytes, as one piece.

use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

use super::answer::{Answer, Bound, Oversize};
use super::bounds::{Bounded, Held};
use super::metrics::Metrics;

/// Refuses a body by the length it announces, before a byte of it is read.
pub(super) fn check_announced(body: &Body, max: usize, metrics: &Metrics) -> Result<(), Answer> {
    match body.size_hint().exact() {
        Some(length) if length > max as u64 => {
            metrics.refused_body_bytes.inc_by(length);
            Err(Answer::TooLarge(Oversize::Announced))
        }
        _ => Ok(()),
    }
}

/// Reads a body.
///
/// One that arrives in one piece is that piece; several are put together once.
pub(super) async fn read(
    mut body: Body,
    max: usize,
    bounded: &Bounded,
    metrics: &Metrics,
) -> Result<(Bytes, Held), Answer> {
    let announced = body
        .size_hint()
        .exact()
        .and_then(|length| usize::try_from(length).ok());
    let mut held = bounded.hold_nothing();
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    let mut len = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Answer::BrokenBody);
        };
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        len += piece.len();
        if len > max {
            metrics.refused_body_bytes.inc_by(len as u64);
            return Err(Answer::TooLarge(Oversize::Read));
        }
        if !held.grow(piece.len()) {
            return Err(Answer::Overloaded(Bound::Bytes));
        }
        if first.is_empty() {
            first = piece;
            continue;
        }
        if whole.is_empty() {
            whole.reserve(announced.unwrap_or(len));
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&piece);
    }
    Ok((if whole.is_empty() { first } else { whole.freeze() }, held))
}
