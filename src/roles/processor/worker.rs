//! One worker: one thread, one consumer, one transactional producer.
//!
//! The loop takes what is ready, feeds the coalescers once, and commits when something is due. No transaction is
//! ever open across a poll, and a rebalance is answered between two transactions.

mod owning;
mod rejoins;

use std::collections::BTreeMap;
use std::time::Duration;

use self::rejoins::Rejoins;
use super::aborts::Aborts;
use super::metrics::Metrics;
use super::partition::{Losses, Owned, UnreadableMetadata};
use super::urgency::most_urgent_first;
use super::{Settings, decode::Decoder};
use crate::consume::{self, Input, Record as _, Source};
use crate::emit::{self, Steps, Transaction};
use crate::lifecycle::{Clock, Exit, Gate, Instant, Stop};
use crate::model::{Partition, Timestamp};
use crate::observe::{Outage, causes};

/// The longest wait for records: how late a stop request is seen at most.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// How often in a row a transaction may be aborted, whichever it holds or one partition's, or a worker that is to stop not
/// be told the group's offsets, before the process ends and lets its orchestrator start it afresh.
const FAILURES_IN_A_ROW_MAX: u32 = 10;

/// The first pause after a failure; it doubles with each further one, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why a worker ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is beside a committed offset cannot be read.
    #[error(transparent)]
    Metadata(#[from] Box<UnreadableMetadata>),
    /// The consumer cannot go on, or could not for too long.
    #[error("the consumer of worker {worker} ended")]
    Consume {
        /// Which one of its process.
        worker: usize,
        /// Why.
        source: consume::Error,
    },
    /// The producer cannot go on.
    #[error("the transactions of worker {worker} ended")]
    Emit {
        /// Which one of its process.
        worker: usize,
        /// Why.
        source: emit::Error,
    },
    /// Too many transactions in a row were aborted.
    #[error(
        "worker {worker} failed {FAILURES_IN_A_ROW_MAX} times in a row, now with partitions {partitions:?}"
    )]
    KeepsFailing {
        /// Which one of its process.
        worker: usize,
        /// What the last of them held.
        partitions: Vec<i32>,
        /// The last failure.
        source: Box<emit::Error>,
    },
    /// Taking the partitions over anew does not help.
    #[error(
        "worker {worker} gave its partitions back {FAILURES_IN_A_ROW_MAX} times in a row, now because {why}"
    )]
    KeepsRejoining {
        /// Which one of its process.
        worker: usize,
        /// The last cause.
        why: String,
    },
    /// The client does not come back from a call whose time is up: this process ends without it.
    #[error(
        "worker {worker} does not come back from sending the offsets of its transaction, although its time is up: the \
         client waits for the group's coordinator; nothing of the transaction is visible"
    )]
    Overdue {
        /// Which one of its process.
        worker: usize,
    },
    /// A record's schema cannot be had.
    #[error("could not read the schema of a record")]
    Decode(#[from] super::decode::Error),
}

impl Error {
    /// Says how the process ends: for good, or because of something outside that may pass.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Metadata(_) => Exit::Unreadable,
            Self::Consume { source, .. } => source.exit(),
            Self::Emit { source, .. } => source.exit(),
            Self::Decode(super::decode::Error::NoRegistry(_)) => Exit::Usage,
            Self::KeepsFailing { .. }
            | Self::KeepsRejoining { .. }
            | Self::Overdue { .. }
            | Self::Decode(_) => Exit::Outside,
        }
    }
}

/// Everything one worker holds.
pub struct Worker<S, E> {
    /// Which one of its process.
    pub number: usize,
    /// What it needs to know.
    pub settings: Settings,
    /// Its place in the group.
    pub source: S,
    /// Its producer.
    pub emitter: E,
    /// Reads the records' values.
    pub decoder: Decoder,
    /// Where it counts.
    pub metrics: Metrics,
    /// The time of day and the time that passes.
    pub clock: Clock,
    /// Says when to stop.
    pub stop: Stop,
    /// Says whether it is ready.
    pub gate: Gate,
}

/// What changes while a worker runs.
pub struct State {
    owned: BTreeMap<Partition, Owned>,
    joined: bool,
    /// All partitions are being given back, to be taken over anew.
    rejoining: bool,
    rejoins: Rejoins,
    /// The time of day when the clock was last read.
    looked_at: Timestamp,
    committed_at: Instant,
    position_committed_at: Instant,
    shown_at: Instant,
    aborts: Aborts,
    losses: Losses,
    /// The consumer reports errors that pass.
    trouble: Outage,
}

impl<S, E> Worker<S, E>
where
    S: Source,
    E: Steps<Group = S::Group>,
{
    /// Runs until told to stop: then finishes the open work, commits and leaves the group.
    ///
    /// # Errors
    ///
    /// It ended before it was told to: [`Error`] says why.
    pub fn run(self) -> Result<(), Error> {
        let mut state = self.begin();
        while !self.stop.is_cancelled() {
            match self.turn(&mut state) {
                // The batch that waits for a schema is not fed: it is read again by the next owner.
                Err(Error::Decode(super::decode::Error::Stopped)) => break,
                turned => turned?,
            }
        }
        self.end(&mut state)
    }

    /// Makes the state of a worker that owns nothing yet.
    pub fn begin(&self) -> State {
        let now = self.clock.instant();
        State {
            owned: BTreeMap::new(),
            joined: false,
            rejoining: false,
            rejoins: Rejoins::default(),
            looked_at: self.clock.now(),
            committed_at: now,
            position_committed_at: now,
            shown_at: now,
            aborts: Aborts::default(),
            losses: Losses::default(),
            trouble: Outage::default(),
        }
    }

    /// Takes what is ready, closes what is due, commits when it is time.
    ///
    /// # Errors
    ///
    /// The worker cannot go on: [`Error`] says why.
    pub fn turn(&self, state: &mut State) -> Result<(), Error> {
        let wait = self.wait(state);
        // The consumer lends its records to the input, so its answers are worked off before the next poll.
        let input = self.source.poll(wait);
        self.look_at_clock(state);
        match input {
            Input::Batch(records) => self.feed(&mut state.owned, &records)?,
            Input::LogEnd(partition) => {
                if let Some(owned) = state.owned.get_mut(&partition) {
                    owned.read_all(self.source.log_end(partition));
                    owned.coalescer.on_log_end(self.clock.now());
                    owned.drain();
                }
            }
            Input::Assigned(partitions) => self.take_over(state, &partitions)?,
            Input::Revoked(partitions) => self.hand_over(state, &partitions)?,
            Input::Lost(partitions) => self.drop_lost(state, &partitions)?,
            Input::Error(error) => self.on_error(state, error)?,
            Input::Nothing => {}
        }
        self.close_due(state);
        self.commit_if_due(state)?;
        self.show(state)
    }

    /// Does about an error of the consumer what it is named for.
    fn on_error(&self, state: &mut State, error: consume::Error) -> Result<(), Error> {
        match error {
            consume::Error::Retry { .. } => {
                if let Some(left_out) = state.trouble.failed(self.clock.instant()) {
                    tracing::warn!(
                        worker = self.number,
                        error = %causes(&error),
                        left_out,
                        "the consumer goes on trying, nothing is lost"
                    );
                }
                Ok(())
            }
            consume::Error::Rewind { .. } | consume::Error::Rebalanced { .. } => {
                if matches!(error, consume::Error::Rewind { .. }) {
                    let error = causes(&error);
                    tracing::warn!(worker = self.number, %error, "goes back to the committed offsets");
                }
                let partitions: Vec<_> = state.owned.keys().copied().collect();
                self.rewind(state, &partitions)
            }
            consume::Error::Rejoin { .. } => self.rejoin(state, &causes(&error)),
            consume::Error::Unreleased { .. }
            | consume::Error::Expelled { .. }
            | consume::Error::Fenced { .. }
            | consume::Error::Fatal { .. } => Err(Error::Consume {
                worker: self.number,
                source: error,
            }),
        }
    }

    /// Finishes the open work, commits and leaves the group.
    ///
    /// # Errors
    ///
    /// The clients failed for good.
    pub fn end(&self, state: &mut State) -> Result<(), Error> {
        self.gate.not_ready("stopping");
        self.finish(state)?;
        self.leave(state)
    }

    /// Feeds records to the coalescers of their partitions.
    fn feed(&self, owned: &mut BTreeMap<Partition, Owned>, records: &[S::Record<'_>]) -> Result<(), Error> {
        self.metrics.read(records.len());
        let now = self.clock.now();
        for records in records.chunk_by(|one, next| one.partition() == next.partition()) {
            // Absent: read ahead before the partition went to another member.
            let Some(owned) = owned.get_mut(&records[0].partition()) else {
                continue;
            };
            owned.before_feeding();
            let run = owned.coalescer.run();
            owned.read(records[records.len() - 1].offset());
            let mut decoded = Vec::with_capacity(records.len());
            for record in records {
                let (record, letter) = self.decoder.decode(record, run, now, &self.stop)?;
                decoded.push(record);
                if let Some(letter) = letter {
                    owned.hold(letter);
                }
            }
            owned
                .coalescer
                .on_batch(decoded.iter().map(super::decode::Decoded::as_record), now);
            owned.drain();
            self.metrics.coalesced(&owned.coalescer.counts());
        }
        Ok(())
    }

    /// Reads the clock, and tells every coalescer when it was stepped back, which has moved every deadline: on an idle
    /// partition one would not learn of it before the clock has caught up. Nor does it know that time has passed since it
    /// was last told, so it hears first when the clock was last read.
    fn look_at_clock(&self, state: &mut State) -> Timestamp {
        let now = self.clock.now();
        let before = std::mem::replace(&mut state.looked_at, now);
        if now < before {
            for owned in state.owned.values_mut() {
                owned.coalescer.on_deadline(before);
                owned.coalescer.on_deadline(now);
                owned.drain();
            }
        }
        now
    }

    /// Lets out every window that is due.
    fn close_due(&self, state: &mut State) {
        let now = self.look_at_clock(state);
        for owned in state.owned.values_mut() {
            let deadline = owned.coalescer.next_deadline();
            if deadline.is_some_and(|(deadline, _)| deadline <= now) {
                owned.coalescer.on_deadline(now);
                owned.drain();
            }
        }
    }

    /// Returns how long the next poll may wait.
    fn wait(&self, state: &State) -> Duration {
        let now = self.clock.now();
        let deadlines = state
            .owned
            .values()
            .filter_map(|owned| owned.coalescer.next_deadline());
        let until_deadline = deadlines
            .map(|(deadline, _)| deadline.saturating_since(now))
            .min();
        let mut wait = until_deadline.unwrap_or(WAIT_MAX).min(WAIT_MAX);
        if state.owned.values().any(Owned::is_due) {
            wait = wait.min(
                self.settings
                    .commit_interval
                    .saturating_sub(self.elapsed(state.committed_at)),
            );
        }
        wait
    }

    /// Commits outputs at most every commit interval, and positions alone rarely.
    fn commit_if_due(&self, state: &mut State) -> Result<(), Error> {
        let outputs_due = self.elapsed(state.committed_at) >= self.settings.commit_interval
            && state.owned.values().any(Owned::is_due);
        let positions_due =
            self.elapsed(state.position_committed_at) >= self.settings.position_commit_interval;
        if !outputs_due && !positions_due {
            return Ok(());
        }
        let partitions: Vec<_> = state
            .owned
            .iter()
            .filter(|(_, owned)| positions_due || owned.is_due())
            .map(|(partition, _)| *partition)
            .collect();
        if positions_due {
            state.position_committed_at = self.clock.instant();
        }
        for together in state.aborts.apart(&partitions) {
            match self.commit(state, &together) {
                Ok(()) => {}
                // The others are committed in the turns that follow: no turn waits for more than one pause.
                Err(source) if source.passes() => return self.after_abort(state, &together, source),
                Err(source) => {
                    return Err(Error::Emit {
                        worker: self.number,
                        source,
                    });
                }
            }
        }
        Ok(())
    }

    /// Commits what the partitions have put out, and their state, in one transaction.
    fn commit(&self, state: &mut State, partitions: &[Partition]) -> Result<(), emit::Error> {
        let mut transaction = Transaction::default();
        for partition in partitions {
            if let Some(owned) = state.owned.get_mut(partition) {
                owned.hand_to(*partition, &mut transaction);
            }
        }
        if transaction.checkpoints.is_empty() {
            return Ok(());
        }
        most_urgent_first(&mut transaction.refreshes);
        let Some(group) = self.source.group_metadata() else {
            return Err(emit::Error::not_a_member());
        };
        let held = transaction.checkpoints.iter().map(|(partition, _)| *partition);
        if let Err(error) = emit::transact(&self.emitter, &transaction, &group) {
            if matches!(error, emit::Error::Rewind { .. }) {
                state.aborts.aborted(held);
            }
            return Err(error);
        }
        state.aborts.committed(held);
        state.committed_at = self.clock.instant();
        let now = self.clock.now();
        for refresh in &transaction.refreshes {
            self.metrics.committed(refresh, now);
        }
        self.metrics.set_aside(transaction.dead_letters.len());
        for (partition, checkpoint) in transaction.checkpoints {
            state
                .owned
                .get_mut(&partition)
                .expect("only owned partitions are committed")
                .committed = checkpoint;
        }
        Ok(())
    }

    /// Goes back to the committed offsets after an aborted transaction, more and more slowly.
    fn after_abort(
        &self,
        state: &mut State,
        partitions: &[Partition],
        source: emit::Error,
    ) -> Result<(), Error> {
        if matches!(source, emit::Error::Rebalanced { .. }) {
            // No failure: which partitions are still ours comes with the rebalance, at the latest when the session ends.
            tracing::debug!(worker = self.number, error = %causes(&source), "the group has gone on without this commit");
            self.pause(0);
            return self.rewind(state, partitions);
        }
        let in_a_row = state.aborts.most();
        let numbers: Vec<_> = partitions.iter().map(|partition| partition.number()).collect();
        if let Some(left_out) = state.aborts.outage.failed(self.clock.instant()) {
            tracing::warn!(
                worker = self.number,
                partitions = ?numbers,
                in_a_row,
                left_out,
                error = %causes(&source),
                "transaction aborted: goes back to the committed offsets"
            );
        }
        if in_a_row >= FAILURES_IN_A_ROW_MAX {
            return Err(Error::KeepsFailing {
                worker: self.number,
                partitions: numbers,
                source: Box::new(source),
            });
        }
        if in_a_row > 1 {
            self.pause(in_a_row - 1);
        }
        self.rewind(state, partitions)
    }

    /// Closes every window and commits: the clean end of the work.
    fn finish(&self, state: &mut State) -> Result<(), Error> {
        let now = self.clock.now();
        for owned in state.owned.values_mut() {
            owned.coalescer.on_stop(now);
            owned.drain();
            self.metrics.coalesced(&owned.coalescer.counts());
        }
        let partitions: Vec<_> = state.owned.keys().copied().collect();
        self.commit_last(state, &partitions, |error| {
            tracing::warn!(
                worker = self.number,
                error = %causes(error),
                "the last transaction was aborted: the open work is left to the next owner"
            );
        })
    }

    /// Commits what there is of partitions that are given away. What is refused goes to `refused` and is left to the next
    /// owner, who goes on from what was committed before: nothing is lost, some is read again.
    fn commit_last(
        &self,
        state: &mut State,
        partitions: &[Partition],
        refused: impl Fn(&emit::Error),
    ) -> Result<(), Error> {
        for together in state.aborts.apart(partitions) {
            match self.commit(state, &together) {
                Ok(()) => {}
                Err(error) if error.passes() => refused(&error),
                Err(source) => {
                    return Err(Error::Emit {
                        worker: self.number,
                        source,
                    });
                }
            }
        }
        Ok(())
    }

    /// Waits before another try, but not longer than until a stop is asked for.
    fn pause(&self, failures: u32) {
        let pause = PAUSE_MIN.saturating_mul(1 << failures.min(10)).min(PAUSE_MAX);
        self.clock.pause(pause, self.decoder.runtime(), &self.stop);
    }

    fn elapsed(&self, since: Instant) -> Duration {
        self.clock.instant().since(since)
    }

    /// Tells readiness and metrics how things stand, a few times a second.
    fn show(&self, state: &mut State) -> Result<(), Error> {
        if self.elapsed(state.shown_at) < WAIT_MAX {
            return Ok(());
        }
        state.shown_at = self.clock.instant();
        if self.source.is_disconnected() {
            self.gate.not_ready("no broker is connected");
        } else if state.joined {
            self.gate.ready();
        } else {
            self.gate.not_ready("waits for partitions from the group");
        }
        if !self.source.is_disconnected()
            && let Some(over) = state.trouble.calm(state.shown_at)
        {
            let (after, failures) = (over.lasted, over.failures);
            tracing::info!(
                worker = self.number,
                ?after,
                failures,
                "the consumer reports no more errors"
            );
        }
        if let Some(partition) = self.source.unowned() {
            self.rejoin(
                state,
                &format_args!("partition {partition} has no owner in the group"),
            )?;
        }
        if state.aborts.are_over()
            && let Some(over) = state.aborts.outage.over(state.shown_at)
        {
            let (after, failures) = (over.lasted, over.failures);
            tracing::info!(
                worker = self.number,
                ?after,
                failures,
                "transactions are committed again"
            );
        }
        let mut stalled = None;
        for (partition, owned) in &mut state.owned {
            let log_end = self.source.log_end(*partition);
            self.metrics.stands(*partition, &owned.coalescer, log_end);
            if owned.is_stalled(log_end, state.shown_at) {
                stalled = Some(*partition);
            }
        }
        if let Some(partition) = stalled.filter(|_| !self.source.is_disconnected()) {
            self.rejoin(
                state,
                &format_args!("partition {partition} has records and is not read"),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
