//! Who may use whom: reads `src/` and holds it to the table below, which is that of `style.md`, section 1.

mod paths;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use self::paths::{Found, Root, found_in};

/// What one module may use. The longest `module` that a file lies in counts; a module may always use itself and
/// what lies in it.
struct Row {
    /// `a` or `a::b`; `main` is the binary.
    module: &'static str,
    /// From this crate: `model` is all of it, `produce::Handle` that name, `produce/face` what its `mod.rs` exports.
    inside: &'static [&'static str],
    /// From other crates.
    outside: &'static [&'static str],
    /// From `std`.
    std: Std,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Std {
    All,
    /// No files: what a stage needs it gets from its settings or from the topics.
    NoFiles,
    /// No clock, no input or output, no threads, no environment.
    Pure,
}

/// What pure modules must not use of `std`: with these, the same inputs could give other outputs.
const IMPURE: &[&str] = &[
    "env",
    "fs",
    "io",
    "net",
    "os",
    "process",
    "sync::mpsc",
    "thread",
    "time::Instant",
    "time::SystemTime",
    "time::UNIX_EPOCH",
];

/// Codecs and hashes: functions of bytes to bytes.
const CODECS: &[&str] = &[
    "apache_avro",
    "base64",
    "bytes",
    "hmac",
    "serde",
    "serde_json",
    "sha1",
    "sha2",
    "siphasher",
    "thiserror",
];

/// What a stage may use of the ground and of the shared words.
const STAGE: &[&str] = &[
    "model",
    "wire",
    "validate",
    "lifecycle",
    "observe",
    "kafka",
    "registry",
];

const ROWS: &[Row] = &[
    // Shared words.
    Row {
        module: "model",
        inside: &[],
        outside: &["bytes", "thiserror"],
        std: Std::Pure,
    },
    Row {
        module: "wire",
        inside: &["model"],
        outside: CODECS,
        std: Std::NoFiles,
    },
    // The stages.
    Row {
        module: "receive",
        inside: &[
            "model",
            "wire",
            "validate",
            "lifecycle",
            "observe",
            "kafka",
            "registry",
            "produce/face",
        ],
        outside: &[
            "axum",
            "base64",
            "bytes",
            "governor",
            "hmac",
            "http_body_util",
            "hyper",
            "hyper_util",
            "ipnet",
            "prometheus",
            "serde",
            "serde_json",
            "sha1",
            "sha2",
            "siphasher",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
        ],
        std: Std::NoFiles,
    },
    Row {
        module: "receive::signature",
        inside: &["model", "wire"],
        outside: CODECS,
        std: Std::Pure,
    },
    Row {
        module: "validate",
        inside: &["model", "wire"],
        outside: CODECS,
        std: Std::Pure,
    },
    Row {
        module: "produce",
        inside: STAGE,
        outside: &[
            "bytes",
            "prometheus",
            "rdkafka",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
        ],
        std: Std::NoFiles,
    },
    Row {
        module: "consume",
        inside: STAGE,
        outside: &[
            "bytes",
            "prometheus",
            "rdkafka",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
        ],
        std: Std::NoFiles,
    },
    Row {
        module: "coalesce",
        inside: &["model"],
        // siphasher: a keyed hash of fixed result, for the set of events seen.
        outside: &["siphasher", "thiserror"],
        std: Std::Pure,
    },
    Row {
        module: "emit",
        inside: &[
            "model",
            "wire",
            "validate",
            "lifecycle",
            "observe",
            "kafka",
            "registry",
            "coalesce/face",
            "consume/face",
        ],
        outside: &[
            "bytes",
            "prometheus",
            "rdkafka",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
        ],
        std: Std::NoFiles,
    },
    Row {
        module: "emit::protocol",
        inside: &["model"],
        outside: &["thiserror"],
        std: Std::Pure,
    },
    // Putting it together.
    Row {
        module: "roles",
        inside: &[
            "admin",
            "coalesce",
            "config",
            "consume",
            "dev_broker",
            "emit",
            "kafka",
            "lifecycle",
            "model",
            "observe",
            "operate",
            "produce",
            "receive",
            "registry",
            "validate",
            "wire",
        ],
        outside: &[
            "anyhow",
            "bytes",
            "prometheus",
            "reqwest",
            "serde_json",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
        ],
        std: Std::NoFiles,
    },
    Row {
        module: "operate",
        inside: &[
            "model",
            "wire",
            "consume/face",
            "receive::signature",
            "config",
            "kafka",
            "registry",
            "lifecycle",
            "observe",
        ],
        outside: &[
            "anyhow",
            "apache_avro",
            "base64",
            "bytes",
            "clap",
            "hmac",
            "rdkafka",
            "reqwest",
            "serde",
            "serde_json",
            "sha1",
            "sha2",
            "siphasher",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
        ],
        std: Std::All,
    },
    Row {
        module: "admin",
        inside: &["model", "wire", "consume/face", "config", "lifecycle", "observe"],
        outside: &[
            "axum",
            "hyper",
            "hyper_util",
            "prometheus",
            "serde_json",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
        ],
        std: Std::NoFiles,
    },
    // It speaks the protocol and knows nothing of the product.
    Row {
        module: "dev_broker",
        inside: &["lifecycle"],
        outside: &[
            "bytes",
            "crc32c",
            "flate2",
            "kafka_protocol",
            "lz4",
            "snap",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
            "uuid",
            "zstd",
        ],
        std: Std::NoFiles,
    },
    Row {
        module: "main",
        inside: &["config", "lifecycle", "observe", "operate", "roles"],
        outside: &["anyhow", "clap", "tokio", "tracing"],
        std: Std::NoFiles,
    },
    // Ground.
    Row {
        module: "kafka",
        inside: &["model", "lifecycle", "observe"],
        outside: &[
            "bytes",
            "prometheus",
            "rdkafka",
            "serde",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
        ],
        std: Std::NoFiles,
    },
    Row {
        module: "registry",
        inside: &["model", "wire", "lifecycle", "observe"],
        outside: &[
            "apache_avro",
            "prometheus",
            "reqwest",
            "schema_registry_converter",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
        ],
        std: Std::NoFiles,
    },
    Row {
        module: "config",
        inside: &[
            "model",
            "kafka",
            "lifecycle",
            "observe",
            "admin::Settings",
            "consume::Settings",
            "emit::Settings",
            "produce::Settings",
            "receive::Settings",
            "registry::Settings",
        ],
        outside: &["clap", "ipnet", "strsim", "thiserror", "tokio", "toml", "tracing"],
        std: Std::All,
    },
    Row {
        module: "observe",
        inside: &["model", "lifecycle"],
        outside: &[
            "prometheus",
            "rustix",
            "thiserror",
            "tokio",
            "tracing",
            "tracing_subscriber",
        ],
        std: Std::All,
    },
    Row {
        module: "lifecycle",
        inside: &["model"],
        outside: &["thiserror", "tokio", "tokio_util", "tracing"],
        // The clock's step that a test asks for, in builds with debug assertions, stands in a file.
        std: Std::All,
    },
];

/// One use that the table does not allow.
struct Violation {
    file: String,
    line: usize,
    module: String,
    used: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            module,
            used,
        } = self;
        write!(f, "src/{file}:{line}: {module} must not use {used}")
    }
}

#[test]
fn src_keeps_to_the_table() {
    let files = sources();
    assert!(files.len() > 20, "src/ was not found");
    let dependencies = dependencies();
    let mut violations = Vec::new();
    for (file, text) in &files {
        violations.extend(check(file, text, &dependencies).iter().map(ToString::to_string));
    }
    assert!(
        violations.is_empty(),
        "the table in tests/it/layering.rs does not allow:\n{}",
        violations.join("\n")
    );
}

#[test]
fn every_module_has_a_row_and_every_row_a_module() {
    let lib = std::fs::read_to_string(src().join("lib.rs")).unwrap();
    let mut modules: BTreeSet<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    modules.insert("main");
    let rows: BTreeSet<&str> = ROWS
        .iter()
        .map(|row| row.module.split("::").next().unwrap())
        .collect();
    assert_eq!(rows, modules);
    let dependencies = dependencies();
    for row in ROWS {
        for name in row.outside {
            assert!(
                dependencies.contains(*name),
                "{}: {name} is no dependency",
                row.module
            );
        }
        for entry in row.inside {
            let module = entry.split(['/', ':']).next().unwrap();
            assert!(modules.contains(module), "{}: {entry} does not exist", row.module);
        }
    }
}

/// A file, its text, and what must be said of it: `line: what`, nothing when all is allowed.
const PLANTED: &[(&str, &str, &[&str])] = &[
    // Every way to name something of this crate.
    (
        "wire/x.rs",
        "use crate::kafka::Settings;",
        &["1: crate::kafka::Settings"],
    ),
    (
        "wire/x.rs",
        "use crate::{model::Event, kafka};",
        &["1: crate::kafka"],
    ),
    (
        "wire/x.rs",
        "use crate::{\n model::{Event, Kind},\n config::{Settings, cli::{Cli}},\n};",
        &["3: crate::config::Settings", "3: crate::config::cli::Cli"],
    ),
    (
        "wire/x.rs",
        "pub(crate) use crate::roles::*;",
        &["1: crate::roles"],
    ),
    ("wire/x.rs", "use crate::{self as all, model};", &["1: crate"]),
    (
        "wire/x.rs",
        "fn f() {\n    crate::kafka::connect();\n}",
        &["2: crate::kafka::connect"],
    ),
    (
        "wire/x.rs",
        "fn f(s: &crate::kafka::Settings) {}",
        &["1: crate::kafka::Settings"],
    ),
    (
        "wire/x.rs",
        "fn f() { tracing_like!(a = crate::kafka::x()); }",
        &["1: crate::kafka::x"],
    ),
    (
        "wire/x.rs",
        "type A = Vec<<crate::kafka::A as crate::model::B>::C>;",
        &["1: crate::kafka::A"],
    ),
    (
        "wire/x.rs",
        "use super::super::kafka::Settings;",
        &["1: crate::kafka::Settings"],
    ),
    (
        "wire/mod.rs",
        "use super::kafka::Settings;",
        &["1: crate::kafka::Settings"],
    ),
    (
        "wire/x.rs",
        "mod y { use super::super::super::kafka::A; }",
        &["1: crate::kafka::A"],
    ),
    (
        "wire/x.rs",
        "use self::y::Z; use super::frame::Frame; use crate::wire::frame::Frame as F;",
        &[],
    ),
    (
        "main.rs",
        "use frontstream::{config::cli::Cli, wire::Frame};",
        &["1: crate::wire::Frame"],
    ),
    // A name brought in is followed.
    (
        "receive/x.rs",
        "use crate::produce;\nfn f() { produce::client::send(); }",
        &["2: crate::produce::client::send"],
    ),
    (
        "receive/x.rs",
        "use crate::produce as p;\nfn f() { p::Error::new(); p::client::send(); }",
        &["2: crate::produce::client::send"],
    ),
    // A neighbour's face, and one name.
    ("receive/x.rs", "use crate::produce::{self, Error, Handle};", &[]),
    (
        "receive/x.rs",
        "use crate::consume::Handle;",
        &["1: crate::consume::Handle"],
    ),
    (
        "config/x.rs",
        "use crate::receive::Settings; use crate::receive::Handle;",
        &["1: crate::receive::Handle"],
    ),
    // The stricter row of a part.
    (
        "emit/protocol.rs",
        "use crate::wire::Frame; use crate::model::Offset;",
        &["1: crate::wire::Frame"],
    ),
    ("emit/protocol/step.rs", "use rdkafka::Offset;", &["1: rdkafka"]),
    (
        "emit/kafka.rs",
        "use rdkafka::Offset; use crate::wire::Frame; use super::protocol::Step;",
        &[],
    ),
    (
        "receive/signature.rs",
        "use tokio::time::sleep; use hmac::Hmac;",
        &["1: tokio"],
    ),
    // Other crates.
    ("coalesce/x.rs", "use tokio::sync::mpsc;", &["1: tokio"]),
    ("coalesce/x.rs", "use ::rdkafka::Offset;", &["1: rdkafka"]),
    ("coalesce/x.rs", "use rdkafka;", &["1: rdkafka"]),
    ("coalesce/x.rs", "use {rdkafka as r, std::fmt};", &["1: rdkafka"]),
    ("coalesce/x.rs", "extern crate rdkafka;", &["1: rdkafka"]),
    (
        "coalesce/x.rs",
        "fn f() { tracing::info!(\"x\"); }",
        &["1: tracing"],
    ),
    (
        "coalesce/x.rs",
        "#[derive(serde::Serialize)]\nstruct S;",
        &["1: serde"],
    ),
    ("coalesce/x.rs", "#[derive(thiserror::Error)]\nstruct S;", &[]),
    (
        "wire/x.rs",
        "use rdkafka::Offset; use apache_avro::Schema;",
        &["1: rdkafka"],
    ),
    (
        "wire/x.rs",
        "fn f(bytes: &[u8], x: X) { x.tokio::<u8>(); bytes.len(); let tokio = 1; tokio; }",
        &[],
    ),
    // `std` in pure parts.
    (
        "model/x.rs",
        "use std::time::Duration; use std::time::Instant;",
        &["1: std::time::Instant"],
    ),
    (
        "model/x.rs",
        "use std::time::{Duration, SystemTime};",
        &["1: std::time::SystemTime"],
    ),
    (
        "model/x.rs",
        "use std::time;\nfn f() { time::Instant::now(); }",
        &["2: std::time::Instant::now"],
    ),
    (
        "coalesce/x.rs",
        "fn f() { std::fs::read(\"x\"); std::mem::take(x); }",
        &["1: std::fs::read"],
    ),
    (
        "coalesce/x.rs",
        "use std::sync::mpsc::Sender; use std::io;",
        &["1: std::sync::mpsc::Sender", "1: std::io"],
    ),
    ("kafka/x.rs", "use std::io; use std::thread;", &[]),
    ("kafka/x.rs", "use std::fs::File;", &["1: std::fs::File"]),
    ("config/x.rs", "use std::fs::File;", &[]),
    // Not code, or not of the product.
    (
        "coalesce/x.rs",
        "// use tokio::x;\n/* crate::kafka::y */\nconst A: &str = \"crate::kafka::z tokio::a\";",
        &[],
    ),
    (
        "coalesce/x.rs",
        "/// See [`crate::kafka::Settings`].\nstruct A;\nconst B: &str = r#\"tokio::x \" \"#;",
        &[],
    ),
    (
        "coalesce/x.rs",
        "#[cfg(test)]\nmod tests { use super::*; use proptest::x; use crate::kafka::Y; }",
        &[],
    ),
    (
        "coalesce/x.rs",
        "#[cfg(test)]\n#[expect(x)]\nuse tokio::x;\nuse tokio::y;",
        &["4: tokio"],
    ),
    ("coalesce/tests.rs", "use proptest::x; use crate::wire::Y;", &[]),
    ("coalesce/mod.rs", "#[cfg(test)]\nmod tests;", &[]),
    (
        "coalesce/mod.rs",
        "mod tests;",
        &["1: a module `tests` without #[cfg(test)]"],
    ),
];

#[test]
fn the_check_finds_what_is_planted() {
    let dependencies = dependencies();
    for (file, text, expected) in PLANTED {
        let found: Vec<String> = check(file, text, &dependencies)
            .iter()
            .map(|violation| format!("{}: {}", violation.line, violation.used))
            .collect();
        assert_eq!(found, *expected, "src/{file}:\n{text}");
    }
}

/// Checks one file; `file` is its path below `src/`.
fn check(file: &str, text: &str, dependencies: &BTreeSet<String>) -> Vec<Violation> {
    let module = module_of(file);
    if module.is_empty() || module.iter().any(|part| part == "tests") {
        return Vec::new();
    }
    let row = row_of(&module);
    let bad = |found: &Found| match found.root {
        Root::Crate => !inside(row, &module, &found.path),
        Root::Std => match row.std {
            Std::All => false,
            Std::NoFiles => starts_with_any(&found.path, &["fs"]),
            Std::Pure => starts_with_any(&found.path, IMPURE),
        },
        Root::Outside => !row.outside.contains(&found.path[0].as_str()),
        Root::Tests => true,
    };
    found_in(text, &module, dependencies)
        .into_iter()
        .filter(bad)
        .map(|found| Violation {
            file: file.to_owned(),
            line: found.line,
            module: row.module.to_owned(),
            used: used(&found),
        })
        .collect()
}

fn used(found: &Found) -> String {
    let root = match found.root {
        Root::Crate => "crate",
        Root::Std => "std",
        Root::Outside => return found.path[0].clone(),
        Root::Tests => return "a module `tests` without #[cfg(test)]".to_owned(),
    };
    let parts = [root].into_iter().chain(found.path.iter().map(String::as_str));
    parts.collect::<Vec<_>>().join("::")
}

/// Returns the path of the module that a file holds; none for `lib.rs`, which only declares modules.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" {
        return Vec::new();
    }
    path.split('/').map(str::to_owned).collect()
}

fn row_of(module: &[String]) -> &'static Row {
    let lies_in = |row: &&Row| {
        let of_row: Vec<&str> = row.module.split("::").collect();
        module.len() >= of_row.len() && of_row.iter().zip(module).all(|(a, b)| a == b)
    };
    let rows = ROWS.iter().filter(lies_in);
    rows.max_by_key(|row| row.module.len())
        .unwrap_or_else(|| panic!("{} has no row in the table", module.join("::")))
}

fn inside(row: &Row, module: &[String], path: &[String]) -> bool {
    let own: Vec<&str> = row.module.split("::").collect();
    // A part with its own row does not own its parent: `emit::protocol` may not use `emit`.
    let is_own = path.len() >= own.len() && own.iter().zip(path).all(|(a, b)| a == b);
    if is_own || (path.is_empty() && module[0] == "main") {
        return true;
    }
    row.inside.iter().any(|entry| match entry.split_once('/') {
        Some((stage, _)) => {
            let [first, rest @ ..] = path else {
                return false;
            };
            let exported = match rest {
                [] | [_] => true,
                [name, ..] => name.starts_with(char::is_uppercase),
            };
            first == stage && exported
        }
        None => starts_with_any(path, &[entry]),
    })
}

fn starts_with_any(path: &[String], prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| {
        let prefix: Vec<&str> = prefix.split("::").collect();
        path.len() >= prefix.len() && prefix.iter().zip(path).all(|(a, b)| a == b)
    })
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns every file of `src/` with its text, in a fixed order.
fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&src(), &mut files);
    files.sort();
    let each = files.iter().map(|path| {
        let name = path.strip_prefix(src()).unwrap().to_str().unwrap();
        (name.to_owned(), std::fs::read_to_string(path).unwrap())
    });
    each.collect()
}

/// Returns the crates that `Cargo.toml` names, as code writes them.
fn dependencies() -> BTreeSet<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let sections = ["dependencies", "dev-dependencies"];
    let names = sections
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(toml::Table::keys);
    names.map(|name| name.replace('-', "_")).collect()
}
