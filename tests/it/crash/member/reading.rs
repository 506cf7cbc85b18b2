//! How it reads its partitions.

use std::rc::Rc;

use frontstream::consume::{Input, Record};
use frontstream::model::{Offset, Partition, Timestamp};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::super::oracle::Stored;
use super::Member;

/// How one partition is read.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) position: Offset,
    /// Its position left the log: nothing is read until it is assigned anew.
    pub(super) stopped: bool,
    /// The end that the worker has been told of.
    pub(super) end_told: Option<Offset>,
}

/// A record that was read.
pub(in super::super) struct Read {
    partition: Partition,
    stored: Rc<Stored>,
}

impl Record for Read {
    fn partition(&self) -> Partition {
        self.partition
    }

    fn offset(&self) -> Offset {
        self.stored.offset
    }

    fn log_time(&self) -> Option<Timestamp> {
        Some(self.stored.log_time)
    }

    fn key(&self) -> Option<&[u8]> {
        Some(&self.stored.key)
    }

    fn value(&self) -> Option<&[u8]> {
        self.stored.value.as_deref()
    }
}

impl Member {
    /// Takes what is ready; a partition whose position left the log is stopped, and said so mostly.
    pub(super) fn read(&self) -> Option<Input<Read>> {
        let broker = self.world.broker.borrow();
        let mut place = self.place.borrow_mut();
        let mut limit = self.world.batch_limit();
        let mut records = Vec::new();
        let (mut told_early, mut stopped) = (false, false);
        let count = place.fetches.len();
        self.turn.set(self.turn.get() + 1);
        let first = self.turn.get() % count.max(1);
        for at in (first..count).chain(0..first) {
            let (partition, fetch) = place.fetches.iter_mut().nth(at).expect("at is below the count");
            if fetch.stopped {
                continue;
            }
            let log = broker.log(*partition);
            if fetch.position < log.start {
                fetch.stopped = true;
                stopped = true;
                continue;
            }
            let ready = broker.readable(*partition, fetch.position);
            let taken = &ready[..limit.min(ready.len())];
            limit -= taken.len();
            for stored in taken {
                broker.tell(|| format!("  {} reads {partition} {}", self.client.seat, stored.offset));
                records.push(Read {
                    partition: *partition,
                    stored: Rc::clone(stored),
                });
            }
            if let Some(last) = taken.last() {
                fetch.position = last.offset.next();
            }
            // A new leader may report an old end.
            let early = !taken.is_empty() && self.world.chance(60);
            if early || (taken.len() == ready.len() && fetch.end_told != Some(log.end)) {
                told_early |= early && taken.len() < ready.len();
                fetch.end_told = Some(log.end);
                self.next.borrow_mut().push_back(Input::LogEnd(*partition));
            }
        }
        drop(broker);
        if told_early {
            self.world.count("end of the log told early");
        }
        if stopped {
            self.stop_reading();
        }
        (!records.is_empty()).then_some(Input::Batch(records))
    }

    /// Says that a position left the log; a rebalance at that moment makes librdkafka forget it.
    fn stop_reading(&self) {
        if self.world.below(3) == 0 {
            self.world.count("position left the log, not told");
            return;
        }
        self.world.count("position left the log");
        let error = self.refused("read", Code::AutoOffsetReset);
        self.next.borrow_mut().push_back(Input::Error(error));
    }
}
