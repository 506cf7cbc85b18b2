//! Records of any readable version to model: our own version in place, every other through schema resolution.

use apache_avro::Schema;

use super::error::{DecodeError, Malformed, UnreadableSchema};
use super::foreign::{Foreign, Record};
use super::frame::{self, Fingerprint, SchemaId, Writer};
use super::{event_v1, refresh_v1};
use crate::model::{Change, Event, Priority, Refresh, Source, Timestamp};

/// How many schemas a decoder keeps: versions of a topic are few. Beyond it the one learned first is forgotten, and
/// asked for again when it comes up.
const SCHEMAS_MAX: usize = 64;

/// Decodes the records of `front.events`.
///
/// The single-object encoding needs nothing. For the Confluent wire format the decoder is taught the schemas:
/// on [`DecodeError::UnknownSchema`], ask the registry for the id, [`learn`](Self::learn) the answer, decode again.
#[derive(Debug)]
pub struct EventDecoder(Writers);

impl EventDecoder {
    /// Makes a decoder that knows this version's schemas by fingerprint, and none by id.
    #[expect(
        clippy::new_without_default,
        reason = "parses a schema: not a trivial default"
    )]
    pub fn new() -> Self {
        Self(Writers::new(event_v1::SCHEMA, event_v1::FINGERPRINT))
    }

    /// Takes the schema that the registry gave for `id`.
    ///
    /// # Errors
    /// [`UnreadableSchema`], to be logged. The id is known from then on: its records are refused one by one as
    /// [`Malformed::Unreadable`].
    pub fn learn(&mut self, id: SchemaId, schema: &str) -> Result<(), UnreadableSchema> {
        self.0.learn(id, schema)
    }

    /// Reads what coalescing needs of a record's value. Accepts exactly what [`event`](Self::event) accepts.
    ///
    /// # Errors
    /// [`DecodeError`]: its variants say what to do.
    #[inline]
    pub fn decode<'a>(&self, bytes: &'a [u8]) -> Result<Decoded<'a>, DecodeError> {
        let (foreign, at) = self.0.of(bytes)?;
        match foreign {
            None => Ok(Decoded::InPlace(event_v1::Fields::read(bytes, at)?.change())),
            Some(foreign) => {
                let event = event_of(foreign.resolve(bytes, at, &self.0.ours)?)?;
                Ok(Decoded::Resolved(Box::new(event)))
            }
        }
    }

    /// Reads a whole event.
    ///
    /// # Errors
    /// [`DecodeError`]: its variants say what to do.
    pub fn event(&self, bytes: &[u8]) -> Result<Event, DecodeError> {
        let (foreign, at) = self.0.of(bytes)?;
        Ok(match foreign {
            None => event_v1::Fields::read(bytes, at)?.into_event()?,
            Some(foreign) => event_of(foreign.resolve(bytes, at, &self.0.ours)?)?,
        })
    }
}

/// A decoded event, as far as coalescing reads it.
#[derive(Clone, Debug)]
pub enum Decoded<'a> {
    /// Written by this version: borrowed from the record's bytes.
    InPlace(Change<'a>),
    /// Written by another version: resolved, owned.
    Resolved(Box<Event>),
}

impl Decoded<'_> {
    /// Returns the change.
    #[inline]
    pub fn change(&self) -> Change<'_> {
        match self {
            Self::InPlace(change) => *change,
            Self::Resolved(event) => Change {
                tenant: event.tenant.as_str(),
                conversation: event.conversation.as_ref().map(|id| id.as_str()),
                event_id: event.id.as_str(),
                kind: event.kind.as_str(),
                priority: event.priority,
                emitted_at: event.emitted_at,
                received_at: event.received_at,
            },
        }
    }
}

/// Decodes the records of `front.refresh`; taught as [`EventDecoder`] is.
#[derive(Debug)]
pub struct RefreshDecoder(Writers);

impl RefreshDecoder {
    /// Makes a decoder that knows this version's schemas by fingerprint, and none by id.
    #[expect(
        clippy::new_without_default,
        reason = "parses a schema: not a trivial default"
    )]
    pub fn new() -> Self {
        Self(Writers::new(refresh_v1::SCHEMA, refresh_v1::FINGERPRINT))
    }

    /// Takes the schema that the registry gave for `id`.
    ///
    /// # Errors
    /// [`UnreadableSchema`], to be logged. The id is known from then on: its records are refused one by one as
    /// [`Malformed::Unreadable`].
    pub fn learn(&mut self, id: SchemaId, schema: &str) -> Result<(), UnreadableSchema> {
        self.0.learn(id, schema)
    }

    /// Reads a refresh.
    ///
    /// # Errors
    /// [`DecodeError`]: its variants say what to do.
    pub fn refresh(&self, bytes: &[u8]) -> Result<Refresh, DecodeError> {
        let (foreign, at) = self.0.of(bytes)?;
        Ok(match foreign {
            None => refresh_v1::decode_at(bytes, at)?,
            Some(foreign) => refresh_of(foreign.resolve(bytes, at, &self.0.ours)?)?,
        })
    }
}

/// The writers' schemas that a decoder knows.
#[derive(Debug)]
struct Writers {
    ours: Schema,
    canonical: String,
    fingerprint: Fingerprint,
    /// Few and looked up per record: a list is the fastest map, and ours is nearly always its first.
    by_id: Vec<(SchemaId, Known)>,
}

#[derive(Debug)]
enum Known {
    Ours,
    Foreign(Box<Foreign>),
    Unreadable,
}

impl Writers {
    fn new(ours: &str, fingerprint: Fingerprint) -> Self {
        let ours = Schema::parse_str(ours).expect("our own schema is valid: a test parses it");
        Self {
            canonical: canonical_form(&ours),
            ours,
            fingerprint,
            by_id: Vec::new(),
        }
    }

    fn learn(&mut self, id: SchemaId, schema: &str) -> Result<(), UnreadableSchema> {
        let parsed = Schema::parse_str(schema).map_err(|err| UnreadableSchema {
            id,
            reason: err.to_string().into(),
        });
        // What two schemas with one canonical form write is the same, byte for byte.
        let known = match parsed {
            Ok(schema) if canonical_form(&schema) == self.canonical => Ok(Known::Ours),
            Ok(schema) => {
                Foreign::new(id, schema, &self.ours).map(|foreign| Known::Foreign(Box::new(foreign)))
            }
            Err(refused) => Err(refused),
        };
        self.by_id.retain(|(other, _)| *other != id);
        if self.by_id.len() == SCHEMAS_MAX {
            self.by_id.remove(0);
        }
        match known {
            Ok(known) => {
                self.by_id.push((id, known));
                Ok(())
            }
            Err(refused) => {
                self.by_id.push((id, Known::Unreadable));
                Err(refused)
            }
        }
    }

    /// Finds a record's schema (`None`: ours) and the offset of its Avro bytes.
    #[inline]
    fn of(&self, bytes: &[u8]) -> Result<(Option<&Foreign>, usize), DecodeError> {
        let (writer, at) = frame::read_header(bytes)?;
        let id = match writer {
            Writer::Fingerprint(print) if print == self.fingerprint => return Ok((None, at)),
            Writer::Fingerprint(print) => return Err(Malformed::UnknownFingerprint(print).into()),
            Writer::Id(id) => id,
        };
        match self.by_id.iter().find(|(known, _)| *known == id) {
            Some((_, Known::Ours)) => Ok((None, at)),
            Some((_, Known::Foreign(foreign))) => Ok((Some(foreign), at)),
            Some((_, Known::Unreadable)) => Err(Malformed::Unreadable(id).into()),
            None => Err(DecodeError::UnknownSchema(id)),
        }
    }
}

/// Returns a schema's parsing canonical form (Avro specification, "Parsing Canonical Form for Schemas").
///
/// The form that `apache-avro` 0.22 gives leaves `{"type":"long"}` where it stripped a logical type, and the
/// specification says `"long"`; taking the form of the form mends that. Java's `SchemaNormalization` is the judge.
pub(super) fn canonical_form(schema: &Schema) -> String {
    let form = schema.canonical_form();
    Schema::parse_str(&form).map_or(form, |schema| schema.canonical_form())
}

/// Takes an event's fields in the order of our schema.
fn event_of(mut record: Record) -> Result<Event, Malformed> {
    let tenant = record.string()?;
    let conversation = record.optional_string()?;
    let event_id = record.string()?;
    let kind = record.string()?;
    let front_type = record.optional_string()?;
    let front_inner_type = record.optional_string()?;
    let priority = record.one_of(&Priority::ALL)?;
    let source = record.one_of(&Source::ALL)?;
    let emitted_at = record.long()?;
    let received_at = record.long()?;
    let payload = record.optional_bytes()?;
    event_v1::Fields {
        tenant: &tenant,
        conversation: conversation.as_deref(),
        event_id: &event_id,
        kind: &kind,
        front_type: front_type.as_deref(),
        front_inner_type: front_inner_type.as_deref(),
        priority,
        source,
        emitted_at: Timestamp::from_millis(emitted_at),
        received_at: Timestamp::from_millis(received_at),
        payload: payload.as_deref(),
    }
    .into_event()
}

/// Takes a refresh's fields in the order of our schema.
fn refresh_of(mut record: Record) -> Result<Refresh, Malformed> {
    let mut fields = refresh_v1::Fields {
        refresh_id: record.string()?,
        tenant: record.string()?,
        conversation: record.string()?,
        priority: record.one_of(&Priority::ALL)?,
        kinds: record.strings()?,
        event_count: record.long()?,
        event_ids: record.strings()?,
        event_ids_truncated: record.boolean()?,
        first_emitted_at: record.long()?,
        last_emitted_at: record.long()?,
        first_received_at: record.long()?,
        last_received_at: record.long()?,
        partition: record.int()?,
        first_offset: record.long()?,
        last_offset: record.long()?,
        run_started_at: 0,
        run_start_offset: 0,
        run_cause: None,
        closed_by: None,
    };
    let mut run = record.record()?;
    fields.run_started_at = run.long()?;
    fields.run_start_offset = run.long()?;
    fields.run_cause = run.one_of(&refresh_v1::CAUSES)?;
    fields.closed_by = record.one_of(&refresh_v1::REASONS)?;
    fields.into_refresh()
}
