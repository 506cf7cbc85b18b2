//! Health, readiness and metrics, beside every role.
//!
//! Reads the state of the process and never changes it. Answers until the role has ended, so that a stop can be
//! watched; the role cancels its token last.

mod pages;
mod server;

use std::net::SocketAddr;

pub use server::{Error, Server};

/// Where the admin server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Loopback unless configured: the pages tell about the system.
    pub listen: SocketAddr,
}
