//! A steady load of events, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::anyhow;
use frontstream::lifecycle::{Clock, Instant};
use frontstream::model::Priority;

use crate::cluster::{Bench, Topics};
use crate::events::{Dice, Writer};

/// Conversations with more than one event begin so.
const BUSY: u64 = 400;

/// Every fourth event is the only one of its conversation: when its window closes can be told from outside.
const SINGLE_EVERY: u64 = 4;

/// A load that goes on until it is told to end. Dropped, it ends.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<u64>>>,
}

impl Load {
    /// Begins: `per_second` events, three quarters of them about 400 conversations, in all three lanes.
    pub(crate) fn start(bench: &Bench, topics: &Topics, per_second: u32) -> anyhow::Result<Self> {
        let mut writer = Writer::new(bench, topics, Duration::ZERO)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || {
                let mut dice = Dice::seeded(11);
                let began = Instant::now();
                while !stopped.load(Ordering::Relaxed) {
                    let due = began.elapsed().as_secs_f64() * f64::from(per_second);
                    while (writer.sent as f64) < due {
                        let priority = Priority::ALL[usize::try_from(dice.below(3))?];
                        let conversation = if writer.sent.is_multiple_of(SINGLE_EVERY) {
                            format!("cnv_single_{:x}", writer.sent)
                        } else {
                            format!("cnv_{:x}", dice.below(BUSY))
                        };
                        writer.event(&conversation, priority, Clock::system().now())?;
                    }
                    writer.serve(Duration::from_millis(2));
                }
                writer.finish()
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends it and returns how many events were stored.
    pub(crate) fn finish(mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or_else(|| anyhow!("the load has ended"))?;
        thread.join().map_err(|_| anyhow!("the load panicked"))?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Whatever it says: the section has failed already.
            let _ = thread.join();
        }
    }
}
