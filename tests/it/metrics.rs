//! The names that dashboards and alerts are built on: `docs/metrics.md` and the running roles say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::kafka;
use crate::support::process::{Env, Process, free_address, wait_until};

/// Name to type and labels; what the page says and what a process serves.
type Metrics = BTreeMap<String, Metric>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Metric {
    kind: String,
    labels: BTreeSet<String>,
}

/// What a process serves: its metrics, and the values of each label.
#[derive(Debug, Default)]
struct Served {
    metrics: Metrics,
    values: BTreeMap<String, BTreeSet<String>>,
    answers: BTreeSet<(String, String)>,
}

/// What the page says.
#[derive(Debug, Default)]
struct Page {
    metrics: Metrics,
    units: BTreeMap<String, String>,
    /// Empty where any value may come.
    values: BTreeMap<String, BTreeSet<String>>,
    answers: BTreeSet<(String, String)>,
    /// Every name of ours in the text, expressions of alerts included.
    mentioned: BTreeSet<String>,
}

/// The series of a partition are there while a process owns it, so no broker, no series.
const OF_A_PARTITION: &str = "partition";

#[test]
fn the_page_names_what_the_roles_serve() {
    let page = Page::read();
    let mut served = Served::default();
    for role in ["receiver", "processor"] {
        served.add(&scrape(role));
    }
    let (of_partitions, expected): (Metrics, Metrics) = page
        .metrics
        .clone()
        .into_iter()
        .partition(|(_, metric)| metric.labels.contains(OF_A_PARTITION));
    assert_eq!(served.metrics, expected, "left: served, right: docs/metrics.md");
    assert_eq!(of_partitions.len(), 3, "{of_partitions:?}");
    assert_eq!(
        served.answers, page.answers,
        "left: served, right: docs/metrics.md"
    );

    let labels = page.metrics.values().flat_map(|metric| &metric.labels).cloned();
    let listed: BTreeSet<_> = page.values.keys().cloned().collect();
    assert_eq!(listed, labels.collect(), "the labels whose values are listed");
    for (label, values) in &page.values {
        if !values.is_empty() {
            assert_eq!(served.values.get(label), Some(values), "values of {label}");
        }
    }
}

#[test]
fn a_partition_shows_while_a_process_owns_it() {
    let cluster = kafka();
    let topics = cluster.topics("metrics", 2);
    let env: Env = vec![
        ("FRONTSTREAM_KAFKA_BROKERS", cluster.bootstrap.clone()),
        ("FRONTSTREAM_TOPICS_PREFIX", topics.prefix.clone()),
        ("FRONTSTREAM_PROCESSOR_GROUP", format!("{}group", topics.prefix)),
    ];
    let processor = Process::ready(&["processor"], &env);
    let of_a_partition = |metric: &Metric| metric.labels.contains(OF_A_PARTITION);
    let mut expected = Page::read().metrics;
    expected.retain(|_, metric| of_a_partition(metric));
    let both = BTreeSet::from(["0".to_owned(), "1".to_owned()]);
    let mut served = Served::default();
    // The lag is shown last: it waits for the client's first statistics.
    wait_until("both partitions show", || {
        served = Served::default();
        let page = processor.get("/metrics").unwrap_or_default();
        let lags = page
            .lines()
            .filter(|line| line.starts_with("frontstream_processor_lag_records{"));
        let shown = lags.count() == both.len();
        served.add(&page);
        shown
    });
    served.metrics.retain(|_, metric| of_a_partition(metric));
    assert_eq!(served.metrics, expected, "left: served, right: docs/metrics.md");
    assert_eq!(served.values.get(OF_A_PARTITION), Some(&both));
}

#[test]
fn names_follow_the_conventions_of_prometheus() {
    let page = Page::read();
    for (name, metric) in &page.metrics {
        let is_ours = ["build", "producer", "processor", "receiver"]
            .iter()
            .any(|part| name.starts_with(&format!("frontstream_{part}_")));
        // Those that every Prometheus client has, under their usual names.
        assert!(is_ours || name.starts_with("process_"), "{name}: the prefix");
        let is_plain = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_';
        assert!(name.chars().all(is_plain), "{name}: the characters");
        assert_eq!(
            metric.kind == "counter",
            name.ends_with("_total"),
            "{name}: _total"
        );
        for suffix in ["_count", "_sum", "_bucket"] {
            assert!(!name.ends_with(suffix), "{name}: {suffix} is a histogram's");
        }
        let base = name.trim_end_matches("_total");
        let unit = page.units[name].as_str();
        for suffix in ["seconds", "bytes", "ratio"] {
            assert_eq!(
                unit == suffix,
                base.ends_with(&format!("_{suffix}")),
                "{name}: {suffix}"
            );
        }
        assert!(
            metric.kind != "histogram" || unit == "seconds",
            "{name}: its buckets"
        );
        for label in &metric.labels {
            assert!(
                !["le", "quantile", "job", "instance"].contains(&label.as_str()),
                "{name}: {label}"
            );
        }
    }
    for name in &page.mentioned {
        let base = ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        assert!(page.metrics.contains_key(base), "{name} is no metric");
    }
}

#[test]
fn promtool_finds_nothing_to_say() {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    // Not part of the set-up: the names are checked above, this is a second opinion.
    let Ok(mut promtool) = started else { return };
    let pages = ["receiver", "processor"].map(scrape).concat();
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(without_repeats(&pages).as_bytes()).unwrap();
    drop(stdin);
    let said = promtool.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && text.trim().is_empty(), "{text}");
}

/// Returns what a role serves whose brokers are away: everything that has a value from the start.
fn scrape(role: &str) -> String {
    let env: Env = vec![
        ("FRONTSTREAM_KAFKA_BROKERS", free_address().to_string()),
        ("FRONTSTREAM_RECEIVER_LISTEN", "127.0.0.1:0".to_owned()),
        (
            "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS",
            "current=env:APPLICATION_SECRET".to_owned(),
        ),
        (
            "APPLICATION_SECRET",
            "4f1d0c9be27a4e5b8a3360d7f5c2e891".to_owned(),
        ),
    ];
    let process = Process::start(&[role], &env);
    let mut page = String::new();
    // Registered after the admin port is open, all metrics of a role one after the other.
    wait_until("the role shows its metrics", || {
        page = process.get("/metrics").unwrap_or_default();
        page.contains(last_of(role))
    });
    process.stop();
    let (_, body) = page.split_once("\r\n\r\n").unwrap();
    body.to_owned()
}

/// Returns the series that the role shows last.
fn last_of(role: &str) -> &'static str {
    match role {
        "receiver" => "frontstream_receiver_handshakes_total",
        _ => "frontstream_processor_partitions_released_total{how=\"lost\"}",
    }
}

/// Keeps the first of each family that two roles have.
fn without_repeats(pages: &str) -> String {
    let mut seen = BTreeSet::new();
    let mut kept = String::new();
    let mut keep = true;
    for line in pages.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            keep = seen.insert(rest.split(' ').next().unwrap_or_default());
        }
        if keep {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

impl Served {
    /// Adds one page in Prometheus' text format.
    fn add(&mut self, page: &str) {
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                let kind = kind.to_owned();
                let metric = Metric {
                    kind,
                    labels: BTreeSet::new(),
                };
                self.metrics.entry(name.to_owned()).or_insert(metric);
            }
        }
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            self.add_series(line);
        }
    }

    fn add_series(&mut self, line: &str) {
        let Some((series, labels)) = line
            .rsplit_once(' ')
            .and_then(|(series, _)| series.split_once('{'))
        else {
            return;
        };
        let labels = labels_in(labels.trim_end_matches('}'));
        let name = if self.metrics.contains_key(series) {
            series
        } else {
            series
                .trim_end_matches("_bucket")
                .trim_end_matches("_sum")
                .trim_end_matches("_count")
        };
        let Some(metric) = self.metrics.get_mut(name) else {
            return;
        };
        if let (Some(answer), Some(reason)) = (labels.get("answer"), labels.get("reason")) {
            self.answers.insert((answer.clone(), reason.clone()));
        }
        for (label, value) in labels {
            // A bucket's bound is part of its type.
            if label != "le" {
                metric.labels.insert(label.clone());
                self.values.entry(label).or_default().insert(value);
            }
        }
    }
}

/// Reads `a="x",b="y"`; no value of ours holds a quote.
fn labels_in(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split("\",").filter_map(|pair| pair.split_once("=\""));
    pairs
        .map(|(label, value)| (label.to_owned(), value.trim_end_matches('"').to_owned()))
        .collect()
}

impl Page {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        let text = std::fs::read_to_string(path).unwrap();
        let mut page = Self::default();
        let mut label = None;
        for line in text.lines() {
            let spans = spans(line);
            page.mentioned.extend(names_in(line));
            if let Some(cells) = line.strip_prefix('|') {
                page.add_row(&cells.split('|').map(str::trim).collect::<Vec<_>>(), &spans);
            }
            // A list of values: `- `label`: `value`, …`, gone on with in indented lines.
            if line.starts_with("- `") {
                label = Some(spans[0].clone());
                page.values
                    .insert(spans[0].clone(), spans[1..].iter().cloned().collect());
            } else if let (Some(label), true) = (&label, line.starts_with("  ")) {
                page.values.get_mut(label).unwrap().extend(spans);
            } else {
                label = None;
            }
        }
        page
    }

    fn add_row(&mut self, cells: &[&str], spans: &[String]) {
        match cells {
            [
                _,
                kind @ ("counter" | "gauge" | "histogram"),
                labels,
                unit,
                _meaning,
                "",
            ] => {
                let metric = Metric {
                    kind: (*kind).to_owned(),
                    labels: self::spans(labels).into_iter().collect(),
                };
                self.units.insert(spans[0].clone(), (*unit).to_owned());
                let before = self.metrics.insert(spans[0].clone(), metric);
                assert_eq!(before, None, "{} stands there twice", spans[0]);
            }
            [answer, _, _, ""] if is_answer(answer) => {
                self.answers.insert((spans[0].clone(), spans[1].clone()));
            }
            _ => {}
        }
    }
}

/// Says whether a cell is a status code, or stands for no answer.
fn is_answer(cell: &str) -> bool {
    let text = cell.trim_matches('`');
    text == "none" || text.parse::<u16>().is_ok()
}

/// Returns what stands between backquotes.
fn spans(line: &str) -> Vec<String> {
    line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns the names in a line that begin as ours do.
fn names_in(line: &str) -> impl Iterator<Item = String> {
    line.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'))
        .filter(|word| word.starts_with("frontstream_") && !word.ends_with('_'))
        .map(str::to_owned)
}
