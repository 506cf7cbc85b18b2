//! One partition: its records, who wrote them, and how far they are decided.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::Notify;

use super::batch::{self, Batch, Header, sequence_after};
use super::clock::Now;
use super::transactions::Outcome;

/// How many of a producer's last batches are known again when they come twice: as many as an idempotent producer may
/// have in flight (`max.in.flight.requests.per.connection`).
const RECENT_BATCHES: usize = 5;
/// How long a producer that does not write is remembered. Source: Kafka's default of `producer.id.expiration.ms`.
const PRODUCER_EXPIRY_MS: i64 = 24 * 60 * 60 * 1_000;

/// The records of one partition.
#[derive(Default)]
pub(super) struct Log {
    batches: VecDeque<Batch>,
    start: i64,
    end: i64,
    bytes: usize,
    producers: HashMap<i64, Producer>,
    /// First offset of every open transaction, and whose it is.
    open: BTreeMap<i64, i64>,
    /// In the order of their markers.
    aborted: Vec<Aborted>,
    /// Fetches that wait for more.
    waiting: Vec<Weak<Notify>>,
}

/// What the log remembers of a producer.
pub(super) struct Producer {
    pub(super) epoch: i16,
    /// When it last wrote.
    pub(super) wall_ms: i64,
    recent: VecDeque<Written>,
    open_from: Option<i64>,
}

impl Producer {
    /// The sequence number of its last record; -1 when it wrote none in this epoch.
    pub(super) fn last_sequence(&self) -> i32 {
        self.recent.back().map_or(-1, |written| written.last_sequence)
    }

    /// The first offset of its open transaction; -1 when it has none here.
    pub(super) fn open_from(&self) -> i64 {
        self.open_from.unwrap_or(-1)
    }
}

struct Written {
    base_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    wall_ms: i64,
}

/// A transaction that was aborted: readers of committed records skip this producer's records in this range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aborted {
    pub(super) producer_id: i64,
    pub(super) first_offset: i64,
    marker_offset: i64,
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Appended {
    pub(super) base_offset: i64,
    /// The broker's time that the records were given; -1 when they keep the producer's.
    pub(super) append_time_ms: i64,
}

/// Whose time records carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeOf {
    Create,
    Append,
}

impl Log {
    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// The offset of the next record; with one node, also the high watermark.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// What a reader of committed records may read up to.
    pub(super) fn last_stable(&self) -> i64 {
        let open = self.open.keys().next().copied().unwrap_or(self.end);
        open.max(self.start)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns what is known of the producers that wrote here, in the order of their ids.
    pub(super) fn producers(&self) -> impl Iterator<Item = (i64, &Producer)> {
        let mut known: Vec<_> = self
            .producers
            .iter()
            .map(|(id, producer)| (*id, producer))
            .collect();
        known.sort_by_key(|(id, _)| *id);
        known.into_iter()
    }

    /// Appends a batch that [`batch::check`] found good.
    ///
    /// # Errors
    ///
    /// The producer is fenced, or the batch does not follow its last one.
    pub(super) fn append(
        &mut self,
        bytes: &Bytes,
        header: Header,
        time_of: TimeOf,
        now: Now,
    ) -> Result<Appended, ResponseError> {
        let append_time = (time_of == TimeOf::Append).then_some(now.wall_ms);
        if header.producer_id >= 0
            && let Some(before) = self.check_producer(&header)?
        {
            let append_time_ms = append_time.map_or(-1, |_| before.1);
            return Ok(Appended {
                base_offset: before.0,
                append_time_ms,
            });
        }
        let placed = batch::place(bytes, header, self.end, append_time);
        let base_offset = self.end;
        if header.producer_id >= 0 {
            self.note(&placed.header, now);
        }
        self.push(placed);
        Ok(Appended {
            base_offset,
            append_time_ms: append_time.unwrap_or(-1),
        })
    }

    /// Returns where and when the same batch was appended before, if it was.
    fn check_producer(&self, header: &Header) -> Result<Option<(i64, i64)>, ResponseError> {
        let Some(producer) = self.producers.get(&header.producer_id) else {
            return Ok(None);
        };
        if header.producer_epoch < producer.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        let same_epoch = header.producer_epoch == producer.epoch;
        if producer.open_from.is_some() && !header.is_transactional() {
            return Err(ResponseError::InvalidTxnState);
        }
        if same_epoch {
            let (first, last) = (header.base_sequence, header.last_sequence());
            let before = producer
                .recent
                .iter()
                .find(|written| written.base_sequence == first && written.last_sequence == last);
            if let Some(before) = before {
                return Ok(Some((before.base_offset, before.wall_ms)));
            }
        }
        let expected = match producer.recent.back() {
            Some(last) if same_epoch => sequence_after(last.last_sequence, 1),
            // Each epoch counts from 0.
            Some(_) | None => 0,
        };
        if header.base_sequence == expected {
            Ok(None)
        } else {
            Err(ResponseError::OutOfOrderSequenceNumber)
        }
    }

    /// Remembers a batch as its producer's last.
    fn note(&mut self, header: &Header, now: Now) {
        let producer = self
            .producers
            .entry(header.producer_id)
            .or_insert_with(|| Producer::new(header.producer_epoch));
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.recent.clear();
        }
        producer.wall_ms = now.wall_ms;
        if producer.recent.len() == RECENT_BATCHES {
            producer.recent.pop_front();
        }
        producer.recent.push_back(Written {
            base_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            wall_ms: now.wall_ms,
        });
        if header.is_transactional() && producer.open_from.is_none() {
            producer.open_from = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
    }

    /// Ends the producer's transaction in this partition.
    pub(super) fn append_marker(
        &mut self,
        producer_id: i64,
        producer_epoch: i16,
        outcome: Outcome,
        now: Now,
    ) {
        let marker_offset = self.end;
        let producer = self
            .producers
            .entry(producer_id)
            .or_insert_with(|| Producer::new(producer_epoch));
        if producer.epoch < producer_epoch {
            producer.epoch = producer_epoch;
            producer.recent.clear();
        }
        producer.wall_ms = now.wall_ms;
        if let Some(first_offset) = producer.open_from.take() {
            self.open.remove(&first_offset);
            if outcome == Outcome::Abort {
                self.aborted.push(Aborted {
                    producer_id,
                    first_offset,
                    marker_offset,
                });
            }
        }
        self.push(batch::marker(
            marker_offset,
            producer_id,
            producer_epoch,
            outcome,
            now.wall_ms,
        ));
    }

    fn push(&mut self, batch: Batch) {
        self.end = batch.header.last_offset() + 1;
        self.bytes += batch.bytes.len();
        self.batches.push_back(batch);
        self.wake();
    }

    /// Wakes `fetch` at the next append or when the partition is deleted.
    pub(super) fn wake_later(&mut self, fetch: &Arc<Notify>) {
        let fetch = Arc::downgrade(fetch);
        self.waiting
            .retain(|waiting| waiting.strong_count() > 0 && !waiting.ptr_eq(&fetch));
        self.waiting.push(fetch);
    }

    /// Wakes every fetch that waits here.
    pub(super) fn wake(&mut self) {
        for fetch in self.waiting.drain(..).filter_map(|fetch| fetch.upgrade()) {
            fetch.notify_one();
        }
    }

    /// Returns whole batches from the one that holds `offset` on, up to `below` and `bytes_max`; with `at_least_one`
    /// the first whatever its size, since a reader could not get past it otherwise.
    pub(super) fn read(&self, offset: i64, below: i64, bytes_max: usize, at_least_one: bool) -> Vec<Bytes> {
        let mut read = Vec::new();
        let mut bytes = 0_usize;
        let begin = self.batch_with(offset);
        for batch in self.batches.range(begin..) {
            if batch.header.base_offset >= below {
                break;
            }
            bytes = bytes.saturating_add(batch.bytes.len());
            if bytes > bytes_max && !(at_least_one && read.is_empty()) {
                break;
            }
            read.push(batch.bytes.clone());
        }
        read
    }

    /// Returns the aborted transactions that concern a reader of `offset..below`.
    pub(super) fn aborted(&self, offset: i64, below: i64) -> Vec<Aborted> {
        let from = self
            .aborted
            .partition_point(|aborted| aborted.marker_offset < offset);
        let later = self.aborted.get(from..).unwrap_or_default();
        later
            .iter()
            .filter(|aborted| aborted.first_offset < below)
            .copied()
            .collect()
    }

    /// Returns offset and time of the first record that is not older than `wall_ms`.
    pub(super) fn first_since(&self, wall_ms: i64) -> Option<(i64, i64)> {
        self.batches
            .iter()
            .find_map(|batch| batch.first_since(wall_ms, self.start))
    }

    /// Returns offset and time of the newest record, the first of them if there are several.
    pub(super) fn newest(&self) -> Option<(i64, i64)> {
        let newest = self
            .batches
            .iter()
            .map(|batch| batch.header.max_timestamp)
            .max()?;
        let batch = self
            .batches
            .iter()
            .find(|batch| batch.header.max_timestamp == newest)?;
        batch.newest()
    }

    /// Removes the records before `offset`.
    ///
    /// # Errors
    ///
    /// The log does not reach that far.
    pub(super) fn delete_before(&mut self, offset: i64) -> Result<(), ResponseError> {
        if offset < 0 || offset > self.end {
            return Err(ResponseError::OffsetOutOfRange);
        }
        self.start = self.start.max(offset);
        while let Some(first) = self.batches.front() {
            if first.header.last_offset() >= self.start {
                break;
            }
            self.bytes -= first.bytes.len();
            self.batches.pop_front();
        }
        let start = self.start;
        self.aborted.retain(|aborted| aborted.marker_offset >= start);
        Ok(())
    }

    /// Removes whole batches from the front as long as `too_much(bytes, newest time of the batch)`, never one that a
    /// reader of committed records cannot read yet, nor the last. Returns whether any went.
    pub(super) fn retain(&mut self, mut too_much: impl FnMut(usize, i64) -> bool) -> bool {
        let mut until = self.start;
        let mut bytes = self.bytes;
        let last = self.batches.len().saturating_sub(1);
        for batch in self.batches.range(..last) {
            let decided = batch.header.last_offset() < self.last_stable();
            if !decided || !too_much(bytes, batch.header.max_timestamp) {
                break;
            }
            bytes -= batch.bytes.len();
            until = batch.header.last_offset() + 1;
        }
        until > self.start && self.delete_before(until).is_ok()
    }

    /// Says whether [`Log::retain`] can remove anything at all.
    pub(super) fn can_drop(&self) -> bool {
        let first = self.batches.front();
        let decided = first.is_some_and(|first| first.header.last_offset() < self.last_stable());
        decided && self.batches.len() > 1
    }

    /// Forgets the producers that have not written for long and have nothing open here.
    pub(super) fn forget_producers(&mut self, now: Now) {
        self.producers.retain(|_, producer| {
            producer.open_from.is_some() || now.wall_ms.saturating_sub(producer.wall_ms) <= PRODUCER_EXPIRY_MS
        });
    }

    /// The index of the batch that holds `offset`, or of the first after it.
    fn batch_with(&self, offset: i64) -> usize {
        self.batches
            .partition_point(|batch| batch.header.last_offset() < offset)
    }
}

impl Producer {
    fn new(epoch: i16) -> Self {
        Self {
            epoch,
            wall_ms: 0,
            recent: VecDeque::new(),
            open_from: None,
        }
    }
}
