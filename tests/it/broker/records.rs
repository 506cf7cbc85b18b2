//! Reads `front.refresh` as a consumer of ours would: committed records, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use frontstream::lifecycle::{Clock, Instant};
use frontstream::model::{Refresh, Timestamp};
use frontstream::wire::{DecodeError, RefreshDecoder, refresh_v1};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::load::Stored;
use crate::support::process::{Env, PATIENCE, run};
use crate::support::{Cluster, Topics};

/// A read-committed reader of all partitions, from the beginning.
pub(super) struct Reader {
    client: BaseConsumer,
    decoder: RefreshDecoder,
    pub(super) refreshes: Vec<Seen>,
}

/// A refresh, and when the reader saw it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) refresh: Refresh,
    pub(super) at: Timestamp,
}

impl Reader {
    pub(super) fn new(cluster: &Cluster, topics: &Topics, partitions: i32) -> Self {
        let mut config = cluster.client_config();
        config
            .set("group.id", format!("{}reader", topics.prefix))
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "20");
        let client: BaseConsumer = config.create().expect("a consumer");
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment
                .add_partition_offset(&topics.names.refresh, partition, Offset::Beginning)
                .expect("the beginning is an offset");
        }
        client.assign(&assignment).expect("an assignment");
        Self {
            client,
            decoder: RefreshDecoder::new(),
            refreshes: Vec::new(),
        }
    }

    /// Reads on until what was seen satisfies `enough`.
    ///
    /// # Panics
    ///
    /// It does not within [`PATIENCE`].
    pub(super) fn read_until(&mut self, what: &str, enough: impl Fn(&[Seen]) -> bool) {
        let began = Instant::now();
        while !enough(&self.refreshes) {
            assert!(
                began.elapsed() < PATIENCE,
                "waited in vain until {what}: {} refreshes, {} events",
                self.refreshes.len(),
                self.events()
            );
            self.read(Duration::from_millis(100));
        }
    }

    /// Reads one record if there is one within `wait`.
    pub(super) fn read(&mut self, wait: Duration) {
        if let Some(message) = self.client.poll(wait) {
            let message = message.expect("the reader reads");
            let value = message.payload().expect("a refresh has a value");
            let refresh = decode(&mut self.decoder, value);
            assert_eq!(message.key(), Some(refresh.conversation.as_str().as_bytes()));
            assert_eq!(
                message.partition(),
                refresh.partition.number(),
                "co-partitioned with its events"
            );
            self.refreshes.push(Seen {
                refresh,
                at: Clock::system().now(),
            });
        }
    }

    /// Returns how many events are counted in all that was seen.
    pub(super) fn events(&self) -> u64 {
        events_of(&self.refreshes)
    }
}

/// Decodes either framing; the registry's id is that of our only version.
fn decode(decoder: &mut RefreshDecoder, value: &[u8]) -> Refresh {
    match decoder.refresh(value) {
        Err(DecodeError::UnknownSchema(id)) => {
            decoder.learn(id, refresh_v1::SCHEMA).expect("our own schema");
            decoder.refresh(value).expect("a refresh of ours")
        }
        decoded => decoded.expect("a refresh of ours"),
    }
}

/// Returns how many events are counted in `seen`.
pub(super) fn events_of(seen: &[Seen]) -> u64 {
    seen.iter().map(|seen| u64::from(seen.refresh.event_count)).sum()
}

/// Returns how many events `stored` holds.
pub(super) fn count(stored: &Stored) -> u64 {
    stored.values().map(|ids| ids.len() as u64).sum()
}

/// Waits until all of `stored` is refreshed, then checks that each event is counted exactly once: by this reader's own
/// count, and by the product's audit.
pub(super) fn assert_exactly_once(reader: &mut Reader, stored: &Stored, env: &Env) {
    let expected = count(stored);
    reader.read_until("every event is refreshed", |seen| events_of(seen) >= expected);
    // Anything counted twice may still be on its way: read on until a while has passed without a record.
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < Duration::from_secs(1) {
        let before = reader.refreshes.len();
        reader.read(Duration::from_millis(100));
        if reader.refreshes.len() > before {
            quiet_since = Instant::now();
        }
    }
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for Seen { refresh, .. } in &reader.refreshes {
        assert!(!refresh.event_ids_truncated, "the test keeps every id");
        assert_eq!(refresh.event_ids.len() as u64, u64::from(refresh.event_count));
        for id in &refresh.event_ids {
            let first = seen
                .entry(refresh.conversation.as_str())
                .or_default()
                .insert(id.as_str());
            assert!(first, "{id} is counted twice");
        }
    }
    for (conversation, ids) in stored {
        let seen = seen.remove(conversation.as_str()).unwrap_or_default();
        let ids: BTreeSet<_> = ids.iter().map(String::as_str).collect();
        assert_eq!(seen, ids, "{conversation}");
    }
    assert!(seen.is_empty(), "refreshes of conversations that nobody stored");
    assert_eq!(reader.events(), expected);
    assert_audit_exact(env);
}

/// Checks that the product's own audit says so too.
pub(super) fn assert_audit_exact(env: &Env) {
    let audit = run(&["audit"], env);
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&audit.stdout),
        String::from_utf8_lossy(&audit.stderr)
    );
    assert_eq!(audit.status.code(), Some(0), "the audit is not exact:\n{said}");
}
