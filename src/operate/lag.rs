//! `lag`: how far the processor is behind, per partition, from what the group committed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use serde::Serialize;

use super::print;
use crate::config::Settings;
use crate::config::cli;
use crate::kafka::reader::{Bounds, CommittedOffset, Reader, Step};
use crate::lifecycle::{Clock, Exit, Instant, Stop};
use crate::model::{Checkpoint, Offset, Partition, Timestamp};
use crate::wire::checkpoint_v1;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// What the group's committed offset of one partition says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is committed: a processor begins at the earliest record.
    Nothing,
    /// An operator's reset that no processor has taken up.
    Reset(Offset),
    /// A checkpoint.
    Working(Checkpoint),
    /// Metadata that cannot be read, and why.
    Unreadable(Offset, String),
}

/// One line of the output; the field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The partition of the event topic.
    pub partition: i32,
    /// `working`, `reset`, `nothing committed` or `unreadable`.
    pub state: &'static str,
    /// The end of the log.
    pub log_end_offset: i64,
    /// What the group committed: the oldest event in an open window, or the position.
    pub committed_offset: Option<i64>,
    /// The next record that was never read.
    pub position: Option<i64>,
    /// Records behind: from the position to the end of the log.
    pub lag: u64,
    /// Windows open.
    pub open_windows: Option<usize>,
    /// Age of the oldest unread record; `None` when all is read, or it could not be read in time.
    pub staleness_ms: Option<u128>,
    /// When the run began, RFC 3339.
    pub run_started_at: Option<String>,
    /// The first offset of the run.
    pub run_start: Option<i64>,
    /// What is wrong with the metadata, and the way out.
    pub error: Option<String>,
}

/// Prints the lag of each partition and the total.
///
/// # Errors
///
/// The brokers could not be asked, or standard output is closed.
pub fn run(settings: &Settings, args: &cli::Lag, json: bool) -> anyhow::Result<Exit> {
    let rows = lag(settings)?;
    let over = |row: &Row| args.max.is_some_and(|max| row.lag > max);
    let found = rows.iter().any(|row| over(row) || row.error.is_some());
    let total: u64 = rows.iter().map(|row| row.lag).sum();
    let text = if json {
        serde_json::json!({
            "group": settings.processor.group,
            "topic": settings.topics.names.events,
            "total_lag": total,
            "partitions": rows,
        })
        .to_string()
    } else {
        text_of(&settings.processor.group, total, &rows)
    };
    print(&text)?;
    Ok(if found { Exit::Found } else { Exit::Done })
}

/// Reads how far the group is behind on each partition. Blocks.
///
/// # Errors
///
/// The brokers could not be asked.
pub fn lag(settings: &Settings) -> anyhow::Result<Vec<Row>> {
    let topic = &settings.topics.names.events;
    let reader = Reader::new(&settings.kafka, &settings.processor.group, ANSWER_TIMEOUT)?;
    let partitions = reader.partitions(topic)?;
    let committed = reader.committed(topic, &partitions)?;
    let mut found = Vec::with_capacity(partitions.len());
    // The ends are taken after the offsets: a group that works meanwhile must not look ahead of the log.
    for (partition, committed) in partitions.into_iter().zip(committed) {
        found.push((partition, reader.bounds(topic, partition)?, state_of(committed)));
    }
    let unread: Vec<(Partition, Offset)> = found
        .iter()
        .filter_map(|(partition, bounds, state)| {
            let next = state.next_to_read(*bounds);
            (next < bounds.end).then_some((*partition, next))
        })
        .collect();
    let oldest = oldest_unread(&reader, topic, &unread)?;
    let now = Clock::system().now();
    let row = |(partition, bounds, state): (Partition, Bounds, State)| {
        let age = oldest.get(&partition).map(|at| now.saturating_since(*at));
        row_of(partition, bounds, state, age)
    };
    Ok(found.into_iter().map(row).collect())
}

impl State {
    /// Returns the next record to read that was never read, as far as it is known.
    fn next_to_read(&self, bounds: Bounds) -> Offset {
        let next = match self {
            Self::Nothing => bounds.start,
            Self::Reset(offset) | Self::Unreadable(offset, _) => *offset,
            Self::Working(checkpoint) => checkpoint.position,
        };
        next.max(bounds.start)
    }
}

fn state_of(committed: Option<CommittedOffset>) -> State {
    let Some(CommittedOffset { offset, metadata }) = committed else {
        return State::Nothing;
    };
    if metadata.is_empty() {
        return State::Reset(offset);
    }
    match checkpoint_v1::decode(&metadata, offset) {
        Ok(checkpoint) => State::Working(checkpoint),
        Err(error) => State::Unreadable(offset, error.to_string()),
    }
}

/// Reads the first unread record of each partition for its time; what does not come in time is left out.
fn oldest_unread(
    reader: &Reader,
    topic: &str,
    unread: &[(Partition, Offset)],
) -> anyhow::Result<BTreeMap<Partition, Timestamp>> {
    let mut oldest = BTreeMap::new();
    if unread.is_empty() {
        return Ok(oldest);
    }
    let began = Instant::now();
    let mut answered = std::collections::BTreeSet::new();
    reader.follow(topic, unread, &Stop::new(), |step| {
        match step {
            Step::Record(record) => {
                answered.insert(record.partition());
                oldest.entry(record.partition()).or_insert(record.recorded_at());
            }
            Step::End(partition) => {
                answered.insert(partition);
            }
            Step::Nothing => {}
        }
        let done = answered.len() == unread.len() || began.elapsed() > ANSWER_TIMEOUT;
        anyhow::Ok(if done {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    Ok(oldest)
}

fn row_of(partition: Partition, bounds: Bounds, state: State, age: Option<Duration>) -> Row {
    let mut row = Row {
        partition: partition.number(),
        state: "working",
        log_end_offset: bounds.end.number(),
        committed_offset: None,
        position: None,
        lag: bounds.end.distance_from(state.next_to_read(bounds)),
        open_windows: None,
        staleness_ms: age.map(|age| age.as_millis()),
        run_started_at: None,
        run_start: None,
        error: None,
    };
    match state {
        State::Nothing => row.state = "nothing committed",
        State::Reset(offset) => {
            row.state = "reset";
            row.committed_offset = Some(offset.number());
        }
        State::Working(checkpoint) => {
            row.committed_offset = Some(checkpoint.committed_offset().number());
            row.position = Some(checkpoint.position.number());
            row.open_windows = Some(checkpoint.window_starts.len());
            row.run_started_at = Some(checkpoint.run.started_at.to_string());
            row.run_start = Some(checkpoint.run.start.number());
        }
        State::Unreadable(offset, error) => {
            row.state = "unreadable";
            row.committed_offset = Some(offset.number());
            row.error = Some(error);
        }
    }
    row
}

fn text_of(group: &str, total: u64, rows: &[Row]) -> String {
    let head = [
        "partition",
        "lag",
        "staleness",
        "position",
        "log end",
        "open",
        "run",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    let number = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    for row in rows {
        let run = match (&row.run_started_at, row.run_start) {
            (Some(started_at), Some(start)) => format!("{started_at} from {start}"),
            _ => row.state.to_owned(),
        };
        lines.push([
            row.partition.to_string(),
            row.lag.to_string(),
            row.staleness_ms.map_or_else(|| "-".to_owned(), seconds),
            number(row.position.or(row.committed_offset)),
            row.log_end_offset.to_string(),
            row.open_windows
                .map_or_else(|| "-".to_owned(), |open| open.to_string()),
            run,
        ]);
    }
    let mut text = columns(&lines);
    for row in rows {
        if let Some(error) = &row.error {
            text.push_str(&format!("\npartition {}: {error}", row.partition));
        }
    }
    text.push_str(&format!("\ngroup {group}: {total} records behind in all"));
    text
}

fn seconds(millis: u128) -> String {
    format!("{}.{} s", millis / 1_000, millis % 1_000 / 100)
}

/// Lines the cells up: numbers to the right, the last column as it is.
fn columns<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |cells: &[String; N]| {
        let each = cells.iter().enumerate().map(|(column, cell)| {
            if column + 1 == N {
                cell.clone()
            } else {
                format!("{cell:>width$}", width = widths[column])
            }
        });
        each.collect::<Vec<_>>().join("  ")
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Run, RunCause};

    fn offset(number: i64) -> Offset {
        Offset::new(number).unwrap()
    }

    fn bounds() -> Bounds {
        Bounds {
            start: offset(100),
            end: offset(250),
        }
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            run: Run {
                started_at: Timestamp::from_millis(1_795_000_000_000),
                start: offset(100),
                cause: RunCause::First,
            },
            position: offset(240),
            window_starts: vec![offset(200), offset(230)],
        }
    }

    fn row(committed: Option<(i64, &str)>) -> Row {
        let committed = committed.map(|(at, metadata)| CommittedOffset {
            offset: offset(at),
            metadata: metadata.to_owned(),
        });
        row_of(Partition::new(3).unwrap(), bounds(), state_of(committed), None)
    }

    #[test]
    fn lag_counts_from_the_position_not_from_the_oldest_open_window() {
        let metadata = checkpoint_v1::encode(&checkpoint(), 4_096);
        let row = row(Some((200, &metadata)));
        assert_eq!((row.state, row.lag, row.open_windows), ("working", 10, Some(2)));
        assert_eq!((row.committed_offset, row.position), (Some(200), Some(240)));
        assert_eq!(row.run_started_at.as_deref(), Some("2026-11-18T11:06:40.000Z"));
    }

    #[test]
    fn without_a_checkpoint_it_counts_from_where_a_processor_would_begin() {
        assert_eq!((row(None).state, row(None).lag), ("nothing committed", 150));
        let reset = row(Some((150, "")));
        assert_eq!((reset.state, reset.lag), ("reset", 100));
        let before_the_log = row(Some((50, "")));
        assert_eq!(
            before_the_log.lag, 150,
            "what is no longer retained is not ahead of anyone"
        );
    }

    #[test]
    fn metadata_that_cannot_be_read_is_shown_with_the_way_out() {
        let metadata = checkpoint_v1::encode(&checkpoint(), 4_096);
        for (at, metadata) in [(200, "fs1:AAAA"), (200, "hello"), (201, metadata.as_str())] {
            let row = row(Some((at, metadata)));
            assert_eq!(row.state, "unreadable");
            let text = text_of("frontstream", row.lag, &[row]);
            assert!(text.contains("--reset-offsets"), "{text}");
        }
    }

    #[test]
    fn the_table_lines_up() {
        let metadata = checkpoint_v1::encode(&checkpoint(), 4_096);
        let mut rows = vec![row(Some((200, &metadata))), row(None)];
        rows[0].staleness_ms = Some(1_250);
        let text = text_of("frontstream", 160, &rows);
        let expected = "\
partition  lag  staleness  position  log end  open  run
        3   10      1.2 s       240      250     2  2026-11-18T11:06:40.000Z from 100
        3  150          -         -      250     -  nothing committed
group frontstream: 160 records behind in all";
        assert_eq!(text, expected);
    }
}
