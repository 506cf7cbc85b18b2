//! `dev` by itself, on the broker in its process: everything that it prints to be copied works.

use std::io::{BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio};

use serde_json::Value;

use crate::support::process::{free_address, http, wait_until};
use crate::support::{curl, frontstream};

#[test]
fn every_line_of_the_first_screen_works() {
    let port = free_address().port().to_string();
    let mut run = Run::start(&["--rate", "0", "--open-broker", &port]);
    let screen = run.read_until("--count 3");
    assert!(
        screen.starts_with("frontstream dev: receiver, processor and a Kafka broker in this one process.")
    );
    assert_eq!(place(&screen, "broker"), format!("127.0.0.1:{port}"));
    assert_eq!(place(&screen, "traffic"), "none but your own, until Ctrl-C");

    // The signed line, once as a shell runs it, and once by hand: the same event again.
    let by_hand = line_with(&screen, "curl -i ");
    let answer = curl::run(by_hand).unwrap_or_else(|| curl::replay(by_hand));
    assert!(
        answer.contains(" 200 ") && answer.contains("accepted"),
        "{answer}"
    );
    let again = curl::replay(by_hand);
    assert!(again.contains(" 200 ") && again.contains("duplicate"), "{again}");
    let refresh = run.read_until("cnv_yours");
    assert!(refresh.contains("(yours)"), "{refresh}");

    // A new line of the same kind is a new event.
    let renewed = shell(line_with(&screen, "--show-curl"));
    let answer = curl::replay(text(&renewed).trim_end());
    assert!(
        answer.contains(" 200 ") && answer.contains("accepted"),
        "{answer}"
    );
    run.read_until("cnv_yours");

    let sent = shell(line_with(&screen, "--count 3"));
    assert!(text(&sent).contains("200 accepted: 3"), "{sent:?}");
    run.read_until("(yours)");

    // The broker is there for others to look in.
    let tail = shell(&format!("{} --no-follow", line_with(&screen, "tail refresh")));
    assert!(text(&tail).contains("cnv_yours of cmp_yours"), "{tail:?}");
    assert!(screen.contains(&format!(
        "\nkcat -C -b 127.0.0.1:{port} -t front.refresh -o beginning"
    )));
    let admin = place(&screen, "admin");
    let admin = admin.trim_start_matches("http://").trim_end_matches('/');
    let request = "GET /readyz HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n";
    let ready = http(admin.parse().unwrap(), request).unwrap();
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");

    run.interrupt();
    let (rest, status) = run.end();
    assert_eq!(status.code(), Some(0), "{rest}");
    assert!(rest.contains("\nyours     5 accepted\n"), "{rest}");
    assert!(
        rest.contains("\naudit     exact: 5 of 5 events counted in "),
        "{rest}"
    );
    assert!(
        TcpStream::connect(format!("127.0.0.1:{port}")).is_err(),
        "the broker is gone"
    );
}

#[test]
fn two_runs_at_once_take_what_ports_are_free_and_may_be_ended_before_they_are_ready() {
    let mut runs: Vec<Run> = (0..2).map(|_| Run::start(&["--rate", "0"])).collect();
    let screens: Vec<String> = runs.iter_mut().map(|run| run.read_until("--count 3")).collect();
    for what in ["receiver", "admin", "broker"] {
        assert_ne!(place(&screens[0], what), place(&screens[1], what), "{what}");
    }
    for run in runs {
        run.interrupt();
        let (rest, status) = run.end();
        assert_eq!(status.code(), Some(0), "{rest}");
        assert!(rest.contains("\nyours     0 accepted\n"), "{rest}");
    }
}

#[test]
fn a_port_that_is_taken_is_said_with_the_flag_that_chooses_another() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = taken.local_addr().unwrap().port().to_string();
    let cases: [(&[&str], &str); 3] = [
        (&["--open-broker", &port], "--open-broker PORT"),
        (
            &["--set", &format!("receiver.listen={address}")],
            "--set receiver.listen=127.0.0.1:PORT",
        ),
        (
            &["--set", &format!("admin.listen={address}")],
            "--set admin.listen=127.0.0.1:PORT",
        ),
    ];
    for (arguments, flag) in cases {
        let output = frontstream(&[&["dev"], arguments].concat()).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(&address) && error.contains(flag), "{error}");
        assert_eq!(output.stdout, b"", "{arguments:?}");
    }
}

#[test]
fn json_is_a_line_for_each_refresh_and_a_summary() {
    let output = frontstream(&["dev", "--json", "--duration", "2s", "--rate", "60"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines: Vec<Value> = text(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (summary, refreshes) = lines.split_last().unwrap();
    assert!(
        refreshes.iter().all(|line| line["sample"] == true),
        "{refreshes:?}"
    );
    let summary = &summary["summary"];
    assert_eq!(
        (&summary["ok"], &summary["yours"]),
        (&true.into(), &0.into()),
        "{summary}"
    );
    assert_eq!(summary["refreshes"], refreshes.len());
    assert_eq!(summary["audit"]["totals"]["counted"], summary["accepted"]);
}

#[test]
fn what_is_for_a_real_kafka_is_left_out_and_said() {
    let set = [
        "topics.prefix=mine.",
        "topics.replication=3",
        "kafka.properties.socket.timeout.ms=30000",
    ];
    let set = set.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> = ["dev", "--duration", "500ms"].into_iter().chain(set).collect();
    let output = frontstream(&arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{error}");
    assert!(error.contains("kafka.properties are for a real Kafka"), "{error}");
    assert_eq!(place(text(&output), "prefix"), "mine.");
}

#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    // Windows that stay open for a minute: the first Ctrl-C would wait for them.
    let lanes = ["gap", "cap"].map(|limit| format!("processor.lanes.high.{limit}=60s"));
    let mut run = Run::start(&[
        "--rate",
        "0",
        "--set",
        "log.filter=info",
        "--set",
        &lanes[0],
        "--set",
        &lanes[1],
    ]);
    let screen = run.read_until("--count 3");
    let answer = curl::replay(line_with(&screen, "curl -i "));
    assert!(answer.contains("accepted"), "{answer}");
    run.interrupt();
    run.read_log_until("stopping cleanly");
    run.interrupt();
    let (rest, status) = run.end();
    assert_eq!(status.code(), Some(130), "{rest}");
    assert!(!rest.contains("audit"), "{rest}");
}

/// A run in the making. Dropped, it is killed.
struct Run {
    child: Child,
    out: BufReader<ChildStdout>,
    log: BufReader<ChildStderr>,
}

impl Run {
    fn start(arguments: &[&str]) -> Self {
        let mut child = frontstream(&[&["dev"], arguments].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            out: BufReader::new(child.stdout.take().unwrap()),
            log: BufReader::new(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Reads on up to the line that has `word`, and returns what was read.
    fn read_until(&mut self, word: &str) -> String {
        read_until(&mut self.out, word)
    }

    fn read_log_until(&mut self, word: &str) -> String {
        read_until(&mut self.log, word)
    }

    fn interrupt(&self) {
        let killed = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status();
        assert!(killed.unwrap().success());
    }

    /// Reads to the end, and returns how it ended.
    fn end(mut self) -> (String, ExitStatus) {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        self.log.read_to_string(&mut rest).unwrap();
        let mut ended = None;
        wait_until("dev has ended", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        (rest, ended.unwrap())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_until(from: &mut impl std::io::BufRead, word: &str) -> String {
    let mut read = String::new();
    loop {
        let begun = read.len();
        let bytes = from.read_line(&mut read).unwrap();
        assert!(bytes > 0, "no line with {word:?}: {read}");
        if read[begun..].contains(word) {
            return read;
        }
    }
}

/// Returns what stands beside a word of the first screen.
fn place(screen: &str, what: &str) -> String {
    let line = screen
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(what));
    let place = line.unwrap_or_else(|| panic!("no {what}: {screen}")).trim();
    place.split(", a free port").next().unwrap().to_owned()
}

/// Returns the line of the first screen that is to be copied and has `word`.
fn line_with<'s>(screen: &'s str, word: &str) -> &'s str {
    screen
        .lines()
        .find(|line| line.contains(word))
        .unwrap_or_else(|| panic!("no line with {word:?}: {screen}"))
}

/// Runs a line as it was copied.
fn shell(line: &str) -> Output {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    output
}

fn text(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}
