//! What stands before a record's Avro bytes and names their schema.
//!
//! Two framings: the Confluent wire format (`00`, then the registry's id of the schema, four bytes big-endian) and
//! Avro's single-object encoding (`c3 01`, then the schema's CRC-64-AVRO fingerprint, eight bytes little-endian).

use std::fmt;

use super::error::Malformed;

/// The number a registry gave a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaId(pub u32);

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The CRC-64-AVRO fingerprint of a schema's parsing canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// How a producer frames what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The Confluent wire format, with the id under which the registry knows the record's schema.
    Registry(SchemaId),
    /// Avro's single-object encoding: no registry.
    SingleObject,
}

/// How a frame names its writer's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// By the registry's id.
    Id(SchemaId),
    /// By fingerprint.
    Fingerprint(Fingerprint),
}

const CONFLUENT: u8 = 0x00;
const SINGLE_OBJECT: [u8; 2] = [0xc3, 0x01];
const CONFLUENT_BYTES: usize = 5;
const SINGLE_OBJECT_BYTES: usize = 10;

/// Appends the frame of a record whose schema has `fingerprint`.
pub fn write_header(out: &mut Vec<u8>, encoding: Encoding, fingerprint: Fingerprint) {
    match encoding {
        Encoding::Registry(id) => {
            out.push(CONFLUENT);
            out.extend_from_slice(&id.0.to_be_bytes());
        }
        Encoding::SingleObject => {
            out.extend_from_slice(&SINGLE_OBJECT);
            out.extend_from_slice(&fingerprint.0.to_le_bytes());
        }
    }
}

/// Reads the frame of a record's value: who wrote it, and at which offset the Avro bytes begin.
///
/// # Errors
/// [`Malformed`] when the value is empty, in neither framing, or ends inside the frame.
#[inline]
pub fn read_header(bytes: &[u8]) -> Result<(Writer, usize), Malformed> {
    match *bytes {
        [] => Err(Malformed::Empty),
        [CONFLUENT, a, b, c, d, ..] => {
            let id = SchemaId(u32::from_be_bytes([a, b, c, d]));
            Ok((Writer::Id(id), CONFLUENT_BYTES))
        }
        [first, second, a, b, c, d, e, f, g, h, ..] if [first, second] == SINGLE_OBJECT => {
            let fingerprint = Fingerprint(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
            Ok((Writer::Fingerprint(fingerprint), SINGLE_OBJECT_BYTES))
        }
        [CONFLUENT, ..] => Err(ends_inside(bytes, "the schema id")),
        [first] if first == SINGLE_OBJECT[0] => Err(ends_inside(bytes, "the schema fingerprint")),
        [first, second, ..] if [first, second] == SINGLE_OBJECT => {
            Err(ends_inside(bytes, "the schema fingerprint"))
        }
        [first, ..] => Err(Malformed::UnknownFrame { first }),
    }
}

#[cold]
fn ends_inside(bytes: &[u8], reading: &'static str) -> Malformed {
    Malformed::Truncated {
        reading,
        offset: 0,
        end: bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINT: Fingerprint = Fingerprint(0x0123_4567_89ab_cdef);

    #[test]
    fn both_framings_are_what_their_specifications_say() {
        let mut out = Vec::new();
        write_header(&mut out, Encoding::Registry(SchemaId(0x0102_0304)), PRINT);
        assert_eq!(out, [0, 1, 2, 3, 4]);
        assert_eq!(read_header(&out), Ok((Writer::Id(SchemaId(0x0102_0304)), 5)));

        let mut out = Vec::new();
        write_header(&mut out, Encoding::SingleObject, PRINT);
        assert_eq!(out, [0xc3, 1, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01]);
        assert_eq!(read_header(&out), Ok((Writer::Fingerprint(PRINT), 10)));
    }

    #[test]
    fn what_is_no_frame_is_refused_by_name() {
        assert_eq!(read_header(&[]), Err(Malformed::Empty));
        for first in [1, 0x7b, 0xc2, 0xff] {
            assert_eq!(
                read_header(&[first, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
                Err(Malformed::UnknownFrame { first })
            );
        }
        let whole = [0xc3, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        for end in 1..whole.len() {
            assert!(matches!(
                read_header(&whole[..end]),
                Err(Malformed::Truncated { .. })
            ));
        }
        assert_eq!(
            read_header(&[0xc3, 2, 0, 0, 0, 0, 0, 0, 0, 0]),
            Err(Malformed::UnknownFrame { first: 0xc3 })
        );
        for end in 1..5 {
            assert!(matches!(
                read_header(&[0; 5][..end]),
                Err(Malformed::Truncated { .. })
            ));
        }
    }
}
