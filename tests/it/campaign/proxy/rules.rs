//! Which faults hold, for whom, and what they have hit.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_protocol::messages::ApiKey;
use tokio::sync::{mpsc, oneshot, watch};

use super::frames;

/// What happens to a connection that a [`Rule`] is about.
///
/// Faults compose: a connection that is cut is cut whatever else holds; one that stalls passes nothing until no stall is
/// left; then losses swallow what would have passed; what is left is held, caught and delayed, by the longest of several.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Connections end now, and new ones as soon as it is known whose they are. A client sees its connection accepted first:
    /// the port has to stay the proxy's.
    Cut(Ending),
    /// Connections are accepted and stay up, but nothing passes in either direction, not even the end of a connection.
    /// Once lifted, everything that was held flows on.
    Stall,
    /// What comes in flows on later, in order: each chunk by its own time between these two, and never before an earlier one.
    Delay { least: Duration, most: Duration },
    /// What clients send is swallowed, the end of a connection too. Once lifted, a connection of which something was
    /// swallowed ends, because its stream has a hole: TCP would have given up its retransmissions.
    LoseRequests,
    /// The same for what brokers send.
    LoseAnswers,
    /// The broker gets the request and does what it asks for; its answer is swallowed, and the connection ends, so that the
    /// client cannot know. For the first `times` answers.
    LoseAnswerOf { api: ApiKey, times: u32 },
    /// The same for one transaction that the coordinator has committed, as its answer says.
    LoseAnswerOfCommit,
    /// The request, and all behind it, reaches the broker this much later.
    HoldRequest { api: ApiKey, how_long: Duration },
    /// The request, and all behind it, is held until the test has seen it ([`Applied::next_request`]) and lets it go on.
    ///
    /// [`Applied::next_request`]: super::Applied::next_request
    OnRequest { api: ApiKey },
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ending {
    /// As if the peer's machine had forgotten it (RST).
    Reset,
    /// As if the peer had closed it (FIN).
    Close,
}

/// A fault and whom it hits: everybody, unless said otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    fault: Fault,
    node: Option<u32>,
    client: Client,
}

#[derive(Clone, Debug)]
enum Client {
    Any,
    Named(String),
    Prefixed(String),
}

impl Rule {
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            fault,
            node: None,
            client: Client::Any,
        }
    }

    /// Only connections to this node; the first one is 1, as in `scripts/kafka` and Kafka's `node.id`.
    pub(crate) fn at_node(self, node: u32) -> Self {
        Self {
            node: Some(node),
            ..self
        }
    }

    /// Only connections of the client with this `client.id`.
    pub(crate) fn of_client(self, id: &str) -> Self {
        Self {
            client: Client::Named(id.to_owned()),
            ..self
        }
    }

    /// Only connections of clients whose `client.id` begins like this.
    pub(crate) fn of_clients(self, prefix: &str) -> Self {
        Self {
            client: Client::Prefixed(prefix.to_owned()),
            ..self
        }
    }

    /// A client that is not known yet is hit by what hits everybody.
    fn is_about(&self, node: u32, client: Option<&str>) -> bool {
        let is_client = match &self.client {
            Client::Any => true,
            Client::Named(id) => client == Some(id),
            Client::Prefixed(prefix) => client.is_some_and(|client| client.starts_with(prefix)),
        };
        is_client && self.node.is_none_or(|wanted| wanted == node)
    }
}

/// What a rule has hit so far: proof that the fault happened. What another one holds, or delays longer, it has not hit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Hits {
    /// Different connections.
    pub(crate) connections: usize,
    /// Requests or answers, by faults that are about one; connections, by a cut; chunks of bytes, by the others.
    pub(crate) pieces: u64,
}

/// A request that is held until this is dropped, or its rule is lifted.
pub(crate) struct Caught {
    pub(crate) node: u32,
    pub(crate) client: String,
    _go_on: oneshot::Sender<()>,
}

/// A rule while it holds.
pub(super) struct Active {
    rule: Rule,
    /// By their numbers.
    connections: Mutex<BTreeSet<u64>>,
    pieces: AtomicU64,
    /// Of [`Fault::LoseAnswerOf`].
    answers_left: AtomicU32,
    caught: mpsc::Sender<Caught>,
}

impl Active {
    pub(super) fn hits(&self) -> Hits {
        Hits {
            connections: self.connections.lock().unwrap().len(),
            pieces: self.pieces.load(Ordering::Relaxed),
        }
    }

    /// Says whether this answer is to be lost too, and counts it.
    pub(super) fn takes_answer(&self, answer: &[u8]) -> bool {
        if matches!(self.rule.fault, Fault::LoseAnswerOfCommit) && !frames::has_ended_transaction(answer) {
            return false;
        }
        self.answers_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }
}

/// Until when a request is held.
pub(super) enum Hold {
    For(Duration),
    /// And let go by the test.
    UntilSeen,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Direction {
    /// From the client to the broker.
    Requests,
    Answers,
}

/// All rules that hold, for the test to change and for connections to follow.
pub(super) struct Table(watch::Sender<Vec<Arc<Active>>>);

impl Table {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }

    /// Adds a rule. What the proxy reads from now on is subject to it. The receiver gets what [`Fault::OnRequest`] catches.
    pub(super) fn add(&self, rule: Rule) -> (Arc<Active>, mpsc::Receiver<Caught>) {
        let (caught, receiver) = mpsc::channel(1);
        let answers_left = if let Fault::LoseAnswerOf { times, .. } = rule.fault {
            times
        } else {
            u32::from(matches!(rule.fault, Fault::LoseAnswerOfCommit))
        };
        let active = Arc::new(Active {
            rule,
            connections: Mutex::default(),
            pieces: AtomicU64::default(),
            answers_left: AtomicU32::new(answers_left),
            caught,
        });
        self.0.send_modify(|rules| rules.push(active.clone()));
        (active, receiver)
    }

    pub(super) fn remove(&self, active: &Arc<Active>) {
        self.0
            .send_modify(|rules| rules.retain(|one| !Arc::ptr_eq(one, active)));
    }

    /// Returns the rules as a new connection sees them.
    pub(super) fn scope(&self, node: u32, connection: u64) -> Scope {
        Scope {
            rules: self.0.subscribe(),
            node,
            connection,
            client: None,
        }
    }
}

/// The rules as one connection sees them. Each of its parts that waits has its own.
#[derive(Clone)]
pub(super) struct Scope {
    rules: watch::Receiver<Vec<Arc<Active>>>,
    node: u32,
    connection: u64,
    client: Option<Arc<str>>,
}

impl Scope {
    /// Takes note of whose connection it is.
    pub(super) fn belongs_to(&mut self, client: &str) {
        self.client = Some(client.into());
    }

    pub(super) fn node(&self) -> u32 {
        self.node
    }

    /// Waits for a rule that cuts this connection.
    pub(super) async fn cut(&mut self) -> Ending {
        loop {
            let cut = self.find(|fault| {
                if let Fault::Cut(ending) = fault {
                    Some(ending)
                } else {
                    None
                }
            });
            if let Some((ending, cut)) = cut {
                self.hit(&cut);
                return ending;
            }
            self.changed().await;
        }
    }

    /// Waits until no rule stalls this connection.
    pub(super) async fn no_stall(&mut self) {
        let mut counted = None;
        while let Some(((), stall)) = self.find(|fault| matches!(fault, Fault::Stall).then_some(())) {
            if !counted.is_some_and(|counted| Arc::ptr_eq(&counted, &stall)) {
                self.hit(&stall);
            }
            counted = Some(stall);
            self.changed().await;
        }
    }

    /// Returns the longest delay, of a chunk with this number.
    pub(super) fn delay(&mut self, chunk: u64) -> Option<(Duration, Arc<Active>)> {
        let draw = draw(self.connection, chunk);
        let delays = self.matching(|fault| {
            if let Fault::Delay { least, most } = fault {
                Some(least + most.saturating_sub(least).mul_f64(draw))
            } else {
                None
            }
        });
        delays.into_iter().max_by_key(|(delay, _)| *delay)
    }

    pub(super) fn loss(&mut self, of: Direction) -> Option<Arc<Active>> {
        let loss = self.find(|fault| {
            let is_lost = match of {
                Direction::Requests => matches!(fault, Fault::LoseRequests),
                Direction::Answers => matches!(fault, Fault::LoseAnswers),
            };
            is_lost.then_some(())
        });
        loss.map(|((), loss)| loss)
    }

    /// Waits until no rule swallows what goes this way, and the end of the connection may be seen.
    pub(super) async fn no_loss(&mut self, direction: Direction) {
        while self.loss(direction).is_some() {
            self.changed().await;
        }
        self.no_stall().await;
    }

    /// Returns what holds requests with this key.
    pub(super) fn holds_of(&mut self, key: i16) -> Vec<(Hold, Arc<Active>)> {
        self.matching(|fault| match fault {
            Fault::HoldRequest { api, how_long } if api as i16 == key => Some(Hold::For(how_long)),
            Fault::OnRequest { api } if api as i16 == key => Some(Hold::UntilSeen),
            Fault::Cut(_)
            | Fault::Stall
            | Fault::Delay { .. }
            | Fault::LoseRequests
            | Fault::LoseAnswers
            | Fault::LoseAnswerOf { .. }
            | Fault::LoseAnswerOfCommit
            | Fault::HoldRequest { .. }
            | Fault::OnRequest { .. } => None,
        })
    }

    /// Returns the rules that lose the answer to this request.
    pub(super) fn losses_of_answer_to(&mut self, request: &[u8]) -> Vec<Arc<Active>> {
        let (key, _) = frames::request(request);
        let losses = self.matching(|fault| {
            let is_of_key = matches!(fault, Fault::LoseAnswerOf { api, .. } if api as i16 == key);
            let is_of_commit = matches!(fault, Fault::LoseAnswerOfCommit) && frames::is_commit(request);
            (is_of_key || is_of_commit).then_some(())
        });
        losses.into_iter().map(|((), rule)| rule).collect()
    }

    /// Gives a request to the test, and waits until it may go on.
    pub(super) async fn catch(&self, rule: &Arc<Active>) {
        let (go_on, may_go_on) = oneshot::channel();
        let caught = Caught {
            node: self.node,
            client: self.client.as_deref().unwrap_or_default().to_owned(),
            _go_on: go_on,
        };
        let mut watched = self.clone();
        let seen = async {
            // Both end with an error when nobody is there any more to wait for.
            if rule.caught.send(caught).await.is_ok() {
                self.hit(rule);
                let _ = may_go_on.await;
            }
        };
        tokio::select! {
            () = seen => {}
            () = watched.lifted(rule) => {}
        }
    }

    /// Says whether this rule still holds.
    pub(super) fn is_held_to(&mut self, rule: &Arc<Active>) -> bool {
        let rules = self.rules.borrow_and_update();
        rules.iter().any(|one| Arc::ptr_eq(one, rule))
    }

    /// Waits until this rule is lifted.
    pub(super) async fn lifted(&mut self, rule: &Arc<Active>) {
        while self.is_held_to(rule) {
            self.changed().await;
        }
    }

    /// Waits until rules differ from those that were last looked at.
    pub(super) async fn changed(&mut self) {
        let changed = self.rules.changed().await;
        changed.expect("the table of rules outlives the connections");
    }

    fn find<T>(&mut self, pick: impl Fn(Fault) -> Option<T>) -> Option<(T, Arc<Active>)> {
        self.matching(pick).into_iter().next()
    }

    /// Returns what `pick` takes of the rules about this connection.
    fn matching<T>(&mut self, pick: impl Fn(Fault) -> Option<T>) -> Vec<(T, Arc<Active>)> {
        let rules = self.rules.borrow_and_update();
        let ours = rules
            .iter()
            .filter(|active| active.rule.is_about(self.node, self.client.as_deref()));
        ours.filter_map(|active| Some((pick(active.rule.fault)?, active.clone())))
            .collect()
    }

    /// Counts that a rule hit this connection.
    pub(super) fn hit(&self, rule: &Active) {
        rule.pieces.fetch_add(1, Ordering::Relaxed);
        rule.connections.lock().unwrap().insert(self.connection);
    }
}

/// Returns a number from 0 up to 1, the same for the same chunk of the same connection (one step of SplitMix64).
#[expect(clippy::cast_precision_loss, reason = "53 bits are what a fraction has")]
fn draw(connection: u64, chunk: u64) -> f64 {
    let mut bits = ((connection << 32) ^ chunk).wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}
