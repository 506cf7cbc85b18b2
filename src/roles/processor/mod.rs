//! The processor: `front.events` in, `front.refresh` out, exactly once.

mod aborts;
mod decode;
mod metrics;
mod partition;
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
use crate::emit::{self, Emitter};
use crate::kafka::{self, TopicNames};
use crate::lifecycle::{Exit, Gate, Instant, Stop};
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
    let mut workers = JoinSet::new();
    for number in 0..settings.workers {
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
                emit_metrics,
                metrics,
                around,
                gate,
                runtime,
            };
            setup.work()
        });
    }
    start_gate.ready();
    let supervised = supervise(workers, &around.stop, settings.drain_timeout);
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

/// Waits for the workers; one that ends early, or panics, stops the others.
async fn supervise(
    mut workers: JoinSet<Result<(), Error>>,
    stop: &Stop,
    drain_timeout: Duration,
) -> anyhow::Result<()> {
    let mut outcome: anyhow::Result<()> = Ok(());
    let mut stopping_since = None;
    loop {
        let deadline = async {
            stop.cancelled().await;
            let since = *stopping_since.get_or_insert_with(Instant::now);
            tokio::time::sleep(drain_timeout.saturating_sub(since.elapsed())).await;
        };
        let ended = tokio::select! {
            ended = workers.join_next() => ended,
            () = deadline => {
                let late = format!("the workers did not finish within the drain timeout of {drain_timeout:?}");
                // Why they were stopped decides about the exit code, not how long that took.
                return match outcome {
                    Ok(()) => Err(anyhow::Error::msg(late)),
                    Err(failure) => Err(failure.context(late)),
                };
            }
        };
        let Some(ended) = ended else { return outcome };
        let failure = match ended {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => {
                let exit = error.exit();
                anyhow::Error::new(error).context(exit)
            }
            Err(panic) => anyhow::Error::new(panic)
                .context("a worker panicked, which is a bug")
                .context(Exit::Defect),
        };
        stop.cancel();
        if outcome.is_ok() {
            outcome = Err(failure);
        }
    }
}

/// What one worker is made of.
struct Setup {
    number: usize,
    settings: Settings,
    schemas: Schemas,
    errors: kafka::ErrorCounts,
    unowned: consume::Unowned,
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
        .map_err(failed)?;
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

#[cfg(test)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::*;

    fn fenced() -> Error {
        let source = KafkaError::MessageConsumption(RDKafkaErrorCode::FencedInstanceId);
        Error::Consume {
            worker: 0,
            source: consume::Error::new("read", kafka::Class::Fenced, source),
        }
    }

    /// One worker ends, the other does not let itself be stopped.
    #[tokio::test]
    async fn a_drain_that_takes_too_long_does_not_hide_why_it_began() {
        for (first, expected) in [(Err(fenced()), Some(Exit::Fenced)), (Ok(()), None)] {
            let stop = Stop::new();
            if first.is_ok() {
                stop.cancel();
            }
            let mut workers = JoinSet::new();
            workers.spawn(async { first });
            workers.spawn(std::future::pending());
            let error = supervise(workers, &stop, Duration::from_millis(20))
                .await
                .expect_err("they did not finish");
            assert_eq!(error.downcast_ref::<Exit>().copied(), expected);
            let said = format!("{error:#}");
            assert!(said.starts_with("the workers did not finish"), "{said}");
            let cause = "another process has this group instance id";
            assert_eq!(said.contains(cause), expected.is_some(), "{said}");
        }
    }
}
