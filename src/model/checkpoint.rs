//! What is committed with an offset: where a partition's open windows begin, and which run counts them.

use super::{Offset, Timestamp};

/// Why a run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunCause {
    /// The group had no committed offset for the partition.
    First,
    /// An operator set the offset: it was committed without our metadata.
    Reset,
    /// The committed offset was no longer retained: what lay before `start` is lost to this group.
    Retention,
}

impl RunCause {
    /// All causes, in the order of the schema.
    pub const ALL: [Self; 3] = [Self::First, Self::Reset, Self::Retention];

    /// Returns the name used in schemas, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Reset => "reset",
            Self::Retention => "retention",
        }
    }
}

/// One uninterrupted count of a partition: from where it was last started without a checkpoint of ours.
///
/// Every refresh carries it, so that a replay is told from a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// When the run began, by the clock of the processor that began it.
    pub started_at: Timestamp,
    /// The first offset the run counts.
    pub start: Offset,
    /// Why it began.
    pub cause: RunCause,
}

/// The state of one partition, as its committed offset and the metadata beside it carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The run that counts this partition.
    pub run: Run,
    /// The next offset to read that was never read before.
    pub position: Offset,
    /// The offsets at which the open windows begin: strictly ascending, all below `position`.
    pub window_starts: Vec<Offset>,
}

impl Checkpoint {
    /// Returns the state of a partition that begins a run: no open window, nothing read.
    pub fn begin(run: Run) -> Self {
        Self {
            run,
            position: run.start,
            window_starts: Vec::new(),
        }
    }

    /// Returns the offset to commit: that of the oldest event in an open window, or the position.
    pub fn committed_offset(&self) -> Offset {
        self.window_starts.first().copied().unwrap_or(self.position)
    }

    /// Returns an upper bound of the bytes that a checkpoint takes as commit metadata (`wire::checkpoint_v1`),
    /// from what is known in constant time: how many windows are open, and how many offsets lie from the
    /// oldest start to the newest.
    ///
    /// It stands here because the core must stay within the bound and the codec must keep it.
    pub fn metadata_bytes_bound(windows: usize, span: u64) -> usize {
        /// `fs1:`.
        const PREFIX: usize = 4;
        /// Flags 1, run's time 10, run's start 9, position 9, count 5, distance of the oldest start 9,
        /// Rice parameter 1, checksum 4.
        const FIXED: usize = 48;
        let gaps = u64::try_from(windows.saturating_sub(1)).unwrap_or(u64::MAX);
        let excess = span.saturating_sub(gaps);
        let parameter = rice_parameter(gaps, excess);
        let bits = gaps
            .saturating_mul(u64::from(parameter) + 1)
            .saturating_add(excess >> parameter);
        let bytes = usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX);
        let bytes = bytes.saturating_add(FIXED);
        PREFIX.saturating_add(bytes.saturating_mul(4).div_ceil(3))
    }
}

/// Returns the Rice parameter for `count` numbers that add up to `sum`: the binary logarithm of their mean.
///
/// A number costs `parameter + 1` bits and one more for each whole `2^parameter` in it, so that all of them
/// cost at most `count * (parameter + 1) + (sum >> parameter)` bits however the sum is spread.
pub(crate) fn rice_parameter(count: u64, sum: u64) -> u32 {
    sum.checked_div(count).and_then(u64::checked_ilog2).unwrap_or(0)
}
