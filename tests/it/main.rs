//! The one integration binary: one module per topic of behaviour.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod cli;
mod config;
mod layering;
