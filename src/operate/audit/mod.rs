//! `audit`: proves, offset by offset, that every stored event is counted in exactly one committed refresh.
//!
//! [`index`], [`proof`] and [`ending`] are pure: records in, findings out. [`reading`] brings them the records, one
//! partition at a time. Commits nothing, joins no group, writes no record.

mod ending;
mod index;
mod proof;
mod reading;
mod report;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::report::{Counts, Fault, Finding, PartitionReport, Report, RunReport};

use super::print;
use crate::config::cli;
use crate::config::{DedupeSettings, RegistrySettings, Settings};
use crate::kafka::{self, TopicNames};
use crate::lifecycle::Exit;

/// What to audit.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How to reach the brokers.
    pub kafka: kafka::Settings,
    /// The topics.
    pub names: TopicNames,
    /// The group whose committed offsets tell open windows from losses; `None`: do without.
    pub group: Option<String>,
    /// When an event is a duplicate.
    pub dedupe: DedupeSettings,
    /// Where schemas come from.
    pub registry: RegistrySettings,
    /// Only these partitions; empty: all.
    pub partitions: Vec<i32>,
    /// How long reading may take.
    pub timeout: Duration,
}

impl Plan {
    /// Returns the audit of everything that the settings name.
    pub fn of(settings: &Settings, timeout: Duration) -> Self {
        Self {
            kafka: settings.kafka.clone(),
            names: settings.topics.names.clone(),
            group: Some(settings.processor.group.clone()),
            dedupe: settings.processor.dedupe,
            registry: settings.registry.clone(),
            partitions: Vec::new(),
            timeout,
        }
    }
}

/// Reads the topics and judges them. Blocks.
///
/// # Errors
///
/// The topics or the group's offsets could not be read: nothing is proven.
pub fn audit(plan: &Plan) -> anyhow::Result<Report> {
    reading::audit(plan)
}

/// Audits and prints the report. Blocks.
///
/// # Errors
///
/// The topics or the group's offsets could not be read, or standard output is closed.
pub fn run(settings: &Settings, args: &cli::Audit, json: bool) -> anyhow::Result<Exit> {
    let plan = Plan {
        partitions: args.partition.clone(),
        ..Plan::of(settings, args.timeout)
    };
    let report = audit(&plan)?;
    let text = if json {
        serde_json::to_string(&report)?
    } else {
        report.to_text()
    };
    print(&text)?;
    Ok(if report.exact { Exit::Done } else { Exit::Found })
}
