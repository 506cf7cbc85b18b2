//! Groups as a tool sees and changes them.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, ListGroupsRequest,
    OffsetDeleteRequest,
};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::super::member::{Member, commit, commit_request, committed, group_id, group_of, subscription};
use super::super::raw::{Raw, error, eventually, text, topic_name};
use crate::support::process::PATIENCE;
use crate::support::{Cluster, block_on};

const DESCRIBE_GROUPS: i16 = 6;
const LIST_GROUPS: i16 = 5;
const DELETE_GROUPS: i16 = 2;
const OFFSET_DELETE: i16 = 0;

fn describe(raw: &mut Raw, group: &str) -> DescribedGroup {
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    raw.ask(DESCRIBE_GROUPS, &request).groups.remove(0)
}

fn list(raw: &mut Raw, states: &[&str], group: &str) -> Option<ListedGroup> {
    let request =
        ListGroupsRequest::default().with_states_filter(states.iter().map(|state| text(state)).collect());
    let answer = raw.ask(LIST_GROUPS, &request);
    assert_eq!(error(answer.error_code), None);
    answer
        .groups
        .into_iter()
        .find(|listed| listed.group_id == group_id(group))
}

fn delete(raw: &mut Raw, group: &str) -> Option<ResponseError> {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
    error(raw.ask(DELETE_GROUPS, &request).results[0].error_code)
}

/// A group's state goes with what its members do; a stable one shows protocol, members and assignments.
pub(super) fn described(cluster: &Cluster) {
    let group = cluster.unique_prefix("described");
    let mut raw = Raw::connect(cluster);
    let mut members = group_of(cluster, &group, 2);
    let found = describe(&mut raw, &group);
    assert_eq!(error(found.error_code), None);
    assert_eq!(
        (&*found.group_state, &*found.protocol_type, &*found.protocol_data),
        ("Stable", "consumer", "range")
    );
    assert_eq!(found.members.len(), 2);
    for member in &members {
        let shown = found
            .members
            .iter()
            .find(|shown| *shown.member_id == *member.id)
            .expect("each member is shown");
        assert_eq!(&*shown.client_id, "conformance");
        assert_eq!(&*shown.client_host, "/127.0.0.1");
        assert_eq!(shown.group_instance_id, None);
        assert_eq!(shown.member_metadata, member.protocols[0].1);
        assert_eq!(shown.member_assignment, format!("for {}", member.id));
    }

    let mut third = Member::new(cluster, &group);
    third.introduce();
    let asked = third.ask_to_join();
    members[0].heartbeat_until(Some(ResponseError::RebalanceInProgress));
    let found = describe(&mut raw, &group);
    assert_eq!(
        (&*found.group_state, found.members.len()),
        ("PreparingRebalance", 3)
    );
    assert_eq!(&*found.protocol_data, "", "none is chosen yet");
    let rejoining: Vec<_> = members.iter_mut().map(Member::ask_to_join).collect();
    for (member, asked) in members.iter_mut().zip(rejoining) {
        member.joined(asked);
    }
    third.joined(asked);
    assert_eq!(&*describe(&mut raw, &group).group_state, "CompletingRebalance");

    for mut member in members.into_iter().chain([third]) {
        assert_eq!(member.leave(), None);
    }
    let found = describe(&mut raw, &group);
    assert_eq!(
        (&*found.group_state, &*found.protocol_type, found.members.len()),
        ("Empty", "consumer", 0)
    );
}

/// One that is not there is an error since version 6 and "Dead" before.
pub(super) fn described_unknown(cluster: &Cluster) {
    let group = cluster.unique_prefix("unknown");
    let mut raw = Raw::connect(cluster);
    raw.find_coordinator(0, &group);
    let found = describe(&mut raw, &group);
    assert_eq!(error(found.error_code), Some(ResponseError::GroupIdNotFound));
    assert_eq!(&*found.group_state, "Dead");
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(&group)]);
    let found = raw.ask(5, &request).groups.remove(0);
    assert_eq!((error(found.error_code), &*found.group_state), (None, "Dead"));
}

/// Lists show state and type, filter by state, and have a group that only holds offsets.
pub(super) fn listed(cluster: &Cluster) {
    let prefix = cluster.unique_prefix("listed");
    let (group, offsets_only, topic) = (
        format!("{prefix}members"),
        format!("{prefix}offsets"),
        format!("{prefix}topic"),
    );
    cluster.create_topic(&topic, 1);
    let mut raw = Raw::connect(cluster);
    let mut member = group_of(cluster, &group, 1).remove(0);
    commit(&mut raw, &commit_request(&offsets_only, &topic, &[(0, 1, "")]));

    let found = list(&mut raw, &[], &group).expect("it is listed");
    assert_eq!(
        (&*found.protocol_type, &*found.group_state, &*found.group_type),
        ("consumer", "Stable", "classic")
    );
    let found = list(&mut raw, &[], &offsets_only).expect("it is listed");
    assert_eq!((&*found.protocol_type, &*found.group_state), ("", "Empty"));
    assert!(list(&mut raw, &["Stable", "Dead"], &group).is_some());
    assert!(list(&mut raw, &["Empty"], &group).is_none());
    assert!(list(&mut raw, &["Empty"], &offsets_only).is_some());
    member.leave();
    assert!(list(&mut raw, &["Empty"], &group).is_some());
}

/// librdkafka lists and describes in the oldest form.
pub(super) fn seen_by_librdkafka(cluster: &Cluster) {
    let group = cluster.unique_prefix("seen");
    let members = group_of(cluster, &group, 2);
    let client: BaseConsumer = cluster.client_config().create().expect("a client");
    for asked in [Some(group.as_str()), None] {
        let list = client.fetch_group_list(asked, PATIENCE).expect("a list");
        let found = list.groups().iter().find(|found| found.name() == group);
        let found = found.expect("it is listed");
        assert_eq!(
            (found.state(), found.protocol_type(), found.protocol()),
            ("Stable", "consumer", "range")
        );
        let mut ids: Vec<_> = found
            .members()
            .iter()
            .map(|member| member.id().to_owned())
            .collect();
        ids.sort_unstable();
        let mut wanted: Vec<_> = members.iter().map(|member| member.id.clone()).collect();
        wanted.sort_unstable();
        assert_eq!(ids, wanted);
    }
}

/// A group with members stays; an empty one goes with its offsets; one that is not there is an error.
pub(super) fn deleted(cluster: &Cluster) {
    let prefix = cluster.unique_prefix("deleted");
    let (group, topic) = (format!("{prefix}group"), format!("{prefix}topic"));
    cluster.create_topic(&topic, 1);
    let mut raw = Raw::connect(cluster);
    let mut member = group_of(cluster, &group, 1).remove(0);
    assert_eq!(member.commit(&topic, 0, 5), None);
    assert_eq!(delete(&mut raw, &group), Some(ResponseError::NonEmptyGroup));
    assert_eq!(member.leave(), None);
    assert_eq!(delete(&mut raw, &group), None);
    assert_eq!(committed(&mut raw, &group, &topic, 0), -1);
    assert!(list(&mut raw, &[], &group).is_none());
    assert_eq!(delete(&mut raw, &group), Some(ResponseError::GroupIdNotFound));

    // The same by librdkafka's admin client.
    commit(&mut raw, &commit_request(&group, &topic, &[(0, 1, "")]));
    let admin: AdminClient<DefaultClientContext> = cluster.client_config().create().expect("an admin client");
    let results = block_on(admin.delete_groups(&[&group], &AdminOptions::new())).expect("an answer");
    assert_eq!(results, [Ok(group.clone())]);
    assert_eq!(committed(&mut raw, &group, &topic, 0), -1);
}

fn delete_offset(
    raw: &mut Raw,
    group: &str,
    topic: &str,
    partition: i32,
) -> (Option<ResponseError>, Option<ResponseError>) {
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![
            OffsetDeleteRequestPartition::default().with_partition_index(partition),
        ]);
    let request = OffsetDeleteRequest::default()
        .with_group_id(group_id(group))
        .with_topics(vec![topic]);
    let answer = raw.ask(OFFSET_DELETE, &request);
    let partition = answer
        .topics
        .first()
        .and_then(|topic| error(topic.partitions[0].error_code));
    (error(answer.error_code), partition)
}

/// Offsets can be deleted but for topics that a member reads.
pub(super) fn offsets_deleted(cluster: &Cluster) {
    let prefix = cluster.unique_prefix("offset-delete");
    let (group, read, unread) = (
        format!("{prefix}group"),
        format!("{prefix}read"),
        format!("{prefix}unread"),
    );
    let mut raw = Raw::connect(cluster);
    raw.find_coordinator(0, &group);
    assert_eq!(
        delete_offset(&mut raw, &group, &read, 0),
        (Some(ResponseError::GroupIdNotFound), None)
    );
    for topic in [&read, &unread] {
        cluster.create_topic(topic, 2);
        commit(
            &mut raw,
            &commit_request(&group, topic, &[(0, 1, ""), (1, 2, "")]),
        );
    }
    let mut member = Member::new(cluster, &group);
    member.protocols = vec![("range", subscription(&[&read]))];
    member.join();
    member.sync(&[]);
    assert_eq!(
        delete_offset(&mut raw, &group, &read, 0),
        (None, Some(ResponseError::GroupSubscribedToTopic))
    );
    assert_eq!(delete_offset(&mut raw, &group, &unread, 0), (None, None));
    assert_eq!(
        delete_offset(&mut raw, &group, &unread, 0),
        (None, None),
        "deleted already"
    );
    assert_eq!(
        (
            committed(&mut raw, &group, &unread, 0),
            committed(&mut raw, &group, &unread, 1)
        ),
        (-1, 2)
    );
    member.leave();
    assert_eq!(delete_offset(&mut raw, &group, &read, 0), (None, None));
    assert_eq!(
        (
            committed(&mut raw, &group, &read, 0),
            committed(&mut raw, &group, &read, 1)
        ),
        (-1, 2)
    );
}

/// The offsets of a topic go with it.
pub(super) fn deleted_topic(cluster: &Cluster) {
    let prefix = cluster.unique_prefix("topic-gone");
    let (group, gone, kept) = (
        format!("{prefix}group"),
        format!("{prefix}gone"),
        format!("{prefix}kept"),
    );
    let mut raw = Raw::connect(cluster);
    raw.find_coordinator(0, &group);
    for topic in [&gone, &kept] {
        cluster.create_topic(topic, 1);
        commit(&mut raw, &commit_request(&group, topic, &[(0, 1, "")]));
    }
    let admin: AdminClient<DefaultClientContext> = cluster.client_config().create().expect("an admin client");
    let results = block_on(admin.delete_topics(&[&gone], &AdminOptions::new())).expect("an answer");
    assert_eq!(results, [Ok(gone.clone())]);
    eventually("the offset is gone", || {
        (committed(&mut raw, &group, &gone, 0) == -1).then_some(())
    });
    assert_eq!(committed(&mut raw, &group, &kept, 0), 1);
}

/// Coordinators are found one at a time or many, for groups and transactional ids; other kinds of keys are refused.
pub(super) fn coordinators(cluster: &Cluster) {
    let mut raw = Raw::connect(cluster);
    let port = cluster
        .bootstrap
        .rsplit(':')
        .next()
        .and_then(|port| port.parse::<i32>().ok());
    for key_type in [0, 1] {
        raw.find_coordinator(key_type, "some-key");
        let request = FindCoordinatorRequest::default()
            .with_key_type(key_type)
            .with_coordinator_keys(vec![text("first"), text("second")]);
        let answer = raw.ask(4, &request);
        let keys: Vec<_> = answer
            .coordinators
            .iter()
            .map(|found| found.key.to_string())
            .collect();
        assert_eq!(keys, ["first", "second"]);
        for found in &answer.coordinators {
            assert_eq!(
                (
                    error(found.error_code),
                    found.node_id.0,
                    &*found.host,
                    Some(found.port)
                ),
                (None, 1, "127.0.0.1", port)
            );
        }
        let request = FindCoordinatorRequest::default()
            .with_key_type(key_type)
            .with_key(text("first"));
        let found = raw.ask(2, &request);
        assert_eq!(
            (
                error(found.error_code),
                found.node_id.0,
                &*found.host,
                Some(found.port)
            ),
            (None, 1, "127.0.0.1", port)
        );
    }
    let request = FindCoordinatorRequest::default()
        .with_key_type(7)
        .with_coordinator_keys(vec![text("some-key")]);
    let answer = raw.ask(4, &request);
    let codes: Vec<_> = answer
        .coordinators
        .iter()
        .map(|found| error(found.error_code))
        .collect();
    assert!(
        error(answer.error_code) == Some(ResponseError::InvalidRequest)
            || codes == [Some(ResponseError::InvalidRequest)],
        "{answer:?}"
    );
}
