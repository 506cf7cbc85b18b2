//! The requests of transactional producers.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse, ProducerId,
};

use super::machine::{Outcome, Partitions, Producer, Transactions};
use crate::dev_broker::clock::Now;
use crate::dev_broker::groups::Groups;
use crate::dev_broker::state::State;
use crate::dev_broker::topics::Topics;

/// What a request says where it names no producer.
const NO_PRODUCER_ID: i64 = -1;
const NO_PRODUCER_EPOCH: i16 = -1;
/// The first version of each request whose clients know `PRODUCER_FENCED`. Source: KIP-588.
const INIT_KNOWS_FENCED: i16 = 4;
const TRANSACTION_KNOWS_FENCED: i16 = 2;

impl Transactions {
    /// Aborts what has timed out, and writes its markers.
    pub(in crate::dev_broker) fn on_time(&mut self, topics: &mut Topics, groups: &mut Groups, now: Now) {
        self.on_deadline(now);
        self.write_markers(topics, groups, now);
    }

    /// Carries out every end that is decided. A partition whose topic was deleted meanwhile has nothing to be marked.
    fn write_markers(&mut self, topics: &mut Topics, groups: &mut Groups, now: Now) {
        while let Some(ended) = self.poll_ended() {
            let Producer { id, epoch } = ended.producer;
            for (topic, partitions) in &ended.partitions {
                for partition in partitions {
                    topics.change(topic, *partition, |log| {
                        log.append_marker(id, epoch, ended.outcome, now)
                    });
                }
            }
            for group in &ended.groups {
                groups.end_transaction(group, id, ended.outcome);
            }
        }
    }
}

/// Gives a producer its id and epoch, and fences whoever had the transactional id before.
pub(in crate::dev_broker) fn init_producer_id(
    state: &mut State,
    request: &InitProducerIdRequest,
    version: i16,
    now: Now,
) -> InitProducerIdResponse {
    let named = (request.producer_id.0, request.producer_epoch);
    let given = match (&request.transactional_id, named) {
        (_, (NO_PRODUCER_ID, epoch)) if epoch != NO_PRODUCER_EPOCH => Err(ResponseError::InvalidRequest),
        (_, (id, NO_PRODUCER_EPOCH)) if id != NO_PRODUCER_ID => Err(ResponseError::InvalidRequest),
        (None, _) => Ok(state.transactions.idempotent()),
        (Some(transactional_id), (id, epoch)) => {
            let expected = (id != NO_PRODUCER_ID).then_some(Producer { id, epoch });
            let timeout_ms = request.transaction_timeout_ms;
            state
                .transactions
                .init(transactional_id, timeout_ms, expected, now)
        }
    };
    state
        .transactions
        .write_markers(&mut state.topics, &mut state.groups, now);
    let response = InitProducerIdResponse::default();
    match given {
        Ok(producer) => response
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch),
        Err(error) => response
            .with_error_code(code(error, version, INIT_KNOWS_FENCED))
            .with_producer_id(ProducerId(NO_PRODUCER_ID))
            .with_producer_epoch(NO_PRODUCER_EPOCH),
    }
}

/// Adds partitions to a producer's transaction: all of them, or none if one does not exist.
pub(in crate::dev_broker) fn add_partitions_to_txn(
    state: &mut State,
    request: AddPartitionsToTxnRequest,
    version: i16,
    now: Now,
) -> AddPartitionsToTxnResponse {
    let topics = request.v3_and_below_topics;
    let exists = |topic: &str, partition: i32| state.topics.partition(topic, partition).is_some();
    let all_exist = topics.iter().all(|topic| {
        topic
            .partitions
            .iter()
            .all(|partition| exists(&topic.name, *partition))
    });
    if !all_exist {
        return answer_each(topics, |topic, partition| {
            if exists(topic, partition) {
                ResponseError::OperationNotAttempted.code()
            } else {
                ResponseError::UnknownTopicOrPartition.code()
            }
        });
    }
    let producer = Producer {
        id: request.v3_and_below_producer_id.0,
        epoch: request.v3_and_below_producer_epoch,
    };
    let mut added = Partitions::new();
    for topic in &topics {
        added
            .entry(topic.name.to_string())
            .or_default()
            .extend(topic.partitions.iter().copied());
    }
    let done =
        state
            .transactions
            .add_partitions(&request.v3_and_below_transactional_id, producer, added, now);
    let code = done
        .err()
        .map_or(0, |error| code(error, version, TRANSACTION_KNOWS_FENCED));
    answer_each(topics, |_, _| code)
}

/// Adds a group to a producer's transaction, so that offsets of it may be committed there.
pub(in crate::dev_broker) fn add_offsets_to_txn(
    state: &mut State,
    request: &AddOffsetsToTxnRequest,
    version: i16,
    now: Now,
) -> AddOffsetsToTxnResponse {
    let producer = Producer {
        id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let done = state
        .transactions
        .add_group(&request.transactional_id, producer, &request.group_id, now);
    let code = done
        .err()
        .map_or(0, |error| code(error, version, TRANSACTION_KNOWS_FENCED));
    AddOffsetsToTxnResponse::default().with_error_code(code)
}

/// Commits or aborts a producer's transaction. When it is answered the markers are written.
pub(in crate::dev_broker) fn end_txn(
    state: &mut State,
    request: &EndTxnRequest,
    version: i16,
    now: Now,
) -> EndTxnResponse {
    let producer = Producer {
        id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let outcome = if request.committed {
        Outcome::Commit
    } else {
        Outcome::Abort
    };
    let done = state
        .transactions
        .end(&request.transactional_id, producer, outcome, now);
    state
        .transactions
        .write_markers(&mut state.topics, &mut state.groups, now);
    let code = done
        .err()
        .map_or(0, |error| code(error, version, TRANSACTION_KNOWS_FENCED));
    EndTxnResponse::default().with_error_code(code)
}

fn answer_each(
    topics: Vec<AddPartitionsToTxnTopic>,
    code: impl Fn(&str, i32) -> i16,
) -> AddPartitionsToTxnResponse {
    let answer = |topic: AddPartitionsToTxnTopic| {
        let results = topic.partitions.iter().map(|partition| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*partition)
                .with_partition_error_code(code(&topic.name, *partition))
        });
        AddPartitionsToTxnTopicResult::default()
            .with_results_by_partition(results.collect())
            .with_name(topic.name)
    };
    AddPartitionsToTxnResponse::default()
        .with_results_by_topic_v3_and_below(topics.into_iter().map(answer).collect())
}

/// Clients of older versions know only one word for a producer that somebody replaced.
fn code(error: ResponseError, version: i16, knows_fenced: i16) -> i16 {
    if error == ResponseError::ProducerFenced && version < knows_fenced {
        ResponseError::InvalidProducerEpoch.code()
    } else {
        error.code()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kafka_protocol::messages::create_topics_request::CreatableTopic;
    use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
    use kafka_protocol::messages::describe_producers_request::TopicRequest;
    use kafka_protocol::messages::{
        CreateTopicsRequest, DeleteTopicsRequest, DescribeProducersRequest, DescribeTransactionsRequest,
        GroupId, ListTransactionsRequest, TopicName, TransactionalId,
    };
    use kafka_protocol::protocol::StrBytes;

    use super::super::{describe_producers, describe_transactions, list_transactions};
    use super::*;
    use crate::dev_broker::topics::admin::{create_topics, delete_topics};

    const NOW: Now = Now {
        elapsed: Duration::from_secs(1),
        wall_ms: 1_700_000_000_000,
    };

    fn text(text: &str) -> StrBytes {
        StrBytes::from_string(text.to_owned())
    }

    fn topic_name(topic: &str) -> TopicName {
        TopicName(text(topic))
    }

    fn transactional_id(id: &str) -> TransactionalId {
        TransactionalId(text(id))
    }

    /// A state with topics of three partitions.
    fn state(topics: &[&str]) -> State {
        let mut state = State::new(([127, 0, 0, 1], 9092).into(), 1 << 20);
        let topics = topics.iter().map(|topic| {
            CreatableTopic::default()
                .with_name(topic_name(topic))
                .with_num_partitions(3)
                .with_replication_factor(1)
        });
        create_topics(
            &mut state,
            CreateTopicsRequest::default().with_topics(topics.collect()),
        );
        state
    }

    fn init(state: &mut State, expected: Producer, version: i16) -> Result<Producer, i16> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id("a")))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(expected.id))
            .with_producer_epoch(expected.epoch);
        let response = init_producer_id(state, &request, version, NOW);
        match response.error_code {
            0 => Ok(Producer {
                id: response.producer_id.0,
                epoch: response.producer_epoch,
            }),
            code => {
                assert_eq!((response.producer_id.0, response.producer_epoch), (-1, -1));
                Err(code)
            }
        }
    }

    const NOBODY: Producer = Producer { id: -1, epoch: -1 };

    /// Adds partitions and returns the code of each.
    fn add(state: &mut State, producer: Producer, partitions: &[(&str, i32)], version: i16) -> Vec<i16> {
        let topics = partitions.iter().map(|(topic, partition)| {
            AddPartitionsToTxnTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(vec![*partition])
        });
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id("a"))
            .with_v3_and_below_producer_id(ProducerId(producer.id))
            .with_v3_and_below_producer_epoch(producer.epoch)
            .with_v3_and_below_topics(topics.collect());
        let response = add_partitions_to_txn(state, request, version, NOW);
        let results = response.results_by_topic_v3_and_below.iter();
        results
            .flat_map(|topic| topic.results_by_partition.iter())
            .map(|partition| partition.partition_error_code)
            .collect()
    }

    fn end(state: &mut State, producer: Producer, committed: bool, version: i16) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id("a"))
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch)
            .with_committed(committed);
        end_txn(state, &request, version, NOW).error_code
    }

    #[test]
    fn older_versions_know_a_fenced_producer_by_its_old_name() {
        let mut state = state(&["t"]);
        let zombie = init(&mut state, NOBODY, 5).unwrap();
        init(&mut state, NOBODY, 5).unwrap();
        let fenced = ResponseError::ProducerFenced.code();
        let stale = ResponseError::InvalidProducerEpoch.code();
        assert_eq!(init(&mut state, zombie, 3), Err(stale));
        assert_eq!(init(&mut state, zombie, 4), Err(fenced));
        for (version, code) in [(0, stale), (1, stale), (2, fenced), (3, fenced)] {
            assert_eq!(add(&mut state, zombie, &[("t", 0)], version), [code]);
            assert_eq!(end(&mut state, zombie, true, version), code);
            let request = AddOffsetsToTxnRequest::default()
                .with_transactional_id(transactional_id("a"))
                .with_producer_id(ProducerId(zombie.id))
                .with_producer_epoch(zombie.epoch)
                .with_group_id(GroupId(text("g")));
            assert_eq!(
                add_offsets_to_txn(&mut state, &request, version, NOW).error_code,
                code
            );
        }
    }

    #[test]
    fn half_a_producer_is_refused() {
        let mut state = state(&[]);
        let invalid = ResponseError::InvalidRequest.code();
        assert_eq!(init(&mut state, Producer { id: 7, epoch: -1 }, 5), Err(invalid));
        assert_eq!(init(&mut state, Producer { id: -1, epoch: 0 }, 5), Err(invalid));
    }

    #[test]
    fn one_partition_that_does_not_exist_keeps_the_others_out() {
        let mut state = state(&["t"]);
        let producer = init(&mut state, NOBODY, 5).unwrap();
        let unknown = ResponseError::UnknownTopicOrPartition.code();
        let not_attempted = ResponseError::OperationNotAttempted.code();
        let codes = add(
            &mut state,
            producer,
            &[("t", 2), ("t", 3), ("u", 0), ("t", -1)],
            3,
        );
        assert_eq!(codes, [not_attempted, unknown, unknown, unknown]);
        let refused = end(&mut state, producer, true, 3);
        assert_eq!(
            refused,
            ResponseError::InvalidTxnState.code(),
            "nothing has begun"
        );
    }

    #[test]
    fn the_end_is_marked_wherever_the_transaction_was_and_still_is() {
        let mut state = state(&["t", "deleted"]);
        let producer = init(&mut state, NOBODY, 5).unwrap();
        assert_eq!(
            add(&mut state, producer, &[("t", 0), ("t", 2), ("deleted", 1)], 3),
            [0, 0, 0]
        );
        let deleted = DeleteTopicState::default().with_name(Some(topic_name("deleted")));
        delete_topics(
            &mut state,
            DeleteTopicsRequest::default().with_topics(vec![deleted]),
        );
        assert_eq!(end(&mut state, producer, true, 3), 0);
        let ends = [0, 1, 2].map(|partition| state.topics.partition("t", partition).unwrap().end());
        assert_eq!(ends, [1, 0, 1]);
        assert_eq!(end(&mut state, producer, true, 3), 0, "a retry writes nothing");
        assert_eq!(state.topics.partition("t", 0).unwrap().end(), 1);
    }

    #[test]
    fn a_transaction_that_times_out_is_marked_too() {
        let mut state = state(&["t"]);
        let producer = init(&mut state, NOBODY, 5).unwrap();
        add(&mut state, producer, &[("t", 0)], 3);
        let late = Now {
            elapsed: NOW.elapsed + Duration::from_secs(60),
            ..NOW
        };
        state
            .transactions
            .on_time(&mut state.topics, &mut state.groups, late);
        assert_eq!(state.topics.partition("t", 0).unwrap().end(), 1);
        let fenced = ResponseError::ProducerFenced.code();
        assert_eq!(end(&mut state, producer, true, 3), fenced);
    }

    #[test]
    fn transactions_and_producers_can_be_looked_at() {
        let mut state = state(&["t"]);
        let producer = init(&mut state, NOBODY, 5).unwrap();
        add(&mut state, producer, &[("t", 1), ("t", 0)], 3);
        let ids = ["a", "b", ""].map(transactional_id);
        let request = DescribeTransactionsRequest::default().with_transactional_ids(ids.to_vec());
        let described = describe_transactions(&state, request).transaction_states;
        let codes: Vec<i16> = described
            .iter()
            .map(|transaction| transaction.error_code)
            .collect();
        assert_eq!(
            codes,
            [
                0,
                ResponseError::TransactionalIdNotFound.code(),
                ResponseError::InvalidRequest.code()
            ]
        );
        assert_eq!(described[0].transaction_state, text("Ongoing"));
        assert_eq!(described[0].transaction_start_time_ms, NOW.wall_ms);
        assert_eq!(described[0].topics[0].partitions, [0, 1]);

        let list = |state: &State, filters: &[&str]| {
            let filters = filters.iter().map(|filter| text(filter)).collect();
            let request = ListTransactionsRequest::default()
                .with_duration_filter(-1)
                .with_state_filters(filters);
            let listed = list_transactions(state, &request, NOW);
            (listed.transaction_states.len(), listed.unknown_state_filters)
        };
        assert_eq!(list(&state, &[]), (1, vec![]));
        assert_eq!(list(&state, &["Ongoing"]), (1, vec![]));
        assert_eq!(list(&state, &["PrepareCommit", "None"]), (0, vec![text("None")]));
        end(&mut state, producer, false, 3);
        assert_eq!(list(&state, &["CompleteAbort"]), (1, vec![]));

        let asked = [("t", 0), ("t", 3), ("no", 0)].map(|(topic, partition)| {
            TopicRequest::default()
                .with_name(topic_name(topic))
                .with_partition_indexes(vec![partition])
        });
        let request = DescribeProducersRequest::default().with_topics(asked.to_vec());
        let topics = describe_producers(&state, request).topics;
        assert_eq!(
            topics[0].partitions[0].active_producers[0].producer_id.0,
            producer.id
        );
        let unknown = ResponseError::UnknownTopicOrPartition.code();
        assert_eq!(
            [1, 2].map(|topic| topics[topic].partitions[0].error_code),
            [unknown; 2]
        );
    }
}
