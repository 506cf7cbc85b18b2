//! A rolling restart of three processors under load, as an orchestrator does it: how late refreshes are meanwhile.
//!
//! One after another is told to stop, waited for, started again under the same name and waited for until it is ready; the
//! next follows at once. What is measured is the restart and nothing else: what can be read from the first signal on, of
//! windows that began before all three had their partitions again.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use frontstream::lifecycle::{Clock, Instant};
use frontstream::model::{CloseReason, Lanes, Partition, Timestamp};

use crate::cluster::{Bench, Topics};
use crate::figures::{Figure, Figures, Target, median, percentile};
use crate::load::Load;
use crate::process::{Env, PATIENCE, Process};
use crate::refreshes::{Reader, Seen};

const PER_SECOND: u32 = 500;
const PARTITIONS: u32 = 12;
const PROCESSORS: u32 = 3;

/// Longer than the longest cap and a transaction: what was read as it began has been refreshed when it is over.
const LONGEST_WINDOW: Duration = Duration::from_secs(5);

/// How often a process is asked about itself while refreshes are read.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How the processors are members of their group.
struct Membership {
    name: &'static str,
    protocol: &'static str,
    is_static: bool,
    target: Option<Target>,
}

const MEMBERSHIPS: [Membership; 4] = [
    Membership {
        name: "classic, static members",
        protocol: "classic",
        is_static: true,
        target: Some(Target::Below(5.0)),
    },
    Membership {
        name: "consumer, static members",
        protocol: "consumer",
        is_static: true,
        target: None,
    },
    Membership {
        name: "classic, dynamic members",
        protocol: "classic",
        is_static: false,
        target: None,
    },
    Membership {
        name: "consumer, dynamic members",
        protocol: "consumer",
        is_static: false,
        target: None,
    },
];

pub(crate) fn run(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    // A quick run leaves out what is not deployed.
    for membership in MEMBERSHIPS
        .iter()
        .filter(|membership| membership.is_static || !bench.options.quick)
    {
        once(bench, membership)?.report(figures, membership)?;
    }
    Ok(())
}

/// Rolls one group a few times.
fn once(bench: &Bench, membership: &Membership) -> anyhow::Result<Samples> {
    let topics = bench.topics("rolling", PARTITIONS)?;
    // First: they wait until the new topics can be used.
    let mut fleet = Fleet::start(&topics, membership)?;
    let reader = Reader::from_now(bench, &topics)?;
    let mut outputs = Outputs::new(&reader);
    let load = Load::start(bench, &topics, PER_SECOND)?;
    outputs.read_until("all partitions are divided and read", || fleet.is_settled())?;
    outputs.catch_up()?;
    let mut samples = Samples::default();
    for n in 0..bench.options.size(3_u64, 1) {
        // At another moment of the commit interval each time.
        let ordinary = Duration::from_millis(bench.options.size(5_000, 3_000) + 17 * n);
        outputs.begin();
        let began = Instant::now();
        outputs.read_until("the time is over", || Ok(began.elapsed() >= ordinary))?;
        samples.before(outputs.begin());
        fleet.roll(&mut outputs, &mut samples)?;
        outputs.catch_up()?;
        samples.during(outputs.begin());
    }
    samples.stored = load.finish()?;
    reader.count_up_to(outputs.events, samples.stored, || fleet.check_running())?;
    let audit = topics.audit("rolling")?;
    ensure!(audit.exact, "the audit is not exact: {}", audit.said);
    Ok(samples)
}

/// The processors of one group.
struct Fleet {
    members: Vec<(Process, Env)>,
}

impl Fleet {
    fn start(topics: &Topics, membership: &Membership) -> anyhow::Result<Self> {
        let mut members = Vec::new();
        for n in 0..PROCESSORS {
            let mut env = topics.env("rolling");
            env.push((
                "FRONTSTREAM_PROCESSOR_GROUP_PROTOCOL",
                membership.protocol.to_owned(),
            ));
            if membership.is_static {
                env.push(("FRONTSTREAM_PROCESSOR_INSTANCE_ID", format!("bench-{n}")));
            }
            members.push((Process::role("processor", &env)?, env));
        }
        for (process, _) in &mut members {
            process.wait_until_ready()?;
        }
        Ok(Self { members })
    }

    /// Restarts one after another, the last first, as a `StatefulSet` does.
    fn roll(&mut self, outputs: &mut Outputs<'_>, samples: &mut Samples) -> anyhow::Result<()> {
        let began = Instant::now();
        for (process, env) in self.members.iter_mut().rev() {
            let told = Instant::now();
            process.terminate()?;
            outputs.read_until("a processor has stopped", || process.has_ended())?;
            samples.stopped.push(told.elapsed().as_secs_f64());
            let started = Instant::now();
            *process = Process::role("processor", env)?;
            outputs.read_until("a processor is ready again", || {
                process.check_running()?;
                Ok(process.is_ready())
            })?;
            samples.ready.push(started.elapsed().as_secs_f64());
        }
        outputs.read_until("all partitions are divided again", || self.is_settled())?;
        samples.lasted.push(began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Says whether each has its share of the partitions.
    fn is_settled(&mut self) -> anyhow::Result<bool> {
        self.check_running()?;
        for (process, _) in &self.members {
            let held = process.metric("frontstream_processor_partitions_assigned_total")?
                - process.metric("frontstream_processor_partitions_released_total")?;
            if (held - f64::from(PARTITIONS / PROCESSORS)).abs() > f64::EPSILON {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn check_running(&mut self) -> anyhow::Result<()> {
        self.members
            .iter_mut()
            .try_for_each(|(process, _)| process.check_running())
    }
}

/// What was read of one partition.
struct Read {
    last: Instant,
    /// The latest receipt of a refreshed event: what came before it has been read by the processors.
    newest: Timestamp,
}

/// What was read in a time.
#[derive(Default)]
struct Period {
    /// From the first event's receipt until the refresh could be read.
    delays: Vec<f64>,
    /// From when the window was due, going by its events' receipts, until the refresh could be read; of those that no
    /// stop had closed.
    late: Vec<f64>,
    /// The widest gap between two refreshes of one partition.
    silence: Duration,
    /// Windows whose first event was received later belong to the next.
    ends: Option<Timestamp>,
}

struct Outputs<'r> {
    reader: &'r Reader,
    lanes: Lanes,
    partitions: BTreeMap<Partition, Read>,
    period: Period,
    events: u64,
}

impl<'r> Outputs<'r> {
    fn new(reader: &'r Reader) -> Self {
        Self {
            reader,
            lanes: Lanes::default(),
            partitions: BTreeMap::new(),
            period: Period::default(),
            events: 0,
        }
    }

    /// Begins another period; returns what was read in the one before.
    fn begin(&mut self) -> Period {
        std::mem::take(&mut self.period)
    }

    /// Reads until `condition` holds.
    fn read_until(
        &mut self,
        what: &str,
        mut condition: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        while !condition()? {
            ensure!(
                began.elapsed() < PATIENCE,
                "waited {PATIENCE:?} in vain until {what}"
            );
            self.read_for(LOOK_AGAIN)?;
        }
        Ok(())
    }

    /// Ends the period: reads until every partition has refreshed an event that was received from now on, and then until
    /// the windows that began before now are refreshed too.
    fn catch_up(&mut self) -> anyhow::Result<()> {
        let (now, began) = (Clock::system().now(), Instant::now());
        self.period.ends = Some(now);
        while self.partitions.values().filter(|read| read.newest >= now).count() < PARTITIONS as usize {
            ensure!(
                began.elapsed() < PATIENCE,
                "a partition has no refresh {PATIENCE:?} after the restart"
            );
            self.read_for(LOOK_AGAIN)?;
        }
        let silence = self.period.silence;
        self.read_for(LONGEST_WINDOW)?;
        self.period.silence = silence;
        Ok(())
    }

    fn read_for(&mut self, lasting: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < lasting {
            if let Some(seen) = self.reader.read(Duration::from_millis(5))? {
                self.take(&seen);
            }
        }
        Ok(())
    }

    fn take(&mut self, seen: &Seen) {
        let refresh = &seen.refresh;
        self.events += u64::from(refresh.event_count);
        let read = self.partitions.entry(refresh.partition).or_insert(Read {
            last: seen.at_instant,
            newest: refresh.last_received_at,
        });
        self.period.silence = self.period.silence.max(seen.at_instant.since(read.last));
        read.last = seen.at_instant;
        read.newest = read.newest.max(refresh.last_received_at);
        let (first, last) = (refresh.first_received_at, refresh.last_received_at);
        if self.period.ends.is_some_and(|ends| first >= ends) {
            return;
        }
        let lane = self.lanes.of(refresh.priority);
        self.period
            .delays
            .push(seen.at.saturating_since(first).as_secs_f64());
        // A stop closes windows before they are due.
        if refresh.closed_by != CloseReason::Stop {
            let due = last.plus(lane.gap).min(first.plus(lane.cap));
            self.period.late.push(seen.at.saturating_since(due).as_secs_f64());
        }
    }
}

/// One of each per rolling restart; `stopped` and `ready`: one per process.
#[derive(Default)]
struct Samples {
    p50: Vec<f64>,
    p99: Vec<f64>,
    longest: Vec<f64>,
    late_p99: Vec<f64>,
    silence: Vec<f64>,
    p99_before: Vec<f64>,
    silence_before: Vec<f64>,
    stopped: Vec<f64>,
    ready: Vec<f64>,
    lasted: Vec<f64>,
    refreshes: usize,
    closed_by_stop: usize,
    stored: u64,
}

impl Samples {
    fn before(&mut self, mut period: Period) {
        self.p99_before.push(percentile(&mut period.delays, 99.0));
        self.silence_before.push(period.silence.as_secs_f64());
    }

    fn during(&mut self, mut period: Period) {
        self.p50.push(percentile(&mut period.delays, 50.0));
        self.p99.push(percentile(&mut period.delays, 99.0));
        self.longest.push(percentile(&mut period.delays, 100.0));
        self.late_p99.push(percentile(&mut period.late, 99.0));
        self.silence.push(period.silence.as_secs_f64());
        self.refreshes += period.delays.len();
        self.closed_by_stop += period.delays.len() - period.late.len();
    }

    fn report(self, figures: &mut Figures, membership: &Membership) -> anyhow::Result<()> {
        let figure = |what: &str, samples| Figure::new(format!("{}: {what}", membership.name), "s", samples);
        let mut p99 = figure("delay p99 while three processors restart in turn", self.p99).note(format!(
            "{PER_SECOND} events/s, {PARTITIONS} partitions; from the first event's receipt; all {} refreshes of these times, \
             {} of them closed by a stop; {} events, none lost, none twice, audit exact",
            self.refreshes, self.closed_by_stop, self.stored
        ));
        p99.target = membership.target;
        figures.add(p99)?;
        figures.add(figure("delay p99 in the seconds before", self.p99_before).beside())?;
        figures.add(figure("delay p50", self.p50).beside())?;
        figures.add(figure("longest delay", self.longest).beside())?;
        figures.add(figure("readable after its window was due, p99", self.late_p99).beside())?;
        let silence = figure("longest silence of a partition", self.silence).beside();
        figures.add(silence.note(format!(
            "in the seconds before {:.2} s; from SIGTERM to its end a process takes {:.2} s, from its start until it is ready \
             {:.2} s, the restart of all three {:.1} s (medians)",
            median(&self.silence_before),
            median(&self.stopped),
            median(&self.ready),
            median(&self.lasted)
        )))
    }
}
