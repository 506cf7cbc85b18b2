//! Runs one whole transaction: the protocol decides, a producer performs.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Metrics;
use super::metrics::step;
use super::protocol::{Action, Exit, Fact, Protocol};
use crate::lifecycle::Instant;
use crate::model::{Checkpoint, Offset, Partition, Refresh, Run};

/// A record that is set aside with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it was read.
    pub partition: Partition,
    /// Where it was read.
    pub offset: Offset,
    /// The run that read it.
    pub run: Run,
    /// Its key, as it was.
    pub key: Option<Vec<u8>>,
    /// Its value, as it was.
    pub value: Option<Vec<u8>>,
    /// Why it is here, for the person who redrives it.
    pub reason: String,
}

/// What becomes visible together.
#[derive(Debug, Default)]
pub struct Transaction {
    /// In the order to emit.
    pub refreshes: Vec<Refresh>,
    /// In the order read.
    pub dead_letters: Vec<DeadLetter>,
    /// The state of each partition that moved.
    pub checkpoints: Vec<(Partition, Checkpoint)>,
}

/// Why a transaction was not committed, named for what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was aborted: drop the windows and rewind to the committed offsets.
    #[error("the transaction was aborted when it came to {step}")]
    Rewind {
        /// The step that failed.
        step: &'static str,
        /// What the client said.
        source: KafkaError,
    },
    /// Another process has our transactional id or group instance id: this process ends.
    #[error("could not {step}: another process has this transactional id or group instance id")]
    Fenced {
        /// The step that failed.
        step: &'static str,
        /// What the client said.
        source: KafkaError,
    },
    /// The producer cannot go on: the process ends.
    #[error("could not {step}")]
    Fatal {
        /// The step that failed.
        step: &'static str,
        /// What the client said.
        source: KafkaError,
    },
}

impl Error {
    /// Makes the error of a consumer that has no place in the group: nothing can be committed in its name.
    pub fn not_a_member() -> Self {
        let source = KafkaError::ConsumerCommit(RDKafkaErrorCode::UnknownMemberId);
        Self::Rewind {
            step: "name the group's generation",
            source,
        }
    }
}

/// Performs the steps of a transaction, one at a time: a producer, or a model of one.
pub trait Steps {
    /// What the consumer group is told of the member that commits.
    type Group;

    /// Returns where transactions are counted.
    fn metrics(&self) -> &Metrics;

    /// Does what the protocol decided.
    ///
    /// # Errors
    ///
    /// The step failed, and what that means for the transaction.
    fn perform(&self, action: Action, transaction: &Transaction, group: &Self::Group) -> Result<(), Failed>;
}

/// A step that failed.
#[derive(Debug)]
pub struct Failed {
    /// What it means for the transaction.
    pub fact: Fact,
    /// What the client said.
    pub source: KafkaError,
}

/// Runs one whole transaction: all of it becomes visible, or nothing does.
///
/// # Errors
///
/// As [`Error`] says; in no case is a transaction left open that this producer could still commit.
pub fn transact<S: Steps>(steps: &S, transaction: &Transaction, group: &S::Group) -> Result<(), Error> {
    let metrics = steps.metrics();
    let began = Instant::now();
    let mut protocol = Protocol::default();
    let mut cause: Option<(&'static str, KafkaError)> = None;
    loop {
        let action = protocol.action();
        let step = match action {
            Action::Done => {
                metrics.transactions.with_label_values(&["committed"]).inc();
                metrics.duration.observe(began.elapsed().as_secs_f64());
                metrics.records.inc_by(transaction.refreshes.len() as u64);
                return Ok(());
            }
            Action::Rewind => {
                metrics.transactions.with_label_values(&["aborted"]).inc();
                let (step, source) = cause.expect("a transaction is aborted for a cause");
                return Err(Error::Rewind { step, source });
            }
            Action::Exit(exit) => {
                metrics.transactions.with_label_values(&["exit"]).inc();
                let (step, source) = cause.expect("a process ends for a cause");
                return Err(match exit {
                    Exit::Fenced => Error::Fenced { step, source },
                    Exit::Fatal | Exit::OutcomeUnknown => Error::Fatal { step, source },
                });
            }
            Action::Begin => step::BEGIN,
            Action::Send => step::SEND,
            Action::AwaitDeliveries => step::AWAIT_DELIVERIES,
            Action::SendOffsets => step::SEND_OFFSETS,
            Action::Commit => step::COMMIT,
            Action::Abort => step::ABORT,
        };
        match steps.perform(action, transaction, group) {
            Ok(()) => protocol.on(Fact::Done),
            Err(Failed { fact, source }) => {
                tracing::debug!(step, error = %source, ?fact, "a step of the transaction failed");
                metrics
                    .retries
                    .with_label_values(&[step])
                    .inc_by(u64::from(fact == Fact::Retriable));
                // What made the abort necessary is why; what the abort itself says is not.
                if cause.is_none() || action != Action::Abort {
                    cause = Some((step, source));
                }
                protocol.on(fact);
            }
        }
    }
}
