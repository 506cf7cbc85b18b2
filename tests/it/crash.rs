//! Seeded crash runs: coalescers on an in-memory log whose transactions commit outputs, offset and metadata at once,
//! or not at all. Between any two steps the processor dies, is aborted, loses its partition or comes back as a
//! zombie; operators reset the offset and retention deletes. At the end an oracle that shares no code with the
//! coalescer reads log and outputs and proves each run.
//!
//! A run is its seed. A failing one is printed; add it to `tests/data/crash_seeds.txt`.
//! `CRASH_SEEDS=1000..2000 cargo test --test it crash` runs others.

mod oracle;
mod world;

use std::fs;
use std::ops::Range;
use std::path::Path;

use frontstream::coalesce::Output;

use oracle::{Oracle, Written};
use world::{Fault, Story, World};

/// Runs by default: a second or two.
const SEEDS: Range<u64> = 0..400;

/// Names the seed when a run panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        #[expect(clippy::print_stdout, reason = "a test's output, shown when it fails")]
        if std::thread::panicking() {
            println!("the failing seed is {}", self.0);
        }
    }
}

fn run(seed: u64, fault: Fault) -> World {
    let named = Named(seed);
    let world = World::run(seed, fault);
    std::mem::forget(named);
    world
}

#[test]
fn every_run_is_exact() {
    let mut story = Story::default();
    for seed in kept_seeds().into_iter().chain(seeds()) {
        let world = run(seed, Fault::None);
        let exact = Oracle::new(&world.log).verdict(&world.written, &world.ends);
        assert_eq!(exact, Ok(()), "seed {seed}");
        story.add(&world.story);
    }
    println!("{story:#?}");
    // A campaign in which nothing happens proves nothing.
    story.assert_eventful();
}

#[test]
fn the_oracle_finds_planted_bugs() {
    for fault in Fault::PLANTED {
        let found = seeds().take(200).find(|seed| {
            let world = run(*seed, fault);
            Oracle::new(&world.log)
                .verdict(&world.written, &world.ends)
                .is_err()
        });
        assert!(found.is_some(), "no run finds {fault:?}");
    }
}

/// Damages what an exact run has written, everywhere it can be damaged: each must be found.
#[test]
fn the_oracle_finds_damaged_outputs() {
    let mut damages = 0;
    for seed in 0..8 {
        let world = run(seed, Fault::None);
        let oracle = Oracle::new(&world.log);
        assert_eq!(oracle.verdict(&world.written, &world.ends), Ok(()), "seed {seed}");
        for place in (0..world.written.len()).step_by(9) {
            for (name, damaged) in damaged(&world.written, place) {
                let found = oracle.verdict(&damaged, &world.ends);
                assert!(found.is_err(), "seed {seed}: {name} at {place} is not found");
                damages += 1;
            }
        }
    }
    println!("{damages} damages found");
    assert!(damages > 1_000);
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
fn seeds() -> Range<u64> {
    let Ok(told) = std::env::var("CRASH_SEEDS") else {
        return SEEDS;
    };
    let (first, end) = told.split_once("..").expect("CRASH_SEEDS is first..end");
    first.parse().expect("first is a number")..end.parse().expect("end is a number")
}
