//! Bytes to model and back: one file per format and version; the only place that knows an encoding.

pub(crate) mod front_relay;
pub(crate) mod front_webhook;
pub(crate) mod lenient;
