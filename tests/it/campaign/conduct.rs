//! One campaign from beginning to end.

use std::any::Any;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use frontstream::lifecycle::{Clock, Instant};
use frontstream::model::Timestamp;

use super::faults::{Struck, strike};
use super::findings;
use super::load::{self, Ledger};
use super::options::Options;
use super::plan::{Claim, Kind, Planned, plan};
use super::report;
use super::stage::{CLOCK_HOOK, Stage, holds_within, last};
use super::verdict::{Evidence, Verdict, judge, open};
use crate::support::process::run as run_tool;
use crate::support::say;

/// How many faults go on at once, at most.
const OVERLAPPING: usize = 4;

/// After how many faults everything is left in peace for a while.
const CALM_EVERY: usize = 25;

/// How long a calm goes on after that. A window that opens and is due in it, [`LATE_AFTER`] before its end, must keep its cap.
const CALM: Duration = Duration::from_secs(10);

/// How much longer than its cap a window may live undisturbed: the commit interval, a transaction, the way to the reader, all
/// on a machine that three brokers, five processes and the load share.
const LATE_AFTER: Duration = Duration::from_millis(2_500);

/// After the last fault everything must be counted within this time.
const CATCH_UP: Duration = Duration::from_secs(120);

/// A fault that was struck.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) planned: Planned,
    pub(crate) struck: Struck,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

/// Everything that a campaign came to.
pub(crate) struct Outcome {
    pub(crate) options: Options,
    pub(crate) stories: Vec<Story>,
    pub(crate) ledger: Ledger,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
    /// Everything that is wrong, in words; empty: nothing is.
    pub(crate) findings: Vec<String>,
}

/// Runs a campaign.
///
/// # Panics
///
/// It found something, or could not be conducted to its end: the message has the command that repeats it, and the folder
/// with logs and data.
pub(crate) fn run(options: &Options) {
    let command = options.command();
    say(&format!("campaign: {command}"));
    if let Some(why) = without_clock_hook(options) {
        panic!("{why}");
    }
    // Better no campaign than one whose result has no place.
    if let Some(path) = &options.report {
        let opened = fs::OpenOptions::new().create(true).append(true).open(path);
        opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "campaign-{}-{}",
        options.seed,
        std::process::id()
    ));
    fs::create_dir_all(&dir).expect("the target folder takes a folder");
    let kept = Kept {
        command: &command,
        dir: &dir,
    };
    let stage = Stage::set(options.clone(), &dir);
    let findings = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let outcome = conduct(&stage);
        report::tell(&stage, &outcome);
        outcome.findings
    }));
    if !findings.as_ref().is_ok_and(Vec::is_empty) {
        keep(&stage);
    }
    let findings = findings.unwrap_or_else(|cause| std::panic::resume_unwind(cause));
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    drop(stage);
    std::mem::forget(kept);
    fs::remove_dir_all(&dir).expect("our own folder can be removed");
}

/// Says why a campaign on this build of the product could not step its clock, if it is to.
fn without_clock_hook(options: &Options) -> Option<String> {
    let own = Path::new(env!("CARGO_BIN_EXE_frontstream"));
    let binary = options.binary.as_deref().unwrap_or(own);
    let steps = |planned: &Planned| planned.kind == Kind::ClockStepped;
    if !plan(options).iter().any(steps) {
        return None;
    }
    let bytes = fs::read(binary).unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
    let hook = CLOCK_HOOK.as_bytes();
    let has_hook = bytes.windows(hook.len()).any(|window| window == hook);
    (!has_hook).then(|| {
        format!(
            "{} is built without debug assertions and its clock cannot be stepped: choose kinds without {} (--only)",
            binary.display(),
            Kind::ClockStepped.name()
        )
    })
}

/// Keeps everything of a campaign that failed in whatever way, a reader or the keeper that panicked included.
fn keep(stage: &Stage) {
    let registry = stage.registry.lock().unwrap_or_else(PoisonError::into_inner);
    registry.keep(&stage.dir.join("registry"));
    drop(registry);
    if std::panic::catch_unwind(AssertUnwindSafe(|| report::keep(stage))).is_err() {
        // The record is lost with the reader that held it; the data is not.
        stage.cluster.keep(&stage.dir.join("kafka"));
    }
}

/// Says, when a campaign fails in whatever way, how to repeat it and where everything is.
struct Kept<'k> {
    command: &'k str,
    dir: &'k Path,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        say(&format!(
            "the campaign failed; to repeat it: {}\nlogs and data: {}",
            self.command,
            self.dir.display()
        ));
    }
}

/// What the threads of a campaign tell each other.
#[derive(Default)]
struct Signals {
    load_is_over: AtomicBool,
    all_is_over: AtomicBool,
    claimed: Mutex<Claimed>,
    freed: Condvar,
}

#[derive(Default)]
struct Claimed {
    claims: Vec<Claim>,
    under_way: usize,
    stories: Vec<Story>,
}

impl Signals {
    fn lock(&self) -> MutexGuard<'_, Claimed> {
        self.claimed
            .lock()
            .expect("a fault that panics ends the campaign")
    }
}

/// Ends the campaign's threads also when the thread that conducts it panics.
struct Ends<'s>(&'s Signals);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.load_is_over.store(true, Ordering::Relaxed);
        self.0.all_is_over.store(true, Ordering::Relaxed);
    }
}

/// Ends the campaign when one of its threads panics: nobody would write down what goes on.
struct EndsOnPanic<'s>(&'s Signals);

impl Drop for EndsOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(Ends(self.0));
        }
    }
}

fn conduct(stage: &Stage) -> Outcome {
    let began = Instant::now();
    let signals = Signals::default();
    std::thread::scope(|scope| {
        let ends = Ends(&signals);
        let signals = &signals;
        let is_over = move || signals.all_is_over.load(Ordering::Relaxed);
        let events = scope.spawn(move || {
            let _ends = EndsOnPanic(signals);
            stage
                .record
                .read_events(&stage.cluster, &stage.names.events, is_over)
        });
        let refreshes = scope.spawn(move || {
            let _ends = EndsOnPanic(signals);
            stage
                .record
                .read_refreshes(&stage.cluster, &stage.names.refresh, is_over)
        });
        for slot in stage.fleet.all() {
            slot.start();
        }
        let keeper = scope.spawn(move || {
            let _ends = EndsOnPanic(signals);
            stage.fleet.keep(is_over)
        });
        assert!(
            holds_within(CATCH_UP, || stage.fleet.all().all(|slot| slot.is_ready())),
            "the fleet does not get ready"
        );
        let load = scope.spawn(|| {
            let is_over = || signals.load_is_over.load(Ordering::Relaxed);
            load::run(stage.options.seed, stage.options.rate, &stage.receivers, is_over)
        });
        inject(stage, signals, scope);
        signals.load_is_over.store(true, Ordering::Relaxed);
        let ledger = load.join().expect("the load ran");
        let stories = std::mem::take(&mut signals.lock().stories);
        let mut findings = findings::broken(&stories);
        if !holds_within(CATCH_UP, || evidence(stage, &ledger, &stories, open) == 0) {
            findings.push(format!(
                "not everything is counted {CATCH_UP:?} after the last fault"
            ));
        }
        findings.extend(findings::not_ready(stage));
        finish(stage, &mut findings);
        drop(ends);
        keeper.join().expect("the keeper ran");
        events.join().expect("everything on front.events was read");
        refreshes.join().expect("everything on front.refresh was read");
        let verdict = evidence(stage, &ledger, &stories, judge);
        findings.splice(0..0, verdict.findings());
        findings.extend(findings::afterwards(
            stage,
            &ledger,
            &stories,
            verdict.undisturbed,
        ));
        Outcome {
            options: stage.options.clone(),
            stories,
            ledger,
            verdict,
            took: began.elapsed(),
            findings,
        }
    })
}

/// Lets the faults happen as planned, several at once where they do not get in each other's way.
fn inject<'scope>(
    stage: &'scope Stage,
    signals: &'scope Signals,
    scope: &'scope std::thread::Scope<'scope, '_>,
) {
    let began = Instant::now();
    let planned = plan(&stage.options);
    let overlapping = if stage.options.alone { 1 } else { OVERLAPPING };
    for planned in planned {
        let is_broken = |story: &Story| matches!(story.struck, Struck::Broken(_));
        if stage
            .options
            .lasting
            .is_some_and(|lasting| began.elapsed() >= lasting)
            || signals.all_is_over.load(Ordering::Relaxed)
            || signals.lock().stories.iter().any(is_broken)
        {
            break;
        }
        last(planned.pause);
        if planned.number > 1 && (stage.options.alone || (planned.number - 1) % CALM_EVERY == 0) {
            calm(stage, signals);
        }
        let mut claimed = signals.lock();
        let must_wait = |claimed: &mut Claimed| {
            claimed.under_way >= overlapping
                || planned.claims.iter().any(|claim| claimed.claims.contains(claim))
        };
        claimed = signals
            .freed
            .wait_while(claimed, must_wait)
            .expect("a fault that panics ends the campaign");
        claimed.claims.extend(&planned.claims);
        claimed.under_way += 1;
        drop(claimed);
        scope.spawn(move || strike_one(stage, signals, planned));
    }
    calm(stage, signals);
}

/// Waits until no fault is under way and its consequences are over, and then for a while more.
fn calm(stage: &Stage, signals: &Signals) {
    let claimed = signals.lock();
    let claimed = signals.freed.wait_while(claimed, |claimed| claimed.under_way > 0);
    let claimed = claimed.expect("a fault that panics ends the campaign");
    let times = times_of(stage, &claimed.stories, |_| true);
    drop(claimed);
    let over = times.into_iter().map(|(_, until)| until).max();
    let left = over.map_or(Duration::ZERO, |over| {
        over.saturating_since(Clock::system().now())
    });
    last(left + CALM);
}

/// When the faults of these kinds, and what follows from them, were at work; what was not done at all left nothing behind.
pub(crate) fn times_of(
    stage: &Stage,
    stories: &[Story],
    counts: impl Fn(Kind) -> bool,
) -> Vec<(Timestamp, Timestamp)> {
    let at_work = |story: &&Story| counts(story.planned.kind) && !matches!(story.struck, Struck::Missed(_));
    let until = |story: &Story| story.until.plus(stage.recovery_of(story.planned.kind));
    let stories = stories.iter().filter(at_work);
    stories.map(|story| (story.from, until(story))).collect()
}

fn strike_one(stage: &Stage, signals: &Signals, planned: Planned) {
    let from = Clock::system().now();
    let struck = std::panic::catch_unwind(AssertUnwindSafe(|| strike(stage, &planned)));
    let struck = struck.unwrap_or_else(|cause| Struck::Broken(words_of(cause.as_ref())));
    let until = Clock::system().now();
    say(&format!(
        "  {:4} {:<30} {:6.1} s  {}",
        planned.number,
        planned.kind.name(),
        until.saturating_since(from).as_secs_f64(),
        match &struck {
            Struck::Hit(what) => what.clone(),
            Struck::Missed(why) => format!("missed: {why}"),
            Struck::InVain(why) => format!("in vain: {why}"),
            Struck::Broken(why) => format!("broken: {why}"),
        }
    ));
    let mut claimed = signals.lock();
    for claim in &planned.claims {
        let at = claimed
            .claims
            .iter()
            .position(|other| other == claim)
            .expect("it was claimed");
        claimed.claims.swap_remove(at);
    }
    claimed.under_way -= 1;
    claimed.stories.push(Story {
        planned,
        struck,
        from,
        until,
    });
    drop(claimed);
    signals.freed.notify_all();
}

/// What a panic said.
fn words_of(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("no words")
        .to_owned()
}

/// Stops the fleet cleanly and lets the product audit itself.
fn finish(stage: &Stage, findings: &mut Vec<String>) {
    for slot in stage.fleet.all() {
        match slot.stop() {
            Some(status) if status.success() => {}
            Some(status) => findings.push(format!("{} did not stop cleanly: {status}", slot.name)),
            None => findings.push(format!("{} was not running at the end", slot.name)),
        }
    }
    let audit = run_tool(&["audit", "--timeout", "120s"], &stage.tool_env);
    let said = String::from_utf8_lossy(&audit.stdout).into_owned() + &String::from_utf8_lossy(&audit.stderr);
    fs::write(stage.dir.join("audit.txt"), &said).expect("the campaign's folder takes a file");
    if audit.status.code() != Some(0) {
        findings.push(format!("the audit is not exact:\n{said}"));
    }
}

/// Asks the judge something about what is known so far.
fn evidence<T>(stage: &Stage, ledger: &Ledger, stories: &[Story], ask: impl Fn(&Evidence<'_>) -> T) -> T {
    let disturbed = times_of(stage, stories, Kind::delays_refreshes);
    let events = stage
        .record
        .events
        .lock()
        .expect("no one panics while holding the record");
    let refreshes = stage
        .record
        .refreshes
        .lock()
        .expect("no one panics while holding the record");
    let begun = stage.begun.lock().expect("no one panics while holding it");
    ask(&Evidence {
        ledger,
        events: &events,
        refreshes: &refreshes,
        begun: &begun,
        disturbed: &disturbed,
        late_after: LATE_AFTER,
    })
}
