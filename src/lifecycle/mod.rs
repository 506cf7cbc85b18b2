//! Signals, the stop token, readiness, exit codes and the one clock.

mod clock;
mod exit;
mod signals;

pub use clock::{Clock, Instant};
pub use exit::Exit;
pub use signals::{Stop, stop_on_signals};
