//! What to do next in one transaction. Facts in, one action out; no clock, no I/O.
//!
//! ```text
//! Begin -> Send -> AwaitDeliveries -> SendOffsets -> Commit -> Done
//!    \        \            \              \
//!     +--------+------------+--------------+--> Abort -> Rewind
//! ```
//!
//! A step that fails for a passing reason is tried again, [`ATTEMPTS_MAX`] times in all. Up to the commit a
//! transaction can always be aborted, so running out of attempts means abort. From the commit on its outcome is
//! the coordinator's: it can only be asked again, [`ANSWER_ATTEMPTS_MAX`] times for commit and abort together, and when
//! that does not help the process ends, because the next `init_transactions` under the same transactional id waits
//! for the outcome and fences this producer.

/// How often one step before the commit is tried. The shell bounds the time of all of them.
pub const ATTEMPTS_MAX: u32 = 5;

/// How often the coordinator is asked to commit or to abort. With at most 12 s for one (10 s of waiting, 2 s of pause)
/// that is four minutes: brokers that restart are waited for, and `max.poll.interval.ms`, after which Kafka takes the
/// partitions of a consumer that does not poll, is five.
pub const ANSWER_ATTEMPTS_MAX: u32 = 20;

/// What the shell does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin the transaction.
    Begin,
    /// Hand every record to the producer.
    Send,
    /// Wait until no record is in flight.
    AwaitDeliveries,
    /// Send the input offsets with the group's metadata.
    SendOffsets,
    /// Commit.
    Commit,
    /// Abort.
    Abort,
    /// Finished: committed. Records and offsets are visible together.
    Done,
    /// Finished: aborted. Drop the windows and go back to the committed offsets.
    Rewind,
    /// Finished: this producer cannot go on; the process ends.
    Exit(Exit),
}

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Another process has our transactional id or our group instance id.
    Fenced,
    /// The transaction was open for too long, so that its coordinator ended it and with it this producer; or the
    /// coordinator never heard of it.
    Expired,
    /// The client says that it cannot go on.
    Fatal,
    /// A commit or an abort was not answered: its outcome is the coordinator's to tell.
    OutcomeUnknown,
}

/// What happened to the step that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// It succeeded.
    Done,
    /// It failed for a reason that passes.
    Retriable,
    /// The transaction cannot be committed any more.
    Abortable,
    /// Another process owns our identity.
    Fenced,
    /// The coordinator refuses us as it refuses one whose identity another owns, but it has had the time to end the
    /// transaction by itself; or it says that it has no such transaction.
    Expired,
    /// The client cannot go on.
    Fatal,
}

/// One transaction's progress.
#[derive(Debug)]
pub struct Protocol {
    action: Action,
    /// Tries of this step, the present one included; of commit and abort together.
    attempts: u32,
}

impl Default for Protocol {
    fn default() -> Self {
        Self {
            action: Action::Begin,
            attempts: 1,
        }
    }
}

impl Protocol {
    /// Returns what to do now.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Takes what came of the action and moves on.
    ///
    /// # Panics
    ///
    /// When the transaction is already finished: there was nothing to do.
    pub fn on(&mut self, fact: Fact) {
        let next = match fact {
            Fact::Done => self.after_success(),
            // An abort that was refused can be asked for again: librdkafka begins it anew.
            Fact::Retriable | Fact::Abortable if self.is_asked_again(fact) => {
                self.attempts += 1;
                return;
            }
            Fact::Retriable => self.after_giving_up(),
            Fact::Abortable => self.after_refusal(),
            Fact::Fenced => Action::Exit(Exit::Fenced),
            Fact::Expired => Action::Exit(Exit::Expired),
            Fact::Fatal => Action::Exit(Exit::Fatal),
        };
        if self.action != Action::Commit {
            self.attempts = 1;
        }
        self.action = next;
    }

    /// Returns how often the action was tried, the try that is due included.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    fn is_asked_again(&self, fact: Fact) -> bool {
        (fact == Fact::Retriable || self.action == Action::Abort) && self.attempts < self.attempts_max()
    }

    fn attempts_max(&self) -> u32 {
        match self.action {
            Action::Commit | Action::Abort => ANSWER_ATTEMPTS_MAX,
            Action::Begin | Action::Send | Action::AwaitDeliveries | Action::SendOffsets => ATTEMPTS_MAX,
            Action::Done | Action::Rewind | Action::Exit(_) => 1,
        }
    }

    fn after_success(&self) -> Action {
        match self.action {
            Action::Begin => Action::Send,
            Action::Send => Action::AwaitDeliveries,
            Action::AwaitDeliveries => Action::SendOffsets,
            Action::SendOffsets => Action::Commit,
            Action::Commit => Action::Done,
            Action::Abort => Action::Rewind,
            Action::Done | Action::Rewind | Action::Exit(_) => {
                panic!("a finished transaction has no next step")
            }
        }
    }

    /// Nobody answered, although asked as often as it may be.
    fn after_giving_up(&self) -> Action {
        match self.action {
            Action::Begin | Action::Send | Action::AwaitDeliveries | Action::SendOffsets => Action::Abort,
            Action::Commit | Action::Abort => Action::Exit(Exit::OutcomeUnknown),
            Action::Done | Action::Rewind | Action::Exit(_) => {
                panic!("a finished transaction has no next step")
            }
        }
    }

    /// The transaction cannot be committed. Of a commit librdkafka says so only when the coordinator has refused
    /// it, never when it did not answer; a refused commit has written nothing.
    fn after_refusal(&self) -> Action {
        match self.action {
            Action::Begin | Action::Send | Action::AwaitDeliveries | Action::SendOffsets | Action::Commit => {
                Action::Abort
            }
            Action::Abort => Action::Exit(Exit::OutcomeUnknown),
            Action::Done | Action::Rewind | Action::Exit(_) => {
                panic!("a finished transaction has no next step")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Action; 5] = [
        Action::Begin,
        Action::Send,
        Action::AwaitDeliveries,
        Action::SendOffsets,
        Action::Commit,
    ];

    fn at(step: Action) -> Protocol {
        let mut protocol = Protocol::default();
        while protocol.action() != step {
            protocol.on(Fact::Done);
        }
        protocol
    }

    #[test]
    fn success_leads_through_every_step_in_order() {
        let mut protocol = Protocol::default();
        for step in STEPS {
            assert_eq!(protocol.action(), step);
            protocol.on(Fact::Done);
        }
        assert_eq!(protocol.action(), Action::Done);
    }

    #[test]
    fn what_cannot_be_committed_is_aborted_then_rewound() {
        for step in STEPS {
            let mut protocol = at(step);
            protocol.on(Fact::Abortable);
            assert_eq!(protocol.action(), Action::Abort, "after {step:?}");
            protocol.on(Fact::Done);
            assert_eq!(protocol.action(), Action::Rewind);
        }
    }

    #[test]
    fn a_passing_failure_is_tried_again_a_bounded_number_of_times() {
        for step in STEPS {
            let (attempts, expected) = if step == Action::Commit {
                (ANSWER_ATTEMPTS_MAX, Action::Exit(Exit::OutcomeUnknown))
            } else {
                (ATTEMPTS_MAX, Action::Abort)
            };
            let mut protocol = at(step);
            for attempt in 1..attempts {
                assert_eq!(protocol.attempts(), attempt);
                protocol.on(Fact::Retriable);
                assert_eq!(protocol.action(), step);
            }
            protocol.on(Fact::Retriable);
            assert_eq!(protocol.action(), expected, "after {step:?}");
        }
    }

    #[test]
    fn attempts_are_counted_per_step() {
        let mut protocol = Protocol::default();
        for step in STEPS {
            for _ in 1..ATTEMPTS_MAX {
                protocol.on(Fact::Retriable);
            }
            assert_eq!(protocol.action(), step);
            protocol.on(Fact::Done);
        }
        assert_eq!(protocol.action(), Action::Done);
    }

    #[test]
    fn an_unanswered_commit_is_never_aborted() {
        let mut protocol = at(Action::Commit);
        for _ in 0..ANSWER_ATTEMPTS_MAX {
            assert_eq!(protocol.action(), Action::Commit);
            protocol.on(Fact::Retriable);
        }
        assert_eq!(protocol.action(), Action::Exit(Exit::OutcomeUnknown));
    }

    #[test]
    fn the_coordinator_is_asked_so_often_in_all() {
        let mut protocol = at(Action::Commit);
        for _ in 1..ANSWER_ATTEMPTS_MAX {
            protocol.on(Fact::Retriable);
        }
        protocol.on(Fact::Abortable);
        assert_eq!(protocol.action(), Action::Abort);
        protocol.on(Fact::Retriable);
        assert_eq!(protocol.action(), Action::Exit(Exit::OutcomeUnknown));
    }

    #[test]
    fn a_lost_identity_ends_the_process_wherever_it_shows() {
        let ends = [
            (Fact::Fenced, Exit::Fenced),
            (Fact::Expired, Exit::Expired),
            (Fact::Fatal, Exit::Fatal),
        ];
        for step in STEPS {
            for (fact, exit) in ends {
                let mut protocol = at(step);
                protocol.on(fact);
                assert_eq!(protocol.action(), Action::Exit(exit));
            }
        }
    }

    #[test]
    fn an_abort_that_fails_is_tried_again_then_ends_the_process() {
        for fact in [Fact::Abortable, Fact::Retriable] {
            let mut protocol = at(Action::SendOffsets);
            protocol.on(Fact::Abortable);
            for _ in 0..ANSWER_ATTEMPTS_MAX {
                assert_eq!(protocol.action(), Action::Abort);
                protocol.on(fact);
            }
            assert_eq!(protocol.action(), Action::Exit(Exit::OutcomeUnknown));
        }
    }
}
