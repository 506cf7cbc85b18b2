//! The first screen: what runs where, and lines to be copied.
//!
//! Pure: what is to be said in, text out. Lines that are to be copied stand alone, whole and not indented.

use std::net::SocketAddr;
use std::time::Duration;

use super::prefix_of;
use crate::config::Secret;
use crate::kafka::TopicNames;
use crate::model::Timestamp;
use crate::operate::curl::{self, quoted};
use crate::operate::send;
use crate::operate::sign::{Scheme, Signer};

/// What holds the secret in the lines that are printed.
const SECRET_VARIABLE: &str = "DEV_SECRET";

/// What there is to say.
pub(super) struct Announcement<'a> {
    pub(super) cluster: Cluster<'a>,
    /// How this program was called.
    pub(super) program: &'a str,
    /// Where webhooks are taken.
    pub(super) receiver: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) topics: &'a TopicNames,
    pub(super) group: &'a str,
    /// Webhooks a second; zero: none.
    pub(super) rate: f64,
    /// `None`: until Ctrl-C.
    pub(super) duration: Option<Duration>,
    /// This run's own; never one that somebody configured.
    pub(super) secret: &'a Secret,
    /// How old a signature may be.
    pub(super) window: Duration,
    pub(super) now: Timestamp,
}

/// What the run is on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cluster<'a> {
    /// The broker in this process.
    #[cfg_attr(
        not(feature = "dev-broker"),
        allow(dead_code, reason = "its words are tested in every build")
    )]
    InProcess {
        address: SocketAddr,
        /// Whether somebody chose the port.
        opened: bool,
    },
    /// A real one.
    Real { brokers: &'a str },
}

impl Announcement<'_> {
    /// Writes the screen, to its last line end.
    pub(super) fn text(&self) -> String {
        format!(
            "{}\n\n{}{}\n{}",
            self.what(),
            self.places(),
            self.looking_in(),
            self.posting()
        )
    }

    fn what(&self) -> &'static str {
        match self.cluster {
            Cluster::InProcess { .. } => {
                "frontstream dev: receiver, processor and a Kafka broker in this one process.\n\
                 The broker is for development: all it holds is in memory, and gone at exit."
            }
            Cluster::Real { .. } => {
                "frontstream dev: receiver and processor in this one process, on a real Kafka.\n\
                 Topics and group are made for this run, and removed at exit if its audit is exact."
            }
        }
    }

    fn places(&self) -> String {
        let url = self.url();
        let broker = match self.cluster {
            Cluster::InProcess {
                address,
                opened: true,
            } => address.to_string(),
            Cluster::InProcess {
                address,
                opened: false,
            } => {
                format!("{address}, a free port; for a fixed one --open-broker 9092")
            }
            Cluster::Real { brokers } => brokers.to_owned(),
        };
        let prefix = prefix_of(self.topics);
        let plain = TopicNames::with_prefix("");
        let until = self.duration.map_or_else(
            || "until Ctrl-C".to_owned(),
            |duration| format!("for {} s", duration.as_secs_f64()),
        );
        let traffic = if self.rate > 0.0 {
            format!(
                "{} sample webhooks a second, {until}; --rate 0 for none",
                self.rate
            )
        } else {
            format!("none but your own, {until}")
        };
        [
            ("receiver", url),
            ("admin", format!("http://{}/", self.admin)),
            ("broker", broker),
            (
                "topics",
                format!("{}, {}, {}", plain.events, plain.refresh, plain.dead_letters),
            ),
            ("prefix", prefix.to_owned()),
            ("group", self.group.to_owned()),
            ("traffic", traffic),
        ]
        .into_iter()
        .filter(|(_, place)| !place.is_empty())
        .map(|(what, place)| format!("  {what:<8}  {place}\n"))
        .collect()
    }

    /// Only where somebody wants to look: the address of a free port is another one next time.
    fn looking_in(&self) -> String {
        match self.cluster {
            Cluster::InProcess {
                address,
                opened: true,
            } => format!(
                "\nRead the refreshes from another terminal, with kcat or decoded:\n\n\
                 kcat -C -b {address} -t {} -o beginning -f '%k %h\\n'\n\
                 {} tail refresh --brokers {address}{} --from beginning\n",
                quoted(&self.topics.refresh),
                quoted(self.program),
                self.prefix_flag(),
            ),
            Cluster::InProcess { opened: false, .. } | Cluster::Real { .. } => String::new(),
        }
    }

    fn prefix_flag(&self) -> String {
        match prefix_of(self.topics) {
            "" => String::new(),
            prefix => format!(" --set {}", quoted(&format!("topics.prefix={prefix}"))),
        }
    }

    fn posting(&self) -> String {
        let signer = Signer::new(Scheme::Application, self.secret.clone());
        let url = self.url();
        let by_hand = curl::yours(&url, Scheme::Application, &signer, self.now);
        let (base, _) = url.split_once(send::PATH).unwrap_or((&url, ""));
        let secret = String::from_utf8_lossy(self.secret.expose());
        let send = format!(
            "{SECRET_VARIABLE}={} {} send --secret env:{SECRET_VARIABLE} --url {base}",
            quoted(&secret),
            quoted(self.program),
        );
        let until = self.now.plus(self.window).to_string();
        // The hour, minute and second of RFC 3339.
        let until = until.get(11..19).unwrap_or(&until);
        format!(
            "Post a webhook of your own from another terminal. This line is good once, and\n\
             until {until} UTC; posted again, it is answered as a duplicate:\n\n\
             {by_hand}\n\n\
             A new line like it; or three webhooks about one conversation, for one refresh:\n\n\
             {send} --show-curl\n\
             {send} --count 3 --conversations 1\n"
        )
    }

    fn url(&self) -> String {
        format!("http://{}{}", send::reachable(self.receiver), send::PATH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement<'a>(
        cluster: Cluster<'a>,
        topics: &'a TopicNames,
        secret: &'a Secret,
    ) -> Announcement<'a> {
        Announcement {
            cluster,
            program: "target/release/frontstream",
            receiver: "127.0.0.1:8080".parse().unwrap(),
            admin: "127.0.0.1:9600".parse().unwrap(),
            topics,
            group: "frontstream",
            rate: 4.0,
            duration: None,
            secret,
            window: Duration::from_secs(300),
            now: Timestamp::from_millis(1_795_000_000_123),
        }
    }

    const POSTING: &str = r#"
Post a webhook of your own from another terminal. This line is good once, and
until 11:11:40 UTC; posted again, it is answered as a duplicate:

curl -i http://127.0.0.1:8080/api/webhooks/front -H 'x-front-signature: smVnvAnYBvNQX8FsQfO5zCxSvyVByUWIdSk35uDUsQA=' -H 'x-front-request-timestamp: 1795000000123' -d '{"type":"inbound_received","authorization":{"id":"cmp_yours"},"payload":{"id":"evt_mwm0nkaj","type":"inbound","emitted_at":1795000000.123,"conversation":{"id":"cnv_yours"}}}'

A new line like it; or three webhooks about one conversation, for one refresh:

DEV_SECRET=4f1d0c9be27a4e5b target/release/frontstream send --secret env:DEV_SECRET --url http://127.0.0.1:8080 --show-curl
DEV_SECRET=4f1d0c9be27a4e5b target/release/frontstream send --secret env:DEV_SECRET --url http://127.0.0.1:8080 --count 3 --conversations 1
"#;

    #[test]
    fn with_the_broker_on_a_port_that_somebody_chose() {
        let (topics, secret) = (TopicNames::with_prefix(""), Secret::new(*b"4f1d0c9be27a4e5b"));
        let cluster = Cluster::InProcess {
            address: "127.0.0.1:9092".parse().unwrap(),
            opened: true,
        };
        let expected = r"frontstream dev: receiver, processor and a Kafka broker in this one process.
The broker is for development: all it holds is in memory, and gone at exit.

  receiver  http://127.0.0.1:8080/api/webhooks/front
  admin     http://127.0.0.1:9600/
  broker    127.0.0.1:9092
  topics    front.events, front.refresh, front.dead-letters
  group     frontstream
  traffic   4 sample webhooks a second, until Ctrl-C; --rate 0 for none

Read the refreshes from another terminal, with kcat or decoded:

kcat -C -b 127.0.0.1:9092 -t front.refresh -o beginning -f '%k %h\n'
target/release/frontstream tail refresh --brokers 127.0.0.1:9092 --from beginning
";
        let text = announcement(cluster, &topics, &secret).text();
        assert_eq!(text, format!("{expected}{POSTING}"));
    }

    #[test]
    fn with_the_broker_on_a_free_port_and_no_samples() {
        let (topics, secret) = (
            TopicNames::with_prefix("mine."),
            Secret::new(*b"4f1d0c9be27a4e5b"),
        );
        let cluster = Cluster::InProcess {
            address: "127.0.0.1:41234".parse().unwrap(),
            opened: false,
        };
        let text = Announcement {
            rate: 0.0,
            duration: Some(Duration::from_secs(20)),
            receiver: "0.0.0.0:8080".parse().unwrap(),
            ..announcement(cluster, &topics, &secret)
        };
        let expected = "frontstream dev: receiver, processor and a Kafka broker in this one process.
The broker is for development: all it holds is in memory, and gone at exit.

  receiver  http://127.0.0.1:8080/api/webhooks/front
  admin     http://127.0.0.1:9600/
  broker    127.0.0.1:41234, a free port; for a fixed one --open-broker 9092
  topics    front.events, front.refresh, front.dead-letters
  prefix    mine.
  group     frontstream
  traffic   none but your own, for 20 s
";
        assert_eq!(text.text(), format!("{expected}{POSTING}"));
    }

    #[test]
    fn on_a_real_kafka() {
        let (topics, secret) = (
            TopicNames::with_prefix("dev-1."),
            Secret::new(*b"4f1d0c9be27a4e5b"),
        );
        let cluster = Cluster::Real {
            brokers: "k1:9092,k2:9092",
        };
        let expected = "frontstream dev: receiver and processor in this one process, on a real Kafka.
Topics and group are made for this run, and removed at exit if its audit is exact.

  receiver  http://127.0.0.1:8080/api/webhooks/front
  admin     http://127.0.0.1:9600/
  broker    k1:9092,k2:9092
  topics    front.events, front.refresh, front.dead-letters
  prefix    dev-1.
  group     frontstream
  traffic   4 sample webhooks a second, until Ctrl-C; --rate 0 for none
";
        let text = announcement(cluster, &topics, &secret).text();
        assert_eq!(text, format!("{expected}{POSTING}"));
    }
}
