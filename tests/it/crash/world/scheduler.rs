//! Who goes on next: a worker, a process, the receivers, a fault, or the time.

use std::rc::Rc;

use frontstream::consume;
use frontstream::emit;
use frontstream::model::Partition;
use frontstream::roles::processor::Error;

use super::processes::Seat;
use super::{World, partition_of};

impl World {
    /// Storms and calms follow each other; in a calm, once everything has settled, windows are held to their time.
    pub(super) fn weather(self: &Rc<Self>) {
        if self.below(180) == 0 {
            let stormy = !self.stormy.get();
            self.stormy.set(stormy);
            self.broker.borrow_mut().promise.settled_us = None;
        }
        if !self.stormy.get() && self.broker.borrow().promise.settled_us.is_none() && self.is_settled() {
            let mut broker = self.broker.borrow_mut();
            broker.promise.settled_us = Some(broker.now_us);
            broker.promise.delay_stepped_us = 0;
        }
    }

    /// Says whether every partition is read to its end by someone who may commit, and nothing is pending.
    pub(super) fn is_settled(&self) -> bool {
        let broker = self.broker.borrow();
        let seats = self.seats.borrow();
        let processes = self.processes.borrow();
        let read = |partition: Partition| {
            seats.iter().any(|seat| {
                let job = seat.job.as_ref();
                job.is_some_and(|job| {
                    !job.worker.stop.is_cancelled() && job.worker.source.has_read(partition, &broker)
                })
            })
        };
        let poisoned = |seat: &Seat| {
            let client = seat.client.as_ref();
            client.is_some_and(|client| client.poisoned.get() || client.poisoned_partition.get().is_some())
        };
        processes.iter().all(|process| process.starts_us.is_none())
            && !seats.iter().any(poisoned)
            && !self.reset_wanted.get()
            && broker.now_us >= self.away_until_us.get()
            && broker.group.is_settled()
            && !broker.has_open_transactions()
            && (0..broker.logs.len()).map(partition_of).all(read)
    }

    /// One scheduler action: one turn of one worker, one append, one fault, or time that passes until someone is ready.
    pub(super) fn step(self: &Rc<Self>) {
        self.actions.set(self.actions.get() + 1);
        match self.below(100) {
            0..12 => self.append(),
            12..20 if self.stormy.get() => self.fault(),
            // No fault: time goes on from there.
            20 if !self.stormy.get() => self.step_clock_back(),
            _ => self.work(),
        }
    }

    pub(super) fn go_on(self: &Rc<Self>, actions: u64) {
        self.depth.set(self.depth.get() + 1);
        for _ in 0..actions {
            self.step();
        }
        self.depth.set(self.depth.get() - 1);
    }

    /// Lets a worker that is ready take its turn, starts a process that is due, or lets time pass.
    pub(super) fn work(self: &Rc<Self>) {
        self.reset_if_empty();
        let due = {
            let now_us = self.broker.borrow().now_us;
            let processes = self.processes.borrow();
            let mut due = processes.iter().enumerate();
            due.find(|(_, process)| {
                !self.reset_wanted.get() && process.starts_us.is_some_and(|starts_us| starts_us <= now_us)
            })
            .map(|(process, _)| process)
        };
        if let Some(process) = due {
            self.start(process);
            return;
        }
        let ready = {
            let broker = self.broker.borrow();
            let seats = self.seats.borrow();
            let ready = |seat: &Seat| {
                let (Some(job), Some(client)) = (&seat.job, &seat.client) else {
                    return false;
                };
                !client.frozen.get()
                    && (client.ready_us.get() <= broker.now_us
                        || job.worker.stop.is_cancelled()
                        || job.worker.source.has_news(&broker))
            };
            let ready: Vec<usize> = (0..seats.len()).filter(|at| ready(&seats[*at])).collect();
            ready
        };
        if ready.is_empty() {
            self.let_time_pass();
        } else {
            self.turn(self.pick(&ready));
        }
    }

    pub(super) fn let_time_pass(&self) {
        let next_us = {
            let seats = self.seats.borrow();
            let waiting = seats.iter().filter(|seat| seat.job.is_some());
            let waiting = waiting
                .filter_map(|seat| seat.client.as_ref())
                .filter(|client| !client.frozen.get());
            let waiting = waiting.map(|client| client.ready_us.get());
            let processes = self.processes.borrow();
            let starting = processes.iter().filter_map(|process| process.starts_us);
            waiting.chain(starting.filter(|_| !self.reset_wanted.get())).min()
        };
        let now_us = self.broker.borrow().now_us;
        let until_us = next_us.unwrap_or(now_us + 500_000);
        self.pass_us(until_us.saturating_sub(now_us).clamp(1_000, 1_000_000));
        if self.chance(12) {
            self.pass_us(self.below(5_000_000));
        }
    }

    /// One turn of a worker, or its end when it was told to stop.
    pub(super) fn turn(self: &Rc<Self>, seat: usize) {
        let (mut job, client, process) = {
            let mut seats = self.seats.borrow_mut();
            let seat = &mut seats[seat];
            let job = seat.job.take().expect("it was ready");
            (
                job,
                Rc::clone(seat.client.as_ref().expect("it lives")),
                seat.process,
            )
        };
        client.calls.set(0);
        self.tell(|| format!("turn of {seat}"));
        client.time.meet(&mut self.broker.borrow_mut().now_us);
        let stopping = job.worker.stop.is_cancelled();
        let turned = if stopping {
            job.worker.end(&mut job.state)
        } else {
            job.worker.turn(&mut job.state)
        };
        client.time.meet(&mut self.broker.borrow_mut().now_us);
        if !client.is_alive() {
            drop(job);
            return;
        }
        match turned {
            Ok(()) if client.ended.get() && !stopping => {
                let wrong = format!("seat {seat} goes on although its clients said that they cannot");
                self.broker.borrow_mut().wrong.push(wrong);
            }
            Ok(()) if !stopping => {
                self.seats.borrow_mut()[seat].job = Some(job);
                return;
            }
            Ok(()) => self.count("stop"),
            Err(error) => {
                self.tell(|| format!("seat {seat} ended: {error:?}"));
                self.count(exit_of(&error));
                self.processes.borrow()[process].stop.cancel();
            }
        }
        client.kill();
        drop(job);
        self.ended(process);
    }
}

fn exit_of(error: &Error) -> &'static str {
    use consume::Error as Consume;
    use emit::Error as Emit;
    match error {
        Error::Metadata(_) | Error::Decode(_) => panic!("no fault explains it: {error}"),
        Error::KeepsFailing { .. } => "exit: aborted too often",
        Error::KeepsRejoining { .. } => "exit: taken over anew too often",
        Error::Overdue { .. } => unreachable!("it is their supervisor who says so"),
        Error::Consume { source, .. } => match source {
            // The model's members know who they are.
            Consume::Expelled { .. } => unreachable!("no model makes it"),
            Consume::Fenced { .. } => "exit: fenced",
            Consume::Unreleased { .. } => "exit: instance id not released",
            Consume::Fatal { .. } => "exit: cannot go on",
            Consume::Retry { .. }
            | Consume::Rewind { .. }
            | Consume::Rebalanced { .. }
            | Consume::Rejoin { .. } => "exit: not answered too often",
        },
        Error::Emit { source, .. } => match source {
            Emit::Fenced { .. } => "exit: fenced",
            Emit::Expired { .. } => "exit: expired",
            Emit::Unanswered { .. } => "exit: outcome not told",
            Emit::Fatal { .. } => "exit: cannot go on",
            Emit::Rewind { .. } | Emit::Rebalanced { .. } => panic!("an abort ends no worker: {error}"),
        },
    }
}
