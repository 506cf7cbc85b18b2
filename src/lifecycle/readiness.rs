//! Readiness: a process can do its work when every part of it says so, and never while it stops.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a gate says until its holder has spoken.
const STARTING: &str = "starting";

/// What a gate says when its holder is gone.
const ENDED: &str = "ended";

/// Gathers what the parts of a process say; cheap to clone, may be asked from any thread.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    stopping: bool,
    gates: Vec<Entry>,
}

struct Entry {
    name: Cow<'static, str>,
    /// `None`: ready.
    reason: Option<Cow<'static, str>>,
}

/// One part that is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// The gate's name.
    pub gate: Cow<'static, str>,
    /// Why; for an operator, without addresses or secrets.
    pub reason: Cow<'static, str>,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.gate, self.reason)
    }
}

impl Readiness {
    /// Makes the readiness of a process of which no part is known yet: not ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part that must be ready; it is not until its holder says so.
    ///
    /// All parts are added before the admin server is started, or the process could look ready without one.
    pub fn gate(&self, name: impl Into<Cow<'static, str>>) -> Gate {
        let mut state = self.lock();
        state.gates.push(Entry {
            name: name.into(),
            reason: Some(Cow::Borrowed(STARTING)),
        });
        Gate {
            readiness: self.clone(),
            at: state.gates.len() - 1,
        }
    }

    /// Says that the process stops: it is never ready again, whatever its parts say.
    pub fn stopping(&self) {
        self.lock().stopping = true;
    }

    /// Returns whether the process can do its work now.
    ///
    /// # Errors
    ///
    /// Every part that cannot, and why; at least one.
    pub fn state(&self) -> Result<(), Vec<NotReady>> {
        let state = self.lock();
        let process = |reason| NotReady {
            gate: Cow::Borrowed("process"),
            reason: Cow::Borrowed(reason),
        };
        if state.stopping {
            return Err(vec![process("stopping")]);
        }
        if state.gates.is_empty() {
            return Err(vec![process(STARTING)]);
        }
        let closed = state.gates.iter().filter_map(|entry| {
            let reason = entry.reason.clone()?;
            Some(NotReady {
                gate: entry.name.clone(),
                reason,
            })
        });
        let closed: Vec<_> = closed.collect();
        if closed.is_empty() { Ok(()) } else { Err(closed) }
    }

    /// A panic elsewhere leaves plain values here, so the lock is good to go on with.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The voice of one part; when it is dropped, the part is not ready.
pub struct Gate {
    readiness: Readiness,
    at: usize,
}

impl Gate {
    /// Says that this part can do its work.
    pub fn ready(&self) {
        self.say(None);
    }

    /// Says that this part cannot do its work, and why.
    pub fn not_ready(&self, reason: impl Into<Cow<'static, str>>) {
        self.say(Some(reason.into()));
    }

    fn say(&self, reason: Option<Cow<'static, str>>) {
        self.readiness.lock().gates[self.at].reason = reason;
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.not_ready(ENDED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(readiness: &Readiness) -> Vec<String> {
        let closed = readiness.state().err().unwrap_or_default();
        closed.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ready_when_every_gate_is() {
        let readiness = Readiness::new();
        assert_eq!(reasons(&readiness), ["process: starting"]);
        let kafka = readiness.gate("kafka");
        let worker = readiness.gate(format!("worker-{}", 0));
        assert_eq!(reasons(&readiness), ["kafka: starting", "worker-0: starting"]);
        kafka.ready();
        assert_eq!(reasons(&readiness), ["worker-0: starting"]);
        worker.ready();
        assert_eq!(readiness.state(), Ok(()));
        kafka.not_ready("no broker answers");
        assert_eq!(reasons(&readiness), ["kafka: no broker answers"]);
    }

    #[test]
    fn a_dropped_gate_stays_closed() {
        let readiness = Readiness::new();
        let gate = readiness.gate("kafka");
        gate.ready();
        drop(gate);
        assert_eq!(reasons(&readiness), ["kafka: ended"]);
    }

    #[test]
    fn never_ready_again_while_stopping() {
        let readiness = Readiness::new();
        let gate = readiness.gate("kafka");
        readiness.stopping();
        gate.ready();
        readiness.gate("late").ready();
        assert_eq!(reasons(&readiness), ["process: stopping"]);
    }

    #[test]
    fn speaks_from_any_thread() {
        let readiness = Readiness::new();
        let gates: Vec<_> = (0..8).map(|at| readiness.gate(format!("worker-{at}"))).collect();
        std::thread::scope(|scope| {
            for gate in &gates {
                scope.spawn(|| gate.ready());
            }
        });
        assert_eq!(readiness.state(), Ok(()));
    }
}
