//! A transactional producer, by hand: it does what a check tells it, in whatever order.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest,
    InitProducerIdResponse, ProducerId, TxnOffsetCommitRequest,
};

use super::super::member::{Member, group_id};
use super::super::raw::{Producer, Raw, error, eventually, produce_request, text, topic_name, transactional};
use crate::support::Cluster;

/// The newest versions in which the client says itself what is part of a transaction, as librdkafka does.
pub(super) const PRODUCE: i16 = 11;
pub(super) const INIT_PRODUCER_ID: i16 = 4;
pub(super) const ADD_PARTITIONS: i16 = 3;
pub(super) const ADD_OFFSETS: i16 = 3;
pub(super) const TXN_OFFSET_COMMIT: i16 = 4;
pub(super) const END_TXN: i16 = 4;

/// Long enough for no check to meet it unasked.
const LONG_MS: i32 = 60_000;

/// How a transaction is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Commit,
    Abort,
}

/// A transactional id, who has it, and what was written.
pub(super) struct Writer {
    pub(super) raw: Raw,
    pub(super) id: String,
    pub(super) producer: Producer,
    sequences: BTreeMap<(String, i32), i32>,
}

impl Writer {
    /// Takes the transactional id, whoever had it.
    pub(super) fn new(cluster: &Cluster, id: &str) -> Self {
        Self::with_timeout(cluster, id, LONG_MS)
    }

    /// The same, with a transaction timeout.
    pub(super) fn with_timeout(cluster: &Cluster, id: &str, timeout_ms: i32) -> Self {
        let mut raw = Raw::connect(cluster);
        raw.find_coordinator(1, id);
        let answer = init(&mut raw, id, timeout_ms, Producer::NONE);
        assert_eq!(error(answer.error_code), None);
        Self {
            raw,
            id: id.to_owned(),
            producer: Producer {
                id: answer.producer_id.0,
                epoch: answer.producer_epoch,
            },
            sequences: BTreeMap::new(),
        }
    }

    /// Asks for the next epoch, as the one it has (KIP-360).
    pub(super) fn next_epoch(&mut self) -> Result<Producer, ResponseError> {
        let answer = init(&mut self.raw, &self.id, LONG_MS, self.producer);
        error(answer.error_code).map_or_else(
            || {
                Ok(Producer {
                    id: answer.producer_id.0,
                    epoch: answer.producer_epoch,
                })
            },
            Err,
        )
    }

    /// Goes on as this one, whose records count from zero.
    pub(super) fn become_(&mut self, producer: Producer) {
        self.producer = producer;
        self.sequences.clear();
    }

    /// Adds partitions to the transaction; waits while the one before is being ended.
    pub(super) fn add(&mut self, topic: &str, partitions: &[i32]) -> Vec<Option<ResponseError>> {
        self.add_as(ADD_PARTITIONS, topic, partitions)
    }

    pub(super) fn add_as(
        &mut self,
        version: i16,
        topic: &str,
        partitions: &[i32],
    ) -> Vec<Option<ResponseError>> {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions.to_vec());
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional(&self.id))
            .with_v3_and_below_producer_id(ProducerId(self.producer.id))
            .with_v3_and_below_producer_epoch(self.producer.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let mut answer = self.raw.ask_settled(version, &request, |answer| {
            answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
        });
        let results = &mut answer.results_by_topic_v3_and_below[0].results_by_partition;
        results.sort_by_key(|result| result.partition_index);
        results
            .iter()
            .map(|result| error(result.partition_error_code))
            .collect()
    }

    /// Stores records in the transaction; whether their partition was added is the check's affair.
    pub(super) fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        values: &[&str],
    ) -> Result<i64, ResponseError> {
        self.produce_as(PRODUCE, topic, partition, values)
    }

    pub(super) fn produce_as(
        &mut self,
        version: i16,
        topic: &str,
        partition: i32,
        values: &[&str],
    ) -> Result<i64, ResponseError> {
        let key = (topic.to_owned(), partition);
        let sequence = self.sequences.get(&key).copied().unwrap_or(0);
        let batch = self.producer.transactional_batch(sequence, values);
        let request = produce_request(topic, &[(partition, batch)])
            .with_transactional_id(Some(transactional(&self.id)));
        let answer = self.raw.ask_settled(version, &request, |answer| {
            answer.responses[0].partition_responses[0].error_code
        });
        let stored = &answer.responses[0].partition_responses[0];
        match error(stored.error_code) {
            None => {
                let count = i32::try_from(values.len()).expect("a small count");
                self.sequences.insert(key, sequence + count);
                Ok(stored.base_offset)
            }
            Some(refused) => Err(refused),
        }
    }

    /// Adds the partition and stores records in it; returns the first one's offset.
    pub(super) fn write(&mut self, topic: &str, partition: i32, values: &[&str]) -> i64 {
        assert_eq!(self.add(topic, &[partition]), [None]);
        self.produce(topic, partition, values)
            .expect("the records are stored")
    }

    /// Adds a group's offsets to the transaction.
    pub(super) fn add_offsets(&mut self, group: &str) -> Option<ResponseError> {
        self.add_offsets_as(ADD_OFFSETS, group)
    }

    pub(super) fn add_offsets_as(&mut self, version: i16, group: &str) -> Option<ResponseError> {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(transactional(&self.id))
            .with_producer_id(ProducerId(self.producer.id))
            .with_producer_epoch(self.producer.epoch)
            .with_group_id(group_id(group));
        error(
            self.raw
                .ask_settled(version, &request, |answer| answer.error_code)
                .error_code,
        )
    }

    /// Makes a commit of offsets in the transaction, of nobody's: partitions, offsets and metadata of one topic.
    pub(super) fn offsets_request(
        &self,
        group: &str,
        topic: &str,
        offsets: &[(i32, i64, &str)],
    ) -> TxnOffsetCommitRequest {
        let partitions = offsets.iter().map(|(partition, offset, metadata)| {
            TxnOffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(text(metadata)))
        });
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions.collect());
        TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional(&self.id))
            .with_group_id(group_id(group))
            .with_producer_id(ProducerId(self.producer.id))
            .with_producer_epoch(self.producer.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic])
    }

    /// Commits offsets in the transaction and returns what each partition is answered with, in the order of their numbers.
    pub(super) fn commit_offsets(&mut self, request: &TxnOffsetCommitRequest) -> Vec<Option<ResponseError>> {
        let mut answer = self.raw.ask_settled(TXN_OFFSET_COMMIT, request, |answer| {
            answer.topics[0].partitions[0].error_code
        });
        let partitions = &mut answer.topics[0].partitions;
        partitions.sort_by_key(|partition| partition.partition_index);
        partitions
            .iter()
            .map(|partition| error(partition.error_code))
            .collect()
    }

    /// Adds a group and commits one offset of it.
    pub(super) fn offset(&mut self, group: &str, topic: &str, partition: i32, offset: i64) {
        assert_eq!(self.add_offsets(group), None);
        let request = self.offsets_request(group, topic, &[(partition, offset, "")]);
        assert_eq!(self.commit_offsets(&request), [None]);
    }

    /// Commits one offset as a member of the group.
    pub(super) fn offset_as(&mut self, member: &Member, topic: &str, offset: i64) -> Option<ResponseError> {
        let request = self
            .offsets_request(&member.group, topic, &[(0, offset, "")])
            .with_generation_id(member.generation)
            .with_member_id(text(&member.id))
            .with_group_instance_id(member.instance.as_deref().map(text));
        self.commit_offsets(&request)[0]
    }

    /// Ends the transaction; waits while another end is under way.
    pub(super) fn try_to_end(&mut self, end: End) -> Option<ResponseError> {
        self.end_as(END_TXN, end)
    }

    pub(super) fn end_as(&mut self, version: i16, end: End) -> Option<ResponseError> {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional(&self.id))
            .with_producer_id(ProducerId(self.producer.id))
            .with_producer_epoch(self.producer.epoch)
            .with_committed(end == End::Commit);
        error(
            self.raw
                .ask_settled(version, &request, |answer| answer.error_code)
                .error_code,
        )
    }

    /// Ends the transaction, which must succeed. Its marks may come a moment later.
    pub(super) fn end(&mut self, end: End) {
        assert_eq!(self.try_to_end(end), None);
    }
}

/// Asks for a producer id and epoch; waits while a transaction of the id is being ended.
pub(super) fn init(raw: &mut Raw, id: &str, timeout_ms: i32, current: Producer) -> InitProducerIdResponse {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(transactional(id)))
        .with_transaction_timeout_ms(timeout_ms)
        .with_producer_id(ProducerId(current.id))
        .with_producer_epoch(current.epoch);
    raw.ask_settled(INIT_PRODUCER_ID, &request, |answer| answer.error_code)
}

/// Waits until a partition has no open transaction and ends here, then returns its committed values as librdkafka sees
/// them.
pub(super) fn committed_values(cluster: &Cluster, topic: &str, end: i64) -> Vec<String> {
    let mut raw = Raw::connect(cluster);
    eventually(&format!("{topic} is stable up to {end}"), || {
        let found = raw.list_offset(topic, 0, -1).offset;
        assert!(found <= end, "the log ends at {found}, not {end}");
        (stable_end(&mut raw, topic) == end).then_some(())
    });
    cluster
        .records(topic)
        .iter()
        .map(|record| {
            String::from_utf8_lossy(rdkafka::Message::payload(record).unwrap_or_default()).into_owned()
        })
        .collect()
}

/// Asks for the end of what read-committed readers may see.
pub(super) fn stable_end(raw: &mut Raw, topic: &str) -> i64 {
    let request = super::super::raw::list_offsets_request(topic, 0, -1).with_isolation_level(1);
    let answer = raw.ask(super::super::raw::LIST_OFFSETS, &request);
    let partition = &answer.topics[0].partitions[0];
    assert_eq!(error(partition.error_code), None);
    partition.offset
}
