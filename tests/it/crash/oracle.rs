//! Reads a log and what was written of it, and says whether each run is exact. Slow, obvious, and on its own.

use std::rc::Rc;
use std::time::Duration;

use frontstream::coalesce::{DedupeHorizon, Output};
use frontstream::model::{Offset, Partition, Priority, Refresh, Run, Timestamp};

/// The log of one partition, and the rule that says what is a duplicate in it.
pub(super) struct Log {
    pub(super) partition: Partition,
    pub(super) records: Vec<Rc<Stored>>,
    pub(super) horizon: DedupeHorizon,
}

/// A record as it was appended.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) offset: Offset,
    pub(super) log_time: Timestamp,
    /// When it was appended, on the time line of the world.
    pub(super) appended_us: u64,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
    /// `None`: cannot be decoded.
    pub(super) event: Option<Event>,
}

#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) tenant: &'static str,
    pub(super) conversation: Option<String>,
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) priority: Priority,
    pub(super) emitted_at: Timestamp,
    pub(super) received_at: Timestamp,
}

/// An output of a committed transaction, and the run it was written in.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) run: Run,
    pub(super) output: Output,
}

/// How a run ended: with its last commit.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) run: Run,
    pub(super) position: Offset,
    pub(super) window_starts: Vec<Offset>,
}

/// A log, and what is to be counted of it.
pub(super) struct Oracle<'l> {
    log: &'l Log,
    countable: Vec<(Offset, &'l Event)>,
}

impl<'l> Oracle<'l> {
    pub(super) fn new(log: &'l Log) -> Self {
        let countable = countable(log);
        Self { log, countable }
    }

    /// Says whether every run that committed anything counted its part of the log exactly.
    pub(super) fn verdict(&self, written: &[Written], ends: &[End]) -> Result<(), String> {
        let of_no_run = |written: &&Written| ends.iter().all(|end| end.run != written.run);
        if let Some(stray) = written.iter().find(of_no_run) {
            return Err(format!("untrue: {stray:?} belongs to no run"));
        }
        for end in ends {
            let outputs: Vec<&Output> = written
                .iter()
                .filter(|written| written.run == end.run)
                .map(|written| &written.output)
                .collect();
            refreshes(self.log.partition, &self.countable, &outputs, end)
                .and_then(|()| dead_letters(self.log, &outputs, end))
                .map_err(|what| format!("{:?}: {what}", end.run))?;
        }
        Ok(())
    }
}

/// The events that are to be refreshed: they name a conversation and are no duplicates.
fn countable(log: &Log) -> Vec<(Offset, &Event)> {
    let mut countable = Vec::new();
    for (place, record) in log.records.iter().enumerate() {
        let Some(event) = &record.event else { continue };
        let earlier = log.records[..place].iter().rev().find(|earlier| {
            earlier.event.as_ref().is_some_and(|other| {
                (other.tenant, &other.conversation, &other.id)
                    == (event.tenant, &event.conversation, &event.id)
            })
        });
        let duplicate = earlier.is_some_and(|earlier| {
            let offsets = record.offset.number() - earlier.offset.number();
            let millis = record.log_time.as_millis() - earlier.log_time.as_millis();
            offsets <= i64::from(log.horizon.records)
                && Duration::from_millis(u64::try_from(millis).unwrap_or(0)) <= log.horizon.time
        });
        if event.conversation.is_some() && !duplicate {
            countable.push((record.offset, event));
        }
    }
    countable
}

fn of_conversation(event: &Event, tenant: &str, conversation: &str) -> bool {
    event.tenant == tenant && event.conversation.as_deref() == Some(conversation)
}

fn refreshes(
    partition: Partition,
    countable: &[(Offset, &Event)],
    outputs: &[&Output],
    end: &End,
) -> Result<(), String> {
    // How often each event is counted, open windows included: those of the last commit hold every event of their
    // conversation from their start on.
    let mut counted = vec![0_u32; countable.len()];
    for start in &end.window_starts {
        let Some((_, first)) = countable.iter().find(|(offset, _)| offset == start) else {
            return Err(format!("untrue: the window open at {start} begins with no event"));
        };
        let conversation = first.conversation.as_deref().unwrap_or_default();
        for (times, (offset, event)) in counted.iter_mut().zip(countable) {
            if offset >= start && *offset < end.position && of_conversation(event, first.tenant, conversation)
            {
                *times += 1;
            }
        }
    }
    let mut before: Vec<&Refresh> = Vec::new();
    for output in outputs {
        let refresh = match output {
            Output::Refresh(refresh) => refresh,
            Output::DeadLetter(_) => continue,
        };
        if refresh.run != end.run || refresh.partition != partition {
            return Err(format!("untrue: {refresh:?} names another run or partition"));
        }
        let (tenant, conversation) = (refresh.tenant.as_str(), refresh.conversation.as_str());
        let mut events = Vec::new();
        for (times, (offset, event)) in counted.iter_mut().zip(countable) {
            if *offset >= refresh.first_offset
                && *offset <= refresh.last_offset
                && of_conversation(event, tenant, conversation)
            {
                *times += 1;
                events.push((*offset, *event));
            }
        }
        describes(refresh, &events)?;
        let same = |earlier: &&&Refresh| {
            earlier.tenant == refresh.tenant && earlier.conversation == refresh.conversation
        };
        if let Some(earlier) = before.iter().rev().find(same)
            && earlier.last_offset >= refresh.first_offset
        {
            return Err(format!("misordered: {refresh:?} comes after {earlier:?}"));
        }
        before.push(refresh);
    }
    for (times, (offset, _)) in counted.iter().zip(countable) {
        let expected = u32::from(*offset >= end.run.start && *offset < end.position);
        if *times != expected {
            let what = if *times < expected { "lost" } else { "doubled" };
            return Err(format!(
                "{what}: the event at {offset} is counted {times} times, not {expected}"
            ));
        }
    }
    Ok(())
}

/// Says whether a refresh tells the truth about the events between its offsets.
fn describes(refresh: &Refresh, events: &[(Offset, &Event)]) -> Result<(), String> {
    let ids: Vec<&str> = events.iter().map(|(_, event)| event.id.as_str()).collect();
    let named: Vec<&str> = refresh.event_ids.iter().map(|id| id.as_str()).collect();
    let mut kinds: Vec<&str> = Vec::new();
    for (_, event) in events {
        if !kinds.contains(&event.kind) {
            kinds.push(event.kind);
        }
    }
    let named_kinds: Vec<&str> = refresh.kinds.iter().map(|kind| kind.as_str()).collect();
    let emitted = || events.iter().map(|(_, event)| event.emitted_at);
    let received = || events.iter().map(|(_, event)| event.received_at);
    let truths = [
        ("ids", ids == named && !refresh.event_ids_truncated),
        ("count", refresh.event_count as usize == events.len()),
        (
            "first offset",
            events.first().map(|(offset, _)| *offset) == Some(refresh.first_offset),
        ),
        (
            "last offset",
            events.last().map(|(offset, _)| *offset) == Some(refresh.last_offset),
        ),
        (
            "priority",
            events.iter().map(|(_, event)| event.priority).max() == Some(refresh.priority),
        ),
        ("kinds", kinds == named_kinds),
        ("first emitted", emitted().min() == Some(refresh.first_emitted_at)),
        ("last emitted", emitted().max() == Some(refresh.last_emitted_at)),
        (
            "first received",
            received().min() == Some(refresh.first_received_at),
        ),
        (
            "last received",
            received().max() == Some(refresh.last_received_at),
        ),
    ];
    match truths.iter().find(|(_, true_)| !true_) {
        Some((what, _)) => Err(format!("untrue: {refresh:?} tells a wrong {what} of {events:?}")),
        None => Ok(()),
    }
}

fn dead_letters(log: &Log, outputs: &[&Output], end: &End) -> Result<(), String> {
    let mut set_aside: Vec<Offset> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::DeadLetter(offset) => Some(*offset),
            Output::Refresh(_) => None,
        })
        .collect();
    set_aside.sort_unstable();
    let expected: Vec<Offset> = log
        .records
        .iter()
        .filter(|record| record.event.is_none())
        .map(|record| record.offset)
        .filter(|offset| *offset >= end.run.start && *offset < end.position)
        .collect();
    if set_aside != expected {
        let what = if set_aside.len() < expected.len() {
            "lost"
        } else {
            "doubled"
        };
        return Err(format!("{what}: set aside {set_aside:?} of {expected:?}"));
    }
    Ok(())
}
