//! The transactional producer against librdkafka's mock of a cluster: what a refused transaction says of its cause.
//!
//! The mock injects the errors that a real broker makes only with rights and credentials set up.

use std::collections::BTreeMap;
use std::time::Duration;

use frontstream::emit::{DeadLetter, Emitter, Error, Metrics, Settings, Transaction, transact};
use frontstream::kafka::{self, ErrorCounts, TopicNames};
use frontstream::lifecycle::Exit;
use frontstream::model::{Checkpoint, Offset, Partition, Run, RunCause, Timestamp};
use frontstream::observe::causes;
use frontstream::wire::Encoding;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};

struct Cluster(MockCluster<'static, DefaultProducerContext>);

impl Cluster {
    fn new() -> Self {
        let mock = MockCluster::new(1).unwrap();
        for topic in [
            "test.front.events",
            "test.front.refresh",
            "test.front.dead-letters",
        ] {
            mock.create_topic(topic, 1, 1).unwrap();
        }
        Self(mock)
    }

    fn emitter(&self) -> Emitter {
        let connection = kafka::Settings {
            brokers: self.0.bootstrap_servers(),
            client_id: "test".into(),
            properties: BTreeMap::new(),
        };
        let settings = Settings {
            topics: TopicNames::with_prefix("test."),
            transactional_id: "test-0".into(),
            transaction_timeout: Duration::from_secs(60),
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

    /// Runs one transaction, with every answer to `api` the one given.
    fn refuse(&self, api: Api, code: Code) -> Error {
        let emitter = self.emitter();
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.0.bootstrap_servers())
            .set("group.id", "test")
            .create()
            .unwrap();
        self.0.request_errors(api, &[code; 10]);
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
        let transaction = Transaction {
            refreshes: Vec::new(),
            dead_letters: (0..10).map(letter).collect(),
            checkpoints: vec![(partition, Checkpoint::begin(run))],
        };
        transact(&emitter, &transaction, &consumer.group_metadata().unwrap()).unwrap_err()
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
        let error = Cluster::new().refuse(api, code);
        let words = causes(&error).to_string();
        assert!(words.contains(said), "{api:?}: {words}");
        assert!(!words.contains("Purge"), "{api:?}: {words}");
        assert_eq!((!error.passes()).then(|| error.exit()), exit, "{api:?}: {words}");
    }
}
