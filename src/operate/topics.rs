//! `topics create` and `topics check`: the three topics as the settings want them.

use std::time::Duration;

use serde_json::json;

use super::print;
use crate::config::Settings;
use crate::config::cli::TopicsAction;
use crate::kafka::topics::{Admin, Difference, Outcome, Wanted, differences};
use crate::lifecycle::Exit;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a record needs beside the body: the other fields, headers and key.
const ROOM_BYTES: usize = 64 * 1024;

/// Returns the three topics as the settings want them.
pub fn wanted(settings: &Settings) -> Vec<Wanted> {
    let topics = &settings.topics;
    let event = settings.receiver.body_bytes_max + ROOM_BYTES;
    // A dead letter may be the largest record of the event topic, with headers that say why and from where.
    let letter = event + ROOM_BYTES;
    let each = [
        (&topics.names.events, topics.events, Some(event)),
        (&topics.names.refresh, topics.refresh, None),
        (&topics.names.dead_letters, topics.dead_letters, Some(letter)),
    ];
    each.into_iter()
        .map(|(name, topic, record_bytes_max)| Wanted {
            name: name.clone(),
            partitions: topic.partitions,
            replication: topics.replication,
            min_insync_replicas: topics.min_insync_replicas,
            retention: topic.retention,
            record_bytes_max,
        })
        .collect()
}

/// Creates or checks the topics and says what was done or found.
///
/// # Errors
///
/// The brokers could not be asked, or standard output is closed.
pub fn run(settings: &Settings, action: TopicsAction, json: bool) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match action {
            TopicsAction::Create => {
                let outcomes = create(settings).await?;
                let mut differences = check(settings).await?;
                // A new topic is as it was asked for, though not every broker may have heard of it yet.
                let new = |topic: &str| {
                    outcomes
                        .iter()
                        .any(|(name, outcome)| name == topic && *outcome == Outcome::Created)
                };
                differences.retain(|difference| !new(&difference.topic));
                print(&created_text(&outcomes, &differences, json))?;
                Ok(Exit::Done)
            }
            TopicsAction::Check => {
                let differences = check(settings).await?;
                print(&checked_text(settings, &differences, json))?;
                Ok(if differences.is_empty() {
                    Exit::Done
                } else {
                    Exit::Found
                })
            }
        }
    })
}

/// Creates what is missing; the topics and what was done with each.
///
/// # Errors
///
/// The brokers could not be asked, or refused.
pub async fn create(settings: &Settings) -> anyhow::Result<Vec<(String, Outcome)>> {
    let wanted = wanted(settings);
    let outcomes = Admin::new(&settings.kafka, ANSWER_TIMEOUT)?
        .create(&wanted)
        .await?;
    Ok(wanted.into_iter().map(|topic| topic.name).zip(outcomes).collect())
}

/// Removes the topics and the group: for `dev`, whose topics nobody else uses.
///
/// # Errors
///
/// The brokers could not be asked, or refused.
pub(crate) async fn remove(settings: &Settings) -> anyhow::Result<()> {
    let names = &settings.topics.names;
    let topics = [&names.events, &names.refresh, &names.dead_letters].map(String::as_str);
    let admin = Admin::new(&settings.kafka, ANSWER_TIMEOUT)?;
    Ok(admin.remove(&topics, &settings.processor.group).await?)
}

/// Finds what differs from the settings.
///
/// # Errors
///
/// The brokers could not be asked, or refused.
pub async fn check(settings: &Settings) -> anyhow::Result<Vec<Difference>> {
    let wanted = wanted(settings);
    let names: Vec<&str> = wanted.iter().map(|topic| topic.name.as_str()).collect();
    let cluster = Admin::new(&settings.kafka, ANSWER_TIMEOUT)?
        .describe(&names)
        .await?;
    let topics = &settings.topics.names;
    Ok(differences(
        &cluster,
        &wanted,
        (&topics.events, &topics.refresh),
        &settings.kafka.brokers,
    ))
}

fn created_text(outcomes: &[(String, Outcome)], differences: &[Difference], json: bool) -> String {
    if json {
        let topics: Vec<_> = outcomes
            .iter()
            .map(|(name, outcome)| json!({ "topic": name, "outcome": outcome }))
            .collect();
        return json!({ "topics": topics, "differences": differences }).to_string();
    }
    let said = |(name, outcome): &(String, Outcome)| match outcome {
        Outcome::Created => format!("{name}: created"),
        Outcome::Existed => format!("{name}: was there, left as it is"),
    };
    let mut lines: Vec<String> = outcomes.iter().map(said).collect();
    add_lines(differences, &mut lines);
    lines.join("\n")
}

fn checked_text(settings: &Settings, differences: &[Difference], json: bool) -> String {
    if json {
        return json!({ "ok": differences.is_empty(), "differences": differences }).to_string();
    }
    if differences.is_empty() {
        let names = &settings.topics.names;
        return format!(
            "{}, {}, {}: as they should be",
            names.events, names.refresh, names.dead_letters
        );
    }
    let mut lines = Vec::new();
    add_lines(differences, &mut lines);
    lines.join("\n")
}

fn add_lines(differences: &[Difference], lines: &mut Vec<String>) {
    for difference in differences {
        lines.push(difference.to_string());
        lines.push(format!("  to mend it: {}", difference.fix));
    }
}
