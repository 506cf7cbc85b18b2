//! A model of the consumer: one worker's place in the group, as librdkafka keeps it.

mod heartbeats;
mod reading;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use frontstream::consume::{Committed, Error, Input, Source};
use frontstream::kafka;
use frontstream::model::{Offset, Partition};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use self::heartbeats::Rebalance;
use self::reading::{Fetch, Read};
use super::broker::Broker;
use super::client::Client;
use super::group::{Claim, Protocol};
use super::planted::Planted;
use super::world::{World, micros};

/// How long one question waits for its answer, as the product's.
const QUESTION_US: u64 = 5_000_000;

#[derive(Debug, Default)]
struct Place {
    id: Option<u64>,
    epoch: u32,
    owned: BTreeSet<Partition>,
    fetches: BTreeMap<Partition, Fetch>,
    rebalances: VecDeque<Rebalance>,
    /// One has been handed to the worker and is not answered.
    unanswered: bool,
    lost: bool,
    /// Cooperative: what was revoked is to be told to the group once it is given back.
    rejoins: bool,
    wants: bool,
    closing: bool,
    closed: bool,
}

pub(super) struct Member {
    world: Rc<World>,
    client: Rc<Client>,
    instance: Option<String>,
    place: RefCell<Place>,
    next: RefCell<VecDeque<Input<Read>>>,
    /// Which partition is read first, so that none starves.
    turn: Cell<usize>,
}

impl Member {
    pub(super) fn join(world: &Rc<World>, client: &Rc<Client>, instance: Option<String>) -> Self {
        Self {
            world: Rc::clone(world),
            client: Rc::clone(client),
            instance,
            place: RefCell::new(Place {
                wants: true,
                ..Place::default()
            }),
            next: RefCell::default(),
            turn: Cell::new(0),
        }
    }

    /// Says whether a poll would find something at once.
    pub(super) fn has_news(&self, broker: &Broker) -> bool {
        let place = self.place.borrow();
        if !self.next.borrow().is_empty() || (!place.rebalances.is_empty() && !place.unanswered) {
            return true;
        }
        let told = match place.id {
            None => place.wants,
            Some(id) => match broker.group.members.get(&id) {
                None => true,
                Some(member) if broker.group.preparing_until_us.is_some() => !member.joined,
                Some(member) => member.epoch != place.epoch,
            },
        };
        let mut fetches = place.fetches.iter();
        told || fetches.any(|(partition, fetch)| {
            !fetch.stopped && !broker.readable(*partition, fetch.position).is_empty()
        })
    }

    /// Says whether it reads `partition` and has come to the end of its log.
    pub(super) fn has_read(&self, partition: Partition, broker: &Broker) -> bool {
        let place = self.place.borrow();
        let fetch = place.fetches.get(&partition);
        fetch.is_some_and(|fetch| !fetch.stopped && fetch.position >= broker.log(partition).end)
            && !place.lost
            && place.rebalances.is_empty()
            && self.next.borrow().is_empty()
    }

    /// Describes where it stands, for the report of a run that failed.
    pub(super) fn describe(&self) -> String {
        format!("{:?}", self.place.borrow())
    }

    fn refused(&self, attempt: &'static str, code: Code) -> Error {
        let source = KafkaError::MessageConsumption(code);
        let error = Error::new(attempt, kafka::classify(&source), source);
        self.client.ended.set(self.client.ended.get() || !error.passes());
        error
    }

    /// Enters a call that a worker makes only as long as its clients go on; one time in many they do not from here on.
    fn enter(&self, attempt: &'static str) -> Result<(), Error> {
        if self.client.ended.get() && self.client.is_alive() {
            let wrong = format!("to {attempt} is tried although the clients said that they cannot go on");
            self.world.broker.borrow_mut().wrong.push(wrong);
        }
        if !self.world.enter(&self.client) {
            return Err(self.dead(attempt));
        }
        if self.world.chance(1_000) {
            self.world.count("consumer failed for good");
            return Err(self.dead(attempt));
        }
        Ok(())
    }

    fn dead(&self, attempt: &'static str) -> Error {
        self.refused(attempt, Code::Fatal)
    }
}

impl Source for Member {
    type Record<'s> = Read;
    type Group = Claim;

    fn subscribe(&self) -> Result<(), Error> {
        if !self.world.enter(&self.client) {
            return Err(self.dead("subscribe"));
        }
        self.place.borrow_mut().wants = true;
        Ok(())
    }

    fn unsubscribe(&self) {
        if self.world.enter(&self.client) {
            self.place.borrow_mut().wants = false;
        }
    }

    fn poll(&self, wait: Duration) -> Input<Read> {
        if !self.world.enter(&self.client) {
            return Input::Error(self.dead("read"));
        }
        let next = self.next.borrow_mut().pop_front();
        if let Some(input) = next {
            return input;
        }
        if let Err(error) = self.hear() {
            return Input::Error(error);
        }
        if let Some(input) = self.next_rebalance() {
            return input;
        }
        if self.world.chance(150) {
            self.world.count("question not answered");
            return Input::Error(self.refused("read", Code::BrokerTransportFailure));
        }
        if let Some(input) = self.read() {
            return input;
        }
        if let Some(input) = self.next.borrow_mut().pop_front() {
            return input;
        }
        if self.place.borrow().closing {
            // Who leaves asks again until it has left: it waits here.
            self.world.pass_us(micros(wait));
        } else {
            self.world.wait(&self.client, wait);
        }
        Input::Nothing
    }

    fn committed(&self, partitions: &[Partition]) -> Result<Vec<Committed>, Error> {
        let attempt = "fetch the committed offsets";
        self.enter(attempt)?;
        if self.world.chance(40) || self.world.is_away() {
            self.world.pass_us(QUESTION_US);
            self.world.count("question not answered");
            return Err(self.refused(attempt, Code::OperationTimedOut));
        }
        let unstable = self.world.planted() == Planted::UnstableOffsets;
        let pending = |world: &World| {
            let broker = world.broker.borrow();
            partitions.iter().any(|partition| broker.is_pending(*partition))
        };
        if pending(&self.world) && !unstable {
            self.world.count("offset fetch waited for a transaction");
            for _ in 0..10 {
                self.world.pass_us(QUESTION_US / 10);
                if !self.world.enter(&self.client) {
                    return Err(self.dead(attempt));
                }
                if !pending(&self.world) {
                    break;
                }
            }
            if pending(&self.world) {
                return Err(self.refused(attempt, Code::OperationTimedOut));
            }
        }
        let offsets: Vec<_> = {
            let mut broker = self.world.broker.borrow_mut();
            let told = partitions.iter().map(|partition| {
                let told = broker.told(self.client.seat, *partition);
                let forgets = broker.planted == Planted::CommittedForgotten
                    && broker.log(*partition).start == Offset::ZERO
                    && self.world.chance(4);
                told.filter(|_| !forgets)
            });
            told.collect()
        };
        // The ends of the log are asked for after the offsets.
        if !self.world.enter(&self.client) {
            return Err(self.dead(attempt));
        }
        let is_old = self.world.tells_old_ends();
        if is_old {
            self.world.count("old end of a log told");
            self.world.disturb();
        }
        let answers = {
            let broker = self.world.broker.borrow();
            broker.tell(|| format!("  told {} of {partitions:?}: {offsets:?}", self.client.seat));
            let answers = partitions.iter().zip(offsets).map(|(partition, position)| {
                let log = broker.log(*partition);
                Committed {
                    partition: *partition,
                    offset: position.as_ref().map(|position| position.offset),
                    metadata: position.map(|position| position.metadata).unwrap_or_default(),
                    log_start: log.start,
                    log_end: if is_old { log.start } else { log.end },
                }
            });
            answers.collect()
        };
        // Retention may pass before reading begins.
        if self.world.retention_is_near() {
            self.world.delete();
        }
        Ok(answers)
    }

    fn start(&self, positions: &[(Partition, Offset)]) -> Result<(), Error> {
        self.enter("take partitions over")?;
        let broker = self.world.broker.borrow();
        broker.tell(|| format!("  {} starts at {positions:?}", self.client.seat));
        let mut place = self.place.borrow_mut();
        if broker.group.protocol == Protocol::Eager {
            place.owned.clear();
            place.fetches.clear();
        }
        for (partition, offset) in positions {
            let mut position = *offset;
            if broker.planted == Planted::HorizonSkipped {
                let committed = broker.log(*partition).committed.as_ref();
                position = committed.map_or(position, |committed| committed.offset.max(position));
            }
            place.owned.insert(*partition);
            let fetch = Fetch {
                position,
                stopped: false,
                end_told: None,
            };
            place.fetches.insert(*partition, fetch);
        }
        place.unanswered = false;
        Ok(())
    }

    fn release(&self, partitions: &[Partition]) -> Result<(), Error> {
        if !self.world.enter(&self.client) {
            return Err(self.dead("give partitions back"));
        }
        self.client.forgive();
        let mut broker = self.world.broker.borrow_mut();
        let place = &mut *self.place.borrow_mut();
        if broker.group.protocol == Protocol::Eager {
            place.owned.clear();
            place.fetches.clear();
        }
        for partition in partitions {
            place.owned.remove(partition);
            place.fetches.remove(partition);
        }
        place.unanswered = false;
        if place.owned.is_empty() {
            place.lost = false;
            if !place.wants && place.rebalances.is_empty() {
                let now_us = broker.now_us;
                self.leave(place, &mut broker.group, now_us);
            }
        }
        Ok(())
    }

    fn rewind(&self, positions: &[(Partition, Offset)]) -> Result<(), Error> {
        let attempt = "rewind a partition";
        self.enter(attempt)?;
        if self.world.chance(8) {
            self.world.count("seek failed");
            let code = self.world.pick(&[Code::OperationTimedOut, Code::State]);
            return Err(self.refused(attempt, code));
        }
        self.world
            .tell(|| format!("  {} rewinds to {positions:?}", self.client.seat));
        let mut place = self.place.borrow_mut();
        let no_rewind = self.world.planted() == Planted::NoRewind;
        for (partition, offset) in positions {
            match place.fetches.get_mut(partition) {
                Some(fetch) if !fetch.stopped => {
                    if !no_rewind {
                        (fetch.position, fetch.end_told) = (*offset, None);
                    }
                }
                _ => return Err(self.refused(attempt, Code::State)),
            }
        }
        self.next
            .borrow_mut()
            .retain(|input| !matches!(input, Input::LogEnd(_)));
        Ok(())
    }

    fn group_metadata(&self) -> Option<Claim> {
        if !self.world.enter(&self.client) {
            return None;
        }
        let place = self.place.borrow();
        let claim = Claim {
            member: place.id?,
            epoch: place.epoch,
            instance: self.instance.clone(),
        };
        (!place.lost).then_some(claim)
    }

    fn close(&self) -> Result<(), Error> {
        if !self.world.enter(&self.client) {
            return Err(self.dead("leave the group"));
        }
        let mut place = self.place.borrow_mut();
        (place.wants, place.closing) = (false, true);
        Ok(())
    }

    fn is_closed(&self) -> bool {
        !self.client.is_alive() || self.place.borrow().closed
    }

    fn log_end(&self, partition: Partition) -> Option<i64> {
        let broker = self.world.broker.borrow();
        let log = broker.log(partition);
        if broker.planted == Planted::StuckReplayUnseen {
            let place = self.place.borrow();
            let position = place.fetches.get(&partition).map(|fetch| fetch.position);
            if position < log.committed.as_ref().map(|committed| committed.offset) {
                return None;
            }
        }
        Some(log.end.number())
    }

    fn is_disconnected(&self) -> bool {
        self.world.is_away()
    }
}
