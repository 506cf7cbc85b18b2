//! Topic settings: which there are, what they may be, how they are described and changed.
//!
//! Names, defaults and types are Apache Kafka 4.3's. A setting whose effect this broker does not have is either refused
//! in every value but the one it acts by, or changes nothing here (segments, replication); the table says which.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse as Altered;
use kafka_protocol::messages::create_topics_response::CreatableTopicConfigs;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::super::batch::Rules;
use super::super::bounded;
use super::super::clock::Now;
use super::super::log::TimeOf;
use super::super::state::{NODE_ID, State};
use super::text;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Where a value comes from, as `DescribeConfigs` numbers it.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// What a setting may be.
#[derive(Clone, Copy)]
enum Kind {
    Bool,
    Int {
        min: i64,
    },
    Long {
        min: i64,
    },
    /// One of these; others that Kafka knows are refused, since they would change nothing.
    OneOf(&'static [&'static str]),
    /// Some of these, with commas between.
    ListOf(&'static [&'static str]),
}

struct Known {
    name: &'static str,
    /// What a broker's own settings call it.
    synonym: &'static str,
    default: &'static str,
    kind: Kind,
}

const fn known(name: &'static str, synonym: &'static str, default: &'static str, kind: Kind) -> Known {
    Known {
        name,
        synonym,
        default,
        kind,
    }
}

const LONG: Kind = Kind::Long { min: i64::MIN };
const LONG_MAX: &str = "9223372036854775807";

/// In the order of their names.
const KNOWN: &[Known] = &[
    known(
        "cleanup.policy",
        "log.cleanup.policy",
        "delete",
        Kind::ListOf(&["delete", "compact"]),
    ),
    known(
        "compression.type",
        "compression.type",
        "producer",
        Kind::OneOf(&["producer"]),
    ),
    known(
        "delete.retention.ms",
        "log.cleaner.delete.retention.ms",
        "86400000",
        Kind::Long { min: 0 },
    ),
    known(
        "file.delete.delay.ms",
        "log.segment.delete.delay.ms",
        "60000",
        Kind::Long { min: 0 },
    ),
    known(
        "flush.messages",
        "log.flush.interval.messages",
        LONG_MAX,
        Kind::Long { min: 1 },
    ),
    known(
        "flush.ms",
        "log.flush.interval.ms",
        LONG_MAX,
        Kind::Long { min: 0 },
    ),
    known(
        "index.interval.bytes",
        "log.index.interval.bytes",
        "4096",
        Kind::Int { min: 0 },
    ),
    known(
        "max.compaction.lag.ms",
        "log.cleaner.max.compaction.lag.ms",
        LONG_MAX,
        Kind::Long { min: 1 },
    ),
    known(
        "max.message.bytes",
        "message.max.bytes",
        "1048588",
        Kind::Int { min: 0 },
    ),
    known(
        "message.timestamp.after.max.ms",
        "log.message.timestamp.after.max.ms",
        "3600000",
        Kind::Long { min: 0 },
    ),
    known(
        "message.timestamp.before.max.ms",
        "log.message.timestamp.before.max.ms",
        LONG_MAX,
        Kind::Long { min: 0 },
    ),
    known(
        "message.timestamp.type",
        "log.message.timestamp.type",
        "CreateTime",
        Kind::OneOf(&["CreateTime", "LogAppendTime"]),
    ),
    known(
        "min.compaction.lag.ms",
        "log.cleaner.min.compaction.lag.ms",
        "0",
        Kind::Long { min: 0 },
    ),
    known(
        "min.insync.replicas",
        "min.insync.replicas",
        "1",
        Kind::Int { min: 1 },
    ),
    known("preallocate", "log.preallocate", "false", Kind::Bool),
    known("retention.bytes", "log.retention.bytes", "-1", LONG),
    known(
        "retention.ms",
        "log.retention.ms",
        "604800000",
        Kind::Long { min: -1 },
    ),
    known(
        "segment.bytes",
        "log.segment.bytes",
        "1073741824",
        Kind::Int { min: 14 },
    ),
    known(
        "segment.index.bytes",
        "log.index.size.max.bytes",
        "10485760",
        Kind::Int { min: 4 },
    ),
    known(
        "segment.jitter.ms",
        "log.roll.jitter.ms",
        "0",
        Kind::Long { min: 0 },
    ),
    known("segment.ms", "log.roll.ms", "604800000", Kind::Long { min: 1 }),
    known(
        "unclean.leader.election.enable",
        "unclean.leader.election.enable",
        "false",
        Kind::Bool,
    ),
];

/// What the one node says of itself.
const OF_BROKER: &[(&str, &str)] = &[
    ("auto.create.topics.enable", "false"),
    ("default.replication.factor", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.max.session.timeout.ms", "1800000"),
    ("group.min.session.timeout.ms", "6000"),
    ("message.max.bytes", "1048588"),
    ("num.partitions", "1"),
    ("offset.metadata.max.bytes", "4096"),
    ("socket.request.max.bytes", "104857600"),
    ("transaction.max.timeout.ms", "900000"),
];

/// A topic's settings that differ from the defaults.
#[derive(Clone, Default)]
pub(in super::super) struct Configs(BTreeMap<&'static str, String>);

/// Why a setting is not taken: a sentence for whoever set it.
pub(super) struct Unfit(pub(super) String);

impl Configs {
    /// Sets `name`, or takes it back to its default with no value.
    pub(super) fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), Unfit> {
        let known = find(name).ok_or_else(|| Unfit(format!("Unknown topic config name: {name}")))?;
        match value {
            None => {
                self.0.remove(known.name);
            }
            Some(value) => {
                check(known, value)?;
                self.0.insert(known.name, value.to_owned());
            }
        }
        Ok(())
    }

    fn value(&self, known: &Known) -> String {
        self.0
            .get(known.name)
            .cloned()
            .unwrap_or_else(|| known.default.to_owned())
    }

    fn number(&self, name: &str) -> i64 {
        let value = find(name).map(|known| self.value(known));
        // What is set was checked to be one.
        value.and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    pub(super) fn max_message_bytes(&self) -> usize {
        usize::try_from(self.number("max.message.bytes")).unwrap_or(0)
    }

    /// What records need that arrive now.
    pub(super) fn rules(&self, now: Now) -> Rules {
        let oldest = now
            .wall_ms
            .saturating_sub(self.number("message.timestamp.before.max.ms"));
        let newest = now
            .wall_ms
            .saturating_add(self.number("message.timestamp.after.max.ms"));
        Rules {
            times: (self.time_of() == TimeOf::Create).then_some(oldest..=newest),
            keyed: self.has_policy("compact"),
        }
    }

    pub(super) fn has_policy(&self, policy: &str) -> bool {
        let policies = self.0.get("cleanup.policy").map_or("delete", String::as_str);
        items(policies).any(|item| item == policy)
    }

    /// How old records may become; no topic is ever compacted, and one that is only to be compacted keeps all.
    pub(super) fn retention_ms(&self) -> Option<i64> {
        if !self.has_policy("delete") {
            return None;
        }
        Some(self.number("retention.ms")).filter(|age| *age >= 0)
    }

    pub(super) fn retention_bytes(&self) -> Option<usize> {
        if !self.has_policy("delete") {
            return None;
        }
        usize::try_from(self.number("retention.bytes")).ok()
    }

    pub(super) fn time_of(&self) -> TimeOf {
        match self.0.get("message.timestamp.type").map(String::as_str) {
            Some("LogAppendTime") => TimeOf::Append,
            _ => TimeOf::Create,
        }
    }

    /// Lists every setting, for the answer to a creation.
    pub(super) fn listed(&self) -> Vec<CreatableTopicConfigs> {
        let listed = KNOWN.iter().map(|known| {
            CreatableTopicConfigs::default()
                .with_name(StrBytes::from_static_str(known.name))
                .with_value(Some(text(self.value(known))))
                .with_config_source(self.source(known))
        });
        listed.collect()
    }

    fn source(&self, known: &Known) -> i8 {
        if self.0.contains_key(known.name) {
            SOURCE_TOPIC
        } else {
            SOURCE_DEFAULT
        }
    }

    fn described(&self, known: &Known, synonyms: bool) -> DescribeConfigsResourceResult {
        let own = self.0.get(known.name);
        let own = own.map(|value| (known.name, text(value.clone()), SOURCE_TOPIC));
        let default = StrBytes::from_static_str(known.default);
        let default = (known.synonym, default, SOURCE_DEFAULT);
        let all = own.into_iter().chain([default]).map(|(name, value, source)| {
            DescribeConfigsSynonym::default()
                .with_name(StrBytes::from_static_str(name))
                .with_value(Some(value))
                .with_source(source)
        });
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_static_str(known.name))
            .with_value(Some(text(self.value(known))))
            .with_config_source(self.source(known))
            .with_config_type(match known.kind {
                Kind::Bool => 1,
                Kind::OneOf(_) => 2,
                Kind::ListOf(_) => 7,
                Kind::Int { .. } => 3,
                Kind::Long { .. } => 5,
            })
            .with_synonyms(if synonyms { all.collect() } else { Vec::new() })
    }
}

fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

fn check(known: &Known, value: &str) -> Result<(), Unfit> {
    let name = known.name;
    let number = |min: i64, max: i64| {
        let range = |number: &i64| (min..=max).contains(number);
        value
            .trim()
            .parse::<i64>()
            .ok()
            .filter(range)
            .map(|_| ())
            .ok_or_else(|| {
                Unfit(format!(
                    "Invalid value {value} for configuration {name}: a number from {min} to {max} is needed"
                ))
            })
    };
    match known.kind {
        Kind::Bool if matches!(value, "true" | "false") => Ok(()),
        Kind::Bool => Err(Unfit(format!(
            "Invalid value {value} for configuration {name}: true or false"
        ))),
        Kind::Int { min } => number(min, i64::from(i32::MAX)),
        Kind::Long { min } => number(min, i64::MAX),
        Kind::OneOf(values) if values.contains(&value) => Ok(()),
        Kind::ListOf(values) if items(value).all(|item| values.contains(&item)) => Ok(()),
        Kind::OneOf(values) | Kind::ListOf(values) => Err(Unfit(format!(
            "Invalid value {value} for configuration {name}: the in-process broker takes {}",
            values.join(" or ")
        ))),
    }
}

/// The items of a list.
fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Describes topics and the node.
pub(in super::super) fn describe_configs(
    state: &State,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let synonyms = request.include_synonyms;
    let asked = |resource: &DescribeConfigsResource| {
        let keys = resource.configuration_keys.clone();
        (resource.resource_type, resource.resource_name.clone(), keys)
    };
    let results = bounded::once(request.resources, asked).map(|resource| {
        let described = describe(state, &resource, synonyms);
        let answer = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match described {
            Ok(configs) => answer.with_configs(configs),
            Err((error, message)) => answer
                .with_error_code(error.code())
                .with_error_message(Some(text(message))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe(
    state: &State,
    resource: &DescribeConfigsResource,
    synonyms: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, (ResponseError, String)> {
    let asked = |name: &str| {
        let keys = resource.configuration_keys.as_ref();
        keys.is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| &**key == name))
    };
    let name = &resource.resource_name;
    match resource.resource_type {
        TOPIC => {
            let topic = state.topics.topic(name).ok_or_else(|| unknown(name))?;
            let known = KNOWN.iter().filter(|known| asked(known.name));
            Ok(known
                .map(|known| topic.configs.described(known, synonyms))
                .collect())
        }
        BROKER if **name == NODE_ID.0.to_string() => {
            let known = OF_BROKER.iter().filter(|(name, _)| asked(name));
            let described = known.map(|(name, value)| {
                DescribeConfigsResourceResult::default()
                    .with_name(StrBytes::from_static_str(name))
                    .with_value(Some(StrBytes::from_static_str(value)))
                    .with_read_only(true)
                    .with_config_source(SOURCE_STATIC_BROKER)
            });
            Ok(described.collect())
        }
        BROKER => Err((
            ResponseError::InvalidRequest,
            format!(
                "Unexpected broker id, expected {}, but received {name}",
                NODE_ID.0
            ),
        )),
        other => Err((
            ResponseError::InvalidRequest,
            format!("the in-process broker has no settings of resource type {other}"),
        )),
    }
}

fn unknown(topic: &str) -> (ResponseError, String) {
    (
        ResponseError::UnknownTopicOrPartition,
        format!("The topic '{topic}' does not exist."),
    )
}

/// One change of one setting.
struct Change {
    name: StrBytes,
    /// 0 sets, 1 takes back, 2 adds to a list, 3 takes from it.
    operation: i8,
    value: Option<StrBytes>,
}

impl Change {
    /// Returns what the setting becomes; nothing takes it back to its default.
    fn value_on(&self, configs: &Configs) -> Result<Option<String>, (ResponseError, String)> {
        let name = &*self.name;
        let value = match (self.operation, self.value.as_deref()) {
            (1, _) => return Ok(None),
            (_, None) => {
                let message = format!("Null value not supported for : {name}");
                return Err((ResponseError::InvalidRequest, message));
            }
            (0, Some(value)) => return Ok(Some(value.to_owned())),
            (_, Some(value)) => value,
        };
        let list = find(name).filter(|known| matches!(known.kind, Kind::ListOf(_)));
        let list = list.ok_or_else(|| {
            let message = format!("Can't append to or subtract from {name}: it is no list");
            (ResponseError::InvalidConfig, message)
        })?;
        let now = configs.value(list);
        let changed: Vec<_> = match self.operation {
            2 => items(&now)
                .chain(items(value).filter(|item| !items(&now).any(|one| one == *item)))
                .collect(),
            3 => items(&now)
                .filter(|one| !items(value).any(|item| item == *one))
                .collect(),
            other => {
                let message = format!("Unknown operation {other} on {name}");
                return Err((ResponseError::InvalidRequest, message));
            }
        };
        Ok(Some(changed.join(",")))
    }
}

/// Changes single settings.
pub(in super::super) fn incremental_alter_configs(
    state: &mut State,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let validate_only = request.validate_only;
    let responses = request.resources.into_iter().map(|resource| {
        let changes = resource.configs.into_iter().map(|config| Change {
            name: config.name,
            operation: config.config_operation,
            value: config.value,
        });
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        let (code, message) = outcome(alter(state, kind, name, changes, Others::Kept, validate_only));
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(kind)
            .with_resource_name(resource.resource_name)
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

/// Replaces all settings.
pub(in super::super) fn alter_configs(
    state: &mut State,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let validate_only = request.validate_only;
    let responses = request.resources.into_iter().map(|resource| {
        let changes = resource.configs.into_iter().map(|config| Change {
            name: config.name,
            operation: 0,
            value: config.value,
        });
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        let (code, message) = outcome(alter(state, kind, name, changes, Others::Reset, validate_only));
        Altered::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(kind)
            .with_resource_name(resource.resource_name)
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

fn outcome(result: Result<(), (ResponseError, String)>) -> (i16, Option<StrBytes>) {
    match result {
        Ok(()) => (0, None),
        Err((error, message)) => (error.code(), Some(text(message))),
    }
}

/// What happens to the settings that a change does not name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    Kept,
    Reset,
}

fn alter(
    state: &mut State,
    kind: i8,
    name: &str,
    changes: impl Iterator<Item = Change>,
    others: Others,
    validate_only: bool,
) -> Result<(), (ResponseError, String)> {
    if kind != TOPIC {
        let message = "the in-process broker's own settings cannot be changed, only its topics'";
        return Err((ResponseError::InvalidRequest, message.into()));
    }
    let topic = state.topics.by_name.get_mut(name).ok_or_else(|| unknown(name))?;
    let mut configs = match others {
        Others::Kept => topic.configs.clone(),
        Others::Reset => Configs::default(),
    };
    let mut changed = BTreeSet::new();
    for change in changes {
        if !changed.insert(change.name.clone()) {
            let message = format!("Error due to duplicate config keys: {}", &*change.name);
            return Err((ResponseError::InvalidRequest, message));
        }
        let value = change.value_on(&configs)?;
        configs
            .set(&change.name, value.as_deref())
            .map_err(|unfit| (ResponseError::InvalidConfig, unfit.0))?;
    }
    if !validate_only {
        topic.configs = configs;
    }
    Ok(())
}
