//! Kafka's errors, sorted by what the caller does next. No other file matches error codes.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What to do about an error of a Kafka client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Try the same call again, within a deadline.
    Retriable,
    /// The transaction cannot be committed: abort it and rewind to the committed offsets.
    Abortable,
    /// The position read from is no longer in the log, or the partition is not being read for that reason: it must be
    /// taken over anew from the committed offset.
    OutOfRange,
    /// Another process owns our identity: this one must end.
    Fenced,
    /// The client cannot go on, or was set up wrongly: this process must end.
    Fatal,
}

/// What to do about a record that a producer did not store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// The local queue is full: refuse at once.
    QueueFull,
    /// The log takes no such record: a retry would not help.
    Refused,
    /// The producer cannot go on.
    Fatal,
    /// Not known to be durable, it may still be written: ask the sender for a retry. A code that we do not know is
    /// here too: the safe side.
    Unknown,
}

/// Sorts why a record of an idempotent producer was not stored.
pub fn classify_delivery(error: &KafkaError) -> Undelivered {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::QueueFull) => Undelivered::QueueFull,
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord) => {
            Undelivered::Refused
        }
        Some(Code::Fatal) => Undelivered::Fatal,
        Some(code) if is_fencing(code) => Undelivered::Fatal,
        _ => Undelivered::Unknown,
    }
}

/// Sorts `error` by what the client itself says of it, then by its code.
///
/// Source: librdkafka's INTRODUCTION.md, "Transactional Producer", error handling: a transactional call's error is
/// fatal, needs an abort, or is retriable, in this order; anything else is a misuse that no retry mends.
pub fn classify(error: &KafkaError) -> Class {
    if let KafkaError::Transaction(error) = error {
        if error.is_fatal() {
            return if is_fencing(error.code()) {
                Class::Fenced
            } else {
                Class::Fatal
            };
        }
        if error.txn_requires_abort() {
            return Class::Abortable;
        }
        return if error.is_retriable() {
            Class::Retriable
        } else {
            Class::Fatal
        };
    }
    if matches!(error, KafkaError::MessageConsumptionFatal(code) if !is_fencing(*code)) {
        return Class::Fatal;
    }
    match error.rdkafka_error_code() {
        Some(code) => classify_code(code),
        // Without a code: a client that could not be created, or a call refused before it was sent.
        None => Class::Fatal,
    }
}

/// Says whether a code means that another process took over our transactional id or group instance id.
fn is_fencing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::Fenced
            | Code::ProducerFenced
            | Code::FencedInstanceId
            | Code::InvalidProducerEpoch
            | Code::UnreleasedInstanceId
    )
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "librdkafka's codes are an open set of over 200"
)]
fn classify_code(code: RDKafkaErrorCode) -> Class {
    use RDKafkaErrorCode as Code;
    match code {
        code if is_fencing(code) => Class::Fenced,
        // `State` is what a seek says of a partition whose position was out of range.
        Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::State => Class::OutOfRange,
        Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::RebalanceInProgress
        | Code::StaleMemberEpoch
        | Code::FencedMemberEpoch
        | Code::AssignmentLost => Class::Abortable,
        Code::Fatal
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::UnsupportedSASLMechanism
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::InconsistentGroupProtocol
        | Code::InvalidGroupId
        | Code::InvalidSessionTimeout
        | Code::InvalidTransactionTimeout
        | Code::InvalidArgument
        | Code::InvalidConfig
        | Code::UnsupportedAssignor => Class::Fatal,
        // Transport, leader elections, coordinators that move, time-outs, topics not yet known: they pass.
        _ => Class::Retriable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_by_what_the_caller_does() {
        let cases = [
            (
                KafkaError::MessageConsumption(RDKafkaErrorCode::BrokerTransportFailure),
                Class::Retriable,
            ),
            (
                KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset),
                Class::OutOfRange,
            ),
            (
                KafkaError::OffsetFetch(RDKafkaErrorCode::State),
                Class::OutOfRange,
            ),
            (
                KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::FencedInstanceId),
                Class::Fenced,
            ),
            (
                KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::UnsupportedAssignor),
                Class::Fatal,
            ),
            (
                KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut),
                Class::Retriable,
            ),
            (
                KafkaError::MetadataFetch(RDKafkaErrorCode::StaleMemberEpoch),
                Class::Abortable,
            ),
            (
                KafkaError::Global(RDKafkaErrorCode::GroupAuthorizationFailed),
                Class::Fatal,
            ),
            (
                KafkaError::ClientCreation("no such setting".to_owned()),
                Class::Fatal,
            ),
        ];
        for (error, class) in cases {
            assert_eq!(classify(&error), class, "{error}");
        }
    }
}
