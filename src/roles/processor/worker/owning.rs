//! Partitions that come and go: taken over from what is committed, gone back on, handed over.

use std::time::Duration;

use super::super::partition::{Owned, Place, ends_too_early, state_of};
use super::{Error, FAILURES_IN_A_ROW_MAX, State, WAIT_MAX, Worker};
use crate::coalesce::Limits;
use crate::consume::{self, Input, Source};
use crate::emit::Steps;
use crate::lifecycle::Instant;
use crate::model::{Offset, Partition};
use crate::observe::{Outage, causes};

/// How long the committed offsets and a seek to them are tried for together at least, before the process ends: as long as an
/// outage of all brokers is waited for. It stays below `max.poll.interval.ms`, unless a transaction was waited for as long
/// before it: then the group takes the partitions away, and the worker joins again.
pub(super) const PATIENCE_MIN: Duration = Duration::from_secs(240);

/// How much longer than a transaction they are tried for: the offsets of a dead owner's last one are not told before its
/// timeout has passed, and its coordinator looks for such transactions every ten seconds.
pub(super) const PATIENCE_BEYOND_TRANSACTION: Duration = Duration::from_secs(20);

/// How long a log must be told to end before what was read of it, until that is believed. A broker that was deposed and does not
/// know it yet tells an old end, to a client that has not heard of its successor either: clients look every ten seconds.
pub(super) const SHORT_LOG_PATIENCE: Duration = Duration::from_secs(20);

/// How often a seek may find a partition not being read, which passes right after an assignment, before it is
/// taken over anew.
const SEEKS_REFUSED_MAX: u32 = 3;

/// The least memory that a partition's chunk gets, however many partitions share it.
const CHUNK_BYTES_MIN: usize = 1 << 20;

/// How often it has been tried to go on from the committed offsets, and since when.
struct Tries {
    failures: u32,
    began: Instant,
    /// What is said of questions that are not answered.
    outage: Outage,
    /// What is said of answers that are doubted.
    doubt: Outage,
}

impl<S, E> Worker<S, E>
where
    S: Source,
    E: Steps<Group = S::Group>,
{
    /// Takes partitions over from the state that the group has committed for them.
    pub(super) fn take_over(&self, state: &mut State, partitions: &[Partition]) -> Result<(), Error> {
        let mut tries = self.tries();
        let positions = self.restore(state, partitions, &mut tries)?;
        self.source.start(&positions).map_err(|source| Error::Consume {
            worker: self.number,
            source,
        })?;
        self.goes_on(&tries);
        state.joined = true;
        self.gate.ready();
        self.metrics.assigned.inc_by(partitions.len() as u64);
        let numbers: Vec<_> = partitions.iter().map(|partition| partition.number()).collect();
        tracing::info!(worker = self.number, partitions = ?numbers, "partitions assigned");
        Ok(())
    }

    /// Drops the windows of `partitions` and reads them again from what is committed.
    pub(super) fn rewind(&self, state: &mut State, partitions: &[Partition]) -> Result<(), Error> {
        // librdkafka takes an empty list for a wrong argument, which would end the process.
        if partitions.is_empty() {
            return Ok(());
        }
        self.metrics.rewinds.inc();
        let mut tries = self.tries();
        for attempt in 1.. {
            let positions = self.restore(state, partitions, &mut tries)?;
            match self.source.rewind(&positions) {
                Ok(()) => {
                    self.goes_on(&tries);
                    break;
                }
                Err(source @ consume::Error::Rejoin { .. }) if attempt >= SEEKS_REFUSED_MAX => {
                    self.rejoin(state, &source)?;
                    break;
                }
                Err(source) => self.endure(source, &mut tries)?,
            }
        }
        Ok(())
    }

    /// Gives all partitions back and takes them over anew: the only way to read on where a position was not in the log
    /// any more. Which range was lost is said when the partition is restored. More and more slowly where that does not
    /// help, and at last not at all.
    pub(super) fn rejoin(&self, state: &mut State, why: &dyn std::fmt::Display) -> Result<(), Error> {
        // Without a partition there is none to give back, and nothing that would tell when to ask for them again.
        if state.rejoining || state.owned.is_empty() {
            return Ok(());
        }
        let in_a_row = state.rejoins.one_more(self.clock.instant());
        if in_a_row >= FAILURES_IN_A_ROW_MAX {
            return Err(Error::KeepsRejoining {
                worker: self.number,
                why: why.to_string(),
            });
        }
        tracing::warn!(
            worker = self.number,
            %why,
            in_a_row,
            "gives its partitions back, to take them over anew"
        );
        if in_a_row > 1 {
            self.pause(in_a_row - 1);
        }
        (state.rejoining, state.joined) = (true, false);
        self.metrics.rewinds.inc();
        self.source.unsubscribe();
        Ok(())
    }

    /// Builds the coalescers of `partitions` from what is committed; returns where to read each from.
    fn restore(
        &self,
        state: &mut State,
        partitions: &[Partition],
        tries: &mut Tries,
    ) -> Result<Vec<(Partition, Offset)>, Error> {
        for partition in partitions {
            state.owned.remove(partition);
        }
        let committed = self.ask_committed(partitions, tries)?;
        let now = self.clock.now();
        let limits = self.limits_of_each(state.owned.len() + committed.len());
        let place = Place {
            brokers: &self.settings.kafka.brokers,
            topic: &self.settings.consume.topic,
            group: &self.settings.consume.group,
        };
        let mut positions = Vec::with_capacity(committed.len());
        for committed in &committed {
            let (checkpoint, lost) = state_of(committed, place, now, &mut state.losses).map_err(Box::new)?;
            self.metrics.lost_range.inc_by(lost);
            if checkpoint.run.started_at == now {
                let cause = checkpoint.run.cause.as_str();
                self.metrics.runs.with_label_values(&[cause]).inc();
            }
            let owned = Owned::restore(committed, checkpoint, limits, self.clock.instant());
            positions.push((committed.partition, owned.next()));
            state.owned.insert(committed.partition, owned);
        }
        Ok(positions)
    }

    /// Shares the memory that chunks may take among the partitions held.
    fn limits_of_each(&self, partitions: usize) -> Limits {
        let mut limits = self.settings.limits;
        limits.chunk.bytes_max = (limits.chunk.bytes_max / partitions.max(1)).max(CHUNK_BYTES_MIN);
        limits
    }

    fn tries(&self) -> Tries {
        Tries {
            failures: 0,
            began: self.clock.instant(),
            outage: Outage::default(),
            doubt: Outage::default(),
        }
    }

    /// Says that what was tried again is done.
    fn goes_on(&self, tries: &Tries) {
        for over in [&tries.outage, &tries.doubt] {
            let Some(over) = over.over(self.clock.instant()) else {
                continue;
            };
            let (after, failures) = (over.lasted, over.failures);
            tracing::info!(
                worker = self.number,
                ?after,
                failures,
                "the brokers told the committed offsets"
            );
        }
    }

    /// Asks for the committed offsets until they are told, for a bounded time.
    fn ask_committed(
        &self,
        partitions: &[Partition],
        tries: &mut Tries,
    ) -> Result<Vec<consume::Committed>, Error> {
        let mut short_since = None;
        loop {
            match self.source.committed(partitions) {
                Ok(committed) => {
                    let Some(short) = committed.iter().find(|one| ends_too_early(one)) else {
                        return Ok(committed);
                    };
                    let since = *short_since.get_or_insert_with(|| self.clock.instant());
                    if self.elapsed(since) >= SHORT_LOG_PATIENCE {
                        // What is believed is said when the partition is restored: it has not passed.
                        tries.doubt = Outage::default();
                        return Ok(committed);
                    }
                    self.doubt(short, tries)?;
                }
                Err(source) => {
                    // Who was asked before may have been deposed, and who is asked next too.
                    short_since = None;
                    self.endure(source, tries)?;
                }
            }
        }
    }

    /// Waits before the next question about a log that is told to end before what was read of it. Whoever is to stop has no time
    /// for that, and must not commit what it doubts: it leaves the partition to the next owner.
    fn doubt(&self, short: &consume::Committed, tries: &mut Tries) -> Result<(), Error> {
        if self.stop.is_cancelled() {
            return Err(Error::Consume {
                worker: self.number,
                source: consume::Error::doubtful("learn where a log ends before the stop"),
            });
        }
        tries.failures += 1;
        self.metrics.short_logs.inc();
        if let Some(left_out) = tries.doubt.failed(self.clock.instant()) {
            self.gate.not_ready("waits for the end of a log");
            tracing::warn!(
                worker = self.number,
                partition = %short.partition,
                log_end = %short.log_end,
                left_out,
                "a log is told to end before what was read of it: asks again for {SHORT_LOG_PATIENCE:?}, its leader may be an old one"
            );
        }
        self.pause(tries.failures);
        Ok(())
    }

    /// Waits before the next try, or gives up: at once where no try can help, else when it has been tried for long enough.
    fn endure(&self, source: consume::Error, tries: &mut Tries) -> Result<(), Error> {
        let beyond = self.settings.transaction_timeout + PATIENCE_BEYOND_TRANSACTION;
        let patience = beyond.max(PATIENCE_MIN);
        // Once a stop is asked for no pause waits any more.
        let is_out_of_tries = self.stop.is_cancelled() && tries.failures >= FAILURES_IN_A_ROW_MAX;
        if !source.passes() || is_out_of_tries || self.elapsed(tries.began) >= patience {
            return Err(Error::Consume {
                worker: self.number,
                source,
            });
        }
        tries.failures += 1;
        let error = causes(&source);
        // A rebalance is no failure, however many questions it makes void.
        if !matches!(source, consume::Error::Rebalanced { .. })
            && let Some(left_out) = tries.outage.failed(self.clock.instant())
        {
            self.gate.not_ready("waits for the committed offsets");
            tracing::warn!(
                worker = self.number, %error, left_out,
                "the consumer tries again, for up to {patience:?}"
            );
        } else {
            tracing::debug!(worker = self.number, tries.failures, %error, "the consumer tries again");
        }
        self.pause(tries.failures);
        Ok(())
    }

    /// Commits what is there while the generation still allows it, then gives the partitions back.
    pub(super) fn hand_over(&self, state: &mut State, partitions: &[Partition]) -> Result<(), Error> {
        self.commit_last(state, partitions, |error| {
            tracing::info!(
                worker = self.number,
                error = %causes(error),
                "the last transaction before a handover was refused"
            );
        })?;
        self.release(state, partitions, "revoked")
    }

    /// Gives back partitions that are someone else's already.
    pub(super) fn drop_lost(&self, state: &mut State, partitions: &[Partition]) -> Result<(), Error> {
        state.joined = false;
        self.release(state, partitions, "lost")
    }

    fn release(&self, state: &mut State, partitions: &[Partition], how: &'static str) -> Result<(), Error> {
        for partition in partitions {
            state.owned.remove(partition);
            state.aborts.forget(*partition);
            self.metrics.gone(*partition);
        }
        self.metrics
            .revoked
            .with_label_values(&[how])
            .inc_by(partitions.len() as u64);
        let numbers: Vec<_> = partitions.iter().map(|partition| partition.number()).collect();
        tracing::info!(worker = self.number, partitions = ?numbers, how, "partitions given back");
        let mut released = self.source.release(partitions);
        // Not before the last is gone: librdkafka would forget an `unsubscribe` that waits for a rebalance to end.
        if state.rejoining && state.owned.is_empty() {
            state.rejoining = false;
            released = released.and_then(|()| self.source.subscribe());
        }
        released.map_err(|source| Error::Consume {
            worker: self.number,
            source,
        })
    }

    /// Leaves the group, so that others take over at once (a static member's place is kept for its return).
    pub(super) fn leave(&self, state: &mut State) -> Result<(), Error> {
        let began = self.clock.instant();
        state.rejoining = false;
        self.source.close().map_err(|source| Error::Consume {
            worker: self.number,
            source,
        })?;
        while !self.source.is_closed() && self.elapsed(began) < self.settings.drain_timeout {
            match self.source.poll(WAIT_MAX) {
                Input::Revoked(partitions) => self.release(state, &partitions, "revoked")?,
                Input::Lost(partitions) => self.release(state, &partitions, "lost")?,
                Input::Assigned(partitions) => {
                    self.source
                        .release(&partitions)
                        .map_err(|source| Error::Consume {
                            worker: self.number,
                            source,
                        })?;
                }
                Input::Batch(_) | Input::LogEnd(_) | Input::Nothing | Input::Error(_) => {}
            }
        }
        tracing::info!(worker = self.number, "worker stopped");
        Ok(())
    }
}
