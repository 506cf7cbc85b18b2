//! `send`: signs and posts webhooks as Front does: files, folders, or load made from samples.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use super::post::{Answer, Limits, Poster, Tally, load, millis};
use super::sign::{Header, Scheme, Signer};
use super::traffic::{Names, Shape, Traffic};
use super::{curl, print};
use crate::config::{Environment, Place, Secret, Settings, cli};
use crate::lifecycle::{Clock, Exit, Instant, Stop, stop_on_signals};

/// Where a receiver takes webhooks.
pub const PATH: &str = "/api/webhooks/front";

/// What the handshake sends and wants back.
const CHALLENGE: &str = "frontstream-send-challenge";

/// Posts what the arguments say and prints a summary of the answers.
///
/// # Errors
///
/// No secret is configured for the scheme, a file cannot be read, or standard output is closed. Answers that are no
/// success are no error: the exit code says so.
pub fn run(settings: &Settings, args: &cli::Send, json: bool) -> anyhow::Result<Exit> {
    let signer = Signer::new(args.scheme, secret_of(settings, args)?);
    let url = url_of(settings, args)?;
    if args.show_curl {
        show_curl(&url, &signer, args, json)?;
        return Ok(Exit::Done);
    }
    let poster = Poster::new(&url, signer, Clock::system())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let stop = Stop::new();
    let entered = runtime.enter();
    runtime.spawn(stop_on_signals(stop.clone()).context("handling signals")?);
    drop(entered);
    let tally = runtime.block_on(async {
        if args.paths.is_empty() {
            anyhow::Ok(send_load(poster, args, json, &stop).await)
        } else {
            send_files(&poster, args, json, &stop).await
        }
    })?;
    runtime.shutdown_background();
    print(&if json {
        tally.json().to_string()
    } else {
        tally.text()
    })?;
    Ok(tally.exit())
}

/// Returns a seed that no other run has.
pub(crate) fn random_seed() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id())
}

async fn send_load(poster: Poster, args: &cli::Send, json: bool, stop: &Stop) -> Tally {
    let shape = shape_of(args.rate, &args.traffic, 0);
    let traffic = Traffic::new(shape, Names::Plain, args.scheme, Clock::system().now());
    let limits = Limits {
        count: args.count,
        duration: args.duration,
        concurrency: args.concurrency as usize,
    };
    load(Arc::new(poster), traffic, limits, stop, |sample, answer| {
        if args.verbose {
            tell(&format!("{} {}", sample.conversation, sample.event), answer, json);
        }
    })
    .await
}

/// Returns the shape of traffic that the arguments describe.
pub(crate) fn shape_of(rate: f64, traffic: &cli::Traffic, repeated_percent: u32) -> Shape {
    Shape {
        rate,
        conversations: traffic.conversations,
        burst: traffic.burst.max(1.0),
        repeated_percent,
        seed: traffic.seed.unwrap_or_else(random_seed),
    }
}

/// Posts the files one after the other, in the order given, those of a folder in the order of their names.
async fn send_files(poster: &Poster, args: &cli::Send, json: bool, stop: &Stop) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let began = Instant::now();
    for file in files_of(&args.paths)? {
        if stop.is_cancelled() {
            break;
        }
        let body = body_of(&file)?;
        let more = handshake_of(args.scheme, &body);
        let handshake = !more.is_empty();
        let mut answer = poster.post(body, &more).await;
        if handshake && answer.is_success() && !answer.body.contains(CHALLENGE) {
            answer.label = format!("{} without the challenge", answer.label);
            answer.status = None;
        }
        tally.sent += 1;
        tally.add(&answer);
        if args.verbose || !answer.is_success() {
            tell(&file.display().to_string(), &answer, json);
        }
    }
    tally.took = began.elapsed();
    Ok(tally)
}

/// Prints one answer; a closed standard output shows at the summary.
fn tell(what: &str, answer: &Answer, json: bool) {
    let line = if json {
        serde_json::json!({ "sent": what, "answer": answer.label, "latency_us": answer.latency.as_micros() })
            .to_string()
    } else {
        format!("{what}: {} ({})", answer.label, millis(answer.latency))
    };
    let _ = print(&line);
}

/// Prints the commands that post what the arguments say, signed now.
fn show_curl(url: &str, signer: &Signer, args: &cli::Send, json: bool) -> anyhow::Result<()> {
    let now = Clock::system().now();
    let show = |line: String| {
        print(&if json {
            serde_json::json!({ "curl": line }).to_string()
        } else {
            line
        })
    };
    if args.paths.is_empty() {
        show(curl::yours(url, args.scheme, signer, now))?;
        return Ok(());
    }
    for file in files_of(&args.paths)? {
        let body = body_of(&file)?;
        let mut headers = signer.headers(&body, now);
        headers.extend(handshake_of(args.scheme, &body));
        show(curl::line(url, &headers, curl::Body::File(&file)))?;
    }
    Ok(())
}

fn body_of(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file)
        .with_context(|| format!("reading {}", file.display()))
        .context(Exit::Usage)
}

/// Returns the header that Front sends with its handshake; none for any other body.
fn handshake_of(scheme: Scheme, body: &[u8]) -> Vec<Header> {
    let parsed = serde_json::from_slice::<serde_json::Value>(body).ok();
    let handshake = scheme == Scheme::Application && parsed.is_some_and(|body| body["type"] == "sync");
    if handshake {
        vec![("x-front-challenge", CHALLENGE.to_owned())]
    } else {
        Vec::new()
    }
}

fn files_of(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        add_files(path, &mut files)
            .with_context(|| format!("reading {}", path.display()))
            .context(Exit::Usage)?;
    }
    if files.is_empty() {
        return Err(anyhow::anyhow!("there is no file in these folders").context(Exit::Usage));
    }
    Ok(files)
}

fn add_files(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !std::fs::metadata(path)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut inside: Vec<PathBuf> = std::fs::read_dir(path)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    inside.sort();
    for path in inside {
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden {
            add_files(&path, files)?;
        }
    }
    Ok(())
}

fn secret_of(settings: &Settings, args: &cli::Send) -> anyhow::Result<Secret> {
    if let Some(place) = args.secret.as_deref().and_then(Place::from_text) {
        return place
            .read(&Environment::of_process())
            .context("--secret")
            .context(Exit::Usage);
    }
    let receiver = &settings.receiver;
    let (secrets, key) = match args.scheme {
        Scheme::Application => (&receiver.application.secrets, "receiver.application.secrets"),
        Scheme::Rule => (&receiver.rule_secrets, "receiver.rule.secrets"),
        Scheme::Relay => (&receiver.relay_secrets, "receiver.relay.secrets"),
    };
    let found = match &args.secret {
        Some(name) => secrets.iter().find(|secret| secret.name == *name),
        None => secrets.first(),
    };
    found
        .map(|secret| secret.value.clone())
        .with_context(|| match &args.secret {
            Some(name) => format!("{key} has no secret named {name}"),
            None => format!(
                "{key} is empty: send signs as Front does, and needs the receiver's secret, there or by --secret env:NAME"
            ),
        })
        .context(Exit::Usage)
}

/// Returns where a receiver that listens on `listen` is found from this machine: one that listens everywhere, here too.
pub(crate) fn reachable(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen
}

fn url_of(settings: &Settings, args: &cli::Send) -> anyhow::Result<String> {
    let mut url = match &args.url {
        Some(url) => url.clone(),
        None => format!("http://{}", reachable(settings.receiver.listen)),
    };
    let parsed = reqwest::Url::parse(&url)
        .with_context(|| format!("--url is not a URL: {url}"))
        .context(Exit::Usage)?;
    if parsed.scheme() != "http" && !cfg!(feature = "tls") {
        return Err(anyhow::anyhow!("this build has no TLS: give an http URL").context(Exit::Usage));
    }
    if parsed.path() == "/" {
        url = format!("{}{PATH}", url.trim_end_matches('/'));
    }
    if let Some(tenant) = &args.tenant {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if tenant.is_empty() || !tenant.chars().all(plain) {
            return Err(
                anyhow::anyhow!("--tenant is a path segment: letters, digits, '-', '.' and '_'")
                    .context(Exit::Usage),
            );
        }
        url = format!("{}/{tenant}", url.trim_end_matches('/'));
    }
    Ok(url)
}
