//! A worker on the smallest clients that there can be: logs that grow with every poll, and answers that a test chooses.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::runtime::Runtime;

use super::owning::{PATIENCE_BEYOND_TRANSACTION, PATIENCE_MIN, SHORT_LOG_PATIENCE};
use super::*;
use crate::coalesce::{ChunkLimits, DedupeHorizon, Limits};
use crate::consume::{Committed, Error as Refused, GroupProtocol, Record};
use crate::emit::Failed;
use crate::emit::protocol::{Action, Fact};
use crate::kafka::{self, TopicNames};
use crate::lifecycle::Readiness;
use crate::model::{Checkpoint, Lanes, Offset, Run, RunCause};
use crate::wire::checkpoint_v1;

/// What the clients see and what the test says.
#[derive(Default)]
struct Ground {
    /// What polls give first.
    inputs: VecDeque<Input<Garbage>>,
    /// The next offset to read, of each partition that is read.
    positions: BTreeMap<Partition, i64>,
    committed: BTreeMap<Partition, (Offset, String)>,
    log_starts: BTreeMap<Partition, i64>,
    /// So many answers tell that logs end at their beginning.
    short_answers: u32,
    /// A transaction with this partition is never committed.
    refused: Option<Partition>,
    /// Questions are not answered in time, but for one in so many, and seeks never are.
    answers_one_in: Option<u32>,
    asked: u32,
    /// What each transaction held: those that were committed, and those that were not.
    transactions: Vec<(BTreeSet<Partition>, bool)>,
    rewound: Vec<Partition>,
}

/// A record that nothing can be made of: it goes to the dead letters as it is.
#[derive(Debug)]
struct Garbage(Partition, Offset);

impl Record for Garbage {
    fn partition(&self) -> Partition {
        self.0
    }

    fn offset(&self) -> Offset {
        self.1
    }

    fn log_time(&self) -> Option<Timestamp> {
        None
    }

    fn key(&self) -> Option<&[u8]> {
        None
    }

    fn value(&self) -> Option<&[u8]> {
        None
    }
}

struct Client {
    ground: Rc<RefCell<Ground>>,
    metrics: emit::Metrics,
    clock: Clock,
}

impl Client {
    fn not_answered(&self) -> Refused {
        self.clock.pass(Duration::from_secs(5));
        let source = KafkaError::OffsetFetch(RDKafkaErrorCode::OperationTimedOut);
        Refused::new("ask", kafka::Class::Retriable, source)
    }
}

impl Source for Client {
    type Record<'s> = Garbage;
    type Group = ();

    fn subscribe(&self) -> Result<(), Refused> {
        Ok(())
    }

    fn unsubscribe(&self) {}

    fn poll(&self, _wait: Duration) -> Input<Garbage> {
        let ground = &mut *self.ground.borrow_mut();
        if let Some(input) = ground.inputs.pop_front() {
            return input;
        }
        let records = ground.positions.iter_mut().map(|(partition, position)| {
            let offset = Offset::new(*position).unwrap();
            *position += 1;
            Garbage(*partition, offset)
        });
        Input::Batch(records.collect())
    }

    fn committed(&self, partitions: &[Partition]) -> Result<Vec<Committed>, Refused> {
        let ground = &mut *self.ground.borrow_mut();
        ground.asked += 1;
        if ground
            .answers_one_in
            .is_some_and(|one_in| !ground.asked.is_multiple_of(one_in))
        {
            return Err(self.not_answered());
        }
        let is_short = ground.short_answers > 0;
        ground.short_answers = ground.short_answers.saturating_sub(1);
        let log_end = if is_short { 0 } else { 1_000_000 };
        let committed = partitions.iter().map(|partition| {
            let committed = ground.committed.get(partition).cloned();
            let log_start = ground.log_starts.get(partition).copied().unwrap_or(0);
            Committed {
                partition: *partition,
                offset: committed.as_ref().map(|(offset, _)| *offset),
                metadata: committed.map(|(_, metadata)| metadata).unwrap_or_default(),
                log_start: Offset::new(log_start).unwrap(),
                log_end: Offset::new(log_end).unwrap(),
            }
        });
        Ok(committed.collect())
    }

    fn start(&self, positions: &[(Partition, Offset)]) -> Result<(), Refused> {
        let positions = positions
            .iter()
            .map(|(partition, offset)| (*partition, offset.number()));
        self.ground.borrow_mut().positions.extend(positions);
        Ok(())
    }

    fn release(&self, partitions: &[Partition]) -> Result<(), Refused> {
        let ground = &mut *self.ground.borrow_mut();
        ground
            .positions
            .retain(|partition, _| !partitions.contains(partition));
        Ok(())
    }

    fn rewind(&self, positions: &[(Partition, Offset)]) -> Result<(), Refused> {
        if positions.is_empty() {
            let source = KafkaError::Seek("invalid argument".to_owned());
            return Err(Refused::new("rewind", kafka::Class::Fatal, source));
        }
        let mut ground = self.ground.borrow_mut();
        if ground.answers_one_in.is_some() {
            return Err(self.not_answered());
        }
        ground
            .rewound
            .extend(positions.iter().map(|(partition, _)| *partition));
        drop(ground);
        self.start(positions)
    }

    fn group_metadata(&self) -> Option<()> {
        Some(())
    }

    fn close(&self) -> Result<(), Refused> {
        Ok(())
    }

    fn is_closed(&self) -> bool {
        true
    }

    fn log_end(&self, _partition: Partition) -> Option<i64> {
        None
    }

    fn is_disconnected(&self) -> bool {
        false
    }
}

impl Steps for Client {
    type Group = ();

    fn metrics(&self) -> &emit::Metrics {
        &self.metrics
    }

    fn perform(&self, action: Action, transaction: &Transaction, (): &()) -> Result<(), Failed> {
        if action != Action::Commit {
            return Ok(());
        }
        let ground = &mut *self.ground.borrow_mut();
        let held = transaction.checkpoints.iter().map(|(partition, _)| *partition);
        let held: BTreeSet<_> = held.collect();
        let refused = ground.refused.is_some_and(|partition| held.contains(&partition));
        ground.transactions.push((held, !refused));
        if refused {
            return Err(Failed {
                fact: Fact::Abortable,
                source: KafkaError::Global(RDKafkaErrorCode::InvalidTransactionalState),
            });
        }
        for (partition, checkpoint) in &transaction.checkpoints {
            let metadata = checkpoint_v1::encode(checkpoint, 4_096);
            ground
                .committed
                .insert(*partition, (checkpoint.committed_offset(), metadata));
        }
        Ok(())
    }
}

/// A worker, what it stands on, and its clock.
struct Bench {
    worker: Worker<Client, Client>,
    state: State,
    ground: Rc<RefCell<Ground>>,
    clock: Clock,
    _runtime: Runtime,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let registry = prometheus::Registry::new();
        let metrics = emit::Metrics::register(&registry).unwrap();
        let clock = Clock::set_to(Timestamp::from_millis(1_000_000));
        let ground = Rc::new(RefCell::new(Ground::default()));
        let client = || Client {
            ground: Rc::clone(&ground),
            metrics: metrics.clone(),
            clock: clock.clone(),
        };
        let worker = Worker {
            number: 0,
            settings: settings(),
            source: client(),
            emitter: client(),
            decoder: Decoder::new(None, runtime.handle().clone()),
            metrics: Metrics::register(&registry).unwrap(),
            clock: clock.clone(),
            stop: Stop::new(),
            gate: Readiness::new().gate("worker"),
        };
        let state = worker.begin();
        Self {
            worker,
            state,
            ground,
            clock,
            _runtime: runtime,
        }
    }

    fn assigned(partitions: &[Partition]) -> Self {
        let mut bench = Self::new();
        bench.input(Input::Assigned(partitions.to_vec())).unwrap();
        bench
    }

    fn turn(&mut self) -> Result<(), Error> {
        self.clock.pass(Duration::from_millis(100));
        self.worker.turn(&mut self.state)
    }

    fn input(&mut self, input: Input<Garbage>) -> Result<(), Error> {
        self.ground.borrow_mut().inputs.push_back(input);
        self.turn()
    }
}

fn settings() -> Settings {
    Settings {
        kafka: kafka::Settings {
            brokers: String::new(),
            client_id: String::new(),
            properties: BTreeMap::new(),
        },
        topics: TopicNames::with_prefix(""),
        registry: None,
        consume: consume::Settings {
            topic: "front.events".to_owned(),
            group: "group".to_owned(),
            protocol: GroupProtocol::Classic,
            instance_id: None,
            session_timeout: Duration::from_secs(15),
        },
        transactional_id: String::new(),
        transaction_timeout: Duration::from_secs(10),
        limits: Limits {
            lanes: Lanes::default(),
            metadata_bytes_max: 4_096,
            event_ids_max: 100,
            dedupe: DedupeHorizon {
                records: 0,
                time: Duration::from_secs(600),
            },
            chunk: ChunkLimits {
                duration: Duration::from_secs(2),
                windows_max: 100,
                bytes_max: 1 << 20,
            },
        },
        workers: 1,
        commit_interval: Duration::from_millis(50),
        position_commit_interval: Duration::from_secs(5),
        drain_timeout: Duration::from_secs(20),
    }
}

fn partition(number: i32) -> Partition {
    Partition::new(number).unwrap()
}

/// Its worker ends as it would alone, and the other partition goes on until then, behind one abort that it had part in.
#[test]
fn a_partition_that_fails_for_good_ends_the_process_though_another_commits() {
    let (sound, refused) = (partition(0), partition(1));
    let mut bench = Bench::assigned(&[sound, refused]);
    bench.ground.borrow_mut().refused = Some(refused);
    let began = bench.clock.instant();
    let error = (0..1_000).find_map(|_| bench.turn().err()).expect("it ends");
    let Error::KeepsFailing { partitions, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(partitions[..], [1]);
    assert_eq!(error.exit(), Exit::Outside);
    let ground = bench.ground.borrow();
    let aborted = ground
        .transactions
        .iter()
        .filter(|(_, committed)| !committed)
        .count();
    let sound_commits = ground
        .transactions
        .iter()
        .filter(|(_, committed)| *committed)
        .count();
    assert_eq!(aborted, 10);
    assert!(sound_commits >= 8, "{:?}", ground.transactions);
    let taken_along = ground.rewound.iter().filter(|partition| **partition == sound);
    assert_eq!(taken_along.count(), 1, "{:?}", ground.rewound);
    let lasted = bench.clock.instant().since(began);
    assert!(lasted > Duration::from_secs(15), "no pauses: {lasted:?}");
}

/// It counts from the last commit that held the partition.
#[test]
fn a_partition_that_is_committed_again_has_all_its_tries_back() {
    let [one, two] = [partition(0), partition(1)];
    let mut bench = Bench::assigned(&[one, two]);
    for _ in 0..20 {
        bench.ground.borrow_mut().refused = Some(two);
        for _ in 0..5 {
            bench.turn().unwrap();
        }
        bench.ground.borrow_mut().refused = None;
        for _ in 0..5 {
            bench.turn().unwrap();
        }
    }
    let transactions = &bench.ground.borrow().transactions;
    let last = transactions.last().expect("there were many");
    assert_eq!(*last, (BTreeSet::from([one, two]), true), "together again");
}

/// Each restore finds it again until a commit has stored the new run.
#[test]
fn a_loss_is_counted_once() {
    let lossy = partition(0);
    let mut bench = Bench::new();
    let metadata = |offset| (Offset::new(offset).unwrap(), String::new());
    bench.ground.borrow_mut().committed.insert(lossy, metadata(10));
    bench.ground.borrow_mut().log_starts.insert(lossy, 25);
    bench.ground.borrow_mut().refused = Some(lossy);
    bench.input(Input::Assigned(vec![lossy])).unwrap();
    for _ in 0..6 {
        bench.turn().unwrap();
    }
    assert!(
        bench.ground.borrow().rewound.len() > 2,
        "it was restored again and again"
    );
    let lost = |bench: &Bench| bench.worker.metrics.lost_range.get();
    assert_eq!(lost(&bench), 15);
    // Retention goes on.
    bench.ground.borrow_mut().log_starts.insert(lossy, 27);
    bench.turn().unwrap();
    assert_eq!(lost(&bench), 17, "what was lost since");
    bench.ground.borrow_mut().refused = None;
    for _ in 0..3 {
        bench.turn().unwrap();
    }
    bench.ground.borrow_mut().committed.insert(lossy, metadata(20));
    bench.input(Input::Revoked(vec![lossy])).unwrap();
    bench.ground.borrow_mut().committed.insert(lossy, metadata(20));
    bench.input(Input::Assigned(vec![lossy])).unwrap();
    assert_eq!(lost(&bench), 24, "another one");
}

/// The group has gone on, and nothing is held that could be gone back in.
#[test]
fn an_error_without_a_partition_ends_no_worker() {
    for class in [kafka::Class::Rebalanced, kafka::Class::Abortable] {
        let source = KafkaError::MessageConsumption(RDKafkaErrorCode::IllegalGeneration);
        let mut bench = Bench::new();
        bench
            .input(Input::Error(Refused::new("read", class, source)))
            .unwrap();
        assert_eq!(bench.worker.metrics.rewinds.get(), 0);
    }
}

/// Reading goes on a little each time, and the position leaves the log again: ten in a row end the process, of those that are
/// two minutes apart none does.
#[test]
fn partitions_are_not_taken_over_anew_for_ever() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    for (apart, taken_over) in [(minutes(1), Some(9)), (minutes(2), None)] {
        let mut bench = Bench::assigned(&[partition(0)]);
        let ended = (0..30).find_map(|times| {
            bench.turn().expect("reads on");
            bench.clock.pass(apart);
            let source = KafkaError::MessageConsumption(RDKafkaErrorCode::OffsetOutOfRange);
            let gone = Refused::new("read", kafka::Class::OutOfRange, source);
            if let Err(error) = bench.input(Input::Error(gone)) {
                return Some((times, error));
            }
            bench
                .input(Input::Revoked(vec![partition(0)]))
                .expect("given back");
            bench
                .input(Input::Assigned(vec![partition(0)]))
                .expect("taken over");
            None
        });
        let times = ended.as_ref().map(|(times, _)| *times);
        assert_eq!(times, taken_over, "{apart:?} apart");
        if let Some((_, error)) = ended {
            assert_eq!(error.exit(), Exit::Outside);
            assert!(error.to_string().contains("10 times in a row"), "{error}");
        }
    }
}

/// Offsets behind a dead owner's transaction are told when its timeout has passed; what is asked then shares the time.
#[test]
fn the_committed_offsets_are_waited_for_as_long_as_a_transaction_may_take() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let slack = Duration::from_secs(11);
    for (timeout, patience) in [
        (Duration::from_secs(10), PATIENCE_MIN),
        (minutes(15), minutes(15) + PATIENCE_BEYOND_TRANSACTION),
    ] {
        for one_in in [u32::MAX, 3] {
            let mut bench = Bench::assigned(&[partition(0)]);
            bench.worker.settings.transaction_timeout = timeout;
            bench.ground.borrow_mut().answers_one_in = Some(one_in);
            let source = KafkaError::MessageConsumption(RDKafkaErrorCode::IllegalGeneration);
            let began = bench.clock.instant();
            let rewind = Refused::new("read", kafka::Class::Abortable, source);
            let error = bench.input(Input::Error(rewind)).expect_err("it gives up");
            assert_eq!(error.exit(), Exit::Outside, "{error}");
            let lasted = bench.clock.instant().since(began);
            assert!(
                lasted >= patience && lasted <= patience + slack,
                "{timeout:?}, {one_in}: {lasted:?}"
            );
        }
    }
}

#[test]
fn a_worker_that_is_to_stop_does_not_ask_for_long() {
    let mut bench = Bench::assigned(&[partition(0)]);
    bench.ground.borrow_mut().answers_one_in = Some(u32::MAX);
    bench.worker.stop.cancel();
    let source = KafkaError::MessageConsumption(RDKafkaErrorCode::IllegalGeneration);
    let rewind = Refused::new("read", kafka::Class::Abortable, source);
    bench.input(Input::Error(rewind)).expect_err("it gives up");
    // The first was asked when the partition was assigned.
    assert_eq!(bench.ground.borrow().asked, 2 + FAILURES_IN_A_ROW_MAX);
}

/// A broker that does not know yet that another leads its partition tells an old end: counting again from there is not undone.
#[test]
fn a_log_that_seems_to_end_early_is_asked_for_again_before_that_is_believed() {
    let run = Run {
        started_at: Timestamp::from_millis(7),
        start: Offset::ZERO,
        cause: RunCause::First,
    };
    let checkpoint = Checkpoint {
        position: Offset::new(40).unwrap(),
        ..Checkpoint::begin(run)
    };
    for (short_answers, expected) in [
        (0, RunCause::First),
        (4, RunCause::First),
        (u32::MAX, RunCause::Retention),
    ] {
        let mut bench = Bench::new();
        bench.ground.borrow_mut().short_answers = short_answers;
        let metadata = checkpoint_v1::encode(&checkpoint, 4_096);
        let committed = (checkpoint.committed_offset(), metadata);
        bench
            .ground
            .borrow_mut()
            .committed
            .insert(partition(0), committed);
        let began = bench.clock.instant();
        bench.input(Input::Assigned(vec![partition(0)])).unwrap();
        let lasted = bench.clock.instant().since(began);
        let run = bench.state.owned[&partition(0)].coalescer.run();
        assert_eq!(run.cause, expected, "{short_answers}");
        assert_eq!(
            lasted >= SHORT_LOG_PATIENCE,
            expected == RunCause::Retention,
            "{lasted:?}"
        );
        assert!(lasted < SHORT_LOG_PATIENCE * 2, "{lasted:?}");
    }
}

/// Of each six questions one is answered, after half a minute, and every time with an old end: two answers are no 20 seconds.
#[test]
fn what_is_doubted_is_not_believed_for_want_of_answers() {
    let mut bench = Bench::assigned(&[partition(0)]);
    while !bench.ground.borrow().committed.contains_key(&partition(0)) {
        bench.turn().unwrap();
    }
    bench.ground.borrow_mut().short_answers = u32::MAX;
    bench.ground.borrow_mut().answers_one_in = Some(6);
    let source = KafkaError::MessageConsumption(RDKafkaErrorCode::IllegalGeneration);
    let rewind = Refused::new("read", kafka::Class::Abortable, source);
    let error = bench.input(Input::Error(rewind)).expect_err("it gives up");
    assert_eq!(error.exit(), Exit::Outside, "{error}");
    assert!(bench.worker.metrics.short_logs.get() > 3);
    assert!(bench.state.owned.is_empty(), "no run was begun");
}

#[test]
fn what_is_doubted_is_not_committed_by_a_stop() {
    let mut bench = Bench::assigned(&[partition(0)]);
    while !bench.ground.borrow().committed.contains_key(&partition(0)) {
        bench.turn().unwrap();
    }
    let before = bench.ground.borrow().committed.clone();
    bench.ground.borrow_mut().short_answers = u32::MAX;
    bench.worker.stop.cancel();
    let source = KafkaError::MessageConsumption(RDKafkaErrorCode::IllegalGeneration);
    let rewind = Refused::new("read", kafka::Class::Abortable, source);
    let error = bench.input(Input::Error(rewind)).expect_err("it gives up");
    assert_eq!(error.exit(), Exit::Outside, "{error}");
    assert_eq!(bench.ground.borrow().committed, before);
    assert!(
        bench.state.owned.is_empty(),
        "nothing is left that a stop could commit"
    );
}
