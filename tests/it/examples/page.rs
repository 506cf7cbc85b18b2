//! `docs/consumers.md`: the parts of it that stand between `<!-- shown by tests/it/examples.rs: NAME -->` and
//! `<!-- end -->` are what the tests found, to the letter.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use frontstream::model::Refresh;
use frontstream::wire::{headers, refresh_v1};
use serde_json::Value;

/// Tests that run side by side write different parts of one file.
static PAGE: Mutex<()> = Mutex::new(());

/// Checks that a part of the page is `text`, or makes it so when the environment asks for it.
///
/// # Panics
///
/// It is not, or there is no such part.
pub(super) fn shows(part: &str, text: &str) {
    let _held = PAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let page = std::fs::read_to_string(path()).unwrap();
    let begin = format!("<!-- shown by tests/it/examples.rs: {part} -->\n");
    let (before, rest) = page
        .split_once(&begin)
        .unwrap_or_else(|| panic!("docs/consumers.md has no part {part}"));
    let (shown, after) = rest.split_once("\n<!-- end -->").unwrap();
    // A table stands as it is, everything else in a fence.
    let text = if text.starts_with('|') {
        text.to_owned()
    } else {
        let language = if text.starts_with('{') { "json" } else { "" };
        format!("```{language}\n{text}\n```")
    };
    if shown == text {
        return;
    }
    assert!(
        update(),
        "docs/consumers.md, {part}; UPDATE_DOCS=1 writes it\n--- shown\n{shown}\n--- is\n{text}"
    );
    std::fs::write(path(), format!("{before}{begin}{text}\n<!-- end -->{after}")).unwrap();
}

/// The fields of a refresh, a row each, those of a record within it by their path.
pub(super) fn fields() -> String {
    let schema: Value = serde_json::from_str(refresh_v1::SCHEMA).unwrap();
    let mut rows = vec![
        "| field | type | meaning |".to_owned(),
        "|---|---|---|".to_owned(),
    ];
    add_fields(&mut rows, "", &schema);
    rows.join("\n")
}

fn add_fields(rows: &mut Vec<String>, path: &str, record: &Value) {
    for field in record["fields"].as_array().unwrap() {
        let name = format!("{path}{}", field["name"].as_str().unwrap());
        let kind = &field["type"];
        rows.push(format!(
            "| `{name}` | {} | {} |",
            type_name(kind),
            field["doc"].as_str().unwrap().replace('<', "&lt;")
        ));
        if kind["type"] == "record" {
            add_fields(rows, &format!("{name}."), kind);
        }
    }
}

fn type_name(kind: &Value) -> String {
    if let Some(name) = kind.as_str() {
        return name.to_owned();
    }
    match (kind["type"].as_str().unwrap(), kind["logicalType"].as_str()) {
        ("enum", _) => {
            let symbols = kind["symbols"].as_array().unwrap().iter();
            symbols
                .map(|symbol| format!("`{}`", symbol.as_str().unwrap()))
                .collect::<Vec<_>>()
                .join(", ")
        }
        ("array", _) => format!("array of {}", type_name(&kind["items"])),
        (name, Some(logical)) => format!("{name} ({logical})"),
        (name, None) => name.to_owned(),
    }
}

/// The headers of a refresh, with the values of one.
pub(super) fn headers(refresh: &Refresh) -> String {
    let mut rows = vec![
        "| header | for example | meaning |".to_owned(),
        "|---|---|---|".to_owned(),
    ];
    for (name, value) in headers::of_refresh(refresh) {
        rows.push(format!("| `{name}` | `{value}` | {} |", meaning_of(name)));
    }
    rows.join("\n")
}

fn meaning_of(header: &str) -> &'static str {
    match header {
        "ce_id" => {
            "The refresh id, as in the value. With `ce_source` it names the refresh, also when a replay makes it again"
        }
        "ce_type" => "Always this",
        "ce_source" => "The company, percent-encoded",
        "ce_time" => "When Front emitted the last event counted, RFC 3339, UTC",
        "ce_specversion" => "Of CloudEvents",
        "ce_subject" => "The conversation, as in the key",
        "content-type" => "Of the value, in either framing",
        "frontstream-priority" => "`high`, `medium` or `low`; take a word that you do not know for `high`",
        "frontstream-tenant" => "The company",
        _ => panic!("docs/consumers.md does not say what the header {header} means"),
    }
}

/// How a value begins, by version of the schema.
pub(super) fn fingerprints() -> String {
    let bytes: String = refresh_v1::FINGERPRINT
        .0
        .to_le_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!(
        "| schema | the value begins with |\n|---|---|\n\
         | [v1.avsc](../schemas/front.refresh/v1.avsc) | `c301{bytes}` |"
    )
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/consumers.md")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the tests' own switch, which is no setting of the product"
)]
fn update() -> bool {
    std::env::var_os("UPDATE_DOCS").is_some()
}
