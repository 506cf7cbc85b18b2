//! What a process, and the machine, have used: read from `/proc`.

use std::time::Duration;

use anyhow::Context as _;
use frontstream::lifecycle::Instant;

/// `/proc` counts CPU time in these; Linux shows users 100 a second on every architecture we run on (`proc(5)`).
const TICK: Duration = Duration::from_millis(10);

/// The CPU time that a process has used so far, user and system.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    // The command's name may hold anything, so count from its closing parenthesis.
    let (_, fields) = stat.rsplit_once(')').context("a stat line has a command")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks =
        || -> anyhow::Result<u32> { Ok(fields.next().context("a stat line has CPU times")?.parse()?) };
    Ok(TICK * (ticks()? + ticks()?))
}

/// The CPU time that the thread of this process with this name has used so far.
pub(crate) fn thread_cpu(name: &str) -> anyhow::Result<Duration> {
    for thread in std::fs::read_dir("/proc/self/task").context("reading /proc/self/task")? {
        let thread = thread?.path();
        // One that has just ended is not the one that is looked for.
        let Ok(called) = std::fs::read_to_string(thread.join("comm")) else {
            continue;
        };
        if called.trim_end() == name {
            let used = std::fs::read_to_string(thread.join("schedstat")).context("reading schedstat")?;
            let nanos = used
                .split_whitespace()
                .next()
                .context("a schedstat has three numbers")?;
            return Ok(Duration::from_nanos(nanos.parse()?));
        }
    }
    anyhow::bail!("no thread is called {name}")
}

/// The memory that a process has resident now, in MiB.
pub(crate) fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    memory_mib(pid, "VmRSS:")
}

/// The most memory that a process has had resident so far, in MiB.
pub(crate) fn peak_resident_mib(pid: u32) -> anyhow::Result<f64> {
    memory_mib(pid, "VmHWM:")
}

fn memory_mib(pid: u32, what: &str) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kib: f64 = line
        .and_then(|line| line.trim().strip_suffix("kB"))
        .context("a status says what is resident")?
        .trim()
        .parse()?;
    Ok(kib / 1_024.0)
}

/// CPU time that the whole machine has been busy, all cores together, whoever's it was.
fn busy() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let line = stat.lines().next().context("a stat file has a first line")?;
    let ticks: Vec<u32> = line
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    // user, nice, system, idle, iowait, irq, softirq, steal: idle and iowait are not busy; guests are in user.
    let ticks: u32 = ticks
        .iter()
        .take(8)
        .enumerate()
        .filter(|(n, _)| *n != 3 && *n != 4)
        .map(|(_, t)| t)
        .sum();
    Ok(TICK * ticks)
}

/// What was used between two moments.
pub(crate) struct Meter {
    pids: Vec<u32>,
    cpu: Vec<Duration>,
    own: Duration,
    busy: Duration,
    began: Instant,
}

/// What a [`Meter`] says at its end.
pub(crate) struct Used {
    /// CPU time of each process, in the order given.
    pub(crate) cpu: Vec<Duration>,
    /// CPU time of the bench itself: its load, its readers.
    own: Duration,
    busy: Duration,
    pub(crate) elapsed: Duration,
}

impl Meter {
    pub(crate) fn start(pids: &[u32]) -> anyhow::Result<Self> {
        Ok(Self {
            pids: pids.to_vec(),
            cpu: pids.iter().map(|pid| cpu(*pid)).collect::<Result<_, _>>()?,
            own: cpu(std::process::id())?,
            busy: busy()?,
            began: Instant::now(),
        })
    }

    pub(crate) fn stop(self) -> anyhow::Result<Used> {
        let elapsed = self.began.elapsed();
        let mut used = Vec::new();
        for (pid, before) in self.pids.iter().zip(&self.cpu) {
            used.push(cpu(*pid)?.saturating_sub(*before));
        }
        Ok(Used {
            cpu: used,
            own: cpu(std::process::id())?.saturating_sub(self.own),
            busy: busy()?.saturating_sub(self.busy),
            elapsed,
        })
    }
}

impl Used {
    /// Share of one core that process `n` used, in percent.
    pub(crate) fn share(&self, n: usize) -> f64 {
        self.percent(self.cpu[n])
    }

    /// How much the bench itself took, and how busy the machine was: whether the figure can be trusted.
    pub(crate) fn surroundings(&self) -> String {
        format!(
            "bench itself {:.0} % of a core, machine {:.0} % (all cores)",
            self.percent(self.own),
            self.percent(self.busy)
        )
    }

    fn percent(&self, cpu: Duration) -> f64 {
        100.0 * cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }
}
