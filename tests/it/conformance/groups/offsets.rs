//! Committed offsets: who may commit, what comes back.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest};

use super::super::member::{
    Member, Pending, commit, commit_request, committed, fetch_offsets, group_id, group_of,
};
use super::super::raw::{Raw, error, text, topic_name};
use crate::support::Cluster;

/// A group and a topic of two partitions that nobody else has.
struct Place {
    raw: Raw,
    group: String,
    topic: String,
}

impl Place {
    fn new(cluster: &Cluster) -> Self {
        let prefix = cluster.unique_prefix("offsets");
        let place = Self {
            raw: Raw::connect(cluster),
            group: format!("{prefix}group"),
            topic: format!("{prefix}topic"),
        };
        cluster.create_topic(&place.topic, 2);
        place
    }

    fn commit(&mut self, offsets: &[(i32, i64, &str)]) -> Vec<Option<ResponseError>> {
        self.raw.find_coordinator(0, &self.group);
        commit(&mut self.raw, &commit_request(&self.group, &self.topic, offsets))
    }

    fn committed(&mut self, partition: i32) -> i64 {
        committed(&mut self.raw, &self.group, &self.topic, partition)
    }
}

/// Metadata come back as they were, up to the broker's limit, which counts characters (Java's, UTF-16) and not bytes; one
/// that is too large harms no other partition.
pub(super) fn metadata(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    let largest = "ä".repeat(4_096);
    for (offset, metadata) in (10..).zip(["", "x", "{\"a\": [1, 2]}", &largest]) {
        assert_eq!(place.commit(&[(0, offset, metadata)]), [None]);
        let read = fetch_offsets(&mut place.raw, &place.group, &place.topic, &[0], Pending::Ignored);
        assert_eq!(
            (read[0].committed_offset, &read[0].metadata),
            (offset, &Some(text(metadata)))
        );
    }
    let too_large = format!("{largest}x");
    let refused = Some(ResponseError::OffsetMetadataTooLarge);
    assert_eq!(place.commit(&[(0, 99, &too_large), (1, 20, "")]), [refused, None]);
    assert_eq!((place.committed(0), place.committed(1)), (13, 20));
}

/// Without metadata (null) is stored as an empty text; the leader epoch comes back.
pub(super) fn null_metadata_and_epoch(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    place.raw.find_coordinator(0, &place.group);
    let mut request = commit_request(&place.group, &place.topic, &[(0, 5, "")]);
    let partition = &mut request.topics[0].partitions[0];
    partition.committed_metadata = None;
    partition.committed_leader_epoch = 0;
    assert_eq!(commit(&mut place.raw, &request), [None]);
    let read = fetch_offsets(&mut place.raw, &place.group, &place.topic, &[0], Pending::Ignored);
    assert_eq!(read[0].metadata, Some(text("")));
    assert_eq!((read[0].committed_offset, read[0].committed_leader_epoch), (5, 0));
}

/// What was never committed is -1 and no error, in a group that is and in one that is not.
pub(super) fn uncommitted(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    place.raw.find_coordinator(0, &place.group);
    for _ in 0..2 {
        let read = fetch_offsets(
            &mut place.raw,
            &place.group,
            &place.topic,
            &[1, 7],
            Pending::Minded,
        );
        for (read, partition) in read.iter().zip([1, 7]) {
            assert_eq!((read.partition_index, error(read.error_code)), (partition, None));
            assert_eq!((read.committed_offset, read.committed_leader_epoch), (-1, -1));
            assert_eq!(read.metadata, Some(text("")));
        }
        place.commit(&[(0, 1, "")]);
    }
}

/// Asked for all, a group answers what it has, in the old form and the one for several groups.
pub(super) fn fetch_all(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    let other_group = format!("{}-2", place.group);
    place.commit(&[(0, 3, "a"), (1, 4, "b")]);
    let request = OffsetFetchRequest::default()
        .with_group_id(group_id(&place.group))
        .with_topics(None);
    let answer = place.raw.ask(7, &request);
    assert_eq!(error(answer.error_code), None);
    let mut partitions: Vec<_> = answer.topics[0]
        .partitions
        .iter()
        .map(|partition| (partition.partition_index, partition.committed_offset))
        .collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [(0, 3), (1, 4)]);

    let all = OffsetFetchRequestGroup::default()
        .with_group_id(group_id(&place.group))
        .with_member_epoch(-1)
        .with_topics(None);
    let one = OffsetFetchRequestTopics::default()
        .with_name(topic_name(&place.topic))
        .with_partition_indexes(vec![1]);
    let other = OffsetFetchRequestGroup::default()
        .with_group_id(group_id(&other_group))
        .with_member_epoch(-1)
        .with_topics(Some(vec![one]));
    let answer = place
        .raw
        .ask(9, &OffsetFetchRequest::default().with_groups(vec![all, other]));
    assert_eq!(answer.groups.len(), 2);
    for group in &answer.groups {
        assert_eq!(error(group.error_code), None);
        let offsets: Vec<_> = group.topics[0]
            .partitions
            .iter()
            .map(|partition| partition.committed_offset)
            .collect();
        if group.group_id == group_id(&place.group) {
            assert_eq!(offsets.iter().sum::<i64>(), 7, "{offsets:?}");
        } else {
            assert_eq!(offsets, [-1]);
        }
    }
}

/// The form that librdkafka's older versions use.
pub(super) fn old_versions(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    place.raw.find_coordinator(0, &place.group);
    let request = commit_request(&place.group, &place.topic, &[(1, 8, "old")]).with_retention_time_ms(-1);
    let answer = place.raw.ask::<OffsetCommitRequest>(2, &request);
    assert_eq!(error(answer.topics[0].partitions[0].error_code), None);
    let topic = OffsetFetchRequestTopic::default()
        .with_name(topic_name(&place.topic))
        .with_partition_indexes(vec![1]);
    let request = OffsetFetchRequest::default()
        .with_group_id(group_id(&place.group))
        .with_topics(Some(vec![topic]));
    let answer = place.raw.ask(1, &request);
    let read = &answer.topics[0].partitions[0];
    assert_eq!((read.committed_offset, &read.metadata), (8, &Some(text("old"))));
}

/// Only a member of this generation may commit for a group that has members.
pub(super) fn by_members_only(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    let mut member = group_of(cluster, &place.group, 1).remove(0);
    assert_eq!(member.commit(&place.topic, 0, 1), None);
    member.generation += 1;
    assert_eq!(
        member.commit(&place.topic, 0, 2),
        Some(ResponseError::IllegalGeneration),
        "a later one"
    );
    member.generation -= 2;
    assert_eq!(
        member.commit(&place.topic, 0, 2),
        Some(ResponseError::IllegalGeneration),
        "an earlier one"
    );
    member.generation += 1;
    let id = std::mem::replace(&mut member.id, "made-up".to_owned());
    assert_eq!(
        member.commit(&place.topic, 0, 2),
        Some(ResponseError::UnknownMemberId),
        "a stranger"
    );
    member.id = id;
    assert_eq!(
        place.commit(&[(0, 2, "")]),
        [Some(ResponseError::UnknownMemberId)],
        "from outside"
    );
    assert_eq!(place.committed(0), 1);

    // Once it has left, only from outside.
    assert_eq!(member.leave(), None);
    assert_eq!(
        member.commit(&place.topic, 0, 3),
        Some(ResponseError::UnknownMemberId)
    );
    assert_eq!(place.commit(&[(0, 4, "")]), [None]);
    assert_eq!(place.committed(0), 4);
}

/// For a group that is not there, from outside only.
pub(super) fn without_a_group(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    let mut stranger = Member::new(cluster, &place.group);
    stranger.id = "made-up".to_owned();
    stranger.generation = 3;
    assert_eq!(
        stranger.commit(&place.topic, 0, 1),
        Some(ResponseError::GroupIdNotFound)
    );
    let request =
        commit_request(&place.group, &place.topic, &[(0, 1, "")]).with_generation_id_or_member_epoch(3);
    let answer = place.raw.ask::<OffsetCommitRequest>(8, &request);
    assert_eq!(
        error(answer.topics[0].partitions[0].error_code),
        Some(ResponseError::IllegalGeneration)
    );
    assert_eq!(place.committed(0), -1);
    assert_eq!(place.commit(&[(0, 2, "")]), [None]);
    assert_eq!(place.committed(0), 2);
}

/// While members are being called together they may commit; between join and assignment they may not.
pub(super) fn in_a_rebalance(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    let mut members = group_of(cluster, &place.group, 1);
    let mut second = Member::new(cluster, &place.group);
    second.introduce();
    let asked = second.ask_to_join();
    members[0].heartbeat_until(Some(ResponseError::RebalanceInProgress));
    assert_eq!(members[0].commit(&place.topic, 0, 1), None);
    members[0].join();
    second.joined(asked);
    for member in [&mut members[0], &mut second] {
        assert_eq!(
            member.commit(&place.topic, 0, 2),
            Some(ResponseError::RebalanceInProgress)
        );
    }
    assert_eq!(place.committed(0), 1);
}

/// For a topic or partition that is not there.
pub(super) fn unknown_topic(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    let refused = Some(ResponseError::UnknownTopicOrPartition);
    assert_eq!(place.commit(&[(0, 1, ""), (2, 1, "")]), [None, refused]);
    let mut member = group_of(cluster, &format!("{}-2", place.group), 1).remove(0);
    assert_eq!(member.commit("no-such-topic", 0, 1), refused);
    assert_eq!(member.commit(&place.topic, 2, 1), refused);
    assert_eq!(member.commit(&place.topic, 1, 1), None);
}
