//! Fetch: records out, at once or when there are enough.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tokio::sync::Notify;

use super::super::batch::LEADER_EPOCH;
use super::super::state::{Broker, State};

/// Instead of the number of a request within a session: begin one, or do without.
const SESSION_NEW: i32 = 0;
const SESSION_NONE: i32 = -1;
/// The longest answer, whatever the client would take: it is put together in memory. Source: Kafka's default for
/// `fetch.max.bytes` of a broker.
const ANSWER_BYTES_MAX: usize = 55 << 20;

/// Waits, as long as the client allows, until there is as much as it asks for, or something to say at once.
///
/// Fetch sessions are not offered (the session id in the answer is 0): each request names all of its partitions.
pub(in super::super) async fn fetch(broker: &Broker, request: FetchRequest) -> FetchResponse {
    if !matches!(request.session_epoch, SESSION_NEW | SESSION_NONE) {
        let code = ResponseError::FetchSessionIdNotFound.code();
        return FetchResponse::default().with_error_code(code);
    }
    let appended = Arc::new(Notify::new());
    let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let timer = tokio::time::sleep(max_wait);
    tokio::pin!(timer);
    let mut last = max_wait.is_zero();
    loop {
        let answer = broker.with(|state, _| {
            let read = Read::of(state, &request);
            if last || read.is_enough(&request) {
                return Some(read.response);
            }
            wake_later(state, &request, &appended);
            None
        });
        if let Some(response) = answer {
            return response;
        }
        tokio::select! {
            () = &mut timer => last = true,
            () = appended.notified() => {}
        }
    }
}

fn wake_later(state: &mut State, request: &FetchRequest, appended: &Arc<Notify>) {
    for topic in &request.topics {
        for partition in &topic.partitions {
            if let Some(log) = state.topics.partition_mut(&topic.topic, partition.partition) {
                log.wake_later(appended);
            }
        }
    }
}

/// What there is to read now.
struct Read {
    response: FetchResponse,
    bytes: usize,
    /// Something other than records: it is told without waiting.
    error: bool,
}

impl Read {
    fn of(state: &State, request: &FetchRequest) -> Self {
        let mut read = Self {
            response: FetchResponse::default(),
            bytes: 0,
            error: false,
        };
        let mut left = usize::try_from(request.max_bytes).map_or(0, |max| max.min(ANSWER_BYTES_MAX));
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for wanted in &topic.partitions {
                let data = read.partition(state, &topic.topic, wanted, request.isolation_level, left);
                let bytes = data.records.as_ref().map_or(0, Bytes::len);
                left = left.saturating_sub(bytes);
                read.bytes += bytes;
                read.error |= data.error_code != 0;
                partitions.push(data);
            }
            read.response.responses.push(
                FetchableTopicResponse::default()
                    .with_topic(topic.topic.clone())
                    .with_partitions(partitions),
            );
        }
        read
    }

    fn is_enough(&self, request: &FetchRequest) -> bool {
        let wanted = usize::try_from(request.min_bytes).map_or(0, |min| min.min(ANSWER_BYTES_MAX));
        self.error || self.bytes >= wanted || request.topics.is_empty()
    }

    fn partition(
        &self,
        state: &State,
        topic: &str,
        wanted: &FetchPartition,
        isolation_level: i8,
        left: usize,
    ) -> PartitionData {
        let failed = |error: ResponseError| {
            PartitionData::default()
                .with_partition_index(wanted.partition)
                .with_error_code(error.code())
                .with_high_watermark(-1)
                .with_last_stable_offset(-1)
                .with_log_start_offset(-1)
                .with_records(Some(Bytes::new()))
        };
        let Some(log) = state.topics.partition(topic, wanted.partition) else {
            return failed(ResponseError::UnknownTopicOrPartition);
        };
        if wanted.current_leader_epoch > LEADER_EPOCH {
            return failed(ResponseError::UnknownLeaderEpoch);
        }
        if wanted.fetch_offset < log.start() || wanted.fetch_offset > log.end() {
            return failed(ResponseError::OffsetOutOfRange);
        }
        let committed_only = isolation_level == 1;
        let below = if committed_only {
            log.last_stable()
        } else {
            log.end()
        };
        let bytes_max = usize::try_from(wanted.partition_max_bytes).unwrap_or(0).min(left);
        let batches = log.read(wanted.fetch_offset, below, bytes_max, self.bytes == 0);
        let aborted = committed_only.then(|| {
            let aborted = log.aborted(wanted.fetch_offset, below);
            let aborted = aborted.into_iter().map(|aborted| {
                AbortedTransaction::default()
                    .with_producer_id(aborted.producer_id.into())
                    .with_first_offset(aborted.first_offset)
            });
            aborted.collect()
        });
        PartitionData::default()
            .with_partition_index(wanted.partition)
            .with_high_watermark(log.end())
            .with_last_stable_offset(log.last_stable())
            .with_log_start_offset(log.start())
            .with_aborted_transactions(aborted)
            .with_preferred_read_replica((-1).into())
            .with_records(Some(joined(batches)))
    }
}

fn joined(mut batches: Vec<Bytes>) -> Bytes {
    if batches.len() <= 1 {
        return batches.pop().unwrap_or_default();
    }
    let mut joined = BytesMut::with_capacity(batches.iter().map(Bytes::len).sum());
    for batch in batches {
        joined.extend_from_slice(&batch);
    }
    joined.freeze()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_request::FetchTopic;
    use kafka_protocol::records::{
        Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
    };

    use super::super::super::batch;
    use super::super::super::clock::Now;
    use super::super::super::groups::Groups;
    use super::super::super::log::TimeOf;
    use super::super::super::transactions::Transactions;
    use super::super::configs::Configs;
    use super::super::{Topics, topic_name};
    use super::*;

    const MEBIBYTE: usize = 1 << 20;

    fn batch_of(bytes: usize) -> Bytes {
        let record = Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 0,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset: 0,
            sequence: -1,
            timestamp: 0,
            key: None,
            value: Some(vec![0; bytes].into()),
            headers: Default::default(),
        };
        let options = RecordEncodeOptions {
            version: 2,
            compression: Compression::None,
        };
        let mut encoded = BytesMut::new();
        RecordBatchEncoder::encode(&mut encoded, [&record], &options).unwrap();
        encoded.freeze()
    }

    /// A state with one topic of one partition that holds this many mebibytes.
    fn filled(mebibytes: usize) -> State {
        let mut topics = Topics::new(1 << 30);
        topics.insert("t", 1, Configs::default());
        let bytes = batch_of(MEBIBYTE);
        let rules = batch::Rules {
            times: None,
            keyed: false,
        };
        let header = batch::check(&bytes, &rules).unwrap();
        let now = Now {
            elapsed: Duration::ZERO,
            wall_ms: 0,
        };
        for _ in 0..mebibytes {
            let log = topics.partition_mut("t", 0).unwrap();
            log.append(&bytes, header, TimeOf::Create, now).unwrap();
        }
        State {
            address: ([127, 0, 0, 1], 9092).into(),
            topics,
            groups: Groups::new(),
            transactions: Transactions::new(),
        }
    }

    #[test]
    fn an_answer_has_a_limit_however_often_a_partition_is_named() {
        let state = filled(30);
        let wanted = FetchPartition::default().with_partition_max_bytes(i32::MAX);
        let topic = FetchTopic::default()
            .with_topic(topic_name("t"))
            .with_partitions(vec![wanted; 1_000]);
        let request = FetchRequest::default()
            .with_min_bytes(i32::MAX)
            .with_max_bytes(i32::MAX)
            .with_topics(vec![topic]);
        let read = Read::of(&state, &request);
        assert!(
            (54 * MEBIBYTE..=ANSWER_BYTES_MAX).contains(&read.bytes),
            "{} bytes",
            read.bytes
        );
    }
}
