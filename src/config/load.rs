//! From defaults, file, environment and flags to checked settings, or to one report of everything that is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::environment::Environment;
use super::file::{self, unknown_key};
use super::properties::{Property, PropertyValue, check_property, placed_text, property};
use super::report::{Mistake, Origin, Report, Wrong};
use super::rules;
use super::secret::{NamedSecret, Place, SecretEntry, entries};
use super::settings::Settings;
use super::show::Effective;
use super::table::{self, PROPERTIES, SETTINGS, Slot};
use super::value::{self, Entry, Raw};
use crate::kafka::properties::{check_together, looks_secret};

/// Where values come from; later ones win: default, file, environment, flags.
pub struct Sources {
    /// The settings file; `None`: the one that the environment names, or none.
    pub file: Option<PathBuf>,
    /// The variables of the process.
    pub environment: Environment,
    /// `--set key=value`, in the order given.
    pub set: Vec<String>,
    /// `--brokers`.
    pub brokers: Option<String>,
}

/// What the settings are for: decides which secrets must be readable and which rules apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The role `receiver`.
    Receiver,
    /// The role `processor`: reads no secret of Front's.
    Processor,
    /// The role `dev`.
    Dev,
    /// `send`: signs as Front does.
    Send,
    /// `config check` without a role: everything.
    Check,
    /// A command that neither signs nor verifies.
    Tool,
}

impl Purpose {
    fn needs_secrets(self) -> bool {
        match self {
            Self::Receiver | Self::Dev | Self::Send | Self::Check => true,
            Self::Processor | Self::Tool => false,
        }
    }
}

/// What was read: the settings are to be used only when there is no report.
pub struct Reading {
    settings: Settings,
    effective: Vec<Effective>,
    report: Option<Report>,
}

impl Reading {
    /// Returns the checked settings.
    ///
    /// # Errors
    ///
    /// Every mistake, in one report.
    pub fn into_settings(self) -> Result<Settings, Report> {
        match self.report {
            None => Ok(self.settings),
            Some(report) => Err(report),
        }
    }

    /// Returns every setting's value and origin, as far as they could be read; secrets masked.
    pub fn effective(&self) -> &[Effective] {
        &self.effective
    }

    /// Returns where the value in force of `key` came from.
    pub fn origin(&self, key: &str) -> Origin {
        let setting = self.effective.iter().find(|setting| setting.key == key);
        setting.map_or(Origin::Default, |setting| setting.origin.clone())
    }

    /// Returns what is wrong, if anything is.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }
}

/// Reads and checks everything; binds and connects nothing.
pub fn read(sources: &Sources, purpose: Purpose) -> Reading {
    let mut loader = Loader::with_defaults();
    let path = sources.file.clone().or_else(|| sources.environment.config_file());
    if let Some(path) = path {
        let content = file::read(&path);
        loader.mistakes.extend(content.mistakes);
        loader.take_all(content.given);
    }
    loader.take_flags_and_environment(sources);
    loader.resolve_properties(&sources.environment);
    if purpose.needs_secrets() {
        loader.resolve_secrets(&sources.environment);
    }
    rules::check(&mut loader, purpose);
    loader.finish()
}

/// Reads the settings for `purpose`.
///
/// # Errors
///
/// Every mistake, in one report.
pub fn load(sources: &Sources, purpose: Purpose) -> Result<Settings, Report> {
    read(sources, purpose).into_settings()
}

/// Returns the default of every setting but the properties, as the file would have it.
pub(super) fn defaults() -> BTreeMap<String, String> {
    let effective = Loader::with_defaults().finish().effective;
    effective
        .into_iter()
        .map(|setting| (setting.key, setting.value))
        .collect()
}

/// Settings in the making.
pub(super) struct Loader {
    pub(super) settings: Settings,
    pub(super) mistakes: Vec<Mistake>,
    /// Keys with a mistake: what follows from them is not reported a second time.
    wrong: BTreeSet<String>,
    /// The value in force of each key, as text, and where it came from.
    values: BTreeMap<&'static str, (String, Origin)>,
    secrets: BTreeMap<&'static str, Vec<SecretEntry>>,
    properties: BTreeMap<String, Property>,
}

impl Loader {
    fn with_defaults() -> Self {
        let mut loader = Self {
            settings: Settings::blank(),
            mistakes: Vec::new(),
            wrong: BTreeSet::new(),
            values: BTreeMap::new(),
            secrets: BTreeMap::new(),
            properties: BTreeMap::new(),
        };
        for setting in SETTINGS {
            let entry = Entry {
                raw: Raw::Bare(setting.default.to_owned()),
                origin: Origin::Default,
            };
            loader.take(setting.key, &entry);
        }
        assert!(
            loader.mistakes.is_empty(),
            "a default breaks its own bounds: {:?}",
            loader.mistakes
        );
        loader
    }

    fn take_all(&mut self, mut given: Vec<(String, Entry)>) {
        given.sort_by(|(_, a), (_, b)| a.origin.cmp(&b.origin));
        for (key, entry) in given {
            self.take(&key, &entry);
        }
    }

    fn take_flags_and_environment(&mut self, sources: &Sources) {
        let (flags, mistakes) = flags(sources);
        self.mistakes.extend(mistakes);
        let used = self.variables_used(&flags, &sources.environment);
        let (given, mistakes) = sources.environment.settings(&used);
        self.mistakes.extend(mistakes);
        self.take_all(given);
        for (key, entry) in flags {
            self.take(&key, &entry);
        }
    }

    /// Returns the variables that hold secrets, whatever names the operator chose for them.
    fn variables_used(&self, flags: &[(String, Entry)], environment: &Environment) -> Vec<String> {
        let lists = SETTINGS
            .iter()
            .filter(|setting| matches!(setting.slot, Slot::Secrets(_)))
            .filter_map(|setting| {
                let name = super::environment::variable(setting.key);
                let text = String::from_utf8(environment.bytes(&name)?).ok()?;
                let origin = Origin::Environment(name);
                entries(&Entry {
                    raw: Raw::Bare(text),
                    origin,
                })
                .ok()
            })
            .chain(flags.iter().filter_map(|(_, entry)| entries(entry).ok()))
            .flatten();
        let placed = self
            .properties
            .values()
            .filter_map(|property| match &property.given {
                PropertyValue::Placed(place) => Some(place.clone()),
                PropertyValue::Text(_) => None,
            });
        self.secrets
            .values()
            .flatten()
            .map(|entry| entry.place.clone())
            .chain(lists.map(|entry| entry.place))
            .chain(placed)
            .filter_map(|place| match place {
                Place::Environment(name) => Some(name),
                Place::File(_) => None,
            })
            .collect()
    }

    /// Takes one value; a wrong one is reported even if a later source overrides it.
    fn take(&mut self, key: &str, entry: &Entry) {
        if let Some(name) = key
            .strip_prefix(PROPERTIES)
            .and_then(|rest| rest.strip_prefix('.'))
        {
            self.take_property(name, entry);
            return;
        }
        let Some(setting) = table::find(key) else {
            self.mistake(key, &entry.origin, unknown_key(key));
            return;
        };
        if matches!(setting.slot, Slot::Secrets(_)) {
            return self.take_secrets(setting.key, entry);
        }
        if matches!(setting.slot, Slot::Properties) && entry.origin != Origin::Default {
            let help = "write [kafka.properties] and librdkafka's settings below, such as security.protocol";
            let what = format!("must be a table, not {}", entry.raw.name());
            return self.mistake(key, &entry.origin, Wrong::new(what, help));
        }
        match apply(&setting.slot, &mut self.settings, &entry.raw) {
            Ok(text) => {
                self.values.insert(setting.key, (text, entry.origin.clone()));
                self.wrong.remove(setting.key);
            }
            Err(wrong) => self.mistake(key, &entry.origin, wrong),
        }
    }

    fn take_secrets(&mut self, key: &'static str, entry: &Entry) {
        match entries(entry) {
            Ok(list) => {
                self.secrets.insert(key, list);
                self.values.insert(key, (String::new(), entry.origin.clone()));
                self.wrong.remove(key);
            }
            Err(all) => {
                for (origin, wrong) in all {
                    self.mistake(key, &origin, wrong);
                }
            }
        }
    }

    fn take_property(&mut self, name: &str, entry: &Entry) {
        let given = match property(name, entry) {
            Ok(given) => given,
            Err(wrong) => return self.mistake(&format!("{PROPERTIES}.{name}"), &entry.origin, wrong),
        };
        let origin = entry.origin.clone();
        self.properties
            .insert(name.to_owned(), Property { given, origin });
    }

    /// Reports a mistake about `key`.
    pub(super) fn mistake(&mut self, key: &str, origin: &Origin, wrong: Wrong) {
        self.wrong.insert(key.to_owned());
        self.mistakes.push(Mistake::new(key, origin.clone(), wrong));
    }

    /// Returns where the value in force of `key` came from.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.values
            .get(key)
            .map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// Says whether all of `keys` could be read, so that a rule about them makes sense.
    pub(super) fn all_right(&self, keys: &[&str]) -> bool {
        !keys.iter().any(|key| self.wrong.contains(*key))
    }

    fn resolve_secrets(&mut self, environment: &Environment) {
        for (key, list) in self.secrets.clone() {
            for entry in list {
                match entry.place.read(environment) {
                    Ok(value) => {
                        let secret = NamedSecret {
                            name: entry.name,
                            value,
                        };
                        if let Some(Slot::Secrets(field)) = table::find(key).map(|setting| &setting.slot) {
                            field(&mut self.settings).push(secret);
                        }
                    }
                    Err(wrong) => {
                        let what = format!("secret {:?}: {}", entry.name, wrong.what);
                        self.mistake(key, &entry.origin, Wrong::new(what, wrong.help));
                    }
                }
            }
        }
    }

    fn resolve_properties(&mut self, environment: &Environment) {
        for (name, property) in std::mem::take(&mut self.properties) {
            let value = match &property.given {
                PropertyValue::Text(text) => Ok(text.clone()),
                PropertyValue::Placed(place) => placed_text(place, environment),
            };
            let secret = looks_secret(&name) || matches!(property.given, PropertyValue::Placed(_));
            let checked = value.and_then(|value| check_property(&name, value, secret));
            match checked {
                Ok(value) => {
                    self.settings.kafka.properties.insert(name.clone(), value);
                }
                Err(wrong) => self.mistake(&format!("{PROPERTIES}.{name}"), &property.origin, wrong),
            }
            self.properties.insert(name, property);
        }
        self.check_properties_together();
    }

    /// Reported at the first of them: librdkafka's words name the ones it means.
    fn check_properties_together(&mut self) {
        let first = self
            .properties
            .values()
            .next()
            .map(|property| property.origin.clone());
        let all_right = !self.wrong.iter().any(|key| key.starts_with(PROPERTIES));
        if let Some(origin) = first.filter(|_| all_right)
            && let Err(words) = check_together(&self.settings.kafka.properties)
        {
            let what = format!("make no client: {words}");
            let help = "complete them; CONFIGURATION.md of librdkafka says what belongs together";
            self.mistake(PROPERTIES, &origin, Wrong::new(what, help));
        }
    }

    /// Masks what is secret or may be: a mistyped name hides that its value is a password.
    fn effective_properties(&self) -> impl Iterator<Item = Effective> {
        self.properties.iter().map(|(name, property)| {
            let key = format!("{PROPERTIES}.{name}");
            let value = match &property.given {
                PropertyValue::Placed(place) => format!("*** ({place})"),
                PropertyValue::Text(_) if looks_secret(name) || self.wrong.contains(&key) => "***".to_owned(),
                PropertyValue::Text(text) => format!("{text:?}"),
            };
            Effective::new(key, value, property.origin.clone())
        })
    }

    fn finish(self) -> Reading {
        let mut effective = Vec::new();
        for setting in SETTINGS {
            if matches!(setting.slot, Slot::Properties) {
                effective.extend(self.effective_properties());
                continue;
            }
            let (text, origin) = self.values[setting.key].clone();
            let text = match self.secrets.get(setting.key) {
                Some(list) => {
                    let each = list
                        .iter()
                        .map(|entry| format!("{}=*** ({})", entry.name, entry.place));
                    format!("[{}]", each.collect::<Vec<_>>().join(", "))
                }
                None => text,
            };
            effective.push(Effective::new(setting.key.to_owned(), text, origin));
        }
        Reading {
            settings: self.settings,
            effective,
            report: Report::of(self.mistakes),
        }
    }
}

/// Returns what the flags give.
fn flags(sources: &Sources) -> (Vec<(String, Entry)>, Vec<Mistake>) {
    let (mut given, mut mistakes) = (Vec::new(), Vec::new());
    for text in &sources.set {
        let origin = Origin::Flag("--set");
        match text.split_once('=') {
            Some((key, value)) => {
                let raw = Raw::Bare(value.to_owned());
                given.push((key.trim().to_owned(), Entry { raw, origin }));
            }
            None => {
                let wrong = Wrong::new("has no value", "write --set key=value");
                mistakes.push(Mistake::new(text.clone(), origin, wrong));
            }
        }
    }
    if let Some(brokers) = &sources.brokers {
        let entry = Entry {
            raw: Raw::Bare(brokers.clone()),
            origin: Origin::Flag("--brokers"),
        };
        given.push(("kafka.brokers".to_owned(), entry));
    }
    (given, mistakes)
}

/// Puts a value into its field and returns it as the file would have it.
fn apply(slot: &Slot, settings: &mut Settings, raw: &Raw) -> Result<String, Wrong> {
    match slot {
        Slot::Text(set, rule) => {
            let text = raw.text("\"…\"")?.trim().to_owned();
            rules::text(*rule, &text)?;
            let written = format!("{text:?}");
            set(settings, text);
            Ok(written)
        }
        Slot::Choice(words, set) => {
            let text = raw.text(&format!("{:?}", words[0]))?.trim();
            if !words.contains(&text) {
                let help = format!("choose {}", words.join(" or "));
                return Err(Wrong::new(format!("is {text:?}, which is no choice"), help));
            }
            set(settings, text);
            Ok(format!("{text:?}"))
        }
        Slot::Duration(field, min, max) => {
            let value = value::raw_duration(raw, *min, *max)?;
            *field(settings) = value;
            Ok(format!("{:?}", value::written(value)))
        }
        Slot::Bytes(field, min, max) => {
            let value = value::raw_bytes(raw, *min, *max)?;
            *field(settings) =
                usize::try_from(value).map_err(|_| Wrong::new("is beyond this machine", "choose less"))?;
            let written = value::written_bytes(value);
            let bare = written.bytes().all(|byte| byte.is_ascii_digit());
            Ok(if bare { written } else { format!("{written:?}") })
        }
        Slot::Count(set, min, max) => {
            let value = value::raw_count(raw, *min, *max)?;
            set(settings, value);
            Ok(value.to_string())
        }
        Slot::Address(field) => {
            let address = value::address(raw.text("\"127.0.0.1:8080\"")?.trim())?;
            *field(settings) = address;
            Ok(format!("{:?}", address.to_string()))
        }
        Slot::Networks(field) => {
            let networks = value::raw_networks(raw)?;
            let written: Vec<_> = networks
                .iter()
                .map(|network| format!("{:?}", network.to_string()))
                .collect();
            *field(settings) = networks;
            Ok(format!("[{}]", written.join(", ")))
        }
        // Both are gathered first and read when every source has spoken.
        Slot::Secrets(_) | Slot::Properties => Ok(String::new()),
    }
}
