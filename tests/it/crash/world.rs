//! One run: brokers, processes that come and go, and everything that befalls them, drawn from a seed.
//!
//! One thread. A worker runs one `turn` at a time; whatever it asks of its clients goes through [`World::enter`], and
//! there, in the middle of its turn, the world may go on without it: others take their turns, its process is stopped and
//! continued, or killed. A killed worker gets an error from every call from there on, which changes nothing any more,
//! and is thrown away when its turn returns, whatever it says.

mod faults;
mod processes;
mod receivers;
mod scheduler;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use frontstream::coalesce::DedupeHorizon;
use frontstream::emit;
use frontstream::lifecycle::{Clock, Stop};
use frontstream::model::{Lanes, Offset, Partition, Priority, Timestamp};
use frontstream::roles::processor::Metrics;
use tokio::runtime::Runtime;

use self::processes::{Process, Seat};
use super::broker::{Broker, Log};
use super::client::{Client, Time};
use super::group::{Group, Protocol};
use super::oracle;
use super::planted::Planted;
use crate::support::Random;

/// How much later than promised an event may be committed: what the steps of the other workers' transactions take on
/// the one time line of the world.
pub(super) const DELAY_SLACK_US: u64 = 5_000;

/// How many scheduler actions one run has before its faults end.
const ACTIONS: u64 = 900;

/// How long brokers tell old ends at most: a client that asks the wrong one learns of the right one within ten seconds, and looks
/// again after a question that was not answered.
const OLD_ENDS_US: u64 = 12_000_000;
const OLD_ENDS_APART_US: u64 = 60_000_000;

/// How many more it may take until everything is committed.
const ACTIONS_TO_END_MAX: u64 = 12_000;

/// How often a worker may call its clients in one turn: every retry is bounded.
const CALLS_MAX: u32 = 400;

/// How deep the world may go on within the turn of a worker, within that of another.
const DEPTH_MAX: u32 = 2;

/// The longest that a worker waits for records, as the product's: so long ago it read the clock last, at most.
const WAIT_MAX: Duration = Duration::from_millis(100);

const COMMIT_INTERVAL: Duration = Duration::from_millis(50);

/// What runs share: they cost more to make than a run.
pub(super) struct Ground {
    runtime: Runtime,
    metrics: Metrics,
    emit_metrics: emit::Metrics,
}

impl Ground {
    pub(super) fn new() -> Self {
        let registry = prometheus::Registry::new();
        Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime"),
            metrics: Metrics::register(&registry).expect("no name is taken"),
            emit_metrics: emit::Metrics::register(&registry).expect("no name is taken"),
        }
    }
}

/// What is drawn once for a run.
struct Plan {
    protocol: Protocol,
    /// The members have instance ids: those of a classic group then are eager, as the product sets them up.
    is_static: bool,
    horizon: DedupeHorizon,
    /// Retention makes the log forget what was a duplicate: such runs have none.
    retention: bool,
    /// Clocks are near each other and records are appended when they are made: windows keep to their lanes.
    punctual: bool,
    chunk: Duration,
    /// Few of them make windows that reach their cap.
    conversations: u64,
}

impl Plan {
    fn draw(random: &mut Random) -> Self {
        let punctual = random.one_in(2);
        let (protocol, is_static) = random.pick(&[
            (Protocol::Eager, true),
            (Protocol::Cooperative, false),
            (Protocol::Consumer, false),
            (Protocol::Consumer, true),
        ]);
        Self {
            protocol,
            is_static,
            horizon: DedupeHorizon {
                records: u32::try_from(random.below(60)).expect("a small number"),
                time: Duration::from_secs(random.pick(&[1, 60, 600])),
            },
            retention: random.one_in(4),
            punctual,
            chunk: Duration::from_millis(random.pick(&[300, 2_000])),
            conversations: random.pick(&[3, 24]),
        }
    }
}

/// Everything there is in one run.
pub(super) struct World {
    pub(super) broker: RefCell<Broker>,
    ground: Rc<Ground>,
    plan: Plan,
    random: RefCell<Random>,
    seats: RefCell<Vec<Seat>>,
    processes: RefCell<Vec<Process>>,
    depth: Cell<u32>,
    /// Faults befall the processors.
    stormy: Cell<bool>,
    /// Nothing befalls them any more but retention.
    ending: Cell<bool>,
    away_until_us: Cell<u64>,
    /// Until then a broker that was deposed and does not know it tells old ends of its logs.
    old_ends_until_us: Cell<u64>,
    /// The processes are stopped for an operator, who waits for the group to be empty.
    reset_wanted: Cell<bool>,
    actions: Cell<u64>,
    events: Cell<u64>,
    lives: Cell<u64>,
}

/// What a run leaves behind.
pub(super) struct Ended {
    pub(super) broker: Broker,
    pub(super) actions: u64,
    pub(super) horizon: DedupeHorizon,
}

impl Ended {
    /// Returns what the oracle reads, partition by partition.
    pub(super) fn logs(&self) -> impl Iterator<Item = (oracle::Log, &Log)> {
        self.broker.logs.iter().enumerate().map(|(number, log)| {
            let view = oracle::Log {
                partition: partition_of(number),
                records: log.records.clone(),
                horizon: self.horizon,
            };
            (view, log)
        })
    }

    /// Says whether the run kept every promise.
    pub(super) fn verdict(&self) -> Result<(), String> {
        if let Some(wrong) = self.broker.wrong.first() {
            return Err(wrong.clone());
        }
        for (view, log) in self.logs() {
            oracle::Oracle::new(&view)
                .verdict(&log.written, &log.ends)
                .map_err(|what| format!("partition {}: {what}", view.partition))?;
        }
        Ok(())
    }
}

impl World {
    pub(super) fn run(seed: u64, planted: Planted, loud: bool, ground: &Rc<Ground>) -> Ended {
        let world = Rc::new(Self::new(seed, planted, ground));
        world.broker.borrow_mut().loud = loud;
        while world.actions.get() < ACTIONS {
            world.weather();
            world.step();
        }
        world.finish();
        let horizon = world.plan.horizon;
        let actions = world.actions.get();
        // The workers hold the world.
        for seat in world.seats.borrow_mut().iter_mut() {
            seat.client = None;
        }
        let jobs: Vec<_> = world
            .seats
            .borrow_mut()
            .iter_mut()
            .filter_map(|seat| seat.job.take())
            .collect();
        drop(jobs);
        let Ok(world) = Rc::try_unwrap(world) else {
            panic!("someone still holds the world");
        };
        Ended {
            broker: world.broker.into_inner(),
            actions,
            horizon,
        }
    }

    fn new(seed: u64, planted: Planted, ground: &Rc<Ground>) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        let partitions = 1 + random.index(4);
        let mut broker = Broker::new(
            partitions,
            Group::new(plan.protocol, random.pick(&[4_000_000, 15_000_000])),
            planted,
        );
        for priority in Priority::ALL {
            let mut delay = Lanes::default().of(priority).cap + COMMIT_INTERVAL;
            if !plan.punctual {
                delay += plan.chunk;
            }
            broker.promise.delay_max_us[usize::from(priority as u8)] = micros(delay);
        }
        let (mut processes, mut seats) = (Vec::new(), Vec::new());
        let workers = 1 + random.index(2);
        for process in 0..1 + random.index(3) {
            let skew_ms = if plan.punctual {
                random.below(1_000)
            } else {
                random.below(3) * random.below(8_000)
            };
            let base = if plan.punctual { 0 } else { 6_000 };
            let at_ms =
                i64::try_from(broker.now_us / 1_000 + 1_000_000 + skew_ms).expect("a short story") - base;
            let clock = Clock::set_to(Timestamp::from_millis(at_ms));
            processes.push(Process {
                seats: (seats.len()..seats.len() + workers).collect(),
                time: Rc::new(Time::new(clock, broker.now_us)),
                frozen: Rc::default(),
                stop: Stop::new(),
                instance: plan.is_static.then(|| format!("instance-{process}")),
                starts_us: Some(0),
            });
            seats.extend((0..workers).map(|number| Seat {
                process,
                number,
                job: None,
                client: None,
            }));
        }
        Self {
            broker: RefCell::new(broker),
            ground: Rc::clone(ground),
            plan,
            random: RefCell::new(random),
            seats: RefCell::new(seats),
            processes: RefCell::new(processes),
            depth: Cell::new(0),
            stormy: Cell::new(true),
            ending: Cell::new(false),
            away_until_us: Cell::new(0),
            old_ends_until_us: Cell::new(0),
            reset_wanted: Cell::new(false),
            actions: Cell::new(0),
            events: Cell::new(0),
            lives: Cell::new(0),
        }
    }

    /// A worker asks one of its clients for something. Time passes, and in a storm everything may happen first.
    /// `false`: its process is dead.
    pub(super) fn enter(self: &Rc<Self>, client: &Client) -> bool {
        client.calls.set(client.calls.get() + 1);
        if client.calls.get() > CALLS_MAX {
            panic!("a worker calls its clients without end");
        }
        if !client.is_alive() {
            return false;
        }
        client.time.meet(&mut self.broker.borrow_mut().now_us);
        let takes_us = self.below(if self.stormy.get() { 3_000 } else { 200 });
        self.broker.borrow_mut().now_us += takes_us;
        if self.stormy.get() && self.depth.get() < DEPTH_MAX {
            self.meantime(client);
        }
        client.time.meet(&mut self.broker.borrow_mut().now_us);
        self.broker.borrow_mut().pass();
        client.is_alive()
    }

    /// The client has done it; its process may die before it hears so.
    pub(super) fn leave(self: &Rc<Self>, client: &Client) -> bool {
        if client.is_alive() && self.chance(400) {
            self.count("crash after an effect");
            self.kill_process_of(client);
        }
        client.is_alive()
    }

    fn meantime(self: &Rc<Self>, client: &Client) {
        // Most of what can go wrong goes wrong inside a transaction.
        match self.below(if client.in_transaction.get() { 150 } else { 600 }) {
            0 => {
                self.count("crash before an effect");
                self.kill_process_of(client);
            }
            1 => self.freeze(client),
            2..25 => {
                self.count("work of others between two steps");
                self.go_on(1 + self.below(6));
            }
            _ => {}
        }
    }

    /// Lets a worker wait for records: it is not asked again before, unless something comes.
    pub(super) fn wait(&self, client: &Client, wait: Duration) {
        let wait = wait.max(Duration::from_millis(1));
        client.ready_us.set(self.broker.borrow().now_us + micros(wait));
    }

    pub(super) fn pass_us(&self, us: u64) {
        let mut broker = self.broker.borrow_mut();
        broker.now_us += us;
        broker.pass();
    }

    /// A fault, one time in so many; never while the weather is calm.
    pub(super) fn chance(&self, one_in: u64) -> bool {
        self.stormy.get() && self.random.borrow_mut().one_in(one_in)
    }

    /// Retention may pass between two questions, also when the other faults have ended.
    pub(super) fn retention_is_near(&self) -> bool {
        (self.stormy.get() || self.ending.get()) && self.below(10) == 0
    }

    fn wall_ms(&self) -> i64 {
        wall_ms(self.broker.borrow().now_us)
    }

    /// Something keeps a worker from its work: nothing that is appended from here on is held to its time.
    pub(super) fn disturb(&self) {
        self.broker.borrow_mut().promise.settled_us = None;
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.random.borrow_mut().below(bound.max(1))
    }

    pub(super) fn pick<T: Copy>(&self, from: &[T]) -> T {
        self.random.borrow_mut().pick(from)
    }

    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        self.broker.borrow().tell(what);
    }

    pub(super) fn count(&self, kind: &'static str) {
        let mut broker = self.broker.borrow_mut();
        broker.tell(|| kind.to_owned());
        broker.story.count(kind);
    }

    pub(super) fn planted(&self) -> Planted {
        self.broker.borrow().planted
    }

    pub(super) fn batch_limit(&self) -> usize {
        let most = if self.below(3) == 0 { 5 } else { 200 };
        1 + self.random.borrow_mut().index(most)
    }

    /// Says whether the transaction coordinator, and the brokers that are asked, are away.
    pub(super) fn is_away(&self) -> bool {
        self.broker.borrow().now_us < self.away_until_us.get()
    }

    /// Says whether the brokers tell an old end of a log, which passes within [`OLD_ENDS_US`].
    pub(super) fn tells_old_ends(&self) -> bool {
        let now_us = self.broker.borrow().now_us;
        // One election does not follow upon the other.
        if now_us >= self.old_ends_until_us.get() + OLD_ENDS_APART_US && self.chance(60) {
            self.old_ends_until_us.set(now_us + self.below(OLD_ENDS_US));
        }
        now_us < self.old_ends_until_us.get()
    }

    /// The faults are over: everything is read, closed and committed, within a bounded number of actions.
    fn finish(self: &Rc<Self>) {
        self.stormy.set(false);
        self.ending.set(true);
        self.away_until_us.set(0);
        self.old_ends_until_us.set(0);
        self.broker.borrow_mut().promise.settled_us = None;
        let until = self.actions.get() + ACTIONS_TO_END_MAX;
        while !self.is_complete() {
            self.actions.set(self.actions.get() + 1);
            self.work();
            assert!(
                self.actions.get() < until,
                "the log's end is never committed: {}",
                self.state()
            );
        }
    }

    fn is_complete(&self) -> bool {
        let broker = self.broker.borrow();
        let mut logs = broker.logs.iter();
        !self.reset_wanted.get() && logs.all(Log::is_complete)
    }

    fn state(&self) -> String {
        let broker = self.broker.borrow();
        let logs = broker.logs.iter().map(|log| {
            format!(
                "start {} end {} committed {:?} last {:?}",
                log.start,
                log.end,
                log.committed,
                log.ends.last()
            )
        });
        let seats = self.seats.borrow();
        let seats = seats
            .iter()
            .filter_map(|seat| seat.job.as_ref())
            .map(|job| job.worker.source.describe());
        let all = logs.chain([broker.group.describe()]).chain(seats);
        all.collect::<Vec<_>>().join("\n")
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("not that long")
}

/// What a clock that is right shows.
fn wall_ms(now_us: u64) -> i64 {
    i64::try_from(now_us / 1_000).expect("a short story") + 1_000_000
}

fn partition_of(number: usize) -> Partition {
    Partition::new(i32::try_from(number).expect("few")).expect("not negative")
}

fn offset_of(number: i64) -> Offset {
    Offset::new(number).expect("not negative")
}
