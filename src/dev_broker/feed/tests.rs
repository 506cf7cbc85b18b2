//! What fuzzing starts from: every offered request in every version, and batches in every codec. Kept as files in
//! `fuzz/corpus`, beside what fuzzing found.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::alter_configs_request as alter;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AlterConfigsRequest, ApiKey, ApiVersionsRequest,
    CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    DescribeProducersRequest, DescribeTransactionsRequest, EndTxnRequest, FetchRequest,
    FindCoordinatorRequest, GroupId, HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, ListTransactionsRequest,
    MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    OffsetForLeaderEpochRequest, ProduceRequest, ProducerId, RequestHeader, SyncGroupRequest, TopicName,
    TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use super::super::api::OFFERED;

/// A request by version.
type Make = Box<dyn Fn(i16) -> Bytes>;

#[test]
fn seeds_are_kept() {
    let seeds = connections()
        .into_iter()
        .map(|(name, bytes)| ("frame", name, bytes));
    let batches = batches().into_iter().map(|(name, bytes)| ("batch", name, bytes));
    for (target, name, bytes) in seeds.chain(batches) {
        let path = corpus(target).join(name);
        if update_is_wanted() {
            fs::create_dir_all(corpus(target)).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let kept = fs::read(&path).unwrap_or_default();
        assert!(
            kept == bytes,
            "{} is stale: run the test with UPDATE_CORPUS=1",
            path.display()
        );
    }
}

/// The seeds, and whatever fuzzing found once.
#[test]
fn nothing_in_the_corpus_does_harm() {
    for (target, feed) in [
        ("frame", (|bytes| super::connection(bytes).unwrap()) as fn(&[u8])),
        ("batch", super::batch),
    ] {
        let files: Vec<_> = fs::read_dir(corpus(target))
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        assert!(!files.is_empty());
        for file in files {
            feed(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn every_offered_request_is_among_the_seeds() {
    let makes = requests();
    for offered in OFFERED {
        assert!(makes.contains_key(&(offered.key as i16)), "{:?}", offered.key);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a switch of the test's own, which is no setting of the product"
)]
fn update_is_wanted() -> bool {
    std::env::var_os("UPDATE_CORPUS").is_some()
}

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target)
}

/// One client for each kind of request: it sees to it that there is a topic with records and a transaction, then asks in
/// every offered version.
fn connections() -> Vec<(String, Vec<u8>)> {
    let makes = requests();
    let frame = |key: ApiKey, version: i16| makes[&(key as i16)](version);
    let mut seeds = Vec::new();
    for offered in OFFERED {
        let mut bytes = BytesMut::new();
        for (key, version) in [
            (ApiKey::CreateTopics, 7),
            (ApiKey::InitProducerId, 5),
            (ApiKey::AddPartitionsToTxn, 3),
            (ApiKey::AddOffsetsToTxn, 3),
            (ApiKey::Produce, 9),
        ] {
            bytes.put(frame(key, version));
        }
        for version in (offered.min..=offered.max).rev() {
            bytes.put(frame(offered.key, version));
        }
        seeds.push((format!("{:?}", offered.key), bytes.to_vec()));
    }
    seeds
}

/// Batches in every codec, transactional and not.
fn batches() -> Vec<(String, Vec<u8>)> {
    let codecs = [
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ];
    let mut seeds = Vec::new();
    for (name, codec) in codecs {
        seeds.push((name.to_owned(), records(codec, None).to_vec()));
    }
    seeds.push((
        "transactional".to_owned(),
        records(Compression::None, Some(0)).to_vec(),
    ));
    seeds
}

fn records(compression: Compression, transactional: Option<i64>) -> Bytes {
    let records: Vec<_> = (0..3)
        .map(|offset| Record {
            transactional: transactional.is_some(),
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: transactional.unwrap_or(-1),
            producer_epoch: if transactional.is_some() { 0 } else { -1 },
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: if transactional.is_some() {
                i32::try_from(offset).unwrap()
            } else {
                -1
            },
            timestamp: 1_700_000_000_000 + offset,
            key: (offset > 0).then(|| Bytes::from_static(b"key")),
            value: (offset > 1).then(|| Bytes::from_static(b"value value value value")),
            headers: [(text("header"), None)].into_iter().collect(),
        })
        .collect();
    let options = RecordEncodeOptions {
        version: 2,
        compression,
    };
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
    bytes.freeze()
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn topic() -> TopicName {
    TopicName(text("t"))
}

fn group() -> GroupId {
    GroupId(text("g"))
}

fn transactional_id() -> TransactionalId {
    TransactionalId(text("x"))
}

/// The first producer id that a broker gives out.
const PRODUCER: ProducerId = ProducerId(0);

fn frame<R: Request>(version: i16, request: &R) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(7)
        .with_client_id(Some(text("seed")));
    let header_version = ApiKey::try_from(R::KEY).unwrap().request_header_version(version);
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header.encode(&mut frame, header_version).unwrap();
    request.encode(&mut frame, version).unwrap();
    let length = i32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}

fn requests() -> BTreeMap<i16, Make> {
    let mut makes = BTreeMap::new();
    of_topics(&mut makes);
    of_records(&mut makes);
    of_groups(&mut makes);
    of_offsets(&mut makes);
    of_transactions(&mut makes);
    makes
}

fn put<R: Request + 'static>(makes: &mut BTreeMap<i16, Make>, make: impl Fn(i16) -> R + 'static) {
    let before = makes.insert(R::KEY, Box::new(move |version| frame(version, &make(version))));
    assert!(before.is_none(), "{} twice", R::KEY);
}

/// The number of a topic among the kinds of what has settings.
const TOPIC_RESOURCE: i8 = 2;

fn of_topics(makes: &mut BTreeMap<i16, Make>) {
    put(makes, |_| {
        let config = CreatableTopicConfig::default()
            .with_name(text("cleanup.policy"))
            .with_value(Some(text("delete")));
        let new = CreatableTopic::default()
            .with_name(topic())
            .with_num_partitions(2)
            .with_replication_factor(1)
            .with_configs(vec![config]);
        CreateTopicsRequest::default().with_topics(vec![new])
    });
    put(makes, |version| match version {
        6.. => {
            let state = DeleteTopicState::default().with_name(Some(topic()));
            DeleteTopicsRequest::default().with_topics(vec![state])
        }
        _ => DeleteTopicsRequest::default().with_topic_names(vec![topic()]),
    });
    put(makes, |version| {
        let grown = CreatePartitionsTopic::default()
            .with_name(topic())
            .with_count(3 + i32::from(version))
            .with_assignments(None);
        CreatePartitionsRequest::default().with_topics(vec![grown])
    });
    put(makes, |_| {
        let named = MetadataRequestTopic::default().with_name(Some(topic()));
        MetadataRequest::default().with_topics(Some(vec![named]))
    });
    put(makes, |_| DescribeClusterRequest::default());
    put(makes, |_| ApiVersionsRequest::default());
    put(makes, |_| {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text("t"))
            .with_configuration_keys(None);
        DescribeConfigsRequest::default()
            .with_resources(vec![resource])
            .with_include_synonyms(true)
    });
    put(makes, |_| {
        let config = alter::AlterableConfig::default()
            .with_name(text("retention.ms"))
            .with_value(Some(text("1000")));
        let resource = alter::AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text("t"))
            .with_configs(vec![config]);
        AlterConfigsRequest::default().with_resources(vec![resource])
    });
    put(makes, |_| {
        let config = incremental::AlterableConfig::default()
            .with_name(text("retention.bytes"))
            .with_value(Some(text("1000")));
        let resource = incremental::AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text("t"))
            .with_configs(vec![config]);
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
    });
}

fn of_records(makes: &mut BTreeMap<i16, Make>) {
    put(makes, |_| {
        let plain = PartitionProduceData::default().with_records(Some(records(Compression::Lz4, None)));
        let transactional = PartitionProduceData::default()
            .with_index(1)
            .with_records(Some(records(Compression::None, Some(PRODUCER.0))));
        let data = TopicProduceData::default()
            .with_name(topic())
            .with_partition_data(vec![plain, transactional]);
        ProduceRequest::default()
            .with_transactional_id(Some(transactional_id()))
            .with_acks(-1)
            .with_timeout_ms(1_000)
            .with_topic_data(vec![data])
    });
    put(makes, |_| {
        let partition = |index, max| {
            FetchPartition::default()
                .with_partition(index)
                .with_partition_max_bytes(max)
        };
        let topic = FetchTopic::default()
            .with_topic(topic())
            .with_partitions(vec![partition(0, 1 << 20), partition(1, 1)]);
        FetchRequest::default()
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_isolation_level(1)
            .with_topics(vec![topic])
    });
    put(makes, |_| {
        let partition = |timestamp| ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(topic())
            .with_partitions([-1, -2, -3, 1_700_000_000_001].map(partition).to_vec());
        ListOffsetsRequest::default().with_topics(vec![topic])
    });
    put(makes, |_| {
        let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(-1);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(topic())
            .with_partitions(vec![partition]);
        OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
    });
    put(makes, |version| {
        let partition = DeleteRecordsPartition::default().with_offset(i64::from(version));
        let topic = DeleteRecordsTopic::default()
            .with_name(topic())
            .with_partitions(vec![partition]);
        DeleteRecordsRequest::default().with_topics(vec![topic])
    });
    put(makes, |_| {
        let asked = TopicRequest::default()
            .with_name(topic())
            .with_partition_indexes(vec![0, 1]);
        DescribeProducersRequest::default().with_topics(vec![asked])
    });
}

fn of_groups(makes: &mut BTreeMap<i16, Make>) {
    put(makes, |version| match version {
        4.. => FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]),
        _ => FindCoordinatorRequest::default().with_key(text("g")),
    });
    put(makes, |version| {
        // A subscription to one topic.
        let metadata = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff");
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(metadata);
        JoinGroupRequest::default()
            .with_group_id(group())
            .with_session_timeout_ms(6_000)
            .with_rebalance_timeout_ms(if version == 0 { -1 } else { 6_000 })
            .with_group_instance_id((version >= 5).then(|| text("i")))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol])
    });
    put(makes, |version| {
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(text("m"))
            .with_assignment(Bytes::from_static(b"\0\0\0\0\0\0\xff\xff\xff\xff"));
        SyncGroupRequest::default()
            .with_group_id(group())
            .with_generation_id(1)
            .with_member_id(text("m"))
            .with_protocol_type((version >= 5).then(|| text("consumer")))
            .with_protocol_name((version >= 5).then(|| text("range")))
            .with_assignments(vec![assignment])
    });
    put(makes, |_| {
        HeartbeatRequest::default()
            .with_group_id(group())
            .with_generation_id(1)
            .with_member_id(text("m"))
    });
    put(makes, |version| match version {
        3.. => {
            let member = MemberIdentity::default().with_member_id(text("m"));
            LeaveGroupRequest::default()
                .with_group_id(group())
                .with_members(vec![member])
        }
        _ => LeaveGroupRequest::default()
            .with_group_id(group())
            .with_member_id(text("m")),
    });
    put(makes, |_| {
        DescribeGroupsRequest::default().with_groups(vec![group(), GroupId(text(""))])
    });
    put(makes, |version| {
        let states = if version >= 4 {
            vec![text("Stable")]
        } else {
            Vec::new()
        };
        ListGroupsRequest::default().with_states_filter(states)
    });
    put(makes, |_| {
        DeleteGroupsRequest::default().with_groups_names(vec![group()])
    });
}

fn of_offsets(makes: &mut BTreeMap<i16, Make>) {
    put(makes, |_| {
        let partition = OffsetCommitRequestPartition::default()
            .with_committed_offset(1)
            .with_committed_metadata(Some(text("metadata")));
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic())
            .with_partitions(vec![partition]);
        OffsetCommitRequest::default()
            .with_group_id(group())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic])
    });
    put(makes, |version| match version {
        8.. => {
            let topic = OffsetFetchRequestTopics::default()
                .with_name(topic())
                .with_partition_indexes(vec![0, 1]);
            let group = OffsetFetchRequestGroup::default()
                .with_group_id(group())
                .with_topics(Some(vec![topic]));
            OffsetFetchRequest::default()
                .with_groups(vec![group])
                .with_require_stable(true)
        }
        _ => {
            let topic = OffsetFetchRequestTopic::default()
                .with_name(topic())
                .with_partition_indexes(vec![0, 1]);
            OffsetFetchRequest::default()
                .with_group_id(group())
                .with_topics(Some(vec![topic]))
        }
    });
    put(makes, |_| {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_committed_offset(1)
            .with_committed_metadata(Some(text("metadata")));
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic())
            .with_partitions(vec![partition]);
        TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional_id())
            .with_group_id(group())
            .with_producer_id(PRODUCER)
            .with_topics(vec![topic])
    });
    put(makes, |_| {
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(topic())
            .with_partitions(vec![OffsetDeleteRequestPartition::default()]);
        OffsetDeleteRequest::default()
            .with_group_id(group())
            .with_topics(vec![topic])
    });
}

fn of_transactions(makes: &mut BTreeMap<i16, Make>) {
    put(makes, |_| {
        InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id()))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    });
    put(makes, |_| {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(topic())
            .with_partitions(vec![0, 1]);
        AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id())
            .with_v3_and_below_producer_id(PRODUCER)
            .with_v3_and_below_topics(vec![topic])
    });
    put(makes, |_| {
        AddOffsetsToTxnRequest::default()
            .with_transactional_id(transactional_id())
            .with_producer_id(PRODUCER)
            .with_group_id(group())
    });
    put(makes, |_| {
        EndTxnRequest::default()
            .with_transactional_id(transactional_id())
            .with_producer_id(PRODUCER)
            .with_committed(true)
    });
    put(makes, |_| {
        DescribeTransactionsRequest::default().with_transactional_ids(vec![transactional_id()])
    });
    put(makes, |_| {
        ListTransactionsRequest::default()
            .with_duration_filter(-1)
            .with_state_filters(vec![text("Ongoing")])
    });
}
