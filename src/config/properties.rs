//! librdkafka's settings, as an operator passes them through.

use super::environment::{Environment, variable};
use super::report::{Origin, Wrong};
use super::secret::{NOT_INLINE, Place};
use super::table::PROPERTIES;
use super::value::{Entry, Raw, nearest};
use crate::kafka::properties::{Refusal, check, looks_secret, usual};

/// A librdkafka property, as given.
pub(super) struct Property {
    pub(super) given: PropertyValue,
    pub(super) origin: Origin,
}

/// Its value: itself, or where it stands.
pub(super) enum PropertyValue {
    Text(String),
    Placed(Place),
}

/// Takes the value of a librdkafka property; one that looks secret must say where it stands.
pub(super) fn property(name: &str, entry: &Entry) -> Result<PropertyValue, Wrong> {
    let secret = looks_secret(name);
    let inline = || {
        Wrong::new(
            "holds the secret itself",
            format!(
                "{NOT_INLINE}, or set {}",
                variable(&format!("{PROPERTIES}.{name}"))
            )
            .replace("name = \"…\", ", ""),
        )
    };
    match &entry.raw {
        Raw::Bare(text) if secret => match (Place::from_text(text), &entry.origin) {
            (Some(place), _) => Ok(PropertyValue::Placed(place)),
            (None, Origin::Environment(_)) => Ok(PropertyValue::Text(text.clone())),
            (None, Origin::Default | Origin::File(..) | Origin::Flag(_)) => Err(inline()),
        },
        Raw::Text(_) | Raw::Whole(_) if secret => Err(inline()),
        Raw::Bare(text) | Raw::Text(text) => Ok(PropertyValue::Text(text.clone())),
        Raw::Whole(number) => Ok(PropertyValue::Text(number.to_string())),
        Raw::Other(word) if word == "true" || word == "false" => Ok(PropertyValue::Text(word.clone())),
        Raw::Table(members) => match members.as_slice() {
            [
                (
                    member,
                    Entry {
                        raw: Raw::Text(text), ..
                    },
                ),
            ] if member == "env" && !text.is_empty() => {
                Ok(PropertyValue::Placed(Place::Environment(text.clone())))
            }
            [
                (
                    member,
                    Entry {
                        raw: Raw::Text(text), ..
                    },
                ),
            ] if member == "file" && !text.is_empty() => Ok(PropertyValue::Placed(Place::File(text.into()))),
            _ => Err(Wrong::new(
                "does not say where its value stands",
                "write { env = \"NAME\" } or { file = \"/path\" }, and nothing else",
            )),
        },
        other @ (Raw::Other(_) | Raw::List(_)) => Err(Wrong::new(
            format!(
                "must be text, a whole number, true or false, not {}",
                other.name()
            ),
            "write it as librdkafka's documentation has it, in quotes",
        )),
    }
}

pub(super) fn placed_text(place: &Place, environment: &Environment) -> Result<String, Wrong> {
    let secret = place.read(environment)?;
    String::from_utf8(secret.expose().to_vec())
        .map_err(|_| Wrong::new(format!("the value in {place} is not UTF-8"), "write it in UTF-8"))
}

pub(super) fn check_property(name: &str, value: String, secret: bool) -> Result<String, Wrong> {
    match check(name, &value) {
        Ok(()) => Ok(value),
        Err(Refusal::Owned(instead)) => Err(Wrong::new("is not passed through", instead)),
        Err(Refusal::Unknown) => {
            let help = match nearest(name, usual().iter().copied()) {
                Some(known) => format!("did you mean {PROPERTIES}.{known}?"),
                None => "see CONFIGURATION.md of librdkafka for what there is".to_owned(),
            };
            Err(Wrong::new("is no setting of librdkafka", help))
        }
        Err(Refusal::Value(_)) if secret => Err(Wrong::new(
            "has a value that librdkafka does not take",
            "check what it holds",
        )),
        Err(Refusal::Value(words)) => Err(Wrong::new(
            format!("has a value that librdkafka does not take: {words}"),
            "see CONFIGURATION.md of librdkafka for its values",
        )),
    }
}
