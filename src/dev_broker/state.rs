//! All that the broker knows, behind one lock, and how a handler answers.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::messages::BrokerId;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::{Notify, oneshot};

use super::clock::{Clock, Now};
use super::groups::Groups;
use super::topics::Topics;
use super::transactions::Transactions;

/// The id of the one node.
pub(super) const NODE_ID: BrokerId = BrokerId(1);
/// What the node calls its cluster.
pub(super) const CLUSTER_ID: StrBytes = StrBytes::from_static_str("frontstream-dev-broker");

/// What a handler gives back.
pub(super) enum Reply<T> {
    /// The answer.
    Now(T),
    /// The answer comes when another request or a timer has decided it; nobody holds the lock meanwhile.
    Later(oneshot::Receiver<T>),
}

/// Everything a request may read and change.
pub(super) struct State {
    /// Where clients find the node.
    pub(super) address: SocketAddr,
    pub(super) topics: Topics,
    pub(super) groups: Groups,
    pub(super) transactions: Transactions,
}

impl State {
    /// Returns when the earliest timer is due.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let deadlines = [
            self.groups.next_deadline(),
            self.transactions.next_deadline(),
            self.topics.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, now: Now) {
        self.groups.on_time(now);
        self.transactions.on_time(&mut self.topics, &mut self.groups, now);
        self.topics.on_time(now);
    }
}

/// The state, its lock and its clock.
pub(super) struct Broker {
    clock: Clock,
    state: Mutex<State>,
    /// Told whenever a request made a timer due earlier than the one that is waited for.
    rearm: Notify,
}

impl Broker {
    pub(super) fn new(address: SocketAddr, log_bytes_max: usize) -> Self {
        Self {
            clock: Clock::new(),
            state: Mutex::new(State {
                address,
                topics: Topics::new(log_bytes_max),
                groups: Groups::new(),
                transactions: Transactions::new(),
            }),
            rearm: Notify::new(),
        }
    }

    /// Runs one request on the state.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State, Now) -> T) -> T {
        let mut state = self.lock();
        let before = state.next_deadline();
        let done = work(&mut state, self.clock.now());
        let after = state.next_deadline();
        drop(state);
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.rearm.notify_one();
        }
        done
    }

    /// Wakes the state whenever a timer is due; never returns.
    pub(super) async fn keep_time(&self) {
        loop {
            let due = self.lock().next_deadline();
            let wait = due.map(|due| due.saturating_sub(self.clock.now().elapsed));
            match wait {
                None => self.rearm.notified().await,
                Some(Duration::ZERO) => {
                    let now = self.clock.now();
                    self.lock().on_time(now);
                    // A timer that stays due after its work would spin: others get their turn at least.
                    tokio::task::yield_now().await;
                }
                Some(wait) => {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.rearm.notified() => {}
                    }
                }
            }
        }
    }

    /// A request that panicked ended its own connection; what it left half done is its own topic or group, and
    /// everybody else goes on.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
