//! A backlog: how fast one worker works it off, at what cost, and into how few refreshes.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use frontstream::lifecycle::Clock;
use frontstream::model::{Priority, Timestamp};

use crate::cluster::{Bench, Topics};
use crate::events::{Dice, Writer};
use crate::figures::{Figure, Figures, Target};
use crate::machine;
use crate::process::{Env, Process};
use crate::refreshes::Reader;

/// Older than the longest cap, so that it is a backlog from its first event to its last.
const AGE_MILLIS: i64 = 3_600_000;

/// What one run gave.
struct Outcome {
    events_per_second: f64,
    cpu_micros_per_event: f64,
    refreshes_per_conversation: f64,
    refreshes_of_one_conversation_max: u32,
    peak_resident_mib: f64,
}

/// How large the backlog is.
struct Size {
    events: u64,
    conversations: u64,
}

pub(crate) fn run(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let size = Size {
        events: bench.options.size(1_000_000, 200_000),
        conversations: bench.options.size(20_000, 4_000),
    };
    let repetitions = bench.options.size(5, 2);
    let topics = bench.topics("backlog", 12)?;
    fill(bench, &topics, &size)?;
    let (mut exactly_once, mut at_least_once) = (Vec::new(), Vec::new());
    for n in 0..repetitions {
        // Alternating, so that what else happens on the machine meets both.
        let env = topics.env(&format!("exactly-once-{n}"));
        exactly_once.push(work_off(bench, &topics, &size, || {
            Process::role("processor", &env)
        })?);
        let env = topics.env(&format!("at-least-once-{n}"));
        at_least_once.push(work_off(bench, &topics, &size, || {
            Process::reference("--at-least-once", &env)
        })?);
    }
    drop(topics);
    speed(figures, &size, &exactly_once, &at_least_once)?;
    of_conversations(figures, &size, 12, &exactly_once)?;

    let topics = bench.topics("backlog-1", 1)?;
    fill(bench, &topics, &size)?;
    let mut one_partition = Vec::new();
    for n in 0..bench.options.size(3, 1) {
        let env: Env = topics.env(&format!("exactly-once-{n}"));
        one_partition.push(work_off(bench, &topics, &size, || {
            Process::role("processor", &env)
        })?);
    }
    of_conversations(figures, &size, 1, &one_partition)?;
    figures.add(
        Figure::new(
            "backlog of one partition",
            "events/s",
            samples(&one_partition, |outcome| outcome.events_per_second),
        )
        .beside(),
    )
}

/// Stores the backlog: events of conversations in no order, all urgent.
fn fill(bench: &Bench, topics: &Topics, size: &Size) -> anyhow::Result<()> {
    let mut writer = Writer::new(bench, topics, Duration::from_millis(50))?;
    let mut dice = Dice::seeded(size.events);
    let received_at = Timestamp::from_millis(Clock::system().now().as_millis() - AGE_MILLIS);
    for n in 0..size.events {
        // Every conversation has an event; the others fall where they fall.
        let conversation = if n < size.conversations {
            n
        } else {
            dice.below(size.conversations)
        };
        writer.event(&format!("cnv_{conversation:07x}"), Priority::High, received_at)?;
    }
    writer.finish()?;
    Ok(())
}

/// Lets a processor work the backlog off, from its assignment to the last refresh that can be read.
fn work_off(
    bench: &Bench,
    topics: &Topics,
    size: &Size,
    start: impl FnOnce() -> anyhow::Result<Process>,
) -> anyhow::Result<Outcome> {
    let reader = Reader::from_now(bench, topics)?;
    let mut process = start()?;
    let (mut events, mut refreshes) = (0_u64, 0_u64);
    let mut of_one: std::collections::HashMap<Box<str>, u32> = std::collections::HashMap::new();
    let (mut began, mut ended): (Option<Timestamp>, Option<Timestamp>) = (None, None);
    let all = size.events;
    reader.read_until("the backlog is worked off", |seen| {
        let Some(seen) = seen else {
            process.check_running()?;
            return Ok(events >= all);
        };
        events += u64::from(seen.refresh.event_count);
        refreshes += 1;
        *of_one
            .entry(seen.refresh.conversation.as_str().into())
            .or_default() += 1;
        let started_at = seen.refresh.run.started_at;
        began = Some(began.map_or(started_at, |began| began.min(started_at)));
        ended = Some(seen.at);
        Ok(events >= all)
    })?;
    ensure!(events == all, "{events} events were counted of {all}");
    ensure!(
        of_one.len() as u64 == size.conversations,
        "{} conversations",
        of_one.len()
    );
    let cpu = machine::cpu(process.id())?;
    let peak_resident_mib = machine::peak_resident_mib(process.id())?;
    process.kill()?;
    let (began, ended) = began.zip(ended).context("there were refreshes")?;
    Ok(Outcome {
        events_per_second: all as f64 / ended.saturating_since(began).as_secs_f64(),
        cpu_micros_per_event: cpu.as_secs_f64() * 1e6 / all as f64,
        refreshes_per_conversation: refreshes as f64 / size.conversations as f64,
        refreshes_of_one_conversation_max: of_one.into_values().max().context("there were refreshes")?,
        peak_resident_mib,
    })
}

fn samples(outcomes: &[Outcome], of: impl Fn(&Outcome) -> f64) -> Vec<f64> {
    outcomes.iter().map(of).collect()
}

fn speed(figures: &mut Figures, size: &Size, ours: &[Outcome], reference: &[Outcome]) -> anyhow::Result<()> {
    let note = format!(
        "{} events of {} conversations, 2 KB, 12 partitions, one worker; from the assignment to the last refresh readable",
        size.events, size.conversations
    );
    figures.add(
        Figure::new(
            "processor, backlog",
            "events/s",
            samples(ours, |o| o.events_per_second),
        )
        .target(Target::AtLeast(250_000.0))
        .note(note),
    )?;
    figures.add(
        Figure::new(
            "at-least-once loop, backlog",
            "events/s",
            samples(reference, |o| o.events_per_second),
        )
        .beside()
        .note(
            "same client settings, decoder and coalescer; plain producer, offsets committed asynchronously",
        ),
    )?;
    let ratios = ours
        .iter()
        .zip(reference)
        .map(|(ours, reference)| 100.0 * ours.events_per_second / reference.events_per_second);
    figures.add(
        Figure::new("exactly-once against at-least-once", "%", ratios.collect())
            .target(Target::AtLeast(85.0))
            .note("run by run, alternating"),
    )?;
    figures.add(
        Figure::new("processor, CPU in a backlog", "us/event", samples(ours, |o| o.cpu_micros_per_event))
            .target(Target::AtMost(2.5))
            .note(
                "all threads of the process, its start included; the target is half of the 5 us of a tuned, warm Kafka \
                 Streams (not run here)",
            ),
    )?;
    figures.add(
        Figure::new(
            "at-least-once loop, CPU in a backlog",
            "us/event",
            samples(reference, |o| o.cpu_micros_per_event),
        )
        .beside(),
    )?;
    figures.add(
        Figure::new(
            "processor, peak memory in a backlog",
            "MiB",
            samples(ours, |o| o.peak_resident_mib),
        )
        .beside(),
    )
}

/// The target is taken at its word: of the conversation that has the most.
fn of_conversations(
    figures: &mut Figures,
    size: &Size,
    partitions: u32,
    ours: &[Outcome],
) -> anyhow::Result<()> {
    figures.add(
        Figure::new(
            format!("most refreshes of one conversation, {partitions} partition(s)"),
            "",
            samples(ours, |o| f64::from(o.refreshes_of_one_conversation_max)),
        )
        .target(Target::AtMost(4.0))
        .note(format!(
            "{} events of {} conversations",
            size.events, size.conversations
        )),
    )?;
    figures.add(
        Figure::new(
            format!("mean refreshes per conversation, {partitions} partition(s)"),
            "",
            samples(ours, |o| o.refreshes_per_conversation),
        )
        .beside(),
    )
}
