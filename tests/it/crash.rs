//! The processor protocol in simulation: the real workers on models of the log, the group, the transaction coordinator and
//! the clients. Between any two steps processes crash, stall and come back as zombies; partitions are revoked and lost;
//! requests and answers get lost, members and producers are fenced; operators reset offsets, retention deletes, clocks step.
//!
//! Held to what the fault campaign is held to, in its words: nothing is lost, doubled, misordered or untrue, and nothing is
//! late: an event is committed by the cap of its lane and the commit interval, unless something disturbed it since.
//!
//! A run is its seed, on every machine. A million steps are run: the seeds of `tests/data/crash_seeds.txt`, then 0, 1, 2, …
//! - more: `CRASH_SEEDS=1000..5000 cargo test --test it crash::every_run`;
//! - one again, telling what happens: `CRASH_SEEDS=694..695 cargo test --test it crash::every_run -- --nocapture`.
//!
//! A seed that fails is named. Once the failure is mended the seed is kept in that file, with what it found. What a seed means
//! changes with the simulation; then kept seeds are found anew, by undoing what mended them.

mod broker;
mod client;
mod group;
mod member;
mod oracle;
mod planted;
mod producer;
mod story;
mod world;

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use frontstream::coalesce::Output;

use oracle::{Oracle, Written};
use planted::Planted;
use story::Story;
use world::{Ended, Ground, World};

/// How many scheduler actions the campaign has at least, seed after seed from 0 on.
const STEPS_MIN: u64 = 1_000_000;

/// How many threads share the seeds; a run is one thread's.
const THREADS: u64 = 2;

/// A planted bug that so many runs do not find is not found.
const PLANTED_SEEDS_MAX: u64 = 300;

/// What some runs have shown.
#[derive(Default)]
struct Report {
    story: Story,
    runs: u64,
    steps: u64,
    /// The longest over the promised delay.
    worst_us: u64,
    failed: Vec<(u64, String)>,
}

impl Report {
    fn add_run(&mut self, seed: u64, loud: bool, ground: &Rc<Ground>) {
        self.runs += 1;
        match run(seed, Planted::None, loud, ground) {
            Ok(ended) => {
                self.story.add(&ended.broker.story);
                self.steps += ended.actions;
                self.worst_us = self.worst_us.max(ended.broker.promise.worst_us);
            }
            Err(what) => self.failed.push((seed, what)),
        }
    }

    fn add(&mut self, other: Self) {
        self.story.add(&other.story);
        self.runs += other.runs;
        self.steps += other.steps;
        self.worst_us = self.worst_us.max(other.worst_us);
        self.failed.extend(other.failed);
    }
}

/// A million steps, or the seeds that were asked for; those that failed once come first.
#[test]
fn every_run_is_exact() {
    let told = told_seeds();
    let mut report = Report::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let told = told.clone();
                    move || campaign(thread, told)
                })
            })
            .collect();
        for thread in threads {
            report.add(thread.join().expect("a run's panic is caught"));
        }
    });
    println!(
        "{}{} steps in {} runs, {} commits, {} refreshes, {} failed; at worst {} us later than promised",
        report.story,
        report.steps,
        report.runs,
        report.story.of("commit"),
        report.story.of("refresh"),
        report.failed.len(),
        report.worst_us,
    );
    for (seed, what) in &report.failed {
        println!("seed {seed} failed: {what}");
    }
    assert!(report.failed.is_empty(), "{} seeds failed", report.failed.len());
    if told.is_none() {
        assert!(report.steps >= STEPS_MIN);
        // A campaign in which something never happens proves nothing of it.
        report.story.assert_eventful();
    }
}

/// One thread's share of the seeds.
fn campaign(thread: u64, told: Option<Range<u64>>) -> Report {
    let ground = Rc::new(Ground::new());
    let mut report = Report::default();
    let ours = |seed: &u64| seed % THREADS == thread;
    match told {
        Some(told) => {
            // A seed that is run alone tells what happens.
            let loud = told.end - told.start == 1;
            told.filter(ours)
                .for_each(|seed| report.add_run(seed, loud, &ground));
        }
        None => {
            kept_seeds()
                .into_iter()
                .filter(ours)
                .for_each(|seed| report.add_run(seed, false, &ground));
            let mut seeds = (0..).filter(ours);
            while report.steps < STEPS_MIN.div_ceil(THREADS) {
                report.add_run(seeds.next().expect("they do not end"), false, &ground);
            }
        }
    }
    report
}

/// Each planted bug is found, and by how many seeds.
#[test]
fn planted_bugs_are_found() {
    let ground = Rc::new(Ground::new());
    let mut missed = Vec::new();
    for planted in Planted::ALL {
        let found = (0..PLANTED_SEEDS_MAX).find_map(|seed| {
            let found = run(seed, planted, false, &ground).err();
            found.map(|what| (seed + 1, what))
        });
        match found {
            Some((tried, what)) => {
                println!("{planted:?}: found by seed {tried} of {PLANTED_SEEDS_MAX}: {what:.200}")
            }
            None => missed.push(planted),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Damages what exact runs have written, everywhere it can be damaged: each must be found.
#[test]
fn the_oracle_finds_damaged_outputs() {
    let ground = Rc::new(Ground::new());
    let mut damages = 0;
    for seed in 0..8 {
        let ended = World::run(seed, Planted::None, false, &ground);
        for (view, log) in ended.logs() {
            let oracle = Oracle::new(&view);
            assert_eq!(oracle.verdict(&log.written, &log.ends), Ok(()), "seed {seed}");
            for place in (0..log.written.len()).step_by(5) {
                for (name, damaged) in damaged(&log.written, place) {
                    let found = oracle.verdict(&damaged, &log.ends);
                    assert!(found.is_err(), "seed {seed}: {name} at {place} is not found");
                    damages += 1;
                }
            }
        }
    }
    println!("{damages} damages found");
    assert!(damages > 1_000);
}

/// One run. One that panics, in the product or for want of an end, has failed too.
fn run(seed: u64, planted: Planted, loud: bool, ground: &Rc<Ground>) -> Result<Ended, String> {
    let run = || {
        let ended = World::run(seed, planted, loud, ground);
        ended.verdict().map(|()| ended)
    };
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    caught.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        Err(said
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_default())
    })
}

fn damaged(written: &[Written], place: usize) -> Vec<(&'static str, Vec<Written>)> {
    let mut all = Vec::new();
    let mut damage = |name, change: &dyn Fn(&mut Vec<Written>)| {
        let mut copy = written.to_vec();
        change(&mut copy);
        all.push((name, copy));
    };
    damage("a lost output", &|copy| drop(copy.remove(place)));
    damage("a doubled output", &|copy| {
        copy.insert(place, copy[place].clone())
    });
    let Output::Refresh(refresh) = &written[place].output else {
        return all;
    };
    let of_conversation = |other: &Written| match &other.output {
        Output::Refresh(other) => {
            other.conversation == refresh.conversation && other.tenant == refresh.tenant
        }
        Output::DeadLetter(_) => false,
    };
    let run = written[place].run;
    let next = written.iter().enumerate().skip(place + 1);
    if let Some((next, _)) = next
        .filter(|(_, other)| other.run == run)
        .find(|(_, other)| of_conversation(other))
    {
        damage("two refreshes swapped", &|copy| copy.swap(place, next));
    }
    let mut with = |name, change: &dyn Fn(&mut frontstream::model::Refresh)| {
        damage(name, &|copy| {
            if let Output::Refresh(refresh) = &mut copy[place].output {
                change(refresh);
            }
        });
    };
    with("a wrong count", &|refresh| refresh.event_count += 1);
    with("a wrong last offset", &|refresh| {
        refresh.last_offset = refresh.last_offset.next()
    });
    with("a wrong first offset", &|refresh| {
        refresh.first_offset = refresh.first_offset.next()
    });
    with("a wrong id", &|refresh| drop(refresh.event_ids.pop()));
    with("a wrong time", &|refresh| {
        refresh.last_emitted_at = refresh.last_emitted_at.plus(std::time::Duration::from_millis(1))
    });
    all
}

fn kept_seeds() -> Vec<u64> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/crash_seeds.txt");
    let text = fs::read_to_string(path).expect("the kept seeds are there");
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .map(|seed| seed.parse().expect("a seed is a number"))
        .collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a campaign is told its seeds, and is no part of the program"
)]
fn told_seeds() -> Option<Range<u64>> {
    let told = std::env::var("CRASH_SEEDS").ok()?;
    let (first, end) = told.split_once("..").expect("CRASH_SEEDS is first..end");
    Some(first.parse().expect("first is a number")..end.parse().expect("end is a number"))
}
