//! The effective settings, as a person or a script reads them; secrets masked.

use super::environment::variable;
use super::report::Origin;

/// One setting's value in force, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The setting's path in the file.
    pub key: String,
    /// As the file would have it; a secret is its name, `***` and where it stands.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

impl Effective {
    pub(super) fn new(key: String, value: String, origin: Origin) -> Self {
        Self { key, value, origin }
    }

    /// Returns the environment variable that sets it.
    pub fn variable(&self) -> String {
        variable(&self.key)
    }
}

/// A setting as documentation has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its path in the file.
    pub key: &'static str,
    /// Its default, as the file would have it.
    pub default: String,
    /// What it does, its unit, and why the default is what it is.
    pub doc: &'static str,
}

/// Returns every setting with its default, in the order of the example file.
pub fn described() -> Vec<Described> {
    let defaults = super::load::defaults();
    super::table::SETTINGS
        .iter()
        .map(|setting| Described {
            key: setting.key,
            default: defaults
                .get(setting.key)
                .cloned()
                .unwrap_or_else(|| "{}".to_owned()),
            doc: setting.doc,
        })
        .collect()
}

/// Returns the sections of the file in their order, each with what it is about.
pub fn sections() -> &'static [(&'static str, &'static str)] {
    super::table::SECTIONS
}
