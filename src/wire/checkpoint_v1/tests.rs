use proptest::prelude::*;

use super::*;

/// The broker's default for `offset.metadata.max.bytes`.
const BROKER_BYTES_MAX: usize = 4_096;

fn any_offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..1_000_u64,
        0..1_u64 << 40,
        Just(0),
        Just(i64::MAX.cast_unsigned())
    ]
}

fn any_gaps() -> impl Strategy<Value = Vec<u64>> {
    let close = prop::collection::vec(0..4_u64, 0..600);
    let wide = prop::collection::vec(0..2_000_u64, 0..300);
    let odd = prop::collection::vec(prop_oneof![Just(0_u64), 0..1_u64 << 50], 0..40);
    prop_oneof![close, wide, odd]
}

prop_compose! {
    fn any_checkpoint()(
        started_at in prop_oneof![any::<i64>(), Just(0), 1_700_000_000_000..1_900_000_000_000_i64],
        cause in prop::sample::select(RunCause::ALL.to_vec()),
        start in any_offset(),
        above_start in any_offset(),
        gaps in any_gaps(),
        above_last in any_offset(),
        open in any::<bool>(),
    ) -> Checkpoint {
        let clamp = |number: u64| offset(number.min(i64::MAX.cast_unsigned())).unwrap();
        let oldest = start.saturating_add(above_start);
        let mut window_starts = starts(oldest, &gaps).filter(|_| open).unwrap_or_default();
        if window_starts.last().is_some_and(|last| last.number() == i64::MAX) {
            window_starts.clear();
        }
        let lowest = window_starts.last().map_or(start, |last| number(last.next()));
        Checkpoint {
            run: Run { started_at: Timestamp::from_millis(started_at), start: clamp(start), cause },
            position: clamp(lowest.saturating_add(above_last)),
            window_starts,
        }
    }
}

fn bound(checkpoint: &Checkpoint) -> usize {
    let starts = &checkpoint.window_starts;
    let span = starts
        .last()
        .map_or(0, |newest| newest.distance_from(checkpoint.committed_offset()));
    Checkpoint::metadata_bytes_bound(starts.len(), span)
}

proptest! {
    #[test]
    fn round_trips_within_the_bound(checkpoint in any_checkpoint()) {
        let bound = bound(&checkpoint);
        let text = encode(&checkpoint, bound);
        prop_assert!(text.len() <= bound);
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
        prop_assert_eq!(decode(&text, checkpoint.committed_offset()), Ok(checkpoint));
    }

    #[test]
    fn refuses_another_offset(checkpoint in any_checkpoint(), other in any_offset()) {
        let (recorded, committed) = (checkpoint.committed_offset(), offset(other).unwrap());
        prop_assume!(recorded != committed);
        let text = encode(&checkpoint, usize::MAX);
        prop_assert_eq!(decode(&text, committed), Err(Error::OffsetMoved { recorded, committed }));
    }

    #[test]
    fn refuses_garbage(body in "[A-Za-z0-9+/]{0,200}", free in ".{0,100}") {
        let (body, prefixed) = (format!("{PREFIX}{body}"), format!("{PREFIX}{free}"));
        prop_assert!(decode(&body, Offset::ZERO).is_err());
        prop_assert!(decode(&prefixed, Offset::ZERO).is_err());
        prop_assert!(decode(&free, Offset::ZERO).is_err());
    }

    /// Fields that nobody wrote, under a checksum that holds: refused or a checkpoint, never a panic.
    #[test]
    fn survives_any_fields(
        flags in 0..8_u8,
        fields in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut bytes = vec![flags];
        bytes.extend(fields);
        bytes.extend(crc32(&bytes).to_le_bytes());
        let text = format!("{PREFIX}{}", STANDARD_NO_PAD.encode(&bytes));
        let committed = match decode(&text, Offset::ZERO) {
            Err(Error::OffsetMoved { recorded, .. }) => recorded,
            Ok(_) | Err(Error::Damaged { .. } | Error::Foreign { .. }) => Offset::ZERO,
        };
        if let Ok(checkpoint) = decode(&text, committed) {
            let text = encode(&checkpoint, usize::MAX);
            prop_assert_eq!(decode(&text, committed), Ok(checkpoint));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn refuses_every_flipped_bit_and_every_truncation(checkpoint in any_checkpoint()) {
        let committed = checkpoint.committed_offset();
        let text = encode(&checkpoint, usize::MAX);
        for place in 0..8 * text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place / 8] ^= 1 << (place % 8);
            // A byte that is no UTF-8 never reaches the decoder: the client library refuses it.
            if let Ok(flipped) = String::from_utf8(bytes) {
                let read = decode(&flipped, committed);
                prop_assert!(
                    matches!(read, Err(Error::Foreign { .. } | Error::Damaged { .. })),
                    "bit {} of {:?}: {:?}", place, text, read
                );
            }
        }
        for len in 0..text.len() {
            prop_assert!(decode(&text[..len], committed).is_err(), "the first {} of {:?}", len, text);
        }
    }
}

fn checkpoint_of(gaps: &[u64]) -> Checkpoint {
    let window_starts = starts(5_000_000_000, gaps).unwrap();
    Checkpoint {
        run: Run {
            started_at: Timestamp::from_millis(1_795_000_000_930),
            start: offset(4_000_000_000).unwrap(),
            cause: RunCause::Reset,
        },
        position: window_starts.last().unwrap().next(),
        window_starts,
    }
}

/// Pins the format: a checkpoint committed by one version is read by the next. The texts were made by another
/// program from the table in the module's head.
#[test]
fn is_written_like_this() {
    let rice = checkpoint_of(&[0, 3, 1, 0, 7, 2]);
    let varint = checkpoint_of(&[0, 1 << 40]);
    let mut idle = checkpoint_of(&[]);
    idle.window_starts.clear();
    for (checkpoint, text) in [
        (rice, "fs1:AcSGs+W9aIDQrPMOlOSX0BIHFAB0/sA8ZjfN"),
        (varint, "fs1:BcSGs+W9aIDQrPMOg+SX0JIgA4OAgICAIACAgICAgCAudEWQ"),
        (idle, "fs1:AcSGs+W9aIDQrPMOgeSX0BIALGo/Ew"),
    ] {
        assert_eq!(encode(&checkpoint, BROKER_BYTES_MAX), text);
        assert_eq!(decode(text, checkpoint.committed_offset()), Ok(checkpoint));
    }
}

#[test]
fn checks_like_zlib() {
    assert_eq!(
        crc32(b"123456789"),
        0xcbf4_3926,
        "the check value of CRC-32/ISO-HDLC"
    );
}

#[test]
fn says_what_is_wrong_and_what_to_do() {
    let text = encode(&checkpoint_of(&[1, 2, 3]), BROKER_BYTES_MAX);
    let committed = offset(5_000_000_000).unwrap();
    let cases = [
        (decode("", committed), "begins with \"\" instead of \"fs1:\""),
        (
            decode("fs2:AAAA", committed),
            "begins with \"fs2:\" instead of \"fs1:\"",
        ),
        (decode("fs1:AAAA", committed), "damaged (too short)"),
        (decode("fs1:AA=A", committed), "damaged (not base64)"),
        (
            decode(&format!("fs1:B{}", &text[5..]), committed),
            "damaged (the checksum differs)",
        ),
        (
            decode(&text, Offset::ZERO),
            "belongs to offset 5000000000, and the committed offset is 0",
        ),
    ];
    for (read, says) in cases {
        let message = read.unwrap_err().to_string();
        assert!(message.contains(says), "{message:?} does not say {says:?}");
        assert!(
            message.contains("kafka-consumer-groups --reset-offsets"),
            "{message:?}"
        );
    }
}

/// How many windows the broker's default holds when new conversations are `mean` offsets apart (geometric).
#[test]
fn holds_thousands_of_windows() {
    for (mean, at_least) in [(2, 8_000), (8, 4_500), (30, 3_000), (120, 2_200), (1_000, 1_500)] {
        let mut seed = 1_u64;
        let mut gaps = Vec::new();
        let mut span = 0;
        while Checkpoint::metadata_bytes_bound(gaps.len() + 2, span + 8 * mean) <= BROKER_BYTES_MAX {
            let mut gap = 0;
            while {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                !(seed >> 33).is_multiple_of(mean)
            } {
                gap += 1;
            }
            span += gap + 1;
            gaps.push(gap);
        }
        let checkpoint = checkpoint_of(&gaps);
        let windows = checkpoint.window_starts.len();
        assert!(bound(&checkpoint) <= BROKER_BYTES_MAX);
        let bytes = encode(&checkpoint, BROKER_BYTES_MAX).len();
        println!("a window every {mean} offsets: {windows} windows in {bytes} bytes");
        assert!(
            windows >= at_least,
            "{windows} windows, a start every {mean} offsets"
        );
    }
}

/// The bound is worth having only if it is near: what it wastes are windows closed early.
#[test]
fn the_bound_is_near() {
    let gaps: Vec<u64> = (0..3_000_u64).map(|n| n * 7_919 % 16).collect();
    let checkpoint = checkpoint_of(&gaps);
    let (bytes, bound) = (encode(&checkpoint, BROKER_BYTES_MAX).len(), bound(&checkpoint));
    assert!(bound <= bytes + bytes / 8, "{bytes} bytes, bound {bound}");
}
