//! The command line: every command, its arguments and its help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use super::load::{Purpose, Sources};
use super::when::{From, from};
use super::{Environment, value};

const ROOT_AFTER: &str = "\
Examples:
  frontstream dev --duration 20s              try the whole product on this machine
  frontstream config check --role receiver    check the settings before a deployment
  frontstream receiver --config /etc/frontstream.toml

Settings come from defaults, the file (--config or FRONTSTREAM_CONFIG), environment variables
(receiver.listen is FRONTSTREAM_RECEIVER_LISTEN) and flags; later ones win.
`frontstream config show` prints all of them, with where they came from.

Exit codes:
  0    done; a check found everything right
  1    a check found something: the audit is not exact, topics differ, the lag is above --max
  2    bad usage or configuration
  3    something outside failed: brokers unreachable, a port in use, a timeout
  4    a Kafka client failed for good: start the process again
  5    fenced: another process has the same processor.instance_id
  6    the state beside a committed offset cannot be read: the message names the way out
  101  a defect in frontstream: a panic, which the log has
  130  ended by a second Ctrl-C";

/// Turns Front's webhooks into a reliable Kafka stream of prioritised conversation refreshes.
#[derive(Debug, Parser)]
#[command(name = "frontstream", version, after_help = ROOT_AFTER, max_term_width = 100)]
#[command(
    disable_help_subcommand = true,
    arg_required_else_help = true,
    subcommand_required = true
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Settings and output")]
pub struct Global {
    /// The settings file, TOML; without it the one named by FRONTSTREAM_CONFIG, or none.
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Sets any setting, such as receiver.linger=1ms; may be repeated. Never holds a secret itself.
    #[arg(long, global = true, value_name = "KEY=VALUE", value_hint = ValueHint::Other)]
    pub set: Vec<String>,
    /// The brokers to begin with: host:port, comma separated. The same as --set kafka.brokers=….
    #[arg(long, global = true, value_name = "HOST:PORT", value_hint = ValueHint::Hostname)]
    pub brokers: Option<String>,
    /// Prints the result as JSON, for scripts.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Global {
    /// Returns where the settings come from.
    pub fn sources(&self, environment: Environment) -> Sources {
        Sources {
            file: self.config.clone(),
            environment,
            set: self.set.clone(),
            brokers: self.brokers.clone(),
        }
    }
}

/// A role or an operator's command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receives webhooks, verifies them and stores them in front.events.
    #[command(after_help = "Example:\n  FRONT_APP_SECRET=… frontstream receiver \\\n    \
        --set receiver.application.secrets=current=env:FRONT_APP_SECRET")]
    Receiver,
    /// Coalesces front.events to front.refresh, exactly once.
    #[command(
        after_help = "Example:\n  frontstream processor --brokers kafka-1:9092,kafka-2:9092 \
        --set processor.workers=2"
    )]
    Processor,
    /// Runs the whole product here, with signed sample traffic, and audits the result.
    ///
    /// Receiver, processor and, unless --brokers or the settings name a Kafka, a broker for development run in this one
    /// process. That broker keeps everything in memory and is gone at exit.
    #[command(after_help = "Examples:\n  frontstream dev\n  \
        frontstream dev --rate 0 --open-broker 9092      only your own webhooks, to be looked at with Kafka's tools\n  \
        frontstream dev --brokers 127.0.0.1:9092         on a real Kafka, with topics of this run's own\n  \
        frontstream dev --duration 20s --rate 100 --json\n\n\
        Ends with a summary; exit code 0 only if the audit is exact.")]
    Dev(Dev),
    /// Signs and posts webhooks: files, folders, or load.
    #[command(
        after_help = "Examples:\n  frontstream send application/inbound_received.json\n  \
        frontstream send --rate 1000 --duration 60s --conversations 500\n  \
        FRONT_APP_SECRET=… frontstream send --secret env:FRONT_APP_SECRET --show-curl"
    )]
    Send(Send),
    /// Prints the records of a topic, decoded; with --json as JSON lines.
    #[command(after_help = "Examples:\n  frontstream tail refresh\n  \
        frontstream tail events --from 10m --no-follow --json\n  \
        frontstream tail events --partition 3 --from 1200 --max 10 --payload")]
    Tail(Tail),
    /// Creates or checks the topics.
    #[command(
        after_help = "Example:\n  frontstream topics create --brokers kafka-1:9092 --set topics.replication=3"
    )]
    Topics {
        /// Which of them.
        #[command(subcommand)]
        action: TopicsAction,
    },
    /// Checks or shows the settings.
    #[command(after_help = "Example:\n  frontstream config check --config frontstream.toml --role receiver")]
    Config {
        /// Which of them.
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Looks at Front's secrets.
    #[command(
        after_help = "Example:\n  frontstream secrets check body.json --header 'X-Front-Signature: …' \\\n    \
        --header 'X-Front-Request-Timestamp: …'"
    )]
    Secrets {
        /// Which of them.
        #[command(subcommand)]
        action: SecretsAction,
    },
    /// Shows how far the processor is behind, per partition.
    #[command(
        after_help = "Example:\n  frontstream lag --max 1000    exit code 1 when any partition is further behind"
    )]
    Lag(Lag),
    /// Proves that every stored event is counted in exactly one refresh, per partition and in order.
    #[command(
        after_help = "Examples:\n  frontstream audit\n  frontstream audit --partition 3 --json\n\n\
        Exit code 1 when it is not exact; the first offending offsets are printed."
    )]
    Audit(Audit),
}

/// Arguments of `dev`.
#[derive(Clone, Debug, Args)]
pub struct Dev {
    /// How long to run; until Ctrl-C without it.
    #[arg(long, value_parser = value::duration, value_name = "DURATION")]
    pub duration: Option<Duration>,
    /// The port of the in-process broker on 127.0.0.1, so that Kafka's tools know where to look; 0 for a free one, as
    /// without this flag.
    #[arg(long, value_name = "PORT", conflicts_with = "brokers")]
    pub open_broker: Option<u16>,
    /// Sample webhooks a second, on average: few enough to follow. 0 for none, so that there are only your own.
    #[arg(long, default_value = "4", value_parser = zero_or_more, value_name = "PER_SECOND", help_heading = "Traffic")]
    pub rate: f64,
    /// The traffic.
    #[command(flatten)]
    pub traffic: Traffic,
}

/// The shape of sample traffic.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Traffic")]
pub struct Traffic {
    /// Conversations that the webhooks are about.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub conversations: u32,
    /// Webhooks that a busy conversation gets at once, on average; 1 for no bursts.
    #[arg(long, default_value = "4", value_parser = positive, value_name = "N")]
    pub burst: f64,
    /// Makes the traffic repeatable; random without it.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
}

/// Arguments of `send`: files, or load when there are none.
#[derive(Clone, Debug, Args)]
pub struct Send {
    /// Bodies to post, or folders of them; load made from the built-in samples without.
    #[arg(value_hint = ValueHint::AnyPath, conflicts_with_all = ["rate", "conversations", "burst", "seed", "count", "duration"])]
    pub paths: Vec<PathBuf>,
    /// Where to post; the receiver of the settings without it.
    #[arg(long, value_hint = ValueHint::Url, value_name = "URL")]
    pub url: Option<String>,
    /// How to sign.
    #[arg(long, value_enum, default_value_t = Scheme::Application)]
    pub scheme: Scheme,
    /// The secret that signs: the name of one that is configured for the scheme (the first without this flag), or
    /// where one stands: env:NAME, file:PATH.
    #[arg(long, value_name = "SECRET")]
    pub secret: Option<String>,
    /// The company: posts to /api/webhooks/front/TENANT.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Requests under way at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "N")]
    pub concurrency: u32,
    /// Stops after this many webhooks.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub count: Option<u64>,
    /// Stops after this time; without --count and --duration, at Ctrl-C.
    #[arg(long, value_parser = value::duration, value_name = "DURATION")]
    pub duration: Option<Duration>,
    /// Posts nothing: prints the curl command that posts each file, signed now; without files, one of a small webhook.
    #[arg(long, conflicts_with_all = ["rate", "conversations", "burst", "seed", "count", "duration", "verbose", "concurrency"])]
    pub show_curl: bool,
    /// Prints every answer, not only the summary.
    #[arg(long, short)]
    pub verbose: bool,
    /// Webhooks a second, on average.
    #[arg(long, default_value = "20", value_parser = positive, value_name = "PER_SECOND", help_heading = "Traffic")]
    pub rate: f64,
    /// The load.
    #[command(flatten)]
    pub traffic: Traffic,
}

/// How a webhook is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scheme {
    /// As Front signs application webhooks: base64 HMAC-SHA256 over timestamp and body.
    Application,
    /// As Front signs rule webhooks: base64 HMAC-SHA1 over the body.
    Rule,
    /// As a relay signs: hex HMAC-SHA256 over the body.
    Relay,
}

/// Arguments of `tail`.
#[derive(Clone, Debug, Args)]
pub struct Tail {
    /// Which topic.
    #[arg(value_enum)]
    pub topic: TailTopic,
    /// Where to begin: beginning, end, an offset, a time (2026-11-24T10:00:00Z), or a duration ago (10m).
    #[arg(long, default_value = "end", value_parser = from, value_name = "WHERE")]
    pub from: From,
    /// Waits for new records; the default.
    #[arg(long, overrides_with = "no_follow")]
    pub follow: bool,
    /// Ends at the end of the topic.
    #[arg(long, overrides_with = "follow")]
    pub no_follow: bool,
    /// Ends after this many records.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub max: Option<u64>,
    /// Reads this partition only; may be repeated.
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..), value_name = "N")]
    pub partition: Vec<i32>,
    /// Prints the webhook's body too; it holds what customers wrote.
    #[arg(long)]
    pub payload: bool,
}

impl Tail {
    /// Says whether to wait for new records.
    pub fn follows(&self) -> bool {
        !self.no_follow
    }
}

/// A topic that `tail` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TailTopic {
    /// front.events
    Events,
    /// front.refresh
    Refresh,
    /// front.dead-letters
    DeadLetters,
}

/// What to do with the topics.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum TopicsAction {
    /// Creates the topics that are missing; never changes one that exists.
    #[command(
        after_help = "Example:\n  frontstream topics create --set topics.prefix=staging. --set topics.replication=3"
    )]
    Create,
    /// Says what differs from the settings; exit code 1 when something does.
    #[command(after_help = "Example:\n  frontstream topics check --json")]
    Check,
}

/// What to do with the settings.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigAction {
    /// Checks the settings as a whole, secrets included, and reports every mistake.
    #[command(after_help = "Example:\n  frontstream config check --config frontstream.toml --role receiver")]
    Check(ConfigArgs),
    /// Prints every setting with its value and where it came from; secrets masked.
    #[command(after_help = "Example:\n  frontstream config show --json")]
    Show(ConfigArgs),
}

/// Arguments of `config check` and `config show`.
#[derive(Clone, Copy, Debug, Args)]
pub struct ConfigArgs {
    /// Only what this role uses; everything without it.
    #[arg(long, value_enum)]
    pub role: Option<Role>,
}

/// A role whose settings are checked or shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The receiver: at least one signature scheme must be on.
    Receiver,
    /// The processor: needs none of Front's secrets.
    Processor,
}

impl Role {
    /// Returns what the settings are for.
    pub fn purpose(self) -> Purpose {
        match self {
            Self::Receiver => Purpose::Receiver,
            Self::Processor => Purpose::Processor,
        }
    }

    /// Says whether this role reads the setting.
    pub fn uses(self, key: &str) -> bool {
        let others = match self {
            Self::Receiver => "processor.",
            Self::Processor => "receiver.",
        };
        !key.starts_with(others)
    }
}

/// What to do with Front's secrets.
#[derive(Clone, Debug, Subcommand)]
pub enum SecretsAction {
    /// Says which configured secret signed a request that was captured; posts nothing. Exit code 1 when none did.
    ///
    /// The time of the request does not matter here: it is as if it had just come.
    #[command(
        after_help = "Example:\n  frontstream secrets check body.json --header 'X-Front-Signature: …' \\\n    \
        --header 'X-Front-Request-Timestamp: …'"
    )]
    Check(SecretsCheck),
}

/// Arguments of `secrets check`.
#[derive(Clone, Debug, Args)]
pub struct SecretsCheck {
    /// The body, byte for byte as it was sent; - for standard input.
    #[arg(value_hint = ValueHint::FilePath)]
    pub body: PathBuf,
    /// A header of the request; repeated for each. Those that do not matter may stand there too.
    #[arg(long, short = 'H', value_name = "NAME: VALUE", value_hint = ValueHint::Other)]
    pub header: Vec<String>,
}

/// Arguments of `lag`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Lag {
    /// Exit code 1 when any partition is more records behind than this.
    #[arg(long, value_name = "RECORDS")]
    pub max: Option<u64>,
}

/// Arguments of `audit`.
#[derive(Clone, Debug, Args)]
pub struct Audit {
    /// Audits this partition only; may be repeated.
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..), value_name = "N")]
    pub partition: Vec<i32>,
    /// Gives up (exit code 3) when the topics cannot be read within this time.
    #[arg(long, default_value = "10m", value_parser = value::duration, value_name = "DURATION")]
    pub timeout: Duration,
}

fn zero_or_more(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        Ok(_) | Err(_) => Err("must be a number, zero or above".to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        Ok(_) | Err(_) => Err("must be a number above zero".to_owned()),
    }
}
