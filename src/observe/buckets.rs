//! Bucket bounds of histograms, in the unit of the metric's name; each list with its reason.

/// Delay from an event's emission or receipt to the commit of its refresh. Fine around the caps of the lanes
/// (0.8 s, 2.5 s, 4 s), then up to an hour for backfills and outages.
pub const DELAY_SECONDS: &[f64] = &[
    0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.8, 1.0, 1.5, 2.5, 4.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0,
];

/// Time of one transaction: about 10 ms; 30-40 ms when the broker answers CONCURRENT_TRANSACTIONS; at most its timeout.
pub const TRANSACTION_SECONDS: &[f64] = &[
    0.0025, 0.005, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise() {
        let all = [DELAY_SECONDS, TRANSACTION_SECONDS];
        for bounds in all {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }
}
