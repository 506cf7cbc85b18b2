//! The open windows of a partition: found by conversation, ordered by start and by deadline.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use crate::model::{CloseReason, Offset, Priority};

use super::clock::Tick;
use super::key::{BuildKeyHasher, Key};
use super::window::{Entry, LaneMillis, Window};

/// Where a window stands in the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u32);

/// An entry among the deadlines; the first offset tells it from an earlier window of the same slot.
type Deadline = Reverse<(Tick, Offset, Slot)>;

/// The order in which windows that close together come out.
type Urgency = (Reverse<Priority>, Tick, Offset, Slot);

/// What a slab may keep allocated when it is empty, so that one large chunk does not hold its memory for ever.
const SLOTS_KEPT: usize = 4_096;

/// All open windows.
#[derive(Debug, Default)]
pub(super) struct Windows {
    slab: Vec<Option<Window>>,
    free: Vec<Slot>,
    by_key: HashMap<Key, Slot, BuildKeyHasher>,
    by_start: BTreeMap<Offset, Slot>,
    /// Lazy: an event that moves a window's deadline back leaves the entry, which is corrected when it is the
    /// next. Every window has one live entry (`Window::armed`), and it is never later than the deadline.
    deadlines: BinaryHeap<Deadline>,
    bytes: usize,
}

impl Windows {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// About how much memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where they begin, ascending.
    pub(super) fn starts(&self) -> impl Iterator<Item = Offset> {
        self.by_start.keys().copied()
    }

    /// The windows from the oldest start on: start, slot and memory.
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = (Offset, Slot, usize)> {
        self.by_start
            .iter()
            .map(|(start, slot)| (*start, *slot, self.at(*slot).bytes))
    }

    /// How many offsets lie from the oldest start to `newest`, the newest.
    pub(super) fn span(&self) -> u64 {
        match (self.by_start.first_key_value(), self.newest_start()) {
            (Some((oldest, _)), Some(newest)) => newest.distance_from(*oldest),
            (None, _) | (_, None) => 0,
        }
    }

    pub(super) fn newest_start(&self) -> Option<Offset> {
        self.by_start.last_key_value().map(|(start, _)| *start)
    }

    /// Finds the window of a conversation.
    ///
    /// # Panics
    ///
    /// When two conversations share a 128-bit hash, which no partition lives to see: a stop, never a wrong count.
    pub(super) fn find(&self, key: Key, tenant: &str, conversation: &str) -> Option<Slot> {
        let slot = *self.by_key.get(&key)?;
        assert!(
            self.at(slot).is_of(tenant, conversation),
            "two conversations share a 128-bit hash"
        );
        Some(slot)
    }

    pub(super) fn open(&mut self, window: Window) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slab.push(None);
            Slot(u32::try_from(self.slab.len() - 1).expect("windows are bounded far below 2^32"))
        });
        self.bytes += window.bytes;
        self.deadlines.push(Reverse((window.armed, window.first, slot)));
        let key_before = self.by_key.insert(window.key, slot);
        assert!(key_before.is_none(), "a conversation has one open window");
        let start_before = self.by_start.insert(window.first, slot);
        assert!(start_before.is_none(), "an event opens one window");
        self.slab[slot.0 as usize] = Some(window);
    }

    pub(super) fn join(&mut self, slot: Slot, entry: Entry<'_>, lanes: &LaneMillis, ids_max: usize) {
        let window = self.slab[slot.0 as usize].as_mut().expect(LIVE);
        let bytes_before = window.bytes;
        window.join(entry, lanes, ids_max);
        self.bytes += window.bytes - bytes_before;
        if window.due < window.armed {
            window.armed = window.due;
            self.deadlines.push(Reverse((window.armed, window.first, slot)));
        }
    }

    /// Takes the window out. Its entry among the deadlines stays behind until [`Windows::settle`] meets it.
    pub(super) fn close(&mut self, slot: Slot) -> Window {
        let window = self.slab[slot.0 as usize].take().expect(LIVE);
        self.free.push(slot);
        self.bytes -= window.bytes;
        let by_key = self.by_key.remove(&window.key);
        let by_start = self.by_start.remove(&window.first);
        assert!(
            by_key == Some(slot) && by_start == Some(slot),
            "both indexes agree"
        );
        window
    }

    /// Collects the windows that are due, the most urgent first. The caller closes every one of them.
    pub(super) fn due(&mut self, now: Tick, into: &mut Vec<Slot>) {
        let mut due: Vec<Urgency> = Vec::new();
        loop {
            self.correct_next();
            let Some(Reverse((at, _, slot))) = self.deadlines.peek().copied() else {
                break;
            };
            if at > now {
                break;
            }
            self.deadlines.pop();
            due.push(self.urgency(slot));
            // A stale entry may stand at the same time: without this it would count as the live one.
            self.slab[slot.0 as usize].as_mut().expect(LIVE).armed = Tick::NEVER;
        }
        sort_into(due, into);
    }

    /// Collects all windows, the most urgent first.
    pub(super) fn all(&self, into: &mut Vec<Slot>) {
        sort_into(
            self.by_start.values().map(|slot| self.urgency(*slot)).collect(),
            into,
        );
    }

    /// Puts the given windows in the order to emit.
    pub(super) fn by_urgency(&self, slots: &mut Vec<Slot>) {
        let keyed = slots.drain(..).map(|slot| self.urgency(slot)).collect();
        sort_into(keyed, slots);
    }

    /// The next deadline and its reason; exact after [`Windows::settle`].
    pub(super) fn next_deadline(&self) -> Option<(Tick, CloseReason)> {
        let Reverse((at, _, slot)) = self.deadlines.peek()?;
        let deadline = self.at(*slot).deadline();
        debug_assert!(deadline.0 == *at, "the next deadline was not settled");
        Some(deadline)
    }

    /// Makes the next deadline exact, and drops what closed windows left behind once it is most of the heap.
    pub(super) fn settle(&mut self) {
        if self.deadlines.len() > 4 * self.len() + 64 {
            self.rearm();
        }
        self.correct_next();
        debug_assert!(self.deadlines.len() >= self.len(), "every window is armed");
    }

    /// Corrects the entry that is next until it stands for an open window at its true deadline.
    fn correct_next(&mut self) {
        while let Some(mut next) = self.deadlines.peek_mut() {
            let Reverse((at, first, slot)) = *next;
            match self.slab[slot.0 as usize].as_mut() {
                Some(window) if window.first == first && window.armed == at => {
                    if window.due == at {
                        break;
                    }
                    assert!(window.due > at, "a window is armed no later than it is due");
                    window.armed = window.due;
                    *next = Reverse((window.due, first, slot));
                }
                Some(_) | None => {
                    PeekMut::pop(next);
                }
            }
        }
    }

    /// Gives memory back after many windows closed at once.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() && self.slab.len() > SLOTS_KEPT {
            *self = Self::default();
        }
    }

    fn rearm(&mut self) {
        self.deadlines.clear();
        for slot in self.by_start.values() {
            let window = self.slab[slot.0 as usize].as_mut().expect(LIVE);
            window.armed = window.due;
            self.deadlines.push(Reverse((window.due, window.first, *slot)));
        }
    }

    fn at(&self, slot: Slot) -> &Window {
        self.slab[slot.0 as usize].as_ref().expect(LIVE)
    }

    fn urgency(&self, slot: Slot) -> Urgency {
        let window = self.at(slot);
        (Reverse(window.priority), window.due, window.first, slot)
    }
}

const LIVE: &str = "the indexes name open windows only";

fn sort_into(mut keyed: Vec<Urgency>, into: &mut Vec<Slot>) {
    keyed.sort_unstable();
    into.extend(keyed.into_iter().map(|(.., slot)| slot));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coalesce::key::keys;
    use crate::model::{Change, Lanes, Timestamp};

    /// Windows that close before they are due leave their deadlines behind; those must not pile up.
    #[test]
    fn deadlines_are_bounded() {
        let lanes = LaneMillis::new(&Lanes::default());
        let at = Tick::NEVER.plus(1_000);
        let mut windows = Windows::default();
        for number in 0..10_000 {
            let change = Change {
                tenant: "acme",
                conversation: None,
                event_id: "e",
                kind: "k",
                priority: Priority::Low,
                emitted_at: Timestamp::from_millis(0),
                received_at: Timestamp::from_millis(0),
            };
            let entry = Entry {
                offset: Offset::new(number).unwrap(),
                change: &change,
                at,
            };
            let conversation = number.to_string();
            let key = keys(&change, &conversation).conversation;
            windows.open(Window::open(key, &conversation, entry, &lanes, 1));
            if number >= 10 {
                let (_, oldest, _) = windows.oldest_first().next().unwrap();
                windows.close(oldest);
            }
            windows.settle();
            assert!(windows.deadlines.len() <= 4 * windows.len() + 64);
            assert!(windows.slab.len() <= 11);
        }
    }
}
