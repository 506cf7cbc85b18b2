//! How the product's processes ended, and which of these ends are not allowed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use frontstream::lifecycle::Instant;

/// The product's exit codes that a fault can bring about: docs/operations.md.
const OUTSIDE: i32 = 3;
const FENCED: i32 = 5;

/// How a process says that the group still holds its instance id, which a restart may meet without any fault but itself (KIP-848).
pub(crate) const UNRELEASED: &str = "the group still holds this instance id for the process before";

/// Who wanted a process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Nobody.
    ByItself,
    /// The campaign asked for a clean stop.
    Stopped,
    /// It was asked, and did not end in time.
    StoppedInVain,
}

/// A process that ended otherwise than by the campaign's SIGKILL. Times are those of the [`Ends`].
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) name: String,
    /// Which of the slot's processes it was; the first one is 1.
    pub(crate) life: u32,
    /// Its instance id, if the members are static.
    pub(crate) instance: Option<String>,
    pub(crate) began: Duration,
    pub(crate) ended: Duration,
    pub(crate) wanted: Wanted,
    pub(crate) status: ExitStatus,
    /// The last line in which it says why.
    pub(crate) said: String,
    pub(crate) log: PathBuf,
}

/// What a fault does that allows ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Members come and go, or only receivers are hit: a rebalance at most, which ends no process.
    Moves,
    /// Something befalls a process that it can be told of, or a part that processors need.
    Stirs,
    /// Brokers, or the way to them, do not do what they should: a stop may run out of its time.
    Disturbs,
    /// The same, and requests are held: those of a process that is dead can come after its successor's.
    Holds,
    /// A second process has this instance id, and the transactional id made of it.
    Takes(String),
}

#[derive(Debug)]
struct Lasting {
    effect: Effect,
    from: Duration,
    until: Option<Duration>,
    is_void: bool,
}

/// The ends of all processes of a campaign, and what allows them.
#[derive(Debug)]
pub(crate) struct Ends {
    began: Instant,
    ended: Mutex<Vec<End>>,
    effects: Mutex<Vec<Lasting>>,
}

impl Default for Ends {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            ended: Mutex::default(),
            effects: Mutex::default(),
        }
    }
}

impl Ends {
    /// Returns how long the campaign has lasted.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn note(&self, end: End) {
        self.lock().push(end);
    }

    /// Returns the ends of the processes of one slot.
    pub(crate) fn of(&self, name: &str) -> Vec<End> {
        let all = self.lock();
        all.iter().filter(|end| end.name == name).cloned().collect()
    }

    /// Returns how the processes of one slot ended by themselves, and how often.
    pub(crate) fn by_itself(&self, name: &str) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for end in self.of(name) {
            if end.wanted == Wanted::ByItself {
                *counts.entry(format!("{}: {}", end.status, end.said)).or_default() += 1;
            }
        }
        counts
    }

    /// Takes note of what a fault does, until what this returns is dropped.
    pub(crate) fn during(&self, effect: Effect) -> During<'_> {
        let mut effects = self.effects();
        effects.push(Lasting {
            effect,
            from: self.now(),
            until: None,
            is_void: false,
        });
        During {
            ends: self,
            at: effects.len() - 1,
        }
    }

    /// Returns the ends that are not allowed, in words. The consequences of a fault last for `recovery` after it.
    ///
    /// A process may end **by itself** with exit code
    /// - 3 while a fault is at work that does more than move partitions: it says that the next start goes on; where members only
    ///   come and go, because the group has not let go of its id yet;
    /// - 5 only while another process can have had its instance id: while a second one had it on purpose, or where requests
    ///   of the slot's process before it were held by the network and could come after its own.
    ///
    /// **Asked to stop** it must exit with 0; with 3 only where brokers or the way to them were disturbed; with 5 as by itself.
    pub(crate) fn unexpected(&self, recovery: Duration) -> Vec<String> {
        let effects = self.effects();
        let ends = self.lock();
        let unexpected = ends.iter().filter(|end| !is_allowed(end, &effects, recovery));
        unexpected.map(in_words).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<End>> {
        self.ended.lock().expect("no one panics while holding the ends")
    }

    fn effects(&self) -> MutexGuard<'_, Vec<Lasting>> {
        self.effects
            .lock()
            .expect("no one panics while holding the effects")
    }
}

/// While this is held a fault has its effect.
pub(crate) struct During<'e> {
    ends: &'e Ends,
    at: usize,
}

impl During<'_> {
    /// Nothing was done: it has had no effect.
    pub(crate) fn void(self) {
        let mut effects = self.ends.effects();
        effects[self.at].is_void = true;
    }
}

impl Drop for During<'_> {
    fn drop(&mut self) {
        let now = self.ends.now();
        self.ends.effects()[self.at].until = Some(now);
    }
}

fn is_allowed(end: &End, effects: &[Lasting], recovery: Duration) -> bool {
    match (end.wanted, end.status.code()) {
        (Wanted::StoppedInVain, _) => false,
        (Wanted::Stopped, Some(0)) => true,
        (Wanted::ByItself, Some(OUTSIDE)) => effects.iter().any(|one| {
            let may_end = one.effect != Effect::Moves || end.said.contains(UNRELEASED);
            may_end && one.overlaps(end.ended, recovery)
        }),
        (Wanted::Stopped, Some(OUTSIDE)) => effects.iter().any(|one| {
            matches!(one.effect, Effect::Disturbs | Effect::Holds) && one.overlaps(end.ended, recovery)
        }),
        (_, Some(FENCED)) => effects.iter().any(|one| may_fence(one, end, recovery)),
        _ => false,
    }
}

fn may_fence(one: &Lasting, end: &End, recovery: Duration) -> bool {
    let Some(instance) = &end.instance else {
        // Its ids are random: nobody else can have them.
        return false;
    };
    match &one.effect {
        Effect::Moves | Effect::Stirs | Effect::Disturbs => false,
        Effect::Takes(taken) => taken == instance && one.overlaps(end.ended, recovery),
        // This one began while requests were held, or when they had just come through.
        Effect::Holds => {
            end.life > 1 && one.overlaps(end.began, recovery) && one.overlaps(end.ended, recovery)
        }
    }
}

impl Lasting {
    fn overlaps(&self, at: Duration, recovery: Duration) -> bool {
        !self.is_void && self.from <= at && self.until.is_none_or(|until| at <= until + recovery)
    }
}

fn in_words(end: &End) -> String {
    let how = match end.wanted {
        Wanted::ByItself => "ended by itself",
        Wanted::Stopped => "did not stop cleanly",
        Wanted::StoppedInVain => "did not stop in time and was killed",
    };
    format!(
        "{} (life {}) {how}: {}: {}; its log: {}",
        end.name,
        end.life,
        end.status,
        end.said,
        end.log.display()
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    const RECOVERY: Duration = Duration::from_secs(15);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A static member's second life, of seconds 20 to 30, which ended with this code.
    fn end(wanted: Wanted, code: i32) -> End {
        End {
            name: "processor-1".into(),
            life: 2,
            instance: Some("processor-1".into()),
            began: seconds(20),
            ended: seconds(30),
            wanted,
            status: ExitStatus::from_raw(code << 8),
            said: "words".into(),
            log: "processor-1.002.log".into(),
        }
    }

    fn found(end: End, effects: &[(Effect, u64, u64)]) -> bool {
        let ends = Ends::default();
        for (effect, from, until) in effects {
            ends.effects().push(Lasting {
                effect: effect.clone(),
                from: seconds(*from),
                until: Some(seconds(*until)),
                is_void: false,
            });
        }
        ends.note(end);
        !ends.unexpected(RECOVERY).is_empty()
    }

    #[test]
    fn by_itself_a_process_may_only_end_for_what_passes() {
        let disturbed = [(Effect::Disturbs, 0, 30)];
        for (code, is_found) in [
            (3, false),
            (0, true),
            (1, true),
            (4, true),
            (6, true),
            (101, true),
        ] {
            assert_eq!(found(end(Wanted::ByItself, code), &disturbed), is_found, "{code}");
        }
        assert!(!found(end(Wanted::ByItself, 3), &[(Effect::Stirs, 1, 16)]));
        assert!(
            found(end(Wanted::ByItself, 3), &[(Effect::Stirs, 1, 14)]),
            "long over"
        );
        assert!(found(end(Wanted::ByItself, 3), &[]), "for no reason");
        let mut aborted = end(Wanted::ByItself, 0);
        aborted.status = ExitStatus::from_raw(6);
        assert!(found(aborted, &disturbed), "a signal that is not ours");
    }

    #[test]
    fn a_rebalance_ends_no_process() {
        let moved = [(Effect::Moves, 0, 30)];
        assert!(found(end(Wanted::ByItself, 3), &moved));
        assert!(found(end(Wanted::Stopped, 3), &moved));
        assert!(found(end(Wanted::ByItself, 5), &moved));
        let unreleased = || End {
            said: format!("could not join: {UNRELEASED}"),
            ..end(Wanted::ByItself, 3)
        };
        assert!(!found(unreleased(), &moved));
        assert!(found(unreleased(), &[(Effect::Moves, 1, 14)]), "long over");
    }

    #[test]
    fn what_was_not_done_allows_nothing() {
        let ends = Ends::default();
        ends.during(Effect::Disturbs).void();
        ends.note(End {
            ended: ends.now(),
            ..end(Wanted::ByItself, 3)
        });
        assert_eq!(ends.unexpected(RECOVERY).len(), 1);
    }

    #[test]
    fn a_process_may_be_fenced_only_while_another_can_have_its_id() {
        let fenced = || end(Wanted::ByItself, 5);
        let taken = |name: &str| Effect::Takes(name.to_owned());
        assert!(found(fenced(), &[(Effect::Disturbs, 0, 30)]));
        assert!(!found(fenced(), &[(taken("processor-1"), 25, 29)]));
        assert!(
            found(fenced(), &[(taken("processor-2"), 25, 29)]),
            "another one's"
        );
        assert!(found(fenced(), &[(taken("processor-1"), 2, 14)]), "long over");
        assert!(found(fenced(), &[(taken("processor-1"), 31, 40)]), "not yet");
        assert!(
            !found(fenced(), &[(Effect::Holds, 18, 22)]),
            "a request of life 1 came late"
        );
        assert!(
            found(fenced(), &[(Effect::Holds, 22, 29)]),
            "life 1 was long gone"
        );
        let first = End { life: 1, ..fenced() };
        assert!(
            found(first, &[(Effect::Holds, 18, 22)]),
            "there was none before it"
        );
        let dynamic = End {
            instance: None,
            ..fenced()
        };
        assert!(found(
            dynamic,
            &[(taken("processor-1"), 25, 29), (Effect::Holds, 18, 22)]
        ));
    }

    #[test]
    fn a_stop_that_is_asked_for_is_clean_unless_brokers_are_disturbed() {
        assert!(!found(end(Wanted::Stopped, 0), &[]));
        assert!(found(end(Wanted::Stopped, 3), &[]));
        assert!(
            found(end(Wanted::Stopped, 3), &[(Effect::Disturbs, 1, 14)]),
            "long over"
        );
        assert!(!found(end(Wanted::Stopped, 3), &[(Effect::Disturbs, 1, 16)]));
        assert!(!found(end(Wanted::Stopped, 3), &[(Effect::Holds, 29, 31)]));
        assert!(found(end(Wanted::Stopped, 101), &[(Effect::Holds, 29, 31)]));
        assert!(found(end(Wanted::StoppedInVain, 0), &[(Effect::Holds, 29, 31)]));
    }

    #[test]
    fn what_is_found_says_who_how_why_and_where() {
        let ends = Ends::default();
        ends.note(end(Wanted::ByItself, 101));
        assert_eq!(
            ends.unexpected(RECOVERY),
            ["processor-1 (life 2) ended by itself: exit status: 101: words; its log: processor-1.002.log"]
        );
    }

    #[test]
    fn an_effect_lasts_as_long_as_it_is_held() {
        let ends = Ends::default();
        let during = ends.during(Effect::Disturbs);
        assert!(ends.effects()[0].overlaps(seconds(999), Duration::ZERO));
        drop(during);
        assert!(!ends.effects()[0].overlaps(seconds(999), RECOVERY));
    }
}
