//! `kill -9` and an immediate restart under load: for how long no refresh comes out.

use std::time::Duration;

use anyhow::ensure;
use frontstream::lifecycle::Instant;

use crate::cluster::Bench;
use crate::figures::{Figure, Figures, Target};
use crate::load::Load;
use crate::process::{PATIENCE, Process};
use crate::refreshes::Reader;

const PER_SECOND: u32 = 2_000;

/// How long after a kill the search for the widest gap goes on at least.
const SETTLING: Duration = Duration::from_secs(4);

/// Outputs come regularly when the last is not older than this.
const REGULAR: Duration = Duration::from_millis(300);

/// When refreshes could be read.
struct Outputs<'r> {
    reader: &'r Reader,
    last: Option<Instant>,
    widest_gap: Duration,
    events: u64,
}

impl Outputs<'_> {
    fn read(&mut self) -> anyhow::Result<()> {
        let Some(seen) = self.reader.read(Duration::from_millis(5))? else {
            return Ok(());
        };
        self.events += u64::from(seen.refresh.event_count);
        if let Some(last) = self.last {
            self.widest_gap = self.widest_gap.max(seen.at_instant.since(last));
        }
        self.last = Some(seen.at_instant);
        Ok(())
    }

    /// Reads for `lasting` and returns the widest gap between two outputs.
    fn widest_gap(&mut self, lasting: Duration) -> anyhow::Result<Duration> {
        self.widest_gap = Duration::ZERO;
        let began = Instant::now();
        while began.elapsed() < lasting {
            self.read()?;
        }
        Ok(self.widest_gap)
    }
}

pub(crate) fn run(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let topics = bench.topics("restart", 12)?;
    let mut env = topics.env("restart");
    env.push(("FRONTSTREAM_PROCESSOR_INSTANCE_ID", "bench-0".to_owned()));
    // First: it waits until the new topics can be used.
    let mut process = Process::ready("processor", &env)?;
    let reader = Reader::from_now(bench, &topics)?;
    let mut outputs = Outputs {
        reader: &reader,
        last: None,
        widest_gap: Duration::ZERO,
        events: 0,
    };
    let load = Load::start(bench, &topics, PER_SECOND)?;
    outputs.widest_gap(Duration::from_secs(3))?;
    let (mut before, mut silent, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..bench.options.size(5_u64, 2) {
        // At another moment of the commit interval each time.
        let ordinary =
            outputs.widest_gap(Duration::from_millis(bench.options.size(5_000, 3_000) + 17 * n))?;
        outputs.widest_gap = Duration::ZERO;
        process.kill()?;
        process = Process::role("processor", &env)?;
        let silence = after_the_kill(&mut outputs, &mut process)?;
        before.push(ordinary.as_secs_f64());
        silent.push(silence.as_secs_f64());
        beyond.push(silence.saturating_sub(ordinary).as_secs_f64());
    }
    let stored = load.finish()?;
    reader.count_up_to(outputs.events, stored, || process.check_running())?;
    let audit = topics.audit("restart")?;
    ensure!(audit.exact, "the audit is not exact: {}", audit.said);
    report(figures, before, silent, beyond, stored)
}

/// Reads on from the kill until outputs come regularly again; returns the widest gap in between.
fn after_the_kill(outputs: &mut Outputs<'_>, process: &mut Process) -> anyhow::Result<Duration> {
    let killed = Instant::now();
    let regular = |outputs: &Outputs<'_>| outputs.last.is_some_and(|last| last.elapsed() < REGULAR);
    // What the killed process had committed may still be on its way; after the settling time an output is a new one.
    while killed.elapsed() < SETTLING || !regular(outputs) {
        ensure!(
            killed.elapsed() < PATIENCE,
            "no output {PATIENCE:?} after the restart"
        );
        process.check_running()?;
        outputs.read()?;
    }
    Ok(outputs.widest_gap)
}

fn report(
    figures: &mut Figures,
    before: Vec<f64>,
    silent: Vec<f64>,
    beyond: Vec<f64>,
    stored: u64,
) -> anyhow::Result<()> {
    figures.add(
        Figure::new("silence after kill -9 and restart, beyond the widest gap before", "s", beyond)
            .target(Target::Below(1.0))
            .note(format!(
                "2,000 events/s, 12 partitions, classic protocol, static member, restarted at once; {stored} events, none \
                 lost, none twice, audit exact"
            )),
    )?;
    figures.add(Figure::new("silence in all", "s", silent).beside())?;
    figures.add(Figure::new("widest gap between outputs before", "s", before).beside())
}
