//! Posting webhooks to a receiver over HTTP, and counting its answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::task::JoinSet;

use super::latencies::Latencies;
use super::sign::Signer;
use super::traffic::{Sample, Traffic};
use crate::lifecycle::{Clock, Exit, Instant, Stop};

/// Front gives up after five seconds; a receiver that is later than this is not going to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Posts signed bodies to one address.
pub(crate) struct Poster {
    client: reqwest::Client,
    url: reqwest::Url,
    signer: Signer,
    clock: Clock,
}

/// How one webhook was answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The status, and what the body says of it (`200 accepted`); or why there was none.
    pub(crate) label: String,
    /// The status; `None` when there was no answer.
    pub(crate) status: Option<u16>,
    /// How long it took.
    pub(crate) latency: Duration,
    /// The body.
    pub(crate) body: String,
}

impl Answer {
    /// Tells whether the sender need not try again.
    pub(crate) fn is_success(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

impl Poster {
    pub(crate) fn new(url: &str, signer: Signer, clock: Clock) -> anyhow::Result<Self> {
        let url = reqwest::Url::parse(url)
            .with_context(|| format!("not a URL: {url}"))
            .context(Exit::Usage)?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER_TIMEOUT)
            .tcp_nodelay(true)
            .build()
            .context("making an HTTP client")?;
        Ok(Self {
            client,
            url,
            signer,
            clock,
        })
    }

    /// Signs and posts one body, with more headers if need be; never fails, the answer says all.
    pub(crate) async fn post(&self, body: Vec<u8>, more: &[(&'static str, String)]) -> Answer {
        let mut request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json");
        for (name, value) in self.signer.headers(&body, self.clock.now()).iter().chain(more) {
            request = request.header(*name, value);
        }
        let began = Instant::now();
        let answer = request.body(body).send().await;
        let (status, body, error) = match answer {
            Ok(response) => {
                let status = response.status().as_u16();
                match response.text().await {
                    Ok(body) => (Some(status), body, None),
                    Err(error) => (None, String::new(), Some(error)),
                }
            }
            Err(error) => (None, String::new(), Some(error)),
        };
        Answer {
            latency: began.elapsed(),
            label: match (status, error) {
                (Some(status), _) => labelled(status, &body),
                (None, Some(error)) => format!("no answer: {}", reason(&error)),
                (None, None) => "no answer".to_owned(),
            },
            status,
            body,
        }
    }
}

/// Returns the status with what the answer's body calls it, if it does.
fn labelled(status: u16, body: &str) -> String {
    let said = serde_json::from_str::<serde_json::Value>(body).ok();
    match said.as_ref().and_then(|said| said["status"].as_str()) {
        Some(said) => format!("{status} {said}"),
        None => status.to_string(),
    }
}

/// Returns the innermost cause, which says it shortest ("Connection refused") and without an address.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// When to stop posting, and how much at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Stops after this many webhooks.
    pub(crate) count: Option<u64>,
    /// Stops after this time.
    pub(crate) duration: Option<Duration>,
    /// Requests under way at once; what is due beyond it is late.
    pub(crate) concurrency: usize,
}

/// Answers, counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Webhooks posted.
    pub(crate) sent: u64,
    /// Answers by what they say.
    pub(crate) answers: BTreeMap<String, u64>,
    /// Answers of 200 to 299.
    pub(crate) succeeded: u64,
    /// No answer at all.
    pub(crate) unanswered: u64,
    /// From the post to the answer.
    pub(crate) latencies: Latencies,
    /// The longest that a webhook was posted after it was due.
    pub(crate) late: Duration,
    /// How long it all took.
    pub(crate) took: Duration,
}

impl Tally {
    pub(crate) fn add(&mut self, answer: &Answer) {
        *self.answers.entry(answer.label.clone()).or_default() += 1;
        self.latencies.add(answer.latency);
        self.succeeded += u64::from(answer.is_success());
        self.unanswered += u64::from(answer.status.is_none());
    }

    /// Returns how it went: 0 only when everything was answered with success.
    pub(crate) fn exit(&self) -> Exit {
        if self.succeeded == self.sent {
            Exit::Done
        } else if self.unanswered == self.sent {
            Exit::Outside
        } else {
            Exit::Found
        }
    }

    pub(crate) fn text(&self) -> String {
        let seconds = self.took.as_secs_f64();
        let mut line = format!("sent {} in {seconds:.1} s", self.sent);
        if seconds > 0.0 && self.sent > 1 {
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = self.sent as f64 / seconds;
            line.push_str(&format!(" ({rate:.0}/s)"));
        }
        if self.late > Duration::from_millis(100) {
            line.push_str(&format!(
                ", up to {} late: more --concurrency, or a faster receiver",
                millis(self.late)
            ));
        }
        let answers = self
            .answers
            .iter()
            .map(|(label, count)| format!("{label}: {count}"));
        let answers = answers.collect::<Vec<_>>().join(", ");
        let quantile = |per_mille| millis(self.latencies.quantile(per_mille));
        format!(
            "{line}\nanswers {answers}\nlatency p50 {}, p95 {}, p99 {}, max {}",
            quantile(500),
            quantile(950),
            quantile(990),
            millis(self.latencies.longest())
        )
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let micros = |latency: Duration| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        json!({
            "sent": self.sent,
            "seconds": self.took.as_secs_f64(),
            "answers": self.answers,
            "succeeded": self.succeeded,
            "late_max_us": micros(self.late),
            "latency_us": {
                "p50": micros(self.latencies.quantile(500)),
                "p95": micros(self.latencies.quantile(950)),
                "p99": micros(self.latencies.quantile(990)),
                "max": micros(self.latencies.longest()),
            },
        })
    }
}

/// Writes a duration as milliseconds, as precise as anyone wants to read it.
pub(crate) fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1_000.0;
    if millis < 10.0 {
        format!("{millis:.1} ms")
    } else {
        format!("{millis:.0} ms")
    }
}

/// Waits; not at all for no time, where the timer would wait for its next millisecond and so bound the rate.
async fn after(pause: Duration) {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

/// Posts sample traffic when it is due, whatever the answers, until a limit or `stop`; then waits for the answers
/// that are under way. `each` sees every answer.
pub(crate) async fn load(
    poster: Arc<Poster>,
    mut traffic: Traffic,
    limits: Limits,
    stop: &Stop,
    mut each: impl FnMut(&Sample, &Answer),
) -> Tally {
    let mut tally = Tally::default();
    let mut under_way: JoinSet<(Sample, Answer)> = JoinSet::new();
    let mut answered = |tally: &mut Tally, joined: Result<(Sample, Answer), tokio::task::JoinError>| {
        let (sample, answer) = joined.expect("posting does not panic and is not aborted");
        tally.add(&answer);
        each(&sample, &answer);
    };
    let began = Instant::now();
    let mut next = traffic.next();
    loop {
        let enough = limits.count.is_some_and(|count| tally.sent >= count)
            || limits.duration.is_some_and(|duration| next.due >= duration);
        if enough || stop.is_cancelled() {
            break;
        }
        let pause = next.due.saturating_sub(began.elapsed());
        tokio::select! {
            () = stop.cancelled() => break,
            Some(joined) = under_way.join_next() => answered(&mut tally, joined),
            () = after(pause), if under_way.len() < limits.concurrency => {
                tally.late = tally.late.max(began.elapsed().saturating_sub(next.due));
                let sample = std::mem::replace(&mut next, traffic.next());
                let body = traffic.body(&sample, poster.clock.now()).into_bytes();
                let poster = Arc::clone(&poster);
                under_way.spawn(async move {
                    let answer = poster.post(body, &[]).await;
                    (sample, answer)
                });
                tally.sent += 1;
            }
        }
    }
    while let Some(joined) = under_way.join_next().await {
        answered(&mut tally, joined);
    }
    tally.took = began.elapsed();
    tally
}
