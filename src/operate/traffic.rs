//! Sample traffic: what happens to which conversation and when, in bursts, as rules and teammates make them.
//!
//! Open loop: when a webhook is due does not depend on how the last one was answered, as with Front.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::samples::{Happening, Template, base_36};
use super::sign::Scheme;
use crate::model::Timestamp;

/// What the traffic looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Webhooks a second, on average; above zero.
    pub(crate) rate: f64,
    /// How many conversations there are; at least one.
    pub(crate) conversations: u32,
    /// Webhooks in one burst of one conversation, on average; at least one.
    pub(crate) burst: f64,
    /// Of a hundred webhooks, how many are delivered a second time, as Front does when it saw no answer.
    pub(crate) repeated_percent: u32,
    /// The same seed gives the same traffic, but for the event ids.
    pub(crate) seed: u64,
}

/// What conversations and events are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// As Front calls them.
    Plain,
    /// So that people, and [`is_sample`], tell them from others.
    Sample,
}

/// What the ids of events begin with under [`Names::Sample`].
const SAMPLE_EVENT: &str = "evt_sample";

/// Tells whether an event was made under [`Names::Sample`].
pub(crate) fn is_sample(event: &str) -> bool {
    event.starts_with(SAMPLE_EVENT)
}

/// A webhook to be posted.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// When it is due, from the beginning of the traffic.
    pub(crate) due: Duration,
    /// What happened.
    pub(crate) happening: Happening,
    /// The conversation.
    pub(crate) conversation: String,
    /// The event's id: unique, or that of an earlier webhook that is delivered again.
    pub(crate) event: String,
}

/// The most webhooks in one burst, so that a long tail does not become one conversation's everything.
const BURST_MAX: u32 = 40;
/// How long the first sample is alone: longer than the gap of an urgent conversation, so that it is a refresh by itself.
const FIRST_ALONE: Duration = Duration::from_millis(500);
/// How long after a webhook its repetition comes: longer than an answer takes.
const REPEATED_AFTER: Duration = Duration::from_millis(1_500);

/// Makes webhooks without end.
pub(crate) struct Traffic {
    shape: Shape,
    names: Names,
    random: Random,
    templates: Vec<Template>,
    /// When the next burst begins.
    next_burst: Duration,
    /// What is due later, of bursts that have begun.
    later: BinaryHeap<Reverse<Due>>,
    ids: Ids,
}

/// Ordered by time, then as they were made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Duration,
    number: u64,
    happening: Happening,
    conversation: u32,
    repeated: bool,
}

impl Traffic {
    /// Makes the traffic; event ids are unique among traffics that begin at different milliseconds.
    ///
    /// Samples begin with one urgent webhook alone: whoever watches sees soon what is made of one.
    pub(crate) fn new(shape: Shape, names: Names, scheme: Scheme, begun_at: Timestamp) -> Self {
        let mut traffic = Self {
            names,
            random: Random(shape.seed),
            templates: Happening::ALL
                .iter()
                .map(|happening| Template::new(scheme, *happening))
                .collect(),
            next_burst: Duration::ZERO,
            later: BinaryHeap::new(),
            ids: Ids {
                base: u64::try_from(begun_at.as_millis()).unwrap_or(0) << 20,
                next: 0,
            },
            shape,
        };
        if names == Names::Sample {
            let number = traffic.ids.take();
            traffic.later.push(Reverse(Due {
                at: Duration::ZERO,
                number,
                happening: Happening::Inbound,
                conversation: 0,
                repeated: false,
            }));
            traffic.next_burst = FIRST_ALONE;
        }
        traffic
    }

    /// Returns the next webhook in the order of time.
    pub(crate) fn next(&mut self) -> Sample {
        // A burst that begins before everything that is waiting may have the next webhook.
        while self
            .later
            .peek()
            .is_none_or(|Reverse(due)| self.next_burst <= due.at)
        {
            self.begin_burst();
        }
        let Reverse(due) = self.later.pop().expect("a burst that began has webhooks");
        if !due.repeated && self.random.below(100) < u64::from(self.shape.repeated_percent) {
            self.later.push(Reverse(Due {
                at: due.at + REPEATED_AFTER,
                repeated: true,
                ..due.clone()
            }));
        }
        let event = base_36(self.ids.base + due.number);
        let (conversation, event) = match self.names {
            Names::Plain => (
                format!("cnv_{}", base_36(0x5eed_0000 + u64::from(due.conversation))),
                format!("evt_{event}"),
            ),
            Names::Sample => (
                format!("cnv_sample{}", due.conversation + 1),
                format!("{SAMPLE_EVENT}{event}"),
            ),
        };
        Sample {
            due: due.at,
            happening: due.happening,
            conversation,
            event,
        }
    }

    /// Writes a webhook's body.
    pub(crate) fn body(&self, sample: &Sample, now: Timestamp) -> String {
        let at = Happening::ALL
            .iter()
            .position(|happening| *happening == sample.happening)
            .expect("all happenings have a template");
        self.templates[at].write(&sample.event, &sample.conversation, now)
    }

    fn begin_burst(&mut self) {
        let at = self.next_burst;
        let mean_pause = self.shape.burst / self.shape.rate;
        self.next_burst += Duration::from_secs_f64(self.random.exponential(mean_pause));
        let conversation = self.conversation();
        let story = self.story();
        let length = self.length();
        let mut due = at;
        for nth in 0..length {
            // The opening, then what follows from it over and over, a few milliseconds apart as rules act.
            let happening = match nth {
                0 => story[0],
                nth => story[1 + (nth as usize - 1) % (story.len() - 1)],
            };
            let number = self.ids.take();
            self.later.push(Reverse(Due {
                at: due,
                number,
                happening,
                conversation,
                repeated: false,
            }));
            due += Duration::from_secs_f64(self.random.exponential(0.008).min(0.1));
        }
    }

    /// Picks a conversation: some are busier than others.
    fn conversation(&mut self) -> u32 {
        let skewed = self.random.unit().powi(2) * f64::from(self.shape.conversations);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from zero up to a u32"
        )]
        let picked = skewed as u32;
        picked.min(self.shape.conversations - 1)
    }

    /// Picks what a burst is about: the opening, and what follows.
    fn story(&mut self) -> &'static [Happening] {
        use Happening::{
            Archive, Assign, Comment, Failed, Inbound, Move, Outbound, Reopen, Reply, Tag, Trash, Unassign,
            Untag,
        };
        /// Weights in percent. The mix is made up: messages and what rules do to them are most of a support inbox.
        const STORIES: [(u64, &[Happening]); 10] = [
            (34, &[Inbound, Assign, Tag, Tag, Archive]),
            (24, &[Reply, Archive, Untag]),
            (8, &[Outbound, Tag, Archive]),
            (8, &[Comment, Assign]),
            (8, &[Tag, Tag, Assign]),
            (6, &[Reopen, Assign, Tag]),
            (4, &[Move, Unassign, Assign, Tag]),
            (4, &[Unassign, Tag]),
            (2, &[Trash, Untag]),
            (2, &[Failed, Reopen, Assign]),
        ];
        let mut left = self.random.below(100);
        for (weight, story) in STORIES {
            if left < weight {
                return story;
            }
            left -= weight;
        }
        unreachable!("the weights add up to a hundred")
    }

    /// Picks how many webhooks a burst has: one and a geometric number more, with the mean that is asked for.
    fn length(&mut self) -> u32 {
        let more = 1.0 - 1.0 / self.shape.burst;
        let mut length = 1;
        while length < BURST_MAX && self.random.unit() < more {
            length += 1;
        }
        length
    }
}

struct Ids {
    base: u64,
    next: u64,
}

impl Ids {
    fn take(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }
}

/// SplitMix64: small, seeded, good enough for traffic. Source: Steele, Lea and Flood, OOPSLA 2014.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from zero to below one.
    fn unit(&mut self) -> f64 {
        let bits = u32::try_from(self.next() >> 32).expect("32 bits are left");
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn shape() -> Shape {
        Shape {
            rate: 1_000.0,
            conversations: 50,
            burst: 4.0,
            repeated_percent: 0,
            seed: 7,
        }
    }

    fn take(shape: Shape, count: usize) -> Vec<Sample> {
        let mut traffic = Traffic::new(
            shape,
            Names::Plain,
            Scheme::Application,
            Timestamp::from_millis(1_795_000_000_000),
        );
        (0..count).map(|_| traffic.next()).collect()
    }

    #[test]
    fn the_rate_and_the_bursts_are_as_asked_for() {
        for (rate, burst) in [(1_000.0, 4.0), (50.0, 1.0), (200.0, 10.0)] {
            let samples = take(
                Shape {
                    rate,
                    burst,
                    ..shape()
                },
                20_000,
            );
            let took = samples.last().unwrap().due.as_secs_f64();
            let found = 20_000.0 / took;
            assert!((0.9..1.1).contains(&(found / rate)), "{found} instead of {rate}");
        }
    }

    #[test]
    fn they_come_in_the_order_of_time_with_ids_of_their_own() {
        let samples = take(shape(), 5_000);
        assert!(samples.is_sorted_by_key(|sample| sample.due));
        let ids: BTreeSet<&str> = samples.iter().map(|sample| sample.event.as_str()).collect();
        assert_eq!(ids.len(), 5_000);
        let conversations: BTreeSet<&str> = samples
            .iter()
            .map(|sample| sample.conversation.as_str())
            .collect();
        assert_eq!(conversations.len(), 50);
    }

    #[test]
    fn the_same_seed_gives_the_same_traffic() {
        let text = |seed| {
            let samples = take(Shape { seed, ..shape() }, 500);
            samples
                .iter()
                .map(|sample| format!("{sample:?}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
    }

    #[test]
    fn repeated_deliveries_are_the_same_event_again() {
        let samples = take(
            Shape {
                repeated_percent: 10,
                ..shape()
            },
            10_000,
        );
        let ids: BTreeSet<&str> = samples.iter().map(|sample| sample.event.as_str()).collect();
        let repeated = 10_000 - ids.len();
        assert!((700..1_300).contains(&repeated), "{repeated}");
    }

    #[test]
    fn samples_are_told_from_what_others_post() {
        let next = |names| {
            let begun_at = Timestamp::from_millis(1_795_000_000_000);
            Traffic::new(shape(), names, Scheme::Application, begun_at).next()
        };
        let (plain, sample) = (next(Names::Plain), next(Names::Sample));
        assert!(is_sample(&sample.event) && sample.conversation == "cnv_sample1");
        assert_eq!(
            (sample.happening, sample.due),
            (Happening::Inbound, Duration::ZERO)
        );
        assert!(!is_sample(&plain.event), "{}", plain.event);
    }

    #[test]
    fn every_kind_of_thing_happens() {
        let found: BTreeSet<Happening> = take(shape(), 20_000)
            .iter()
            .map(|sample| sample.happening)
            .collect();
        assert_eq!(found.len(), Happening::ALL.len());
    }
}
