//! A terminal that log lines share with a block of lines redrawn in place.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};

/// How large a terminal is taken to be that does not tell: the classic one.
const CLASSIC: Size = Size {
    columns: 80,
    rows: 24,
};

/// Standard output and error of a process; cheap to clone.
///
/// Log lines written through it come to stand above the block, if one is drawn. Without a block it is standard error.
#[derive(Clone, Default)]
pub struct Console(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The block as it stands on the terminal, its lines without line ends.
    block: Vec<String>,
    /// The terminal's modes before its echo was turned off.
    before: Option<Termios>,
    /// Nothing is drawn any more.
    left: bool,
}

/// How many characters a terminal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// In a row.
    pub columns: usize,
    /// One below the other.
    pub rows: usize,
}

impl Console {
    /// Returns the size of the terminal that is standard output, as it is now.
    pub fn size(&self) -> Size {
        tcgetwinsize(io::stdout())
            .ok()
            .filter(|size| size.ws_col > 0 && size.ws_row > 0)
            .map_or(CLASSIC, |size| Size {
                columns: size.ws_col.into(),
                rows: size.ws_row.into(),
            })
    }

    /// Draws a block in the place of the one before. A line longer than a row, less one character, would break it.
    ///
    /// What is typed is not shown from now on: it would come to stand in the middle of the block.
    ///
    /// # Errors
    ///
    /// Standard output is closed.
    pub fn draw(&self, block: Vec<String>) -> io::Result<()> {
        let mut state = self.lock();
        if state.left {
            return Ok(());
        }
        state.hide_typing();
        let text = frame(&state.block, &block, self.size().columns);
        state.block = block;
        put(io::stdout().lock(), &text)
    }

    /// Leaves the block as it stands, for good: what comes next stands below it, and the terminal is as it was. Whoever
    /// draws sees to it that this is called at every end of the process: a shell may not mend a terminal.
    pub fn leave(&self) {
        let mut state = self.lock();
        state.block.clear();
        state.left = true;
        state.show_typing();
    }

    /// Returns what writes log lines.
    pub(super) fn writer(&self) -> Writer {
        Writer(self.clone())
    }

    fn write_above(&self, bytes: &[u8]) -> io::Result<()> {
        let state = self.lock();
        if state.block.is_empty() {
            return io::stderr().lock().write_all(bytes);
        }
        let columns = self.size().columns;
        put(io::stdout().lock(), &frame(&state.block, &[], columns))?;
        io::stderr().lock().write_all(bytes)?;
        put(io::stdout().lock(), &frame(&[], &state.block, columns))
    }

    /// A panic elsewhere leaves a block that is redrawn, so the lock is good to go on with.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hide_typing(&mut self) {
        if self.before.is_none()
            && in_foreground()
            && let Ok(before) = tcgetattr(io::stdout())
        {
            let mut quiet = before.clone();
            quiet.local_modes.remove(LocalModes::ECHO);
            if tcsetattr(io::stdout(), OptionalActions::Now, &quiet).is_ok() {
                self.before = Some(before);
            }
        }
    }

    fn show_typing(&mut self) {
        if let Some(before) = self.before.take()
            && in_foreground()
        {
            // It is gone when this fails, and then nobody types.
            let _ = tcsetattr(io::stdout(), OptionalActions::Now, &before);
        }
    }
}

/// Says whether this process may change the terminal: the system stops one that does so from the background.
fn in_foreground() -> bool {
    tcgetpgrp(io::stdout()).is_ok_and(|group| group == getpgrp())
}

/// Writes at once, so that no half block is ever seen.
fn put(mut out: impl io::Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes what turns one block into another, with the cursor at the beginning of the row below each.
///
/// Lines that stand in a terminal that has become narrower are taken to be wrapped, as most terminals do.
fn frame(from: &[String], to: &[String], columns: usize) -> String {
    let up: usize = from
        .iter()
        .map(|line| width(line).div_ceil(columns.max(1)).max(1))
        .sum();
    let mut text = String::new();
    if up > 0 {
        write!(text, "\x1b[{up}A").expect("a String takes every character");
    }
    for line in to {
        // The rest of the row is cleared after the line was written over it: clearing first would flicker.
        text.push_str(line);
        text.push_str("\x1b[K\r\n");
    }
    text.push_str("\x1b[J");
    text
}

/// Returns how many columns a line takes, colours left out. Each character is taken to be one column wide.
fn width(line: &str) -> usize {
    let (mut width, mut in_escape) = (0, false);
    for c in line.chars() {
        if in_escape {
            in_escape = !c.is_ascii_alphabetic();
        } else if c == '\x1b' {
            in_escape = true;
        } else {
            width += 1;
        }
    }
    width
}

/// Writes one log line.
pub(super) struct Writer(Console);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_above(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that knows what [`frame`] uses, with all rows it ever had.
    struct Screen {
        rows: Vec<String>,
        at: (usize, usize),
        columns: usize,
    }

    impl Screen {
        fn new(columns: usize) -> Self {
            Self {
                rows: vec![String::new()],
                at: (0, 0),
                columns,
            }
        }

        fn show(&mut self, text: &str) {
            let mut rest = text;
            while let Some(c) = rest.chars().next() {
                if let Some(escape) = rest.strip_prefix("\x1b[") {
                    let end = escape.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    self.obey(&escape[..end], escape.as_bytes()[end]);
                    rest = &escape[end + 1..];
                    continue;
                }
                match c {
                    '\r' => self.at.1 = 0,
                    '\n' => {
                        self.at.0 += 1;
                        if self.at.0 == self.rows.len() {
                            self.rows.push(String::new());
                        }
                    }
                    c => {
                        assert!(self.at.1 < self.columns, "a line was wrapped: {text:?}");
                        let row = &mut self.rows[self.at.0];
                        let mut cells: Vec<char> = row.chars().collect();
                        cells.resize(cells.len().max(self.at.1 + 1), ' ');
                        cells[self.at.1] = c;
                        *row = cells.into_iter().collect();
                        self.at.1 += 1;
                    }
                }
                rest = &rest[c.len_utf8()..];
            }
        }

        fn obey(&mut self, number: &str, command: u8) {
            let (row, column) = self.at;
            match command {
                b'A' => self.at.0 -= number.parse::<usize>().unwrap(),
                b'K' => self.rows[row] = self.rows[row].chars().take(column).collect(),
                b'J' => {
                    self.rows.truncate(row + 1);
                    self.obey("", b'K');
                }
                b'm' => {}
                other => panic!("unknown escape {other}"),
            }
        }

        fn text(&self) -> String {
            self.rows.join("\n")
        }
    }

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_block_takes_the_place_of_the_one_before() {
        let mut screen = Screen::new(20);
        screen.show("$ dev\r\n");
        let blocks = [
            lines(&["one", "two"]),
            lines(&["a longer one", "2"]),
            lines(&["short"]),
            lines(&["now", "", "with", "\x1b[31mfour\x1b[0m"]),
        ];
        let mut before = Vec::new();
        for block in blocks {
            screen.show(&frame(&before, &block, 20));
            before = block;
        }
        assert_eq!(screen.text(), "$ dev\nnow\n\nwith\nfour\n");
    }

    #[test]
    fn a_log_line_comes_to_stand_above_the_block() {
        let mut screen = Screen::new(20);
        let block = lines(&["one", "two"]);
        screen.show(&frame(&[], &block, 20));
        for log in ["WARN away\r\n", "INFO back\r\n"] {
            screen.show(&frame(&block, &[], 20));
            screen.show(log);
            screen.show(&frame(&[], &block, 20));
        }
        assert_eq!(screen.text(), "WARN away\nINFO back\none\ntwo\n");
    }

    #[test]
    fn lines_that_a_narrower_terminal_has_wrapped_are_replaced_as_a_whole() {
        let before = lines(&["0123456789", "x"]);
        // What a terminal of six columns makes of them.
        let mut screen = Screen::new(6);
        screen.show("012345\r\n6789\r\nx\r\n");
        screen.show(&frame(&before, &lines(&["new"]), 6));
        assert_eq!(screen.text(), "new\n");
    }

    #[test]
    fn colours_take_no_room() {
        assert_eq!(width("\x1b[1;31mhigh\x1b[0m é"), 6);
    }

    #[test]
    fn a_size_is_known_without_a_terminal_too() {
        let size = Console::default().size();
        assert!(size.columns > 0 && size.rows > 0);
    }
}
