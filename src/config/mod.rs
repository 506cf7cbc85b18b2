//! Flags, environment and file to checked settings; the only reader of the environment.
//!
//! Everything an operator can set is one row of the table in `table.rs`. Values come from its defaults, the TOML
//! file, the environment and the flags, in this order; all of them are checked, and every mistake stands in one
//! report. Binds no port, connects to nothing, and never shows a secret.

mod environment;
mod file;
mod load;
mod properties;
mod report;
mod rules;
mod secret;
mod settings;
mod show;
mod table;
mod value;
mod when;

pub mod cli;

pub use environment::{CONFIG_VARIABLE, Environment, variable};
pub use load::{Purpose, Reading, Sources, load, read};
pub use report::{Mistake, Origin, Report, Wrong};
pub(crate) use secret::Place;
pub use secret::{NamedSecret, Secret};
pub use settings::{
    ApplicationSettings, ChunkSettings, DedupeSettings, ForwardedHeader, GroupProtocol, PayloadKept,
    ProcessorSettings, ReceiverSettings, RegistrySettings, Settings, TopicSettings, TopicsSettings,
};
pub use show::{Described, Effective, described, sections};
pub use value::duration;
pub use when::From;
