//! The reference processor: the same topic, settings, decoder and coalescer, at least once.
//!
//! A plain idempotent producer, and offsets that are committed asynchronously once what was made of them is stored. No
//! transaction, no fencing, no final commit before a rebalance: killed, it counts events twice. Runs until it is killed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use frontstream::coalesce::{Coalescer, Content, Limits, Output, Record};
use frontstream::config::{self, Environment, Purpose, Sources};
use frontstream::lifecycle::{Clock, Instant};
use frontstream::model::{Checkpoint, Offset, Partition, Refresh, Run, RunCause, Timestamp};
use frontstream::roles;
use frontstream::wire::{Encoding, EventDecoder, checkpoint_v1, headers, refresh_v1};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientContext, TopicPartitionList};

/// As in `consume`: how much one batch holds, and the longest wait for it.
const BATCH_RECORDS_MAX: usize = 2_000;
const BATCH_BYTES_MAX: usize = 4 << 20;
const WAIT_MAX: Duration = Duration::from_millis(100);

pub(crate) fn run() -> anyhow::Result<()> {
    let sources = Sources {
        file: None,
        environment: Environment::of_process(),
        set: Vec::new(),
        brokers: None,
    };
    let settings = config::load(&sources, Purpose::Processor)?;
    let settings = roles::connect::processor(&settings, "reference");
    let mut loop_ = Loop::new(settings)?;
    loop {
        loop_.turn()?;
    }
}

/// Remembers when the group first assigned partitions: that is where the product's runs begin too.
#[derive(Default)]
struct Context {
    assigned_at: AtomicI64,
}

impl ClientContext for Context {}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            self.assigned_at
                .store(Clock::system().now().as_millis(), Ordering::Relaxed);
        }
    }
}

struct Owned {
    coalescer: Coalescer,
    refreshes: Vec<Refresh>,
}

impl Owned {
    fn drain(&mut self) {
        while let Some(output) = self.coalescer.poll_output() {
            match output {
                Output::Refresh(refresh) => self.refreshes.push(refresh),
                Output::DeadLetter(_) => {}
            }
        }
    }
}

struct Loop {
    settings: roles::processor::Settings,
    consumer: BaseConsumer<Context>,
    producer: BaseProducer,
    decoder: EventDecoder,
    owned: BTreeMap<i32, Owned>,
    /// Offsets that may be committed once nothing is in flight.
    stored_next: Option<TopicPartitionList>,
    committed_at: Instant,
}

impl Loop {
    fn new(settings: roles::processor::Settings) -> anyhow::Result<Self> {
        let consumer =
            BaseConsumer::from_config_and_context(&consumer_config(&settings), Context::default())?;
        consumer.subscribe(&[&settings.topics.events])?;
        let mut config = settings.kafka.client_config();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0");
        Ok(Self {
            consumer,
            producer: config.create()?,
            decoder: EventDecoder::new(),
            owned: BTreeMap::new(),
            stored_next: None,
            committed_at: Instant::now(),
            settings,
        })
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        let wait = self.wait();
        let log_end = self.feed(wait)?;
        if let Some(owned) = log_end.and_then(|partition| self.owned.get_mut(&partition)) {
            owned.coalescer.on_log_end(Clock::system().now());
            owned.drain();
        }
        self.close_due();
        self.producer.poll(Duration::ZERO);
        self.commit_if_due()
    }

    /// Takes what is ready and feeds the coalescers; returns the partition whose end was reached.
    fn feed(&mut self, wait: Duration) -> anyhow::Result<Option<i32>> {
        let (records, log_end) = poll(&self.consumer, wait)?;
        let now = Clock::system().now();
        let began = Timestamp::from_millis(self.consumer.context().assigned_at.load(Ordering::Relaxed));
        for records in records.chunk_by(|one, next| one.partition() == next.partition()) {
            let owned = self
                .owned
                .entry(records[0].partition())
                .or_insert_with(|| begin(&records[0], began, self.settings.limits));
            let mut decoded = Vec::with_capacity(records.len());
            for record in records {
                let change = self.decoder.decode(record.payload().unwrap_or_default());
                decoded.push((record, change.ok()));
            }
            owned.coalescer.on_batch(
                decoded.iter().map(|(record, change)| Record {
                    offset: offset_of(record),
                    log_time: Timestamp::from_millis(record.timestamp().to_millis().unwrap_or(0)),
                    content: change
                        .as_ref()
                        .map_or(Content::Undecodable, |change| Content::Change(change.change())),
                }),
                now,
            );
            owned.drain();
        }
        Ok(log_end)
    }

    fn close_due(&mut self) {
        let now = Clock::system().now();
        for owned in self.owned.values_mut() {
            if owned
                .coalescer
                .next_deadline()
                .is_some_and(|(deadline, _)| deadline <= now)
            {
                owned.coalescer.on_deadline(now);
                owned.drain();
            }
        }
    }

    fn wait(&self) -> Duration {
        let now = Clock::system().now();
        let deadlines = self
            .owned
            .values()
            .filter_map(|owned| owned.coalescer.next_deadline());
        let until = deadlines
            .map(|(deadline, _)| deadline.saturating_since(now))
            .min();
        let mut wait = until.unwrap_or(WAIT_MAX).min(WAIT_MAX);
        if self.owned.values().any(|owned| !owned.refreshes.is_empty()) {
            wait = wait.min(
                self.settings
                    .commit_interval
                    .saturating_sub(self.committed_at.elapsed()),
            );
        }
        wait
    }

    fn commit_if_due(&mut self) -> anyhow::Result<()> {
        if self.committed_at.elapsed() < self.settings.commit_interval || self.producer.in_flight_count() > 0
        {
            return Ok(());
        }
        if let Some(stored) = self.stored_next.take() {
            self.consumer
                .commit(&stored, CommitMode::Async)
                .context("committing offsets")?;
        }
        if self.owned.values().all(|owned| owned.refreshes.is_empty()) {
            return Ok(());
        }
        let mut next = TopicPartitionList::new();
        let mut value = Vec::new();
        for (partition, owned) in &mut self.owned {
            let Some(checkpoint) = owned.coalescer.checkpoint() else {
                continue;
            };
            for refresh in std::mem::take(&mut owned.refreshes) {
                value.clear();
                refresh_v1::write(&mut value, Encoding::SingleObject, &refresh);
                send(&self.producer, &self.settings.topics.refresh, &refresh, &value)?;
            }
            let mut element = next.add_partition(&self.settings.topics.events, *partition);
            element.set_offset(rdkafka::Offset::Offset(checkpoint.committed_offset().number()))?;
            element.set_metadata(checkpoint_v1::encode(
                &checkpoint,
                self.settings.limits.metadata_bytes_max,
            ));
        }
        if next.count() > 0 {
            self.stored_next = Some(next);
            self.committed_at = Instant::now();
        }
        Ok(())
    }
}

fn poll(
    consumer: &BaseConsumer<Context>,
    wait: Duration,
) -> anyhow::Result<(Vec<BorrowedMessage<'_>>, Option<i32>)> {
    let mut records = Vec::new();
    let mut bytes = 0;
    let mut wait = Duration::from_millis(u64::try_from(wait.as_micros().div_ceil(1_000))?);
    while records.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX {
        match consumer.poll(wait) {
            Some(Ok(message)) => {
                bytes += message.payload_len();
                records.push(message);
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => return Ok((records, Some(partition))),
            Some(Err(error)) => return Err(error).context("reading events"),
            None => break,
        }
        wait = Duration::ZERO;
    }
    Ok((records, None))
}

fn begin(first: &BorrowedMessage<'_>, started_at: Timestamp, limits: Limits) -> Owned {
    let run = Run {
        started_at,
        start: offset_of(first),
        cause: RunCause::First,
    };
    let partition = Partition::new(first.partition()).expect("a record has a partition");
    Owned {
        coalescer: Coalescer::restore(partition, Checkpoint::begin(run), limits),
        refreshes: Vec::new(),
    }
}

fn offset_of(record: &BorrowedMessage<'_>) -> Offset {
    Offset::new(record.offset()).expect("a record has an offset")
}

fn send(producer: &BaseProducer, topic: &str, refresh: &Refresh, value: &[u8]) -> anyhow::Result<()> {
    let headers = headers::of_refresh(refresh).fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: Some(value.as_bytes()),
        })
    });
    let mut record = BaseRecord::<[u8], [u8]>::to(topic)
        .partition(refresh.partition.number())
        .key(refresh.conversation.as_str().as_bytes())
        .payload(value)
        .headers(headers);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                record = unsent;
                producer.poll(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(error).context("handing over a refresh"),
        }
    }
}

/// As in `consume`, but for what needs transactions.
fn consumer_config(settings: &roles::processor::Settings) -> rdkafka::ClientConfig {
    let mut config = settings.kafka.client_config();
    config
        .set("group.id", &settings.consume.group)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true")
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.error.backoff.ms", "50")
        .set("partition.assignment.strategy", "cooperative-sticky");
    config
}
