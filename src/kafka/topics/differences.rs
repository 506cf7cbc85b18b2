//! What differs between topics as they are and as they should be, why it matters, and the command that mends it.

use std::fmt;

use serde::Serialize;

use super::{Cluster, Described, Wanted};

/// Where a cluster has this many brokers, one lost copy must not stop writes nor lose what was acknowledged.
const BROKERS_FOR_SAFETY: usize = 3;

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
    use std::time::Duration;

    use super::super::{fit, settings_of};
    use super::*;
    use crate::kafka::TopicNames;

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
