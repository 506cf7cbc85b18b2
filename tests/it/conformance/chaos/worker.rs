//! A worker and what befalls it.

use std::time::Duration;

use frontstream::lifecycle::Instant;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::producer::Producer as _;

use super::life::{Batch, Life, POLL, persist, producer};
use super::{ANSWER_TIMEOUT, Fault, Stage};
use crate::support::Random;

/// What befalls one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mishap {
    /// Aborted on purpose with records in it.
    Abort,
    /// Aborted on purpose with records and offsets in it.
    AbortLate,
    /// The client is gone with records in it; another one comes up with the same identity.
    Crash,
    /// The same, with records and offsets in it.
    CrashLate,
    /// Its transactional id is taken by another producer, which goes on; then it tries to finish.
    TakenOver,
    /// Its place in the group is another's, who goes on under another transactional id; then it tries to finish.
    Outdated,
    /// Its offsets are in when its place in the group becomes another's; it commits after that.
    Overtaken,
    /// A third worker joins, works and leaves.
    Guest,
}

impl Mishap {
    pub(super) const ALL: [Self; 8] = [
        Self::Abort,
        Self::AbortLate,
        Self::Crash,
        Self::CrashLate,
        Self::TakenOver,
        Self::Outdated,
        Self::Overtaken,
        Self::Guest,
    ];

    /// How often a worker is dealt each.
    const TIMES: usize = 2;

    /// How many transactions go well for each that does not.
    const CALM: usize = 2;
}

/// How many records a transaction has at most.
const BATCH: u64 = 24;

/// How long a guest stays, and a successor is waited for, at most.
const STAY: Duration = Duration::from_secs(5);

/// A worker through all its lives.
pub(super) struct Worker<'a> {
    stage: &'a Stage<'a>,
    slot: u64,
    instance: Option<&'static str>,
    dice: Random,
    /// What is still to happen, last first; `None` for a transaction that goes well.
    dealt: Vec<Option<Mishap>>,
    /// How many transactional ids it has had.
    ids: u32,
}

impl<'a> Worker<'a> {
    pub(super) fn new(stage: &'a Stage<'a>, slot: u64) -> Self {
        let mut dice = Random::new(stage.run.seed ^ slot << 32);
        let mut dealt: Vec<_> = Mishap::ALL
            .iter()
            .flat_map(|mishap| std::iter::repeat_n(Some(*mishap), Mishap::TIMES))
            .collect();
        dealt.resize(dealt.len() * (1 + Mishap::CALM), None);
        dice.shuffle(&mut dealt);
        Self {
            stage,
            slot,
            instance: stage.run.instance.filter(|_| slot == 0),
            dice,
            dealt,
            ids: 0,
        }
    }

    /// Works until the stage says stop.
    pub(super) fn work(mut self) {
        let mut life = self.new_life();
        while !self.stage.stopped() {
            let limit = 1 + self.dice.below(BATCH);
            self.doing("copying");
            match self.dealt.last().copied().flatten() {
                None => {
                    if !life.step(limit) {
                        continue;
                    }
                }
                Some(Mishap::Guest) => self.have_a_guest(&mut life),
                Some(mishap) => {
                    let Some(batch) = life.batch(limit) else {
                        continue;
                    };
                    life = self.suffer(life, mishap, &batch);
                }
            }
            self.dealt.pop();
        }
        self.doing("leaving");
        drop(life);
        self.doing("gone");
    }

    fn doing(&self, what: &str) {
        let next = self.dealt.last().copied().flatten();
        self.stage.doing(self.slot, format!("{what}, dealt {next:?}"));
    }

    fn suffer(&mut self, mut life: Life<'a>, mishap: Mishap, batch: &Batch) -> Life<'a> {
        let group = life.group();
        let offsets_too = match mishap {
            Mishap::AbortLate | Mishap::CrashLate | Mishap::Overtaken => true,
            Mishap::TakenOver => self.dice.below(2) == 0,
            Mishap::Abort | Mishap::Crash | Mishap::Outdated | Mishap::Guest => false,
        };
        let begun = life.copy(batch).and_then(|()| life.flush()).and_then(|()| {
            if offsets_too {
                life.send_offsets(batch, &group)
            } else {
                Ok(())
            }
        });
        if let Err(error) = begun {
            life.recover(&error);
            return life;
        }
        let next = match mishap {
            Mishap::Abort | Mishap::AbortLate | Mishap::Guest => {
                life.abort();
                life
            }
            Mishap::Crash | Mishap::CrashLate => {
                let id = life.transactional_id.clone();
                self.doing("leaving");
                drop(life);
                self.doing("coming back");
                Life::new(self.stage, &id, self.instance)
            }
            Mishap::TakenOver => {
                self.take_over(&mut life, batch, (!offsets_too).then_some(&group));
                life
            }
            Mishap::Outdated => self.outdate(life, batch, &group),
            Mishap::Overtaken => self.overtake(life),
        };
        self.stage.happened(mishap);
        next
    }

    /// Another producer takes the transactional id; the member of the group stays, so only the producer's epoch protects.
    fn take_over(&self, life: &mut Life<'a>, batch: &Batch, group: Option<&ConsumerGroupMetadata>) {
        self.doing("taking the transactional id");
        let heir = producer(self.stage, &life.transactional_id);
        let zombie = std::mem::replace(&mut life.producer, heir);
        life.rewind();
        self.go_on(life);
        self.doing("committing as a zombie");
        let offsets = batch.offsets(&self.stage.input);
        let finished = group
            .map_or(Ok(()), |group| {
                zombie.send_offsets_to_transaction(&offsets, group, ANSWER_TIMEOUT)
            })
            .and_then(|()| zombie.commit_transaction(ANSWER_TIMEOUT));
        if finished.is_ok() {
            self.stage.violated(
                "a commit was taken from a producer whose transactional id was another's".to_owned(),
            );
        }
    }

    /// Another member takes its place, under another transactional id: only the group's generation protects.
    fn outdate(&mut self, life: Life<'a>, batch: &Batch, group: &ConsumerGroupMetadata) -> Life<'a> {
        let Life {
            consumer,
            producer: zombie,
            ..
        } = life;
        self.doing("leaving");
        drop(consumer);
        let mut heir = self.new_life();
        self.go_on(&mut heir);
        self.doing("committing as a zombie");
        let offsets = batch.offsets(&self.stage.input);
        let refused = match self.stage.run.fault {
            Fault::None => zombie.send_offsets_to_transaction(&offsets, group, ANSWER_TIMEOUT),
            Fault::OffsetsOutside => Ok(()),
        };
        if refused.is_ok() {
            self.stage
                .violated("offsets were taken from a member whose place was another's".to_owned());
            zombie.commit_transaction(ANSWER_TIMEOUT).expect("a commit");
        } else {
            zombie.abort_transaction(ANSWER_TIMEOUT).expect("an abort");
        }
        heir
    }

    /// Another member takes its place when its offsets are in: it may commit, and the other one waits for that.
    fn overtake(&mut self, life: Life<'a>) -> Life<'a> {
        let Life {
            consumer,
            producer: zombie,
            ..
        } = life;
        self.doing("leaving");
        drop(consumer);
        let heir = self.new_life();
        let began = Instant::now();
        while heir.changes.count() == 0 && began.elapsed() < STAY {
            // What comes with the assignment is read again below.
            drop(heir.consumer.poll(POLL));
        }
        self.doing("committing after another took its place");
        if let Err(error) = persist(|| zombie.commit_transaction(ANSWER_TIMEOUT)) {
            self.stage
                .violated(format!("a commit with its offsets in was refused: {error}"));
        }
        self.doing("rewinding");
        heir.rewind();
        heir
    }

    fn have_a_guest(&mut self, life: &mut Life<'a>) {
        self.ids += 1;
        let mut guest = Life::new(self.stage, &self.transactional_id(), None);
        let began = Instant::now();
        while !self.stage.stopped() && began.elapsed() < STAY {
            life.step(BATCH);
            if guest.step(BATCH) {
                self.stage.happened(Mishap::Guest);
                return;
            }
        }
    }

    /// Works until one transaction is committed, or all is done.
    fn go_on(&self, life: &mut Life<'a>) {
        self.doing("going on");
        while !self.stage.stopped() && !life.step(BATCH) {}
    }

    fn new_life(&mut self) -> Life<'a> {
        self.doing("coming up");
        self.ids += 1;
        Life::new(self.stage, &self.transactional_id(), self.instance)
    }

    fn transactional_id(&self) -> String {
        format!("{}worker-{}-{}", self.stage.prefix, self.slot, self.ids)
    }
}
