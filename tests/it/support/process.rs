//! The product as its users run it: a process of its own, reached through its ports and its signals.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use frontstream::lifecycle::Instant;

use super::frontstream;

/// For what takes seconds at most, on a machine that is busy with everybody's tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition that cannot be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits until `condition` holds.
///
/// # Panics
///
/// It does not within [`PATIENCE`]; `what` says what was waited for.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(
            began.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain until {what}"
        );
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// Returns an address on loopback that nothing listens on now.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound listener has an address")
}

/// Environment variables: the settings of one process.
pub(crate) type Env = Vec<(&'static str, String)>;

/// A command that runs to its end, such as `audit`.
pub(crate) fn run(arguments: &[&str], env: &Env) -> Output {
    frontstream(arguments)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .output()
        .expect("the binary starts")
}

/// A role that runs until it is stopped. Dropped, it is killed.
pub(crate) struct Process {
    child: Child,
    admin: SocketAddr,
    log: PathBuf,
}

impl Process {
    /// Starts `frontstream <arguments>` with these settings and an admin port of its own.
    pub(crate) fn start(arguments: &[&str], env: &Env) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_frontstream")), arguments, env)
    }

    /// Like [`Process::start`], with at most so many files open at a time.
    pub(crate) fn start_with_files(files: u32, arguments: &[&str], env: &Env) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"ulimit -n "$0" && exec "$@""#, &files.to_string()]);
        shell.arg(env!("CARGO_BIN_EXE_frontstream"));
        Self::spawn(shell, arguments, env)
    }

    fn spawn(mut command: Command, arguments: &[&str], env: &Env) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!(
            "{}-{}-{number}.log",
            arguments[0],
            std::process::id()
        ));
        let file = File::create(&log).expect("a log file");
        let admin = free_address();
        let child = command
            .args(arguments)
            .env_remove("FRONTSTREAM_TEST_KAFKA")
            .envs(env.iter().map(|(name, value)| (name, value)))
            .env("FRONTSTREAM_ADMIN_LISTEN", admin.to_string())
            .env("FRONTSTREAM_LOG_FORMAT", "text")
            .stdout(file.try_clone().expect("a second handle on the log"))
            .stderr(file)
            .spawn()
            .expect("the binary starts");
        Self { child, admin, log }
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) fn ready(arguments: &[&str], env: &Env) -> Self {
        let mut process = Self::start(arguments, env);
        process.wait_ready();
        process
    }

    /// Waits until it says that it is ready.
    pub(crate) fn wait_ready(&mut self) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                panic!("ended with {status} instead of getting ready:\n{}", self.log());
            }
            if self
                .get("/readyz")
                .is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
            {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "not ready after {PATIENCE:?}:\n{}",
                self.log()
            );
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }

    /// Asks the admin port; `None` when nobody answers.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        http(
            self.admin,
            &format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"),
        )
    }

    /// Returns the sum of a metric's series whose line begins with `series`; zero when there is none.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let page = self.get("/metrics").unwrap_or_default();
        page.lines()
            .filter(|line| line.starts_with(series))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Sends a signal by name, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill runs").success(), "kill -{name} failed");
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the child is ours");
        self.child.wait().expect("the child is ours");
    }

    /// Asks for a clean stop and returns how it ended.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_end()
    }

    /// Waits until it has ended.
    pub(crate) fn wait_end(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "still running after {PATIENCE:?}:\n{}",
                self.log()
            );
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }

    /// Says whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child is ours").is_none()
    }

    /// Returns what it has written so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    #[expect(
        clippy::print_stdout,
        reason = "whoever reads a failed test needs the process's own words"
    )]
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// Sends one raw request and returns the whole answer; `None` when nobody answers.
pub(crate) fn http(address: SocketAddr, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}
