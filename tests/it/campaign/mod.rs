//! The fault campaign: a cluster of three, two receivers, three processors, load whose every answer is known, and faults from
//! a seed. At the end nothing that was answered 200 is lost, and every event is counted in exactly one committed refresh;
//! said by a judge of its own ([`verdict`]) and by the product's `audit`.
//!
//! `scripts/campaign` runs one and tells how; `FRONTSTREAM_CAMPAIGN=short cargo test --test it campaign::` runs the short ones.
//! Both need the real parts (`FRONTSTREAM_TEST_KAFKA=1`). The seed decides the faults; how they interleave with the traffic
//! is the machine's. A failure keeps logs and data, and says where.

mod conduct;
mod ends;
mod faults;
mod findings;
mod fleet;
mod load;
mod options;
mod plan;
mod proxy;
mod record;
mod report;
mod stage;
mod verdict;

use std::path::Path;

use options::Options;

use crate::support::say;

/// The variable that asks for campaigns.
const ASKED: &str = "FRONTSTREAM_CAMPAIGN";

/// The short campaigns, beside those that failed once: together they are of both group protocols, with one worker and with several,
/// static members and dynamic ones.
const SHORT: [&str; 1] = ["seed=11 faults=25 protocol=classic workers=1 members=static"];

#[test]
fn the_short_campaigns_find_nothing() {
    if asked().as_deref() != Some("short") {
        say(&format!("skipped: set {ASKED}=short for the short campaigns"));
        return;
    }
    for words in SHORT.iter().copied().chain(kept().iter().map(String::as_str)) {
        conduct::run(&Options::parse(words).unwrap_or_else(|why| panic!("{why}")));
    }
}

/// What `scripts/campaign` runs.
#[test]
fn the_campaign_that_was_asked_for() {
    let Some(words) = asked().filter(|asked| asked != "short") else {
        return;
    };
    conduct::run(&Options::parse(&words).unwrap_or_else(|why| panic!("{why}")));
}

/// `scripts/campaign --planted` builds them and lets campaigns find them; that takes too long to be run every time.
#[test]
fn the_planted_bugs_fit_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut patches = 0;
    for entry in std::fs::read_dir(root.join("tests/data/planted")).expect("there are some") {
        let patch = entry.expect("a file").path();
        let text = std::fs::read_to_string(&patch).expect("text");
        let told = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        Options::parse(told("campaign: ").expect("which campaign finds it"))
            .unwrap_or_else(|why| panic!("{why}"));
        assert!(
            told("finds: ").is_some(),
            "{} does not say what is found",
            patch.display()
        );
        let mut apply = std::process::Command::new("git");
        let checked = apply
            .args(["apply", "--check"])
            .arg(&patch)
            .current_dir(root)
            .output();
        let checked = checked.expect("git is there");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(
            checked.status.success(),
            "{} does not apply any more: {said}",
            patch.display()
        );
        patches += 1;
    }
    assert!(patches > 0, "no bug is planted");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the campaign's own switch, which is no setting of the product"
)]
fn asked() -> Option<String> {
    std::env::var(ASKED).ok()
}

/// The campaigns that failed once, as the words that repeat them.
fn kept() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/campaign_seeds.txt");
    let text = std::fs::read_to_string(path).expect("the kept campaigns are there");
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(str::to_owned).collect()
}
