//! Before a real cluster of three nodes, with librdkafka's clients. One test, because a cluster takes long to start.

use std::net::SocketAddr;
use std::time::Duration;

use frontstream::lifecycle::Instant;
use kafka_protocol::messages::ApiKey;
use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::super::{Applied, Caught, Ending, Fault, Proxy, Rule};
use crate::support::process::{PATIENCE, wait_until};
use crate::support::{Cluster, wants_real_kafka};

/// What must not happen is waited for this long; a record is stored within some milliseconds.
const SILENCE: Duration = Duration::from_millis(500);

struct Stage {
    cluster: Cluster,
    proxy: Proxy,
}

#[test]
fn every_fault_hits_real_clients_and_passes() {
    if !wants_real_kafka() {
        return;
    }
    let proxy = Proxy::reserve(3);
    // The cluster lets a node that was killed in again after 2 s instead of 9 s.
    let quick = [
        "broker.session.timeout.ms=2000",
        "broker.heartbeat.interval.ms=500",
    ];
    let cluster = Cluster::start_proxied("proxy", proxy.ports(), &quick).unwrap();
    proxy.lead_to(cluster.behind_proxy());
    let stage = Stage { cluster, proxy };
    clients_come_through(&stage);
    a_cut_hits_one_client(&stage);
    a_stall_holds_a_record(&stage);
    a_delay_is_felt(&stage);
    lost_requests_are_sent_again(&stage);
    lost_answers_store_nothing_twice(&stage);
    transactions_get_through(&stage);
    a_commit_waits(&stage);
    a_commit_is_shown(&stage);
    a_node_comes_back(&stage);
}

impl Stage {
    fn config(&self, client: &str) -> ClientConfig {
        let mut config = self.cluster.client_config();
        config
            .set("bootstrap.servers", self.proxy.bootstrap())
            .set("client.id", client)
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200")
            .set("retry.backoff.ms", "20");
        config
    }

    fn writer(&self, client: &str, topic: &str) -> Writer {
        let mut config = self.config(client);
        config.set("enable.idempotence", "true").set("linger.ms", "0");
        Writer {
            producer: config.create().unwrap(),
            topic: topic.to_owned(),
        }
    }

    /// Makes a topic of one partition.
    fn topic(&self, scene: &str) -> String {
        let topic = format!("proxy-{scene}");
        self.cluster.create_topic(&topic, 1);
        topic
    }

    /// Returns a topic, and a client that has written a record to it, so that nothing but the next one is on its way.
    fn scene(&self, scene: &str) -> (String, Writer) {
        let topic = self.topic(scene);
        let writer = self.writer("p1", &topic);
        writer.write();
        (topic, writer)
    }

    fn count(&self, topic: &str) -> usize {
        self.cluster.records(topic).len()
    }

    fn apply(&self, fault: Fault) -> Applied {
        self.proxy.apply(Rule::new(fault).of_client("p1"))
    }
}

/// An idempotent client.
struct Writer {
    producer: BaseProducer,
    topic: String,
}

impl Writer {
    fn send(&self) {
        let record = BaseRecord::<str, str>::to(&self.topic).partition(0).payload("x");
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
    }

    /// Says whether everything sent is stored within this time.
    fn is_stored_within(&self, time: Duration) -> bool {
        self.producer.flush(time).is_ok()
    }

    fn write(&self) {
        self.send();
        assert!(self.is_stored_within(PATIENCE));
    }
}

fn clients_come_through(stage: &Stage) {
    let nodes = |config: &ClientConfig| {
        let client: BaseConsumer = config.create().unwrap();
        let metadata = client.fetch_metadata(None, PATIENCE).unwrap();
        let mut nodes: Vec<_> = metadata
            .brokers()
            .iter()
            .map(|one| (one.id(), one.port()))
            .collect();
        nodes.sort_unstable();
        nodes
    };
    let ports = stage.proxy.ports().iter().map(|port| i32::from(*port));
    let through: Vec<_> = (1..).zip(ports).collect();
    assert_eq!(nodes(&stage.config("p1")), through);
    let plain = stage.cluster.bootstrap.split(',');
    let ports = plain.map(|address| i32::from(address.parse::<SocketAddr>().unwrap().port()));
    let past: Vec<_> = (1..).zip(ports).collect();
    assert_eq!(nodes(&stage.cluster.client_config()), past);
    let delay = stage.apply(Fault::Delay {
        least: Duration::ZERO,
        most: Duration::ZERO,
    });
    stage.scene("through");
    assert!(delay.hits().connections > 0);
}

fn a_cut_hits_one_client(stage: &Stage) {
    let (topic, ours) = stage.scene("cut");
    let other = stage.writer("p2", &topic);
    other.write();
    let cut = stage.apply(Fault::Cut(Ending::Reset));
    ours.send();
    other.write();
    assert!(!ours.is_stored_within(SILENCE));
    assert!(cut.lift().connections > 0);
    assert!(ours.is_stored_within(PATIENCE));
    assert_eq!(stage.count(&topic), 4);
}

fn a_stall_holds_a_record(stage: &Stage) {
    let (topic, ours) = stage.scene("stall");
    let other = stage.writer("p2", &topic);
    other.write();
    let stall = stage.apply(Fault::Stall);
    ours.send();
    other.write();
    assert!(!ours.is_stored_within(SILENCE));
    assert_eq!(stage.count(&topic), 3);
    assert!(stall.lift().connections > 0);
    assert!(ours.is_stored_within(PATIENCE));
    assert_eq!(stage.count(&topic), 4);
}

fn a_delay_is_felt(stage: &Stage) {
    let (_, ours) = stage.scene("delay");
    let least = Duration::from_millis(100);
    let delay = stage.apply(Fault::Delay {
        least,
        most: 2 * least,
    });
    let began = Instant::now();
    ours.write();
    assert!(
        began.elapsed() >= 2 * least,
        "there and back: {:?}",
        began.elapsed()
    );
    assert!(delay.hits().pieces >= 2);
}

fn lost_requests_are_sent_again(stage: &Stage) {
    let (topic, ours) = stage.scene("lost-requests");
    let loss = stage.apply(Fault::LoseRequests);
    ours.send();
    assert!(!ours.is_stored_within(SILENCE));
    assert_eq!(stage.count(&topic), 1);
    assert!(loss.lift().pieces > 0);
    assert!(ours.is_stored_within(PATIENCE));
    assert_eq!(stage.count(&topic), 2);
}

fn lost_answers_store_nothing_twice(stage: &Stage) {
    let (topic, ours) = stage.scene("lost-answers");
    let loss = stage.apply(Fault::LoseAnswers);
    ours.send();
    wait_until("the record is stored", || stage.count(&topic) == 2);
    assert!(!ours.is_stored_within(SILENCE));
    assert!(loss.lift().pieces > 0);
    assert!(ours.is_stored_within(PATIENCE));
    assert_eq!(stage.count(&topic), 2);
    let loss = stage.apply(Fault::LoseAnswerOf {
        api: ApiKey::Produce,
        times: 2,
    });
    ours.write();
    assert_eq!((loss.hits().pieces, stage.count(&topic)), (2, 3));
}

/// A transactional client, of a group without members.
struct Processor {
    writer: Writer,
    group: ConsumerGroupMetadata,
}

impl Processor {
    fn new(stage: &Stage, topic: &str) -> Self {
        let mut config = stage.config("p1");
        config.set("transactional.id", topic).set("linger.ms", "0");
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        // Only to name the group; not by the client id that faults are about.
        let member: BaseConsumer = stage.config("member").set("group.id", topic).create().unwrap();
        Self {
            writer: Writer {
                producer,
                topic: topic.to_owned(),
            },
            group: member.group_metadata().unwrap(),
        }
    }

    /// Writes a record and this offset in one transaction.
    fn transact(&self, offset: i64) {
        self.fill(offset);
        self.writer.producer.commit_transaction(PATIENCE).unwrap();
    }

    fn fill(&self, offset: i64) {
        let producer = &self.writer.producer;
        producer.begin_transaction().unwrap();
        self.writer.write();
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(&self.writer.topic, 0, rdkafka::Offset::Offset(offset))
            .unwrap();
        producer
            .send_offsets_to_transaction(&offsets, &self.group, PATIENCE)
            .unwrap();
    }
}

/// Each answer that a transaction waits for is lost once: what it was about is done once, and the client gets on.
fn transactions_get_through(stage: &Stage) {
    let topic = stage.topic("transactions");
    let init = stage.apply(Fault::LoseAnswerOf {
        api: ApiKey::InitProducerId,
        times: 1,
    });
    let processor = Processor::new(stage, &topic);
    assert_eq!(init.lift().pieces, 1);
    let apis = [
        ApiKey::AddPartitionsToTxn,
        ApiKey::Produce,
        ApiKey::AddOffsetsToTxn,
        ApiKey::TxnOffsetCommit,
        ApiKey::EndTxn,
    ];
    for (number, api) in (1..).zip(apis) {
        let loss = stage.apply(Fault::LoseAnswerOf { api, times: 1 });
        processor.transact(number);
        assert_eq!(loss.lift().pieces, 1, "{api:?}");
        assert_eq!(committed(stage, &topic), number, "{api:?}");
    }
    assert_eq!(stage.count(&topic), apis.len());
    // A record and the mark of a commit for each: a second commit would have left a second mark.
    let reader: BaseConsumer = stage.cluster.client_config().create().unwrap();
    let (_, end) = reader.fetch_watermarks(&topic, 0, PATIENCE).unwrap();
    assert_eq!(usize::try_from(end).unwrap(), 2 * apis.len());
}

fn committed(stage: &Stage, group: &str) -> i64 {
    let reader: BaseConsumer = stage
        .cluster
        .client_config()
        .set("group.id", group)
        .create()
        .unwrap();
    let mut partition = TopicPartitionList::new();
    partition.add_partition(group, 0);
    let committed = reader.committed_offsets(partition, PATIENCE).unwrap();
    committed.elements()[0].offset().to_raw().unwrap()
}

fn a_commit_waits(stage: &Stage) {
    let topic = stage.topic("held");
    let processor = Processor::new(stage, &topic);
    let how_long = SILENCE;
    let hold = stage.apply(Fault::HoldRequest {
        api: ApiKey::EndTxn,
        how_long,
    });
    let began = Instant::now();
    processor.transact(1);
    assert!(began.elapsed() >= how_long);
    assert_eq!((hold.lift().pieces, stage.count(&topic)), (1, 1));
}

fn a_commit_is_shown(stage: &Stage) {
    let topic = stage.topic("shown");
    let processor = Processor::new(stage, &topic);
    let mut commits = stage.apply(Fault::OnRequest { api: ApiKey::EndTxn });
    processor.fill(1);
    std::thread::scope(|scope| {
        let committing = scope.spawn(|| processor.writer.producer.commit_transaction(PATIENCE));
        let caught: Caught = commits.next_request(PATIENCE).unwrap();
        assert_eq!(caught.client, "p1");
        assert!((1..=3).contains(&caught.node), "its coordinator: {}", caught.node);
        assert_eq!(stage.count(&topic), 0);
        drop(caught);
        committing.join().unwrap().unwrap();
    });
    assert_eq!(stage.count(&topic), 1);
}

fn a_node_comes_back(stage: &Stage) {
    let (topic, ours) = stage.scene("restart");
    let reader: BaseConsumer = stage.cluster.client_config().create().unwrap();
    let metadata = reader.fetch_metadata(Some(&topic), PATIENCE).unwrap();
    let leader = u32::try_from(metadata.topics()[0].partitions()[0].leader()).unwrap();
    let killed = stage.cluster.node_pid(leader).unwrap();
    stage.cluster.kill_node(leader);
    assert_eq!(stage.cluster.node_pid(leader), None);
    ours.write();
    stage.cluster.start_node(leader);
    assert_ne!(stage.cluster.node_pid(leader), Some(killed));
    stage.cluster.await_node(leader);
    stage.cluster.stop_node(leader);
    ours.write();
    stage.cluster.start_node(leader);
    stage.cluster.await_node(leader);
    // Through its own port again: the others are cut off.
    let others = (1..=3).filter(|node| *node != leader);
    let cuts: Vec<_> = others
        .map(|node| {
            stage
                .proxy
                .apply(Rule::new(Fault::Cut(Ending::Close)).at_node(node))
        })
        .collect();
    let client: BaseConsumer = stage.config("late").create().unwrap();
    client.fetch_metadata(None, PATIENCE).unwrap();
    drop(cuts);
    assert_eq!(stage.count(&topic), 3);
}
