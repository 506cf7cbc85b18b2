//! The protocol by hand, for what no client would send: a blocking connection, and the requests that most checks need.
//!
//! Versions are fixed, so that a check does the same on both brokers: the newest that name topics instead of ids, unless
//! a check is about another.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use frontstream::lifecycle::{Clock, Instant};
use kafka_protocol::error::{ParseResponseErrorCode as _, ResponseError};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    BrokerId, FetchRequest, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest,
    ProduceRequest, ProducerId, RequestHeader, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes};
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use crate::support::Cluster;
use crate::support::process::PATIENCE;

/// The newest version of each that has what its name says.
pub(crate) const PRODUCE: i16 = 11;
pub(crate) const FETCH: i16 = 12;
pub(crate) const LIST_OFFSETS: i16 = 7;
pub(crate) const FIND_COORDINATOR: i16 = 4;
pub(crate) const INIT_PRODUCER_ID: i16 = 4;

/// Between two looks at something that cannot be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A connection, and the number of its last request.
pub(crate) struct Raw {
    stream: TcpStream,
    correlation: i32,
}

impl Raw {
    /// Connects to the first node.
    pub(crate) fn connect(cluster: &Cluster) -> Self {
        Self::connect_to(cluster.bootstrap.split(',').next().expect("split gives one"))
    }

    /// Connects to this address.
    pub(crate) fn connect_to(address: &str) -> Self {
        let stream =
            TcpStream::connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        Self {
            stream,
            correlation: 0,
        }
    }

    /// Sends a request and returns its answer.
    pub(crate) fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let correlation = self.send(version, request);
        self.receive::<R>(version, correlation)
    }

    /// Asks again while the answer's code says that a coordinator is not there yet, as it is at first.
    pub(crate) fn ask_settled<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        code: impl Fn(&R::Response) -> i16,
    ) -> R::Response {
        eventually("the coordinator is there", || {
            let answer = self.ask(version, request);
            let passing = matches!(
                code(&answer).err(),
                Some(
                    ResponseError::CoordinatorNotAvailable
                        | ResponseError::CoordinatorLoadInProgress
                        | ResponseError::NotCoordinator
                        | ResponseError::ConcurrentTransactions
                )
            );
            (!passing).then_some(answer)
        })
    }

    /// Sends a request and returns its correlation id.
    pub(crate) fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation += 1;
        self.write(&frame(version, self.correlation, request));
        self.correlation
    }

    /// Waits for the answer to the request with this id.
    ///
    /// # Panics
    ///
    /// The connection is closed instead, or the next answer is another's.
    pub(crate) fn receive<R: Request>(&mut self, version: i16, correlation: i32) -> R::Response {
        let mut frame = self
            .read_frame()
            .expect("an answer, not the end of the connection");
        let header_version = R::Response::header_version(version);
        let header = kafka_protocol::messages::ResponseHeader::decode(&mut frame, header_version)
            .expect("a header of an answer");
        assert_eq!(
            header.correlation_id, correlation,
            "answers come in the order of requests"
        );
        let answer = R::Response::decode(&mut frame, version).expect("an answer of this version");
        assert!(
            frame.is_empty(),
            "{} bytes are left after the answer",
            frame.len()
        );
        answer
    }

    /// Sends bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the broker takes bytes");
    }

    /// Ends one direction of the connection, or both.
    pub(crate) fn shutdown(&mut self, how: Shutdown) {
        self.stream.shutdown(how).expect("the connection is open");
    }

    /// Reads one frame, without its length; `None` when the broker closed the connection.
    pub(crate) fn read_frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if is_closed(error.kind()) => return None,
            Err(error) => panic!("no answer: {error}"),
        }
        let length = usize::try_from(i32::from_be_bytes(length)).expect("a length");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a whole frame");
        Some(body.into())
    }

    /// Checks that the broker closes the connection without an answer.
    pub(crate) fn assert_closed(&mut self) {
        let answer = self.read_frame();
        assert!(answer.is_none(), "answered instead of closing: {answer:?}");
    }

    /// Finds the coordinator of a group (0) or of a transactional id (1), which on a new broker makes its topic.
    pub(crate) fn find_coordinator(&mut self, key_type: i8, key: &str) {
        let request = FindCoordinatorRequest::default()
            .with_key_type(key_type)
            .with_coordinator_keys(vec![text(key)]);
        let answer = self.ask_settled(FIND_COORDINATOR, &request, |answer| {
            answer.coordinators[0].error_code
        });
        assert_eq!(error(answer.coordinators[0].error_code), None);
    }

    /// Makes a producer: idempotent, or transactional with the longest timeout that brokers allow by default.
    pub(crate) fn init_producer(&mut self, transactional_id: Option<&str>) -> Producer {
        if let Some(id) = transactional_id {
            self.find_coordinator(1, id);
        }
        let request = InitProducerIdRequest::default()
            .with_transactional_id(transactional_id.map(transactional))
            .with_transaction_timeout_ms(900_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let answer = self.ask_settled(INIT_PRODUCER_ID, &request, |answer| answer.error_code);
        assert_eq!(error(answer.error_code), None);
        Producer {
            id: answer.producer_id.0,
            epoch: answer.producer_epoch,
        }
    }

    /// Stores a batch in one partition with acks of all replicas.
    pub(crate) fn produce(&mut self, topic: &str, partition: i32, batch: Bytes) -> PartitionProduceResponse {
        self.produce_as(None, topic, partition, batch)
    }

    /// Stores a batch and returns its offset. A partition that was just made may not take records yet.
    pub(crate) fn store(&mut self, topic: &str, partition: i32, batch: &Bytes) -> i64 {
        eventually("the partition takes records", || {
            let answer = self.produce(topic, partition, batch.clone());
            match error(answer.error_code) {
                None => Some(answer.base_offset),
                Some(ResponseError::NotLeaderOrFollower | ResponseError::UnknownTopicOrPartition) => None,
                Some(other) => panic!("store in {topic}: {other:?}"),
            }
        })
    }

    /// Stores a batch in one partition in a transaction.
    pub(crate) fn produce_as(
        &mut self,
        transactional_id: Option<&str>,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        let request = produce_request(topic, &[(partition, batch)])
            .with_transactional_id(transactional_id.map(transactional));
        let mut answer = self.ask(PRODUCE, &request);
        answer.responses.remove(0).partition_responses.remove(0)
    }

    /// Fetches from one partition; the answer's own code must be none.
    pub(crate) fn fetch(&mut self, topic: &str, partition: i32, offset: i64, how: &Fetch) -> PartitionData {
        let mut answer = self.ask(FETCH, &fetch_request(topic, &[(partition, offset)], how));
        assert_eq!(error(answer.error_code), None);
        answer.responses.remove(0).partitions.remove(0)
    }

    /// Asks for the offset of a time, or of -1 (latest), -2 (earliest), -3 (of the newest timestamp).
    pub(crate) fn list_offset(
        &mut self,
        topic: &str,
        partition: i32,
        time: i64,
    ) -> ListOffsetsPartitionResponse {
        let request = list_offsets_request(topic, partition, time);
        let mut answer = self.ask(LIST_OFFSETS, &request);
        answer.topics.remove(0).partitions.remove(0)
    }
}

/// How to fetch.
#[derive(Clone, Copy)]
pub(crate) struct Fetch {
    pub(crate) max_wait_ms: i32,
    pub(crate) min_bytes: i32,
    pub(crate) max_bytes: i32,
    pub(crate) partition_max_bytes: i32,
    /// 0: uncommitted too, 1: committed only.
    pub(crate) isolation_level: i8,
}

impl Default for Fetch {
    /// What there is now, all of it, committed or not.
    fn default() -> Self {
        Self {
            max_wait_ms: 0,
            min_bytes: 1,
            max_bytes: 50 * 1_024 * 1_024,
            partition_max_bytes: 50 * 1_024 * 1_024,
            isolation_level: 0,
        }
    }
}

/// Who a batch is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

impl Producer {
    /// A producer without an id: nothing is said about its sequence.
    pub(crate) const NONE: Self = Self { id: -1, epoch: -1 };

    /// Makes records, the first with this sequence number; -1 for [`Producer::NONE`].
    pub(crate) fn records(self, sequence: i32, values: &[&str]) -> Vec<Record> {
        // An older time would be a reason to delete them, a later one to refuse them.
        let now = Clock::system().now().as_millis();
        (0..)
            .zip(values)
            .map(|(number, value)| Record {
                transactional: false,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: -1,
                producer_id: self.id,
                producer_epoch: self.epoch,
                timestamp_type: TimestampType::Creation,
                offset: i64::from(number),
                sequence: sequence.wrapping_add(number),
                timestamp: now,
                key: None,
                value: Some(Bytes::copy_from_slice(value.as_bytes())),
                headers: kafka_protocol::indexmap::IndexMap::new(),
            })
            .collect()
    }

    /// Makes an uncompressed batch outside of a transaction.
    pub(crate) fn batch(self, sequence: i32, values: &[&str]) -> Bytes {
        encode(&self.records(sequence, values), Compression::None)
    }

    /// Makes an uncompressed batch of a transaction.
    pub(crate) fn transactional_batch(self, sequence: i32, values: &[&str]) -> Bytes {
        let mut records = self.records(sequence, values);
        for record in &mut records {
            record.transactional = true;
        }
        encode(&records, Compression::None)
    }
}

/// Makes an uncompressed batch without a producer id.
pub(crate) fn plain(values: &[&str]) -> Bytes {
    Producer::NONE.batch(-1, values)
}

/// Makes a batch of records that belong into one.
pub(crate) fn encode(records: &[Record], compression: Compression) -> Bytes {
    let mut batch = BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression,
    };
    RecordBatchEncoder::encode(&mut batch, records, &options).expect("a batch");
    batch.freeze()
}

/// Takes the records of a fetched partition apart. A broker may cut the last batch off where a size limit ends; readers
/// leave such a piece alone.
pub(crate) fn records(partition: &PartitionData) -> Vec<Record> {
    let mut bytes = partition.records.clone().unwrap_or_default();
    let mut records = Vec::new();
    while let Some(length) = bytes.get(8..12) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
        if bytes.len() < 12 + usize::try_from(length).expect("a length") {
            break;
        }
        records.extend(RecordBatchDecoder::decode(&mut bytes).expect("a batch").records);
    }
    records
}

/// Returns the values of a fetched partition's records, and of a marker `control`.
pub(crate) fn values(partition: &PartitionData) -> Vec<String> {
    let value = |record: &Record| match &record.value {
        _ if record.control => "control".to_owned(),
        Some(value) => String::from_utf8_lossy(value).into_owned(),
        None => "null".to_owned(),
    };
    records(partition).iter().map(value).collect()
}

/// Makes a request to store batches, with acks of all replicas.
pub(crate) fn produce_request(topic: &str, batches: &[(i32, Bytes)]) -> ProduceRequest {
    let data = batches.iter().map(|(partition, batch)| {
        PartitionProduceData::default()
            .with_index(*partition)
            .with_records(Some(batch.clone()))
    });
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(data.collect());
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic])
}

/// Makes a request to fetch from partitions at offsets, outside of a fetch session.
pub(crate) fn fetch_request(topic: &str, from: &[(i32, i64)], how: &Fetch) -> FetchRequest {
    let partitions = from.iter().map(|(partition, offset)| {
        FetchPartition::default()
            .with_partition(*partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(*offset)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(how.partition_max_bytes)
    });
    let topic = FetchTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(partitions.collect());
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(how.max_wait_ms)
        .with_min_bytes(how.min_bytes)
        .with_max_bytes(how.max_bytes)
        .with_isolation_level(how.isolation_level)
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// Makes a request to look an offset up, as [`Raw::list_offset`] does.
pub(crate) fn list_offsets_request(topic: &str, partition: i32, time: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_current_leader_epoch(-1)
        .with_timestamp(time);
    let topic = ListOffsetsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic])
}

/// Encodes a request with its header and length.
pub(crate) fn frame<R: Request>(version: i16, correlation: i32, request: &R) -> Bytes {
    let mut body = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(text("conformance")))
        .encode(&mut body, R::header_version(version))
        .expect("a header");
    request
        .encode(&mut body, version)
        .expect("a request of this version");
    with_length(&body)
}

/// Puts the length before a frame's body.
pub(crate) fn with_length(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(4 + body.len());
    frame.put_i32(i32::try_from(body.len()).expect("a frame's length"));
    frame.put_slice(body);
    frame.freeze()
}

/// Says which error a code is; `None` for none.
pub(crate) fn error(code: i16) -> Option<ResponseError> {
    code.err()
}

/// Tries until there is something.
///
/// # Panics
///
/// There is nothing within the tests' patience.
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain until {what}"
        );
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// A string as messages have it.
pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic's name as messages have it.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A transactional id as messages have it.
pub(crate) fn transactional(id: &str) -> TransactionalId {
    TransactionalId(text(id))
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}
