//! The product's processes: receivers and processors, each in its slot, started again when they end by themselves, as an
//! orchestrator would.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use frontstream::lifecycle::Instant;
use rustix::process::{Pid, Signal, kill_process};

use super::ends::{End, Ends, Wanted};
use crate::support::process::{free_address, http};

/// How long a slot stays empty after its process ended by itself: as an orchestrator's first back-off.
const RESTART_AFTER: Duration = Duration::from_millis(500);

/// The setting that makes a processor a static member.
pub(crate) const INSTANCE_ID: &str = "FRONTSTREAM_PROCESSOR_INSTANCE_ID";

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
    ends: Arc<Ends>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    life: Option<Life>,
    lives: u32,
    /// Whether an empty slot is to be filled.
    wanted: bool,
    empty_since: Option<Instant>,
}

/// One process.
struct Life {
    child: Child,
    number: u32,
    began: Duration,
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
        ends: &Arc<Ends>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            role,
            binary: binary.to_owned(),
            env,
            admin: free_address(),
            dir: dir.to_owned(),
            ends: ends.clone(),
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
        let log = self.log(state.lives);
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
        state.life = Some(Life {
            child,
            number: state.lives,
            began: self.ends.now(),
            log,
        });
        state.empty_since = None;
    }

    /// Kills the process as a power cut would, and keeps the slot empty. `false`: there was none.
    pub(crate) fn kill(&self) -> bool {
        let mut state = self.lock();
        state.wanted = false;
        let Some(mut life) = state.life.take() else {
            return false;
        };
        // Fails on one that has ended by itself, which its status tells.
        let _ = life.child.kill();
        let status = life.child.wait().expect("the child is ours");
        if status.signal() == Some(Signal::KILL.as_raw()) {
            return true;
        }
        self.note(&life, status, Wanted::ByItself);
        false
    }

    fn note(&self, life: &Life, status: ExitStatus, wanted: Wanted) {
        self.ends.note(End {
            name: self.name.clone(),
            life: life.number,
            instance: self.instance(),
            began: life.began,
            ended: self.ends.now(),
            wanted,
            status,
            said: last_words(&life.log),
            log: life.log.clone(),
        });
    }

    fn instance(&self) -> Option<String> {
        let (_, id) = self.env.iter().find(|(name, _)| name == INSTANCE_ID)?;
        Some(id.clone())
    }

    /// Asks for a clean stop, keeps the slot empty, notes how the process ended and returns it; `None`: there was none.
    pub(crate) fn stop(&self) -> Option<ExitStatus> {
        let mut life = {
            let mut state = self.lock();
            state.wanted = false;
            self.notice(&mut state);
            state.life.take()?
        };
        // Fails on one that ends this very moment, which is a stop too.
        let _ = kill_process(life.pid(), Signal::TERM);
        let began = Instant::now();
        loop {
            if let Some(status) = life.end() {
                self.note(&life, status, Wanted::Stopped);
                return Some(status);
            }
            if began.elapsed() > STOP_PATIENCE {
                let _ = life.child.kill();
                let status = life.child.wait().expect("the child is ours");
                self.note(&life, status, Wanted::StoppedInVain);
                return Some(status);
            }
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }

    /// Sends the process a signal; `false`: there was none.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        let mut state = self.lock();
        // A child that has ended takes signals until it is waited for.
        self.notice(&mut state);
        let life = state.life.as_ref();
        life.is_some_and(|life| kill_process(life.pid(), signal).is_ok())
    }

    /// Says whether there is a process, and takes note when it has ended.
    pub(crate) fn is_running(&self) -> bool {
        let mut state = self.lock();
        self.notice(&mut state);
        state.life.is_some()
    }

    /// Returns the partitions that the present or last process has, or those that it ever had: as its log says.
    pub(crate) fn partitions(&self) -> Taken {
        let lives = self.lives();
        taken(&fs::read_to_string(self.log(lives)).unwrap_or_default())
    }

    /// Says whether the present or last process has these words in its log.
    pub(crate) fn says(&self, words: &str) -> bool {
        fs::read_to_string(self.log(self.lives())).is_ok_and(|log| log.contains(words))
    }

    fn log(&self, life: u32) -> PathBuf {
        self.dir.join(format!("{}.{life:03}.log", self.name))
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
        self.ends.by_itself(&self.name)
    }

    /// Returns how processes of this slot ended, other than by our SIGKILL.
    pub(crate) fn ends(&self) -> Vec<End> {
        self.ends.of(&self.name)
    }

    /// Takes note of a process that has ended by itself.
    fn notice(&self, state: &mut State) {
        if let Some(life) = state.life.as_mut()
            && let Some(status) = life.end()
        {
            self.note(life, status, Wanted::ByItself);
            state.life = None;
            state.empty_since = Some(Instant::now());
        }
    }

    /// Looks whether the process has ended by itself, and fills an empty slot when it is time.
    fn look(&self) {
        let mut state = self.lock();
        self.notice(&mut state);
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

/// Partitions that a processor took over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) held: BTreeSet<i32>,
    pub(crate) ever: BTreeSet<i32>,
    /// How often it heard that others had taken them over.
    pub(crate) times_lost: usize,
}

/// Reads from a processor's log which partitions it took over and gave back.
fn taken(log: &str) -> Taken {
    let mut taken = Taken::default();
    for line in log.lines() {
        let Some((_, rest)) = line.split_once(" partitions=[") else {
            continue;
        };
        let (numbers, _) = rest.split_once(']').unwrap_or_default();
        let numbers = numbers.split(", ").filter_map(|number| number.parse().ok());
        if line.contains("partitions assigned ") {
            let numbers: Vec<i32> = numbers.collect();
            taken.held.extend(&numbers);
            taken.ever.extend(&numbers);
        } else if line.contains("partitions given back ") {
            taken.times_lost += usize::from(line.contains("how=\"lost\""));
            for number in numbers {
                taken.held.remove(&number);
            }
        }
    }
    taken
}

/// The members of a group other than the three come for one fault only: they are not here.
pub(crate) struct Fleet {
    pub(crate) receivers: Vec<Arc<Slot>>,
    pub(crate) processors: Vec<Arc<Slot>>,
    /// Of all processes, those of other members included.
    pub(crate) ends: Arc<Ends>,
    /// The last to be dropped.
    pub(crate) _guard: Guard,
}

/// Kills every process of the campaign when the campaign's own is gone, whatever ended that: processes that nobody
/// started again, or stopped ones, would stay for ever.
///
/// A shell in a process group of its own waits for the end of its input, which this process alone can write; then it looks
/// for processes with the campaign's folder in their environment, until there are none.
pub(crate) struct Guard(Child);

impl Guard {
    pub(crate) fn of(dir: &Path) -> Self {
        let script = r#"trap '' HUP INT TERM
            while read -r _; do :; done
            while found=$(grep -lsz -F -- "TEST_CLOCK_STEP=$0/" /proc/[0-9]*/environ); [ -n "$found" ]; do
              for file in $found; do pid=${file#/proc/} && kill -KILL "${pid%/environ}"; done
              sleep 0.1
            done"#;
        let shell = Command::new("sh")
            .args(["-c", script])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        Self(shell.expect("sh starts"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Closing the pipe is the signal.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_tells_which_partitions_a_processor_has() {
        let log = "t INFO f: partitions assigned worker=0 partitions=[1, 2]\n\
            t INFO f: partitions assigned worker=1 partitions=[]\n\
            t INFO f: partitions given back worker=0 partitions=[1] how=\"revoked\"\n\
            t INFO f: partitions given back worker=1 partitions=[7] how=\"lost\"\n";
        let expected = Taken {
            held: [2].into(),
            ever: [1, 2].into(),
            times_lost: 1,
        };
        assert_eq!(taken(log), expected);
        assert_eq!(
            taken("t INFO f: partitions assigned worker=1 partitions=[]"),
            Taken::default()
        );
    }

    /// A slot whose process does what `script` says, whatever its role.
    fn slot(name: &str, script: &str) -> Slot {
        let dir =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("fleet-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let binary = dir.join("binary");
        fs::write(&binary, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&binary, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let clock = (
            "TEST_CLOCK_STEP".to_owned(),
            dir.join("clock").display().to_string(),
        );
        Slot::new(name, "processor", &binary, vec![clock], &dir, &Arc::default())
    }

    fn wait_until_it_says(slot: &Slot, word: &str) {
        crate::support::process::wait_until("it says so", || {
            fs::read_to_string(slot.log(1)).is_ok_and(|text| text.contains(word))
        });
    }

    #[test]
    fn how_a_process_ended_is_noted_whoever_comes_too_late_to_end_it() {
        let ended = slot("ended", "echo 'frontstream: for a reason'; exit 4");
        ended.start();
        crate::support::process::wait_until("it is over", || !ended.is_running());
        assert!(!ended.signal(Signal::STOP), "there is nobody to take it");
        assert!(!ended.kill() && ended.stop().is_none());
        let end = &ended.ends()[0];
        assert_eq!((end.status.code(), end.wanted), (Some(4), Wanted::ByItself));
        assert_eq!(end.said, "for a reason");
        assert_eq!(ended.exits().values().sum::<u32>(), 1);
        fs::remove_dir_all(&ended.dir).unwrap();
    }

    #[test]
    fn a_clean_stop_is_noted_and_our_own_kill_is_not() {
        let slot = slot(
            "stopped",
            "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done",
        );
        slot.start();
        wait_until_it_says(&slot, "up");
        assert_eq!(slot.stop().and_then(|status| status.code()), Some(3));
        slot.start();
        assert!(slot.kill());
        let ends = slot.ends();
        assert_eq!(ends.len(), 1);
        assert_eq!(ends[0].wanted, Wanted::Stopped);
        fs::remove_dir_all(&slot.dir).unwrap();
    }

    #[test]
    fn a_guard_leaves_no_process_behind_not_even_a_stopped_one() {
        let slot = slot("guarded", "echo up; exec sleep 600");
        let guard = Guard::of(&slot.dir);
        slot.start();
        wait_until_it_says(&slot, "up");
        assert!(slot.signal(Signal::STOP));
        drop(guard);
        assert!(!slot.is_running());
        assert_eq!(slot.ends()[0].status.signal(), Some(Signal::KILL.as_raw()));
        fs::remove_dir_all(&slot.dir).unwrap();
    }
}
