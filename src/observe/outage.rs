//! A failure that goes on: said at the first, then rarely, then when it is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::lifecycle::Instant;

/// How long the log is quiet about a failure that goes on: nobody learns anything from a line every second.
const REMIND_EVERY: Duration = Duration::from_secs(30);

/// How long nothing must have failed for an outage to be over, where no success tells: longer than a client's pause
/// between two tries.
const CALM: Duration = Duration::from_secs(10);

/// How many failures of one sort came, and since when; may be told from any thread.
#[derive(Debug, Default)]
pub struct Outage {
    /// So that a success costs nothing where nothing fails.
    is_going: AtomicBool,
    going: Mutex<Option<Going>>,
}

#[derive(Debug)]
struct Going {
    since: Instant,
    said: Instant,
    last: Instant,
    /// Since the last line.
    left_out: u64,
    failures: u64,
}

/// What there was of an outage that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// From the first failure on.
    pub lasted: Duration,
    /// How many there were.
    pub failures: u64,
}

impl Outage {
    /// Takes one failure at `now`; returns how many were left out since the last line when it is time for one.
    pub fn failed(&self, now: Instant) -> Option<u64> {
        self.is_going.store(true, Ordering::Relaxed);
        let mut going = self.lock();
        let Some(going) = going.as_mut() else {
            *going = Some(Going {
                since: now,
                said: now,
                last: now,
                left_out: 0,
                failures: 1,
            });
            return Some(0);
        };
        going.failures += 1;
        going.last = now;
        if now.since(going.said) < REMIND_EVERY {
            going.left_out += 1;
            return None;
        }
        going.said = now;
        Some(std::mem::take(&mut going.left_out))
    }

    /// Takes a success at `now`; returns what was when that ends an outage.
    pub fn over(&self, now: Instant) -> Option<Over> {
        if !self.is_going.load(Ordering::Relaxed) {
            return None;
        }
        let going = self.lock().take()?;
        self.is_going.store(false, Ordering::Relaxed);
        Some(Over {
            lasted: now.since(going.since),
            failures: going.failures,
        })
    }

    /// Returns what was when nothing has failed for a while before `now`: for failures that no success answers.
    pub fn calm(&self, now: Instant) -> Option<Over> {
        if !self.is_going.load(Ordering::Relaxed) {
            return None;
        }
        let ended = self.lock().take_if(|going| now.since(going.last) >= CALM)?;
        self.is_going.store(false, Ordering::Relaxed);
        Some(Over {
            lasted: ended.last.since(ended.since),
            failures: ended.failures,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Going>> {
        self.going.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Clock;
    use crate::model::Timestamp;

    #[test]
    fn said_at_the_first_then_rarely_then_when_it_is_over() {
        let outage = Outage::default();
        let clock = Clock::set_to(Timestamp::from_millis(0));
        assert_eq!(outage.over(clock.instant()), None);
        for second in 0..=70 {
            let expected = match second {
                0 => Some(0),
                30 | 60 => Some(29),
                _ => None,
            };
            assert_eq!(outage.failed(clock.instant()), expected, "in second {second}");
            clock.pass(Duration::from_secs(1));
        }
        let over = Over {
            lasted: Duration::from_secs(71),
            failures: 71,
        };
        assert_eq!(outage.over(clock.instant()), Some(over));
        assert_eq!(outage.over(clock.instant()), None, "said once");
        assert_eq!(
            outage.failed(clock.instant()),
            Some(0),
            "the next one is a new one"
        );
        clock.pass(Duration::from_secs(5));
        assert_eq!(outage.failed(clock.instant()), None);
        clock.pass(CALM - Duration::from_millis(1));
        assert_eq!(outage.calm(clock.instant()), None);
        clock.pass(Duration::from_millis(1));
        let over = Over {
            lasted: Duration::from_secs(5),
            failures: 2,
        };
        assert_eq!(
            outage.calm(clock.instant()),
            Some(over),
            "the calm is no part of it"
        );
    }
}
