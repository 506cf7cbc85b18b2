//! Feeds the broker bytes without a socket: for `fuzz/`, and for the tests that keep what it found.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::runtime::{Builder, Runtime};

use super::batch::{self, Rules};
use super::clock::Now;
use super::connection;
use super::log::{Log, TimeOf};
use super::state::Broker;
use super::transactions::Outcome;

#[cfg(test)]
mod tests;

/// What the broker may hold: little, so that dropping records is reached as well.
const LOG_BYTES_MAX: usize = 64 << 10;
/// How many timers fire after the last request: enough for members to miss their sessions and transactions to end.
const TIMERS: usize = 16;
/// Bytes of a batch before its checksummed part, and where its fields are.
const CHECKED_FROM: usize = 21;

/// Answers a client that sends `bytes` and then nothing, on a broker of its own, as the broker does for a socket. It ends
/// with the first request whose answer has to wait for others; then every timer fires, one after the other.
///
/// # Errors
///
/// There is no runtime to be had for timers.
pub fn connection(bytes: &[u8]) -> io::Result<()> {
    thread_local! {
        static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
    }
    let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
    let broker = Broker::new(SocketAddr::from(([127, 0, 0, 1], 9_092)), LOG_BYTES_MAX);
    RUNTIME.with_borrow_mut(|runtime| {
        let runtime = match runtime {
            Some(runtime) => runtime,
            None => runtime.insert(Builder::new_current_thread().enable_time().build()?),
        };
        let stream = tokio::io::join(bytes, tokio::io::sink());
        // Whether the connection was refused, done or has to wait is all the same here.
        let done = runtime.block_on(async {
            let answers = connection::answer_all(stream, peer, &broker);
            tokio::time::timeout(Duration::ZERO, answers).await
        });
        drop(done);
        Ok::<_, io::Error>(())
    })?;
    broker.with(|state, now| {
        for _ in 0..TIMERS {
            let Some(due) = state.next_deadline() else { break };
            state.on_time(Now {
                elapsed: due.max(now.elapsed),
                ..now
            });
        }
    });
    Ok(())
}

/// Takes `bytes` for a batch that a producer sends, with its length and checksum set right, since nobody would guess those;
/// if it is one, appends it to a log and looks for what readers look for.
pub fn batch(bytes: &[u8]) {
    let now = Now {
        elapsed: Duration::ZERO,
        wall_ms: 1_700_000_000_000,
    };
    let bytes = sealed(bytes);
    let rules = Rules {
        times: None,
        keyed: false,
    };
    let Ok(header) = batch::check(&bytes, &rules) else {
        return;
    };
    let mut log = Log::default();
    for time_of in [TimeOf::Create, TimeOf::Append] {
        // A second one of the same producer may be refused as out of order.
        let _ = log.append(&bytes, header, time_of, now);
    }
    if header.is_transactional() {
        log.append_marker(header.producer_id, header.producer_epoch, Outcome::Abort, now);
    }
    let end = log.end();
    for time_ms in [i64::MIN, 0, now.wall_ms, i64::MAX] {
        if let Some((offset, _)) = log.first_since(time_ms) {
            assert!((0..end).contains(&offset), "{offset} of {end}");
        }
    }
    log.newest();
    assert!(!log.read(0, end, 0, true).is_empty(), "a reader gets on");
    assert!(log.delete_before(end).is_ok(), "all of it can be deleted");
    assert_eq!(log.bytes(), 0);
}

fn sealed(bytes: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(bytes);
    if bytes.len() >= CHECKED_FROM {
        let length = u32::try_from(bytes.len() - 12).unwrap_or(u32::MAX);
        let checksum = crc32c::crc32c(&bytes[CHECKED_FROM..]);
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
    }
    bytes.freeze()
}
