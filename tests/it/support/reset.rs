//! A group's offsets moved from outside, as operators do it.

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::Cluster;
use super::process::PATIENCE;

/// Where to.
#[derive(Clone, Copy)]
pub(crate) enum To<'a> {
    Earliest,
    Offset(i64),
    /// A time in UTC without a zone, as the tool wants it, and the same in milliseconds.
    Time(&'a str, i64),
}

/// Moves what a group without members has committed: of one partition, or of all.
///
/// With Kafka's tool where it is at hand, because that is what operators are told to use; elsewhere through a client
/// that does the same: a commit with empty metadata.
pub(crate) fn reset(cluster: &Cluster, group: &str, topic: &str, partition: Option<i32>, to: To<'_>) {
    if cluster.has_tools() {
        with_tool(cluster, group, topic, partition, to);
    } else {
        with_client(cluster, group, topic, partition, to);
    }
}

fn with_tool(cluster: &Cluster, group: &str, topic: &str, partition: Option<i32>, to: To<'_>) {
    let topic = partition.map_or(topic.to_owned(), |partition| format!("{topic}:{partition}"));
    let to = match to {
        To::Earliest => vec!["--to-earliest".to_owned()],
        To::Offset(offset) => vec!["--to-offset".to_owned(), offset.to_string()],
        To::Time(time, _) => vec!["--to-datetime".to_owned(), time.to_owned()],
    };
    let mut arguments = vec![
        "--group",
        group,
        "--topic",
        &topic,
        "--reset-offsets",
        "--execute",
    ];
    arguments.extend(to.iter().map(String::as_str));
    cluster.tool("kafka-consumer-groups", &arguments);
}

fn with_client(cluster: &Cluster, group: &str, topic: &str, partition: Option<i32>, to: To<'_>) {
    let client: BaseConsumer = cluster
        .client_config()
        .set("group.id", group)
        .create()
        .expect("a consumer");
    let metadata = client.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
    let partitions = metadata.topics()[0].partitions().iter().map(|one| one.id());
    let mut offsets = TopicPartitionList::new();
    for number in partitions.filter(|number| partition.is_none_or(|wanted| wanted == *number)) {
        let (earliest, latest) = client
            .fetch_watermarks(topic, number, PATIENCE)
            .expect("watermarks");
        let offset = match to {
            To::Earliest => earliest,
            To::Offset(offset) => offset,
            To::Time(_, time) => {
                let mut wanted = TopicPartitionList::new();
                wanted
                    .add_partition_offset(topic, number, Offset::Offset(time))
                    .expect("a time");
                let found = client.offsets_for_times(wanted, PATIENCE).expect("an offset");
                found.elements()[0]
                    .offset()
                    .to_raw()
                    .filter(|offset| *offset >= 0)
                    .unwrap_or(latest)
            }
        };
        offsets
            .add_partition_offset(topic, number, Offset::Offset(offset))
            .expect("an offset");
    }
    client.commit(&offsets, CommitMode::Sync).expect("committed");
}
