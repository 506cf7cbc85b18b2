//! A slow and obvious coalescer: keeps every record, searches everything, counts durations instead of comparing times.
//!
//! It knows nothing of restarts: it is the processor that never stopped. Memory is no bound for it.

use std::cmp::Reverse;
use std::time::Duration;

use super::super::{Limits, Output};
use super::script::{Event, Row};
use crate::model::{
    Checkpoint, CloseReason, ConversationId, EventId, Kind, Offset, Partition, Priority, Refresh, Run,
    TenantId, Timestamp,
};

pub(super) struct Twin {
    run: Run,
    limits: Limits,
    /// Every record ever read.
    log: Vec<Row>,
    /// In the order in which they opened.
    windows: Vec<Window>,
    /// How long the open chunk has been read.
    chunk: Option<Duration>,
    /// How long ago the chunk opened that was left since windows were last closed by their own lanes.
    left: Option<Duration>,
    full: bool,
    now: Option<Timestamp>,
    position: Offset,
    outputs: Vec<Output>,
}

struct Window {
    rows: Vec<(Offset, Event)>,
    age: Duration,
    /// What is left of the quiet time or the cap; negative when overdue.
    due_in_ms: i64,
    due_by: CloseReason,
}

impl Window {
    fn first(&self) -> Offset {
        self.rows[0].0
    }

    fn priority(&self) -> Priority {
        self.rows.iter().map(|(_, event)| event.priority).max().unwrap()
    }

    fn is_of(&self, event: &Event) -> bool {
        let first = &self.rows[0].1;
        first.tenant == event.tenant && first.conversation == event.conversation
    }

    /// The highest priority after each of its events.
    fn priorities(&self) -> impl Iterator<Item = Priority> {
        self.rows.iter().scan(Priority::Low, |highest, (_, event)| {
            *highest = event.priority.max(*highest);
            Some(*highest)
        })
    }

    fn reschedule(&mut self, limits: &Limits) {
        let before = self.rows[..self.rows.len() - 1]
            .iter()
            .map(|(_, event)| event.priority)
            .max();
        let gap_ms = ms(limits.lanes.of(self.priority()).gap);
        let cap_ms = self
            .priorities()
            .map(|priority| ms(limits.lanes.of(priority).cap) - ms(self.age))
            .min()
            .unwrap();
        let rose = before.is_some_and(|before| before < self.priority());
        let due_in_ms = gap_ms.min(cap_ms);
        if rose && self.due_in_ms < due_in_ms {
            return;
        }
        self.due_in_ms = due_in_ms;
        self.due_by = if cap_ms < gap_ms {
            CloseReason::Cap
        } else {
            CloseReason::Gap
        };
    }
}

impl Twin {
    pub(super) fn new(run: Run, limits: Limits) -> Self {
        Self {
            run,
            limits,
            log: Vec::new(),
            windows: Vec::new(),
            chunk: None,
            left: None,
            full: false,
            now: None,
            position: run.start,
            outputs: Vec::new(),
        }
    }

    pub(super) fn on_batch(&mut self, rows: &[Row], now: Timestamp) {
        self.pass(now);
        self.full = false;
        for row in rows {
            self.on_row(row, now);
        }
        self.relieve();
    }

    pub(super) fn on_deadline(&mut self, now: Timestamp) {
        self.pass(now);
        match self.chunk {
            Some(age) if age >= self.limits.chunk.duration => self.close_all(CloseReason::Chunk),
            Some(_) => {}
            None => {
                self.left = None;
                self.close_due();
            }
        }
    }

    pub(super) fn on_log_end(&mut self, now: Timestamp) {
        self.pass(now);
        self.left = self.chunk.take().or(self.left);
        self.relieve();
    }

    pub(super) fn on_stop(&mut self, now: Timestamp) {
        self.pass(now);
        self.close_all(CloseReason::Stop);
    }

    pub(super) fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    pub(super) fn is_behind(&self) -> bool {
        self.chunk.is_some()
    }

    pub(super) fn checkpoint(&self) -> Option<Checkpoint> {
        self.chunk.is_none().then(|| Checkpoint {
            run: self.run,
            position: self.position,
            window_starts: self.windows.iter().map(Window::first).collect(),
        })
    }

    pub(super) fn next_deadline(&self) -> Option<(Timestamp, CloseReason)> {
        let now = self.now?.as_millis();
        if let Some(age) = self.chunk {
            let left_ms = ms(self.limits.chunk.duration) - ms(age);
            return Some((Timestamp::from_millis(now + left_ms), CloseReason::Chunk));
        }
        self.windows
            .iter()
            .min_by_key(|window| (window.due_in_ms, window.first()))
            .map(|window| (Timestamp::from_millis(now + window.due_in_ms), window.due_by))
    }

    fn pass(&mut self, now: Timestamp) {
        let passed = self
            .now
            .map_or(Duration::ZERO, |before| now.saturating_since(before));
        self.now = Some(now);
        for window in &mut self.windows {
            window.age += passed;
            window.due_in_ms -= ms(passed);
        }
        for age in [&mut self.chunk, &mut self.left].into_iter().flatten() {
            *age += passed;
        }
    }

    fn on_row(&mut self, row: &Row, now: Timestamp) {
        let duplicate = is_duplicate(&self.log, row, &self.limits);
        self.log.push(row.clone());
        self.position = row.offset.next();
        if now.saturating_since(row.log_time) <= self.limits.lanes.longest_cap() {
            self.left = self.chunk.take().or(self.left);
        } else if self.chunk.is_none() && !self.full {
            self.chunk = Some(self.left.take().unwrap_or_default());
        }
        match &row.event {
            None => self.outputs.push(Output::DeadLetter(row.offset)),
            Some(event) if event.conversation.is_some() && !duplicate => self.add(row.offset, event),
            Some(_) => {}
        }
        if self.chunk.is_some() && self.windows.len() >= self.limits.chunk.windows_max {
            self.close_all(CloseReason::Chunk);
            self.full = true;
        }
    }

    fn add(&mut self, offset: Offset, event: &Event) {
        let place = self.windows.iter().position(|window| window.is_of(event));
        let place = place.unwrap_or_else(|| {
            self.windows.push(Window {
                rows: Vec::new(),
                age: Duration::ZERO,
                due_in_ms: 0,
                due_by: CloseReason::Gap,
            });
            self.windows.len() - 1
        });
        self.windows[place].rows.push((offset, event.clone()));
        self.windows[place].reschedule(&self.limits);
    }

    fn close_due(&mut self) {
        let due = self
            .windows
            .extract_if(.., |window| window.due_in_ms <= 0)
            .collect();
        self.emit(due, None);
    }

    fn close_all(&mut self, reason: CloseReason) {
        let all = std::mem::take(&mut self.windows);
        self.emit(all, Some(reason));
        self.chunk = None;
        self.left = None;
    }

    fn relieve(&mut self) {
        if self.chunk.is_some() || self.fits(0) {
            return;
        }
        self.close_due();
        if self.fits(0) {
            return;
        }
        let mut excess = Vec::new();
        while !self.fits(8) {
            excess.push(self.windows.remove(0));
        }
        self.emit(excess, Some(CloseReason::Pressure));
    }

    fn fits(&self, slack: usize) -> bool {
        let bound = |max: usize| max - max.checked_div(slack).unwrap_or(0);
        let (Some(oldest), Some(newest)) = (self.windows.first(), self.windows.last()) else {
            return true;
        };
        let span = newest.first().distance_from(oldest.first());
        self.windows.len() <= bound(self.limits.chunk.windows_max)
            && Checkpoint::metadata_bytes_bound(self.windows.len(), span)
                <= bound(self.limits.metadata_bytes_max)
    }

    fn emit(&mut self, mut windows: Vec<Window>, reason: Option<CloseReason>) {
        windows.sort_by_key(|window| (Reverse(window.priority()), window.due_in_ms, window.first()));
        for window in windows {
            let reason = reason.unwrap_or(window.due_by);
            let refresh = refresh(&window.rows, self.run, reason, self.limits.event_ids_max);
            self.outputs.push(Output::Refresh(refresh));
        }
    }
}

/// The rule of the design, by search: the latest earlier occurrence is near in offsets and in log time.
pub(super) fn is_duplicate(log: &[Row], row: &Row, limits: &Limits) -> bool {
    let Some(event) = &row.event else { return false };
    if event.conversation.is_none() {
        return false;
    }
    let same = |other: &Event| {
        other.id == event.id && other.conversation == event.conversation && other.tenant == event.tenant
    };
    let latest = log
        .iter()
        .rev()
        .filter(|earlier| earlier.offset < row.offset)
        .find(|earlier| earlier.event.as_ref().is_some_and(same));
    latest.is_some_and(|earlier| {
        row.offset.distance_from(earlier.offset) <= u64::from(limits.dedupe.records)
            && row.log_time.saturating_since(earlier.log_time) <= limits.dedupe.time
    })
}

fn refresh(rows: &[(Offset, Event)], run: Run, closed_by: CloseReason, ids_max: usize) -> Refresh {
    let events = || rows.iter().map(|(_, event)| event);
    let mut kinds: Vec<Kind> = Vec::new();
    for kind in events().map(|event| Kind::new(&*event.kind).unwrap()) {
        if !kinds.contains(&kind) && kinds.len() < Refresh::KINDS_MAX {
            kinds.push(kind);
        }
    }
    let first = &rows[0].1;
    Refresh {
        tenant: TenantId::new(&*first.tenant).unwrap(),
        conversation: ConversationId::new(first.conversation.as_deref().unwrap()).unwrap(),
        priority: events().map(|event| event.priority).max().unwrap(),
        kinds,
        event_count: u32::try_from(rows.len()).unwrap(),
        event_ids: events()
            .take(ids_max)
            .map(|event| EventId::new(&*event.id).unwrap())
            .collect(),
        event_ids_truncated: rows.len() > ids_max,
        first_emitted_at: events().map(|event| event.emitted_at).min().unwrap(),
        last_emitted_at: events().map(|event| event.emitted_at).max().unwrap(),
        first_received_at: events().map(|event| event.received_at).min().unwrap(),
        last_received_at: events().map(|event| event.received_at).max().unwrap(),
        partition: Partition::new(3).unwrap(),
        first_offset: rows[0].0,
        last_offset: rows[rows.len() - 1].0,
        run,
        closed_by,
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap()
}
