//! The environment: read once, here, and nowhere else.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::report::{Mistake, Origin, Wrong};
use super::table::{self, PROPERTIES};
use super::value::{Entry, Raw, nearest};

/// What the names of all our variables begin with.
const PREFIX: &str = "FRONTSTREAM_";

/// Names the settings file, when `--config` does not.
pub const CONFIG_VARIABLE: &str = "FRONTSTREAM_CONFIG";

/// Begin the variables of the repository's own scripts, tests and benches, which may be exported in a developer's
/// shell when the binary runs; no section of the settings has these names.
const TOOLING: [&str; 3] = ["FRONTSTREAM_BENCH_", "FRONTSTREAM_DEV_", "FRONTSTREAM_TEST_"];

/// The variables of a process, taken once.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Takes the variables of this process.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the environment"
    )]
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// Takes the given variables, for a test.
    pub fn of<K: Into<OsString>, V: Into<OsString>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(variables.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// Returns the settings file that the environment names; none when the variable is empty.
    pub(crate) fn config_file(&self) -> Option<PathBuf> {
        self.0
            .get(OsStr::new(CONFIG_VARIABLE))
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    }

    /// Says whether people want colours on a terminal: NO_COLOR is not set, or empty (no-color.org).
    pub fn wants_colours(&self) -> bool {
        self.0
            .get(OsStr::new("NO_COLOR"))
            .is_none_or(|value| value.is_empty())
    }

    /// Says whether a terminal can move its cursor: TERM names one that can.
    pub fn has_cursor(&self) -> bool {
        let term = self.0.get(OsStr::new("TERM"));
        term.is_some_and(|term| !term.is_empty() && term != "dumb")
    }

    /// Returns the bytes of a variable.
    pub(crate) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        self.0
            .get(OsStr::new(name))
            .map(|value| value.as_bytes().to_vec())
    }

    /// Returns every setting that the environment gives, and reports the names that are nobody's.
    ///
    /// `used` are the variables that hold secrets: their names are the operator's choice.
    pub(crate) fn settings(&self, used: &[String]) -> (Vec<(String, Entry)>, Vec<Mistake>) {
        let (mut given, mut mistakes) = (Vec::new(), Vec::new());
        for (name, value) in &self.0 {
            let name = name.to_string_lossy();
            let tooling = TOOLING.iter().any(|prefix| name.starts_with(prefix));
            let ours = name.starts_with(PREFIX) && name != CONFIG_VARIABLE;
            if !ours || tooling || used.iter().any(|used| *used == name) {
                continue;
            }
            let origin = Origin::Environment(name.clone().into_owned());
            let Some(key) = key_of(&name) else {
                if !is_service_link(&name, value) {
                    mistakes.push(Mistake::new(name.clone(), origin, unknown(&name)));
                }
                continue;
            };
            match value.to_str() {
                Some(text) => {
                    let raw = Raw::Bare(text.to_owned());
                    given.push((key, Entry { raw, origin }));
                }
                None => {
                    let wrong = Wrong::new("is not UTF-8", "write it in UTF-8");
                    mistakes.push(Mistake::new(key, origin, wrong));
                }
            }
        }
        (given, mistakes)
    }
}

/// Returns the variable that sets `key`: upper case, dots to underscores.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "_"))
}

/// Returns the key that a variable sets: of the table, or a librdkafka property (lower case, underscores to dots).
fn key_of(name: &str) -> Option<String> {
    let properties = format!("{}_", variable(PROPERTIES));
    if let Some(property) = name.strip_prefix(&properties) {
        let property = property.to_ascii_lowercase().replace('_', ".");
        return (!property.is_empty()).then(|| format!("{PROPERTIES}.{property}"));
    }
    table::keys()
        .filter(|key| *key != PROPERTIES)
        .find(|key| variable(key) == name)
        .map(str::to_owned)
}

fn unknown(name: &str) -> Wrong {
    if name == variable(PROPERTIES) {
        let help = format!("set each property by itself, such as {name}_SECURITY_PROTOCOL=SASL_SSL");
        return Wrong::new("cannot be set as a whole", help);
    }
    let names: Vec<String> = table::keys()
        .map(variable)
        .chain([CONFIG_VARIABLE.to_owned()])
        .collect();
    let help = match nearest(name, names.iter().map(String::as_str)) {
        Some(known) => format!("did you mean {known}?"),
        None => "unset it: every variable beginning with FRONTSTREAM_ is taken for a setting".to_owned(),
    };
    Wrong::new("is no setting of frontstream", help)
}

/// Says whether Kubernetes made this variable for a Service called `frontstream…`; those are nobody's mistake.
///
/// Source: Kubernetes, "Service", environment variables: `{SVC}_SERVICE_HOST`, `{SVC}_SERVICE_PORT[_NAME]`, and the
/// links of Docker, `{SVC}_PORT[_80_TCP[_PROTO|_PORT|_ADDR]]`, whose whole value is an address `tcp://…`.
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let address = || value.to_str().is_some_and(|value| value.contains("://"));
    let numbered = || {
        name.rsplit_once("_PORT_").is_some_and(|(_, rest)| {
            let mut words = rest.split('_');
            let number = words.next().is_some_and(|word| word.parse::<u16>().is_ok());
            number && matches!(words.next(), Some("TCP" | "UDP" | "SCTP"))
        })
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && address())
        || numbered()
        || name
            .strip_suffix("_PORT")
            .or_else(|| name.strip_suffix("_ADDR"))
            .or_else(|| name.strip_suffix("_PROTO"))
            .is_some_and(|rest| rest.ends_with("_TCP") || rest.ends_with("_UDP") || rest.ends_with("_SCTP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_own_variable() {
        let mut names: Vec<String> = table::keys().map(variable).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(
            variable("receiver.body_bytes_max"),
            "FRONTSTREAM_RECEIVER_BODY_BYTES_MAX"
        );
        for key in table::keys() {
            assert!(!is_service_link(&variable(key), OsStr::new("1")), "{key}");
            assert_ne!(variable(key), CONFIG_VARIABLE);
            assert!(
                !TOOLING.iter().any(|prefix| variable(key).starts_with(prefix)),
                "{key}"
            );
        }
    }

    #[test]
    fn what_terminals_and_their_users_say() {
        let of = |name, value| Environment::of([(name, value)]);
        assert!(of("NO_COLOR", "").wants_colours() && !of("NO_COLOR", "1").wants_colours());
        assert!(of("TERM", "xterm-256color").has_cursor() && !of("TERM", "dumb").has_cursor());
        assert!(Environment::default().wants_colours() && !Environment::default().has_cursor());
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_is_no_mistake() {
        let links = [
            ("FRONTSTREAM_RECEIVER_SERVICE_HOST", "10.0.0.1"),
            ("FRONTSTREAM_RECEIVER_SERVICE_PORT", "80"),
            ("FRONTSTREAM_RECEIVER_SERVICE_PORT_HTTP", "80"),
            ("FRONTSTREAM_RECEIVER_PORT", "tcp://10.0.0.1:80"),
            ("FRONTSTREAM_RECEIVER_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("FRONTSTREAM_RECEIVER_PORT_80_TCP_PROTO", "tcp"),
            ("FRONTSTREAM_RECEIVER_PORT_80_TCP_PORT", "80"),
            ("FRONTSTREAM_RECEIVER_PORT_80_TCP_ADDR", "10.0.0.1"),
        ];
        let (given, mistakes) = Environment::of(links).settings(&[]);
        assert_eq!((given.len(), mistakes.len()), (0, 0), "{mistakes:?}");
        let (_, mistakes) =
            Environment::of([("FRONTSTREAM_TEST_KAFKA", "1"), ("FRONTSTREAM_DEV_DIR", "x")]).settings(&[]);
        assert_eq!(mistakes, [], "what the repository's scripts use");
        let (_, mistakes) = Environment::of([("FRONTSTREAM_RECEIVER_PORT", "8080")]).settings(&[]);
        assert_eq!(mistakes.len(), 1, "a port somebody wrote by hand");
    }
}
