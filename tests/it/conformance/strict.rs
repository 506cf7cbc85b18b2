//! What no ordinary client asks: the same thing twice in one request, a batch that contradicts itself, a request that wants
//! no answer and cannot be done; and what clients ask rarely: who may do what.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopicConfig;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    CreatePartitionsRequest, DeleteTopicsRequest, DescribeClusterRequest, MetadataRequest,
};

use super::Check;
use super::deletions::delete_before;
use super::metadata::{described, metadata, named};
use super::raw::{
    LIST_OFFSETS, PRODUCE, Producer, Raw, error, list_offsets_request, plain, produce_request, text,
    topic_name,
};
use super::topics::{created, new_topic};
use crate::support::Cluster;

pub(super) const CHECKS: &[Check] = &[
    Check {
        area: "Produce",
        name: "acks 0: what cannot be stored closes the connection, which is all that such a producer can be told",
        run: refused_without_answer,
    },
    Check {
        area: "Produce",
        name: "idempotent: a batch without a sequence number is refused",
        run: no_sequence,
    },
    Check {
        area: "List offsets",
        name: "a partition that is asked for twice is refused, and the others are answered",
        run: offsets_twice,
    },
    Check {
        area: "Deleted records",
        name: "records of a topic that is only to be compacted are not deleted",
        run: compacted,
    },
    Check {
        area: "Metadata",
        name: "a topic that is named twice is described once",
        run: metadata_twice,
    },
    Check {
        area: "Metadata",
        name: "what the client may do is told if it asks, and not otherwise",
        run: operations,
    },
    Check {
        area: "Metadata",
        name: "a broker does not take itself for a controller",
        run: wrong_endpoint,
    },
    Check {
        area: "Topics",
        name: "a topic that is named twice in one request is neither grown nor deleted",
        run: changed_twice,
    },
];

fn topic(cluster: &Cluster, test: &str, partitions: i32) -> String {
    let topic = cluster.unique_prefix(test);
    cluster.create_topic(&topic, partitions);
    topic
}

fn refused_without_answer(cluster: &Cluster) {
    let mut raw = Raw::connect(cluster);
    let request = produce_request("nobody-made-this", &[(0, plain(&["lost"]))]).with_acks(0);
    raw.send(PRODUCE, &request);
    raw.assert_closed();
}

fn no_sequence(cluster: &Cluster) {
    let topic = topic(cluster, "no-sequence", 1);
    let mut raw = Raw::connect(cluster);
    let producer = raw.init_producer(None);
    assert_eq!(raw.store(&topic, 0, &producer.batch(0, &["a"])), 0);
    let others = Producer {
        id: producer.id + 1_000_000,
        epoch: 0,
    };
    for sender in [producer, others] {
        for sequence in [-1, i32::MIN] {
            let answer = raw.produce(&topic, 0, sender.batch(sequence, &["b"]));
            assert_eq!(
                error(answer.error_code),
                Some(ResponseError::InvalidRecord),
                "{sequence}"
            );
        }
    }
    assert_eq!(raw.store(&topic, 0, &producer.batch(1, &["c"])), 1);
}

fn offsets_twice(cluster: &Cluster) {
    let topic = topic(cluster, "offsets-twice", 2);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["a"]));
    raw.store(&topic, 1, &plain(&["b"]));
    let mut request = list_offsets_request(&topic, 0, -1);
    let partitions = &mut request.topics[0].partitions;
    partitions.extend([
        partitions[0].clone(),
        partitions[0].clone().with_partition_index(1),
    ]);
    let answer = raw.ask(LIST_OFFSETS, &request);
    let of = |index| {
        let all = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let mut found: Vec<_> = all
            .filter(|one| one.partition_index == index)
            .map(|one| (error(one.error_code), one.offset))
            .collect();
        found.dedup();
        found
    };
    assert_eq!(of(0), [(Some(ResponseError::InvalidRequest), -1)]);
    assert_eq!(of(1), [(None, 1)]);
}

fn compacted(cluster: &Cluster) {
    let topic = cluster.unique_prefix("compacted");
    let policy = CreatableTopicConfig::default()
        .with_name(text("cleanup.policy"))
        .with_value(Some(text("compact")));
    let mut raw = Raw::connect(cluster);
    assert_eq!(
        created(&mut raw, new_topic(&topic, 1, 1).with_configs(vec![policy])),
        None
    );
    described(&mut raw, &topic);
    assert_eq!(
        delete_before(&mut raw, &topic, 0, -1),
        Err(ResponseError::PolicyViolation)
    );
}

fn metadata_twice(cluster: &Cluster) {
    let topic = topic(cluster, "metadata-twice", 1);
    let mut raw = Raw::connect(cluster);
    described(&mut raw, &topic);
    let wanted = ["nobody-made-this", &topic].map(named);
    let answer = metadata(&mut raw, Some([wanted.clone(), wanted].concat()));
    assert_eq!(answer.topics.len(), 2, "{:?}", answer.topics);
}

/// Source: the operations of Kafka's `AclEntry`, as bits by their codes.
fn bits(operations: &[u8]) -> i32 {
    operations.iter().fold(0, |bits, operation| bits | 1 << operation)
}

fn operations(cluster: &Cluster) {
    let topic = topic(cluster, "operations", 1);
    let mut raw = Raw::connect(cluster);
    described(&mut raw, &topic);
    let asked = |raw: &mut Raw, wanted: bool| {
        let request = MetadataRequest::default()
            .with_topics(Some(vec![named(&topic)]))
            .with_include_topic_authorized_operations(wanted);
        let of_topic = raw.ask(12, &request).topics[0].topic_authorized_operations;
        let request = MetadataRequest::default()
            .with_topics(Some(Vec::new()))
            .with_include_cluster_authorized_operations(wanted);
        let of_cluster = raw.ask(10, &request).cluster_authorized_operations;
        let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(wanted);
        let described = raw.ask(0, &request).cluster_authorized_operations;
        (of_topic, of_cluster, described)
    };
    assert_eq!(asked(&mut raw, false), (i32::MIN, i32::MIN, i32::MIN));
    let cluster_operations = bits(&[5, 7, 8, 9, 10, 11, 12]);
    assert_eq!(
        asked(&mut raw, true),
        (
            bits(&[3, 4, 5, 6, 7, 8, 10, 11]),
            cluster_operations,
            cluster_operations
        )
    );
}

fn wrong_endpoint(cluster: &Cluster) {
    let mut raw = Raw::connect(cluster);
    let ask = |raw: &mut Raw, endpoint| {
        let answer = raw.ask(1, &DescribeClusterRequest::default().with_endpoint_type(endpoint));
        (error(answer.error_code), answer.brokers.len())
    };
    assert_eq!(ask(&mut raw, 1), (None, 1));
    assert_eq!(ask(&mut raw, 2), (Some(ResponseError::MismatchedEndpointType), 0));
    assert_eq!(
        ask(&mut raw, 3),
        (Some(ResponseError::UnsupportedEndpointType), 0)
    );
}

fn changed_twice(cluster: &Cluster) {
    let topic = topic(cluster, "changed-twice", 1);
    let mut raw = Raw::connect(cluster);
    described(&mut raw, &topic);
    let grown = CreatePartitionsTopic::default()
        .with_name(topic_name(&topic))
        .with_count(2)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default()
        .with_topics(vec![grown.clone(), grown])
        .with_timeout_ms(30_000);
    let mut codes: Vec<_> = raw
        .ask(3, &request)
        .results
        .iter()
        .map(|one| error(one.error_code))
        .collect();
    codes.dedup();
    assert_eq!(codes, [Some(ResponseError::InvalidRequest)]);
    let deleted = DeleteTopicState::default().with_name(Some(topic_name(&topic)));
    let request = DeleteTopicsRequest::default()
        .with_topics(vec![deleted.clone(), deleted])
        .with_timeout_ms(30_000);
    let mut codes: Vec<_> = raw
        .ask(6, &request)
        .responses
        .iter()
        .map(|one| error(one.error_code))
        .collect();
    codes.dedup();
    assert_eq!(codes, [Some(ResponseError::InvalidRequest)]);
    assert_eq!(described(&mut raw, &topic).partitions.len(), 1);
}
