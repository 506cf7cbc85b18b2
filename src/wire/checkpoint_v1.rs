//! A checkpoint as the text beside a committed offset (Kafka's commit metadata), version 1.
//!
//! `fs1:` and, in base64 (standard alphabet, no padding), these bytes; whole numbers are LEB128 varints:
//!
//! | field | bytes |
//! |---|---|
//! | flags: bits 0-1 the run's cause, bit 2 the coding of the gaps (0 Rice, 1 varint) | 1 |
//! | when the run began, in milliseconds, zigzag | 1-10 |
//! | the first offset of the run | 1-9 |
//! | position | 1-9 |
//! | count of open windows | 1-5 |
//! | if there are any: position less the oldest start | 1-9 |
//! | if Rice: the parameter | 1 |
//! | the gaps between ascending starts, each less one | |
//! | CRC-32 (ISO-HDLC) of all bytes above, little endian | 4 |
//!
//! Rice: the gap shifted right by the parameter in ones, a zero, then the parameter's low bits; from the most
//! significant bit of each byte on, the last byte filled with zeros.
//!
//! The committed offset itself is recorded through the position, so that metadata which was kept while the
//! offset was changed is told from our own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::model::{Checkpoint, Offset, Run, RunCause, Timestamp, rice_parameter};

/// Begins every checkpoint of this version.
pub const PREFIX: &str = "fs1:";

const FLAG_VARINT: u8 = 0b100;

/// Why commit metadata is no checkpoint. Nothing is guessed: the worker stops with the partition and the offset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not of this version: another program wrote it, or a newer frontstream.
    #[error(
        "commit metadata begins with {found:?} instead of {PREFIX:?}: another program or a newer frontstream \
         committed this offset; run the version that wrote it, or {WAY_OUT}"
    )]
    Foreign {
        /// Its first characters.
        found: String,
    },
    /// It is of this version, and was changed or cut off since it was written.
    #[error("commit metadata is damaged ({what}): {WAY_OUT}")]
    Damaged {
        /// What does not add up.
        what: &'static str,
    },
    /// It is whole, and belongs to another offset: a tool set the offset and kept the metadata.
    #[error(
        "commit metadata belongs to offset {recorded}, and the committed offset is {committed}: a tool changed \
         the offset and kept the metadata; {WAY_OUT}"
    )]
    OffsetMoved {
        /// The offset that it was committed with.
        recorded: Offset,
        /// The offset that it was found with.
        committed: Offset,
    },
}

/// The documented way out of metadata that cannot be read.
const WAY_OUT: &str = "stop the group and reset its offset for this partition with \
                       kafka-consumer-groups --reset-offsets, which clears the metadata";

/// Writes a checkpoint as commit metadata.
///
/// # Panics
///
/// When it takes more than `bytes_max`: the coalescer closes windows before it comes to that
/// ([`Checkpoint::metadata_bytes_bound`]).
pub fn encode(checkpoint: &Checkpoint, bytes_max: usize) -> String {
    let committed = checkpoint.committed_offset();
    assert!(
        checkpoint.run.start <= committed && committed <= checkpoint.position,
        "a run starts at or below the committed offset, which is at or below the position"
    );
    let starts = &checkpoint.window_starts;
    let gaps: Vec<u64> = starts.windows(2).map(|pair| gap(pair[0], pair[1])).collect();
    let coding = Coding::shortest(&gaps);
    let mut bytes = Vec::with_capacity(64 + 2 * starts.len());
    let flag = if starts.is_empty() { 0 } else { coding.flag() };
    bytes.push(cause_code(checkpoint.run.cause) | flag);
    put_varint(&mut bytes, zigzag(checkpoint.run.started_at.as_millis()));
    put_varint(&mut bytes, number(checkpoint.run.start));
    put_varint(&mut bytes, number(checkpoint.position));
    put_varint(&mut bytes, starts.len() as u64);
    if !starts.is_empty() {
        put_varint(&mut bytes, checkpoint.position.distance_from(committed));
        coding.put(&gaps, &mut bytes);
    }
    let checksum = crc32(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    let mut text = String::with_capacity(PREFIX.len() + bytes.len().div_ceil(3) * 4);
    text.push_str(PREFIX);
    STANDARD_NO_PAD.encode_string(&bytes, &mut text);
    assert!(
        text.len() <= bytes_max,
        "a checkpoint of {} windows takes {} bytes of {bytes_max}",
        starts.len(),
        text.len()
    );
    text
}

/// Reads the commit metadata found beside the offset `committed`.
///
/// Empty metadata is no checkpoint and is not for this function: it begins a run.
///
/// # Errors
///
/// [`Error`], of any kind: stop with the partition and the offset; only an operator can say what is right.
pub fn decode(text: &str, committed: Offset) -> Result<Checkpoint, Error> {
    let Some(body) = text.strip_prefix(PREFIX) else {
        let found = text.chars().take(PREFIX.len()).collect();
        return Err(Error::Foreign { found });
    };
    let damaged = |what| Error::Damaged { what };
    let bytes = STANDARD_NO_PAD.decode(body).map_err(|_| damaged("not base64"))?;
    let (fields, checksum) = bytes.split_last_chunk::<4>().ok_or(damaged("too short"))?;
    if crc32(fields) != u32::from_le_bytes(*checksum) {
        return Err(damaged("the checksum differs"));
    }
    let checkpoint = read(fields).map_err(damaged)?;
    let recorded = checkpoint.committed_offset();
    if recorded != committed {
        return Err(Error::OffsetMoved { recorded, committed });
    }
    Ok(checkpoint)
}

fn read(mut fields: &[u8]) -> Result<Checkpoint, &'static str> {
    let fields = &mut fields;
    let flags = take_byte(fields)?;
    let cause = cause_of(flags & 0b11).ok_or("unknown cause of a run")?;
    if flags & !(0b11 | FLAG_VARINT) != 0 {
        return Err("unknown flags");
    }
    let started_at = Timestamp::from_millis(unzigzag(take_varint(fields)?));
    let start = take_offset(fields)?;
    let position = take_offset(fields)?;
    let count = take_varint(fields)?;
    let mut window_starts = Vec::new();
    if count > 0 {
        let distance = take_varint(fields)?;
        let oldest = number(position)
            .checked_sub(distance)
            .ok_or("a window starts below zero")?;
        // A gap takes a bit at least, which bounds what a wrong count can make us allocate.
        if count - 1 > 8 * fields.len() as u64 {
            return Err("more windows than there is room for");
        }
        let gaps = if flags & FLAG_VARINT == 0 {
            take_rice(fields, count - 1)?
        } else {
            (1..count)
                .map(|_| take_varint(fields))
                .collect::<Result<Vec<u64>, _>>()?
        };
        window_starts = starts(oldest, &gaps).ok_or("a window starts beyond the last offset")?;
        if window_starts.last().is_none_or(|last| *last >= position) {
            return Err("a window starts at or above the position");
        }
    }
    if !fields.is_empty() {
        return Err("bytes left over");
    }
    let run = Run {
        started_at,
        start,
        cause,
    };
    let checkpoint = Checkpoint {
        run,
        position,
        window_starts,
    };
    if checkpoint.committed_offset() < start {
        return Err("the run starts above the committed offset");
    }
    Ok(checkpoint)
}

fn starts(oldest: u64, gaps: &[u64]) -> Option<Vec<Offset>> {
    let mut starts = Vec::with_capacity(gaps.len() + 1);
    let mut start = oldest;
    starts.push(offset(start)?);
    for gap in gaps {
        start = start.checked_add(*gap)?.checked_add(1)?;
        starts.push(offset(start)?);
    }
    Some(starts)
}

/// How the gaps are written.
#[derive(Clone, Copy)]
enum Coding {
    Rice { parameter: u32 },
    Varint,
}

impl Coding {
    /// The shortest of varints and Rice with the parameters around the one that
    /// [`Checkpoint::metadata_bytes_bound`] counts on.
    fn shortest(gaps: &[u64]) -> Self {
        let middle = rice_parameter(gaps.len() as u64, gaps.iter().sum());
        let (rice_bytes, parameter) = (middle.saturating_sub(1)..=middle + 1)
            .map(|parameter| {
                let bits: u64 = gaps
                    .iter()
                    .map(|gap| (gap >> parameter) + 1 + u64::from(parameter))
                    .sum();
                (bits.div_ceil(8) + 1, parameter)
            })
            .min()
            .expect("there are three parameters");
        let varint_bytes: u64 = gaps.iter().map(|gap| varint_len(*gap)).sum();
        if varint_bytes < rice_bytes {
            Self::Varint
        } else {
            Self::Rice { parameter }
        }
    }

    fn flag(self) -> u8 {
        match self {
            Self::Rice { .. } => 0,
            Self::Varint => FLAG_VARINT,
        }
    }

    fn put(self, gaps: &[u64], bytes: &mut Vec<u8>) {
        match self {
            Self::Varint => gaps.iter().for_each(|gap| put_varint(bytes, *gap)),
            Self::Rice { parameter } => put_rice(bytes, parameter, gaps),
        }
    }
}

fn put_rice(bytes: &mut Vec<u8>, parameter: u32, gaps: &[u64]) {
    bytes.push(u8::try_from(parameter).expect("a parameter is below 64"));
    let mut bits = BitWriter {
        bytes,
        byte: 0,
        free: 8,
    };
    for gap in gaps {
        for _ in 0..gap >> parameter {
            bits.put(true);
        }
        bits.put(false);
        for place in (0..parameter).rev() {
            bits.put(gap >> place & 1 == 1);
        }
    }
    bits.finish();
}

/// Takes the parameter and the gaps; the gaps end the fields.
fn take_rice(fields: &mut &[u8], count: u64) -> Result<Vec<u64>, &'static str> {
    let parameter = u32::from(take_byte(fields)?);
    if parameter > 63 {
        return Err("Rice parameter out of range");
    }
    let mut bits = fields
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1 == 1));
    let mut next = || bits.next().ok_or("cut off within the gaps");
    let mut gaps = Vec::new();
    for _ in 0..count {
        let mut gap = 0_u64;
        while next()? {
            gap += 1;
        }
        for _ in 0..parameter {
            if gap >> 62 != 0 {
                return Err("a gap beyond the last offset");
            }
            gap = gap << 1 | u64::from(next()?);
        }
        gaps.push(gap);
    }
    let rest: Vec<bool> = bits.collect();
    if rest.len() > 7 || rest.contains(&true) {
        return Err("bits left over");
    }
    *fields = &[];
    Ok(gaps)
}

struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    byte: u8,
    free: u32,
}

impl BitWriter<'_> {
    fn put(&mut self, bit: bool) {
        self.free -= 1;
        self.byte |= u8::from(bit) << self.free;
        if self.free == 0 {
            self.bytes.push(self.byte);
            (self.byte, self.free) = (0, 8);
        }
    }

    fn finish(self) {
        if self.free < 8 {
            self.bytes.push(self.byte);
        }
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn varint_len(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

fn take_varint(fields: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(fields)?;
        let low = u64::from(byte & 0x7f);
        if low << shift >> shift != low {
            return Err("a number beyond 64 bits");
        }
        value |= low << shift;
        if byte & 0x80 == 0 {
            let shortest = byte != 0 || shift == 0;
            return if shortest {
                Ok(value)
            } else {
                Err("a number written too long")
            };
        }
    }
    Err("a number beyond 64 bits")
}

fn take_byte(fields: &mut &[u8]) -> Result<u8, &'static str> {
    let (first, rest) = fields.split_first().ok_or("cut off")?;
    *fields = rest;
    Ok(*first)
}

fn take_offset(fields: &mut &[u8]) -> Result<Offset, &'static str> {
    offset(take_varint(fields)?).ok_or("an offset beyond the last")
}

fn offset(number: u64) -> Option<Offset> {
    i64::try_from(number).ok().and_then(Offset::new)
}

fn number(offset: Offset) -> u64 {
    offset.distance_from(Offset::ZERO)
}

/// The offsets between two ascending ones.
fn gap(earlier: Offset, later: Offset) -> u64 {
    later
        .distance_from(earlier)
        .checked_sub(1)
        .expect("window starts ascend")
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn cause_code(cause: RunCause) -> u8 {
    match cause {
        RunCause::First => 0,
        RunCause::Reset => 1,
        RunCause::Retention => 2,
    }
}

fn cause_of(code: u8) -> Option<RunCause> {
    RunCause::ALL.into_iter().find(|cause| cause_code(*cause) == code)
}

/// CRC-32/ISO-HDLC (that of zlib): finds every change within 32 bits in a row, so every changed character.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut remainder = u32::MAX;
    for byte in bytes {
        remainder ^= u32::from(*byte);
        for _ in 0..8 {
            remainder = remainder >> 1 ^ (POLYNOMIAL & (remainder & 1).wrapping_neg());
        }
    }
    !remainder
}

#[cfg(test)]
mod tests;
