//! The measured table of `docs/performance.md`, written from the figures of the last run.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::figures::{self, HEAD, Line};

const BEGIN: &str = "<!-- measured: begin; written by scripts/bench --document -->";
const END: &str = "<!-- measured: end -->";

/// Replaces what stands between the two marks; sections that the last run left out stay, with the time at which they were measured.
pub(crate) fn write() -> anyhow::Result<bool> {
    let source = figures::path();
    let lines = std::fs::read_to_string(&source)
        .with_context(|| format!("no figures at {}: run scripts/bench first", source.display()))?;
    let lines: Vec<Line> = lines
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
    let document = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let (Some((before, rest)), Some((_, after))) = (document.split_once(BEGIN), document.split_once(END))
    else {
        bail!("{} lacks the marks {BEGIN} and {END}", path.display());
    };
    let Some((earlier, _)) = rest.split_once(END) else {
        bail!("the marks of {} are the wrong way round", path.display());
    };
    let (kept, measured) = (without(earlier, &sections(&lines)), markdown(&lines)?);
    std::fs::write(
        &path,
        format!("{before}{BEGIN}\n\n{kept}{measured}\n{END}{after}"),
    )
    .with_context(|| format!("writing {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(true)
}

fn sections(lines: &[Line]) -> BTreeSet<&str> {
    let of_line = |line| match line {
        &Line::Run { .. } => None,
        Line::Failed { section, .. } => Some(section.as_str()),
        Line::Figure(figure) => Some(figure.section.as_str()),
    };
    lines.iter().filter_map(of_line).collect()
}

/// Returns what was written earlier without these sections, and without the times of which nothing is left.
fn without(earlier: &str, sections: &BTreeSet<&str>) -> String {
    let (mut kept, mut measured, mut keeps) = (String::new(), "", false);
    for line in earlier.lines() {
        if line.starts_with("Measured ") {
            (measured, keeps) = (line, false);
        } else if let Some(section) = line.strip_prefix("### ") {
            keeps = !sections.contains(section);
            if keeps && !measured.is_empty() {
                kept.push_str(&format!("{measured}\n\n"));
                measured = "";
            }
        }
        if keeps {
            kept.push_str(&format!("{line}\n"));
        }
    }
    kept
}

fn markdown(lines: &[Line]) -> anyhow::Result<String> {
    let Some(Line::Run { machine, quick, at }) = lines.first() else {
        bail!("the figures do not say where they were measured");
    };
    let mut text = format!("Measured {at} on: {machine}.\n");
    if *quick {
        text.push_str("\n**A quick run: to see that the bench works, not to be quoted.**\n");
    }
    let mut section = "";
    for line in lines {
        match line {
            Line::Run { .. } => {}
            Line::Failed { section, why } => {
                text.push_str(&format!("\n**{section} did not finish: {why}**\n"))
            }
            Line::Figure(figure) => {
                if figure.section != section {
                    section = &figure.section;
                    text.push_str(&format!(
                        "\n### {section}\n\n| {} | circumstances |\n",
                        HEAD.join(" | ")
                    ));
                    text.push_str(&"|---".repeat(HEAD.len() + 1));
                    text.push_str("|\n");
                }
                text.push_str(&format!("| {} | {} |\n", figure.cells().join(" | "), figure.note));
            }
        }
    }
    Ok(text)
}
