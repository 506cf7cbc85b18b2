//! Secrets: where they are, and a value that never shows itself.

use std::fmt;
use std::path::PathBuf;

use super::environment::Environment;
use super::report::{Origin, Wrong};
use super::value::{Entry, Raw, nearest};

/// The bytes of a secret. `Debug` masks them; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes the bytes of a secret as they are.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// Returns the bytes, to compute with and never to write anywhere.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A secret and the name by which logs and `send --secret` know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSecret {
    /// Unique within its scheme.
    pub name: String,
    /// The key.
    pub value: Secret,
}

/// Where a secret stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Environment(String),
    File(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "env {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

impl Place {
    /// Reads `env:NAME` or `file:/path`; `None` for anything else.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("env:") {
            return (!name.is_empty()).then(|| Self::Environment(name.to_owned()));
        }
        let path = text.strip_prefix("file:")?;
        (!path.is_empty()).then(|| Self::File(path.into()))
    }

    /// Reads the secret: an environment variable as it is, a file without the newline at its end.
    ///
    /// # Errors
    ///
    /// It is not there, not readable, empty, or too long to be a secret.
    pub(crate) fn read(&self, environment: &Environment) -> Result<Secret, Wrong> {
        let bytes = match self {
            Self::Environment(name) => environment.bytes(name).ok_or_else(|| {
                Wrong::new(
                    format!("the environment variable {name} is not set"),
                    format!("set {name} for this process, or remove the entry"),
                )
            })?,
            Self::File(path) => read_file(path)?,
        };
        if bytes.is_empty() {
            let help = "an empty key would let anybody sign; give it a value, or remove the entry";
            return Err(Wrong::new(format!("the secret in {self} is empty"), help));
        }
        Ok(Secret::new(bytes))
    }
}

/// Longer than any key, and short enough that a wrong path (a log, a device) is noticed.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

fn read_file(path: &std::path::Path) -> Result<Vec<u8>, Wrong> {
    use std::io::Read;

    let failed = |error: std::io::Error| {
        Wrong::new(
            format!("the file {} cannot be read: {error}", path.display()),
            "check the path and who may read it",
        )
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(Wrong::new(
            format!("the file {} is longer than 64 KiB", path.display()),
            "name the file that holds the secret alone",
        ));
    }
    // Editors and `echo` end a file with a newline that is not part of the key; nothing else is trimmed.
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}

/// One entry of a list of secrets, not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretEntry {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) origin: Origin,
}

/// Explains why a value in the settings themselves is refused.
pub(crate) const NOT_INLINE: &str = "settings files are copied, committed and printed, so a secret never stands in \
     one: write { name = \"…\", env = \"NAME\" } or { name = \"…\", file = \"/path\" }";

const BARE_FORM: &str = "write name=env:NAME or name=file:/path, entries separated by commas";

/// Reads a list of secrets; every entry that is wrong is reported, with its own line.
pub(crate) fn entries(entry: &Entry) -> Result<Vec<SecretEntry>, Vec<(Origin, Wrong)>> {
    let each: Vec<Result<SecretEntry, (Origin, Wrong)>> = match &entry.raw {
        Raw::Bare(text) => text
            .split(',')
            .filter(|part| !part.trim().is_empty())
            .enumerate()
            .map(|(at, part)| bare_entry(at + 1, part.trim(), &entry.origin))
            .collect(),
        Raw::List(list) => list.iter().map(table_entry).collect(),
        other @ (Raw::Text(_) | Raw::Whole(_) | Raw::Other(_) | Raw::Table(_)) => {
            let what = format!("must be a list, not {}", other.name());
            vec![Err((entry.origin.clone(), Wrong::new(what, NOT_INLINE)))]
        }
    };
    let (good, bad): (Vec<_>, Vec<_>) = each.into_iter().partition(Result::is_ok);
    if !bad.is_empty() {
        return Err(bad.into_iter().filter_map(Result::err).collect());
    }
    let good: Vec<SecretEntry> = good.into_iter().filter_map(Result::ok).collect();
    duplicates(&good)?;
    Ok(good)
}

fn duplicates(entries: &[SecretEntry]) -> Result<(), Vec<(Origin, Wrong)>> {
    let twice: Vec<_> = entries
        .iter()
        .enumerate()
        .filter(|(at, entry)| entries[..*at].iter().any(|earlier| earlier.name == entry.name))
        .map(|(_, entry)| {
            let what = format!("names two secrets {:?}", entry.name);
            let help = "give each its own name: logs and metrics say which one matched";
            (entry.origin.clone(), Wrong::new(what, help))
        })
        .collect();
    if twice.is_empty() { Ok(()) } else { Err(twice) }
}

/// Reads `name=env:NAME` or `name=file:/path`. The text is never repeated: it may be the secret itself.
fn bare_entry(at: usize, text: &str, origin: &Origin) -> Result<SecretEntry, (Origin, Wrong)> {
    let read = text.split_once('=').and_then(|(name, place)| {
        let place = Place::from_text(place.trim())?;
        Some((name.trim().to_owned(), place))
    });
    let Some((name, place)) = read else {
        let what = format!("entry {at} does not say where the secret stands");
        return Err((origin.clone(), Wrong::new(what, BARE_FORM)));
    };
    check_name(&name).map_err(|wrong| (origin.clone(), wrong))?;
    Ok(SecretEntry {
        name,
        place,
        origin: origin.clone(),
    })
}

fn table_entry(entry: &Entry) -> Result<SecretEntry, (Origin, Wrong)> {
    let Raw::Table(members) = &entry.raw else {
        let what = format!("holds {} where a table is wanted", entry.raw.name());
        return Err((entry.origin.clone(), Wrong::new(what, NOT_INLINE)));
    };
    from_members(members)
        .map(|(name, place)| SecretEntry {
            name,
            place,
            origin: entry.origin.clone(),
        })
        .map_err(|wrong| (entry.origin.clone(), wrong))
}

fn from_members(members: &[(String, Entry)]) -> Result<(String, Place), Wrong> {
    let (mut name, mut env, mut file) = (None, None, None);
    for (member, value) in members {
        let slot = match member.as_str() {
            "name" => &mut name,
            "env" => &mut env,
            "file" => &mut file,
            other => return Err(unknown_member(other)),
        };
        let Raw::Text(text) = &value.raw else {
            let what = format!("has a member {member} that is {}", value.raw.name());
            return Err(Wrong::new(what, "write it as text in quotes"));
        };
        *slot = Some(text.clone());
    }
    let Some(name) = name else {
        return Err(Wrong::new("has an entry without a name", "add name = \"…\""));
    };
    check_name(&name)?;
    match (env, file) {
        (Some(env), None) if !env.is_empty() => Ok((name, Place::Environment(env))),
        (None, Some(file)) if !file.is_empty() => Ok((name, Place::File(file.into()))),
        (Some(_), Some(_)) => Err(Wrong::new(
            format!("names both env and file for secret {name:?}"),
            "keep one of them",
        )),
        (None | Some(_), None | Some(_)) => Err(Wrong::new(
            format!("does not say where secret {name:?} stands"),
            "add env = \"NAME\" or file = \"/path\"",
        )),
    }
}

fn unknown_member(member: &str) -> Wrong {
    // Whatever is written there may be the secret itself, so only the member's name is repeated.
    let what = format!("has an entry with a member {member:?}");
    match nearest(member, ["name", "env", "file"]) {
        Some(known) => Wrong::new(what, format!("did you mean {known}?")),
        None => Wrong::new(what, NOT_INLINE),
    }
}

/// A name goes into logs, metrics and flags.
fn check_name(name: &str) -> Result<(), Wrong> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) {
        return Ok(());
    }
    Err(Wrong::new(
        "has a secret whose name is not a plain word",
        "use 1 to 64 letters, digits, '-', '_' or '.', such as \"current\"",
    ))
}
