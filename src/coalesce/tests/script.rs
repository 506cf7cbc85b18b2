//! A scenario file as data; see `tests.rs` for its form.

use std::time::Duration;

use super::super::{Content, Limits, Record};
use super::{at, limits, offset};
use crate::model::{Change, Checkpoint, Offset, Priority, Run, RunCause, Timestamp};

pub(super) struct Script {
    pub(super) limits: Limits,
    pub(super) checkpoint: Checkpoint,
    pub(super) acts: Vec<(Timestamp, Act)>,
}

pub(super) enum Act {
    Batch(Vec<Row>),
    Deadline,
    LogEnd,
    Stop,
    Restart,
    ReadFrom(Offset),
}

/// A record that owns its texts.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) offset: Offset,
    pub(super) log_time: Timestamp,
    /// `None`: cannot be decoded.
    pub(super) event: Option<Event>,
}

#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) tenant: String,
    pub(super) conversation: Option<String>,
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) priority: Priority,
    pub(super) emitted_at: Timestamp,
    pub(super) received_at: Timestamp,
}

impl Row {
    pub(super) fn record(&self) -> Record<'_> {
        Record {
            offset: self.offset,
            log_time: self.log_time,
            content: self.event.as_ref().map_or(Content::Undecodable, |event| {
                Content::Change(Change {
                    tenant: &event.tenant,
                    conversation: event.conversation.as_deref(),
                    event_id: &event.id,
                    kind: &event.kind,
                    priority: event.priority,
                    emitted_at: event.emitted_at,
                    received_at: event.received_at,
                })
            }),
        }
    }
}

impl Script {
    pub(super) fn parse(text: &str) -> Self {
        let mut script = Self {
            limits: limits(),
            checkpoint: Checkpoint::begin(run(Offset::ZERO)),
            acts: Vec::new(),
        };
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] | ["#", ..] => {}
                ["limits", pairs @ ..] => pairs.iter().for_each(|pair| set(&mut script.limits, pair)),
                ["run", start] => script.checkpoint = Checkpoint::begin(run(parse_offset(start))),
                ["checkpoint", start, position, starts] => {
                    script.checkpoint = Checkpoint {
                        run: run(parse_offset(start)),
                        position: parse_offset(position),
                        window_starts: starts.split(',').map(parse_offset).collect(),
                    };
                }
                [now, "batch"] => script.acts.push((parse_time(now), Act::Batch(Vec::new()))),
                [now, "deadline"] => script.acts.push((parse_time(now), Act::Deadline)),
                [now, "log-end"] => script.acts.push((parse_time(now), Act::LogEnd)),
                [now, "stop"] => script.acts.push((parse_time(now), Act::Stop)),
                [now, "restart"] => script.acts.push((parse_time(now), Act::Restart)),
                [now, "read-from", log_start] => script
                    .acts
                    .push((parse_time(now), Act::ReadFrom(parse_offset(log_start)))),
                row => match script.acts.last_mut() {
                    Some((now, Act::Batch(rows))) => rows.push(parse_row(row, *now)),
                    Some(_) | None => panic!("a record outside of a batch: {line:?}"),
                },
            }
        }
        script
    }
}

fn run(start: Offset) -> Run {
    Run {
        started_at: at(0),
        start,
        cause: RunCause::First,
    }
}

fn set(limits: &mut Limits, pair: &str) {
    let (key, value) = pair.split_once('=').expect("limits are key=value");
    let lanes = &mut limits.lanes;
    match key {
        "records" => limits.dedupe.records = value.parse().unwrap(),
        "time" => limits.dedupe.time = parse_duration(value),
        "ids" => limits.event_ids_max = value.parse().unwrap(),
        "metadata" => limits.metadata_bytes_max = value.parse().unwrap(),
        "chunk" => limits.chunk.duration = parse_duration(value),
        "windows" => limits.chunk.windows_max = value.parse().unwrap(),
        "bytes" => limits.chunk.bytes_max = value.parse().unwrap(),
        "high.gap" => lanes.high.gap = parse_duration(value),
        "high.cap" => lanes.high.cap = parse_duration(value),
        "low.cap" => lanes.low.cap = parse_duration(value),
        key => panic!("unknown limit {key:?}"),
    }
}

fn parse_row(words: &[&str], now: Timestamp) -> Row {
    let mut row = Row {
        offset: parse_offset(words[0]),
        log_time: now,
        event: None,
    };
    let pairs = match words {
        [_, "undecodable", pairs @ ..] => pairs,
        [_, conversation, id, priority, pairs @ ..] => {
            let (tenant, conversation) = conversation.split_once('/').unwrap_or(("acme", conversation));
            row.event = Some(Event {
                tenant: tenant.into(),
                conversation: (conversation != "-").then(|| conversation.into()),
                id: (*id).into(),
                kind: "message".into(),
                priority: Priority::from_name(priority).expect("a priority"),
                emitted_at: now,
                received_at: now,
            });
            pairs
        }
        words => panic!("not a record: {words:?}"),
    };
    for pair in pairs {
        let (key, value) = pair.split_once('=').expect("details are key=value");
        match (key, &mut row.event) {
            ("log", _) => row.log_time = parse_time(value),
            ("kind", Some(event)) => event.kind = value.into(),
            ("received", Some(event)) => event.received_at = parse_time(value),
            ("emitted", Some(event)) => event.emitted_at = parse_time(value),
            (key, _) => panic!("unknown detail {key:?}"),
        }
    }
    row
}

fn parse_offset(text: &str) -> Offset {
    offset(text.parse().expect("an offset"))
}

fn parse_time(text: &str) -> Timestamp {
    at(text.parse().expect("milliseconds"))
}

fn parse_duration(text: &str) -> Duration {
    let unit = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let number = text[..text.len() - unit.len()].parse().expect("a number");
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(60 * number),
        unit => panic!("unknown unit {unit:?}"),
    }
}
