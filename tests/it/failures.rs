//! What an operator reads in the middle of the night is true: `docs/failures.md` and the code say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use frontstream::emit::protocol::{ANSWER_ATTEMPTS_MAX, ATTEMPTS_MAX};
use frontstream::kafka::Class;
use frontstream::lifecycle::Exit;

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn page() -> String {
    read("docs/failures.md")
}

/// Returns the part of a page below a heading, up to the next of the same rank.
fn section<'p>(page: &'p str, heading: &str) -> &'p str {
    let marker = format!("## {heading}\n");
    let (_, below) = page
        .split_once(&marker)
        .unwrap_or_else(|| panic!("there is no {marker}"));
    below.split_once("\n## ").map_or(below, |(section, _)| section)
}

/// Returns the cells of each row of the tables in `text`, without headings.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let tables = text.lines().filter(|line| line.starts_with('|'));
    let rows = tables.map(|line| {
        line.trim_matches('|')
            .split('|')
            .map(str::trim)
            .collect::<Vec<_>>()
    });
    let rows: Vec<_> = rows.collect();
    let is_heading = |at: usize| {
        let next: Option<&Vec<&str>> = rows.get(at + 1);
        rows[at][0].starts_with("---") || next.is_some_and(|next| next[0].starts_with("---"))
    };
    let kept = (0..rows.len()).filter(|at| !is_heading(*at));
    kept.map(|at| rows[at].clone()).collect()
}

/// Returns what stands between backquotes.
fn spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Returns every text in the source that is not a test's.
fn texts_of_the_source() -> Vec<String> {
    let mut texts = Vec::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(&folder)).unwrap();
        for entry in entries {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") && !path.ends_with("tests.rs") {
                let source = read(&path);
                let code = source.split("#[cfg(test)]").next().unwrap();
                texts.extend(texts_in(code));
            }
        }
    }
    texts
}

/// Returns the string literals in a source, with lines that are gone on with joined.
fn texts_in(source: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for line in unfolded(source).lines() {
        let is_comment = line.trim_start().starts_with("//");
        let mut rest = if is_comment { "" } else { line };
        while let Some((_, from)) = rest.split_once('"') {
            let mut text = String::new();
            let mut chars = from.char_indices();
            rest = "";
            while let Some((at, char)) = chars.next() {
                match char {
                    '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                    '"' => {
                        rest = &from[at + 1..];
                        break;
                    }
                    char => text.push(char),
                }
            }
            texts.push(text);
        }
    }
    texts
}

/// Joins the lines of literals that end in a backslash.
fn unfolded(source: &str) -> String {
    let mut parts = source.split("\\\n");
    let mut joined = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        joined.push_str(part.trim_start());
    }
    joined
}

/// Says whether a text can be what is quoted: a placeholder of the one is an ellipsis of the other. A quotation may end
/// before the text does.
fn says(text: &str, quoted: &str) -> bool {
    let mut rest = text;
    let mut at_start = true;
    for part in quoted.split('…') {
        let found = if at_start {
            rest.starts_with(part).then_some(0)
        } else {
            rest.find(part)
        };
        let Some(found) = found else { return false };
        // What an ellipsis stands for is a placeholder, and nothing is left out between words.
        let skipped = &rest[..found];
        if !at_start && !part.is_empty() && !is_placeholder(skipped) {
            return false;
        }
        rest = &rest[found + part.len()..];
        at_start = false;
    }
    true
}

fn is_placeholder(text: &str) -> bool {
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    inner.is_some_and(|inner| !inner.contains(['{', '}']))
}

#[test]
fn a_quotation_is_compared_whole() {
    let text = "worker {worker} failed {FAILURES_IN_A_ROW_MAX} times in a row";
    for right in [
        "worker … failed … times in a row",
        "worker … failed …",
        "worker …",
    ] {
        assert!(says(text, right), "{right}");
    }
    for wrong in [
        "worker … failed … times in all",
        "worker … times in a row",
        "failed … times in a row",
        "the worker … failed",
    ] {
        assert!(!says(text, wrong), "{wrong}");
    }
    assert_eq!(
        texts_in("f(\"a \\\n   b\", \"c\\\"d\"); // \"no\"")[..2],
        ["a b", "c\"d"]
    );
}

#[test]
fn every_line_quoted_is_one_that_the_code_can_write() {
    let (page, texts) = (page(), texts_of_the_source());
    let mut quoted = 0;
    for heading in [
        "What you see while it goes on by itself",
        "What you see when a process ends",
    ] {
        for cells in rows(section(&page, heading)) {
            let lines = spans(cells[0]);
            assert!(!lines.is_empty(), "no line is quoted in {cells:?}");
            // What ends it is a line of the log too.
            let last = cells.last().unwrap();
            let over = last.split("over with").nth(1).map(spans).unwrap_or_default();
            for line in lines.into_iter().chain(over) {
                assert!(
                    texts.iter().any(|text| says(text, line)),
                    "the code has no text for {line:?}"
                );
                quoted += 1;
            }
        }
    }
    assert!(quoted > 30, "only {quoted} quotations were found");
}

/// A warning or an error that a role can write and that the page does not explain leaves somebody alone with it.
#[test]
fn every_warning_of_the_stages_is_on_the_page_or_in_operations() {
    let pages = [page(), read("docs/operations.md"), read("docs/metrics.md")];
    let quoted: Vec<&str> = pages.iter().flat_map(|page| spans(page)).collect();
    // What a clean stop leaves behind, a schema that cannot be read, and what nobody has ever seen.
    let elsewhere = [
        "the last transaction was aborted: the open work is left to the next owner",
        "records were still in flight at the end of the drain; none was acknowledged",
        "requests were still in flight at the end of the drain",
        "records of this schema go to the dead letters",
        "set an authentic body aside: it is no event",
        "metrics cannot be written",
    ];
    let mut warned = BTreeSet::new();
    for folder in [
        "roles/processor/worker",
        "roles/processor",
        "roles",
        "emit",
        "consume",
        "produce",
        "receive",
        "admin",
    ] {
        let entries =
            std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder)).unwrap();
        for entry in entries {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ext| ext == "rs") {
                let source = unfolded(&std::fs::read_to_string(&path).unwrap());
                let code = source.split("#[cfg(test)]").next().unwrap().to_owned();
                for level in ["tracing::warn!(", "tracing::error!("] {
                    for call in code.split(level).skip(1) {
                        let call = call.split_once(");").expect("a call ends").0;
                        // A field's value may be a text too; the message is the last one.
                        warned.extend(texts_in(call).pop());
                    }
                }
            }
        }
    }
    assert!(warned.len() > 15, "{warned:?}");
    for line in &warned {
        let is_quoted = quoted.iter().any(|quoted| quoted.len() > 8 && says(line, quoted));
        assert!(
            is_quoted || elsewhere.contains(&line.as_str()),
            "nobody explains {line:?}"
        );
    }
    for line in elsewhere {
        assert!(warned.contains(line), "no longer written: {line:?}");
    }
}

#[test]
fn the_exit_codes_are_those_of_the_program() {
    let codes: BTreeSet<String> = Exit::ALL
        .map(Exit::code)
        .into_iter()
        .chain([130])
        .map(|code| code.to_string())
        .collect();
    let operations = read("docs/operations.md");
    let listed: BTreeSet<_> = rows(section(&operations, "Exit codes"))
        .iter()
        .map(|cells| cells[0].to_owned())
        .collect();
    assert_eq!(listed, codes, "left: docs/operations.md, right: the program");
    let page = page();
    for cells in rows(section(&page, "What you see when a process ends")) {
        assert!(codes.contains(cells[1]), "{cells:?}");
    }
    let mentioned = page.split("exit ").skip(1);
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let mentioned: BTreeSet<_> = mentioned.map(digits).filter(|code| !code.is_empty()).collect();
    assert!(mentioned.is_subset(&codes), "{mentioned:?}");
}

#[test]
fn metrics_and_alerts_are_those_of_their_page() {
    let (page, metrics) = (page(), read("docs/metrics.md"));
    let words = |text: &str, prefix: &str| -> BTreeSet<String> {
        text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'))
            .filter(|word| word.starts_with(prefix) && word.len() > prefix.len())
            .map(str::to_owned)
            .collect()
    };
    for name in words(&page, "frontstream_") {
        assert!(metrics.contains(&format!("| `{name}` |")), "{name} is no metric");
    }
    let rules: BTreeSet<_> = metrics
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .map(str::to_owned)
        .collect();
    let named = words(&page, "Frontstream");
    assert!(
        !named.is_empty() && named.is_subset(&rules),
        "{named:?} of {rules:?}"
    );
}

#[test]
fn classes_and_bounds_are_those_of_the_code() {
    let page = page();
    let classes: BTreeSet<_> = rows(section(&page, "Which error is which"))
        .iter()
        .map(|cells| cells[0].trim_matches('`').to_owned())
        .collect();
    let expected: BTreeSet<_> = Class::ERRORS.map(|class| class.as_str().to_owned()).into();
    assert_eq!(classes, expected);
    let bounds: BTreeMap<_, _> = rows(section(&page, "Bounds"))
        .into_iter()
        .map(|cells| (cells[0].to_owned(), cells[1].to_owned()))
        .collect();
    let begins = |row: &str, tries: u32| {
        let cell = &bounds[row];
        assert!(cell.starts_with(&format!("{tries},")), "{row}: {cell}");
    };
    begins("a step of a transaction before its commit", ATTEMPTS_MAX);
    begins("commit, and an abort, together", ANSWER_ATTEMPTS_MAX);
}
