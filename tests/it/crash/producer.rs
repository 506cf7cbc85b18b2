//! A model of the transactional producer: performs one step at a time, and loses requests and answers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use frontstream::coalesce::Output;
use frontstream::emit::protocol::{Action, Fact};
use frontstream::emit::{DeadLetter, Failed, Metrics, Steps, Transaction};
use frontstream::model::{Checkpoint, Offset, Partition};
use frontstream::wire::checkpoint_v1;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::client::Client;
use super::group::{Claim, Refused};
use super::oracle::Written;
use super::planted::Planted;
use super::world::World;

/// How many transactions in a row a worker may see aborted before it ends.
const ABORTS_IN_A_ROW_MAX: u32 = 10;

/// How long a step that is not answered waits.
const STEP_US: u64 = 1_000_000;

pub(super) struct Producer {
    world: Rc<World>,
    client: Rc<Client>,
    metrics: Metrics,
    id: String,
    epoch: Cell<u32>,
    metadata_bytes_max: usize,
    in_flight: RefCell<VecDeque<(Partition, Written)>>,
    /// A commit was asked for and not answered.
    committing: Cell<bool>,
    /// The partitions of the last transaction that was begun.
    held: RefCell<Vec<Partition>>,
    /// What the open transaction has sent: only for the bugs that keep it.
    sent: RefCell<Vec<(Partition, Written)>>,
}

impl Producer {
    pub(super) fn new(
        world: &Rc<World>,
        client: &Rc<Client>,
        metrics: Metrics,
        (id, epoch): (String, u32),
        metadata_bytes_max: usize,
    ) -> Self {
        Self {
            world: Rc::clone(world),
            client: Rc::clone(client),
            metrics,
            id,
            epoch: Cell::new(epoch),
            metadata_bytes_max,
            in_flight: RefCell::default(),
            committing: Cell::new(false),
            held: RefCell::default(),
            sent: RefCell::default(),
        }
    }

    fn fail(&self, fact: Fact, code: Code) -> Failed {
        if matches!(fact, Fact::Fenced | Fact::Fatal) {
            self.client.ended.set(true);
        }
        Failed {
            fact,
            source: KafkaError::Global(code),
        }
    }

    /// The transaction cannot be committed, and no rebalance is why.
    fn abortable(&self, code: Code) -> Failed {
        self.client.refused.set(true);
        self.world.disturb();
        self.fail(Fact::Abortable, code)
    }

    fn dead(&self) -> Failed {
        self.fail(Fact::Fatal, Code::Fatal)
    }

    fn not_answered(&self) -> Failed {
        self.world.pass_us(STEP_US);
        self.fail(Fact::Retriable, Code::RequestTimedOut)
    }

    fn refused(&self, refused: Refused) -> Failed {
        match refused {
            Refused::Fenced => self.fail(Fact::Fenced, Code::ProducerFenced),
            Refused::Stale => {
                self.client.forgive();
                self.fail(Fact::Abortable, Code::IllegalGeneration)
            }
            Refused::Expired => self.fail(Fact::Expired, Code::InvalidProducerEpoch),
            Refused::Busy => {
                self.world.pass_us(STEP_US);
                self.fail(Fact::Retriable, Code::ConcurrentTransactions)
            }
        }
    }

    /// A worker ends at so many aborts in a row, be it of those that held one partition, and begins no other transaction.
    fn look_at_refusals(&self, transaction: &Transaction) {
        let last = self.held.replace(held(transaction).collect());
        let mut of = self.client.refusals_of.borrow_mut();
        if self.client.refused.replace(false) {
            self.client.refusals.set(self.client.refusals.get() + 1);
            for partition in last {
                *of.entry(partition).or_default() += 1;
            }
        }
        let most = of.values().copied().max().unwrap_or(0);
        let refusals = self.client.refusals.get().max(most);
        if refusals >= ABORTS_IN_A_ROW_MAX {
            let wrong = format!(
                "seat {} goes on after {refusals} aborts in a row",
                self.client.seat
            );
            self.world.broker.borrow_mut().wrong.push(wrong);
        }
    }

    /// Says whether every commit of these is refused.
    fn is_poisoned(&self, transaction: &Transaction) -> bool {
        let poisoned = self.client.poisoned_partition.get();
        self.client.poisoned.get() || held(transaction).any(|partition| Some(partition) == poisoned)
    }

    fn begin(&self, transaction: &Transaction) -> Result<(), Failed> {
        self.look_at_refusals(transaction);
        if self.world.chance(400) {
            self.world.count("begin refused");
            return Err(self.abortable(Code::InvalidTransactionalState));
        }
        self.client.in_transaction.set(true);
        if self.world.chance(300) {
            self.client.poisoned.set(true);
        }
        if self.world.chance(300) {
            self.world.count("partition refused for good");
            self.client
                .poisoned_partition
                .set(self.world.pick(&held(transaction).map(Some).collect::<Vec<_>>()));
        }
        if self.world.planted() == Planted::OutputsKeptAfterAbort {
            self.in_flight.borrow_mut().extend(self.sent.take());
        }
        self.sent.borrow_mut().clear();
        Ok(())
    }

    fn send(&self, transaction: &Transaction) -> Result<(), Failed> {
        let full = self.world.chance(200);
        for refresh in &transaction.refreshes {
            let written = Written {
                run: refresh.run,
                output: Output::Refresh(refresh.clone()),
            };
            self.in_flight
                .borrow_mut()
                .push_back((refresh.partition, written));
            if full {
                self.world.count("queue full");
                return Err(self.abortable(Code::QueueFull));
            }
        }
        for letter in &transaction.dead_letters {
            self.look_at(letter);
            if self.world.planted() == Planted::DeadLetterDropped {
                continue;
            }
            let written = Written {
                run: letter.run,
                output: Output::DeadLetter(letter.offset),
            };
            self.in_flight.borrow_mut().push_back((letter.partition, written));
        }
        Ok(())
    }

    /// A dead letter carries the bytes of the record that it stands for.
    fn look_at(&self, letter: &DeadLetter) {
        let broker = &mut *self.world.broker.borrow_mut();
        let log = broker.log(letter.partition);
        let record = log.records.get(log.at(letter.offset));
        let same = record.is_some_and(|record| {
            record.offset == letter.offset
                && record.value == letter.value
                && Some(&record.key) == letter.key.as_ref()
        });
        if !same {
            broker.wrong.push(format!("{letter:?} is no record of the log"));
        }
    }

    /// Hands one record after the other to the broker.
    fn await_deliveries(&self) -> Result<(), Failed> {
        loop {
            let Some((partition, record)) = self.in_flight.borrow_mut().pop_front() else {
                return Ok(());
            };
            if self.world.chance(100) {
                self.world.count("delivery failed");
                self.in_flight.borrow_mut().push_front((partition, record));
                return Err(self.abortable(Code::MessageTimedOut));
            }
            self.sent.borrow_mut().push((partition, record.clone()));
            self.produce(partition, record)?;
        }
    }

    fn produce(&self, partition: Partition, record: Written) -> Result<(), Failed> {
        let epoch = self.epoch();
        let mut broker = self.world.broker.borrow_mut();
        let produced = broker.produce(&self.id, epoch, partition, record);
        drop(broker);
        produced.map_err(|refused| match refused {
            // A record that is not stored is missing, for whatever reason.
            Refused::Busy | Refused::Stale => self.abortable(Code::MessageTimedOut),
            Refused::Fenced | Refused::Expired => self.refused(refused),
        })
    }

    fn offsets(&self, transaction: &Transaction) -> Vec<(Partition, Offset, String, Checkpoint)> {
        let planted = self.world.planted();
        let mut offsets = Vec::with_capacity(transaction.checkpoints.len());
        for (partition, checkpoint) in &transaction.checkpoints {
            let mut checkpoint = checkpoint.clone();
            if planted == Planted::PositionCommitted {
                checkpoint.window_starts.clear();
            }
            if planted == Planted::WindowForgotten && checkpoint.window_starts.len() > 1 {
                checkpoint.window_starts.pop();
            }
            let metadata = checkpoint_v1::encode(&checkpoint, self.metadata_bytes_max);
            assert!(
                metadata.len() <= self.metadata_bytes_max,
                "the broker takes no more"
            );
            offsets.push((*partition, checkpoint.committed_offset(), metadata, checkpoint));
        }
        offsets
    }

    fn send_offsets(&self, transaction: &Transaction, claim: &Claim) -> Result<(), Failed> {
        let offsets = self.offsets(transaction);
        let epoch = self.epoch();
        let added = self
            .world
            .broker
            .borrow_mut()
            .add_offsets(&self.id, epoch, claim, &offsets);
        added.map_err(|refused| self.refused(refused))?;
        if self.world.chance(30) {
            self.world.count("offsets answer lost");
            return Err(self.not_answered());
        }
        Ok(())
    }

    fn end(&self, commit: bool, transaction: &Transaction) -> Result<(), Failed> {
        if self.world.chance(30) {
            self.world
                .count(if commit { "commit lost" } else { "abort lost" });
            if self.world.planted() == Planted::LostCommitTakenForDone {
                return Ok(());
            }
            return Err(self.not_answered());
        }
        if commit
            && self.world.broker.borrow().is_undecided(&self.id)
            && (self.is_poisoned(transaction) || self.world.chance(60))
        {
            self.world.count("commit refused");
            self.committing.set(false);
            return Err(self.abortable(Code::InvalidTransactionalState));
        }
        let after_us = if self.world.chance(10) {
            self.world.below(3_000_000)
        } else {
            0
        };
        let mut broker = self.world.broker.borrow_mut();
        if !commit {
            broker.keep(self.client.seat, &self.id);
        }
        let epoch = self.epoch_in(&broker);
        let ended = broker.end(&self.id, epoch, commit, after_us);
        drop(broker);
        ended.map_err(|refused| self.refused(refused))?;
        if self.world.chance(25) {
            self.world.count(if commit {
                "commit answer lost"
            } else {
                "abort answer lost"
            });
            return Err(self.not_answered());
        }
        self.client.in_transaction.set(false);
        self.committing.set(false);
        if commit {
            self.sent.borrow_mut().clear();
            self.client.refusals.set(0);
            self.client.refused.set(false);
            let mut of = self.client.refusals_of.borrow_mut();
            for partition in held(transaction) {
                of.remove(&partition);
            }
        }
        Ok(())
    }

    /// What is in flight arrives before the abort, and is aborted, or never does.
    fn abort(&self, transaction: &Transaction) -> Result<(), Failed> {
        let planted = self.world.planted();
        if planted != Planted::RecordsInFlightAtAbort {
            let in_flight: Vec<_> = self.in_flight.borrow_mut().drain(..).collect();
            for (partition, record) in in_flight {
                if self.world.below(2) == 0 {
                    self.produce(partition, record)?;
                }
            }
        }
        self.end(false, transaction)
    }

    fn epoch(&self) -> u32 {
        self.epoch_in(&self.world.broker.borrow())
    }

    fn epoch_in(&self, broker: &super::broker::Broker) -> u32 {
        if broker.planted == Planted::NoEpoch {
            broker.epoch(&self.id)
        } else {
            self.epoch.get()
        }
    }
}

/// The partitions whose state a transaction holds.
fn held(transaction: &Transaction) -> impl Iterator<Item = Partition> {
    transaction.checkpoints.iter().map(|(partition, _)| *partition)
}

/// A commit that was on its way when the process died may still arrive.
impl Drop for Producer {
    fn drop(&mut self) {
        if self.committing.get() && self.world.below(3) == 0 {
            let after_us = self.world.below(2) * self.world.below(9_000_000);
            let epoch = self.epoch();
            let mut broker = self.world.broker.borrow_mut();
            if broker.is_undecided(&self.id) && broker.end(&self.id, epoch, true, after_us).is_ok() {
                broker.story.count("commit of a dead process arrives late");
            }
        }
    }
}

impl Steps for Producer {
    type Group = Claim;

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn perform(&self, action: Action, transaction: &Transaction, claim: &Claim) -> Result<(), Failed> {
        if self.client.ended.get() && self.client.is_alive() {
            let wrong = format!("{action:?} although the clients said that they cannot go on");
            self.world.broker.borrow_mut().wrong.push(wrong);
        }
        if action == Action::Commit {
            self.committing.set(true);
        }
        if !self.world.enter(&self.client) {
            return Err(self.dead());
        }
        self.world
            .tell(|| format!("  {} does {action:?}", self.client.seat));
        if self.world.chance(2_000) {
            self.committing.set(false);
            return Err(self.fail(Fact::Fatal, Code::Fatal));
        }
        let asks = matches!(action, Action::SendOffsets | Action::Commit | Action::Abort);
        if asks && self.world.is_away() {
            return Err(self.not_answered());
        }
        let performed = match action {
            Action::Begin => self.begin(transaction),
            Action::Send => self.send(transaction),
            Action::AwaitDeliveries => self.await_deliveries(),
            Action::SendOffsets => self.send_offsets(transaction, claim),
            Action::Commit => self.end(true, transaction),
            Action::Abort => self.abort(transaction),
            Action::Done | Action::Rewind | Action::Exit(_) => Ok(()),
        };
        if !self.world.leave(&self.client) {
            return Err(self.dead());
        }
        performed
    }

    fn before_retry(&self, _step: &'static str, attempts: u32, _error: &KafkaError) {
        self.world.pass_us((50_000 << attempts.min(6)).min(2_000_000));
    }
}
