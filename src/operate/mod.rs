//! Operators' commands: one file each, print and exit.

pub mod audit;
pub mod config;
pub mod lag;
pub mod secrets;
pub mod send;
pub mod tail;
pub mod topics;

// What `dev` shares with the commands.
pub(crate) mod curl;
pub(crate) mod picture;
pub(crate) mod post;
pub(crate) mod sign;
pub(crate) mod traffic;
pub(crate) mod watch;

mod decoding;
mod latencies;
mod output;
mod samples;

pub(crate) use output::clean;
pub use output::print;
