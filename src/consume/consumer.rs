//! One member of the consumer group.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{
    BaseConsumer, Consumer as _, ConsumerContext, ConsumerGroupMetadata, RebalanceProtocol,
};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::statistics::Statistics;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{ClientContext, Message as _, Offset as KafkaOffset, TopicPartitionList};

use super::source::{Committed, Input, Record, Source};
use super::unowned::Unowned;
use crate::kafka::{self, Class, ClientFacts, ErrorCounts, Reporter};
use crate::lifecycle::Exit;
use crate::model::{Offset, Partition, Timestamp};

/// How many records one batch holds at most: some milliseconds of work, so that deadlines are seen in time.
const BATCH_RECORDS_MAX: usize = 2_000;

/// How many bytes one batch holds at most, for the same reason when records are large.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// How long one question to the broker may take before it counts as not answered.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);

/// How often and how long it is polled for what came before a fatal error.
const POLLS_TO_TELL_MAX: u32 = 100;
const POLL_TO_TELL: Duration = Duration::from_millis(100);

/// How often a member of a classic group is heard: never more often, never less often.
const HEARTBEAT_MIN: Duration = Duration::from_millis(500);
const HEARTBEAT_MAX: Duration = Duration::from_secs(1);

/// Which protocol the group speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The protocol of all Kafka versions, with cooperative rebalances.
    Classic,
    /// KIP-848's, from Kafka 4.0.
    Consumer,
}

/// What a member of the group needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The topic read.
    pub topic: String,
    /// `group.id`.
    pub group: String,
    /// The group's protocol.
    pub protocol: GroupProtocol,
    /// `group.instance.id`; `None` for a dynamic member.
    pub instance_id: Option<String>,
    /// `session.timeout.ms`; with KIP-848 it is the broker's to set and this is not sent.
    pub session_timeout: Duration,
}

/// What went wrong, named for what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker did not answer: ask again.
    #[error("could not {attempt}")]
    Retry {
        /// What was attempted.
        attempt: &'static str,
        /// What the client said.
        source: KafkaError,
    },
    /// This member's hold on its partitions or positions is gone: rewind to the committed offsets.
    #[error("could not {attempt}: the positions held here no longer count")]
    Rewind {
        /// What was attempted.
        attempt: &'static str,
        /// What the client said.
        source: KafkaError,
    },
    /// The group has a new generation: what is ours comes with the rebalance. No error; until then as for `Rewind`.
    #[error("could not {attempt}: the group has a new generation")]
    Rebalanced {
        /// What was attempted.
        attempt: &'static str,
        /// What the client said.
        source: KafkaError,
    },
    /// The position is no longer in the log, and librdkafka reads no further from it: [`Consumer::unsubscribe`], and
    /// take the partition over anew.
    #[error("could not {attempt}: the position is not in the log any more")]
    Rejoin {
        /// What was attempted.
        attempt: &'static str,
        /// What the client said.
        source: KafkaError,
    },
    /// Another process has our group instance id: this one ends.
    #[error("could not {attempt}: another process has this group instance id")]
    Fenced {
        /// What was attempted.
        attempt: &'static str,
        /// What the client said.
        source: KafkaError,
    },
    /// Our session had ended, and what the client sent then was taken for another process's: this one ends, and joins anew.
    #[error(
        "could not {attempt}: the session of this member had ended, and its group took it for another process with \
         the same instance id"
    )]
    Expelled {
        /// What was attempted.
        attempt: &'static str,
        /// What the client said.
        source: KafkaError,
    },
    /// The group holds our instance id for the process before this one (KIP-848 only): this one ends, and is let in when
    /// that one's session has ended.
    #[error(
        "could not {attempt}: the group still holds this instance id for the process before; it is let in when that \
         session has ended (group.consumer.session.timeout.ms of the broker)"
    )]
    Unreleased {
        /// What was attempted.
        attempt: &'static str,
        /// What the client said.
        source: KafkaError,
    },
    /// The consumer cannot go on: the process ends.
    #[error("could not {attempt}: the consumer cannot go on")]
    Fatal {
        /// What was attempted.
        attempt: &'static str,
        /// What the client said.
        source: KafkaError,
    },
}

impl Error {
    /// Names what the client said for what is done about it.
    pub fn new(attempt: &'static str, class: Class, source: KafkaError) -> Self {
        match class {
            Class::Retriable => Self::Retry { attempt, source },
            Class::Rebalanced => Self::Rebalanced { attempt, source },
            Class::Abortable => Self::Rewind { attempt, source },
            Class::Unreleased => Self::Unreleased { attempt, source },
            Class::OutOfRange => Self::Rejoin { attempt, source },
            Class::Fenced => Self::Fenced { attempt, source },
            Class::Fatal => Self::Fatal { attempt, source },
        }
    }

    /// Makes the error of an answer that may be of a broker that no longer leads the partition: ask again.
    pub fn doubtful(attempt: &'static str) -> Self {
        let source = KafkaError::OffsetFetch(RDKafkaErrorCode::NotLeaderForPartition);
        Self::Retry { attempt, source }
    }

    /// Says whether the worker can go on, after what the error is named for.
    pub fn passes(&self) -> bool {
        match self {
            Self::Retry { .. } | Self::Rewind { .. } | Self::Rebalanced { .. } | Self::Rejoin { .. } => true,
            Self::Unreleased { .. } | Self::Expelled { .. } | Self::Fenced { .. } | Self::Fatal { .. } => {
                false
            }
        }
    }

    /// Says how the process ends for it, where it does not pass.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Retry { .. }
            | Self::Rewind { .. }
            | Self::Rebalanced { .. }
            | Self::Rejoin { .. }
            | Self::Expelled { .. }
            | Self::Unreleased { .. } => Exit::Outside,
            Self::Fenced { .. } => Exit::Fenced,
            Self::Fatal { .. } => Exit::Fatal,
        }
    }
}

/// One record, borrowed from the client's memory.
#[derive(Debug)]
pub struct Message<'c>(BorrowedMessage<'c>);

impl Record for Message<'_> {
    fn partition(&self) -> Partition {
        Partition::new(self.0.partition()).expect("a consumed record has a partition")
    }

    fn offset(&self) -> Offset {
        Offset::new(self.0.offset()).expect("a consumed record has an offset")
    }

    fn log_time(&self) -> Option<Timestamp> {
        self.0.timestamp().to_millis().map(Timestamp::from_millis)
    }

    fn key(&self) -> Option<&[u8]> {
        self.0.key()
    }

    fn value(&self) -> Option<&[u8]> {
        self.0.payload()
    }
}

/// One member of the consumer group, used by one thread.
pub struct Consumer {
    client: BaseConsumer<Context>,
    topic: String,
    facts: Arc<ClientFacts>,
    errors: ErrorCounts,
    unowned: Unowned,
    /// Partitions were lost, and none assigned since.
    is_out: Cell<bool>,
    /// The number of the last finding that was told.
    unowned_told: Cell<u64>,
    /// What came up behind the records of a batch that was handed out first.
    next: RefCell<VecDeque<Input<Message<'static>>>>,
}

/// Takes rebalances down instead of performing them: the worker answers them in its own time.
struct Context {
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// Nobody will answer any more: partitions are given back on the spot, or dropping the client would hang.
    dropped: AtomicBool,
    /// The error that `poll` returns next is the brokers' refusal of our credentials.
    denied: AtomicBool,
    facts: Arc<ClientFacts>,
    log: kafka::ClientLog,
}

#[derive(Debug)]
enum Rebalance {
    Assign(Vec<Partition>),
    Revoke { partitions: Vec<Partition>, lost: bool },
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.line(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.facts.record(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Each comes out of `poll` as well, next, where the worker says what it does about it; here are the client's words.
        let denied = kafka::is_brokers_refusal(&error, reason);
        self.denied.store(denied, Ordering::Relaxed);
        tracing::debug!(%error, reason, "the consumer reports an error");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.dropped.load(Ordering::Relaxed) {
            give_everything_back(consumer);
            return;
        }
        let partitions = list
            .elements()
            .iter()
            .filter_map(|element| Partition::new(element.partition()))
            .collect();
        let rebalance = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            Rebalance::Assign(partitions)
        } else {
            Rebalance::Revoke {
                partitions,
                lost: consumer.assignment_lost(),
            }
        };
        self.rebalances
            .lock()
            .expect("no one panics while holding the rebalances")
            .push_back(rebalance);
    }
}

impl Consumer {
    /// Joins the group; partitions arrive as [`Input::Assigned`].
    ///
    /// # Errors
    ///
    /// [`Error::Fatal`] when the settings are refused by the client.
    pub fn join(
        connection: &kafka::Settings,
        settings: &Settings,
        errors: ErrorCounts,
        unowned: Unowned,
    ) -> Result<Self, Error> {
        let facts = Arc::default();
        let context = Context {
            rebalances: Mutex::default(),
            dropped: AtomicBool::new(false),
            denied: AtomicBool::new(false),
            facts: Arc::clone(&facts),
            log: kafka::ClientLog::default(),
        };
        let attempt = "set up the consumer";
        let client = BaseConsumer::from_config_and_context(&client_config(connection, settings), context)
            .map_err(|source| Error::new(attempt, kafka::classify(&source), source))?;
        kafka::await_connection(client.client(), &settings.topic);
        let consumer = Self {
            client,
            topic: settings.topic.clone(),
            facts,
            errors,
            unowned,
            is_out: Cell::default(),
            unowned_told: Cell::default(),
            next: RefCell::default(),
        };
        consumer.subscribe()?;
        Ok(consumer)
    }

    fn error(&self, attempt: &'static str, source: KafkaError) -> Error {
        self.classified(attempt, kafka::classify(&source), source)
    }

    fn classified(&self, attempt: &'static str, class: Class, source: KafkaError) -> Error {
        self.errors.count(Reporter::Consumer, class);
        Error::new(attempt, class, source)
    }

    /// Makes the error of a poll.
    ///
    /// A failed authentication passes unless the brokers say it: the client gives that code to a connection that was lost in the
    /// middle of one, too, and to a token that its source did not give.
    ///
    /// librdkafka 2.12 forgets its member id when its session ends without an answer from the group. A heartbeat that it sends
    /// then as a static member, with no member id, the group takes for another process with the same instance id.
    fn poll_error(&self, source: KafkaError) -> Error {
        let said = self.client.context().denied.swap(false, Ordering::Relaxed);
        let error = self.classified("read", class_of_poll(&source, said), source);
        if let Error::Fenced { attempt, source } = error {
            return fenced_or_expelled(attempt, source, self.has_lost_all());
        }
        error
    }

    /// Says whether all partitions were lost and none is back, as far as the client has told.
    fn has_lost_all(&self) -> bool {
        let rebalances = self.client.context().rebalances.lock();
        let waiting = rebalances.expect("no one panics while holding the rebalances");
        let is_loss = |rebalance: &Rebalance| matches!(rebalance, Rebalance::Revoke { lost: true, .. });
        self.is_out.get() || waiting.iter().any(is_loss)
    }

    /// Says whether all partitions were lost before the client was told that another process has our instance id. Both stand
    /// behind what was not polled yet, which counts nothing any more.
    fn had_lost_all(&self) -> bool {
        for _ in 0..POLLS_TO_TELL_MAX {
            let told = self.client.poll(POLL_TO_TELL);
            if self.has_lost_all() {
                return true;
            }
            match told {
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) if kafka::classify(&error) != Class::Fenced => {}
                Some(Err(_)) | None => break,
            }
        }
        false
    }

    /// Makes the error of a rebalance that cannot be answered: whatever the client says, there is no other answer.
    fn fatal(&self, attempt: &'static str, source: KafkaError) -> Error {
        self.errors.count(Reporter::Consumer, Class::Fatal);
        Error::Fatal { attempt, source }
    }

    fn next_rebalance(&self) -> Option<Input<Message<'static>>> {
        let context = self.client.context();
        let next = context
            .rebalances
            .lock()
            .expect("no one panics while holding the rebalances")
            .pop_front();
        if let Some(rebalance) = &next {
            self.is_out
                .set(matches!(rebalance, Rebalance::Revoke { lost: true, .. }));
        }
        next.map(|rebalance| match rebalance {
            Rebalance::Assign(partitions) => Input::Assigned(partitions),
            Rebalance::Revoke {
                partitions,
                lost: false,
            } => Input::Revoked(partitions),
            Rebalance::Revoke {
                partitions,
                lost: true,
            } => Input::Lost(partitions),
        })
    }

    fn list(&self, partitions: &[Partition]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.topic, partition.number());
        }
        list
    }

    fn positioned(&self, positions: &[(Partition, Offset)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (partition, offset) in positions {
            list.add_partition_offset(
                &self.topic,
                partition.number(),
                KafkaOffset::Offset(offset.number()),
            )
            .expect("an offset of ours is a plain number");
        }
        list
    }
}

impl Source for Consumer {
    type Record<'c> = Message<'c>;
    type Group = ConsumerGroupMetadata;

    fn subscribe(&self) -> Result<(), Error> {
        self.client
            .subscribe(&[&self.topic])
            .map_err(|source| self.error("subscribe", source))
    }

    fn unsubscribe(&self) {
        self.client.unsubscribe();
    }

    fn poll(&self, wait: Duration) -> Input<Message<'_>> {
        if let Some(input) = self.next.borrow_mut().pop_front() {
            return input;
        }
        if let Some(input) = self.next_rebalance() {
            return input;
        }
        let mut records = Vec::new();
        let mut bytes = 0;
        // Up to whole milliseconds: rdkafka asks librdkafka for no finer ones, and waits for the rest in a busy loop.
        let mut wait = Duration::from_millis(wait.as_micros().div_ceil(1_000).try_into().unwrap_or(u64::MAX));
        while records.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX {
            match self.client.poll(wait) {
                Some(Ok(message)) => {
                    bytes += message.payload_len();
                    records.push(Message(message));
                }
                Some(Err(KafkaError::PartitionEOF(number))) => {
                    let partition = Partition::new(number).expect("a log ends in a partition");
                    self.next.borrow_mut().push_back(Input::LogEnd(partition));
                    break;
                }
                Some(Err(error)) => {
                    self.next
                        .borrow_mut()
                        .push_back(Input::Error(self.poll_error(error)));
                    break;
                }
                None => break,
            }
            wait = Duration::ZERO;
        }
        if !records.is_empty() {
            return Input::Batch(records);
        }
        let next = self.next.borrow_mut().pop_front();
        next.or_else(|| self.next_rebalance()).unwrap_or(Input::Nothing)
    }

    fn committed(&self, partitions: &[Partition]) -> Result<Vec<Committed>, Error> {
        let committed = self
            .client
            .committed_offsets(self.list(partitions), QUESTION_TIMEOUT)
            .map_err(|source| self.error("fetch the committed offsets", source))?;
        let mut answers = Vec::with_capacity(partitions.len());
        for element in committed.elements() {
            element
                .error()
                .map_err(|source| self.error("fetch a committed offset", source))?;
            let (start, end) = self
                .client
                .fetch_watermarks(&self.topic, element.partition(), QUESTION_TIMEOUT)
                .map_err(|source| self.error("ask where a log begins", source))?;
            answers.push(Committed {
                partition: Partition::new(element.partition()).expect("we asked for a partition"),
                offset: match element.offset() {
                    KafkaOffset::Offset(number) => Offset::new(number),
                    KafkaOffset::Beginning
                    | KafkaOffset::End
                    | KafkaOffset::Stored
                    | KafkaOffset::Invalid
                    | KafkaOffset::OffsetTail(_) => None,
                },
                metadata: element.metadata().to_owned(),
                log_start: Offset::new(start).unwrap_or(Offset::ZERO),
                log_end: Offset::new(end).unwrap_or(Offset::ZERO),
            });
        }
        Ok(answers)
    }

    fn start(&self, positions: &[(Partition, Offset)]) -> Result<(), Error> {
        let list = self.positioned(positions);
        let started = match self.client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.client.incremental_assign(&list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => self.client.assign(&list),
        };
        started.map_err(|source| self.fatal("take partitions over", source))
    }

    fn release(&self, partitions: &[Partition]) -> Result<(), Error> {
        let released = match self.client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.client.incremental_unassign(&self.list(partitions)),
            RebalanceProtocol::Eager | RebalanceProtocol::None => self.client.unassign(),
        };
        released.map_err(|source| self.fatal("give partitions back", source))
    }

    fn rewind(&self, positions: &[(Partition, Offset)]) -> Result<(), Error> {
        let sought = self
            .client
            .seek_partitions(self.positioned(positions), QUESTION_TIMEOUT)
            .map_err(|source| self.error("rewind", source))?;
        for element in sought.elements() {
            element
                .error()
                .map_err(|source| self.error("rewind a partition", source))?;
        }
        self.next
            .borrow_mut()
            .retain(|input| !matches!(input, Input::LogEnd(_)));
        Ok(())
    }

    fn group_metadata(&self) -> Option<ConsumerGroupMetadata> {
        let metadata = self.client.group_metadata();
        // Asked after: what is lost between the two questions is named by the metadata still.
        if self.client.assignment_lost() {
            None
        } else {
            metadata
        }
    }

    fn close(&self) -> Result<(), Error> {
        self.client.close_queue().map_err(|source| {
            let error = self.error("leave the group", source);
            if let Error::Fenced { attempt, source } = error {
                return fenced_or_expelled(attempt, source, self.had_lost_all());
            }
            error
        })
    }

    fn is_closed(&self) -> bool {
        self.client.closed()
    }

    fn log_end(&self, partition: Partition) -> Option<i64> {
        self.facts.log_end(&self.topic, partition.number())
    }

    fn unowned(&self) -> Option<Partition> {
        let found = self.unowned.last();
        (self.unowned_told.replace(found.number) != found.number)
            .then_some(found.partition)
            .flatten()
    }

    fn is_disconnected(&self) -> bool {
        self.facts.is_disconnected()
    }
}

/// Lets the client leave without a worker: its own drop waits until the last revocation is answered.
impl Drop for Consumer {
    fn drop(&mut self) {
        self.client.context().dropped.store(true, Ordering::Relaxed);
        give_everything_back(&self.client);
    }
}

/// Sorts what a poll returned; `said`: the brokers themselves refused our credentials.
fn class_of_poll(source: &KafkaError, said: bool) -> Class {
    let is_authentication = source.rdkafka_error_code() == Some(RDKafkaErrorCode::Authentication);
    if is_authentication && !said {
        Class::Retriable
    } else {
        kafka::classify(source)
    }
}

fn give_everything_back(consumer: &BaseConsumer<Context>) {
    let given_back = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer
            .assignment()
            .and_then(|assignment| consumer.incremental_unassign(&assignment)),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    };
    if let Err(error) = given_back {
        // Nothing is done about it: the client is dropped next, and what it still holds moves when its session ends.
        tracing::debug!(%error, "could not give partitions back while leaving");
    }
}

fn client_config(connection: &kafka::Settings, settings: &Settings) -> rdkafka::ClientConfig {
    let mut config = connection.client_config();
    config
        .set("group.id", &settings.group)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A position that is gone is an error we answer, never a silent jump to an end of the log.
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("statistics.interval.ms", "1000")
        // What is read ahead is memory: 16 MiB a worker holds some 8,000 events of 2 KB, 30 ms of work.
        .set("queued.max.messages.kbytes", "16384")
        // Once that much is read ahead, a partition is not asked again for this long; the default is a whole second.
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.error.backoff.ms", "50");
    match settings.protocol {
        GroupProtocol::Classic => config
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", assignor(settings))
            .set(
                "session.timeout.ms",
                settings.session_timeout.as_millis().to_string(),
            )
            .set(
                "heartbeat.interval.ms",
                heartbeat_interval(settings).as_millis().to_string(),
            ),
        GroupProtocol::Consumer => config.set("group.protocol", "consumer"),
    };
    if let Some(instance_id) = &settings.instance_id {
        config.set("group.instance.id", instance_id);
    }
    config
}

/// Chooses how often a member of a classic group is heard.
///
/// It hears of a rebalance only in the answer, and a rebalance waits for the last member to hear of it: each restart of a
/// dynamic member costs up to an interval of silence. At a second that is little, and so is the coordinator's work.
fn heartbeat_interval(settings: &Settings) -> Duration {
    (settings.session_timeout / 6).clamp(HEARTBEAT_MIN, HEARTBEAT_MAX)
}

/// Chooses how the members of a classic group share the partitions.
///
/// Dynamic members keep what they have across a rebalance. Static ones give everything back before each: librdkafka
/// 2.12 does not look at the session timeout while it rejoins, and a static member that was removed in the meantime is
/// let in again without a word (a dynamic one is asked to join with a new id, which counts as lost). Were it to keep its
/// partitions, two members would hold them in a valid generation. A static member's restart causes no rebalance, so it
/// costs little.
fn assignor(settings: &Settings) -> &'static str {
    if settings.instance_id.is_some() {
        "range"
    } else {
        "cooperative-sticky"
    }
}

/// Whose session had ended is told that another process has its instance id, too: what it sent then was taken for another's.
fn fenced_or_expelled(attempt: &'static str, source: KafkaError, was_out: bool) -> Error {
    if was_out {
        Error::Expelled { attempt, source }
    } else {
        Error::Fenced { attempt, source }
    }
}

#[expect(clippy::missing_fields_in_debug, reason = "the client has no readable form")]
impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("topic", &self.topic).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_member_hears_of_a_rebalance_within_a_second() {
        let connection = kafka::Settings {
            brokers: "localhost:1".to_owned(),
            client_id: "test".to_owned(),
            properties: BTreeMap::new(),
        };
        for (session_s, interval_ms) in [(1, "500"), (4, "666"), (20, "1000"), (1_800, "1000")] {
            let settings = Settings {
                topic: "front.events".to_owned(),
                group: "group".to_owned(),
                protocol: GroupProtocol::Classic,
                instance_id: None,
                session_timeout: Duration::from_secs(session_s),
            };
            let config = client_config(&connection, &settings);
            assert_eq!(config.get("heartbeat.interval.ms"), Some(interval_ms));
        }
    }

    #[test]
    fn an_authentication_that_failed_on_its_way_passes() {
        let failed = KafkaError::MessageConsumption(RDKafkaErrorCode::Authentication);
        assert_eq!(class_of_poll(&failed, true), Class::Fatal, "the brokers said it");
        assert_eq!(class_of_poll(&failed, false), Class::Retriable);
        let denied = KafkaError::MessageConsumption(RDKafkaErrorCode::GroupAuthorizationFailed);
        assert_eq!(class_of_poll(&denied, false), Class::Fatal);
    }
}
