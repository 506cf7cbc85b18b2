//! Records that are deleted before their time.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::DeleteRecordsRequest;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};

use super::Check;
use super::raw::{Fetch, Raw, error, plain, topic_name, values};
use crate::support::{Cluster, block_on};

const AREA: &str = "Deleted records";

pub(super) const CHECKS: &[Check] = &[
    Check {
        area: AREA,
        name: "deleted records are gone, the low watermark says so, and the others stay",
        run: deleted_records,
    },
    Check {
        area: AREA,
        name: "-1 deletes all records, and new ones go on at the old offsets",
        run: deleted_to_the_end,
    },
    Check {
        area: AREA,
        name: "records beyond the end or of an unknown partition are not deleted",
        run: refused_deletions,
    },
];

/// Deletes records below an offset; answers the low watermark.
pub(super) fn delete_before(
    raw: &mut Raw,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<i64, ResponseError> {
    let partition = DeleteRecordsPartition::default()
        .with_partition_index(partition)
        .with_offset(offset);
    let topic = DeleteRecordsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let answer = raw.ask(2, &request).topics.remove(0).partitions.remove(0);
    error(answer.error_code).map_or(Ok(answer.low_watermark), Err)
}

fn deleted_records(cluster: &Cluster) {
    let topic = cluster.unique_prefix("deleted");
    cluster.create_topic(&topic, 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["a", "b"]));
    raw.store(&topic, 0, &plain(&["c", "d", "e"]));
    assert_eq!(delete_before(&mut raw, &topic, 0, 3), Ok(3));
    assert_eq!(raw.list_offset(&topic, 0, -2).offset, 3);
    assert_eq!(raw.list_offset(&topic, 0, -1).offset, 5);
    let gone = raw.fetch(&topic, 0, 2, &Fetch::default());
    assert_eq!(error(gone.error_code), Some(ResponseError::OffsetOutOfRange));
    let left = raw.fetch(&topic, 0, 3, &Fetch::default());
    assert_eq!((left.log_start_offset, left.high_watermark), (3, 5));
    // The batch is whole; readers skip what is before the offset that they asked for.
    let records = super::raw::records(&left);
    let wanted: Vec<i64> = records
        .iter()
        .map(|record| record.offset)
        .filter(|offset| *offset >= 3)
        .collect();
    assert_eq!(wanted, [3, 4]);
    let read: Vec<i64> = cluster
        .records(&topic)
        .iter()
        .map(rdkafka::Message::offset)
        .collect();
    assert_eq!(read, [3, 4]);
    assert_eq!(delete_before(&mut raw, &topic, 0, 1), Ok(3), "already gone");

    let admin: AdminClient<DefaultClientContext> = cluster.client_config().create().expect("an admin client");
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(&topic, 0, Offset::Offset(4))
        .expect("an offset");
    let answer = block_on(admin.delete_records(&offsets, &AdminOptions::new())).expect("an answer");
    assert_eq!(
        answer.elements()[0].offset(),
        Offset::Offset(4),
        "the low watermark, to librdkafka"
    );
    assert_eq!(raw.list_offset(&topic, 0, -2).offset, 4);
}

fn deleted_to_the_end(cluster: &Cluster) {
    let topic = cluster.unique_prefix("emptied");
    cluster.create_topic(&topic, 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["a", "b"]));
    assert_eq!(delete_before(&mut raw, &topic, 0, -1), Ok(2));
    let empty = raw.fetch(&topic, 0, 2, &Fetch::default());
    assert_eq!((error(empty.error_code), values(&empty)), (None, vec![]));
    assert_eq!(raw.store(&topic, 0, &plain(&["c"])), 2);
    assert_eq!(values(&raw.fetch(&topic, 0, 2, &Fetch::default())), ["c"]);
}

fn refused_deletions(cluster: &Cluster) {
    let topic = cluster.unique_prefix("undeleted");
    cluster.create_topic(&topic, 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["a", "b"]));
    assert_eq!(
        delete_before(&mut raw, &topic, 0, 3),
        Err(ResponseError::OffsetOutOfRange)
    );
    assert_eq!(
        delete_before(&mut raw, &topic, 0, -2),
        Err(ResponseError::OffsetOutOfRange)
    );
    assert_eq!(
        delete_before(&mut raw, &topic, 1, 0),
        Err(ResponseError::UnknownTopicOrPartition)
    );
    assert_eq!(
        delete_before(&mut raw, "nobody-made-this", 0, 0),
        Err(ResponseError::UnknownTopicOrPartition)
    );
    assert_eq!(values(&raw.fetch(&topic, 0, 0, &Fetch::default())), ["a", "b"]);
}
