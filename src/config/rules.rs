//! What must hold between settings, and what text must look like.

use std::time::Duration;

use super::load::{Loader, Purpose};
use super::report::Wrong;
use super::secret::NamedSecret;
use super::table::TextRule;
use super::value::written;
use crate::model::Priority;
use crate::observe;

/// Checks the settings against each other; a rule about a key that is wrong already is passed over.
pub(super) fn check(loader: &mut Loader, purpose: Purpose) {
    lanes(loader);
    times(loader);
    sizes(loader);
    topics(loader);
    match purpose {
        Purpose::Receiver => {
            ports(loader);
            a_scheme(loader);
            keys_apart(loader);
        }
        Purpose::Dev | Purpose::Check => {
            ports(loader);
            keys_apart(loader);
        }
        Purpose::Processor | Purpose::Send | Purpose::Tool => {}
    }
}

/// Two settings, of which the first must not exceed the second.
struct AtMost {
    small: (&'static str, Duration),
    great: (&'static str, Duration),
    why: &'static str,
}

impl AtMost {
    fn check(self, loader: &mut Loader) {
        let Self { small, great, why } = self;
        if small.1 <= great.1 || !loader.all_right(&[small.0, great.0]) {
            return;
        }
        let great_origin = loader.origin(great.0);
        let what = format!(
            "is {}, above {}, which is {} ({great_origin})",
            written(small.1),
            great.0,
            written(great.1)
        );
        let help = format!("lower the one or raise the other: {why}");
        loader.mistake(small.0, &loader.origin(small.0), Wrong::new(what, help));
    }
}

fn lanes(loader: &mut Loader) {
    for priority in Priority::ALL {
        let lane = loader.settings.processor.lanes.of(priority);
        let (gap, cap) = match priority {
            Priority::High => ("processor.lanes.high.gap", "processor.lanes.high.cap"),
            Priority::Medium => ("processor.lanes.medium.gap", "processor.lanes.medium.cap"),
            Priority::Low => ("processor.lanes.low.gap", "processor.lanes.low.cap"),
        };
        let rule = AtMost {
            small: (gap, lane.gap),
            great: (cap, lane.cap),
            why: "a window that ends at its cap never waits for its gap",
        };
        rule.check(loader);
    }
}

fn times(loader: &mut Loader) {
    let processor = loader.settings.processor.clone();
    let transaction = ("processor.transaction_timeout", processor.transaction_timeout);
    let session = ("processor.session_timeout", processor.session_timeout);
    if transaction.1 == session.1 && loader.all_right(&[transaction.0, session.0]) {
        let what = format!("is {}, as long as {}", written(transaction.1), session.0);
        let help = "it must be shorter: a partition's next owner must not meet a transaction of the last one";
        loader.mistake(
            transaction.0,
            &loader.origin(transaction.0),
            Wrong::new(what, help),
        );
    }
    let rules = [
        AtMost {
            small: transaction,
            great: session,
            why: "a partition's next owner must not meet a transaction of the last one",
        },
        AtMost {
            small: transaction,
            great: ("processor.drain_timeout", processor.drain_timeout),
            why: "a clean stop may have to wait for the open transaction",
        },
        AtMost {
            small: ("processor.commit_interval", processor.commit_interval),
            great: (
                "processor.position_commit_interval",
                processor.position_commit_interval,
            ),
            why: "commits that only move the position are the rarer ones",
        },
        AtMost {
            small: ("processor.dedupe.horizon", processor.dedupe.horizon),
            great: ("topics.events_retention", loader.settings.topics.events.retention),
            why: "what is no longer retained cannot be read again",
        },
    ];
    for rule in rules {
        rule.check(loader);
    }
}

fn sizes(loader: &mut Loader) {
    let (body, in_flight) = ("receiver.body_bytes_max", "receiver.bytes_in_flight_max");
    let receiver = &loader.settings.receiver;
    if receiver.body_bytes_max > receiver.bytes_in_flight_max && loader.all_right(&[body, in_flight]) {
        let what = format!("is above {in_flight} ({})", loader.origin(in_flight));
        let help = "lower the one or raise the other: a body of this size could never be taken";
        loader.mistake(body, &loader.origin(body), Wrong::new(what, help));
    }
}

fn topics(loader: &mut Loader) {
    let topics = loader.settings.topics.clone();
    let (events, refresh) = ("topics.events_partitions", "topics.refresh_partitions");
    let (a, b) = (topics.events.partitions, topics.refresh.partitions);
    if a != b && loader.all_right(&[events, refresh]) {
        let what = format!("is {b}, but {events} is {a} ({})", loader.origin(events));
        let help = "make them equal: a refresh goes to the partition number of its events";
        loader.mistake(refresh, &loader.origin(refresh), Wrong::new(what, help));
    }
    let (isr, replication) = ("topics.min_insync_replicas", "topics.replication");
    if let (Some(least), Some(copies)) = (topics.min_insync_replicas, topics.replication)
        && least > copies
        && loader.all_right(&[isr, replication])
    {
        let what = format!("is {least}, above {replication}, which is {copies}");
        let help = "lower it: nothing could ever be stored";
        loader.mistake(isr, &loader.origin(isr), Wrong::new(what, help));
    }
}

/// Two listeners of one process need two ports; port 0 is any free one.
fn ports(loader: &mut Loader) {
    let (admin, receiver) = ("admin.listen", "receiver.listen");
    let (a, b) = (loader.settings.admin.listen, loader.settings.receiver.listen);
    let same_address = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    if a.port() == b.port() && a.port() != 0 && same_address && loader.all_right(&[admin, receiver]) {
        let what = format!(
            "is {a}, the port of {receiver}, {b} ({})",
            loader.origin(receiver)
        );
        let help = "choose another port for one of them";
        loader.mistake(admin, &loader.origin(admin), Wrong::new(what, help));
    }
}

const SCHEMES: [&str; 3] = [
    "receiver.application.secrets",
    "receiver.rule.secrets",
    "receiver.relay.secrets",
];

fn a_scheme(loader: &mut Loader) {
    let receiver = &loader.settings.receiver;
    let none = receiver.application.secrets.is_empty()
        && receiver.rule_secrets.is_empty()
        && receiver.relay_secrets.is_empty();
    if none && loader.all_right(&SCHEMES) {
        let what = "is empty, and so are receiver.rule.secrets and receiver.relay.secrets: nothing could be verified";
        let help = "name at least one secret, such as FRONTSTREAM_RECEIVER_APPLICATION_SECRETS=\
                    current=env:FRONT_APP_SECRET";
        loader.mistake(SCHEMES[0], &loader.origin(SCHEMES[0]), Wrong::new(what, help));
    }
}

/// No two schemes share a key, or a signature for the weaker one would open the stronger.
fn keys_apart(loader: &mut Loader) {
    let receiver = &loader.settings.receiver;
    let lists: [&[NamedSecret]; 3] = [
        &receiver.application.secrets,
        &receiver.rule_secrets,
        &receiver.relay_secrets,
    ];
    let mut shared = Vec::new();
    for (at, list) in lists.iter().enumerate() {
        for (earlier, other) in lists[..at].iter().enumerate() {
            for secret in *list {
                if let Some(same) = other.iter().find(|other| other.value == secret.value) {
                    shared.push((at, secret.name.clone(), earlier, same.name.clone()));
                }
            }
        }
    }
    for (at, name, earlier, same) in shared {
        let what = format!(
            "secret {name:?} has the same value as {same:?} of {}",
            SCHEMES[earlier]
        );
        let help = "give each scheme its own key: a signature of the weaker one must not open the stronger";
        loader.mistake(SCHEMES[at], &loader.origin(SCHEMES[at]), Wrong::new(what, help));
    }
}

/// Checks text against its rule.
pub(super) fn text(rule: TextRule, text: &str) -> Result<(), Wrong> {
    match rule {
        TextRule::NotEmpty if text.is_empty() => Err(Wrong::new("is empty", "give it a value")),
        TextRule::NotEmpty => Ok(()),
        TextRule::Brokers => brokers(text),
        TextRule::TopicPrefix => topic_prefix(text),
        TextRule::Url => url(text),
        TextRule::Instance => instance(text),
        TextRule::LogFilter => observe::check_filter(text).map_err(|error| {
            Wrong::new(
                error.to_string(),
                "write a level (off, error, warn, info, debug, trace), and part=level after commas",
            )
        }),
    }
}

fn brokers(text: &str) -> Result<(), Wrong> {
    for broker in text.split(',').map(str::trim) {
        let good = broker.rsplit_once(':').is_some_and(|(host, port)| {
            let host_good = !host.is_empty() && !host.contains(['/', ' ', '@']);
            host_good && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        if !good {
            return Err(Wrong::new(
                format!("has {broker:?}, which is not host:port"),
                "write \"broker-1:9092,broker-2:9092\"",
            ));
        }
    }
    Ok(())
}

/// Source: Kafka, `org.apache.kafka.common.internals.Topic`: 249 characters of `[a-zA-Z0-9._-]`.
fn topic_prefix(text: &str) -> Result<(), Wrong> {
    const PREFIX_MAX: usize = 249 - "front.dead-letters".len();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.len() <= PREFIX_MAX && text.chars().all(legal) {
        return Ok(());
    }
    Err(Wrong::new(
        format!("is {text:?}, which cannot begin a topic's name"),
        format!("use at most {PREFIX_MAX} letters, digits, '.', '_' or '-'"),
    ))
}

fn url(text: &str) -> Result<(), Wrong> {
    if text.is_empty() {
        return Ok(());
    }
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    let Some(rest) = rest else {
        // Not repeated: credentials may stand in it.
        return Err(Wrong::new(
            "is not an address of the web",
            "write it as \"http://host:8081\" or \"https://host\"",
        ));
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        let help = "leave them out: an address is logged and shown, and a registry with a password is not supported yet";
        return Err(Wrong::new("holds credentials", help));
    }
    if host.is_empty() || rest.contains(char::is_whitespace) {
        return Err(Wrong::new("names no host", "write it as \"http://host:8081\""));
    }
    if text.starts_with("https://") && cfg!(not(feature = "tls")) {
        let help = "use http://, or a binary built with the feature tls";
        return Err(Wrong::new("needs TLS, which this binary is built without", help));
    }
    Ok(())
}

fn instance(text: &str) -> Result<(), Wrong> {
    // It becomes part of a transactional id and, by the broker, of metric and file names.
    const INSTANCE_MAX: usize = 200;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.len() <= INSTANCE_MAX && text.chars().all(plain) {
        return Ok(());
    }
    Err(Wrong::new(
        format!("is {text:?}, which is not a plain word"),
        format!("use at most {INSTANCE_MAX} letters, digits, '-', '_' or '.', such as the pod's name"),
    ))
}
