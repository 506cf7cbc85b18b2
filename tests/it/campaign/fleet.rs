//! The product's processes: receivers and processors, each in its slot, started again when they end by themselves, as an
//! orchestrator would.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use frontstream::lifecycle::Instant;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::process::{free_address, http};

/// How long a slot stays empty after its process ended by itself: as an orchestrator's first back-off.
const RESTART_AFTER: Duration = Duration::from_millis(500);

/// Between two looks at the processes.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A process that was told to stop has this long.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// One place in the fleet: a role with its settings, and the life that fills it.
pub(crate) struct Slot {
    pub(crate) name: String,
    role: &'static str,
    binary: PathBuf,
    env: Vec<(String, String)>,
    admin: SocketAddr,
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    life: Option<Life>,
    lives: u32,
    /// Whether an empty slot is to be filled.
    wanted: bool,
    empty_since: Option<Instant>,
    exits: BTreeMap<String, u32>,
}

/// One process.
struct Life {
    child: Child,
    log: PathBuf,
}

impl Life {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn end(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours")
    }
}

impl Slot {
    /// Makes an empty slot. `env` holds the settings; the admin port is its own, the same in every life.
    pub(crate) fn new(
        name: &str,
        role: &'static str,
        binary: &Path,
        env: Vec<(String, String)>,
        dir: &Path,
    ) -> Self {
        Self {
            name: name.to_owned(),
            role,
            binary: binary.to_owned(),
            env,
            admin: free_address(),
            dir: dir.to_owned(),
            state: Mutex::default(),
        }
    }

    /// Fills the slot, if it is empty, and keeps it filled.
    pub(crate) fn start(&self) {
        let mut state = self.lock();
        state.wanted = true;
        if state.life.is_none() {
            self.fill(&mut state);
        }
    }

    fn fill(&self, state: &mut State) {
        state.lives += 1;
        let log = self.dir.join(format!("{}.{:03}.log", self.name, state.lives));
        let file = File::create(&log).expect("a log file");
        let child = Command::new(&self.binary)
            .env_clear()
            .arg(self.role)
            .stdin(Stdio::null())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("FRONTSTREAM_ADMIN_LISTEN", self.admin.to_string())
            .env("FRONTSTREAM_LOG_FORMAT", "text")
            .env("RUST_BACKTRACE", "1")
            .stdout(file.try_clone().expect("a second handle on the log"))
            .stderr(file)
            .spawn()
            .expect("the binary starts");
        state.life = Some(Life { child, log });
        state.empty_since = None;
    }

    /// Kills the process as a power cut would, and keeps the slot empty. `false`: there was none.
    pub(crate) fn kill(&self) -> bool {
        let mut state = self.lock();
        state.wanted = false;
        let Some(mut life) = state.life.take() else {
            return false;
        };
        // It may have ended by itself this very moment, which is as good.
        let _ = life.child.kill();
        life.child.wait().expect("the child is ours");
        true
    }

    /// Asks for a clean stop, keeps the slot empty, and returns how it ended; `None`: there was no process.
    pub(crate) fn stop(&self) -> Option<ExitStatus> {
        let mut life = {
            let mut state = self.lock();
            state.wanted = false;
            state.life.take()?
        };
        let _ = kill_process(life.pid(), Signal::TERM);
        let began = Instant::now();
        loop {
            if let Some(status) = life.end() {
                return Some(status);
            }
            if began.elapsed() > STOP_PATIENCE {
                let _ = life.child.kill();
                return Some(life.child.wait().expect("the child is ours"));
            }
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }

    /// Sends the process a signal; `false`: there was none.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        let state = self.lock();
        let life = state.life.as_ref();
        life.is_some_and(|life| kill_process(life.pid(), signal).is_ok())
    }

    /// Says whether the process says that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.get("/readyz")
            .is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    fn get(&self, path: &str) -> Option<String> {
        http(
            self.admin,
            &format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"),
        )
    }

    /// Returns how often the process has been started.
    pub(crate) fn lives(&self) -> u32 {
        self.lock().lives
    }

    /// Returns how processes of this slot ended by themselves, and how often.
    pub(crate) fn exits(&self) -> BTreeMap<String, u32> {
        self.lock().exits.clone()
    }

    /// Looks whether the process has ended by itself, and fills an empty slot when it is time.
    fn look(&self) {
        let mut state = self.lock();
        if let Some(life) = state.life.as_mut()
            && let Some(status) = life.end()
        {
            let said = last_words(&life.log);
            *state.exits.entry(format!("{status}: {said}")).or_default() += 1;
            state.life = None;
            state.empty_since = Some(Instant::now());
        }
        let is_due = state
            .empty_since
            .is_none_or(|since| since.elapsed() >= RESTART_AFTER);
        if state.life.is_none() && state.wanted && is_due {
            self.fill(&mut state);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics while holding a slot")
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last line in which a process says why it ended.
fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let line = text
        .lines()
        .rev()
        .find(|line| line.starts_with("frontstream: ") || line.contains("panicked"))
        .unwrap_or("nothing");
    line.trim_start_matches("frontstream: ").to_owned()
}

/// All slots, and the thread that keeps them filled.
pub(crate) struct Fleet {
    pub(crate) receivers: Vec<Arc<Slot>>,
    pub(crate) processors: Vec<Arc<Slot>>,
}

impl Fleet {
    /// Returns every slot.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.receivers.iter().chain(&self.processors)
    }

    /// Fills slots whose processes ended by themselves, until told to stop.
    pub(crate) fn keep(&self, is_over: impl Fn() -> bool) {
        while !is_over() {
            for slot in self.all() {
                slot.look();
            }
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }
}
