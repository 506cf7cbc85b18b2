//! The settings file: TOML to keys with values and lines.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Mistake, Origin, Wrong};
use super::table::{self, PROPERTIES};
use super::value::{Entry, Raw, nearest};

/// What a file gives, and what is wrong with it.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) given: Vec<(String, Entry)>,
    pub(crate) mistakes: Vec<Mistake>,
}

/// Reads the file at `path`. Every mistake is found, of its syntax too.
pub(crate) fn read(path: &Path) -> Content {
    let shared: Arc<Path> = path.into();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, &shared),
        Err(error) => {
            let wrong = Wrong::new(
                format!("the file cannot be read: {error}"),
                "check the path given by --config or FRONTSTREAM_CONFIG",
            );
            let mistake = Mistake::new("settings file", Origin::File(shared, 1), wrong);
            Content {
                mistakes: vec![mistake],
                ..Content::default()
            }
        }
    }
}

/// Reads the text of a settings file; `path` is for messages only.
pub(crate) fn parse(text: &str, path: &Arc<Path>) -> Content {
    let mut walk = Walk {
        lines: Lines::of(text, path),
        content: Content::default(),
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        // The parser's words never repeat the text, which may hold a secret.
        let wrong = Wrong::new(
            error.message().to_owned(),
            "see https://toml.io for how TOML is written",
        );
        let mistake = Mistake::new("syntax", walk.lines.origin(at), wrong);
        walk.content.mistakes.push(mistake);
    }
    walk.section("", table.get_ref());
    walk.content
}

/// Turns places in the text into lines.
struct Lines {
    path: Arc<Path>,
    starts: Vec<usize>,
}

impl Lines {
    fn of(text: &str, path: &Arc<Path>) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            path: Arc::clone(path),
            starts: newlines.map(|(at, _)| at + 1).collect(),
        }
    }

    fn origin(&self, at: usize) -> Origin {
        let line = self.starts.partition_point(|start| *start <= at) + 1;
        Origin::File(Arc::clone(&self.path), line)
    }
}

struct Walk {
    lines: Lines,
    content: Content,
}

impl Walk {
    fn section(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let origin = self.lines.origin(name.span().start);
            let inner = value.get_ref().as_table();
            if key == PROPERTIES && inner.is_some() {
                self.properties(&format!("{key}."), value);
            } else if table::find(&key).is_some() {
                let entry = Entry {
                    origin,
                    ..self.entry(value)
                };
                self.content.given.push((key, entry));
            } else if let Some(inner) = inner.filter(|inner| !inner.is_empty() || table::is_section(&key)) {
                self.section(&format!("{key}."), inner);
            } else {
                let wrong = unknown_key(&key);
                self.content.mistakes.push(Mistake::new(key, origin, wrong));
            }
        }
    }

    /// librdkafka's names have dots: `sasl.mechanism = "…"` is the same as `"sasl.mechanism" = "…"`.
    fn properties(&mut self, prefix: &str, value: &Spanned<DeValue<'_>>) {
        let Some(table) = value.get_ref().as_table() else {
            return;
        };
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let nested = value
                .get_ref()
                .as_table()
                .is_some_and(|inner| !inner.contains_key("env") && !inner.contains_key("file"));
            if nested {
                self.properties(&format!("{key}."), value);
            } else {
                let origin = self.lines.origin(name.span().start);
                let raw = self.entry(value).raw;
                self.content.given.push((key, Entry { raw, origin }));
            }
        }
    }

    fn entry(&self, value: &Spanned<DeValue<'_>>) -> Entry {
        let raw = match value.get_ref() {
            DeValue::String(text) => Raw::Text(text.clone().into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| Raw::Other("a number beyond 64 bits".to_owned()), Raw::Whole),
            DeValue::Float(_) => Raw::Other("a number with a fraction".to_owned()),
            DeValue::Boolean(value) => Raw::Other(value.to_string()),
            DeValue::Datetime(_) => Raw::Other("a date".to_owned()),
            DeValue::Array(list) => Raw::List(list.iter().map(|value| self.entry(value)).collect()),
            DeValue::Table(table) => Raw::Table(
                table
                    .iter()
                    .map(|(name, value)| (name.get_ref().clone().into_owned(), self.entry(value)))
                    .collect(),
            ),
        };
        Entry {
            raw,
            origin: self.lines.origin(value.span().start),
        }
    }
}

/// Says that a key does not exist, and which one may have been meant.
pub(crate) fn unknown_key(key: &str) -> Wrong {
    if table::is_section(key) {
        let help = format!("write [{key}] and its settings below");
        return Wrong::new("is a section, not a setting", help);
    }
    let help = match nearest(key, table::keys()) {
        Some(known) => format!("did you mean {known}?"),
        None => "remove it; frontstream.example.toml lists every setting".to_owned(),
    };
    Wrong::new("is no setting of frontstream", help)
}
