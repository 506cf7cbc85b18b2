//! Secrets that change while a receiver runs.

use std::fs;

use super::{PARTITIONS, processor_env};
use crate::support::kafka;
use crate::support::process::{Process, free_address, run, wait_until};

const BODY: &str = "tests/data/front/application/tag_added.json";

#[test]
fn other_secrets_are_taken_without_a_restart_and_broken_ones_are_not() {
    let cluster = kafka();
    let topics = cluster.topics("secrets", PARTITIONS);
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let write = |name: &str, text: &str| fs::write(file(name), text).expect("a file");
    write("current", "the first");
    let mut env = processor_env(cluster, &topics, "classic");
    env.push(("FRONTSTREAM_RECEIVER_LISTEN", free_address().to_string()));
    // Whoever sends has secrets of its own.
    let senders = env.clone();
    env.push((
        "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS",
        format!("current=file:{}", file("current")),
    ));
    let mut receiver = Process::ready(&["receiver"], &env);
    let is_taken = |text: &str| {
        write("signer", text);
        let secret = format!("file:{}", file("signer"));
        run(&["send", "--secret", &secret, BODY], &senders)
            .status
            .success()
    };
    let said = |receiver: &Process, words: &str| receiver.log().matches(words).count();
    assert!(is_taken("the first"));

    write("current", "the second");
    receiver.signal("HUP");
    wait_until("it is asked to read again", || {
        said(&receiver, "others are in force") == 1
    });
    assert!(is_taken("the second"));
    assert!(!is_taken("the first"));

    write("current", "");
    receiver.signal("HUP");
    wait_until("it says that it cannot", || {
        said(&receiver, "the secrets stay as they were") == 1
    });
    assert!(receiver.log().contains("is empty"), "{}", receiver.log());
    assert!(receiver.is_running());
    assert!(is_taken("the second"));

    // Nobody says so: it looks by itself.
    write("current", "the third");
    wait_until("it has seen it twice", || {
        said(&receiver, "others are in force") == 2
    });
    assert!(is_taken("the third"));
    assert!(!is_taken("the second"));
    let log = receiver.log();
    for secret in ["the first", "the second", "the third"] {
        assert!(!log.contains(secret), "{log}");
    }
    assert!(receiver.stop().success());
}
