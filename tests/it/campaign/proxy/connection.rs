//! One client's connection: whose it is, and its two lines to the broker and back.

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shared;
use super::frames::{self, Piece, Scanner};
use super::rules::{Active, Direction, Ending, Hold, Scope};

/// Read at once: a fetch answer of a megabyte passes in some dozen pieces.
const CHUNK_BYTES: usize = 32 * 1024;

/// Held per direction of a connection, at most this many chunks (1 MiB); then the sender's window closes, as it does when a
/// network drops what is sent. A delay of 100 ms leaves 10 MB/s.
const CHUNKS_HELD: usize = 32;

/// Serves a connection until it ends.
pub(super) async fn serve(shared: Arc<Shared>, mut scope: Scope, mut client: TcpStream) {
    // Fails on a connection that is gone already, which shows below.
    let _ = client.set_nodelay(true);
    let mut stranger = scope.clone();
    let ending = tokio::select! {
        biased;
        ending = stranger.cut() => ending,
        first = first_request(&mut client) => match first {
            Some((id, first)) => {
                scope.belongs_to(&id);
                serve_client(&shared, scope, &mut client, first).await
            }
            None => Ending::Reset,
        },
    };
    if ending == Ending::Reset {
        // Fails on a connection that is gone already.
        let _ = client.set_zero_linger();
    }
}

/// What was read, and when.
type Chunk = (Instant, Bytes);

/// Reads until it is known whose connection it is; `None` when it ends before.
async fn first_request(client: &mut TcpStream) -> Option<(String, Chunk)> {
    let mut start = BytesMut::with_capacity(CHUNK_BYTES);
    loop {
        if client.read_buf(&mut start).await.ok()? == 0 {
            return None;
        }
        if let Some(id) = frames::client_id(&start) {
            return Some((id, (Instant::now(), start.freeze())));
        }
    }
}

async fn serve_client(shared: &Shared, scope: Scope, client: &mut TcpStream, first: Chunk) -> Ending {
    let mut watched = scope.clone();
    tokio::select! {
        biased;
        ending = watched.cut() => ending,
        ending = lead(shared, scope, client, first) => ending,
    }
}

/// Leads the client to its broker, and both ways from then on.
async fn lead(shared: &Shared, mut scope: Scope, client: &mut TcpStream, first: Chunk) -> Ending {
    scope.no_stall().await;
    // A broker that is away looks to the client as if it had just died.
    let Some(target) = shared.target(scope.node()) else {
        return Ending::Reset;
    };
    let Ok(mut broker) = TcpStream::connect(target).await else {
        return Ending::Reset;
    };
    let _ = broker.set_nodelay(true);
    let owed = Owed::default();
    let (from_client, to_client) = client.split();
    let (from_broker, to_broker) = broker.split();
    let mut requests = Line::new(Direction::Requests, scope.clone(), &owed, to_broker);
    let mut answers = Line::new(Direction::Answers, scope, &owed, to_client);
    tokio::select! {
        ending = async {
            let End::Broken = requests.pass_all(from_client, Some(first)).await else {
                // The broker's own end of the connection follows.
                let _ = requests.to.shutdown().await;
                return std::future::pending().await;
            };
            Ending::Reset
        } => ending,
        end = answers.pass_all(from_broker, None) => match end {
            End::Finished => Ending::Close,
            End::Broken => Ending::Reset,
        },
    }
}

/// The requests whose answers some rule wants to lose: correlation ids and rules, in the order of requests, which is also
/// that of answers.
type Owed = Mutex<Vec<(i32, Arc<Active>)>>;

/// How a line ends.
enum End {
    /// Everything up to the end of the stream has passed, or its receiver is gone.
    Finished,
    /// The stream has a hole, or cannot be followed: both sides must be closed.
    Broken,
}

/// One direction of a connection.
struct Line<'a> {
    direction: Direction,
    scope: Scope,
    owed: &'a Owed,
    to: WriteHalf<'a>,
    scanner: Scanner,
    /// Ready to be sent.
    ready: BytesMut,
    /// Something was swallowed.
    has_hole: bool,
    chunks: u64,
}

impl<'a> Line<'a> {
    fn new(direction: Direction, scope: Scope, owed: &'a Owed, to: WriteHalf<'a>) -> Self {
        Self {
            direction,
            scope,
            owed,
            to,
            scanner: match direction {
                Direction::Requests => Scanner::of_requests(),
                Direction::Answers => Scanner::of_answers(),
            },
            ready: BytesMut::new(),
            has_hole: false,
            chunks: 0,
        }
    }

    /// Passes everything from `from` on, after what was read of it already.
    async fn pass_all(&mut self, from: ReadHalf<'_>, first: Option<Chunk>) -> End {
        let (queue, chunks) = mpsc::channel(CHUNKS_HELD);
        if let Some(first) = first {
            queue.try_send(first).expect("an empty queue has room");
        }
        let reading = async {
            read(from, queue).await;
            std::future::pending().await
        };
        tokio::select! {
            end = self.pass_chunks(chunks) => end.unwrap_or_else(|end| end),
            end = reading => end,
        }
    }

    async fn pass_chunks(&mut self, mut chunks: mpsc::Receiver<Chunk>) -> Result<End, End> {
        let mut watched = self.scope.clone();
        loop {
            let direction = self.direction;
            let next = tokio::select! {
                next = chunks.recv() => next,
                () = watched.no_loss(direction), if self.has_hole => return Err(End::Broken),
            };
            let Some((read_at, chunk)) = next else {
                break;
            };
            self.chunks += 1;
            self.wait_open(Some(read_at)).await;
            self.pass(chunk).await?;
        }
        // The end of the stream is subject to the same as what stands before it.
        self.wait_open(None).await;
        self.ready.extend_from_slice(&self.scanner.rest());
        self.deliver().await?;
        if let Some(loss) = self.scope.loss(self.direction) {
            self.scope.hit(&loss);
            self.has_hole = true;
        }
        if self.has_hole {
            self.scope.no_loss(self.direction).await;
            return Err(End::Broken);
        }
        Ok(End::Finished)
    }

    async fn pass(&mut self, mut chunk: Bytes) -> Result<(), End> {
        while let Some(piece) = self.scanner.next(&mut chunk).map_err(|_| End::Broken)? {
            match piece {
                Piece::Head(head) => {
                    // As far as it has come; what rules ask of a body is in the first chunk of a small frame.
                    let frame = [&head, &chunk[..self.scanner.body_left().min(chunk.len())]].concat();
                    match self.direction {
                        Direction::Requests => self.before_request(&frame).await?,
                        Direction::Answers => self.before_answer(&frame).await?,
                    }
                    self.ready.extend_from_slice(&head);
                }
                Piece::Body(body) => self.ready.extend_from_slice(&body),
            }
        }
        self.deliver().await
    }

    /// Does what rules want done before the broker sees this request.
    async fn before_request(&mut self, frame: &[u8]) -> Result<(), End> {
        let (key, correlation) = frames::request(frame);
        if self.has_hole || self.scope.loss(self.direction).is_some() {
            return Ok(());
        }
        let holds = self.scope.holds_of(key);
        if !holds.is_empty() {
            self.deliver().await?;
            let began = Instant::now();
            for (hold, rule) in holds {
                match hold {
                    Hold::For(how_long) => self.hold(&rule, began + how_long).await,
                    Hold::UntilSeen => self.scope.catch(&rule).await,
                }
            }
            // Much may have begun meanwhile.
            self.wait_open(None).await;
        }
        let losses = self.scope.losses_of_answer_to(frame);
        let mut owed = self.owed.lock().unwrap();
        owed.extend(losses.into_iter().map(|rule| (correlation, rule)));
        Ok(())
    }

    async fn hold(&mut self, rule: &Arc<Active>, until: Instant) {
        self.scope.hit(rule);
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = self.scope.lifted(rule) => {}
        }
    }

    /// Ends the connection if this answer is to be lost.
    async fn before_answer(&mut self, frame: &[u8]) -> Result<(), End> {
        let correlation = frames::answer(frame);
        let due: Vec<_> = {
            let mut owed = self.owed.lock().unwrap();
            owed.extract_if(.., |(id, _)| *id == correlation).collect()
        };
        for (_, rule) in due {
            if self.scope.is_held_to(&rule) && rule.takes_answer(frame) {
                self.scope.hit(&rule);
                self.deliver().await?;
                return Err(End::Broken);
            }
        }
        Ok(())
    }

    /// Waits until nothing stalls this connection, and what was read at this time is due.
    async fn wait_open(&mut self, read_at: Option<Instant>) {
        let mut was_delayed = false;
        loop {
            self.scope.no_stall().await;
            let delay = self.scope.delay(self.chunks);
            let Some((read_at, (delay, rule))) = read_at.zip(delay) else {
                return;
            };
            if !std::mem::replace(&mut was_delayed, true) {
                self.scope.hit(&rule);
            }
            let due = read_at + delay;
            if due <= Instant::now() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.scope.changed() => {}
            }
        }
    }

    /// Sends what is ready, or swallows it.
    async fn deliver(&mut self) -> Result<(), End> {
        if self.ready.is_empty() {
            return Ok(());
        }
        if let Some(loss) = self.scope.loss(self.direction) {
            self.scope.hit(&loss);
            self.has_hole = true;
        }
        if self.has_hole {
            self.ready.clear();
            return Ok(());
        }
        self.to
            .write_all_buf(&mut self.ready)
            .await
            .map_err(|_| End::Finished)
    }
}

/// Reads until the stream ends, however it does, as far as the queue has room.
async fn read(mut from: ReadHalf<'_>, queue: mpsc::Sender<Chunk>) {
    let mut buffer = BytesMut::new();
    loop {
        if buffer.capacity() < CHUNK_BYTES / 8 {
            buffer.reserve(CHUNK_BYTES);
        }
        let Ok(1..) = from.read_buf(&mut buffer).await else {
            return;
        };
        let chunk = (Instant::now(), buffer.split().freeze());
        if queue.send(chunk).await.is_err() {
            return;
        }
    }
}
