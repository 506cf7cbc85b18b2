//! Signed webhooks as Front posts them: 2 to 3 KB, each with ids of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frontstream::lifecycle::Clock;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::cluster::SECRET;

/// Bodies whose kinds are all urgent, 2.1 to 3.1 KB, with the id of the event in each.
const SAMPLES: [(&str, &str); 5] = [
    (
        include_str!("../../tests/data/front/application/conversation_archived.json"),
        "evt_6q2m81f5",
    ),
    (
        include_str!("../../tests/data/front/application/conversation_moved.json"),
        "evt_6q2m81e4",
    ),
    (
        include_str!("../../tests/data/front/application/conversation_reopened.json"),
        "evt_6q2m81g6",
    ),
    (
        include_str!("../../tests/data/front/application/link_added.json"),
        "evt_6q2m81qg",
    ),
    (
        include_str!("../../tests/data/front/application/inbound_received.json"),
        "evt_6q2m81a0",
    ),
];

/// The id of the conversation in all of them.
const CONVERSATION: &str = "cnv_1k7p3xq8";

/// What a request has wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Signed with another secret.
    Signature,
    /// Signed an hour ago.
    Stale,
    /// Announces a body of 2 MiB, of which nothing follows.
    Size,
}

/// Makes requests.
pub(crate) struct Webhooks {
    key: Hmac<Sha256>,
    other_key: Hmac<Sha256>,
    /// What sets this section's events apart from others'.
    name: &'static str,
    body: String,
}

impl Webhooks {
    pub(crate) fn new(name: &'static str) -> Self {
        let key = |secret: &str| Hmac::new_from_slice(secret.as_bytes()).expect("any length is a key");
        Self {
            key: key(SECRET),
            other_key: key("another secret"),
            name,
            body: String::new(),
        }
    }

    /// Appends request `number`, about a conversation, signed now.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, number: u64, conversation: u64, flaw: Flaw) {
        let (sample, event) =
            SAMPLES[usize::try_from(number % SAMPLES.len() as u64).expect("a small number")];
        // Ids as long as Front's.
        let id = format!("evt_{}{number:07x}", self.name);
        let conversation = format!("cnv_{conversation:08x}");
        self.body = sample.replace(event, &id).replace(CONVERSATION, &conversation);
        self.request(out, flaw);
    }

    fn request(&self, out: &mut Vec<u8>, flaw: Flaw) {
        let mut signed_at = Clock::system().now().as_millis();
        if flaw == Flaw::Stale {
            signed_at -= 3_600_000;
        }
        let mut mac = if flaw == Flaw::Signature {
            self.other_key.clone()
        } else {
            self.key.clone()
        };
        mac.update(format!("{signed_at}:").as_bytes());
        mac.update(self.body.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let length = if flaw == Flaw::Size {
            2 << 20
        } else {
            self.body.len()
        };
        out.extend_from_slice(
            format!(
                "POST /api/webhooks/front HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
                 x-front-request-timestamp: {signed_at}\r\nx-front-signature: {signature}\r\n\
                 content-length: {length}\r\n\r\n"
            )
            .as_bytes(),
        );
        if flaw != Flaw::Size {
            out.extend_from_slice(self.body.as_bytes());
        }
    }
}

/// Tells the number of the event from its id.
pub(crate) fn number_of(event_id: &str, name: &str) -> Option<u64> {
    let digits = event_id.strip_prefix("evt_")?.strip_prefix(name)?;
    u64::from_str_radix(digits, 16).ok()
}
