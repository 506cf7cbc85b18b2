//! Record batches, format version 2: what a broker must know of one, read and written in place.
//!
//! Records stay as the producer encoded and compressed them. Layout: Kafka documentation, "Record Batch". The checksum
//! covers everything from the attributes on, so base offset and leader epoch can be set without touching it.

use std::ops::RangeInclusive;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::records::{
    Compression, NO_TIMESTAMP, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use super::transactions::Outcome;
use super::unpack::{Codec, Unpackable, unpack};

/// Bytes before the records.
const HEADER_BYTES: usize = 61;
/// Where the checksummed part begins.
const ATTRIBUTES: usize = 21;
const LOG_APPEND_TIME: u16 = 1 << 3;
/// There is one node and it never hands its partitions over.
pub(super) const LEADER_EPOCH: i32 = 0;

/// A batch with its place in the log.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) header: Header,
    pub(super) bytes: Bytes,
}

/// What the first bytes of a batch say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) base_offset: i64,
    pub(super) last_offset_delta: i32,
    attributes: u16,
    base_timestamp: i64,
    pub(super) max_timestamp: i64,
    /// -1 for none.
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) base_sequence: i32,
    record_count: i32,
}

impl Header {
    pub(super) fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    pub(super) fn is_transactional(&self) -> bool {
        self.attributes & (1 << 4) != 0
    }

    pub(super) fn is_control(&self) -> bool {
        self.attributes & (1 << 5) != 0
    }

    fn has_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Sequence numbers go on at 0 after the largest.
    pub(super) fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }

    fn read(mut bytes: &[u8]) -> Result<Self, ResponseError> {
        if bytes.len() < HEADER_BYTES {
            return Err(ResponseError::CorruptMessage);
        }
        let base_offset = bytes.get_i64();
        let (_length, _leader_epoch) = (bytes.get_i32(), bytes.get_i32());
        if bytes.get_i8() != 2 {
            return Err(ResponseError::InvalidRecord);
        }
        let _checksum = bytes.get_u32();
        Ok(Self {
            base_offset,
            attributes: bytes.get_u16(),
            last_offset_delta: bytes.get_i32(),
            base_timestamp: bytes.get_i64(),
            max_timestamp: bytes.get_i64(),
            producer_id: bytes.get_i64(),
            producer_epoch: bytes.get_i16(),
            base_sequence: bytes.get_i32(),
            record_count: bytes.get_i32(),
        })
    }
}

/// Returns the sequence number `count` after `sequence`.
pub(super) fn sequence_after(sequence: i32, count: i32) -> i32 {
    let sum = (i64::from(sequence) + i64::from(count)) & i64::from(i32::MAX);
    i32::try_from(sum).unwrap_or(0)
}

/// What a topic asks of records.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// What their own times may be, in milliseconds since 1970; none for records that get the broker's.
    pub(super) times: Option<RangeInclusive<i64>>,
    /// Whether each needs a key, as compaction does.
    pub(super) keyed: bool,
}

/// Checks what a producer sent for one partition: exactly one whole batch whose records are what it says.
///
/// # Errors
///
/// What is wrong, as the protocol names it.
pub(super) fn check(bytes: &Bytes, rules: &Rules) -> Result<Header, ResponseError> {
    let length = bytes
        .get(8..12)
        .map_or(-1, |mut length| i64::from(length.get_i32()));
    let whole = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    if length < 0 {
        return Err(ResponseError::InvalidRecord);
    }
    match (length + 12).cmp(&whole) {
        std::cmp::Ordering::Greater => return Err(ResponseError::CorruptMessage),
        // A second batch: from version 3 on, a request holds one per partition.
        std::cmp::Ordering::Less => return Err(ResponseError::InvalidRecord),
        std::cmp::Ordering::Equal => {}
    }
    let header = Header::read(bytes)?;
    let checksum = bytes.get(17..21).map_or(0, |mut checksum| checksum.get_u32());
    if crc32c::crc32c(bytes.get(ATTRIBUTES..).unwrap_or_default()) != checksum {
        return Err(ResponseError::CorruptMessage);
    }
    // Control batches are the broker's to write.
    let counted = header.record_count > 0 && header.record_count - 1 == header.last_offset_delta;
    let sequenced = header.producer_id < 0 || header.base_sequence >= 0;
    if !counted || !sequenced || header.is_control() {
        return Err(ResponseError::InvalidRecord);
    }
    let (mut expected, mut timely) = (0, true);
    let good = walk(&header, bytes, |record| {
        let in_order = record.offset_delta == expected;
        expected += 1;
        let time = header.base_timestamp.saturating_add(record.timestamp_delta);
        timely &= time == NO_TIMESTAMP || rules.times.as_ref().is_none_or(|times| times.contains(&time));
        in_order && (record.has_key || !rules.keyed)
    })?;
    match (good, timely) {
        (true, true) => Ok(header),
        (true, false) => Err(ResponseError::InvalidTimestamp),
        (false, _) => Err(ResponseError::InvalidRecord),
    }
}

/// Gives the batch its place, and with `append_time` the broker's time.
pub(super) fn place(bytes: &[u8], mut header: Header, base_offset: i64, append_time: Option<i64>) -> Batch {
    let mut placed = BytesMut::from(bytes);
    placed[..8].copy_from_slice(&base_offset.to_be_bytes());
    placed[12..16].copy_from_slice(&LEADER_EPOCH.to_be_bytes());
    header.base_offset = base_offset;
    if let Some(time) = append_time {
        header.attributes |= LOG_APPEND_TIME;
        header.max_timestamp = time;
        placed[ATTRIBUTES..23].copy_from_slice(&header.attributes.to_be_bytes());
        placed[35..43].copy_from_slice(&time.to_be_bytes());
        let checksum = crc32c::crc32c(&placed[ATTRIBUTES..]);
        placed[17..21].copy_from_slice(&checksum.to_be_bytes());
    }
    Batch {
        header,
        bytes: placed.freeze(),
    }
}

/// Makes the control batch that ends a producer's transaction in a partition.
pub(super) fn marker(
    base_offset: i64,
    producer_id: i64,
    producer_epoch: i16,
    outcome: Outcome,
    wall_ms: i64,
) -> Batch {
    let kind: i16 = match outcome {
        Outcome::Abort => 0,
        Outcome::Commit => 1,
    };
    let version = 0_i16.to_be_bytes();
    let key = [version, kind.to_be_bytes()].concat();
    let value = [&version[..], &0_i32.to_be_bytes()].concat();
    let record = Record {
        transactional: true,
        control: true,
        delete_horizon: false,
        partition_leader_epoch: LEADER_EPOCH,
        producer_id,
        producer_epoch,
        timestamp_type: TimestampType::Creation,
        offset: base_offset,
        sequence: kafka_protocol::records::NO_SEQUENCE,
        timestamp: wall_ms,
        key: Some(key.into()),
        value: Some(value.into()),
        headers: Default::default(),
    };
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, [&record], &options).expect("one small record can be encoded");
    let bytes = bytes.freeze();
    let header = Header::read(&bytes).expect("it was just encoded");
    Batch { header, bytes }
}

impl Batch {
    /// Returns offset and time of the first record from `from` on that is not older than `wall_ms`.
    pub(super) fn first_since(&self, wall_ms: i64, from: i64) -> Option<(i64, i64)> {
        if self.header.max_timestamp < wall_ms {
            return None;
        }
        self.find(|offset, timestamp| timestamp >= wall_ms && offset >= from)
    }

    /// Returns offset and time of the first of the newest records.
    pub(super) fn newest(&self) -> Option<(i64, i64)> {
        let mut newest = None;
        self.find(|offset, timestamp| {
            if newest.is_none_or(|(_, time)| timestamp > time) {
                newest = Some((offset, timestamp));
            }
            false
        });
        newest
    }

    fn find(&self, mut wanted: impl FnMut(i64, i64) -> bool) -> Option<(i64, i64)> {
        let header = self.header;
        let mut found = None;
        // It was checked when it was appended, so an error here means the same as not found.
        let _ = walk(&header, &self.bytes, |record| {
            let offset = header.base_offset + i64::from(record.offset_delta);
            let timestamp = if header.has_log_append_time() {
                header.max_timestamp
            } else {
                header.base_timestamp.saturating_add(record.timestamp_delta)
            };
            if wanted(offset, timestamp) {
                found = Some((offset, timestamp));
            }
            found.is_none()
        });
        found
    }
}

/// One record, as far as a broker looks.
struct Seen {
    timestamp_delta: i64,
    offset_delta: i32,
    has_key: bool,
}

/// Reads the batch's records one after the other until `each` says no; returns whether it never did.
fn walk(header: &Header, bytes: &Bytes, mut each: impl FnMut(Seen) -> bool) -> Result<bool, ResponseError> {
    let records = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let codec = match header.attributes & 7 {
        0 => return walk_unpacked(header.record_count, records, &mut each),
        1 => Codec::Gzip,
        2 => Codec::Snappy,
        3 => Codec::Lz4,
        4 => Codec::Zstd,
        _ => return Err(ResponseError::UnsupportedCompressionType),
    };
    let unpacked = unpack(records, codec).map_err(|why| match why {
        Unpackable::TooLarge => ResponseError::MessageTooLarge,
        Unpackable::Corrupt => ResponseError::CorruptMessage,
    })?;
    walk_unpacked(header.record_count, &unpacked, &mut each)
}

fn walk_unpacked(
    count: i32,
    mut records: &[u8],
    each: &mut impl FnMut(Seen) -> bool,
) -> Result<bool, ResponseError> {
    for _ in 0..count {
        if !each(record(&mut records).ok_or(ResponseError::InvalidRecord)?) {
            return Ok(false);
        }
    }
    if records.is_empty() {
        Ok(true)
    } else {
        Err(ResponseError::InvalidRecord)
    }
}

/// Reads one record off the front; `None` when it is not one.
fn record(rest: &mut &[u8]) -> Option<Seen> {
    let length = usize::try_from(varint(rest)?).ok()?;
    let (mut body, after) = rest.split_at_checked(length)?;
    *rest = after;
    let _attributes = body.try_get_u8().ok()?;
    let timestamp_delta = varint(&mut body)?;
    let offset_delta = i32::try_from(varint(&mut body)?).ok()?;
    let has_key = skip(&mut body, Missing::Allowed)?;
    skip(&mut body, Missing::Allowed)?;
    for _ in 0..u32::try_from(varint(&mut body)?).ok()? {
        skip(&mut body, Missing::Refused)?;
        skip(&mut body, Missing::Allowed)?;
    }
    body.is_empty().then_some(Seen {
        timestamp_delta,
        offset_delta,
        has_key,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Allowed,
    Refused,
}

/// Passes over bytes with their length before them, and says whether there are any: a length of -1 means that there
/// are none.
fn skip(body: &mut &[u8], missing: Missing) -> Option<bool> {
    let length = varint(body)?;
    if length == -1 && missing == Missing::Allowed {
        return Some(false);
    }
    *body = body.split_at_checked(usize::try_from(length).ok()?)?.1;
    Some(true)
}

/// Reads a zigzag number of up to 64 bits.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for bits in (0..70).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7F).checked_shl(bits)?;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}
