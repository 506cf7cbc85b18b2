//! The transaction coordinator: producer ids and epochs, what a transaction touched, its end.
//!
//! [`machine`] decides, with time as an argument and without a topic or a group in reach; [`requests`] asks it on behalf of
//! clients and carries out what it decided; [`describe`] only looks.
//!
//! It is Kafka's coordinator with `transaction.version` 1: clients say which partitions they are about to write to, and an
//! epoch changes when a producer is initialised or fenced, not with every transaction. One thing is simpler: an end is decided
//! and its markers are written in one step, so that nobody ever meets a transaction between the two.

mod describe;
mod machine;
mod requests;

pub(super) use describe::{describe_producers, describe_transactions, list_transactions};
pub(super) use machine::{Outcome, Transactions};
pub(super) use requests::{add_offsets_to_txn, add_partitions_to_txn, end_txn, init_producer_id};
