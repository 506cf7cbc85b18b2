//! FindCoordinator, DescribeGroups, ListGroups, DeleteGroups.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    BrokerId, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, GroupId, ListGroupsRequest, ListGroupsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::super::bounded;
use super::super::state::{NODE_ID, State};
use super::Groups;
use super::group::{Group, GroupState};

/// Kinds of keys that FindCoordinator is asked for; both have their coordinator here.
const KEY_TYPES: [i8; 2] = [0, 1];
/// From this version on FindCoordinator has several keys.
const FIND_BATCHED: i16 = 4;
/// From this version on DescribeGroups says that a group does not exist (KIP-1043).
const DESCRIBE_KNOWS_GROUPS: i16 = 6;
/// What anybody may do with a group: read (3), delete (6), describe (8), describe and alter its settings (10, 11); the
/// bits that Kafka sets when it has no access lists.
const OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
/// What a group is called that does not exist.
const DEAD: StrBytes = StrBytes::from_static_str("Dead");
/// The only type of group there is.
const CLASSIC: &str = "classic";

/// Says who coordinates groups and transactions: this node, whatever they are called.
pub(in crate::dev_broker) fn find_coordinator(
    state: &State,
    request: FindCoordinatorRequest,
    version: i16,
) -> FindCoordinatorResponse {
    let known = KEY_TYPES.contains(&request.key_type);
    let (code, node_id, host, port) = if known {
        let host = StrBytes::from_string(state.address.ip().to_string());
        (0, NODE_ID, host, i32::from(state.address.port()))
    } else {
        let code = ResponseError::InvalidRequest.code();
        (code, BrokerId(-1), StrBytes::new(), -1)
    };
    let message = if known {
        ""
    } else {
        "there is no coordinator for this type of key"
    };
    let message = Some(StrBytes::from_static_str(message));
    if version < FIND_BATCHED {
        return FindCoordinatorResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_node_id(node_id)
            .with_host(host)
            .with_port(port);
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| {
        Coordinator::default()
            .with_key(key)
            .with_error_code(code)
            .with_error_message(message.clone())
            .with_node_id(node_id)
            .with_host(host.clone())
            .with_port(port)
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

/// Describes groups and their members.
pub(in crate::dev_broker) fn describe_groups(
    state: &State,
    request: DescribeGroupsRequest,
    version: i16,
) -> DescribeGroupsResponse {
    let groups = bounded::once(request.groups, Clone::clone).map(|group_id| {
        let mut described = match state.groups.get(&group_id) {
            Some(entry) => describe(&entry.group),
            None => missing(&group_id, version),
        };
        if request.include_authorized_operations && described.error_code == 0 {
            described.authorized_operations = OPERATIONS;
        }
        described.with_group_id(group_id)
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

/// To older clients a group that does not exist is a dead one.
fn missing(group_id: &GroupId, version: i16) -> DescribedGroup {
    let dead = DescribedGroup::default().with_group_state(DEAD);
    if version < DESCRIBE_KNOWS_GROUPS {
        return dead;
    }
    let message = format!("Group {} not found.", group_id.as_str());
    dead.with_error_code(ResponseError::GroupIdNotFound.code())
        .with_error_message(Some(StrBytes::from_string(message)))
}

fn describe(group: &Group) -> DescribedGroup {
    // Before the members have agreed there is nothing to be said in the protocol's words.
    let protocol = group
        .protocol_name()
        .filter(|_| group.state() == GroupState::Stable);
    let members = group.members().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(member.id.clone())
            .with_group_instance_id(member.instance.clone())
            .with_client_id(member.client_id.clone())
            .with_client_host(member.client_host.clone())
            .with_member_metadata(member.metadata(protocol))
            .with_member_assignment(member.assignment.clone())
    });
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(group.state().name()))
        .with_protocol_type(group.protocol_type().cloned().unwrap_or_default())
        .with_protocol_data(protocol.cloned().unwrap_or_default())
        .with_members(members.collect())
}

/// Lists groups, all of them or those in the states and of the types asked for.
pub(in crate::dev_broker) fn list_groups(state: &State, request: &ListGroupsRequest) -> ListGroupsResponse {
    let states: BTreeSet<_> = request
        .states_filter
        .iter()
        .map(|state| state.trim().to_lowercase())
        .collect();
    let types = &request.types_filter;
    if !types.is_empty() && !types.iter().any(|kind| kind.eq_ignore_ascii_case(CLASSIC)) {
        return ListGroupsResponse::default();
    }
    let groups = state.groups.entries.iter();
    let groups = groups.filter(|(_, entry)| {
        states.is_empty() || states.contains(&entry.group.state().name().to_lowercase())
    });
    let groups = groups.map(|(group_id, entry)| {
        ListedGroup::default()
            .with_group_id(GroupId(group_id.clone()))
            .with_protocol_type(entry.group.protocol_type().cloned().unwrap_or_default())
            .with_group_state(StrBytes::from_static_str(entry.group.state().name()))
            .with_group_type(StrBytes::from_static_str(CLASSIC))
    });
    ListGroupsResponse::default().with_groups(groups.collect())
}

/// Deletes groups that have no members, with their offsets.
pub(in crate::dev_broker) fn delete_groups(
    state: &mut State,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let names = bounded::once(request.groups_names, Clone::clone);
    let results = names.map(|group_id| {
        let code = delete(&mut state.groups, &group_id).map_or_else(|error| error.code(), |()| 0);
        DeletableGroupResult::default()
            .with_group_id(group_id)
            .with_error_code(code)
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}

fn delete(groups: &mut Groups, group_id: &StrBytes) -> Result<(), ResponseError> {
    let entry = groups.get(group_id).ok_or(ResponseError::GroupIdNotFound)?;
    if entry.group.state() != GroupState::Empty {
        return Err(ResponseError::NonEmptyGroup);
    }
    groups.entries.remove(group_id);
    Ok(())
}
