//! What the clients of one worker share: whether its process lives, and its time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use frontstream::lifecycle::{Clock, Instant};
use frontstream::model::Partition;

/// One life of one worker.
pub(super) struct Client {
    /// Which worker of the simulation this is.
    pub(super) seat: usize,
    alive: Cell<bool>,
    /// Stopped by a signal, together with its process: not heard of, and going on as if nothing had been.
    pub(super) frozen: Rc<Cell<bool>>,
    pub(super) time: Rc<Time>,
    /// Its clients have said that they cannot go on.
    pub(super) ended: Cell<bool>,
    /// How often it has called its clients in this turn.
    pub(super) calls: Cell<u32>,
    /// Within a transaction: from begin to the answer of commit or abort.
    pub(super) in_transaction: Cell<bool>,
    /// How many of its transactions in a row were refused, for another reason than a rebalance.
    pub(super) refusals: Cell<u32>,
    /// The same, of those that held a partition.
    pub(super) refusals_of: RefCell<BTreeMap<Partition, u32>>,
    /// The transaction that is open was.
    pub(super) refused: Cell<bool>,
    /// Every commit of its is refused.
    pub(super) poisoned: Cell<bool>,
    /// Every commit of its that holds this partition is.
    pub(super) poisoned_partition: Cell<Option<Partition>>,
    /// When it waits no longer for records, if none come.
    pub(super) ready_us: Cell<u64>,
}

impl Client {
    pub(super) fn new(seat: usize, frozen: &Rc<Cell<bool>>, time: &Rc<Time>) -> Self {
        Self {
            seat,
            alive: Cell::new(true),
            frozen: Rc::clone(frozen),
            time: Rc::clone(time),
            ended: Cell::new(false),
            calls: Cell::new(0),
            in_transaction: Cell::new(false),
            refusals: Cell::new(0),
            refusals_of: RefCell::default(),
            refused: Cell::new(false),
            poisoned: Cell::new(false),
            poisoned_partition: Cell::new(None),
            ready_us: Cell::new(0),
        }
    }

    /// The group has gone on: what was refused before does not count.
    pub(super) fn forgive(&self) {
        self.refusals.set(0);
        self.refusals_of.borrow_mut().clear();
        self.refused.set(false);
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive.get()
    }

    pub(super) fn kill(&self) {
        self.alive.set(false);
    }

    /// Says whether its heartbeats reach the coordinator.
    pub(super) fn is_heard(&self) -> bool {
        self.alive.get() && !self.frozen.get()
    }
}

/// The clock of one machine beside the time of the world.
pub(super) struct Time {
    pub(super) clock: Clock,
    made: Instant,
    made_us: u64,
}

impl Time {
    pub(super) fn new(clock: Clock, now_us: u64) -> Self {
        Self {
            made: clock.instant(),
            clock,
            made_us: now_us,
        }
    }

    /// Brings clock and world together: whichever has seen more time pass is right.
    pub(super) fn meet(&self, world_us: &mut u64) {
        let passed = self.clock.instant().since(self.made);
        let ours_us = self.made_us + u64::try_from(passed.as_micros()).expect("a short story");
        if ours_us < *world_us {
            self.clock.pass(Duration::from_micros(*world_us - ours_us));
        } else {
            *world_us = ours_us;
        }
    }
}
