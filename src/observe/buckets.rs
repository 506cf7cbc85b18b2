//! Bucket bounds of histograms, in the unit of the metric's name; each list with its reason.

/// Time to acknowledge a webhook, from the first byte of the request: usually 1 ms, at most Front's 5 s.
/// Fine around the target (p50 below 1 ms, p99 below 4 ms), then at the limits of 100 ms, 2.5 s and 5 s.
pub const ACKNOWLEDGE_SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// Time of one signature check: a few microseconds for 2 KB, about a millisecond for 1 MiB.
pub const SIGNATURE_SECONDS: &[f64] = &[
    0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.005,
];

/// Delay from an event's emission or receipt to the commit of its refresh. Fine around the caps of the lanes
/// (0.8 s, 2.5 s, 4 s), then up to an hour for backfills and outages.
pub const DELAY_SECONDS: &[f64] = &[
    0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.8, 1.0, 1.5, 2.5, 4.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0,
];

/// Time of one transaction: about 10 ms; 30-40 ms when the broker answers CONCURRENT_TRANSACTIONS; at most its timeout.
pub const TRANSACTION_SECONDS: &[f64] = &[
    0.0025, 0.005, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Size of a body: usually 2-3 KB; around the default limit of 1 MiB, so that its setting can be judged.
pub const BODY_BYTES: &[f64] = &[
    512.0,
    1_024.0,
    2_048.0,
    4_096.0,
    8_192.0,
    16_384.0,
    65_536.0,
    262_144.0,
    524_288.0,
    1_048_576.0,
    4_194_304.0,
];

/// Events counted in one refresh: mostly one to five, thousands when a backlog is worked off.
pub const EVENTS: &[f64] = &[
    1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 12.0, 20.0, 50.0, 100.0, 1_000.0, 10_000.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise() {
        let all = [
            ACKNOWLEDGE_SECONDS,
            SIGNATURE_SECONDS,
            DELAY_SECONDS,
            TRANSACTION_SECONDS,
            BODY_BYTES,
            EVENTS,
        ];
        for bounds in all {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }
}
