//! Every offered version of what groups and transactions need.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, DeleteGroupsRequest, DescribeGroupsRequest, EndTxnRequest,
    FindCoordinatorRequest, GroupId, HeartbeatRequest, InitProducerIdRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest, ProducerId,
    SyncGroupRequest, TxnOffsetCommitRequest, txn_offset_commit_request,
};

use super::Check;
use super::raw::{Raw, error, text, topic_name, transactional};
use super::versions::{AREA, Offered};
use crate::support::Cluster;

pub(super) const CHECKS: &[Check] = &[
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
    offered.each::<JoinGroupRequest>(&mut raw, join, |version, answer| {
        // From version 4 on, a new member is told its id first and joins with it.
        let expected = if version >= 4 { 79 } else { 0 };
        assert_eq!(answer.error_code, expected, "JoinGroup {version}");
        assert!(!answer.member_id.is_empty(), "JoinGroup {version}");
    });
    strangers(&mut raw, &offered, &group(-1));
    listed_groups(&mut raw, &offered, &group(0));
}

/// Whoever is no member is told so in every version.
fn strangers(raw: &mut Raw, offered: &Offered, group: &str) {
    let unknown = Some(kafka_protocol::error::ResponseError::UnknownMemberId);
    let sync = |_| {
        SyncGroupRequest::default()
            .with_group_id(group_id(group))
            .with_member_id(text("nobody"))
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
    };
    offered.each::<SyncGroupRequest>(raw, sync, |version, answer| {
        assert_eq!(error(answer.error_code), unknown, "SyncGroup {version}");
    });
    let heartbeat = |_| {
        HeartbeatRequest::default()
            .with_group_id(group_id(group))
            .with_member_id(text("nobody"))
    };
    offered.each::<HeartbeatRequest>(raw, heartbeat, |version, answer| {
        assert_eq!(error(answer.error_code), unknown, "Heartbeat {version}");
    });
    let leave = |version| {
        let request = LeaveGroupRequest::default().with_group_id(group_id(group));
        if version >= 3 {
            request.with_members(vec![MemberIdentity::default().with_member_id(text("nobody"))])
        } else {
            request.with_member_id(text("nobody"))
        }
    };
    offered.each::<LeaveGroupRequest>(raw, leave, |version, answer| {
        let code = answer
            .members
            .first()
            .map_or(answer.error_code, |member| member.error_code);
        assert_eq!(error(code), unknown, "LeaveGroup {version}");
    });
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
