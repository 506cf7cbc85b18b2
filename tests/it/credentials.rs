//! Brokers that refuse a client's credentials, as far as a client gets with them.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use frontstream::lifecycle::Exit;

use crate::support::process::{Env, Process, wait_until};

const API_VERSIONS: i16 = 18;
const SASL_HANDSHAKE: i16 = 17;
const SASL_AUTHENTICATE: i16 = 36;
const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
const UNSUPPORTED_VERSION: i16 = 35;
const SASL_AUTHENTICATION_FAILED: i16 = 58;

/// Starts a broker that takes a password so, and none is right; it lives as long as the tests do.
///
/// Source: Kafka's protocol guide, the requests named above in their version 0.
fn start_broker(mechanism: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            // A client that hangs up ends its connection, which is what it is refused for.
            std::thread::spawn(move || serve(stream, mechanism));
        }
    });
    address
}

fn serve(mut stream: TcpStream, mechanism: &str) -> io::Result<()> {
    loop {
        let mut size = [0; 4];
        stream.read_exact(&mut size)?;
        let mut request = vec![0; u32::from_be_bytes(size) as usize];
        stream.read_exact(&mut request)?;
        let api = i16::from_be_bytes([request[0], request[1]]);
        let version = i16::from_be_bytes([request[2], request[3]]);
        let mut body = Vec::new();
        match api {
            API_VERSIONS => {
                let error = if version > 0 { UNSUPPORTED_VERSION } else { 0 };
                body.extend(error.to_be_bytes());
                let known = [
                    (3, 4),
                    (SASL_HANDSHAKE, 1),
                    (API_VERSIONS, 0),
                    (SASL_AUTHENTICATE, 0),
                ];
                body.extend(4_i32.to_be_bytes());
                for (api, max) in known {
                    body.extend([api, 0, max].map(i16::to_be_bytes).concat());
                }
            }
            SASL_HANDSHAKE => {
                let is_known = request.ends_with(mechanism.as_bytes());
                let error = if is_known { 0 } else { UNSUPPORTED_SASL_MECHANISM };
                body.extend(error.to_be_bytes());
                body.extend(1_i32.to_be_bytes());
                body.extend(i16::try_from(mechanism.len()).unwrap().to_be_bytes());
                body.extend(mechanism.as_bytes());
            }
            SASL_AUTHENTICATE => {
                let words = b"Authentication failed: Invalid username or password";
                body.extend(SASL_AUTHENTICATION_FAILED.to_be_bytes());
                body.extend(i16::try_from(words.len()).unwrap().to_be_bytes());
                body.extend(words);
                body.extend(0_i32.to_be_bytes());
            }
            other => panic!("asked for {other} before it was let in"),
        }
        stream.write_all(&u32::try_from(body.len() + 4).unwrap().to_be_bytes())?;
        stream.write_all(&request[4..8])?;
        stream.write_all(&body)?;
    }
}

fn processor(brokers: SocketAddr) -> Process {
    let properties = [
        ("FRONTSTREAM_KAFKA_PROPERTIES_SECURITY_PROTOCOL", "sasl_plaintext"),
        ("FRONTSTREAM_KAFKA_PROPERTIES_SASL_MECHANISM", "PLAIN"),
        ("FRONTSTREAM_KAFKA_PROPERTIES_SASL_USERNAME", "front"),
        ("FRONTSTREAM_KAFKA_PROPERTIES_SASL_PASSWORD", "tr0ub4dor-and-3"),
    ];
    let mut env: Env = vec![("FRONTSTREAM_KAFKA_BROKERS", brokers.to_string())];
    env.extend(properties.map(|(name, value)| (name, value.to_owned())));
    Process::start(&["processor"], &env)
}

#[test]
fn refused_credentials_end_a_start() {
    let cases = [
        ("PLAIN", "Invalid username or password"),
        ("SCRAM-SHA-512", "Unsupported SASL mechanism"),
    ];
    for (mechanism, words) in cases {
        let mut process = processor(start_broker(mechanism));
        let ended = process.wait_end();
        let log = process.log();
        assert_eq!(ended.code(), Some(i32::from(Exit::Fatal.code())), "{log}");
        assert!(log.contains(words), "{log}");
        assert!(log.contains("mend its credentials (kafka.properties)"), "{log}");
        assert!(!log.contains("tr0ub4dor"), "{log}");
    }
}

/// Whoever hangs up may be a broker that starts, or one that wants another `security.protocol`: it does not say.
#[test]
fn brokers_that_do_not_answer_are_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut process = processor(listener.local_addr().unwrap());
    let calls = Arc::new(AtomicU32::new(0));
    let called = Arc::clone(&calls);
    std::thread::spawn(move || {
        while listener.accept().is_ok() {
            called.fetch_add(1, Ordering::Relaxed);
        }
    });
    wait_until("it says so", || process.log().contains("; tries again"));
    let before = calls.load(Ordering::Relaxed);
    wait_until("it goes on trying", || calls.load(Ordering::Relaxed) > before + 5);
    assert!(process.is_running(), "{}", process.log());
    let log = process.log();
    assert!(log.contains("no answer from the brokers at"), "{log}");
}
