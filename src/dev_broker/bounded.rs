//! A buffer that keeps a hostile length from claiming memory.
//!
//! `kafka-protocol` reserves room for as many items as an array announces before it reads the first. Announced by a
//! client that means harm, or by a damaged frame, that can be hundreds of gigabytes, and an allocation that fails ends
//! the process. Every item takes a byte at least, so no announced count may exceed what is left in the frame.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::buf::ByteBuf;

/// The largest 32-bit number that a request may carry; larger ones are read as this.
///
/// The counts of arrays in the older encodings are such numbers and cannot be told from others. Four million items
/// reserve some hundred megabytes of address space that nobody touches. Of what else is such a number, this shortens
/// fetches beyond 4 MiB and timeouts beyond 70 minutes: nobody waits that long for this broker.
const INT32_MAX: i32 = 4 << 20;

/// Tag numbers, the one kind of varint that counts nothing, are below this.
const TAG_MAX: u32 = 1_024;

/// The rest of a frame.
pub(super) struct Bounded {
    bytes: Bytes,
    /// The varint that is being read, byte by byte: its value so far and how many bits that is.
    varint: (u32, u32),
}

impl Bounded {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            varint: (0, 0),
        }
    }

    fn too_long(&self, requested: u32) -> TryGetError {
        TryGetError {
            requested: usize::try_from(requested).unwrap_or(usize::MAX),
            available: self.bytes.len(),
        }
    }
}

impl Buf for Bounded {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.varint = (0, 0);
        self.bytes.advance(count);
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        self.varint = (0, 0);
        Ok(self.bytes.try_get_i32()?.min(INT32_MAX))
    }

    /// Only varints and booleans are read in single bytes.
    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let byte = self.bytes.try_get_u8()?;
        let (value, bits) = self.varint;
        let value = value | u32::from(byte & 0x7F).checked_shl(bits).unwrap_or(0);
        if byte & 0x80 != 0 && bits < 28 {
            self.varint = (value, bits + 7);
            return Ok(byte);
        }
        self.varint = (0, 0);
        let left = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        // Compact counts and lengths are one more than what they count.
        if value > TAG_MAX && value - 1 > left {
            return Err(self.too_long(value));
        }
        Ok(byte)
    }
}

impl ByteBuf for Bounded {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.varint = (0, 0);
        self.bytes.split_to(size)
    }
}
