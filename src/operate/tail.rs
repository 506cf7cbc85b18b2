//! `tail`: the records of a topic, decoded, as they stand or as they come.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::decoding::Decoders;
use super::{clean, print};
use crate::config::cli::{self, TailTopic};
use crate::config::{From, RegistrySettings, Settings};
use crate::kafka::reader::{Reader, Record, Step};
use crate::kafka::{self, TopicNames};
use crate::lifecycle::{Clock, Exit, Stop, stop_on_signals};
use crate::model::{Event, Offset, Partition, Refresh, Timestamp};
use crate::wire::headers;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What to read, and how much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How to reach the brokers.
    pub kafka: kafka::Settings,
    /// The topics.
    pub names: TopicNames,
    /// Where schemas come from.
    pub registry: RegistrySettings,
    /// Which topic.
    pub topic: TailTopic,
    /// Where to begin.
    pub from: From,
    /// Whether to wait for new records.
    pub follow: bool,
    /// Ends after this many records.
    pub max: Option<u64>,
    /// Only these partitions; empty: all.
    pub partitions: Vec<i32>,
    /// Whether bodies are shown.
    pub payload: bool,
    /// JSON lines instead of readable ones.
    pub json: bool,
}

/// Prints the records until the end, the limit or a signal.
///
/// # Errors
///
/// The topic could not be read, or standard output is closed.
pub fn run(settings: &Settings, args: &cli::Tail, json: bool) -> anyhow::Result<Exit> {
    let plan = Plan {
        kafka: settings.kafka.clone(),
        names: settings.topics.names.clone(),
        registry: settings.registry.clone(),
        topic: args.topic,
        from: args.from,
        follow: args.follows(),
        max: args.max,
        partitions: args.partition.clone(),
        payload: args.payload,
        json,
    };
    let stop = Stop::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    runtime.spawn(stop_on_signals(stop.clone()).context("handling signals")?);
    drop(entered);
    let result = tail(&plan, &stop, |line| Ok(print(line)?));
    runtime.shutdown_background();
    result.map(|()| Exit::Done)
}

/// Reads records and gives each as one line. Blocks.
///
/// # Errors
///
/// The topic could not be read; whatever `each` returns.
pub fn tail(
    plan: &Plan,
    stop: &Stop,
    mut each: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let topic = match plan.topic {
        TailTopic::Events => &plan.names.events,
        TailTopic::Refresh => &plan.names.refresh,
        TailTopic::DeadLetters => &plan.names.dead_letters,
    };
    // A group is named because clients want one; it is never joined and nothing is committed.
    let reader = Reader::new(&plan.kafka, "frontstream-tail", ANSWER_TIMEOUT)?;
    let mut decoders = Decoders::new(&plan.registry)?;
    let partitions = partitions_of(&reader, topic, &plan.partitions)?;
    let from = beginnings(&reader, topic, &partitions, plan.from)?;
    let mut unfinished = BTreeSet::new();
    let mut ends = std::collections::BTreeMap::new();
    for (partition, start) in &from {
        let end = reader.bounds(topic, *partition)?.end;
        ends.insert(*partition, end);
        if *start < end {
            unfinished.insert(*partition);
        }
    }
    if !plan.follow && unfinished.is_empty() {
        return Ok(());
    }
    let mut left = plan.max;
    reader.follow(topic, &from, stop, |step| {
        match step {
            Step::Record(record) => {
                let end = ends.get(&record.partition()).copied().unwrap_or(Offset::ZERO);
                // Without following, what was not there at the start is not of interest.
                if plan.follow || record.offset() < end {
                    each(&line_of(plan, &mut decoders, record)?)?;
                    left = left.map(|left| left - 1);
                }
                if record.offset().next() >= end {
                    unfinished.remove(&record.partition());
                }
            }
            Step::End(partition) => {
                unfinished.remove(&partition);
            }
            Step::Nothing => {}
        }
        let done = left == Some(0) || (!plan.follow && unfinished.is_empty());
        anyhow::Ok(if done {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })
}

fn partitions_of(reader: &Reader, topic: &str, only: &[i32]) -> anyhow::Result<Vec<Partition>> {
    let all = reader.partitions(topic)?;
    if let Some(missing) = only
        .iter()
        .find(|number| !all.iter().any(|partition| partition.number() == **number))
    {
        bail!("{topic} has no partition {missing}, only 0 to {}", all.len() - 1);
    }
    let wanted = |partition: &Partition| only.is_empty() || only.contains(&partition.number());
    Ok(all.into_iter().filter(wanted).collect())
}

fn beginnings(
    reader: &Reader,
    topic: &str,
    partitions: &[Partition],
    from: From,
) -> anyhow::Result<Vec<(Partition, Offset)>> {
    let at = match from {
        From::At(at) => Some(at),
        From::Ago(ago) => Some(before(Clock::system().now(), ago)),
        From::Beginning | From::End | From::Offset(_) => None,
    };
    if let Some(at) = at {
        let offsets = reader.offsets_at(topic, partitions, at)?;
        return Ok(partitions.iter().copied().zip(offsets).collect());
    }
    let mut begin = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let bounds = reader.bounds(topic, *partition)?;
        let offset = match from {
            From::Beginning => bounds.start,
            From::Offset(offset) => offset.clamp(bounds.start, bounds.end),
            From::End | From::At(_) | From::Ago(_) => bounds.end,
        };
        begin.push((*partition, offset));
    }
    Ok(begin)
}

fn before(now: Timestamp, ago: Duration) -> Timestamp {
    let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_sub(ago))
}

fn line_of(plan: &Plan, decoders: &mut Decoders, record: Record<'_>) -> anyhow::Result<String> {
    let (fields, readable) = match plan.topic {
        TailTopic::Events => match decoders.event(record.value())? {
            Ok(event) => (
                event_fields(&event, plan.payload),
                event_line(&event, plan.payload),
            ),
            Err(malformed) => undecodable(record, &malformed.to_string(), plan.payload),
        },
        TailTopic::Refresh => match decoders.refresh(record.value())? {
            Ok(refresh) => (refresh_fields(&refresh), refresh_line(&refresh)),
            Err(malformed) => undecodable(record, &malformed.to_string(), plan.payload),
        },
        TailTopic::DeadLetters => dead_letter(record, plan.payload),
    };
    let (partition, offset, at) = (record.partition(), record.offset(), record.recorded_at());
    if !plan.json {
        return Ok(format!("{at} {partition}@{offset} {}", clean(&readable)));
    }
    let mut line = Map::new();
    line.insert("partition".into(), partition.number().into());
    line.insert("offset".into(), offset.number().into());
    line.insert("recorded_at".into(), at.to_string().into());
    line.insert("key".into(), record.key().map_or(Value::Null, text_or_base64));
    if let Value::Object(fields) = fields {
        line.extend(fields);
    }
    Ok(Value::Object(line).to_string())
}

fn event_fields(event: &Event, payload: bool) -> Value {
    let mut fields = json!({
        "tenant": event.tenant.as_str(),
        "conversation": event.conversation.as_ref().map(|id| id.as_str()),
        "event_id": event.id.as_str(),
        "kind": event.kind.as_str(),
        "front_type": event.front_type,
        "front_inner_type": event.front_inner_type,
        "priority": event.priority.as_str(),
        "source": event.source.as_str(),
        "emitted_at": event.emitted_at.to_string(),
        "received_at": event.received_at.to_string(),
        "payload_bytes": event.payload.as_ref().map(|payload| payload.len()),
    });
    if payload {
        fields["payload"] = event.payload.as_deref().map_or(Value::Null, text_or_base64);
    }
    fields
}

fn event_line(event: &Event, payload: bool) -> String {
    let conversation = event
        .conversation
        .as_ref()
        .map_or("no conversation", |id| id.as_str());
    let bytes = event.payload.as_ref().map_or(0, |payload| payload.len());
    let mut line = format!(
        "{:<6} {} {conversation} of {} {} ({}, {bytes} bytes)",
        event.priority, event.kind, event.tenant, event.id, event.source
    );
    if let (true, Some(payload)) = (payload, &event.payload) {
        line.push(' ');
        line.push_str(&String::from_utf8_lossy(payload));
    }
    line
}

fn refresh_fields(refresh: &Refresh) -> Value {
    let kinds: Vec<&str> = refresh.kinds.iter().map(|kind| kind.as_str()).collect();
    let ids: Vec<&str> = refresh.event_ids.iter().map(|id| id.as_str()).collect();
    json!({
        "refresh_id": refresh.id().to_string(),
        "tenant": refresh.tenant.as_str(),
        "conversation": refresh.conversation.as_str(),
        "priority": refresh.priority.as_str(),
        "kinds": kinds,
        "event_count": refresh.event_count,
        "event_ids": ids,
        "event_ids_truncated": refresh.event_ids_truncated,
        "first_emitted_at": refresh.first_emitted_at.to_string(),
        "last_emitted_at": refresh.last_emitted_at.to_string(),
        "first_received_at": refresh.first_received_at.to_string(),
        "last_received_at": refresh.last_received_at.to_string(),
        "source_partition": refresh.partition.number(),
        "first_offset": refresh.first_offset.number(),
        "last_offset": refresh.last_offset.number(),
        "run_started_at": refresh.run.started_at.to_string(),
        "run_start": refresh.run.start.number(),
        "run_cause": refresh.run.cause.as_str(),
        "closed_by": refresh.closed_by.as_str(),
    })
}

fn refresh_line(refresh: &Refresh) -> String {
    let kinds: Vec<&str> = refresh.kinds.iter().map(|kind| kind.as_str()).collect();
    format!(
        "{:<6} {} of {}: {} {}, offsets {} to {}, closed by {} ({})",
        refresh.priority,
        refresh.conversation,
        refresh.tenant,
        refresh.event_count,
        if refresh.event_count == 1 {
            "event"
        } else {
            "events"
        },
        refresh.first_offset,
        refresh.last_offset,
        refresh.closed_by,
        kinds.join(", ")
    )
}

/// A dead letter: why, and where it stood; its bytes are shown only when asked for, they may be a customer's words.
fn dead_letter(record: Record<'_>, payload: bool) -> (Value, String) {
    let text = |name: &str| {
        let value = record.header(name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    let number = |name: &str| text(name).and_then(|text| text.parse::<i64>().ok());
    let reason = text(headers::REASON);
    let (topic, partition, offset) = (
        text(headers::ORIGIN_TOPIC),
        number(headers::ORIGIN_PARTITION),
        number(headers::ORIGIN_OFFSET),
    );
    let mut fields = json!({
        "reason": reason,
        "origin_topic": topic,
        "origin_partition": partition,
        "origin_offset": offset,
        "value_bytes": record.value().len(),
    });
    let origin = match (&topic, partition, offset) {
        (Some(topic), Some(partition), Some(offset)) => format!("{topic} {partition}@{offset}"),
        _ => "the receiver".to_owned(),
    };
    let mut line = format!(
        "{} (from {origin}, {} bytes)",
        reason.as_deref().unwrap_or("no reason given"),
        record.value().len()
    );
    if payload {
        fields["value"] = text_or_base64(record.value());
        line.push(' ');
        line.push_str(&String::from_utf8_lossy(record.value()));
    }
    (fields, line)
}

fn undecodable(record: Record<'_>, why: &str, payload: bool) -> (Value, String) {
    let mut fields = json!({ "error": why, "value_bytes": record.value().len() });
    if payload {
        fields["value"] = text_or_base64(record.value());
    }
    (fields, format!("cannot be decoded: {why}"))
}

/// Text as it is; other bytes as an object with base64, so that the two are never mistaken for each other.
fn text_or_base64(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}
