//! `dev`: receiver and processor in this process on a real Kafka, with signed sample traffic, watched and audited.
//!
//! Each run has topics and a group of its own, named after the time it began, so that what an earlier run or anybody
//! else left on the brokers is neither counted nor touched. Webhooks go over HTTP, signed with a secret made for the
//! run. Ends when everything that was accepted is visible, and says what the audit found.

use std::hash::{BuildHasher as _, RandomState};
use std::io::IsTerminal as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Surroundings, connect, host, processor};
use crate::config::{NamedSecret, Secret, Settings, cli};
use crate::kafka::TopicNames;
use crate::lifecycle::{Clock, Exit, Readiness, Stop, stop_on_signals};
use crate::model::Timestamp;
use crate::operate::audit::{self, Plan, Report};
use crate::operate::post::{Limits, Poster, Tally, load, millis};
use crate::operate::sign::{Scheme, Signer};
use crate::operate::traffic::Traffic;
use crate::operate::watch::{Style, Watched, watch};
use crate::operate::{print, send, topics};
use crate::{admin, observe};

/// How long receiver and processor may take to be ready; the brokers have answered by then.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long accepted events may take to be visible, beyond the longest window.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(30);
const AUDIT_TIMEOUT: Duration = Duration::from_secs(300);
/// Requests under way at once.
const CONCURRENCY: usize = 256;
/// Of a hundred webhooks, how many come twice: Front repeats what it saw no answer to.
const REPEATED_PERCENT: u32 = 1;
/// How long the records of a run that was not exact, and is to be looked at, stay on the brokers.
const RETENTION_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Runs everything until the duration is over or a signal asks to stop; prints the summary.
///
/// # Errors
///
/// The brokers are away, a role ended early, or what was accepted did not become visible in time.
pub async fn run(settings: Settings, args: &cli::Dev, json: bool) -> anyhow::Result<Exit> {
    let clock = Clock::system();
    let (settings, secret) = settings_of_this_run(settings, clock.now());
    topics::create(&settings)
        .await
        .context("creating the topics of this run")?;
    let style = match (json, std::io::stdout().is_terminal()) {
        (true, _) => Style::Json,
        (false, true) => Style::Coloured,
        (false, false) => Style::Plain,
    };
    let mut run = Run::start(settings, clock, style).await?;
    let ended = run.play(args, secret).await;
    // What went wrong first is what is reported; stopping cleanly is worth trying all the same.
    let stopped = run.stop().await;
    let tally = ended?;
    let watched = stopped?;
    let plan = Plan::of(&run.settings, AUDIT_TIMEOUT);
    let report = tokio::task::spawn_blocking(move || audit::audit(&plan)).await??;
    let summary = Summary {
        tally,
        watched,
        report,
    };
    let exit = summary.exit();
    if exit == Exit::Done {
        remove_traces(&run.settings).await;
    }
    print(&if json {
        summary.json()
    } else {
        summary.text(&run.settings)
    })?;
    Ok(exit)
}

/// Everything that runs.
struct Run {
    settings: Settings,
    clock: Clock,
    style: Style,
    /// The first signal: no more traffic.
    signalled: Stop,
    stop_receiver: Stop,
    stop_processor: Stop,
    stop_rest: Stop,
    roles: JoinSet<(&'static str, anyhow::Result<()>)>,
    watcher: JoinSet<anyhow::Result<Watched>>,
    rest: JoinSet<()>,
    /// How many events the refreshes seen so far count.
    counted: watch::Receiver<u64>,
}

impl Run {
    /// Starts the roles and returns when they are ready.
    async fn start(settings: Settings, clock: Clock, style: Style) -> anyhow::Result<Self> {
        let (counting, counted) = watch::channel(0);
        let mut run = Self {
            settings,
            clock,
            style,
            signalled: Stop::new(),
            stop_receiver: Stop::new(),
            stop_processor: Stop::new(),
            stop_rest: Stop::new(),
            roles: JoinSet::new(),
            watcher: JoinSet::new(),
            rest: JoinSet::new(),
            counted,
        };
        let signals = stop_on_signals(run.signalled.clone());
        run.rest.spawn(async move {
            if let Err(error) = signals.await {
                tracing::error!(%error, "signals cannot be handled: stop this process by killing it");
            }
        });
        let metrics = observe::registry(&run.clock);
        let whole = Readiness::new();
        let gate = whole.gate("receiver and processor");
        let admin = bind_admin(&run.settings.admin).await?;
        run.settings.admin.listen = admin.address();
        let serving = admin.serve(metrics.clone(), whole.clone(), run.stop_rest.clone());
        run.rest.spawn(serving);

        let around = |stop: &Stop| Surroundings {
            clock: run.clock.clone(),
            stop: stop.clone(),
            readiness: Readiness::new(),
            metrics: metrics.clone(),
        };
        let (receiving, processing) = (around(&run.stop_receiver), around(&run.stop_processor));
        let ready = [receiving.readiness.clone(), processing.readiness.clone()];
        let of_receiver = run.settings.clone();
        run.roles
            .spawn(async move { ("receiver", host::receive(&of_receiver, receiving).await) });
        let of_processor = connect::processor(&run.settings, &host::unique());
        run.roles
            .spawn(async move { ("processor", processor::run(of_processor, processing).await) });
        let (of_watcher, stop) = (run.settings.clone(), run.stop_rest.clone());
        run.watcher
            .spawn_blocking(move || watch(&of_watcher, style, &stop, &counting));
        run.until_ready(&ready).await?;
        gate.ready();
        Ok(run)
    }

    async fn until_ready(&mut self, roles: &[Readiness]) -> anyhow::Result<()> {
        let ready = async {
            while roles.iter().any(|role| role.state().is_err()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::select! {
            waited = tokio::time::timeout(READY_TIMEOUT, ready) => waited,
            ended = self.roles.join_next() => return Err(ended_early(ended)),
            () = self.signalled.cancelled() => return Err(anyhow!("stopped before it was ready")),
        };
        waited.map_err(|_| {
            let why = roles.iter().filter_map(|role| role.state().err()).flatten();
            let why = why.map(|gate| gate.to_string()).collect::<Vec<_>>().join("; ");
            anyhow!("not ready after {} s: {why}", READY_TIMEOUT.as_secs())
        })
    }

    /// Sends the traffic, and waits until all that was accepted is visible.
    async fn play(&mut self, args: &cli::Dev, secret: Secret) -> anyhow::Result<Tally> {
        let url = format!("http://{}{}", self.settings.receiver.listen, send::PATH);
        let poster = Poster::new(&url, Signer::new(Scheme::Application, secret), self.clock.clone())?;
        let shape = send::shape_of(&args.traffic, REPEATED_PERCENT);
        let traffic = Traffic::new(shape, Scheme::Application, self.clock.now());
        let limits = Limits {
            count: None,
            duration: args.duration,
            concurrency: CONCURRENCY,
        };
        self.announce(args, &url)?;
        let tally = tokio::select! {
            tally = load(Arc::new(poster), traffic, limits, &self.signalled, |_, _| {}) => tally,
            ended = self.roles.join_next() => return Err(ended_early(ended)),
            ended = self.watcher.join_next() => return Err(watcher_ended(ended)),
        };
        let accepted = accepted(&tally);
        let allowed = self.settings.processor.lanes.longest_cap() + VISIBLE_TIMEOUT;
        let visible = self.counted.wait_for(|counted| *counted >= accepted);
        let visible = tokio::select! {
            visible = tokio::time::timeout(allowed, visible) => visible.map(|_| ()),
            ended = self.roles.join_next() => return Err(ended_early(ended)),
        };
        if visible.is_err() {
            // Not an end in itself: the audit says which events are missing.
            tracing::error!(
                accepted,
                visible = *self.counted.borrow(),
                "not everything became visible in time"
            );
        }
        Ok(tally)
    }

    fn announce(&self, args: &cli::Dev, url: &str) -> anyhow::Result<()> {
        if self.style == Style::Json {
            return Ok(());
        }
        let until = args.duration.map_or_else(
            || "until Ctrl-C".to_owned(),
            |duration| format!("for {} s", duration.as_secs_f64()),
        );
        print(&format!(
            "kafka     {}, topics {}*, made for this run\nreceiver  {url}\nadmin     http://{}/metrics\n\
             traffic   {} webhooks a second on {} conversations, {until}; each line below is a refresh\n",
            self.settings.kafka.brokers,
            prefix_of(&self.settings.topics.names),
            self.settings.admin.listen,
            args.traffic.rate,
            args.traffic.conversations,
        ))?;
        Ok(())
    }

    /// Stops the receiver, then the processor, then the rest; each bounds its own stop.
    async fn stop(&mut self) -> anyhow::Result<Watched> {
        let mut first_error = None;
        for stop in [&self.stop_receiver, &self.stop_processor] {
            stop.cancel();
            if let Some(ended) = self.roles.join_next().await {
                let (role, result) = ended.context("a role panicked")?;
                if let Err(error) = result {
                    first_error.get_or_insert(error.context(format!("stopping the {role}")));
                }
            }
        }
        self.stop_rest.cancel();
        self.rest.abort_all();
        let watched = match self.watcher.join_next().await {
            Some(watched) => watched.context("the watcher panicked")??,
            None => Watched::default(),
        };
        first_error.map_or(Ok(watched), Err)
    }
}

fn ended_early(
    ended: Option<Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>>,
) -> anyhow::Error {
    match ended {
        Some(Ok((role, Err(error)))) => error.context(format!("the {role} ended early")),
        Some(Ok((role, Ok(())))) => anyhow!("the {role} ended early"),
        Some(Err(panicked)) => anyhow!("a role panicked: {panicked}"),
        None => anyhow!("the roles ended early"),
    }
}

fn watcher_ended(ended: Option<Result<anyhow::Result<Watched>, tokio::task::JoinError>>) -> anyhow::Error {
    match ended {
        Some(Ok(Err(error))) => error,
        Some(Err(panicked)) => anyhow!("the watcher panicked: {panicked}"),
        Some(Ok(Ok(_))) | None => anyhow!("the watcher ended early"),
    }
}

/// Returns the settings with topics, group, secret and free ports of this run's own; and the secret.
fn settings_of_this_run(mut settings: Settings, now: Timestamp) -> (Settings, Secret) {
    let digits: String = now.to_string().chars().filter(char::is_ascii_digit).collect();
    let random = RandomState::new().hash_one(&digits) & 0xFFFF;
    let name = format!("dev-{digits}-{random:04x}");
    let prefix = format!("{}{name}.", prefix_of(&settings.topics.names));
    settings.topics.names = TopicNames::with_prefix(&prefix);
    settings.processor.group = format!("{}-{name}", settings.processor.group);
    settings.processor.instance_id = None;
    for topic in [
        &mut settings.topics.events,
        &mut settings.topics.refresh,
        &mut settings.topics.dead_letters,
    ] {
        topic.retention = topic.retention.min(RETENTION_MAX);
    }
    settings.receiver.listen = own_port(settings.receiver.listen);
    let secret = Secret::new(random_secret().into_bytes());
    settings.receiver.application.secrets.push(NamedSecret {
        name: name.clone(),
        value: secret.clone(),
    });
    (settings, secret)
}

/// Returns a free port instead of the default one, and what somebody chose as it is: trying the product should not
/// fail because something else listens on 8080, or another `dev` is about to.
fn own_port(chosen: SocketAddr) -> SocketAddr {
    let default = SocketAddr::from(([127, 0, 0, 1], 8080));
    let free = || TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    if chosen == default {
        free().unwrap_or(chosen)
    } else {
        chosen
    }
}

/// Takes the admin port, or any where it is taken.
async fn bind_admin(settings: &admin::Settings) -> anyhow::Result<admin::Server> {
    if let Ok(server) = admin::Server::bind(settings).await {
        return Ok(server);
    }
    let listen = SocketAddr::new(settings.listen.ip(), 0);
    Ok(admin::Server::bind(&admin::Settings { listen }).await?)
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

fn accepted(tally: &Tally) -> u64 {
    tally.answers.get("200 accepted").copied().unwrap_or(0)
}

struct Summary {
    tally: Tally,
    watched: Watched,
    report: Report,
}

impl Summary {
    /// Returns 0 only when the audit is exact and everything accepted was counted and seen.
    fn exit(&self) -> Exit {
        let accepted = accepted(&self.tally);
        let all_there = self.report.totals.counted >= accepted && self.watched.events >= accepted;
        if self.report.exact && all_there {
            Exit::Done
        } else {
            Exit::Found
        }
    }

    fn text(&self, settings: &Settings) -> String {
        let answers = self
            .tally
            .answers
            .iter()
            .map(|(label, count)| format!("{label}: {count}"));
        let answers = answers.collect::<Vec<_>>().join(", ");
        let delays = self.watched.delays().into_iter();
        let delays =
            delays.map(|(priority, p50, p99)| format!("{priority} {} / {}", millis(p50), millis(p99)));
        let delays = delays.collect::<Vec<_>>().join(", ");
        let mut text = format!(
            "\nwebhooks  {} sent, {} accepted (answers {answers})\nanswered  p50 {}, p99 {}\n\
             events    {}\nrefreshes {}, {:.2} events each\ndelay     first received to visible, p50 / p99: {delays}\n\
             audit     {}",
            self.tally.sent,
            accepted(&self.tally),
            millis(self.tally.latencies.quantile(500)),
            millis(self.tally.latencies.quantile(990)),
            self.report.totals.events,
            self.report.totals.refreshes,
            self.watched.events_per_refresh(),
            self.report.verdict,
        );
        if self.exit() != Exit::Done {
            let prefix = prefix_of(&settings.topics.names);
            let missing = accepted(&self.tally).saturating_sub(self.report.totals.counted);
            if missing > 0 {
                text.push_str(&format!(
                    "\nmissing   {missing} accepted events are in no refresh"
                ));
            }
            for finding in &self.report.findings {
                text.push_str(&format!("\n{}: {}", finding.fault.as_str(), finding.explanation));
            }
            text.push_str(&format!(
                "\nThe topics are left for you to look at: frontstream audit --brokers {} --set topics.prefix={prefix} \
                 --set processor.group={}",
                settings.kafka.brokers, settings.processor.group
            ));
        }
        text
    }

    fn json(&self) -> String {
        let delay = |(priority, p50, p99): (crate::model::Priority, Duration, Duration)| {
            let millis = |delay: Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            json!({ "priority": priority.as_str(), "p50_ms": millis(p50), "p99_ms": millis(p99) })
        };
        json!({
            "summary": {
                "send": self.tally.json(),
                "accepted": accepted(&self.tally),
                "refreshes": self.watched.refreshes,
                "events_per_refresh": self.watched.events_per_refresh(),
                "delays": self.watched.delays().into_iter().map(delay).collect::<Vec<_>>(),
                "audit": self.report,
                "ok": self.exit() == Exit::Done,
            }
        })
        .to_string()
    }
}
