//! Changes and time in; refreshes, next deadline and checkpoint out. Pure.
//!
//! A [`Coalescer`] owns one partition. It never reads a clock, never does I/O, never logs, never waits: the
//! shell tells it what was read and what time it is, and performs what it says. After each `on_*` the shell
//! drains [`Coalescer::poll_output`], then asks for the deadline and, where it wants to commit, the checkpoint.
//!
//! Why this is exact without a state store: a window that closes emits every event of its conversation read so
//! far. So an event below the recorded position is either in a window that is still open, or already emitted,
//! and the starts of the open windows tell which: it is in a window if it starts one, or if its conversation
//! has one open when the log is read again from the oldest start. Committing that oldest start as the offset,
//! and the starts and the position beside it, in the transaction that holds the outputs, loses nothing and
//! doubles nothing.

mod clock;
mod coalescer;
mod dedupe;
mod face;
mod key;
mod window;
mod windows;

#[cfg(test)]
mod tests;

pub use coalescer::Coalescer;
pub use face::{ChunkLimits, Content, Counts, DedupeHorizon, Limits, Output, Record};
