//! The one integration binary: one module per topic of behaviour.

mod producer;
mod receiver;
