//! Connections: accepted within a bound, watched while they send a head, drained at the end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::answer::{Answer, Part};
use super::handler::{self, Edge, Peer};
use crate::lifecycle::{Instant, Stop};
use crate::observe::Outage;

/// How long a connection may be idle between requests: longer than the minute that load balancers keep theirs,
/// so that it is they who close one and never send into a closed one.
const IDLE_MAX: Duration = Duration::from_secs(75);

/// From here on a head is read no further: one of twice this is refused for certain. Also the largest piece of a body
/// that is read at once.
const READ_BUFFER_BYTES_MAX: usize = 64 * 1_024;

/// How long accepting pauses when the process is out of file descriptors: no event tells when there is one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long the last words to a slow sender may take.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// Accepts and serves until `stop`, then lets what is in flight end until `cut`.
pub(super) async fn serve(listener: TcpListener, edge: Arc<Edge>, stop: Stop, cut: Stop) {
    // Twice the requests: a connection that is idle or still sending its head is no request yet.
    let connections = Arc::new(Semaphore::new(
        edge.settings
            .requests_in_flight_max
            .saturating_mul(2)
            .clamp(1, Semaphore::MAX_PERMITS),
    ));
    let router = handler::router(Arc::clone(&edge));
    let refused = Outage::default();
    let crowded = Arc::new(AtomicBool::new(false));
    loop {
        let accept = async {
            let accepted = listener.accept().await;
            // One that has come waits for a place, so that the idle know of it.
            crowded.store(connections.available_permits() == 0, Ordering::Relaxed);
            let permit = Arc::clone(&connections).acquire_owned().await;
            crowded.store(false, Ordering::Relaxed);
            (permit.expect("nobody closes the semaphore"), accepted)
        };
        let (permit, accepted) = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Some(over) = refused.calm(Instant::now()) {
                    let (after, failures) = (over.lasted, over.failures);
                    tracing::info!(?after, failures, "accepts connections again");
                }
                let connection = Connection {
                    peer,
                    edge: Arc::clone(&edge),
                    crowded: Arc::clone(&crowded),
                    // Children, so that connections do not meet at one lock whenever they wake.
                    stop: stop.child_token(),
                    cut: cut.child_token(),
                };
                let router = router.clone();
                edge.tasks.spawn(async move {
                    connection.serve(stream, router).await;
                    drop(permit);
                });
            }
            Err(error) => {
                edge.metrics.accept_failures.inc();
                if let Some(left_out) = refused.failed(Instant::now()) {
                    tracing::warn!(
                        %error,
                        left_out,
                        "could not accept a connection: tries again, senders wait; with too many open files raise the limit"
                    );
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Connection {
    peer: SocketAddr,
    edge: Arc<Edge>,
    /// Others wait for a place.
    crowded: Arc<AtomicBool>,
    stop: Stop,
    cut: Stop,
}

impl Connection {
    async fn serve(self, stream: TcpStream, router: Router) {
        let metrics = &self.edge.metrics;
        metrics.connections.inc();
        // Without it an answer may wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let progress = Arc::new(Progress::default());
        let io = TokioIo::new(Watched {
            stream,
            progress: Arc::clone(&progress),
        });
        let service = PerRequest {
            inner: TowerToHyperService::new(router),
            peer: self.peer,
            progress: Arc::clone(&progress),
        };
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_MAX)
            .max_buf_size(READ_BUFFER_BYTES_MAX)
            .serve_connection(io, service);
        let mut stopping = false;
        loop {
            tokio::select! {
                // An error is the sender's: it hung up, or what it sent is not HTTP and was answered so.
                _ = &mut connection => break,
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                () = self.cut.cancelled() => break,
                stuck = progress.stuck(self.edge.settings.body_timeout, &self.crowded) => {
                    if stuck == Stuck::Idle {
                        Pin::new(&mut connection).graceful_shutdown();
                        stopping = true;
                        continue;
                    }
                    let answer = Answer::Slow(Part::Head);
                    metrics.count(answer.status(), answer.reason());
                    let stream = connection.into_parts().io.into_inner().stream;
                    let _ = timeout(FAREWELL_MAX, say_slow(stream)).await;
                    break;
                }
            }
        }
        metrics.connections.dec();
    }
}

/// Writes the answer to a head that never became whole: the server knows no request yet that it could answer.
async fn say_slow(mut stream: TcpStream) -> io::Result<()> {
    const TEXT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\n\
        content-type: application/json\r\ncontent-length: 20\r\nconnection: close\r\n\r\n\
        {\"status\":\"timeout\"}";
    stream.write_all(TEXT).await?;
    stream.shutdown().await
}

/// Where a connection is between two requests; watched without a clock on the way of a request.
///
/// The lowest two bits are the phase, the others count heads, so that a head that is still the same one after a
/// while is a slow one.
#[derive(Debug, Default)]
struct Progress(AtomicU64);

const IDLE: u64 = 0;
const HEAD: u64 = 1;
const REQUEST: u64 = 2;
const PHASE: u64 = 3;

/// Where a connection does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stuck {
    Head,
    Idle,
}

impl Progress {
    /// Bytes came in: between two requests they begin a head.
    fn bytes_read(&self) {
        let now = self.0.load(Ordering::Relaxed);
        if now & PHASE == IDLE {
            self.0.store(((now | PHASE) + 1) | HEAD, Ordering::Relaxed);
        }
    }

    fn set(&self, phase: u64) {
        let now = self.0.load(Ordering::Relaxed);
        self.0.store((now & !PHASE) | phase, Ordering::Relaxed);
    }

    /// Returns when one head has been on its way for `max` or more, at most twice that; or when nothing has come for as long and
    /// others wait for the place.
    async fn stuck(&self, max: Duration, crowded: &AtomicBool) -> Stuck {
        let mut ticks = interval(max);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = None;
        loop {
            ticks.tick().await;
            let now = self.0.load(Ordering::Relaxed);
            if before == Some(now) {
                match now & PHASE {
                    HEAD => return Stuck::Head,
                    IDLE if crowded.load(Ordering::Relaxed) => return Stuck::Idle,
                    _ => {}
                }
            }
            before = Some(now);
        }
    }
}

/// The service of one connection: puts the sender's address beside each request.
struct PerRequest {
    inner: TowerToHyperService<Router>,
    peer: SocketAddr,
    progress: Arc<Progress>,
}

impl Service<hyper::Request<Incoming>> for PerRequest {
    type Response = Response;
    type Error = std::convert::Infallible;
    type Future = InRequest<<TowerToHyperService<Router> as Service<Request>>::Future>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        self.progress.set(REQUEST);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(self.peer));
        InRequest {
            future: Box::pin(self.inner.call(request)),
            progress: Arc::clone(&self.progress),
        }
    }
}

/// A request being answered.
struct InRequest<F> {
    future: Pin<Box<F>>,
    progress: Arc<Progress>,
}

impl<F: Future> Future for InRequest<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let output = ready!(self.future.as_mut().poll(cx));
        self.progress.set(IDLE);
        Poll::Ready(output)
    }
}

/// A stream that notes when a head begins.
struct Watched {
    stream: TcpStream,
    progress: Arc<Progress>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        if buffer.filled().len() > before {
            self.progress.bytes_read();
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
