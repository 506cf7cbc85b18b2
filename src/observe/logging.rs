//! Logs: text for people, JSON for machines, always on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use super::Console;

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

/// Starts logging for the process, to standard error; at a terminal in `colours`, and above whatever `console`
/// draws there.
///
/// # Errors
///
/// The filter cannot be read (settings checked by `config` always can), or logging was started before.
pub fn start_logging(
    settings: &Settings,
    colours: Colours,
    console: &Console,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let terminal = std::io::stderr().is_terminal();
    if terminal {
        let console = console.clone();
        subscriber(settings, terminal, colours, move || console.writer())?.try_init()?;
    } else {
        subscriber(settings, terminal, colours, std::io::stderr)?.try_init()?;
    }
    Ok(())
}

/// Whether people want colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// On a terminal.
    Wanted,
    /// Nowhere.
    Unwanted,
}

/// A subscriber of either format.
type Subscriber = Box<dyn tracing::Subscriber + Send + Sync>;

fn subscriber<W>(
    settings: &Settings,
    terminal: bool,
    colours: Colours,
    writer: W,
) -> Result<Subscriber, FilterError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(&settings.filter)?)
        .with_writer(writer)
        .with_ansi(terminal && colours == Colours::Wanted);
    let json = match settings.format {
        Format::Auto => !terminal,
        Format::Text => false,
        Format::Json => true,
    };
    Ok(if json {
        Box::new(log.json().flatten_event(true).with_current_span(false).finish())
    } else {
        Box::new(log.finish())
    })
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
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Logs two events, of which `info` takes one, and returns what was written.
    fn logged(format: Format, terminal: bool, colours: Colours) -> String {
        let written = Written::default();
        let settings = Settings {
            format,
            filter: "info".to_owned(),
        };
        let writer = {
            let written = written.clone();
            move || written.clone()
        };
        let subscriber = subscriber(&settings, terminal, colours, writer).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(partition = 3, "assigned");
            tracing::debug!("quiet");
        });
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_for_people_json_for_machines() {
        for (format, terminal) in [(Format::Auto, false), (Format::Json, true), (Format::Json, false)] {
            let line: serde_json::Value =
                serde_json::from_str(&logged(format, terminal, Colours::Wanted)).unwrap();
            assert_eq!(line["message"], "assigned");
            assert_eq!(line["partition"], 3);
            assert_eq!(line["level"], "INFO");
            assert!(line["timestamp"].is_string());
        }
        let plain = logged(Format::Text, false, Colours::Wanted);
        assert!(
            plain.ends_with("assigned partition=3\n") && !plain.contains('\u{1b}'),
            "{plain}"
        );
        assert_eq!(plain.lines().count(), 1, "the filter holds");
        assert!(
            logged(Format::Auto, true, Colours::Wanted).contains('\u{1b}'),
            "colours on a terminal"
        );
        assert!(!logged(Format::Auto, true, Colours::Unwanted).contains('\u{1b}'));
    }

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
