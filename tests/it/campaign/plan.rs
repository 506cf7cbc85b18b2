//! Which faults come, in which order, upon whom and for how long: a function of the seed.

use std::time::Duration;

use super::options::Options;
use super::stage::SESSION;
use crate::support::Random;

/// How many processors a campaign has.
pub(crate) const PROCESSORS: usize = 3;

/// How many receivers a campaign has.
pub(crate) const RECEIVERS: usize = 2;

/// What can befall the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    ProcessorKilled,
    ReceiverKilled,
    ProcessorFrozen,
    ReceiverFrozen,
    BrokerKilled,
    GroupCoordinatorKilled,
    TransactionCoordinatorKilled,
    BrokersRolled,
    RebalanceStorm,
    InstanceIdTaken,
    ConnectionsCut,
    ConnectionsStalled,
    ConnectionsSlow,
    RequestsLost,
    AnswersLost,
    CommitAnswerLost,
    ProduceAnswerLost,
    DiskFull,
    ClockStepped,
    RetentionPassed,
    OffsetsReset,
    PartitionsAdded,
    RegistryAway,
    TransactionTimedOut,
}

/// Each kind: its name, and how many of it a deck holds.
const KINDS: [(Kind, &str, usize); 24] = [
    (Kind::ProcessorKilled, "processor-killed", 3),
    (Kind::ReceiverKilled, "receiver-killed", 2),
    (Kind::ProcessorFrozen, "processor-frozen", 2),
    (Kind::ReceiverFrozen, "receiver-frozen", 1),
    (Kind::BrokerKilled, "broker-killed", 1),
    (Kind::GroupCoordinatorKilled, "group-coordinator-killed", 1),
    (
        Kind::TransactionCoordinatorKilled,
        "transaction-coordinator-killed",
        1,
    ),
    (Kind::BrokersRolled, "brokers-rolled", 1),
    (Kind::RebalanceStorm, "rebalance-storm", 1),
    (Kind::InstanceIdTaken, "instance-id-taken", 1),
    (Kind::ConnectionsCut, "connections-cut", 2),
    (Kind::ConnectionsStalled, "connections-stalled", 2),
    (Kind::ConnectionsSlow, "connections-slow", 2),
    (Kind::RequestsLost, "requests-lost", 2),
    (Kind::AnswersLost, "answers-lost", 2),
    (Kind::CommitAnswerLost, "commit-answer-lost", 3),
    (Kind::ProduceAnswerLost, "produce-answer-lost", 2),
    (Kind::DiskFull, "disk-full", 1),
    (Kind::ClockStepped, "clock-stepped", 2),
    (Kind::RetentionPassed, "retention-passed", 1),
    (Kind::OffsetsReset, "offsets-reset", 1),
    (Kind::PartitionsAdded, "partitions-added", 1),
    (Kind::RegistryAway, "registry-away", 1),
    (Kind::TransactionTimedOut, "transaction-timed-out", 2),
];

impl Kind {
    /// Returns the name used in options and reports.
    pub(crate) fn name(self) -> &'static str {
        let (_, name, _) = KINDS
            .iter()
            .find(|(kind, ..)| *kind == self)
            .expect("every kind is listed");
        name
    }

    /// Returns the kind of this name.
    pub(crate) fn named(wanted: &str) -> Option<Self> {
        let (kind, ..) = KINDS.iter().find(|(_, name, _)| *name == wanted)?;
        Some(*kind)
    }

    /// Returns all names, for a message.
    pub(crate) fn names() -> String {
        KINDS.map(|(_, name, _)| name).join(", ")
    }

    /// Returns every kind, in the order of reports.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|(kind, ..)| *kind)
    }

    /// Says whether this can happen at all under these options.
    fn applies(self, options: &Options) -> bool {
        // Only a static member has an id to take; under KIP-848 the taker is refused, which is worth seeing too.
        self != Self::InstanceIdTaken || options.static_members
    }

    /// Says whether it may hold refreshes back; what befalls receivers only keeps webhooks from being stored.
    pub(crate) fn delays_refreshes(self) -> bool {
        !matches!(
            self,
            Self::ReceiverKilled | Self::ReceiverFrozen | Self::ProduceAnswerLost
        )
    }

    /// Draws how long a fault lasts. What keeps a member from the brokers is often longer than its session, so that others
    /// have its partitions when it comes back.
    fn lasting(self, random: &mut Random) -> Duration {
        let keeps_apart = matches!(
            self,
            Self::ConnectionsCut | Self::ConnectionsStalled | Self::RequestsLost | Self::AnswersLost
        );
        let spread = if keeps_apart { 14_500 } else { 4_500 };
        Duration::from_millis(500 + random.below(spread))
    }

    /// Returns what nobody else may touch while this lasts.
    fn claims(self, target: usize) -> Vec<Claim> {
        match self {
            Self::ProcessorKilled
            | Self::ProcessorFrozen
            | Self::InstanceIdTaken
            | Self::TransactionTimedOut => {
                vec![Claim::Processor(target)]
            }
            Self::ReceiverKilled | Self::ReceiverFrozen => vec![Claim::Receiver(target)],
            Self::BrokerKilled
            | Self::GroupCoordinatorKilled
            | Self::TransactionCoordinatorKilled
            | Self::BrokersRolled
            | Self::DiskFull => vec![Claim::Brokers],
            Self::RetentionPassed | Self::OffsetsReset => {
                // Both need a cluster that answers an administrator, and nobody in the group.
                let processors = (0..PROCESSORS).map(Claim::Processor);
                processors.chain([Claim::Brokers, Claim::Extras]).collect()
            }
            Self::RebalanceStorm => vec![Claim::Extras],
            Self::PartitionsAdded => vec![Claim::Brokers],
            Self::RegistryAway => vec![Claim::Registry, Claim::Processor(target)],
            Self::ClockStepped => vec![Claim::Clock(target)],
            Self::ConnectionsCut
            | Self::ConnectionsStalled
            | Self::ConnectionsSlow
            | Self::RequestsLost
            | Self::AnswersLost
            | Self::CommitAnswerLost
            | Self::ProduceAnswerLost => Vec::new(),
        }
    }
}

/// What one fault has for itself while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Processor(usize),
    Receiver(usize),
    /// The brokers' lives and disks: one at a time, so that two of three copies are always there.
    Brokers,
    /// Members beside the three.
    Extras,
    Registry,
    Clock(usize),
}

/// One fault to come.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) number: usize,
    pub(crate) kind: Kind,
    /// How long after the one before it begins, at least.
    pub(crate) pause: Duration,
    /// How long it lasts, where that is ours to choose.
    pub(crate) lasting: Duration,
    /// Whom it hits; what the number means is the kind's.
    pub(crate) target: usize,
    /// For what else the kind has to choose.
    pub(crate) dice: u64,
    pub(crate) claims: Vec<Claim>,
}

/// Plans a campaign: decks of all kinds, each shuffled, so that a short campaign sees every kind too.
pub(crate) fn plan(options: &Options) -> Vec<Planned> {
    let mut random = Random::new(options.seed);
    let mut planned = Vec::with_capacity(options.faults);
    let mut deck: Vec<Kind> = Vec::new();
    for number in 1..=options.faults {
        if deck.is_empty() {
            deck = shuffled(options, &mut random, number == 1);
        }
        let kind = deck.pop().expect("a deck is never empty");
        let target = usize::try_from(random.below(60)).expect("small");
        planned.push(Planned {
            number,
            kind,
            pause: Duration::from_millis(200 + random.below(2_300)),
            lasting: kind.lasting(&mut random),
            target,
            dice: random.below(1 << 32),
            claims: kind.claims(target_of(kind, target)),
        });
    }
    planned
}

/// Returns the place among those that the kind can hit.
pub(crate) fn target_of(kind: Kind, target: usize) -> usize {
    let places = if matches!(kind, Kind::ReceiverKilled | Kind::ReceiverFrozen) {
        RECEIVERS
    } else if kind == Kind::ClockStepped {
        PROCESSORS + RECEIVERS
    } else {
        PROCESSORS
    };
    target % places
}

/// A deck in a seeded order. The first holds each kind once: 24 faults have seen everything.
fn shuffled(options: &Options, random: &mut Random, is_first: bool) -> Vec<Kind> {
    let wanted = |kind: Kind| options.only.is_empty() || options.only.contains(&kind);
    let mut deck: Vec<Kind> = KINDS
        .iter()
        .filter(|(kind, ..)| wanted(*kind) && kind.applies(options))
        .flat_map(|(kind, _, count)| std::iter::repeat_n(*kind, if is_first { 1 } else { *count }))
        .collect();
    assert!(
        !deck.is_empty(),
        "none of the faults asked for applies: {}",
        options.words()
    );
    random.shuffle(&mut deck);
    deck
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_gives_one_plan_and_another_seed_another() {
        let of = |words| format!("{:?}", plan(&Options::parse(words).unwrap()));
        assert_eq!(of("seed=5 faults=90"), of("seed=5 faults=90"));
        assert_ne!(of("seed=5 faults=90"), of("seed=6 faults=90"));
    }

    #[test]
    fn a_good_third_of_the_network_faults_outlasts_the_session() {
        let options = Options::parse("seed=3 faults=2000 members=static").unwrap();
        let lasting = |is_wanted: fn(Kind) -> bool| -> Vec<Duration> {
            let planned = plan(&options).into_iter();
            let wanted = planned.filter(|planned| is_wanted(planned.kind));
            wanted.map(|planned| planned.lasting).collect()
        };
        for is_wanted in [
            |kind| kind == Kind::ConnectionsCut,
            |kind| kind == Kind::ConnectionsStalled,
            |kind| kind == Kind::RequestsLost,
            |kind| kind == Kind::AnswersLost,
        ] as [fn(Kind) -> bool; 4]
        {
            let all = lasting(is_wanted);
            let long = all
                .iter()
                .filter(|lasting| **lasting > SESSION + Duration::from_secs(2));
            assert!(long.count() * 3 > all.len(), "{all:?}");
            assert!(all.iter().all(|lasting| *lasting <= Duration::from_secs(15)));
        }
        let others = lasting(|kind| kind == Kind::BrokerKilled);
        assert!(others.iter().all(|lasting| *lasting <= Duration::from_secs(5)));
    }

    #[test]
    fn every_kind_is_explained_where_the_document_promises_it() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = std::fs::read_to_string(root.join("scripts/campaign")).unwrap();
        for kind in Kind::all() {
            let named = script.lines().any(|line| {
                line.starts_with("#   ") && line.split([' ', ',']).any(|word| word == kind.name())
            });
            assert!(named, "scripts/campaign --help does not name {}", kind.name());
        }
    }

    #[test]
    fn a_short_campaign_sees_every_kind() {
        let options = Options::parse("seed=9 faults=24 members=static").unwrap();
        let kinds: BTreeSet<_> = plan(&options).iter().map(|planned| planned.kind).collect();
        assert_eq!(kinds.len(), KINDS.len());
        let options = Options::parse("seed=9 faults=50 members=dynamic").unwrap();
        assert!(
            plan(&options)
                .iter()
                .all(|planned| planned.kind != Kind::InstanceIdTaken)
        );
    }
}
