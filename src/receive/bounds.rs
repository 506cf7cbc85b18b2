//! How much is held at a time: requests by number, bodies by bytes. Beyond the bound the answer is "later".

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

/// A bounded amount; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Bounded(Arc<Amount>);

#[derive(Debug)]
struct Amount {
    held: AtomicUsize,
    max: usize,
    gauge: IntGauge,
}

impl Bounded {
    pub(super) fn new(max: usize, gauge: IntGauge) -> Self {
        Self(Arc::new(Amount {
            held: AtomicUsize::new(0),
            max,
            gauge,
        }))
    }

    /// Begins to hold nothing.
    pub(super) fn hold_nothing(&self) -> Held {
        Held {
            amount: Arc::clone(&self.0),
            held: 0,
        }
    }

    /// Holds `amount`; `None` when that would pass the bound.
    pub(super) fn hold(&self, amount: usize) -> Option<Held> {
        let mut held = self.hold_nothing();
        held.grow(amount).then_some(held)
    }
}

/// A part of the amount, given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    amount: Arc<Amount>,
    held: usize,
}

impl Held {
    /// Holds `by` more; `false`, and nothing changed, when that would pass the bound.
    pub(super) fn grow(&mut self, by: usize) -> bool {
        let max = self.amount.max;
        let grown = self
            .amount
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(by).filter(|&grown| grown <= max)
            });
        if grown.is_ok() {
            self.held += by;
            self.amount.gauge.add(gauge_of(by));
        }
        grown.is_ok()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.amount.held.fetch_sub(self.held, Ordering::Relaxed);
        self.amount.gauge.sub(gauge_of(self.held));
    }
}

fn gauge_of(amount: usize) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_up_to_the_bound_and_gives_back() {
        let gauge = IntGauge::new("held", "held").unwrap();
        let bounded = Bounded::new(10, gauge.clone());
        let mut seven = bounded.hold(7).unwrap();
        assert!(bounded.hold(4).is_none());
        assert!(seven.grow(3));
        assert!(!seven.grow(1));
        assert_eq!(gauge.get(), 10);
        drop(seven);
        assert_eq!(gauge.get(), 0);
        assert!(bounded.hold(usize::MAX).is_none());
        assert!(bounded.hold(10).is_some());
    }
}
