//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;

use super::super::api::Client;
use super::super::clock::Now;
use super::super::state::{Reply, State};
use super::group::{Join, JoinAnswer, Protocol, Sync, refuse_sync};
use super::owned;

/// Kafka's defaults of `group.min.session.timeout.ms` and `group.max.session.timeout.ms`.
const SESSION_TIMEOUTS_MS: std::ops::RangeInclusive<i32> = 6_000..=1_800_000;
/// How many protocols a member may offer. Clients offer a handful; each is looked for among those of every other member, so
/// with the hundred thousands that a request can hold everybody would have to wait.
const PROTOCOLS_MAX: usize = 256;
/// From this version on a SyncGroup must name the protocol (KIP-559).
const SYNC_NAMES_PROTOCOL: i16 = 5;
/// From this version on a LeaveGroup may remove several members.
const LEAVE_BATCHED: i16 = 3;

/// Lets a member into its group; answered when the group has a generation with it.
pub(in crate::dev_broker) fn join_group(
    state: &mut State,
    request: JoinGroupRequest,
    version: i16,
    client: &Client,
    now: Now,
) -> Reply<JoinGroupResponse> {
    let (answer, waiting) = JoinAnswer::channel(version);
    let group_id = request.group_id.0.clone();
    let refusal = if group_id.is_empty() {
        Some(ResponseError::InvalidGroupId)
    } else if !SESSION_TIMEOUTS_MS.contains(&request.session_timeout_ms) {
        Some(ResponseError::InvalidSessionTimeout)
    } else if request.protocols.len() > PROTOCOLS_MAX {
        Some(ResponseError::InconsistentGroupProtocol)
    } else if !request.member_id.is_empty() && state.groups.get(&group_id).is_none() {
        Some(ResponseError::UnknownMemberId)
    } else {
        None
    };
    if let Some(error) = refusal {
        answer.refuse(error, request.member_id);
    } else {
        let join = read_join(request, answer, version, client);
        let entry = state.groups.get_or_create(&group_id);
        entry.group.join(join, now.elapsed);
    }
    reply(waiting)
}

fn read_join(request: JoinGroupRequest, answer: JoinAnswer, version: i16, client: &Client) -> Join {
    let session_timeout = millis(request.session_timeout_ms);
    let instance = request.group_instance_id.as_deref().map(owned);
    // Random bits without a generator of our own: each hasher has new keys.
    let unique = uuid::Builder::from_random_bytes(random_bytes()).into_uuid();
    let prefix = instance.as_deref().unwrap_or(&client.id);
    Join {
        member_id: owned(&request.member_id),
        fresh_id: StrBytes::from_string(format!("{prefix}-{unique}")),
        client_id: owned(&client.id),
        client_host: owned(&client.host),
        session_timeout,
        // The oldest version has one timeout for both.
        rebalance_timeout: if version == 0 {
            session_timeout
        } else {
            millis(request.rebalance_timeout_ms)
        },
        protocol_type: owned(&request.protocol_type),
        protocols: read_protocols(request.protocols),
        instance,
        answer,
    }
}

/// Of protocols with the same name the first counts.
fn read_protocols(sent: Vec<JoinGroupRequestProtocol>) -> Vec<Protocol> {
    let mut seen = BTreeSet::new();
    let once = sent.iter().filter(|protocol| seen.insert(&protocol.name));
    let protocols = once.map(|protocol| Protocol {
        name: owned(&protocol.name),
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    });
    protocols.collect()
}

fn random_bytes() -> [u8; 16] {
    use std::hash::{BuildHasher as _, RandomState};
    let halves = [0_u8, 1].map(|half| RandomState::new().hash_one(half).to_ne_bytes());
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&halves[0]);
    bytes[8..].copy_from_slice(&halves[1]);
    bytes
}

/// Takes the leader's assignment and gives each member its part; followers wait for it.
pub(in crate::dev_broker) fn sync_group(
    state: &mut State,
    request: SyncGroupRequest,
    version: i16,
    now: Now,
) -> Reply<SyncGroupResponse> {
    let (answer, waiting) = oneshot::channel();
    let unnamed = request.protocol_type.is_none() || request.protocol_name.is_none();
    if version >= SYNC_NAMES_PROTOCOL && unnamed {
        refuse_sync(answer, ResponseError::InconsistentGroupProtocol);
    } else if request.group_id.is_empty() {
        refuse_sync(answer, ResponseError::InvalidGroupId);
    } else if let Some(entry) = state.groups.get_mut(&request.group_id) {
        let assignments = request.assignments.into_iter().map(|assigned| {
            let assignment = Bytes::copy_from_slice(&assigned.assignment);
            (assigned.member_id, assignment)
        });
        let sync = Sync {
            member_id: request.member_id,
            instance: request.group_instance_id,
            generation: request.generation_id,
            protocol_type: request.protocol_type,
            protocol_name: request.protocol_name,
            assignments: assignments.collect(),
        };
        entry.group.sync(sync, answer, now.elapsed);
    } else {
        refuse_sync(answer, ResponseError::UnknownMemberId);
    }
    reply(waiting)
}

/// Keeps a member's session alive and tells it when to join again.
pub(in crate::dev_broker) fn heartbeat(
    state: &mut State,
    request: &HeartbeatRequest,
    now: Now,
) -> HeartbeatResponse {
    let instance = request.group_instance_id.as_ref();
    let beaten = if request.group_id.is_empty() {
        Err(ResponseError::InvalidGroupId)
    } else if let Some(entry) = state.groups.get_mut(&request.group_id) {
        entry
            .group
            .heartbeat(&request.member_id, instance, request.generation_id, now.elapsed)
    } else {
        Err(ResponseError::UnknownMemberId)
    };
    HeartbeatResponse::default().with_error_code(code(beaten))
}

/// Removes members from their group.
pub(in crate::dev_broker) fn leave_group(
    state: &mut State,
    request: LeaveGroupRequest,
    version: i16,
    now: Now,
) -> LeaveGroupResponse {
    if request.group_id.is_empty() {
        return LeaveGroupResponse::default().with_error_code(ResponseError::InvalidGroupId.code());
    }
    let leaving: Vec<_> = if version < LEAVE_BATCHED {
        vec![(request.member_id, None)]
    } else {
        let members = request.members.into_iter();
        members
            .map(|member| (member.member_id, member.group_instance_id))
            .collect()
    };
    let left = match state.groups.get_mut(&request.group_id) {
        Some(entry) => entry.group.leave(&leaving, now.elapsed),
        None => vec![Err(ResponseError::UnknownMemberId); leaving.len()],
    };
    let mut codes = left.into_iter().map(code);
    if version < LEAVE_BATCHED {
        return LeaveGroupResponse::default().with_error_code(codes.next().unwrap_or_default());
    }
    let members = leaving
        .into_iter()
        .zip(codes)
        .map(|((member_id, instance), code)| {
            MemberResponse::default()
                .with_member_id(member_id)
                .with_group_instance_id(instance)
                .with_error_code(code)
        });
    LeaveGroupResponse::default().with_members(members.collect())
}

fn code(result: Result<(), ResponseError>) -> i16 {
    result.map_or_else(|error| error.code(), |()| 0)
}

/// Returns a duration that a client asked for; less than none is none.
fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

/// Answers at once if the answer is there already.
fn reply<T>(mut waiting: oneshot::Receiver<T>) -> Reply<T> {
    match waiting.try_recv() {
        Ok(response) => Reply::Now(response),
        Err(_) => Reply::Later(waiting),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::topics::Topics;
    use super::super::super::transactions::Transactions;
    use super::super::Groups;
    use super::*;

    fn join(protocols: usize) -> i16 {
        let mut state = State {
            address: ([127, 0, 0, 1], 9092).into(),
            topics: Topics::new(1 << 20),
            groups: Groups::new(),
            transactions: Transactions::new(),
        };
        let protocols = (0..protocols).map(|number| {
            JoinGroupRequestProtocol::default().with_name(StrBytes::from_string(number.to_string()))
        });
        let request = JoinGroupRequest::default()
            .with_group_id(StrBytes::from_static_str("group").into())
            .with_session_timeout_ms(10_000)
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(protocols.collect());
        let now = Now {
            elapsed: Duration::ZERO,
            wall_ms: 0,
        };
        match join_group(&mut state, request, 3, &Client::new("/127.0.0.1".into()), now) {
            Reply::Now(answer) => answer.error_code,
            Reply::Later(_) => panic!("the first member waits for nobody"),
        }
    }

    #[test]
    fn protocols_that_nobody_could_compare_in_time_are_refused() {
        assert_eq!(join(PROTOCOLS_MAX), 0);
        for many in [PROTOCOLS_MAX + 1, 400_000] {
            assert_eq!(join(many), ResponseError::InconsistentGroupProtocol.code());
        }
    }
}
