//! The operator's settings to those of the stages.

use crate::coalesce::{ChunkLimits, DedupeHorizon, Limits};
use crate::config::{self, GroupProtocol};
use crate::{consume, registry};

use super::processor;

/// Returns what the registry's client needs; `None` without a registry.
pub(super) fn registry(settings: &config::Settings) -> Option<registry::Settings> {
    let url = settings.registry.url.clone()?;
    Some(registry::Settings {
        url,
        timeout: settings.registry.timeout,
    })
}

/// Returns what a processor needs.
///
/// Without an instance id the transactional id holds `unique`, new at every start: what a killed process left open
/// then ends with the transaction timeout, and not before.
pub fn processor(settings: &config::Settings, unique: &str) -> processor::Settings {
    let own = &settings.processor;
    let name = own.instance_id.as_deref().unwrap_or(unique);
    processor::Settings {
        kafka: settings.kafka.clone(),
        topics: settings.topics.names.clone(),
        registry: registry(settings),
        consume: consume::Settings {
            topic: settings.topics.names.events.clone(),
            group: own.group.clone(),
            protocol: match own.group_protocol {
                GroupProtocol::Classic => consume::GroupProtocol::Classic,
                GroupProtocol::Consumer => consume::GroupProtocol::Consumer,
            },
            instance_id: own.instance_id.clone(),
            session_timeout: own.session_timeout,
        },
        transactional_id: format!("{}-{name}", own.group),
        transaction_timeout: own.transaction_timeout,
        limits: Limits {
            lanes: own.lanes,
            metadata_bytes_max: own.metadata_bytes_max,
            event_ids_max: own.event_ids_max,
            dedupe: DedupeHorizon {
                records: own.dedupe.records,
                time: own.dedupe.horizon,
            },
            chunk: ChunkLimits {
                duration: own.chunk.duration,
                windows_max: own.chunk.windows_max,
                bytes_max: own.chunk.bytes_max,
            },
        },
        workers: own.workers,
        commit_interval: own.commit_interval,
        position_commit_interval: own.position_commit_interval,
        drain_timeout: own.drain_timeout,
    }
}
