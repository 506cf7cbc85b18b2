//! The registry's answers, sorted: the only place that looks at its error codes.

use std::error::Error as StdError;

use reqwest::StatusCode;
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::RawError;
use serde::Deserialize;

use super::Error;

/// How much of the registry's words goes into an error.
const WORDS_MAX: usize = 400;

// Codes of the Confluent API, which Apicurio 3.0.9 gives too (seen 2026-11).
const NO_SUBJECT: u32 = 40_401;
const NO_SCHEMA: u32 = 40_403;
const NO_CONFIG: u32 = 40_408;

/// An answer: what was asked for, or why not.
pub(super) type Answer<T> = Result<T, Denial>;

/// Why a request did not give what was asked for, by what can follow from it.
#[derive(Debug)]
pub(super) enum Denial {
    NoSubject,
    NoSchema,
    NoConfig,
    /// Not compatible with earlier versions.
    Conflict(String),
    /// No answer, or a request for patience.
    Away(String),
    Refused(String),
    Odd(String),
}

impl From<SRCError> for Denial {
    fn from(err: SRCError) -> Self {
        let Some(source) = StdError::source(&err) else {
            return Self::Odd(words(&err.error));
        };
        if let Some(raw) = source.downcast_ref::<RawError>() {
            return Self::sorted(status_in(&err.error), raw.error_code, &raw.message);
        }
        match source.downcast_ref::<reqwest::Error>() {
            Some(err) => Self::of_network(err),
            None => Self::Odd(words(&err.error)),
        }
    }
}

impl Denial {
    fn of_network(err: &reqwest::Error) -> Self {
        if err.is_decode() {
            return Self::Odd("it is not the JSON expected".into());
        }
        if err.is_timeout() {
            return Self::Away("no answer in time".into());
        }
        // The innermost cause says it shortest ("connection refused"), and has no address in it.
        let mut reason = "the request failed".to_owned();
        let mut cause = err.source();
        while let Some(inner) = cause {
            reason = words(&inner.to_string());
            cause = inner.source();
        }
        Self::Away(reason)
    }

    fn sorted(status: Option<StatusCode>, code: u32, message: &str) -> Self {
        let said = || words(message);
        let status_line = || status.map_or_else(|| "an error".into(), |status| format!("status {status}"));
        match code {
            NO_SUBJECT => return Self::NoSubject,
            NO_SCHEMA => return Self::NoSchema,
            NO_CONFIG => return Self::NoConfig,
            _ => {}
        }
        match status {
            Some(status) if status.is_server_error() => Self::Away(format!("{}: {}", status_line(), said())),
            Some(StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) => Self::Away(status_line()),
            Some(StatusCode::CONFLICT) => Self::Conflict(said()),
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Self::Refused(status_line()),
            // An error without the API's code was not said by the API.
            _ if code == 0 => Self::Odd(status_line()),
            _ => Self::Refused(format!("{}: {}", status_line(), said())),
        }
    }

    /// Turns what the caller has no branch for into an error.
    pub(super) fn into_error(self, attempted: String) -> Error {
        let odd = |message: &str| Error::Malformed {
            attempted: attempted.clone(),
            message: message.into(),
        };
        match self {
            Self::NoSubject => odd("it denies a subject that was just there"),
            Self::NoSchema => odd("it denies a schema that was just there"),
            Self::NoConfig => odd("it denies a configuration that was just there"),
            Self::Away(reason) => Error::Unreachable { attempted, reason },
            Self::Conflict(message) | Self::Refused(message) => Error::Refused { attempted, message },
            Self::Odd(message) => odd(&message),
        }
    }
}

/// Sorts the answer to a request for a subject's compatibility: the level, when there is one.
pub(super) async fn of_config(result: Result<reqwest::Response, reqwest::Error>) -> Answer<String> {
    #[derive(Deserialize)]
    struct Config {
        // A PUT answers with `compatibility` in the Confluent registry, with `compatibilityLevel` in Apicurio.
        #[serde(rename = "compatibilityLevel", alias = "compatibility")]
        level: String,
    }

    let response = match result {
        Ok(response) => response,
        Err(err) => return Err(Denial::of_network(&err)),
    };
    let status = response.status();
    let body = match response.bytes().await {
        Ok(body) => body,
        Err(err) => return Err(Denial::of_network(&err)),
    };
    if status.is_success() {
        return match serde_json::from_slice::<Config>(&body) {
            Ok(config) => Ok(config.level),
            Err(_) => Err(Denial::Odd("it names no compatibility".into())),
        };
    }
    Err(match serde_json::from_slice::<RawError>(&body) {
        Ok(raw) => Denial::sorted(Some(status), raw.error_code, &raw.message),
        Err(_) => Denial::sorted(Some(status), 0, ""),
    })
}

/// Finds the HTTP status, which `schema_registry_converter` 6 gives in its message only.
fn status_in(message: &str) -> Option<StatusCode> {
    let (_, rest) = message.split_once("failed with status ")?;
    StatusCode::from_bytes(rest.as_bytes().get(..3)?).ok()
}

/// Cuts the registry's words to one line of bounded length.
fn words(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(WORDS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(status: u16, code: u32) -> Denial {
        Denial::sorted(StatusCode::from_u16(status).ok(), code, "said")
    }

    #[test]
    fn only_the_registrys_own_word_denies_a_schema() {
        assert!(matches!(sorted(404, NO_SCHEMA), Denial::NoSchema));
        assert!(matches!(sorted(404, NO_SUBJECT), Denial::NoSubject));
        assert!(
            matches!(sorted(404, 0), Denial::Odd(_)),
            "a proxy's 404 denies nothing"
        );
        for status in [500, 502, 503, 504, 429, 408] {
            assert!(matches!(sorted(status, 0), Denial::Away(_)), "{status}");
        }
        assert!(matches!(sorted(500, 50_001), Denial::Away(_)));
        assert!(matches!(sorted(409, 409), Denial::Conflict(_)));
        assert!(matches!(sorted(401, 0), Denial::Refused(_)));
        assert!(matches!(sorted(422, 42_201), Denial::Refused(_)));
    }

    #[test]
    fn words_are_one_bounded_line() {
        assert_eq!(words("a\nb"), "a b");
        assert_eq!(words(&"x".repeat(10_000)).len(), WORDS_MAX);
    }

    #[test]
    fn the_status_is_found_where_the_library_puts_it() {
        let message = "HTTP request to schema registry failed with status 504 Gateway Timeout";
        assert_eq!(status_in(message), Some(StatusCode::GATEWAY_TIMEOUT));
        assert_eq!(status_in("could not parse to RawRegisteredSchema"), None);
        assert_eq!(status_in("failed with status 5"), None);
    }
}
