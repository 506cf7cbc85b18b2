//! Records to changes; asks the registry for a schema that is not known yet.

use std::cell::RefCell;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::coalesce::{Content, Record};
use crate::consume;
use crate::emit::DeadLetter;
use crate::kafka::{Class, ErrorCounts, Reporter};
use crate::lifecycle::{Instant, Stop};
use crate::model::{Offset, Run, Timestamp};
use crate::observe::{Outage, causes};
use crate::registry;
use crate::wire::{self, DecodeError, EventDecoder, SchemaId};

/// How long a record may wait for its schema: below the five minutes after which the partitions of a consumer that does not
/// poll are taken away (`max.poll.interval.ms`).
const SCHEMA_WAIT_MAX: Duration = Duration::from_secs(240);

/// Between two questions to a registry that is away.
const SCHEMA_PAUSE: Duration = Duration::from_secs(1);

/// The schema of a record cannot be had: the process ends, and goes on with this record when it is started again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The record names a registry's schema, and there is no registry.
    #[error("the record's schema {0} is known to a registry only, and none is configured: set registry.url")]
    NoRegistry(SchemaId),
    /// The registry was away for too long.
    #[error("the registry did not tell schema {id} within {SCHEMA_WAIT_MAX:?}")]
    RegistryAway {
        /// The schema.
        id: SchemaId,
        /// What the registry answered last.
        source: registry::Error,
    },
    /// A stop was asked for while a record waited for its schema.
    #[error("told to stop while waiting for a schema")]
    Stopped,
}

/// Decodes for one worker.
pub struct Decoder {
    events: RefCell<EventDecoder>,
    registry: Option<registry::Handle>,
    runtime: Handle,
    errors: Option<ErrorCounts>,
    /// The registry does not tell a schema.
    away: Outage,
}

/// A record as the coalescer takes it, borrowed from the consumer's memory where the schema allows.
pub(super) struct Decoded<'a> {
    offset: Offset,
    log_time: Timestamp,
    content: Option<wire::Decoded<'a>>,
}

impl Decoded<'_> {
    /// Lends what the coalescer reads.
    pub(super) fn as_record(&self) -> Record<'_> {
        let content = self
            .content
            .as_ref()
            .map_or(Content::Undecodable, |decoded| Content::Change(decoded.change()));
        Record {
            offset: self.offset,
            log_time: self.log_time,
            content,
        }
    }
}

impl Decoder {
    /// Makes a decoder that asks `registry`, if there is one, on `runtime`.
    pub fn new(registry: Option<registry::Handle>, runtime: Handle) -> Self {
        Self {
            events: RefCell::new(EventDecoder::new()),
            registry,
            runtime,
            errors: None,
            away: Outage::default(),
        }
    }

    /// Counts the registry's failures in `errors`.
    pub fn counting(mut self, errors: ErrorCounts) -> Self {
        self.errors = Some(errors);
        self
    }

    /// Returns the runtime on which this thread may wait.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Decodes one record, read at `now`; what cannot be decoded comes back as a dead letter beside it.
    ///
    /// # Errors
    ///
    /// The record's schema cannot be had now: this says nothing about the record, which must be read again.
    pub(super) fn decode<'a>(
        &self,
        record: &'a impl consume::Record,
        run: Run,
        now: Timestamp,
        stop: &Stop,
    ) -> Result<(Decoded<'a>, Option<DeadLetter>), Error> {
        let (content, letter) = match self.content(record, stop)? {
            Ok(content) => (Some(content), None),
            Err(reason) => (None, Some(dead_letter(record, run, reason))),
        };
        Ok((
            Decoded {
                offset: record.offset(),
                log_time: record.log_time().unwrap_or(now),
                content,
            },
            letter,
        ))
    }

    /// Returns the content, or the reason for which there is none.
    fn content<'a>(
        &self,
        record: &'a impl consume::Record,
        stop: &Stop,
    ) -> Result<Result<wire::Decoded<'a>, String>, Error> {
        let Some(value) = record.value() else {
            return Ok(Err("the record has no value (a tombstone)".to_owned()));
        };
        loop {
            // Bound to a name: the borrow ends before a schema is learned.
            let decoded = self.events.borrow().decode(value);
            match decoded {
                Ok(decoded) => return Ok(Ok(decoded)),
                Err(DecodeError::Malformed(malformed)) => return Ok(Err(malformed.to_string())),
                Err(DecodeError::UnknownSchema(id)) => {
                    if let Some(reason) = self.learn(id, stop)? {
                        return Ok(Err(reason));
                    }
                }
            }
        }
    }

    /// Asks the registry for a schema until it tells; returns a reason when there is no such schema.
    fn learn(&self, id: SchemaId, stop: &Stop) -> Result<Option<String>, Error> {
        let Some(registry) = &self.registry else {
            return Err(Error::NoRegistry(id));
        };
        let began = Instant::now();
        loop {
            let asked = self
                .runtime
                .block_on(stop.run_until_cancelled(registry.schema(id)));
            match asked.ok_or(Error::Stopped)? {
                Ok(schema) => {
                    if let Some(over) = self.away.over(Instant::now()) {
                        tracing::info!(%id, after = ?over.lasted, "the schema registry told the schema: goes on");
                    }
                    if let Err(refused) = self.events.borrow_mut().learn(id, &schema) {
                        tracing::error!(
                            error = %causes(&refused),
                            "records of this schema go to the dead letters"
                        );
                    }
                    return Ok(None);
                }
                Err(error @ registry::Error::Unknown(_)) => return Ok(Some(error.to_string())),
                Err(error) if began.elapsed() >= SCHEMA_WAIT_MAX => {
                    return Err(Error::RegistryAway { id, source: error });
                }
                Err(error) => {
                    self.note_failure(id, &error);
                    let pause = stop.run_until_cancelled(tokio::time::sleep(SCHEMA_PAUSE));
                    self.runtime.block_on(pause).ok_or(Error::Stopped)?;
                }
            }
        }
    }
}

impl Decoder {
    fn note_failure(&self, id: SchemaId, error: &registry::Error) {
        if let Some(errors) = &self.errors {
            errors.count(Reporter::Registry, Class::Retriable);
        }
        if let Some(left_out) = self.away.failed(Instant::now()) {
            tracing::warn!(
                %id,
                error = %causes(error),
                left_out,
                "a record waits for its schema: asks the registry again, for up to {SCHEMA_WAIT_MAX:?}"
            );
        }
    }
}

fn dead_letter(record: &impl consume::Record, run: Run, reason: String) -> DeadLetter {
    DeadLetter {
        partition: record.partition(),
        offset: record.offset(),
        run,
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        reason,
    }
}
