//! What is wrong beside the judge's verdict.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::conduct::{Story, times_of};
use super::faults::Struck;
use super::load::Ledger;
use super::plan::Kind;
use super::stage::{Stage, holds_within};
use super::verdict::Disturbed;

/// What a genuine webhook may be answered: stored, not stored now, or nothing at all (0).
const ANSWERS: [u16; 3] = [0, 200, 503];

/// A kind of fault that is tried so often and never takes place cannot, and a campaign of so many faults of which fewer than so
/// many of a hundred take place says little.
const TRIES_MIN: usize = 3;
const FAULTS_MIN: usize = 20;
const HIT_PERCENT_MIN: usize = 80;

/// After that, every process must be ready within this time.
const READY_PATIENCE: Duration = Duration::from_secs(30);

/// So many windows live in the last calm alone: of every third of a second, and of twenty at most.
const UNDISTURBED_MIN: f64 = 20.0;
const UNDISTURBED_SECONDS: f64 = 0.33;

/// Returns what is found when all is over, `undisturbed` being the number of windows that lived so.
pub(crate) fn afterwards(
    stage: &Stage,
    ledger: &Ledger,
    stories: &[Story],
    undisturbed: usize,
) -> Vec<String> {
    let disturbed = Disturbed::new(&times_of(stage, stories, |_| true));
    let mut findings = stage.unexpected_ends();
    findings.extend(panics(&stage.dir));
    findings.extend(strange_answers(ledger));
    findings.extend(refused_for_nothing(ledger, &disturbed));
    findings.extend(too_few_hits(stories));
    let least = (stage.options.rate * UNDISTURBED_SECONDS).min(UNDISTURBED_MIN);
    if (undisturbed as f64) < least {
        findings.push(format!(
            "only {undisturbed} windows lived undisturbed: lateness was hardly looked at"
        ));
    }
    findings
}

/// Returns the faults that could not be done or put right.
pub(crate) fn broken(stories: &[Story]) -> Vec<String> {
    let broken = stories.iter().filter_map(|story| match &story.struck {
        Struck::Broken(why) => Some(format!("fault {} broke: {why}", story.planned.number)),
        Struck::Hit(_) | Struck::Missed(_) | Struck::InVain(_) => None,
    });
    broken.collect()
}

/// Returns who is not ready although nothing disturbs it any more.
pub(crate) fn not_ready(stage: &Stage) -> Vec<String> {
    let slots = stage.fleet.all();
    let not_ready = slots.filter(|slot| !holds_within(READY_PATIENCE, || slot.is_ready()));
    not_ready
        .map(|slot| format!("{} does not get ready after the last fault", slot.name))
        .collect()
}

/// Returns the logs in which a process says that something panicked, whatever became of it: one that is killed before it
/// ends of it has no exit code of its own.
fn panics(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("the campaign's folder can be read");
    let logs = entries
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let panicked = logs.filter(|log| {
        let text = fs::read(log).expect("a log can be read");
        String::from_utf8_lossy(&text).contains("panicked at")
    });
    panicked
        .map(|log| format!("something panicked: {}", log.display()))
        .collect()
}

/// Returns the answers that no genuine webhook may get.
fn strange_answers(ledger: &Ledger) -> Vec<String> {
    let strange = ledger
        .answers
        .iter()
        .filter(|(status, _)| !ANSWERS.contains(status));
    strange
        .map(|(status, times)| format!("{times} genuine webhooks were answered {status}"))
        .collect()
}

/// Returns the webhooks that were not stored while no fault was at work.
fn refused_for_nothing(ledger: &Ledger, disturbed: &Disturbed) -> Vec<String> {
    let mut counts: BTreeMap<u16, u32> = BTreeMap::new();
    for (posted, answered, status) in &ledger.refusals {
        if disturbed.is_calm(*posted, *answered) {
            *counts.entry(*status).or_default() += 1;
        }
    }
    let counts = counts.into_iter();
    counts
        .map(|(status, times)| format!("{times} webhooks were answered {status} while nothing disturbed"))
        .collect()
}

/// Says which faults were tried and did not take place as they should.
fn too_few_hits(stories: &[Story]) -> Vec<String> {
    let is_hit = |story: &&Story| matches!(story.struck, Struck::Hit(_));
    let mut findings = Vec::new();
    for kind in Kind::all() {
        let of_kind: Vec<_> = stories
            .iter()
            .filter(|story| story.planned.kind == kind)
            .collect();
        if of_kind.len() >= TRIES_MIN && !of_kind.iter().any(is_hit) {
            findings.push(format!(
                "{} was tried {} times and never took place",
                kind.name(),
                of_kind.len()
            ));
        }
    }
    let hits = stories.iter().filter(is_hit).count();
    if stories.len() >= FAULTS_MIN && hits * 100 < stories.len() * HIT_PERCENT_MIN {
        findings.push(format!("only {hits} of {} faults took place", stories.len()));
    }
    findings
}

#[cfg(test)]
mod tests {
    use frontstream::model::Timestamp;

    use super::super::options::Options;
    use super::super::plan::{Planned, plan};
    use super::*;

    fn story(kind: Kind, struck: Struck) -> Story {
        let options = Options::parse("seed=1 faults=1").expect("words");
        let planned = plan(&options).remove(0);
        let now = Timestamp::from_millis(0);
        Story {
            planned: Planned { kind, ..planned },
            struck,
            from: now,
            until: now,
        }
    }

    fn hit(kind: Kind) -> Story {
        story(kind, Struck::Hit(String::new()))
    }

    fn missed(kind: Kind) -> Story {
        story(kind, Struck::Missed(String::new()))
    }

    #[test]
    fn faults_that_do_not_take_place_are_found() {
        let (cut, full) = (Kind::ConnectionsCut, Kind::DiskFull);
        assert_eq!(too_few_hits(&[missed(cut), missed(cut), hit(cut)]), [""; 0]);
        assert_eq!(too_few_hits(&[missed(cut), missed(cut), missed(full)]), [""; 0]);
        assert_eq!(
            too_few_hits(&[missed(full), missed(full), hit(cut), missed(full)]),
            ["disk-full was tried 3 times and never took place"]
        );
        let mut stories = vec![hit(cut); 16];
        stories.extend([missed(cut), missed(cut), missed(full), missed(full)]);
        assert_eq!(too_few_hits(&stories), [""; 0]);
        stories.push(story(cut, Struck::InVain(String::new())));
        assert_eq!(too_few_hits(&stories), ["only 16 of 21 faults took place"]);
    }

    #[test]
    fn a_webhook_that_is_refused_while_nothing_disturbs_is_found() {
        let at = |seconds: i64| Timestamp::from_millis(1_000 * seconds);
        let disturbed = Disturbed::new(&[(at(10), at(20))]);
        let ledger = Ledger {
            refusals: vec![(at(8), at(12), 0), (at(12), at(13), 503), (at(21), at(22), 503)],
            ..Ledger::default()
        };
        assert_eq!(
            refused_for_nothing(&ledger, &disturbed),
            ["1 webhooks were answered 503 while nothing disturbed"]
        );
    }

    #[test]
    fn a_panic_is_found_in_a_log() {
        let dir = tempfile::tempdir().expect("a folder");
        let log = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file");
        log("a.001.log", "INFO ready\n");
        log("record.txt", "panicked at");
        assert_eq!(panics(dir.path()), [""; 0]);
        log("b.002.log", "thread 'worker-0' panicked at src/lib.rs:1:1:\nno\n");
        assert_eq!(panics(dir.path()).len(), 1);
    }

    #[test]
    fn a_genuine_webhook_that_is_refused_is_found() {
        let mut ledger = Ledger {
            answers: [(0, 1), (200, 9), (503, 4)].into(),
            ..Ledger::default()
        };
        assert_eq!(strange_answers(&ledger), [""; 0]);
        ledger.answers.insert(401, 2);
        assert_eq!(strange_answers(&ledger), ["2 genuine webhooks were answered 401"]);
    }
}
