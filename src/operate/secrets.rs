//! `secrets check`: which secret signed a request that somebody has captured.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use super::print;
use crate::config::cli::{SecretsAction, SecretsCheck};
use crate::config::{NamedSecret, ReceiverSettings, Settings};
use crate::lifecycle::{Clock, Exit};
use crate::model::Timestamp;
use crate::receive::signature::{self, Header, Presented, Reason, Refusal, Scheme, Secret, Verifier};

const SIGNATURE: &str = "x-front-signature";
const TIMESTAMP: &str = "x-front-request-timestamp";

/// Looks for the secret; posts nothing.
///
/// # Errors
///
/// A header or the body cannot be read, or standard output is closed.
pub fn run(settings: &Settings, action: &SecretsAction, json: bool) -> anyhow::Result<Exit> {
    let SecretsAction::Check(args) = action;
    let headers = headers(args).context(Exit::Usage)?;
    let body = body(&args.body).context(Exit::Usage)?;
    let found = find(&settings.receiver, &headers, &body);
    let now = Clock::system().now();
    print(&if json {
        found.json().to_string()
    } else {
        found.text(&settings.receiver, now)
    })?;
    Ok(if found.verified.is_ok() {
        Exit::Done
    } else {
        Exit::Found
    })
}

/// Which schemes are on, and with which secrets.
pub fn schemes(own: &ReceiverSettings) -> signature::Settings {
    signature::Settings {
        window: own.application.window,
        application: secrets(&own.application.secrets),
        rule: secrets(&own.rule_secrets),
        relay: secrets(&own.relay_secrets),
    }
}

fn secrets(named: &[NamedSecret]) -> Vec<Secret> {
    let made = named
        .iter()
        .map(|secret| Secret::new(secret.name.as_str(), secret.value.expose()));
    made.map(|secret| secret.expect("the settings refuse an empty secret"))
        .collect()
}

/// Headers as they were captured, names in small letters.
type Headers = Vec<(String, String)>;

fn headers(args: &SecretsCheck) -> anyhow::Result<Headers> {
    let read = args.header.iter().map(|line| {
        let (name, value) = line
            .split_once(':')
            .with_context(|| format!("--header {line:?} is no header: write \"X-Front-Signature: …\""))?;
        Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    });
    read.collect()
}

fn body(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut body = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut body)
            .context("standard input cannot be read")?;
        return Ok(body);
    }
    std::fs::read(path).with_context(|| format!("the body {} cannot be read", path.display()))
}

/// What was found out.
struct Found {
    /// The scheme and the name of the secret.
    verified: Result<(Scheme, String), Refusal>,
    /// When the sender says that it signed.
    signed_at: Option<Timestamp>,
}

fn find(own: &ReceiverSettings, headers: &Headers, body: &[u8]) -> Found {
    let presented = Presented {
        signature: header(headers, SIGNATURE),
        timestamp: header(headers, TIMESTAMP),
    };
    let signed_at = match presented.timestamp {
        Header::Once(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
            .map(Timestamp::from_millis),
        Header::Absent | Header::Repeated => None,
    };
    // A captured request is old; as of then it was not.
    let now = signed_at.unwrap_or(Timestamp::from_millis(0));
    let verifier = Verifier::new(&schemes(own));
    let verified = verifier
        .open(presented, now)
        .and_then(|claim| claim.verify(body))
        .map(|verified| (verified.scheme, verified.secret.to_owned()));
    Found { verified, signed_at }
}

fn header<'h>(headers: &'h Headers, name: &str) -> Header<'h> {
    let mut values = headers.iter().filter(|(other, _)| other == name);
    match (values.next(), values.next()) {
        (None, _) => Header::Absent,
        (Some((_, value)), None) => Header::Once(value.as_bytes()),
        (Some(_), Some(_)) => Header::Repeated,
    }
}

impl Found {
    fn json(&self) -> serde_json::Value {
        let signed_at = self.signed_at.map(|at| at.to_string());
        match &self.verified {
            Ok((scheme, secret)) => json!({
                "verified": true, "scheme": scheme.as_str(), "secret": secret, "signed_at": signed_at,
            }),
            Err(refusal) => json!({
                "verified": false,
                "scheme": refusal.scheme.map(Scheme::as_str),
                "reason": refusal.reason.as_str(),
                "signed_at": signed_at,
            }),
        }
    }

    fn text(&self, own: &ReceiverSettings, now: Timestamp) -> String {
        match &self.verified {
            Ok((scheme, secret)) => {
                let mut text = format!(
                    "signed with the secret {secret:?} of receiver.{}",
                    scheme.as_str()
                );
                if let Some(at) = self.signed_at {
                    text.push_str(&format!(", at {at}"));
                    if now.saturating_since(at) > own.application.window {
                        text.push_str("; posted now it would be refused as stale");
                    }
                }
                text
            }
            Err(refusal) => explain(own, refusal),
        }
    }
}

/// Says why it is not verified, and what to look at.
fn explain(own: &ReceiverSettings, refusal: &Refusal) -> String {
    let scheme = refusal.scheme.map_or("any scheme", Scheme::as_str);
    let tried = |scheme| {
        let list = match scheme {
            Scheme::Application => &own.application.secrets,
            Scheme::Rule => &own.rule_secrets,
            Scheme::Relay => &own.relay_secrets,
        };
        let names: Vec<_> = list.iter().map(|secret| secret.name.as_str()).collect();
        names.join(", ")
    };
    match (refusal.reason, refusal.scheme) {
        (Reason::WrongSignature, Some(of)) => format!(
            "not verified: no secret of receiver.{scheme} makes this signature (tried: {}); either it is another one, or the body \
             is not byte for byte what was sent",
            tried(of)
        ),
        (Reason::MissingSignature, _) => {
            "not verified: give the signature, --header \"X-Front-Signature: …\"".to_owned()
        }
        (Reason::SchemeOff | Reason::MissingTimestamp, _) => format!(
            "not verified: a request with these headers is of {scheme}, for which no secret is configured; application \
             webhooks also have X-Front-Request-Timestamp"
        ),
        (reason, _) => format!("not verified: {}, of {scheme}", reason.as_str().replace('_', " ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_are_copied() {
        let args = |lines: &[&str]| SecretsCheck {
            header: lines.iter().map(|line| (*line).to_owned()).collect(),
            body: "-".into(),
        };
        let read = headers(&args(&["X-Front-Signature:  abc= ", "host: a:80"])).unwrap();
        let expected = [("x-front-signature", "abc="), ("host", "a:80")];
        assert_eq!(
            read,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert!(headers(&args(&["abc"])).is_err());
    }
}
