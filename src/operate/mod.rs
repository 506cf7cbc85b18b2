//! Operators' commands: one file each, print and exit.

pub mod audit;
