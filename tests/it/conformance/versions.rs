//! Every version that a broker offers is answered in that version: what old and new clients rely on.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytes::Bytes;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AlterConfigsRequest, ApiVersionsRequest, BrokerId, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, EndTxnRequest, FetchRequest,
    FindCoordinatorRequest, GroupId, HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, ProducerId,
    SyncGroupRequest, TxnOffsetCommitRequest, alter_configs_request, incremental_alter_configs_request,
    txn_offset_commit_request,
};
use kafka_protocol::protocol::Request;

use super::Check;
use super::raw::{
    Fetch, Raw, error, fetch_request, list_offsets_request, plain, produce_request, text, topic_name,
    transactional, values,
};
use crate::support::Cluster;

const AREA: &str = "Offered versions";

pub(super) const CHECKS: &[Check] = &[
    Check {
        area: AREA,
        name: "Produce, Fetch, ListOffsets, OffsetForLeaderEpoch and Metadata",
        run: records,
    },
    Check {
        area: AREA,
        name: "topics: create, grow, delete, delete records, describe the cluster",
        run: topics,
    },
    Check {
        area: AREA,
        name: "settings: describe, alter, alter incrementally",
        run: settings,
    },
    Check {
        area: AREA,
        name: "groups: find, join, sync, heartbeat, leave, list, describe, delete",
        run: groups,
    },
    Check {
        area: AREA,
        name: "offsets of groups: commit and fetch",
        run: group_offsets,
    },
    Check {
        area: AREA,
        name: "transactions: init, add offsets, commit offsets, end",
        run: transactions,
    },
];

/// What a broker offers: versions by API.
struct Offered(BTreeMap<i16, (i16, i16)>);

impl Offered {
    fn ask(raw: &mut Raw) -> Self {
        let answer = raw.ask(0, &ApiVersionsRequest::default());
        assert_eq!(error(answer.error_code), None);
        let keys = answer.api_keys.iter();
        Self(
            keys.map(|key| (key.api_key, (key.min_version, key.max_version)))
                .collect(),
        )
    }

    /// Returns the versions that the broker offers and that can be encoded here.
    fn of<R: Request>(&self) -> RangeInclusive<i16> {
        let (min, max) = self
            .0
            .get(&R::KEY)
            .unwrap_or_else(|| panic!("API {} is not offered", R::KEY));
        let both = R::VERSIONS.min.max(*min)..=R::VERSIONS.max.min(*max);
        assert!(!both.is_empty(), "API {}", R::KEY);
        both
    }

    /// Asks in every version; `see` looks at the answers. That they decode to their last byte is part of asking.
    fn each<R: Request>(
        &self,
        raw: &mut Raw,
        make: impl Fn(i16) -> R,
        mut see: impl FnMut(i16, R::Response),
    ) {
        for version in self.of::<R>() {
            let answer = raw.ask(version, &make(version));
            see(version, answer);
        }
    }
}

fn records(cluster: &Cluster) {
    let topic = cluster.unique_prefix("offered");
    cluster.create_topic(&topic, 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["a"]));
    let offered = Offered::ask(&mut raw);
    let all = raw.ask(12, &MetadataRequest::default().with_topics(None)).topics;
    let found = all.iter().find(|found| found.name == Some(topic_name(&topic)));
    // Newer versions name a topic by its id.
    let id = found.expect("the topic is known").topic_id;

    let produce = |_| {
        let mut request = produce_request(&topic, &[(0, plain(&["b"]))]);
        request.topic_data[0].topic_id = id;
        request
    };
    offered.each::<ProduceRequest>(&mut raw, produce, |version, answer| {
        assert_eq!(
            error(answer.responses[0].partition_responses[0].error_code),
            None,
            "Produce {version}"
        );
    });
    let fetch = |_| {
        let mut request = fetch_request(&topic, &[(0, 0)], &Fetch::default());
        request.topics[0].topic_id = id;
        request
    };
    offered.each::<FetchRequest>(&mut raw, fetch, |version, answer| {
        assert_eq!(
            values(&answer.responses[0].partitions[0])[0],
            "a",
            "Fetch {version}"
        );
    });
    let list = |_| list_offsets_request(&topic, 0, -1);
    offered.each::<ListOffsetsRequest>(&mut raw, list, |version, answer| {
        let partition = &answer.topics[0].partitions[0];
        assert!(
            partition.error_code == 0 && partition.offset > 0,
            "ListOffsets {version}"
        );
    });
    let epoch = |_| {
        let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(-1);
        let wanted = OffsetForLeaderTopic::default()
            .with_topic(topic_name(&topic))
            .with_partitions(vec![partition]);
        OffsetForLeaderEpochRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![wanted])
    };
    offered.each::<OffsetForLeaderEpochRequest>(&mut raw, epoch, |version, answer| {
        assert!(
            answer.topics[0].partitions[0].end_offset > 0,
            "OffsetForLeaderEpoch {version}"
        );
    });
    // In version 0 no topics are all topics; before version 4 there is no way to say that none is to be made.
    let metadata = |_| {
        MetadataRequest::default()
            .with_topics(Some(Vec::new()))
            .with_allow_auto_topic_creation(true)
    };
    offered.each::<MetadataRequest>(&mut raw, metadata, |version, answer| {
        assert_eq!(answer.brokers.len(), 1, "Metadata {version}");
    });
}

fn topics(cluster: &Cluster) {
    let prefix = cluster.unique_prefix("offered-topics");
    let mut raw = Raw::connect(cluster);
    let offered = Offered::ask(&mut raw);
    let name = |version: i16| format!("{prefix}{version}");
    let create = |version| {
        let topic = CreatableTopic::default()
            .with_name(topic_name(&name(version)))
            .with_num_partitions(1)
            .with_replication_factor(1);
        CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000)
    };
    offered.each::<CreateTopicsRequest>(&mut raw, create, |version, answer| {
        assert_eq!(error(answer.topics[0].error_code), None, "CreateTopics {version}");
    });
    let kept = offered.of::<CreateTopicsRequest>().start().to_owned();
    let grow = |version: i16| {
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name(&name(kept)))
            .with_count(2 + i32::from(version))
            .with_assignments(None);
        CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000)
    };
    offered.each::<CreatePartitionsRequest>(&mut raw, grow, |version, answer| {
        assert_eq!(
            error(answer.results[0].error_code),
            None,
            "CreatePartitions {version}"
        );
    });
    raw.store(&name(kept), 0, &plain(&["a"]));
    let delete_records = |_| {
        let partition = DeleteRecordsPartition::default().with_offset(1);
        let topic = DeleteRecordsTopic::default()
            .with_name(topic_name(&name(kept)))
            .with_partitions(vec![partition]);
        DeleteRecordsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000)
    };
    offered.each::<DeleteRecordsRequest>(&mut raw, delete_records, |version, answer| {
        assert_eq!(
            answer.topics[0].partitions[0].low_watermark, 1,
            "DeleteRecords {version}"
        );
    });
    let delete = |version| {
        let request = DeleteTopicsRequest::default().with_timeout_ms(30_000);
        let name = topic_name(&name(version));
        if version >= 6 {
            request.with_topics(vec![DeleteTopicState::default().with_name(Some(name))])
        } else {
            request.with_topic_names(vec![name])
        }
    };
    offered.each::<DeleteTopicsRequest>(&mut raw, delete, |version, answer| {
        // There is a topic for each version in which topics can be made.
        let made = offered.of::<CreateTopicsRequest>().contains(&version);
        assert_eq!(
            answer.responses[0].error_code == 0,
            made,
            "DeleteTopics {version}"
        );
    });
    let cluster = |_| DescribeClusterRequest::default();
    offered.each::<DescribeClusterRequest>(&mut raw, cluster, |version, answer| {
        assert_eq!(answer.brokers.len(), 1, "DescribeCluster {version}");
    });
}

fn settings(cluster: &Cluster) {
    let topic = cluster.unique_prefix("offered-settings");
    cluster.create_topic(&topic, 1);
    let mut raw = Raw::connect(cluster);
    let offered = Offered::ask(&mut raw);
    let describe = |_| {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(&topic));
        DescribeConfigsRequest::default().with_resources(vec![resource])
    };
    offered.each::<DescribeConfigsRequest>(&mut raw, describe, |version, answer| {
        let settings = &answer.results[0].configs;
        assert!(
            settings.iter().any(|setting| &*setting.name == "retention.ms"),
            "DescribeConfigs {version}"
        );
    });
    let alter = |_| {
        let setting = alter_configs_request::AlterableConfig::default()
            .with_name(text("retention.ms"))
            .with_value(Some(text("1000")));
        let resource = alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(&topic))
            .with_configs(vec![setting]);
        AlterConfigsRequest::default().with_resources(vec![resource])
    };
    offered.each::<AlterConfigsRequest>(&mut raw, alter, |version, answer| {
        assert_eq!(
            error(answer.responses[0].error_code),
            None,
            "AlterConfigs {version}"
        );
    });
    let alter = |_| {
        let setting = incremental_alter_configs_request::AlterableConfig::default()
            .with_name(text("retention.ms"))
            .with_value(Some(text("1000")));
        let resource = incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(&topic))
            .with_configs(vec![setting]);
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
    };
    offered.each::<IncrementalAlterConfigsRequest>(&mut raw, alter, |version, answer| {
        assert_eq!(
            error(answer.responses[0].error_code),
            None,
            "IncrementalAlterConfigs {version}"
        );
    });
}

fn group_id(id: &str) -> GroupId {
    GroupId(text(id))
}

fn groups(cluster: &Cluster) {
    let prefix = cluster.unique_prefix("offered-groups");
    let mut raw = Raw::connect(cluster);
    let offered = Offered::ask(&mut raw);
    let group = |version: i16| format!("{prefix}{version}");
    raw.find_coordinator(0, &prefix);
    let find = |version| {
        let request = FindCoordinatorRequest::default();
        if version >= 4 {
            request.with_coordinator_keys(vec![text(&prefix)])
        } else {
            request.with_key(text(&prefix))
        }
    };
    offered.each::<FindCoordinatorRequest>(&mut raw, find, |version, answer| {
        let code = answer
            .coordinators
            .first()
            .map_or(answer.error_code, |found| found.error_code);
        assert_eq!(error(code), None, "FindCoordinator {version}");
    });
    let join = |version| {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(Bytes::from_static(&[0; 10]));
        JoinGroupRequest::default()
            .with_group_id(group_id(&group(version)))
            .with_session_timeout_ms(6_000)
            .with_rebalance_timeout_ms(6_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol])
    };
    let mut members = BTreeMap::new();
    offered.each::<JoinGroupRequest>(&mut raw, join, |version, answer| {
        // From version 4 on, a new member is told its id first and joins with it.
        let expected = if version >= 4 { 79 } else { 0 };
        assert_eq!(answer.error_code, expected, "JoinGroup {version}");
        assert!(!answer.member_id.is_empty(), "JoinGroup {version}");
        members.insert(version, answer.member_id);
    });
    let unknown = Some(kafka_protocol::error::ResponseError::UnknownMemberId);
    let sync = |_| {
        SyncGroupRequest::default()
            .with_group_id(group_id(&group(-1)))
            .with_member_id(text("nobody"))
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
    };
    offered.each::<SyncGroupRequest>(&mut raw, sync, |version, answer| {
        assert_eq!(error(answer.error_code), unknown, "SyncGroup {version}");
    });
    let heartbeat = |_| {
        HeartbeatRequest::default()
            .with_group_id(group_id(&group(-1)))
            .with_member_id(text("nobody"))
    };
    offered.each::<HeartbeatRequest>(&mut raw, heartbeat, |version, answer| {
        assert_eq!(error(answer.error_code), unknown, "Heartbeat {version}");
    });
    let leave = |version| {
        let request = LeaveGroupRequest::default().with_group_id(group_id(&group(-1)));
        if version >= 3 {
            request.with_members(vec![MemberIdentity::default().with_member_id(text("nobody"))])
        } else {
            request.with_member_id(text("nobody"))
        }
    };
    offered.each::<LeaveGroupRequest>(&mut raw, leave, |version, answer| {
        let code = answer
            .members
            .first()
            .map_or(answer.error_code, |member| member.error_code);
        assert_eq!(error(code), unknown, "LeaveGroup {version}");
    });
    listed_groups(&mut raw, &offered, &group(0));
}

fn listed_groups(raw: &mut Raw, offered: &Offered, group: &str) {
    offered.each::<ListGroupsRequest>(
        raw,
        |_| ListGroupsRequest::default(),
        |version, answer| {
            assert!(
                answer
                    .groups
                    .iter()
                    .any(|found| found.group_id == group_id(group)),
                "ListGroups {version}"
            );
        },
    );
    let describe = |_| DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    offered.each::<DescribeGroupsRequest>(raw, describe, |version, answer| {
        assert_eq!(answer.groups[0].members.len(), 1, "DescribeGroups {version}");
    });
    let delete = |_| DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
    offered.each::<DeleteGroupsRequest>(raw, delete, |version, answer| {
        let expected = Some(kafka_protocol::error::ResponseError::NonEmptyGroup);
        assert_eq!(
            error(answer.results[0].error_code),
            expected,
            "DeleteGroups {version}"
        );
    });
}

fn group_offsets(cluster: &Cluster) {
    let topic = cluster.unique_prefix("offered-offsets");
    cluster.create_topic(&topic, 1);
    let mut raw = Raw::connect(cluster);
    let offered = Offered::ask(&mut raw);
    raw.find_coordinator(0, &topic);
    let commit = |version: i16| {
        let partition = OffsetCommitRequestPartition::default()
            .with_committed_offset(i64::from(version))
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text("some")));
        let topics = OffsetCommitRequestTopic::default()
            .with_name(topic_name(&topic))
            .with_partitions(vec![partition]);
        OffsetCommitRequest::default()
            .with_group_id(group_id(&topic))
            .with_generation_id_or_member_epoch(-1)
            .with_retention_time_ms(-1)
            .with_topics(vec![topics])
    };
    offered.each::<OffsetCommitRequest>(&mut raw, commit, |version, answer| {
        assert_eq!(
            error(answer.topics[0].partitions[0].error_code),
            None,
            "OffsetCommit {version}"
        );
    });
    let last = i64::from(*offered.of::<OffsetCommitRequest>().end());
    let fetch = |version| {
        let request = OffsetFetchRequest::default();
        if version >= 8 {
            let wanted = OffsetFetchRequestTopics::default()
                .with_name(topic_name(&topic))
                .with_partition_indexes(vec![0]);
            let group = OffsetFetchRequestGroup::default()
                .with_group_id(group_id(&topic))
                .with_member_epoch(-1)
                .with_topics(Some(vec![wanted]));
            return request.with_groups(vec![group]);
        }
        let wanted = OffsetFetchRequestTopic::default()
            .with_name(topic_name(&topic))
            .with_partition_indexes(vec![0]);
        request
            .with_group_id(group_id(&topic))
            .with_topics(Some(vec![wanted]))
    };
    offered.each::<OffsetFetchRequest>(&mut raw, fetch, |version, answer| {
        let found = if version >= 8 {
            let found = &answer.groups[0].topics[0].partitions[0];
            (
                found.committed_offset,
                found.metadata.as_deref().map(str::to_owned),
            )
        } else {
            let found = &answer.topics[0].partitions[0];
            (
                found.committed_offset,
                found.metadata.as_deref().map(str::to_owned),
            )
        };
        assert_eq!(found, (last, Some("some".to_owned())), "OffsetFetch {version}");
    });
}

fn transactions(cluster: &Cluster) {
    let id = cluster.unique_prefix("offered-transactions");
    let mut raw = Raw::connect(cluster);
    let offered = Offered::ask(&mut raw);
    raw.find_coordinator(0, &id);
    let producer = raw.init_producer(Some(&id));
    let init = |_| {
        InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    offered.each::<InitProducerIdRequest>(&mut raw, init, |version, answer| {
        assert_eq!(error(answer.error_code), None, "InitProducerId {version}");
    });
    // Of a producer that is not the one of this id: refused in each version, and nothing begins.
    let nobody = ProducerId(producer.id + 1_000_000);
    let refused = Some(kafka_protocol::error::ResponseError::InvalidProducerIdMapping);
    let add = |_| {
        AddOffsetsToTxnRequest::default()
            .with_transactional_id(transactional(&id))
            .with_producer_id(nobody)
            .with_group_id(group_id(&id))
    };
    offered.each::<AddOffsetsToTxnRequest>(&mut raw, add, |version, answer| {
        assert_eq!(error(answer.error_code), refused, "AddOffsetsToTxn {version}");
    });
    let end = |_| {
        EndTxnRequest::default()
            .with_transactional_id(transactional(&id))
            .with_producer_id(nobody)
            .with_committed(true)
    };
    offered.each::<EndTxnRequest>(&mut raw, end, |version, answer| {
        assert_eq!(error(answer.error_code), refused, "EndTxn {version}");
    });
    let commit = |_| {
        let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default()
            .with_committed_offset(5)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text("")));
        let topics = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name("nobody-made-this"))
            .with_partitions(vec![partition]);
        TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional(&id))
            .with_group_id(group_id(&id))
            .with_producer_id(nobody)
            .with_generation_id(-1)
            .with_topics(vec![topics])
    };
    offered.each::<TxnOffsetCommitRequest>(&mut raw, commit, |version, answer| {
        assert_ne!(
            answer.topics[0].partitions[0].error_code, 0,
            "TxnOffsetCommit {version}"
        );
    });
}
