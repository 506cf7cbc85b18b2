//! The command line, as the shell sees it.

use std::process::{Command, Output};

use frontstream::config::cli::Cli;
use frontstream::lifecycle::Exit;

/// Every command with its subcommands, as it is typed.
const COMMANDS: [&[&str]; 16] = [
    &["receiver"],
    &["processor"],
    &["dev"],
    &["send"],
    &["tail"],
    &["topics"],
    &["topics", "create"],
    &["topics", "check"],
    &["config"],
    &["config", "check"],
    &["config", "show"],
    &["secrets"],
    &["secrets", "check"],
    &["lag"],
    &["audit"],
    &[],
];

/// Runs the binary with nothing of the test's own environment.
fn frontstream(args: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_frontstream"))
        .args(args)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn the_arguments_hold_together() {
    use clap::CommandFactory;

    Cli::command().debug_assert();
}

#[test]
fn the_list_above_has_every_command() {
    use clap::CommandFactory;

    fn count(command: &clap::Command) -> usize {
        1 + command.get_subcommands().map(count).sum::<usize>()
    }
    assert_eq!(COMMANDS.len(), count(&Cli::command()));
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in COMMANDS {
        let args: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let output = frontstream(&args, &[]);
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        let help = stdout(&output);
        assert!(help.contains("Example"), "{command:?} has no example:\n{help}");
        let typed = format!("frontstream {}", command.join(" "));
        let example = help.split("Example").nth(1).unwrap_or_default();
        assert!(
            example.contains(typed.trim_end()),
            "{command:?}: the example is of another command"
        );
    }
}

#[test]
fn good_usage_is_understood() {
    use clap::Parser;
    use frontstream::config::From;
    use frontstream::config::cli::{Command, Scheme, TailTopic};

    let parse =
        |line: &str| Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{error}"));
    let cli = parse("frontstream lag --max 5 --json --config a.toml --set a=1 --set b=2 --brokers k:1");
    assert!(cli.global.json && cli.global.set == ["a=1", "b=2"]);
    assert_eq!(cli.global.brokers.as_deref(), Some("k:1"));
    assert!(matches!(cli.command, Command::Lag(lag) if lag.max == Some(5)));

    let Command::Send(send) = parse("frontstream send a.json folder --scheme rule --secret old -v").command
    else {
        panic!("not send");
    };
    assert_eq!(
        (send.paths.len(), send.scheme, send.verbose),
        (2, Scheme::Rule, true)
    );
    let Command::Dev(dev) = parse("frontstream dev --duration 20s --rate 0.5 --seed 7").command else {
        panic!("not dev");
    };
    assert_eq!(dev.duration, Some(std::time::Duration::from_secs(20)));
    assert_eq!((dev.rate, dev.traffic.seed), (0.5, Some(7)));

    let tail = |rest: &str| {
        let Command::Tail(tail) = parse(&format!("frontstream tail {rest}")).command else {
            panic!("not tail");
        };
        tail
    };
    let plain = tail("dead-letters");
    assert_eq!(
        (plain.topic, plain.from, plain.follows()),
        (TailTopic::DeadLetters, From::End, true)
    );
    assert!(!tail("events --no-follow").follows());
    assert!(tail("events --no-follow --follow").follows(), "the last one wins");
    assert_eq!(tail("events --partition 3 --partition 5").partition, [3, 5]);
    let ago = std::time::Duration::from_secs(600);
    assert_eq!(tail("refresh --from 10m").from, From::Ago(ago));
}

#[test]
fn the_root_help_documents_the_exit_codes() {
    let output = frontstream(&["--help"], &[]);
    let codes = Exit::ALL.map(Exit::code);
    for code in codes.into_iter().chain([130]) {
        assert!(stdout(&output).contains(&format!("  {code}  ")), "{code}");
    }
}

#[test]
fn bad_usage_exits_with_2_and_says_why_on_stderr() {
    let cases: [(&[&str], &str); 14] = [
        (&[], "Usage"),
        (&["recieve"], "receiver"),
        (&["receiver", "--colour"], "--colour"),
        (&["tail"], "TOPIC"),
        (&["tail", "events", "--from", "yesterday"], "no place in a topic"),
        (&["dev", "--duration", "20"], "not a duration"),
        (&["dev", "--rate=-1"], "zero or above"),
        (
            &["dev", "--open-broker", "9092", "--brokers", "k:1"],
            "cannot be used with",
        ),
        (
            &["dev", "--open-broker", "9092", "--set", "kafka.brokers=k:1"],
            "kafka.brokers (--set) names a real Kafka",
        ),
        (&["send", "--rate", "0"], "above zero"),
        (&["send", "a.json", "--rate", "5"], "cannot be used with"),
        (&["audit", "--partition", "-1"], "-1"),
        (&["config", "check", "--role", "dev"], "receiver"),
        (&["config", "check", "--set", "receiver.linger"], "has no value"),
    ];
    for (args, word) in cases {
        let output = frontstream(args, &[]);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(word), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn every_role_and_command_checks_the_settings_first() {
    let commands: [&[&str]; 9] = [
        &["receiver"],
        &["processor"],
        &["dev"],
        &["send"],
        &["tail", "refresh"],
        &["topics", "create"],
        &["topics", "check"],
        &["lag"],
        &["audit"],
    ];
    for command in commands {
        let args: Vec<&str> = command
            .iter()
            .copied()
            .chain(["--set", "processor.workers=0", "--set", "colour=blue"])
            .collect();
        let output = frontstream(&args, &[]);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        let report = stderr(&output);
        assert!(
            report.contains("mistakes in the settings"),
            "{command:?}: {report}"
        );
        assert!(
            report.contains("processor.workers (--set)"),
            "{command:?}: {report}"
        );
        assert!(report.contains("colour (--set)"), "{command:?}: {report}");
    }
}

#[test]
fn config_check_tells_scripts_and_people() {
    let good = frontstream(&["config", "check", "--role", "processor"], &[]);
    assert_eq!(good.status.code(), Some(0));
    assert_eq!(stdout(&good), "the settings are good\n");

    let args = ["config", "check", "--role", "receiver", "--json"];
    let bad = frontstream(&args, &[]);
    assert_eq!(bad.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["mistakes"][0]["key"], "receiver.application.secrets");

    let secret = [
        (
            "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS",
            "current=env:FRONT_APP_SECRET",
        ),
        ("FRONT_APP_SECRET", "4f1d0c9be27a4e5b"),
    ];
    let good = frontstream(&args, &secret);
    assert_eq!(good.status.code(), Some(0));
    assert_eq!(stdout(&good), "{\"mistakes\":[],\"ok\":true}\n");
}

#[test]
fn config_show_tells_origins_and_no_secret() {
    let environment = [
        (
            "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS",
            "current=env:FRONT_APP_SECRET",
        ),
        ("FRONT_APP_SECRET", "4f1d0c9be27a4e5b"),
        ("FRONTSTREAM_KAFKA_PROPERTIES_SASL_PASSWORD", "hunter2"),
    ];
    let args = ["config", "show", "--brokers", "kafka-1:9092"];
    let output = frontstream(&args, &environment);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let shown = stdout(&output);
    let line = |key: &str| {
        let line = shown
            .lines()
            .find(|line| line.starts_with(&format!("{key} ")))
            .unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        line("kafka.brokers"),
        "kafka.brokers = \"kafka-1:9092\" # --brokers"
    );
    assert_eq!(line("receiver.linger"), "receiver.linger = \"0ms\" # default");
    assert_eq!(
        line("receiver.application.secrets"),
        "receiver.application.secrets = [current=*** (env FRONT_APP_SECRET)] \
         # env FRONTSTREAM_RECEIVER_APPLICATION_SECRETS"
    );
    assert_eq!(
        line("kafka.properties.sasl.password"),
        "kafka.properties.sasl.password = *** # env FRONTSTREAM_KAFKA_PROPERTIES_SASL_PASSWORD"
    );
    let json = frontstream(&["config", "show", "--json", "--role", "receiver"], &environment);
    let read: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let keys: Vec<&str> = read["settings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|setting| setting["key"].as_str().unwrap())
        .collect();
    assert!(keys.contains(&"receiver.listen") && !keys.iter().any(|key| key.starts_with("processor.")));
    for output in [&output, &json] {
        for secret in ["4f1d0c9be27a4e5b", "hunter2"] {
            assert!(!stdout(output).contains(secret) && !stderr(output).contains(secret));
        }
    }
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let mut show = Command::new(env!("CARGO_BIN_EXE_frontstream"))
        .args(["config", "show"])
        .env_clear()
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(show.stdout.take());
    let output = show.wait_with_output().unwrap();
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(0));
}

/// The vectors of Front's two kinds of webhooks, against named secrets.
#[test]
fn secrets_check_says_which_secret_signed() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../data/front/signatures.json")).unwrap();
    let mut checked = 0;
    for vector in vectors["vectors"].as_array().unwrap() {
        let scheme = vector["scheme"].as_str().unwrap();
        if vector["expect"] != "accept" || !["application", "rule"].contains(&scheme) {
            continue;
        }
        let lists = [
            "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS",
            "FRONTSTREAM_RECEIVER_RULE_SECRETS",
        ];
        let list = lists[usize::from(scheme == "rule")];
        let file = format!("tests/data/front/{}", vector["body_file"].as_str().unwrap());
        let headers: Vec<String> = vector["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.as_str().unwrap()))
            .collect();
        let mut args = vec!["secrets", "check", "--json", &file];
        for header in &headers {
            args.extend(["--header", header]);
        }
        let key = vector["key"].as_str().unwrap();
        let right = [
            (list, "old=env:OLD,new=env:NEW"),
            ("OLD", "another"),
            ("NEW", key),
        ];
        let output = frontstream(&args, &right);
        assert_eq!(output.status.code(), Some(0), "{vector}: {}", stderr(&output));
        let said: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
        assert_eq!(
            (&said["scheme"], &said["secret"]),
            (&scheme.into(), &"new".into()),
            "{vector}"
        );

        let wrong = [(list, "old=env:OLD"), ("OLD", "another")];
        let output = frontstream(&args, &wrong);
        assert_eq!(output.status.code(), Some(1), "{vector}");
        let said: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
        assert_eq!(
            (&said["verified"], &said["reason"]),
            (&false.into(), &"wrong_signature".into())
        );
        checked += 1;
    }
    assert!(checked > 4, "only {checked} vectors");
}

#[test]
fn secrets_check_says_what_is_missing() {
    let body = "tests/data/front/application/tag_added.json";
    let secrets = [
        (
            "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS",
            "a=env:APP,b=env:OTHER",
        ),
        ("APP", "one"),
        ("OTHER", "two"),
    ];
    let digest = "X-Front-Signature: 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let timestamp = "X-Front-Request-Timestamp: 1795001300500";
    #[rustfmt::skip]
    let cases: [(&[&str], i32, &str); 5] = [
        (&[body], 1, "give the signature"),
        (&[body, "-H", digest], 1, "no secret is configured; application webhooks also have X-Front-Request-Timestamp"),
        (&[body, "-H", digest, "-H", timestamp], 1, "no secret of receiver.application makes this signature (tried: a, b)"),
        (&["no/such/file", "-H", digest], 2, "no/such/file cannot be read"),
        (&[body, "-H", "abc"], 2, "--header \"abc\" is no header"),
    ];
    for (args, code, words) in cases {
        let args = [&["secrets", "check"], args].concat();
        let output = frontstream(&args, &secrets);
        let said = format!("{}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}
