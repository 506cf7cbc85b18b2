//! Sockets: frames in, answers out, in order.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::api::{self, Client};
use super::state::Broker;

/// The longest request. Source: Kafka's default for `socket.request.max.bytes`.
const FRAME_BYTES_MAX: usize = 100 << 20;
/// Memory for a request is taken as its bytes arrive, in steps of this: an announced length claims nothing.
const READ_STEP: usize = 64 << 10;
/// How much is read of what comes behind a request that waits.
const READ_AHEAD_MAX: usize = 1 << 20;
/// How long no connection is taken after the machine refused one, for want of file descriptors for instance.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Serves until told to stop; then every connection is closed.
pub(super) async fn serve(
    listener: TcpListener,
    broker: Arc<Broker>,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    let timekeeper = broker.keep_time();
    tokio::pin!(timekeeper);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let broker = Arc::clone(&broker);
                    connections.spawn(async move { converse(stream, peer, &broker).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "the in-process broker cannot take a connection");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection to the in-process broker ended by a defect of the broker");
                }
            }
            () = &mut timekeeper => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Answers one client, one request after the other, until it goes or sends what cannot be answered.
async fn converse(stream: TcpStream, peer: SocketAddr, broker: &Broker) {
    // Answers are small and waited for. A socket that refuses this is about to say why.
    let done = match stream.set_nodelay(true) {
        Ok(()) => answer_all(stream, peer, broker).await,
        Err(error) => Err(error.into()),
    };
    if let Err(ended) = done {
        match ended {
            // The client is gone: at development's pace that is no news.
            Ended::Gone(error) => tracing::debug!(%peer, %error, "a client of the in-process broker is gone"),
            Ended::Refused(why) => {
                tracing::warn!(%peer, %why, "the in-process broker closes a client's connection");
            }
        }
    }
}

/// Why a connection ends before its client is done.
pub(super) enum Ended {
    Gone(io::Error),
    Refused(String),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl From<api::Refused> for Ended {
    fn from(refused: api::Refused) -> Self {
        Self::Refused(refused.to_string())
    }
}

/// Answers until the client is done.
///
/// # Errors
///
/// Why the connection ends otherwise.
pub(super) async fn answer_all(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    broker: &Broker,
) -> Result<(), Ended> {
    let host = format!("/{}", peer.ip());
    let mut received = BytesMut::with_capacity(READ_STEP);
    while let Some(frame) = next_frame(&mut stream, &mut received).await? {
        let client = Client::new(host.clone());
        let answer = tokio::select! {
            // Most answers are there at once, and then nothing is read ahead.
            biased;
            answer = api::answer(broker, client, frame) => answer?,
            gone = hung_up(&mut stream, &mut received) => return Err(gone.into()),
        };
        if let Some(answer) = answer {
            stream.write_all(&answer).await?;
        }
    }
    Ok(())
}

/// Returns when the client has closed the connection although an answer is still to come, which may take days if it asked
/// for that. What it sends meanwhile is kept.
async fn hung_up(stream: &mut (impl AsyncRead + Unpin), received: &mut BytesMut) -> io::Error {
    while received.len() < READ_AHEAD_MAX {
        received.reserve(READ_STEP);
        match stream.read_buf(received).await {
            Ok(0) => return io::Error::new(io::ErrorKind::UnexpectedEof, "before its answer was there"),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
    std::future::pending().await
}

/// Reads the next request; `None` when the client closed after a whole one.
async fn next_frame(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut BytesMut,
) -> Result<Option<Bytes>, Ended> {
    if !fill(stream, received, 4).await? {
        return match received.len() {
            0 => Ok(None),
            _ => Err(broken_off()),
        };
    }
    let length = i32::from_be_bytes([received[0], received[1], received[2], received[3]]);
    let whole = usize::try_from(length)
        .ok()
        .filter(|length| *length <= FRAME_BYTES_MAX);
    let whole = whole.ok_or_else(|| {
        Ended::Refused(format!(
            "a frame of {length} bytes is announced, at most {FRAME_BYTES_MAX} are taken"
        ))
    })?;
    if !fill(stream, received, 4 + whole).await? {
        return Err(broken_off());
    }
    let mut frame = received.split_to(4 + whole);
    Ok(Some(frame.split_off(4).freeze()))
}

fn broken_off() -> Ended {
    Ended::Gone(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "in the middle of a request",
    ))
}

/// Reads until there are `wanted` bytes; says no when the client closed before.
async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut BytesMut,
    wanted: usize,
) -> io::Result<bool> {
    while received.len() < wanted {
        received.reserve((wanted - received.len()).min(READ_STEP));
        if stream.read_buf(received).await? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use bytes::BufMut as _;
    use kafka_protocol::messages::create_topics_request::CreatableTopic;
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use kafka_protocol::messages::{ApiKey, CreateTopicsRequest, FetchRequest, RequestHeader, TopicName};
    use kafka_protocol::protocol::{Encodable as _, StrBytes};

    use super::super::topics::admin::create_topics;
    use super::*;

    /// How long a test waits for what should be at once.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn one_topic(name: &str) -> CreateTopicsRequest {
        let topic = CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_string(name.to_owned())))
            .with_num_partitions(1)
            .with_replication_factor(1);
        CreateTopicsRequest::default().with_topics(vec![topic])
    }

    /// A fetch of nothing that waits for as long as it can be said.
    fn endless_fetch(topic: &str) -> Bytes {
        let topic = FetchTopic::default()
            .with_topic(TopicName(StrBytes::from_string(topic.to_owned())))
            .with_partitions(vec![FetchPartition::default()]);
        let request = FetchRequest::default()
            .with_session_epoch(-1)
            .with_max_wait_ms(i32::MAX)
            .with_min_bytes(1)
            .with_topics(vec![topic]);
        let mut frame = BytesMut::new();
        RequestHeader::default()
            .with_request_api_key(ApiKey::Fetch as i16)
            .with_request_api_version(11)
            .encode(&mut frame, ApiKey::Fetch.request_header_version(11))
            .unwrap();
        request.encode(&mut frame, 11).unwrap();
        let mut whole = BytesMut::new();
        whole.put_u32(u32::try_from(frame.len()).unwrap());
        whole.extend_from_slice(&frame);
        whole.freeze()
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_is_let_go_though_its_fetch_could_wait_for_weeks() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let broker = Broker::new(peer, 1 << 20);
        broker.with(|state, _| create_topics(state, one_topic("t")));
        let (mut client, server) = tokio::io::duplex(1 << 16);
        client.write_all(&endless_fetch("t")).await.unwrap();
        // More than one request may be behind it.
        client.write_all(&endless_fetch("t")).await.unwrap();
        let answering = answer_all(server, peer, &broker);
        tokio::pin!(answering);
        let early = tokio::time::timeout(Duration::ZERO, &mut answering).await;
        assert!(early.is_err(), "it waits");
        drop(client);
        let ended = tokio::time::timeout(PATIENCE, answering).await.expect("an end");
        assert!(matches!(ended, Err(Ended::Gone(_))));
    }
}
