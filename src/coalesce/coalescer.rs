//! The coalescer: zones of the log, windows, chunks, pressure and checkpoints.

use std::collections::VecDeque;
use std::mem;

use crate::model::{Change, Checkpoint, CloseReason, Offset, Partition, Run, Timestamp};

use super::clock::{Clock, Now, Tick, Went, millis};
use super::dedupe::{Dedupe, Seen};
use super::face::{Content, Counts, Limits, Output, Record};
use super::key::{Key, keys};
use super::window::{Entry, LaneMillis, Window};
use super::windows::{Slot, Windows};

/// Coalesces one partition: built on assignment, dropped on revocation.
#[derive(Debug)]
pub struct Coalescer {
    partition: Partition,
    run: Run,
    limits: Limits,
    lanes: LaneMillis,
    clock: Clock,
    /// Records below are the dedupe horizon: remembered, nothing else.
    committed: Offset,
    /// What of the checkpoint is still to be read again; `None` once it has been, or if nothing was open.
    restoring: Option<Restoring>,
    /// The lowest offset that the next record may have.
    unread: Offset,
    /// The next offset that was never read, by this processor or one before.
    position: Offset,
    dedupe: Dedupe,
    windows: Windows,
    behind: Behind,
    outputs: VecDeque<Output>,
    counts: Counts,
}

/// What of a checkpoint is still to be read again.
#[derive(Debug)]
struct Restoring {
    /// Ascending; those that the reading has passed are gone.
    starts: VecDeque<Offset>,
}

/// Whether the partition is read in chunks.
#[derive(Debug, Default)]
struct Behind {
    /// The chunk that is open.
    chunk: Option<Chunk>,
    /// The chunk that a fresh record or the end of the log ended, until due windows have been closed: an old
    /// record that comes before that goes on with it. Where a receiver's clock is behind, old records alternate
    /// with fresh ones and ends of the log, and a chunk begun anew at each of them would never end.
    left: Option<Chunk>,
    /// A chunk reached its bounds within this batch: no other begins before the next, so that what closed can
    /// be committed first.
    full: bool,
}

#[derive(Clone, Copy, Debug)]
struct Chunk {
    opened: Tick,
    dead_letters: usize,
}

/// What the record of a dead letter is assumed to take in the shell's memory until the chunk is committed:
/// several times a usual webhook (2-3 KB), so that a flood of them ends the chunk early rather than late.
const DEAD_LETTER_BYTES: usize = 16 * 1024;

/// The share of a bound that is freed when it is passed, so that the next window does not pass it again.
const SLACK: usize = 8;

impl Coalescer {
    /// Takes up a partition where its committed offset and metadata say, or where a run begins.
    ///
    /// # Panics
    ///
    /// When a limit is out of its range, or the checkpoint's starts do not ascend below its position: settings and
    /// codec refuse both.
    pub fn restore(partition: Partition, checkpoint: Checkpoint, limits: Limits) -> Self {
        assert!(
            limits.metadata_bytes_max >= Limits::METADATA_BYTES_MIN,
            "metadata of {} bytes holds no checkpoint",
            limits.metadata_bytes_max
        );
        assert!(
            limits.chunk.windows_max > 0 && limits.chunk.bytes_max > 0,
            "a chunk holds a window"
        );
        let starts = &checkpoint.window_starts;
        assert!(
            starts.is_sorted_by(|earlier, later| earlier < later)
                && starts.last().is_none_or(|last| *last < checkpoint.position),
            "window starts ascend below the position"
        );
        Self {
            partition,
            run: checkpoint.run,
            limits,
            lanes: LaneMillis::new(&limits.lanes),
            clock: Clock::default(),
            committed: checkpoint.committed_offset(),
            unread: Offset::ZERO,
            position: checkpoint.position,
            dedupe: Dedupe::new(limits.dedupe),
            windows: Windows::default(),
            behind: Behind::default(),
            outputs: VecDeque::new(),
            counts: Counts::default(),
            restoring: (!checkpoint.window_starts.is_empty()).then(|| Restoring {
                starts: checkpoint.window_starts.into(),
            }),
        }
    }

    /// Returns where the shell must start reading, so that duplicates of what stands before the committed offset
    /// are recognised: as far back as the dedupe horizon, not below `log_start`.
    ///
    /// A `log_start` above the committed offset means that events are lost: the shell begins a run there instead.
    pub fn read_from(&self, log_start: Offset) -> Offset {
        self.committed.back(self.limits.dedupe.records).max(log_start)
    }

    /// Takes every record that is ready, read at `now`. Follow it with [`Coalescer::on_deadline`].
    ///
    /// A window that is due takes what is ready for it first: fewer refreshes, none later.
    ///
    /// # Panics
    ///
    /// When a record does not stand above those read before: the shell must restore after it rewinds.
    pub fn on_batch<'a>(&mut self, records: impl IntoIterator<Item = Record<'a>>, now: Timestamp) {
        let now = self.read_clock(now);
        self.behind.full = false;
        for record in records {
            self.on_record(&record, now);
        }
        self.relieve(now.tick);
        self.windows.settle();
    }

    /// Closes what is due at `now`.
    pub fn on_deadline(&mut self, now: Timestamp) {
        let now = self.read_clock(now);
        if self.restoring.is_some() {
            return;
        }
        if let Some(chunk) = self.behind.chunk {
            if now.tick >= self.chunk_end(chunk) {
                self.close_all(CloseReason::Chunk);
            }
        } else {
            self.behind.left = None;
            self.close_due(now.tick);
        }
        self.windows.settle();
    }

    /// Hears that the reader reached the end of the partition: what follows is not a backlog, so a chunk ends.
    ///
    /// Its windows stay open and close by their own lanes. Closing them here instead would switch coalescing off
    /// where the receiver's clock is behind ours by more than the longest cap: every event would look like a
    /// backlog of one, and close as soon as it was read.
    ///
    /// An end below the recorded position is not the end: a new leader reports an old one until its followers have
    /// caught up. Taking it for the end would emit again what stands between.
    pub fn on_log_end(&mut self, now: Timestamp) {
        let now = self.read_clock(now);
        if self.restoring.is_some() {
            self.counts.log_ends_early += 1;
            return;
        }
        self.behind.leave();
        self.relieve(now.tick);
        self.windows.settle();
    }

    /// Closes everything, because the processor stops. While the checkpoint is still being read again nothing is
    /// closed: what is committed stands, and the next owner reads it.
    pub fn on_stop(&mut self, now: Timestamp) {
        self.read_clock(now);
        if self.restoring.is_none() {
            self.close_all(CloseReason::Stop);
            self.windows.settle();
        }
    }

    /// Returns what to write next, in the order to write it.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Coalescer::on_deadline`] has something to close, and why it will close.
    pub fn next_deadline(&self) -> Option<(Timestamp, CloseReason)> {
        if self.restoring.is_some() {
            return None;
        }
        let (at, reason) = match self.behind.chunk {
            Some(chunk) => (self.chunk_end(chunk), CloseReason::Chunk),
            None => self.windows.next_deadline()?,
        };
        Some((self.clock.wall(at), reason))
    }

    /// Returns what to commit with the outputs drained so far; `None` while it cannot be committed: a chunk is
    /// open, or the committed checkpoint has not been read again in full. Outputs then wait for the next one.
    ///
    /// # Panics
    ///
    /// When outputs are not drained: they would be committed as written.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        assert!(
            self.outputs.is_empty(),
            "outputs are drained before a checkpoint is taken"
        );
        if self.behind.chunk.is_some() || self.restoring.is_some() {
            return None;
        }
        debug_assert!(self.fits(self.windows.len(), self.windows.span(), self.windows.bytes(), 0));
        let window_starts: Vec<Offset> = self.windows.starts().collect();
        assert!(
            window_starts.last().is_none_or(|last| *last < self.position),
            "windows begin below the position"
        );
        Some(Checkpoint {
            run: self.run,
            position: self.position,
            window_starts,
        })
    }

    /// Returns the next offset that was never read; what is read again on assignment does not move it.
    pub fn position(&self) -> Offset {
        self.position
    }

    /// Returns the run that counts this partition.
    pub fn run(&self) -> Run {
        self.run
    }

    /// Returns how many windows are open.
    pub fn open_windows(&self) -> usize {
        self.windows.len()
    }

    /// Says whether a chunk of a backlog is being read.
    pub fn is_behind(&self) -> bool {
        self.behind.chunk.is_some()
    }

    /// Says whether the committed checkpoint is still being read again: nothing closes and nothing can be committed.
    pub fn is_restoring(&self) -> bool {
        self.restoring.is_some()
    }

    /// Returns what happened since this was last asked.
    pub fn counts(&mut self) -> Counts {
        mem::take(&mut self.counts)
    }

    fn read_clock(&mut self, now: Timestamp) -> Now {
        let (now, went) = self.clock.read(now);
        match went {
            Went::On => {}
            Went::Back => self.counts.clock_went_back += 1,
        }
        now
    }

    fn on_record(&mut self, record: &Record<'_>, now: Now) {
        let offset = record.offset;
        assert!(
            offset >= self.unread,
            "records ascend: {offset} read again, {} expected",
            self.unread
        );
        self.unread = offset.next();
        if offset < self.committed {
            self.remember(record);
        } else if offset < self.position {
            self.on_replayed(record, now);
        } else {
            self.end_restoring();
            self.position = self.unread;
            self.on_new(record, now);
        }
        if self.unread >= self.position {
            self.end_restoring();
        }
    }

    /// A record of the dedupe horizon.
    fn remember(&mut self, record: &Record<'_>) {
        self.counts.remembered += 1;
        if let Some((_, _, occurrence, _)) = parts(&record.content) {
            self.dedupe.observe(occurrence, record.offset, record.log_time);
        }
    }

    /// A record from the committed offset up to the recorded position: it belongs to an open window, or it was
    /// dealt with before.
    fn on_replayed(&mut self, record: &Record<'_>, now: Now) {
        let starts_window = self.restoring.as_mut().is_some_and(|restoring| {
            let (missing, starts_window) = restoring.pass(record.offset);
            self.counts.starts_missing += missing;
            starts_window
        });
        let Some((change, conversation, occurrence, key)) = parts(&record.content) else {
            self.counts.skipped += 1;
            if starts_window {
                // It was an event when the window opened, and is none to this decoder: it was not emitted.
                self.counts.starts_missing += 1;
                if record.content == Content::Undecodable {
                    self.outputs.push_back(Output::DeadLetter(record.offset));
                }
            }
            return;
        };
        let seen = self.dedupe.observe(occurrence, record.offset, record.log_time);
        let slot = self.windows.find(key, change.tenant, conversation);
        // A start stays a start, whatever the horizon is set to now: its event was not emitted.
        if starts_window || (seen == Seen::First && slot.is_some()) {
            self.counts.restored += 1;
            let at = self.clock.tick(change.received_at).min(now.tick);
            self.put(slot, key, conversation, change, record.offset, at);
        } else {
            self.counts.skipped += 1;
        }
    }

    /// A record that was never read before.
    fn on_new(&mut self, record: &Record<'_>, now: Now) {
        self.behind_or_not(record, now);
        match &record.content {
            Content::Change(change) => self.on_change(change, record, now),
            Content::Undecodable => {
                self.counts.undecodable += 1;
                self.outputs.push_back(Output::DeadLetter(record.offset));
                if let Some(chunk) = &mut self.behind.chunk {
                    chunk.dead_letters += 1;
                }
            }
        }
        self.end_full_chunk();
    }

    fn on_change(&mut self, change: &Change<'_>, record: &Record<'_>, now: Now) {
        let Some(conversation) = change.conversation else {
            self.counts.without_conversation += 1;
            return;
        };
        let keys = keys(change, conversation);
        if self
            .dedupe
            .observe(keys.occurrence, record.offset, record.log_time)
            == Seen::Before
        {
            self.counts.duplicates += 1;
            return;
        }
        let slot = self.windows.find(keys.conversation, change.tenant, conversation);
        self.counts.events += 1;
        self.counts.coalesced += u64::from(slot.is_some());
        self.put(
            slot,
            keys.conversation,
            conversation,
            change,
            record.offset,
            now.tick,
        );
    }

    /// Puts an event into its window, or opens one with it.
    fn put(
        &mut self,
        slot: Option<Slot>,
        key: Key,
        conversation: &str,
        change: &Change<'_>,
        offset: Offset,
        at: Tick,
    ) {
        let entry = Entry { offset, change, at };
        let ids_max = self.limits.event_ids_max;
        match slot {
            Some(slot) => self.windows.join(slot, entry, &self.lanes, ids_max),
            None => self
                .windows
                .open(Window::open(key, conversation, entry, &self.lanes, ids_max)),
        }
    }

    /// Begins a chunk at a record that waited longer than any window may; ends it at one that did not.
    ///
    /// Within a chunk an urgent window waits for the chunk's end even where its own deadline is earlier (2 s
    /// against 800 ms by default). Its event has waited in the backlog for longer than that, and one refresh
    /// after the chunk stands for what would be several within it: that is what the API budget is short of.
    fn behind_or_not(&mut self, record: &Record<'_>, now: Now) {
        let waited = now.wall.saturating_since(record.log_time);
        if waited <= self.limits.lanes.longest_cap() {
            self.behind.leave();
        } else if self.behind.chunk.is_none() && !self.behind.full {
            let chunk = self.behind.left.take().unwrap_or_else(|| {
                self.counts.chunks += 1;
                Chunk {
                    opened: now.tick,
                    dead_letters: 0,
                }
            });
            self.behind.chunk = Some(chunk);
        }
    }

    /// Ends the chunk when it has reached its bounds.
    fn end_full_chunk(&mut self) {
        let Some(chunk) = self.behind.chunk else { return };
        let limits = &self.limits.chunk;
        let bytes = self.windows.bytes() + chunk.dead_letters.saturating_mul(DEAD_LETTER_BYTES);
        if self.windows.len() >= limits.windows_max || bytes >= limits.bytes_max {
            self.close_all(CloseReason::Chunk);
            self.behind.full = true;
        }
    }

    /// Reading has come to the recorded position: what was open is open again.
    fn end_restoring(&mut self) {
        if let Some(restoring) = self.restoring.take() {
            self.counts.starts_missing += restoring.starts.len() as u64;
        }
    }

    fn chunk_end(&self, chunk: Chunk) -> Tick {
        chunk.opened.plus(millis(self.limits.chunk.duration))
    }

    fn close_due(&mut self, now: Tick) {
        let mut due = Vec::new();
        self.windows.due(now, &mut due);
        for slot in due {
            let window = self.windows.close(slot);
            let (_, reason) = window.deadline();
            self.emit(window, reason);
        }
    }

    fn close_all(&mut self, reason: CloseReason) {
        let mut slots = Vec::new();
        self.windows.all(&mut slots);
        self.close(slots, reason);
        self.windows.shrink();
        self.behind = Behind::default();
    }

    /// Closes the oldest windows until the rest fit the bounds, with room to spare. What is due goes first, by
    /// its own reason. A chunk has bounds of its own.
    fn relieve(&mut self, now: Tick) {
        let fits = |core: &Self| core.fits(core.windows.len(), core.windows.span(), core.windows.bytes(), 0);
        if self.behind.chunk.is_some() || self.restoring.is_some() || fits(self) {
            return;
        }
        self.close_due(now);
        if fits(self) {
            return;
        }
        let Some(newest) = self.windows.newest_start() else {
            return;
        };
        let (mut open, mut bytes) = (self.windows.len(), self.windows.bytes());
        let mut excess = Vec::new();
        for (start, slot, window_bytes) in self.windows.oldest_first() {
            if self.fits(open, newest.distance_from(start), bytes, SLACK) {
                break;
            }
            open -= 1;
            bytes -= window_bytes;
            excess.push(slot);
        }
        self.windows.by_urgency(&mut excess);
        self.close(excess, CloseReason::Pressure);
        debug_assert!(fits(self));
    }

    /// Says whether that many windows fit the bounds, less one part in `slack` of each.
    fn fits(&self, windows: usize, span: u64, bytes: usize, slack: usize) -> bool {
        let bound = |max: usize| max - max.checked_div(slack).unwrap_or(0);
        windows == 0
            || (windows <= bound(self.limits.chunk.windows_max)
                && bytes <= bound(self.limits.chunk.bytes_max)
                && Checkpoint::metadata_bytes_bound(windows, span) <= bound(self.limits.metadata_bytes_max))
    }

    fn close(&mut self, slots: Vec<Slot>, reason: CloseReason) {
        for slot in slots {
            let window = self.windows.close(slot);
            self.emit(window, reason);
        }
    }

    /// Outputs queue up in the order in which windows close. A conversation has one open window at most, so its
    /// refreshes are in order.
    fn emit(&mut self, window: Window, reason: CloseReason) {
        let refresh = window.close(self.partition, self.run, reason);
        self.outputs.push_back(Output::Refresh(refresh));
    }
}

impl Behind {
    /// Ends the chunk without closing its windows.
    fn leave(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            self.left = Some(chunk);
        }
    }
}

impl Restoring {
    /// Goes past `offset`: how many starts below it never showed up, and whether it is one.
    fn pass(&mut self, offset: Offset) -> (u64, bool) {
        let mut missing = 0;
        while let Some(start) = self.starts.front().copied()
            && start <= offset
        {
            self.starts.pop_front();
            if start == offset {
                return (missing, true);
            }
            missing += 1;
        }
        (missing, false)
    }
}

/// The change that can be refreshed, its conversation, the key of its occurrence and that of its conversation.
fn parts<'r, 'a>(content: &'r Content<'a>) -> Option<(&'r Change<'a>, &'a str, Key, Key)> {
    match content {
        Content::Change(change) => {
            let conversation = change.conversation?;
            let keys = keys(change, conversation);
            Some((change, conversation, keys.occurrence, keys.conversation))
        }
        Content::Undecodable => None,
    }
}
