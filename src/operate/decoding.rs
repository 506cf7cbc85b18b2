//! Records to model for commands, asking the registry for schemas that are not known yet.

use anyhow::Context as _;

use crate::config::RegistrySettings;
use crate::model::{Event, Refresh};
use crate::registry;
use crate::wire::{DecodeError, Decoded, EventDecoder, Malformed, RefreshDecoder, SchemaId};

/// Decodes both kinds of records. Blocks while it asks the registry: not for asynchronous code.
pub(crate) struct Decoders {
    events: EventDecoder,
    refreshes: RefreshDecoder,
    registry: Option<Registry>,
}

struct Registry {
    handle: registry::Handle,
    runtime: tokio::runtime::Runtime,
}

impl Decoders {
    /// Makes decoders; connects to nothing yet.
    pub(crate) fn new(settings: &RegistrySettings) -> anyhow::Result<Self> {
        let registry = match &settings.url {
            None => None,
            Some(url) => Some(Registry {
                handle: registry::Handle::new(&registry::Settings {
                    url: url.clone(),
                    timeout: settings.timeout,
                })?,
                runtime: tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .context("starting a runtime for the registry's client")?,
            }),
        };
        Ok(Self {
            events: EventDecoder::new(),
            refreshes: RefreshDecoder::new(),
            registry,
        })
    }

    /// Reads of an event what coalescing reads; the inner error is about the record, the outer about the registry.
    pub(crate) fn change<'a>(&mut self, bytes: &'a [u8]) -> anyhow::Result<Result<Decoded<'a>, Malformed>> {
        match self.events.decode(bytes) {
            Err(DecodeError::UnknownSchema(id)) => {
                let schema = self.schema(id)?;
                // Unreadable is remembered, and then said of each record.
                let _ = schema.map(|schema| self.events.learn(id, &schema));
                settled(self.events.decode(bytes), id)
            }
            other => settled(other, SchemaId(0)),
        }
    }

    /// Reads a whole event.
    pub(crate) fn event(&mut self, bytes: &[u8]) -> anyhow::Result<Result<Event, Malformed>> {
        match self.events.event(bytes) {
            Err(DecodeError::UnknownSchema(id)) => {
                let schema = self.schema(id)?;
                let _ = schema.map(|schema| self.events.learn(id, &schema));
                settled(self.events.event(bytes), id)
            }
            other => settled(other, SchemaId(0)),
        }
    }

    /// Reads a refresh.
    pub(crate) fn refresh(&mut self, bytes: &[u8]) -> anyhow::Result<Result<Refresh, Malformed>> {
        match self.refreshes.refresh(bytes) {
            Err(DecodeError::UnknownSchema(id)) => {
                let schema = self.schema(id)?;
                let _ = schema.map(|schema| self.refreshes.learn(id, &schema));
                settled(self.refreshes.refresh(bytes), id)
            }
            other => settled(other, SchemaId(0)),
        }
    }

    /// Asks for a schema; `None` when the registry has none of this id, which is the record's fault.
    fn schema(&self, id: SchemaId) -> anyhow::Result<Option<std::sync::Arc<str>>> {
        let Some(registry) = &self.registry else {
            anyhow::bail!(
                "records were written with schema {id} of a registry: set registry.url, so that it can be read"
            );
        };
        match registry.runtime.block_on(registry.handle.schema(id)) {
            Ok(schema) => Ok(Some(schema)),
            Err(registry::Error::Unknown(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// After the registry was asked, a schema that is still not known makes the record unreadable.
fn settled<T>(answer: Result<T, DecodeError>, id: SchemaId) -> anyhow::Result<Result<T, Malformed>> {
    match answer {
        Ok(record) => Ok(Ok(record)),
        Err(DecodeError::Malformed(malformed)) => Ok(Err(malformed)),
        Err(DecodeError::UnknownSchema(_)) => Ok(Err(Malformed::Unreadable(id))),
    }
}
