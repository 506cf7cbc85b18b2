//! One life of a worker: a member of the group and a producer, and what they do when all goes well.

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

use super::{ANSWER_TIMEOUT, Fault, Stage};
use crate::support::process::PATIENCE;

/// Delivery reports are served by a thread of its own, also while it aborts.
type Client = ThreadedProducer<DefaultProducerContext>;

/// How long to wait for a first record.
pub(super) const POLL: Duration = Duration::from_millis(50);

/// Counts the changes of a consumer's assignment: a batch that one of them falls into is not ours to commit.
#[derive(Clone, Default)]
pub(super) struct Changes(Arc<AtomicU32>);

impl Changes {
    pub(super) fn count(&self) -> u32 {
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
pub(super) struct Batch(Vec<OwnedMessage>);

impl Batch {
    pub(super) fn offsets(&self, topic: &str) -> TopicPartitionList {
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
pub(super) struct Life<'a> {
    stage: &'a Stage<'a>,
    pub(super) changes: Changes,
    pub(super) consumer: BaseConsumer<Changes>,
    pub(super) producer: Client,
    pub(super) transactional_id: String,
}

impl<'a> Life<'a> {
    pub(super) fn new(stage: &'a Stage<'a>, transactional_id: &str, instance: Option<&str>) -> Self {
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
    pub(super) fn batch(&self, limit: u64) -> Option<Batch> {
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
    pub(super) fn copy(&self, batch: &Batch) -> KafkaResult<()> {
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
    pub(super) fn flush(&self) -> KafkaResult<()> {
        let began = Instant::now();
        while self.producer.in_flight_count() > 0 {
            if began.elapsed() > ANSWER_TIMEOUT {
                return Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut));
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        Ok(())
    }

    pub(super) fn send_offsets(&self, batch: &Batch, group: &ConsumerGroupMetadata) -> KafkaResult<()> {
        let offsets = batch.offsets(&self.stage.input);
        if self.stage.run.fault == Fault::OffsetsOutside {
            return self.consumer.commit(&offsets, CommitMode::Sync);
        }
        persist(|| {
            self.producer
                .send_offsets_to_transaction(&offsets, group, ANSWER_TIMEOUT)
        })
    }

    pub(super) fn commit(&self) -> KafkaResult<()> {
        persist(|| self.producer.commit_transaction(ANSWER_TIMEOUT))
    }

    pub(super) fn abort(&self) {
        persist(|| self.producer.abort_transaction(ANSWER_TIMEOUT)).expect("an abort");
        self.rewind();
    }

    /// Does everything right once; `false` when there was nothing, or the transaction could not be had.
    pub(super) fn step(&mut self, limit: u64) -> bool {
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

    pub(super) fn group(&self) -> ConsumerGroupMetadata {
        self.consumer.group_metadata().expect("a member knows its group")
    }

    pub(super) fn recover(&mut self, error: &KafkaError) {
        let aborting = matches!(
            error,
            KafkaError::Transaction(inner) if !inner.is_fatal() && inner.txn_requires_abort()
        );
        if aborting {
            self.abort();
        } else {
            self.producer = producer(self.stage, &self.transactional_id);
            self.rewind();
        }
    }

    /// Goes back to what is committed. No transaction may be open: the assignment may change meanwhile.
    pub(super) fn rewind(&self) {
        let began = Instant::now();
        while let Err(why) = self.try_to_rewind() {
            assert!(began.elapsed() < PATIENCE, "rewind: {why}");
            // A partition that was just assigned has no position yet, and does not get one while a rebalance waits to be
            // served. What is read here is read again.
            drop(self.consumer.poll(POLL));
        }
    }

    fn try_to_rewind(&self) -> Result<(), String> {
        let assigned = self.consumer.assignment().expect("an assignment");
        if assigned.count() == 0 {
            return Ok(());
        }
        let committed = self
            .consumer
            .committed_offsets(assigned, ANSWER_TIMEOUT)
            .map_err(|error| format!("the committed offsets: {error}"))?;
        // A transaction that holds a later offset may be open still: the client gives up asking after some 60 ms.
        all_well(&committed)?;
        let mut positions = TopicPartitionList::new();
        for element in committed.elements() {
            let known = matches!(element.offset(), Offset::Offset(_));
            let offset = if known {
                element.offset()
            } else {
                Offset::Beginning
            };
            positions
                .add_partition_offset(element.topic(), element.partition(), offset)
                .expect("an offset");
        }
        let sought = self
            .consumer
            .seek_partitions(positions, ANSWER_TIMEOUT)
            .expect("an outcome for each partition");
        all_well(&sought)
    }
}

/// Says which partition of an answer has an error.
fn all_well(answer: &TopicPartitionList) -> Result<(), String> {
    let refused = answer.elements().into_iter().find_map(|element| {
        let error = element.error().err()?;
        Some(format!("partition {}: {error}", element.partition()))
    });
    refused.map_or(Ok(()), Err)
}

pub(super) fn producer(stage: &Stage<'_>, transactional_id: &str) -> Client {
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
pub(super) fn persist(mut attempt: impl FnMut() -> KafkaResult<()>) -> KafkaResult<()> {
    const ATTEMPTS: u32 = 5;
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
            outcome => return outcome,
        }
    }
    attempt()
}
