//! The one integration binary: one module per topic of behaviour.

mod broker;
mod support;
mod registry;
mod schemas;
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod cli;
mod config;
