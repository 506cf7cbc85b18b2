//! A broker that does not hear some requests: a proxy before a cluster of one node, which swallows what it is told to.

use std::collections::BTreeSet;
use std::io::{self, Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// `api_key` of a Produce request.
pub(crate) const PRODUCE: i16 = 0;
/// `api_key` of an `EndTxn` request: commit or abort.
pub(crate) const END_TXN: i16 = 26;

/// Swallows requests by their `api_key`. It runs until the tests end.
pub(crate) struct Sieve {
    address: SocketAddr,
    held: Arc<Mutex<BTreeSet<i16>>>,
}

impl Sieve {
    /// Listens before the broker at `bootstrap`. What that says of its own address is replaced on the way by ours, so
    /// that clients come through here with every connection.
    pub(crate) fn before(bootstrap: &str) -> Self {
        let broker: SocketAddr = bootstrap.parse().expect("a cluster of one node on loopback");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let held = Arc::<Mutex<BTreeSet<i16>>>::default();
        let of_connections = Arc::clone(&held);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A broker that is gone is seen by the client as a connection that ends.
                let Ok(server) = TcpStream::connect(broker) else {
                    continue;
                };
                join(client, server, &of_connections, broker, address);
            }
        });
        Self { address, held }
    }

    /// Returns where clients are to go.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Lets the broker hear no more requests of these kinds.
    pub(crate) fn swallow(&self, api_keys: &[i16]) {
        lock(&self.held).extend(api_keys);
    }

    /// Lets it hear everything again.
    pub(crate) fn pass_all(&self) {
        lock(&self.held).clear();
    }
}

fn lock(held: &Mutex<BTreeSet<i16>>) -> MutexGuard<'_, BTreeSet<i16>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects the two ends, each way on a thread of its own, which ends with its connection.
fn join(
    client: TcpStream,
    server: TcpStream,
    held: &Arc<Mutex<BTreeSet<i16>>>,
    broker: SocketAddr,
    ours: SocketAddr,
) {
    let (client_reads, server_reads) = (client.try_clone(), server.try_clone());
    let (Ok(client_reads), Ok(server_reads)) = (client_reads, server_reads) else {
        return;
    };
    let held = Arc::clone(held);
    std::thread::spawn(move || {
        pump(client_reads, server, |request| {
            let api_key = i16::from_be_bytes([request[0], request[1]]);
            !lock(&held).contains(&api_key)
        });
    });
    std::thread::spawn(move || {
        let (from, to) = (written(broker), written(ours));
        pump(server_reads, client, |answer| {
            replace(answer, &from, &to);
            true
        });
    });
}

/// Moves frames until either end is gone; those that `keep` refuses are dropped.
fn pump(mut from: TcpStream, mut to: TcpStream, mut keep: impl FnMut(&mut [u8]) -> bool) {
    while let Ok(mut frame) = read_frame(&mut from) {
        if !keep(&mut frame) {
            continue;
        }
        let length = u32::try_from(frame.len()).expect("it was read with such a length");
        if to.write_all(&length.to_be_bytes()).is_err() || to.write_all(&frame).is_err() {
            break;
        }
    }
    // The other direction ends with it; either may be closed already.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn read_frame(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut frame)?;
    Ok(frame)
}

/// Writes an address as Kafka's answers have it: the host's text, then the port in four bytes.
fn written(address: SocketAddr) -> Vec<u8> {
    let mut bytes = address.ip().to_string().into_bytes();
    bytes.extend(u32::from(address.port()).to_be_bytes());
    bytes
}

fn replace(answer: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len(), "both are on the same host");
    let mut at = 0;
    while let Some(found) = answer[at..].windows(from.len()).position(|window| window == from) {
        answer[at + found..][..to.len()].copy_from_slice(to);
        at += found + to.len();
    }
}
