//! Everything that runs, from the ports to the last refresh.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::cluster::{Cluster, Ports};
use super::figures::figures;
use super::view::View;
use super::{Face, Output};
use crate::config::{Secret, Settings, cli};
use crate::lifecycle::{Clock, Gate, Instant, Readiness, Stop};
use crate::observe;
use crate::operate::picture::{Figures, Phase};
use crate::operate::post::{Limits, Poster, Tally, load};
use crate::operate::send;
use crate::operate::sign::{Scheme, Signer};
use crate::operate::traffic::{Names, Traffic};
use crate::operate::watch::{Style, Watched, watch};
use crate::roles::{Surroundings, connect, host, processor};

/// How long receiver and processor may take to be ready; the brokers have answered by then.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long accepted events may take to be visible, beyond the longest window.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at what has no event of its own.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Requests under way at once.
const CONCURRENCY: usize = 256;
/// Of a hundred webhooks, how many come twice: Front repeats what it saw no answer to.
const REPEATED_PERCENT: u32 = 1;

/// Everything that runs.
pub(super) struct Run {
    pub(super) settings: Settings,
    pub(super) face: Face,
    clock: Clock,
    metrics: prometheus::Registry,
    phase: watch::Sender<Phase>,
    watched: watch::Receiver<Watched>,
    /// The first signal: no more traffic.
    signalled: Stop,
    stop_receiver: Stop,
    stop_processor: Stop,
    stop_rest: Stop,
    /// Receiver and processor, each by itself.
    ready: [Readiness; 2],
    roles: JoinSet<(&'static str, anyhow::Result<()>)>,
    /// What shows the run: the watcher and the view.
    shows: JoinSet<anyhow::Result<()>>,
    rest: JoinSet<()>,
}

impl Run {
    /// Starts everything; nothing is ready yet.
    pub(super) fn start(settings: Settings, ports: Ports, face: Face, clock: Clock, signalled: Stop) -> Self {
        let (watching, watched) = watch::channel(Watched::default());
        let whole = Readiness::new();
        let mut run = Self {
            metrics: observe::registry(&clock),
            settings,
            face,
            clock,
            phase: watch::Sender::new(Phase::Starting),
            watched,
            signalled,
            stop_receiver: Stop::new(),
            stop_processor: Stop::new(),
            stop_rest: Stop::new(),
            ready: [Readiness::new(), Readiness::new()],
            roles: JoinSet::new(),
            shows: JoinSet::new(),
            rest: JoinSet::new(),
        };
        run.tell_when_ready(whole.gate("receiver and processor"));
        let serving = ports
            .admin
            .serve(run.metrics.clone(), whole, run.stop_rest.clone());
        run.rest.spawn(serving);
        run.start_roles(ports.receiver);
        run.start_shows(watching);
        run
    }

    fn tell_when_ready(&mut self, gate: Gate) {
        let (roles, stop) = (self.ready.clone(), self.stop_rest.clone());
        self.rest.spawn(async move {
            until_all(&roles).await;
            gate.ready();
            stop.cancelled().await;
        });
    }

    fn start_roles(&mut self, listener: TcpListener) {
        let around = |stop: &Stop, readiness: &Readiness| Surroundings {
            clock: self.clock.clone(),
            stop: stop.clone(),
            readiness: readiness.clone(),
            metrics: self.metrics.clone(),
        };
        let receiving = around(&self.stop_receiver, &self.ready[0]);
        let processing = around(&self.stop_processor, &self.ready[1]);
        let settings = self.settings.clone();
        self.roles.spawn(async move {
            let ended = host::receive(&settings, Some(listener), None, receiving).await;
            ("receiver", ended)
        });
        let settings = connect::processor(&self.settings, &host::unique());
        self.roles
            .spawn(async move { ("processor", processor::run(settings, processing).await) });
    }

    fn start_shows(&mut self, watching: watch::Sender<Watched>) {
        let style = match self.face.output {
            Output::Live => Style::Silent,
            Output::Lines => Style::Plain,
            Output::Json => Style::Json,
        };
        let (settings, stop) = (self.settings.clone(), self.stop_rest.clone());
        self.shows
            .spawn_blocking(move || watch(&settings, style, &stop, &watching));
        if self.face.output == Output::Live {
            let view = View {
                console: self.face.console.clone(),
                colours: self.face.colours,
                began: Instant::now(),
                phase: self.phase.subscribe(),
                metrics: self.metrics.clone(),
                watched: self.watched.clone(),
            };
            self.shows.spawn(view.run(self.stop_rest.clone()));
        }
    }

    /// Sends the traffic, and waits until all that was accepted is visible.
    pub(super) async fn play(
        &mut self,
        cluster: &Cluster,
        args: &cli::Dev,
        secret: Secret,
    ) -> anyhow::Result<Tally> {
        if !self.until_ready(cluster).await? {
            return Ok(Tally::default());
        }
        self.phase
            .send_replace(args.duration.map_or(Phase::UntilCtrlC, Phase::For));
        let url = format!(
            "http://{}{}",
            send::reachable(self.settings.receiver.listen),
            send::PATH
        );
        let poster = Poster::new(&url, Signer::new(Scheme::Application, secret), self.clock.clone())?;
        let traffic = (args.rate > 0.0).then(|| {
            let shape = send::shape_of(args.rate, &args.traffic, REPEATED_PERCENT);
            Traffic::new(shape, Names::Sample, Scheme::Application, self.clock.now())
        });
        let sending = send_for(poster, traffic, args.duration, &self.signalled);
        let tally = tokio::select! {
            tally = sending => tally,
            ended = self.roles.join_next() => return Err(ended_early(ended)),
            ended = self.shows.join_next() => return Err(show_ended(ended)),
        };
        self.phase.send_replace(Phase::Ending);
        self.until_visible().await?;
        Ok(tally)
    }

    /// Waits until webhooks can be stored, and on a real Kafka, where joining the group takes its time, until they are
    /// read too. Returns whether it is so; not when somebody ended it before.
    async fn until_ready(&mut self, cluster: &Cluster) -> anyhow::Result<bool> {
        let needed = if cluster.is_in_process() { 1 } else { 2 };
        let roles = self.ready[..needed].to_vec();
        let waited = tokio::select! {
            waited = tokio::time::timeout(READY_TIMEOUT, until_all(&roles)) => waited,
            ended = self.roles.join_next() => return Err(ended_early(ended)),
            ended = self.shows.join_next() => return Err(show_ended(ended)),
            () = self.signalled.cancelled() => return Ok(false),
        };
        waited.map(|()| true).map_err(|_| {
            let why = roles.iter().filter_map(|role| role.state().err()).flatten();
            let why = why.map(|gate| gate.to_string()).collect::<Vec<_>>().join("; ");
            anyhow!("not ready after {} s: {why}", READY_TIMEOUT.as_secs())
        })
    }

    /// Waits until the windows of all that was stored have closed by themselves, and their refreshes were seen.
    async fn until_visible(&mut self) -> anyhow::Result<()> {
        let allowed = self.settings.processor.lanes.longest_cap() + VISIBLE_TIMEOUT;
        let (metrics, watched) = (self.metrics.clone(), self.watched.clone());
        let visible = async {
            while !is_visible(&figures(&metrics), watched.borrow().events) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let visible = tokio::select! {
            visible = tokio::time::timeout(allowed, visible) => visible,
            ended = self.roles.join_next() => return Err(ended_early(ended)),
            ended = self.shows.join_next() => return Err(show_ended(ended)),
        };
        if visible.is_err() {
            // Not an end in itself: the audit says which events are missing.
            let (stored, visible) = (self.figures().stored, self.watched().events);
            tracing::error!(stored, visible, "not everything became visible in time");
        }
        Ok(())
    }

    /// Stops the receiver, then the processor, then the rest; each bounds its own stop.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
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
        if first_error.is_none() {
            self.until_seen().await;
        }
        self.phase.send_replace(Phase::Ended);
        self.stop_rest.cancel();
        while let Some(ended) = self.shows.join_next().await {
            if let Err(error) = ended.context("what shows the run panicked")? {
                first_error.get_or_insert(error);
            }
        }
        self.face.console.leave();
        first_error.map_or(Ok(()), Err)
    }

    /// Waits until the watcher has seen what the processor committed, to its last refresh.
    async fn until_seen(&self) {
        let committed = self.figures().committed;
        let mut watched = self.watched.clone();
        let seen = watched.wait_for(|watched| watched.refreshes >= committed);
        if tokio::time::timeout(VISIBLE_TIMEOUT, seen).await.is_err() {
            tracing::error!(
                committed,
                seen = self.watched().refreshes,
                "not every refresh became visible in time"
            );
        }
    }

    pub(super) fn figures(&self) -> Figures {
        figures(&self.metrics)
    }

    pub(super) fn watched(&self) -> Watched {
        self.watched.borrow().clone()
    }
}

async fn until_all(roles: &[Readiness]) {
    while roles.iter().any(|role| role.state().is_err()) {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Tells whether what was stored has come out again: duplicates and events without a conversation never do.
fn is_visible(figures: &Figures, visible: u64) -> bool {
    visible + figures.dropped + figures.without_conversation >= figures.stored
}

/// Sends traffic, or waits only, for so long or until `stop`.
async fn send_for(
    poster: Poster,
    traffic: Option<Traffic>,
    duration: Option<Duration>,
    stop: &Stop,
) -> Tally {
    let Some(traffic) = traffic else {
        match duration {
            // A signal ends it earlier, which is no failure.
            Some(duration) => drop(tokio::time::timeout(duration, stop.cancelled()).await),
            None => stop.cancelled().await,
        }
        return Tally::default();
    };
    let limits = Limits {
        count: None,
        duration,
        concurrency: CONCURRENCY,
    };
    load(Arc::new(poster), traffic, limits, stop, |_, _| {}).await
}

fn ended_early(ended: Option<Result<(&'static str, anyhow::Result<()>), JoinError>>) -> anyhow::Error {
    match ended {
        Some(Ok((role, Err(error)))) => error.context(format!("the {role} ended early")),
        Some(Ok((role, Ok(())))) => anyhow!("the {role} ended early"),
        Some(Err(panicked)) => anyhow!("a role panicked: {panicked}"),
        None => anyhow!("the roles ended early"),
    }
}

fn show_ended(ended: Option<Result<anyhow::Result<()>, JoinError>>) -> anyhow::Error {
    match ended {
        Some(Ok(Err(error))) => error,
        Some(Err(panicked)) => anyhow!("what shows the run panicked: {panicked}"),
        Some(Ok(Ok(()))) | None => anyhow!("what shows the run ended early"),
    }
}
