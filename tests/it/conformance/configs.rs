//! Topics' settings: described, altered, refused.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest, MetadataRequest};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;

use super::Check;
use super::raw::{Raw, error, text};
use crate::support::process::wait_until;
use crate::support::{Cluster, block_on};

const AREA: &str = "Settings";

/// Kinds of resources, sources of values and ways to alter, as the protocol numbers them.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const FROM_TOPIC: i8 = 1;
const FROM_DEFAULT: i8 = 5;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(super) const CHECKS: &[Check] = &[
    Check {
        area: AREA,
        name: "a new topic's settings are the defaults, and said to be",
        run: defaults,
    },
    Check {
        area: AREA,
        name: "a setting that was given is described with its source and the default that it overrides",
        run: given_settings,
    },
    Check {
        area: AREA,
        name: "only the settings that are asked for are described; an unknown topic is refused",
        run: asked_settings,
    },
    Check {
        area: AREA,
        name: "one setting is altered and reset, and the others stay",
        run: altered_one_by_one,
    },
    Check {
        area: AREA,
        name: "a list is appended to and taken from",
        run: altered_list,
    },
    Check {
        area: AREA,
        name: "an unknown setting or a bad value is refused, with nothing altered",
        run: refused_alterations,
    },
    Check {
        area: AREA,
        name: "a validated alteration alters nothing",
        run: validated_alteration,
    },
    Check {
        area: AREA,
        name: "librdkafka describes a topic, and its alteration replaces all settings",
        run: librdkafka_configs,
    },
    Check {
        area: AREA,
        name: "the broker's own settings are described",
        run: broker_settings,
    },
];

pub(super) fn topic_with(cluster: &Cluster, test: &str, settings: &[(&str, &str)]) -> String {
    let name = cluster.unique_prefix(test);
    let admin: AdminClient<DefaultClientContext> = cluster.client_config().create().expect("an admin client");
    let topic = NewTopic::new(&name, 1, TopicReplication::Fixed(-1));
    let topic = settings
        .iter()
        .fold(topic, |topic, (key, value)| topic.set(key, value));
    let made = block_on(admin.create_topics(&[topic], &AdminOptions::new())).expect("an answer");
    assert_eq!(made, [Ok(name.clone())]);
    name
}

fn describe_as(raw: &mut Raw, kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()));
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true);
    raw.ask(4, &request).results.remove(0)
}

/// Returns one setting of a topic.
fn setting(raw: &mut Raw, topic: &str, key: &str) -> DescribeConfigsResourceResult {
    let answer = describe_as(raw, TOPIC, topic, None);
    assert_eq!(error(answer.error_code), None);
    let found = answer.configs.into_iter().find(|setting| &*setting.name == key);
    found.unwrap_or_else(|| panic!("{key} is not described"))
}

/// Returns a setting's value once it is this: what was altered takes a moment to show.
fn wait_setting(raw: &mut Raw, topic: &str, key: &str, value: &str, source: i8) {
    wait_until(&format!("{key} of {topic} is {value}"), || {
        let found = setting(raw, topic, key);
        found.value.as_deref() == Some(value) && found.config_source == source
    });
}

fn defaults(cluster: &Cluster) {
    let topic = topic_with(cluster, "defaults", &[]);
    let mut raw = Raw::connect(cluster);
    let expected = [
        ("cleanup.policy", "delete"),
        ("compression.type", "producer"),
        ("max.message.bytes", "1048588"),
        ("message.timestamp.type", "CreateTime"),
        ("retention.ms", "604800000"),
        ("retention.bytes", "-1"),
        ("segment.bytes", "1073741824"),
    ];
    wait_setting(&mut raw, &topic, "cleanup.policy", "delete", FROM_DEFAULT);
    for (key, value) in expected {
        let found = setting(&mut raw, &topic, key);
        assert_eq!(found.value.as_deref(), Some(value), "{key}");
        assert_eq!(found.config_source, FROM_DEFAULT, "{key}");
        assert!(!found.is_sensitive && !found.read_only, "{key}");
    }
    assert_eq!(
        setting(&mut raw, &topic, "min.insync.replicas").value.as_deref(),
        Some("1")
    );
}

fn given_settings(cluster: &Cluster) {
    let given = [
        ("retention.ms", "1000"),
        ("message.timestamp.type", "LogAppendTime"),
    ];
    let topic = topic_with(cluster, "given", &given);
    let mut raw = Raw::connect(cluster);
    wait_setting(&mut raw, &topic, "retention.ms", "1000", FROM_TOPIC);
    let found = setting(&mut raw, &topic, "message.timestamp.type");
    assert_eq!(
        (found.value.as_deref(), found.config_source),
        (Some("LogAppendTime"), FROM_TOPIC)
    );
    let synonyms: Vec<_> = found
        .synonyms
        .iter()
        .map(|synonym| (&*synonym.name, synonym.value.as_deref(), synonym.source))
        .collect();
    assert_eq!(
        synonyms,
        [
            ("message.timestamp.type", Some("LogAppendTime"), FROM_TOPIC),
            ("log.message.timestamp.type", Some("CreateTime"), FROM_DEFAULT)
        ]
    );
    assert_eq!(
        setting(&mut raw, &topic, "cleanup.policy").config_source,
        FROM_DEFAULT,
        "what was not given"
    );
}

fn asked_settings(cluster: &Cluster) {
    let topic = topic_with(cluster, "asked", &[]);
    let mut raw = Raw::connect(cluster);
    wait_setting(&mut raw, &topic, "cleanup.policy", "delete", FROM_DEFAULT);
    let answer = describe_as(
        &mut raw,
        TOPIC,
        &topic,
        Some(&["retention.ms", "cleanup.policy", "no.such"]),
    );
    assert_eq!(error(answer.error_code), None);
    let mut names: Vec<_> = answer.configs.iter().map(|setting| &*setting.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["cleanup.policy", "retention.ms"]);
    assert_eq!((answer.resource_type, &*answer.resource_name), (TOPIC, &*topic));

    let unknown = describe_as(&mut raw, TOPIC, "nobody-made-this", None);
    assert_eq!(
        error(unknown.error_code),
        Some(ResponseError::UnknownTopicOrPartition)
    );
}

fn alter(
    raw: &mut Raw,
    topic: &str,
    changes: &[(&str, i8, Option<&str>)],
    validate_only: bool,
) -> Option<ResponseError> {
    let change = |(key, way, value): &(&str, i8, Option<&str>)| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(*way)
            .with_value(value.map(text))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(changes.iter().map(change).collect());
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(validate_only);
    error(raw.ask(1, &request).responses.remove(0).error_code)
}

fn altered_one_by_one(cluster: &Cluster) {
    let topic = topic_with(cluster, "alter", &[("retention.ms", "1000")]);
    let mut raw = Raw::connect(cluster);
    assert_eq!(
        alter(
            &mut raw,
            &topic,
            &[("max.message.bytes", SET, Some("2000"))],
            false
        ),
        None
    );
    wait_setting(&mut raw, &topic, "max.message.bytes", "2000", FROM_TOPIC);
    wait_setting(&mut raw, &topic, "retention.ms", "1000", FROM_TOPIC);
    assert_eq!(
        alter(&mut raw, &topic, &[("max.message.bytes", DELETE, None)], false),
        None
    );
    wait_setting(&mut raw, &topic, "max.message.bytes", "1048588", FROM_DEFAULT);
    wait_setting(&mut raw, &topic, "retention.ms", "1000", FROM_TOPIC);
}

fn altered_list(cluster: &Cluster) {
    let topic = topic_with(cluster, "list", &[]);
    let mut raw = Raw::connect(cluster);
    wait_setting(&mut raw, &topic, "cleanup.policy", "delete", FROM_DEFAULT);
    let append = [("cleanup.policy", APPEND, Some("compact"))];
    assert_eq!(alter(&mut raw, &topic, &append, false), None);
    wait_setting(&mut raw, &topic, "cleanup.policy", "delete,compact", FROM_TOPIC);
    let subtract = [("cleanup.policy", SUBTRACT, Some("delete"))];
    assert_eq!(alter(&mut raw, &topic, &subtract, false), None);
    wait_setting(&mut raw, &topic, "cleanup.policy", "compact", FROM_TOPIC);
    for way in [APPEND, SUBTRACT] {
        assert_eq!(
            alter(&mut raw, &topic, &[("retention.ms", way, Some("1"))], false),
            Some(ResponseError::InvalidConfig),
            "not a list"
        );
    }
    wait_setting(&mut raw, &topic, "cleanup.policy", "compact", FROM_TOPIC);
}

fn refused_alterations(cluster: &Cluster) {
    let topic = topic_with(cluster, "refused", &[]);
    let mut raw = Raw::connect(cluster);
    let good = ("retention.ms", SET, Some("5000"));
    for bad in [
        ("no.such.setting", SET, Some("1")),
        ("max.message.bytes", SET, Some("many")),
        ("max.message.bytes", SET, Some("-1")),
        ("cleanup.policy", SET, Some("burn")),
        ("message.timestamp.type", SET, Some("Never")),
    ] {
        assert_eq!(
            alter(&mut raw, &topic, &[good, bad], false),
            Some(ResponseError::InvalidConfig),
            "{bad:?}"
        );
    }
    assert_eq!(
        alter(&mut raw, "nobody-made-this", &[good], false),
        Some(ResponseError::UnknownTopicOrPartition)
    );
    assert_eq!(
        alter(&mut raw, &topic, &[good, good], false),
        Some(ResponseError::InvalidRequest),
        "the same setting twice"
    );
    // Alterations show in order: had one of those been taken, it would show by now.
    assert_eq!(
        alter(
            &mut raw,
            &topic,
            &[("segment.bytes", SET, Some("1048576"))],
            false
        ),
        None
    );
    wait_setting(&mut raw, &topic, "segment.bytes", "1048576", FROM_TOPIC);
    wait_setting(&mut raw, &topic, "retention.ms", "604800000", FROM_DEFAULT);
}

fn validated_alteration(cluster: &Cluster) {
    let topic = topic_with(cluster, "validated", &[]);
    let mut raw = Raw::connect(cluster);
    assert_eq!(
        alter(&mut raw, &topic, &[("retention.ms", SET, Some("5000"))], true),
        None
    );
    assert_eq!(
        alter(&mut raw, &topic, &[("retention.ms", SET, Some("soon"))], true),
        Some(ResponseError::InvalidConfig)
    );
    assert_eq!(
        alter(
            &mut raw,
            &topic,
            &[("segment.bytes", SET, Some("1048576"))],
            false
        ),
        None
    );
    wait_setting(&mut raw, &topic, "segment.bytes", "1048576", FROM_TOPIC);
    wait_setting(&mut raw, &topic, "retention.ms", "604800000", FROM_DEFAULT);
}

fn librdkafka_configs(cluster: &Cluster) {
    let topic = topic_with(cluster, "librdkafka", &[("retention.ms", "1000")]);
    let admin: AdminClient<DefaultClientContext> = cluster.client_config().create().expect("an admin client");
    let options = AdminOptions::new();
    let specifier = ResourceSpecifier::Topic(&topic);
    let found = |key: &str| {
        let mut answers = block_on(admin.describe_configs([&specifier], &options)).expect("an answer");
        let resource = answers.remove(0).expect("the topic is known");
        let entry = resource.entries.into_iter().find(|entry| entry.name == key);
        let entry = entry.unwrap_or_else(|| panic!("{key} is not described"));
        (entry.value.unwrap_or_default(), entry.source, entry.is_default)
    };
    wait_until("the setting shows", || {
        found("retention.ms") == ("1000".to_owned(), ConfigSource::DynamicTopic, false)
    });
    assert_eq!(
        found("cleanup.policy"),
        ("delete".to_owned(), ConfigSource::Default, true)
    );
    let change = AlterConfig::new(specifier).set("max.message.bytes", "2000");
    let altered = block_on(admin.alter_configs([&change], &options)).expect("an answer");
    assert!(altered[0].is_ok(), "{altered:?}");
    wait_until("the alteration shows", || {
        found("max.message.bytes") == ("2000".to_owned(), ConfigSource::DynamicTopic, false)
    });
    assert_eq!(
        found("retention.ms"),
        ("604800000".to_owned(), ConfigSource::Default, true)
    );
}

fn broker_settings(cluster: &Cluster) {
    let mut raw = Raw::connect(cluster);
    let metadata = raw.ask(12, &MetadataRequest::default().with_topics(Some(Vec::new())));
    let broker = metadata.brokers[0].node_id.0.to_string();
    let answer = describe_as(&mut raw, BROKER, &broker, None);
    assert_eq!(error(answer.error_code), None);
    let value = |key: &str| {
        let found = answer.configs.iter().find(|setting| &*setting.name == key);
        found
            .unwrap_or_else(|| panic!("{key} is not described"))
            .value
            .as_deref()
    };
    assert_eq!(value("auto.create.topics.enable"), Some("false"));
    assert_eq!(value("message.max.bytes"), Some("1048588"));
    assert_eq!(value("offset.metadata.max.bytes"), Some("4096"));
    assert_eq!(value("group.min.session.timeout.ms"), Some("6000"));
    assert_eq!(value("group.max.session.timeout.ms"), Some("1800000"));
    assert_eq!(value("transaction.max.timeout.ms"), Some("900000"));
    assert_eq!(value("socket.request.max.bytes"), Some("104857600"));
    assert_eq!(value("default.replication.factor"), Some("1"));
    assert_eq!(value("num.partitions"), Some("1"));
    let other = describe_as(&mut raw, BROKER, "4711", None);
    assert_eq!(error(other.error_code), Some(ResponseError::InvalidRequest));
}
