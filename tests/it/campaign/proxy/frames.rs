//! As much of Kafka's framing as the proxy needs: where a frame begins, and the first fields of its header. Bodies pass
//! unread. Pure: bytes in, pieces out.
//!
//! Source: <https://kafka.apache.org/protocol#protocol_messages>. A request is length, api key, version, correlation id and
//! client id, in every version that clients use (flexible headers changed what follows the client id); an answer is length
//! and correlation id.

use bytes::{Buf as _, Bytes};

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

    use super::{NotKafka, Piece, Scanner, answer, client_id, request};

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
