//! Offsets that are committed in a transaction.

use std::time::Duration;

use kafka_protocol::error::ResponseError;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::super::member::{
    Member, Pending, admit, commit, commit_request, committed, fetch_offsets, group_of,
};
use super::super::raw::{Raw, error, eventually, text};
use super::writer::{End, Writer};
use crate::support::Cluster;

struct Place<'a> {
    cluster: &'a Cluster,
    raw: Raw,
    writer: Writer,
    topic: String,
    group: String,
}

impl<'a> Place<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let prefix = cluster.unique_prefix("txn");
        let (topic, group) = (format!("{prefix}topic"), format!("{prefix}group"));
        cluster.create_topic(&topic, 2);
        let mut raw = Raw::connect(cluster);
        raw.find_coordinator(0, &group);
        Self {
            cluster,
            raw,
            writer: Writer::new(cluster, &prefix),
            topic,
            group,
        }
    }

    fn fetch(&mut self, partition: i32, pending: Pending) -> Result<i64, ResponseError> {
        let read = fetch_offsets(&mut self.raw, &self.group, &self.topic, &[partition], pending);
        error(read[0].error_code).map_or(Ok(read[0].committed_offset), Err)
    }

    fn await_offset(&mut self, partition: i32, offset: i64) {
        eventually(&format!("{offset} is committed"), || {
            (self.fetch(partition, Pending::Minded) == Ok(offset)).then_some(())
        });
    }
}

/// They come with the commit and go with an abort; before either the old ones stand, and who asks for stable ones waits.
pub(super) fn with_the_end(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    let (group, topic) = (place.group.clone(), place.topic.clone());
    assert_eq!(
        commit(
            &mut place.raw,
            &commit_request(&group, &topic, &[(0, 1, ""), (1, 1, "")])
        ),
        [None, None]
    );
    let mut offset = 1;
    for end in [End::Abort, End::Commit, End::Commit] {
        place.writer.offset(&group, &topic, 0, offset + 1);
        assert_eq!(
            place.fetch(0, Pending::Ignored),
            Ok(offset),
            "{end:?}: not before"
        );
        assert_eq!(
            place.fetch(0, Pending::Minded),
            Err(ResponseError::UnstableOffsetCommit),
            "{end:?}"
        );
        assert_eq!(
            place.fetch(1, Pending::Minded),
            Ok(1),
            "{end:?}: the other partition is stable"
        );
        place.writer.end(end);
        if end == End::Commit {
            offset += 1;
        }
        place.await_offset(0, offset);
    }
}

/// Two commits in one transaction: the later one counts. Metadata come back.
pub(super) fn metadata(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    let (group, topic) = (place.group.clone(), place.topic.clone());
    place.writer.offset(&group, &topic, 0, 5);
    let largest = "m".repeat(4_096);
    let request = place
        .writer
        .offsets_request(&group, &topic, &[(0, 6, &largest), (1, 7, "")]);
    assert_eq!(place.writer.commit_offsets(&request), [None, None]);
    place.writer.end(End::Commit);
    place.await_offset(0, 6);
    let read = fetch_offsets(&mut place.raw, &group, &topic, &[0, 1], Pending::Minded);
    assert_eq!(read[0].metadata, Some(text(&largest)));
    assert_eq!(
        (read[1].committed_offset, &read[1].metadata),
        (7, &Some(text("")))
    );

    assert_eq!(place.writer.add_offsets(&group), None);
    let too_large = format!("{largest}m");
    let request = place
        .writer
        .offsets_request(&group, &topic, &[(0, 8, &too_large)]);
    assert_eq!(
        place.writer.commit_offsets(&request),
        [Some(ResponseError::OffsetMetadataTooLarge)]
    );
    place.writer.end(End::Abort);
}

/// A member says who it is, and only one of this generation may commit (KIP-447).
pub(super) fn stale_members(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    let (group, topic) = (place.group.clone(), place.topic.clone());
    let mut members = group_of(cluster, &group, 1);
    admit(&mut members, Member::fixed(cluster, &group, "pod-0"));
    assert_eq!(place.writer.add_offsets(&group), None);
    let member = &mut members[0];
    let generation = member.generation;
    for other in [generation - 1, generation + 1] {
        member.generation = other;
        let refused = place.writer.offset_as(member, &topic, 9);
        assert_eq!(
            refused,
            Some(ResponseError::IllegalGeneration),
            "{other}, not {generation}"
        );
    }
    member.generation = generation;
    let id = std::mem::replace(&mut member.id, "made-up".to_owned());
    assert_eq!(
        place.writer.offset_as(member, &topic, 9),
        Some(ResponseError::UnknownMemberId)
    );
    member.id = id;
    let mut heir = members[1].restarted(cluster);
    assert_eq!(error(heir.try_to_join().error_code), None);
    let fenced = place.writer.offset_as(&members[1], &topic, 9);
    assert_eq!(fenced, Some(ResponseError::FencedInstanceId));
    assert_eq!(place.fetch(0, Pending::Minded), Ok(-1), "nothing is pending");

    assert_eq!(place.writer.offset_as(&members[0], &topic, 3), None);
    assert_eq!(place.writer.offset_as(&heir, &topic, 4), None);
    place.writer.end(End::Commit);
    place.await_offset(0, 4);
}

/// What a refused commit leaves: the transaction goes on, and can also be aborted.
pub(super) fn refused_and_gone_on(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    let (group, topic) = (place.group.clone(), place.topic.clone());
    let mut members = group_of(cluster, &group, 1);
    members[0].generation += 1;
    place.writer.write(&topic, 0, &["x"]);
    assert_eq!(place.writer.add_offsets(&group), None);
    assert_eq!(
        place.writer.offset_as(&members[0], &topic, 9),
        Some(ResponseError::IllegalGeneration)
    );
    place.writer.end(End::Abort);
    members[0].generation -= 1;
    assert_eq!(place.writer.add_offsets(&group), None);
    assert_eq!(place.writer.offset_as(&members[0], &topic, 2), None);
    place.writer.end(End::Commit);
    place.await_offset(0, 2);
}

/// Members may commit in a transaction through a whole rebalance; a producer of no group may at any time.
pub(super) fn in_a_rebalance(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    let (group, topic) = (place.group.clone(), place.topic.clone());
    let mut members = group_of(cluster, &group, 1);
    let mut second = Member::new(cluster, &group);
    second.introduce();
    let asked = second.ask_to_join();
    members[0].heartbeat_until(Some(ResponseError::RebalanceInProgress));
    assert_eq!(place.writer.add_offsets(&group), None);
    assert_eq!(place.writer.offset_as(&members[0], &topic, 1), None);
    let former = members[0].generation;
    members[0].join();
    second.joined(asked);
    assert_eq!(place.writer.offset_as(&members[0], &topic, 2), None);
    members[0].generation = former;
    assert_eq!(
        place.writer.offset_as(&members[0], &topic, 3),
        Some(ResponseError::IllegalGeneration)
    );
    let request = place.writer.offsets_request(&group, &topic, &[(1, 5, "")]);
    assert_eq!(place.writer.commit_offsets(&request), [None]);
    place.writer.end(End::Commit);
    place.await_offset(0, 2);
    place.await_offset(1, 5);
}

/// Two producers, one group: what one holds back, the other's end does not free.
pub(super) fn two_producers(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    let (group, topic) = (place.group.clone(), place.topic.clone());
    let mut other = Writer::new(cluster, &format!("{topic}other"));
    place.writer.offset(&group, &topic, 0, 1);
    other.offset(&group, &topic, 1, 2);
    place.writer.end(End::Commit);
    place.await_offset(0, 1);
    assert_eq!(
        place.fetch(1, Pending::Minded),
        Err(ResponseError::UnstableOffsetCommit)
    );
    other.end(End::Commit);
    place.await_offset(1, 2);
}

/// A group that was not added, or a transaction that was not begun.
pub(super) fn not_added(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    let (group, topic) = (place.group.clone(), place.topic.clone());
    let request = place.writer.offsets_request(&group, &topic, &[(0, 5, "")]);
    let answer = place.writer.raw.ask(3, &request);
    assert_eq!(
        error(answer.topics[0].partitions[0].error_code),
        Some(ResponseError::InvalidTxnState)
    );
    assert_eq!(
        place.writer.commit_offsets(&request),
        [Some(ResponseError::TransactionAbortable)]
    );
    assert_eq!(place.fetch(0, Pending::Minded), Ok(-1));
}

/// A client that asks where to begin waits for the end of the transaction that says so.
pub(super) fn client_waits(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    let (group, topic) = (place.group.clone(), place.topic.clone());
    place.writer.offset(&group, &topic, 0, 3);
    let client: BaseConsumer = place
        .cluster
        .client_config()
        .set("group.id", &group)
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer");
    // The client asks until its time is up, or gives up before and says of the partition that it is not decided.
    let ask = || {
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition(&topic, 0);
        let found = client.committed_offsets(partitions, Duration::from_millis(500))?;
        let partition = &found.elements()[0];
        partition.error().map(|()| partition.offset())
    };
    let early = ask();
    assert!(early.is_err(), "it does not wait: {early:?}");
    place.writer.end(End::Commit);
    eventually("the offset is decided", || {
        (ask() == Ok(Offset::Offset(3))).then_some(())
    });
    assert_eq!(committed(&mut place.raw, &group, &topic, 0), 3);
}
