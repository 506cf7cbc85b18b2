//! Health, readiness and metrics, beside every role.

use std::net::SocketAddr;

/// Where the admin server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Loopback unless configured: the pages tell about the system.
    pub listen: SocketAddr,
}
