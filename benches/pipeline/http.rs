//! Clients that post webhooks: as fast as they are answered, or at a rate whatever the answers.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use frontstream::lifecycle::{Clock, Instant};
use frontstream::model::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::figures::percentile;
use crate::webhooks::{Flaw, Webhooks};

/// As Front, or a proxy before us, might hold open.
pub(crate) const CONNECTIONS: usize = 64;

/// An answer that takes longer than this ends the bench.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) by_status: BTreeMap<u16, u64>,
    /// In milliseconds.
    latencies: Vec<f64>,
    /// How late the requests of an open loop were sent, in milliseconds: what the generator adds to the latencies.
    late: Vec<f64>,
    pub(crate) elapsed: Duration,
    /// When request 0 of an open loop was due.
    pub(crate) began: Option<Timestamp>,
}

impl Answers {
    fn add(&mut self, other: Self) {
        for (status, count) in other.by_status {
            *self.by_status.entry(status).or_default() += count;
        }
        self.latencies.extend(other.latencies);
        self.late.extend(other.late);
    }

    /// How many there are of `status`.
    pub(crate) fn of(&self, status: u16) -> u64 {
        self.by_status.get(&status).copied().unwrap_or_default()
    }

    /// Fails when an answer has another status.
    pub(crate) fn expect_only(&self, status: u16) -> anyhow::Result<()> {
        if self.by_status.keys().any(|other| *other != status) {
            bail!(
                "answers by status: {:?}, only {status} was expected",
                self.by_status
            );
        }
        Ok(())
    }

    pub(crate) fn latency(&mut self, percent: f64) -> f64 {
        percentile(&mut self.latencies, percent)
    }

    pub(crate) fn lateness(&mut self, percent: f64) -> f64 {
        percentile(&mut self.late, percent)
    }

    fn answered(&mut self, status: u16) {
        *self.by_status.entry(status).or_default() += 1;
    }
}

/// Requests of one connection, made before they are sent so that making them costs the measurement nothing.
#[derive(Default)]
struct Prepared {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Prepared {
    fn request(&self, n: usize) -> &[u8] {
        let begin = if n == 0 { 0 } else { self.ends[n - 1] };
        &self.bytes[begin..self.ends[n]]
    }
}

/// Posts the requests numbered `numbers` on 64 connections, each as soon as the last one is answered.
///
/// Every request is about a conversation of its own among `conversations`.
pub(crate) fn as_fast_as_answered(
    address: SocketAddr,
    webhooks: &mut Webhooks,
    numbers: Range<u64>,
    conversations: u64,
    flaw: Flaw,
) -> anyhow::Result<Answers> {
    let mut prepared: Vec<Prepared> = Vec::new();
    prepared.resize_with(CONNECTIONS, Prepared::default);
    for number in numbers {
        let to = &mut prepared[usize::try_from(number % CONNECTIONS as u64)?];
        webhooks.write(&mut to.bytes, number, number % conversations, flaw);
        to.ends.push(to.bytes.len());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            streams.push(connect(address).await?);
        }
        let began = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for (stream, prepared) in streams.into_iter().zip(prepared) {
            tasks.spawn(one_after_another(address, stream, prepared));
        }
        let mut answers = Answers::default();
        while let Some(ended) = tasks.join_next().await {
            answers.add(ended??);
        }
        answers.elapsed = began.elapsed();
        Ok(answers)
    })
}

async fn connect(address: SocketAddr) -> anyhow::Result<tokio::net::TcpStream> {
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .context("connecting")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn one_after_another(
    address: SocketAddr,
    mut stream: tokio::net::TcpStream,
    prepared: Prepared,
) -> anyhow::Result<Answers> {
    let mut answers = Answers::default();
    let mut buffer = Vec::with_capacity(4_096);
    for n in 0..prepared.ends.len() {
        let sent = Instant::now();
        stream
            .write_all(prepared.request(n))
            .await
            .context("sending a request")?;
        buffer.clear();
        let answer = loop {
            let read = tokio::time::timeout(ANSWER_MAX, stream.read_buf(&mut buffer));
            let read = read
                .await
                .context("waiting for an answer")?
                .context("reading an answer")?;
            match answer(&buffer)? {
                Some(answer) => break answer,
                None if read == 0 => bail!("the connection was closed instead of an answer"),
                None => {}
            }
        };
        answers.answered(answer.status);
        answers.latencies.push(sent.elapsed().as_secs_f64() * 1e3);
        // Behind a body that was refused unread the connection is of no more use, whether or not the answer says so.
        if (answer.closes || answer.status == 413) && n + 1 < prepared.ends.len() {
            stream = connect(address).await?;
        }
    }
    Ok(answers)
}

/// Posts `per_second` requests a second for `lasting` on 64 connections, whether or not the last one is answered.
///
/// A latency counts from the moment at which the request was due, so that waiting behind a slow answer counts too.
pub(crate) fn at_a_rate(
    address: SocketAddr,
    name: &'static str,
    per_second: f64,
    lasting: Duration,
    conversations: u64,
) -> anyhow::Result<Answers> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of requests is small and not negative"
    )]
    let count = (per_second * lasting.as_secs_f64()) as u64;
    let barrier = Arc::new(Barrier::new(CONNECTIONS + 1));
    let mut threads = Vec::new();
    let clock = Arc::new(std::sync::OnceLock::new());
    for connection in 0..CONNECTIONS as u64 {
        let (barrier, clock) = (Arc::clone(&barrier), Arc::clone(&clock));
        threads.push(std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
            let stream = TcpStream::connect(address).context("connecting");
            barrier.wait();
            let began = *clock.wait();
            let numbers = (connection..count).step_by(CONNECTIONS);
            each_when_due(
                stream?,
                &mut Webhooks::new(name),
                numbers,
                conversations,
                began,
                per_second,
            )
        })?);
    }
    barrier.wait();
    let began = Instant::now();
    let mut answers = Answers {
        began: Some(Clock::system().now()),
        ..Answers::default()
    };
    clock
        .set(began)
        .map_err(|_| anyhow!("the clock is started once"))?;
    for thread in threads {
        answers.add(thread.join().map_err(|_| anyhow!("a connection panicked"))??);
    }
    answers.elapsed = began.elapsed();
    Ok(answers)
}

fn each_when_due(
    mut stream: TcpStream,
    webhooks: &mut Webhooks,
    numbers: impl Iterator<Item = u64>,
    conversations: u64,
    began: Instant,
    per_second: f64,
) -> anyhow::Result<Answers> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let mut answers = Answers::default();
    let (mut request, mut buffer) = (Vec::with_capacity(4_096), [0; 4_096]);
    let mut free_at = Duration::ZERO;
    for number in numbers {
        request.clear();
        // A conversation is anywhere among them, not the next one: neighbours in time are no neighbours in the log.
        let conversation = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % conversations;
        webhooks.write(&mut request, number, conversation, Flaw::None);
        let due = Duration::from_secs_f64(number as f64 / per_second);
        while let Some(left) = due.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
        // Late by itself, or because it waited for the last answer: only the former is the generator's fault.
        answers
            .late
            .push((began.elapsed() - due.max(free_at)).as_secs_f64() * 1e3);
        stream.write_all(&request).context("sending a request")?;
        let mut held = 0;
        let answer = loop {
            let read = stream.read(&mut buffer[held..]).context("reading an answer")?;
            held += read;
            match answer(&buffer[..held])? {
                Some(answer) => break answer,
                None if read == 0 => bail!("the connection was closed instead of an answer"),
                None => {}
            }
        };
        free_at = began.elapsed();
        answers.answered(answer.status);
        answers.latencies.push((free_at - due).as_secs_f64() * 1e3);
        if answer.closes {
            bail!("the connection was closed after an answer of {}", answer.status);
        }
    }
    Ok(answers)
}

struct Answer {
    status: u16,
    closes: bool,
}

/// Reads a whole answer; `None` when it is not all there yet.
fn answer(bytes: &[u8]) -> anyhow::Result<Option<Answer>> {
    let Some(head_end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..head_end])?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .context("an answer has a status")?;
    let (mut length, mut closes) = (0_usize, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        } else if name.eq_ignore_ascii_case("connection") {
            closes = value.trim().eq_ignore_ascii_case("close");
        }
    }
    Ok((bytes.len() >= head_end + 4 + length).then_some(Answer {
        status: status.parse()?,
        closes,
    }))
}
