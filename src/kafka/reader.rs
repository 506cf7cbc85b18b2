//! Reading topics as an operator does: read committed, from here to there, without joining a group or committing.

use std::ops::ControlFlow;
use std::time::Duration;

use rdkafka::Message as _;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _};

use super::Settings;
use crate::lifecycle::{Instant, Stop};
use crate::model::{Offset, Partition, Timestamp};

/// How long one poll blocks: short enough that a stop or a deadline is seen at once.
const POLL: Duration = Duration::from_millis(100);

/// Bytes fetched ahead of the caller, so that millions of events do not pile up in memory. Source: librdkafka's
/// default is 64 MiB for each partition.
const QUEUED_KBYTES_MAX: &str = "16384";

/// How long a transaction that is about to change the group's offsets is waited for: longer than the brokers leave one
/// open whose owner died, by the default transaction timeout of 10 s.
const TRANSACTIONS_END: Duration = Duration::from_secs(25);

/// How long a broker holds an answer back for want of records. A fetch under way delays the next partition that is
/// read after it by this much; librdkafka's default of 500 ms made an audit of 9 small partitions take 15 s.
const FETCH_WAIT_MAX_MS: &str = "20";

/// Why a topic could not be read, by what an operator does about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No broker answered.
    #[error("no answer from the brokers at {brokers} within {} s: are they up, and is kafka.brokers right?", .waited.as_secs())]
    Unreachable {
        /// The bootstrap servers.
        brokers: String,
        /// How long we waited.
        waited: Duration,
        /// The client's error.
        source: KafkaError,
    },
    /// The topic does not exist.
    #[error("there is no topic {topic}: create it with `frontstream topics create`")]
    NoTopic {
        /// Its name.
        topic: String,
    },
    /// Records that exist did not come.
    #[error("nothing read from {topic} partition {partition} for {} s, at offset {at} of {end}", .waited.as_secs())]
    Stalled {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// The next offset to read.
        at: Offset,
        /// The offset to read up to.
        end: Offset,
        /// How long nothing came.
        waited: Duration,
    },
    /// Anything else that the client says.
    #[error("{attempted} failed")]
    Failed {
        /// What was attempted.
        attempted: String,
        /// The client's error.
        source: KafkaError,
    },
}

/// A record as it stands in a topic.
#[derive(Clone, Copy)]
pub struct Record<'a>(&'a BorrowedMessage<'a>);

impl<'a> Record<'a> {
    /// Returns the partition.
    pub fn partition(self) -> Partition {
        Partition::new(self.0.partition()).expect("a record that was read has a partition")
    }

    /// Returns the offset.
    pub fn offset(self) -> Offset {
        Offset::new(self.0.offset()).expect("a record that was read has an offset")
    }

    /// Returns the record's time, by the topic's `message.timestamp.type`.
    pub fn recorded_at(self) -> Timestamp {
        Timestamp::from_millis(self.0.timestamp().to_millis().unwrap_or(0))
    }

    /// Returns the key.
    pub fn key(self) -> Option<&'a [u8]> {
        self.0.key()
    }

    /// Returns the value; empty when there is none.
    pub fn value(self) -> &'a [u8] {
        self.0.payload().unwrap_or_default()
    }

    /// Goes through the headers in their order.
    pub fn headers(self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        let headers = self.0.headers().into_iter();
        headers.flat_map(|headers| headers.iter().map(|header| (header.key, header.value)))
    }

    /// Returns the last header with this name.
    pub fn header(self, name: &str) -> Option<&'a [u8]> {
        self.headers().filter(|(key, _)| *key == name).last()?.1
    }
}

/// The first offset still retained, and the one after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset still retained.
    pub start: Offset,
    /// The offset after the last.
    pub end: Offset,
}

/// What a group committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: Offset,
    /// The text beside it.
    pub metadata: String,
}

/// A client that reads and changes nothing.
pub struct Reader {
    committed: BaseConsumer,
    everything: BaseConsumer,
    brokers: String,
    timeout: Duration,
}

impl Reader {
    /// Makes a client; `timeout` bounds each answer and each silence. `group` is whose committed offsets
    /// [`Reader::committed`] returns; it is not joined.
    ///
    /// # Errors
    ///
    /// The client's settings are refused. Brokers that are away show at the first question.
    pub fn new(settings: &Settings, group: &str, timeout: Duration) -> Result<Self, Error> {
        let mut config = settings.client_config();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("queued.max.messages.kbytes", QUEUED_KBYTES_MAX)
            .set("fetch.wait.max.ms", FETCH_WAIT_MAX_MS)
            .set("isolation.level", "read_committed");
        let create = |config: &rdkafka::ClientConfig| {
            config.create().map_err(|source| Error::Failed {
                attempted: "creating a Kafka client".into(),
                source,
            })
        };
        let committed = create(&config)?;
        config.set("isolation.level", "read_uncommitted");
        Ok(Self {
            committed,
            everything: create(&config)?,
            brokers: settings.brokers.clone(),
            timeout,
        })
    }

    /// Returns the partitions of a topic.
    ///
    /// # Errors
    ///
    /// [`Error::NoTopic`], [`Error::Unreachable`].
    pub fn partitions(&self, topic: &str) -> Result<Vec<Partition>, Error> {
        let metadata = self
            .committed
            .fetch_metadata(Some(topic), self.timeout)
            .map_err(|source| self.failed("asking for the topic's partitions", source))?;
        let count = metadata
            .topics()
            .first()
            .map_or(0, |topic| topic.partitions().len());
        if count == 0 {
            return Err(Error::NoTopic { topic: topic.into() });
        }
        let numbers = 0..i32::try_from(count).unwrap_or(i32::MAX);
        Ok(numbers.filter_map(Partition::new).collect())
    }

    /// Returns where a partition begins and ends for a read-committed reader: the end is the last stable offset.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`], [`Error::Failed`].
    pub fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, Error> {
        self.watermarks(&self.committed, topic, partition)
    }

    /// Returns the high watermark: the end of everything written, in open transactions too.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`], [`Error::Failed`].
    pub fn high_watermark_offset(&self, topic: &str, partition: Partition) -> Result<Offset, Error> {
        Ok(self.watermarks(&self.everything, topic, partition)?.end)
    }

    fn watermarks(&self, client: &BaseConsumer, topic: &str, partition: Partition) -> Result<Bounds, Error> {
        let began = Instant::now();
        let (start, end) = loop {
            match client.fetch_watermarks(topic, partition.number(), self.timeout) {
                Ok(offsets) => break offsets,
                // Just after a topic was created or a leader moved: the client looks for the leader anew.
                Err(error) if is_between_leaders(&error) && began.elapsed() < self.timeout => {
                    self.partitions(topic)?;
                }
                Err(source) => return Err(self.failed("asking for the partition's offsets", source)),
            }
        };
        let known = |offset| Offset::new(offset).unwrap_or(Offset::ZERO);
        Ok(Bounds {
            start: known(start),
            end: known(end),
        })
    }

    /// Returns what the group committed for each partition; waits for transactions that are about to change it.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`], [`Error::Failed`].
    pub fn committed(
        &self,
        topic: &str,
        partitions: &[Partition],
    ) -> Result<Vec<Option<CommittedOffset>>, Error> {
        let mut wanted = TopicPartitionList::new();
        for partition in partitions {
            wanted.add_partition(topic, partition.number());
        }
        let answer = self
            .committed
            .committed_offsets(wanted, self.timeout.max(TRANSACTIONS_END))
            .map_err(|source| self.failed("asking for the group's offsets", source))?;
        let committed = |partition: &Partition| {
            let found = answer.find_partition(topic, partition.number())?;
            let offset = Offset::new(found.offset().to_raw()?)?;
            Some(CommittedOffset {
                offset,
                metadata: found.metadata().to_owned(),
            })
        };
        Ok(partitions.iter().map(committed).collect())
    }

    /// Finds for each partition the first record not older than `at`; the end where there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`], [`Error::Failed`].
    pub fn offsets_at(
        &self,
        topic: &str,
        partitions: &[Partition],
        at: Timestamp,
    ) -> Result<Vec<Offset>, Error> {
        let mut wanted = TopicPartitionList::new();
        for partition in partitions {
            wanted
                .add_partition_offset(
                    topic,
                    partition.number(),
                    rdkafka::Offset::Offset(at.as_millis().max(0)),
                )
                .map_err(|source| self.failed("asking for offsets by time", source))?;
        }
        let answer = self
            .committed
            .offsets_for_times(wanted, self.timeout)
            .map_err(|source| self.failed("asking for offsets by time", source))?;
        let find = |partition: &Partition| {
            let found = answer.find_partition(topic, partition.number());
            let offset = found
                .and_then(|found| found.offset().to_raw())
                .and_then(Offset::new);
            match offset {
                Some(offset) => Ok(offset),
                None => Ok(self.bounds(topic, *partition)?.end),
            }
        };
        partitions.iter().map(find).collect()
    }

    /// Reads a partition's committed records from `from` up to, not including, `to`.
    ///
    /// # Errors
    ///
    /// [`Error::Stalled`] when nothing comes for the timeout; [`Error::Failed`]; whatever `each` returns.
    pub fn read<E: From<Error>>(
        &self,
        topic: &str,
        partition: Partition,
        from: Offset,
        to: Offset,
        mut each: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if from >= to {
            return Ok(());
        }
        let mut at = from;
        let mut heard = Instant::now();
        self.assign(topic, &[(partition, from)])?;
        while at < to {
            match self.committed.poll(POLL) {
                Some(Ok(message)) => {
                    let record = Record(&message);
                    if record.offset() >= to {
                        break;
                    }
                    at = record.offset().next();
                    heard = Instant::now();
                    each(record)?;
                }
                // The end was a last stable offset: what still lies between is aborted, or says what was committed.
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) if passes(&error) => {}
                Some(Err(source)) => return Err(self.failed(&format!("reading {topic}"), source).into()),
                None => {}
            }
            if heard.elapsed() > self.timeout {
                return Err(Error::Stalled {
                    topic: topic.into(),
                    partition,
                    at,
                    end: to,
                    waited: self.timeout,
                }
                .into());
            }
        }
        self.assign(topic, &[])?;
        Ok(())
    }

    /// Reads several partitions as records come, until `each` breaks or `stop` is asked for.
    ///
    /// `each` gets `None` when a partition's end was reached, and with every poll that brought nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`]; whatever `each` returns. Brokers that are away are waited for.
    pub fn follow<E: From<Error>>(
        &self,
        topic: &str,
        from: &[(Partition, Offset)],
        stop: &Stop,
        mut each: impl FnMut(Step<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        self.assign(topic, from)?;
        while !stop.is_cancelled() {
            let flow = match self.committed.poll(POLL) {
                Some(Ok(message)) => each(Step::Record(Record(&message)))?,
                Some(Err(KafkaError::PartitionEOF(partition))) => match Partition::new(partition) {
                    Some(partition) => each(Step::End(partition))?,
                    None => ControlFlow::Continue(()),
                },
                Some(Err(error)) if passes(&error) => each(Step::Nothing)?,
                Some(Err(source)) => return Err(self.failed(&format!("reading {topic}"), source).into()),
                None => each(Step::Nothing)?,
            };
            if flow.is_break() {
                break;
            }
        }
        self.assign(topic, &[])?;
        Ok(())
    }

    fn assign(&self, topic: &str, from: &[(Partition, Offset)]) -> Result<(), Error> {
        let mut assignment = TopicPartitionList::new();
        for (partition, offset) in from {
            assignment
                .add_partition_offset(
                    topic,
                    partition.number(),
                    rdkafka::Offset::Offset(offset.number()),
                )
                .map_err(|source| self.failed("assigning partitions", source))?;
        }
        self.committed
            .assign(&assignment)
            .map_err(|source| self.failed("assigning partitions", source))
    }

    /// Sorts an error of the client: away, or anything else.
    fn failed(&self, attempted: &str, source: KafkaError) -> Error {
        if is_away(&source) {
            return Error::Unreachable {
                brokers: self.brokers.clone(),
                waited: self.timeout,
                source,
            };
        }
        Error::Failed {
            attempted: attempted.into(),
            source,
        }
    }
}

/// What following a topic meets.
pub enum Step<'a> {
    /// A record.
    Record(Record<'a>),
    /// The end of a partition as it is now.
    End(Partition),
    /// Nothing, for a tenth of a second.
    Nothing,
}

/// Tells whether an error means that no broker answers.
pub(super) fn is_away(error: &KafkaError) -> bool {
    // The one with a code that the crate does not give away.
    let code = if let KafkaError::AdminOp(code) = error {
        Some(*code)
    } else {
        error.rdkafka_error_code()
    };
    code.is_some_and(|code| {
        matches!(
            code,
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::Resolve
        )
    })
}

fn is_between_leaders(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable)
    )
}

/// Tells what a consumer reports and then goes on by itself.
fn passes(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumption(_)) && is_away(error)
}
