//! Processes and their workers: started, ended, killed, and started again.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use frontstream::coalesce::{ChunkLimits, Limits};
use frontstream::consume;
use frontstream::kafka::{self, TopicNames};
use frontstream::lifecycle::{Readiness, Stop};
use frontstream::model::Lanes;
use frontstream::roles::processor::{Decoder, Settings, State, Worker};

use super::super::client::{Client, Time};
use super::super::member::Member;
use super::super::producer::Producer;
use super::{COMMIT_INTERVAL, World};

/// One worker in its process.
pub(super) struct Seat {
    pub(super) process: usize,
    pub(super) number: usize,
    pub(super) job: Option<Job>,
    /// Of the life that it has now or had last.
    pub(super) client: Option<Rc<Client>>,
}

pub(super) struct Job {
    pub(super) worker: Worker<Member, Producer>,
    pub(super) state: State,
}

/// A place for a process: it is started, ends or is killed, and is started again.
pub(super) struct Process {
    pub(super) seats: Vec<usize>,
    pub(super) time: Rc<Time>,
    pub(super) frozen: Rc<Cell<bool>>,
    pub(super) stop: Stop,
    /// Starts with this instance id, if the group's members are static.
    pub(super) instance: Option<String>,
    /// `None`: it runs.
    pub(super) starts_us: Option<u64>,
}

impl World {
    /// A worker of a process ended by itself: when all have, it is started again.
    pub(super) fn ended(&self, process: usize) {
        self.disturb();
        let none_left = {
            let seats = self.seats.borrow();
            let processes = self.processes.borrow();
            let mut of_process = processes[process].seats.iter();
            of_process.all(|at| seats[*at].client.as_ref().is_none_or(|client| !client.is_alive()))
        };
        if none_left {
            let starts_us = self.broker.borrow().now_us + self.below(2_000_000);
            self.processes.borrow_mut()[process].starts_us = Some(starts_us);
        }
    }

    pub(super) fn kill_process_of(&self, client: &Client) {
        let process = self.seats.borrow()[client.seat].process;
        if client.in_transaction.get() {
            self.count("crash inside a transaction");
        }
        self.kill(process);
    }

    pub(super) fn kill(&self, process: usize) {
        self.tell(|| format!("process {process} is killed"));
        let killed: Vec<_> = {
            let mut seats = self.seats.borrow_mut();
            let processes = self.processes.borrow();
            let of_process = processes[process].seats.iter();
            of_process
                .filter_map(|at| {
                    let seat = &mut seats[*at];
                    if let Some(client) = &seat.client {
                        client.kill();
                    }
                    seat.job.take()
                })
                .collect()
        };
        drop(killed);
        let starts_us = self.broker.borrow().now_us + self.below(3) * self.below(20_000_000);
        let mut processes = self.processes.borrow_mut();
        processes[process].starts_us = Some(starts_us);
    }

    /// Starts a process; the workers' producers take their transactional ids over.
    pub(super) fn start(self: &Rc<Self>, process: usize) {
        let (time, seats, instance) = {
            let mut processes = self.processes.borrow_mut();
            let process = &mut processes[process];
            process.stop = Stop::new();
            process.frozen = Rc::default();
            process.starts_us = None;
            (
                Rc::clone(&process.time),
                process.seats.clone(),
                process.instance.clone(),
            )
        };
        // With the instance id of another it fences that one's producer.
        self.disturb();
        self.lives.set(self.lives.get() + 1);
        self.tell(|| format!("process {process} starts"));
        time.meet(&mut self.broker.borrow_mut().now_us);
        let limits = self.limits();
        for seat in seats {
            let number = self.seats.borrow()[seat].number;
            let instance = instance.as_ref().map(|instance| format!("{instance}-{number}"));
            // Where no instance id is configured, every life has an id of its own.
            let id = instance
                .clone()
                .unwrap_or_else(|| format!("life-{}-{number}", self.lives.get()));
            let epoch = self.broker.borrow_mut().init(&id);
            let Some(epoch) = epoch else {
                // The coordinator still writes the end of the last transaction: the process tries again.
                self.kill(process);
                let soon_us = self.broker.borrow().now_us + 100_000;
                self.processes.borrow_mut()[process].starts_us = Some(soon_us);
                return;
            };
            self.seat(process, seat, instance, (id, epoch), limits);
        }
    }

    pub(super) fn seat(
        self: &Rc<Self>,
        process: usize,
        seat: usize,
        instance: Option<String>,
        id: (String, u32),
        limits: Limits,
    ) {
        let processes = self.processes.borrow();
        let process = &processes[process];
        let client = Rc::new(Client::new(seat, &process.frozen, &process.time));
        let worker = Worker {
            number: self.seats.borrow()[seat].number,
            settings: settings(limits, instance.clone()),
            source: Member::join(self, &client, instance),
            emitter: Producer::new(
                self,
                &client,
                self.ground.emit_metrics.clone(),
                id,
                limits.metadata_bytes_max,
            ),
            decoder: Decoder::new(None, self.ground.runtime.handle().clone()),
            metrics: self.ground.metrics.clone(),
            clock: process.time.clock.clone(),
            stop: process.stop.clone(),
            gate: Readiness::new().gate("worker"),
        };
        let state = worker.begin();
        let mut seats = self.seats.borrow_mut();
        seats[seat].client = Some(client);
        seats[seat].job = Some(Job { worker, state });
    }

    /// Everything but the horizon may change with a restart.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            lanes: Lanes::default(),
            metadata_bytes_max: self.pick(&[256, 4_096]),
            event_ids_max: 1_000_000,
            dedupe: self.plan.horizon,
            chunk: ChunkLimits {
                duration: self.plan.chunk,
                windows_max: self.pick(&[3, 12, 100_000, 100_000, 100_000]),
                bytes_max: self.pick(&[20_000, 1 << 26]),
            },
        }
    }
}

fn settings(limits: Limits, instance_id: Option<String>) -> Settings {
    Settings {
        kafka: kafka::Settings {
            brokers: String::new(),
            client_id: String::new(),
            properties: std::collections::BTreeMap::new(),
        },
        topics: TopicNames::with_prefix(""),
        registry: None,
        consume: consume::Settings {
            topic: "front.events".to_owned(),
            group: "group".to_owned(),
            protocol: consume::GroupProtocol::Classic,
            instance_id,
            session_timeout: Duration::from_secs(15),
        },
        transactional_id: String::new(),
        transaction_timeout: Duration::from_secs(10),
        limits,
        workers: 1,
        commit_interval: COMMIT_INTERVAL,
        position_commit_interval: Duration::from_secs(5),
        drain_timeout: Duration::from_secs(20),
    }
}
