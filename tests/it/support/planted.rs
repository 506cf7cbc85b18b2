//! Topics filled by hand, so that a test knows what is in them, right or wrong.

use std::time::Duration;

use frontstream::model::{
    Checkpoint, CloseReason, ConversationId, Event, EventId, Kind, Offset, Partition, Priority, Refresh, Run,
    RunCause, Source, TenantId, Timestamp,
};
use frontstream::wire::{Encoding, checkpoint_v1, event_v1, headers, refresh_v1};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::{Cluster, Topics};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Writes events, and refreshes with checkpoints in transactions, as the receiver and the processor do.
pub(crate) struct Planted {
    pub(crate) topics: Topics,
    pub(crate) group: String,
    plain: BaseProducer,
    transactional: BaseProducer,
    /// Only to name the group in a transaction.
    member: BaseConsumer,
}

impl Planted {
    pub(crate) fn new(cluster: &Cluster, test: &str, partitions: i32) -> Self {
        let topics = cluster.topics(test, partitions);
        let group = format!("{}group", topics.prefix);
        let transactional: BaseProducer = cluster
            .client_config()
            .set("transactional.id", &group)
            .create()
            .unwrap();
        transactional.init_transactions(ANSWER_TIMEOUT).unwrap();
        Self {
            plain: cluster.client_config().create().unwrap(),
            transactional,
            member: cluster.client_config().set("group.id", &group).create().unwrap(),
            topics,
            group,
        }
    }

    /// Returns the arguments that make the product's commands read these topics and this group.
    pub(crate) fn arguments(&self) -> [String; 4] {
        [
            "--set".into(),
            format!("topics.prefix={}", self.topics.prefix),
            "--set".into(),
            format!("processor.group={}", self.group),
        ]
    }

    /// Appends an event of `conversation` with this id; offsets are the caller's to know.
    pub(crate) fn event(&self, partition: i32, conversation: Option<&str>, id: &str) {
        let mut value = Vec::new();
        event_v1::write(&mut value, Encoding::SingleObject, &event(conversation, id));
        self.bytes(partition, &value);
    }

    /// Appends a record that may be anything.
    pub(crate) fn bytes(&self, partition: i32, value: &[u8]) {
        let record = BaseRecord::<str, [u8]>::to(&self.topics.names.events)
            .partition(partition)
            .payload(value);
        self.plain.send(record).map_err(|(error, _)| error).unwrap();
        self.plain.flush(ANSWER_TIMEOUT).unwrap();
    }

    /// Sets a record aside, as the processor does.
    pub(crate) fn dead_letter(&self, partition: i32, offset: i64, reason: &str) {
        let (partition, offset) = (partition.to_string(), offset.to_string());
        let header = |key, value| Header {
            key,
            value: Some(value),
        };
        let headers = OwnedHeaders::new()
            .insert(header(
                "frontstream-origin-topic",
                self.topics.names.events.as_str(),
            ))
            .insert(header("frontstream-origin-partition", partition.as_str()))
            .insert(header("frontstream-origin-offset", offset.as_str()))
            .insert(header("frontstream-reason", reason));
        let record = BaseRecord::<str, str>::to(&self.topics.names.dead_letters)
            .payload("\u{1}garbage")
            .headers(headers);
        self.plain.send(record).map_err(|(error, _)| error).unwrap();
        self.plain.flush(ANSWER_TIMEOUT).unwrap();
    }

    /// Writes refreshes and a checkpoint in one transaction.
    pub(crate) fn commit(&self, partition: i32, refreshes: &[Refresh], checkpoint: &Checkpoint) {
        self.begin(partition, refreshes);
        let metadata = checkpoint_v1::encode(checkpoint, 4_096);
        self.end(partition, checkpoint.committed_offset(), &metadata);
    }

    /// Begins a transaction and writes refreshes in it.
    pub(crate) fn begin(&self, partition: i32, refreshes: &[Refresh]) {
        self.transactional.begin_transaction().unwrap();
        for refresh in refreshes {
            let mut value = Vec::new();
            refresh_v1::write(&mut value, Encoding::SingleObject, refresh);
            let mut headers = OwnedHeaders::new();
            for (key, value) in headers::of_refresh(refresh) {
                headers = headers.insert(Header {
                    key,
                    value: Some(value.as_bytes()),
                });
            }
            let record = BaseRecord::to(&self.topics.names.refresh)
                .partition(partition)
                .key(refresh.conversation.as_str())
                .payload(&value)
                .headers(headers);
            self.transactional
                .send(record)
                .map_err(|(error, _)| error)
                .unwrap();
        }
        self.transactional.flush(ANSWER_TIMEOUT).unwrap();
    }

    /// Commits the transaction with an offset and its metadata.
    pub(crate) fn end(&self, partition: i32, offset: Offset, metadata: &str) {
        let mut offsets = TopicPartitionList::new();
        let mut element = offsets.add_partition(&self.topics.names.events, partition);
        element
            .set_offset(rdkafka::Offset::Offset(offset.number()))
            .unwrap();
        element.set_metadata(metadata);
        let group = self.member.group_metadata().unwrap();
        self.transactional
            .send_offsets_to_transaction(&offsets, &group, ANSWER_TIMEOUT)
            .unwrap();
        self.transactional.commit_transaction(ANSWER_TIMEOUT).unwrap();
    }

    /// Aborts the transaction.
    pub(crate) fn abort(&self) {
        self.transactional.abort_transaction(ANSWER_TIMEOUT).unwrap();
    }
}

/// The run of all planted refreshes.
pub(crate) fn run() -> Run {
    Run {
        started_at: Timestamp::from_millis(1_795_000_000_000),
        start: Offset::ZERO,
        cause: RunCause::First,
    }
}

/// Returns a checkpoint of [`run`].
pub(crate) fn checkpoint(position: i64, window_starts: &[i64]) -> Checkpoint {
    Checkpoint {
        run: run(),
        position: Offset::new(position).unwrap(),
        window_starts: window_starts.iter().map(|at| Offset::new(*at).unwrap()).collect(),
    }
}

/// Returns the refresh that rightly counts these events: id and offset of each.
pub(crate) fn refresh(partition: i32, conversation: &str, events: &[(&str, i64)]) -> Refresh {
    let template = event(Some(conversation), "evt_template");
    Refresh {
        tenant: template.tenant,
        conversation: ConversationId::new(conversation).unwrap(),
        priority: template.priority,
        kinds: vec![template.kind],
        event_count: u32::try_from(events.len()).unwrap(),
        event_ids: events.iter().map(|(id, _)| EventId::new(*id).unwrap()).collect(),
        event_ids_truncated: false,
        first_emitted_at: template.emitted_at,
        last_emitted_at: template.emitted_at,
        first_received_at: template.received_at,
        last_received_at: template.received_at,
        partition: Partition::new(partition).unwrap(),
        first_offset: Offset::new(events[0].1).unwrap(),
        last_offset: Offset::new(events[events.len() - 1].1).unwrap(),
        run: run(),
        closed_by: CloseReason::Gap,
    }
}

fn event(conversation: Option<&str>, id: &str) -> Event {
    Event {
        tenant: TenantId::new("cmp_3k9dz").unwrap(),
        conversation: conversation.map(|id| ConversationId::new(id).unwrap()),
        id: EventId::new(id).unwrap(),
        kind: Kind::new("message.received").unwrap(),
        front_type: Some("inbound_received".into()),
        front_inner_type: Some("inbound".into()),
        priority: Priority::High,
        source: Source::Webhook,
        emitted_at: Timestamp::from_millis(1_795_000_000_100),
        received_at: Timestamp::from_millis(1_795_000_000_200),
        payload: Some(bytes::Bytes::from_static(b"{\"type\":\"inbound_received\"}")),
    }
}
