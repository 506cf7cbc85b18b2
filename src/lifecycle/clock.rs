//! The one clock: nothing else in the crate asks the machine for the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;

use super::Stop;
use crate::model::Timestamp;

/// Tells the time, of day and passed; cheap to clone. Tests set it.
#[derive(Clone, Debug, Default)]
pub struct Clock(Reading);

#[derive(Clone, Debug, Default)]
enum Reading {
    #[default]
    System,
    Set(Arc<Set>),
}

/// A clock that stands until it is moved.
#[derive(Debug)]
struct Set {
    wall_us: AtomicI64,
    made: Instant,
    passed_us: AtomicU64,
}

impl Clock {
    /// Reads the machine's clock.
    pub fn system() -> Self {
        Self(Reading::System)
    }

    /// Makes a clock that stands at `at` until [`Clock::set`] or [`Clock::pass`] moves it; its clones move with it.
    pub fn set_to(at: Timestamp) -> Self {
        Self(Reading::Set(Arc::new(Set {
            wall_us: AtomicI64::new(at.as_millis() * 1_000),
            made: Instant::now(),
            passed_us: AtomicU64::new(0),
        })))
    }

    /// Steps the time of day of a clock made by [`Clock::set_to`]: no time passes. The machine's clock is not ours to
    /// move and stays.
    pub fn set(&self, at: Timestamp) {
        if let Reading::Set(set) = &self.0 {
            set.wall_us.store(at.as_millis() * 1_000, Ordering::SeqCst);
        }
    }

    /// Lets `time` pass on a clock made by [`Clock::set_to`]; on the machine's it passes by itself.
    pub fn pass(&self, time: Duration) {
        if let Reading::Set(set) = &self.0 {
            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            set.passed_us.fetch_add(micros, Ordering::SeqCst);
            set.wall_us.fetch_add(micros.cast_signed(), Ordering::SeqCst);
        }
    }

    /// Returns the time now; it may go back when the machine's clock is stepped.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Reading::System => system_now(),
            Reading::Set(set) => Timestamp::from_millis(set.wall_us.load(Ordering::SeqCst).div_euclid(1_000)),
        }
    }

    /// Returns a reading of the monotonic clock, to measure from.
    pub fn instant(&self) -> Instant {
        match &self.0 {
            Reading::System => Instant::now(),
            Reading::Set(set) => {
                let passed = Duration::from_micros(set.passed_us.load(Ordering::SeqCst));
                Instant(set.made.0 + passed)
            }
        }
    }

    /// Blocks for `time`, but not longer than until a stop is asked for. A clock that was set does not wait: the time
    /// passes at once.
    pub fn pause(&self, time: Duration, runtime: &Handle, stop: &Stop) {
        match &self.0 {
            Reading::System => runtime.block_on(async {
                // Either end of the wait is fine.
                drop(tokio::time::timeout(time, stop.cancelled()).await);
            }),
            Reading::Set(_) => self.pass(time),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the wall clock"
)]
fn system_now() -> Timestamp {
    let millis = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
    };
    #[cfg(debug_assertions)]
    let millis = millis.saturating_add(step_of_a_test());
    Timestamp::from_millis(millis)
}

/// Returns by how many milliseconds a test wants the wall clock of this process stepped: what the file that the
/// variable `TEST_CLOCK_STEP` names holds at this moment, 0 without one. A release build has no such thing.
///
/// # Panics
///
/// The file cannot be read or holds no number: the test would go on with a clock that it does not know.
#[cfg(debug_assertions)]
#[expect(
    clippy::disallowed_methods,
    reason = "no setting of the product, and the file is a few bytes"
)]
fn step_of_a_test() -> i64 {
    use std::path::PathBuf;
    use std::sync::OnceLock;
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let Some(file) = FILE.get_or_init(|| std::env::var_os("TEST_CLOCK_STEP").map(PathBuf::from)) else {
        return 0;
    };
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.trim()
        .parse()
        .unwrap_or_else(|error| panic!("{}: {error}: {text:?}", file.display()))
}

/// A reading of the monotonic clock, for measuring durations; never stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(std::time::Instant);

impl Instant {
    /// Reads the monotonic clock.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the monotonic clock"
    )]
    pub fn now() -> Self {
        Self(std::time::Instant::now())
    }

    /// Returns the time since this reading.
    pub fn elapsed(self) -> Duration {
        Self::now().0.duration_since(self.0)
    }

    /// Returns the time from `earlier` to this reading; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}
