//! Identifiers: opaque text, compared as bytes, never empty.

use std::fmt;

/// Declares an identifier: the same few lines for each, so that one kind is never passed for another.
macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Takes `text` as an identifier; `None` when it is empty.
            pub fn new(text: impl Into<Box<str>>) -> Option<Self> {
                let text = text.into();
                (!text.is_empty()).then_some(Self(text))
            }

            /// Returns the identifier as it was received.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier! {
    /// Names one company whose webhooks we receive (`cmp_…` of Front, or the tenant segment of the URL).
    TenantId
}
identifier! {
    /// Names a conversation (`cnv_…`). Its length and alphabet are Front's and never checked.
    ConversationId
}
identifier! {
    /// Names an event (`evt_…`), or `sha256-…` of the body when Front sent none.
    EventId
}
identifier! {
    /// The mapped name of what happened, such as `message.received`: an open set, unknown names are carried.
    Kind
}
