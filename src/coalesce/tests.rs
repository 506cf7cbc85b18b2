//! Scenarios: a timeline of inputs in a file, and what the coalescer answers.
//!
//! ```text
//! # Any number of comments.
//! limits records=5 time=10m ids=2 chunk=2s windows=4 bytes=100000 metadata=4096
//! run 100                             begins a run at an offset; or
//! checkpoint 100 120 103,110          a run's start, the position, the starts of open windows
//! 1000 batch                          on_batch, then on_deadline, as the shell does
//!   103 c1 e1 high                    offset, conversation (- for none; tenant/conversation), event, priority
//!   104 c1 e2 low kind=tag log=900 received=950 emitted=800
//!   105 undecodable
//! 1300 deadline | log-end | stop | restart | read-from 90
//! ----
//! what was answered
//! ```
//!
//! `UPDATE_SCENARIOS=1 cargo test scenarios` writes the answers; review them as a diff.

mod properties;
mod script;
mod twin;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::model::{Checkpoint, Lanes, Offset, Partition, Timestamp};
use script::{Act, Row, Script};

const SEPARATOR: &str = "----\n";

#[test]
fn scenarios() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/coalesce");
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(
        paths.len() >= 20,
        "scenarios are missing from {}",
        folder.display()
    );
    let wrong: Vec<_> = paths.iter().filter(|path| !check(path)).collect();
    assert!(wrong.is_empty(), "these differ: {wrong:#?}");
}

/// Plays one file; says where the answers differ, or writes them if told to.
fn check(path: &Path) -> bool {
    let text = fs::read_to_string(path).unwrap();
    let (input, expected) = text.split_once(SEPARATOR).unwrap_or((&text, ""));
    let answers = play(&Script::parse(input));
    if answers == expected {
        return true;
    }
    if update() {
        fs::write(path, format!("{}\n{SEPARATOR}{answers}", input.trim_end())).unwrap();
        return true;
    }
    println!("{}\nexpected:\n{expected}\nanswered:\n{answers}", path.display());
    false
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test that writes its files is told to, and is no part of the program"
)]
fn update() -> bool {
    std::env::var_os("UPDATE_SCENARIOS").is_some()
}

/// Plays a timeline and writes down every answer.
fn play(script: &Script) -> String {
    let mut core = restore(script.checkpoint.clone(), script.limits);
    let mut committed = script.checkpoint.clone();
    let mut answers = String::new();
    for (now, act) in &script.acts {
        let now = *now;
        let name = match act {
            Act::Batch(rows) => {
                core.on_batch(rows.iter().map(Row::record), now);
                core.on_deadline(now);
                "batch"
            }
            Act::Deadline => {
                core.on_deadline(now);
                "deadline"
            }
            Act::LogEnd => {
                core.on_log_end(now);
                "log-end"
            }
            Act::Stop => {
                core.on_stop(now);
                "stop"
            }
            Act::Restart => {
                core = restore(committed.clone(), script.limits);
                "restart"
            }
            Act::ReadFrom(log_start) => {
                let from = core.read_from(*log_start);
                writeln!(answers, "{} read from {from}", now.as_millis()).unwrap();
                continue;
            }
        };
        writeln!(answers, "{} {name}", now.as_millis()).unwrap();
        write_answers(&mut core, &mut committed, &mut answers);
    }
    write_counts(&core.counts(), &mut answers);
    answers
}

fn restore(checkpoint: Checkpoint, limits: Limits) -> Coalescer {
    Coalescer::restore(Partition::new(3).unwrap(), checkpoint, limits)
}

fn write_answers(core: &mut Coalescer, committed: &mut Checkpoint, answers: &mut String) {
    while let Some(output) = core.poll_output() {
        match output {
            Output::DeadLetter(offset) => writeln!(answers, "  dead letter {offset}"),
            Output::Refresh(refresh) => {
                let ids: Vec<&str> = refresh.event_ids.iter().map(|id| id.as_str()).collect();
                let kinds: Vec<&str> = refresh.kinds.iter().map(|kind| kind.as_str()).collect();
                writeln!(
                    answers,
                    "  refresh {}/{} {} by {}: {} counted, {}..{}, ids {}{}, kinds {}, emitted {}..{}, received {}..{}",
                    refresh.tenant,
                    refresh.conversation,
                    refresh.priority,
                    refresh.closed_by,
                    refresh.event_count,
                    refresh.first_offset,
                    refresh.last_offset,
                    ids.join(" "),
                    if refresh.event_ids_truncated { " …" } else { "" },
                    kinds.join(" "),
                    refresh.first_emitted_at.as_millis(),
                    refresh.last_emitted_at.as_millis(),
                    refresh.first_received_at.as_millis(),
                    refresh.last_received_at.as_millis(),
                )
            }
        }
        .unwrap();
    }
    let next = core.next_deadline().map_or("none".into(), |(at, reason)| {
        format!("{} by {reason}", at.as_millis())
    });
    let commit = core.checkpoint().map_or("not now".into(), |checkpoint| {
        let starts: Vec<String> = checkpoint.window_starts.iter().map(Offset::to_string).collect();
        let commit = format!(
            "{} (position {}, open [{}])",
            checkpoint.committed_offset(),
            checkpoint.position,
            starts.join(" ")
        );
        *committed = checkpoint;
        commit
    });
    let behind = if core.is_behind() { ", behind" } else { "" };
    writeln!(
        answers,
        "  {} open{behind}; next deadline {next}; commit {commit}",
        core.open_windows()
    )
    .unwrap();
}

/// Only what is not zero: a scenario shows what it is about.
fn write_counts(counts: &Counts, answers: &mut String) {
    let Counts {
        events,
        coalesced,
        duplicates,
        without_conversation,
        undecodable,
        remembered,
        restored,
        skipped,
        starts_missing,
        log_ends_early,
        clock_went_back,
        chunks,
    } = *counts;
    let named = [
        ("events", events),
        ("coalesced", coalesced),
        ("duplicates", duplicates),
        ("without conversation", without_conversation),
        ("undecodable", undecodable),
        ("remembered", remembered),
        ("restored", restored),
        ("skipped", skipped),
        ("starts missing", starts_missing),
        ("log ends early", log_ends_early),
        ("clock went back", clock_went_back),
        ("chunks", chunks),
    ];
    let shown: Vec<String> = named
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    writeln!(answers, "counts since the last restart: {}", shown.join(", ")).unwrap();
}

fn limits() -> Limits {
    Limits {
        lanes: Lanes::default(),
        metadata_bytes_max: 4_096,
        event_ids_max: 100,
        dedupe: DedupeHorizon {
            records: 1_000,
            time: Duration::from_secs(600),
        },
        chunk: ChunkLimits {
            duration: Duration::from_secs(2),
            windows_max: 1_000,
            bytes_max: 1 << 20,
        },
    }
}

fn offset(number: i64) -> Offset {
    Offset::new(number).unwrap()
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}
