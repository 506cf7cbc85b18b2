//! The one integration binary: one module per topic of behaviour.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

mod admin;
mod audit;
mod broker;
mod campaign;
mod cli;
mod config;
mod conformance;
mod crash;
mod credentials;
mod deploy;
mod dev;
mod emitter;
mod examples;
mod failures;
mod layering;
mod metrics;
mod operate;
mod producer;
mod receiver;
mod registry;
mod schemas;
mod send;
