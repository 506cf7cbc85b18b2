//! A thousand webhooks a second for a minute, by the product's own commands: answers, events and audit agree.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::cluster::Bench;
use crate::figures::{Figure, Figures};
use crate::machine::Meter;
use crate::process::{self, Process, wait_until};
use crate::receiver::Listening;

/// What `frontstream send --json` says.
#[derive(Deserialize)]
struct Sent {
    sent: u64,
    seconds: f64,
    answers: BTreeMap<String, u64>,
    late_max_us: u64,
    latency_us: Latency,
}

#[derive(Deserialize)]
struct Latency {
    p50: u64,
    p99: u64,
    max: u64,
}

pub(crate) fn run(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let lasting = bench.options.size("60s", "10s");
    let topics = bench.topics("acceptance", 12)?;
    let mut env = topics.env("acceptance");
    let receiver = Listening::ours(&topics)?;
    let mut processor = Process::ready("processor", &env)?;
    env.push(("FRONTSTREAM_RECEIVER_LISTEN", receiver.address.to_string()));

    let meter = Meter::start(&[receiver.process.id(), processor.id()])?;
    let arguments = [
        "send",
        "--json",
        "--rate",
        "1000",
        "--conversations",
        "500",
        "--duration",
        lasting,
    ];
    let output = process::run(&arguments, &env)?;
    let used = meter.stop()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "send: {said}{errors}");
    let sent: Sent = serde_json::from_str(&said).with_context(|| format!("send said {said}{errors}"))?;
    let (accepted, duplicates) = of_200(&sent)?;

    let mut last = None;
    wait_until("every event is counted", || {
        processor.check_running()?;
        let audit = topics.audit("acceptance")?;
        let done = audit.open == 0;
        last = Some(audit);
        Ok(done)
    })?;
    let audit = last.context("the audit ran")?;
    ensure!(audit.exact, "the audit is not exact: {}", audit.said);
    ensure!(
        audit.events == accepted,
        "{accepted} webhooks were accepted, and {} events are stored",
        audit.events
    );
    let note = format!(
        "{} webhooks in {:.1} s: {accepted} accepted, {duplicates} told to be duplicates; {} events stored, {} of them counted \
         by {} refreshes; audit exact; sent at most {:.0} ms late",
        sent.sent,
        sent.seconds,
        audit.events,
        audit.counted,
        audit.refreshes,
        sent.late_max_us as f64 / 1e3
    );
    figures.add(Figure::new("webhooks answered 200", "", vec![(accepted + duplicates) as f64]).note(note))?;
    figures.add(
        Figure::new(
            "acknowledgement at 1,000/s, p99",
            "ms",
            vec![sent.latency_us.p99 as f64 / 1e3],
        )
        .note(format!(
            "as `frontstream send` sees it, slowest {:.0} ms; receiver {:.0} %, processor {:.0} % of a core, {}",
            sent.latency_us.max as f64 / 1e3,
            used.share(0),
            used.share(1),
            used.surroundings()
        )),
    )?;
    figures.add(Figure::new(
        "acknowledgement at 1,000/s, p50",
        "ms",
        vec![sent.latency_us.p50 as f64 / 1e3],
    ))
}

/// How many webhooks were accepted, and how many told to be duplicates; fails when there is any other answer.
fn of_200(sent: &Sent) -> anyhow::Result<(u64, u64)> {
    let of = |label: &str| sent.answers.get(label).copied().unwrap_or_default();
    let (accepted, duplicates) = (of("200 accepted"), of("200 duplicate"));
    ensure!(
        accepted + duplicates == sent.sent,
        "answers to {} webhooks: {:?}",
        sent.sent,
        sent.answers
    );
    Ok((accepted, duplicates))
}
