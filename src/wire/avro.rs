//! Avro's binary encoding, as far as our schemas use it: strict, borrowed, without allocation.
//!
//! Written by hand because the hot path reads ten fields of a record and copies none. It is held to the
//! `apache-avro` crate in both directions by the tests of this folder. Source: Avro specification 1.12, "Binary encoding".

use super::error::Malformed;

/// Reads values one after another. Offsets in errors count from the first byte of `bytes`.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from offset `at` on; what lies before was read by others (the frame).
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at: at.min(bytes.len()),
        }
    }

    /// Returns the offset of the next byte.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    /// Returns how many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Reads a `long`: zigzag, at most ten bytes. As in every Avro reader, a number need not be the shortest possible.
    #[inline]
    pub(super) fn long(&mut self, reading: &'static str) -> Result<i64, Malformed> {
        let offset = self.at;
        let mut raw = 0_u64;
        for shift in (0..70).step_by(7) {
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(self.truncated(reading, offset));
            };
            self.at += 1;
            // The tenth byte holds the last of 64 bits; anything more is no long.
            if shift == 63 && byte > 1 {
                break;
            }
            raw |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()));
            }
        }
        Err(Malformed::Overflow {
            reading,
            offset,
            bits: 64,
        })
    }

    /// Reads an `int`: a long of 32 bits.
    pub(super) fn int(&mut self, reading: &'static str) -> Result<i32, Malformed> {
        let offset = self.at;
        i32::try_from(self.long(reading)?).map_err(|_| Malformed::Overflow {
            reading,
            offset,
            bits: 32,
        })
    }

    /// Reads a boolean.
    pub(super) fn boolean(&mut self, reading: &'static str) -> Result<bool, Malformed> {
        let offset = self.at;
        match self.fixed(reading, 1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Malformed::Boolean { reading, offset }),
        }
    }

    /// Reads `length` bytes that no length announces.
    pub(super) fn fixed(&mut self, reading: &'static str, length: usize) -> Result<&'a [u8], Malformed> {
        if length > self.left() {
            return Err(self.truncated(reading, self.at));
        }
        let bytes = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(bytes)
    }

    /// Reads `bytes`: borrowed, so that no announced length allocates anything.
    #[inline]
    pub(super) fn bytes(&mut self, reading: &'static str) -> Result<&'a [u8], Malformed> {
        let offset = self.at;
        let length = self.long(reading)?;
        let Ok(wanted) = usize::try_from(length) else {
            return Err(Malformed::Length {
                reading,
                offset,
                length,
            });
        };
        if wanted > self.left() {
            return Err(self.truncated(reading, offset));
        }
        let bytes = &self.bytes[self.at..self.at + wanted];
        self.at += wanted;
        Ok(bytes)
    }

    /// Reads a `string`.
    #[inline]
    pub(super) fn string(&mut self, reading: &'static str) -> Result<&'a str, Malformed> {
        let offset = self.at;
        let bytes = self.bytes(reading)?;
        std::str::from_utf8(bytes).map_err(|_| Malformed::Utf8 { reading, offset })
    }

    /// Reads a `string` that must not be empty.
    #[inline]
    pub(super) fn name(&mut self, reading: &'static str) -> Result<&'a str, Malformed> {
        let text = self.string(reading)?;
        not_empty(reading, text)
    }

    /// Reads the branch of a union or the symbol of an enum: an index below `choices`.
    #[inline]
    pub(super) fn choice(&mut self, reading: &'static str, choices: usize) -> Result<usize, Malformed> {
        let offset = self.at;
        let choice = self.long(reading)?;
        usize::try_from(choice)
            .ok()
            .filter(|index| *index < choices)
            .ok_or(Malformed::Choice {
                reading,
                offset,
                choice,
            })
    }

    /// Reads an enum as the member of `all` that stands at its symbol's index.
    #[inline]
    pub(super) fn one_of<T: Copy>(&mut self, reading: &'static str, all: &[T]) -> Result<T, Malformed> {
        Ok(all[self.choice(reading, all.len())?])
    }

    /// Reads the union `["null", "string"]`.
    #[inline]
    pub(super) fn optional_string(&mut self, reading: &'static str) -> Result<Option<&'a str>, Malformed> {
        match self.choice(reading, 2)? {
            0 => Ok(None),
            _ => self.string(reading).map(Some),
        }
    }

    /// Reads the union `["null", "bytes"]`.
    #[inline]
    pub(super) fn optional_bytes(&mut self, reading: &'static str) -> Result<Option<&'a [u8]>, Malformed> {
        match self.choice(reading, 2)? {
            0 => Ok(None),
            _ => self.bytes(reading).map(Some),
        }
    }

    /// Reads an array or a map, item by item. A hostile count costs nothing: one beyond the bytes left is refused
    /// before the first item, and so are items of no bytes, which would make work out of nothing.
    pub(super) fn items(
        &mut self,
        reading: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        loop {
            let offset = self.at;
            let mut count = self.long(reading)?;
            if count == 0 {
                return Ok(());
            }
            let mut block_end = None;
            if count < 0 {
                // A negative count is followed by the block's size in bytes, which lets other readers skip it.
                let size = usize::try_from(self.long(reading)?).ok();
                block_end = Some(size.and_then(|size| self.at.checked_add(size)));
                count = count.checked_neg().unwrap_or(i64::MAX);
            }
            let impossible = Malformed::Length {
                reading,
                offset,
                length: count,
            };
            if usize::try_from(count).map_or(true, |count| count > self.left()) {
                return Err(impossible);
            }
            for _ in 0..count {
                let before = self.at;
                item(self)?;
                if self.at == before {
                    return Err(impossible);
                }
            }
            if block_end.is_some_and(|end| end != Some(self.at)) {
                return Err(impossible);
            }
        }
    }

    /// Checks that nothing follows.
    #[inline]
    pub(super) fn finish(&self) -> Result<(), Malformed> {
        match self.left() {
            0 => Ok(()),
            left => Err(Malformed::Trailing {
                offset: self.at,
                left,
            }),
        }
    }

    #[cold]
    fn truncated(&self, reading: &'static str, offset: usize) -> Malformed {
        Malformed::Truncated {
            reading,
            offset,
            end: self.bytes.len(),
        }
    }
}

/// Passes `text` on unless it is empty.
#[inline]
pub(super) fn not_empty<'a>(reading: &'static str, text: &'a str) -> Result<&'a str, Malformed> {
    if text.is_empty() {
        return Err(Malformed::Value {
            reading,
            fault: "it is empty",
        });
    }
    Ok(text)
}

/// Appends a `long` or an `int`.
#[inline]
pub(super) fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while raw >= 0x80 {
        out.push(raw.to_le_bytes()[0] | 0x80);
        raw >>= 7;
    }
    out.push(raw.to_le_bytes()[0]);
}

/// Appends a length, a count or the index of a choice.
#[inline]
pub(super) fn put_size(out: &mut Vec<u8>, size: usize) {
    put_long(out, i64::try_from(size).expect("no memory holds 2^63 bytes"));
}

/// Appends a boolean.
pub(super) fn put_boolean(out: &mut Vec<u8>, value: bool) {
    out.push(u8::from(value));
}

/// Appends `bytes` or a `string`.
#[inline]
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_size(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends the union of `null` and one other type, `bytes` or `string`.
#[inline]
pub(super) fn put_optional_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_size(out, 0),
        Some(bytes) => {
            put_size(out, 1);
            put_bytes(out, bytes);
        }
    }
}

/// Appends an enum: the index at which `value` stands in `all`, the symbols in the order of the schema.
#[inline]
pub(super) fn put_one_of<T: PartialEq>(out: &mut Vec<u8>, all: &[T], value: &T) {
    let index = all.iter().position(|member| member == value);
    put_size(out, index.expect("every value has a symbol: `all` names each"));
}

/// Appends an array in one block.
pub(super) fn put_items<T>(out: &mut Vec<u8>, items: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    if !items.is_empty() {
        put_size(out, items.len());
        for item in items {
            put(out, item);
        }
    }
    put_size(out, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(bytes: &[u8]) -> Result<i64, Malformed> {
        Reader::new(bytes, 0).long("n")
    }

    #[test]
    fn longs_at_the_edges() {
        for value in [
            0,
            -1,
            1,
            63,
            64,
            -64,
            -65,
            i64::from(i32::MAX),
            i64::MAX,
            i64::MIN,
        ] {
            let mut out = Vec::new();
            put_long(&mut out, value);
            assert_eq!(long(&out), Ok(value));
        }
        let overflow = |offset| {
            Err(Malformed::Overflow {
                reading: "n",
                offset,
                bits: 64,
            })
        };
        assert_eq!(long(&[0xff; 10]), overflow(0), "ten bytes, more than 64 bits");
        assert_eq!(long(&[0x80; 11]), overflow(0), "eleven bytes");
        let tenth = |byte| long(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, byte]);
        assert_eq!(tenth(1), Ok(1 << 62), "the last of 64 bits");
        assert_eq!(tenth(2), overflow(0), "a bit more");
        assert_eq!(
            long(&[0xff, 0xff]),
            Err(Malformed::Truncated {
                reading: "n",
                offset: 0,
                end: 2
            })
        );
        assert_eq!(
            long(&[0x82, 0x00]),
            Ok(1),
            "a longer form of the same number is read"
        );
    }

    #[test]
    fn announced_lengths_are_not_believed() {
        let mut out = Vec::new();
        put_long(&mut out, i64::MAX);
        assert!(matches!(
            Reader::new(&out, 0).bytes("b"),
            Err(Malformed::Truncated { .. })
        ));
        let mut out = Vec::new();
        put_long(&mut out, -1);
        assert!(matches!(
            Reader::new(&out, 0).bytes("b"),
            Err(Malformed::Length { length: -1, .. })
        ));
        for count in [i64::MAX, i64::MIN, -3] {
            let mut out = Vec::new();
            put_long(&mut out, count);
            put_long(&mut out, 0);
            let mut reader = Reader::new(&out, 0);
            let read = reader.items("a", |reader| reader.string("a").map(drop));
            assert!(matches!(read, Err(Malformed::Length { .. })), "{count}: {read:?}");
        }
    }

    #[test]
    fn arrays_of_several_blocks_and_sized_blocks_are_read() {
        // Two blocks: one item; then two items with their size in bytes.
        let bytes = [2, 2, b'a', 3, 8, 2, b'b', 2, b'c', 0];
        let mut seen = String::new();
        let mut reader = Reader::new(&bytes, 0);
        reader
            .items("a", |reader| {
                seen.push_str(reader.string("a")?);
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, "abc");
        assert_eq!(reader.finish(), Ok(()));

        let mut wrong = bytes;
        wrong[4] = 6;
        let read = Reader::new(&wrong, 0).items("a", |reader| reader.string("a").map(drop));
        assert_eq!(
            read,
            Err(Malformed::Length {
                reading: "a",
                offset: 3,
                length: 2
            }),
            "a block of another size than it says"
        );
    }
}
