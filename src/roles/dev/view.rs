//! The live view: draws what is going on, a few times a second.

use std::time::Duration;

use prometheus::Registry;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::figures::{Rate, figures};
use crate::lifecycle::{Instant, Stop};
use crate::observe::{Colours, Console};
use crate::operate::picture::{Phase, Picture, render};
use crate::operate::watch::Watched;

/// Between two drawings: often enough to see a refresh come, seldom enough to read it.
const REDRAW: Duration = Duration::from_millis(300);

/// What is drawn, and where.
pub(super) struct View {
    pub(super) console: Console,
    pub(super) colours: Colours,
    pub(super) began: Instant,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) metrics: Registry,
    pub(super) watched: watch::Receiver<Watched>,
}

impl View {
    /// Draws until `stop`, and once more, so that the last word is the right one.
    pub(super) async fn run(mut self, stop: Stop) -> anyhow::Result<()> {
        let mut rate = Rate::default();
        let mut ticks = tokio::time::interval(REDRAW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                _ = ticks.tick() => false,
                Ok(()) = self.phase.changed() => false,
            };
            self.draw(&mut rate)?;
            if stopping {
                return Ok(());
            }
        }
    }

    fn draw(&self, rate: &mut Rate) -> anyhow::Result<()> {
        let figures = figures(&self.metrics);
        let lines = {
            let watched = self.watched.borrow();
            let running = self.began.elapsed();
            let picture = Picture {
                running,
                phase: *self.phase.borrow(),
                rate: rate.at(running, figures.webhooks),
                figures: &figures,
                watched: &watched,
            };
            render(&picture, self.console.size(), self.colours)
        };
        self.console.draw(lines)?;
        Ok(())
    }
}
