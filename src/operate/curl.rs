//! A webhook as a command line for `curl`, signed now: to be read, copied and run by a person.

use std::borrow::Cow;
use std::path::Path;

use super::samples::{base_36, small};
use super::sign::{Header, Scheme, Signer};
use crate::model::Timestamp;

/// The conversation of the webhook that is made for a person to post.
pub(crate) const CONVERSATION: &str = "cnv_yours";

/// Where `curl` takes the body from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body<'a> {
    /// The command line itself.
    Text(&'a str),
    /// A file, as it is.
    File(&'a Path),
}

/// Writes the command that posts a body with these headers.
pub(crate) fn line<'h>(url: &str, headers: impl IntoIterator<Item = &'h Header>, body: Body<'_>) -> String {
    let mut line = format!("curl -i {}", quoted(url));
    for (name, value) in headers {
        line.push_str(&format!(" -H {}", quoted(&format!("{name}: {value}"))));
    }
    match body {
        Body::Text(text) => line.push_str(&format!(" -d {}", quoted(text))),
        Body::File(path) => {
            line.push_str(&format!(
                " --data-binary {}",
                quoted(&format!("@{}", path.display()))
            ));
        }
    }
    line
}

/// Makes a small webhook of a conversation of its own, signed at `now`, and writes the command that posts it.
pub(crate) fn yours(url: &str, scheme: Scheme, signer: &Signer, now: Timestamp) -> String {
    let number = u64::try_from(now.as_millis()).unwrap_or(0);
    let body = small(scheme, &format!("evt_{}", base_36(number)), CONVERSATION, now);
    line(url, &signer.headers(body.as_bytes(), now), Body::Text(&body))
}

/// Writes a word so that a shell takes it as it is.
pub(crate) fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_line_is_what_a_person_would_type() {
        let headers = [("x-a", "1".to_owned()), ("x-b", "it's".to_owned())];
        assert_eq!(
            line("http://127.0.0.1:1/a", &headers, Body::Text(r#"{"a":1}"#)),
            r#"curl -i http://127.0.0.1:1/a -H 'x-a: 1' -H 'x-b: it'\''s' -d '{"a":1}'"#
        );
        assert_eq!(
            line("http://h/?a=1&b=2", &[], Body::File(Path::new("a b.json"))),
            "curl -i 'http://h/?a=1&b=2' --data-binary '@a b.json'"
        );
        assert_eq!((quoted(""), quoted("a\nb")), ("''".into(), "'a\nb'".into()));
    }

    #[test]
    fn yours_is_signed_small_and_new_each_time() {
        let signer = Signer::new(Scheme::Application, Secret::new(*b"4f1d0c9be27a4e5b"));
        let at = |millis| {
            let now = Timestamp::from_millis(millis);
            yours("http://127.0.0.1:1/", Scheme::Application, &signer, now)
        };
        let first = at(1_795_000_000_123);
        assert!(
            first.contains("-H 'x-front-request-timestamp: 1795000000123'"),
            "{first}"
        );
        assert!(first.contains(CONVERSATION) && first.len() < 400, "{first}");
        assert_ne!(first, at(1_795_000_000_124));
    }
}
