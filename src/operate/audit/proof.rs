//! The proof: one partition's events, refreshes and checkpoint in, what is wrong out. Pure.
//!
//! Refreshes come in the order of the refresh topic and are judged one by one against the index; only a bit per event
//! and a number per conversation are kept for each run. What no refresh counted is judged at the end.

use std::collections::BTreeMap;
use std::fmt;

use crate::model::{Checkpoint, Offset, Partition, Priority, Refresh, Run, Timestamp};

use super::index::{ConversationIndex, Entry, Index, Standing, hash_of};
use super::report::{Counts, Fault, Findings};

/// What is known of the group's committed offset of the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// Nobody looked.
    NotRead,
    /// The group has none.
    Nothing,
    /// One without metadata: an operator's reset that no processor has taken up yet.
    Reset(Offset),
    /// A checkpoint, read while nothing was committed: it belongs exactly to these refreshes.
    Exact(Checkpoint),
    /// A checkpoint that is not newer than these refreshes: the group was working while we read.
    NotNewer(Checkpoint),
    /// Metadata that is not ours, or damaged.
    Undecodable {
        /// The committed offset.
        offset: Offset,
        /// What is wrong with the metadata.
        why: String,
    },
}

/// The dead letters that name this partition as their origin: for each offset the runs that set it aside.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeadLetters {
    /// `None` stands for a dead letter that does not say which run wrote it.
    pub(crate) by_origin: BTreeMap<Offset, Vec<Option<RunKey>>>,
    /// Where retention removed dead letters: the time of the oldest that is left.
    pub(crate) complete_since: Option<Timestamp>,
}

/// What tells two runs of one partition apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunKey {
    pub(crate) started_at: Timestamp,
    pub(crate) start: Offset,
}

/// Where a refresh was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    /// Its offset in the refresh topic.
    pub(crate) offset: Offset,
    /// The record's time.
    pub(crate) recorded_at: Timestamp,
    /// The record's key.
    pub(crate) key: Option<&'a [u8]>,
}

/// A proof in the making.
#[derive(Debug)]
pub(crate) struct Proof<'a> {
    pub(super) index: &'a Index,
    /// Whether older refreshes were removed by retention.
    pub(super) refreshes_removed: bool,
    /// The time of the first refresh, if any.
    pub(super) first_refresh_at: Option<Timestamp>,
    /// In the order in which they first stand in the refresh topic.
    pub(super) runs: Vec<RunProof>,
    pub(super) counts: Counts,
    pub(super) findings: Findings,
}

/// What one run's refreshes count.
#[derive(Debug)]
pub(super) struct RunProof {
    pub(super) run: Run,
    pub(super) counts: Counts,
    /// One bit for each entry of the index.
    pub(super) counted: Vec<u64>,
    /// For each conversation: how many of its events stand up to the last one counted.
    pub(super) reached: Vec<u32>,
    /// For each conversation: how many of its events stand before the first one counted.
    pub(super) begun: Vec<u32>,
    /// The highest offset counted; what the run has certainly read.
    pub(super) highest: Option<Offset>,
}

/// Where a refresh stands, for messages.
#[derive(Clone, Copy)]
struct Place(Partition, Offset);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.0, self.1)
    }
}

/// The events that a refresh names.
struct Named {
    conversation: ConversationIndex,
    /// Their places among the events of the conversation.
    from: usize,
    to: usize,
    /// Whether retention removed some of them.
    cut: bool,
}

impl<'a> Proof<'a> {
    /// Begins with what the events are; `refreshes_start` is the first offset that the refresh topic still holds.
    pub(crate) fn new(index: &'a Index, refreshes_start: Offset) -> Self {
        let mut counts = Counts::default();
        for entry in &index.entries {
            count_record(&mut counts, entry);
        }
        Self {
            index,
            refreshes_removed: refreshes_start > Offset::ZERO,
            first_refresh_at: None,
            runs: Vec::new(),
            counts,
            findings: Findings::default(),
        }
    }

    /// Takes the next record of the refresh topic, which is no refresh.
    pub(crate) fn undecodable_refresh(&mut self, found: Found<'_>, why: &str) {
        self.first_refresh_at.get_or_insert(found.recorded_at);
        let place = self.place(found.offset);
        self.fault(None, Fault::UndecodableRefresh, None, Some(found.offset), || {
            format!("the record at {place} is no refresh: {why}")
        });
    }

    /// Takes the next refresh of the refresh topic's partition.
    pub(crate) fn refresh(&mut self, found: Found<'_>, refresh: &Refresh) {
        self.first_refresh_at.get_or_insert(found.recorded_at);
        self.counts.refreshes += 1;
        let place = self.place(found.offset);
        let id = refresh.id();
        if refresh.partition != self.index.partition {
            let partition = refresh.partition;
            self.fault(None, Fault::Misplaced, None, Some(found.offset), || {
                format!("refresh {id} at {place} counts events of partition {partition}")
            });
            return;
        }
        let run = self.run_of(refresh.run, found.offset, place);
        self.runs[run].counts.refreshes += 1;
        if found.key != Some(refresh.conversation.as_str().as_bytes()) {
            self.fault(Some(run), Fault::Miscounted, None, Some(found.offset), || {
                format!("refresh {id} at {place}: its key is not its conversation")
            });
        }
        let Some(named) = self.named(run, refresh, found.offset, place) else {
            return;
        };
        self.mark(run, &named, refresh, found.offset, place);
        self.compare(run, &named, refresh, found.offset, place);
    }

    /// Finds the run of a refresh among those seen, or adds it; notices one that comes back.
    fn run_of(&mut self, run: Run, refresh: Offset, place: Place) -> usize {
        let last = self.runs.len().checked_sub(1);
        let Some(at) = self.runs.iter().position(|seen| seen.run == run) else {
            self.runs.push(RunProof::new(run, self.index));
            return self.runs.len() - 1;
        };
        if Some(at) != last {
            let newer = self
                .runs
                .last()
                .map(|newer| described(newer.run))
                .unwrap_or_default();
            self.fault(Some(at), Fault::Zombie, None, Some(refresh), || {
                format!(
                    "the refresh at {place} is of {}, though {newer} had begun: an owner that should have been fenced",
                    described(run)
                )
            });
        }
        at
    }

    /// Finds the events that a refresh names, or says why they cannot be found.
    fn named(&mut self, run: usize, refresh: &Refresh, at: Offset, place: Place) -> Option<Named> {
        let (first, last, id) = (refresh.first_offset, refresh.last_offset, refresh.id());
        let bounds = self.index.bounds;
        let unknown = if first > last {
            Some("its first offset is above its last".to_owned())
        } else if last >= bounds.end {
            Some(format!("the events end at offset {}", bounds.end))
        } else if first < refresh.run.start {
            Some(format!("its run counts from offset {}", refresh.run.start))
        } else {
            None
        };
        if let Some(why) = unknown {
            self.fault(Some(run), Fault::Unknown, None, Some(at), || {
                format!("refresh {id} at {place}: {why}")
            });
            return None;
        }
        if last < bounds.start {
            self.unproven(run, 1);
            return None;
        }
        let conversation = self
            .index
            .conversation(refresh.tenant.as_str(), refresh.conversation.as_str());
        let Some(conversation) = conversation else {
            let name = refresh.conversation.clone();
            self.fault(Some(run), Fault::Unknown, None, Some(at), || {
                format!("refresh {id} at {place}: the log has no event of conversation {name}")
            });
            return None;
        };
        let events = self.index.events_of(conversation);
        let offset_of = |number: &u32| self.index.entry(*number).offset;
        let from = events.partition_point(|number| offset_of(number) < first);
        let to = events.partition_point(|number| offset_of(number) <= last);
        let cut = first < bounds.start;
        let begins = cut || events.get(from).is_some_and(|number| offset_of(number) == first);
        let ends = to > from && offset_of(&events[to - 1]) == last;
        if begins && ends {
            return Some(Named {
                conversation,
                from,
                to,
                cut,
            });
        }
        let (which, offset) = if begins { ("last", last) } else { ("first", first) };
        self.fault(Some(run), Fault::Unknown, None, Some(at), || {
            format!(
                "refresh {id} at {place}: its {which} offset {offset} is no event to count of conversation {}",
                refresh.conversation
            )
        });
        // What lies within is taken as counted all the same: one fault should be told once.
        (to > from).then_some(Named {
            conversation,
            from,
            to,
            cut,
        })
    }

    /// Marks the named events as counted; notices those that were, and those that stand before others that were.
    fn mark(&mut self, run: usize, named: &Named, refresh: &Refresh, at: Offset, place: Place) {
        let events = self.index.events_of(named.conversation);
        let reached = self.runs[run].reached[named.conversation.row()] as usize;
        let (mut doubled, mut late) = (None, None);
        for (nth, number) in events.iter().enumerate().take(named.to).skip(named.from) {
            let entry = self.index.entry(*number);
            if self.runs[run].set(*number) {
                self.runs[run].counts.doubled += 1;
                self.counts.doubled += 1;
                doubled.get_or_insert(entry.offset);
            } else {
                self.runs[run].counts.counted += 1;
                if nth < reached && entry.standing == Standing::Counts {
                    late.get_or_insert(entry.offset);
                }
            }
        }
        let (id, conversation) = (refresh.id(), &refresh.conversation);
        let partition = self.index.partition;
        if let Some(event) = doubled {
            self.findings.keep(Fault::Doubled, partition, Some(event), Some(at), || {
                format!(
                    "refresh {id} at {place} counts the event at offset {event} of {conversation} again, in one run"
                )
            });
        }
        if let Some(event) = late {
            self.fault(Some(run), Fault::Misordered, Some(event), Some(at), || {
                format!("refresh {id} at {place} stands after a refresh of later events of {conversation}")
            });
        }
        let proof = &mut self.runs[run];
        let row = named.conversation.row();
        proof.reached[row] = proof.reached[row].max(number(named.to));
        proof.begun[row] = proof.begun[row].min(number(named.from));
        proof.highest = proof.highest.max(Some(refresh.last_offset));
    }

    /// Compares what a refresh says with the events it names.
    fn compare(&mut self, run: usize, named: &Named, refresh: &Refresh, at: Offset, place: Place) {
        let events = &self.index.events_of(named.conversation)[named.from..named.to];
        let entries: Vec<&Entry> = events.iter().map(|number| self.index.entry(*number)).collect();
        let sure = entries
            .iter()
            .filter(|entry| entry.standing == Standing::Counts)
            .count();
        let count = refresh.event_count as usize;
        let difference = if named.cut || sure < entries.len() {
            // Some events are gone, or may have been duplicates of events that are: only bounds can be told.
            let within = count >= sure && (named.cut || count <= entries.len());
            (!within).then(|| {
                format!(
                    "it counts {count} events, the log has {sure} to {}",
                    entries.len()
                )
            })
        } else {
            difference(self.index, &entries, refresh)
        };
        let id = refresh.id();
        if let Some(difference) = difference {
            self.fault(
                Some(run),
                Fault::Miscounted,
                Some(refresh.first_offset),
                Some(at),
                || {
                    format!(
                        "refresh {id} at {place} of {}: {difference}",
                        refresh.conversation
                    )
                },
            );
        }
    }

    pub(super) fn unproven(&mut self, at: usize, count: u64) {
        self.runs[at].counts.unproven += count;
        self.counts.unproven += count;
    }

    pub(super) fn fault(
        &mut self,
        run: Option<usize>,
        fault: Fault,
        event: Option<Offset>,
        refresh: Option<Offset>,
        explain: impl FnOnce() -> String,
    ) {
        self.counts.fault(fault);
        if let Some(run) = run {
            self.runs[run].counts.fault(fault);
        }
        self.findings
            .keep(fault, self.index.partition, event, refresh, explain);
    }

    fn place(&self, offset: Offset) -> Place {
        Place(self.index.partition, offset)
    }
}

impl RunProof {
    pub(super) fn new(run: Run, index: &Index) -> Self {
        Self {
            run,
            counts: Counts::default(),
            counted: vec![0; index.entries.len().div_ceil(64)],
            reached: vec![0; index.conversation_count()],
            begun: vec![u32::MAX; index.conversation_count()],
            highest: None,
        }
    }

    pub(super) fn is_set(&self, number: u32) -> bool {
        self.counted[number as usize / 64] & (1 << (number % 64)) != 0
    }

    /// Sets an entry's bit and returns whether it was set.
    fn set(&mut self, number: u32) -> bool {
        let was = self.is_set(number);
        self.counted[number as usize / 64] |= 1 << (number % 64);
        was
    }
}

impl RunKey {
    /// Returns the key of a run.
    pub(crate) fn of(run: Run) -> Self {
        Self {
            started_at: run.started_at,
            start: run.start,
        }
    }
}

/// Returns what a refresh says otherwise than its events, the first such thing.
fn difference(index: &Index, entries: &[&Entry], refresh: &Refresh) -> Option<String> {
    let count = entries.len();
    if refresh.event_count as usize != count {
        return Some(format!(
            "it counts {} events, the log has {count}",
            refresh.event_count
        ));
    }
    let ids = &refresh.event_ids;
    let truncated = ids.len() < count;
    if ids.len() > count || truncated != refresh.event_ids_truncated {
        let how = if refresh.event_ids_truncated {
            "truncated"
        } else {
            "whole"
        };
        return Some(format!(
            "it names {} ids of {count} events and calls them {how}",
            ids.len()
        ));
    }
    if let Some((id, entry)) = ids
        .iter()
        .zip(entries)
        .find(|(id, entry)| hash_of(id.as_str()) != entry.id)
    {
        return Some(format!("it names {id} where offset {} stands", entry.offset));
    }
    difference_in_detail(index, entries, refresh)
}

/// Compares priority, kinds and times.
fn difference_in_detail(index: &Index, entries: &[&Entry], refresh: &Refresh) -> Option<String> {
    let priority = entries
        .iter()
        .map(|entry| entry.priority)
        .max()
        .unwrap_or(Priority::Low);
    if refresh.priority != priority {
        return Some(format!(
            "its priority is {}, that of its events {priority}",
            refresh.priority
        ));
    }
    let kinds = kinds_of(index, entries);
    if !refresh
        .kinds
        .iter()
        .map(|kind| kind.as_str())
        .eq(kinds.iter().copied())
    {
        return Some(format!(
            "its kinds are not those of its events ({})",
            kinds.join(", ")
        ));
    }
    let earliest = |time: fn(&Entry) -> Timestamp| entries.iter().map(|entry| time(entry)).min();
    let latest = |time: fn(&Entry) -> Timestamp| entries.iter().map(|entry| time(entry)).max();
    let times = [
        (
            "first emission",
            refresh.first_emitted_at,
            earliest(|entry| entry.emitted_at),
        ),
        (
            "last emission",
            refresh.last_emitted_at,
            latest(|entry| entry.emitted_at),
        ),
        (
            "first receipt",
            refresh.first_received_at,
            earliest(|entry| entry.received_at),
        ),
        (
            "last receipt",
            refresh.last_received_at,
            latest(|entry| entry.received_at),
        ),
    ];
    times
        .into_iter()
        .find(|(_, says, is)| Some(*says) != *is)
        .map(|(what, says, _)| format!("its {what}, {says}, is not that of its events"))
}

/// Returns the kinds of events, each once, in the order first seen, as many as a refresh names.
fn kinds_of<'a>(index: &'a Index, entries: &[&Entry]) -> Vec<&'a str> {
    let mut kinds = Vec::new();
    for entry in entries {
        if !kinds.contains(&entry.kind) && kinds.len() < Refresh::KINDS_MAX {
            kinds.push(entry.kind);
        }
    }
    kinds.into_iter().map(|kind| index.kind(kind)).collect()
}

pub(super) fn count_record(counts: &mut Counts, entry: &Entry) {
    counts.events += 1;
    match entry.standing {
        Standing::Counts | Standing::Doubtful => {}
        Standing::Duplicate => counts.duplicates += 1,
        Standing::WithoutConversation => counts.without_conversation += 1,
        Standing::Undecodable => counts.undecodable += 1,
    }
}

pub(super) fn described(run: Run) -> String {
    format!("the run of {} from offset {}", run.started_at, run.start)
}

fn number(at: usize) -> u32 {
    u32::try_from(at).expect("entries are numbered by u32")
}
