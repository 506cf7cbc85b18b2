//! Sees a call to the client that does not come back in the time that it was given.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::lifecycle::Instant;

/// Knows until when the call that is under way has to come back; shared by the thread that calls and the one that watches.
///
/// librdkafka 2.12 does not keep the timeout of `send_offsets_to_transaction`: while the group's coordinator cannot be found
/// or reached it waits for some broker's connection to change, which may never be (its issues 5456 and 5511). The thread that
/// called cannot be woken, so its process has to end.
#[derive(Clone, Debug, Default)]
pub struct Watchdog(Arc<Mutex<Option<Call>>>);

/// When a call began, and how much time it has.
#[derive(Clone, Copy, Debug)]
struct Call {
    began: Instant,
    time: Duration,
}

impl Watchdog {
    /// Says that a call begins that has so much time, until what is returned is dropped.
    pub(crate) fn guard(&self, time: Duration) -> Guard<'_> {
        self.set(Some(Call {
            began: Instant::now(),
            time,
        }));
        Guard(self)
    }

    /// Says whether a call is under way whose time is up.
    pub fn is_overdue(&self) -> bool {
        let call = *self.0.lock().expect("no one panics while holding the call");
        call.is_some_and(|call| call.began.elapsed() >= call.time)
    }

    fn set(&self, call: Option<Call>) {
        *self.0.lock().expect("no one panics while holding the call") = call;
    }
}

/// A call under way.
pub(crate) struct Guard<'w>(&'w Watchdog);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_overdue_when_its_time_is_up_and_it_is_not_back() {
        let watchdog = Watchdog::default();
        assert!(!watchdog.is_overdue(), "no call");
        let guard = watchdog.guard(Duration::from_secs(3600));
        assert!(!watchdog.is_overdue(), "in time");
        drop(guard);
        let guard = watchdog.guard(Duration::ZERO);
        assert!(watchdog.is_overdue());
        drop(guard);
        assert!(!watchdog.is_overdue(), "back");
    }
}
