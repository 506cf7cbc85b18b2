//! The in-process broker alone: what a record costs it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use frontstream::dev_broker::DevBroker;
use frontstream::lifecycle::Instant;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use crate::cluster::Bench;
use crate::figures::{Figure, Figures, Target};
use crate::machine;
use crate::process::PATIENCE;

/// What the broker calls its thread.
const THREAD: &str = "dev-broker";

const TOPIC: &str = "bench";
const PARTITIONS: i32 = 3;
const RECORD_BYTES: usize = 500;
/// The figure is given for so many.
const UNIT: f64 = 100_000.0;

pub(crate) fn run(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let records = bench.options.size(1_000_000, 200_000);
    for (codec, is_target) in [("none", true), ("lz4", false), ("zstd", false)] {
        let (mut cpu, mut rate) = (Vec::new(), Vec::new());
        for _ in 0..bench.options.size(5, 1) {
            let once = produce(codec, records)?;
            cpu.push(once.broker_cpu.as_secs_f64() / records as f64 * UNIT);
            rate.push(records as f64 / once.elapsed.as_secs_f64());
        }
        let figure = Figure::new(
            format!("broker's thread per 100,000 records, {codec}"),
            "s of CPU",
            cpu,
        );
        let figure = if is_target {
            figure.target(Target::Below(1.0))
        } else {
            figure.beside()
        };
        figures.add(figure.note(format!(
            "{records} records of {RECORD_BYTES} B in {PARTITIONS} partitions, one idempotent producer in another thread, \
             linger 5 ms; compression: {codec}"
        )))?;
        let figure = Figure::new(format!("records produced, {codec}"), "records/s", rate);
        let figure = if is_target {
            figure.target(Target::AtLeast(UNIT))
        } else {
            figure.beside()
        };
        figures.add(figure.note("as fast as one producer goes; the broker is on one core at most"))?;
    }
    Ok(())
}

struct Once {
    broker_cpu: Duration,
    elapsed: Duration,
}

/// Counts what is stored.
#[derive(Default)]
struct Deliveries {
    stored: AtomicU64,
    failed: AtomicU64,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() {
            &self.stored
        } else {
            &self.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn produce(codec: &str, records: u64) -> anyhow::Result<Once> {
    let broker = DevBroker::start(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.address().to_string());
    make_topic(&config)?;
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("compression.type", codec);
    let producer: BaseProducer<Deliveries> =
        BaseProducer::from_config_and_context(&config, Deliveries::default())?;
    let value = value();
    let (cpu_before, began) = (machine::thread_cpu(THREAD)?, Instant::now());
    for number in 0..records {
        let key = number.to_be_bytes();
        loop {
            let record = BaseRecord::to(TOPIC).key(&key[..]).payload(&value);
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "{number} of {records} records were taken"
            );
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE)?;
    let once = Once {
        elapsed: began.elapsed(),
        broker_cpu: machine::thread_cpu(THREAD)?.saturating_sub(cpu_before),
    };
    let deliveries = producer.context();
    let (stored, failed) = (&deliveries.stored, &deliveries.failed);
    ensure!(
        stored.load(Ordering::Relaxed) == records,
        "{} of {records} records were stored, {} were not",
        stored.load(Ordering::Relaxed),
        failed.load(Ordering::Relaxed)
    );
    Ok(once)
}

/// Half of it compresses well, as JSON does.
fn value() -> Vec<u8> {
    let mut state = 1_u64;
    let digit = |at: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        if at.is_multiple_of(2) {
            b'a'
        } else {
            b'a' + (state >> 59) as u8
        }
    };
    (0..RECORD_BYTES).map(digit).collect()
}

fn make_topic(config: &ClientConfig) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(1));
    let made = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new()))?;
    for made in made {
        made.map_err(|(name, code)| anyhow::anyhow!("{name}: {code}"))
            .context("making the topic")?;
    }
    Ok(())
}
