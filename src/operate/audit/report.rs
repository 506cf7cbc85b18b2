//! What an audit says: counts and findings as plain data, for people and as JSON.

use serde::Serialize;

use crate::model::{Offset, Partition, Run};

/// How many findings are told in full; all are counted.
pub(crate) const FINDINGS_MAX: usize = 10;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// An event that no refresh of the run counts.
    Lost,
    /// An event that two refreshes of one run count, or that was counted and is still held open.
    Doubled,
    /// A refresh that stands after a later one of its conversation.
    Misordered,
    /// A refresh of an older run after one of a newer: a zombie's write that should have been fenced.
    Zombie,
    /// A refresh whose contents disagree with the events it names.
    Miscounted,
    /// A refresh of a conversation or of offsets that the log does not have.
    Unknown,
    /// A refresh on another partition than its events.
    Misplaced,
    /// A record of the refresh topic that is no refresh.
    UndecodableRefresh,
    /// An undecodable event that was never set aside.
    DeadLetterLost,
    /// An undecodable event that one run set aside twice.
    DeadLetterDoubled,
    /// A committed offset that disagrees with the log or cannot be read.
    Checkpoint,
}

impl Fault {
    /// Returns the name used in the output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::Misordered => "misordered",
            Self::Zombie => "zombie",
            Self::Miscounted => "miscounted",
            Self::Unknown => "unknown",
            Self::Misplaced => "misplaced",
            Self::UndecodableRefresh => "undecodable refresh",
            Self::DeadLetterLost => "dead letter lost",
            Self::DeadLetterDoubled => "dead letter doubled",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub fault: Fault,
    /// The partition (of both topics).
    pub partition: i32,
    /// The offset of the event, where there is one.
    pub event_offset: Option<i64>,
    /// The offset of the refresh in the refresh topic, where there is one.
    pub refresh_offset: Option<i64>,
    /// One sentence for a person.
    pub explanation: String,
}

/// How many of what: of one run, of one partition, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Records of the event topic.
    pub events: u64,
    /// Of these: duplicates by the rule, never counted.
    pub duplicates: u64,
    /// Of these: without a conversation, never counted.
    pub without_conversation: u64,
    /// Of these: no events; they belong on the dead-letter topic.
    pub undecodable: u64,
    /// Refreshes.
    pub refreshes: u64,
    /// Events that these refreshes count.
    pub counted: u64,
    /// Events not yet counted and rightly so: in an open window, or not read yet.
    pub open: u64,
    /// Events that an ended run left uncounted and a later run counts (or has before it) again.
    pub left_open: u64,
    /// Events that no run covers, because an operator's reset went past them.
    pub skipped: u64,
    /// Events and refreshes of which nothing can be said: retention removed the other half.
    pub unproven: u64,
    /// See [`Fault::Lost`].
    pub lost: u64,
    /// See [`Fault::Doubled`].
    pub doubled: u64,
    /// See [`Fault::Misordered`].
    pub misordered: u64,
    /// See [`Fault::Miscounted`].
    pub miscounted: u64,
    /// All other faults.
    pub other_faults: u64,
}

impl Counts {
    /// Counts one fault.
    pub(crate) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Lost => self.lost += 1,
            Fault::Doubled => self.doubled += 1,
            Fault::Misordered => self.misordered += 1,
            Fault::Miscounted => self.miscounted += 1,
            Fault::Zombie
            | Fault::Unknown
            | Fault::Misplaced
            | Fault::UndecodableRefresh
            | Fault::DeadLetterLost
            | Fault::DeadLetterDoubled
            | Fault::Checkpoint => self.other_faults += 1,
        }
    }

    /// Returns how many faults were counted.
    pub fn faults(&self) -> u64 {
        self.lost + self.doubled + self.misordered + self.miscounted + self.other_faults
    }

    /// Adds another partition's counts.
    pub(crate) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.duplicates += other.duplicates;
        self.without_conversation += other.without_conversation;
        self.undecodable += other.undecodable;
        self.refreshes += other.refreshes;
        self.counted += other.counted;
        self.open += other.open;
        self.left_open += other.left_open;
        self.skipped += other.skipped;
        self.unproven += other.unproven;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.misordered += other.misordered;
        self.miscounted += other.miscounted;
        self.other_faults += other.other_faults;
    }
}

/// What was found of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunReport {
    /// When the run began, RFC 3339.
    pub started_at: String,
    /// The first offset it counts.
    pub start: i64,
    /// Why it began: `first`, `reset` or `retention`.
    pub cause: &'static str,
    /// Whether it is the one that goes on.
    pub last: bool,
    /// Its counts; events are those at or after its start.
    pub counts: Counts,
}

impl RunReport {
    pub(crate) fn new(run: Run, last: bool, counts: Counts) -> Self {
        Self {
            started_at: run.started_at.to_string(),
            start: run.start.number(),
            cause: run.cause.as_str(),
            last,
            counts,
        }
    }
}

/// What was found on one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// The partition (of both topics).
    pub partition: i32,
    /// The first offset of the events still retained.
    pub start: i64,
    /// The offset after the last event that was read.
    pub end: i64,
    /// Its runs, the oldest first.
    pub runs: Vec<RunReport>,
    /// Its totals; each event once, however many runs covered it.
    pub counts: Counts,
    /// What an operator should know and what is no fault.
    pub notes: Vec<String>,
    /// The first faults.
    pub findings: Vec<Finding>,
}

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing is wrong.
    pub exact: bool,
    /// The same in one sentence, with the totals that matter.
    pub verdict: String,
    /// The group whose committed offsets were read; `None` when none were.
    pub group: Option<String>,
    /// Totals of all partitions.
    pub totals: Counts,
    /// One for each partition.
    pub partitions: Vec<PartitionReport>,
    /// The first faults of all partitions.
    pub findings: Vec<Finding>,
    /// What concerns no partition alone.
    pub notes: Vec<String>,
}

impl Report {
    /// Puts the partitions' reports together.
    pub(crate) fn of(group: Option<String>, partitions: Vec<PartitionReport>, notes: Vec<String>) -> Self {
        let mut totals = Counts::default();
        for partition in &partitions {
            totals.add(&partition.counts);
        }
        let findings = partitions
            .iter()
            .flat_map(|partition| &partition.findings)
            .take(FINDINGS_MAX)
            .cloned()
            .collect();
        Self {
            exact: totals.faults() == 0,
            verdict: verdict(&totals),
            group,
            totals,
            partitions,
            findings,
            notes,
        }
    }

    /// Returns the report for people: a line for each partition and run, totals, findings, verdict.
    pub fn to_text(&self) -> String {
        let mut lines = Vec::new();
        for partition in &self.partitions {
            partition.add_lines(&mut lines);
        }
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        lines.push(format!("total: {}", line_of(&self.totals)));
        for finding in &self.findings {
            lines.push(format!("{}: {}", finding.fault.as_str(), finding.explanation));
        }
        let told = u64::try_from(self.findings.len()).unwrap_or(u64::MAX);
        if self.totals.faults() > told {
            lines.push(format!("… and {} more", self.totals.faults() - told));
        }
        lines.push(self.verdict.clone());
        lines.join("\n")
    }
}

/// Returns the last line of the output.
fn verdict(totals: &Counts) -> String {
    if totals.faults() > 0 {
        return format!(
            "NOT EXACT: {} lost, {} doubled, {} misordered, {} miscounted, {} other faults",
            totals.lost, totals.doubled, totals.misordered, totals.miscounted, totals.other_faults
        );
    }
    let mut verdict = format!(
        "exact: {} of {} events counted in {} refreshes, {} open",
        totals.counted, totals.events, totals.refreshes, totals.open
    );
    for (count, what) in [
        (totals.duplicates, "duplicates"),
        (totals.without_conversation, "without conversation"),
        (totals.undecodable, "undecodable"),
        (totals.skipped, "skipped by resets"),
        (totals.unproven, "beyond proof"),
    ] {
        if count > 0 {
            verdict.push_str(&format!(", {count} {what}"));
        }
    }
    verdict
}

impl PartitionReport {
    fn add_lines(&self, lines: &mut Vec<String>) {
        let number = self.partition;
        if self.runs.is_empty() {
            let (start, end) = (self.start, self.end);
            let counts = line_of(&self.counts);
            lines.push(format!(
                "partition {number}: no run yet, offsets {start}..{end}: {counts}"
            ));
        }
        for run in &self.runs {
            let ended = if run.last { "" } else { ", ended" };
            lines.push(format!(
                "partition {number}, run of {} from offset {} ({}{ended}): {}",
                run.started_at,
                run.start,
                run.cause,
                line_of(&run.counts)
            ));
        }
        lines.extend(self.notes.iter().map(|note| format!("  note: {note}")));
    }
}

/// Writes the counts that are not zero; events and refreshes always.
fn line_of(counts: &Counts) -> String {
    let mut line = format!("{} events, {} refreshes", counts.events, counts.refreshes);
    for (count, what) in [
        (counts.counted, "counted"),
        (counts.duplicates, "duplicates"),
        (counts.without_conversation, "without conversation"),
        (counts.undecodable, "undecodable"),
        (counts.open, "open"),
        (counts.left_open, "left open"),
        (counts.skipped, "skipped"),
        (counts.unproven, "beyond proof"),
        (counts.lost, "LOST"),
        (counts.doubled, "DOUBLED"),
        (counts.misordered, "MISORDERED"),
        (counts.miscounted, "MISCOUNTED"),
        (counts.other_faults, "OTHER FAULTS"),
    ] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    line
}

/// Collects faults: counts all, keeps the first.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) kept: Vec<Finding>,
}

impl Findings {
    /// Keeps a fault if there is room; `explain` is called only then.
    pub(crate) fn keep(
        &mut self,
        fault: Fault,
        partition: Partition,
        event: Option<Offset>,
        refresh: Option<Offset>,
        explain: impl FnOnce() -> String,
    ) {
        if self.kept.len() < FINDINGS_MAX {
            self.kept.push(Finding {
                fault,
                partition: partition.number(),
                event_offset: event.map(Offset::number),
                refresh_offset: refresh.map(Offset::number),
                explanation: explain(),
            });
        }
    }
}
