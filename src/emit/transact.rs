//! Runs one whole transaction: the protocol decides, a producer performs.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Metrics;
use super::metrics::step;
use super::protocol::{Action, Exit, Fact, Protocol};
use crate::kafka::{self, Class};
use crate::lifecycle::{self, Instant};
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
    /// It was aborted because the group has a new generation: rewind as after any abort; nothing is wrong.
    #[error("the transaction was aborted when it came to {step}: the group has a new generation")]
    Rebalanced {
        /// The step that was refused.
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
    /// The coordinator has no such transaction, or ended it by itself and fenced this producer: this process ends and starts
    /// afresh.
    #[error(
        "could not {step}: the transaction was open for longer than processor.transaction_timeout, so that its \
         coordinator ended it, or its beginning never reached the coordinator (or another process has this \
         transactional id); {outcome}"
    )]
    Expired {
        /// The step that failed.
        step: &'static str,
        /// What became of the transaction, as far as it is known.
        outcome: &'static str,
        /// What the client said.
        source: KafkaError,
    },
    /// The coordinator did not answer as often as it may be asked: this process ends, the next start learns the outcome.
    #[error(
        "could not {step}: the transaction coordinator did not answer in time; the next start learns what became \
         of the transaction"
    )]
    Unanswered {
        /// The step that failed.
        step: &'static str,
        /// What the client said.
        source: KafkaError,
    },
    /// The producer cannot go on: the process ends.
    #[error("could not {step}: the producer cannot go on")]
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
        Self::Rebalanced {
            step: "name the group's generation",
            source: KafkaError::ConsumerCommit(RDKafkaErrorCode::UnknownMemberId),
        }
    }

    /// Says whether the transaction is over and done with, so that the worker can go on from the committed offsets.
    pub fn passes(&self) -> bool {
        match self {
            Self::Rewind { .. } | Self::Rebalanced { .. } => true,
            Self::Fenced { .. } | Self::Expired { .. } | Self::Unanswered { .. } | Self::Fatal { .. } => {
                false
            }
        }
    }

    /// Says how the process ends for it, where it does not pass.
    pub fn exit(&self) -> lifecycle::Exit {
        match self {
            Self::Rewind { .. }
            | Self::Rebalanced { .. }
            | Self::Expired { .. }
            | Self::Unanswered { .. } => lifecycle::Exit::Outside,
            Self::Fenced { .. } => lifecycle::Exit::Fenced,
            Self::Fatal { .. } => lifecycle::Exit::Fatal,
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

    /// Comes between two tries of a step, of which there were `attempts`: the place to say so and to wait a little.
    fn before_retry(&self, _step: &'static str, _attempts: u32, _error: &KafkaError) {}
}

/// A step that failed.
#[derive(Debug)]
pub struct Failed {
    /// What it means for the transaction.
    pub fact: Fact,
    /// What the client said.
    pub source: KafkaError,
}

/// A step, and what the client said of it.
type Cause = (&'static str, KafkaError);

/// Runs one whole transaction: all of it becomes visible, or nothing does.
///
/// # Errors
///
/// As [`Error`] says; in no case is a transaction left open that this producer could still commit.
pub fn transact<S: Steps>(steps: &S, transaction: &Transaction, group: &S::Group) -> Result<(), Error> {
    let metrics = steps.metrics();
    let began = Instant::now();
    let mut protocol = Protocol::default();
    let (mut cause, mut ended): (Option<Cause>, Option<Cause>) = (None, None);
    // Its answer may be what was lost: from then on the outcome is the coordinator's to tell.
    let mut commit_asked = false;
    loop {
        let action = protocol.action();
        commit_asked |= action == Action::Commit;
        let step = match action {
            Action::Done => {
                metrics.transactions.with_label_values(&["committed"]).inc();
                metrics.duration.observe(began.elapsed().as_secs_f64());
                metrics.records.inc_by(transaction.refreshes.len() as u64);
                return Ok(());
            }
            Action::Rewind => {
                let (step, source) = cause.expect("a transaction is aborted for a cause");
                let rebalanced = kafka::classify(&source) == Class::Rebalanced;
                let outcome = if rebalanced { "rebalanced" } else { "aborted" };
                metrics.transactions.with_label_values(&[outcome]).inc();
                return Err(if rebalanced {
                    Error::Rebalanced { step, source }
                } else {
                    Error::Rewind { step, source }
                });
            }
            Action::Exit(exit) => {
                metrics.transactions.with_label_values(&["exit"]).inc();
                let (step, source) = ended.or(cause).expect("a process ends for a cause");
                return Err(match exit {
                    Exit::Fenced => Error::Fenced { step, source },
                    Exit::Expired => Error::Expired {
                        step,
                        outcome: if commit_asked {
                            "the next start learns what became of it"
                        } else {
                            "nothing of it is visible"
                        },
                        source,
                    },
                    Exit::OutcomeUnknown => Error::Unanswered { step, source },
                    Exit::Fatal => Error::Fatal { step, source },
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
                let attempts = protocol.attempts();
                protocol.on(fact);
                if protocol.action() == action {
                    metrics.retries.with_label_values(&[step]).inc();
                    steps.before_retry(step, attempts, &source);
                }
                // Why a transaction is aborted is what made the abort necessary; why the process ends is what came last.
                if action == Action::Abort {
                    ended = Some((step, source));
                } else {
                    cause = Some((step, source));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::cell::RefCell;

    /// Fails as it is told, step by step; what it is not told of succeeds.
    struct Scripted {
        metrics: Metrics,
        failures: RefCell<Vec<(Action, Fact)>>,
    }

    impl Steps for Scripted {
        type Group = ();

        fn metrics(&self) -> &Metrics {
            &self.metrics
        }

        fn perform(&self, action: Action, _transaction: &Transaction, _group: &()) -> Result<(), Failed> {
            let mut failures = self.failures.borrow_mut();
            match failures.first() {
                Some((step, fact)) if *step == action => {
                    let (fact, source) = (*fact, KafkaError::Flush(RDKafkaErrorCode::Fenced));
                    failures.remove(0);
                    Err(Failed { fact, source })
                }
                Some(_) | None => Ok(()),
            }
        }
    }

    /// A commit that was asked for may have been applied, whatever is said of it later.
    #[test]
    fn an_expired_transaction_is_called_invisible_only_before_its_commit() {
        let unseen = "nothing of it is visible";
        let unknown = "the next start learns what became of it";
        let cases: [(&[(Action, Fact)], &str); 5] = [
            (&[(Action::AwaitDeliveries, Fact::Expired)], unseen),
            (
                &[
                    (Action::SendOffsets, Fact::Abortable),
                    (Action::Abort, Fact::Expired),
                ],
                unseen,
            ),
            (&[(Action::Commit, Fact::Expired)], unknown),
            (
                &[(Action::Commit, Fact::Retriable), (Action::Commit, Fact::Expired)],
                unknown,
            ),
            (
                &[(Action::Commit, Fact::Abortable), (Action::Abort, Fact::Expired)],
                unknown,
            ),
        ];
        for (failures, said) in cases {
            let steps = Scripted {
                metrics: Metrics::register(&prometheus::Registry::new()).unwrap(),
                failures: RefCell::new(failures.to_vec()),
            };
            let error = transact(&steps, &Transaction::default(), &()).unwrap_err();
            assert!(matches!(error, Error::Expired { .. }), "{failures:?}: {error}");
            assert!(error.to_string().ends_with(said), "{failures:?}: {error}");
        }
    }
}
