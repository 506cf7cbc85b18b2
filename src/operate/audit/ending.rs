//! The end of a proof: what no refresh counted is lost, open, left open by an ended run, skipped, or beyond proof.

use std::collections::BTreeMap;

use crate::model::{Checkpoint, Offset, RunCause};

use super::index::{CLOCK_MARGIN, Entry, Standing};
use super::proof::{Committed, DeadLetters, Proof, RunKey, RunProof, count_record, described};
use super::report::{Fault, PartitionReport, RunReport};

/// What the group's checkpoint says must be open.
struct LastWord {
    position: Offset,
    /// Where the open window of a conversation begins.
    opened: BTreeMap<usize, Offset>,
    /// Whether a window began before the first retained event: nobody can say of which conversation.
    opened_before_retained: bool,
    /// Whether the checkpoint belongs exactly to the refreshes that were read.
    strict: bool,
}

impl Proof<'_> {
    /// Judges what no refresh counted, and the dead letters; gives the report.
    pub(crate) fn conclude(mut self, committed: &Committed, dead_letters: &DeadLetters) -> PartitionReport {
        let mut notes = Vec::new();
        let checkpoint = self.admit(committed, &mut notes);
        self.note_what_is_gone(&mut notes);
        let pending = match committed {
            Committed::Reset(offset) => Some(*offset),
            Committed::NotRead
            | Committed::Nothing
            | Committed::Exact(_)
            | Committed::NotNewer(_)
            | Committed::Undecodable { .. } => None,
        };
        for at in 0..self.runs.len() {
            let later = self.runs[at + 1..]
                .iter()
                .map(|run| run.run.start)
                .chain(pending)
                .min();
            match later {
                Some(later) => self.judge_ended(at, later, &mut notes),
                None => self.judge_last(at, checkpoint.as_ref()),
            }
            self.count_run_records(at);
        }
        self.judge_before_all_runs(pending, &mut notes);
        self.judge_dead_letters(dead_letters, committed, checkpoint.as_ref());
        self.counts.counted = self.counted_by_any();
        let last = self.runs.len().checked_sub(1).filter(|_| pending.is_none());
        PartitionReport {
            partition: self.index.partition.number(),
            start: self.index.bounds.start.number(),
            end: self.index.bounds.end.number(),
            runs: self
                .runs
                .iter()
                .enumerate()
                .map(|(at, run)| RunReport::new(run.run, Some(at) == last, run.counts))
                .collect(),
            counts: self.counts,
            notes,
            findings: self.findings.kept,
        }
    }

    /// Checks the committed offset itself and makes its run the last one.
    fn admit(&mut self, committed: &Committed, notes: &mut Vec<String>) -> Option<LastWord> {
        let (checkpoint, strict) = match committed {
            Committed::NotRead => return None,
            Committed::Nothing => {
                notes.push(
                    "the group has no committed offset: what is uncounted at the end is taken as open".into(),
                );
                return None;
            }
            Committed::Reset(offset) => {
                notes.push(format!(
                    "the group was reset to offset {offset}; no processor has begun a run there yet"
                ));
                return None;
            }
            Committed::Undecodable { offset, why } => {
                let partition = self.index.partition;
                self.fault(None, Fault::Checkpoint, None, None, || {
                    format!(
                        "the offset {offset} committed for partition {partition} has metadata that cannot be read ({why}); \
                         to go on, reset the group's offset for it"
                    )
                });
                return None;
            }
            Committed::Exact(checkpoint) => (checkpoint, true),
            Committed::NotNewer(checkpoint) => (checkpoint, false),
        };
        let known = self.runs.iter().position(|run| run.run == checkpoint.run);
        match known {
            None => self.runs.push(RunProof::new(checkpoint.run, self.index)),
            Some(at) if at + 1 == self.runs.len() => {}
            Some(_) if !strict => {
                notes.push(
                    "the group began a new run while this was read: what is uncounted is taken as open"
                        .into(),
                );
                return None;
            }
            Some(at) => {
                let last = self
                    .runs
                    .last()
                    .map(|last| described(last.run))
                    .unwrap_or_default();
                let run = described(checkpoint.run);
                self.fault(Some(at), Fault::Zombie, None, None, || {
                    format!("the group's offset is of {run}, but the last refreshes are of {last}")
                });
                return None;
            }
        }
        if !strict {
            notes.push(
                "the group was working while this was read: the end of the log is proven less strictly"
                    .into(),
            );
        }
        self.check_checkpoint(checkpoint, strict)
    }

    /// Checks that a checkpoint speaks of events that exist, and turns it into what must be open.
    fn check_checkpoint(&mut self, checkpoint: &Checkpoint, strict: bool) -> Option<LastWord> {
        let (partition, bounds) = (self.index.partition, self.index.bounds);
        let run = self.runs.len() - 1;
        let position = checkpoint.position;
        if position > bounds.end {
            self.fault(Some(run), Fault::Checkpoint, Some(position), None, || {
                format!(
                    "the group's position {position} on partition {partition} is beyond the end, {}",
                    bounds.end
                )
            });
            return None;
        }
        let mut opened = BTreeMap::new();
        let mut opened_before_retained = false;
        for start in &checkpoint.window_starts {
            if *start < bounds.start {
                opened_before_retained = true;
                continue;
            }
            let entry = self.index.at(*start).map(|(_, entry)| *entry);
            let begins = entry.filter(|entry| {
                entry.standing.may_count() && *start >= checkpoint.run.start && *start < position
            });
            let fresh = begins.is_some_and(|entry| opened.insert(entry.conversation.row(), *start).is_none());
            if !fresh {
                self.fault(Some(run), Fault::Checkpoint, Some(*start), None, || {
                    format!("the group holds a window open from offset {start} of partition {partition}, where none can begin")
                });
            }
        }
        Some(LastWord {
            position,
            opened,
            opened_before_retained,
            strict,
        })
    }

    fn note_what_is_gone(&self, notes: &mut Vec<String>) {
        let start = self.index.bounds.start;
        if let Some(run) = self.runs.iter().find(|run| run.run.start < start) {
            notes.push(format!(
                "offsets {}..{start} cannot be proven: retention removed those events",
                run.run.start
            ));
        }
        if self.refreshes_removed {
            notes.push(
                "older refreshes were removed by retention: events of that time cannot be proven".into(),
            );
        }
        for run in &self.runs {
            if run.run.cause == RunCause::Retention {
                notes.push(format!(
                    "{} began because what the group had committed was no longer retained: what lay before is lost to it",
                    described(run.run)
                ));
            }
        }
    }

    /// Judges the run that goes on: what is uncounted must be open, and what is open must be uncounted.
    fn judge_last(&mut self, at: usize, word: Option<&LastWord>) {
        let index = self.index;
        for (number, nth, entry) in index.countable() {
            if entry.offset < self.runs[at].run.start {
                continue;
            }
            let row = entry.conversation.row();
            let reached = self.runs[at].reached[row] as usize;
            let open = match word {
                Some(word) => {
                    let opened = word.opened.get(&row);
                    entry.offset >= word.position || opened.is_some_and(|start| entry.offset >= *start)
                }
                None => nth >= reached,
            };
            match (self.runs[at].is_set(number), open) {
                (true, false) => {}
                (true, true) => self.held_open_though_counted(at, entry, word),
                (false, true) => {
                    self.runs[at].counts.open += 1;
                    self.counts.open += 1;
                }
                (false, false) if word.is_some_and(|word| word.opened_before_retained) => {
                    self.unproven(at, 1)
                }
                (false, false) => self.uncounted(at, entry, nth, reached),
            }
        }
    }

    fn held_open_though_counted(&mut self, at: usize, entry: &Entry, word: Option<&LastWord>) {
        if word.is_some_and(|word| word.strict) {
            let (offset, partition) = (entry.offset, self.index.partition);
            let name = self.index.conversation_id(entry.conversation);
            self.fault(Some(at), Fault::Doubled, Some(offset), None, || {
                format!(
                    "the event at offset {offset} of partition {partition} ({name}) is counted, and the group's offset \
                     still holds it open: it would be counted again"
                )
            });
        }
    }

    /// Decides between lost and beyond proof for an event that the run must have counted.
    fn uncounted(&mut self, at: usize, entry: &Entry, nth: usize, reached: usize) {
        if entry.standing == Standing::Doubtful || self.may_be_in_removed_refresh(at, entry, nth) {
            self.unproven(at, 1);
            return;
        }
        let (offset, partition) = (entry.offset, self.index.partition);
        let name = self.index.conversation_id(entry.conversation);
        let run = described(self.runs[at].run);
        self.fault(Some(at), Fault::Lost, Some(offset), None, || {
            let why = if nth < reached {
                "though later ones of its conversation are counted"
            } else {
                "and is neither unread nor in an open window"
            };
            format!("the event at offset {offset} of partition {partition} ({name}) is in no refresh of {run}, {why}")
        });
    }

    /// Only the first run that is seen can have refreshes before the first one retained.
    fn may_be_in_removed_refresh(&self, at: usize, entry: &Entry, nth: usize) -> bool {
        let old_enough = self
            .first_refresh_at
            .is_none_or(|first| entry.recorded_at <= first.plus(CLOCK_MARGIN));
        let before_all_counted = nth < self.runs[at].begun[entry.conversation.row()] as usize;
        at == 0 && self.refreshes_removed && old_enough && before_all_counted
    }

    /// Judges a run that a reset or retention ended: the rest of each conversation is named, not called lost.
    fn judge_ended(&mut self, at: usize, later_start: Offset, notes: &mut Vec<String>) {
        let index = self.index;
        let (mut left, mut skipped) = (Range::default(), Range::default());
        let highest = self.runs[at].highest;
        for (number, nth, entry) in index.countable() {
            if entry.offset < self.runs[at].run.start || self.runs[at].is_set(number) {
                continue;
            }
            let reached = self.runs[at].reached[entry.conversation.row()] as usize;
            if nth < reached {
                self.uncounted(at, entry, nth, reached);
            } else if entry.standing == Standing::Doubtful || self.may_be_in_removed_refresh(at, entry, nth) {
                self.unproven(at, 1);
            } else if entry.offset >= later_start {
                // Unread ones are the later run's business alone.
                if Some(entry.offset) <= highest {
                    left.add(entry.offset);
                    self.runs[at].counts.left_open += 1;
                    self.counts.left_open += 1;
                }
            } else if !self.counted_before(at, number) {
                skipped.add(entry.offset);
                self.runs[at].counts.skipped += 1;
                self.counts.skipped += 1;
            }
        }
        let run = described(self.runs[at].run);
        if let Some(range) = left.text() {
            notes.push(format!(
                "left open when {run} ended, re-emitted by a later run: {range}"
            ));
        }
        if let Some(range) = skipped.text() {
            notes.push(format!("skipped by a reset when {run} ended: {range}"));
        }
    }

    /// Tells whether an earlier run counts an event, which then no reset skipped.
    fn counted_before(&self, at: usize, number: u32) -> bool {
        self.runs[..at].iter().any(|run| run.is_set(number))
    }

    /// Names the events before the start of every run.
    fn judge_before_all_runs(&mut self, pending: Option<Offset>, notes: &mut Vec<String>) {
        let index = self.index;
        let first = self.runs.iter().map(|run| run.run.start).chain(pending).min();
        let mut before = Range::default();
        for entry in &index.entries {
            if entry.standing != Standing::Counts {
                continue;
            }
            match first {
                Some(first) if entry.offset >= first => {}
                Some(_) => before.add(entry.offset),
                // Nobody has read the partition yet.
                None => self.counts.open += 1,
            }
        }
        let Some(range) = before.text() else { return };
        if self.refreshes_removed {
            self.counts.unproven += before.count;
            notes.push(format!(
                "before every run that is still seen, cannot be proven: {range}"
            ));
        } else {
            self.counts.skipped += before.count;
            notes.push(format!("before the start of every run, skipped: {range}"));
        }
    }

    /// Checks that each undecodable record was set aside by each run that read it, and only once.
    fn judge_dead_letters(&mut self, letters: &DeadLetters, committed: &Committed, word: Option<&LastWord>) {
        let index = self.index;
        let nobody = Vec::new();
        for entry in &index.entries {
            if entry.standing != Standing::Undecodable {
                continue;
            }
            let letters_here = letters.by_origin.get(&entry.offset).unwrap_or(&nobody);
            let readers = self.readers_of(entry.offset, word);
            self.judge_missing_letters(entry, letters, letters_here, &readers);
            self.judge_doubled_letters(entry, letters_here, committed);
        }
    }

    /// Returns the runs that have certainly read an offset.
    fn readers_of(&self, offset: Offset, word: Option<&LastWord>) -> Vec<usize> {
        let last = self.runs.len().checked_sub(1);
        let read = |at: &usize| {
            let run = &self.runs[*at];
            let position = word.filter(|_| Some(*at) == last).map(|word| word.position);
            run.run.start <= offset
                && (Some(offset) <= run.highest || position.is_some_and(|position| offset < position))
        };
        (0..self.runs.len()).filter(read).collect()
    }

    fn judge_missing_letters(
        &mut self,
        entry: &Entry,
        letters: &DeadLetters,
        letters_here: &[Option<RunKey>],
        readers: &[usize],
    ) {
        let anonymous = letters_here.iter().filter(|run| run.is_none()).count();
        let mut missing: Vec<usize> = readers
            .iter()
            .copied()
            .filter(|at| !letters_here.contains(&Some(RunKey::of(self.runs[*at].run))))
            .collect();
        missing.truncate(missing.len().saturating_sub(anonymous));
        for at in missing {
            let removed = letters
                .complete_since
                .is_some_and(|since| entry.recorded_at <= since.plus(CLOCK_MARGIN));
            if removed || (at == 0 && self.refreshes_removed) {
                self.unproven(at, 1);
                continue;
            }
            let (offset, partition, run) = (entry.offset, self.index.partition, described(self.runs[at].run));
            self.fault(Some(at), Fault::DeadLetterLost, Some(offset), None, || {
                format!("the record at offset {offset} of partition {partition} is no event, and {run} did not set it aside")
            });
        }
    }

    fn judge_doubled_letters(
        &mut self,
        entry: &Entry,
        letters_here: &[Option<RunKey>],
        committed: &Committed,
    ) {
        let mut named: Vec<RunKey> = letters_here.iter().copied().flatten().collect();
        named.sort_unstable();
        let twice = named.windows(2).any(|pair| pair[0] == pair[1]);
        // Runs without a refresh leave no trace but their dead letters; only where there was one run is one enough.
        let one_run_ever = match committed {
            Committed::Exact(checkpoint) | Committed::NotNewer(checkpoint) => {
                checkpoint.run.cause == RunCause::First && !self.refreshes_removed
            }
            Committed::NotRead | Committed::Nothing | Committed::Reset(_) | Committed::Undecodable { .. } => {
                false
            }
        };
        if twice || (one_run_ever && letters_here.len() > 1) {
            let (offset, partition, count) = (entry.offset, self.index.partition, letters_here.len());
            self.fault(None, Fault::DeadLetterDoubled, Some(offset), None, || {
                format!("the record at offset {offset} of partition {partition} was set aside {count} times")
            });
        }
    }

    /// Counts what a run had to go through: every record at or after its start.
    fn count_run_records(&mut self, at: usize) {
        let start = self.runs[at].run.start;
        let from = self.index.entries.partition_point(|entry| entry.offset < start);
        for entry in &self.index.entries[from..] {
            count_record(&mut self.runs[at].counts, entry);
        }
    }

    fn counted_by_any(&self) -> u64 {
        let words = self.runs.iter().map(|run| run.counted.len()).max().unwrap_or(0);
        (0..words)
            .map(|word| {
                let all = self.runs.iter().fold(0, |bits, run| bits | run.counted[word]);
                u64::from(all.count_ones())
            })
            .sum()
    }
}

/// A span of offsets and how many of them were meant.
#[derive(Default)]
struct Range {
    first: Option<Offset>,
    last: Option<Offset>,
    count: u64,
}

impl Range {
    fn add(&mut self, offset: Offset) {
        self.first = Some(self.first.map_or(offset, |first| first.min(offset)));
        self.last = self.last.max(Some(offset));
        self.count += 1;
    }

    fn text(&self) -> Option<String> {
        let (first, last) = (self.first?, self.last?);
        Some(format!("{} events, offsets {first}..{}", self.count, last.next()))
    }
}
