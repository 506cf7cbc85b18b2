//! The one way to standard output.

use std::io::{self, Write};

/// Prints `text` and a newline to standard output, at once.
///
/// # Errors
///
/// Standard output is closed: a reader such as `head` has enough, and there is nobody left to print to.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Takes control characters out of what came from outside: a terminal would obey them.
pub(crate) fn clean(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}
