//! Reads a request's body without letting a hostile length claim memory.
//!
//! `kafka-protocol` reserves room for as many items as an array announces before it reads the first. Announced by a client
//! that means harm, or by a damaged frame, that can be hundreds of gigabytes, and an allocation that fails ends the
//! process. An item takes a byte at least, so an honest count never exceeds the bytes that are left. Where the counts are:
//!
//! - In the newer encodings counts and lengths are varints and other numbers are not: [`Compact`] refuses a varint that
//!   announces more than is left.
//! - In the older ones a count is a 32-bit number like any other. Such a request is read twice: first with every number
//!   cut down to just more than what is left ([`Cut`]). An array whose count was cut runs out of bytes, so if that reading
//!   succeeds all counts are honest and the second reading may take the numbers as they are.
//!
//! What an honest count reserves is a multiple of the request's size, therefore requests are short
//! ([`REQUEST_BYTES_MAX`], [`NOTES_BYTES_MAX`]). Only `Produce` may be long, for its records. Its arrays are counted beforehand ([`Walk`]).

use std::collections::BTreeSet;

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::Decodable;
use kafka_protocol::protocol::buf::ByteBuf;

/// The longest request that carries neither records nor what clients tell each other. One that names twenty thousand
/// partitions still fits.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// The longest request that carries offsets' metadata, subscriptions or assignments. A thousand partitions' offsets, each with
/// 4 KiB of metadata, still fit.
const NOTES_BYTES_MAX: usize = 5 << 20;

/// How many topics, partitions and tags together one `Produce` may have.
const PRODUCE_ITEMS_MAX: usize = 1 << 20;

/// Varints up to here are let pass unchecked: field tags are varints too, though they announce nothing.
const TAG_MAX: u32 = 1_024;

/// Keeps the first of everything that is asked for more than once. An answer can be thousands of times longer than its
/// question, and a request has room for hundreds of thousands of these.
pub(super) fn once<T, K: Ord>(asked: Vec<T>, key: impl Fn(&T) -> K) -> impl Iterator<Item = T> {
    let mut seen = BTreeSet::new();
    asked.into_iter().filter(move |one| seen.insert(key(one)))
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it is {bytes} bytes long; one of this kind may have {bytes_max}")]
    Long { bytes: usize, bytes_max: usize },
    #[error("its arrays do not hold what they announce")]
    Dishonest,
    #[error("{0}")]
    Malformed(String),
}

/// Reads a request's header off the front of its frame. A header has no arrays.
///
/// # Errors
///
/// It is not one.
pub(super) fn header(frame: &mut Bytes, key: ApiKey, version: i16) -> Result<RequestHeader, Unreadable> {
    read(frame, key.request_header_version(version))
}

/// Reads a request's body.
///
/// # Errors
///
/// It is not one.
pub(super) fn decode<Q: Decodable>(mut body: Bytes, key: ApiKey, version: i16) -> Result<Q, Unreadable> {
    // The encodings changed together: a header with tags means a body with varints.
    let is_compact = key.request_header_version(version) >= 2;
    if key == ApiKey::Produce {
        if Walk::new(&body, is_compact).produce().is_none() {
            return Err(Unreadable::Dishonest);
        }
        return read(&mut body, version);
    }
    let (bytes, bytes_max) = (body.len(), bytes_max(key));
    if bytes > bytes_max {
        return Err(Unreadable::Long { bytes, bytes_max });
    }
    if is_compact {
        return read(&mut Compact(body), version);
    }
    decode_classic(body, version)
}

fn bytes_max(key: ApiKey) -> usize {
    let has_notes = [
        ApiKey::OffsetCommit,
        ApiKey::TxnOffsetCommit,
        ApiKey::JoinGroup,
        ApiKey::SyncGroup,
    ];
    if has_notes.contains(&key) {
        NOTES_BYTES_MAX
    } else {
        REQUEST_BYTES_MAX
    }
}

/// Reads what is in one of the older encodings, a body or something inside one.
///
/// # Errors
///
/// It is not one.
pub(super) fn decode_classic<Q: Decodable>(mut body: Bytes, version: i16) -> Result<Q, Unreadable> {
    read::<Q>(&mut Cut(body.clone()), version)?;
    read(&mut body, version)
}

fn read<Q: Decodable>(body: &mut impl ByteBuf, version: i16) -> Result<Q, Unreadable> {
    Q::decode(body, version).map_err(|error| Unreadable::Malformed(error.to_string().trim_end().to_owned()))
}

/// A body in one of the newer encodings.
struct Compact(Bytes);

impl Buf for Compact {
    fn remaining(&self) -> usize {
        self.0.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.0
    }

    fn advance(&mut self, count: usize) {
        self.0.advance(count);
    }

    /// Only varints and booleans are read in single bytes. Whatever begins here is checked as if it were a varint: what
    /// follows the first byte of a real one is smaller than the whole, and a boolean is 0 or 1.
    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let (value, bytes) = varint(&self.0);
        let left = self.0.len() - bytes;
        // Counts and lengths are one more than what they announce, except for those of tags.
        if value > TAG_MAX && usize::try_from(value - 1).is_ok_and(|announced| announced > left) {
            return Err(TryGetError {
                requested: usize::try_from(value).unwrap_or(usize::MAX),
                available: left,
            });
        }
        self.0.try_get_u8()
    }
}

impl ByteBuf for Compact {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.0.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.0.split_to(size)
    }
}

/// A body in one of the older encodings, read for the first time.
struct Cut(Bytes);

impl Buf for Cut {
    fn remaining(&self) -> usize {
        self.0.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.0
    }

    fn advance(&mut self, count: usize) {
        self.0.advance(count);
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        let value = self.0.try_get_i32()?;
        let too_many = i32::try_from(self.0.len() + 1).unwrap_or(i32::MAX);
        Ok(value.min(too_many))
    }
}

impl ByteBuf for Cut {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.0.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.0.split_to(size)
    }
}

/// Returns the varint at the front, read as `kafka-protocol` reads it (at most five bytes, surplus bits dropped), and how
/// many bytes it takes.
fn varint(bytes: &[u8]) -> (u32, usize) {
    let mut value = 0_u32;
    let mut taken = 0;
    for (byte, bits) in bytes.iter().zip([0, 7, 14, 21, 28]) {
        value |= u32::from(byte & 0x7F) << bits;
        taken += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (value, taken)
}

/// Passes over a `Produce` without reading it. `None` wherever it ends too early.
struct Walk<'a> {
    rest: &'a [u8],
    is_compact: bool,
    items: usize,
}

impl<'a> Walk<'a> {
    fn new(body: &'a [u8], is_compact: bool) -> Self {
        Self {
            rest: body,
            is_compact,
            items: 0,
        }
    }

    /// Layout: Kafka's `ProduceRequest.json`, versions 3 to 12.
    fn produce(&mut self) -> Option<()> {
        self.text()?;
        // Acknowledgements and timeout.
        self.skip(2 + 4)?;
        for _ in 0..self.count()? {
            self.item()?;
            self.text()?;
            for _ in 0..self.count()? {
                self.item()?;
                self.skip(4)?;
                self.bytes()?;
                self.tags()?;
            }
            self.tags()?;
        }
        self.tags()
    }

    fn item(&mut self) -> Option<()> {
        self.items += 1;
        (self.items <= PRODUCE_ITEMS_MAX).then_some(())
    }

    /// What cannot be there at all, such as a missing array, is left for the reading to refuse.
    fn count(&mut self) -> Option<usize> {
        if self.is_compact {
            self.compact()
        } else {
            Some(usize::try_from(self.rest.try_get_i32().ok()?).unwrap_or(0))
        }
    }

    fn text(&mut self) -> Option<()> {
        let length = if self.is_compact {
            self.compact()?
        } else {
            usize::try_from(self.rest.try_get_i16().ok()?).unwrap_or(0)
        };
        self.skip(length)
    }

    fn bytes(&mut self) -> Option<()> {
        let length = self.count()?;
        self.skip(length)
    }

    fn tags(&mut self) -> Option<()> {
        if self.is_compact {
            for _ in 0..self.varint()? {
                self.item()?;
                let _tag = self.varint()?;
                let length = self.varint()?;
                self.skip(usize::try_from(length).ok()?)?;
            }
        }
        Some(())
    }

    fn compact(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?.saturating_sub(1)).ok()
    }

    fn varint(&mut self) -> Option<u32> {
        let (value, taken) = varint(self.rest);
        self.skip(taken.max(1))?;
        Some(value)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.rest = self.rest.split_at_checked(count)?.1;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::{
        BrokerId, CreateTopicsRequest, FetchRequest, JoinGroupRequest, ListOffsetsRequest, MetadataRequest,
        ProduceRequest, TopicName,
    };
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::*;

    fn topic_name() -> TopicName {
        TopicName(StrBytes::from_static_str("topic"))
    }

    fn encoded(request: &impl Encodable, version: i16) -> Bytes {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).unwrap();
        body.freeze()
    }

    /// The same request comes out, whatever bytes follow it in the frame.
    #[track_caller]
    fn check<Q: Decodable + Encodable + PartialEq + std::fmt::Debug>(
        request: &Q,
        key: ApiKey,
        versions: &[i16],
    ) {
        for version in versions {
            let body = encoded(request, *version);
            let mut plain = body.clone();
            let expected = Q::decode(&mut plain, *version).unwrap();
            assert!(plain.is_empty());
            assert_eq!(
                decode::<Q>(body, key, *version).unwrap(),
                expected,
                "version {version}"
            );
        }
    }

    #[track_caller]
    fn check_refused<Q: Decodable>(body: &[u8], key: ApiKey, version: i16) {
        let refused = decode::<Q>(Bytes::copy_from_slice(body), key, version);
        assert!(refused.is_err(), "{key:?} {version}: {body:?}");
    }

    fn produce(records: usize) -> ProduceRequest {
        let data = |index| {
            PartitionProduceData::default()
                .with_index(index)
                .with_records(Some(Bytes::from(vec![7; records])))
        };
        let topic = TopicProduceData::default()
            .with_name(topic_name())
            .with_partition_data(vec![data(0), data(i32::MAX)]);
        ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(i32::MAX)
            .with_topic_data(vec![topic.clone(), topic])
    }

    #[test]
    fn honest_requests_are_read_as_they_are() {
        let large = i32::MAX;
        let partition = FetchPartition::default()
            .with_partition(large)
            .with_current_leader_epoch(large)
            .with_partition_max_bytes(large);
        let topic = FetchTopic::default()
            .with_topic(topic_name())
            .with_partitions(vec![partition; 3]);
        let fetch = FetchRequest::default()
            .with_max_wait_ms(large)
            .with_min_bytes(large)
            .with_max_bytes(large)
            .with_topics(vec![topic; 2]);
        check(&fetch, ApiKey::Fetch, &[11, 12]);

        let assignment = CreatableReplicaAssignment::default()
            .with_partition_index(large)
            .with_broker_ids(vec![BrokerId(large), BrokerId(0), BrokerId(-1)]);
        let topic = CreatableTopic::default()
            .with_name(topic_name())
            .with_num_partitions(large)
            .with_assignments(vec![assignment; 2]);
        let create = CreateTopicsRequest::default()
            .with_timeout_ms(large)
            .with_topics(vec![topic; 2]);
        check(&create, ApiKey::CreateTopics, &[2, 4, 5, 7]);

        let topics = vec![MetadataRequestTopic::default().with_name(Some(topic_name())); 2_000];
        check(
            &MetadataRequest::default().with_topics(Some(topics)),
            ApiKey::Metadata,
            &[1, 8, 9, 12],
        );
        check(
            &MetadataRequest::default().with_topics(None),
            ApiKey::Metadata,
            &[1, 8, 9, 12],
        );

        check(&produce(0), ApiKey::Produce, &[3, 8, 9, 11]);
        check(&produce(200_000), ApiKey::Produce, &[3, 8, 9, 11]);
        let absent = PartitionProduceData::default().with_records(None);
        let topic = TopicProduceData::default()
            .with_name(topic_name())
            .with_partition_data(vec![absent]);
        let request = ProduceRequest::default().with_topic_data(vec![topic]);
        check(&request, ApiKey::Produce, &[3, 8, 9, 11]);
    }

    /// Each of these, believed, asks for some hundred gigabytes: more than the machine gives.
    #[test]
    fn counts_that_the_frame_cannot_hold_are_refused() {
        let most = i32::MAX.to_be_bytes();
        check_refused::<MetadataRequest>(&most, ApiKey::Metadata, 0);
        check_refused::<MetadataRequest>(&[&most[..], &[0; 64]].concat(), ApiKey::Metadata, 1);
        // One topic with no name, then partitions without end.
        let nested = [
            &(-1_i32).to_be_bytes()[..],
            &1_i32.to_be_bytes(),
            &[0, 0],
            &most,
            &[0; 20],
        ]
        .concat();
        check_refused::<ListOffsetsRequest>(&nested, ApiKey::ListOffsets, 1);

        let most = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F];
        check_refused::<MetadataRequest>(&most, ApiKey::Metadata, 9);
        check_refused::<MetadataRequest>(&[&most[..], &[1; 64]].concat(), ApiKey::Metadata, 9);
        // Bits beyond the 32nd, and a fifth byte that says that there are more.
        check_refused::<MetadataRequest>(&[0xFF; 5], ApiKey::Metadata, 9);
        check_refused::<MetadataRequest>(&[0xFF; 4], ApiKey::Metadata, 9);
        check_refused::<MetadataRequest>(&[0xFF; 64], ApiKey::Metadata, 12);
    }

    #[test]
    fn a_produce_that_does_not_hold_what_it_announces_is_refused() {
        for version in [3, 8, 9, 11] {
            let body = encoded(&produce(10), version);
            for length in 0..body.len() {
                check_refused::<ProduceRequest>(&body[..length], ApiKey::Produce, version);
            }
        }
        let acks_and_timeout = [0; 6];
        let most = i32::MAX.to_be_bytes();
        let classic = [&[0xFF, 0xFF][..], &acks_and_timeout, &most, &[0; 64]].concat();
        check_refused::<ProduceRequest>(&classic, ApiKey::Produce, 8);
        let most = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F];
        let compact = [&[0][..], &acks_and_timeout, &most, &[1; 64]].concat();
        check_refused::<ProduceRequest>(&compact, ApiKey::Produce, 9);
    }

    #[test]
    fn more_topics_than_anybody_has_are_refused_though_they_are_there() {
        let empty = TopicProduceData::default();
        let many = |count| ProduceRequest::default().with_topic_data(vec![empty.clone(); count]);
        let body = encoded(&many(PRODUCE_ITEMS_MAX), 9);
        assert!(decode::<ProduceRequest>(body, ApiKey::Produce, 9).is_ok());
        check_refused::<ProduceRequest>(&encoded(&many(PRODUCE_ITEMS_MAX + 1), 9), ApiKey::Produce, 9);
    }

    #[test]
    fn only_what_carries_much_may_be_long() {
        let mut body = encoded(&MetadataRequest::default(), 9).to_vec();
        body.resize(REQUEST_BYTES_MAX, 0);
        assert!(decode::<MetadataRequest>(body.clone().into(), ApiKey::Metadata, 9).is_ok());
        body.push(0);
        check_refused::<MetadataRequest>(&body, ApiKey::Metadata, 9);
        let mut body = encoded(&JoinGroupRequest::default(), 9).to_vec();
        body.resize(NOTES_BYTES_MAX, 0);
        assert!(decode::<JoinGroupRequest>(body.clone().into(), ApiKey::JoinGroup, 9).is_ok());
        body.push(0);
        check_refused::<JoinGroupRequest>(&body, ApiKey::JoinGroup, 9);
        check(&produce(6 << 20), ApiKey::Produce, &[8, 9]);
    }

    #[test]
    fn what_is_asked_for_twice_is_kept_once_in_its_order() {
        let kept: Vec<_> = once(vec![3, 1, 3, 2, 1, 3], Clone::clone).collect();
        assert_eq!(kept, [3, 1, 2]);
    }

    #[test]
    fn a_varint_is_read_as_the_codec_reads_it() {
        for (bytes, expected) in [
            (&[][..], (0, 0)),
            (&[0x7F, 1], (0x7F, 1)),
            (&[0x80, 1], (0x80, 2)),
            (&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 1], (u32::MAX, 5)),
            (&[0xFF; 8], (u32::MAX, 5)),
            (&[0x80, 0x80], (0, 2)),
        ] {
            assert_eq!(varint(bytes), expected, "{bytes:?}");
        }
    }
}
