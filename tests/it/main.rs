//! The one integration binary: one module per topic of behaviour.

mod broker;
mod support;
mod registry;
mod schemas;
