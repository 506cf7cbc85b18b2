//! Signing as Front and its relays do, for requests of our own making.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac};
use sha1::Sha1;
use sha2::Sha256;

use crate::config::Secret;
pub(crate) use crate::config::cli::Scheme;
use crate::model::Timestamp;

const SIGNATURE: &str = "x-front-signature";
const TIMESTAMP: &str = "x-front-request-timestamp";

/// A header of a request.
pub(crate) type Header = (&'static str, String);

/// Signs bodies under one scheme with one secret.
#[derive(Clone)]
pub(crate) struct Signer {
    scheme: Scheme,
    secret: Secret,
}

impl Signer {
    pub(crate) fn new(scheme: Scheme, secret: Secret) -> Self {
        Self { scheme, secret }
    }

    /// Returns the headers that make a body authentic at `now`.
    pub(crate) fn headers(&self, body: &[u8], now: Timestamp) -> Vec<Header> {
        let key = self.secret.expose();
        match self.scheme {
            Scheme::Application => {
                let timestamp = now.as_millis().to_string();
                let signature = sha256(key, &[timestamp.as_bytes(), b":", body]);
                vec![(SIGNATURE, STANDARD.encode(signature)), (TIMESTAMP, timestamp)]
            }
            Scheme::Rule => {
                let mut mac = <Hmac<Sha1>>::new_from_slice(key).expect("HMAC takes a key of any length");
                mac.update(body);
                vec![(SIGNATURE, STANDARD.encode(mac.finalize().into_bytes()))]
            }
            Scheme::Relay => vec![(SIGNATURE, hex(&sha256(key, &[body])))],
        }
    }
}

fn sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256>>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every character");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of `signatures.json` that its README gives by hand.
    #[test]
    fn signs_as_front_does() {
        let at = Timestamp::from_millis(1_795_000_000_123);
        let application = Secret::new(*b"4f1d0c9be27a4e5b8a3360d7f5c2e891");
        let body = include_bytes!("../../tests/data/front/application/inbound_received.json");
        assert_eq!(
            Signer::new(Scheme::Application, application.clone()).headers(body, at),
            [
                (
                    SIGNATURE,
                    "83HIgYIlTEBGdtnu7dJR5MF19lLMFzt+YuI6Csm0ca8=".to_owned()
                ),
                (TIMESTAMP, "1795000000123".to_owned()),
            ]
        );
        assert_eq!(
            Signer::new(Scheme::Relay, application).headers(body, at),
            [(
                SIGNATURE,
                "815191d7c8405cd99798cfe5d13825719a652e2a111de8724acb389ed25afc43".to_owned()
            )]
        );
        let rule = Secret::new(*b"rk_test_7c0b9a51d3e84f26");
        let body = include_bytes!("../../tests/data/front/rule/inbound.json");
        assert_eq!(
            Signer::new(Scheme::Rule, rule).headers(body, at),
            [(SIGNATURE, "fWYPRA7YB5Ul+hZbBEmTX1l3dq4=".to_owned())]
        );
    }
}
