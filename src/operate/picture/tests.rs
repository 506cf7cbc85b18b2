use super::*;
use crate::model::{CloseReason, Timestamp};

fn seen(second: i64, priority: Priority, conversation: &str, events: u32, kinds: &[&str]) -> Seen {
    Seen {
        at: Timestamp::from_millis(1_795_000_000_000 + second * 1_000),
        delay: Duration::from_millis(300 + second.unsigned_abs() * 7),
        priority,
        conversation: conversation.to_owned(),
        events,
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        closed_by: CloseReason::Gap,
        yours: !conversation.starts_with("cnv_sample"),
    }
}

/// Three refreshes, the newest of them a person's own.
fn watched() -> Watched {
    let mut watched = Watched::default();
    let sample = ["message.received", "conversation.assigned", "conversation.tagged"];
    for one in [
        seen(1, Priority::Low, "cnv_sample7", 2, &["conversation.untagged"]),
        seen(2, Priority::High, "cnv_sample12", 11, &sample),
        seen(5, Priority::High, "cnv_yours", 1, &["message.received"]),
    ] {
        watched.add(one);
    }
    watched
}

fn figures() -> Figures {
    Figures {
        webhooks: 18,
        accepted: 14,
        duplicates: 1,
        others: vec![("401 signature".to_owned(), 2), ("400 not JSON".to_owned(), 1)],
        stored: 14,
        open_windows: 3,
        ..Figures::default()
    }
}

fn drawn(phase: Phase, columns: usize, rows: usize, colours: Colours) -> String {
    let picture = Picture {
        running: Duration::from_secs(62),
        phase,
        rate: 4.06,
        figures: &figures(),
        watched: &watched(),
    };
    let lines = render(&picture, Size { columns, rows }, colours);
    for line in &lines {
        let plain = line.replace("\x1b[0m", "");
        assert!(
            colours == Colours::Wanted || plain.chars().count() < columns,
            "{line:?}"
        );
    }
    assert!(lines.len() < rows, "{} lines on {rows} rows", lines.len());
    lines.join("\n")
}

#[test]
fn everything_on_a_large_terminal() {
    assert_eq!(
        drawn(Phase::UntilCtrlC, 120, 50, Colours::Unwanted),
        "\
running 1:02; Ctrl-C ends it with a summary and an audit

  webhooks        4.1 a second          14 accepted           3 not accepted
               2 × 401 signature, 1 × 400 not JSON
  events           14 stored             3 windows open       1 duplicates
  refreshes         3 in all           4.7 events each

  priority   refreshes       p50       p99   from receipt until readable
  high               2    319 ms    335 ms
  medium             0         -         -
  low                1    307 ms    307 ms

  UTC       priority  conversation  events     delay  closed by  kinds   * yours
* 11:06:45  high      cnv_yours          1    335 ms  gap        message.received
  11:06:42  high      cnv_sample12      11    314 ms  gap        message.received, conversation.assigned +1
  11:06:41  low       cnv_sample7        2    307 ms  gap        conversation.untagged"
    );
}

#[test]
fn the_classic_terminal_keeps_half_for_what_was_printed_before() {
    assert_eq!(
        drawn(Phase::For(Duration::from_secs(120)), 80, 24, Colours::Unwanted),
        "\
running 1:02 of 2:00; Ctrl-C ends it sooner
  webhooks        4.1 a second          14 accepted           3 not accepted
               2 × 401 signature, 1 × 400 not JSON
  events           14 stored             3 windows open       1 duplicates
  refreshes         3 in all           4.7 events each
  priority   refreshes       p50       p99   from receipt until readable
  high               2    319 ms    335 ms
  medium             0         -         -
  low                1    307 ms    307 ms
  UTC       priority  conversation  events     delay  kinds   * yours
* 11:06:45  high      cnv_yours          1    335 ms  message.received
  11:06:42  high      cnv_sample12      11    314 ms  message.received +2"
    );
}

#[test]
fn a_narrow_terminal_loses_columns_and_no_row_is_wrapped() {
    assert_eq!(
        drawn(Phase::Ending, 45, 30, Colours::Unwanted),
        "\
ending: waits for the last refreshes; Ctrl-C
  webhooks        4.1 a second
               2 × 401 signature, 1 × 400 no
  events           14 stored
  refreshes         3 in all
  priority   refreshes       p50       p99
  high               2    319 ms    335 ms
  medium             0         -         -
  low                1    307 ms    307 ms
  priority  conversation  events     delay
* high      cnv_yours          1    335 ms
  high      cnv_sample12      11    314 ms
  low       cnv_sample7        2    307 ms"
    );
}

#[test]
fn every_size_is_kept_to() {
    for columns in 0..130 {
        for rows in 1..60 {
            drawn(Phase::Starting, columns.max(1), rows, Colours::Unwanted);
        }
    }
}

#[test]
fn colours_say_how_urgent_and_nothing_else_changes() {
    let coloured = drawn(Phase::Ended, 120, 50, Colours::Wanted);
    assert!(coloured.contains("\x1b[1;31m  high    \x1b[0m"), "{coloured}");
    let plain = drawn(Phase::Ended, 120, 50, Colours::Unwanted);
    let codes = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[1;31m", "\x1b[33m"];
    let stripped = codes.iter().fold(coloured, |text, code| text.replace(code, ""));
    let stripped: Vec<&str> = stripped.lines().map(str::trim_end).collect();
    assert_eq!(stripped.join("\n"), plain);
}

#[test]
fn before_the_first_refresh_there_is_no_table() {
    let picture = Picture {
        running: Duration::ZERO,
        phase: Phase::Starting,
        rate: 0.0,
        figures: &Figures::default(),
        watched: &Watched::default(),
    };
    let size = Size {
        columns: 80,
        rows: 50,
    };
    let lines = render(&picture, size, Colours::Unwanted);
    assert_eq!(lines.first().map(String::as_str), Some("starting"));
    assert_eq!(lines.last().map(String::as_str), Some("  no refresh yet"));
}

#[test]
fn what_came_from_outside_takes_one_column_each() {
    let mut watched = Watched::default();
    watched.add(seen(
        1,
        Priority::High,
        "cnv_\u{4e2d}\u{301}\u{202e}",
        1,
        &["a\u{1f600}b"],
    ));
    let lines = refreshes(&watched, 79, 1);
    let row = lines[1].cut_to(79, Colours::Unwanted);
    assert!(row.contains("cnv_???") && row.contains("a?b"), "{row}");
}

#[test]
fn as_many_kinds_as_fit() {
    let kinds: Vec<String> = ["one", "two", "three"].map(str::to_owned).to_vec();
    for (width, expected) in [
        (15, "one, two, three"),
        (14, "one, two +1"),
        (10, "one +2"),
        (5, "one"),
    ] {
        assert_eq!(as_many_as_fit(&kinds, width), expected, "{width}");
    }
    assert_eq!(as_many_as_fit(&kinds[2..], 4), "thr…");
    assert_eq!(as_many_as_fit(&[], 4), "");
}
