//! Which requests there are, in which versions, and who answers them.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::bounded::{self, Unreadable};
use super::clock::Now;
use super::state::{Broker, Reply, State};
use super::topics::{admin, configs, fetch, metadata, offsets, produce};
use super::{groups, transactions};

/// One kind of request and the versions of it that are answered.
pub(super) struct Offered {
    pub(super) key: ApiKey,
    pub(super) min: i16,
    pub(super) max: i16,
}

const fn offered(key: ApiKey, min: i16, max: i16) -> Offered {
    Offered { key, min, max }
}

/// Fetch stops at 12, the last version that names topics, and whatever belongs to transactions at the last version
/// before transactions of version 2, in which the broker adds partitions by itself. Clients take the highest version
/// that both sides have.
pub(super) const OFFERED: &[Offered] = &[
    offered(ApiKey::Produce, 3, 11),
    offered(ApiKey::Fetch, 4, 12),
    offered(ApiKey::ListOffsets, 1, 7),
    offered(ApiKey::Metadata, 0, 12),
    offered(ApiKey::OffsetCommit, 2, 9),
    offered(ApiKey::OffsetFetch, 1, 9),
    offered(ApiKey::FindCoordinator, 0, 5),
    offered(ApiKey::JoinGroup, 0, 9),
    offered(ApiKey::Heartbeat, 0, 4),
    offered(ApiKey::LeaveGroup, 0, 5),
    offered(ApiKey::SyncGroup, 0, 5),
    offered(ApiKey::DescribeGroups, 0, 6),
    offered(ApiKey::ListGroups, 0, 5),
    offered(ApiKey::ApiVersions, 0, 4),
    offered(ApiKey::CreateTopics, 2, 7),
    offered(ApiKey::DeleteTopics, 1, 6),
    offered(ApiKey::DeleteRecords, 0, 2),
    offered(ApiKey::OffsetForLeaderEpoch, 2, 4),
    offered(ApiKey::DescribeConfigs, 1, 4),
    offered(ApiKey::AlterConfigs, 0, 2),
    offered(ApiKey::CreatePartitions, 0, 3),
    offered(ApiKey::DeleteGroups, 0, 2),
    offered(ApiKey::TxnOffsetCommit, 0, 4),
    offered(ApiKey::OffsetDelete, 0, 0),
    offered(ApiKey::IncrementalAlterConfigs, 0, 1),
    offered(ApiKey::DescribeCluster, 0, 1),
    offered(ApiKey::InitProducerId, 0, 5),
    offered(ApiKey::AddPartitionsToTxn, 0, 3),
    offered(ApiKey::AddOffsetsToTxn, 0, 4),
    offered(ApiKey::EndTxn, 0, 4),
    offered(ApiKey::DescribeTransactions, 0, 0),
    offered(ApiKey::ListTransactions, 0, 1),
    offered(ApiKey::DescribeProducers, 0, 0),
];

/// librdkafka before 2.8 does not compress unless version 0 of Produce is offered. Apache Kafka 4 offers it for that
/// reason too, and answers no request of it (KAFKA-18659).
const PRODUCE_MIN_SAID: i16 = 0;

/// Who sent a request.
pub(super) struct Client {
    /// What it calls itself.
    pub(super) id: String,
    /// Its address as Kafka shows it: `/127.0.0.1`.
    pub(super) host: String,
}

impl Client {
    pub(super) fn new(host: String) -> Self {
        Self {
            id: String::new(),
            host,
        }
    }
}

/// Why a connection is closed instead of answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("a request of {0} bytes is too short for its header")]
    Short(usize),
    #[error("there is no request with the key {0} here")]
    Key(i16),
    #[error("{key:?} is answered in versions {min} to {max}, not in {version}")]
    Version {
        key: ApiKey,
        version: i16,
        min: i16,
        max: i16,
    },
    #[error("a request {key:?} of version {version} cannot be read: {why}")]
    Malformed {
        key: ApiKey,
        version: i16,
        why: Unreadable,
    },
    #[error("the answer to {key:?} of version {version} cannot be written: {why}")]
    Answer { key: ApiKey, version: i16, why: String },
    #[error("records sent with acks=0 cannot be stored: {0}")]
    Unacknowledged(ResponseError),
    #[error("the answer to {0:?} was never decided")]
    Undecided(ApiKey),
}

/// A request whose header was read.
struct Call {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    client: Client,
    body: Bytes,
}

/// Answers one request, without the length before it. With nothing when the client wants no answer.
///
/// # Errors
///
/// It cannot be answered: close the connection.
pub(super) async fn answer(broker: &Broker, client: Client, frame: Bytes) -> Result<Option<Bytes>, Refused> {
    let (key, version) = match frame.get(..4) {
        Some(mut start) => (start.get_i16(), start.get_i16()),
        None => return Err(Refused::Short(frame.len())),
    };
    let offered = OFFERED.iter().find(|offered| offered.key as i16 == key);
    let offered = offered.ok_or(Refused::Key(key))?;
    let key = offered.key;
    if (offered.min..=offered.max).contains(&version) {
        return Call::read(key, version, client, frame)?.answer(broker).await;
    }
    if key == ApiKey::ApiVersions {
        // The one request whose version a client can only guess: answered in version 0, which every client reads.
        let correlation_id = frame.get(4..8).map_or(0, |mut id| id.get_i32());
        let response = api_versions().with_error_code(ResponseError::UnsupportedVersion.code());
        return encode(key, 0, correlation_id, &response).map(Some);
    }
    let (min, max) = (offered.min, offered.max);
    Err(Refused::Version {
        key,
        version,
        min,
        max,
    })
}

fn api_versions() -> ApiVersionsResponse {
    let keys = OFFERED.iter().map(|offered| {
        let min = if offered.key == ApiKey::Produce {
            PRODUCE_MIN_SAID
        } else {
            offered.min
        };
        ApiVersion::default()
            .with_api_key(offered.key as i16)
            .with_min_version(min)
            .with_max_version(offered.max)
    });
    ApiVersionsResponse::default().with_api_keys(keys.collect())
}

impl Call {
    fn read(key: ApiKey, version: i16, client: Client, mut frame: Bytes) -> Result<Self, Refused> {
        let header = bounded::header(&mut frame, key, version).map_err(|why| Refused::Malformed {
            key,
            version,
            why,
        })?;
        let id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
        Ok(Self {
            key,
            version,
            correlation_id: header.correlation_id,
            client: Client { id, ..client },
            body: frame,
        })
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "of all of Kafka's requests these are the ones that are offered"
    )]
    async fn answer(self, broker: &Broker) -> Result<Option<Bytes>, Refused> {
        let version = self.version;
        let answer = match self.key {
            ApiKey::Produce => return self.produce(broker),
            ApiKey::Fetch => return self.fetch(broker).await,
            ApiKey::ListOffsets => self.at_once(broker, |state, call, _| {
                offsets::list_offsets(state, call, version)
            }),
            ApiKey::Metadata => {
                self.at_once(broker, |state, call, _| metadata::metadata(state, call, version))
            }
            ApiKey::ApiVersions => {
                let read =
                    |_: &mut State, _: kafka_protocol::messages::ApiVersionsRequest, _: Now| api_versions();
                self.at_once(broker, read)
            }
            ApiKey::CreateTopics => self.at_once(broker, |state, call, _| admin::create_topics(state, call)),
            ApiKey::DeleteTopics => self.at_once(broker, |state, call, _| admin::delete_topics(state, call)),
            ApiKey::DeleteRecords => {
                self.at_once(broker, |state, call, _| admin::delete_records(state, call))
            }
            ApiKey::OffsetForLeaderEpoch => self.at_once(broker, |state, call, _| {
                offsets::offset_for_leader_epoch(state, call)
            }),
            ApiKey::DescribeConfigs => {
                self.at_once(broker, |state, call, _| configs::describe_configs(state, call))
            }
            ApiKey::AlterConfigs => {
                self.at_once(broker, |state, call, _| configs::alter_configs(state, call))
            }
            ApiKey::CreatePartitions => {
                self.at_once(broker, |state, call, _| admin::create_partitions(state, call))
            }
            ApiKey::IncrementalAlterConfigs => self.at_once(broker, |state, call, _| {
                configs::incremental_alter_configs(state, call)
            }),
            ApiKey::DescribeCluster => {
                self.at_once(broker, |state, call, _| metadata::describe_cluster(state, call))
            }
            _ => return self.answer_on_groups(broker).await,
        };
        answer.map(Some)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "of all of Kafka's requests these are the ones that are offered"
    )]
    async fn answer_on_groups(self, broker: &Broker) -> Result<Option<Bytes>, Refused> {
        let version = self.version;
        let answer = match self.key {
            ApiKey::JoinGroup => {
                let join = move |state: &mut State, call, client: &Client, now| {
                    groups::join_group(state, call, version, client, now)
                };
                return self.in_time(broker, join).await;
            }
            ApiKey::SyncGroup => {
                let sync = move |state: &mut State, call, _: &Client, now| {
                    groups::sync_group(state, call, version, now)
                };
                return self.in_time(broker, sync).await;
            }
            ApiKey::Heartbeat => {
                self.at_once(broker, |state, call, now| groups::heartbeat(state, &call, now))
            }
            ApiKey::LeaveGroup => self.at_once(broker, |state, call, now| {
                groups::leave_group(state, call, version, now)
            }),
            ApiKey::OffsetCommit => self.at_once(broker, |state, call, now| {
                groups::offset_commit(state, call, version, now)
            }),
            ApiKey::OffsetFetch => self.at_once(broker, |state, call, _| {
                groups::offset_fetch(state, call, version)
            }),
            ApiKey::TxnOffsetCommit => self.at_once(broker, |state, call, _| {
                groups::txn_offset_commit(state, call, version)
            }),
            ApiKey::OffsetDelete => self.at_once(broker, |state, call, _| groups::offset_delete(state, call)),
            ApiKey::FindCoordinator => self.at_once(broker, |state, call, _| {
                groups::find_coordinator(state, call, version)
            }),
            ApiKey::DescribeGroups => self.at_once(broker, |state, call, _| {
                groups::describe_groups(state, call, version)
            }),
            ApiKey::ListGroups => self.at_once(broker, |state, call, _| groups::list_groups(state, &call)),
            ApiKey::DeleteGroups => self.at_once(broker, |state, call, _| groups::delete_groups(state, call)),
            _ => return self.answer_on_transactions(broker).map(Some),
        };
        answer.map(Some)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "of all of Kafka's requests these are the ones that are offered"
    )]
    fn answer_on_transactions(self, broker: &Broker) -> Result<Bytes, Refused> {
        let version = self.version;
        match self.key {
            ApiKey::InitProducerId => self.at_once(broker, |state, call, now| {
                transactions::init_producer_id(state, &call, version, now)
            }),
            ApiKey::AddPartitionsToTxn => self.at_once(broker, |state, call, now| {
                transactions::add_partitions_to_txn(state, call, version, now)
            }),
            ApiKey::AddOffsetsToTxn => self.at_once(broker, |state, call, now| {
                transactions::add_offsets_to_txn(state, &call, version, now)
            }),
            ApiKey::EndTxn => self.at_once(broker, |state, call, now| {
                transactions::end_txn(state, &call, version, now)
            }),
            ApiKey::DescribeTransactions => self.at_once(broker, |state, call, _| {
                transactions::describe_transactions(state, call)
            }),
            ApiKey::ListTransactions => self.at_once(broker, |state, call, now| {
                transactions::list_transactions(state, &call, now)
            }),
            ApiKey::DescribeProducers => self.at_once(broker, |state, call, _| {
                transactions::describe_producers(state, call)
            }),
            other => Err(Refused::Key(other as i16)),
        }
    }

    fn produce(mut self, broker: &Broker) -> Result<Option<Bytes>, Refused> {
        let request = self.request()?;
        let (response, acks) = broker.with(|state, now| produce::produce(state, request, self.version, now));
        match acks {
            // Closing is all that such a producer can be told: it looks for the topic anew when it comes back.
            produce::Acks::None => match produce::first_refusal(&response) {
                Some(error) => Err(Refused::Unacknowledged(error)),
                None => Ok(None),
            },
            produce::Acks::Leader => self.encode(&response).map(Some),
        }
    }

    async fn fetch(mut self, broker: &Broker) -> Result<Option<Bytes>, Refused> {
        let request = self.request()?;
        let response = fetch::fetch(broker, request).await;
        self.encode(&response).map(Some)
    }

    /// For what one look at the state answers.
    fn at_once<Q: Decodable, R: Encodable>(
        mut self,
        broker: &Broker,
        handler: impl FnOnce(&mut State, Q, Now) -> R,
    ) -> Result<Bytes, Refused> {
        let request = self.request()?;
        let response = broker.with(|state, now| handler(state, request, now));
        self.encode(&response)
    }

    /// For what may have to wait for others.
    async fn in_time<Q: Decodable, R: Encodable>(
        mut self,
        broker: &Broker,
        handler: impl FnOnce(&mut State, Q, &Client, Now) -> Reply<R>,
    ) -> Result<Option<Bytes>, Refused> {
        let request = self.request()?;
        let reply = broker.with(|state, now| handler(state, request, &self.client, now));
        let response = match reply {
            Reply::Now(response) => response,
            Reply::Later(decided) => decided.await.map_err(|_| Refused::Undecided(self.key))?,
        };
        self.encode(&response).map(Some)
    }

    fn request<Q: Decodable>(&mut self) -> Result<Q, Refused> {
        let (key, version) = (self.key, self.version);
        let body = std::mem::take(&mut self.body);
        bounded::decode(body, key, version).map_err(|why| Refused::Malformed { key, version, why })
    }

    fn encode<R: Encodable>(&self, response: &R) -> Result<Bytes, Refused> {
        encode(self.key, self.version, self.correlation_id, response)
    }
}

/// Writes an answer with its length before it.
fn encode<R: Encodable>(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &R,
) -> Result<Bytes, Refused> {
    let failed = |why: String| Refused::Answer { key, version, why };
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    header
        .encode(&mut frame, key.response_header_version(version))
        .and_then(|()| response.encode(&mut frame, version))
        .map_err(|error| failed(error.to_string()))?;
    let length = i32::try_from(frame.len() - 4).map_err(|_| failed("it is longer than 2 GiB".into()))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.freeze())
}
