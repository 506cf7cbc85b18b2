//! From a webhook that is posted to its refresh that can be read.

use std::time::Duration;

use anyhow::{anyhow, ensure};
use frontstream::lifecycle::Instant;
use frontstream::model::Timestamp;

use crate::cluster::Bench;
use crate::figures::{Figure, Figures, Target, percentile};
use crate::http::at_a_rate;
use crate::machine::Meter;
use crate::process::{PATIENCE, Process};
use crate::receiver::Listening;
use crate::refreshes::Reader;
use crate::webhooks::number_of;

const PER_SECOND: f64 = 1_000.0;

/// At this rate a conversation has an event every two seconds: some windows hold two or three.
const CONVERSATIONS: u64 = 2_000;

/// Marks the measured events; the warm-up's have another name.
const NAME: &str = "e";

pub(crate) fn run(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let lasting = Duration::from_secs(bench.options.size(20, 6));
    let (mut p50, mut p99, mut note) = (Vec::new(), Vec::new(), String::new());
    for _ in 0..bench.options.size(3, 1) {
        let (mut delays, surroundings) = once(bench, lasting)?;
        p50.push(percentile(&mut delays, 50.0));
        p99.push(percentile(&mut delays, 99.0));
        note = surroundings;
    }
    figures.add(
        Figure::new("webhook posted to refresh readable, p50", "ms", p50)
            .target(Target::Below(400.0))
            .note(format!(
                "1,000/s for {lasting:?}, all of high priority (gap 300 ms, cap 800 ms), counted from when the webhook was \
                 due; {note}"
            )),
    )?;
    figures
        .add(Figure::new("webhook posted to refresh readable, p99", "ms", p99).target(Target::Below(1_000.0)))
}

fn once(bench: &Bench, lasting: Duration) -> anyhow::Result<(Vec<f64>, String)> {
    let topics = bench.topics("end-to-end", 12)?;
    let receiver = Listening::ours(&topics)?;
    let mut processor = Process::ready("processor", &topics.env("end-to-end"))?;
    let reader = Reader::from_now(bench, &topics)?;
    at_a_rate(
        receiver.address,
        "w",
        PER_SECOND,
        Duration::from_secs(3),
        CONVERSATIONS,
    )?
    .expect_only(200)?;

    let meter = Meter::start(&[receiver.process.id(), processor.id()])?;
    let address = receiver.address;
    let load = std::thread::Builder::new()
        .name("load".to_owned())
        .spawn(move || at_a_rate(address, NAME, PER_SECOND, lasting, CONVERSATIONS))?;
    let mut readable: Vec<(u64, Timestamp)> = Vec::new();
    let mut surroundings = None;
    let began = Instant::now();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of requests is small and not negative"
    )]
    let expected = (PER_SECOND * lasting.as_secs_f64()) as usize;
    let mut meter = Some(meter);
    while readable.len() < expected {
        ensure!(
            began.elapsed() < lasting + PATIENCE,
            "{} of {expected} were refreshed",
            readable.len()
        );
        processor.check_running()?;
        if let Some(seen) = reader.read(Duration::from_millis(20))? {
            ensure!(
                !seen.refresh.event_ids_truncated,
                "a refresh names all of its events"
            );
            let numbers = seen
                .refresh
                .event_ids
                .iter()
                .filter_map(|id| number_of(id.as_str(), NAME));
            readable.extend(numbers.map(|number| (number, seen.at)));
        }
        if load.is_finished()
            && let Some(meter) = meter.take()
        {
            let used = meter.stop()?;
            surroundings = Some(format!(
                "receiver {:.0} %, processor {:.0} % of a core, {}",
                used.share(0),
                used.share(1),
                used.surroundings()
            ));
        }
    }
    let answers = load.join().map_err(|_| anyhow!("the load panicked"))??;
    answers.expect_only(200)?;
    let due = answers
        .began
        .ok_or_else(|| anyhow!("an open loop has a beginning"))?;
    let delays = readable
        .into_iter()
        .map(|(number, at)| at.saturating_since(due).as_secs_f64() * 1e3 - number as f64 / PER_SECOND * 1e3);
    Ok((delays.collect(), surroundings.unwrap_or_default()))
}
