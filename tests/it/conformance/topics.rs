//! Topics: made, deleted, grown, described.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

use super::Check;
use super::metadata::{described, wait_gone};
use super::raw::{Fetch, Raw, error, eventually, plain, text, topic_name, values};
use crate::support::{Cluster, block_on};

const AREA: &str = "Topics";

const CREATE_TOPICS: i16 = 7;
const DELETE_TOPICS: i16 = 6;

pub(super) const CHECKS: &[Check] = &[
    Check {
        area: AREA,
        name: "a new topic is answered with its partitions, replication and id, and metadata say the same",
        run: creation_is_answered_as_metadata_show_it,
    },
    Check {
        area: AREA,
        name: "a name that is taken is refused",
        run: taken_name,
    },
    Check {
        area: AREA,
        name: "a bad name, or one that differs from another by dot and underscore only, is refused",
        run: bad_names,
    },
    Check {
        area: AREA,
        name: "a partition count below 1 is refused; -1 is the broker's default",
        run: partition_counts,
    },
    Check {
        area: AREA,
        name: "a replication that the cluster cannot give is refused",
        run: replications,
    },
    Check {
        area: AREA,
        name: "an unknown or unreadable setting is refused at creation",
        run: bad_settings,
    },
    Check {
        area: AREA,
        name: "topics of one request are made or refused each on its own",
        run: one_request_of_many,
    },
    Check {
        area: AREA,
        name: "validate-only creates, grows and deletes nothing",
        run: validate_only,
    },
    Check {
        area: AREA,
        name: "a topic that is deleted and made again is empty and another one",
        run: deleted_and_made_again,
    },
    Check {
        area: AREA,
        name: "a topic is deleted by its id; an unknown one is refused",
        run: deleted_by_id,
    },
    Check {
        area: AREA,
        name: "a topic grows, keeps its records and takes records in the new partitions",
        run: grows,
    },
    Check {
        area: AREA,
        name: "fewer or as many partitions are refused, and so is growth of an unknown topic",
        run: does_not_shrink,
    },
    Check {
        area: AREA,
        name: "librdkafka's admin client creates, grows and deletes",
        run: librdkafka_admin,
    },
];

pub(super) fn new_topic(name: &str, partitions: i32, replication: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(replication)
}

fn create(raw: &mut Raw, topics: Vec<CreatableTopic>) -> Vec<CreatableTopicResult> {
    let request = CreateTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(30_000);
    raw.ask(CREATE_TOPICS, &request).topics
}

/// Creates one topic and says which error it was answered with.
pub(super) fn created(raw: &mut Raw, topic: CreatableTopic) -> Option<ResponseError> {
    error(create(raw, vec![topic]).remove(0).error_code)
}

fn delete(raw: &mut Raw, topic: DeleteTopicState) -> Option<ResponseError> {
    let request = DeleteTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    error(raw.ask(DELETE_TOPICS, &request).responses.remove(0).error_code)
}

fn creation_is_answered_as_metadata_show_it(cluster: &Cluster) {
    let name = cluster.unique_prefix("answered");
    let mut raw = Raw::connect(cluster);
    let setting = CreatableTopicConfig::default()
        .with_name(text("retention.ms"))
        .with_value(Some(text("86400000")));
    let topic = new_topic(&name, 3, -1).with_configs(vec![setting]);
    let answer = create(&mut raw, vec![topic]).remove(0);
    assert_eq!(error(answer.error_code), None, "{:?}", answer.error_message);
    assert_eq!(answer.name, topic_name(&name));
    assert_eq!((answer.num_partitions, answer.replication_factor), (3, 1));
    let settings = answer.configs.expect("the settings in force are answered");
    let retention = settings.iter().find(|setting| &*setting.name == "retention.ms");
    let retention = retention.expect("what was set is among them");
    assert_eq!(retention.value.as_deref(), Some("86400000"));

    let topic = described(&mut raw, &name);
    assert_eq!(topic.topic_id, answer.topic_id);
    assert!(!topic.topic_id.is_nil());
    assert!(!topic.is_internal);
    let mut partitions: Vec<i32> = topic.partitions.iter().map(|one| one.partition_index).collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1, 2]);
    for partition in &topic.partitions {
        assert_eq!(partition.replica_nodes, [partition.leader_id]);
        assert_eq!(partition.isr_nodes, [partition.leader_id]);
        assert!(partition.offline_replicas.is_empty());
    }
}

fn taken_name(cluster: &Cluster) {
    let name = cluster.unique_prefix("taken");
    let mut raw = Raw::connect(cluster);
    assert_eq!(created(&mut raw, new_topic(&name, 1, -1)), None);
    assert_eq!(
        created(&mut raw, new_topic(&name, 2, -1)),
        Some(ResponseError::TopicAlreadyExists)
    );
    assert_eq!(described(&mut raw, &name).partitions.len(), 1);
}

fn bad_names(cluster: &Cluster) {
    let mut raw = Raw::connect(cluster);
    let long = "x".repeat(250);
    for name in ["", ".", "..", "with space", "sl/ash", "ümlaut", &long] {
        assert_eq!(
            created(&mut raw, new_topic(name, 1, -1)),
            Some(ResponseError::InvalidTopicException),
            "{name:?}"
        );
    }
    let prefix = cluster.unique_prefix("names");
    assert_eq!(
        created(&mut raw, new_topic(&format!("{prefix}a.b_c"), 1, -1)),
        None
    );
    assert_eq!(
        created(&mut raw, new_topic(&format!("{prefix}a_b.c"), 1, -1)),
        Some(ResponseError::InvalidTopicException)
    );
    let longest = format!("{prefix}{}", "x".repeat(249 - prefix.len()));
    assert_eq!(created(&mut raw, new_topic(&longest, 1, -1)), None);
}

fn partition_counts(cluster: &Cluster) {
    let name = cluster.unique_prefix("counts");
    let mut raw = Raw::connect(cluster);
    for partitions in [0, -2] {
        assert_eq!(
            created(&mut raw, new_topic(&name, partitions, -1)),
            Some(ResponseError::InvalidPartitions),
            "{partitions}"
        );
    }
    let answer = create(&mut raw, vec![new_topic(&name, -1, -1)]).remove(0);
    assert_eq!(error(answer.error_code), None);
    assert_eq!(answer.num_partitions, 1);
}

fn replications(cluster: &Cluster) {
    let name = cluster.unique_prefix("replication");
    let mut raw = Raw::connect(cluster);
    for replication in [0, -2, 2] {
        assert_eq!(
            created(&mut raw, new_topic(&name, 1, replication)),
            Some(ResponseError::InvalidReplicationFactor),
            "{replication}"
        );
    }
    assert_eq!(created(&mut raw, new_topic(&name, 1, 1)), None);
}

fn bad_settings(cluster: &Cluster) {
    let name = cluster.unique_prefix("settings");
    let mut raw = Raw::connect(cluster);
    let bad = [
        ("no.such.setting", "1"),
        ("retention.ms", "soon"),
        ("cleanup.policy", "burn"),
        ("max.message.bytes", "-1"),
    ];
    for (key, value) in bad {
        let setting = CreatableTopicConfig::default()
            .with_name(text(key))
            .with_value(Some(text(value)));
        assert_eq!(
            created(&mut raw, new_topic(&name, 1, -1).with_configs(vec![setting])),
            Some(ResponseError::InvalidConfig),
            "{key}={value}"
        );
    }
    assert_eq!(
        created(&mut raw, new_topic(&name, 1, -1)),
        None,
        "nothing was made"
    );
}

fn one_request_of_many(cluster: &Cluster) {
    let prefix = cluster.unique_prefix("many");
    let mut raw = Raw::connect(cluster);
    let (good, bad, twice) = (
        format!("{prefix}good"),
        format!("{prefix}bad"),
        format!("{prefix}twice"),
    );
    let topics = vec![
        new_topic(&good, 1, -1),
        new_topic(&bad, 0, -1),
        new_topic(&twice, 1, -1),
        new_topic(&twice, 1, -1),
    ];
    let answers = create(&mut raw, topics);
    let answer = |name: &str| {
        let found: Vec<_> = answers.iter().filter(|answer| &**answer.name == name).collect();
        assert_eq!(found.len(), 1, "{name} is answered once");
        error(found[0].error_code)
    };
    assert_eq!(answer(&good), None);
    assert_eq!(answer(&bad), Some(ResponseError::InvalidPartitions));
    assert_eq!(answer(&twice), Some(ResponseError::InvalidRequest));
}

fn validate_only(cluster: &Cluster) {
    let name = cluster.unique_prefix("validate");
    let mut raw = Raw::connect(cluster);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![new_topic(&name, 2, -1)])
        .with_timeout_ms(30_000)
        .with_validate_only(true);
    let answer = raw.ask(CREATE_TOPICS, &request).topics.remove(0);
    assert_eq!(error(answer.error_code), None);
    assert_eq!(answer.num_partitions, 2);
    assert_eq!(
        created(&mut raw, new_topic(&name, 1, -1)),
        None,
        "it was not made"
    );

    let growth = |count, validate_only| {
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name(&name))
            .with_count(count)
            .with_assignments(None);
        CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000)
            .with_validate_only(validate_only)
    };
    assert_eq!(error(raw.ask(3, &growth(5, true)).results[0].error_code), None);
    // Done after the other: had that grown it, this one would be refused.
    assert_eq!(error(raw.ask(3, &growth(2, false)).results[0].error_code), None);
}

fn deleted_and_made_again(cluster: &Cluster) {
    let name = cluster.unique_prefix("again");
    cluster.create_topic(&name, 1);
    let mut raw = Raw::connect(cluster);
    let before = described(&mut raw, &name).topic_id;
    raw.store(&name, 0, &plain(&["a", "b", "c"]));

    let gone = DeleteTopicState::default().with_name(Some(topic_name(&name)));
    assert_eq!(delete(&mut raw, gone.clone()), None);
    wait_gone(&mut raw, &name);
    assert_eq!(
        delete(&mut raw, gone),
        Some(ResponseError::UnknownTopicOrPartition),
        "it is gone"
    );
    let refused = raw.produce(&name, 0, plain(&["d"]));
    assert_eq!(
        error(refused.error_code),
        Some(ResponseError::UnknownTopicOrPartition)
    );

    cluster.create_topic(&name, 1);
    assert_ne!(described(&mut raw, &name).topic_id, before);
    assert_eq!(raw.list_offset(&name, 0, -2).offset, 0);
    assert_eq!(raw.list_offset(&name, 0, -1).offset, 0);
    assert_eq!(raw.store(&name, 0, &plain(&["e"])), 0);
    assert_eq!(values(&raw.fetch(&name, 0, 0, &Fetch::default())), ["e"]);
}

fn deleted_by_id(cluster: &Cluster) {
    let name = cluster.unique_prefix("by-id");
    cluster.create_topic(&name, 1);
    let mut raw = Raw::connect(cluster);
    let id = described(&mut raw, &name).topic_id;
    let by_id = DeleteTopicState::default().with_name(None).with_topic_id(id);
    assert_eq!(delete(&mut raw, by_id.clone()), None);
    wait_gone(&mut raw, &name);
    assert_eq!(delete(&mut raw, by_id), Some(ResponseError::UnknownTopicId));
    let unknown = DeleteTopicState::default().with_name(Some(topic_name("nobody-made-this")));
    assert_eq!(
        delete(&mut raw, unknown),
        Some(ResponseError::UnknownTopicOrPartition)
    );
}

fn grow(raw: &mut Raw, name: &str, count: i32) -> Option<ResponseError> {
    let topic = CreatePartitionsTopic::default()
        .with_name(topic_name(name))
        .with_count(count)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    error(raw.ask(3, &request).results.remove(0).error_code)
}

fn grows(cluster: &Cluster) {
    let name = cluster.unique_prefix("grows");
    cluster.create_topic(&name, 2);
    let mut raw = Raw::connect(cluster);
    let id = described(&mut raw, &name).topic_id;
    raw.store(&name, 1, &plain(&["old"]));
    let refused = raw.produce(&name, 3, plain(&["early"]));
    assert_eq!(
        error(refused.error_code),
        Some(ResponseError::UnknownTopicOrPartition)
    );

    assert_eq!(grow(&mut raw, &name, 4), None);
    let topic = eventually("all partitions are there", || {
        let topic = described(&mut raw, &name);
        (topic.partitions.len() == 4).then_some(topic)
    });
    assert_eq!(topic.topic_id, id);
    assert_eq!(raw.store(&name, 3, &plain(&["new"])), 0);
    assert_eq!(values(&raw.fetch(&name, 1, 0, &Fetch::default())), ["old"]);
    assert_eq!(values(&raw.fetch(&name, 3, 0, &Fetch::default())), ["new"]);
}

fn does_not_shrink(cluster: &Cluster) {
    let name = cluster.unique_prefix("shrinks");
    cluster.create_topic(&name, 3);
    let mut raw = Raw::connect(cluster);
    for count in [2, 3, 0, -1] {
        assert_eq!(
            grow(&mut raw, &name, count),
            Some(ResponseError::InvalidPartitions),
            "{count}"
        );
    }
    assert_eq!(described(&mut raw, &name).partitions.len(), 3);
    assert_eq!(
        grow(&mut raw, "nobody-made-this", 3),
        Some(ResponseError::UnknownTopicOrPartition)
    );
}

fn librdkafka_admin(cluster: &Cluster) {
    let name = cluster.unique_prefix("admin");
    let admin: AdminClient<DefaultClientContext> = cluster.client_config().create().expect("an admin client");
    let options = AdminOptions::new();
    let topic = [NewTopic::new(&name, 2, TopicReplication::Fixed(1))];
    let made = || {
        block_on(admin.create_topics(&topic, &options))
            .expect("an answer")
            .remove(0)
    };
    assert_eq!(made(), Ok(name.clone()));
    assert_eq!(made(), Err((name.clone(), RDKafkaErrorCode::TopicAlreadyExists)));
    let grown = |count| {
        let wanted = NewPartitions::new(&name, count);
        block_on(admin.create_partitions(&[wanted], &options))
            .expect("an answer")
            .remove(0)
    };
    assert_eq!(grown(3), Ok(name.clone()));
    assert_eq!(grown(2), Err((name.clone(), RDKafkaErrorCode::InvalidPartitions)));
    let deleted = || {
        block_on(admin.delete_topics(&[&name], &options))
            .expect("an answer")
            .remove(0)
    };
    assert_eq!(deleted(), Ok(name.clone()));
    wait_gone(&mut Raw::connect(cluster), &name);
    assert_eq!(
        deleted(),
        Err((name.clone(), RDKafkaErrorCode::UnknownTopicOrPartition))
    );
}
