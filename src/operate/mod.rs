//! Operators' commands: one file each, print and exit.

pub mod audit;
pub mod config;

mod output;

pub use output::print;
