//! Signals, the stop token, readiness, exit codes and the one clock.

mod clock;
mod exit;
mod readiness;
mod signals;

pub use clock::{Clock, Instant};
pub use exit::Exit;
pub use readiness::{Gate, NotReady, Readiness};
pub use signals::{Stop, stop_on_signals, stop_on_signals_then};
