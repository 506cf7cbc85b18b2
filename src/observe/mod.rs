//! Logging set-up and metric names.

mod logging;

pub use logging::{Format, Settings, start_logging};

pub(crate) use logging::check_filter;
