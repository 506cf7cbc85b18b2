//! What roles do before they are ready: find their topics, register their schema. Both wait for what is away.

use std::time::Duration;

use anyhow::Context as _;

use crate::kafka::topics::{self, Admin};
use crate::kafka::{self, TopicNames};
use crate::lifecycle::{Exit, Gate, Instant};
use crate::observe::{Outage, causes};
use crate::registry;
use crate::wire::Encoding;

/// How long one question waits for its answer.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause after a question that was not answered; brokers that are away are looked at meanwhile.
const PAUSE: Duration = Duration::from_secs(2);

/// Waits until the brokers answer, then checks that the topics are there and fit each other.
///
/// # Errors
///
/// A topic is missing or has the wrong partition count: the message names the command that mends it. The brokers refuse
/// this client, for its credentials or its rights, or cannot work with it.
pub(super) async fn find_topics(
    kafka: &kafka::Settings,
    names: &TopicNames,
    gate: &Gate,
) -> anyhow::Result<()> {
    let admin = Admin::new(kafka, QUESTION_TIMEOUT).context(Exit::Usage)?;
    let away = Outage::default();
    loop {
        match admin.check_fit(names).await {
            Ok(_partitions) => {
                if let Some(over) = away.over(Instant::now()) {
                    tracing::info!(after = ?over.lasted, "the brokers answer");
                }
                return Ok(());
            }
            Err(error @ topics::Error::Unfit(_)) => {
                return Err(anyhow::Error::new(error).context(Exit::Usage));
            }
            Err(error) if !error.passes() => return Err(anyhow::Error::new(error).context(Exit::Fatal)),
            Err(error) => {
                gate.not_ready("no answer from the brokers");
                if let Some(left_out) = away.failed(Instant::now()) {
                    tracing::warn!(left_out, "{}; tries again", causes(&error));
                }
                if matches!(error, topics::Error::Unreachable { .. }) {
                    find_refusal(kafka).await.context(Exit::Fatal)?;
                } else {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Looks why the brokers do not answer, for [`PAUSE`]: those that refuse our credentials look as if they were away.
async fn find_refusal(kafka: &kafka::Settings) -> anyhow::Result<()> {
    let settings = kafka.clone();
    let refusal = tokio::task::spawn_blocking(move || kafka::refusal(&settings, PAUSE)).await?;
    match refusal? {
        None => Ok(()),
        Some(words) => Err(topics::Error::Denied {
            brokers: kafka.brokers.clone(),
            words,
        }
        .into()),
    }
}

/// What the registry gave: how to write, and whom to ask for the schemas of what is read.
#[derive(Clone, Debug)]
pub(super) struct Schemas {
    pub(super) registry: Option<registry::Handle>,
    pub(super) encoding: Encoding,
}

/// Registers `schema` for the values of `topic`, waiting for a registry that is away; without a registry there is
/// nothing to do.
///
/// # Errors
///
/// The registry refuses the schema, or what answers is no registry: an operator has to look.
pub(super) async fn find_schemas(
    settings: Option<&registry::Settings>,
    topic: &str,
    schema: &str,
    gate: &Gate,
) -> anyhow::Result<Schemas> {
    let Some(settings) = settings else {
        return Ok(Schemas {
            registry: None,
            encoding: Encoding::SingleObject,
        });
    };
    let handle = registry::Handle::new(settings).context(Exit::Usage)?;
    let subject = registry::subject_of(topic);
    let away = Outage::default();
    loop {
        match handle.ensure(&subject, schema).await {
            Ok(id) => {
                if let Some(over) = away.over(Instant::now()) {
                    tracing::info!(after = ?over.lasted, "the schema registry answers");
                }
                return Ok(Schemas {
                    registry: Some(handle),
                    encoding: Encoding::Registry(id),
                });
            }
            Err(error @ registry::Error::Unreachable { .. }) => {
                gate.not_ready("the schema registry is away");
                if let Some(left_out) = away.failed(Instant::now()) {
                    tracing::warn!(left_out, "{}; tries again", causes(&error));
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(anyhow::Error::new(error).context(Exit::Outside)),
        }
    }
}
