//! Logging set-up, how often a failure is said and how its causes are, the terminal the log may share, what may be said of
//! an address, and what every process measures of itself.
//!
//! The metrics of a stage live in the stage; here are the registry they join and the buckets they share.

pub mod buckets;
mod causes;
mod console;
mod logging;
mod outage;
mod process;
mod redact;

pub use causes::{Causes, causes, joined};
pub use console::{Console, Size};
pub use logging::{Colours, Format, Settings, start_logging};
pub use outage::{Outage, Over};
pub use process::registry;
pub use redact::{Network, network};

pub(crate) use logging::check_filter;
