//! Kafka's errors, sorted by what the caller does next. No other file matches error codes.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What to do about an error of a Kafka client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Try the same call again, within a deadline.
    Retriable,
    /// The group has gone on without this member's generation: abort and rewind, and no error at all. Which partitions
    /// are still ours comes with the rebalance.
    Rebalanced,
    /// The transaction cannot be committed: abort it and rewind to the committed offsets.
    Abortable,
    /// The position read from is no longer in the log, or the partition is not being read for that reason: it must be
    /// taken over anew from the committed offset.
    OutOfRange,
    /// The group still holds our instance id for the process before this one: end, and be started again.
    Unreleased,
    /// Another process owns our identity: this one must end.
    Fenced,
    /// The client cannot go on, or was set up wrongly: this process must end.
    Fatal,
}

impl Class {
    /// All of them that are errors.
    pub const ERRORS: [Self; 6] = [
        Self::Retriable,
        Self::Abortable,
        Self::OutOfRange,
        Self::Unreleased,
        Self::Fenced,
        Self::Fatal,
    ];

    /// Returns the name used in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retriable => "retriable",
            Self::Rebalanced => "rebalanced",
            Self::Abortable => "abortable",
            Self::OutOfRange => "out_of_range",
            Self::Unreleased => "unreleased",
            Self::Fenced => "fenced",
            Self::Fatal => "fatal",
        }
    }
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
    use RDKafkaErrorCode as Code;
    if let KafkaError::Transaction(error) = error {
        if error.is_fatal() {
            return if is_fencing(error.code()) {
                Class::Fenced
            } else {
                Class::Fatal
            };
        }
        if error.txn_requires_abort() {
            return match error.code() {
                code if is_rebalance(code) => Class::Rebalanced,
                // Another transaction would be refused for the same reason.
                code if is_denial(code) => Class::Fatal,
                _ => Class::Abortable,
            };
        }
        return if error.is_retriable() {
            Class::Retriable
        } else {
            Class::Fatal
        };
    }
    if let KafkaError::MessageConsumptionFatal(code) = error {
        return if *code == Code::UnreleasedInstanceId {
            Class::Unreleased
        } else if is_fencing(*code) {
            Class::Fenced
        } else {
            Class::Fatal
        };
    }
    match error.rdkafka_error_code() {
        Some(code) => classify_code(code),
        // Without a code: a client that could not be created, or a call refused before it was sent.
        None => Class::Fatal,
    }
}

/// Says whether `error` is what a coordinator answers for a transaction that it has ended by itself: after
/// `transaction.timeout.ms` it aborts the transaction and raises the epoch (`PrepareEpochFence`), so that its producer
/// gets the very answers of one that another process fenced.
///
/// Source: Kafka's `TransactionCoordinator.endTransaction`; KIP-588, which would tell the two apart, was never built.
/// librdkafka gives `Fenced` for the first request that is refused, and `InvalidTxnState` for one that comes after it
/// has raised the epoch itself (confluentinc/librdkafka#3297).
pub fn may_have_expired(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::Fenced
                | Code::ProducerFenced
                | Code::InvalidProducerEpoch
                | Code::InvalidTransactionalState
                | Code::InvalidProducerIdMapping
        )
    )
}

/// Says whether the brokers refuse us by our credentials or our rights, which no retry mends.
pub fn is_denied(error: &KafkaError) -> bool {
    // The one with a code that the crate does not give away.
    let code = if let KafkaError::AdminOp(code) = error {
        Some(*code)
    } else {
        error.rdkafka_error_code()
    };
    code.is_some_and(is_denial)
}

/// Says whether a record was not stored only because its transaction had failed before: librdkafka then gives up what it
/// has queued and takes no more. Why the transaction failed is the transaction's to tell.
pub fn is_consequence(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error,
        KafkaError::MessageProduction(Code::PurgeQueue | Code::PurgeInflight | Code::State)
    )
}

/// Says whether a call of a transaction was refused for the state that the transaction is in.
pub fn is_out_of_state(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::State)
}

/// Says whether a code means that the brokers do not take our credentials, or that these give no right to what was asked.
fn is_denial(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
    )
}

/// Says whether `error` is what a coordinator answers that has no such transaction open, which no other process and no
/// setting is the cause of: it ended the transaction, or was never told of it.
///
/// The latter without any time-out: librdkafka counts an `AddPartitionsToTxn` that was not answered as received, so that its
/// abort asks the coordinator to end a transaction that this never saw; after a committed one that is refused.
///
/// Source: librdkafka's `rd_kafka_txn_handle_AddPartitionsToTxn` ("so increase the txn_req_cnt back up"), Kafka's
/// `TransactionCoordinator.endTransaction` (`CompleteCommit` and an abort: `INVALID_TXN_STATE`). Whose epoch another process
/// has raised is refused for that before its state is looked at.
pub fn has_no_transaction(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::InvalidTransactionalState)
}

/// Says whether a code means that another process took over our transactional id or group instance id.
fn is_fencing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::Fenced | Code::ProducerFenced | Code::FencedInstanceId | Code::InvalidProducerEpoch
    )
}

/// Says whether a code means that the group has a new generation, or will have one.
fn is_rebalance(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::RebalanceInProgress
            | Code::StaleMemberEpoch
            | Code::FencedMemberEpoch
            | Code::AssignmentLost
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
        code if is_rebalance(code) => Class::Rebalanced,
        Code::UnreleasedInstanceId => Class::Unreleased,
        code if is_denial(code) => Class::Fatal,
        Code::Fatal
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

    use RDKafkaErrorCode as Code;

    const RETRIABLE: &[Code] = &[
        Code::AllBrokersDown,
        Code::BrokerTransportFailure,
        Code::Resolve,
        Code::SSL,
        Code::OperationTimedOut,
        Code::MessageTimedOut,
        Code::RequestTimedOut,
        Code::WaitingForCoordinator,
        Code::CoordinatorNotAvailable,
        Code::CoordinatorLoadInProgress,
        Code::NotCoordinator,
        Code::NotLeaderForPartition,
        Code::LeaderNotAvailable,
        Code::NotEnoughReplicas,
        Code::NotEnoughReplicasAfterAppend,
        Code::KafkaStorageError,
        Code::UnknownTopicOrPartition,
        Code::UnknownPartition,
        Code::UnstableOffsetCommit,
        Code::ConcurrentTransactions,
        Code::FencedLeaderEpoch,
        Code::PollExceeded,
        Code::GroupMaxSizeReached,
        Code::Unknown,
    ];
    const REBALANCED: &[Code] = &[
        Code::IllegalGeneration,
        Code::UnknownMemberId,
        Code::RebalanceInProgress,
        Code::StaleMemberEpoch,
        Code::FencedMemberEpoch,
        Code::AssignmentLost,
    ];
    const OUT_OF_RANGE: &[Code] = &[Code::AutoOffsetReset, Code::OffsetOutOfRange, Code::State];
    const FENCED: &[Code] = &[
        Code::Fenced,
        Code::ProducerFenced,
        Code::FencedInstanceId,
        Code::InvalidProducerEpoch,
    ];
    const FATAL: &[Code] = &[
        Code::Fatal,
        Code::Authentication,
        Code::SaslAuthenticationFailed,
        Code::TopicAuthorizationFailed,
        Code::GroupAuthorizationFailed,
        Code::ClusterAuthorizationFailed,
        Code::TransactionalIdAuthorizationFailed,
        Code::UnsupportedSASLMechanism,
        Code::UnsupportedVersion,
        Code::UnsupportedFeature,
        Code::InconsistentGroupProtocol,
        Code::InvalidGroupId,
        Code::InvalidSessionTimeout,
        Code::InvalidTransactionTimeout,
        Code::InvalidArgument,
        Code::InvalidConfig,
        Code::UnsupportedAssignor,
    ];
    const TABLE: [(Class, &[Code]); 6] = [
        (Class::Retriable, RETRIABLE),
        (Class::Rebalanced, REBALANCED),
        (Class::OutOfRange, OUT_OF_RANGE),
        (Class::Unreleased, &[Code::UnreleasedInstanceId]),
        (Class::Fenced, FENCED),
        (Class::Fatal, FATAL),
    ];

    #[test]
    fn codes_are_sorted_by_what_the_caller_does() {
        for (class, codes) in TABLE {
            for code in codes {
                let asked = [
                    KafkaError::MessageConsumption(*code),
                    KafkaError::MetadataFetch(*code),
                    KafkaError::OffsetFetch(*code),
                ];
                for error in asked {
                    assert_eq!(classify(&error), class, "{error}");
                }
            }
        }
        let without_code = KafkaError::ClientCreation("no such setting".to_owned());
        assert_eq!(classify(&without_code), Class::Fatal);
    }

    /// A consumer that is finished says so with a flag: whatever the code, it is not tried again.
    #[test]
    fn a_fatal_consumer_is_never_retried() {
        let cases = [
            (Code::FencedInstanceId, Class::Fenced),
            (Code::UnreleasedInstanceId, Class::Unreleased),
            (Code::UnsupportedAssignor, Class::Fatal),
            (Code::BrokerTransportFailure, Class::Fatal),
            (Code::UnknownMemberId, Class::Fatal),
        ];
        for (code, class) in cases {
            let error = KafkaError::MessageConsumptionFatal(code);
            assert_eq!(classify(&error), class, "{error}");
        }
    }

    #[test]
    fn the_receivers_records_are_sorted_by_what_their_sender_is_told() {
        let cases = [
            (Code::QueueFull, Undelivered::QueueFull),
            (Code::MessageSizeTooLarge, Undelivered::Refused),
            (Code::InvalidMessageSize, Undelivered::Refused),
            (Code::InvalidRecord, Undelivered::Refused),
            (Code::Fatal, Undelivered::Fatal),
            (Code::ProducerFenced, Undelivered::Fatal),
            (Code::MessageTimedOut, Undelivered::Unknown),
            (Code::NotEnoughReplicasAfterAppend, Undelivered::Unknown),
            (Code::KafkaStorageError, Undelivered::Unknown),
            (Code::TopicAuthorizationFailed, Undelivered::Unknown),
            (Code::UnknownTopicOrPartition, Undelivered::Unknown),
        ];
        for (code, undelivered) in cases {
            let error = KafkaError::MessageProduction(code);
            assert_eq!(classify_delivery(&error), undelivered, "{error}");
        }
    }

    #[test]
    fn what_a_coordinator_says_of_a_transaction_that_it_has_ended() {
        for code in [
            Code::Fenced,
            Code::InvalidProducerEpoch,
            Code::InvalidTransactionalState,
        ] {
            assert!(may_have_expired(&KafkaError::Flush(code)), "{code:?}");
        }
        for code in [
            Code::FencedInstanceId,
            Code::Authentication,
            Code::OperationTimedOut,
        ] {
            assert!(!may_have_expired(&KafkaError::Flush(code)), "{code:?}");
        }
        for (code, has_none) in [
            (Code::InvalidTransactionalState, true),
            (Code::InvalidProducerEpoch, false),
            (Code::TransactionalIdAuthorizationFailed, false),
        ] {
            let error = KafkaError::Flush(code);
            assert_eq!(has_no_transaction(&error), has_none, "{error}");
        }
    }

    #[test]
    fn what_is_refused_for_good_is_told_from_what_follows_another_failure() {
        for code in [Code::TopicAuthorizationFailed, Code::Authentication] {
            assert!(is_denied(&KafkaError::AdminOp(code)), "{code:?}");
            assert!(is_denied(&KafkaError::MessageProduction(code)), "{code:?}");
        }
        assert!(!is_denied(&KafkaError::Global(Code::BrokerTransportFailure)));
        for code in [Code::PurgeQueue, Code::PurgeInflight, Code::State] {
            assert!(is_consequence(&KafkaError::MessageProduction(code)), "{code:?}");
        }
        // A step that is refused for the transaction's state is no record.
        assert!(!is_consequence(&KafkaError::Flush(Code::State)));
        assert!(!is_consequence(&KafkaError::MessageProduction(
            Code::MessageTimedOut
        )));
    }
}
