//! The processor at a steady rate: its share of a core, its memory, and how soon a refresh can be read.

use std::time::Duration;

use frontstream::lifecycle::Instant;
use frontstream::model::{CloseReason, Lanes};

use crate::cluster::Bench;
use crate::figures::{Figure, Figures, Target, percentile};
use crate::load::Load;
use crate::machine::{self, Meter};
use crate::process::{Process, wait_until};
use crate::refreshes::{Reader, Seen};

const PER_SECOND: u32 = 2_000;

/// Rebalance, first connections and the first long caps are over by then.
const WARM_UP: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Samples {
    core_percent: Vec<f64>,
    visible_p50: Vec<f64>,
    visible_p99: Vec<f64>,
    transactions: Vec<f64>,
    refreshes: Vec<f64>,
    notes: Vec<String>,
}

pub(crate) fn run(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let window = Duration::from_secs(bench.options.size(15, 6));
    let topics = bench.topics("steady", 12)?;
    let env = topics.env("steady");
    let mut process = Process::ready("processor", &env)?;
    let load = Load::start(bench, &topics, PER_SECOND)?;
    let reader = Reader::from_now(bench, &topics)?;
    watch(&reader, WARM_UP, &mut process, |_| {})?;
    let mut samples = Samples::default();
    for _ in 0..bench.options.size(3, 1) {
        measure(&reader, window, &mut process, &mut samples)?;
    }
    let peak = machine::peak_resident_mib(process.id())?;
    load.finish()?;
    wait_until("the last windows are counted", || {
        process.check_running()?;
        Ok(topics.audit("steady")?.exact)
    })?;
    report(figures, window, samples, peak)
}

/// Reads for a while.
fn watch(
    reader: &Reader,
    lasting: Duration,
    process: &mut Process,
    mut each: impl FnMut(Seen),
) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < lasting {
        if let Some(seen) = reader.read(Duration::from_millis(20))? {
            each(seen);
        }
    }
    process.check_running()
}

fn measure(
    reader: &Reader,
    window: Duration,
    process: &mut Process,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let committed = "frontstream_processor_transactions_total{outcome=\"committed\"}";
    let transactions = process.metric(committed)?;
    let meter = Meter::start(&[process.id()])?;
    let lanes = Lanes::default();
    let (mut late, mut refreshes) = (Vec::new(), 0_u32);
    watch(reader, window, process, |seen| {
        refreshes += 1;
        let refresh = &seen.refresh;
        if refresh.event_count == 1 && refresh.closed_by == CloseReason::Gap {
            let closes = refresh.first_received_at.plus(lanes.of(refresh.priority).gap);
            late.push(seen.at.saturating_since(closes).as_secs_f64() * 1e3);
        }
    })?;
    let used = meter.stop()?;
    let seconds = used.elapsed.as_secs_f64();
    samples.core_percent.push(used.share(0));
    samples
        .transactions
        .push((process.metric(committed)? - transactions) / seconds);
    samples.refreshes.push(f64::from(refreshes) / seconds);
    samples.visible_p50.push(percentile(&mut late, 50.0));
    samples.visible_p99.push(percentile(&mut late, 99.0));
    samples.notes.push(used.surroundings());
    Ok(())
}

fn report(figures: &mut Figures, window: Duration, samples: Samples, peak: f64) -> anyhow::Result<()> {
    let last = samples.notes.last().cloned().unwrap_or_default();
    figures.add(
        Figure::new("processor at 2,000 events/s", "% of a core", samples.core_percent)
            .target(Target::AtMost(5.0))
            .note(format!("user and system time over windows of {window:?}; {last}")),
    )?;
    figures.add(
        Figure::new("processor at 2,000 events/s, peak memory", "MiB", vec![peak])
            .target(Target::Below(128.0)),
    )?;
    figures.add(
        Figure::new("refresh readable after its window closed, p50", "ms", samples.visible_p50)
            .target(Target::Below(50.0))
            .note("windows of a single event, which close a gap after it was read; counted from its receipt, so the way \
                   to the processor is in the figure"),
    )?;
    figures.add(
        Figure::new(
            "refresh readable after its window closed, p99",
            "ms",
            samples.visible_p99,
        )
        .target(Target::Below(100.0)),
    )?;
    figures.add(Figure::new("transactions", "per s", samples.transactions).beside())?;
    figures.add(Figure::new("refreshes", "per s", samples.refreshes).beside())
}
