//! What a campaign came to, in words and as JSON.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::conduct::{Outcome, Story};
use super::faults::Struck;
use super::plan::Kind;
use super::record::Event;
use super::stage::Stage;
use super::verdict::Verdict;
use crate::support::say;
use frontstream::model::Refresh;

/// Prints the result, and writes it where it was asked for.
pub(crate) fn tell(stage: &Stage, outcome: &Outcome) {
    let result = result(stage, outcome);
    let text = serde_json::to_string_pretty(&result).expect("plain data");
    say(&text);
    for finding in &outcome.findings {
        say(&format!("FOUND: {finding}"));
    }
    if let Some(path) = &outcome.options.report {
        fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// Keeps what the readers wrote down and the cluster's data, beside the logs.
pub(crate) fn keep(stage: &Stage) {
    let mut text = String::new();
    for (partition, stored) in &*stage
        .record
        .events
        .lock()
        .expect("no one panics while holding the record")
    {
        for one in stored {
            let Event {
                conversation,
                id,
                priority,
                ..
            } = &one.event;
            let (at, offset) = (one.log_time.as_millis(), one.offset);
            text.push_str(&format!(
                "{at} event {partition}/{offset} {conversation} {id} {priority}\n"
            ));
        }
    }
    for (partition, seen) in &*stage
        .record
        .refreshes
        .lock()
        .expect("no one panics while holding the record")
    {
        for one in seen {
            let Refresh {
                conversation,
                first_offset,
                last_offset,
                run,
                closed_by,
                ..
            } = &one.refresh;
            let (at, offset, run) = (one.at.as_millis(), one.offset, run.started_at.as_millis());
            text.push_str(&format!(
                "{at} refresh {partition}/{offset} {conversation} {first_offset}..={last_offset} run {run} {closed_by}\n"
            ));
        }
    }
    fs::write(stage.dir.join("record.txt"), text).expect("the campaign's folder takes a file");
    stage.cluster.keep(&stage.dir.join("kafka"));
}

fn result(stage: &Stage, outcome: &Outcome) -> Value {
    let verdict = &outcome.verdict;
    let ledger = &outcome.ledger;
    let count = |is: fn(&Struck) -> bool| outcome.stories.iter().filter(|story| is(&story.struck)).count();
    let hits = count(|struck| matches!(struck, Struck::Hit(_)));
    let missed = count(|struck| matches!(struck, Struck::Missed(_) | Struck::InVain(_)));
    json!({
        "campaign": outcome.options.words(),
        "source": source(),
        "seconds": outcome.took.as_secs(),
        "faults": hits,
        "missed": missed,
        "kinds": kinds(stage, outcome),
        "webhooks": ledger.sent.len(),
        "accepted": ledger.sent.values().filter(|sent| sent.accepted > 0).count(),
        "given_up": ledger.sent.values().filter(|sent| sent.accepted == 0).count(),
        "answers": ledger.answers,
        "stored": verdict.stored,
        "duplicates": verdict.duplicates,
        "expired": verdict.expired,
        "refreshes": verdict.refreshes,
        "counted": verdict.counted,
        "lost": verdict.unstored.len() + verdict.lost.len(),
        "doubled": verdict.doubled.len(),
        "mangled": verdict.mangled.len(),
        "misordered": verdict.misordered.len(),
        "untrue": verdict.untrue.len(),
        "late": verdict.late.len(),
        "undisturbed": verdict.undisturbed,
        "longest_over_cap_ms": millis(verdict.longest_over_cap),
        "starts": stage.fleet.all().map(|slot| (slot.name.clone(), slot.lives())).collect::<BTreeMap<_, _>>(),
        "ends_by_itself": ends(stage),
        "findings": outcome.findings,
    })
}

fn is_hit(story: &Story) -> bool {
    matches!(story.struck, Struck::Hit(_))
}

fn kinds(stage: &Stage, outcome: &Outcome) -> Value {
    let mut kinds = serde_json::Map::new();
    for kind in Kind::all() {
        let stories = outcome.stories.iter().filter(|story| story.planned.kind == kind);
        let (hit, missed): (Vec<_>, Vec<_>) = stories.partition(|story| is_hit(story));
        if hit.is_empty() && missed.is_empty() {
            continue;
        }
        let silence = hit
            .iter()
            .map(|story| longest_silence(stage, &outcome.verdict, story))
            .max();
        kinds.insert(
            kind.name().to_owned(),
            json!({ "hit": hit.len(), "missed": missed.len(), "longest_silence_ms": silence.map(millis) }),
        );
    }
    Value::Object(kinds)
}

/// The longest that a change waited for its refresh beyond its cap, of those that met the fault or its consequences.
fn longest_silence(stage: &Stage, verdict: &Verdict, story: &Story) -> Duration {
    let until = story.until.plus(stage.recovery());
    let delays = verdict.delays.iter();
    let met = delays.filter(|(opened, seen, _)| *opened <= until && story.from <= *seen);
    met.map(|(_, _, over)| *over).max().unwrap_or_default()
}

/// The commit of the source that the campaign was built from, as `git describe` names it.
fn source() -> String {
    let described = std::process::Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("git is there");
    String::from_utf8_lossy(&described.stdout).trim().to_owned()
}

/// How processes ended by themselves, and how often, over the whole fleet.
fn ends(stage: &Stage) -> BTreeMap<String, u32> {
    let mut all = BTreeMap::new();
    for slot in stage.fleet.all() {
        for (how, count) in slot.exits() {
            *all.entry(how).or_default() += count;
        }
    }
    all
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

// --- docs/campaign.md ----------------------------------------------------------------------------------------------

/// Between these lines of the document stands what campaigns came to; the rest is written by hand.
const BEGIN: &str = "<!-- what follows is written by scripts/campaign --write-report -->\n";
const END: &str = "<!-- until here -->\n";

/// Writes the results that `scripts/campaign --write-report` names into the document.
#[test]
fn the_document_is_written() {
    let Some(files) = results_named() else { return };
    let results: Vec<Value> = files
        .lines()
        .map(|file| {
            let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
            let result: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_eq!(
                result["findings"],
                json!([]),
                "{file} is of a campaign that failed"
            );
            result
        })
        .collect();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/campaign.md");
    let text = fs::read_to_string(&path).expect("the document is there");
    let (before, rest) = text
        .split_once(BEGIN)
        .expect("the document has the line that begins the results");
    let (_, after) = rest
        .split_once(END)
        .expect("the document has the line that ends the results");
    let written = format!(
        "{before}{BEGIN}\n{}\n{}\n{END}{after}",
        campaigns(&results),
        by_kind(&results)
    );
    fs::write(path, written).expect("the document can be written");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the campaign's own switch, which is no setting of the product"
)]
fn results_named() -> Option<String> {
    std::env::var("FRONTSTREAM_CAMPAIGN_RESULTS").ok()
}

/// The rows of the table of campaigns: what is told, and its name in a result.
const ROWS: [(&str, &str); 18] = [
    ("minutes", "seconds"),
    ("faults that took place", "faults"),
    ("faults that did not take place", "missed"),
    ("webhooks", "webhooks"),
    ("answered 200 in the end", "accepted"),
    ("given up by the sender after four tries", "given_up"),
    ("records on `front.events`", "stored"),
    ("duplicates among them", "duplicates"),
    ("removed unread by retention, on purpose", "expired"),
    ("refreshes", "refreshes"),
    ("events counted by them, replays included", "counted"),
    ("**lost**", "lost"),
    ("**doubled**", "doubled"),
    ("stored otherwise than sent", "mangled"),
    ("out of order", "misordered"),
    ("refreshes that tell something wrong", "untrue"),
    ("later than allowed", "late"),
    ("windows that nothing disturbed", "undisturbed"),
];

fn campaigns(results: &[Value]) -> String {
    let mut text = "### Campaigns\n\n".to_owned();
    for (at, result) in results.iter().enumerate() {
        text.push_str(&format!(
            "{}. `{}`, at {}\n",
            at + 1,
            result["campaign"].as_str().expect("words"),
            result["source"].as_str().expect("a commit")
        ));
    }
    let heads: String = (1..=results.len()).map(|at| format!(" {at} |")).collect();
    text.push_str(&format!("\n| |{heads}\n|---|{}\n", "--:|".repeat(results.len())));
    for (name, key) in ROWS {
        let cells: String = results
            .iter()
            .map(|result| {
                let number = result[key].as_u64().expect("a result has every number");
                format!(" {} |", if key == "seconds" { number / 60 } else { number })
            })
            .collect();
        text.push_str(&format!("| {name} |{cells}\n"));
    }
    let cells: String = results
        .iter()
        .map(|result| {
            format!(
                " {} ms |",
                result["longest_over_cap_ms"].as_u64().expect("a number")
            )
        })
        .collect();
    text.push_str(&format!("| the longest of them over its cap |{cells}\n"));
    text
}

fn by_kind(results: &[Value]) -> String {
    let mut text = "### Faults by kind\n\nThe longest silence is from campaigns of one fault at a time (`alone=yes`): how long, \
        beyond its cap, a change\nthat met the fault or its consequences waited at most for the refresh that tells of it.\n\n\
        | kind | took place | did not | longest silence |\n|---|--:|--:|--:|\n"
        .to_owned();
    for kind in Kind::all() {
        let of_kind = || {
            results
                .iter()
                .map(|result| (result, &result["kinds"][kind.name()]))
        };
        let sum = |key| {
            of_kind()
                .filter_map(|(_, of_kind)| of_kind[key].as_u64())
                .sum::<u64>()
        };
        let is_alone = |result: &Value| {
            result["campaign"]
                .as_str()
                .is_some_and(|words| words.contains("alone=yes"))
        };
        let silence = of_kind()
            .filter(|(result, _)| is_alone(result))
            .filter_map(|(_, of_kind)| of_kind["longest_silence_ms"].as_u64())
            .max();
        let silence = silence.map_or("–".to_owned(), |millis| {
            format!("{}.{} s", millis / 1_000, millis % 1_000 / 100)
        });
        text.push_str(&format!(
            "| {} | {} | {} | {silence} |\n",
            kind.name(),
            sum("hit"),
            sum("missed")
        ));
    }
    text
}
