//! One member of a group, and the answers it waits for.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponse;
use kafka_protocol::messages::sync_group_response::SyncGroupResponse;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;

/// From this version on a joining client can be told that there is no protocol; older ones get an empty name.
const JOIN_NULLABLE_PROTOCOL: i16 = 7;

/// One way to share partitions that a member knows, and what it says of itself to the one who shares them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dev_broker::groups) struct Protocol {
    pub(in crate::dev_broker::groups) name: StrBytes,
    pub(in crate::dev_broker::groups) metadata: Bytes,
}

/// Where the answer to one JoinGroup goes.
#[derive(Debug)]
pub(in crate::dev_broker::groups) struct JoinAnswer {
    sender: oneshot::Sender<JoinGroupResponse>,
    version: i16,
}

impl JoinAnswer {
    /// Pairs an answer of this version of the API with the one who waits for it.
    pub(in crate::dev_broker::groups) fn channel(
        version: i16,
    ) -> (Self, oneshot::Receiver<JoinGroupResponse>) {
        let (sender, receiver) = oneshot::channel();
        (Self { sender, version }, receiver)
    }

    /// Returns the version of the API that is spoken.
    pub(super) fn version(&self) -> i16 {
        self.version
    }

    pub(super) fn send(self, mut response: JoinGroupResponse) {
        let name = response.protocol_name.take().filter(|name| !name.is_empty());
        response.protocol_name = match name {
            None if self.version < JOIN_NULLABLE_PROTOCOL => Some(StrBytes::new()),
            name => name,
        };
        // Nobody waits any more: the client hung up, and its session will tell.
        drop(self.sender.send(response));
    }

    pub(in crate::dev_broker::groups) fn refuse(self, error: ResponseError, member_id: StrBytes) {
        let response = JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_member_id(member_id);
        self.send(response);
    }
}

/// Where the answer to one SyncGroup goes.
pub(in crate::dev_broker::groups) type SyncAnswer = oneshot::Sender<SyncGroupResponse>;

/// Answers a SyncGroup with an error.
pub(in crate::dev_broker::groups) fn refuse_sync(answer: SyncAnswer, error: ResponseError) {
    // As above: a client that hung up needs no answer.
    drop(answer.send(SyncGroupResponse::default().with_error_code(error.code())));
}

/// A member of a group.
#[derive(Debug)]
pub(in crate::dev_broker::groups) struct Member {
    pub(in crate::dev_broker::groups) id: StrBytes,
    /// What a static member is called across its restarts.
    pub(in crate::dev_broker::groups) instance: Option<StrBytes>,
    pub(in crate::dev_broker::groups) client_id: StrBytes,
    pub(in crate::dev_broker::groups) client_host: StrBytes,
    pub(in crate::dev_broker::groups) assignment: Bytes,
    pub(super) rebalance_timeout: Duration,
    pub(super) session_timeout: Duration,
    /// In the order in which the member prefers them.
    pub(super) protocols: Vec<Protocol>,
    /// It has never been told a generation, so it cannot send heartbeats and its first join has a longer timeout.
    pub(super) is_new: bool,
    pub(super) session_due: Option<Duration>,
    pub(super) joining: Option<JoinAnswer>,
    pub(super) syncing: Option<SyncAnswer>,
}

impl Member {
    pub(super) fn offers(&self, protocol: &StrBytes) -> bool {
        self.protocols.iter().any(|offered| offered.name == *protocol)
    }

    /// Returns what the member said of itself for this protocol.
    pub(in crate::dev_broker::groups) fn metadata(&self, protocol: Option<&StrBytes>) -> Bytes {
        self.protocols
            .iter()
            .find(|offered| Some(&offered.name) == protocol)
            .map(|offered| offered.metadata.clone())
            .unwrap_or_default()
    }

    /// Whoever waits for an answer cannot send heartbeats meanwhile, unless it joins for the first time: that one may
    /// have hung up, came back under another id, and nothing else would ever remove it.
    pub(super) fn may_be_silent(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    pub(super) fn rearm(&mut self, now: Duration) {
        self.session_due = Some(now + self.session_timeout);
    }

    /// Answers what the member waits for with an error, under the id given.
    pub(super) fn dismiss(&mut self, error: ResponseError, member_id: &StrBytes) {
        if let Some(answer) = self.joining.take() {
            answer.refuse(error, member_id.clone());
        }
        if let Some(answer) = self.syncing.take() {
            refuse_sync(answer, error);
        }
    }
}
