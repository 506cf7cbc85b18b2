//! What befalls the processors between two turns.

use std::rc::Rc;

use frontstream::lifecycle::Clock;
use frontstream::model::{RunCause, Timestamp};

use super::super::broker::Log;
use super::super::client::Client;
use super::{DEPTH_MAX, WAIT_MAX, World, micros, offset_of, partition_of};

impl World {
    pub(super) fn fault(self: &Rc<Self>) {
        match self.below(40) {
            0..4 => {
                self.count("crash between two turns");
                self.kill(self.any_process());
            }
            4..7 => self.processes.borrow()[self.any_process()].stop.cancel(),
            7..11 => self.step_clock(),
            11..13 => {
                self.reset_wanted.set(true);
                self.stop_all();
            }
            13..17 => self.delete(),
            17..19 => self.add_partition(),
            19..22 => {
                self.count("coordinator away");
                let long_us = self.pick(&[2_000_000, 30_000_000, 300_000_000]);
                let until_us = self.broker.borrow().now_us + self.below(long_us);
                self.away_until_us.set(until_us);
            }
            22..26 => {
                let process = self.any_process();
                let seat = self.processes.borrow()[process].seats[0];
                let client = self.seats.borrow()[seat].client.clone();
                if let Some(client) =
                    client.filter(|client| client.is_alive() && self.depth.get() < DEPTH_MAX)
                {
                    self.freeze(&client);
                }
            }
            26..29 => self.take_identity(),
            29..31 => {
                let now_us = self.broker.borrow().now_us;
                self.broker.borrow_mut().group.change(now_us);
            }
            _ => self.pass_us(self.below(700_000)),
        }
    }

    /// SIGSTOP, and SIGCONT after a while: the world goes on without this process.
    pub(super) fn freeze(self: &Rc<Self>, client: &Client) {
        if client.frozen.replace(true) {
            return;
        }
        let within = client.in_transaction.get();
        self.count(if within {
            "stall inside a transaction"
        } else {
            "stall outside a transaction"
        });
        for _ in 0..1 + self.below(3) {
            self.go_on(1 + self.below(20));
            self.pass_us(self.below(9_000_000));
        }
        client.frozen.set(false);
        if client.is_alive() {
            self.count("zombie came back");
        }
    }

    pub(super) fn any_process(&self) -> usize {
        let count = self.processes.borrow().len();
        self.random.borrow_mut().index(count)
    }

    pub(super) fn stop_all(&self) {
        for process in self.processes.borrow().iter() {
            process.stop.cancel();
        }
    }

    pub(super) fn step_clock(&self) {
        if self.below(2) == 0 {
            self.step_clock_back();
        } else {
            self.step_clock_forward();
        }
    }

    /// Windows keep to their time whatever the step; the time since the clock was last read is lost, a turn's at most.
    pub(super) fn step_clock_back(&self) {
        let by_ms = self.step_ms();
        let clock = self.any_clock();
        let mut broker = self.broker.borrow_mut();
        broker.story.count("clock stepped back");
        broker.promise.delay_stepped_us += micros(WAIT_MAX);
        broker.tell(|| format!("  by {by_ms} ms"));
        clock.set(Timestamp::from_millis(clock.now().as_millis() - by_ms));
    }

    /// A clock far ahead of the receivers' makes every record look like a backlog: where they are to be near each other,
    /// it is only put right.
    fn step_clock_forward(&self) {
        let mut to_ms = self.wall_ms();
        let clock = self.any_clock();
        if !self.plan.punctual {
            to_ms = clock.now().as_millis() + self.step_ms();
        }
        if to_ms > clock.now().as_millis() {
            self.count("clock stepped forward");
            clock.set(Timestamp::from_millis(to_ms));
        }
    }

    fn step_ms(&self) -> i64 {
        let by_ms = self.pick(&[300, 5_000, 300_000]);
        i64::try_from(self.below(by_ms)).expect("minutes")
    }

    fn any_clock(&self) -> Clock {
        self.processes.borrow()[self.any_process()].time.clock.clone()
    }

    /// Another process starts with the instance id of one that runs; the two then change places.
    pub(super) fn take_identity(&self) {
        let mut processes = self.processes.borrow_mut();
        let (one, other) = (0, processes.len() - 1);
        if one != other {
            let instance = processes[one].instance.clone();
            processes[one].instance = processes[other].instance.clone();
            processes[other].instance = instance;
        }
    }

    /// The operator's tool sets offsets once the group is empty.
    pub(super) fn reset_if_empty(&self) {
        if !self.reset_wanted.get() {
            return;
        }
        self.stop_all();
        let mut broker = self.broker.borrow_mut();
        if !broker.group.members.is_empty() || self.seats.borrow().iter().any(|seat| seat.job.is_some()) {
            return;
        }
        for number in 0..broker.logs.len() {
            let log = &broker.logs[number];
            let (start, end) = (log.start.number(), log.end.number());
            if self.below(2) == 0 {
                let span = u64::try_from(end - start + 1).expect("ascending");
                let to = start + i64::try_from(self.below(span)).expect("a short log");
                broker.reset(partition_of(number), offset_of(to));
                broker.story.count("offset reset by an operator");
            }
        }
        self.reset_wanted.set(false);
    }

    /// Retention, or an operator, deletes the head of a log.
    pub(in super::super) fn delete(&self) {
        if !self.plan.retention {
            return;
        }
        let mut broker = self.broker.borrow_mut();
        let number = self.random.borrow_mut().index(broker.logs.len());
        let log = &mut broker.logs[number];
        let (start, end) = (log.start.number(), log.end.number());
        let span = u64::try_from(end - start + 1).expect("ascending");
        let far = if self.below(3) == 0 { span } else { span.min(30) };
        log.start = offset_of(start + i64::try_from(self.below(far)).expect("a short log"));
        let start = log.start;
        log.starts.push((RunCause::Retention, start));
        if log.committed.is_none() {
            log.starts.push((RunCause::First, start));
        }
        if log
            .committed
            .as_ref()
            .is_some_and(|committed| committed.offset < start)
        {
            broker.story.count("offsets lost");
        }
        broker.story.count("retention");
    }

    pub(super) fn add_partition(&self) {
        let mut broker = self.broker.borrow_mut();
        if broker.logs.len() < 6 {
            broker.logs.push(Log::new());
            broker.story.count("partition added");
        }
    }
}
