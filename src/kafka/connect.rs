//! A client's first connections: waiting for them where librdkafka would wait longer, and what refuses them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use super::Settings;
use super::errors::is_denied;
use crate::lifecycle::Instant;

/// How long each of the two questions may take: where brokers are up, they answer within milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one look for the brokers' words takes: brokers take their time to refuse, a tenth of a second by default.
const LOOK: Duration = Duration::from_millis(100);

/// What tells the brokers' refusal from all else that librdkafka gives the code of a failed authentication: a connection that
/// is lost in the middle of it, or a token that its source did not give, may be there later.
///
/// Source: librdkafka 2.12.1, `rd_kafka_handle_SaslAuthenticate`, `rd_kafka_broker_handle_SaslHandshake`.
const BROKERS_WORDS: [&str; 2] = [
    "SASL authentication error: ",
    "mechanism handshake failed: Broker: ",
];

/// Says whether an error of which the client says `reason` is the brokers' refusal of our credentials, which does not pass.
pub(crate) fn is_brokers_refusal(error: &KafkaError, reason: &str) -> bool {
    is_denied(error) && BROKERS_WORDS.iter().any(|words| reason.contains(words))
}

/// Waits until the client is connected to a broker that it has learned of, at most some seconds. Blocks.
///
/// librdkafka looks for a coordinator when something wakes it, and if no such broker is connected then, again half a
/// second later: that half second is most of a processor's start. The first answer comes from any broker and names the
/// others; the second comes from one of those, a partition's leader. Without the first, the second would itself wait
/// for half a second now and then (`rd_kafka_topic_partition_list_query_leaders`). No answer is no failure here: what
/// the caller does next goes on trying, and says so.
pub(crate) fn await_connection<C: ClientContext>(client: &Client<C>, topic: &str) {
    if client.fetch_metadata(Some(topic), ANSWER_TIMEOUT).is_ok() {
        let _ = client.fetch_watermarks(topic, 0, ANSWER_TIMEOUT);
    }
}

/// Tries to connect for as long as `wait`; returns the brokers' words when they refuse our credentials. Blocks.
///
/// To whoever asks for anything librdkafka says that nobody answers, and goes on trying: that the credentials are not
/// taken is told to the client's callback for errors only, which an admin client of rdkafka (0.39) never hears.
///
/// # Errors
///
/// The client's settings are refused.
pub(crate) fn refusal(settings: &Settings, wait: Duration) -> Result<Option<String>, KafkaError> {
    let client = BaseProducer::from_config_and_context(&settings.client_config(), Listener::default())?;
    let began = Instant::now();
    while began.elapsed() < wait {
        if client.client().fetch_metadata(None, LOOK).is_ok() {
            return Ok(None);
        }
        client.poll(LOOK);
        let denied = client.context().denied.lock();
        if let Some(words) = denied.unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(Some(words));
        }
    }
    Ok(None)
}

/// Keeps the words with which credentials were refused.
#[derive(Default)]
struct Listener {
    denied: Mutex<Option<String>>,
}

impl ClientContext for Listener {
    /// That brokers are away is told by whoever waits for them.
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "frontstream::librdkafka", facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if is_brokers_refusal(&error, reason) {
            let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
            denied.get_or_insert_with(|| reason.to_owned());
        }
    }
}

impl ProducerContext for Listener {
    type DeliveryOpaque = ();

    /// Nothing is sent.
    fn delivery(&self, _result: &DeliveryResult<'_>, (): ()) {}
}
