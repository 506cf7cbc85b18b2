//! The whole product on a broker (`support::kafka`): processes, faults, replays; exactly once, or the test says where not.

mod bad_input;
mod failures;
mod faults;
mod load;
mod records;
mod replay;
mod secrets;
mod whole_path;

use crate::support::process::Env;
use crate::support::{Cluster, Topics};

/// How many partitions the tests' topics have.
const PARTITIONS: i32 = 4;

/// The settings of a processor on these topics, with a group of its own.
fn processor_env(cluster: &Cluster, topics: &Topics, protocol: &str) -> Env {
    vec![
        ("FRONTSTREAM_KAFKA_BROKERS", cluster.bootstrap.clone()),
        ("FRONTSTREAM_TOPICS_PREFIX", topics.prefix.clone()),
        ("FRONTSTREAM_TOPICS_EVENTS_PARTITIONS", PARTITIONS.to_string()),
        ("FRONTSTREAM_TOPICS_REFRESH_PARTITIONS", PARTITIONS.to_string()),
        ("FRONTSTREAM_TOPICS_DEAD_LETTERS_PARTITIONS", "1".to_owned()),
        ("FRONTSTREAM_PROCESSOR_GROUP", group(topics)),
        ("FRONTSTREAM_PROCESSOR_GROUP_PROTOCOL", protocol.to_owned()),
        // The least that a broker allows: a killed member's partitions move after this.
        ("FRONTSTREAM_PROCESSOR_SESSION_TIMEOUT", "6s".to_owned()),
        ("FRONTSTREAM_PROCESSOR_TRANSACTION_TIMEOUT", "5s".to_owned()),
        // The tests compare ids, so every one is kept.
        ("FRONTSTREAM_PROCESSOR_EVENT_IDS_MAX", "10000".to_owned()),
    ]
}

/// The group of a processor on these topics.
fn group(topics: &Topics) -> String {
    format!("{}group", topics.prefix)
}
