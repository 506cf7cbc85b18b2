//! What a broker must do, checked on the in-process broker and on a real Apache Kafka by the same code, so that the two
//! cannot drift apart. Kafka is the judge: a check that does not hold there is a wrong check.
//!
//! The real Kafka, and the checks that use its tools, run when `FRONTSTREAM_TEST_KAFKA` says so. The outcome is the table in
//! `docs/dev-broker.md`: the run compares it with what it found, and with `UPDATE_CONFORMANCE=1` writes it.
//! `FRONTSTREAM_TEST_CONFORMANCE=words` runs only the checks whose "area: name" contains the words.

mod chaos;
mod configs;
mod content;
mod fetch;
mod groups;
mod member;
mod offsets;
mod produce;
mod protocol;
pub(crate) mod raw;
mod strict;
mod table;
mod tools;
mod topics;
mod tool_groups;
mod group_versions;
mod metadata;
mod deletions;
mod transactions;
mod versions;

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use frontstream::lifecycle::Instant;

use self::table::{Document, Row};
use crate::support::{self, Cluster, say};

/// One behaviour that a broker must show: the same code for both.
#[derive(Clone, Copy)]
pub(crate) struct Check {
    /// The heading that it stands under in the table.
    pub(crate) area: &'static str,
    /// What holds, as a sentence without its full stop; unique within the area.
    pub(crate) name: &'static str,
    /// Panics when it does not hold. Never asks which broker it talks to.
    pub(crate) run: fn(&Cluster),
}

/// How many checks run at once. Most of them wait, for a timeout of the protocol or for one of Kafka's tools.
const AT_ONCE: usize = 4;

/// A check that takes longer hangs. Kafka's tools take the longest, each start a second of a core that others want too.
const CHECK_PATIENCE: Duration = Duration::from_secs(300);

/// The long ones come first, so that the end does not wait for them alone.
const LISTS: [&[Check]; 17] = [
    chaos::CHECKS,
    groups::CHECKS,
    transactions::CHECKS,
    tools::CHECKS,
    tool_groups::CHECKS,
    produce::CHECKS,
    fetch::CHECKS,
    topics::CHECKS,
    metadata::CHECKS,
    deletions::CHECKS,
    group_versions::CHECKS,
    versions::CHECKS,
    offsets::CHECKS,
    content::CHECKS,
    configs::CHECKS,
    protocol::CHECKS,
    strict::CHECKS,
];

/// One check on one broker, and how it ended: `Err` has why it does not hold.
struct Outcome {
    check: Check,
    broker: &'static str,
    verdict: Result<(), String>,
    took: Duration,
}

#[test]
fn both_brokers_are_as_documented() {
    let mut brokers = vec![(table::IN_PROCESS, support::in_process())];
    brokers.extend(support::real_kafka().map(|cluster| (table::KAFKA, cluster)));
    let filter = variable("FRONTSTREAM_TEST_CONFORMANCE");
    let mut jobs = Vec::new();
    for check in LISTS.concat() {
        let asked_for = format!("{}: {}", check.area, check.name).contains(&filter);
        for &(broker, cluster) in &brokers {
            if asked_for && (check.area != tools::AREA || cluster.has_tools()) {
                jobs.push((check, broker, cluster));
            }
        }
    }
    assert!(!jobs.is_empty(), "no check is called {filter:?}");
    let outcomes = run_all(&jobs);

    let all = LISTS.concat();
    let mut document = Document::read();
    let rows: Vec<Row> = all.iter().map(|check| row(check, &outcomes, &document)).collect();
    let agrees = document.replace(&rows);
    if variable("UPDATE_CONFORMANCE") == "1" {
        document.write();
    }
    let failures: Vec<String> = outcomes.iter().filter_map(failure).collect();
    let told = failures.join("\n");
    let on_kafka = outcomes.iter().filter(|outcome| outcome.broker == table::KAFKA);
    assert!(
        on_kafka.clone().all(|outcome| outcome.verdict.is_ok()),
        "a check does not hold on the real Kafka: the check is wrong\n{told}"
    );
    assert!(
        agrees || variable("UPDATE_CONFORMANCE") == "1",
        "docs/dev-broker.md says something else; UPDATE_CONFORMANCE=1 writes what was found\n{told}"
    );
}

fn row(check: &Check, outcomes: &[Outcome], document: &Document) -> Row {
    let cell = |broker| {
        let found = outcomes
            .iter()
            .find(|outcome| outcome.broker == broker && is_same(&outcome.check, check));
        match found {
            Some(outcome) if outcome.verdict.is_ok() => "yes".to_owned(),
            Some(_) => "no".to_owned(),
            // What did not run this time stays as it was found when it did.
            None => document.cell(check.area, check.name, broker),
        }
    };
    Row {
        area: check.area,
        name: check.name,
        in_process: cell(table::IN_PROCESS),
        kafka: cell(table::KAFKA),
    }
}

fn is_same(one: &Check, other: &Check) -> bool {
    (one.area, one.name) == (other.area, other.name)
}

fn failure(outcome: &Outcome) -> Option<String> {
    let why = outcome.verdict.as_ref().err()?;
    let Check { area, name, .. } = outcome.check;
    Some(format!("NO on {}: {area}: {name}\n    {why}", outcome.broker))
}

/// Runs them, a few at once, and says of each how long it took.
fn run_all(jobs: &[(Check, &'static str, &'static Cluster)]) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(&(check, broker, cluster)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run(check, broker, cluster);
                    let word = if outcome.verdict.is_ok() { "yes" } else { "NO" };
                    say(&format!(
                        "conformance {broker}: {}: {}: {word} ({:.1} s)",
                        check.area,
                        check.name,
                        outcome.took.as_secs_f64()
                    ));
                    outcomes
                        .lock()
                        .expect("no thread panics holding it")
                        .push(outcome);
                }
            });
        }
    });
    outcomes.into_inner().expect("no thread panicked holding it")
}

/// Runs one check on a thread of its own: its panic is its verdict, and if it hangs it is left behind.
fn run(check: Check, broker: &'static str, cluster: &'static Cluster) -> Outcome {
    let began = Instant::now();
    let (done, ended) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(format!("{broker}: {}: {}", check.area, check.name))
        .spawn(move || {
            (check.run)(cluster);
            // Nobody waits any more after the bound.
            let _ = done.send(());
        })
        .expect("a thread");
    let verdict = match ended.recv_timeout(CHECK_PATIENCE) {
        Ok(()) => Ok(()),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("not done after {CHECK_PATIENCE:?}")),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(()) => Ok(()),
            Err(panic) => Err(message(panic.as_ref())),
        },
    };
    Outcome {
        check,
        broker,
        verdict,
        took: began.elapsed(),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("panicked without a text").to_owned()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the tests' own switches, which are no settings of the product"
)]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}
