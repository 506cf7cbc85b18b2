//! Operators' commands: one file each, print and exit.

pub mod audit;
pub mod config;
pub mod lag;
pub mod send;
pub mod tail;
pub mod topics;

mod decoding;
mod latencies;
mod output;
mod post;
mod samples;
mod sign;
mod traffic;

pub use output::print;
