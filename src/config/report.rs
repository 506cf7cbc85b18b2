//! Every mistake of the settings, in one report.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody gave one.
    Default,
    /// A line of the settings file, counted from one.
    File(Arc<Path>, usize),
    /// An environment variable, by name.
    Environment(String),
    /// A flag of the command line, by name.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "env {name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// What is wrong with one value, and what to do about it; never repeats a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Continues the sentence that the key begins: "is longer than …".
    pub what: String,
    /// What to write instead.
    pub help: String,
}

impl Wrong {
    pub(crate) fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            help: help.into(),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.help)
    }
}

impl std::error::Error for Wrong {}

/// One mistake: the key, where its value came from, what is wrong, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The setting's key; for what never became a setting, the name as written.
    pub key: String,
    /// Where it was written.
    pub origin: Origin,
    /// What is wrong and what to do.
    pub wrong: Wrong,
}

impl Mistake {
    pub(crate) fn new(key: impl Into<String>, origin: Origin, wrong: Wrong) -> Self {
        Self {
            key: key.into(),
            origin,
            wrong,
        }
    }
}

/// All mistakes found: by origin (file, environment, flags), each in its own order.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    mistakes: Vec<Mistake>,
}

impl Report {
    /// Puts the mistakes in order; `None` when there are none.
    pub(crate) fn of(mut mistakes: Vec<Mistake>) -> Option<Self> {
        mistakes.sort_by(|a, b| a.origin.cmp(&b.origin));
        (!mistakes.is_empty()).then_some(Self { mistakes })
    }

    /// Returns the mistakes, at least one.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.mistakes.len();
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        write!(f, "{count} {noun} in the settings")?;
        for (at, Mistake { key, origin, wrong }) in self.mistakes.iter().enumerate() {
            write!(f, "\n{:>3}. {key} ({origin}): {}", at + 1, wrong.what)?;
            write!(f, "\n     {}", wrong.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}
