//! A real schema registry for the tests, started through `scripts/registry`.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// A real registry, started by the script that developers use.
///
/// It must not outlive the run, whatever ends the run. So a guard, a shell in a process group of its own, waits for
/// the end of its input, which this process alone can write: when this process is gone, the guard stops the registry.
pub(crate) struct Registry {
    pub(crate) url: String,
    name: String,
    /// Removed by the guard, which may have to do it alone.
    folder: PathBuf,
    guard: Child,
}

impl Registry {
    /// Returns the one that tests share, apart by their subjects; `None` unless real parts are asked for.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Registry>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start("shared")).as_ref()
    }

    /// Starts one on a free port; `None`, with a word on the output, unless real parts are asked for.
    #[expect(
        clippy::disallowed_methods,
        clippy::print_stdout,
        reason = "the tests' own switch, and whoever runs them should see what did not run"
    )]
    pub(crate) fn start(name: &str) -> Option<Self> {
        let wanted = std::env::var("FRONTSTREAM_TEST_KAFKA").unwrap_or_default();
        if matches!(wanted.as_str(), "" | "0") {
            println!("skipped: needs a real registry, set FRONTSTREAM_TEST_KAFKA=1");
            return None;
        }
        let name = format!("it-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(format!("frontstream-registry-{name}"));
        let guard = Command::new("sh")
            .args(["-c", r#"cat >/dev/null; "$0" stop --kill --wipe "$@" >/dev/null"#])
            .arg(script())
            .args(["--name", &name, "--data"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let url = String::new();
        let mut registry = Self {
            url,
            name,
            folder,
            guard,
        };
        registry.launch("0");
        Some(registry)
    }

    fn launch(&mut self, port: &str) {
        let started = self.run("start", &["--json", "--port", port]);
        let started: Value = serde_json::from_str(&started).unwrap();
        self.url = started["url"].as_str().unwrap().to_owned();
    }

    pub(crate) fn start_again(&mut self) {
        let (_, rest) = self.url.rsplit_once("127.0.0.1:").unwrap();
        let port = rest.split('/').next().unwrap().to_owned();
        self.launch(&port);
    }

    pub(crate) fn stop(&mut self) {
        self.run("stop", &[]);
    }

    /// Copies its log and what else it wrote to `to`, for whoever looks into what went wrong.
    pub(crate) fn keep(&self, to: &Path) {
        let copied = Command::new("cp").arg("-a").arg(&self.folder).arg(to).status();
        if !copied.is_ok_and(|status| status.success()) {
            super::say("what the registry wrote could not be kept");
        }
    }

    fn run(&self, verb: &str, more: &[&str]) -> String {
        let output = Command::new(script())
            .arg(verb)
            .args(["--name", &self.name, "--data"])
            .arg(&self.folder)
            .args(more)
            .output()
            .unwrap_or_else(|err| panic!("running {}: {err}", script().display()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/registry {verb}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/registry")
}
