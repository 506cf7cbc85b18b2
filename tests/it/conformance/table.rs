//! The table in `docs/dev-broker.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

/// The two columns.
pub(super) const IN_PROCESS: &str = "in-process";
pub(super) const KAFKA: &str = "Apache Kafka";

const BEGIN: &str =
    "<!-- conformance: begin; written by the conformance suite with UPDATE_CONFORMANCE=1 -->\n";
const END: &str = "<!-- conformance: end -->";

/// One line of the table.
pub(super) struct Row {
    pub(super) area: &'static str,
    pub(super) name: &'static str,
    pub(super) in_process: String,
    pub(super) kafka: String,
}

/// The page, and what its table says.
pub(super) struct Document {
    before: String,
    table: String,
    after: String,
}

impl Document {
    pub(super) fn read() -> Self {
        let text = std::fs::read_to_string(path()).expect("docs/dev-broker.md is in the tree");
        let (before, rest) = text
            .split_once(BEGIN)
            .expect("the page marks where the table begins");
        let (table, after) = rest.split_once(END).expect("the page marks where the table ends");
        Self {
            before: before.to_owned(),
            table: table.to_owned(),
            after: after.to_owned(),
        }
    }

    /// Returns what a cell says; `?` when there is no such row.
    pub(super) fn cell(&self, area: &str, name: &str, column: &str) -> String {
        let mut under = "";
        for line in self.table.lines() {
            if let Some(heading) = line.strip_prefix("### ") {
                under = heading;
            }
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            if let [_, of, in_process, kafka, _] = cells[..]
                && (under, of) == (area, name)
            {
                return if column == IN_PROCESS { in_process } else { kafka }.to_owned();
            }
        }
        "?".to_owned()
    }

    /// Puts the rows in; says whether the page said the same before.
    pub(super) fn replace(&mut self, rows: &[Row]) -> bool {
        let table = render(rows);
        let agrees = table == self.table;
        self.table = table;
        agrees
    }

    pub(super) fn write(&self) {
        let text = format!("{}{BEGIN}{}{END}{}", self.before, self.table, self.after);
        std::fs::write(path(), text).expect("docs/dev-broker.md can be written");
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/dev-broker.md")
}

/// Areas and the checks in them in the order of their names, so that the order in which they run can change.
fn render(rows: &[Row]) -> String {
    let mut areas: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for row in rows {
        assert!(
            seen.insert((row.area, row.name)),
            "two checks are called {}: {}",
            row.area,
            row.name
        );
        assert!(!row.name.contains('|'), "{} would break the table", row.name);
        areas.entry(row.area).or_default().push(row);
    }
    let mut table = format!(
        "\nApache Kafka {}, librdkafka {}; {} checks.\n",
        kafka_version(),
        rdkafka::util::get_rdkafka_version().1,
        rows.len()
    );
    for (area, mut rows) in areas {
        rows.sort_by_key(|row| row.name);
        let _ = write!(
            table,
            "\n### {area}\n\n| check | {IN_PROCESS} | {KAFKA} |\n|---|---|---|\n"
        );
        for row in rows {
            let _ = writeln!(table, "| {} | {} | {} |", row.name, row.in_process, row.kafka);
        }
    }
    table.push('\n');
    table
}

/// The version that the scripts pin.
fn kafka_version() -> String {
    let versions = include_str!("../../../scripts/versions");
    let line = versions
        .lines()
        .find_map(|line| line.strip_prefix("KAFKA_VERSION="));
    line.expect("the scripts pin a version").to_owned()
}
