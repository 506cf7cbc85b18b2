//! One partition in a worker's hands: its coalescer, and what it has put out since the last commit.

use std::collections::BTreeMap;

use crate::coalesce::{Coalescer, Limits, Output};
use crate::consume::Committed;
use crate::emit::DeadLetter;
use crate::model::{Checkpoint, Offset, Partition, Refresh, Run, RunCause, Timestamp};
use crate::wire::checkpoint_v1;

/// The metadata beside a committed offset is not ours to read: nothing is guessed, the worker stops.
#[derive(Debug, thiserror::Error)]
#[error(
    "partition {partition} of {topic}: the metadata of the committed offset {offset} cannot be decoded. Nothing was \
     read or written. If another consumer or a newer frontstream committed it, start that one; otherwise stop every \
     processor of group {group} and set the partition's offset anew, which starts it with no open window: \
     kafka-consumer-groups --bootstrap-server BROKERS --group {group} --topic {topic}:{partition} \
     --reset-offsets --to-offset {offset} --execute"
)]
pub(super) struct UnreadableMetadata {
    topic: String,
    group: String,
    partition: Partition,
    offset: Offset,
    source: checkpoint_v1::Error,
}

/// One partition that this worker owns.
pub(super) struct Owned {
    pub(super) coalescer: Coalescer,
    /// What the group's committed offset and metadata say, as far as this worker knows.
    pub(super) committed: Checkpoint,
    /// Put out since the last commit, in the order to emit.
    pub(super) refreshes: Vec<Refresh>,
    /// Put out since the last commit.
    pub(super) dead_letters: Vec<DeadLetter>,
    /// Read and undecodable, until the coalescer says that they are due.
    held: BTreeMap<Offset, DeadLetter>,
    /// What lies before was read by an earlier owner.
    restored_position: Offset,
}

impl Owned {
    /// Takes the partition over in `state`.
    pub(super) fn restore(partition: Partition, state: Checkpoint, limits: Limits) -> Self {
        Self {
            restored_position: state.position,
            coalescer: Coalescer::restore(partition, state.clone(), limits),
            committed: state,
            refreshes: Vec::new(),
            dead_letters: Vec::new(),
            held: BTreeMap::new(),
        }
    }

    /// Keeps the bytes of a record that could not be decoded until the coalescer lets it out.
    pub(super) fn hold(&mut self, letter: DeadLetter) {
        if letter.offset >= self.committed.committed_offset() {
            self.held.insert(letter.offset, letter);
        }
    }

    /// Takes over what the coalescer has put out.
    pub(super) fn drain(&mut self) {
        while let Some(output) = self.coalescer.poll_output() {
            match output {
                Output::Refresh(refresh) => self.refreshes.push(refresh),
                Output::DeadLetter(offset) => {
                    let letter = self
                        .held
                        .remove(&offset)
                        .expect("every undecodable record is held");
                    self.dead_letters.push(letter);
                }
            }
        }
        if !self.coalescer.is_restoring() {
            // What was read before the restart and not let out again was set aside by an earlier transaction.
            self.held.retain(|offset, _| *offset >= self.restored_position);
        }
    }

    /// Says whether something waits for a commit.
    pub(super) fn has_outputs(&self) -> bool {
        !self.refreshes.is_empty() || !self.dead_letters.is_empty()
    }
}

/// Turns what the group committed into the state to start from, and begins a run where it holds none of ours.
///
/// # Errors
///
/// [`UnreadableMetadata`]: the worker stops.
pub(super) fn state_of(
    committed: &Committed,
    topic: &str,
    group: &str,
    now: Timestamp,
) -> Result<Checkpoint, UnreadableMetadata> {
    let partition = committed.partition;
    let begin = |start, cause| {
        Checkpoint::begin(Run {
            started_at: now,
            start,
            cause,
        })
    };
    let Some(offset) = committed.offset else {
        tracing::info!(%partition, start = %committed.log_start, "no committed offset: starts at the earliest");
        return Ok(begin(committed.log_start, RunCause::First));
    };
    if offset < committed.log_start || offset > committed.log_end {
        tracing::error!(
            %partition, committed = %offset, log_start = %committed.log_start, log_end = %committed.log_end,
            "the committed offset is not in the log any more: goes on at the earliest retained; the events from the \
             committed offset to the start of the log are lost to this group"
        );
        return Ok(begin(committed.log_start, RunCause::Retention));
    }
    if committed.metadata.is_empty() {
        tracing::info!(%partition, start = %offset, "offset set by a tool: starts a new run with no open window");
        return Ok(begin(offset, RunCause::Reset));
    }
    checkpoint_v1::decode(&committed.metadata, offset).map_err(|source| UnreadableMetadata {
        topic: topic.to_owned(),
        group: group.to_owned(),
        partition,
        offset,
        source,
    })
}
