//! What a process can be: each wires stages, runs them and drains them. No business rules.

pub mod connect;
pub mod dev;
pub mod host;
pub mod processor;
pub mod receiver;
pub mod reload;

mod start;

use crate::lifecycle::{Clock, Readiness, Stop};

/// What a role shares with the process it runs in.
#[derive(Clone)]
pub struct Surroundings {
    /// The one clock.
    pub clock: Clock,
    /// When to stop.
    pub stop: Stop,
    /// What readiness is made of.
    pub readiness: Readiness,
    /// Where metrics are registered.
    pub metrics: prometheus::Registry,
}
