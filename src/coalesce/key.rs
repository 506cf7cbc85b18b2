//! Conversations and occurrences of events as 128-bit hashes: looked up without building an owned key.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::model::Change;

/// A 128-bit SipHash of length-prefixed text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(u64, u64);

/// Feeds half of the hash, which is as good as random, to a table that takes it as it is.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// The hash of a key is the key.
pub(super) type BuildKeyHasher = BuildHasherDefault<KeyHasher>;

#[derive(Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only keys are hashed, and they write one u64");
    }

    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The keys of one event.
pub(super) struct Keys {
    /// Of (tenant, conversation).
    pub(super) conversation: Key,
    /// Of (tenant, conversation, event id).
    pub(super) occurrence: Key,
}

/// Any two constants do, but they are the same in every processor for ever: what is a duplicate must not
/// depend on who reads the log. Nobody can use them against us who cannot sign as Front does.
const SIP_KEYS: (u64, u64) = (0x6672_6f6e_7473_7472, 0x6561_6d5f_6b65_7973);

/// Hashes once over both: the occurrence goes on where the conversation ends.
pub(super) fn keys(change: &Change<'_>, conversation: &str) -> Keys {
    let mut hasher = SipHasher13::new_with_keys(SIP_KEYS.0, SIP_KEYS.1);
    write(&mut hasher, change.tenant);
    write(&mut hasher, conversation);
    let of_conversation = hasher.finish128();
    write(&mut hasher, change.event_id);
    let of_occurrence = hasher.finish128();
    Keys {
        conversation: Key(of_conversation.h1, of_conversation.h2),
        occurrence: Key(of_occurrence.h1, of_occurrence.h2),
    }
}

/// The length goes first, so that ("ab", "c") and ("a", "bc") differ.
fn write(hasher: &mut SipHasher13, text: &str) {
    hasher.write(&(text.len() as u64).to_le_bytes());
    hasher.write(text.as_bytes());
}
