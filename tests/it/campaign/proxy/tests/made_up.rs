//! Between a client that sends frames by hand and a server that answers each with its own body.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use frontstream::lifecycle::Instant;
use kafka_protocol::messages::ApiKey;

use super::super::{Ending, Fault, Hits, Proxy, Rule};
use crate::support::process::{PATIENCE, wait_until};

/// What must not come is waited for this long; what comes through the proxy comes within a millisecond.
const SILENCE: Duration = Duration::from_millis(150);

/// A server, and the proxy in front of it.
struct Stage {
    proxy: Proxy,
    server: Server,
}

impl Stage {
    fn new() -> Self {
        let server = Server::start();
        let proxy = Proxy::reserve(1);
        proxy.lead_to(&[server.address]);
        Self { proxy, server }
    }

    fn client(&self, id: &str) -> Client {
        Client::connect(self.proxy.ports()[0], id)
    }
}

/// Answers each request with its correlation id and body, and remembers it.
struct Server {
    address: SocketAddr,
    /// Client and correlation id.
    seen: Arc<Mutex<Vec<(String, i32)>>>,
    /// Held while it answers.
    answers: Arc<Mutex<()>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let answers = Arc::<Mutex<()>>::default();
        let (all, gate) = (seen.clone(), answers.clone());
        // Both kinds of threads end with the test binary, or with their connection.
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (mut connection, seen, gate) = (connection.unwrap(), all.clone(), gate.clone());
                std::thread::spawn(move || while answer(&mut connection, &seen, &gate).is_ok() {});
            }
        });
        Self {
            address,
            seen,
            answers,
        }
    }

    /// Keeps it from answering until this is dropped.
    fn pause(&self) -> MutexGuard<'_, ()> {
        self.answers.lock().unwrap()
    }

    fn seen_of(&self, client: &str) -> Vec<i32> {
        let seen = self.seen.lock().unwrap();
        let ours = seen.iter().filter(|(one, _)| one == client);
        ours.map(|(_, correlation)| *correlation).collect()
    }
}

fn answer(connection: &mut TcpStream, seen: &Mutex<Vec<(String, i32)>>, gate: &Mutex<()>) -> io::Result<()> {
    let frame = read_frame(connection)?;
    let correlation = i32::from_be_bytes(frame[4..8].try_into().unwrap());
    let id_end = 10 + usize::from(u16::from_be_bytes(frame[8..10].try_into().unwrap()));
    let client = String::from_utf8(frame[10..id_end].to_vec()).unwrap();
    seen.lock().unwrap().push((client, correlation));
    let _open = gate.lock().unwrap();
    connection.write_all(&framed(&[&frame[4..8], &frame[id_end..]]))
}

fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = i32::try_from(body.len()).unwrap();
    [&length.to_be_bytes(), body.as_slice()].concat()
}

fn read_frame(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
    from.read_exact(&mut frame)?;
    Ok(frame)
}

struct Client {
    stream: TcpStream,
    id: String,
    correlation: i32,
}

impl Client {
    fn connect(port: u16, id: &str) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            id: id.to_owned(),
            correlation: 0,
        }
    }

    fn request(&mut self, api: ApiKey, body: &[u8]) -> Vec<u8> {
        self.correlation += 1;
        let id_bytes = u16::try_from(self.id.len()).unwrap();
        framed(&[
            &(api as i16).to_be_bytes(),
            &[0, 1],
            &self.correlation.to_be_bytes(),
            &id_bytes.to_be_bytes(),
            self.id.as_bytes(),
            body,
        ])
    }

    /// Sends a request and returns its correlation id.
    fn send(&mut self, api: ApiKey, body: &[u8]) -> i32 {
        let request = self.request(api, body);
        self.stream.write_all(&request).unwrap();
        self.correlation
    }

    /// Returns the next answer.
    fn receive(&mut self) -> (i32, Vec<u8>) {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let frame = read_frame(&mut self.stream).unwrap();
        let (correlation, body) = frame.split_at(4);
        (i32::from_be_bytes(correlation.try_into().unwrap()), body.to_vec())
    }

    fn ask(&mut self, api: ApiKey) {
        let correlation = self.send(api, b"ping");
        assert_eq!(self.receive(), (correlation, b"ping".to_vec()));
    }

    /// Waits for the end of the connection: by FIN, or by RST.
    fn ending(&mut self) -> Ending {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match self.stream.read(&mut [0]) {
            Ok(0) => Ending::Close,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ending::Reset,
            other => panic!("no end of the connection: {other:?}"),
        }
    }

    fn hears_nothing(&mut self) {
        self.stream.set_read_timeout(Some(SILENCE)).unwrap();
        let error = self
            .stream
            .read(&mut [0])
            .expect_err("nothing comes, not even an end");
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    }
}

#[test]
fn without_rules_everything_passes() {
    let stage = Stage::new();
    let mut client = stage.client("p1");
    client.ask(ApiKey::ApiVersions);
    // One request larger than all buffers on the way, and many small ones in one write.
    let large: Vec<u8> = (0..5_000_000)
        .map(|number: u32| number.to_le_bytes()[1])
        .collect();
    let request = client.request(ApiKey::Produce, &large);
    let mut writer = client.stream.try_clone().unwrap();
    let small: Vec<u8> = (0..1_000)
        .flat_map(|_| client.request(ApiKey::Heartbeat, b"x"))
        .collect();
    let writing = std::thread::spawn(move || {
        writer.write_all(&request).unwrap();
        writer.write_all(&small).unwrap();
    });
    assert_eq!(client.receive(), (2, large));
    for correlation in 3..1_003 {
        assert_eq!(client.receive(), (correlation, b"x".to_vec()));
    }
    writing.join().unwrap();
    assert_eq!(stage.server.seen_of("p1"), (1..1_003).collect::<Vec<_>>());
    // The client's end reaches the server, whose end comes back.
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.ending(), Ending::Close);
}

#[test]
fn a_cut_ends_connections_and_refuses_new_ones_until_it_is_lifted() {
    let stage = Stage::new();
    for ending in [Ending::Reset, Ending::Close] {
        let mut client = stage.client("p1");
        client.ask(ApiKey::ApiVersions);
        let cut = stage.proxy.apply(Rule::new(Fault::Cut(ending)));
        assert_eq!(client.ending(), ending);
        let mut stranger = stage.client("p2");
        assert_eq!(stranger.ending(), ending, "before it says who it is");
        assert_eq!(
            cut.lift(),
            Hits {
                connections: 2,
                pieces: 2
            }
        );
        stage.client("p1").ask(ApiKey::ApiVersions);
    }
    assert!(stage.server.seen_of("p2").is_empty());
}

#[test]
fn a_rule_is_about_a_client_and_a_node() {
    let stage = Stage::new();
    let mut clients = ["p1", "p10", "r1"].map(|id| stage.client(id));
    for client in &mut clients {
        client.ask(ApiKey::ApiVersions);
    }
    let elsewhere = stage.proxy.apply(Rule::new(Fault::Cut(Ending::Reset)).at_node(2));
    let one = stage
        .proxy
        .apply(Rule::new(Fault::Cut(Ending::Reset)).of_client("p1").at_node(1));
    let [p1, p10, r1] = &mut clients;
    assert_eq!(p1.ending(), Ending::Reset);
    p10.ask(ApiKey::Heartbeat);
    // It is let in until it says who it is.
    let mut again = stage.client("p1");
    again.send(ApiKey::ApiVersions, b"");
    assert_eq!(again.ending(), Ending::Reset);
    let all = stage
        .proxy
        .apply(Rule::new(Fault::Cut(Ending::Close)).of_clients("p"));
    assert_eq!(p10.ending(), Ending::Close);
    r1.ask(ApiKey::Heartbeat);
    assert_eq!(elsewhere.hits(), Hits::default());
    assert_eq!((one.hits().connections, all.hits().connections), (2, 1));
    assert_eq!(
        stage.server.seen_of("p1"),
        [1],
        "the second connection never got there"
    );
}

#[test]
fn a_stall_holds_everything_until_it_is_lifted() {
    let stage = Stage::new();
    let mut client = stage.client("p1");
    client.ask(ApiKey::ApiVersions);
    let stall = stage.proxy.apply(Rule::new(Fault::Stall));
    client.send(ApiKey::Produce, b"a");
    client.send(ApiKey::Produce, b"b");
    let mut newcomer = stage.client("p2");
    newcomer.send(ApiKey::ApiVersions, b"c");
    newcomer.stream.shutdown(Shutdown::Write).unwrap();
    client.hears_nothing();
    newcomer.hears_nothing();
    assert_eq!(stage.server.seen_of("p1"), [1]);
    assert_eq!(stall.lift().connections, 2);
    assert_eq!(
        (client.receive(), client.receive()),
        ((2, b"a".to_vec()), (3, b"b".to_vec()))
    );
    assert_eq!(newcomer.receive(), (1, b"c".to_vec()));
    assert_eq!(newcomer.ending(), Ending::Close);
}

/// As in a network: what fits into the buffers on the way, and no more.
#[test]
fn a_stalled_connection_takes_a_bounded_amount() {
    let stage = Stage::new();
    let mut client = stage.client("p1");
    client.ask(ApiKey::ApiVersions);
    let stall = stage.proxy.apply(Rule::new(Fault::Stall));
    let request = client.request(ApiKey::Produce, &vec![7; 24_000_000]);
    client.stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    // It is full when it takes nothing for a while.
    let mut last = Instant::now();
    while last.elapsed() < SILENCE {
        match client.stream.write(&request[sent..]) {
            Ok(bytes) => (sent, last) = (sent + bytes, Instant::now()),
            Err(_) => std::thread::park_timeout(Duration::from_millis(1)),
        }
    }
    assert!(sent < 16_000_000, "{sent} bytes were taken");
    drop(stall);
    client.stream.set_nonblocking(false).unwrap();
    let mut writer = client.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&request[sent..]).unwrap());
    assert_eq!(client.receive().1.len(), 24_000_000);
    writing.join().unwrap();
}

#[test]
fn a_delay_makes_both_ways_longer_and_keeps_the_order() {
    let stage = Stage::new();
    let mut client = stage.client("p1");
    client.ask(ApiKey::ApiVersions);
    let [least, most] = [50, 80].map(Duration::from_millis);
    let delay = stage.proxy.apply(Rule::new(Fault::Delay { least, most }));
    let began = Instant::now();
    for _ in 0..20 {
        client.send(ApiKey::Heartbeat, b"");
    }
    for correlation in 2..22 {
        assert_eq!(client.receive().0, correlation);
    }
    let took = began.elapsed();
    assert!(took >= 2 * least, "{took:?}");
    // Requests that follow each other wait side by side, not one after the other.
    assert!(took < 40 * least, "{took:?}");
    assert!(delay.hits().pieces >= 2, "{:?}", delay.hits());
    // Lifted, it lets go what it holds.
    let longer = stage.proxy.apply(Rule::new(Fault::Delay {
        least: PATIENCE,
        most: PATIENCE,
    }));
    client.send(ApiKey::Heartbeat, b"");
    wait_until("the request is held", || longer.hits().pieces > 0);
    drop(longer);
    assert_eq!(client.receive().0, 22);
}

#[test]
fn a_server_that_is_away_ends_the_connection_and_is_found_again() {
    let proxy = Proxy::reserve(1);
    let mut early = Client::connect(proxy.ports()[0], "p1");
    early.send(ApiKey::ApiVersions, b"");
    assert_eq!(early.ending(), Ending::Reset, "nobody has said where it is");
    let server = Server::start();
    proxy.lead_to(&[crate::support::process::free_address()]);
    let mut client = Client::connect(proxy.ports()[0], "p1");
    client.send(ApiKey::ApiVersions, b"");
    assert_eq!(client.ending(), Ending::Reset);
    proxy.lead_to(&[server.address]);
    Client::connect(proxy.ports()[0], "p1").ask(ApiKey::ApiVersions);
}

#[test]
fn lost_requests_never_come_and_answers_still_do() {
    let stage = Stage::new();
    let (mut client, mut idle) = (stage.client("p1"), stage.client("p1"));
    client.ask(ApiKey::ApiVersions);
    idle.ask(ApiKey::ApiVersions);
    let server = stage.server.pause();
    client.send(ApiKey::Heartbeat, b"a");
    wait_until("the server has it", || stage.server.seen_of("p1").contains(&2));
    let loss = stage.proxy.apply(Rule::new(Fault::LoseRequests));
    drop(server);
    assert_eq!(client.receive(), (2, b"a".to_vec()));
    client.send(ApiKey::Heartbeat, b"b");
    let mut newcomer = stage.client("p2");
    newcomer.send(ApiKey::ApiVersions, b"");
    // The end of a connection is lost as well.
    newcomer.stream.shutdown(Shutdown::Write).unwrap();
    client.hears_nothing();
    newcomer.hears_nothing();
    assert_eq!(loss.lift().connections, 2);
    assert_eq!(
        (client.ending(), newcomer.ending()),
        (Ending::Reset, Ending::Reset)
    );
    idle.ask(ApiKey::Heartbeat);
    assert_eq!(
        stage.server.seen_of("p1"),
        [1, 1, 2, 2],
        "the last one is the idle connection's"
    );
    assert!(stage.server.seen_of("p2").is_empty());
}

#[test]
fn lost_answers_are_those_of_requests_that_came() {
    let stage = Stage::new();
    let mut client = stage.client("p1");
    client.ask(ApiKey::ApiVersions);
    let loss = stage.proxy.apply(Rule::new(Fault::LoseAnswers).of_client("p1"));
    client.send(ApiKey::Heartbeat, b"a");
    client.send(ApiKey::Heartbeat, b"b");
    wait_until("both came", || stage.server.seen_of("p1") == [1, 2, 3]);
    client.hears_nothing();
    assert_eq!(loss.lift().connections, 1);
    assert_eq!(client.ending(), Ending::Reset);
}

#[test]
fn the_answer_of_one_request_is_lost_with_the_connection() {
    let stage = Stage::new();
    let loss = stage.proxy.apply(Rule::new(Fault::LoseAnswerOf {
        api: ApiKey::EndTxn,
        times: 1,
    }));
    let mut client = stage.client("p1");
    for (api, body) in [
        (ApiKey::Heartbeat, b"a"),
        (ApiKey::EndTxn, b"b"),
        (ApiKey::Heartbeat, b"c"),
    ] {
        client.send(api, body);
    }
    assert_eq!(client.receive(), (1, b"a".to_vec()));
    assert_eq!(client.ending(), Ending::Reset);
    assert!(stage.server.seen_of("p1").starts_with(&[1, 2]), "it came");
    stage.client("p1").ask(ApiKey::EndTxn);
    assert_eq!(
        loss.lift(),
        Hits {
            connections: 1,
            pieces: 1
        }
    );
}

/// Known only after the request has passed: the rule is over before the answer comes.
#[test]
fn an_answer_is_not_lost_once_its_rule_is_lifted() {
    let stage = Stage::new();
    let mut client = stage.client("p1");
    let loss = stage.proxy.apply(Rule::new(Fault::LoseAnswerOf {
        api: ApiKey::EndTxn,
        times: 9,
    }));
    let server = stage.server.pause();
    client.send(ApiKey::EndTxn, b"a");
    wait_until("the server has it", || stage.server.seen_of("p1") == [1]);
    assert_eq!(loss.lift(), Hits::default());
    drop(server);
    assert_eq!(client.receive(), (1, b"a".to_vec()));
}

#[test]
fn a_request_is_held_for_a_time_with_all_behind_it() {
    let stage = Stage::new();
    let mut client = stage.client("p1");
    client.ask(ApiKey::ApiVersions);
    let how_long = 2 * SILENCE;
    let hold = stage.proxy.apply(Rule::new(Fault::HoldRequest {
        api: ApiKey::EndTxn,
        how_long,
    }));
    let began = Instant::now();
    client.send(ApiKey::Heartbeat, b"a");
    client.send(ApiKey::EndTxn, b"b");
    client.send(ApiKey::Heartbeat, b"c");
    assert_eq!(
        client.receive(),
        (2, b"a".to_vec()),
        "what stands before it passes"
    );
    client.hears_nothing();
    assert_eq!(stage.server.seen_of("p1"), [1, 2]);
    assert_eq!((client.receive().0, client.receive().0), (3, 4));
    assert!(began.elapsed() >= how_long);
    assert_eq!(hold.lift().pieces, 1);
    // Lifted, it lets go what it holds.
    let hold = stage.proxy.apply(Rule::new(Fault::HoldRequest {
        api: ApiKey::EndTxn,
        how_long: 2 * PATIENCE,
    }));
    client.send(ApiKey::EndTxn, b"");
    wait_until("it is held", || hold.hits().pieces == 1);
    drop(hold);
    assert_eq!(client.receive().0, 5);
}

#[test]
fn a_request_is_shown_before_it_goes_on() {
    let stage = Stage::new();
    let (mut client, mut other) = (stage.client("p1"), stage.client("p2"));
    let mut commits = stage
        .proxy
        .apply(Rule::new(Fault::OnRequest { api: ApiKey::EndTxn }).of_client("p1"));
    client.ask(ApiKey::Heartbeat);
    assert!(commits.next_request(SILENCE).is_none(), "there was none");
    client.send(ApiKey::EndTxn, b"a");
    let caught = commits.next_request(PATIENCE).unwrap();
    assert_eq!((caught.node, caught.client.as_str()), (1, "p1"));
    other.ask(ApiKey::EndTxn);
    client.hears_nothing();
    assert_eq!(stage.server.seen_of("p1"), [1]);
    drop(caught);
    assert_eq!(client.receive(), (2, b"a".to_vec()));
    // What begins while it is held is about it as well.
    client.send(ApiKey::EndTxn, b"lost");
    let caught = commits.next_request(PATIENCE).unwrap();
    let loss = stage.proxy.apply(Rule::new(Fault::LoseAnswerOf {
        api: ApiKey::EndTxn,
        times: 1,
    }));
    drop(caught);
    assert_eq!(client.ending(), Ending::Reset);
    assert_eq!(loss.lift().pieces, 1);
    let mut client = stage.client("p1");
    // Lifted, it lets go what it holds, whether it was shown or not.
    client.send(ApiKey::EndTxn, b"b");
    let caught = commits.next_request(PATIENCE).unwrap();
    let mut unseen = stage.client("p1");
    unseen.send(ApiKey::EndTxn, b"c");
    wait_until("it is held", || commits.hits().connections == 3);
    assert_eq!(commits.lift().pieces, 4);
    assert_eq!((client.receive().0, unseen.receive().0), (1, 1));
    drop(caught);
}

#[test]
fn of_several_faults_the_strictest_wins() {
    let stage = Stage::new();
    let mut client = stage.client("p1");
    client.ask(ApiKey::ApiVersions);
    let stall = stage.proxy.apply(Rule::new(Fault::Stall));
    let loss = stage.proxy.apply(Rule::new(Fault::LoseRequests).of_client("p1"));
    client.send(ApiKey::EndTxn, b"");
    wait_until("it stalls", || stall.hits().pieces == 1);
    assert_eq!(loss.hits(), Hits::default(), "what is held is not lost yet");
    let second = stage.proxy.apply(Rule::new(Fault::Stall).at_node(1));
    drop(stall);
    wait_until("it still stalls", || second.hits().pieces == 1);
    drop(loss);
    let catch = stage
        .proxy
        .apply(Rule::new(Fault::OnRequest { api: ApiKey::EndTxn }));
    drop(second);
    wait_until("it is caught", || catch.hits().pieces == 1);
    let third = stage.proxy.apply(Rule::new(Fault::Stall));
    drop(catch);
    wait_until("it stalls again", || third.hits().pieces == 1);
    let cut = stage.proxy.apply(Rule::new(Fault::Cut(Ending::Reset)));
    assert_eq!(client.ending(), Ending::Reset);
    drop((third, cut));
    assert_eq!(stage.server.seen_of("p1"), [1], "it was lost with the connection");
}
