//! Logging set-up, what may be said of an address, and what every process measures of itself.
//!
//! The metrics of a stage live in the stage; here are the registry they join and the buckets they share.

pub mod buckets;
mod logging;
mod process;
mod redact;

pub use logging::{Format, Settings, start_logging};
pub use process::registry;
pub use redact::{Network, network};

pub(crate) use logging::check_filter;
