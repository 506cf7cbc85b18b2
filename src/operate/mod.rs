//! Operators' commands: one file each, print and exit.

pub mod audit;
pub mod config;
pub mod lag;
pub mod tail;
pub mod topics;

mod decoding;
mod output;

pub use output::print;
