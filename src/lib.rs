//! frontstream turns Front's webhooks into a Kafka stream of "this conversation changed, refresh it, this urgently".
//!
//! Data goes through the modules in the order in which they are declared here: shared words first, then the
//! stages in the order data meets them, then what puts them together, then the ground they stand on.

// Shared words: no I/O, no async, no clock.
pub mod model;
pub mod wire;

// The stages.
pub mod receive;
pub mod validate;
pub mod produce;
pub mod consume;
pub mod coalesce;
pub mod emit;

// Putting it together.
pub mod roles;
pub mod operate;
pub mod admin;
#[cfg(feature = "dev-broker")]
pub mod dev_broker;

// Ground.
pub mod kafka;
pub mod registry;
pub mod config;
pub mod observe;
pub mod lifecycle;
