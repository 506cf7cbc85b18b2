//! The topic to one closed enum: a batch, partitions assigned, revoked or lost, the end of a log, an error.
//!
//! One consumer on one thread. A rebalance is an event like the others: librdkafka waits until the worker has
//! answered it with [`Source::start`] or [`Source::release`], so that nothing runs inside a callback. It
//! never commits: offsets travel in the producer's transactions.

mod consumer;
mod source;
mod unowned;

pub use consumer::{Consumer, Error, GroupProtocol, Message, Settings};
pub use source::{Committed, Input, Record, Source};
pub use unowned::Unowned;
