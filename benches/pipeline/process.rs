//! Processes: the product as its users run it, and the references. Dropped, they are killed.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use frontstream::lifecycle::Instant;
use rustix::process::{Pid, Signal, kill_process};

/// The longest that anything here is waited for: beyond it the bench fails, and ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Settings of one process, as environment variables. It gets no others.
pub(crate) type Env = Vec<(&'static str, String)>;

/// Waits until `condition` holds.
pub(crate) fn wait_until(
    what: &str,
    mut condition: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let began = Instant::now();
    while !condition()? {
        ensure!(
            began.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain until {what}"
        );
        std::thread::park_timeout(LOOK_AGAIN);
    }
    Ok(())
}

/// Returns an address on loopback that nothing listens on now.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Runs a command of the product to its end.
pub(crate) fn run(arguments: &[&str], env: &Env) -> anyhow::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_frontstream"))
        .args(arguments)
        .env_clear()
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running frontstream {}", arguments.join(" ")))
}

/// A process that runs until it is stopped.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    admin: SocketAddr,
    log: PathBuf,
}

impl Process {
    /// Starts a role of the product.
    pub(crate) fn role(role: &'static str, env: &Env) -> anyhow::Result<Self> {
        Self::with(&[role], env)
    }

    /// Starts the product; the first of the arguments is its name in messages.
    pub(crate) fn with(arguments: &[&'static str], env: &Env) -> anyhow::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_frontstream"));
        command.args(arguments);
        Self::start(arguments.first().context("an argument")?, command, env)
    }

    /// Starts a role and waits until it says that it is ready.
    pub(crate) fn ready(role: &'static str, env: &Env) -> anyhow::Result<Self> {
        let mut process = Self::role(role, env)?;
        process.wait_until_ready()?;
        Ok(process)
    }

    /// Waits until it says that it is ready.
    pub(crate) fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        wait_until(&format!("the {} is ready", self.name), || {
            self.check_running()?;
            Ok(self.is_ready())
        })
    }

    /// Asks it whether it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.get("/readyz")
            .is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// Starts a reference, which is this binary with another argument.
    pub(crate) fn reference(argument: &'static str, env: &Env) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(argument);
        Self::start(argument.trim_start_matches('-'), command, env)
    }

    fn start(name: &'static str, mut command: Command, env: &Env) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = crate::figures::path().with_file_name(format!("{name}-{number}.log"));
        let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let admin = free_address()?;
        let child = command
            .env_clear()
            .envs(env.iter().map(|(name, value)| (name, value)))
            .env("FRONTSTREAM_ADMIN_LISTEN", admin.to_string())
            .env("FRONTSTREAM_LOG_FORMAT", "text")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting the {name}"))?;
        Ok(Self {
            name,
            child,
            admin,
            log,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails when it has ended, with the end of what it said.
    pub(crate) fn check_running(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let said = std::fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<_> = said.lines().rev().take(5).collect();
            bail!(
                "the {} ended with {status}; it said last, newest first: {}",
                self.name,
                last.join(" / ")
            );
        }
        Ok(())
    }

    /// Returns the sum of the series of a metric that begin with `series`.
    pub(crate) fn metric(&self, series: &str) -> anyhow::Result<f64> {
        let page = self
            .get("/metrics")
            .with_context(|| format!("the {} does not show its metrics", self.name))?;
        let lines = page.lines().filter(|line| line.starts_with(series));
        Ok(lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&self.admin, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Tells it to stop, as an orchestrator does.
    pub(crate) fn terminate(&self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .with_context(|| format!("telling the {} to stop", self.name))
    }

    /// Says whether it has ended; fails when it ended in another way than it was told to.
    pub(crate) fn has_ended(&mut self) -> anyhow::Result<bool> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(false);
        };
        ensure!(
            status.success(),
            "told to stop, the {} ended with {status}",
            self.name
        );
        Ok(true)
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
