//! The whole path against a real Kafka, and `dev` on its own broker: the figures of the design, each beside its target.
//!
//! `scripts/bench` starts a broker and runs this. The roles are processes of their own, the product's real binary
//! configured by its environment, so that CPU time and memory are theirs; the references that the design asks for run
//! in the same way, from this binary. Whatever is started here is ended here, and every wait has an end.

#![expect(clippy::print_stdout, reason = "a bench is read on the terminal")]
#![allow(missing_docs, reason = "nothing of a bench is called from outside")]

mod acceptance;
mod at_least_once;
mod backlog;
mod bare_receiver;
mod broker;
mod cluster;
mod dev;
mod document;
mod end_to_end;
mod events;
mod figures;
mod http;
mod load;
mod machine;
mod options;
mod process;
mod receiver;
mod refreshes;
mod restart;
mod rolling;
mod steady;
mod webhooks;

use std::process::ExitCode;

use frontstream::lifecycle::Instant;

use cluster::Bench;
use figures::Figures;
use options::{Options, What};

/// One part of the bench.
struct Section {
    /// What `--only` takes.
    name: &'static str,
    run: fn(&Bench, &mut Figures) -> anyhow::Result<()>,
    /// Whether it needs the broker that the bench was given.
    needs_kafka: bool,
}

const fn on_kafka(name: &'static str, run: fn(&Bench, &mut Figures) -> anyhow::Result<()>) -> Section {
    let needs_kafka = true;
    Section {
        name,
        run,
        needs_kafka,
    }
}

const fn alone(name: &'static str, run: fn(&Bench, &mut Figures) -> anyhow::Result<()>) -> Section {
    let needs_kafka = false;
    Section {
        name,
        run,
        needs_kafka,
    }
}

/// In the order in which they run and in which the table shows them.
const SECTIONS: [Section; 9] = [
    on_kafka("backlog", backlog::run),
    on_kafka("steady", steady::run),
    on_kafka("restart", restart::run),
    on_kafka("rolling", rolling::run),
    on_kafka("receiver", receiver::run),
    on_kafka("end-to-end", end_to_end::run),
    on_kafka("acceptance", acceptance::run),
    alone("dev", dev::run),
    alone("broker", broker::run),
];

fn main() -> ExitCode {
    let names: Vec<_> = SECTIONS.iter().map(|section| section.name).collect();
    let outcome = match options::of_process(&names) {
        Ok(What::Bench(options)) => bench(options),
        Ok(What::Document) => document::write(),
        Ok(What::AtLeastOnce) => at_least_once::run().map(|()| true),
        Ok(What::BareReceiver) => bare_receiver::run().map(|()| true),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("pipeline: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the sections; one that fails does not keep the others from running, but the bench from succeeding.
fn bench(options: Options) -> anyhow::Result<bool> {
    let bench = Bench::connect(options)?;
    let mut figures = Figures::create(&bench.options)?;
    let began = Instant::now();
    let mut all_ran = true;
    for section in SECTIONS {
        if !bench.options.runs(section.name) {
            continue;
        }
        println!("\n== {}", section.name);
        if section.needs_kafka && !bench.has_kafka() {
            println!("   skipped, it needs a broker: run scripts/bench");
            continue;
        }
        let section_began = Instant::now();
        figures.begin(section.name);
        if let Err(error) = (section.run)(&bench, &mut figures) {
            println!("   FAILED: {error:#}");
            figures.failed(&format!("{error:#}"))?;
            all_ran = false;
        }
        println!("   ({:.0} s)", section_began.elapsed().as_secs_f64());
    }
    println!("\n{}", figures.table());
    println!(
        "{:.0} s in all; {}",
        began.elapsed().as_secs_f64(),
        figures.place()
    );
    Ok(all_ran)
}
