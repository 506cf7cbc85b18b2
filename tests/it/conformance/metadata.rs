//! Who is there and what it has: the metadata that every client asks for first.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{DescribeClusterRequest, MetadataRequest, MetadataResponse};

use super::Check;
use super::raw::{Raw, error, eventually, topic_name};
use super::topics::{created, new_topic};
use crate::support::Cluster;
use crate::support::process::wait_until;

const AREA: &str = "Metadata";

/// From this version on, topics can be asked for by their ids.
const METADATA: i16 = 12;

pub(super) const CHECKS: &[Check] = &[
    Check {
        area: AREA,
        name: "metadata of an unknown topic say so and do not make it",
        run: unknown_topic,
    },
    Check {
        area: AREA,
        name: "metadata are of all topics, of none, of those named, or of those whose id is given",
        run: metadata_by_choice,
    },
    Check {
        area: AREA,
        name: "every metadata version tells broker, topic and partitions",
        run: every_metadata_version,
    },
    Check {
        area: AREA,
        name: "the cluster is described with the id and the broker that metadata have",
        run: cluster_is_described,
    },
];

pub(super) fn named(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(topic_name(name)))
}

pub(super) fn metadata(raw: &mut Raw, topics: Option<Vec<MetadataRequestTopic>>) -> MetadataResponse {
    raw.ask(METADATA, &MetadataRequest::default().with_topics(topics))
}

/// Returns a topic's metadata once the broker that is asked knows of it.
pub(super) fn described(raw: &mut Raw, name: &str) -> MetadataResponseTopic {
    eventually("the topic is known", || {
        let topic = metadata(raw, Some(vec![named(name)])).topics.remove(0);
        (topic.error_code == 0 && topic.partitions.iter().all(|one| one.error_code == 0)).then_some(topic)
    })
}

/// Waits until metadata do not know of it any more.
pub(super) fn wait_gone(raw: &mut Raw, name: &str) {
    wait_until("the topic is gone", || {
        let topic = metadata(raw, Some(vec![named(name)])).topics.remove(0);
        error(topic.error_code) == Some(ResponseError::UnknownTopicOrPartition)
    });
}

fn unknown_topic(cluster: &Cluster) {
    let name = cluster.unique_prefix("unknown");
    let mut raw = Raw::connect(cluster);
    let request = MetadataRequest::default()
        .with_topics(Some(vec![named(&name)]))
        .with_allow_auto_topic_creation(true);
    for _ in 0..2 {
        let answer = raw.ask(METADATA, &request);
        assert_eq!(
            error(answer.topics[0].error_code),
            Some(ResponseError::UnknownTopicOrPartition)
        );
        assert!(answer.topics[0].partitions.is_empty());
    }
    let answer = metadata(&mut raw, Some(vec![named("with space")]));
    assert_eq!(
        error(answer.topics[0].error_code),
        Some(ResponseError::InvalidTopicException)
    );
    assert_eq!(
        created(&mut raw, new_topic(&name, 1, -1)),
        None,
        "it was not made"
    );
}

fn metadata_by_choice(cluster: &Cluster) {
    let prefix = cluster.unique_prefix("choice");
    let names = [format!("{prefix}a"), format!("{prefix}b")];
    for name in &names {
        cluster.create_topic(name, 1);
    }
    let mut raw = Raw::connect(cluster);
    let ours = |answer: &MetadataResponse| -> Vec<String> {
        let all = answer.topics.iter().filter_map(|topic| topic.name.as_ref());
        let mut ours: Vec<String> = all
            .map(|name| name.to_string())
            .filter(|name| name.starts_with(&prefix))
            .collect();
        ours.sort();
        ours
    };
    assert_eq!(ours(&metadata(&mut raw, None)), names);
    let none = metadata(&mut raw, Some(Vec::new()));
    assert!(none.topics.is_empty() && !none.brokers.is_empty());
    assert_eq!(
        ours(&metadata(&mut raw, Some(vec![named(&names[1])]))),
        names[1..]
    );

    let id = described(&mut raw, &names[0]).topic_id;
    let by_id = |id| MetadataRequestTopic::default().with_name(None).with_topic_id(id);
    let answer = metadata(&mut raw, Some(vec![by_id(id)]));
    assert_eq!(ours(&answer), names[..1]);
    let nobodys = "00000000-0000-4000-8000-000000000001".parse().expect("an id");
    let answer = metadata(&mut raw, Some(vec![by_id(nobodys)]));
    assert_eq!(
        error(answer.topics[0].error_code),
        Some(ResponseError::UnknownTopicId)
    );
}

fn every_metadata_version(cluster: &Cluster) {
    let name = cluster.unique_prefix("versions");
    cluster.create_topic(&name, 2);
    let mut raw = Raw::connect(cluster);
    let brokers = metadata(&mut raw, Some(Vec::new())).brokers;
    for version in 0..=METADATA {
        let request = MetadataRequest::default()
            .with_topics(Some(vec![named(&name)]))
            .with_allow_auto_topic_creation(true);
        let answer = raw.ask(version, &request);
        let node = |brokers: &[kafka_protocol::messages::metadata_response::MetadataResponseBroker]| {
            (brokers[0].node_id, brokers[0].host.clone(), brokers[0].port)
        };
        assert_eq!(node(&answer.brokers), node(&brokers), "version {version}");
        assert_eq!(
            answer.topics[0].name,
            Some(topic_name(&name)),
            "version {version}"
        );
        assert_eq!(answer.topics[0].partitions.len(), 2, "version {version}");
        for partition in &answer.topics[0].partitions {
            assert_eq!(
                (partition.error_code, partition.leader_id),
                (0, brokers[0].node_id)
            );
        }
    }
}

fn cluster_is_described(cluster: &Cluster) {
    let mut raw = Raw::connect(cluster);
    let expected = metadata(&mut raw, Some(Vec::new()));
    let answer = raw.ask(0, &DescribeClusterRequest::default());
    assert_eq!(error(answer.error_code), None);
    assert_eq!(Some(answer.cluster_id), expected.cluster_id);
    assert_eq!(answer.controller_id, expected.controller_id);
    let addresses: Vec<_> = answer
        .brokers
        .iter()
        .map(|one| (one.broker_id, &*one.host, one.port))
        .collect();
    let broker = &expected.brokers[0];
    assert_eq!(addresses, [(broker.node_id, &*broker.host, broker.port)]);
}
