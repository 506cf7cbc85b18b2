//! `dev`: receiver and processor in this process, with signed sample traffic, watched and audited; on a broker in this
//! process too, or on a real Kafka.
//!
//! On a real Kafka each run has topics and a group of its own, named after the time it began, so that what an earlier
//! run or anybody else left on the brokers is neither counted nor touched. Webhooks go over HTTP, signed with a secret
//! made for the run. Ends when everything that was accepted is visible, and says what the audit found.

mod announce;
mod cluster;
mod figures;
mod run;
mod summary;
mod view;

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;

use self::announce::Announcement;
use self::cluster::{Cluster, Ports};
use self::run::Run;
use self::summary::{Remains, Summary};
use crate::config::{NamedSecret, Origin, Reading, Secret, Settings, cli};
use crate::kafka::TopicNames;
use crate::lifecycle::{Clock, Exit, Stop, stop_on_signals_then};
use crate::model::Timestamp;
use crate::observe::{Colours, Console};
use crate::operate::audit::{self, Plan};
use crate::operate::{print, topics};

const AUDIT_TIMEOUT: Duration = Duration::from_secs(300);
/// How long the records of a run that was not exact, and is to be looked at, stay on the brokers.
const RETENTION_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Which settings somebody chose, of those that `dev` chooses itself otherwise.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Where the brokers were chosen.
    brokers: Option<Origin>,
    receiver: bool,
    admin: bool,
}

impl Chosen {
    /// Looks where the settings came from.
    pub fn of(reading: &Reading) -> Self {
        let chosen = |key| Some(reading.origin(key)).filter(|origin| *origin != Origin::Default);
        Self {
            brokers: chosen("kafka.brokers"),
            receiver: chosen("receiver.listen").is_some(),
            admin: chosen("admin.listen").is_some(),
        }
    }
}

/// How a run shows itself.
#[derive(Clone)]
pub struct Face {
    /// What is printed.
    pub output: Output,
    /// Whether people want colours.
    pub colours: Colours,
    /// Where a live view is drawn, and log lines go.
    pub console: Console,
    /// How the program was called, for lines that call it again.
    pub program: String,
}

/// What is printed of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// A live view, for people at a terminal.
    Live,
    /// A line for each refresh, for people.
    Lines,
    /// JSON lines, for scripts.
    Json,
}

/// Runs everything until the duration is over or a signal asks to stop; prints the summary.
///
/// # Errors
///
/// A port is taken, the brokers are away, a role ended early, or the topics could not be read at the end.
pub async fn run(settings: Settings, chosen: &Chosen, args: &cli::Dev, face: Face) -> anyhow::Result<Exit> {
    // However this ends, the terminal is as it was.
    let _leaving = Leaving(face.console.clone());
    let (console, signalled) = (face.console.clone(), Stop::new());
    let signals = stop_on_signals_then(signalled.clone(), move || console.leave());
    let mut beside = JoinSet::new();
    beside.spawn(signals.context("handling signals")?);
    let clock = Clock::system();
    let cluster = Cluster::open(chosen, args.open_broker)?;
    let (mut settings, secret) = settings_of_this_run(settings, &cluster, clock.now());
    let ports = Ports::bind(chosen, &mut settings).await?;
    topics::create(&settings)
        .await
        .context("creating the topics of this run")?;
    if face.output != Output::Json {
        print(&announcement(&settings, &cluster, args, &face, &secret, clock.now()).text())?;
    }
    let mut run = Run::start(settings, ports, face, clock, signalled);
    let ended = run.play(&cluster, args, secret).await;
    // What went wrong first is what is reported; stopping cleanly is worth trying all the same.
    let stopped = run.stop().await;
    let tally = ended?;
    stopped?;
    let plan = Plan::of(&run.settings, AUDIT_TIMEOUT);
    let report = tokio::task::spawn_blocking(move || audit::audit(&plan)).await??;
    let summary = Summary {
        tally,
        figures: run.figures(),
        watched: run.watched(),
        report,
        removed_events: cluster.removed_events(&run.settings),
    };
    let exit = summary.exit();
    let remains = if cluster.is_in_process() {
        Remains::Nothing
    } else {
        Remains::Topics
    };
    if exit == Exit::Done && remains == Remains::Topics {
        remove_traces(&run.settings).await;
    }
    print(&match run.face.output {
        Output::Json => summary.json(),
        Output::Live | Output::Lines => summary.text(&run.settings, remains),
    })?;
    Ok(exit)
}

fn announcement<'a>(
    settings: &'a Settings,
    cluster: &Cluster,
    args: &cli::Dev,
    face: &'a Face,
    secret: &'a Secret,
    now: Timestamp,
) -> Announcement<'a> {
    Announcement {
        cluster: cluster.announced(settings),
        program: &face.program,
        receiver: settings.receiver.listen,
        admin: settings.admin.listen,
        topics: &settings.topics.names,
        group: &settings.processor.group,
        rate: args.rate,
        duration: args.duration,
        secret,
        window: settings.receiver.application.window,
        now,
    }
}

/// Gives the terminal back when it is dropped.
struct Leaving(Console);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Returns the settings with a secret of this run's own, and, where others are, topics and a group too; and the secret.
fn settings_of_this_run(mut settings: Settings, cluster: &Cluster, now: Timestamp) -> (Settings, Secret) {
    let digits: String = now.to_string().chars().filter(char::is_ascii_digit).collect();
    let random = RandomState::new().hash_one(&digits) & 0xFFFF;
    let name = format!("dev-{digits}-{random:04x}");
    cluster.settle(&mut settings);
    if !cluster.is_in_process() {
        let prefix = format!("{}{name}.", prefix_of(&settings.topics.names));
        settings.topics.names = TopicNames::with_prefix(&prefix);
        settings.processor.group = format!("{}-{name}", settings.processor.group);
    }
    settings.processor.instance_id = None;
    for topic in [
        &mut settings.topics.events,
        &mut settings.topics.refresh,
        &mut settings.topics.dead_letters,
    ] {
        topic.retention = topic.retention.min(RETENTION_MAX);
    }
    let secret = Secret::new(random_secret().into_bytes());
    settings.receiver.application.secrets.push(NamedSecret {
        name,
        value: secret.clone(),
    });
    (settings, secret)
}

/// Looks like Front's secrets; lives as long as the run, on this machine's loopback.
fn random_secret() -> String {
    (0..2)
        .map(|half: u8| format!("{:016x}", RandomState::new().hash_one(half)))
        .collect()
}

fn prefix_of(names: &TopicNames) -> &str {
    names.events.strip_suffix("front.events").unwrap_or_default()
}

/// Removes topics and group of a run that was exact; what cannot be removed is said and left.
async fn remove_traces(settings: &Settings) {
    if let Err(error) = topics::remove(settings).await {
        tracing::warn!(%error, "the topics of this run are left on the brokers");
    }
}
