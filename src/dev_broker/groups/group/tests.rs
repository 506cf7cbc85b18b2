//! The machine on a virtual clock. That real clients and the real Kafka agree with it is the conformance suite's matter.

mod chance;
mod rebalances;
mod statics;

use std::time::Duration;

use kafka_protocol::messages::JoinGroupResponse;
use tokio::sync::oneshot::{self, Receiver};

use super::*;

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);
const LATEST: i16 = 9;

/// A group, its clock, and clients that speak to it.
struct Lab {
    group: Group,
    now: Duration,
    ids: u32,
}

/// What one client says of itself.
#[derive(Clone)]
struct Client {
    id: StrBytes,
    instance: Option<StrBytes>,
    version: i16,
    kind: &'static str,
    protocols: Vec<(&'static str, &'static [u8])>,
    rebalance: Duration,
}

impl Client {
    fn new() -> Self {
        Self {
            id: StrBytes::new(),
            instance: None,
            version: LATEST,
            kind: CONSUMER,
            protocols: vec![("range", b"\0\0\0\0\0\0"), ("sticky", b"\0\0\0\0\0\0")],
            rebalance: REBALANCE,
        }
    }

    fn instance(name: &'static str) -> Self {
        Self {
            instance: Some(StrBytes::from_static_str(name)),
            ..Self::new()
        }
    }

    fn offering(self, protocols: &[&'static str]) -> Self {
        let protocols = protocols
            .iter()
            .map(|name| (*name, &b"\0\0\0\0\0\0"[..]))
            .collect();
        Self { protocols, ..self }
    }
}

impl Lab {
    fn new() -> Self {
        Self {
            group: Group::new(),
            now: Duration::from_secs(1),
            ids: 0,
        }
    }

    /// Joins once and returns where the answer comes.
    fn joins(&mut self, client: &Client) -> Receiver<JoinGroupResponse> {
        let (answer, waiting) = JoinAnswer::channel(client.version);
        self.ids += 1;
        let protocols = client.protocols.iter().map(|(name, metadata)| Protocol {
            name: StrBytes::from_static_str(name),
            metadata: Bytes::from_static(metadata),
        });
        let join = Join {
            member_id: client.id.clone(),
            fresh_id: StrBytes::from_string(format!("member-{}", self.ids)),
            instance: client.instance.clone(),
            client_id: StrBytes::from_static_str("lab"),
            client_host: StrBytes::from_static_str("/127.0.0.1"),
            session_timeout: SESSION,
            rebalance_timeout: client.rebalance,
            protocol_type: StrBytes::from_static_str(client.kind),
            protocols: protocols.collect(),
            answer,
        };
        self.group.join(join, self.now);
        waiting
    }

    /// Is given an id and joins with it, which does not end yet.
    fn enters(&mut self, client: &mut Client) -> Receiver<JoinGroupResponse> {
        if client.instance.is_none() {
            let promised = answered(self.joins(client));
            assert_eq!(promised.error_code, ResponseError::MemberIdRequired.code());
            client.id = promised.member_id;
        }
        self.joins(client)
    }

    fn syncs(
        &mut self,
        client: &Client,
        generation: i32,
        shares: &[(&Client, &'static [u8])],
    ) -> Receiver<SyncGroupResponse> {
        let (answer, waiting) = oneshot::channel();
        let shares = shares
            .iter()
            .map(|(to, share)| (to.id.clone(), Bytes::from_static(share)));
        let sync = Sync {
            member_id: client.id.clone(),
            instance: client.instance.clone(),
            generation,
            protocol_type: Some(StrBytes::from_static_str(client.kind)),
            protocol_name: None,
            assignments: shares.collect(),
        };
        self.group.sync(sync, answer, self.now);
        waiting
    }

    /// Joins and syncs alone: the group is stable in its next generation.
    fn settles(&mut self, client: &mut Client) -> i32 {
        let waiting = self.enters(client);
        let joined = answered(waiting);
        assert_eq!(joined.error_code, 0);
        client.id = joined.member_id;
        let synced = answered(self.syncs(client, joined.generation_id, &[(client, b"all")]));
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all"[..]));
        assert_eq!(self.group.state(), GroupState::Stable);
        joined.generation_id
    }

    fn beats(&mut self, client: &Client, generation: i32) -> Result<(), ResponseError> {
        let instance = client.instance.as_ref();
        self.group.heartbeat(&client.id, instance, generation, self.now)
    }

    /// Lets time pass from deadline to deadline, as the broker's timer does.
    fn waits(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.group.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.group.on_time(self.now);
        }
        self.now = until;
    }

    /// A leader and a follower in a stable generation.
    fn pair(&mut self) -> (Client, Client, i32) {
        let (mut leader, mut follower) = (Client::new(), Client::new());
        self.settles(&mut leader);
        let follower_joins = self.enters(&mut follower);
        let leader_joins = self.joins(&leader);
        let generation = answered(leader_joins).generation_id;
        assert_eq!(answered(follower_joins).generation_id, generation);
        let waiting = self.syncs(&follower, generation, &[]);
        answered(self.syncs(&leader, generation, &[(&leader, b"a"), (&follower, b"b")]));
        assert_eq!(&answered(waiting).assignment[..], b"b");
        (leader, follower, generation)
    }
}

/// Returns the answer, which must be there.
fn answered<T>(mut waiting: Receiver<T>) -> T {
    waiting.try_recv().expect("the answer is not decided")
}

#[track_caller]
fn assert_waits<T>(waiting: &mut Receiver<T>) {
    assert!(
        matches!(waiting.try_recv(), Err(oneshot::error::TryRecvError::Empty)),
        "nobody waits for this answer any more"
    );
}
