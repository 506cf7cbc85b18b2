//! Produce: records in.

use bytes::Bytes;
use kafka_protocol::error::{ParseResponseErrorCode as _, ResponseError};
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::super::batch;
use super::super::clock::Now;
use super::super::log::Appended;
use super::super::state::State;
use super::{code_of, text};

/// The first version whose clients know that a transaction can fail and its producer live on. Source: KIP-890.
const KNOWS_ABORTABLE: i16 = 11;

/// Whether the producer waits for an answer: with `acks=0` it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Acks {
    None,
    Leader,
}

/// Finds what a producer that waits for no answer would have to be told.
pub(in super::super) fn first_refusal(response: &ProduceResponse) -> Option<ResponseError> {
    let answers = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    answers.filter_map(|answer| answer.error_code.err()).next()
}

/// Appends what came for each partition; says whether an answer is wanted.
pub(in super::super) fn produce(
    state: &mut State,
    request: ProduceRequest,
    version: i16,
    now: Now,
) -> (ProduceResponse, Acks) {
    let acks = match request.acks {
        0 => Ok(Acks::None),
        -1 | 1 => Ok(Acks::Leader),
        _ => Err(ResponseError::InvalidRequiredAcks),
    };
    let sender = Sender {
        transactional_id: request.transactional_id.as_ref().map(|id| id.as_str().to_owned()),
        version,
    };
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let name = topic.name;
        let answers = topic.partition_data.into_iter().map(|data| {
            let index = data.index;
            let result = acks.and_then(|_| append(state, &sender, &name, data, now));
            let log_start = state.topics.partition(&name, index).map_or(-1, |log| log.start());
            answer(index, result, log_start)
        });
        let partition_responses = answers.collect();
        responses.push(
            TopicProduceResponse::default()
                .with_name(name)
                .with_partition_responses(partition_responses),
        );
    }
    state.topics.keep_within_memory();
    let response = ProduceResponse::default().with_responses(responses);
    (response, acks.unwrap_or(Acks::Leader))
}

/// Whose request it is.
struct Sender {
    transactional_id: Option<String>,
    version: i16,
}

impl Sender {
    fn told(&self, error: ResponseError) -> ResponseError {
        if error == ResponseError::InvalidTxnState && self.version >= KNOWS_ABORTABLE {
            ResponseError::TransactionAbortable
        } else {
            error
        }
    }
}

fn append(
    state: &mut State,
    sender: &Sender,
    topic: &str,
    data: PartitionProduceData,
    now: Now,
) -> Result<Appended, ResponseError> {
    let known = state
        .topics
        .topic(topic)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let (time_of, bytes_max) = (known.time_of(), known.configs.max_message_bytes());
    let rules = known.configs.rules(now);
    if known.partition_count() <= data.index || data.index < 0 {
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    let records: Bytes = data
        .records
        .filter(|records| !records.is_empty())
        .ok_or(ResponseError::InvalidRecord)?;
    if records.len() > bytes_max {
        return Err(ResponseError::MessageTooLarge);
    }
    if state.topics.is_overfull() {
        tracing::warn!(
            topic,
            partition = data.index,
            "the in-process broker's memory is full of open transactions: it takes no records until they end"
        );
        return Err(ResponseError::KafkaStorageError);
    }
    let header = batch::check(&records, &rules)?;
    if header.is_transactional() {
        let admitted = state.transactions.admits(
            sender.transactional_id.as_deref(),
            header.producer_id,
            header.producer_epoch,
            topic,
            data.index,
        );
        admitted.map_err(|error| sender.told(error))?;
    }
    state
        .topics
        .change(topic, data.index, |log| {
            log.append(&records, header, time_of, now)
        })
        .unwrap_or(Err(ResponseError::UnknownTopicOrPartition))
}

fn answer(index: i32, result: Result<Appended, ResponseError>, log_start: i64) -> PartitionProduceResponse {
    let message = result.as_ref().err().map(|error| text(error.to_string()));
    let (code, appended) = code_of(result);
    let answer = PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(code)
        .with_error_message(message)
        .with_log_start_offset(if code == 0 { log_start } else { -1 });
    match appended {
        Some(appended) => answer
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.append_time_ms),
        None => answer.with_base_offset(-1).with_log_append_time_ms(-1),
    }
}
