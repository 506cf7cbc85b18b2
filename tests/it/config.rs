//! Settings: where they come from, what is refused, and the example file.

use std::path::Path;
use std::time::Duration;

use frontstream::config::{
    Environment, GroupProtocol, PayloadKept, Purpose, Report, Settings, Sources, described, load, read,
    sections, variable,
};

/// What an operator gave: the text of the file, variables, and flags.
#[derive(Clone, Copy, Default)]
struct Given<'a> {
    file: Option<&'a str>,
    environment: &'a [(&'a str, &'a str)],
    set: &'a [&'a str],
    brokers: Option<&'a str>,
}

impl Given<'_> {
    /// Hands the sources to `then`; the file is called `frontstream.toml` in `folder`.
    fn sources(&self, folder: &Path) -> Sources {
        let file = self.file.map(|text| {
            let path = folder.join("frontstream.toml");
            std::fs::write(&path, text).unwrap();
            path
        });
        Sources {
            file,
            environment: Environment::of(self.environment.iter().copied()),
            set: self.set.iter().map(|&text| text.to_owned()).collect(),
            brokers: self.brokers.map(str::to_owned),
        }
    }

    fn load(&self, purpose: Purpose) -> Result<Settings, Report> {
        let folder = tempfile::tempdir().unwrap();
        load(&self.sources(folder.path()), purpose)
    }

    fn settings(&self) -> Settings {
        self.load(Purpose::Tool)
            .unwrap_or_else(|report| panic!("{report}"))
    }

    /// Returns the report without the temporary folder; empty when all is good.
    fn report(&self, purpose: Purpose) -> String {
        let folder = tempfile::tempdir().unwrap();
        let report = load(&self.sources(folder.path()), purpose).err();
        let shown = report.map(|report| report.to_string()).unwrap_or_default();
        shown.replace(&format!("{}/", folder.path().display()), "")
    }
}

fn in_file(text: &str) -> Given<'_> {
    Given {
        file: Some(text),
        ..Given::default()
    }
}

#[test]
fn five_mistakes_five_messages() {
    let given = Given {
        file: Some(
            "[receiver]\n\
             body_bytes_max = \"1MB\"\n\
             lisen = \"0.0.0.0:8080\"\n\
             \n\
             [processor]\n\
             workers = \"four\"\n\
             lanes.high.gap = \"900ms\"\n",
        ),
        environment: &[("FRONTSTREAM_PROCESOR_GROUP", "billing")],
        ..Given::default()
    };
    assert_eq!(
        given.report(Purpose::Tool),
        "\
5 mistakes in the settings
  1. receiver.body_bytes_max (frontstream.toml:2): is \"1MB\", which is not a size
     write a whole number of bytes, or one with KiB, MiB or GiB, such as \"64KiB\" or 65536
  2. receiver.lisen (frontstream.toml:3): is no setting of frontstream
     did you mean receiver.listen?
  3. processor.workers (frontstream.toml:6): must be a whole number, not the text \"four\"
     write a whole number from 1 to 256
  4. processor.lanes.high.gap (frontstream.toml:7): is 900ms, above processor.lanes.high.cap, which is 800ms (default)
     lower the one or raise the other: a window that ends at its cap never waits for its gap
  5. FRONTSTREAM_PROCESOR_GROUP (env FRONTSTREAM_PROCESOR_GROUP): is no setting of frontstream
     did you mean FRONTSTREAM_PROCESSOR_GROUP?"
    );
}

#[test]
fn later_sources_win() {
    let mut given = Given::default();
    assert_eq!(given.settings().kafka.brokers, "127.0.0.1:9092");
    given.file = Some("kafka.brokers = \"file:1\"\n[receiver]\nlinger = \"1ms\"\n");
    assert_eq!(given.settings().kafka.brokers, "file:1");
    given.environment = &[
        ("FRONTSTREAM_KAFKA_BROKERS", "env:2"),
        ("FRONTSTREAM_RECEIVER_LINGER", "2ms"),
    ];
    assert_eq!(given.settings().kafka.brokers, "env:2");
    given.set = &[
        "kafka.brokers=set:3",
        "receiver.linger=3ms",
        "receiver.linger=4ms",
    ];
    assert_eq!(given.settings().kafka.brokers, "set:3");
    assert_eq!(
        given.settings().receiver.linger,
        Duration::from_millis(4),
        "the last flag wins"
    );
    given.brokers = Some("flag:4");
    assert_eq!(given.settings().kafka.brokers, "flag:4");
}

#[test]
fn the_environment_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut sources = in_file("processor.group = \"named\"").sources(folder.path());
    let path = sources.file.take().unwrap();
    sources.environment = Environment::of([("FRONTSTREAM_CONFIG", path.as_os_str())]);
    assert_eq!(load(&sources, Purpose::Tool).unwrap().processor.group, "named");
    sources.environment = Environment::of([("FRONTSTREAM_CONFIG", folder.path().join("gone").as_os_str())]);
    let report = load(&sources, Purpose::Tool).unwrap_err().to_string();
    assert!(report.contains("cannot be read: No such file"), "{report}");
}

/// One mistake in the file, and what the report must say of it.
const IN_THE_FILE: &[(&str, &str)] = &[
    (
        "receiver = 1",
        "receiver (frontstream.toml:1): is a section, not a setting\n",
    ),
    ("[reciever]\nlisten = \"x\"", "did you mean receiver.listen?"),
    ("[metrics]", "metrics (frontstream.toml:1): is no setting"),
    ("a.b.c = 1", "a.b.c (frontstream.toml:1): is no setting"),
    ("receiver.linger = 1", "is 1, a number without a unit"),
    (
        "receiver.linger = 1.5",
        "must be text, not a number with a fraction",
    ),
    (
        "receiver.linger = \"6ms\"",
        "is 6ms, out of range\n     choose from 0ms to 5ms",
    ),
    (
        "receiver.listen = \"localhost:8080\"",
        "is not an IP address with a port",
    ),
    ("receiver.listen = 8080", "must be text, not a whole number"),
    ("receiver.payload = \"none\"", "choose full or ids-only"),
    ("receiver.body_bytes_max = -1", "is -1, which is not a size"),
    (
        "receiver.body_bytes_max = \"128MiB\"",
        "choose from 1KiB to 64MiB",
    ),
    ("receiver.default_tenant = \"\"", "is empty"),
    ("processor.workers = true", "must be a whole number, not true"),
    (
        "processor.workers = 99999999999999999999",
        "a number beyond 64 bits",
    ),
    ("processor.group = [\"a\"]", "must be text, not a list"),
    ("processor.instance_id = \"a b\"", "is not a plain word"),
    ("log.filter = \"inof\"", "has \"inof\", which is not a level"),
    (
        "kafka.brokers = \"kafka\"",
        "has \"kafka\", which is not host:port",
    ),
    ("kafka.brokers = \"a:1,,b:2\"", "has \"\", which is not host:port"),
    ("topics.prefix = \"a/\"", "cannot begin a topic's name"),
    ("registry.url = \"registry:8081\"", "is not an address of the web"),
    ("registry.url = \"http://:pw@host\"", "holds credentials"),
    ("kafka.properties = \"a\"", "must be a table, not text"),
    (
        "kafka.properties.acks = 1",
        "kafka.properties.acks (frontstream.toml:1): is not passed through",
    ),
    (
        "kafka.properties.\"group.id\" = \"x\"",
        "set processor.group instead",
    ),
    (
        "[kafka.properties]\nsecurity.protocl = \"SSL\"",
        "did you mean kafka.properties.security.protocol?",
    ),
    (
        "[kafka.properties]\nsecurity.protocol = \"tls\"",
        "a value that librdkafka does not take",
    ),
    (
        "[kafka.properties]\nsasl.password = { env = \"A\", file = \"b\" }",
        "and nothing else",
    ),
    (
        "kafka.properties.debug = [\"a\"]",
        "must be text, a whole number, true or false, not a list",
    ),
    (
        "[kafka.properties]\nsecurity.protocol = \"SASL_PLAINTEXT\"\nsasl.mechanism = \"PLAIN\"",
        "kafka.properties (frontstream.toml:3): make no client: ",
    ),
    (
        "receiver.linger = \"1ms\"\nreceiver.linger = \"2ms\"",
        "syntax (frontstream.toml:2): duplicate key",
    ),
    ("receiver.linger = 1ms", "syntax (frontstream.toml:1)"),
    // Rules between settings.
    (
        "processor.lanes.low.cap = \"1s\"",
        "processor.lanes.low.gap (default): is 2s, above processor.lanes.low.cap",
    ),
    (
        "processor.transaction_timeout = \"20s\"",
        "is 20s, as long as processor.session_timeout",
    ),
    (
        "processor.session_timeout = \"5s\"",
        "is 10s, above processor.session_timeout, which is 5s (frontstream.toml:1)",
    ),
    (
        "processor.drain_timeout = \"5s\"",
        "above processor.drain_timeout",
    ),
    (
        "processor.position_commit_interval = \"20ms\"",
        "above processor.position_commit_interval",
    ),
    (
        "topics.events_retention = \"5m\"",
        "above topics.events_retention",
    ),
    (
        "topics.events_partitions = 6",
        "topics.refresh_partitions (default): is 12, but topics.events_partitions is 6",
    ),
    (
        "topics.replication = 2\ntopics.min_insync_replicas = 3",
        "is 3, above topics.replication, which is 2",
    ),
    (
        "receiver.bytes_in_flight_max = \"512KiB\"",
        "receiver.body_bytes_max (default): is above",
    ),
];

#[test]
fn each_mistake_of_the_file_is_one_message() {
    for (text, expected) in IN_THE_FILE {
        let report = in_file(text).report(Purpose::Tool);
        assert!(report.contains(expected), "{text}\n{report}");
        assert!(
            report.starts_with("1 mistake in the settings\n"),
            "{text}\n{report}"
        );
    }
}

/// At its very bound a value is still good.
const GOOD_AT_THE_EDGE: &[&str] = &[
    "processor.lanes.high.gap = \"800ms\"",
    "processor.lanes.low.cap = \"2s\"",
    "processor.transaction_timeout = \"19999ms\"",
    "processor.drain_timeout = \"10s\"",
    "processor.position_commit_interval = \"50ms\"",
    "topics.events_retention = \"10m\"",
    "topics.replication = 3\ntopics.min_insync_replicas = 3",
    "topics.events_partitions = 1\ntopics.refresh_partitions = 1",
    "receiver.bytes_in_flight_max = \"1MiB\"",
    "receiver.linger = \"5ms\"",
    "receiver.body_bytes_max = 1024",
    "receiver.body_bytes_max = \"64MiB\"",
    "processor.workers = 256",
    "processor.metadata_bytes_max = 32767",
    "receiver.application.secrets = []",
    "kafka.properties = {}",
    "registry.url = \"https://registry.example.com/path\"",
    "kafka.brokers = \"kafka-1:9092, kafka-2:9092,[::1]:9092\"",
    "[receiver]\n[processor.lanes]\n[kafka.properties]",
    "",
];

#[test]
fn a_value_at_its_bound_is_good() {
    for text in GOOD_AT_THE_EDGE {
        assert_eq!(in_file(text).report(Purpose::Check), "", "{text}");
    }
}

#[test]
fn a_broken_line_does_not_hide_the_other_mistakes() {
    let report = in_file("receiver.linger = 1ms\nprocessor.workers = 0\ncolour = 1\n").report(Purpose::Tool);
    for part in [
        "frontstream.toml:1",
        "processor.workers (frontstream.toml:2)",
        "colour (frontstream.toml:3)",
    ] {
        assert!(report.contains(part), "{report}");
    }
}

#[test]
fn a_wrong_value_is_reported_even_where_it_is_overridden() {
    let given = Given {
        file: Some("processor.workers = 0"),
        set: &["processor.workers=2"],
        ..Given::default()
    };
    assert!(
        given
            .report(Purpose::Tool)
            .contains("processor.workers (frontstream.toml:1): is 0, out of range")
    );
}

#[test]
fn two_listeners_need_two_ports() {
    let cases: &[(&str, bool)] = &[
        ("127.0.0.1:8080", true),
        ("0.0.0.0:8080", true),
        ("127.0.0.2:8080", false),
        ("127.0.0.1:8081", false),
    ];
    for (listen, taken) in cases {
        let set = format!("admin.listen={listen}");
        let given = Given {
            set: &[&set],
            ..Given::default()
        };
        assert_eq!(
            given.report(Purpose::Dev).contains("the port of receiver.listen"),
            *taken,
            "{listen}"
        );
        assert_eq!(
            given.report(Purpose::Processor),
            "",
            "a processor has one listener"
        );
    }
    let free = ["admin.listen=127.0.0.1:0", "receiver.listen=127.0.0.1:0"];
    let given = Given {
        set: &free,
        ..Given::default()
    };
    assert_eq!(given.report(Purpose::Dev), "");
}

/// A value no message, no `Debug` and no output may hold.
const SECRET: &str = "4f1d0c9be27a4e5b8a3360d7f5c2e891";

#[test]
fn secrets_come_from_variables_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let cases: [(&[u8], &[u8]); 4] = [
        (b"key\n", b"key"),
        (b"key\r\n", b"key"),
        (b" key \n\n", b" key \n"),
        (b"k\xffy\r", b"k\xffy\r"),
    ];
    for (written, key) in cases {
        let path = file("secret", written);
        let text = format!(
            "[receiver]\napplication.secrets = [\n  {{ name = \"current\", env = \"APP\" }},\n  \
             {{ name = \"old\", file = \"{path}\" }},\n]\n"
        );
        let given = Given {
            file: Some(&text),
            environment: &[("APP", SECRET)],
            ..Given::default()
        };
        let secrets = given
            .load(Purpose::Receiver)
            .unwrap()
            .receiver
            .application
            .secrets;
        let read: Vec<_> = secrets
            .iter()
            .map(|s| (s.name.as_str(), s.value.expose()))
            .collect();
        assert_eq!(read, [("current", SECRET.as_bytes()), ("old", key)]);
    }
    let list = format!("current=env:APP, old=file:{}", file("secret", b"x"));
    let given = Given {
        environment: &[("APP", SECRET), ("FRONTSTREAM_RECEIVER_RULE_SECRETS", &list)],
        ..Given::default()
    };
    let secrets = given.load(Purpose::Receiver).unwrap().receiver.rule_secrets;
    assert_eq!(secrets.len(), 2);
    // A processor reads none, and need not be able to.
    let given = in_file("receiver.relay.secrets = [{ name = \"a\", env = \"GONE\" }]");
    assert!(
        given
            .load(Purpose::Processor)
            .unwrap()
            .receiver
            .relay_secrets
            .is_empty()
    );
}

/// A list of secrets, and what the report must say; `{}` stands for the secret in a place where it must not be.
const BAD_SECRETS: &[(&str, &str)] = &[
    (
        "[{ name = \"a\", env = \"GONE\" }]",
        "secret \"a\": the environment variable GONE is not set",
    ),
    (
        "[{ name = \"a\", env = \"EMPTY\" }]",
        "secret \"a\": the secret in env EMPTY is empty",
    ),
    (
        "[{ name = \"a\", file = \"/nowhere/x\" }]",
        "the file /nowhere/x cannot be read: No such file",
    ),
    (
        "[{ name = \"a\", file = \"/dev/null\" }]",
        "the secret in file /dev/null is empty",
    ),
    (
        "[{ name = \"a\", file = \"/dev/zero\" }]",
        "is longer than 64 KiB",
    ),
    (
        "[{ name = \"a\", value = \"{}\" }]",
        "a secret never stands in one",
    ),
    ("[\"{}\"]", "a secret never stands in one"),
    ("\"{}\"", "must be a list, not text"),
    (
        "[{ name = \"a\", env = \"APP\", file = \"x\" }]",
        "names both env and file",
    ),
    ("[{ name = \"a\" }]", "does not say where secret \"a\" stands"),
    ("[{ env = \"APP\" }]", "an entry without a name"),
    ("[{ name = \"a\", evn = \"APP\" }]", "did you mean env?"),
    ("[{ name = \"a b\", env = \"APP\" }]", "not a plain word"),
    (
        "[{ name = \"a\", env = 1 }]",
        "a member env that is a whole number",
    ),
    (
        "[{ name = \"a\", env = \"APP\" }, { name = \"a\", env = \"APP\" }]",
        "names two secrets \"a\"",
    ),
];

#[test]
fn bad_secrets_are_explained_and_never_repeated() {
    for (list, expected) in BAD_SECRETS {
        let text = format!("receiver.rule.secrets = {}", list.replace("{}", SECRET));
        let given = Given {
            file: Some(&text),
            environment: &[("APP", SECRET), ("EMPTY", "")],
            ..Given::default()
        };
        let report = given.report(Purpose::Check);
        assert!(report.contains(expected), "{list}\n{report}");
        assert!(report.starts_with("1 mistake "), "{list}\n{report}");
        assert!(!report.contains(SECRET), "{list}\n{report}");
    }
    let variables = [
        "FRONTSTREAM_RECEIVER_RULE_SECRETS",
        "FRONTSTREAM_RECEIVER_RULE_SECRET",
    ];
    for name in variables {
        let given = Given {
            environment: &[(name, SECRET)],
            ..Given::default()
        };
        let report = given.report(Purpose::Check);
        assert!(
            report.starts_with("1 mistake ") && !report.contains(SECRET),
            "{report}"
        );
    }
    for key in ["receiver.rule.secrets", "kafka.properties.sasl.password"] {
        let given = Given {
            set: &[&format!("{key}={SECRET}")],
            ..Given::default()
        };
        let report = given.report(Purpose::Check);
        assert!(
            report.starts_with("1 mistake ") && !report.contains(SECRET),
            "{report}"
        );
    }
}

#[test]
fn secrets_stay_apart_and_a_receiver_has_one() {
    let given = Given {
        file: Some(
            "receiver.application.secrets = [{ name = \"app\", env = \"APP\" }]\n\
             receiver.rule.secrets = [{ name = \"rule\", env = \"APP\" }]",
        ),
        environment: &[("APP", SECRET)],
        ..Given::default()
    };
    let report = given.report(Purpose::Receiver);
    assert!(report.contains("secret \"rule\" has the same value as \"app\" of receiver.application.secrets"));
    let report = Given::default().report(Purpose::Receiver);
    assert!(
        report.contains("receiver.application.secrets (default): is empty"),
        "{report}"
    );
    for purpose in [
        Purpose::Processor,
        Purpose::Dev,
        Purpose::Send,
        Purpose::Check,
        Purpose::Tool,
    ] {
        assert_eq!(Given::default().report(purpose), "", "{purpose:?}");
    }
}

#[test]
fn librdkafka_properties_pass_through() {
    let given = Given {
        file: Some(
            "[kafka.properties]\n\
             security.protocol = \"SASL_PLAINTEXT\"\n\
             \"sasl.mechanism\" = \"PLAIN\"\n\
             socket.timeout.ms = 5000\n\
             socket.keepalive.enable = true\n\
             sasl.password = { env = \"FRONTSTREAM_KAFKA_PASSWORD\" }\n",
        ),
        environment: &[
            ("FRONTSTREAM_KAFKA_PASSWORD", SECRET),
            ("FRONTSTREAM_KAFKA_PROPERTIES_SASL_USERNAME", "front"),
        ],
        set: &["kafka.properties.client.rack=a"],
        ..Given::default()
    };
    let settings = given.settings();
    let properties: Vec<_> = settings
        .kafka
        .properties
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    let expected = [
        ("client.rack", "a"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.password", SECRET),
        ("sasl.username", "front"),
        ("security.protocol", "SASL_PLAINTEXT"),
        ("socket.keepalive.enable", "true"),
        ("socket.timeout.ms", "5000"),
    ];
    assert_eq!(properties, expected);
    assert!(!format!("{settings:?}").contains(SECRET));
}

#[test]
fn no_secret_is_shown() {
    let given = Given {
        file: Some(
            "[receiver]\napplication.secrets = [{ name = \"current\", env = \"APP\" }]\n\
             [kafka.properties]\nsasl.password = { env = \"APP\" }\nclient.rack = { env = \"APP\" }\n\
             sasl.pasword = \"4f1d0c9be27a4e5b8a3360d7f5c2e891\"\n",
        ),
        environment: &[
            ("APP", SECRET),
            ("FRONTSTREAM_KAFKA_PROPERTIES_SSL_KEY_PASSWORD", SECRET),
        ],
        ..Given::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let reading = read(&given.sources(folder.path()), Purpose::Check);
    let shown = format!("{:?}", reading.effective());
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(shown.contains("[current=*** (env APP)]"), "{shown}");
    let report = reading.into_settings().unwrap_err();
    assert!(!format!("{report} {report:?}").contains(SECRET));
    assert!(
        report
            .to_string()
            .contains("did you mean kafka.properties.sasl.password?"),
        "{report}"
    );
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let settings = Given::default().settings();
    assert_eq!(settings.processor.lanes, frontstream::model::Lanes::default());
    assert_eq!(
        settings.topics.names,
        frontstream::kafka::TopicNames::with_prefix("")
    );
    assert_eq!(settings.topics.replication, None);
    assert_eq!(settings.registry.url, None);
    assert_eq!(settings.processor.instance_id, None);
    assert_eq!(settings.processor.group_protocol, GroupProtocol::Classic);
    assert_eq!(settings.receiver.payload, PayloadKept::Full);
    assert_eq!(settings.receiver.answer_timeout, Duration::from_millis(2_500));
    assert_eq!(settings.receiver.body_bytes_max, 1 << 20);
    assert_eq!(settings.processor.dedupe.records, 20_000);
}

/// For each key a value that differs from its default; a key left out here fails the test below.
const OTHER_VALUES: &[(&str, &str)] = &[
    ("log.format", "json"),
    ("log.filter", "debug"),
    ("kafka.brokers", "a:1"),
    ("kafka.client_id", "x"),
    ("topics.prefix", "x."),
    ("topics.replication", "3"),
    ("topics.min_insync_replicas", "2"),
    ("topics.events_partitions", "6"),
    ("topics.events_retention", "8d"),
    ("topics.refresh_partitions", "6"),
    ("topics.refresh_retention", "8d"),
    ("topics.dead_letters_partitions", "6"),
    ("topics.dead_letters_retention", "8d"),
    ("registry.url", "http://registry:8081"),
    ("registry.timeout", "3s"),
    ("receiver.listen", "0.0.0.0:8088"),
    ("receiver.allowed_networks", "203.0.113.0/24"),
    ("receiver.trusted_proxies", "10.0.0.0/8"),
    ("receiver.forwarded_header", "forwarded"),
    ("receiver.address_rate", "7"),
    ("receiver.address_burst", "7"),
    ("receiver.body_bytes_max", "2MiB"),
    ("receiver.body_timeout", "3s"),
    ("receiver.answer_timeout", "3s"),
    ("receiver.requests_in_flight_max", "7"),
    ("receiver.bytes_in_flight_max", "32MiB"),
    ("receiver.seen_events_max", "7"),
    ("receiver.seen_events_ttl", "7m"),
    ("receiver.default_tenant", "x"),
    ("receiver.linger", "1ms"),
    ("receiver.payload", "ids-only"),
    ("receiver.application.window", "7m"),
    ("receiver.application.secrets", "a=env:APP"),
    ("receiver.rule.secrets", "a=env:RULE"),
    ("receiver.relay.secrets", "a=env:RELAY"),
    ("processor.group", "x"),
    ("processor.group_protocol", "consumer"),
    ("processor.workers", "7"),
    ("processor.instance_id", "x"),
    ("processor.session_timeout", "30s"),
    ("processor.commit_interval", "70ms"),
    ("processor.position_commit_interval", "7s"),
    ("processor.transaction_timeout", "7s"),
    ("processor.metadata_bytes_max", "8KiB"),
    ("processor.event_ids_max", "7"),
    ("processor.drain_timeout", "30s"),
    ("processor.dedupe.horizon", "7m"),
    ("processor.dedupe.records", "7"),
    ("processor.chunk.duration", "3s"),
    ("processor.chunk.windows_max", "7"),
    ("processor.chunk.bytes_max", "7MiB"),
    ("processor.lanes.high.gap", "200ms"),
    ("processor.lanes.high.cap", "900ms"),
    ("processor.lanes.medium.gap", "900ms"),
    ("processor.lanes.medium.cap", "3s"),
    ("processor.lanes.low.gap", "3s"),
    ("processor.lanes.low.cap", "5s"),
    ("admin.listen", "0.0.0.0:9601"),
];

/// Every key reaches its own field: one at a time changes the settings, and no two of them alike; from the
/// environment as from a flag.
#[test]
fn every_key_reaches_its_own_field() {
    let keys: Vec<_> = described().into_iter().map(|setting| setting.key).collect();
    let listed: Vec<_> = OTHER_VALUES
        .iter()
        .map(|(key, _)| *key)
        .chain(["kafka.properties"])
        .collect();
    assert!(keys.iter().all(|key| listed.contains(key)), "{keys:?}");
    let secrets = [("APP", "1"), ("RULE", "2"), ("RELAY", "3")];
    // Both counts must be equal, so either change comes with the other.
    let partner = |key: &str| match key {
        "topics.events_partitions" => Some("topics.refresh_partitions"),
        "topics.refresh_partitions" => Some("topics.events_partitions"),
        _ => None,
    };
    let mut seen = vec![format!("{:?}", Given::default().settings())];
    for (key, value) in OTHER_VALUES {
        let pairs: Vec<_> = [Some(*key), partner(key)]
            .into_iter()
            .flatten()
            .map(|key| (key, *value))
            .collect();
        let set: Vec<String> = pairs
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let by_flag = Given {
            environment: &secrets,
            set: &set,
            ..Given::default()
        };
        let names: Vec<_> = pairs.iter().map(|(key, value)| (variable(key), *value)).collect();
        let all: Vec<_> = names
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .chain(secrets)
            .collect();
        let by_variable = Given {
            environment: &all,
            ..Given::default()
        };
        let settings = by_flag
            .load(Purpose::Check)
            .unwrap_or_else(|report| panic!("{key}: {report}"));
        assert_eq!(by_variable.load(Purpose::Check).unwrap(), settings, "{key}");
        seen.push(format!("{settings:?}"));
    }
    let count = seen.len();
    seen.sort();
    seen.dedup();
    // The two partition counts were changed together, twice.
    assert_eq!(
        seen.len(),
        count - 1,
        "two keys fill the same field, or one fills none"
    );
}

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/frontstream.example.toml");

/// Set it to write the example file anew from the table of settings; review the difference.
const UPDATE: &str = "UPDATE_EXAMPLE";

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how expected files are updated, style.md section 8"
)]
fn the_example_file_is_the_table_of_settings() {
    let expected = example();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(EXAMPLE, &expected).unwrap();
    }
    let found = std::fs::read_to_string(EXAMPLE).unwrap();
    assert!(
        found == expected,
        "frontstream.example.toml is stale: run the test with {UPDATE}=1"
    );
}

#[test]
fn the_example_file_changes_nothing_and_explains_everything() {
    let text = std::fs::read_to_string(EXAMPLE).unwrap();
    assert_eq!(in_file(&text).settings(), Given::default().settings());
    let lines: Vec<&str> = text.lines().collect();
    let mut section = "";
    let mut keys = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if !line.starts_with('#')
            && let Some((key, _)) = line.split_once(" = ")
        {
            keys.push(format!("{section}.{key}"));
            assert!(lines[at - 1].starts_with("# "), "{key} has no comment");
        }
        assert!(line.chars().count() <= 120, "{line}");
    }
    let expected: Vec<_> = described()
        .iter()
        .map(|setting| setting.key.to_owned())
        .filter(|key| key != "kafka.properties")
        .collect();
    assert_eq!(keys, expected);
    assert!(text.contains("\n[kafka.properties]\n"));
}

/// Writes the example file from the table of settings.
fn example() -> String {
    let mut text = String::from(
        "# Every setting of frontstream with its default. Keep only what you change.\n\
         #\n\
         # Each can also be given as a variable (receiver.body_timeout: FRONTSTREAM_RECEIVER_BODY_TIMEOUT) or as a flag\n\
         # (--set receiver.body_timeout=3s). Flags win over variables, variables over this file. `frontstream config check`\n\
         # checks everything at once; `frontstream config show` prints what is in force and where it came from.\n\
         #\n\
         # Durations: a whole number with ms, s, m, h or d. Sizes: a whole number of bytes, or one with KiB, MiB or GiB.\n",
    );
    for (section, doc) in sections() {
        text.push_str(&format!("\n{}[{section}]\n", comment(doc)));
        for setting in described() {
            let Some(key) = setting.key.strip_prefix(&format!("{section}.")) else {
                continue;
            };
            if setting.key == "kafka.properties" {
                text.push_str(&format!("\n{}[{}]\n", comment(setting.doc), setting.key));
                text.push_str("# security.protocol = \"SASL_SSL\"\n# sasl.mechanism = \"SCRAM-SHA-512\"\n");
                text.push_str(
                    "# sasl.username = \"frontstream\"\n# sasl.password = { env = \"KAFKA_PASSWORD\" }\n",
                );
            } else {
                text.push_str(&format!(
                    "\n{}{key} = {}\n",
                    comment(setting.doc),
                    setting.default
                ));
            }
        }
    }
    text
}

/// Makes comment lines: text wrapped at 116 columns, indented lines as they are.
fn comment(text: &str) -> String {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        if paragraph.starts_with("  ") {
            lines.push(format!("# {paragraph}"));
            continue;
        }
        let mut line = String::from("#");
        for word in paragraph.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > 116 {
                lines.push(std::mem::replace(&mut line, String::from("#")));
            }
            line.push(' ');
            line.push_str(word);
        }
        lines.push(line);
    }
    lines.join("\n") + "\n"
}
