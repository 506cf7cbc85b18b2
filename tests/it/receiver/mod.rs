//! The receiver over HTTP, on a port of its own: what is answered, and what is handed to the producer.
//!
//! The producing end is a channel: the tests take orders and say how storing them went.

#![expect(clippy::unwrap_used, reason = "clippy does not take these helpers for tests")]

mod addresses;
mod answers;
mod batches;
mod bounds;
mod fixtures;
mod hostile;
mod logs;
mod role;
mod slow;
mod support;
mod vectors;
