//! Waiting for a client's first connections, where librdkafka would wait longer.

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;

/// How long each of the two questions may take: where brokers are up, they answer within milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

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
