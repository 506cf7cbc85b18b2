//! As much of Kafka's framing as the proxy needs: where a frame begins, and the first fields of its header. Bodies pass
//! unread, but for whether a transaction was committed. Pure: bytes in, pieces out.
//!
//! Source: <https://kafka.apache.org/protocol#protocol_messages>. A request is length, api key, version, correlation id and
//! client id, in every version that clients use (flexible headers changed what follows the client id); an answer is length
//! and correlation id.

use bytes::{Buf as _, Bytes};
use kafka_protocol::messages::{ApiKey, EndTxnRequest, RequestHeader};
use kafka_protocol::protocol::Decodable as _;

/// Of a request: length, api key, version and correlation id.
const REQUEST_HEAD_BYTES: usize = 4 + 2 + 2 + 4;
/// Of an answer: length and correlation id.
const ANSWER_HEAD_BYTES: usize = 4 + 4;

/// Takes the bytes of one direction of a connection apart, whatever their chunks are.
pub(super) struct Scanner {
    head_bytes: usize,
    /// What has come of a head that the last chunk cut through.
    head: Vec<u8>,
    body_left: usize,
}

/// A part of a stream: all pieces, one after the other, are the stream.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// Begins a frame.
    Head(Vec<u8>),
    Body(Bytes),
}

/// The bytes are not Kafka's.
#[derive(Debug, PartialEq)]
pub(super) struct NotKafka;

impl Scanner {
    pub(super) fn of_requests() -> Self {
        Self::new(REQUEST_HEAD_BYTES)
    }

    pub(super) fn of_answers() -> Self {
        Self::new(ANSWER_HEAD_BYTES)
    }

    fn new(head_bytes: usize) -> Self {
        Self {
            head_bytes,
            head: Vec::new(),
            body_left: 0,
        }
    }

    /// Takes the next piece from the front of `chunk`; `None` when the chunk is used up.
    ///
    /// # Errors
    ///
    /// A length that no frame has; the stream cannot be followed further.
    pub(super) fn next(&mut self, chunk: &mut Bytes) -> Result<Option<Piece>, NotKafka> {
        if chunk.is_empty() {
            return Ok(None);
        }
        if self.body_left > 0 {
            let body = chunk.split_to(self.body_left.min(chunk.len()));
            self.body_left -= body.len();
            return Ok(Some(Piece::Body(body)));
        }
        let missing = self.head_bytes - self.head.len();
        self.head.extend(chunk.split_to(missing.min(chunk.len())));
        if self.head.len() < self.head_bytes {
            return Ok(None);
        }
        let head = std::mem::take(&mut self.head);
        let frame_bytes = 4 + usize::try_from(length(&head)).map_err(|_| NotKafka)?;
        self.body_left = frame_bytes.checked_sub(self.head_bytes).ok_or(NotKafka)?;
        Ok(Some(Piece::Head(head)))
    }

    /// Returns how much of the frame is still to come.
    pub(super) fn body_left(&self) -> usize {
        self.body_left
    }

    /// Returns what is left of a head that never became whole.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.head)
    }
}

fn length(mut head: &[u8]) -> i32 {
    head.get_i32()
}

/// Returns the api key and the correlation id of a request's head.
pub(super) fn request(mut head: &[u8]) -> (i16, i32) {
    head.advance(4);
    let api = head.get_i16();
    head.advance(2);
    (api, head.get_i32())
}

/// Returns the correlation id of an answer's head.
pub(super) fn answer(mut head: &[u8]) -> i32 {
    head.advance(4);
    head.get_i32()
}

/// Says whether a request asks to commit a transaction (`EndTxn`, `committed`); what is not there as a whole does not.
pub(super) fn is_commit(frame: &[u8]) -> bool {
    let mut body = Bytes::copy_from_slice(frame.get(4..).unwrap_or_default());
    let Some(mut start) = body.get(..4) else {
        return false;
    };
    let (key, version) = (start.get_i16(), start.get_i16());
    if key != ApiKey::EndTxn as i16 {
        return false;
    }
    let header = ApiKey::EndTxn.request_header_version(version);
    RequestHeader::decode(&mut body, header)
        .and_then(|_| EndTxnRequest::decode(&mut body, version))
        .is_ok_and(|request| request.committed)
}

/// Says whether the answer to an `EndTxn` is without an error. Its code follows head and throttle time, and from version 3
/// on the tags of the header; only the versions before that have so short an answer.
pub(super) fn has_ended_transaction(frame: &[u8]) -> bool {
    let tags = usize::from(frame.len() > ANSWER_HEAD_BYTES + 4 + 2);
    let code = ANSWER_HEAD_BYTES + tags + 4;
    frame.get(code..code + 2) == Some(&[0, 0])
}

/// Returns the client id that the first request of a connection names, empty when it names none; `None` while its header
/// is not complete.
pub(super) fn client_id(mut start: &[u8]) -> Option<String> {
    if start.len() < REQUEST_HEAD_BYTES + 2 {
        return None;
    }
    start.advance(REQUEST_HEAD_BYTES);
    let bytes = usize::try_from(start.get_i16()).unwrap_or(0);
    let id = start.get(..bytes)?;
    Some(String::from_utf8_lossy(id).into_owned())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use bytes::{BufMut as _, BytesMut};
    use kafka_protocol::messages::{ApiKey, EndTxnRequest, EndTxnResponse, RequestHeader, ResponseHeader};
    use kafka_protocol::protocol::{Encodable as _, StrBytes};

    use super::{NotKafka, Piece, Scanner, answer, client_id, has_ended_transaction, is_commit, request};

    const REQUESTS: &[u8] =
        b"\0\0\0\x0e\0\x1a\0\x03\0\0\0\x07\0\x02p1ab\0\0\0\x0a\0\x03\0\x01\0\0\0\x08\xff\xff";

    /// Returns the heads, and all pieces put together.
    fn scan(scanner: &mut Scanner, chunks: &[&[u8]]) -> Result<(Vec<Vec<u8>>, Vec<u8>), NotKafka> {
        let (mut heads, mut whole) = (Vec::new(), Vec::new());
        for chunk in chunks {
            let mut chunk = Bytes::copy_from_slice(chunk);
            while let Some(piece) = scanner.next(&mut chunk)? {
                match piece {
                    Piece::Head(head) => {
                        whole.extend(&head);
                        heads.push(head);
                    }
                    Piece::Body(body) => whole.extend(body),
                }
            }
            assert!(chunk.is_empty());
        }
        whole.extend(scanner.rest());
        Ok((heads, whole))
    }

    #[test]
    fn requests_are_told_apart_however_they_are_cut() {
        for first in 0..=REQUESTS.len() {
            for second in first..=REQUESTS.len() {
                let chunks = [&REQUESTS[..first], &REQUESTS[first..second], &REQUESTS[second..]];
                let (heads, whole) = scan(&mut Scanner::of_requests(), &chunks).unwrap();
                let read: Vec<_> = heads.iter().map(|head| request(head)).collect();
                assert_eq!(read, [(26, 7), (3, 8)]);
                assert_eq!(whole, REQUESTS);
            }
        }
    }

    #[test]
    fn an_answer_is_its_correlation_id_at_least() {
        let answers = b"\0\0\0\x04\0\0\0\x07\0\0\0\x05\0\0\0\x08x\0\0";
        let (heads, whole) = scan(&mut Scanner::of_answers(), &[answers]).unwrap();
        let read: Vec<_> = heads.iter().map(|head| answer(head)).collect();
        assert_eq!(read, [7, 8]);
        assert_eq!(whole, answers, "the beginning of a third one is not lost");
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut frame = BytesMut::new();
        frame.put_i32(i32::try_from(body.len()).unwrap());
        frame.put(body);
        frame.to_vec()
    }

    #[test]
    fn a_commit_is_told_from_an_abort_and_done_from_refused_in_every_version() {
        for version in 0..=5 {
            for committed in [true, false] {
                let mut bytes = BytesMut::new();
                let header = RequestHeader::default()
                    .with_request_api_key(ApiKey::EndTxn as i16)
                    .with_request_api_version(version)
                    .with_client_id(Some(StrBytes::from_static_str("processor-1")));
                let asked = EndTxnRequest::default().with_committed(committed);
                header
                    .encode(&mut bytes, ApiKey::EndTxn.request_header_version(version))
                    .unwrap();
                asked.encode(&mut bytes, version).unwrap();
                let whole = frame(&bytes);
                assert_eq!(is_commit(&whole), committed, "version {version}");
                assert!(!is_commit(&whole[..whole.len() - 2]), "cut through");
            }
            for code in [0, 48] {
                let mut bytes = BytesMut::new();
                let header = ResponseHeader::default().with_correlation_id(7);
                header
                    .encode(&mut bytes, ApiKey::EndTxn.response_header_version(version))
                    .unwrap();
                let answered = EndTxnResponse::default().with_error_code(code);
                answered.encode(&mut bytes, version).unwrap();
                assert_eq!(
                    has_ended_transaction(&frame(&bytes)),
                    code == 0,
                    "version {version}"
                );
            }
        }
        assert!(!is_commit(REQUESTS), "another request");
        assert!(!is_commit(&REQUESTS[..5]) && !has_ended_transaction(&REQUESTS[..5]));
    }

    #[test]
    fn a_length_that_no_frame_has_is_refused() {
        for head in [b"\0\0\0\x03\0\0\0\x07", b"\xff\xff\xff\xff\0\0\0\x07"] {
            assert_eq!(scan(&mut Scanner::of_answers(), &[head]), Err(NotKafka));
        }
    }

    #[test]
    fn the_client_is_known_once_its_name_is_whole() {
        for end in 0..16 {
            assert_eq!(client_id(&REQUESTS[..end]), None);
        }
        assert_eq!(client_id(&REQUESTS[..16]).as_deref(), Some("p1"));
        assert_eq!(client_id(&REQUESTS[18..]).as_deref(), Some(""), "it names none");
    }
}
