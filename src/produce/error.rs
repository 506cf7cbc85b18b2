//! What can go wrong with a record on its way to the log, named for what the caller does about it.

use rdkafka::error::KafkaError;

use crate::kafka::{Undelivered, classify_delivery};

/// Why something was not stored, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The local queue is full: refuse the request at once and let its sender come back.
    #[error("the producer's queue is full")]
    Backpressure,
    /// Not known to be durable (the record may still be written): ask the sender for a retry.
    #[error("not known to be durable: {0}")]
    Unavailable(Box<str>),
    /// Never going to be stored in this form: a retry would not help.
    #[error("the log refuses the record: {0}")]
    Reject(Box<str>),
    /// The client cannot go on: ask the sender for a retry and end the process.
    #[error("the producer cannot go on: {0}")]
    Fatal(Box<str>),
}

impl Error {
    /// All names that [`Error::class`] returns.
    pub(super) const CLASSES: [&'static str; 4] = ["backpressure", "unavailable", "reject", "fatal"];

    /// Returns the name used in metrics.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Backpressure => "backpressure",
            Self::Unavailable(_) => "unavailable",
            Self::Reject(_) => "reject",
            Self::Fatal(_) => "fatal",
        }
    }

    /// Sorts what the client says.
    pub(super) fn of(error: &KafkaError) -> Self {
        let text = error.to_string().into();
        match classify_delivery(error) {
            Undelivered::QueueFull => Self::Backpressure,
            Undelivered::Refused => Self::Reject(text),
            Undelivered::Fatal => Self::Fatal(text),
            Undelivered::Unknown => Self::Unavailable(text),
        }
    }
}
