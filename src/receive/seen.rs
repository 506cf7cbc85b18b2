//! What was stored lately, and what is being stored now: a repeated delivery is answered without storing it again.
//!
//! An event is known by tenant, event id and conversation, as the processor's dedupe knows it. The memory is
//! bounded in number and in time; forgetting costs a duplicate in the log, which the processor drops. A lock is
//! held for one look at one map, never across an await.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus::IntGauge;
use siphasher::sip128::{Hasher128, SipHasher13};
use tokio::sync::Notify;

use crate::model::{Event, Timestamp};
use crate::produce;

/// Locks are shared out over this many maps, so that requests seldom meet.
const SHARDS: usize = 16;

/// 128 bits of a keyed hash: two events sharing one is not going to happen, and nobody can make them.
type Key = u128;

/// The memory of one receiver.
#[derive(Debug)]
pub(super) struct Seen {
    shards: Box<[Mutex<Shard>]>,
    shard_max: usize,
    ttl: Duration,
    hasher: SipHasher13,
    size: IntGauge,
}

#[derive(Debug, Default)]
struct Shard {
    states: HashMap<Key, State>,
    /// The stored ones in the order in which they became so.
    order: VecDeque<(Key, Timestamp)>,
}

#[derive(Debug)]
enum State {
    Storing(Arc<Flight>),
    Stored,
}

/// What is known of an event.
#[derive(Debug)]
pub(super) enum Sight {
    /// Nothing: it is the caller's to store.
    New,
    /// It is durable, or stands in the caller's own request already.
    Before,
    /// Another request is storing it.
    Flying(Arc<Flight>),
}

impl Seen {
    /// Makes a memory of at most about `max` events, each for `ttl`.
    pub(super) fn new(max: usize, ttl: Duration, size: IntGauge) -> Arc<Self> {
        // A small memory is not worth sharing out, and is exact in one piece.
        let shards = if max < 1_024 { 1 } else { SHARDS };
        let random = RandomState::new();
        Arc::new(Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            shard_max: max.div_ceil(shards),
            ttl,
            hasher: SipHasher13::new_with_keys(random.hash_one(0), random.hash_one(1)),
            size,
        })
    }

    /// Begins a request's claims.
    pub(super) fn ticket(self: &Arc<Self>) -> Ticket {
        Ticket {
            seen: Arc::clone(self),
            keys: Vec::new(),
            flight: Arc::default(),
        }
    }

    fn key(&self, event: &Event) -> Key {
        let mut hasher = self.hasher;
        let conversation = event
            .conversation
            .as_ref()
            .map_or("", |conversation| conversation.as_str());
        for part in [event.tenant.as_str(), event.id.as_str(), conversation] {
            hasher.write_usize(part.len());
            hasher.write(part.as_bytes());
        }
        hasher.finish128().as_u128()
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, Shard> {
        let index =
            usize::try_from(key % self.shards.len() as u128).expect("a remainder is below the divisor");
        // A panic while holding it cannot leave a map half changed.
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim(&self, key: Key, flight: &Arc<Flight>, now: Timestamp) -> Sight {
        let mut shard = self.shard(key);
        self.forget(&mut shard, now);
        match shard.states.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(State::Storing(Arc::clone(flight)));
                Sight::New
            }
            Entry::Occupied(occupied) => match occupied.get() {
                State::Storing(other) if !Arc::ptr_eq(other, flight) => Sight::Flying(Arc::clone(other)),
                State::Storing(_) | State::Stored => Sight::Before,
            },
        }
    }

    fn stored(&self, key: Key, now: Timestamp) {
        let mut shard = self.shard(key);
        shard.states.insert(key, State::Stored);
        shard.order.push_back((key, now));
        self.size.inc();
        self.forget(&mut shard, now);
    }

    fn release(&self, key: Key) {
        self.shard(key).states.remove(&key);
    }

    /// Drops what is too old or too much, the oldest first.
    fn forget(&self, shard: &mut Shard, now: Timestamp) {
        while let Some(&(key, at)) = shard.order.front() {
            if shard.order.len() <= self.shard_max && now.saturating_since(at) < self.ttl {
                return;
            }
            shard.order.pop_front();
            shard.states.remove(&key);
            self.size.dec();
        }
    }
}

/// One request's claims: what it may store, until it says how that went. Dropped before, it gives them up.
#[derive(Debug)]
pub(super) struct Ticket {
    seen: Arc<Seen>,
    keys: Vec<Key>,
    flight: Arc<Flight>,
}

impl Ticket {
    /// Claims an event for this request, unless it is known.
    pub(super) fn claim(&mut self, event: &Event, now: Timestamp) -> Sight {
        let key = self.seen.key(event);
        let sight = self.seen.claim(key, &self.flight, now);
        if matches!(sight, Sight::New) {
            self.keys.push(key);
        }
        sight
    }

    /// Says how storing the claimed events went, to the memory and to everyone who waits.
    pub(super) fn settle(mut self, outcome: Result<(), produce::Error>, now: Timestamp) {
        self.finish(outcome, now);
    }

    fn finish(&mut self, outcome: Result<(), produce::Error>, now: Timestamp) {
        for key in self.keys.drain(..) {
            match outcome {
                Ok(()) => self.seen.stored(key, now),
                Err(_) => self.seen.release(key),
            }
        }
        self.flight.land(outcome);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let outcome = Err(produce::Error::Unavailable(
            "the first delivery was given up".into(),
        ));
        for key in self.keys.drain(..) {
            self.seen.release(key);
        }
        self.flight.land(outcome);
    }
}

/// Events on their way to the log, for those who wait for the same ones.
#[derive(Debug, Default)]
pub(super) struct Flight {
    outcome: OnceLock<Result<(), produce::Error>>,
    landed: Notify,
}

impl Flight {
    /// Waits for the outcome of the request that stores them.
    pub(super) async fn outcome(&self) -> Result<(), produce::Error> {
        loop {
            let landed = self.landed.notified();
            if let Some(outcome) = self.outcome.get() {
                return outcome.clone();
            }
            landed.await;
        }
    }

    /// Sets the outcome; the first one stands.
    fn land(&self, outcome: Result<(), produce::Error>) {
        if self.outcome.set(outcome).is_ok() {
            self.landed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConversationId, EventId, Kind, Priority, Source, TenantId};

    const T0: Timestamp = Timestamp::from_millis(1_795_000_000_000);
    const TTL: Duration = Duration::from_secs(600);

    fn event(tenant: &str, id: &str, conversation: Option<&str>) -> Event {
        Event {
            tenant: TenantId::new(tenant).unwrap(),
            conversation: conversation.and_then(ConversationId::new),
            id: EventId::new(id).unwrap(),
            kind: Kind::new("message.sent").unwrap(),
            front_type: None,
            front_inner_type: None,
            priority: Priority::High,
            source: Source::Webhook,
            emitted_at: T0,
            received_at: T0,
            payload: None,
        }
    }

    fn memory(max: usize) -> Arc<Seen> {
        Seen::new(max, TTL, IntGauge::new("size", "size").unwrap())
    }

    fn store(seen: &Arc<Seen>, event: &Event, now: Timestamp) -> bool {
        let mut ticket = seen.ticket();
        let is_new = matches!(ticket.claim(event, now), Sight::New);
        ticket.settle(Ok(()), now);
        is_new
    }

    #[test]
    fn knows_an_event_by_tenant_id_and_conversation() {
        let seen = memory(100);
        assert!(store(&seen, &event("t", "e", Some("c")), T0));
        assert!(!store(&seen, &event("t", "e", Some("c")), T0));
        for other in [
            event("t", "e", None),
            event("t", "e", Some("d")),
            event("t", "ec", None),
            event("te", "c", None),
        ] {
            assert!(store(&seen, &other, T0), "{other:?}");
        }
        assert_eq!(seen.size.get(), 5);
    }

    #[test]
    fn forgets_by_time_and_by_number() {
        let seen = memory(2);
        let (a, b, c) = (
            event("t", "a", None),
            event("t", "b", None),
            event("t", "c", None),
        );
        assert!(store(&seen, &a, T0));
        assert!(!store(&seen, &a, T0.plus(TTL - Duration::from_millis(1))));
        assert!(store(&seen, &a, T0.plus(TTL)), "older than its time");

        let later = T0.plus(TTL);
        assert!(store(&seen, &b, later) && store(&seen, &c, later));
        assert!(!store(&seen, &c, later) && !store(&seen, &b, later));
        assert!(store(&seen, &a, later), "pushed out by the two after it");
        assert_eq!(seen.size.get(), 2);
    }

    #[test]
    fn a_memory_of_none_still_knows_what_is_in_flight() {
        let seen = memory(0);
        let (mut first, mut second) = (seen.ticket(), seen.ticket());
        let one = event("t", "e", None);
        assert!(matches!(first.claim(&one, T0), Sight::New));
        assert!(
            matches!(first.claim(&one, T0), Sight::Before),
            "twice in one request"
        );
        assert!(matches!(second.claim(&one, T0), Sight::Flying(_)));
        first.settle(Ok(()), T0);
        assert!(matches!(second.claim(&one, T0), Sight::New));
        assert_eq!(seen.size.get(), 0);
    }

    #[tokio::test]
    async fn shares_the_first_ones_outcome_and_lets_the_next_try() {
        let seen = memory(100);
        let one = event("t", "e", None);
        let failure = produce::Error::Backpressure;

        let mut first = seen.ticket();
        assert!(matches!(first.claim(&one, T0), Sight::New));
        let Sight::Flying(flight) = seen.ticket().claim(&one, T0) else {
            panic!("not in flight");
        };
        let waiting = tokio::task::JoinSet::from_iter([async move { flight.outcome().await }]);
        first.settle(Err(failure.clone()), T0);
        assert_eq!(waiting.join_all().await, [Err(failure)]);

        assert!(store(&seen, &one, T0), "a failure is not remembered");
        assert!(!store(&seen, &one, T0));
    }

    #[tokio::test]
    async fn a_ticket_that_is_dropped_gives_its_claims_up() {
        let seen = memory(100);
        let one = event("t", "e", None);
        let mut first = seen.ticket();
        assert!(matches!(first.claim(&one, T0), Sight::New));
        let Sight::Flying(flight) = seen.ticket().claim(&one, T0) else {
            panic!("not in flight");
        };
        drop(first);
        assert!(matches!(
            flight.outcome().await,
            Err(produce::Error::Unavailable(_))
        ));
        assert!(store(&seen, &one, T0));
    }
}
