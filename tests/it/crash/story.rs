//! What befell the processors, counted.

use std::collections::BTreeMap;
use std::fmt;

/// Counts by name; a name that is neither in [`Story::KINDS`] nor in [`Story::RARE`] is a mistake of the simulation.
#[derive(Debug, Default)]
pub(super) struct Story(BTreeMap<&'static str, u64>);

impl Story {
    /// What may happen, and so seldom that no campaign has to show it.
    const RARE: &'static [&'static str] = &["exit: taken over anew too often"];

    /// Everything that must have happened for a campaign to prove anything.
    pub(super) const KINDS: &'static [&'static str] = &[
        "abort answer lost",
        "abort by the coordinator, for time",
        "abort lost",
        "append",
        "application of a commit delayed",
        "assignment",
        "assignment handed to a returning static member",
        "begin refused",
        "clock stepped back",
        "clock stepped forward",
        "commit",
        "commit answer lost",
        "commit lost",
        "commit of a dead process arrives late",
        "commit refused",
        "consumer failed for good",
        "coordinator away",
        "crash after an effect",
        "crash before an effect",
        "crash between two turns",
        "crash inside a transaction",
        "dead letter",
        "delivery failed",
        "duplicate",
        "end of the log told early",
        "exit: aborted too often",
        "exit: cannot go on",
        "exit: expired",
        "exit: fenced",
        "exit: instance id not released",
        "exit: not answered too often",
        "exit: outcome not told",
        "expired producer",
        "fenced producer",
        "fenced static member",
        "instance id not released",
        "instance id taken by a second process",
        "late old record",
        "lost assignment",
        "member expired",
        "offset fetch waited for a transaction",
        "offset reset by an operator",
        "offsets answer lost",
        "offsets lost",
        "old end of a log told",
        "partition added",
        "partition refused for good",
        "position left the log",
        "position left the log, not told",
        "question not answered",
        "queue full",
        "rebalance",
        "record",
        "refresh",
        "refresh closed by cap",
        "refresh closed by chunk",
        "refresh closed by gap",
        "refresh closed by pressure",
        "refresh closed by stop",
        "retention",
        "revocation",
        "run begun by first",
        "run begun by reset",
        "run begun by retention",
        "seek failed",
        "stale member refused",
        "stall inside a transaction",
        "stall outside a transaction",
        "stop",
        "timed window",
        "undecodable record",
        "work of others between two steps",
        "zombie came back",
    ];

    pub(super) fn count(&mut self, kind: &'static str) {
        debug_assert!(
            Self::KINDS.contains(&kind) || Self::RARE.contains(&kind),
            "{kind}"
        );
        *self.0.entry(kind).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    pub(super) fn of(&self, kind: &'static str) -> u64 {
        assert!(Self::KINDS.contains(&kind), "{kind}");
        self.0.get(kind).copied().unwrap_or_default()
    }

    /// Fails when something never happened: such a campaign proves nothing of it.
    pub(super) fn assert_eventful(&self) {
        let absent: Vec<_> = Self::KINDS.iter().filter(|kind| self.of(kind) == 0).collect();
        assert!(absent.is_empty(), "never happened: {absent:?}");
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, count) in &self.0 {
            writeln!(f, "{count:>10} {kind}")?;
        }
        Ok(())
    }
}
