//! The transaction coordinator: epochs, what is open, what is decided and not yet applied.

use std::collections::BTreeMap;

use frontstream::coalesce::Output;
use frontstream::model::{Checkpoint, Offset, Partition};

use super::super::group::{Claim, Refused};
use super::super::oracle::{End, Written};
use super::super::planted::Planted;
use super::super::story::Story;
use super::{Broker, Position, closed_by};

/// A transaction open for longer is aborted by its coordinator.
const TRANSACTION_TIMEOUT_US: u64 = 10_000_000;

/// An offset that waits for its transaction.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    position: Position,
    checkpoint: Checkpoint,
}

/// What the coordinator knows of one transactional id.
#[derive(Default)]
pub(super) struct Transactional {
    epoch: u32,
    /// The epoch was raised because the transaction was open for too long.
    expired: bool,
    pub(super) open: Option<Open>,
    /// How the last transaction ended.
    committed_last: Option<bool>,
}

impl Transactional {
    /// Refuses a producer of an earlier epoch.
    fn refusal(&self, story: &mut Story) -> Refused {
        if self.expired {
            story.count("expired producer");
            return Refused::Expired;
        }
        story.count("fenced producer");
        Refused::Fenced
    }
}

pub(super) struct Open {
    since_us: u64,
    records: Vec<(Partition, Written)>,
    offsets: BTreeMap<Partition, Pending>,
    /// Decided, and not yet applied everywhere.
    ending: Option<Ending>,
}

#[derive(Clone, Copy)]
pub(super) struct Ending {
    commit: bool,
    at_us: u64,
}

impl Open {
    pub(super) fn due_us(&self) -> u64 {
        self.ending
            .map_or(self.since_us + TRANSACTION_TIMEOUT_US, |ending| ending.at_us)
    }
}

impl Broker {
    /// Ends what is due to end of one transactional id.
    pub(super) fn pass_one(&mut self, id: &str) {
        let now_us = self.now_us;
        let Some(one) = self.transactionals.get_mut(id) else {
            return;
        };
        if one.open.as_ref().is_none_or(|open| now_us < open.due_us()) {
            return;
        }
        let open = one.open.take().expect("looked at above");
        match open.ending {
            Some(ending) => {
                one.committed_last = Some(ending.commit);
                if ending.commit {
                    self.apply(open);
                } else {
                    self.undo(open);
                }
            }
            None => {
                one.epoch += 1;
                one.expired = true;
                one.committed_last = Some(false);
                self.story.count("abort by the coordinator, for time");
                self.undo(open);
            }
        }
    }

    /// Takes a transactional id over: `None` while its last transaction is not yet applied everywhere.
    pub(in super::super) fn init(&mut self, id: &str) -> Option<u32> {
        self.pass();
        let one = self.transactionals.entry(id.to_owned()).or_default();
        if one.open.as_ref().is_some_and(|open| open.ending.is_some()) {
            return None;
        }
        one.open = None;
        (one.committed_last, one.expired) = (None, false);
        one.epoch += 1;
        Some(one.epoch)
    }

    fn opened(&mut self, id: &str, epoch: u32) -> Result<&mut Open, Refused> {
        let now_us = self.now_us;
        let one = self.transactionals.get_mut(id).expect("it was taken over");
        if one.epoch != epoch {
            return Err(one.refusal(&mut self.story));
        }
        let open = one.open.get_or_insert_with(|| Open {
            since_us: now_us,
            records: Vec::new(),
            offsets: BTreeMap::new(),
            ending: None,
        });
        if open.ending.is_some() {
            return Err(Refused::Busy);
        }
        self.next_us = self.next_us.min(open.due_us());
        Ok(open)
    }

    /// Stores a record within the open transaction of `id`, or opens one.
    pub(in super::super) fn produce(
        &mut self,
        id: &str,
        epoch: u32,
        partition: Partition,
        record: Written,
    ) -> Result<(), Refused> {
        self.opened(id, epoch)?.records.push((partition, record));
        Ok(())
    }

    /// Adds offsets to the transaction, if the member may commit them.
    pub(in super::super) fn add_offsets(
        &mut self,
        id: &str,
        epoch: u32,
        claim: &Claim,
        offsets: &[(Partition, Offset, String, Checkpoint)],
    ) -> Result<(), Refused> {
        if self.planted != Planted::NoFencing {
            self.group.admit(
                claim,
                offsets.iter().map(|(partition, ..)| *partition),
                &mut self.story,
            )?;
        }
        self.appended += 1;
        let appended = self.appended;
        let outside = self.planted == Planted::OffsetsOutsideTheTransaction;
        let open = self.opened(id, epoch)?;
        for (partition, offset, metadata, checkpoint) in offsets {
            let pending = Pending {
                position: Position {
                    offset: *offset,
                    metadata: metadata.clone(),
                    appended,
                },
                checkpoint: checkpoint.clone(),
            };
            open.offsets.insert(*partition, pending);
        }
        if outside {
            let offsets = open.offsets.clone();
            for (partition, pending) in offsets {
                self.log_mut(partition).committed = Some(pending.position);
            }
        }
        Ok(())
    }

    /// Ends the transaction; asked again, it answers the same. `after_us`: until it is applied everywhere.
    pub(in super::super) fn end(
        &mut self,
        id: &str,
        epoch: u32,
        commit: bool,
        after_us: u64,
    ) -> Result<(), Refused> {
        let now_us = self.now_us;
        let one = self.transactionals.get_mut(id).expect("it was taken over");
        if one.epoch != epoch {
            return Err(one.refusal(&mut self.story));
        }
        let Some(open) = &mut one.open else {
            return match one.committed_last {
                Some(committed) if committed != commit => Err(Refused::Stale),
                Some(_) | None => Ok(()),
            };
        };
        match open.ending {
            Some(ending) if ending.commit == commit => Ok(()),
            Some(_) => Err(Refused::Busy),
            None => {
                open.ending = Some(Ending {
                    commit,
                    at_us: now_us + after_us,
                });
                self.next_us = self.next_us.min(now_us + after_us);
                self.story.count(if after_us > 0 {
                    "application of a commit delayed"
                } else {
                    "commit"
                });
                self.pass();
                Ok(())
            }
        }
    }

    /// Says whether a transaction is open and its end not decided.
    pub(in super::super) fn is_undecided(&self, id: &str) -> bool {
        let open = self.transactionals.get(id).and_then(|one| one.open.as_ref());
        open.is_some_and(|open| open.ending.is_none())
    }

    /// Returns the epoch that is valid now.
    pub(in super::super) fn epoch(&self, id: &str) -> u32 {
        self.transactionals[id].epoch
    }

    /// Says whether the outcome of an offset of this partition is not known yet.
    pub(in super::super) fn is_pending(&self, partition: Partition) -> bool {
        let mut open = self.transactionals.values().filter_map(|one| one.open.as_ref());
        open.any(|open| open.offsets.contains_key(&partition))
    }

    /// Returns what the worker in that seat is told of a partition's committed offset.
    pub(in super::super) fn told(&mut self, seat: usize, partition: Partition) -> Option<Position> {
        let kept = self.kept.remove(&(seat, partition));
        kept.or_else(|| self.log(partition).committed.clone())
    }

    /// Remembers what an aborted transaction said, where that bug is planted.
    pub(in super::super) fn keep(&mut self, seat: usize, id: &str) {
        if self.planted != Planted::WindowsKeptAfterAbort {
            return;
        }
        let open = self.transactionals.get(id).and_then(|one| one.open.as_ref());
        for (partition, pending) in open.iter().flat_map(|open| &open.offsets) {
            self.kept.insert((seat, *partition), pending.position.clone());
        }
    }

    pub(in super::super) fn has_open_transactions(&self) -> bool {
        self.transactionals.values().any(|one| one.open.is_some())
    }

    /// Forgets an aborted transaction: nobody ever sees any of it.
    fn undo(&mut self, open: Open) {
        if self.planted != Planted::OffsetsOfAbortedCommitted {
            return;
        }
        for (partition, pending) in open.offsets {
            self.log_mut(partition).committed = Some(pending.position);
        }
    }

    /// Makes a committed transaction visible: all of it at once.
    fn apply(&mut self, open: Open) {
        self.tell(|| {
            let offsets: Vec<_> = open
                .offsets
                .iter()
                .map(|(partition, pending)| (partition, &pending.checkpoint))
                .collect();
            let outputs: Vec<_> = open
                .records
                .iter()
                .map(|(partition, written)| (partition, &written.output))
                .collect();
            format!("applied: {offsets:?} {outputs:?}")
        });
        let forgotten = self.planted == Planted::OutputsLater && open.offsets.len() + open.records.len() > 3;
        for (partition, pending) in open.offsets {
            self.note_run(partition, pending.checkpoint.run);
            let log = self.log_mut(partition);
            let run = pending.checkpoint.run;
            log.ends.retain(|end| end.run != run);
            log.ends.push(End {
                run,
                position: pending.checkpoint.position,
                window_starts: pending.checkpoint.window_starts,
            });
            if log
                .committed
                .as_ref()
                .is_none_or(|committed| committed.appended <= pending.position.appended)
            {
                log.committed = Some(pending.position);
            }
        }
        for (partition, written) in open.records {
            match &written.output {
                Output::Refresh(refresh) => {
                    self.story.count("refresh");
                    self.story.count(closed_by(refresh));
                    self.look_at_the_time(partition, refresh);
                }
                Output::DeadLetter(_) => self.story.count("dead letter"),
            }
            if !forgotten {
                self.log_mut(partition).written.push(written);
            }
        }
    }
}
