//! Two workers copy 6,000 events from one topic to another while clients crash, transactions are aborted, partitions move
//! and zombies come back. Whatever happens, a read-committed reader sees every event exactly once, in order per key.
//!
//! What happens and when is dealt from a seed, which is printed; how it interleaves is the machine's.

mod judge;
mod life;
mod worker;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use frontstream::lifecycle::Instant;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use self::judge::{Copied, Judged};
use self::worker::{Mishap, Worker};
use super::Check;
use crate::support::{Cluster, say};

const AREA: &str = "exactly once under chaos";

pub(super) const CHECKS: &[Check] = &[
    Check {
        area: AREA,
        name: "6,000 events, crashes, aborts, zombies, rebalances: eager, one static and one dynamic member",
        run: |cluster| exactly_once(cluster, Run::EAGER),
    },
    Check {
        area: AREA,
        name: "6,000 events, crashes, aborts, zombies, rebalances: cooperative, two dynamic members",
        run: |cluster| exactly_once(cluster, Run::COOPERATIVE),
    },
];

const PARTITIONS: i32 = 4;

/// Few enough that a key has many events to put out of order.
const KEYS: usize = 61;

const WORKERS: u64 = 2;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A run takes some seconds, on a busy machine minutes; one that commits nothing for so long has lost a client or an event.
const RUN_PATIENCE: Duration = Duration::from_secs(60);

/// How long a run may take that goes on committing: below what a check may take, so that it is judged.
const RUN_TIME_MAX: Duration = Duration::from_secs(240);

/// After this a worker that was asked to stop is said to be still there.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// What is planted into the workers, to see that it would be found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Offsets are committed by the consumer, beside the transaction.
    OffsetsOutside,
}

/// One run: the same one always deals the same mishaps.
#[derive(Clone, Copy)]
struct Run {
    seed: u64,
    events: usize,
    assignor: &'static str,
    /// The first worker's `group.instance.id`.
    instance: Option<&'static str>,
    fault: Fault,
}

impl Run {
    const EAGER: Self = Self {
        seed: 20_260_101,
        events: 6_000,
        assignor: "range",
        instance: Some("worker-0"),
        fault: Fault::None,
    };
    // Dynamic only: why is in ARCHITECTURE.md, "Static members of a classic group use an eager assignor".
    const COOPERATIVE: Self = Self {
        seed: 20_260_102,
        assignor: "cooperative-sticky",
        instance: None,
        ..Self::EAGER
    };
}

/// What the workers of a run share.
struct Stage<'a> {
    cluster: &'a Cluster,
    run: Run,
    prefix: String,
    input: String,
    output: String,
    group: String,
    stop: AtomicBool,
    /// What was seen that must not be, such as a zombie whose commit was taken.
    violations: Mutex<Vec<String>>,
    /// How often each mishap came to its end.
    story: Mutex<BTreeMap<Mishap, u32>>,
    /// What each worker is at: where one hangs, nothing else says where.
    doing: Mutex<BTreeMap<u64, String>>,
}

impl Stage<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn violated(&self, what: String) {
        self.violations
            .lock()
            .expect("no thread panics holding it")
            .push(what);
    }

    fn doing(&self, slot: u64, what: String) {
        self.doing
            .lock()
            .expect("no thread panics holding it")
            .insert(slot, what);
    }

    fn happened(&self, mishap: Mishap) {
        *self
            .story
            .lock()
            .expect("no thread panics holding it")
            .entry(mishap)
            .or_default() += 1;
    }
}

fn exactly_once(cluster: &Cluster, run: Run) {
    let (violations, story) = play(cluster, run);
    say(&format!("chaos: seed {}: {story:?}", run.seed));
    assert!(
        violations.is_empty(),
        "seed {}: {}",
        run.seed,
        violations.join("; ")
    );
    // A run in which nothing happened proves nothing.
    for mishap in Mishap::ALL {
        assert!(
            story.contains_key(&mishap),
            "seed {}: never: {mishap:?}",
            run.seed
        );
    }
}

/// Runs the workers until everything is committed, and returns all that is wrong and what happened.
fn play(cluster: &Cluster, run: Run) -> (Vec<String>, BTreeMap<Mishap, u32>) {
    let prefix = cluster.unique_prefix("chaos");
    let stage = Stage {
        cluster,
        run,
        input: format!("{prefix}in"),
        output: format!("{prefix}out"),
        group: format!("{prefix}group"),
        prefix,
        stop: AtomicBool::new(false),
        violations: Mutex::default(),
        story: Mutex::default(),
        doing: Mutex::default(),
    };
    cluster.create_topic(&stage.input, PARTITIONS);
    cluster.create_topic(&stage.output, PARTITIONS);
    let ends = fill(&stage);
    let committed = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|slot| {
                scope.spawn({
                    let stage = &stage;
                    move || Worker::new(stage, slot).work()
                })
            })
            .collect();
        // A worker that panicked would be waited for in vain.
        let committed = watch(&stage, &ends, || {
            workers.iter().any(|worker| worker.is_finished())
        });
        stage.stop.store(true, Ordering::Release);
        say_who_stays(&stage, || workers.iter().all(|worker| worker.is_finished()));
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
        committed
    });
    let copies = copies(&stage);
    let Stage {
        violations, story, ..
    } = stage;
    let mut violations = violations.into_inner().expect("no thread panicked holding it");
    let judged = Judged {
        events: run.events,
        ends: &ends,
        committed: &committed,
        copies: &copies,
    };
    violations.extend(judged.violations());
    (
        violations,
        story.into_inner().expect("no thread panicked holding it"),
    )
}

/// Returns the key of an event.
fn key_of(number: usize) -> usize {
    number % KEYS
}

/// Stores the events, a key always in the same partition, and returns the ends of the partitions.
fn fill(stage: &Stage<'_>) -> BTreeMap<i32, i64> {
    let producer: BaseProducer = stage
        .cluster
        .client_config()
        .set("enable.idempotence", "true")
        .create()
        .expect("a producer");
    let mut ends = BTreeMap::new();
    for number in 0..stage.run.events {
        let partition = i32::try_from(key_of(number)).expect("few keys") % PARTITIONS;
        let (key, value) = (key_of(number).to_string(), number.to_string());
        let record = BaseRecord::to(&stage.input)
            .partition(partition)
            .key(&key)
            .payload(&value);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
        *ends.entry(partition).or_default() += 1;
    }
    producer.flush(ANSWER_TIMEOUT).expect("the events are stored");
    ends
}

/// Waits a while for the workers to end, and says what those are at that do not.
fn say_who_stays(stage: &Stage<'_>, all_ended: impl Fn() -> bool) {
    let began = Instant::now();
    while !all_ended() {
        if began.elapsed() > STOP_PATIENCE {
            let doing = stage.doing.lock().expect("no thread panics holding it");
            say(&format!(
                "chaos: seed {}: not ended {STOP_PATIENCE:?} after they were asked to, workers at: {doing:?}",
                stage.run.seed
            ));
            return;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Waits until the group has committed the ends, and returns what it has committed.
fn watch(stage: &Stage<'_>, ends: &BTreeMap<i32, i64>, is_over: impl Fn() -> bool) -> BTreeMap<i32, i64> {
    let looker: BaseConsumer = stage
        .cluster
        .client_config()
        .set("group.id", &stage.group)
        .create()
        .expect("a consumer");
    let (began, mut went_on) = (Instant::now(), Instant::now());
    let mut before = BTreeMap::new();
    loop {
        // A broker that is busy with everybody's tests may answer late; that is not what this run is about.
        let committed = committed(stage, &looker).unwrap_or_else(|why| {
            assert!(went_on.elapsed() < RUN_PATIENCE, "the committed offsets: {why}");
            before.clone()
        });
        if committed != before {
            went_on = Instant::now();
            before.clone_from(&committed);
        }
        let is_late = went_on.elapsed() > RUN_PATIENCE || began.elapsed() > RUN_TIME_MAX;
        if committed == *ends || is_late || is_over() {
            return committed;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn committed(stage: &Stage<'_>, looker: &BaseConsumer) -> KafkaResult<BTreeMap<i32, i64>> {
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_range(&stage.input, 0, PARTITIONS - 1);
    let committed = looker.committed_offsets(partitions, ANSWER_TIMEOUT)?;
    let known = committed.elements().into_iter().filter_map(|element| {
        let Offset::Offset(offset) = element.offset() else {
            return None;
        };
        Some((element.partition(), offset))
    });
    Ok(known.collect())
}

fn copies(stage: &Stage<'_>) -> Vec<Copied> {
    let records = stage.cluster.records(&stage.output);
    let copied = records.iter().map(|record| {
        let number = |bytes: Option<&[u8]>| {
            let text = std::str::from_utf8(bytes.expect("a copy has key and value")).expect("digits");
            text.parse().expect("digits")
        };
        Copied {
            key: number(record.key()),
            number: number(record.payload()),
        }
    });
    copied.collect()
}

#[cfg(test)]
mod tests {
    use super::{Fault, Run, play};
    use crate::support;

    #[test]
    fn offsets_committed_outside_the_transaction_are_found() {
        let run = Run {
            events: 2_000,
            fault: Fault::OffsetsOutside,
            ..Run::EAGER
        };
        let (violations, story) = play(support::kafka(), run);
        let found = violations.iter().any(|what| what.contains("missing"));
        assert!(found, "{violations:?} after {story:?}");
    }
}
