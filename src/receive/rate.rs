//! How many requests an address, or a tenant, may send in a time; in memory that does not grow with how many there are.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::lifecycle::{Clock, Instant};

/// How often, on average and in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// A second, on average.
    pub per_second: NonZeroU32,
    /// At once, after a time without any.
    pub burst: NonZeroU32,
}

/// How many cells a row has, eight bytes each.
const CELLS: usize = 1 << 16;

/// A limit for each of any number of keys.
///
/// Two rows of cells, each with a hash of its own: whoever shares a cell with others in one row, shares it with others in the
/// other, or, mostly, with nobody; a request passes when either has room. The hashes are random, so that nobody can look for
/// keys that share a cell with another's. A flood from more addresses than there are cells (65,536) fills both rows: beyond
/// it the limit is one for all, and the bounds on what is in flight hold.
pub(super) struct Limiter {
    rows: [RateLimiter<u64, Cells, Passed, NoOpMiddleware<Nanos>>; 2],
    hashes: [RandomState; 2],
    passed: Passed,
}

impl Limiter {
    pub(super) fn new(rate: Rate, clock: &Clock) -> Self {
        Self::of_size(rate, clock, CELLS)
    }

    fn of_size(rate: Rate, clock: &Clock, cells: usize) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let passed = Passed {
            since: clock.instant(),
            clock: clock.clone(),
        };
        Self {
            rows: [(); 2].map(|()| RateLimiter::new(quota, Cells::new(cells), passed.clone())),
            hashes: [(); 2].map(|()| RandomState::new()),
            passed,
        }
    }

    /// Counts a request of `key`.
    ///
    /// # Errors
    ///
    /// It is one too many: after this time there is room for one.
    pub(super) fn take(&self, key: &impl Hash) -> Result<(), Duration> {
        // Both count it, or one alone would have twice the rate.
        let [first, second] = [0, 1].map(|row| self.rows[row].check_key(&self.hashes[row].hash_one(key)));
        match (first, second) {
            (Err(first), Err(second)) => {
                let now = self.passed.now();
                Err(first.wait_time_from(now).min(second.wait_time_from(now)))
            }
            (Ok(()), _) | (_, Ok(())) => Ok(()),
        }
    }
}

/// The time that has passed since the limiter was made.
#[derive(Clone, Debug)]
struct Passed {
    since: Instant,
    clock: Clock,
}

impl governor::clock::Clock for Passed {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.clock.instant().since(self.since).into()
    }
}

struct Cells(Box<[InMemoryState]>);

impl Cells {
    fn new(count: usize) -> Self {
        Self((0..count).map(|_| InMemoryState::default()).collect())
    }
}

impl StateStore for Cells {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let cells = self.0.len() as u64;
        let at = usize::try_from(key % cells).expect("below the number of cells");
        self.0[at].measure_and_replace(&NotKeyed::NonKey, decide)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::model::Timestamp;

    const RATE: Rate = Rate {
        per_second: NonZeroU32::new(10).unwrap(),
        burst: NonZeroU32::new(20).unwrap(),
    };

    fn clock() -> Clock {
        Clock::set_to(Timestamp::from_millis(1_000_000))
    }

    fn taken(limiter: &Limiter, key: &impl Hash, tries: usize) -> usize {
        (0..tries).filter(|_| limiter.take(key).is_ok()).count()
    }

    #[test]
    fn a_burst_then_the_rate_and_the_time_until_there_is_room() {
        let clock = clock();
        let limiter = Limiter::new(RATE, &clock);
        assert_eq!(taken(&limiter, &"one", 100), 20, "the burst");
        assert_eq!(limiter.take(&"one"), Err(Duration::from_millis(100)));
        assert_eq!(taken(&limiter, &"another", 5), 5, "has its own");
        clock.pass(Duration::from_millis(100));
        assert_eq!(taken(&limiter, &"one", 100), 1);
        clock.pass(Duration::from_secs(1));
        assert_eq!(taken(&limiter, &"one", 100), 10);
        clock.pass(Duration::from_secs(60));
        assert_eq!(taken(&limiter, &"one", 100), 20, "never more than the burst");
    }

    /// Of 300 addresses at full rate in two rows of 4,096 cells nearly all have all of theirs, and none has more.
    #[test]
    fn who_shares_a_cell_with_others_has_another() {
        let limiter = Limiter::of_size(RATE, &clock(), 4_096);
        let addresses: Vec<_> = (0..300_u32)
            .map(|n| IpAddr::V4(Ipv4Addr::from(0xcb00_7100 + n)))
            .collect();
        let mut taken_by = vec![0; addresses.len()];
        for _ in 0..100 {
            for (address, count) in addresses.iter().zip(&mut taken_by) {
                *count += usize::from(limiter.take(address).is_ok());
            }
        }
        assert!(taken_by.iter().all(|count| *count <= 20), "{taken_by:?}");
        let full = taken_by.iter().filter(|count| **count == 20).count();
        // One in fourteen shares a cell in a row, one in 200 in both.
        assert!(full >= 285, "only {full} of 300 had their own: {taken_by:?}");
    }

    #[test]
    fn a_flood_of_addresses_takes_no_memory_and_is_limited_as_one() {
        let limiter = Limiter::of_size(RATE, &clock(), 64);
        let taken = (0..100_000_u32).filter(|n| limiter.take(n).is_ok()).count();
        assert!((64 * 20..=2 * 64 * 20).contains(&taken), "{taken}");
    }
}
