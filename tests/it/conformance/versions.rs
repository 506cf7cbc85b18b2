//! Every version that a broker offers is answered in that version: what old and new clients rely on.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    AlterConfigsRequest, ApiVersionsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, FetchRequest,
    IncrementalAlterConfigsRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest,
    ProduceRequest, alter_configs_request, incremental_alter_configs_request,
};
use kafka_protocol::protocol::Request;

use super::Check;
use super::raw::{
    Fetch, Raw, error, fetch_request, list_offsets_request, plain, produce_request, text, topic_name, values,
};
use crate::support::Cluster;

pub(super) const AREA: &str = "Offered versions";

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
];

/// What a broker offers: versions by API.
pub(super) struct Offered(BTreeMap<i16, (i16, i16)>);

impl Offered {
    pub(super) fn ask(raw: &mut Raw) -> Self {
        let answer = raw.ask(0, &ApiVersionsRequest::default());
        assert_eq!(error(answer.error_code), None);
        let keys = answer.api_keys.iter();
        Self(
            keys.map(|key| (key.api_key, (key.min_version, key.max_version)))
                .collect(),
        )
    }

    /// Returns the versions that the broker offers and that can be encoded here.
    pub(super) fn of<R: Request>(&self) -> RangeInclusive<i16> {
        let (min, max) = self
            .0
            .get(&R::KEY)
            .unwrap_or_else(|| panic!("API {} is not offered", R::KEY));
        let both = R::VERSIONS.min.max(*min)..=R::VERSIONS.max.min(*max);
        assert!(!both.is_empty(), "API {}", R::KEY);
        both
    }

    /// Asks in every version; `see` looks at the answers. That they decode to their last byte is part of asking.
    pub(super) fn each<R: Request>(
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
