//! What the coordinator decides. Writing the markers is left to whoever drains [`Transactions::poll_ended`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kafka_protocol::error::ResponseError;

use crate::dev_broker::clock::Now;

/// The longest timeout a client may ask for. Source: Kafka's default of `transaction.max.timeout.ms`.
const TIMEOUT_MAX_MS: i32 = 900_000;
/// How long an id that nobody uses is remembered. Source: Kafka's default of `transactional.id.expiration.ms`.
const EXPIRY: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// From here on a producer id has no epoch left: one is kept back so that its last owner can still be fenced.
/// Source: KIP-360.
const EPOCH_EXHAUSTED: i16 = i16::MAX - 1;
/// Says that there was no epoch before this one.
const NO_EPOCH: i16 = -1;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dev_broker) enum Outcome {
    Commit,
    Abort,
}

/// Who writes: an id, and which of its owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// A transaction whose end is decided and whose markers are to be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) producer: Producer,
    pub(super) outcome: Outcome,
    pub(super) partitions: Partitions,
    pub(super) groups: BTreeSet<String>,
}

/// Partition numbers by topic.
pub(super) type Partitions = BTreeMap<String, BTreeSet<i32>>;

/// Where a transactional id stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Its producer was initialised and has begun nothing since.
    Empty,
    Ongoing,
    Complete(Outcome),
}

/// One transactional id: its owner and the owner's latest transaction.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) producer: Producer,
    /// The owner before the latest initialisation, if that named it: a retry that names it again gets the same answer.
    former: Producer,
    pub(super) timeout_ms: i32,
    pub(super) status: Status,
    /// When the latest transaction began, on the machine's clock; -1 before the first one.
    pub(super) started_wall_ms: i64,
    pub(super) partitions: Partitions,
    groups: BTreeSet<String>,
    /// When the transaction times out, or the id itself if none is open.
    due: Duration,
}

/// Producer ids, each given out once.
#[derive(Default)]
struct ProducerIds {
    next: i64,
}

impl ProducerIds {
    fn next(&mut self) -> i64 {
        let id = self.next;
        self.next += 1;
        id
    }
}

/// Every transactional id, and the producer ids given out.
pub(in crate::dev_broker) struct Transactions {
    producer_ids: ProducerIds,
    ids: BTreeMap<String, Transaction>,
    due: BTreeSet<(Duration, String)>,
    ended: VecDeque<Ended>,
}

impl Transactions {
    pub(in crate::dev_broker) fn new() -> Self {
        Self {
            producer_ids: ProducerIds::default(),
            ids: BTreeMap::new(),
            due: BTreeSet::new(),
            ended: VecDeque::new(),
        }
    }

    /// Returns when the earliest open transaction times out, or an unused id is forgotten.
    pub(in crate::dev_broker) fn next_deadline(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Says whether a transactional batch of this producer may be appended to this partition now.
    ///
    /// # Errors
    ///
    /// The partition was not added to an open transaction of this producer and epoch: the error to answer with.
    pub(in crate::dev_broker) fn admits(
        &self,
        transactional_id: Option<&str>,
        producer_id: i64,
        producer_epoch: i16,
        topic: &str,
        partition: i32,
    ) -> Result<(), ResponseError> {
        // Without an id Kafka has nobody to authorise, and says so.
        let id = transactional_id.ok_or(ResponseError::TransactionalIdAuthorizationFailed)?;
        let producer = Producer {
            id: producer_id,
            epoch: producer_epoch,
        };
        let transaction = self.writer(id, producer)?;
        let added = transaction
            .partitions
            .get(topic)
            .is_some_and(|added| added.contains(&partition));
        if added {
            Ok(())
        } else {
            Err(ResponseError::InvalidTxnState)
        }
    }

    /// Says whether this producer may commit offsets of this group in its transaction now.
    ///
    /// # Errors
    ///
    /// The group was not added to an open transaction of this producer and epoch: the error to answer with.
    pub(in crate::dev_broker) fn admits_offsets(
        &self,
        transactional_id: &str,
        producer_id: i64,
        producer_epoch: i16,
        group: &str,
    ) -> Result<(), ResponseError> {
        let producer = Producer {
            id: producer_id,
            epoch: producer_epoch,
        };
        let transaction = self.writer(transactional_id, producer)?;
        if transaction.groups.contains(group) {
            Ok(())
        } else {
            Err(ResponseError::InvalidTxnState)
        }
    }

    /// Returns the transaction whose end is to be carried out next, in the order in which they were decided.
    pub(super) fn poll_ended(&mut self) -> Option<Ended> {
        self.ended.pop_front()
    }

    /// Aborts the transactions that have taken too long, their producers fenced, and forgets ids that nobody used.
    pub(super) fn on_deadline(&mut self, now: Now) {
        while let Some((due, id)) = self.due.first() {
            if *due > now.elapsed {
                return;
            }
            let id = id.clone();
            let Some(transaction) = self.ids.get_mut(&id) else {
                unreachable!("every deadline belongs to an id");
            };
            if transaction.status == Status::Ongoing {
                tracing::info!(
                    transactional_id = id,
                    timeout_ms = transaction.timeout_ms,
                    "aborted a transaction that took too long"
                );
                let ended = transaction.fence();
                self.ended.push_back(ended);
                self.reschedule(&id, now);
            } else {
                self.due.pop_first();
                self.ids.remove(&id);
            }
        }
    }

    /// Gives out an id that takes part in no transaction.
    pub(super) fn idempotent(&mut self) -> Producer {
        Producer {
            id: self.producer_ids.next(),
            epoch: 0,
        }
    }

    /// Makes the caller the owner of `id`; whoever was it before is fenced. `expected` is who the caller believes to be.
    ///
    /// # Errors
    ///
    /// The error to answer with. As in Kafka, an open transaction is aborted first and the caller told to come again; the
    /// epoch that did that is its owner's, who names itself, and nobody else's.
    pub(super) fn init(
        &mut self,
        id: &str,
        timeout_ms: i32,
        expected: Option<Producer>,
        now: Now,
    ) -> Result<Producer, ResponseError> {
        if id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        if !(1..=TIMEOUT_MAX_MS).contains(&timeout_ms) {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let ids = &mut self.producer_ids;
        let transaction = self
            .ids
            .entry(id.to_owned())
            .or_insert_with(|| Transaction::new(ids.next()));
        if !expected.is_none_or(|expected| transaction.knows(expected)) {
            return Err(ResponseError::ProducerFenced);
        }
        if transaction.status == Status::Ongoing {
            let ended = transaction.fence();
            self.ended.push_back(ended);
            self.reschedule(id, now);
            return Err(ResponseError::ConcurrentTransactions);
        }
        let producer = transaction.next_owner(expected, ids)?;
        transaction.timeout_ms = timeout_ms;
        transaction.status = Status::Empty;
        transaction.started_wall_ms = -1;
        self.reschedule(id, now);
        Ok(producer)
    }

    /// Adds partitions to the producer's transaction, or begins one with them.
    ///
    /// # Errors
    ///
    /// The error to answer with.
    pub(super) fn add_partitions(
        &mut self,
        id: &str,
        producer: Producer,
        added: Partitions,
        now: Now,
    ) -> Result<(), ResponseError> {
        let transaction = self.begin(id, producer, now)?;
        for (topic, partitions) in added {
            transaction
                .partitions
                .entry(topic)
                .or_default()
                .extend(partitions);
        }
        Ok(())
    }

    /// Adds a group, whose offsets are to be committed, to the producer's transaction, or begins one with it.
    ///
    /// # Errors
    ///
    /// The error to answer with.
    pub(super) fn add_group(
        &mut self,
        id: &str,
        producer: Producer,
        group: &str,
        now: Now,
    ) -> Result<(), ResponseError> {
        let transaction = self.begin(id, producer, now)?;
        if !transaction.groups.contains(group) {
            transaction.groups.insert(group.to_owned());
        }
        Ok(())
    }

    /// Ends the producer's transaction. Asked again it agrees again, as long as nothing has begun since.
    ///
    /// # Errors
    ///
    /// The error to answer with.
    pub(super) fn end(
        &mut self,
        id: &str,
        producer: Producer,
        outcome: Outcome,
        now: Now,
    ) -> Result<(), ResponseError> {
        let transaction = self.owned(id, producer)?;
        match transaction.status {
            Status::Ongoing => {
                let ended = transaction.end(outcome);
                self.ended.push_back(ended);
                self.reschedule(id, now);
                Ok(())
            }
            Status::Complete(before) if before == outcome => Ok(()),
            Status::Complete(_) | Status::Empty => Err(ResponseError::InvalidTxnState),
        }
    }

    /// Looks at one id.
    pub(super) fn look(&self, id: &str) -> Option<&Transaction> {
        self.ids.get(id)
    }

    /// Looks at every id, in their order.
    pub(super) fn look_at_all(&self) -> impl Iterator<Item = (&str, &Transaction)> {
        self.ids
            .iter()
            .map(|(id, transaction)| (id.as_str(), transaction))
    }

    /// Returns the transaction that `producer` writes in. Who asks is a partition or a group: a stale epoch has the name there
    /// that it has for every batch.
    fn writer(&self, id: &str, producer: Producer) -> Result<&Transaction, ResponseError> {
        let transaction = self.ids.get(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        match transaction.check_owner(producer) {
            Ok(()) => Ok(transaction),
            Err(ResponseError::ProducerFenced) => Err(ResponseError::InvalidProducerEpoch),
            Err(error) => Err(error),
        }
    }

    fn owned(&mut self, id: &str, producer: Producer) -> Result<&mut Transaction, ResponseError> {
        if id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        let transaction = self
            .ids
            .get_mut(id)
            .ok_or(ResponseError::InvalidProducerIdMapping)?;
        transaction.check_owner(producer)?;
        Ok(transaction)
    }

    /// Returns the producer's open transaction, a new one if there is none. Adding to an open one does not prolong it.
    fn begin(&mut self, id: &str, producer: Producer, now: Now) -> Result<&mut Transaction, ResponseError> {
        let transaction = self.owned(id, producer)?;
        if transaction.status != Status::Ongoing {
            transaction.status = Status::Ongoing;
            transaction.started_wall_ms = now.wall_ms;
            self.reschedule(id, now);
        }
        self.owned(id, producer)
    }

    /// Sets the deadline anew after something began or ended at `now`.
    fn reschedule(&mut self, id: &str, now: Now) {
        let Some(transaction) = self.ids.get_mut(id) else {
            unreachable!("only ids that were found are rescheduled");
        };
        let due = now.elapsed
            + match transaction.status {
                Status::Ongoing => Duration::from_millis(u64::try_from(transaction.timeout_ms).unwrap_or(0)),
                Status::Empty | Status::Complete(_) => EXPIRY,
            };
        self.due.remove(&(transaction.due, id.to_owned()));
        transaction.due = due;
        self.due.insert((due, id.to_owned()));
    }
}

impl Transaction {
    /// An id that nobody owns yet; the first owner's epoch is 0.
    fn new(producer_id: i64) -> Self {
        let nobody = Producer {
            id: producer_id,
            epoch: NO_EPOCH,
        };
        Self {
            producer: nobody,
            former: nobody,
            timeout_ms: 0,
            status: Status::Empty,
            started_wall_ms: -1,
            partitions: Partitions::new(),
            groups: BTreeSet::new(),
            due: Duration::ZERO,
        }
    }

    fn check_owner(&self, producer: Producer) -> Result<(), ResponseError> {
        if producer.id != self.producer.id {
            Err(ResponseError::InvalidProducerIdMapping)
        } else if producer.epoch != self.producer.epoch {
            Err(ResponseError::ProducerFenced)
        } else {
            Ok(())
        }
    }

    /// Says whether the caller can be the owner, going by the producer id: the current one, or the one before if it had to be
    /// given up; or nobody was here, and the caller owned the id in a life that is forgotten.
    fn knows(&self, expected: Producer) -> bool {
        self.producer.epoch == NO_EPOCH
            || expected.id == self.producer.id
            || (expected.id == self.former.id && expected.epoch >= EPOCH_EXHAUSTED)
    }

    /// Decides who owns the id from now on, under another producer id when the present one has no epoch left. Source: KIP-360.
    fn next_owner(
        &mut self,
        expected: Option<Producer>,
        ids: &mut ProducerIds,
    ) -> Result<Producer, ResponseError> {
        let current = self.producer;
        let is_current =
            expected.is_none_or(|expected| expected.epoch == current.epoch) || current.epoch == NO_EPOCH;
        if !is_current {
            // Whoever retries has not seen the answer; anybody else has been fenced since.
            let retried = expected.is_some_and(|expected| expected.epoch == self.former.epoch);
            return if retried {
                Ok(current)
            } else {
                Err(ResponseError::ProducerFenced)
            };
        }
        self.producer = if current.epoch >= EPOCH_EXHAUSTED {
            Producer {
                id: ids.next(),
                epoch: 0,
            }
        } else {
            Producer {
                id: current.id,
                epoch: current.epoch + 1,
            }
        };
        self.former = Producer {
            id: current.id,
            epoch: if expected.is_some() {
                current.epoch
            } else {
                NO_EPOCH
            },
        };
        Ok(self.producer)
    }

    /// Aborts the open transaction with the next epoch, so that its producer finds itself fenced everywhere. That epoch is its
    /// own if it asks for it before anybody else comes. Source: Kafka 4.3.1, by the conformance checks.
    fn fence(&mut self) -> Ended {
        self.former.epoch = self.producer.epoch;
        self.producer.epoch = self.producer.epoch.saturating_add(1);
        self.end(Outcome::Abort)
    }

    fn end(&mut self, outcome: Outcome) -> Ended {
        self.status = Status::Complete(outcome);
        Ended {
            producer: self.producer,
            outcome,
            partitions: std::mem::take(&mut self.partitions),
            groups: std::mem::take(&mut self.groups),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i32 = 60_000;

    fn at(ms: u64) -> Now {
        Now {
            elapsed: Duration::from_millis(ms),
            wall_ms: 1_000_000 + i64::try_from(ms).unwrap(),
        }
    }

    fn partitions(topic: &str, indexes: impl IntoIterator<Item = i32>) -> Partitions {
        Partitions::from([(topic.to_owned(), indexes.into_iter().collect())])
    }

    fn init(
        transactions: &mut Transactions,
        id: &str,
        expected: Option<Producer>,
    ) -> Result<Producer, ResponseError> {
        transactions.init(id, MINUTE_MS, expected, at(0))
    }

    /// A producer with an open transaction on partition 0 of topic `t`.
    fn ongoing(transactions: &mut Transactions, id: &str, begun_ms: u64) -> Producer {
        let producer = init(transactions, id, None).unwrap();
        let added = transactions.add_partitions(id, producer, partitions("t", [0]), at(begun_ms));
        assert_eq!(added, Ok(()));
        producer
    }

    fn stale(producer: Producer) -> Producer {
        Producer {
            epoch: producer.epoch - 1,
            ..producer
        }
    }

    #[test]
    fn producers_without_a_transactional_id_get_ids_of_their_own() {
        let mut transactions = Transactions::new();
        let (one, two) = (transactions.idempotent(), transactions.idempotent());
        assert_ne!(one.id, two.id);
        assert_eq!((one.epoch, two.epoch), (0, 0));
    }

    #[test]
    fn each_owner_of_an_id_gets_the_next_epoch() {
        let mut transactions = Transactions::new();
        let first = init(&mut transactions, "a", None).unwrap();
        assert_eq!(first.epoch, 0);
        let second = init(&mut transactions, "a", None).unwrap();
        assert_eq!(second, Producer { epoch: 1, ..first });
        assert_ne!(init(&mut transactions, "b", None).unwrap().id, first.id);

        let add = |transactions: &mut Transactions, producer| {
            transactions.add_partitions("a", producer, partitions("t", [0]), at(0))
        };
        assert_eq!(add(&mut transactions, first), Err(ResponseError::ProducerFenced));
        assert_eq!(add(&mut transactions, second), Ok(()));
        assert_eq!(
            transactions.end("a", first, Outcome::Commit, at(0)),
            Err(ResponseError::ProducerFenced)
        );
    }

    #[test]
    fn an_id_or_timeout_that_cannot_be_is_refused() {
        let mut transactions = Transactions::new();
        assert_eq!(
            init(&mut transactions, "", None),
            Err(ResponseError::InvalidRequest)
        );
        for timeout_ms in [i32::MIN, -1, 0, TIMEOUT_MAX_MS + 1] {
            let refused = transactions.init("a", timeout_ms, None, at(0));
            assert_eq!(
                refused,
                Err(ResponseError::InvalidTransactionTimeout),
                "{timeout_ms}"
            );
        }
        assert!(transactions.init("a", TIMEOUT_MAX_MS, None, at(0)).is_ok());
        let producer = Producer { id: 0, epoch: 0 };
        for id in ["", "unknown"] {
            let error = if id.is_empty() {
                ResponseError::InvalidRequest
            } else {
                ResponseError::InvalidProducerIdMapping
            };
            assert_eq!(
                transactions.add_partitions(id, producer, Partitions::new(), at(0)),
                Err(error)
            );
            assert_eq!(transactions.add_group(id, producer, "g", at(0)), Err(error));
            assert_eq!(transactions.end(id, producer, Outcome::Abort, at(0)), Err(error));
        }
    }

    #[test]
    fn an_open_transaction_is_aborted_with_an_epoch_that_only_its_owner_may_have() {
        let mut transactions = Transactions::new();
        let crashed = ongoing(&mut transactions, "a", 0);
        assert_eq!(
            init(&mut transactions, "a", None),
            Err(ResponseError::ConcurrentTransactions)
        );
        let ended = transactions.poll_ended().unwrap();
        assert_eq!(
            ended,
            Ended {
                producer: Producer {
                    epoch: crashed.epoch + 1,
                    ..crashed
                },
                outcome: Outcome::Abort,
                partitions: partitions("t", [0]),
                groups: BTreeSet::new(),
            }
        );
        let back = Producer {
            epoch: crashed.epoch + 1,
            ..crashed
        };
        assert_eq!(init(&mut transactions, "a", Some(crashed)), Ok(back));
        assert_eq!(init(&mut transactions, "a", Some(crashed)), Ok(back));
        let successor = init(&mut transactions, "a", None).unwrap();
        assert_eq!(
            successor,
            Producer {
                epoch: crashed.epoch + 2,
                ..crashed
            }
        );
        for zombie in [crashed, back] {
            assert_eq!(
                init(&mut transactions, "a", Some(zombie)),
                Err(ResponseError::ProducerFenced)
            );
        }
        assert_eq!(transactions.poll_ended(), None);
    }

    #[test]
    fn an_owner_that_names_itself_goes_on_and_may_ask_twice() {
        let mut transactions = Transactions::new();
        let first = init(&mut transactions, "a", None).unwrap();
        let second = init(&mut transactions, "a", Some(first)).unwrap();
        assert_eq!(second.epoch, first.epoch + 1);
        assert_eq!(
            init(&mut transactions, "a", Some(first)),
            Ok(second),
            "the answer was lost"
        );
        let third = init(&mut transactions, "a", Some(second)).unwrap();
        assert_eq!(
            init(&mut transactions, "a", Some(first)),
            Err(ResponseError::ProducerFenced)
        );
        // Somebody else takes over, so that nobody can be retrying any more.
        init(&mut transactions, "a", None).unwrap();
        for zombie in [first, second, third] {
            assert_eq!(
                init(&mut transactions, "a", Some(zombie)),
                Err(ResponseError::ProducerFenced)
            );
        }
        let stranger = Producer {
            id: first.id + 100,
            epoch: 0,
        };
        assert_eq!(
            init(&mut transactions, "a", Some(stranger)),
            Err(ResponseError::ProducerFenced)
        );
        // Nothing is known of this one: it may come from before the broker forgot it.
        assert_eq!(init(&mut transactions, "b", Some(stranger)).unwrap().epoch, 0);
    }

    /// Initialises `id` until its epoch is the last that is given out.
    fn exhaust(transactions: &mut Transactions, id: &str) -> Producer {
        loop {
            let producer = init(transactions, id, None).unwrap();
            if producer.epoch == EPOCH_EXHAUSTED {
                return producer;
            }
        }
    }

    #[test]
    fn an_id_without_epochs_left_is_given_up_for_another() {
        let mut transactions = Transactions::new();
        let last = exhaust(&mut transactions, "a");
        let next = init(&mut transactions, "a", Some(last)).unwrap();
        assert_ne!(next.id, last.id);
        assert_eq!(next.epoch, 0);
        assert_eq!(
            init(&mut transactions, "a", Some(last)),
            Ok(next),
            "the answer was lost"
        );
        assert_eq!(
            transactions.add_partitions("a", last, partitions("t", [0]), at(0)),
            Err(ResponseError::InvalidProducerIdMapping)
        );
    }

    #[test]
    fn the_last_epoch_can_still_be_fenced() {
        let mut transactions = Transactions::new();
        let last = exhaust(&mut transactions, "a");
        assert_eq!(transactions.add_group("a", last, "g", at(0)), Ok(()));
        assert_eq!(
            init(&mut transactions, "a", None),
            Err(ResponseError::ConcurrentTransactions)
        );
        assert_eq!(transactions.poll_ended().unwrap().producer.epoch, i16::MAX);
        let next = init(&mut transactions, "a", None).unwrap();
        assert_ne!(next.id, last.id);
        assert_eq!(next.epoch, 0);
    }

    #[test]
    fn an_end_can_be_repeated_but_not_reversed() {
        for (outcome, other) in [
            (Outcome::Commit, Outcome::Abort),
            (Outcome::Abort, Outcome::Commit),
        ] {
            let mut transactions = Transactions::new();
            let producer = init(&mut transactions, "a", None).unwrap();
            let end =
                |transactions: &mut Transactions, outcome| transactions.end("a", producer, outcome, at(0));
            assert_eq!(
                end(&mut transactions, outcome),
                Err(ResponseError::InvalidTxnState),
                "nothing is open"
            );

            let added = partitions("t", [0, 2]);
            transactions
                .add_partitions("a", producer, added.clone(), at(0))
                .unwrap();
            transactions.add_group("a", producer, "g", at(0)).unwrap();
            assert_eq!(end(&mut transactions, outcome), Ok(()));
            let ended = Ended {
                producer,
                outcome,
                partitions: added,
                groups: BTreeSet::from(["g".to_owned()]),
            };
            assert_eq!(transactions.poll_ended(), Some(ended));
            assert_eq!(end(&mut transactions, outcome), Ok(()));
            assert_eq!(end(&mut transactions, other), Err(ResponseError::InvalidTxnState));
            assert_eq!(transactions.poll_ended(), None);
        }
    }

    #[test]
    fn only_what_was_added_to_the_open_transaction_is_admitted() {
        let mut transactions = Transactions::new();
        let first = init(&mut transactions, "a", None).unwrap();
        let producer = init(&mut transactions, "a", None).unwrap();
        let admits = |transactions: &Transactions, producer: Producer, partition| {
            transactions.admits(Some("a"), producer.id, producer.epoch, "t", partition)
        };
        let admits_group = |transactions: &Transactions, producer: Producer, group| {
            transactions.admits_offsets("a", producer.id, producer.epoch, group)
        };
        assert_eq!(
            admits(&transactions, producer, 0),
            Err(ResponseError::InvalidTxnState)
        );
        transactions
            .add_partitions("a", producer, partitions("t", [0]), at(0))
            .unwrap();
        transactions.add_group("a", producer, "g", at(0)).unwrap();
        assert_eq!(admits(&transactions, producer, 0), Ok(()));
        assert_eq!(
            admits(&transactions, producer, 1),
            Err(ResponseError::InvalidTxnState)
        );
        assert_eq!(
            admits(&transactions, first, 0),
            Err(ResponseError::InvalidProducerEpoch)
        );
        let stranger = Producer {
            id: producer.id + 1,
            ..producer
        };
        assert_eq!(
            admits(&transactions, stranger, 0),
            Err(ResponseError::InvalidProducerIdMapping)
        );
        assert_eq!(
            transactions.admits(None, producer.id, producer.epoch, "t", 0),
            Err(ResponseError::TransactionalIdAuthorizationFailed)
        );
        assert_eq!(admits_group(&transactions, producer, "g"), Ok(()));
        assert_eq!(
            admits_group(&transactions, producer, "h"),
            Err(ResponseError::InvalidTxnState)
        );
        assert_eq!(
            admits_group(&transactions, first, "g"),
            Err(ResponseError::InvalidProducerEpoch)
        );
        transactions.end("a", producer, Outcome::Commit, at(0)).unwrap();
        assert_eq!(
            admits(&transactions, producer, 0),
            Err(ResponseError::InvalidTxnState)
        );
        assert_eq!(
            admits_group(&transactions, producer, "g"),
            Err(ResponseError::InvalidTxnState)
        );
    }

    #[test]
    fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
        let mut transactions = Transactions::new();
        let slow = ongoing(&mut transactions, "a", 5_000);
        let due = Duration::from_secs(65);
        assert_eq!(transactions.next_deadline(), Some(due));
        // More partitions do not prolong it.
        transactions
            .add_partitions("a", slow, partitions("t", [1]), at(30_000))
            .unwrap();
        assert_eq!(transactions.next_deadline(), Some(due));
        transactions.on_deadline(at(64_999));
        assert_eq!(transactions.poll_ended(), None);
        transactions.on_deadline(at(65_000));
        let ended = transactions.poll_ended().unwrap();
        assert_eq!(stale(ended.producer), slow);
        assert_eq!(ended.outcome, Outcome::Abort);
        assert_eq!(ended.partitions, partitions("t", [0, 1]));

        let now = at(66_000);
        assert_eq!(
            transactions.add_partitions("a", slow, partitions("t", [0]), now),
            Err(ResponseError::ProducerFenced)
        );
        for outcome in [Outcome::Commit, Outcome::Abort] {
            assert_eq!(
                transactions.end("a", slow, outcome, now),
                Err(ResponseError::ProducerFenced)
            );
        }
        let back = transactions.init("a", MINUTE_MS, Some(slow), now).unwrap();
        assert_eq!(stale(back), slow, "it comes back with the next epoch");
        let successor = transactions.init("a", MINUTE_MS, None, now).unwrap();
        assert_eq!(successor.epoch, slow.epoch + 2);
        assert_eq!(
            transactions.init("a", MINUTE_MS, Some(slow), now),
            Err(ResponseError::ProducerFenced)
        );
    }

    #[test]
    fn an_id_that_nobody_uses_is_forgotten_in_the_end() {
        let mut transactions = Transactions::new();
        let producer = init(&mut transactions, "a", None).unwrap();
        assert_eq!(transactions.next_deadline(), Some(EXPIRY));
        let week_ms = u64::try_from(EXPIRY.as_millis()).unwrap();
        transactions
            .add_group("a", producer, "g", at(week_ms - 1))
            .unwrap();
        transactions
            .end("a", producer, Outcome::Commit, at(week_ms))
            .unwrap();
        transactions.on_deadline(at(week_ms));
        assert!(transactions.look("a").is_some(), "it was used in time");
        transactions.on_deadline(at(2 * week_ms));
        assert!(transactions.look("a").is_none());
        assert_eq!(transactions.next_deadline(), None);
    }
}
