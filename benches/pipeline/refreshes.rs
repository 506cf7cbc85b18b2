//! Reads `front.refresh` as a refresh queue would: committed records, as soon as they can be read.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use frontstream::lifecycle::{Clock, Instant};
use frontstream::model::{Refresh, Timestamp};
use frontstream::wire::RefreshDecoder;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use crate::cluster::{Bench, Topics};
use crate::process::PATIENCE;

/// How long a refresh is waited for that should not come.
const STRAGGLERS: Duration = Duration::from_secs(1);

/// A refresh, and when it could be read.
pub(crate) struct Seen {
    pub(crate) refresh: Refresh,
    pub(crate) at: Timestamp,
    pub(crate) at_instant: Instant,
}

/// A read-committed reader of all partitions, from where they end now.
pub(crate) struct Reader {
    client: BaseConsumer,
    decoder: RefreshDecoder,
}

impl Reader {
    pub(crate) fn from_now(bench: &Bench, topics: &Topics) -> anyhow::Result<Self> {
        let mut config = bench.client();
        config
            .set("group.id", format!("{}-reader", topics.names.refresh))
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error");
        let client: BaseConsumer = config.create()?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..topics.partitions {
            let partition = i32::try_from(partition)?;
            let (_, end) = client
                .fetch_watermarks(&topics.names.refresh, partition, PATIENCE)
                .context("asking where the refreshes end")?;
            assignment.add_partition_offset(&topics.names.refresh, partition, Offset::Offset(end))?;
        }
        client.assign(&assignment)?;
        Ok(Self {
            client,
            decoder: RefreshDecoder::new(),
        })
    }

    /// Reads one refresh if there is one within `wait`.
    pub(crate) fn read(&self, wait: Duration) -> anyhow::Result<Option<Seen>> {
        let Some(message) = self.client.poll(wait) else {
            return Ok(None);
        };
        let message = message.context("reading refreshes")?;
        let (at, at_instant) = (Clock::system().now(), Instant::now());
        let value = message.payload().context("a refresh has a value")?;
        let refresh = self.decoder.refresh(value).context("decoding a refresh")?;
        Ok(Some(Seen {
            refresh,
            at,
            at_instant,
        }))
    }

    /// Reads on after `counted` events until `stored` are counted, and for a while more: none may be missing, none twice.
    pub(crate) fn count_up_to(
        &self,
        mut counted: u64,
        stored: u64,
        mut check: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut complete: Option<Instant> = None;
        let began = Instant::now();
        // Anything counted twice may still be on its way.
        while complete.is_none_or(|complete| complete.elapsed() < STRAGGLERS) {
            ensure!(
                complete.is_some() || began.elapsed() < PATIENCE,
                "{counted} events of {stored} were counted"
            );
            check()?;
            if let Some(seen) = self.read(Duration::from_millis(5))? {
                counted += u64::from(seen.refresh.event_count);
            }
            if counted >= stored {
                complete.get_or_insert_with(Instant::now);
            }
        }
        ensure!(counted == stored, "{counted} events were counted of {stored}");
        Ok(())
    }

    /// Reads until `each` says that it has enough, at most for the bench's patience.
    pub(crate) fn read_until(
        &self,
        what: &str,
        mut each: impl FnMut(Option<Seen>) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        while !each(self.read(Duration::from_millis(20))?)? {
            if began.elapsed() > PATIENCE {
                bail!("waited {PATIENCE:?} in vain until {what}");
            }
        }
        Ok(())
    }
}
