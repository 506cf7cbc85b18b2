//! The processor: `front.events` in, `front.refresh` out, exactly once.

mod aborts;
mod decode;
mod metrics;
mod partition;
mod supervise;
mod urgency;
mod worker;

use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

pub use self::decode::Decoder;
pub use self::metrics::Metrics;
pub use self::worker::{Error, State, Worker};
use super::Surroundings;
use super::start::{Schemas, find_schemas, find_topics};
use crate::coalesce::Limits;
use crate::consume::{self, Consumer};
use crate::emit::{self, Emitter, Watchdog};
use crate::kafka::{self, TopicNames};
use crate::lifecycle::{Exit, Gate, Stop};
use crate::registry;
use crate::wire::refresh_v1;

/// How long one try to reach the brokers or the registry waits at start, before it is said and tried again.
const START_TRY: Duration = Duration::from_secs(5);

/// What a processor needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How to reach the brokers.
    pub kafka: kafka::Settings,
    /// The three topics.
    pub topics: TopicNames,
    /// The schema registry; `None`: single-object encoding.
    pub registry: Option<registry::Settings>,
    /// What each member of the group needs; the instance id is that of the process, workers add their number.
    pub consume: consume::Settings,
    /// `transactional.id` without the worker's number.
    pub transactional_id: String,
    /// `transaction.timeout.ms`.
    pub transaction_timeout: Duration,
    /// Windows, dedupe, chunks, metadata.
    pub limits: Limits,
    /// How many workers.
    pub workers: usize,
    /// The least time between two transactions of a worker.
    pub commit_interval: Duration,
    /// The time between two commits of positions alone.
    pub position_commit_interval: Duration,
    /// How long a clean stop may take.
    pub drain_timeout: Duration,
}

/// Runs workers until told to stop; then they finish their open work, commit and leave the group.
///
/// # Errors
///
/// A worker ended before its time, the topics are not as they must be, or a clean stop took longer than the drain
/// timeout; [`Exit`] is the context that decides the exit code.
pub async fn run(settings: Settings, around: Surroundings) -> anyhow::Result<()> {
    let start_gate = around.readiness.gate("processor");
    start_gate.not_ready("starting");
    // Before the brokers answer: what counts from zero must be seen at zero first.
    let errors = kafka::ErrorCounts::register(&around.metrics)?;
    let emit_metrics = emit::Metrics::register(&around.metrics)?;
    let metrics = Metrics::register(&around.metrics)?;
    let Some(schemas) = prepare(&settings, &around.stop, &start_gate).await? else {
        return Ok(());
    };
    let unowned = consume::Unowned::default();
    let watchdogs: Vec<_> = (0..settings.workers).map(|_| Watchdog::default()).collect();
    let mut workers = JoinSet::new();
    for (number, watchdog) in watchdogs.iter().cloned().enumerate() {
        let gate = around.readiness.gate(format!("worker-{number}"));
        gate.not_ready("starting");
        let (settings, around) = (settings.clone(), around.clone());
        let (schemas, emit_metrics, metrics) = (schemas.clone(), emit_metrics.clone(), metrics.clone());
        let (errors, unowned) = (errors.clone(), unowned.clone());
        let runtime = Handle::current();
        workers.spawn_blocking(move || {
            let setup = Setup {
                number,
                settings,
                schemas,
                errors,
                unowned,
                watchdog,
                emit_metrics,
                metrics,
                around,
                gate,
                runtime,
            };
            (number, setup.work())
        });
    }
    start_gate.ready();
    let supervised = supervise::supervise(workers, &watchdogs, &around.stop, settings.drain_timeout);
    let (supervised, watched) = tokio::join!(supervised, watch(unowned, &settings, &around.stop));
    supervised.and(watched)
}

/// Looks for partitions that a classic group of static members leaves to nobody; other groups divide them anew whenever a
/// member is started.
async fn watch(unowned: consume::Unowned, settings: &Settings, stop: &Stop) -> anyhow::Result<()> {
    let is_static = settings.consume.instance_id.is_some();
    if is_static && settings.consume.protocol == consume::GroupProtocol::Classic {
        let watched = unowned.watch(&settings.kafka, &settings.consume, stop).await;
        // The workers' clients have the same settings: they fail as well, and stop this process.
        watched.context(Exit::Fatal)?;
    }
    Ok(())
}

/// Checks the topics and registers the schema, trying until both answer; `None` when told to stop before.
async fn prepare(settings: &Settings, stop: &Stop, gate: &Gate) -> anyhow::Result<Option<Schemas>> {
    let prepared = async {
        find_topics(&settings.kafka, &settings.topics, gate).await?;
        find_schemas(
            settings.registry.as_ref(),
            &settings.topics.refresh,
            refresh_v1::SCHEMA,
            gate,
        )
        .await
    };
    stop.run_until_cancelled(prepared).await.transpose()
}

/// What one worker is made of.
struct Setup {
    number: usize,
    settings: Settings,
    schemas: Schemas,
    errors: kafka::ErrorCounts,
    unowned: consume::Unowned,
    watchdog: Watchdog,
    emit_metrics: emit::Metrics,
    metrics: Metrics,
    around: Surroundings,
    gate: Gate,
    runtime: Handle,
}

impl Setup {
    /// Builds the worker on its own thread and runs it.
    fn work(self) -> Result<(), Error> {
        let failed = |source| Error::Emit {
            worker: self.number,
            source,
        };
        let emitter = Emitter::new(
            &self.settings.kafka,
            self.emit_settings(),
            self.emit_metrics.clone(),
            self.errors.clone(),
        )
        .map_err(failed)?
        .watched_by(self.watchdog.clone());
        while !emitter.init(START_TRY).map_err(failed)? {
            if self.around.stop.is_cancelled() {
                return Ok(());
            }
            self.gate.not_ready("waits for the transaction coordinator");
        }
        tracing::debug!(worker = self.number, "transactional id taken over");
        let consume = self.consume_settings();
        let joined = Consumer::join(&self.settings.kafka, &consume, self.errors.clone(), self.unowned);
        let consumer = joined.map_err(|source| Error::Consume {
            worker: self.number,
            source,
        })?;
        let settings = Settings {
            consume,
            ..self.settings
        };
        Worker {
            number: self.number,
            settings,
            source: consumer,
            emitter,
            decoder: Decoder::new(self.schemas.registry, self.runtime).counting(self.errors),
            metrics: self.metrics,
            clock: self.around.clock,
            stop: self.around.stop,
            gate: self.gate,
        }
        .run()
    }

    fn emit_settings(&self) -> emit::Settings {
        emit::Settings {
            topics: self.settings.topics.clone(),
            transactional_id: format!("{}-{}", self.settings.transactional_id, self.number),
            transaction_timeout: self.settings.transaction_timeout,
            metadata_bytes_max: self.settings.limits.metadata_bytes_max,
            encoding: self.schemas.encoding,
        }
    }

    fn consume_settings(&self) -> consume::Settings {
        let mut consume = self.settings.consume.clone();
        consume.instance_id = consume.instance_id.map(|id| format!("{id}-{}", self.number));
        consume
    }
}
