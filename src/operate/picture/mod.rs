//! What `dev` draws on a terminal: figures, delays and the last refreshes as lines that fit.
//!
//! Pure: the same picture and size give the same lines.

use std::fmt::Write as _;
use std::time::Duration;

use super::post::millis;
use super::watch::{RECENT_MAX, Seen, Watched};
use crate::model::Priority;
use crate::observe::{Colours, Size};

/// What is drawn.
pub(crate) struct Picture<'a> {
    /// Since the start.
    pub(crate) running: Duration,
    /// What it is about to do.
    pub(crate) phase: Phase,
    /// Webhooks a second over the last seconds.
    pub(crate) rate: f64,
    /// What was counted.
    pub(crate) figures: &'a Figures,
    /// What was seen.
    pub(crate) watched: &'a Watched,
}

/// What a run is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is not ready yet.
    Starting,
    /// It runs until somebody ends it.
    UntilCtrlC,
    /// It runs for this long.
    For(Duration),
    /// It waits until everything is visible.
    Ending,
    /// It has ended.
    Ended,
}

/// What receiver and processor counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Webhooks, however they were answered.
    pub(crate) webhooks: u64,
    /// Webhooks answered 200 and stored.
    pub(crate) accepted: u64,
    /// Webhooks answered 200 that had been stored before.
    pub(crate) duplicates: u64,
    /// Other answers, by status and reason.
    pub(crate) others: Vec<(String, u64)>,
    /// Events stored.
    pub(crate) stored: u64,
    /// Of these: without a conversation, and so never in a refresh.
    pub(crate) without_conversation: u64,
    /// Events that the processor found to be duplicates.
    pub(crate) dropped: u64,
    /// Windows open now.
    pub(crate) open_windows: u64,
    /// Refreshes committed.
    pub(crate) committed: u64,
}

/// How many lines a picture takes beside numbers and refreshes: with empty lines between its parts, and without.
const SPACIOUS: usize = 9;
const COMPACT: usize = 6;
/// With fewer lines left for numbers and refreshes than this, refreshes in the place of empty lines are worth more.
const WORTH: usize = 8;
/// The least a picture takes where a terminal has the rows: what was printed before it should stay in sight.
const ROWS_MIN: usize = 12;

/// Draws the picture as lines of at most `size.columns - 1` characters, fewer than `size.rows`.
pub(crate) fn render(picture: &Picture<'_>, size: Size, colours: Colours) -> Vec<String> {
    let rows = (size.rows / 2).max(ROWS_MIN).min(size.rows.saturating_sub(1));
    let spacious = rows >= SPACIOUS + WORTH;
    let columns = size.columns.saturating_sub(1);
    let numbers = numbers(picture, columns);
    let beside = if spacious { SPACIOUS } else { COMPACT } + numbers.len();
    let recent = rows.saturating_sub(beside).min(RECENT_MAX);
    let parts = [
        vec![status(picture)],
        numbers,
        delays(picture.watched),
        refreshes(picture.watched, columns, recent),
    ];
    let mut lines: Vec<Line> = Vec::new();
    for part in parts {
        if spacious && !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.extend(part);
    }
    lines.truncate(rows);
    lines.iter().map(|line| line.cut_to(columns, colours)).collect()
}

/// Colours, by what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paint {
    Plain,
    /// What explains.
    Faint,
    /// What is meant for the person.
    Strong,
    Of(Priority),
}

impl Paint {
    /// Returns the parameters of the terminal's "select graphic rendition".
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Faint | Self::Of(Priority::Low) => "2",
            Self::Strong => "1",
            Self::Of(Priority::High) => "1;31",
            Self::Of(Priority::Medium) => "33",
        }
    }
}

/// A line in pieces of one colour each.
#[derive(Clone, Debug, Default)]
struct Line(Vec<(Paint, String)>);

impl Line {
    fn of(paint: Paint, text: impl Into<String>) -> Self {
        Self(vec![(paint, text.into())])
    }

    fn and(mut self, paint: Paint, text: impl Into<String>) -> Self {
        self.0.push((paint, text.into()));
        self
    }

    /// Writes at most `columns` characters of it, and nothing but spaces away from its end.
    fn cut_to(&self, columns: usize, colours: Colours) -> String {
        let mut left = columns;
        let mut text = String::new();
        for (paint, piece) in &self.0 {
            let piece: String = piece.chars().map(one_column).take(left).collect();
            left -= piece.chars().count();
            if colours == Colours::Unwanted || *paint == Paint::Plain || piece.trim().is_empty() {
                text.push_str(&piece);
            } else {
                write!(text, "\x1b[{}m{piece}\x1b[0m", paint.code()).expect("a String takes every character");
            }
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// Takes what may be wider or narrower than a column out of what came from outside.
fn one_column(c: char) -> char {
    if c.is_ascii_graphic() || " …×".contains(c) {
        c
    } else {
        '?'
    }
}

fn status(picture: &Picture<'_>) -> Line {
    let running = clock(picture.running);
    let text = match picture.phase {
        Phase::Starting => "starting".to_owned(),
        Phase::UntilCtrlC => format!("running {running}; Ctrl-C ends it with a summary and an audit"),
        Phase::For(whole) => {
            format!("running {running} of {}; Ctrl-C ends it sooner", clock(whole))
        }
        Phase::Ending => "ending: waits for the last refreshes; Ctrl-C again ends at once".to_owned(),
        Phase::Ended => format!("ran {running}"),
    };
    Line::of(Paint::Strong, text)
}

/// Writes minutes and seconds, as a stop watch does.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// How wide a number is with what it counts; and the label before the first.
const LABEL: usize = 13;
const NUMBER: usize = 8;
const COUNTED: usize = 13;

/// Lines of as many of three numbers as fit, below each other, so that only digits move; and one that says what was
/// not accepted, if anything was.
fn numbers(picture: &Picture<'_>, columns: usize) -> Vec<Line> {
    let figures = picture.figures;
    let fitting = columns.saturating_sub(LABEL) / (NUMBER + COUNTED);
    let line = |label: &str, numbers: &[(String, &str)]| {
        let begun = Line::of(Paint::Plain, format!("  {label:<11}"));
        numbers.iter().take(fitting).fold(begun, |line, (number, what)| {
            line.and(Paint::Strong, format!("{number:>NUMBER$}"))
                .and(Paint::Faint, format!(" {what:<12}"))
        })
    };
    let others: u64 = figures.others.iter().map(|(_, count)| count).sum();
    let each = figures.others.iter();
    let each = each.map(|(label, count)| format!("{count} × {label}"));
    let each = each.collect::<Vec<_>>().join(", ");
    let mut lines = vec![line(
        "webhooks",
        &[
            (format!("{:.1}", picture.rate), "a second"),
            (figures.accepted.to_string(), "accepted"),
            (others.to_string(), "not accepted"),
        ],
    )];
    if others > 0 {
        lines.push(Line::of(Paint::Strong, format!("  {:<11}  {each}", "")));
    }
    lines.extend([
        line(
            "events",
            &[
                (figures.stored.to_string(), "stored"),
                (figures.open_windows.to_string(), "windows open"),
                (figures.duplicates.to_string(), "duplicates"),
            ],
        ),
        line(
            "refreshes",
            &[
                (picture.watched.refreshes.to_string(), "in all"),
                (
                    format!("{:.1}", picture.watched.events_per_refresh()),
                    "events each",
                ),
            ],
        ),
    ]);
    lines
}

fn delays(watched: &Watched) -> Vec<Line> {
    let title = format!(
        "  {:<11}{:>9}{:>10}{:>10}   from receipt until readable",
        "priority", "refreshes", "p50", "p99"
    );
    let mut lines = vec![Line::of(Paint::Faint, title)];
    for (priority, delays) in Priority::ALL.into_iter().zip(&watched.delays) {
        let quantile = |per_mille| {
            if delays.count() == 0 {
                "-".to_owned()
            } else {
                millis(delays.quantile(per_mille))
            }
        };
        lines.push(
            Line::of(Paint::Of(priority), format!("  {:<11}", priority.as_str())).and(
                Paint::Plain,
                format!("{:>9}{:>10}{:>10}", delays.count(), quantile(500), quantile(990)),
            ),
        );
    }
    lines
}

/// A column of the last refreshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Time,
    Priority,
    /// As wide as the longest.
    Conversation(usize),
    Events,
    Delay,
    ClosedBy,
    /// What is left of the row.
    Kinds(usize),
}

/// Conversations are shown at least and at most this wide.
const CONVERSATION: (usize, usize) = (12, 24);
/// Kinds are left out where there is less room: the common ones take this much.
const KINDS_MIN: usize = 16;
/// What closed a window is left out where kinds would have less room: it is nearly always the gap.
const KINDS_GOOD: usize = 30;

impl Column {
    /// Chooses the columns that fit.
    fn all(recent: &[&Seen], columns: usize) -> Vec<Self> {
        let longest = recent.iter().map(|seen| seen.conversation.chars().count()).max();
        let conversation = longest.unwrap_or(0).clamp(CONVERSATION.0, CONVERSATION.1);
        let mut chosen = vec![
            Self::Time,
            Self::Priority,
            Self::Conversation(conversation),
            Self::Events,
            Self::Delay,
            Self::ClosedBy,
        ];
        let used = |chosen: &[Self]| chosen.iter().map(|column| column.width() + 2).sum::<usize>();
        for (first_to_go, beside) in [
            (Self::ClosedBy, KINDS_GOOD + 2),
            (Self::Time, 0),
            (Self::Events, 0),
        ] {
            if used(&chosen) + beside > columns {
                chosen.retain(|column| *column != first_to_go);
            }
        }
        let left = columns.saturating_sub(used(&chosen) + 2);
        if left >= KINDS_MIN {
            chosen.push(Self::Kinds(left));
        }
        chosen
    }

    fn width(self) -> usize {
        match self {
            Self::Conversation(width) | Self::Kinds(width) => width,
            Self::Events => 6,
            Self::Time | Self::Priority | Self::Delay => 8,
            Self::ClosedBy => 9,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Time => "UTC",
            Self::Priority => "priority",
            Self::Conversation(_) => "conversation",
            Self::Events => "events",
            Self::Delay => "delay",
            Self::ClosedBy => "closed by",
            Self::Kinds(_) => "kinds",
        }
    }

    fn cell(self, seen: &Seen) -> String {
        match self {
            // The hour, minute and second of RFC 3339.
            Self::Time => seen.at.to_string().chars().skip(11).take(8).collect(),
            Self::Priority => seen.priority.to_string(),
            Self::Conversation(width) => shortened(&seen.conversation, width),
            Self::Events => seen.events.to_string(),
            Self::Delay => millis(seen.delay),
            Self::ClosedBy => seen.closed_by.to_string(),
            Self::Kinds(width) => as_many_as_fit(&seen.kinds, width),
        }
    }

    /// Brings a text to the column's width: numbers to the right.
    fn padded(self, text: &str) -> String {
        let width = self.width();
        match self {
            Self::Events | Self::Delay => format!("  {text:>width$}"),
            Self::Time | Self::Priority | Self::Conversation(_) | Self::ClosedBy | Self::Kinds(_) => {
                format!("  {text:<width$}")
            }
        }
    }
}

/// Draws the last refreshes below their titles, the newest first.
fn refreshes(watched: &Watched, columns: usize, rows: usize) -> Vec<Line> {
    let recent: Vec<&Seen> = watched.recent.iter().take(rows).collect();
    if recent.is_empty() {
        return vec![Line::of(Paint::Faint, "  no refresh yet")];
    }
    let chosen = Column::all(&recent, columns);
    let mut titles: String = chosen
        .iter()
        .map(|column| column.padded(column.title()))
        .collect();
    if recent.iter().any(|seen| seen.yours) {
        titles.truncate(titles.trim_end().len());
        titles.push_str("   * yours");
    }
    let mut lines = vec![Line::of(Paint::Faint, titles)];
    for seen in recent {
        let mut line = Line::default();
        for column in &chosen {
            let paint = match column {
                Column::Priority => Paint::Of(seen.priority),
                Column::Time
                | Column::Conversation(_)
                | Column::Events
                | Column::Delay
                | Column::ClosedBy
                | Column::Kinds(_) => Paint::Plain,
            };
            line = line.and(paint, column.padded(&column.cell(seen)));
        }
        if seen.yours {
            line.0[0].1.replace_range(..1, "*");
        }
        lines.push(line);
    }
    lines
}

fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width - 1).collect();
    format!("{kept}…")
}

/// Lists whole kinds as far as they fit, and how many more there are.
fn as_many_as_fit(kinds: &[String], width: usize) -> String {
    for shown in (1..=kinds.len()).rev() {
        let mut text = kinds[..shown].join(", ");
        if shown < kinds.len() {
            write!(text, " +{}", kinds.len() - shown).expect("a String takes every character");
        }
        if text.chars().count() <= width {
            return text;
        }
    }
    kinds
        .first()
        .map(|first| shortened(first, width))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
