//! Does what the protocol decides, with one transactional producer.

use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::statistics::Statistics;
use rdkafka::{ClientContext, Offset as KafkaOffset, TopicPartitionList};

use super::protocol::{Action, Fact};
use super::transact::{DeadLetter, Error, Failed, Steps, Transaction};
use super::{Metrics, Watchdog};
use crate::kafka::{self, Class, ClientFacts, ErrorCounts, Reporter, TopicNames};
use crate::lifecycle::Instant;
use crate::observe::{Outage, causes};
use crate::wire::{Encoding, checkpoint_v1, headers, refresh_v1};

/// How long the wait for deliveries sleeps before it looks again.
///
/// Source: design section 7. `flush` waits a whole poll of 100 ms; looking often costs some 10 ms a transaction. Not by
/// `poll` with a timeout: `BaseProducer::poll` (rdkafka 0.39) goes on until its time is up, whatever comes, and asks
/// librdkafka for what is left in whole milliseconds, so the last one is a busy loop. One of 1 ms is nothing else: it was
/// nine tenths of the process's CPU at 2,000 events a second.
const DELIVERY_PAUSE: Duration = Duration::from_micros(500);

/// How long a record may take to be delivered, as a part of the transaction timeout: with half of it left, the abort reaches
/// the coordinator before that ends the transaction by itself, which costs this producer its life.
const DELIVERY_PART: u32 = 2;

/// How long one question to commit or to abort waits for its answer at most, see
/// [`ANSWER_ATTEMPTS_MAX`](super::protocol::ANSWER_ATTEMPTS_MAX).
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// The pause before a step's second try; it doubles with each further one, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long one call of the abort waits before delivery reports are served again.
///
/// A call that gives up before librdkafka's main thread has begun the abort leaves that thread's answer behind, for the
/// next call to mistake for its own: so it is longer than that thread is busy with anything else.
const ABORT_SLICE: Duration = Duration::from_millis(200);

/// How often an abort that is refused for the transaction's state is asked for again: each call takes the answers that
/// an earlier one left behind, and there are few.
const OUT_OF_STATE_MAX: u32 = 10;

/// The largest that librdkafka can be told: what fits is the topics' affair.
///
/// A dead letter is as large as the record that it was, and that is up to another topic and another process's settings.
/// One that the client refused by itself would stop its partition for good.
const RECORD_BYTES_MAX: &str = "1000000000";

/// What a transactional producer needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The topics written to and the one whose offsets are committed.
    pub topics: TopicNames,
    /// `transactional.id`: stable per pod and worker, or random where no instance id is configured.
    pub transactional_id: String,
    /// `transaction.timeout.ms`, and how long the steps before the commit may take together.
    pub transaction_timeout: Duration,
    /// The broker's `offset.metadata.max.bytes`.
    pub metadata_bytes_max: usize,
    /// How values of `front.refresh` are framed.
    pub encoding: Encoding,
}

/// One transactional producer, used by one thread.
pub struct Emitter {
    client: BaseProducer<Context>,
    settings: Settings,
    metrics: Metrics,
    errors: ErrorCounts,
    /// When the transaction that is open was begun.
    began: Cell<Instant>,
    /// Steps that fail and are tried again.
    trouble: Outage,
    watchdog: Watchdog,
}

/// Keeps the first failed delivery of the transaction that is open.
struct Context {
    failed: Mutex<Option<KafkaError>>,
    facts: Arc<ClientFacts>,
    log: kafka::ClientLog,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.line(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.facts.record(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Not a warning: brokers that are away come twenty times a second here, and late, with the next delivery reports.
        // The consumer says that they are away; what fails a transaction is told by the call that it fails.
        tracing::debug!(%error, reason, "the transactional producer reports an error and goes on");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut failed = self
                .failed
                .lock()
                .expect("no one panics while holding the failure");
            failed.get_or_insert_with(|| error.clone());
        }
    }
}

impl Emitter {
    /// Sets the producer up; [`Emitter::init`] must succeed before the first transaction.
    ///
    /// # Errors
    ///
    /// [`Error::Fatal`] when the settings are refused by the client.
    pub fn new(
        connection: &kafka::Settings,
        settings: Settings,
        metrics: Metrics,
        errors: ErrorCounts,
    ) -> Result<Self, Error> {
        let delivery_ms = (settings.transaction_timeout / DELIVERY_PART)
            .as_millis()
            .to_string();
        let mut config = connection.client_config();
        config
            .set("transactional.id", &settings.transactional_id)
            .set(
                "transaction.timeout.ms",
                settings.transaction_timeout.as_millis().to_string(),
            )
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // A transaction is one burst that is complete when it is handed over: nothing to linger for.
            .set("linger.ms", "0")
            .set("message.max.bytes", RECORD_BYTES_MAX)
            // A record in flight is given up with its request: an abort waits for both.
            .set("message.timeout.ms", &delivery_ms)
            .set("socket.timeout.ms", &delivery_ms)
            .set("statistics.interval.ms", "1000");
        let context = Context {
            failed: Mutex::default(),
            facts: Arc::default(),
            log: kafka::ClientLog::default(),
        };
        let client =
            BaseProducer::from_config_and_context(&config, context).map_err(|source| Error::Fatal {
                step: "set up the transactional producer",
                source,
            })?;
        Ok(Self {
            client,
            settings,
            metrics,
            errors,
            began: Cell::new(Instant::now()),
            trouble: Outage::default(),
            watchdog: Watchdog::default(),
        })
    }

    /// Tells `watchdog` of the calls that may not come back.
    #[must_use]
    pub fn watched_by(mut self, watchdog: Watchdog) -> Self {
        self.watchdog = watchdog;
        self
    }

    /// Takes the transactional id over: fences its former owner and ends what that one left open.
    ///
    /// # Errors
    ///
    /// `Ok(false)` when no coordinator answered within `wait`: call again. Errors end the process.
    pub fn init(&self, wait: Duration) -> Result<bool, Error> {
        let step = "take over the transactional id";
        kafka::await_connection(self.client.client(), &self.settings.topics.refresh);
        let Err(source) = self.client.init_transactions(wait) else {
            self.goes_on();
            return Ok(true);
        };
        let class = kafka::classify(&source);
        self.errors.count(Reporter::Producer, class);
        match class {
            Class::Retriable => {
                self.say_retry(step, &source);
                Ok(false)
            }
            Class::Fenced => Err(Error::Fenced { step, source }),
            Class::Rebalanced | Class::Abortable | Class::OutOfRange | Class::Unreleased | Class::Fatal => {
                Err(Error::Fatal { step, source })
            }
        }
    }

    fn begin(&self) -> Result<(), KafkaError> {
        let context = self.client.context();
        *context
            .failed
            .lock()
            .expect("no one panics while holding the failure") = None;
        self.metrics.queue_fill.set(context.facts.queue_fill());
        self.began.set(Instant::now());
        self.client.begin_transaction()
    }

    fn send(&self, transaction: &Transaction) -> Result<(), KafkaError> {
        let mut value = Vec::with_capacity(512);
        for refresh in &transaction.refreshes {
            value.clear();
            refresh_v1::write(&mut value, self.settings.encoding, refresh);
            self.metrics
                .bytes
                .with_label_values(&["refresh"])
                .inc_by(value.len() as f64);
            let key = refresh.conversation.as_str().as_bytes();
            let headers = headers::of_refresh(refresh).fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: Some(value.as_bytes()),
                })
            });
            self.send_record(
                BaseRecord::<[u8], [u8]>::to(&self.settings.topics.refresh)
                    .partition(refresh.partition.number())
                    .key(key)
                    .payload(&value)
                    .headers(headers),
            )?;
        }
        for letter in &transaction.dead_letters {
            self.send_dead_letter(letter)?;
        }
        Ok(())
    }

    fn send_dead_letter(&self, letter: &DeadLetter) -> Result<(), KafkaError> {
        let length = letter.value.as_ref().map_or(0, Vec::len);
        self.metrics
            .bytes
            .with_label_values(&["dead_letter"])
            .inc_by(length as f64);
        let (partition, offset) = (letter.partition.to_string(), letter.offset.to_string());
        let run = headers::run_text(letter.run);
        let origin = [
            (headers::REASON, letter.reason.as_str()),
            (headers::ORIGIN_TOPIC, self.settings.topics.events.as_str()),
            (headers::ORIGIN_PARTITION, partition.as_str()),
            (headers::ORIGIN_OFFSET, offset.as_str()),
            (headers::ORIGIN_RUN, run.as_str()),
        ];
        let headers = origin
            .into_iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: Some(value.as_bytes()),
                })
            });
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.settings.topics.dead_letters).headers(headers);
        if let Some(key) = &letter.key {
            record = record.key(key);
        }
        if let Some(value) = &letter.value {
            record = record.payload(value);
        }
        self.send_record(record)
    }

    /// Hands one record over; while the producer's queue is full, serves deliveries until there is room.
    fn send_record(&self, record: BaseRecord<'_, [u8], [u8]>) -> Result<(), KafkaError> {
        let mut record = record;
        loop {
            match self.client.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent))
                    if !self.left().is_zero() =>
                {
                    record = unsent;
                    self.serve_deliveries();
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    fn await_deliveries(&self, timeout: Duration) -> Result<(), KafkaError> {
        if self.await_no_record_in_flight(timeout).is_err() {
            // librdkafka gives a record up before: one that it says nothing of is counted as given up too.
            return Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut));
        }
        match self
            .client
            .context()
            .failed
            .lock()
            .expect("no one panics while holding the failure")
            .take()
        {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Asks why a record failed that failed only with its transaction.
    ///
    /// A transaction that has failed refuses every call but its abort with what made it fail. To begin one while one is
    /// open is such a call, and has no other effect.
    ///
    /// Source: librdkafka 2.12.1, `rd_kafka_txn_require_states0`.
    fn cause(&self, error: KafkaError) -> KafkaError {
        if !kafka::is_consequence(&error) {
            return error;
        }
        match self.client.begin_transaction() {
            Err(cause) if !kafka::is_out_of_state(&cause) => cause,
            Ok(()) | Err(_) => error,
        }
    }

    /// Aborts, serving the delivery reports in between: they are events here, and librdkafka's abort waits for them
    /// without serving them.
    ///
    /// What is queued is librdkafka's to purge, for only its own purge keeps the sequence numbers whole; what is in
    /// flight is waited for. Purged, it could arrive when the next transaction of the same epoch is open, and be
    /// committed with that one.
    fn abort(&self, timeout: Duration) -> Result<(), KafkaError> {
        let began = Instant::now();
        until_aborted(
            || self.client.abort_transaction(ABORT_SLICE),
            || {
                self.serve_deliveries();
                while self.serve_delivery() {}
                began.elapsed() < timeout
            },
        )
    }

    fn await_no_record_in_flight(&self, timeout: Duration) -> Result<(), KafkaError> {
        let began = Instant::now();
        while self.client.in_flight_count() > 0 {
            if began.elapsed() > timeout {
                return Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut));
            }
            self.serve_deliveries();
        }
        Ok(())
    }

    /// Returns what the transaction that is open has left of its time.
    fn left(&self) -> Duration {
        self.settings
            .transaction_timeout
            .saturating_sub(self.began.get().elapsed())
    }

    fn say_retry(&self, step: &str, error: &KafkaError) {
        if let Some(left_out) = self.trouble.failed(Instant::now()) {
            tracing::warn!(
                transactional_id = self.settings.transactional_id,
                step,
                error = %causes(error),
                left_out,
                "a step of the transactional producer fails: tries it again, nothing is lost"
            );
        }
    }

    fn goes_on(&self) {
        if let Some(over) = self.trouble.over(Instant::now()) {
            tracing::info!(
                transactional_id = self.settings.transactional_id,
                after = ?over.lasted,
                failures = over.failures,
                "the transactional producer goes on"
            );
        }
    }

    /// Takes one delivery report, or sleeps a little when there is none.
    fn serve_deliveries(&self) {
        if !self.serve_delivery() {
            std::thread::park_timeout(DELIVERY_PAUSE);
        }
    }

    /// Takes one delivery report; `false` when there is none.
    fn serve_delivery(&self) -> bool {
        let before = self.client.in_flight_count();
        self.client.poll(Duration::ZERO);
        self.client.in_flight_count() < before
    }

    fn offsets(&self, transaction: &Transaction) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(transaction.checkpoints.len());
        for (partition, checkpoint) in &transaction.checkpoints {
            let mut element = list.add_partition(&self.settings.topics.events, partition.number());
            let offset = checkpoint.committed_offset().number();
            element
                .set_offset(KafkaOffset::Offset(offset))
                .expect("an offset of ours is a plain number");
            element.set_metadata(checkpoint_v1::encode(
                checkpoint,
                self.settings.metadata_bytes_max,
            ));
        }
        list
    }
}

impl Steps for Emitter {
    type Group = ConsumerGroupMetadata;

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn perform(
        &self,
        action: Action,
        transaction: &Transaction,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), Failed> {
        let timeout = self.settings.transaction_timeout;
        let performed = match action {
            Action::Begin => self.begin(),
            Action::Send => self.send(transaction).map_err(|error| self.cause(error)),
            Action::AwaitDeliveries => self
                .await_deliveries(self.left())
                .map_err(|error| self.cause(error)),
            Action::SendOffsets => {
                let _watched = self.watchdog.guard(self.left());
                self.client
                    .send_offsets_to_transaction(&self.offsets(transaction), group, self.left())
            }
            Action::Commit => self.client.commit_transaction(timeout.min(ANSWER_WAIT_MAX)),
            Action::Abort => self.abort(timeout.min(ANSWER_WAIT_MAX)),
            Action::Done | Action::Rewind | Action::Exit(_) => Ok(()),
        };
        if performed.is_ok() && matches!(action, Action::Commit | Action::Abort) {
            self.goes_on();
        }
        performed.map_err(|source| {
            let class = class(&source);
            self.errors.count(Reporter::Producer, class);
            Failed {
                fact: fact(action, class, &source, self.left()),
                source,
            }
        })
    }

    fn before_retry(&self, step: &'static str, attempts: u32, error: &KafkaError) {
        self.say_retry(step, error);
        let pause = pause_after(attempts);
        let began = Instant::now();
        while began.elapsed() < pause {
            // The deliveries of a transaction that is aborted come in meanwhile.
            self.serve_deliveries();
        }
    }
}

/// Returns how long to wait after so many tries of a step.
fn pause_after(attempts: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << attempts.min(10)).min(PAUSE_MAX)
}

/// Asks for the abort until it is answered with more than "not yet"; `wait` comes between two calls, and says whether
/// there is time for another.
fn until_aborted(
    mut ask: impl FnMut() -> Result<(), KafkaError>,
    mut wait: impl FnMut() -> bool,
) -> Result<(), KafkaError> {
    let mut out_of_state = 0;
    loop {
        let Err(error) = ask() else { return Ok(()) };
        let is_open = if kafka::classify(&error) == Class::Retriable {
            true
        } else {
            out_of_state += u32::from(kafka::is_out_of_state(&error));
            kafka::is_out_of_state(&error) && out_of_state <= OUT_OF_STATE_MAX
        };
        if !is_open || !wait() {
            return Err(error);
        }
    }
}

/// Sorts what the client said of a step.
fn class(error: &KafkaError) -> Class {
    let class = kafka::classify(error);
    // A record that was refused or not delivered is missing: whatever the code, the rest must not be committed.
    // Where it is refused for good, so is the next transaction: the process ends.
    let ends = class == Class::Fenced || kafka::is_denied(error);
    if matches!(error, KafkaError::MessageProduction(_)) && !ends {
        Class::Abortable
    } else {
        class
    }
}

/// Tells the protocol what an error means for the transaction that is open and has so much time `left`.
fn fact(action: Action, class: Class, error: &KafkaError, left: Duration) -> Fact {
    let before_commit = !matches!(action, Action::Commit | Action::Abort);
    match class {
        // Trying on would only meet the coordinator's own time limit.
        Class::Retriable if before_commit && left.is_zero() => Fact::Abortable,
        Class::Retriable => Fact::Retriable,
        Class::Rebalanced | Class::Abortable | Class::OutOfRange | Class::Unreleased => Fact::Abortable,
        Class::Fenced | Class::Fatal if left.is_zero() && kafka::may_have_expired(error) => Fact::Expired,
        Class::Fatal if kafka::has_no_transaction(error) => Fact::Expired,
        Class::Fenced => Fact::Fenced,
        Class::Fatal => Fact::Fatal,
    }
}

#[expect(clippy::missing_fields_in_debug, reason = "the client has no readable form")]
impl std::fmt::Debug for Emitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emitter")
            .field("settings", &self.settings)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use RDKafkaErrorCode as Code;

    use super::super::protocol::{ANSWER_ATTEMPTS_MAX, ATTEMPTS_MAX};

    type Made = fn(Code) -> KafkaError;
    const PRODUCED: Made = KafkaError::MessageProduction;
    const CALLED: Made = KafkaError::Flush;

    /// What fails how, and what that means for a transaction with time left, and for one without.
    #[rustfmt::skip]
    const CASES: [(Action, Made, Code, Fact, Fact); 17] = [
        // A record that is missing: never commit the rest.
        (Action::AwaitDeliveries, PRODUCED, Code::MessageTimedOut, Fact::Abortable, Fact::Abortable),
        (Action::AwaitDeliveries, PRODUCED, Code::PurgeQueue, Fact::Abortable, Fact::Abortable),
        (Action::Send, PRODUCED, Code::QueueFull, Fact::Abortable, Fact::Abortable),
        (Action::Send, PRODUCED, Code::MessageSizeTooLarge, Fact::Abortable, Fact::Abortable),
        (Action::Send, PRODUCED, Code::TopicAuthorizationFailed, Fact::Fatal, Fact::Fatal),
        // Who refuses us: another process, or a coordinator that had the time to end the transaction.
        (Action::AwaitDeliveries, PRODUCED, Code::InvalidProducerEpoch, Fact::Fenced, Fact::Expired),
        (Action::Abort, CALLED, Code::Fenced, Fact::Fenced, Fact::Expired),
        (Action::Commit, CALLED, Code::ProducerFenced, Fact::Fenced, Fact::Expired),
        (Action::Commit, CALLED, Code::FencedInstanceId, Fact::Fenced, Fact::Fenced),
        // Passing: tried again as long as the transaction has time, and from the commit on in any case.
        (Action::SendOffsets, CALLED, Code::OperationTimedOut, Fact::Retriable, Fact::Abortable),
        (Action::Begin, CALLED, Code::BrokerTransportFailure, Fact::Retriable, Fact::Abortable),
        (Action::Commit, CALLED, Code::OperationTimedOut, Fact::Retriable, Fact::Retriable),
        (Action::Abort, CALLED, Code::OperationTimedOut, Fact::Retriable, Fact::Retriable),
        // The group went on without us.
        (Action::SendOffsets, CALLED, Code::IllegalGeneration, Fact::Abortable, Fact::Abortable),
        (Action::SendOffsets, CALLED, Code::StaleMemberEpoch, Fact::Abortable, Fact::Abortable),
        // For good.
        (Action::SendOffsets, CALLED, Code::GroupAuthorizationFailed, Fact::Fatal, Fact::Fatal),
        (Action::Commit, CALLED, Code::Fatal, Fact::Fatal, Fact::Fatal),
    ];

    #[test]
    fn an_error_means_so_much_for_the_transaction() {
        for (action, error, code, in_time, too_late) in CASES {
            let error = error(code);
            let class = class(&error);
            let meant = |left| fact(action, class, &error, left);
            assert_eq!(meant(Duration::from_secs(1)), in_time, "{action:?}: {error}");
            assert_eq!(meant(Duration::ZERO), too_late, "{action:?}, too late: {error}");
        }
    }

    /// What docs/failures.md says of the bounds: with half a minute for the transaction there is half a minute left of
    /// `max.poll.interval.ms`.
    #[test]
    fn the_coordinators_answers_are_waited_for_four_minutes() {
        let asked = (ANSWER_WAIT_MAX + ABORT_SLICE) * ANSWER_ATTEMPTS_MAX;
        let paused: Duration = (1..ANSWER_ATTEMPTS_MAX).map(pause_after).sum();
        let all = asked + paused;
        let expected = Duration::from_secs(3 * 60 + 45)..=Duration::from_secs(4 * 60);
        assert!(expected.contains(&all), "{all:?}");
        assert_eq!(pause_after(1), Duration::from_millis(100));
        assert_eq!(pause_after(ATTEMPTS_MAX - 1), Duration::from_millis(800));
    }

    /// Asks for an abort that is answered so, with time for so many calls; returns the answer, and how often was asked and
    /// waited.
    fn abort(answers: &[Code], calls_max: usize) -> (Option<Code>, usize, usize) {
        let (mut asked, mut waited) = (0, 0);
        let ask = || {
            asked += 1;
            answers
                .get(asked - 1)
                .map_or(Ok(()), |code| Err(KafkaError::Flush(*code)))
        };
        let wait = || {
            waited += 1;
            waited < calls_max
        };
        let answer = until_aborted(ask, wait);
        let code = answer.err().and_then(|error| error.rdkafka_error_code());
        (code, asked, waited)
    }

    #[test]
    fn an_abort_is_asked_for_until_it_is_answered_with_a_pause_between() {
        let (later, state) = (Code::OperationTimedOut, Code::State);
        assert_eq!(abort(&[], 100), (None, 1, 0));
        assert_eq!(abort(&[later, state, later], 100), (None, 4, 3), "a late answer");
        assert_eq!(abort(&[state, Code::Fatal], 100), (Some(Code::Fatal), 2, 1));
        assert_eq!(abort(&[later; 100], 7), (Some(later), 7, 7), "no time left");
        let asked = OUT_OF_STATE_MAX as usize + 1;
        assert_eq!(
            abort(&[state; 100], 100),
            (Some(state), asked, asked - 1),
            "for good"
        );
    }

    #[test]
    fn a_transaction_that_its_coordinator_never_heard_of_is_nobodys_fault_however_early_it_shows() {
        for (code, in_time) in [
            (Code::InvalidTransactionalState, Fact::Expired),
            (Code::TransactionalIdAuthorizationFailed, Fact::Fatal),
            (Code::UnsupportedVersion, Fact::Fatal),
        ] {
            // Only the client itself can make an error that says of itself that it is fatal.
            let error = CALLED(code);
            let meant = fact(Action::Abort, Class::Fatal, &error, Duration::from_secs(1));
            assert_eq!(meant, in_time, "{error}");
        }
    }
}
