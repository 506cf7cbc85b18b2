//! Groups as librdkafka lives in them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::super::member::{Member, SESSION_MS, commit, commit_request, subscription};
use super::super::raw::{Raw, error, eventually, plain};
use crate::support::Cluster;

/// How long one look at a consumer takes at most.
const LOOK: Duration = Duration::from_millis(20);

/// What happened to a consumer's assignment, in its own order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Assigned(BTreeSet<i32>),
    Revoked(BTreeSet<i32>),
}

#[derive(Clone, Default)]
struct Changes(Arc<Mutex<Vec<Change>>>);

impl Changes {
    fn take(&self) -> Vec<Change> {
        std::mem::take(&mut self.0.lock().expect("no thread panics holding it"))
    }
}

impl ClientContext for Changes {}

impl ConsumerContext for Changes {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let partitions = |list: &TopicPartitionList| {
            list.elements()
                .iter()
                .map(rdkafka::topic_partition_list::TopicPartitionListElem::partition)
                .collect()
        };
        let change = match rebalance {
            Rebalance::Assign(list) => Change::Assigned(partitions(list)),
            Rebalance::Revoke(list) => Change::Revoked(partitions(list)),
            Rebalance::Error(error) => panic!("rebalance: {error}"),
        };
        self.0.lock().expect("no thread panics holding it").push(change);
    }
}

/// One topic, one group, and the consumers in it.
struct Place<'a> {
    cluster: &'a Cluster,
    topic: String,
    group: String,
    assignor: &'static str,
}

struct Client {
    consumer: BaseConsumer<Changes>,
    changes: Changes,
}

impl<'a> Place<'a> {
    fn new(cluster: &'a Cluster, partitions: i32, assignor: &'static str) -> Self {
        let prefix = cluster.unique_prefix("clients");
        let place = Self {
            cluster,
            topic: format!("{prefix}topic"),
            group: format!("{prefix}group"),
            assignor,
        };
        cluster.create_topic(&place.topic, partitions);
        place
    }

    fn client(&self, instance: Option<&str>) -> Client {
        let changes = Changes::default();
        let mut config = self.cluster.client_config();
        config
            .set("group.id", &self.group)
            .set("partition.assignment.strategy", self.assignor)
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "100")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "20");
        if let Some(instance) = instance {
            config.set("group.instance.id", instance);
        }
        let consumer: BaseConsumer<Changes> =
            config.create_with_context(changes.clone()).expect("a consumer");
        consumer.subscribe(&[&self.topic]).expect("a subscription");
        Client { consumer, changes }
    }

    /// Waits until these consumers have these partitions between them, in some order.
    fn await_shares(&self, clients: &[&Client], shares: &[&[i32]]) {
        let wanted: BTreeSet<BTreeSet<i32>> = shares
            .iter()
            .map(|share| share.iter().copied().collect())
            .collect();
        eventually(&format!("the shares are {wanted:?}"), || {
            for client in clients {
                client.look();
            }
            let found: BTreeSet<_> = clients.iter().map(|client| client.share()).collect();
            (found == wanted).then_some(())
        });
    }

    fn store(&self, partition: i32, values: &[&str]) {
        Raw::connect(self.cluster).store(&self.topic, partition, &plain(values));
    }
}

impl Client {
    fn share(&self) -> BTreeSet<i32> {
        let assigned = self.consumer.assignment().expect("an assignment");
        assigned
            .elements()
            .iter()
            .map(rdkafka::topic_partition_list::TopicPartitionListElem::partition)
            .collect()
    }

    /// Lets the client do its work.
    fn look(&self) -> Option<Result<String, KafkaError>> {
        let record = self.consumer.poll(LOOK)?;
        Some(record.map(|record| String::from_utf8_lossy(record.payload().unwrap_or_default()).into_owned()))
    }

    fn read(&self, count: usize) -> Vec<String> {
        let mut values = Vec::new();
        eventually(&format!("{count} records are read"), || {
            if let Some(record) = self.look() {
                values.push(record.expect("a record"));
            }
            (values.len() >= count).then_some(())
        });
        values
    }

    fn commit(&self, topic: &str, partition: i32, offset: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(topic, partition, Offset::Offset(offset))
            .expect("an offset");
        self.consumer
            .commit(&offsets, CommitMode::Sync)
            .expect("a commit");
    }
}

fn set(partitions: &[i32]) -> BTreeSet<i32> {
    partitions.iter().copied().collect()
}

/// Alone, a member has everything; another one after it goes on where it committed.
pub(super) fn alone(cluster: &Cluster) {
    let place = Place::new(cluster, 3, "range");
    place.store(1, &["a", "b", "c"]);
    let client = place.client(None);
    place.await_shares(&[&client], &[&[0, 1, 2]]);
    assert_eq!(client.read(3), ["a", "b", "c"]);
    client.commit(&place.topic, 1, 2);
    drop(client);
    let next = place.client(None);
    assert_eq!(next.read(1), ["c"]);
}

/// Two and three share, by range and by turns; who leaves gives to the rest.
pub(super) fn eager(cluster: &Cluster) {
    for (assignor, two, three) in [
        ("range", [&[0, 1, 2], &[3, 4, 5]], [&[0, 1], &[2, 3], &[4, 5]]),
        (
            "roundrobin",
            [&[0, 2, 4], &[1, 3, 5]],
            [&[0, 3], &[1, 4], &[2, 5]],
        ),
    ] {
        let place = Place::new(cluster, 6, assignor);
        let first = place.client(None);
        place.await_shares(&[&first], &[&[0, 1, 2, 3, 4, 5]]);
        let second = place.client(None);
        place.await_shares(&[&first, &second], &two.map(|share| &share[..]));
        let third = place.client(None);
        place.await_shares(&[&first, &second, &third], &three.map(|share| &share[..]));
        let all = set(&[0, 1, 2, 3, 4, 5]);
        let changes = first.changes.take();
        assert_eq!(
            changes[..2],
            [Change::Assigned(all.clone()), Change::Revoked(all)],
            "eager gives all back"
        );
        drop(first);
        place.await_shares(&[&second, &third], &two.map(|share| &share[..]));
        drop(third);
        place.await_shares(&[&second], &[&[0, 1, 2, 3, 4, 5]]);
    }
}

/// A member that joins is given only what others have too much of, and nobody gives back what it keeps.
pub(super) fn cooperative(cluster: &Cluster) {
    let place = Place::new(cluster, 6, "cooperative-sticky");
    let first = place.client(None);
    place.await_shares(&[&first], &[&[0, 1, 2, 3, 4, 5]]);
    let second = place.client(None);
    eventually("both have three", || {
        first.look();
        second.look();
        (first.share().len() == 3 && second.share().len() == 3).then_some(())
    });
    let given: Vec<_> = first
        .changes
        .take()
        .into_iter()
        .filter_map(|change| match change {
            Change::Revoked(partitions) => Some(partitions),
            Change::Assigned(_) => None,
        })
        .collect();
    assert_eq!(
        given,
        [second.share()],
        "it gave away what the other has, once, and nothing else"
    );

    let kept = second.share();
    second.changes.take();
    drop(first);
    place.await_shares(&[&second], &[&[0, 1, 2, 3, 4, 5]]);
    let all = set(&[0, 1, 2, 3, 4, 5]);
    let changes = second.changes.take();
    assert!(
        !changes.iter().any(|change| matches!(change, Change::Revoked(_))),
        "{changes:?}"
    );
    assert!(changes.contains(&Change::Assigned(&all - &kept)), "{changes:?}");
}

/// A member that is silent for a session loses its share to a client that is alive.
pub(super) fn takes_over_from_the_silent(cluster: &Cluster) {
    for assignor in ["range", "cooperative-sticky"] {
        let place = Place::new(cluster, 4, assignor);
        let client = place.client(None);
        place.await_shares(&[&client], &[&[0, 1, 2, 3]]);
        let mut silent = Member::new(cluster, &place.group);
        silent.session_timeout_ms = SESSION_MS;
        silent.protocols = vec![(assignor, subscription(&[&place.topic]))];
        silent.introduce();
        let asked = silent.ask_to_join();
        eventually("the client has given up two", || {
            client.look();
            (client.share().len() == 2).then_some(())
        });
        assert_eq!(error(silent.joined(asked).error_code), None);
        place.await_shares(&[&client], &[&[0, 1, 2, 3]]);
        assert_eq!(silent.heartbeat(), Some(ResponseError::UnknownMemberId));
    }
}

/// A static client that restarts has its share back, and the other one sees no rebalance.
pub(super) fn static_restart(cluster: &Cluster) {
    let place = Place::new(cluster, 4, "range");
    let first = place.client(Some("pod-0"));
    place.await_shares(&[&first], &[&[0, 1, 2, 3]]);
    let second = place.client(Some("pod-1"));
    place.await_shares(&[&first, &second], &[&[0, 1], &[2, 3]]);
    let share = second.share();
    first.changes.take();
    for _ in 0..2 {
        // The leader is one of them: both restarts are without a rebalance.
        let again = place.client(Some("pod-1"));
        eventually("it has its share again", || {
            again.look();
            first.look();
            (again.share() == share).then_some(())
        });
        drop(again);
    }
    assert_eq!(first.changes.take(), []);
}

/// The client whose instance id another one took is told so, and ends.
pub(super) fn fenced_client(cluster: &Cluster) {
    let place = Place::new(cluster, 2, "range");
    let former = place.client(Some("pod-0"));
    place.await_shares(&[&former], &[&[0, 1]]);
    let _heir = {
        let heir = place.client(Some("pod-0"));
        place.await_shares(&[&heir], &[&[0, 1]]);
        heir
    };
    eventually("the former is told", || match former.look() {
        Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
            assert_eq!(code, RDKafkaErrorCode::FencedInstanceId);
            Some(())
        }
        _ => None,
    });
}

/// Offsets set from outside while nobody is there are where the next member begins.
pub(super) fn reset(cluster: &Cluster) {
    let place = Place::new(cluster, 1, "range");
    place.store(0, &["a", "b", "c", "d"]);
    let client = place.client(None);
    client.read(4);
    client.commit(&place.topic, 0, 4);
    let mut raw = Raw::connect(cluster);
    let request = commit_request(&place.group, &place.topic, &[(0, 1, "")]);
    assert_eq!(
        commit(&mut raw, &request),
        [Some(ResponseError::UnknownMemberId)],
        "not while it is there"
    );
    drop(client);
    assert_eq!(commit(&mut raw, &request), [None]);
    assert_eq!(place.client(None).read(3), ["b", "c", "d"]);
}
