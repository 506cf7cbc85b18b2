//! Logging set-up, the terminal it may share, what may be said of an address, and what every process measures of itself.
//!
//! The metrics of a stage live in the stage; here are the registry they join and the buckets they share.

pub mod buckets;
mod console;
mod logging;
mod process;
mod redact;

pub use console::{Console, Size};
pub use logging::{Colours, Format, Settings, start_logging};
pub use process::registry;
pub use redact::{Network, network};

pub(crate) use logging::check_filter;
