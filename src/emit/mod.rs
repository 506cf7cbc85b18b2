//! One transaction: refreshes, dead letters, and input offsets with the checkpoint in their metadata.
//!
//! [`protocol`] decides what to do next and does nothing; [`Emitter`] does it and decides nothing. No transaction is
//! ever open when [`Emitter::commit`] returns.

mod kafka;
mod metrics;
pub mod protocol;

pub use kafka::{DeadLetter, Emitter, Error, Settings, Transaction};
pub use metrics::Metrics;
