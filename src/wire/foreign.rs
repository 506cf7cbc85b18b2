//! Records of another version: their writer's schema resolved onto ours by the `apache-avro` crate.
//!
//! The bytes are walked first, strictly, because that crate takes the end of the input for a null and allocates what
//! a length announces. Its errors quote values, so they never leave this file.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::{InnerDecimalSchema, NamesRef, ResolvedSchema, UuidSchema};
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::types::Value;

use super::avro::Reader;
use super::error::{Malformed, UnreadableSchema};
use super::frame::SchemaId;

/// What every value of a foreign schema is called in errors: its names are others' and come with its id.
const READING: &str = "a value of its writer's schema";
/// How deeply values may nest; ours nest two deep. Bounds the stack on recursive schemas.
const DEPTH_MAX: usize = 32;

/// A writer's schema that is not ours but can be read as ours.
#[derive(Debug)]
pub(super) struct Foreign {
    id: SchemaId,
    schema: Schema,
}

impl Foreign {
    /// Takes a writer's schema, unless no record of it could ever be read as `ours`.
    pub(super) fn new(id: SchemaId, schema: Schema, ours: &Schema) -> Result<Self, UnreadableSchema> {
        let refused = |reason: String| UnreadableSchema {
            id,
            reason: reason.into(),
        };
        SchemaCompatibility::can_read(&schema, ours).map_err(|err| refused(err.to_string()))?;
        ResolvedSchema::new(&schema).map_err(|err| refused(err.to_string()))?;
        Ok(Self { id, schema })
    }

    /// Reads the record whose Avro bytes begin at offset `at`, and resolves it onto `ours`.
    pub(super) fn resolve(&self, bytes: &[u8], at: usize, ours: &Schema) -> Result<Record, Malformed> {
        let unresolved = || Malformed::Unresolved(self.id);
        let resolved = ResolvedSchema::new(&self.schema).map_err(|_| unresolved())?;
        let mut reader = Reader::new(bytes, at);
        walk(&mut reader, &self.schema, resolved.get_names(), None, DEPTH_MAX)?;
        reader.finish()?;
        let value = GenericDatumReader::builder(&self.schema)
            .resolved_writer_schemata(resolved)
            .reader_schema(ours)
            .build()
            .and_then(|reader| reader.read_value(&mut &bytes[at..]))
            .map_err(|_| unresolved())?;
        let Value::Record(fields) = value else {
            return Err(unresolved());
        };
        Ok(Record {
            fields: fields.into_iter(),
            id: self.id,
        })
    }
}

/// Checks that the bytes hold one value of `schema`, wholly.
fn walk(
    reader: &mut Reader<'_>,
    schema: &Schema,
    names: &NamesRef<'_>,
    namespace: Option<&str>,
    depth: usize,
) -> Result<(), Malformed> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Malformed::Depth {
            reading: READING,
            offset: reader.offset(),
        });
    };
    match schema {
        Schema::Null => Ok(()),
        Schema::Boolean => reader.boolean(READING).map(drop),
        Schema::Int | Schema::Date | Schema::TimeMillis => reader.int(READING).map(drop),
        Schema::Long
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => reader.long(READING).map(drop),
        Schema::Float => reader.fixed(READING, 4).map(drop),
        Schema::Double => reader.fixed(READING, 8).map(drop),
        Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => {
            reader.bytes(READING).map(drop)
        }
        Schema::String | Schema::Uuid(UuidSchema::String) => reader.string(READING).map(drop),
        Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
            reader.fixed(READING, fixed.size).map(drop)
        }
        Schema::Decimal(decimal) => match &decimal.inner {
            InnerDecimalSchema::Bytes => reader.bytes(READING).map(drop),
            InnerDecimalSchema::Fixed(fixed) => reader.fixed(READING, fixed.size).map(drop),
        },
        Schema::Array(array) => reader.items(READING, |reader| {
            walk(reader, &array.items, names, namespace, depth)
        }),
        Schema::Map(map) => reader.items(READING, |reader| {
            reader.string(READING)?;
            walk(reader, &map.types, names, namespace, depth)
        }),
        Schema::Union(union) => {
            let branch = reader.choice(READING, union.variants().len())?;
            walk(reader, &union.variants()[branch], names, namespace, depth)
        }
        Schema::Enum(symbols) => reader.choice(READING, symbols.symbols.len()).map(drop),
        Schema::Record(record) => {
            let name = record.name.fully_qualified_name(namespace);
            record
                .fields
                .iter()
                .try_for_each(|field| walk(reader, &field.schema, names, name.namespace(), depth))
        }
        Schema::Ref { name } => {
            let name = name.fully_qualified_name(namespace);
            let schema = names.get(&*name).expect("learning a schema resolves its names");
            walk(reader, schema, names, name.namespace(), depth)
        }
    }
}

/// A resolved record: its fields in the order of our schema, taken one after another.
pub(super) struct Record {
    fields: std::vec::IntoIter<(String, Value)>,
    id: SchemaId,
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "of another crate's values, every one that is not of the type asked for is refused"
)]
impl Record {
    pub(super) fn string(&mut self) -> Result<Box<str>, Malformed> {
        match self.next()? {
            Value::String(text) => Ok(text.into()),
            _ => Err(self.unresolved()),
        }
    }

    pub(super) fn optional_string(&mut self) -> Result<Option<Box<str>>, Malformed> {
        match self.next()? {
            Value::Union(0, _) => Ok(None),
            Value::Union(1, value) => match *value {
                Value::String(text) => Ok(Some(text.into())),
                _ => Err(self.unresolved()),
            },
            _ => Err(self.unresolved()),
        }
    }

    pub(super) fn optional_bytes(&mut self) -> Result<Option<Vec<u8>>, Malformed> {
        match self.next()? {
            Value::Union(0, _) => Ok(None),
            Value::Union(1, value) => match *value {
                Value::Bytes(bytes) => Ok(Some(bytes)),
                _ => Err(self.unresolved()),
            },
            _ => Err(self.unresolved()),
        }
    }

    pub(super) fn strings(&mut self) -> Result<Vec<Box<str>>, Malformed> {
        let Value::Array(items) = self.next()? else {
            return Err(self.unresolved());
        };
        let text = |item| match item {
            Value::String(text) => Ok(text.into()),
            _ => Err(self.unresolved()),
        };
        items.into_iter().map(text).collect()
    }

    pub(super) fn long(&mut self) -> Result<i64, Malformed> {
        match self.next()? {
            Value::Long(number) | Value::TimestampMillis(number) => Ok(number),
            Value::Int(number) => Ok(number.into()),
            _ => Err(self.unresolved()),
        }
    }

    pub(super) fn int(&mut self) -> Result<i32, Malformed> {
        match self.next()? {
            Value::Int(number) => Ok(number),
            _ => Err(self.unresolved()),
        }
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Malformed> {
        match self.next()? {
            Value::Boolean(truth) => Ok(truth),
            _ => Err(self.unresolved()),
        }
    }

    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> Result<T, Malformed> {
        match self.next()? {
            Value::Enum(index, _) => usize::try_from(index)
                .ok()
                .and_then(|index| all.get(index).copied())
                .ok_or(self.unresolved()),
            _ => Err(self.unresolved()),
        }
    }

    pub(super) fn record(&mut self) -> Result<Self, Malformed> {
        match self.next()? {
            Value::Record(fields) => Ok(Self {
                fields: fields.into_iter(),
                id: self.id,
            }),
            _ => Err(self.unresolved()),
        }
    }

    fn next(&mut self) -> Result<Value, Malformed> {
        self.fields
            .next()
            .map(|(_, value)| value)
            .ok_or(Malformed::Unresolved(self.id))
    }

    fn unresolved(&self) -> Malformed {
        Malformed::Unresolved(self.id)
    }
}
