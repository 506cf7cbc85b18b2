//! The schema registry: ids for our schemas, schemas for the ids in records; what was learned is kept.
//!
//! Speaks the Confluent API, which Apicurio serves under `/apis/ccompat/v7`. Never retries by itself: whoever calls
//! knows whether there is something better to do than to wait. Async; an OS thread of the processor calls
//! `runtime.block_on(handle.schema(id))` with a `tokio::runtime::Handle`, which is safe outside of the runtime's own
//! threads and bounded by [`Settings::timeout`].

mod answer;
mod cache;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_schema_by_id, perform_sr_call, post_schema,
};
use schema_registry_converter::schema_registry_common::{SchemaType, SrCall, SuppliedSchema};
use thiserror::Error;

use self::answer::{Answer, Denial};
use self::cache::{Cache, Cached};
use crate::lifecycle::Instant;
use crate::wire::SchemaId;

/// What a new subject demands of later versions: each readable by every other, in both directions.
const COMPATIBILITY: &str = "FULL_TRANSITIVE";
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// Where the registry is: plain data.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The base of the API, such as `http://registry:8080/apis/ccompat/v7`. User and password in it become HTTP
    /// basic authentication.
    pub url: String,
    /// How long one request may take, connecting included. Default 2 s.
    pub timeout: Duration,
}

/// Leaves the URL out, which may hold a password.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Why the registry gave no answer to build on, by what the caller does next.
///
/// Only [`Error::Unknown`] says anything about a record: on every other variant a record that waits for its schema
/// is kept waiting, never set aside.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// No answer, or one that asks for patience: try again, with back-off.
    #[error("{attempted}: the schema registry is away: {reason}")]
    Unreachable {
        /// What was attempted.
        attempted: String,
        /// What the network or the registry said.
        reason: String,
    },
    /// The subject's versions do not allow this schema: an operator has to look.
    #[error("registering a schema for subject {subject}: incompatible with its earlier versions: {message}")]
    Incompatible {
        /// The subject.
        subject: String,
        /// The registry's words.
        message: String,
    },
    /// The registry answers and has no schema of this id.
    #[error("looking up schema {0}: the registry has no such schema")]
    Unknown(SchemaId),
    /// The registry answers and will not do it (credentials, read-only, an invalid schema): an operator has to look.
    #[error("{attempted}: the schema registry refused: {message}")]
    Refused {
        /// What was attempted.
        attempted: String,
        /// The registry's words.
        message: String,
    },
    /// Something answers that is no schema registry: the URL is wrong, or what stands before the registry is.
    #[error("{attempted}: the answer is not a schema registry's: {message}")]
    Malformed {
        /// What was attempted.
        attempted: String,
        /// What is odd about the answer.
        message: String,
    },
    /// The settings cannot be used.
    #[error("setting up the schema registry client: {0}")]
    Settings(String),
}

/// The registry, seen from a stage; cheap to clone, clones share what was learned.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    base: String,
    remote: SrSettings,
    /// For the one request that `schema_registry_converter` lacks: a subject's compatibility.
    http: reqwest::Client,
    made: Instant,
    /// Held for look-ups and inserts only, never across an await.
    cache: Mutex<Cache>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    /// Makes a client; connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Settings`] when the URL is not one of `http` or `https`.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let unusable = |reason: &dyn fmt::Display| Error::Settings(reason.to_string());
        let url = reqwest::Url::parse(&settings.url).map_err(|err| unusable(&err))?;
        if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
            return Err(unusable(&"registry.url begins with neither http:// nor https://"));
        }
        if url.scheme() == "https" && !cfg!(feature = "tls") {
            return Err(unusable(&"registry.url is https and this build has no TLS"));
        }
        let base = settings.url.trim_end_matches('/').to_owned();
        // Settings decide where requests go, not the environment: hence no proxy.
        let client = || reqwest::Client::builder().no_proxy().timeout(settings.timeout);
        let remote = SrSettings::new_builder(base.clone())
            .set_timeout(settings.timeout)
            .no_proxy()
            .build_with(client())
            .map_err(|err| unusable(&err.error))?;
        Ok(Self(Arc::new(Shared {
            base,
            remote,
            http: client().build().map_err(|err| unusable(&err.without_url()))?,
            made: Instant::now(),
            cache: Mutex::new(Cache::default()),
        })))
    }

    /// Returns the id under which `subject` has `schema`, registering it where it has not.
    ///
    /// A subject that does not exist is created with compatibility `FULL_TRANSITIVE`, which is set before the first
    /// version, so that no version ever slips in unchecked. An existing subject keeps the compatibility it has.
    /// Nothing is written when the subject has the schema already. Safe to call from many processes at once.
    ///
    /// # Errors
    /// [`enum@Error`]; after `Unreachable`, call again.
    pub async fn ensure(&self, subject: &str, schema: &str) -> Result<SchemaId, Error> {
        let id = match self.find(subject, schema).await? {
            Found::Schema(id) => id,
            Found::NoSchema => self.register(subject, schema).await?,
            Found::NoSubject => {
                self.set_compatibility(subject).await?;
                self.register(subject, schema).await?
            }
        };
        self.remember(id, Cached::Schema(schema.into()));
        Ok(id)
    }

    /// Returns the schema of an id: from memory when it was ever asked for or ensured here, also while the registry is
    /// away. That an id is unknown is believed for half a minute.
    ///
    /// # Errors
    /// [`Error::Unknown`] when the registry says so; on any other, the record's schema is merely not known yet.
    pub async fn schema(&self, id: SchemaId) -> Result<Arc<str>, Error> {
        match self.cache().find(id, self.0.made.elapsed()) {
            Some(Cached::Schema(schema)) => return Ok(schema),
            Some(Cached::Absent(_)) => return Err(Error::Unknown(id)),
            None => {}
        }
        let attempted = || format!("looking up schema {id}");
        let answer: Answer<_> = get_schema_by_id(id.0, &self.0.remote).await.map_err(Denial::from);
        match answer {
            Ok(found) => {
                let schema: Arc<str> = found.schema.into();
                self.remember(id, Cached::Schema(schema.clone()));
                Ok(schema)
            }
            Err(Denial::NoSchema) => {
                self.remember(id, Cached::Absent(self.0.made.elapsed()));
                Err(Error::Unknown(id))
            }
            Err(denial) => Err(denial.into_error(attempted())),
        }
    }

    /// Returns the compatibility set for a subject; `None` when there is none of its own.
    ///
    /// # Errors
    /// [`enum@Error`], as for every request.
    pub async fn compatibility(&self, subject: &str) -> Result<Option<String>, Error> {
        let request = self.0.http.get(self.config_url(subject));
        match answer::of_config(request.send().await).await {
            Ok(level) => Ok(Some(level)),
            Err(Denial::NoSubject | Denial::NoSchema | Denial::NoConfig) => Ok(None),
            Err(denial) => Err(denial.into_error(format!("reading the compatibility of subject {subject}"))),
        }
    }

    async fn find(&self, subject: &str, schema: &str) -> Result<Found, Error> {
        let body = serde_json::json!({ "schema": schema, "schemaType": "AVRO" }).to_string();
        let attempted = || format!("looking up our schema in subject {subject}");
        let call = SrCall::PostForVersion(subject, &body);
        let answer: Answer<_> = perform_sr_call(&self.0.remote, call).await.map_err(Denial::from);
        match answer {
            Ok(found) => match found.id {
                Some(id) => Ok(Found::Schema(SchemaId(id))),
                None => Err(Error::Malformed {
                    attempted: attempted(),
                    message: "it has no id".into(),
                }),
            },
            Err(Denial::NoSchema) => Ok(Found::NoSchema),
            Err(Denial::NoSubject) => Ok(Found::NoSubject),
            Err(denial) => Err(denial.into_error(attempted())),
        }
    }

    async fn register(&self, subject: &str, schema: &str) -> Result<SchemaId, Error> {
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
        let answer = post_schema(&self.0.remote, subject.to_owned(), supplied).await;
        match answer.map_err(Denial::from) {
            Ok(registered) => Ok(SchemaId(registered.id)),
            Err(Denial::Conflict(message)) => Err(Error::Incompatible {
                subject: subject.to_owned(),
                message,
            }),
            Err(denial) => Err(denial.into_error(format!("registering a schema for subject {subject}"))),
        }
    }

    async fn set_compatibility(&self, subject: &str) -> Result<(), Error> {
        let request = self
            .0
            .http
            .put(self.config_url(subject))
            .header("content-type", MEDIA_TYPE)
            .body(serde_json::json!({ "compatibility": COMPATIBILITY }).to_string());
        match answer::of_config(request.send().await).await {
            Ok(_) => Ok(()),
            Err(denial) => {
                // Apicurio 3.0.9 refuses the second of two that set it at the same moment: then it is set.
                if self
                    .compatibility(subject)
                    .await
                    .is_ok_and(|level| level.as_deref() == Some(COMPATIBILITY))
                {
                    return Ok(());
                }
                Err(denial.into_error(format!("setting the compatibility of subject {subject}")))
            }
        }
    }

    fn config_url(&self, subject: &str) -> String {
        // As `schema_registry_converter` writes subjects; topic names hold nothing else that a path must not.
        format!("{}/config/{}", self.0.base, subject.replace('/', "%2F"))
    }

    fn remember(&self, id: SchemaId, cached: Cached) {
        self.cache().insert(id, cached);
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        // The cache is whole after every line that changes it: a panic elsewhere cannot have left it half done.
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a subject has.
enum Found {
    Schema(SchemaId),
    NoSchema,
    NoSubject,
}

/// Returns the subject of a topic's values, by the topic name strategy.
pub fn subject_of(topic: &str) -> String {
    format!("{topic}-value")
}
