//! Partitions that a classic group of static members leaves to nobody.
//!
//! A static member that is started again gets what it had, and no rebalance takes place (KIP-345). The leader divides the
//! partitions anew when it sees their number change; one that was itself started after the change never sees any, so that a
//! partition which was added just before a restart would have no owner until some other rebalance. (The protocol lets a
//! leader look by itself since KIP-814, which librdkafka 2.12 does not speak.) So each process asks the group who has what.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;

use super::Settings;
use crate::kafka;
use crate::lifecycle::Stop;
use crate::model::Partition;

/// How often the group is asked. Twice in a row the same partition must have no owner: a leader that sees the change by itself
/// has acted by then.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How long one question may take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);

/// What the process knows of partitions without an owner; its workers share it.
#[derive(Clone, Debug, Default)]
pub struct Unowned(Arc<Mutex<Finding>>);

/// What was found last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Finding {
    /// Counts the findings, so that each worker acts once on each.
    pub(super) number: u64,
    pub(super) partition: Option<Partition>,
}

impl Unowned {
    pub(super) fn last(&self) -> Finding {
        *self.0.lock().expect("no one panics while holding the finding")
    }

    fn found(&self, partition: Partition) {
        let mut finding = self.0.lock().expect("no one panics while holding the finding");
        finding.number += 1;
        finding.partition = Some(partition);
    }

    /// Asks the group, again and again, until told to stop.
    ///
    /// # Errors
    ///
    /// The client's settings are refused.
    pub async fn watch(
        self,
        connection: &kafka::Settings,
        settings: &Settings,
        stop: &Stop,
    ) -> Result<(), KafkaError> {
        let client: Arc<BaseConsumer> = Arc::new(connection.client_config().create()?);
        let mut before = None;
        loop {
            if stop
                .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
                .await
                .is_none()
            {
                return Ok(());
            }
            let (client, topic, group) = (
                Arc::clone(&client),
                settings.topic.clone(),
                settings.group.clone(),
            );
            let looked = tokio::task::spawn_blocking(move || look(&client, &topic, &group));
            let Some(looked) = stop.run_until_cancelled(looked).await else {
                return Ok(());
            };
            let now = match looked.expect("looking does not panic") {
                Ok(partition) => partition,
                Err(error) => {
                    // The workers' clients say what is wrong with the brokers; this only looks again.
                    tracing::debug!(%error, "the group could not be asked who has what");
                    before = None;
                    continue;
                }
            };
            if let Some(partition) = now.filter(|_| now == before) {
                self.found(partition);
                before = None;
            } else {
                before = now;
            }
        }
    }
}

/// Returns the first partition of `topic` that no member has, if the group is not just dividing them.
fn look(client: &BaseConsumer, topic: &str, group: &str) -> Result<Option<Partition>, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), QUESTION_TIMEOUT)?;
    let count = metadata
        .topics()
        .first()
        .map_or(0, |topic| topic.partitions().len());
    let groups = client.fetch_group_list(Some(group), QUESTION_TIMEOUT)?;
    let Some(group) = groups.groups().iter().find(|group| group.state() == "Stable") else {
        return Ok(None);
    };
    let mut owned = BTreeSet::new();
    for member in group.members() {
        // One that is not ours to read owns nothing that we know of; nothing is concluded then.
        let Some(partitions) = member.assignment().and_then(|bytes| assigned(bytes, topic)) else {
            return Ok(None);
        };
        owned.extend(partitions);
    }
    let all = (0..).take(count);
    Ok(all
        .filter(|number| !owned.contains(number))
        .find_map(Partition::new))
}

/// Reads the partitions of a topic from a member's assignment (`ConsumerProtocolAssignment`): a version, then each topic's
/// name and partitions; what follows is the assignor's. `None`: it is none.
fn assigned(mut bytes: &[u8], topic: &str) -> Option<Vec<i32>> {
    fn take<'b, const N: usize>(bytes: &mut &'b [u8]) -> Option<&'b [u8; N]> {
        let (head, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(head)
    }
    let _version = take::<2>(&mut bytes)?;
    let topics = i32::from_be_bytes(*take(&mut bytes)?);
    let mut found = Vec::new();
    for _ in 0..topics {
        let length = u16::from_be_bytes(*take(&mut bytes)?);
        let (name, rest) = bytes.split_at_checked(length.into())?;
        bytes = rest;
        let count = i32::from_be_bytes(*take(&mut bytes)?);
        for _ in 0..count {
            let number = i32::from_be_bytes(*take(&mut bytes)?);
            if name == topic.as_bytes() {
                found.push(number);
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 1; `t`: 2 and 5, `other`: 7; no user data.
    const ASSIGNMENT: &[u8] = b"\0\x01\0\0\0\x02\0\x01t\0\0\0\x02\0\0\0\x02\0\0\0\x05\0\x05other\0\0\0\x01\0\0\0\x07\xff\xff\xff\xff";

    #[test]
    fn an_assignment_is_read() {
        assert_eq!(assigned(ASSIGNMENT, "t"), Some(vec![2, 5]));
        assert_eq!(assigned(ASSIGNMENT, "other"), Some(vec![7]));
        assert_eq!(assigned(ASSIGNMENT, "absent"), Some(Vec::new()));
    }

    #[test]
    fn what_is_cut_off_is_none() {
        for length in 0..ASSIGNMENT.len() - 4 {
            assert_eq!(assigned(&ASSIGNMENT[..length], "t"), None, "the first {length}");
        }
    }
}
