//! Bytes to model and back: one file per format and version; the only place that knows an encoding.
//!
//! Writing: [`event_v1::write`] and [`refresh_v1::write`] append a framed record to a buffer. Reading:
//! [`EventDecoder`] and [`RefreshDecoder`] take a record's bytes in either framing and any readable version.
//! Nothing here talks to a registry: a decoder says which schema it lacks, and is taught it.

pub mod checkpoint_v1;
pub mod event_v1;
pub mod frame;
pub mod headers;
pub mod refresh_v1;

mod avro;
mod decode;
mod error;
mod foreign;
pub(crate) mod front_relay;
pub(crate) mod front_webhook;
pub(crate) mod lenient;

#[cfg(test)]
mod tests;

pub use decode::{Decoded, EventDecoder, RefreshDecoder};
pub use error::{DecodeError, Malformed, UnreadableSchema};
pub use frame::{Encoding, Fingerprint, SchemaId};
