//! What the receivers append.

use std::rc::Rc;

use frontstream::model::{
    ConversationId, Event as Whole, EventId, Kind, Priority, Source, TenantId, Timestamp,
};
use frontstream::wire::{Encoding, event_v1};

use super::super::broker::Broker;
use super::super::oracle::{Event, Stored};
use super::{World, offset_of, wall_ms};

impl World {
    pub(super) fn append(&self) {
        let mut broker = self.broker.borrow_mut();
        let number = self.random.borrow_mut().index(broker.logs.len());
        broker.story.count("append");
        for _ in 0..self.below(5) {
            let now_us = broker.now_us;
            let now_ms = wall_ms(now_us);
            let mut offset = broker.logs[number].end;
            if self.below(15) == 0 {
                offset = offset_of(offset.number() + i64::try_from(self.below(5)).expect("small"));
            }
            let event = (self.below(20) > 0).then(|| self.event(&mut broker, number, now_ms));
            // The clocks of receivers differ, and a producer may have waited.
            let mut late_ms = 0;
            if !self.plan.punctual && self.below(10) == 0 {
                late_ms = i64::try_from(self.below(9_000)).expect("seconds");
                broker.story.count("late old record");
            }
            broker.story.count(if event.is_some() {
                "record"
            } else {
                "undecodable record"
            });
            let stored = Stored {
                offset,
                log_time: Timestamp::from_millis(now_ms - late_ms),
                appended_us: now_us,
                key: format!("key-{}", offset.number() % 7).into_bytes(),
                value: self.value(event.as_ref()),
                event,
            };
            broker.tell(|| format!("appended {number}: {stored:?}"));
            let log = &mut broker.logs[number];
            log.end = offset.next();
            log.records.push(Rc::new(stored));
        }
    }

    pub(super) fn event(&self, broker: &mut Broker, number: usize, now_ms: i64) -> Event {
        if !self.plan.retention && self.below(4) == 0 {
            // A retry of Front: any earlier event, near or far.
            let records = &broker.logs[number].records;
            let back = self.below(2) * 100 + 20;
            let back = self
                .random
                .borrow_mut()
                .index(usize::try_from(back).expect("small"));
            let earlier = records
                .iter()
                .rev()
                .nth(back)
                .and_then(|earlier| earlier.event.clone());
            if let Some(event) = earlier {
                broker.story.count("duplicate");
                return event;
            }
        }
        self.events.set(self.events.get() + 1);
        let conversation = self.below(self.plan.conversations);
        let received_ms = now_ms - 3_000 + i64::try_from(self.below(4_000)).expect("seconds");
        Event {
            tenant: self.pick(&["acme", "bolt"]),
            conversation: (conversation > 0).then(|| format!("cnv_{conversation}")),
            id: format!("evt_{}", self.events.get()),
            kind: self.pick(&["message.received", "tag.added", "comment.added"]),
            priority: self.pick(&Priority::ALL),
            emitted_at: Timestamp::from_millis(
                received_ms - i64::try_from(self.below(1_000)).expect("a second"),
            ),
            received_at: Timestamp::from_millis(received_ms),
        }
    }

    pub(super) fn value(&self, event: Option<&Event>) -> Option<Vec<u8>> {
        let Some(event) = event else {
            return (self.below(2) == 0).then(|| b"not Avro at all".to_vec());
        };
        let whole = Whole {
            tenant: TenantId::new(event.tenant).expect("not empty"),
            conversation: event.conversation.as_deref().and_then(ConversationId::new),
            id: EventId::new(event.id.as_str()).expect("not empty"),
            kind: Kind::new(event.kind).expect("not empty"),
            front_type: None,
            front_inner_type: None,
            priority: event.priority,
            source: Source::Webhook,
            emitted_at: event.emitted_at,
            received_at: event.received_at,
            payload: None,
        };
        let mut value = Vec::new();
        event_v1::write(&mut value, Encoding::SingleObject, &whole);
        Some(value)
    }
}
