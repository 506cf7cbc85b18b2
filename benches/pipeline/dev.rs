//! `frontstream dev` as somebody meets it: how soon there is something to see, and what it takes of the machine.

use std::time::Duration;

use frontstream::lifecycle::Instant;

use crate::cluster::Bench;
use crate::figures::{Figure, Figures, Target};
use crate::machine::{self, Meter};
use crate::process::{Env, Process, free_address, wait_until};

/// Ours and the connections' first buffers are there by then.
const SETTLED: Duration = Duration::from_secs(5);

pub(crate) fn run(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    first_refresh(bench, figures)?;
    idle(bench, figures)?;
    busy(bench, figures)
}

/// As it is started by default: with a few sample webhooks a second.
fn first_refresh(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut samples = Vec::new();
    for _ in 0..bench.options.size(5, 1) {
        let began = Instant::now();
        let mut process = Process::with(&["dev"], &env()?)?;
        wait_until("there is a refresh", || {
            process.check_running()?;
            // Until the admin page is there, there is none.
            Ok(process
                .metric("frontstream_processor_refresh_records_committed_total")
                .is_ok_and(|count| count >= 1.0))
        })?;
        samples.push(began.elapsed().as_secs_f64() * 1e3);
    }
    figures.add(
        Figure::new("process started to first refresh committed", "ms", samples)
            .target(Target::Below(1_000.0))
            .note("`frontstream dev` with its 4 sample webhooks a second, as its metrics show it, looked at every 5 ms"),
    )
}

fn idle(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let (mut resident, mut share) = (Vec::new(), Vec::new());
    for _ in 0..bench.options.size(3, 1) {
        let mut process = Process::with(&["dev", "--rate", "0"], &env()?)?;
        process.wait_until_ready()?;
        let meter = Meter::start(&[process.id()])?;
        pass(SETTLED);
        process.check_running()?;
        share.push(meter.stop()?.share(0));
        resident.push(machine::resident_mib(process.id())?);
    }
    figures.add(
        Figure::new("idle, memory", "MiB", resident)
            .target(Target::Below(40.0))
            .note(format!("resident, {SETTLED:?} after it was ready; no traffic")),
    )?;
    figures.add(Figure::new("idle, CPU", "% of a core", share).beside())
}

/// The webhooks are made in the same process, which is in the figure.
fn busy(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let lasting = Duration::from_secs(bench.options.size(60, 10));
    let mut process = Process::with(&["dev", "--rate", "1000", "--conversations", "2000"], &env()?)?;
    process.wait_until_ready()?;
    let meter = Meter::start(&[process.id()])?;
    pass(lasting);
    process.check_running()?;
    let used = meter.stop()?;
    let accepted = process.metric("frontstream_receiver_requests_total{answer=\"200\"")?;
    figures.add(
        Figure::new("at 1,000 webhooks/s, memory", "MiB", vec![machine::peak_resident_mib(process.id())?])
            .target(Target::Below(150.0))
            .note(format!(
                "the most that was resident in the first {lasting:?}, the records of that time included; {:.0} webhooks/s answered 200, \
                 {:.0} % of a core; {}",
                accepted / used.elapsed.as_secs_f64(),
                used.share(0),
                used.surroundings()
            )),
    )
}

/// Ports that nothing else uses; everything else as it is by default.
fn env() -> anyhow::Result<Env> {
    Ok(vec![("FRONTSTREAM_RECEIVER_LISTEN", free_address()?.to_string())])
}

fn pass(time: Duration) {
    let began = Instant::now();
    while let Some(left) = time.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}
