//! `config check` and `config show`: the settings, before anything is started.

use serde_json::json;

use super::print;
use crate::config::cli::{ConfigAction, ConfigArgs, Role};
use crate::config::{Effective, Purpose, Reading, Report, Sources, read};
use crate::lifecycle::Exit;

/// Checks or shows the settings that `sources` give.
///
/// # Errors
///
/// The settings have mistakes (all of them are in the error), or standard output is closed.
pub fn run(action: ConfigAction, sources: &Sources, json: bool) -> anyhow::Result<Exit> {
    match action {
        ConfigAction::Check(args) => check(args, sources, json),
        ConfigAction::Show(args) => show(args, sources, json),
    }
}

fn check(args: ConfigArgs, sources: &Sources, json: bool) -> anyhow::Result<Exit> {
    let reading = read(sources, args.role.map_or(Purpose::Check, Role::purpose));
    if json {
        print(&check_json(&reading))?;
    }
    if json && reading.report().is_some() {
        // The mistakes are in the output, where a script looks for them; the code says the rest.
        return Ok(Exit::Usage);
    }
    reading.into_settings()?;
    if !json {
        print("the settings are good")?;
    }
    Ok(Exit::Done)
}

fn check_json(reading: &Reading) -> String {
    let mistakes = reading.report().map_or_else(Vec::new, mistakes_json);
    json!({ "ok": mistakes.is_empty(), "mistakes": mistakes }).to_string()
}

fn mistakes_json(report: &Report) -> Vec<serde_json::Value> {
    let each = report.mistakes().iter().map(|mistake| {
        json!({
            "key": mistake.key,
            "origin": mistake.origin.to_string(),
            "what": mistake.wrong.what,
            "help": mistake.wrong.help,
        })
    });
    each.collect()
}

/// Shows what is in force; reads no secret, so that it works on any machine.
fn show(args: ConfigArgs, sources: &Sources, json: bool) -> anyhow::Result<Exit> {
    let reading = read(sources, Purpose::Tool);
    let shown: Vec<&Effective> = reading
        .effective()
        .iter()
        .filter(|setting| args.role.is_none_or(|role| role.uses(&setting.key)))
        .collect();
    if json {
        let settings: Vec<_> = shown
            .iter()
            .map(|setting| {
                json!({
                    "key": setting.key,
                    "value": setting.value,
                    "origin": setting.origin.to_string(),
                    "variable": setting.variable(),
                })
            })
            .collect();
        let mistakes = reading.report().map_or_else(Vec::new, mistakes_json);
        print(&json!({ "settings": settings, "mistakes": mistakes }).to_string())?;
    } else {
        print(&columns(&shown))?;
    }
    reading.into_settings()?;
    Ok(Exit::Done)
}

/// Writes `key = value  # origin` in columns.
fn columns(shown: &[&Effective]) -> String {
    let width = |text: fn(&Effective) -> &str, most: usize| {
        let widths = shown.iter().map(|setting| text(setting).chars().count());
        widths.filter(|width| *width <= most).max().unwrap_or(0)
    };
    // One long list of secrets must not push every origin off the screen.
    let keys = width(|setting| &setting.key, 60);
    let values = width(|setting| &setting.value, 36);
    let lines = shown.iter().map(|setting| {
        format!(
            "{:<keys$} = {:<values$}  # {}",
            setting.key, setting.value, setting.origin
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}
