//! Secrets that change while a receiver runs: read again on SIGHUP, and whenever what they are read from has changed.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::config::{Report, Settings};
use crate::operate::secrets::schemes;
use crate::receive::Keys;
use crate::receive::signature;

/// Reads the settings again, from where they were read at the start.
pub type Reread = Arc<dyn Fn() -> Result<Settings, Report> + Send + Sync>;

/// How often it is looked whether anything has changed: there is no event that tells of every way in which files are replaced.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What tells that secrets are to be read again, and how that is done.
pub(super) struct Reload {
    hangup: Signal,
    reread: Reread,
}

impl Reload {
    /// Installs the handler of SIGHUP, which would end the process otherwise.
    ///
    /// # Errors
    ///
    /// That is not possible.
    pub(super) fn new(reread: Reread) -> std::io::Result<Self> {
        let hangup = signal(SignalKind::hangup())?;
        Ok(Self { hangup, reread })
    }

    /// Looks for other secrets until it is dropped.
    ///
    /// What differs is taken when it has been read twice alike, [`LOOK_EVERY`] apart: a file may be in the middle of being
    /// written. SIGHUP says that it is not. What cannot be read changes nothing.
    pub(super) async fn watch(mut self, keys: Keys) {
        let mut watch = Watch::new(keys);
        loop {
            let is_asked = tokio::select! {
                _ = self.hangup.recv() => true,
                () = sleep(LOOK_EVERY) => false,
            };
            // Files may be far away: not on a thread that serves requests.
            let reread = Arc::clone(&self.reread);
            let read = match spawn_blocking(move || reread()).await {
                Ok(read) => read.map_err(|report| report.to_string()),
                Err(panic) => Err(panic.to_string()),
            };
            watch.look(read.map(|settings| schemes(&settings.receiver)), is_asked);
        }
    }
}

struct Watch {
    keys: Keys,
    /// What was read last, where it is not in force.
    seen: Option<signature::Settings>,
    /// What was said last of that it cannot be read.
    said: Option<String>,
}

impl Watch {
    fn new(keys: Keys) -> Self {
        Self {
            keys,
            seen: None,
            said: None,
        }
    }

    fn look(&mut self, read: Result<signature::Settings, String>, is_asked: bool) {
        let read = match read {
            Ok(read) => read,
            Err(report) => return self.keep(report, is_asked),
        };
        // Secrets alone are replaced.
        let read = signature::Settings {
            window: self.keys.settings().window,
            ..read
        };
        self.said = None;
        if read == self.keys.settings() {
            self.seen = None;
            if is_asked {
                tracing::info!("the secrets were read again: none has changed");
            }
        } else if is_asked || self.seen.as_ref() == Some(&read) {
            tracing::info!(
                application = ?names(&read.application),
                rule = ?names(&read.rule),
                relay = ?names(&read.relay),
                "the secrets were read again: others are in force"
            );
            self.keys.replace(read);
            self.seen = None;
        } else {
            self.seen = Some(read);
        }
    }

    /// Said once, and again when it is asked for.
    fn keep(&mut self, report: String, is_asked: bool) {
        self.seen = None;
        if is_asked || self.said.as_ref() != Some(&report) {
            tracing::error!(%report, "the settings cannot be read again: the secrets stay as they were");
        }
        self.said = Some(report);
    }
}

fn names(secrets: &[signature::Secret]) -> Vec<&str> {
    secrets.iter().map(signature::Secret::name).collect()
}

#[cfg(test)]
mod tests {
    use crate::receive::signature::Secret;

    use super::*;

    fn secrets(names: &[&str]) -> signature::Settings {
        let made = names
            .iter()
            .map(|name| Secret::new(*name, *name).expect("a secret"));
        signature::Settings {
            window: Duration::from_secs(300),
            application: made.collect(),
            rule: Vec::new(),
            relay: Vec::new(),
        }
    }

    /// What is read, whether somebody asked, and whose secrets are in force then.
    #[test]
    fn others_are_taken_when_they_are_read_twice_or_asked_for() {
        let read = |names: &[&str]| Ok(secrets(names));
        let another_window = |names: &[&str]| {
            Ok(signature::Settings {
                window: Duration::from_secs(1),
                ..secrets(names)
            })
        };
        let broken = || Err("1 mistake".to_owned());
        let steps = [
            (read(&["a"]), false, "a"),
            (another_window(&["a"]), true, "a"),
            (read(&["b"]), false, "a"),
            (read(&["c"]), false, "a"),
            (read(&["c"]), false, "c"),
            (read(&["d"]), true, "d"),
            (read(&["e"]), false, "d"),
            (broken(), false, "d"),
            (read(&["e"]), false, "d"),
            (broken(), true, "d"),
            (read(&["e"]), false, "d"),
            (read(&["e"]), false, "e"),
        ];
        let mut watch = Watch::new(Keys::of_tests(secrets(&["a"])));
        for (at, (read, is_asked, expected)) in steps.into_iter().enumerate() {
            watch.look(read, is_asked);
            let now = watch.keys.settings();
            assert_eq!(names(&now.application), [expected], "step {at}");
            assert_eq!(now.window, Duration::from_secs(300), "step {at}");
        }
    }
}
