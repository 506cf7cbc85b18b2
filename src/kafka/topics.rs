//! Topics as they are, as they should be, and how to make them so.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::Serialize;

use super::reader::is_away;
use super::{Settings, TopicNames};
use crate::lifecycle::Instant;

/// Where a cluster has this many brokers, one lost copy must not stop writes nor lose what was acknowledged.
const BROKERS_FOR_SAFETY: usize = 3;

/// A topic as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name, with the prefix.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// Copies of each partition; `None`: what the brokers give by default.
    pub replication: Option<i32>,
    /// Copies that must have a record before it is acknowledged; `None`: two, or as many as there are.
    pub min_insync_replicas: Option<i32>,
    /// How long records stay.
    pub retention: Duration,
    /// The largest record that must fit; `None`: whatever the brokers take.
    pub record_bytes_max: Option<usize>,
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// How many partitions.
    pub partitions: i32,
    /// The fewest copies that a partition has.
    pub replication: i32,
    /// Its settings in force, by name.
    pub settings: BTreeMap<String, String>,
}

/// The cluster, as far as these topics are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// How many brokers are up.
    pub brokers: usize,
    /// What was asked for, by name; `None` where there is no such topic.
    pub topics: BTreeMap<String, Option<Described>>,
}

/// Something that differs, and how to put it right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The topic.
    pub topic: String,
    /// What differs: `missing`, `partitions`, `replication`, or the name of a topic setting.
    pub what: String,
    /// What it is; `None` when there is nothing.
    pub found: Option<String>,
    /// What it should be.
    pub wanted: String,
    /// Why it matters.
    pub why: &'static str,
    /// The command, or what to do where no one command does it.
    pub fix: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic, what, wanted, ..
        } = self;
        match &self.found {
            Some(found) => write!(f, "{topic}: {what} is {found}, not {wanted} ({})", self.why),
            None => write!(f, "{topic}: {what} ({})", self.why),
        }
    }
}

/// Why topics could not be described or created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No broker answered.
    #[error("no answer from the brokers at {brokers} within {} s: are they up, and is kafka.brokers right?", .waited.as_secs())]
    Unreachable {
        /// The bootstrap servers.
        brokers: String,
        /// How long we waited.
        waited: Duration,
        /// The client's error.
        source: KafkaError,
    },
    /// The brokers refused.
    #[error("{attempted} was refused: {code}")]
    Refused {
        /// What was attempted.
        attempted: String,
        /// The brokers' answer.
        code: RDKafkaErrorCode,
    },
    /// The client failed.
    #[error("{attempted} failed")]
    Failed {
        /// What was attempted.
        attempted: String,
        /// The client's error.
        source: KafkaError,
    },
    /// Topics were created, but did not become ready.
    #[error("the topics were created, but not all of their partitions have a leader after {} s", .waited.as_secs())]
    NotReady {
        /// How long we waited.
        waited: Duration,
    },
    /// A topic that a role needs is missing, or its partitions do not match.
    #[error("{0}")]
    Unfit(String),
}

/// What [`create`] did with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was not there.
    Created,
    /// It was there, and was left as it is.
    Existed,
}

/// Talks to the brokers about topics.
pub struct Admin {
    client: Arc<AdminClient<DefaultClientContext>>,
    brokers: String,
    timeout: Duration,
}

impl Admin {
    /// Makes a client; `timeout` bounds each answer.
    ///
    /// # Errors
    ///
    /// The client's settings are refused. Brokers that are away show at the first question.
    pub fn new(settings: &Settings, timeout: Duration) -> Result<Self, Error> {
        let client = settings
            .client_config()
            .create()
            .map_err(|source| Error::Failed {
                attempted: "creating a Kafka client".into(),
                source,
            })?;
        Ok(Self {
            client: Arc::new(client),
            brokers: settings.brokers.clone(),
            timeout,
        })
    }

    /// Describes topics: partitions, copies, settings in force.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`], [`Error::Refused`], [`Error::Failed`].
    pub async fn describe(&self, names: &[&str]) -> Result<Cluster, Error> {
        let (brokers, mut topics) = self.shapes(names).await?;
        let existing: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| topics.get(*name).is_some_and(Option::is_some))
            .collect();
        let asked: Vec<ResourceSpecifier<'_>> = existing
            .iter()
            .map(|name| ResourceSpecifier::Topic(name))
            .collect();
        if asked.is_empty() {
            return Ok(Cluster { brokers, topics });
        }
        let answers = self
            .client
            .describe_configs(asked.iter(), &self.options())
            .await
            .map_err(|source| self.failed("describing topics", source))?;
        for (name, answer) in existing.into_iter().zip(answers) {
            let resource = answer.map_err(|code| refused(&format!("describing {name}"), code))?;
            let settings = resource.entries.into_iter();
            let settings = settings.filter_map(|entry| Some((entry.name, entry.value?)));
            if let Some(Some(topic)) = topics.get_mut(name) {
                topic.settings = settings.collect();
            }
        }
        Ok(Cluster { brokers, topics })
    }

    /// Returns the partition counts of the events and refresh topics, which are equal: what a processor checks
    /// before it starts.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] with the command that helps; the other variants when the brokers could not be asked.
    pub async fn check_fit(&self, names: &TopicNames) -> Result<i32, Error> {
        let wanted = [
            names.events.as_str(),
            names.refresh.as_str(),
            names.dead_letters.as_str(),
        ];
        let (_, topics) = self.shapes(&wanted).await?;
        fit(names, &topics).map_err(Error::Unfit)
    }

    /// Creates the topics that are missing and leaves the others as they are; returns when all can be used.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`], [`Error::Refused`], [`Error::NotReady`], [`Error::Failed`].
    pub async fn create(&self, wanted: &[Wanted]) -> Result<Vec<Outcome>, Error> {
        let settings: Vec<Vec<(&str, String)>> = wanted.iter().map(settings_of).collect();
        let new: Vec<NewTopic<'_>> = wanted
            .iter()
            .zip(&settings)
            .map(|(topic, settings)| {
                let replication = TopicReplication::Fixed(topic.replication.unwrap_or(-1));
                let new = NewTopic::new(&topic.name, topic.partitions, replication);
                settings.iter().fold(new, |new, (key, value)| new.set(key, value))
            })
            .collect();
        let answers = self
            .client
            .create_topics(new.iter(), &self.options())
            .await
            .map_err(|source| self.failed("creating topics", source))?;
        let mut outcomes = Vec::new();
        for answer in answers {
            outcomes.push(match answer {
                Ok(_) => Outcome::Created,
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => Outcome::Existed,
                Err((name, code)) => return Err(refused(&format!("creating {name}"), code)),
            });
        }
        self.wait_until_ready(wanted).await?;
        self.raise_in_sync(wanted, &outcomes).await?;
        Ok(outcomes)
    }

    /// Raises `min.insync.replicas` to two on new topics where the brokers' default of copies allows it.
    ///
    /// How many copies there are by default is known only afterwards, and the brokers' default for what must be in
    /// sync is one: a record would be acknowledged by one broker alone.
    async fn raise_in_sync(&self, wanted: &[Wanted], outcomes: &[Outcome]) -> Result<(), Error> {
        let unsaid = |topic: &Wanted| topic.replication.is_none() && topic.min_insync_replicas.is_none();
        let new: Vec<&Wanted> = wanted
            .iter()
            .zip(outcomes)
            .filter(|(topic, outcome)| unsaid(topic) && **outcome == Outcome::Created)
            .map(|(topic, _)| topic)
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = new.iter().map(|topic| topic.name.as_str()).collect();
        let cluster = self.describe(&names).await?;
        let low = |topic: &&Wanted| {
            let found = cluster.topics.get(&topic.name).and_then(Option::as_ref);
            found.is_some_and(|found| {
                let in_sync = found.settings.get("min.insync.replicas");
                found.replication >= 2 && in_sync.is_some_and(|in_sync| in_sync == "1")
            })
        };
        let low: Vec<&Wanted> = new.into_iter().filter(low).collect();
        // This request replaces all settings of a topic, hence those it was created with once more.
        let settings: Vec<Vec<(&str, String)>> = low.iter().map(|topic| settings_of(topic)).collect();
        let altered: Vec<AlterConfig<'_>> = low
            .iter()
            .zip(&settings)
            .map(|(topic, settings)| {
                let altered =
                    AlterConfig::new(ResourceSpecifier::Topic(&topic.name)).set("min.insync.replicas", "2");
                settings
                    .iter()
                    .fold(altered, |altered, (key, value)| altered.set(key, value))
            })
            .collect();
        if altered.is_empty() {
            return Ok(());
        }
        let answers = self
            .client
            .alter_configs(altered.iter(), &self.options())
            .await
            .map_err(|source| self.failed("setting min.insync.replicas", source))?;
        for (topic, answer) in low.iter().zip(answers) {
            answer.map_err(|(_, code)| {
                refused(&format!("setting min.insync.replicas of {}", topic.name), code)
            })?;
        }
        Ok(())
    }

    /// Deletes topics and a group that has no members.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`], [`Error::Refused`], [`Error::Failed`].
    pub async fn remove(&self, topics: &[&str], group: &str) -> Result<(), Error> {
        let attempted = "removing topics";
        let answers = self.client.delete_topics(topics, &self.options()).await;
        for answer in answers.map_err(|source| self.failed(attempted, source))? {
            answer.map_err(|(topic, code)| refused(&format!("removing {topic}"), code))?;
        }
        let answers = self.client.delete_groups(&[group], &self.options()).await;
        for answer in answers.map_err(|source| self.failed("removing the group", source))? {
            match answer {
                Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound)) => {}
                Err((group, code)) => return Err(refused(&format!("removing group {group}"), code)),
            }
        }
        Ok(())
    }

    /// Waits until every partition has a leader: a client that comes earlier is told that there is no such topic.
    async fn wait_until_ready(&self, wanted: &[Wanted]) -> Result<(), Error> {
        let names: Vec<&str> = wanted.iter().map(|topic| topic.name.as_str()).collect();
        let began = Instant::now();
        while !self.all_led(&names).await? {
            if began.elapsed() > self.timeout {
                return Err(Error::NotReady { waited: self.timeout });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn all_led(&self, names: &[&str]) -> Result<bool, Error> {
        let metadata = self.metadata().await?;
        let led = |name: &&str| {
            let topic = metadata.topics().iter().find(|topic| topic.name() == *name);
            topic.is_some_and(|topic| {
                let partitions = topic.partitions();
                !partitions.is_empty() && partitions.iter().all(|partition| partition.leader() >= 0)
            })
        };
        Ok(names.iter().all(led))
    }

    /// Asks for partitions and copies; the settings are left empty.
    async fn shapes(&self, names: &[&str]) -> Result<(usize, BTreeMap<String, Option<Described>>), Error> {
        let metadata = self.metadata().await?;
        let shape = |name: &&str| {
            let topic = metadata
                .topics()
                .iter()
                .find(|topic| topic.name() == *name && !topic.partitions().is_empty());
            let described = topic.map(|topic| {
                let copies = topic
                    .partitions()
                    .iter()
                    .map(|partition| partition.replicas().len());
                Described {
                    partitions: i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX),
                    replication: i32::try_from(copies.min().unwrap_or(0)).unwrap_or(i32::MAX),
                    settings: BTreeMap::new(),
                }
            });
            ((*name).to_owned(), described)
        };
        let topics = names.iter().map(shape).collect();
        Ok((metadata.brokers().len(), topics))
    }

    /// Asks for all topics: asking for one that does not exist may create it where brokers do so.
    async fn metadata(&self) -> Result<rdkafka::metadata::Metadata, Error> {
        let (client, timeout) = (Arc::clone(&self.client), self.timeout);
        let answer = tokio::task::spawn_blocking(move || client.inner().fetch_metadata(None, timeout)).await;
        answer
            .expect("asking for metadata does not panic")
            .map_err(|source| self.failed("asking for the topics", source))
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(self.timeout))
            .operation_timeout(Some(self.timeout))
    }

    fn failed(&self, attempted: &str, source: KafkaError) -> Error {
        if is_away(&source) {
            return Error::Unreachable {
                brokers: self.brokers.clone(),
                waited: self.timeout,
                source,
            };
        }
        Error::Failed {
            attempted: attempted.into(),
            source,
        }
    }
}

fn refused(attempted: &str, code: RDKafkaErrorCode) -> Error {
    Error::Refused {
        attempted: attempted.into(),
        code,
    }
}

/// Decides whether a processor can work on the topics; says which command helps if not.
fn fit(names: &TopicNames, topics: &BTreeMap<String, Option<Described>>) -> Result<i32, String> {
    let partitions = |name: &str| topics.get(name)?.as_ref().map(|topic| topic.partitions);
    let missing: Vec<&str> = [&names.events, &names.refresh, &names.dead_letters]
        .into_iter()
        .filter(|name| partitions(name).is_none())
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(format!(
            "missing topics: {missing}; create them with `frontstream topics create`"
        ));
    }
    let (events, refresh) = (partitions(&names.events), partitions(&names.refresh));
    match (events, refresh) {
        (Some(events), Some(refresh)) if events == refresh => Ok(events),
        _ => Err(format!(
            "{} has {} partitions and {} has {}: a refresh goes to the partition number of its events, so they must \
             be equal; `frontstream topics check` says what to do",
            names.events,
            events.unwrap_or(0),
            names.refresh,
            refresh.unwrap_or(0)
        )),
    }
}

/// Returns the topic settings that a wanted topic is created with.
///
/// Log append time: retention and the dedupe horizon then follow one clock, the broker's, and not those of the
/// senders.
fn settings_of(topic: &Wanted) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", topic.retention.as_millis().to_string()),
        ("message.timestamp.type", "LogAppendTime".to_owned()),
    ];
    // Unless it is said, the number of copies is the brokers' affair, and so is how many must be in sync.
    let in_sync = topic
        .min_insync_replicas
        .or_else(|| topic.replication.map(|replication| replication.min(2)));
    if let Some(in_sync) = in_sync {
        settings.push(("min.insync.replicas", in_sync.to_string()));
    }
    if let Some(bytes) = topic.record_bytes_max {
        settings.push(("max.message.bytes", bytes.to_string()));
    }
    settings
}

/// Compares topics with what is wanted of them; `co_partitioned` names the two that must have equally many partitions.
pub fn differences(
    cluster: &Cluster,
    wanted: &[Wanted],
    co_partitioned: (&str, &str),
    brokers: &str,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    for topic in wanted {
        match cluster.topics.get(&topic.name).and_then(Option::as_ref) {
            None => differences.push(missing(topic)),
            Some(found) => compare(cluster.brokers, topic, found, brokers, &mut differences),
        }
    }
    let partitions = |name: &str| Some(cluster.topics.get(name)?.as_ref()?.partitions);
    let (first, second) = co_partitioned;
    if let (Some(left), Some(right)) = (partitions(first), partitions(second))
        && left != right
    {
        differences.push(Difference {
            topic: second.to_owned(),
            what: format!("the partition count beside {first}"),
            found: Some(right.to_string()),
            wanted: left.to_string(),
            why: "a refresh goes to the partition number of its events: the processor does not start",
            fix: match left.cmp(&right) {
                std::cmp::Ordering::Greater => more_partitions(second, left, brokers),
                std::cmp::Ordering::Less | std::cmp::Ordering::Equal => {
                    more_partitions(first, right, brokers)
                }
            },
        });
    }
    differences
}

fn missing(topic: &Wanted) -> Difference {
    Difference {
        topic: topic.name.clone(),
        what: "missing".into(),
        found: None,
        wanted: format!("{} partitions", topic.partitions),
        why: "nothing can be written to it",
        fix: "frontstream topics create".into(),
    }
}

fn compare(brokers_up: usize, topic: &Wanted, found: &Described, brokers: &str, out: &mut Vec<Difference>) {
    let mut differs = |what: &str, found: String, wanted: String, why: &'static str, fix: String| {
        out.push(Difference {
            topic: topic.name.clone(),
            what: what.to_owned(),
            found: Some(found),
            wanted,
            why,
            fix,
        });
    };
    if found.partitions != topic.partitions {
        let fix = if found.partitions < topic.partitions {
            more_partitions(&topic.name, topic.partitions, brokers)
        } else {
            format!(
                "Kafka cannot take partitions away: set the number to {} in the settings, or move to new topics with another topics.prefix",
                found.partitions
            )
        };
        differs(
            "the partition count",
            found.partitions.to_string(),
            topic.partitions.to_string(),
            "the settings say otherwise",
            fix,
        );
    }
    let copies = topic
        .replication
        .unwrap_or(if brokers_up >= BROKERS_FOR_SAFETY { 2 } else { 1 });
    if found.replication < copies {
        differs(
            "replication",
            found.replication.to_string(),
            copies.to_string(),
            "a lost broker takes acknowledged records with it",
            format!(
                "kafka-reassign-partitions --bootstrap-server {brokers} with a plan that lists {copies} brokers for each partition"
            ),
        );
    }
    for (key, wanted, why) in wanted_settings(brokers_up, topic, found) {
        let is = found.settings.get(key).cloned().unwrap_or_default();
        let fix = format!(
            "kafka-configs --bootstrap-server {brokers} --alter --entity-type topics --entity-name {} --add-config {key}={wanted}",
            topic.name
        );
        differs(key, is, wanted, why, fix);
    }
}

/// Returns the settings that are not as they should be, with the value to give and the reason.
fn wanted_settings(
    brokers_up: usize,
    topic: &Wanted,
    found: &Described,
) -> Vec<(&'static str, String, &'static str)> {
    let mut wrong = Vec::new();
    let is = |key: &str| found.settings.get(key).map(String::as_str);
    let number = |key: &str| is(key).and_then(|value| value.parse::<i64>().ok());
    for (key, wanted, why) in [
        (
            "cleanup.policy",
            "delete".to_owned(),
            "compaction would remove events that have a successor",
        ),
        (
            "retention.ms",
            topic.retention.as_millis().to_string(),
            "the settings say otherwise",
        ),
        (
            "message.timestamp.type",
            "LogAppendTime".to_owned(),
            "retention and dedupe would follow the senders' clocks",
        ),
    ] {
        if is(key) != Some(wanted.as_str()) {
            wrong.push((key, wanted, why));
        }
    }
    let in_sync = number("min.insync.replicas").unwrap_or(1);
    let least = topic.min_insync_replicas.map_or_else(
        || {
            let safe =
                brokers_up >= BROKERS_FOR_SAFETY || topic.replication.is_some_and(|copies| copies >= 2);
            if safe { found.replication.min(2).into() } else { 1 }
        },
        i64::from,
    );
    if in_sync < least {
        let why = "a record could be acknowledged by one broker alone and be lost with it";
        wrong.push(("min.insync.replicas", least.to_string(), why));
    } else if in_sync > found.replication.into() {
        let why = "more copies must be in sync than there are: every write is refused";
        wrong.push(("min.insync.replicas", found.replication.min(2).to_string(), why));
    }
    if let Some(bytes) = topic.record_bytes_max
        && number("max.message.bytes").is_some_and(|max| max < i64::try_from(bytes).unwrap_or(i64::MAX))
    {
        let why = "the largest webhook that the receiver takes would not fit";
        wrong.push(("max.message.bytes", bytes.to_string(), why));
    }
    wrong
}

fn more_partitions(topic: &str, partitions: i32, brokers: &str) -> String {
    format!(
        "kafka-topics --bootstrap-server {brokers} --alter --topic {topic} --partitions {partitions} (stop the receivers and let the \
         processor finish first: conversations move to other partitions)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> TopicNames {
        TopicNames::with_prefix("")
    }

    fn wanted() -> Vec<Wanted> {
        let topic = |name: &str, partitions| Wanted {
            name: name.into(),
            partitions,
            replication: None,
            min_insync_replicas: None,
            retention: Duration::from_secs(3_600),
            record_bytes_max: Some(2_000_000),
        };
        vec![
            topic("front.events", 12),
            topic("front.refresh", 12),
            topic("front.dead-letters", 3),
        ]
    }

    /// The cluster that `topics create` makes.
    fn good(brokers: usize, replication: i32) -> Cluster {
        let topics = wanted().into_iter().map(|mut topic| {
            topic.replication = Some(replication);
            let settings = settings_of(&topic)
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value));
            let described = Described {
                partitions: topic.partitions,
                replication,
                settings: settings.collect(),
            };
            (topic.name, Some(described))
        });
        Cluster {
            brokers,
            topics: topics.collect(),
        }
    }

    fn check(cluster: &Cluster, wanted: &[Wanted]) -> Vec<Difference> {
        differences(cluster, wanted, ("front.events", "front.refresh"), "kafka-1:9092")
    }

    fn altered(brokers: usize, replication: i32, alter: impl FnOnce(&mut Described)) -> Cluster {
        let mut cluster = good(brokers, replication);
        alter(cluster.topics.get_mut("front.refresh").unwrap().as_mut().unwrap());
        cluster
    }

    #[test]
    fn what_create_makes_has_no_differences() {
        assert_eq!(check(&good(1, 1), &wanted()), []);
        assert_eq!(check(&good(3, 3), &wanted()), []);
    }

    #[test]
    fn each_difference_is_found_alone_and_says_how_to_mend_it() {
        let set = |key: &'static str, value: &'static str| {
            move |topic: &mut Described| {
                topic.settings.insert(key.into(), value.into());
            }
        };
        let cases: [(Cluster, &str, &str); 8] = [
            (
                altered(3, 3, |topic| topic.replication = 1),
                "replication",
                "kafka-reassign-partitions",
            ),
            (
                altered(3, 3, set("min.insync.replicas", "1")),
                "min.insync.replicas",
                "min.insync.replicas=2",
            ),
            (
                altered(1, 1, set("min.insync.replicas", "2")),
                "min.insync.replicas",
                "min.insync.replicas=1",
            ),
            (
                altered(1, 1, set("retention.ms", "5")),
                "retention.ms",
                "retention.ms=3600000",
            ),
            (
                altered(1, 1, set("cleanup.policy", "compact")),
                "cleanup.policy",
                "cleanup.policy=delete",
            ),
            (
                altered(1, 1, set("message.timestamp.type", "CreateTime")),
                "message.timestamp.type",
                "message.timestamp.type=LogAppendTime",
            ),
            (
                altered(1, 1, set("max.message.bytes", "1048588")),
                "max.message.bytes",
                "max.message.bytes=2000000",
            ),
            (
                {
                    let mut cluster = good(1, 1);
                    cluster.topics.insert("front.refresh".into(), None);
                    cluster
                },
                "missing",
                "frontstream topics create",
            ),
        ];
        for (cluster, what, fix) in cases {
            let found = check(&cluster, &wanted());
            // A lost copy also makes the number in sync impossible.
            let first = &found[0];
            assert_eq!(
                (first.topic.as_str(), first.what.as_str()),
                ("front.refresh", what)
            );
            assert!(first.fix.contains(fix), "{}", first.fix);
            let alone = if what == "replication" { 2 } else { 1 };
            assert_eq!(found.len(), alone, "{found:?}");
        }
    }

    #[test]
    fn partition_counts_are_compared_with_the_settings_and_with_each_other() {
        let fewer = altered(1, 1, |topic| topic.partitions = 6);
        let found = check(&fewer, &wanted());
        let whats: Vec<&str> = found.iter().map(|difference| difference.what.as_str()).collect();
        assert_eq!(
            whats,
            ["the partition count", "the partition count beside front.events"]
        );
        assert!(
            found[1].fix.contains("--topic front.refresh --partitions 12"),
            "{}",
            found[1].fix
        );

        let more = altered(1, 1, |topic| topic.partitions = 24);
        let found = check(&more, &wanted());
        assert!(
            found[0].fix.contains("cannot take partitions away"),
            "{}",
            found[0].fix
        );
        assert!(
            found[1].fix.contains("--topic front.events --partitions 24"),
            "{}",
            found[1].fix
        );
    }

    #[test]
    fn the_settings_number_of_copies_counts_on_a_small_cluster_too() {
        let mut wanted = wanted();
        for topic in &mut wanted {
            topic.replication = Some(2);
        }
        let found = check(&good(2, 1), &wanted);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().all(|difference| difference.what == "replication"));
    }

    #[test]
    fn a_processor_is_told_why_it_cannot_start() {
        assert_eq!(fit(&names(), &good(1, 1).topics), Ok(12));

        let mut cluster = good(1, 1);
        cluster.topics.insert("front.events".into(), None);
        cluster.topics.insert("front.dead-letters".into(), None);
        let why = fit(&names(), &cluster.topics).unwrap_err();
        assert!(
            why.contains("front.events, front.dead-letters") && why.contains("topics create"),
            "{why}"
        );

        let why = fit(&names(), &altered(1, 1, |topic| topic.partitions = 3).topics).unwrap_err();
        assert!(
            why.contains("front.events has 12") && why.contains("front.refresh has 3"),
            "{why}"
        );
        assert!(why.contains("topics check"), "{why}");
    }
}
