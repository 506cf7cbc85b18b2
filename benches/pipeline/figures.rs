//! Figures beside their targets: as a table on the terminal, and as JSON lines for the document.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use frontstream::lifecycle::Clock;
use serde::{Deserialize, Serialize};

use crate::options::Options;

/// What a figure is to reach.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

impl Target {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(target) => value >= target,
            Self::AtMost(target) => value <= target,
            Self::Below(target) => value < target,
        }
    }

    fn text(self, unit: &str) -> String {
        let (words, number) = match self {
            Self::AtLeast(number) => ("at least", number),
            Self::AtMost(number) => ("at most", number),
            Self::Below(number) => ("below", number),
        };
        format!("{words} {}", with_unit(number, unit))
    }
}

/// One line of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) section: String,
    pub(crate) what: String,
    pub(crate) unit: String,
    /// One per repetition; the figure is their median.
    pub(crate) samples: Vec<f64>,
    pub(crate) target: Option<Target>,
    /// Whether it is a reference beside ours, or something else that the reader needs to judge a figure.
    pub(crate) beside: bool,
    /// The circumstances.
    pub(crate) note: String,
}

impl Figure {
    pub(crate) fn new(what: impl Into<String>, unit: &str, samples: Vec<f64>) -> Self {
        Self {
            section: String::new(),
            what: what.into(),
            unit: unit.to_owned(),
            samples,
            target: None,
            beside: false,
            note: String::new(),
        }
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Marks it as something to compare with or to judge by.
    pub(crate) fn beside(mut self) -> Self {
        self.beside = true;
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    pub(crate) fn value(&self) -> f64 {
        median(&self.samples)
    }

    /// The cells of its row: what, median, range and number of repetitions, target, whether it is met.
    pub(crate) fn cells(&self) -> [String; 5] {
        let (least, most) = self
            .samples
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), sample| {
                (least.min(*sample), most.max(*sample))
            });
        let samples = match self.samples.len() {
            1 => "1".to_owned(),
            n => format!("{n} ({} to {})", number(least), number(most)),
        };
        let what = if self.beside {
            format!("beside it: {}", self.what)
        } else {
            self.what.clone()
        };
        let met = match self.target {
            Some(target) if target.is_met_by(self.value()) => "yes",
            Some(_) => "no",
            None => "",
        };
        [
            what,
            with_unit(self.value(), &self.unit),
            samples,
            self.target
                .map(|target| target.text(&self.unit))
                .unwrap_or_default(),
            met.to_owned(),
        ]
    }
}

/// The names of the cells.
pub(crate) const HEAD: [&str; 5] = ["what", "median", "repetitions", "target", "met"];

/// One line of the file.
#[derive(Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(crate) enum Line {
    Run {
        machine: String,
        quick: bool,
        at: String,
    },
    Figure(Figure),
    Failed {
        section: String,
        why: String,
    },
}

/// Where the figures of the last run are.
pub(crate) fn path() -> PathBuf {
    // Beside the folder that cargo gives benches for their files: `target/bench/`.
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .with_file_name("bench")
        .join("pipeline.jsonl")
}

/// All figures of this run.
pub(crate) struct Figures {
    file: File,
    section: String,
    figures: Vec<Figure>,
    machine: String,
}

impl Figures {
    pub(crate) fn create(options: &Options) -> anyhow::Result<Self> {
        let path = path();
        let folder = path.parent().context("the file has a folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        let mut figures = Self {
            file,
            section: String::new(),
            figures: Vec::new(),
            machine: options.machine.clone(),
        };
        figures.line(&Line::Run {
            machine: options.machine.clone(),
            quick: options.quick,
            at: Clock::system().now().to_string(),
        })?;
        Ok(figures)
    }

    pub(crate) fn begin(&mut self, section: &str) {
        section.clone_into(&mut self.section);
    }

    /// Takes a figure down and shows it.
    pub(crate) fn add(&mut self, figure: Figure) -> anyhow::Result<()> {
        let figure = Figure {
            section: self.section.clone(),
            ..figure
        };
        let [what, median, samples, target, met] = figure.cells();
        let target = if target.is_empty() {
            String::new()
        } else {
            format!("  [{target}: {met}]")
        };
        println!("   {what}: {median}{target}  n={samples}  {}", figure.note);
        self.line(&Line::Figure(figure.clone()))?;
        self.figures.push(figure);
        Ok(())
    }

    pub(crate) fn failed(&mut self, why: &str) -> anyhow::Result<()> {
        let section = self.section.clone();
        self.line(&Line::Failed {
            section,
            why: why.to_owned(),
        })
    }

    fn line(&mut self, line: &Line) -> anyhow::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .context("writing the figures")
    }

    /// Says where the JSON lines are.
    pub(crate) fn place(&self) -> String {
        format!("as JSON lines: {}", path().display())
    }

    /// All figures, for a terminal.
    pub(crate) fn table(&self) -> String {
        let rows: Vec<_> = self.figures.iter().map(Figure::cells).collect();
        let mut widths = HEAD.map(str::len);
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut table = format!("{}\n", self.machine);
        let mut line = |cells: [&str; 5]| {
            for (cell, width) in cells.iter().zip(widths) {
                table.push_str(&format!("{cell:width$}  "));
            }
            table.truncate(table.trim_end().len());
            table.push('\n');
        };
        line(HEAD);
        for row in &rows {
            line(row.each_ref().map(String::as_str));
        }
        table
    }
}

/// The middle of the samples; between two, their mean.
pub(crate) fn median(samples: &[f64]) -> f64 {
    assert!(!samples.is_empty(), "a figure has samples");
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// The smallest value that `percent` of the values do not exceed (nearest rank).
pub(crate) fn percentile(values: &mut [f64], percent: f64) -> f64 {
    assert!(!values.is_empty(), "a percentile has values");
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank within the values"
    )]
    let rank = (percent / 100.0 * values.len() as f64).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}

fn with_unit(value: f64, unit: &str) -> String {
    if unit.is_empty() {
        number(value)
    } else {
        format!("{} {unit}", number(value))
    }
}

/// Three digits that count; thousands apart from one another.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 100.0 {
        let digits = format!("{value:.0}");
        let mut text = String::new();
        for (n, digit) in digits.chars().enumerate() {
            let left = digits.len() - n;
            if n > 0 && left.is_multiple_of(3) && !text.ends_with('-') {
                text.push(',');
            }
            text.push(digit);
        }
        text
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}
