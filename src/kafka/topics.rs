//! Topics as they are, as they should be, and how to make them so.

mod differences;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::Serialize;

pub use differences::{Difference, differences};

use super::reader::is_away;
use super::{Class, Settings, TopicNames, classify, is_denied};
use crate::lifecycle::Instant;

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
    /// The brokers do not take our credentials, or these give no right to what was asked.
    #[error(
        "the brokers at {brokers} refuse this client: {words}; mend its credentials (kafka.properties) or its rights, \
         then start again"
    )]
    Denied {
        /// The bootstrap servers.
        brokers: String,
        /// What they, or the client, said.
        words: String,
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

impl Error {
    /// Says whether the same question may be answered later: brokers are away, or their leaders are.
    pub fn passes(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NotReady { .. } => true,
            Self::Refused { code, .. } => classify(&KafkaError::Global(*code)) == Class::Retriable,
            Self::Failed { source, .. } => classify(source) == Class::Retriable,
            Self::Denied { .. } | Self::Unfit(_) => false,
        }
    }
}

/// What [`Admin::create`] did with a topic.
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
    /// There until it is dropped.
    client: Option<Arc<AdminClient<DefaultClientContext>>>,
    brokers: String,
    timeout: Duration,
}

/// The client's end waits for its thread, which looks up ten times a second: whoever asked has better things to do.
impl Drop for Admin {
    fn drop(&mut self) {
        let client = self.client.take();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(client));
        }
    }
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
            client: Some(Arc::new(client)),
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
            .client()
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
            .client()
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
            .client()
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
        let answers = self.client().delete_topics(topics, &self.options()).await;
        for answer in answers.map_err(|source| self.failed(attempted, source))? {
            answer.map_err(|(topic, code)| refused(&format!("removing {topic}"), code))?;
        }
        let answers = self.client().delete_groups(&[group], &self.options()).await;
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
        let (client, timeout) = (Arc::clone(self.client()), self.timeout);
        let answer = tokio::task::spawn_blocking(move || client.inner().fetch_metadata(None, timeout)).await;
        answer
            .expect("asking for metadata does not panic")
            .map_err(|source| self.failed("asking for the topics", source))
    }

    fn client(&self) -> &Arc<AdminClient<DefaultClientContext>> {
        self.client.as_ref().expect("only dropping takes the client")
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
        if is_denied(&source) {
            return Error::Denied {
                brokers: self.brokers.clone(),
                words: source.to_string(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_away_is_waited_for() {
        use RDKafkaErrorCode as Code;
        let unreachable = Error::Unreachable {
            brokers: "b:1".to_owned(),
            waited: Duration::ZERO,
            source: KafkaError::MetadataFetch(Code::BrokerTransportFailure),
        };
        assert!(unreachable.passes());
        let asked = "asking for the topics";
        let failed = |code| Error::Failed {
            attempted: asked.to_owned(),
            source: KafkaError::MetadataFetch(code),
        };
        for code in [Code::LeaderNotAvailable, Code::CoordinatorLoadInProgress] {
            assert!(failed(code).passes() && refused(asked, code).passes(), "{code:?}");
        }
        for code in [
            Code::UnsupportedVersion,
            Code::SaslAuthenticationFailed,
            Code::ClusterAuthorizationFailed,
            Code::InvalidConfig,
        ] {
            assert!(
                !failed(code).passes() && !refused(asked, code).passes(),
                "{code:?}"
            );
        }
        assert!(!Error::Unfit("missing topics".to_owned()).passes());
    }
}
