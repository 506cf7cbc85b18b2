//! `Refresh` version 1, the value of `front.refresh`: exactly the bytes of `schemas/front.refresh/v1.avsc`.

use std::io::Write;

use super::avro::{self, Reader};
use super::error::Malformed;
use super::frame::{self, Encoding, Fingerprint};
use crate::model::{
    CloseReason, ConversationId, EventId, Kind, Offset, Partition, Priority, Refresh, Run, RunCause,
    TenantId, Timestamp,
};

/// The schema, as registered.
pub const SCHEMA: &str = include_str!("../../schemas/front.refresh/v1.avsc");

/// The schema's fingerprint, as Java's `SchemaNormalization` computes it: what single-object readers look up.
pub const FINGERPRINT: Fingerprint = Fingerprint(0x4b8e_79c9_cb58_734c);

/// Room for everything but the lists, so that writing a refresh seldom grows the buffer twice.
const ROOM_BYTES: usize = 384;
/// Room for one id or kind.
const ITEM_BYTES: usize = 24;

/// The causes by symbol; `None` is `unknown`, which is read of later versions only.
pub(super) const CAUSES: [Option<RunCause>; 4] = with_unknown(RunCause::ALL);
/// The reasons by symbol; `None` is `unknown`, which is read of later versions only.
pub(super) const REASONS: [Option<CloseReason>; 6] = with_unknown(CloseReason::ALL);

/// Appends a refresh with its frame: the value of a record.
pub fn write(out: &mut Vec<u8>, encoding: Encoding, refresh: &Refresh) {
    let items = refresh.kinds.len() + refresh.event_ids.len();
    out.reserve(ROOM_BYTES + items * ITEM_BYTES);
    frame::write_header(out, encoding, FINGERPRINT);
    encode(out, refresh);
}

/// Appends a refresh's Avro bytes, without a frame.
pub fn encode(out: &mut Vec<u8>, refresh: &Refresh) {
    put_id(out, refresh);
    avro::put_bytes(out, refresh.tenant.as_str().as_bytes());
    avro::put_bytes(out, refresh.conversation.as_str().as_bytes());
    avro::put_one_of(out, &Priority::ALL, &refresh.priority);
    avro::put_items(out, &refresh.kinds, |out, kind| {
        avro::put_bytes(out, kind.as_str().as_bytes());
    });
    avro::put_long(out, i64::from(refresh.event_count));
    avro::put_items(out, &refresh.event_ids, |out, id| {
        avro::put_bytes(out, id.as_str().as_bytes());
    });
    avro::put_boolean(out, refresh.event_ids_truncated);
    avro::put_long(out, refresh.first_emitted_at.as_millis());
    avro::put_long(out, refresh.last_emitted_at.as_millis());
    avro::put_long(out, refresh.first_received_at.as_millis());
    avro::put_long(out, refresh.last_received_at.as_millis());
    avro::put_long(out, i64::from(refresh.partition.number()));
    avro::put_long(out, refresh.first_offset.number());
    avro::put_long(out, refresh.last_offset.number());
    avro::put_long(out, refresh.run.started_at.as_millis());
    avro::put_long(out, refresh.run.start.number());
    avro::put_one_of(out, &CAUSES, &Some(refresh.run.cause));
    avro::put_one_of(out, &REASONS, &Some(refresh.closed_by));
}

/// Reads a refresh from its Avro bytes (no frame).
///
/// # Errors
/// [`Malformed`] when the bytes are not one whole refresh of this version, or one that the model does not allow.
pub fn decode(bytes: &[u8]) -> Result<Refresh, Malformed> {
    decode_at(bytes, 0)
}

/// Reads a refresh whose Avro bytes begin at offset `at`.
pub(super) fn decode_at(bytes: &[u8], at: usize) -> Result<Refresh, Malformed> {
    let mut reader = Reader::new(bytes, at);
    let fields = Fields {
        refresh_id: reader.string("refresh_id")?.into(),
        tenant: reader.string("tenant")?.into(),
        conversation: reader.string("conversation")?.into(),
        priority: reader.one_of("priority", &Priority::ALL)?,
        kinds: strings(&mut reader, "kinds")?,
        event_count: reader.long("event_count")?,
        event_ids: strings(&mut reader, "event_ids")?,
        event_ids_truncated: reader.boolean("event_ids_truncated")?,
        first_emitted_at: reader.long("first_emitted_at")?,
        last_emitted_at: reader.long("last_emitted_at")?,
        first_received_at: reader.long("first_received_at")?,
        last_received_at: reader.long("last_received_at")?,
        partition: reader.int("partition")?,
        first_offset: reader.long("first_offset")?,
        last_offset: reader.long("last_offset")?,
        run_started_at: reader.long("run.started_at")?,
        run_start_offset: reader.long("run.start_offset")?,
        run_cause: reader.one_of("run.cause", &CAUSES)?,
        closed_by: reader.one_of("closed_by", &REASONS)?,
    };
    reader.finish()?;
    fields.into_refresh()
}

/// All fields of a refresh as the schema allows them.
pub(super) struct Fields {
    pub(super) refresh_id: Box<str>,
    pub(super) tenant: Box<str>,
    pub(super) conversation: Box<str>,
    pub(super) priority: Priority,
    pub(super) kinds: Vec<Box<str>>,
    pub(super) event_count: i64,
    pub(super) event_ids: Vec<Box<str>>,
    pub(super) event_ids_truncated: bool,
    pub(super) first_emitted_at: i64,
    pub(super) last_emitted_at: i64,
    pub(super) first_received_at: i64,
    pub(super) last_received_at: i64,
    pub(super) partition: i32,
    pub(super) first_offset: i64,
    pub(super) last_offset: i64,
    pub(super) run_started_at: i64,
    pub(super) run_start_offset: i64,
    pub(super) run_cause: Option<RunCause>,
    pub(super) closed_by: Option<CloseReason>,
}

impl Fields {
    /// Checks what the schema cannot say, and makes the refresh.
    pub(super) fn into_refresh(self) -> Result<Refresh, Malformed> {
        let fault = |reading, fault| Malformed::Value { reading, fault };
        let empty = |reading| fault(reading, "it is empty");
        let negative = |reading| fault(reading, "it is negative");
        let later = |reading| fault(reading, "it is a word of a later version");
        let refresh = Refresh {
            tenant: TenantId::new(self.tenant).ok_or(empty("tenant"))?,
            conversation: ConversationId::new(self.conversation).ok_or(empty("conversation"))?,
            priority: self.priority,
            kinds: self
                .kinds
                .into_iter()
                .map(|kind| Kind::new(kind).ok_or(empty("kinds")))
                .collect::<Result<_, _>>()?,
            event_count: u32::try_from(self.event_count)
                .ok()
                .filter(|count| *count > 0)
                .ok_or(fault("event_count", "it is not between 1 and 4294967295"))?,
            event_ids: self
                .event_ids
                .into_iter()
                .map(|id| EventId::new(id).ok_or(empty("event_ids")))
                .collect::<Result<_, _>>()?,
            event_ids_truncated: self.event_ids_truncated,
            first_emitted_at: Timestamp::from_millis(self.first_emitted_at),
            last_emitted_at: Timestamp::from_millis(self.last_emitted_at),
            first_received_at: Timestamp::from_millis(self.first_received_at),
            last_received_at: Timestamp::from_millis(self.last_received_at),
            partition: Partition::new(self.partition).ok_or(negative("partition"))?,
            first_offset: Offset::new(self.first_offset).ok_or(negative("first_offset"))?,
            last_offset: Offset::new(self.last_offset)
                .filter(|last| last.number() >= self.first_offset)
                .ok_or(fault("last_offset", "it is below first_offset"))?,
            run: Run {
                started_at: Timestamp::from_millis(self.run_started_at),
                start: Offset::new(self.run_start_offset).ok_or(negative("run.start_offset"))?,
                cause: self.run_cause.ok_or(later("run.cause"))?,
            },
            closed_by: self.closed_by.ok_or(later("closed_by"))?,
        };
        if refresh.id().to_string() != *self.refresh_id {
            return Err(fault(
                "refresh_id",
                "it is not the one of its partition and offsets",
            ));
        }
        Ok(refresh)
    }
}

/// Appends the id, written in place.
fn put_id(out: &mut Vec<u8>, refresh: &Refresh) {
    let length_at = out.len();
    avro::put_size(out, 0);
    let text_at = out.len();
    write!(out, "{}", refresh.id()).expect("a Vec takes every byte");
    // 10 + 19 + 19 digits and two hyphens: below 64, so that the length is one byte, twice the number.
    out[length_at] = u8::try_from((out.len() - text_at) * 2).expect("an id has at most 50 characters");
}

/// Puts `unknown` before the words of a set, as the schema does.
const fn with_unknown<T: Copy, const KNOWN: usize, const ALL: usize>(known: [T; KNOWN]) -> [Option<T>; ALL] {
    let mut all = [None; ALL];
    let mut at = 0;
    while at < KNOWN {
        all[at + 1] = Some(known[at]);
        at += 1;
    }
    all
}

/// Reads an array of strings; it grows by what was read, never by what was announced.
fn strings(reader: &mut Reader<'_>, reading: &'static str) -> Result<Vec<Box<str>>, Malformed> {
    let mut texts = Vec::new();
    reader.items(reading, |reader| {
        texts.push(reader.string(reading)?.into());
        Ok(())
    })?;
    Ok(texts)
}
