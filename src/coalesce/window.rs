//! One burst of one conversation, as long as it is open.

use crate::model::{
    Change, CloseReason, ConversationId, EventId, Kind, Lanes, Offset, Partition, Priority, Refresh, Run,
    TenantId, Timestamp,
};

use super::clock::{Tick, millis};
use super::key::Key;

/// What an event costs besides its text: a pointer, a length, and the allocator's share.
const TEXT_BYTES: usize = 32;

/// What a window costs besides its struct and texts: its entries in the table, the starts and the deadlines.
const INDEX_BYTES: usize = 128;

/// An open window.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) key: Key,
    tenant: TenantId,
    conversation: ConversationId,
    pub(super) priority: Priority,
    kinds: Vec<Kind>,
    events: u32,
    ids: Vec<EventId>,
    ids_truncated: bool,
    emitted_at: Span,
    received_at: Span,
    pub(super) first: Offset,
    last: Offset,
    opened: Tick,
    last_at: Tick,
    /// The earliest of opened + cap over the priorities it has had.
    cap_at: Tick,
    /// When it closes, and why.
    pub(super) due: Tick,
    due_by: CloseReason,
    /// The entry among the deadlines that stands for it: never later than `due`.
    pub(super) armed: Tick,
    /// About how much memory it takes.
    pub(super) bytes: usize,
}

/// Earliest and latest.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: Timestamp,
    last: Timestamp,
}

impl Span {
    fn at(time: Timestamp) -> Self {
        Self {
            first: time,
            last: time,
        }
    }

    fn include(&mut self, time: Timestamp) {
        self.first = self.first.min(time);
        self.last = self.last.max(time);
    }
}

/// The gaps and caps in milliseconds, so that no event pays for the conversion.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneMillis([(i64, i64); 3]);

impl LaneMillis {
    pub(super) fn new(lanes: &Lanes) -> Self {
        Self([Priority::Low, Priority::Medium, Priority::High].map(|priority| {
            let lane = lanes.of(priority);
            (millis(lane.gap), millis(lane.cap))
        }))
    }

    fn of(&self, priority: Priority) -> (i64, i64) {
        self.0[priority as usize]
    }
}

/// An event that belongs into a window, and when it was read.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) offset: Offset,
    pub(super) change: &'a Change<'a>,
    pub(super) at: Tick,
}

impl Window {
    /// Opens a window with its first event.
    pub(super) fn open(
        key: Key,
        conversation: &str,
        entry: Entry<'_>,
        lanes: &LaneMillis,
        ids_max: usize,
    ) -> Self {
        let Entry { offset, change, at } = entry;
        let (_, cap_ms) = lanes.of(change.priority);
        let mut window = Self {
            key,
            tenant: TenantId::new(change.tenant).expect("a change names its tenant"),
            conversation: ConversationId::new(conversation).expect("a conversation is never empty"),
            priority: change.priority,
            kinds: Vec::new(),
            events: 0,
            ids: Vec::new(),
            ids_truncated: false,
            emitted_at: Span::at(change.emitted_at),
            received_at: Span::at(change.received_at),
            first: offset,
            last: offset,
            opened: at,
            last_at: at,
            cap_at: at.plus(cap_ms),
            due: at,
            due_by: CloseReason::Gap,
            armed: at,
            bytes: size_of::<Self>() + INDEX_BYTES + change.tenant.len() + conversation.len(),
        };
        window.count(change, ids_max);
        window.schedule(lanes);
        window.armed = window.due;
        window
    }

    /// Says whether this is the window of that conversation.
    pub(super) fn is_of(&self, tenant: &str, conversation: &str) -> bool {
        self.conversation.as_str() == conversation && self.tenant.as_str() == tenant
    }

    /// Adds an event to an open window.
    pub(super) fn join(&mut self, entry: Entry<'_>, lanes: &LaneMillis, ids_max: usize) {
        let Entry { offset, change, at } = entry;
        assert!(
            offset > self.last,
            "offsets ascend: {offset} after {} in one window",
            self.last
        );
        self.last = offset;
        self.last_at = self.last_at.max(at);
        self.emitted_at.include(change.emitted_at);
        self.received_at.include(change.received_at);
        self.count(change, ids_max);
        if change.priority > self.priority {
            self.rise(change.priority, lanes);
        } else {
            self.schedule(lanes);
        }
    }

    fn count(&mut self, change: &Change<'_>, ids_max: usize) {
        self.events = self
            .events
            .checked_add(1)
            .expect("a window never holds 2^32 events");
        if self.ids.len() < ids_max {
            self.ids
                .push(EventId::new(change.event_id).expect("a change names its event"));
            self.bytes += TEXT_BYTES + change.event_id.len();
        } else {
            self.ids_truncated = true;
        }
        if self.kinds.len() < Refresh::KINDS_MAX
            && !self.kinds.iter().any(|kind| kind.as_str() == change.kind)
        {
            self.kinds
                .push(Kind::new(change.kind).expect("a change names its kind"));
            self.bytes += TEXT_BYTES + change.kind.len();
        }
    }

    /// Takes a higher priority. The window never closes later for it than it would have without the event,
    /// and no later cap than that of a lower priority holds from here on, whatever the lanes are set to.
    fn rise(&mut self, priority: Priority, lanes: &LaneMillis) {
        let (_, cap_ms) = lanes.of(priority);
        self.priority = priority;
        self.cap_at = self.cap_at.min(self.opened.plus(cap_ms));
        let (due, due_by) = (self.due, self.due_by);
        self.schedule(lanes);
        if due < self.due {
            (self.due, self.due_by) = (due, due_by);
        }
    }

    fn schedule(&mut self, lanes: &LaneMillis) {
        let (gap_ms, _) = lanes.of(self.priority);
        let gap_at = self.last_at.plus(gap_ms);
        (self.due, self.due_by) = if self.cap_at < gap_at {
            (self.cap_at, CloseReason::Cap)
        } else {
            (gap_at, CloseReason::Gap)
        };
    }

    /// Returns when it closes by its lane, and whether by gap or cap.
    pub(super) fn deadline(&self) -> (Tick, CloseReason) {
        (self.due, self.due_by)
    }

    /// Turns it into its refresh.
    pub(super) fn close(self, partition: Partition, run: Run, closed_by: CloseReason) -> Refresh {
        Refresh {
            tenant: self.tenant,
            conversation: self.conversation,
            priority: self.priority,
            kinds: self.kinds,
            event_count: self.events,
            event_ids: self.ids,
            event_ids_truncated: self.ids_truncated,
            first_emitted_at: self.emitted_at.first,
            last_emitted_at: self.emitted_at.last,
            first_received_at: self.received_at.first,
            last_received_at: self.received_at.last,
            partition,
            first_offset: self.first,
            last_offset: self.last,
            run,
            closed_by,
        }
    }
}
