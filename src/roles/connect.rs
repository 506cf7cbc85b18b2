//! The operator's settings to those of the stages.

use std::sync::Arc;
use std::time::Duration;

use crate::coalesce::{ChunkLimits, DedupeHorizon, Limits};
use crate::config::{self, ForwardedHeader, GroupProtocol, PayloadKept};
use crate::model::TenantId;
use crate::operate::secrets;
use crate::wire::{self, event_v1, headers};
use crate::{consume, produce, receive, registry};

use super::{processor, receiver};

/// How long the producer goes on trying to store a record: beyond the answer, so that what was nearly stored when the
/// request was answered 503 is not cut off, and the retry finds it.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// What stands around a body in its record: ids, types, headers, with room to spare.
const RECORD_OVERHEAD_BYTES: usize = 64 * 1024;

/// What a clean stop of a receiver takes beyond the answers in flight: the producer's last flush.
const FLUSH_TIME: Duration = Duration::from_secs(5);

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

/// Returns what a receiver needs.
pub fn receiver(settings: &config::Settings) -> receiver::Settings {
    let own = &settings.receiver;
    let receive = receive::Settings {
        listen: own.listen,
        address: receive::address::Settings {
            allowed: own.allowed_networks.clone(),
            proxies: own.trusted_proxies.clone(),
            header: match own.forwarded_header {
                ForwardedHeader::XForwardedFor => receive::address::Forwarded::XForwardedFor,
                ForwardedHeader::Forwarded => receive::address::Forwarded::Standard,
            },
        },
        address_rate: rate(own.address_rate, own.address_burst),
        signature: secrets::schemes(own),
        default_tenant: TenantId::new(own.default_tenant.as_str())
            .expect("the settings refuse an empty tenant"),
        retention: match own.payload {
            PayloadKept::Full => receive::Retention::Full,
            PayloadKept::IdsOnly => receive::Retention::IdsOnly,
        },
        body_bytes_max: own.body_bytes_max,
        body_timeout: own.body_timeout,
        answer_timeout: own.answer_timeout,
        requests_in_flight_max: own.requests_in_flight_max,
        bytes_in_flight_max: own.bytes_in_flight_max,
        seen_events_max: own.seen_events_max,
        seen_events_ttl: own.seen_events_ttl,
    };
    let produce = produce::Settings {
        kafka: settings.kafka.clone(),
        topics: settings.topics.names.clone(),
        linger: own.linger,
        message_timeout: MESSAGE_TIMEOUT.max(own.answer_timeout * 2),
        message_bytes_max: own.body_bytes_max + RECORD_OVERHEAD_BYTES,
        queue_bytes_max: own
            .bytes_in_flight_max
            .max(own.body_bytes_max + RECORD_OVERHEAD_BYTES),
    };
    receiver::Settings {
        receive,
        produce,
        drain_timeout: own.answer_timeout + FLUSH_TIME,
    }
}

/// No rate is no limit.
fn rate(per_second: u32, burst: u32) -> Option<receive::rate::Rate> {
    Some(receive::rate::Rate {
        per_second: per_second.try_into().ok()?,
        burst: burst.try_into().ok()?,
    })
}

/// Returns how events become records.
pub(super) fn event_encoding(encoding: wire::Encoding) -> produce::Encoding {
    produce::Encoding {
        value: Arc::new(move |event| {
            let payload = event.payload.as_ref().map_or(0, bytes::Bytes::len);
            let mut value = Vec::with_capacity(payload + 256);
            event_v1::write(&mut value, encoding, event);
            Ok(value)
        }),
        headers: Arc::new(|event, trace_parent| headers::of_event(event, trace_parent).collect()),
    }
}
