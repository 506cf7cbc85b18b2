//! JSON members of foreign bodies, read for what they are: a surprise in a member never costs the body.
//!
//! Front's shapes are partly guesses (front-protocol 5.4 and the fixtures' README), so a member of another type
//! than expected counts as absent. Whatever is not read is skipped without a tree and without recursion
//! (`serde_json` ignores values iteratively), so that deep nesting costs neither memory nor stack.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One member: an object is read as `T` and an array as `L`, both skipped unless named.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Member<'a, T = IgnoredAny, L = IgnoredAny> {
    Absent,
    Null,
    Boolean,
    Number(f64),
    /// Borrowed where it holds no escapes.
    Text(Cow<'a, str>),
    Object(T),
    List(L),
}

#[expect(clippy::derivable_impls, reason = "derived, it would ask the same of T and L")]
impl<T, L> Default for Member<'_, T, L> {
    fn default() -> Self {
        Self::Absent
    }
}

impl<T, L> Member<'_, T, L> {
    /// Returns the text, if it is one and not empty.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            Self::Text(_)
            | Self::Absent
            | Self::Null
            | Self::Boolean
            | Self::Number(_)
            | Self::Object(_)
            | Self::List(_) => None,
        }
    }

    /// Returns the number, if it is one.
    pub(crate) fn number(&self) -> Option<f64> {
        if let Self::Number(number) = self {
            Some(*number)
        } else {
            None
        }
    }

    /// Returns the object, if it is one.
    pub(crate) fn object(&self) -> Option<&T> {
        if let Self::Object(object) = self {
            Some(object)
        } else {
            None
        }
    }

    /// Takes the object, if it is one.
    pub(crate) fn into_object(self) -> Option<T> {
        if let Self::Object(object) = self {
            Some(object)
        } else {
            None
        }
    }

    /// Returns the array, if it is one.
    pub(crate) fn list(&self) -> Option<&L> {
        if let Self::List(list) = self {
            Some(list)
        } else {
            None
        }
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>, L: Deserialize<'de>> Deserialize<'de> for Member<'a, T, L> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MemberVisitor(PhantomData))
    }
}

struct MemberVisitor<T, L>(PhantomData<(T, L)>);

impl<'de, T: Deserialize<'de>, L: Deserialize<'de>> Visitor<'de> for MemberVisitor<T, L> {
    type Value = Member<'de, T, L>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Member::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Member::Boolean)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "exact up to 2^53, beyond every second and id we read"
    )]
    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Member::Number(number as f64))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "exact up to 2^53, beyond every second and id we read"
    )]
    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Member::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Member::Number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Member::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Member::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Member::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        L::deserialize(SeqAccessDeserializer::new(seq)).map(Member::List)
    }
}
