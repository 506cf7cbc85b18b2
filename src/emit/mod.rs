//! One transaction: refreshes, dead letters, and input offsets with the checkpoint in their metadata.
//!
//! [`protocol`] decides what to do next and does nothing; an [`Emitter`] does it and decides nothing; [`transact()`] leads
//! from the one to the other. No transaction is ever open when it returns.

mod kafka;
mod metrics;
pub mod protocol;
mod transact;
mod watchdog;

pub use kafka::{Emitter, Settings};
pub use metrics::Metrics;
pub use transact::{DeadLetter, Error, Failed, Steps, Transaction, transact};
pub use watchdog::Watchdog;
