//! The receiver: its highest rate and what a request costs, its latency, its memory, and what a refusal costs.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::ensure;

use crate::cluster::{Bench, Topics};
use crate::figures::{Figure, Figures, Target};
use crate::http::{Answers, CONNECTIONS, as_fast_as_answered, at_a_rate};
use crate::machine::{self, Meter};
use crate::process::{Env, Process, free_address, wait_until};
use crate::webhooks::{Flaw, Webhooks};

/// Conversations that the load is about.
const CONVERSATIONS: u64 = 2_000;

/// A receiver, ours or the bare one, and where it listens.
pub(crate) struct Listening {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Listening {
    pub(crate) fn ours(topics: &Topics) -> anyhow::Result<Self> {
        let (env, address) = env(topics)?;
        let process = Process::ready("receiver", &env)?;
        Ok(Self { process, address })
    }

    fn bare(topics: &Topics) -> anyhow::Result<Self> {
        let (env, address) = env(topics)?;
        let mut process = Process::reference("--bare-receiver", &env)?;
        wait_until("the bare receiver listens", || {
            process.check_running()?;
            Ok(TcpStream::connect(address).is_ok())
        })?;
        Ok(Self { process, address })
    }
}

fn env(topics: &Topics) -> anyhow::Result<(Env, SocketAddr)> {
    let address = free_address()?;
    let mut env = topics.env("receiver");
    env.push(("FRONTSTREAM_RECEIVER_LISTEN", address.to_string()));
    Ok((env, address))
}

/// One run as fast as answered.
struct Fastest {
    per_second: f64,
    cpu_micros: f64,
    p99: f64,
    surroundings: String,
}

pub(crate) fn run(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let topics = bench.topics("receiver", 12)?;
    let requests = bench.options.size(100_000, 20_000);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let mut webhooks = Webhooks::new("f");
    let mut next = 0;
    for _ in 0..bench.options.size(5, 2) {
        ours.push(fastest(
            &Listening::ours(&topics)?,
            &mut webhooks,
            &mut next,
            requests,
        )?);
        bare.push(fastest(
            &Listening::bare(&topics)?,
            &mut webhooks,
            &mut next,
            requests,
        )?);
    }
    throughput(figures, requests, &ours, &bare)?;
    let rates: Vec<_> = ours.iter().map(|run| run.per_second).collect();
    latency(bench, &topics, figures, crate::figures::median(&rates) / 2.0)?;
    memory(bench, &topics, figures)?;
    refusals(bench, &topics, figures, &ours)
}

/// Warms a receiver up, then posts as fast as it answers.
fn fastest(
    to: &Listening,
    webhooks: &mut Webhooks,
    next: &mut u64,
    requests: u64,
) -> anyhow::Result<Fastest> {
    let mut numbers = |count| {
        *next += count;
        *next - count..*next
    };
    let warm_up = as_fast_as_answered(
        to.address,
        webhooks,
        numbers(requests / 10),
        CONVERSATIONS,
        Flaw::None,
    )?;
    warm_up.expect_only(200)?;
    let meter = Meter::start(&[to.process.id()])?;
    let mut answers =
        as_fast_as_answered(to.address, webhooks, numbers(requests), CONVERSATIONS, Flaw::None)?;
    let used = meter.stop()?;
    answers.expect_only(200)?;
    ensure!(
        answers.of(200) == requests,
        "{} answers to {requests} requests",
        answers.of(200)
    );
    Ok(Fastest {
        per_second: requests as f64 / answers.elapsed.as_secs_f64(),
        cpu_micros: used.cpu[0].as_secs_f64() * 1e6 / requests as f64,
        p99: answers.latency(99.0),
        surroundings: used.surroundings(),
    })
}

fn throughput(
    figures: &mut Figures,
    requests: u64,
    ours: &[Fastest],
    bare: &[Fastest],
) -> anyhow::Result<()> {
    let of = |runs: &[Fastest], of: fn(&Fastest) -> f64| runs.iter().map(of).collect::<Vec<_>>();
    let ratio = |of: fn(&Fastest) -> f64| -> Vec<f64> {
        ours.iter()
            .zip(bare)
            .map(|(ours, bare)| of(ours) / of(bare))
            .collect()
    };
    let note = format!(
        "{requests} signed webhooks of 2.1 to 3.1 KB, {CONNECTIONS} connections, 12 partitions, acks=all; {}",
        ours.last()
            .map(|run| run.surroundings.clone())
            .unwrap_or_default()
    );
    figures.add(
        Figure::new(
            "receiver, as fast as it answers",
            "requests/s",
            of(ours, |r| r.per_second),
        )
        .note(note),
    )?;
    figures.add(
        Figure::new(
            "minimal axum + HMAC + producer handler",
            "requests/s",
            of(bare, |r| r.per_second),
        )
        .beside()
        .note(
            bare.last()
                .map(|run| run.surroundings.clone())
                .unwrap_or_default(),
        ),
    )?;
    figures.add(
        Figure::new(
            "receiver's rate against the minimal handler's",
            "%",
            ratio(|r| r.per_second)
                .into_iter()
                .map(|ratio| ratio * 100.0)
                .collect(),
        )
        .target(Target::AtLeast(90.0))
        .note("run by run, alternating"),
    )?;
    figures.add(Figure::new(
        "receiver, CPU",
        "us/request",
        of(ours, |r| r.cpu_micros),
    ))?;
    figures.add(Figure::new("minimal handler, CPU", "us/request", of(bare, |r| r.cpu_micros)).beside())?;
    figures.add(
        Figure::new(
            "receiver's CPU against the minimal handler's",
            "times",
            ratio(|r| r.cpu_micros),
        )
        .target(Target::AtMost(1.25)),
    )?;
    figures.add(Figure::new("receiver at its highest rate, p99", "ms", of(ours, |r| r.p99)).beside())
}

fn latency(bench: &Bench, topics: &Topics, figures: &mut Figures, half: f64) -> anyhow::Result<()> {
    let lasting = Duration::from_secs(bench.options.size(8, 4));
    let repetitions = bench.options.size(3, 1);
    let measure = |start: fn(&Topics) -> anyhow::Result<Listening>, rate, name| {
        let to = start(topics)?;
        at_a_rate(to.address, "w", rate, Duration::from_secs(2), CONVERSATIONS)?.expect_only(200)?;
        let answers: Answers = at_a_rate(to.address, name, rate, lasting, CONVERSATIONS)?;
        answers.expect_only(200)?;
        anyhow::Ok(answers)
    };
    let (mut ours, mut bare, mut at_half) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..repetitions {
        ours.push(measure(Listening::ours, 1_000.0, "l")?);
        bare.push(measure(Listening::bare, 1_000.0, "l")?);
        at_half.push(measure(Listening::ours, half, "h")?);
    }
    let of = |runs: &mut Vec<Answers>, percent| -> Vec<f64> {
        runs.iter_mut().map(|run| run.latency(percent)).collect()
    };
    let late = ours.iter_mut().map(|run| run.lateness(50.0)).collect::<Vec<_>>();
    let note = format!(
        "open loop over {lasting:?}, counted from when a request was due; the generator itself is late by {:.2} ms (p50), \
         which is in the figure",
        crate::figures::median(&late)
    );
    figures.add(
        Figure::new("receiver at 1,000/s, p50", "ms", of(&mut ours, 50.0))
            .target(Target::Below(1.0))
            .note(note),
    )?;
    figures
        .add(Figure::new("receiver at 1,000/s, p99", "ms", of(&mut ours, 99.0)).target(Target::Below(4.0)))?;
    figures.add(Figure::new("minimal handler at 1,000/s, p50", "ms", of(&mut bare, 50.0)).beside())?;
    figures.add(Figure::new("minimal handler at 1,000/s, p99", "ms", of(&mut bare, 99.0)).beside())?;
    figures.add(
        Figure::new(
            "receiver at half its highest rate, p99",
            "ms",
            of(&mut at_half, 99.0),
        )
        .target(Target::Below(15.0))
        .note(format!("{half:.0}/s")),
    )
}

fn memory(bench: &Bench, topics: &Topics, figures: &mut Figures) -> anyhow::Result<()> {
    let to = Listening::ours(topics)?;
    let lasting = Duration::from_secs(bench.options.size(15, 4));
    let meter = Meter::start(&[to.process.id()])?;
    at_a_rate(to.address, "m", 2_000.0, lasting, CONVERSATIONS)?.expect_only(200)?;
    let used = meter.stop()?;
    figures.add(
        Figure::new(
            "receiver at 2,000/s, peak memory",
            "MiB",
            vec![machine::peak_resident_mib(to.process.id())?],
        )
        .target(Target::Below(64.0))
        .note(used.surroundings()),
    )?;
    figures.add(Figure::new("receiver at 2,000/s", "% of a core", vec![used.share(0)]).beside())
}

/// What a refused request costs beside an accepted one.
fn refusals(
    bench: &Bench,
    topics: &Topics,
    figures: &mut Figures,
    accepted: &[Fastest],
) -> anyhow::Result<()> {
    let accepted: Vec<_> = accepted.iter().map(|run| run.cpu_micros).collect();
    let accepted = crate::figures::median(&accepted);
    let to = Listening::ours(topics)?;
    let requests = bench.options.size(50_000, 20_000);
    let kinds = [
        (
            Flaw::Stale,
            401,
            "stale timestamp",
            "keeps the connection, if the receiver does",
        ),
        (
            Flaw::Size,
            413,
            "body too large",
            "each on a connection of its own, because the body does not follow",
        ),
        (
            Flaw::Signature,
            401,
            "wrong signature",
            "the target leaves out the body, which must be read and hashed to refuse it",
        ),
    ];
    for (flaw, status, name, note) in kinds {
        let mut webhooks = Webhooks::new("r");
        let mut samples = Vec::new();
        for _ in 0..bench.options.size(3, 1) {
            let meter = Meter::start(&[to.process.id()])?;
            let answers = as_fast_as_answered(to.address, &mut webhooks, 0..requests, CONVERSATIONS, flaw)?;
            answers.expect_only(status)?;
            let cpu = meter.stop()?.cpu[0].as_secs_f64() * 1e6 / requests as f64;
            samples.push(100.0 * cpu / accepted);
        }
        figures.add(
            Figure::new(
                format!("refusal, {name}"),
                "% of an accepted request's CPU",
                samples,
            )
            .target(Target::Below(10.0))
            .note(note),
        )?;
    }
    Ok(())
}
