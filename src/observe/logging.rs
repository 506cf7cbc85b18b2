//! Logs: text for people, JSON for machines, always on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How the process logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What a line looks like.
    pub format: Format,
    /// Which lines are written: levels and `target=level`, comma separated.
    pub filter: String,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One readable line.
    Text,
    /// One JSON object per line.
    Json,
}

/// The words that stand alone in a filter.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Why a filter is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// A word that is not a level: `tracing` would take it for a target and show everything of it, and nothing else.
    #[error("has {0:?}, which is not a level")]
    Level(String),
    /// `tracing` does not read it.
    #[error("is no filter: {0}")]
    Syntax(String),
}

/// Starts logging for the process, to stderr.
///
/// # Errors
///
/// The filter cannot be read (settings checked by `config` always can), or logging was started before.
pub fn start_logging(settings: &Settings) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = filter(&settings.filter)?;
    let terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal);
    let json = match settings.format {
        Format::Auto => !terminal,
        Format::Text => false,
        Format::Json => true,
    };
    if json {
        log.json().flatten_event(true).with_current_span(false).try_init()
    } else {
        log.try_init()
    }
}

/// Says whether [`start_logging`] would take `text` as a filter.
pub(crate) fn check_filter(text: &str) -> Result<(), FilterError> {
    filter(text).map(drop)
}

/// Reads a filter such as `info,rdkafka=warn`.
fn filter(text: &str) -> Result<EnvFilter, FilterError> {
    for directive in text.split(',').map(str::trim) {
        let bare = !directive.contains(['=', '[']);
        if bare && !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(directive)) {
            return Err(FilterError::Level(directive.to_owned()));
        }
    }
    EnvFilter::builder()
        .parse(text)
        .map_err(|error| FilterError::Syntax(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_level_is_not_taken_for_a_target() {
        for good in [
            "info",
            "info,rdkafka=warn",
            "off",
            "WARN,frontstream::receive=debug",
        ] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", "inof", "info,", "frontstream=loud", "info;warn"] {
            assert!(filter(bad).is_err(), "{bad:?}");
        }
    }
}
