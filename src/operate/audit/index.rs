//! What one partition of `front.events` holds, as the proof needs it: 60 bytes an event, whatever its payload.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::rc::Rc;
use std::time::Duration;

use crate::model::{Change, Offset, Partition, Priority, Timestamp};

/// When an event is a duplicate: a rule over the log alone, the same that the processor applies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DedupeRule {
    /// How far back the latest earlier occurrence may stand, in record time.
    pub(crate) horizon: Duration,
    /// How far back it may stand, in offsets.
    pub(crate) records: u32,
}

/// How far two machines' clocks, or two records of one partition, may disagree before we call something lost.
pub(crate) const CLOCK_MARGIN: Duration = Duration::from_secs(60);

/// The first offset a topic still holds, and the one after the last that a read-committed reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) start: Offset,
    pub(crate) end: Offset,
}

/// What an event is to the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It must be in exactly one refresh of each run that read it.
    Counts,
    /// It may be a duplicate of an event that is no longer retained: it may be counted or not.
    Doubtful,
    /// The same event stands within the horizon before it: never counted.
    Duplicate,
    /// Front named no conversation: never counted.
    WithoutConversation,
    /// Not an event: belongs on the dead-letter topic.
    Undecodable,
}

impl Standing {
    /// Tells whether a refresh may count the event.
    pub(crate) fn may_count(self) -> bool {
        matches!(self, Self::Counts | Self::Doubtful)
    }
}

/// One record of the partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) offset: Offset,
    pub(crate) recorded_at: Timestamp,
    pub(crate) emitted_at: Timestamp,
    pub(crate) received_at: Timestamp,
    /// A 64-bit hash of the event id: two ids of one refresh agree by chance once in 10^19.
    pub(crate) id: u64,
    pub(crate) conversation: ConversationIndex,
    pub(crate) kind: KindIndex,
    pub(crate) priority: Priority,
    pub(crate) standing: Standing,
}

/// The bound on memory that makes an audit of millions of events possible.
const _: () = assert!(size_of::<Entry>() <= 56);

/// A conversation of one company, by its number in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConversationIndex(u32);

/// A kind, by its number in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KindIndex(u32);

/// Everything the proof knows of one partition of events; complete once [`IndexBuilder::build`] returns it.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) partition: Partition,
    pub(crate) bounds: Bounds,
    /// In the order of offsets.
    pub(crate) entries: Vec<Entry>,
    conversations: Names,
    kinds: Names,
    /// Numbers of the entries that count or may count, by conversation, then by offset.
    by_conversation: Vec<u32>,
    /// Where each conversation begins in `by_conversation`; one more at the end.
    conversation_starts: Vec<u32>,
}

impl Index {
    /// Finds a conversation that has an event in the partition.
    pub(crate) fn conversation(&self, tenant: &str, conversation: &str) -> Option<ConversationIndex> {
        self.conversations
            .find(&conversation_name(tenant, conversation))
            .map(ConversationIndex)
    }

    /// Returns how many conversations there are.
    pub(crate) fn conversation_count(&self) -> usize {
        self.conversations.texts.len()
    }

    /// Returns a conversation's id, for messages.
    pub(crate) fn conversation_id(&self, conversation: ConversationIndex) -> &str {
        let name = &self.conversations.texts[conversation.0 as usize];
        name.split_once(SEPARATOR).map_or(&**name, |(_, id)| id)
    }

    /// Returns a kind's name.
    pub(crate) fn kind(&self, kind: KindIndex) -> &str {
        &self.kinds.texts[kind.0 as usize]
    }

    /// Returns the numbers of the entries of a conversation that count or may count, in the order of offsets.
    pub(crate) fn events_of(&self, conversation: ConversationIndex) -> &[u32] {
        let at = conversation.0 as usize;
        let (from, to) = (self.conversation_starts[at], self.conversation_starts[at + 1]);
        &self.by_conversation[from as usize..to as usize]
    }

    /// Goes through the entries that count or may count, in the order of offsets: the number of each, which one of
    /// its conversation it is, and what it says.
    pub(crate) fn countable(&self) -> impl Iterator<Item = (u32, usize, &Entry)> {
        let mut seen = vec![0_usize; self.conversation_count()];
        let countable = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.standing.may_count());
        countable.map(move |(at, entry)| {
            let nth = seen[entry.conversation.row()];
            seen[entry.conversation.row()] += 1;
            (number(at), nth, entry)
        })
    }

    /// Returns the entry with this number.
    pub(crate) fn entry(&self, number: u32) -> &Entry {
        &self.entries[number as usize]
    }

    /// Finds the entry at an offset.
    pub(crate) fn at(&self, offset: Offset) -> Option<(u32, &Entry)> {
        let at = self.entries.partition_point(|entry| entry.offset < offset);
        self.entries
            .get(at)
            .filter(|entry| entry.offset == offset)
            .map(|entry| (number(at), entry))
    }
}

impl ConversationIndex {
    /// Returns its place in a table with one row per conversation.
    pub(crate) fn row(self) -> usize {
        self.0 as usize
    }
}

/// Takes the records of one partition in the order of their offsets.
#[derive(Debug)]
pub(crate) struct IndexBuilder {
    partition: Partition,
    bounds: Bounds,
    rule: DedupeRule,
    entries: Vec<Entry>,
    conversations: Names,
    kinds: Names,
    latest: HashMap<(u64, ConversationIndex), (Offset, Timestamp)>,
}

impl IndexBuilder {
    pub(crate) fn new(partition: Partition, bounds: Bounds, rule: DedupeRule) -> Self {
        Self {
            partition,
            bounds,
            rule,
            entries: Vec::new(),
            conversations: Names::default(),
            kinds: Names::default(),
            latest: HashMap::new(),
        }
    }

    /// Takes the next record, decoded.
    pub(crate) fn event(&mut self, offset: Offset, recorded_at: Timestamp, change: &Change<'_>) {
        let id = hash_of(change.event_id);
        let kind = KindIndex(self.kinds.intern(change.kind));
        let (conversation, standing) = match change.conversation {
            Some(name) => {
                let name = conversation_name(change.tenant, name);
                let conversation = ConversationIndex(self.conversations.intern(&name));
                (conversation, self.standing(offset, recorded_at, id, conversation))
            }
            None => (ConversationIndex(u32::MAX), Standing::WithoutConversation),
        };
        self.push(Entry {
            offset,
            recorded_at,
            emitted_at: change.emitted_at,
            received_at: change.received_at,
            id,
            conversation,
            kind,
            priority: change.priority,
            standing,
        });
    }

    /// Takes the next record, which is no event.
    pub(crate) fn undecodable(&mut self, offset: Offset, recorded_at: Timestamp) {
        self.push(Entry {
            offset,
            recorded_at,
            emitted_at: recorded_at,
            received_at: recorded_at,
            id: 0,
            conversation: ConversationIndex(u32::MAX),
            kind: KindIndex(u32::MAX),
            priority: Priority::Low,
            standing: Standing::Undecodable,
        });
    }

    pub(crate) fn build(mut self) -> Index {
        self.entries.shrink_to_fit();
        let counts = |entry: &&Entry| entry.standing.may_count();
        // A counting sort by conversation: stable, so each conversation stays in the order of offsets.
        let mut starts = vec![0_u32; self.conversations.texts.len() + 1];
        for entry in self.entries.iter().filter(counts) {
            starts[entry.conversation.row() + 1] += 1;
        }
        for row in 1..starts.len() {
            starts[row] += starts[row - 1];
        }
        let mut next = starts.clone();
        let mut by_conversation = vec![0_u32; starts.last().map_or(0, |total| *total as usize)];
        for (at, entry) in self.entries.iter().enumerate() {
            if counts(&entry) {
                let place = &mut next[entry.conversation.row()];
                by_conversation[*place as usize] = number(at);
                *place += 1;
            }
        }
        Index {
            partition: self.partition,
            bounds: self.bounds,
            entries: self.entries,
            conversations: self.conversations,
            kinds: self.kinds,
            by_conversation,
            conversation_starts: starts,
        }
    }

    fn push(&mut self, entry: Entry) {
        assert!(
            self.entries.last().is_none_or(|last| last.offset < entry.offset),
            "a partition is read in the order of its offsets"
        );
        self.entries.push(entry);
    }

    fn standing(
        &mut self,
        offset: Offset,
        recorded_at: Timestamp,
        id: u64,
        conversation: ConversationIndex,
    ) -> Standing {
        let earlier = self.latest.insert((id, conversation), (offset, recorded_at));
        self.forget_what_is_too_far_back(offset);
        if let Some((at, when)) = earlier
            && offset.distance_from(at) <= u64::from(self.rule.records)
            && recorded_at.saturating_since(when) <= self.rule.horizon
        {
            return Standing::Duplicate;
        }
        // What stood before the first retained record is unknown; it was hardly younger than that record.
        let reaches_deleted = offset.distance_from(self.bounds.start) < u64::from(self.rule.records)
            && self.entries.first().is_none_or(|first| {
                recorded_at.saturating_since(first.recorded_at) <= self.rule.horizon + CLOCK_MARGIN
            });
        if earlier.is_none() && self.bounds.start > Offset::ZERO && reaches_deleted {
            Standing::Doubtful
        } else {
            Standing::Counts
        }
    }

    fn forget_what_is_too_far_back(&mut self, offset: Offset) {
        let records = self.rule.records;
        // Only now and then, so that it costs little for each event.
        if self.latest.len() > 2 * records as usize + 1_000 {
            let oldest = offset.back(records);
            self.latest.retain(|_, (at, _)| *at >= oldest);
        }
    }
}

/// Returns the hash under which the index keeps an event id.
pub(crate) fn hash_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Cannot stand in a tenant that came by URL, nor in JSON text that Front would send.
const SEPARATOR: char = '\0';

fn conversation_name(tenant: &str, conversation: &str) -> String {
    format!("{tenant}{SEPARATOR}{conversation}")
}

fn number(at: usize) -> u32 {
    u32::try_from(at).expect("an audit reads fewer than 2^32 records of one partition")
}

/// Texts by number and numbers by text.
#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<Rc<str>, u32>,
    texts: Vec<Rc<str>>,
}

impl Names {
    fn find(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    fn intern(&mut self, text: &str) -> u32 {
        if let Some(number) = self.find(text) {
            return number;
        }
        let text: Rc<str> = text.into();
        let new = number(self.texts.len());
        self.texts.push(Rc::clone(&text));
        self.numbers.insert(text, new);
        new
    }
}
