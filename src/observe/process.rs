//! What every process measures of itself, under the names that Prometheus' own clients use.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, IntGauge, Opts, Registry};

use crate::lifecycle::Clock;

/// Makes the registry that all metrics of the process join, with those of the process itself.
pub fn registry(clock: &Clock) -> Registry {
    let registry = Registry::new();
    let build = IntGauge::with_opts(
        Opts::new("frontstream_build_info", "Always 1; its label tells the version.")
            .const_label("version", env!("CARGO_PKG_VERSION")),
    )
    .expect("the name and the label are good");
    build.set(1);
    let started = gauge(
        "process_start_time_seconds",
        "Start of the process, seconds since the Unix epoch.",
    );
    started.set(seconds(clock.now().as_millis()));
    let collectors: [Box<dyn Collector>; 3] = [
        Box::new(build),
        Box::new(started),
        Box::new(Process::new("/proc/self")),
    ];
    for collector in collectors {
        registry
            .register(collector)
            .expect("the registry is new, so no name is taken");
    }
    registry
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of this century fit 53 bits"
)]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1_000.0
}

fn gauge(name: &str, help: &str) -> Gauge {
    Gauge::new(name, help).expect("the name is good")
}

/// Reads `/proc/self` when asked; on a system without it, it says nothing.
///
/// Written here rather than taken from the `prometheus` crate's feature `process`, which brings a second `rustix`
/// and `procfs` for these six numbers.
struct Process {
    folder: &'static Path,
    cpu_seconds: Counter,
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
    threads: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    /// One reading at a time: the counter moves by the difference to its last value.
    reading: Mutex<()>,
}

impl Process {
    fn new(folder: &'static str) -> Self {
        let cpu = Counter::new(
            "process_cpu_seconds_total",
            "User and system time of the process, in seconds.",
        );
        Self {
            folder: Path::new(folder),
            cpu_seconds: cpu.expect("the name is good"),
            resident_bytes: gauge("process_resident_memory_bytes", "Memory resident, in bytes."),
            virtual_bytes: gauge("process_virtual_memory_bytes", "Memory mapped, in bytes."),
            threads: gauge("process_threads", "Threads of the operating system."),
            open_fds: gauge("process_open_fds", "File descriptors open."),
            max_fds: gauge("process_max_fds", "File descriptors that may be open."),
            reading: Mutex::new(()),
        }
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.join(name)).ok()
    }

    /// Reads everything; `None` when one part is not there or not as expected.
    fn update(&self) -> Option<()> {
        let cpu = cpu_seconds(&self.read("stat")?)?;
        let status = self.read("status")?;
        self.cpu_seconds.inc_by((cpu - self.cpu_seconds.get()).max(0.0));
        self.resident_bytes
            .set(status_number(&status, "VmRSS:")? * 1_024.0);
        self.virtual_bytes
            .set(status_number(&status, "VmSize:")? * 1_024.0);
        self.threads.set(status_number(&status, "Threads:")?);
        self.max_fds.set(max_fds(&self.read("limits")?)?);
        let open = std::fs::read_dir(self.folder.join("fd")).ok()?.count();
        // One of them reads the folder.
        self.open_fds
            .set(f64::from(u32::try_from(open.saturating_sub(1)).ok()?));
        Some(())
    }

    fn parts(&self) -> [&dyn Collector; 6] {
        [
            &self.cpu_seconds,
            &self.resident_bytes,
            &self.virtual_bytes,
            &self.threads,
            &self.open_fds,
            &self.max_fds,
        ]
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _one = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if self.update().is_none() {
            return Vec::new();
        }
        self.parts().into_iter().flat_map(Collector::collect).collect()
    }
}

/// Reads user and system time from `/proc/self/stat`, fields 14 and 15, in ticks of 1/100 s.
///
/// Source: proc_pid_stat(5). The tick is USER_HZ, 100 on every architecture that Rust's standard library supports.
fn cpu_seconds(stat: &str) -> Option<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    // The second field is the command in parentheses and may hold anything, spaces and parentheses included.
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn status_number(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn max_fds(limits: &str) -> Option<f64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn reads_what_the_kernel_writes() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3 0 100 1000 10";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        let status = "Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n";
        assert_eq!(status_number(status, "VmRSS:"), Some(1024.0));
        assert_eq!(status_number(status, "Threads:"), Some(3.0));
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096                 files\n";
        assert_eq!(max_fds(limits), Some(1024.0));
        assert_eq!(cpu_seconds("7 (x"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn every_process_measures_itself() {
        let clock = Clock::set_to(Timestamp::from_millis(1_795_000_000_500));
        let families = registry(&clock).gather();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name() == name).unwrap();
            let metric = &family.get_metric()[0];
            metric.get_gauge().get_value() + metric.get_counter().get_value()
        };
        assert_eq!(value("process_start_time_seconds"), 1_795_000_000.5);
        assert_eq!(value("frontstream_build_info"), 1.0);
        for name in [
            "process_resident_memory_bytes",
            "process_threads",
            "process_open_fds",
            "process_max_fds",
        ] {
            assert!(value(name) >= 1.0, "{name}");
        }
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }

    #[test]
    fn says_nothing_without_proc() {
        assert!(Process::new("/proc/self/nowhere").collect().is_empty());
    }
}
