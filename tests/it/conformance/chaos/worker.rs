//! A worker: reads a batch, copies it in a transaction, commits its offsets in it; and all that can go wrong with that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use frontstream::lifecycle::Instant;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer, ConsumerContext, ConsumerGroupMetadata, Rebalance,
};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Message as _, OwnedMessage};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use super::super::raw::eventually;
use super::{ANSWER_TIMEOUT, Fault, Stage};

/// Delivery reports are served by a thread of its own, also while it aborts.
type Client = ThreadedProducer<DefaultProducerContext>;

/// What befalls one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mishap {
    /// Aborted on purpose with records in it.
    Abort,
    /// Aborted on purpose with records and offsets in it.
    AbortLate,
    /// The client is gone with records in it; another one comes up with the same identity.
    Crash,
    /// The same, with records and offsets in it.
    CrashLate,
    /// Its transactional id is taken by another producer, which goes on; then it tries to finish.
    TakenOver,
    /// Its place in the group is another's, who goes on under another transactional id; then it tries to finish.
    Outdated,
    /// Its offsets are in when its place in the group becomes another's; it commits after that.
    Overtaken,
    /// A third worker joins, works and leaves.
    Guest,
}

impl Mishap {
    pub(super) const ALL: [Self; 8] = [
        Self::Abort,
        Self::AbortLate,
        Self::Crash,
        Self::CrashLate,
        Self::TakenOver,
        Self::Outdated,
        Self::Overtaken,
        Self::Guest,
    ];

    /// How often a worker is dealt each.
    const TIMES: usize = 2;

    /// How many transactions go well for each that does not.
    const CALM: usize = 2;
}

/// How many records a transaction has at most.
const BATCH: u64 = 24;

/// How long to wait for a first record.
const POLL: Duration = Duration::from_millis(50);

/// How long a guest stays, and a successor is waited for, at most.
const STAY: Duration = Duration::from_secs(5);

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let bound = u64::try_from(last + 1).expect("a small count");
            items.swap(last, usize::try_from(self.below(bound)).expect("a small count"));
        }
    }
}

/// Counts the changes of a consumer's assignment: a batch that one of them falls into is not ours to commit.
#[derive(Clone, Default)]
struct Changes(Arc<AtomicU32>);

impl Changes {
    fn count(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

impl ClientContext for Changes {}

impl ConsumerContext for Changes {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// What a worker has read and not yet committed.
struct Batch(Vec<OwnedMessage>);

impl Batch {
    fn offsets(&self, topic: &str) -> TopicPartitionList {
        let next: BTreeMap<_, _> = self
            .0
            .iter()
            .map(|record| (record.partition(), record.offset() + 1))
            .collect();
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in next {
            offsets
                .add_partition_offset(topic, partition, Offset::Offset(offset))
                .expect("an offset");
        }
        offsets
    }
}

/// One life of a worker: a member of the group and a producer.
struct Life<'a> {
    stage: &'a Stage<'a>,
    changes: Changes,
    consumer: BaseConsumer<Changes>,
    producer: Client,
    transactional_id: String,
}

impl<'a> Life<'a> {
    fn new(stage: &'a Stage<'a>, transactional_id: &str, instance: Option<&str>) -> Self {
        // The producer first: its predecessor's transaction must have ended before offsets are read.
        let producer = producer(stage, transactional_id);
        let changes = Changes::default();
        Self {
            consumer: consumer(stage, instance, changes.clone()),
            stage,
            changes,
            producer,
            transactional_id: transactional_id.to_owned(),
        }
    }

    /// Reads some records, or none.
    fn batch(&self, limit: u64) -> Option<Batch> {
        let before = self.changes.count();
        let mut records = Vec::new();
        let mut wait = POLL;
        for _ in 0..limit {
            match self.consumer.poll(wait) {
                Some(Ok(record)) => records.push(record.detach()),
                Some(Err(error)) => self.stage.violated(format!("read: {error}")),
                None => break,
            }
            wait = Duration::ZERO;
        }
        if self.changes.count() == before {
            return (!records.is_empty()).then_some(Batch(records));
        }
        if !records.is_empty() {
            self.rewind();
        }
        None
    }

    /// Copies a batch into a transaction that stays open.
    fn copy(&self, batch: &Batch) -> KafkaResult<()> {
        self.producer.begin_transaction()?;
        for record in &batch.0 {
            let copy: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.stage.output)
                .partition(record.partition())
                .key(record.key().expect("events have a key"))
                .payload(record.payload().expect("events have a value"));
            self.producer.send(copy).map_err(|(error, _)| error)?;
        }
        Ok(())
    }

    /// Waits until the records of the transaction are stored. The client's own `flush` takes 100 ms however soon they are.
    fn flush(&self) -> KafkaResult<()> {
        let began = Instant::now();
        while self.producer.in_flight_count() > 0 {
            if began.elapsed() > ANSWER_TIMEOUT {
                return Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut));
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        Ok(())
    }

    fn send_offsets(&self, batch: &Batch, group: &ConsumerGroupMetadata) -> KafkaResult<()> {
        let offsets = batch.offsets(&self.stage.input);
        if self.stage.run.fault == Fault::OffsetsOutside {
            return self.consumer.commit(&offsets, CommitMode::Sync);
        }
        persist(|| {
            self.producer
                .send_offsets_to_transaction(&offsets, group, ANSWER_TIMEOUT)
        })
    }

    fn commit(&self) -> KafkaResult<()> {
        persist(|| self.producer.commit_transaction(ANSWER_TIMEOUT))
    }

    fn abort(&self) {
        persist(|| self.producer.abort_transaction(ANSWER_TIMEOUT)).expect("an abort");
        self.rewind();
    }

    /// Does everything right once; `false` when there was nothing, or the transaction could not be had.
    fn step(&mut self, limit: u64) -> bool {
        let Some(batch) = self.batch(limit) else {
            return false;
        };
        let group = self.group();
        let done = self
            .copy(&batch)
            .and_then(|()| self.flush())
            .and_then(|()| self.send_offsets(&batch, &group))
            .and_then(|()| self.commit());
        if let Err(error) = &done {
            self.recover(error);
        }
        done.is_ok()
    }

    fn group(&self) -> ConsumerGroupMetadata {
        self.consumer.group_metadata().expect("a member knows its group")
    }

    fn recover(&mut self, error: &KafkaError) {
        match error {
            KafkaError::Transaction(inner) if !inner.is_fatal() && inner.txn_requires_abort() => self.abort(),
            _ => {
                self.producer = producer(self.stage, &self.transactional_id);
                self.rewind();
            }
        }
    }

    /// Goes back to what is committed.
    fn rewind(&self) {
        // A partition that was just assigned cannot be sought in before its own start is known.
        eventually("the positions are what is committed", || {
            let assigned = self.consumer.assignment().ok()?;
            if assigned.count() == 0 {
                return Some(());
            }
            let committed = self.consumer.committed_offsets(assigned, ANSWER_TIMEOUT).ok()?;
            let mut positions = TopicPartitionList::new();
            for element in committed.elements() {
                let offset = match element.offset() {
                    Offset::Offset(offset) => Offset::Offset(offset),
                    _ => Offset::Beginning,
                };
                positions
                    .add_partition_offset(element.topic(), element.partition(), offset)
                    .ok()?;
            }
            let sought = self.consumer.seek_partitions(positions, ANSWER_TIMEOUT).ok()?;
            sought
                .elements()
                .iter()
                .all(|element| element.error().is_ok())
                .then_some(())
        });
    }
}

fn producer(stage: &Stage<'_>, transactional_id: &str) -> Client {
    let producer: Client = stage
        .cluster
        .client_config()
        .set("transactional.id", transactional_id)
        .set("transaction.timeout.ms", "30000")
        .set("retry.backoff.ms", "20")
        .set("linger.ms", "1")
        .create()
        .expect("a producer");
    persist(|| producer.init_transactions(ANSWER_TIMEOUT)).expect("a transactional producer");
    producer
}

fn consumer(stage: &Stage<'_>, instance: Option<&str>, changes: Changes) -> BaseConsumer<Changes> {
    let mut config = stage.cluster.client_config();
    config
        .set("group.id", &stage.group)
        .set("partition.assignment.strategy", stage.run.assignor)
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "100")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "50")
        .set("retry.backoff.ms", "20");
    if let Some(instance) = instance {
        config.set("group.instance.id", instance);
    }
    let consumer: BaseConsumer<Changes> = config.create_with_context(changes).expect("a consumer");
    consumer.subscribe(&[&stage.input]).expect("a subscription");
    consumer
}

/// Tries again what the client says may be tried again, some times.
fn persist(mut attempt: impl FnMut() -> KafkaResult<()>) -> KafkaResult<()> {
    const ATTEMPTS: u32 = 5;
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
            outcome => return outcome,
        }
    }
    attempt()
}

/// A worker through all its lives.
pub(super) struct Worker<'a> {
    stage: &'a Stage<'a>,
    slot: u64,
    instance: Option<&'static str>,
    dice: Dice,
    /// What is still to happen, last first; `None` for a transaction that goes well.
    dealt: Vec<Option<Mishap>>,
    /// How many transactional ids it has had.
    ids: u32,
}

impl<'a> Worker<'a> {
    pub(super) fn new(stage: &'a Stage<'a>, slot: u64) -> Self {
        let mut dice = Dice(stage.run.seed ^ slot << 32);
        let mut dealt: Vec<_> = Mishap::ALL
            .iter()
            .flat_map(|mishap| std::iter::repeat_n(Some(*mishap), Mishap::TIMES))
            .collect();
        dealt.resize(dealt.len() * (1 + Mishap::CALM), None);
        dice.shuffle(&mut dealt);
        Self {
            stage,
            slot,
            instance: stage.run.instance.filter(|_| slot == 0),
            dice,
            dealt,
            ids: 0,
        }
    }

    /// Works until the stage says stop.
    pub(super) fn work(mut self) {
        let mut life = self.new_life();
        while !self.stage.stopped() {
            let limit = 1 + self.dice.below(BATCH);
            match self.dealt.last().copied().flatten() {
                None => {
                    if !life.step(limit) {
                        continue;
                    }
                }
                Some(Mishap::Guest) => self.have_a_guest(&mut life),
                Some(mishap) => {
                    let Some(batch) = life.batch(limit) else {
                        continue;
                    };
                    life = self.suffer(life, mishap, &batch);
                }
            }
            self.dealt.pop();
        }
    }

    fn suffer(&mut self, mut life: Life<'a>, mishap: Mishap, batch: &Batch) -> Life<'a> {
        let group = life.group();
        let offsets_too = match mishap {
            Mishap::AbortLate | Mishap::CrashLate | Mishap::Overtaken => true,
            Mishap::TakenOver => self.dice.below(2) == 0,
            Mishap::Abort | Mishap::Crash | Mishap::Outdated | Mishap::Guest => false,
        };
        let begun = life.copy(batch).and_then(|()| life.flush()).and_then(|()| {
            if offsets_too {
                life.send_offsets(batch, &group)
            } else {
                Ok(())
            }
        });
        if let Err(error) = begun {
            life.recover(&error);
            return life;
        }
        let next = match mishap {
            Mishap::Abort | Mishap::AbortLate | Mishap::Guest => {
                life.abort();
                life
            }
            Mishap::Crash | Mishap::CrashLate => {
                let id = life.transactional_id.clone();
                drop(life);
                Life::new(self.stage, &id, self.instance)
            }
            Mishap::TakenOver => {
                self.take_over(&mut life, batch, (!offsets_too).then_some(&group));
                life
            }
            Mishap::Outdated => self.outdate(life, batch, &group),
            Mishap::Overtaken => self.overtake(life),
        };
        self.stage.happened(mishap);
        next
    }

    /// Another producer takes the transactional id; the member of the group stays, so only the producer's epoch protects.
    fn take_over(&self, life: &mut Life<'a>, batch: &Batch, group: Option<&ConsumerGroupMetadata>) {
        let heir = producer(self.stage, &life.transactional_id);
        let zombie = std::mem::replace(&mut life.producer, heir);
        life.rewind();
        self.go_on(life);
        let offsets = batch.offsets(&self.stage.input);
        let finished = group
            .map_or(Ok(()), |group| {
                zombie.send_offsets_to_transaction(&offsets, group, ANSWER_TIMEOUT)
            })
            .and_then(|()| zombie.commit_transaction(ANSWER_TIMEOUT));
        if finished.is_ok() {
            self.stage.violated(
                "a commit was taken from a producer whose transactional id was another's".to_owned(),
            );
        }
    }

    /// Another member takes its place, under another transactional id: only the group's generation protects.
    fn outdate(&mut self, life: Life<'a>, batch: &Batch, group: &ConsumerGroupMetadata) -> Life<'a> {
        let Life {
            consumer,
            producer: zombie,
            ..
        } = life;
        drop(consumer);
        let mut heir = self.new_life();
        self.go_on(&mut heir);
        let offsets = batch.offsets(&self.stage.input);
        let refused = match self.stage.run.fault {
            Fault::None => zombie.send_offsets_to_transaction(&offsets, group, ANSWER_TIMEOUT),
            Fault::OffsetsOutside => Ok(()),
        };
        if refused.is_ok() {
            self.stage
                .violated("offsets were taken from a member whose place was another's".to_owned());
            zombie.commit_transaction(ANSWER_TIMEOUT).expect("a commit");
        } else {
            zombie.abort_transaction(ANSWER_TIMEOUT).expect("an abort");
        }
        heir
    }

    /// Another member takes its place when its offsets are in: it may commit, and the other one waits for that.
    fn overtake(&mut self, life: Life<'a>) -> Life<'a> {
        let Life {
            consumer,
            producer: zombie,
            ..
        } = life;
        drop(consumer);
        let heir = self.new_life();
        let began = Instant::now();
        while heir.changes.count() == 0 && began.elapsed() < STAY {
            // What comes with the assignment is read again below.
            drop(heir.consumer.poll(POLL));
        }
        if let Err(error) = persist(|| zombie.commit_transaction(ANSWER_TIMEOUT)) {
            self.stage
                .violated(format!("a commit with its offsets in was refused: {error}"));
        }
        heir.rewind();
        heir
    }

    fn have_a_guest(&mut self, life: &mut Life<'a>) {
        self.ids += 1;
        let mut guest = Life::new(self.stage, &self.transactional_id(), None);
        let began = Instant::now();
        while !self.stage.stopped() && began.elapsed() < STAY {
            life.step(BATCH);
            if guest.step(BATCH) {
                self.stage.happened(Mishap::Guest);
                return;
            }
        }
    }

    /// Works until one transaction is committed, or all is done.
    fn go_on(&self, life: &mut Life<'a>) {
        while !self.stage.stopped() && !life.step(BATCH) {}
    }

    fn new_life(&mut self) -> Life<'a> {
        self.ids += 1;
        Life::new(self.stage, &self.transactional_id(), self.instance)
    }

    fn transactional_id(&self) -> String {
        format!("{}worker-{}-{}", self.stage.prefix, self.slot, self.ids)
    }
}
