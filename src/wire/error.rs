//! Why bytes are not a record of ours. Messages name fields and byte offsets, never content.

use thiserror::Error;

use super::frame::{Fingerprint, SchemaId};

/// Why a record could not be decoded, by what the caller does next.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The record can never be decoded: set it aside (dead letter).
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The record names a schema that the decoder was not taught: ask the registry, `learn` the answer and
    /// decode again. While the registry is away, wait: the record is not at fault.
    #[error("decoding a record: schema {0} is not known yet")]
    UnknownSchema(SchemaId),
}

/// What is wrong with a record's bytes. Offsets count from the first byte of the record's value, frame included.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The record has no value, or an empty one.
    #[error("reading the frame: the value is empty")]
    Empty,
    /// The first bytes are neither framing.
    #[error(
        "reading the frame: it begins with {first:#04x}, neither a schema id (0x00) nor single-object (0xc3 0x01)"
    )]
    UnknownFrame {
        /// The first byte.
        first: u8,
    },
    /// The bytes end inside a value.
    #[error("reading {reading} at byte {offset}: the record ends at byte {end}")]
    Truncated {
        /// The field.
        reading: &'static str,
        /// Where the value begins.
        offset: usize,
        /// Where the bytes end.
        end: usize,
    },
    /// A number does not fit the bits its type has.
    #[error("reading {reading} at byte {offset}: the number exceeds {bits} bits")]
    Overflow {
        /// The field.
        reading: &'static str,
        /// Where the number begins.
        offset: usize,
        /// How many bits the type has.
        bits: u8,
    },
    /// A length or a count is negative where none may be, or greater than the record could hold.
    #[error("reading {reading} at byte {offset}: a length of {length} is impossible")]
    Length {
        /// The field.
        reading: &'static str,
        /// Where the length stands.
        offset: usize,
        /// The length announced.
        length: i64,
    },
    /// A union branch or an enum symbol that the schema does not have.
    #[error("reading {reading} at byte {offset}: there is no choice {choice}")]
    Choice {
        /// The field.
        reading: &'static str,
        /// Where the choice stands.
        offset: usize,
        /// The choice made.
        choice: i64,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("reading {reading} at byte {offset}: not a boolean")]
    Boolean {
        /// The field.
        reading: &'static str,
        /// Where it stands.
        offset: usize,
    },
    /// Text that is not UTF-8.
    #[error("reading {reading} at byte {offset}: not UTF-8")]
    Utf8 {
        /// The field.
        reading: &'static str,
        /// Where the text begins.
        offset: usize,
    },
    /// Values nested deeper than any schema of ours.
    #[error("reading {reading} at byte {offset}: nested too deeply")]
    Depth {
        /// The field.
        reading: &'static str,
        /// Where it stands.
        offset: usize,
    },
    /// A value that the schema allows and the model does not.
    #[error("reading {reading}: {fault}")]
    Value {
        /// The field.
        reading: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// Bytes follow the last field.
    #[error("reading the end at byte {offset}: {left} bytes follow")]
    Trailing {
        /// Where the record should have ended.
        offset: usize,
        /// How many bytes follow.
        left: usize,
    },
    /// A single-object record of a schema that this version does not have; there is no one to ask.
    #[error("reading the frame: no schema has the fingerprint {0}")]
    UnknownFingerprint(Fingerprint),
    /// The schema is known and cannot be read as ours.
    #[error("decoding a record of schema {0}: that schema cannot be read as ours")]
    Unreadable(SchemaId),
    /// The record fits its writer's schema but does not resolve onto ours.
    #[error("decoding a record of schema {0}: a value does not resolve onto our schema")]
    Unresolved(SchemaId),
}

/// A schema of the registry that records of the topic cannot be read with: to be logged when it is learned.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("learning schema {id}: {reason}")]
pub struct UnreadableSchema {
    /// The schema's id.
    pub id: SchemaId,
    /// What does not fit; it quotes the schema only.
    pub reason: Box<str>,
}
