//! Bugs, planted into the models so that the invariants can show that they see.
//!
//! Those of the worker itself are planted where its clients are asked: what it would do wrong, they do for it.

/// A wrong broker or client: what the worker's own protection, or theirs, would otherwise prevent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    None,
    /// Offsets are committed when they are sent, whatever becomes of the transaction.
    OffsetsOutsideTheTransaction,
    /// A commit names the position, as if no window were open.
    PositionCommitted,
    /// The offsets of an aborted transaction are committed, its outputs are not.
    OffsetsOfAbortedCommitted,
    /// One open window is left out of the metadata.
    WindowForgotten,
    /// Reading begins at the committed offset: duplicates of what stands before are not recognised.
    HorizonSkipped,
    /// After an abort the records of the transaction are still there, and go out with the next.
    OutputsKeptAfterAbort,
    /// A record that was in flight at an abort arrives in the next transaction.
    RecordsInFlightAtAbort,
    /// After an abort the worker goes on with the windows and the position that it had.
    WindowsKeptAfterAbort,
    /// After an abort reading goes on where it was.
    NoRewind,
    /// The group lets anyone commit.
    NoFencing,
    /// The transaction coordinator lets a zombie's epoch pass.
    NoEpoch,
    /// Now and then a new owner is told that nothing was ever committed: a first run begins once more.
    CommittedForgotten,
    /// A new owner is told the offset that stood before the pending transaction.
    UnstableOffsets,
    /// The offsets of a transaction are committed, its outputs are not.
    OutputsLater,
    /// A commit that was refused or lost is taken for done.
    LostCommitTakenForDone,
    /// Records are handed out seconds after they could be read.
    RecordsHeldBack,
    /// Now and then an assignment is not told to its member.
    AssignmentNotTold,
    /// The end of the log is not told while the dedupe horizon is read again: that this stands still goes unseen.
    StuckReplayUnseen,
    /// A dead letter is not written.
    DeadLetterDropped,
}

impl Planted {
    pub(super) const ALL: [Self; 19] = [
        Self::OffsetsOutsideTheTransaction,
        Self::OffsetsOfAbortedCommitted,
        Self::PositionCommitted,
        Self::WindowForgotten,
        Self::HorizonSkipped,
        Self::OutputsKeptAfterAbort,
        Self::RecordsInFlightAtAbort,
        Self::WindowsKeptAfterAbort,
        Self::NoRewind,
        Self::NoFencing,
        Self::NoEpoch,
        Self::CommittedForgotten,
        Self::UnstableOffsets,
        Self::OutputsLater,
        Self::LostCommitTakenForDone,
        Self::RecordsHeldBack,
        Self::AssignmentNotTold,
        Self::StuckReplayUnseen,
        Self::DeadLetterDropped,
    ];
}
