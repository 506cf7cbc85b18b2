//! librdkafka's own settings, as an operator may pass them through: which are ours, which are secret, which exist.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;
use rdkafka::types::RDKafkaConfRes;

/// Why a property is not passed through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is decided by frontstream; the text says by what.
    Owned(&'static str),
    /// librdkafka knows no property of this name.
    Unknown,
    /// librdkafka does not take the value; its own words, which may repeat the value.
    Value(String),
}

/// What stands in for a property that rests on a promise of the product.
const PROMISE: &str = "it carries a promise of frontstream and is not a setting";

/// The properties we set ourselves, aliases included, and what decides them.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set kafka.brokers instead"),
    ("metadata.broker.list", "set kafka.brokers instead"),
    ("client.id", "set kafka.client_id instead"),
    ("group.id", "set processor.group instead"),
    ("group.instance.id", "set processor.instance_id instead"),
    ("group.protocol", "set processor.group_protocol instead"),
    ("session.timeout.ms", "set processor.session_timeout instead"),
    (
        "transactional.id",
        "set processor.group and processor.instance_id instead",
    ),
    (
        "transaction.timeout.ms",
        "set processor.transaction_timeout instead",
    ),
    ("linger.ms", "set receiver.linger instead"),
    ("queue.buffering.max.ms", "set receiver.linger instead"),
    (
        "queue.buffering.max.kbytes",
        "set receiver.bytes_in_flight_max instead",
    ),
    (
        "queue.buffering.max.messages",
        "set receiver.requests_in_flight_max instead",
    ),
    ("message.max.bytes", "set receiver.body_bytes_max instead"),
    ("message.timeout.ms", "set receiver.answer_timeout instead"),
    ("delivery.timeout.ms", "set receiver.answer_timeout instead"),
    ("acks", PROMISE),
    ("request.required.acks", PROMISE),
    ("allow.auto.create.topics", PROMISE),
    ("auto.commit.enable", PROMISE),
    ("auto.offset.reset", PROMISE),
    ("enable.auto.commit", PROMISE),
    ("enable.auto.offset.store", PROMISE),
    ("enable.gapless.guarantee", PROMISE),
    ("enable.idempotence", PROMISE),
    ("enable.partition.eof", PROMISE),
    ("isolation.level", PROMISE),
    ("max.in.flight", PROMISE),
    ("max.in.flight.requests.per.connection", PROMISE),
    ("message.send.max.retries", PROMISE),
    ("partition.assignment.strategy", PROMISE),
    ("partitioner", PROMISE),
    ("retries", PROMISE),
];

/// The properties an operator has reason to pass through; only to find the nearest name to a mistyped one.
const USUAL: &[&str] = &[
    "api.version.request.timeout.ms",
    "batch.num.messages",
    "batch.size",
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "client.rack",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "debug",
    "enable.ssl.certificate.verification",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "heartbeat.interval.ms",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "metadata.max.age.ms",
    "metadata.recovery.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.kerberos.keytab",
    "sasl.kerberos.principal",
    "sasl.kerberos.service.name",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "statistics.interval.ms",
    "topic.metadata.refresh.interval.ms",
];

/// Says whether frontstream sets `name` itself, and what decides it then.
pub(crate) fn owned(name: &str) -> Option<&'static str> {
    OWNED
        .iter()
        .find_map(|(owned, instead)| (*owned == name).then_some(*instead))
}

/// Asks librdkafka whether it takes `value` for `name`; no client is made and nothing is connected.
///
/// # Errors
///
/// The property is ours, unknown, or does not take this value.
pub(crate) fn check(name: &str, value: &str) -> Result<(), Refusal> {
    if let Some(instead) = owned(name) {
        return Err(Refusal::Owned(instead));
    }
    match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => Err(Refusal::Unknown),
        Err(KafkaError::ClientConfig(_, description, _, _)) => Err(Refusal::Value(description)),
        Err(other) => Err(Refusal::Value(other.to_string())),
    }
}

/// Asks librdkafka whether the properties make a client: certificates readable, credentials present, and so on.
///
/// A client is made and dropped at once. It is given no broker, so nothing is connected.
///
/// # Errors
///
/// librdkafka's own words; they name files and properties, never values of passwords.
pub(crate) fn check_together(properties: &BTreeMap<String, String>) -> Result<(), String> {
    let mut config = ClientConfig::new();
    for (name, value) in properties {
        config.set(name, value);
    }
    match config.create::<BaseProducer>() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientCreation(words)) => Err(words),
        Err(other) => Err(other.to_string()),
    }
}

/// Says whether the value of `name` must never be shown.
pub(crate) fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // `sasl.oauthbearer.config` may carry a token; the `.location` properties carry paths only.
    [
        "password",
        "passphrase",
        "secret",
        "key.pem",
        "oauthbearer.config",
        "jaas",
    ]
    .iter()
    .any(|word| name.contains(word))
}

/// Returns the names worth suggesting for a mistyped one.
pub(crate) fn usual() -> &'static [&'static str] {
    USUAL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn librdkafka_tells_unknown_names_from_wrong_values() {
        assert_eq!(check("socket.timeout.ms", "5000"), Ok(()));
        assert_eq!(check("compression.type", "lz4"), Ok(()));
        assert_eq!(check("sasl.pasword", "x"), Err(Refusal::Unknown));
        assert!(matches!(
            check("socket.timeout.ms", "soon"),
            Err(Refusal::Value(_))
        ));
        assert!(matches!(
            check("security.protocol", "tls"),
            Err(Refusal::Value(_))
        ));
        // A callback cannot be given as text.
        assert!(matches!(
            check("stats_cb", "x"),
            Err(Refusal::Value(_) | Refusal::Unknown)
        ));
    }

    #[test]
    fn properties_must_make_a_client() {
        let properties = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let each = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            each.collect()
        };
        let good = [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
        ];
        let credentials = [("sasl.username", "front"), ("sasl.password", "4f1d0c9b")];
        assert_eq!(check_together(&properties(&[good, credentials].concat())), Ok(()));
        let words = check_together(&properties(&good)).unwrap_err();
        assert!(words.contains("sasl.username"), "{words}");
        if cfg!(feature = "tls") {
            let ssl = [
                ("security.protocol", "ssl"),
                ("ssl.ca.location", "/nowhere/ca.pem"),
            ];
            let words = check_together(&properties(&ssl)).unwrap_err();
            assert!(words.contains("ssl.ca.location"), "{words}");
        }
    }

    #[test]
    fn every_name_in_the_lists_exists() {
        for name in USUAL.iter().chain(OWNED.iter().map(|(name, _)| name)) {
            let known = ClientConfig::new()
                .set(*name, "no value takes this")
                .create_native_config();
            let unknown = matches!(
                known,
                Err(KafkaError::ClientConfig(
                    RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN,
                    ..
                ))
            );
            assert!(!unknown, "librdkafka does not know {name}");
        }
    }

    #[test]
    fn what_we_decide_is_not_passed_through() {
        assert_eq!(
            check("group.id", "x"),
            Err(Refusal::Owned("set processor.group instead"))
        );
        assert_eq!(check("acks", "1"), Err(Refusal::Owned(PROMISE)));
    }

    #[test]
    fn secrets_are_told_from_paths() {
        for name in [
            "sasl.password",
            "ssl.key.password",
            "ssl.key.pem",
            "sasl.oauthbearer.client.secret",
        ] {
            assert!(looks_secret(name), "{name}");
        }
        for name in [
            "ssl.key.location",
            "sasl.kerberos.keytab",
            "sasl.username",
            "ssl.ca.pem",
        ] {
            assert!(!looks_secret(name), "{name}");
        }
    }
}
