//! Signals, the stop token and the one clock.

mod clock;
mod signals;

pub use clock::{Clock, Instant};
pub use signals::{Stop, stop_on_signals};
