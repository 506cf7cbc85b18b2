//! Unpacks the records of a compressed batch, never more of them than fit into memory.
//!
//! A few bytes can say "four gigabytes of zeros". All codecs stop at [`UNPACKED_BYTES_MAX`] before they have written more.

use std::io::{self, Read};

use bytes::Buf as _;

/// The largest batch, unpacked. A producer fills batches of a mebibyte as a rule, and packs them afterwards.
const UNPACKED_BYTES_MAX: usize = 128 << 20;

/// What snappy-java writes in front of its blocks: its name, its version and the oldest that reads it.
const SNAPPY_JAVA_HEADER: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

/// How the records of a batch are packed, by their number in its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Why records were not unpacked.
#[derive(Debug)]
pub(super) enum Unpackable {
    /// They would take more than [`UNPACKED_BYTES_MAX`].
    TooLarge,
    /// They are not what they are said to be.
    Corrupt,
}

impl From<io::Error> for Unpackable {
    fn from(_: io::Error) -> Self {
        Self::Corrupt
    }
}

impl From<snap::Error> for Unpackable {
    fn from(_: snap::Error) -> Self {
        Self::Corrupt
    }
}

/// Unpacks `packed`.
///
/// # Errors
///
/// See [`Unpackable`].
pub(super) fn unpack(packed: &[u8], codec: Codec) -> Result<Vec<u8>, Unpackable> {
    match codec {
        Codec::Gzip => read(flate2::read::MultiGzDecoder::new(packed)),
        Codec::Snappy => snappy(packed),
        Codec::Lz4 => {
            let mut unpacking = lz4::Decoder::new(packed)?;
            let unpacked = read(&mut unpacking)?;
            // Cut off in the middle, it ends without an error.
            unpacking.finish().1?;
            Ok(unpacked)
        }
        Codec::Zstd => read(zstd::Decoder::with_buffer(packed)?),
    }
}

fn read(unpacking: impl Read) -> Result<Vec<u8>, Unpackable> {
    let mut unpacked = Vec::new();
    let one_more = u64::try_from(UNPACKED_BYTES_MAX).map_or(u64::MAX, |max| max + 1);
    unpacking.take(one_more).read_to_end(&mut unpacked)?;
    if unpacked.len() > UNPACKED_BYTES_MAX {
        return Err(Unpackable::TooLarge);
    }
    Ok(unpacked)
}

/// Blocks with their lengths before them, as snappy-java writes them, or one block without, as librdkafka does.
fn snappy(packed: &[u8]) -> Result<Vec<u8>, Unpackable> {
    let mut unpacked = Vec::new();
    let Some(mut blocks) = packed.strip_prefix(SNAPPY_JAVA_HEADER) else {
        block(packed, &mut unpacked)?;
        return Ok(unpacked);
    };
    while !blocks.is_empty() {
        let length = blocks.try_get_u32().map_err(|_| Unpackable::Corrupt)?;
        let length = usize::try_from(length).map_err(|_| Unpackable::Corrupt)?;
        let (packed, rest) = blocks.split_at_checked(length).ok_or(Unpackable::Corrupt)?;
        block(packed, &mut unpacked)?;
        blocks = rest;
    }
    Ok(unpacked)
}

/// Unpacks one block behind what there is already.
fn block(packed: &[u8], unpacked: &mut Vec<u8>) -> Result<(), Unpackable> {
    let before = unpacked.len();
    let after = before.saturating_add(snap::raw::decompress_len(packed)?);
    if after > UNPACKED_BYTES_MAX {
        return Err(Unpackable::TooLarge);
    }
    unpacked.resize(after, 0);
    let written = snap::raw::Decoder::new().decompress(packed, &mut unpacked[before..])?;
    if written == after - before {
        Ok(())
    } else {
        Err(Unpackable::Corrupt)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const CODECS: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    fn pack(bytes: &[u8], codec: Codec) -> Vec<u8> {
        match codec {
            Codec::Gzip => {
                let mut packing = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                packing.write_all(bytes).unwrap();
                packing.finish().unwrap()
            }
            Codec::Snappy => snap::raw::Encoder::new().compress_vec(bytes).unwrap(),
            Codec::Lz4 => {
                let mut packing = lz4::EncoderBuilder::new().build(Vec::new()).unwrap();
                packing.write_all(bytes).unwrap();
                let (packed, done) = packing.finish();
                done.unwrap();
                packed
            }
            Codec::Zstd => zstd::encode_all(bytes, 3).unwrap(),
        }
    }

    fn text() -> Vec<u8> {
        (0..40_000_u32)
            .flat_map(|number| number.to_string().into_bytes())
            .collect()
    }

    #[test]
    fn what_was_packed_comes_out() {
        for codec in CODECS {
            assert_eq!(unpack(&pack(&text(), codec), codec).unwrap(), text(), "{codec:?}");
        }
    }

    #[test]
    fn blocks_of_snappy_java_come_out_in_order() {
        let text = text();
        let mut packed = SNAPPY_JAVA_HEADER.to_vec();
        for block in text.chunks(32 << 10) {
            let block = pack(block, Codec::Snappy);
            packed.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
            packed.extend(block);
        }
        assert_eq!(unpack(&packed, Codec::Snappy).unwrap(), text);
        for cut in [1, 3, 100] {
            let cut = &packed[..packed.len() - cut];
            assert!(matches!(unpack(cut, Codec::Snappy), Err(Unpackable::Corrupt)));
        }
    }

    #[test]
    fn what_was_not_packed_is_refused() {
        for codec in CODECS {
            for bytes in [&b"no"[..], &[0xFF; 64]] {
                assert!(
                    matches!(unpack(bytes, codec), Err(Unpackable::Corrupt)),
                    "{codec:?}"
                );
            }
        }
    }

    #[test]
    fn the_largest_batch_comes_out_and_one_byte_more_does_not() {
        let mut zeros = vec![0; UNPACKED_BYTES_MAX];
        assert_eq!(
            unpack(&pack(&zeros, Codec::Zstd), Codec::Zstd).unwrap().len(),
            zeros.len()
        );
        zeros.push(0);
        for codec in [Codec::Zstd, Codec::Lz4, Codec::Snappy] {
            let packed = pack(&zeros, codec);
            assert!(
                matches!(unpack(&packed, codec), Err(Unpackable::TooLarge)),
                "{codec:?}"
            );
        }
        // Says that four gigabytes follow.
        let announced = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0];
        assert!(matches!(
            unpack(&announced, Codec::Snappy),
            Err(Unpackable::TooLarge)
        ));
    }
}
