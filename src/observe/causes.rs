//! An error and its causes in one line, each of them once.

use std::error::Error;
use std::fmt;

/// Writes `error` and what caused it, outermost first.
///
/// Some errors say their cause themselves and give it as their source too (those of rdkafka do): what was said is not
/// said again.
pub fn causes<'e>(error: &'e (dyn Error + 'e)) -> Causes<'e> {
    Causes(error)
}

/// See [`causes`].
#[derive(Clone, Copy)]
pub struct Causes<'e>(&'e (dyn Error + 'e));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts = vec![self.0.to_string()];
        let mut cause = self.0.source();
        while let Some(error) = cause {
            texts.push(error.to_string());
            cause = error.source();
        }
        f.write_str(&joined(texts))
    }
}

/// Joins texts by colons, without those that were said already.
pub fn joined(texts: impl IntoIterator<Item = String>) -> String {
    texts.into_iter().fold(String::new(), |mut said, text| {
        if said.is_empty() {
            return text;
        }
        if !said.contains(&text) {
            said.push_str(": ");
            said.push_str(&text);
        }
        said
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Said(&'static str, Option<Box<Said>>);

    impl fmt::Display for Said {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Said {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn each_cause_is_said_once() {
        let inner = Said("timed out", None);
        let client = Said("message production error: timed out", Some(Box::new(inner)));
        let ours = Said("could not await the deliveries", Some(Box::new(client)));
        let line = causes(&ours).to_string();
        assert_eq!(
            line,
            "could not await the deliveries: message production error: timed out"
        );
    }
}
