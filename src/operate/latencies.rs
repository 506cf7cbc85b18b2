//! Durations counted by size, in bounded memory whatever their number.

use std::time::Duration;

/// Sizes between one power of two and the next: a quantile is at most 1/32, 3 %, too high.
const STEPS: u64 = 32;
/// Powers of two of microseconds: up to two and a half hours.
const POWERS: usize = 33;

/// Counts durations; answers quantiles to within 3 %.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: vec![0; (POWERS + 1) * usize::try_from(STEPS).expect("a small number")],
            total: 0,
            longest: Duration::ZERO,
        }
    }
}

impl Latencies {
    /// Counts one more.
    pub(crate) fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let last = self.counts.len() - 1;
        self.counts[row(micros).min(last)] += 1;
        self.total += 1;
        self.longest = self.longest.max(latency);
    }

    /// Returns how many were counted.
    pub(crate) fn count(&self) -> u64 {
        self.total
    }

    /// Returns the longest, exactly.
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// Returns the duration that `per_mille` of a thousand do not exceed; zero when none was counted.
    pub(crate) fn quantile(&self, per_mille: u64) -> Duration {
        let wanted = (self.total * per_mille).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(upper_end(at)).min(self.longest);
            }
        }
        self.longest
    }
}

/// Below 32 us each microsecond has its row; above, each power of two has 32.
fn row(micros: u64) -> usize {
    let power = micros.max(1).ilog2();
    let row = if micros < STEPS {
        micros
    } else {
        let shift = power - STEPS.ilog2();
        u64::from(shift + 1) * STEPS + ((micros >> shift) - STEPS)
    };
    usize::try_from(row).unwrap_or(usize::MAX)
}

/// Returns the longest duration that a row counts, in microseconds.
fn upper_end(row: usize) -> u64 {
    let row = u64::try_from(row).unwrap_or(u64::MAX);
    if row < STEPS {
        return row;
    }
    let (shift, step) = (row / STEPS - 1, row % STEPS);
    ((STEPS + step + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_3_percent() {
        let mut latencies = Latencies::default();
        for micros in 1..=100_000 {
            latencies.add(Duration::from_micros(micros));
        }
        for (per_mille, exact) in [
            (500, 50_000.0),
            (950, 95_000.0),
            (990, 99_000.0),
            (1_000, 100_000.0),
        ] {
            let found = latencies.quantile(per_mille).as_secs_f64() * 1e6;
            assert!(
                (exact..=exact * 1.032).contains(&found),
                "{per_mille}: {found} for {exact}"
            );
        }
        assert_eq!(
            (latencies.count(), latencies.longest()),
            (100_000, Duration::from_millis(100))
        );
    }

    #[test]
    fn rows_and_their_ends_agree() {
        for micros in (0..2_000).chain([1 << 20, (1 << 20) + 1, (1 << 33) - 1]) {
            let at = row(micros);
            assert!(micros <= upper_end(at), "{micros}");
            assert!(at == 0 || upper_end(at - 1) < micros, "{micros}");
        }
    }

    #[test]
    fn what_is_too_long_for_the_rows_is_counted_all_the_same() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(500), Duration::ZERO);
        latencies.add(Duration::MAX);
        assert_eq!((latencies.count(), latencies.longest()), (1, Duration::MAX));
    }
}
