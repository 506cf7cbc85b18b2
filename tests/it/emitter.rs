//! The transactional producer against librdkafka's mock of a cluster: what a refused transaction says of its cause.
//!
//! The mock injects the errors that a real broker makes only with rights and credentials set up.

use std::collections::BTreeMap;
use std::time::Duration;

use frontstream::emit::{DeadLetter, Emitter, Error, Metrics, Settings, Transaction, Watchdog, transact};
use frontstream::kafka::{self, ErrorCounts, TopicNames};
use frontstream::lifecycle::{Exit, Instant};
use frontstream::model::{Checkpoint, Offset, Partition, Run, RunCause, Timestamp};
use frontstream::observe::causes;
use frontstream::wire::Encoding;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata};
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};

use crate::support::process::wait_until;

const GROUP: &str = "test";

struct Cluster(MockCluster<'static, DefaultProducerContext>);

impl Cluster {
    fn new(brokers: i32) -> Self {
        let mock = MockCluster::new(brokers).unwrap();
        for topic in [
            "test.front.events",
            "test.front.refresh",
            "test.front.dead-letters",
        ] {
            mock.create_topic(topic, 1, 1).unwrap();
        }
        Self(mock)
    }

    fn emitter(&self, transaction_timeout: Duration) -> Emitter {
        let connection = kafka::Settings {
            brokers: self.0.bootstrap_servers(),
            client_id: "test".into(),
            properties: BTreeMap::new(),
        };
        let settings = Settings {
            topics: TopicNames::with_prefix("test."),
            transactional_id: "test-0".into(),
            transaction_timeout,
            metadata_bytes_max: 4096,
            encoding: Encoding::SingleObject,
        };
        let registry = prometheus::Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let errors = ErrorCounts::register(&registry).unwrap();
        let emitter = Emitter::new(&connection, settings, metrics, errors).unwrap();
        while !emitter.init(Duration::from_secs(10)).unwrap() {}
        emitter
    }

    fn group(&self) -> ConsumerGroupMetadata {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.0.bootstrap_servers())
            .set("group.id", GROUP)
            .create()
            .unwrap();
        consumer.group_metadata().unwrap()
    }

    /// Runs one transaction, with every answer to `api` the one given.
    fn refuse(&self, api: Api, code: Code) -> Error {
        let emitter = self.emitter(Duration::from_secs(60));
        let group = self.group();
        self.0.request_errors(api, &[code; 10]);
        transact(&emitter, &transaction(), &group).unwrap_err()
    }
}

/// Ten dead letters and a checkpoint.
fn transaction() -> Transaction {
    let run = Run {
        started_at: Timestamp::from_millis(1_795_000_000_500),
        start: Offset::new(0).unwrap(),
        cause: RunCause::First,
    };
    let partition = Partition::new(0).unwrap();
    let letter = |number: u8| DeadLetter {
        partition,
        offset: Offset::new(0).unwrap(),
        run,
        key: None,
        value: Some(vec![number; 100]),
        reason: "not_an_event".into(),
    };
    Transaction {
        refreshes: Vec::new(),
        dead_letters: (0..10).map(letter).collect(),
        checkpoints: vec![(partition, Checkpoint::begin(run))],
    }
}

/// What says why, and how the process ends; `None`: it goes on from the committed offsets.
#[test]
fn a_refused_transaction_names_what_refused_it() {
    let topic = Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    let group = Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    let malformed = Code::RD_KAFKA_RESP_ERR_INVALID_REQUEST;
    let add = "Failed to add partition(s) to transaction";
    let cases = [
        (Api::AddPartitionsToTxn, topic, add, Some(Exit::Fatal)),
        (Api::AddPartitionsToTxn, malformed, add, None),
        (
            Api::AddOffsetsToTxn,
            group,
            "Group authorization failed",
            Some(Exit::Fatal),
        ),
        (Api::Produce, topic, "TopicAuthorizationFailed", Some(Exit::Fatal)),
    ];
    for (api, code, said, exit) in cases {
        let error = Cluster::new(1).refuse(api, code);
        let words = causes(&error).to_string();
        assert!(words.contains(said), "{api:?}: {words}");
        assert!(!words.contains("Purge"), "{api:?}: {words}");
        assert_eq!((!error.passes()).then(|| error.exit()), exit, "{api:?}: {words}");
    }
}

/// The client waits longer for the group's coordinator than it was told to; somebody notices.
#[test]
fn a_call_that_outlives_its_time_is_seen() {
    let cluster = Cluster::new(2);
    let transactions = MockCoordinator::Transaction("test-0".into());
    cluster.0.coordinator(transactions, 1).unwrap();
    cluster
        .0
        .coordinator(MockCoordinator::Group(GROUP.into()), 2)
        .unwrap();
    let (watchdog, time) = (Watchdog::default(), Duration::from_secs(4));
    let emitter = cluster.emitter(time).watched_by(watchdog.clone());
    let group = cluster.group();
    transact(&emitter, &transaction(), &group).expect("the coordinator is there");
    assert!(!watchdog.is_overdue(), "it came back");
    cluster.0.broker_down(2).unwrap();
    let began = Instant::now();
    // Nobody waits for it: with librdkafka 2.12 it does not come back even when the coordinator is there again.
    let transacting = std::thread::spawn(move || transact(&emitter, &transaction(), &group));
    wait_until("the call is overdue", || watchdog.is_overdue());
    assert!(began.elapsed() >= time / 2, "{:?}", began.elapsed());
    assert!(!transacting.is_finished());
}
