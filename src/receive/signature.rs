//! Who signed a request: three schemes, named secrets, one verdict. Pure: never reads a clock, never logs.
//!
//! A request belongs to exactly one scheme, chosen before any hash is computed and never tried again under
//! another one:
//!
//! | timestamp header | signature header | scheme |
//! |---|---|---|
//! | present | any | [`Scheme::Application`] |
//! | absent | 64 characters long | [`Scheme::Relay`] |
//! | absent | any other length | [`Scheme::Rule`] |
//!
//! The last two cannot be confused: a relay's signature is SHA-256 in hex, 64 characters, and a rule's is SHA-1
//! in base64, 28 characters, so no text is well-formed under both. Nothing unsigned (such as the event-id
//! header) takes part in the choice. A scheme without secrets is off.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

use crate::model::{Source, Timestamp};

/// How a request is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Front's application webhooks (and its channels): base64 HMAC-SHA256 over `timestamp:body`.
    Application,
    /// Front's rule webhooks: base64 HMAC-SHA1 over the body.
    Rule,
    /// EP-0033: hex HMAC-SHA256 over the body.
    Relay,
}

impl Scheme {
    /// All schemes.
    pub const ALL: [Self; 3] = [Self::Application, Self::Rule, Self::Relay];

    /// Returns the name used in settings and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Rule => "rule",
            Self::Relay => "relay",
        }
    }

    /// Returns the source of the events that come under this scheme.
    pub fn source(self) -> Source {
        match self {
            Self::Application => Source::Webhook,
            Self::Rule => Source::Rule,
            Self::Relay => Source::Relay,
        }
    }
}

/// A key with the name under which metrics and logs speak of it; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    name: Box<str>,
    key: Box<[u8]>,
}

impl Secret {
    /// Takes the secret's text as it is, never decoded; `None` when the name or the text is empty.
    pub fn new(name: impl Into<Box<str>>, text: impl AsRef<[u8]>) -> Option<Self> {
        let (name, key) = (name.into(), text.as_ref());
        (!name.is_empty() && !key.is_empty()).then(|| Self {
            name,
            key: key.into(),
        })
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Leaves the key out.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({:?})", self.name)
    }
}

/// Which schemes are on, and with which secrets. Several secrets of one scheme let it be rotated without loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How far a request's timestamp may be from now, either way, edges included.
    ///
    /// Five minutes by default: what Front recommends for channels and public receivers use (front-protocol 2.3).
    pub window: Duration,
    /// Secrets of [`Scheme::Application`]; none: off.
    pub application: Vec<Secret>,
    /// Secrets of [`Scheme::Rule`]; none: off.
    pub rule: Vec<Secret>,
    /// Secrets of [`Scheme::Relay`]; none: off.
    pub relay: Vec<Secret>,
}

/// A header as the request carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header<'a> {
    /// It is not there.
    Absent,
    /// It is there once, with this value.
    Once(&'a [u8]),
    /// It is there more than once: which one counts is anyone's guess, so none does.
    Repeated,
}

/// The headers that decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented<'a> {
    /// `x-front-signature`.
    pub signature: Header<'a>,
    /// `x-front-request-timestamp`.
    pub timestamp: Header<'a>,
}

/// Why a request is not let in. Told to metrics and logs, never to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No signature header.
    MissingSignature,
    /// A signature that no correct sender of the scheme could have written, or two of them.
    MalformedSignature,
    /// A well-formed signature that no secret of the scheme makes.
    WrongSignature,
    /// No timestamp header, where only the scheme that needs one is on.
    MissingTimestamp,
    /// A timestamp that is not a plain decimal number, or two of them.
    MalformedTimestamp,
    /// A timestamp before the window. Seconds instead of milliseconds land here.
    StaleTimestamp,
    /// A timestamp after the window.
    FutureTimestamp,
    /// The request's scheme has no secrets.
    SchemeOff,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::MissingSignature,
        Self::MalformedSignature,
        Self::WrongSignature,
        Self::MissingTimestamp,
        Self::MalformedTimestamp,
        Self::StaleTimestamp,
        Self::FutureTimestamp,
        Self::SchemeOff,
    ];

    /// Returns the name used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingSignature => "missing_signature",
            Self::MalformedSignature => "malformed_signature",
            Self::WrongSignature => "wrong_signature",
            Self::MissingTimestamp => "missing_timestamp",
            Self::MalformedTimestamp => "malformed_timestamp",
            Self::StaleTimestamp => "stale_timestamp",
            Self::FutureTimestamp => "future_timestamp",
            Self::SchemeOff => "scheme_off",
        }
    }
}

/// A request that is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The scheme it belongs to; `None` when nothing tells.
    pub scheme: Option<Scheme>,
    /// Why.
    pub reason: Reason,
}

impl Refusal {
    /// All refusals there are, so that each is counted from zero.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        use Reason as R;
        let of_scheme = |scheme| -> &'static [Reason] {
            match scheme {
                None => &[R::MissingSignature, R::MalformedSignature, R::MissingTimestamp],
                Some(Scheme::Application) => &[
                    R::MissingSignature,
                    R::MalformedSignature,
                    R::WrongSignature,
                    R::MalformedTimestamp,
                    R::StaleTimestamp,
                    R::FutureTimestamp,
                    R::SchemeOff,
                ],
                Some(Scheme::Rule | Scheme::Relay) => {
                    &[R::MalformedSignature, R::WrongSignature, R::SchemeOff]
                }
            }
        };
        let schemes = Scheme::ALL.map(Some).into_iter().chain([None]);
        schemes.flat_map(move |scheme| {
            of_scheme(scheme)
                .iter()
                .map(move |&reason| Self { scheme, reason })
        })
    }
}

/// A request that is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified<'v> {
    /// The scheme it belongs to.
    pub scheme: Scheme,
    /// The name of the secret that signed it.
    pub secret: &'v str,
}

/// The keyed hashes of the schemes that are on.
#[derive(Clone)]
pub struct Verifier {
    window: Duration,
    application: Box<[Keyed<Hmac<Sha256>>]>,
    rule: Box<[Keyed<Hmac<Sha1>>]>,
    relay: Box<[Keyed<Hmac<Sha256>>]>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// Prepares each secret's hash, so that a request costs only its own bytes.
    pub fn new(settings: &Settings) -> Self {
        Self {
            window: settings.window,
            application: settings.application.iter().map(Keyed::new).collect(),
            rule: settings.rule.iter().map(Keyed::new).collect(),
            relay: settings.relay.iter().map(Keyed::new).collect(),
        }
    }

    /// Judges what the headers alone can tell, before a byte of the body is read.
    ///
    /// # Errors
    ///
    /// The headers already exclude that the request is authentic.
    pub fn open<'v, 'h>(
        &'v self,
        presented: Presented<'h>,
        now: Timestamp,
    ) -> Result<Claim<'v, 'h>, Refusal> {
        let scheme_of_timestamp = match presented.timestamp {
            Header::Absent => None,
            Header::Once(_) | Header::Repeated => Some(Scheme::Application),
        };
        let refuse = |scheme, reason| Err(Refusal { scheme, reason });
        let signature = match presented.signature {
            Header::Absent => return refuse(scheme_of_timestamp, Reason::MissingSignature),
            Header::Repeated => return refuse(scheme_of_timestamp, Reason::MalformedSignature),
            Header::Once(signature) => signature,
        };
        match presented.timestamp {
            Header::Repeated => refuse(Some(Scheme::Application), Reason::MalformedTimestamp),
            Header::Once(timestamp) => self.open_application(timestamp, signature, now),
            Header::Absent if self.rule.is_empty() && self.relay.is_empty() => {
                refuse(None, Reason::MissingTimestamp)
            }
            Header::Absent if signature.len() == RELAY_SIGNATURE_LEN => self.open_relay(signature),
            Header::Absent => self.open_rule(signature),
        }
    }

    fn open_application<'v, 'h>(
        &'v self,
        timestamp: &'h [u8],
        signature: &[u8],
        now: Timestamp,
    ) -> Result<Claim<'v, 'h>, Refusal> {
        let refuse = |reason| Refusal {
            scheme: Some(Scheme::Application),
            reason,
        };
        if self.application.is_empty() {
            return Err(refuse(Reason::SchemeOff));
        }
        let at = decimal(timestamp).ok_or(refuse(Reason::MalformedTimestamp))?;
        if now.saturating_since(at) > self.window {
            return Err(refuse(Reason::StaleTimestamp));
        }
        if at.saturating_since(now) > self.window {
            return Err(refuse(Reason::FutureTimestamp));
        }
        let digest = base64_of::<44, 32>(signature).ok_or(refuse(Reason::MalformedSignature))?;
        Ok(Claim(Claimed::Application {
            keys: &self.application,
            timestamp,
            digest,
        }))
    }

    fn open_rule<'v, 'h>(&'v self, signature: &[u8]) -> Result<Claim<'v, 'h>, Refusal> {
        let refuse = |reason| Refusal {
            scheme: Some(Scheme::Rule),
            reason,
        };
        if self.rule.is_empty() {
            return Err(refuse(Reason::SchemeOff));
        }
        let digest = base64_of::<28, 20>(signature).ok_or(refuse(Reason::MalformedSignature))?;
        Ok(Claim(Claimed::Rule {
            keys: &self.rule,
            digest,
        }))
    }

    fn open_relay<'v, 'h>(&'v self, signature: &[u8]) -> Result<Claim<'v, 'h>, Refusal> {
        let refuse = |reason| Refusal {
            scheme: Some(Scheme::Relay),
            reason,
        };
        if self.relay.is_empty() {
            return Err(refuse(Reason::SchemeOff));
        }
        let digest = hex_of(signature).ok_or(refuse(Reason::MalformedSignature))?;
        Ok(Claim(Claimed::Relay {
            keys: &self.relay,
            digest,
        }))
    }
}

/// A request whose headers are in order: what they claim is still to be checked against the body.
#[derive(Debug)]
#[must_use = "a claim is not a proof: verify it against the body"]
pub struct Claim<'v, 'h>(Claimed<'v, 'h>);

enum Claimed<'v, 'h> {
    Application {
        keys: &'v [Keyed<Hmac<Sha256>>],
        timestamp: &'h [u8],
        digest: [u8; 32],
    },
    Rule {
        keys: &'v [Keyed<Hmac<Sha1>>],
        digest: [u8; 20],
    },
    Relay {
        keys: &'v [Keyed<Hmac<Sha256>>],
        digest: [u8; 32],
    },
}

impl fmt::Debug for Claimed<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme().as_str())
    }
}

impl Claimed<'_, '_> {
    fn scheme(&self) -> Scheme {
        match self {
            Self::Application { .. } => Scheme::Application,
            Self::Rule { .. } => Scheme::Rule,
            Self::Relay { .. } => Scheme::Relay,
        }
    }
}

impl<'v> Claim<'v, '_> {
    /// Checks the claim over the body's raw bytes, each comparison in constant time.
    ///
    /// # Errors
    ///
    /// No secret of the scheme makes this signature.
    pub fn verify(&self, body: &[u8]) -> Result<Verified<'v>, Refusal> {
        let scheme = self.0.scheme();
        let secret = match &self.0 {
            Claimed::Application {
                keys,
                timestamp,
                digest,
            } => signer(keys, &[timestamp, b":", body], digest),
            Claimed::Rule { keys, digest } => signer(keys, &[body], digest),
            Claimed::Relay { keys, digest } => signer(keys, &[body], digest),
        };
        secret.map(|secret| Verified { scheme, secret }).ok_or(Refusal {
            scheme: Some(scheme),
            reason: Reason::WrongSignature,
        })
    }
}

/// A secret with its key already absorbed: cloning it saves two blocks of hashing a request.
#[derive(Clone)]
struct Keyed<M> {
    name: Box<str>,
    mac: M,
}

impl<M: KeyInit> Keyed<M> {
    fn new(secret: &Secret) -> Self {
        Self {
            name: secret.name.clone(),
            mac: M::new_from_slice(&secret.key).expect("HMAC takes a key of any length"),
        }
    }
}

/// Returns the name of the first secret whose hash of `parts` is `digest`.
fn signer<'v, M: Mac + Clone>(keys: &'v [Keyed<M>], parts: &[&[u8]], digest: &[u8]) -> Option<&'v str> {
    keys.iter()
        .find(|keyed| {
            let mut mac = keyed.mac.clone();
            for part in parts {
                mac.update(part);
            }
            mac.verify_slice(digest).is_ok()
        })
        .map(|keyed| &*keyed.name)
}

/// SHA-256 in hex.
const RELAY_SIGNATURE_LEN: usize = 64;

/// Decodes a timestamp of plain decimal digits, in milliseconds.
fn decimal(text: &[u8]) -> Option<Timestamp> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let millis = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(Timestamp::from_millis(millis))
}

/// Decodes base64 of the standard alphabet, padded, `ENCODED` characters for `DECODED` bytes and no other length.
fn base64_of<const ENCODED: usize, const DECODED: usize>(text: &[u8]) -> Option<[u8; DECODED]> {
    if text.len() != ENCODED {
        return None;
    }
    // The decoder asks for room for the padding's bytes as well.
    let mut decoded = [0; 48];
    let len = STANDARD.decode_slice(text, &mut decoded).ok()?;
    decoded[..len].try_into().ok()
}

/// Decodes 32 bytes of lower-case hex, the only form that Ruby's `hexdigest` and its like write.
fn hex_of(text: &[u8]) -> Option<[u8; 32]> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if text.len() != RELAY_SIGNATURE_LEN {
        return None;
    }
    let mut decoded = [0; 32];
    for (byte, pair) in decoded.iter_mut().zip(text.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_500);
    const BODY: &[u8] = br#"{"type":"sync","authorization":{"id":"cmp_3k9dz"}}"#;
    const KEY: &str = "4f1d0c9be27a4e5b8a3360d7f5c2e891";
    /// From the vectors `app-sync-handshake` and `note-sync`, computed with OpenSSL.
    const APPLICATION: &[u8] = b"trUZlM3LtTy77FMA2eed44gIBFA+uBbKdO9E2rMRJzk=";
    const RELAY: &[u8] = b"45ba094242a8eef054d6b43f7dc7a453482a40e72b2ab97c94b6c60e6e172233";

    fn secret(name: &str, text: &str) -> Secret {
        Secret::new(name, text).unwrap()
    }

    fn settings() -> Settings {
        Settings {
            window: Duration::from_secs(300),
            application: vec![secret("old", "another"), secret("current", KEY)],
            rule: vec![secret("rule", "rk")],
            relay: vec![secret("relay", KEY)],
        }
    }

    fn judge<'v>(
        verifier: &'v Verifier,
        signature: Header<'_>,
        timestamp: Header<'_>,
    ) -> Result<Verified<'v>, Refusal> {
        let presented = Presented { signature, timestamp };
        verifier.open(presented, NOW)?.verify(BODY)
    }

    #[test]
    fn names_the_secret_that_signed() {
        let verifier = Verifier::new(&settings());
        let verified = judge(
            &verifier,
            Header::Once(APPLICATION),
            Header::Once(b"1795000000123"),
        );
        assert_eq!(
            verified,
            Ok(Verified {
                scheme: Scheme::Application,
                secret: "current"
            })
        );
        let verified = judge(&verifier, Header::Once(RELAY), Header::Absent);
        assert_eq!(
            verified,
            Ok(Verified {
                scheme: Scheme::Relay,
                secret: "relay"
            })
        );
    }

    #[test]
    #[rustfmt::skip]
    fn chooses_one_scheme_and_says_why_not() {
        use Header::{Absent, Once, Repeated};
        let upper_case = RELAY.to_ascii_uppercase();
        let at = |millis: &'static str| Once(millis.as_bytes());
        let good = "1795000000123";
        let (application, rule, relay) = (Some(Scheme::Application), Some(Scheme::Rule), Some(Scheme::Relay));
        let cases = [
            (Absent, Absent, None, Reason::MissingSignature),
            (Absent, at(good), application, Reason::MissingSignature),
            (Repeated, at(good), application, Reason::MalformedSignature),
            (Repeated, Absent, None, Reason::MalformedSignature),
            (Once(b""), at(good), application, Reason::MalformedSignature),
            (Once(b""), Absent, rule, Reason::MalformedSignature),
            (Once(APPLICATION), Repeated, application, Reason::MalformedTimestamp),
            (Once(APPLICATION), at(""), application, Reason::MalformedTimestamp),
            (Once(APPLICATION), at("+1795000000123"), application, Reason::MalformedTimestamp),
            (Once(APPLICATION), at("1795000000123.0"), application, Reason::MalformedTimestamp),
            (Once(APPLICATION), at("99999999999999999999"), application, Reason::MalformedTimestamp),
            (Once(APPLICATION), at("1795000000"), application, Reason::StaleTimestamp),
            (Once(APPLICATION), at("9223372036854775807"), application, Reason::FutureTimestamp),
            (Once(RELAY), at(good), application, Reason::MalformedSignature),
            (Once(APPLICATION), Absent, rule, Reason::MalformedSignature),
            (Once(&upper_case), Absent, relay, Reason::MalformedSignature),
            (Once(b"fWYPRA7YB5Ul+hZbBEmTX1l3dq4="), Absent, rule, Reason::WrongSignature),
            // The unused bits of the last character set: another text of the same digest.
            (Once(b"trUZlM3LtTy77FMA2eed44gIBFA+uBbKdO9E2rMRJzl="), at(good), application, Reason::MalformedSignature),
        ];
        let verifier = Verifier::new(&settings());
        for (signature, timestamp, scheme, reason) in cases {
            let verdict = judge(&verifier, signature, timestamp);
            assert_eq!(
                verdict,
                Err(Refusal { scheme, reason }),
                "{signature:?} {timestamp:?}"
            );
            assert!(is_listed(scheme, reason), "{scheme:?} {reason:?}");
        }
    }

    fn is_listed(scheme: Option<Scheme>, reason: Reason) -> bool {
        Refusal::all().any(|refusal| refusal == Refusal { scheme, reason })
    }

    #[test]
    fn a_scheme_without_secrets_is_off() {
        let only_application = Settings {
            rule: Vec::new(),
            relay: Vec::new(),
            ..settings()
        };
        let only_rule = Settings {
            application: Vec::new(),
            relay: Vec::new(),
            ..settings()
        };
        let cases = [
            (
                &only_application,
                RELAY,
                Header::Absent,
                None,
                Reason::MissingTimestamp,
            ),
            (
                &only_rule,
                RELAY,
                Header::Absent,
                Some(Scheme::Relay),
                Reason::SchemeOff,
            ),
            (
                &only_rule,
                APPLICATION,
                Header::Once(b"1795000000123"),
                Some(Scheme::Application),
                Reason::SchemeOff,
            ),
        ];
        for (settings, signature, timestamp, scheme, reason) in cases {
            let verifier = Verifier::new(settings);
            let verdict = judge(&verifier, Header::Once(signature), timestamp);
            assert_eq!(verdict, Err(Refusal { scheme, reason }));
            assert!(is_listed(scheme, reason), "{scheme:?} {reason:?}");
        }
    }

    #[test]
    fn never_prints_a_secret() {
        let text = format!("{:?} {:?}", settings(), Verifier::new(&settings()));
        assert!(text.contains("current"));
        assert!(!text.contains(KEY), "{text}");
        assert!(!text.contains("another"), "{text}");
        assert!(!text.contains(&format!("{:?}", KEY.as_bytes())), "{text}");
    }

    #[test]
    fn refuses_an_empty_secret() {
        assert!(Secret::new("current", "").is_none());
        assert!(Secret::new("", "text").is_none());
    }
}
