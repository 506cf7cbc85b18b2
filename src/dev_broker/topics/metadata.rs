//! Who is there and what it has: Metadata, DescribeCluster.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    DescribeClusterRequest, DescribeClusterResponse, MetadataRequest, MetadataResponse,
};
use uuid::Uuid;

use super::super::batch::LEADER_EPOCH;
use super::super::bounded;
use super::super::state::{CLUSTER_ID, NODE_ID, State};
use super::admin::is_valid_name;
use super::{Topic, text, topic_name};

/// What anybody may do with a topic and with the cluster: the bits that Kafka sets when it has no access lists. Source: the
/// codes of Kafka's `AclOperation`: read (3), write (4), create (5), delete (6), alter (7), describe (8), act for the
/// cluster (9), describe and alter settings (10, 11), write idempotently (12).
const TOPIC_OPERATIONS: i32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// Instead of those when they are not asked for.
const NOT_ASKED: i32 = i32::MIN;
/// Kinds of nodes that DescribeCluster is asked for.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Lists the node and the topics asked for, each once; all when none is named.
pub(in super::super) fn metadata(state: &State, request: MetadataRequest, version: i16) -> MetadataResponse {
    let wanted = request.topics.filter(|topics| version > 0 || !topics.is_empty());
    let topics = match wanted {
        Some(wanted) => {
            let once = bounded::once(wanted, |wanted| (wanted.name.clone(), wanted.topic_id));
            once.map(|wanted| one(state, wanted)).collect()
        }
        None => {
            let all = state.topics.by_name.iter();
            all.map(|(name, topic)| described(name, topic)).collect()
        }
    };
    let topics = operable(topics, request.include_topic_authorized_operations);
    let node = MetadataResponseBroker::default()
        .with_node_id(NODE_ID)
        .with_host(text(state.address.ip().to_string()))
        .with_port(i32::from(state.address.port()));
    MetadataResponse::default()
        .with_brokers(vec![node])
        .with_cluster_id(Some(CLUSTER_ID))
        .with_controller_id(NODE_ID)
        .with_cluster_authorized_operations(if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            NOT_ASKED
        })
        .with_topics(topics)
}

/// Says of each topic that there is what may be done with it, if that is asked.
fn operable(mut topics: Vec<MetadataResponseTopic>, asked: bool) -> Vec<MetadataResponseTopic> {
    for topic in topics.iter_mut().filter(|topic| asked && topic.error_code == 0) {
        topic.topic_authorized_operations = TOPIC_OPERATIONS;
    }
    topics
}

fn one(state: &State, wanted: MetadataRequestTopic) -> MetadataResponseTopic {
    let by_id = (wanted.topic_id != Uuid::nil()).then(|| state.topics.named(wanted.topic_id));
    let name = match (&wanted.name, by_id) {
        (Some(name), _) => name.to_string(),
        (None, Some(Some(name))) => name.to_owned(),
        (None, _) => {
            return MetadataResponseTopic::default()
                .with_error_code(ResponseError::UnknownTopicId.code())
                .with_name(None)
                .with_topic_id(wanted.topic_id);
        }
    };
    if let Some(topic) = state.topics.topic(&name) {
        return described(&name, topic);
    }
    let error = if is_valid_name(&name) {
        ResponseError::UnknownTopicOrPartition
    } else {
        ResponseError::InvalidTopicException
    };
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(topic_name(&name)))
}

fn described(name: &str, topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..topic.partition_count()).map(|index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE_ID)
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![NODE_ID])
            .with_isr_nodes(vec![NODE_ID])
    });
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(name)))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}

/// Describes the cluster of one node, which is a broker.
pub(in super::super) fn describe_cluster(
    state: &State,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let refused = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some(ResponseError::MismatchedEndpointType),
        _ => Some(ResponseError::UnsupportedEndpointType),
    };
    if let Some(error) = refused {
        return DescribeClusterResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(text(error.to_string())));
    }
    let node = DescribeClusterBroker::default()
        .with_broker_id(NODE_ID)
        .with_host(text(state.address.ip().to_string()))
        .with_port(i32::from(state.address.port()));
    DescribeClusterResponse::default()
        .with_endpoint_type(request.endpoint_type)
        .with_cluster_id(CLUSTER_ID)
        .with_controller_id(NODE_ID)
        .with_cluster_authorized_operations(if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            NOT_ASKED
        })
        .with_brokers(vec![node])
}
