//! What each fault does, and how it is put right again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use frontstream::lifecycle::Instant;
use frontstream::model::RunCause;
use kafka_protocol::messages::ApiKey;
use rdkafka::admin::NewPartitions;
use rdkafka::{Offset, TopicPartitionList};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use super::ends::{Effect, UNRELEASED, Wanted};
use super::fleet::Slot;
use super::plan::{Kind, PROCESSORS, Planned, target_of};
use super::proxy::{Applied, Ending, Fault, Rule};
use super::stage::{SESSION, Stage, holds_within, last, wait_until};
use crate::support::{Random, block_on};

/// How long a fault waits for what it means to hit: traffic comes all the time.
const TARGET_PATIENCE: Duration = Duration::from_secs(20);

/// The topics' partitions are not grown beyond this.
const PARTITIONS_MAX: i32 = 16;

/// What became of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Struck {
    /// It took place; in words, what it hit.
    Hit(String),
    /// There was nothing to hit, and nothing was done: does not count as a fault.
    Missed(String),
    /// Something was done, and not what the fault is for: does not count either, but may have consequences.
    InVain(String),
    /// It could not be done or put right: the campaign itself is at fault, or something that never comes back.
    Broken(String),
}

/// Lets a fault happen, and returns when it is over. Blocks.
pub(crate) fn strike(stage: &Stage, planned: &Planned) -> Struck {
    let target = target_of(planned.kind, planned.target);
    let processor = &stage.fleet.processors[target % PROCESSORS];
    let during = stage.fleet.ends.during(effect_of(planned.kind));
    let struck = bring_about(stage, planned, target, processor);
    if matches!(struck, Struck::Missed(_)) {
        during.void();
    }
    struck
}

fn bring_about(stage: &Stage, planned: &Planned, target: usize, processor: &Slot) -> Struck {
    match planned.kind {
        Kind::ProcessorKilled => killed(processor, planned),
        Kind::ReceiverKilled => killed(&stage.fleet.receivers[target], planned),
        Kind::ProcessorFrozen => processor_frozen(processor),
        Kind::ReceiverFrozen => frozen(&stage.fleet.receivers[target], planned.lasting),
        Kind::BrokerKilled => broker_killed(stage, some_node(stage, planned), planned),
        Kind::GroupCoordinatorKilled => match stage.coordinator() {
            Some(node) => broker_killed(stage, node, planned),
            None => Struck::Missed("nobody coordinates the group".to_owned()),
        },
        Kind::TransactionCoordinatorKilled => transaction_coordinator_killed(stage, processor, planned),
        Kind::BrokersRolled => brokers_rolled(stage),
        Kind::RebalanceStorm => rebalance_storm(stage, planned),
        Kind::InstanceIdTaken => instance_id_taken(stage, processor, planned),
        Kind::ConnectionsCut => {
            let ending = [Ending::Reset, Ending::Close][usize::from(planned.target >= 30)];
            disturbed(stage, planned, Fault::Cut(ending))
        }
        Kind::ConnectionsStalled => disturbed(stage, planned, Fault::Stall),
        Kind::ConnectionsSlow => {
            let least = Duration::from_millis(5 + planned.dice % 100);
            let most = least + Duration::from_millis(planned.dice / 128 % 400);
            disturbed(stage, planned, Fault::Delay { least, most })
        }
        Kind::RequestsLost => disturbed(stage, planned, Fault::LoseRequests),
        Kind::AnswersLost => disturbed(stage, planned, Fault::LoseAnswers),
        Kind::CommitAnswerLost => answer_lost(stage, processor, Fault::LoseAnswerOfCommit),
        Kind::ProduceAnswerLost => {
            let receivers = &stage.fleet.receivers;
            let api = ApiKey::Produce;
            let fault = Fault::LoseAnswerOf { api, times: 1 };
            answer_lost(stage, &receivers[target % receivers.len()], fault)
        }
        Kind::DiskFull => disk_full(stage, some_node(stage, planned), planned),
        Kind::ClockStepped => clock_stepped(stage, target, planned),
        Kind::RetentionPassed => retention_passed(stage, planned),
        Kind::OffsetsReset => offsets_reset(stage, planned),
        Kind::PartitionsAdded => partitions_added(stage),
        Kind::RegistryAway => registry_away(stage, processor, planned),
        Kind::TransactionTimedOut => transaction_timed_out(stage, processor),
    }
}

/// Says which ends of processes a kind of fault allows, beside its own doing.
fn effect_of(kind: Kind) -> Effect {
    match kind {
        Kind::BrokerKilled
        | Kind::GroupCoordinatorKilled
        | Kind::TransactionCoordinatorKilled
        | Kind::BrokersRolled
        | Kind::DiskFull
        | Kind::ConnectionsCut
        | Kind::RequestsLost
        | Kind::AnswersLost
        | Kind::CommitAnswerLost
        | Kind::ProduceAnswerLost => Effect::Disturbs,
        Kind::ConnectionsStalled | Kind::ConnectionsSlow => Effect::Holds,
        Kind::ProcessorFrozen | Kind::InstanceIdTaken | Kind::RegistryAway | Kind::TransactionTimedOut => {
            Effect::Stirs
        }
        Kind::ProcessorKilled
        | Kind::ReceiverKilled
        | Kind::ReceiverFrozen
        | Kind::RebalanceStorm
        | Kind::ClockStepped
        | Kind::RetentionPassed
        | Kind::OffsetsReset
        | Kind::PartitionsAdded => Effect::Moves,
    }
}

fn killed(slot: &Slot, planned: &Planned) -> Struck {
    if !slot.kill() {
        slot.start();
        return Struck::InVain(format!("{} was not running, and was started", slot.name));
    }
    // Half of them come back at once, as a container does whose process crashed.
    if planned.dice.is_multiple_of(2) {
        last(planned.lasting);
    }
    slot.start();
    Struck::Hit(slot.name.clone())
}

/// A zombie must have something that others take over: it is frozen once it has partitions.
fn processor_frozen(processor: &Slot) -> Struck {
    let has_partitions = || processor.is_running() && !processor.partitions().held.is_empty();
    if !holds_within(TARGET_PATIENCE, has_partitions) {
        return Struck::Missed(format!("{} had no partitions", processor.name));
    }
    let (lives, times_lost) = (processor.lives(), processor.partitions().times_lost);
    let frozen = frozen(processor, SESSION + Duration::from_secs(2));
    if !matches!(frozen, Struck::Hit(_)) {
        return frozen;
    }
    // It was thought dead while it was not: it is told so, or refused, when it goes on.
    let is_told = || {
        !processor.is_running() || processor.lives() > lives || processor.partitions().times_lost > times_lost
    };
    if holds_within(TARGET_PATIENCE, is_told) {
        frozen
    } else {
        Struck::InVain(format!("nobody took over from {}", processor.name))
    }
}

fn frozen(slot: &Slot, time: Duration) -> Struck {
    if !slot.signal(Signal::STOP) {
        return Struck::Missed(format!("{} was not running", slot.name));
    }
    last(time);
    if !slot.signal(Signal::CONT) {
        return Struck::InVain(format!("{} was gone meanwhile", slot.name));
    }
    Struck::Hit(format!("{} for {time:?}", slot.name))
}

fn some_node(stage: &Stage, planned: &Planned) -> u32 {
    1 + u32::try_from(planned.dice % u64::from(stage.options.brokers)).expect("a node's number")
}

fn broker_killed(stage: &Stage, node: u32, planned: &Planned) -> Struck {
    stage.cluster.kill_node(node);
    last(planned.lasting);
    start_node(stage, node);
    Struck::Hit(format!("node {node}"))
}

fn start_node(stage: &Stage, node: u32) {
    stage.cluster.start_node(node);
    stage.cluster.await_node(node);
}

/// Whom a processor asks to add its offsets to its transaction is its coordinator, which dies before it hears of it.
fn transaction_coordinator_killed(stage: &Stage, processor: &Slot, planned: &Planned) -> Struck {
    let api = ApiKey::AddOffsetsToTxn;
    let rule = Rule::new(Fault::OnRequest { api }).of_clients(&processor.name);
    let mut applied = stage.proxy.apply(rule);
    let Some(caught) = applied.next_request(TARGET_PATIENCE) else {
        return Struck::Missed(format!("{} had no transaction", processor.name));
    };
    let node = caught.node;
    stage.cluster.kill_node(node);
    drop(caught);
    drop(applied);
    last(planned.lasting);
    start_node(stage, node);
    Struck::Hit(format!("node {node}, in a transaction of {}", processor.name))
}

fn brokers_rolled(stage: &Stage) -> Struck {
    for node in 1..=stage.options.brokers {
        stage.cluster.stop_node(node);
        start_node(stage, node);
        wait_until("every copy is in sync again", || stage.cluster.is_in_sync());
    }
    Struck::Hit("all nodes, one after the other".to_owned())
}

/// Numbers members that come for one fault, so that each has its own files.
static EXTRAS: AtomicU32 = AtomicU32::new(0);

fn extra_name() -> String {
    format!("extra-{}", EXTRAS.fetch_add(1, Ordering::Relaxed) + 1)
}

/// Every second one joins, and the one before leaves, killed or cleanly; the last one when it has been given partitions, for
/// a group that is stirred up every second may give nobody anything.
fn rebalance_storm(stage: &Stage, planned: &Planned) -> Struck {
    let mut random = Random::new(planned.dice);
    let rounds = 4 + random.below(4);
    let mut joined = 0;
    let mut before: Option<Slot> = None;
    for _ in 0..rounds {
        let extra = stage.extra(&extra_name(), None);
        extra.start();
        last(Duration::from_secs(1));
        if let Some(leaving) = before.replace(extra) {
            joined += leave(&leaving, &mut random);
        }
    }
    if let Some(leaving) = before {
        holds_within(TARGET_PATIENCE, || !leaving.partitions().ever.is_empty());
        joined += leave(&leaving, &mut random);
    }
    if joined == 0 {
        return Struck::InVain(format!("none of {rounds} members was given a partition"));
    }
    Struck::Hit(format!(
        "{joined} of {rounds} members were given partitions before they went"
    ))
}

/// Lets a member leave; 1 if it has had partitions.
fn leave(member: &Slot, random: &mut Random) -> u32 {
    if random.below(3) == 0 {
        member.kill();
    } else {
        member.stop();
    }
    u32::from(!member.partitions().ever.is_empty())
}

/// A second process takes the instance id, and with it the transactional id; the first is fenced, or under KIP-848 the second
/// is refused. Then the second goes, and the orchestrator starts the first again if it ended.
fn instance_id_taken(stage: &Stage, processor: &Slot, planned: &Planned) -> Struck {
    let whose = &processor.name;
    // Only a process that is in the group has the id.
    if !holds_within(TARGET_PATIENCE, || !processor.partitions().held.is_empty()) {
        return Struck::Missed(format!("{whose} had no partitions"));
    }
    let before = refusals(processor);
    let _during = stage.fleet.ends.during(Effect::Takes(whose.clone()));
    let taker = stage.extra(&extra_name(), Some(whose));
    taker.start();
    let what_happened = || {
        // Taken note of here, for nobody starts this one again.
        taker.is_running();
        if refusals(&taker) > 0 {
            Some("the taker was refused")
        } else if refusals(processor) > before {
            Some("it was fenced")
        } else {
            None
        }
    };
    let is_hit = holds_within(TARGET_PATIENCE, || what_happened().is_some());
    last(planned.lasting);
    taker.kill();
    match what_happened().filter(|_| is_hit) {
        Some(what) => Struck::Hit(format!("{whose}: {what}")),
        None => Struck::InVain(format!("{whose}: nobody was refused or fenced")),
    }
}

/// How a process says that another has, or had, its instance id, in both group protocols.
const REFUSALS: [&str; 3] = [
    "another process has this group instance id",
    "another process has this transactional id or group instance id",
    UNRELEASED,
];

/// How many processes of a slot ended because another has, or had, their instance id.
fn refusals(slot: &Slot) -> usize {
    let ends = slot.ends();
    let refused = ends.iter().filter(|end| {
        end.wanted == Wanted::ByItself && REFUSALS.iter().any(|words| end.said.contains(words))
    });
    refused.count()
}

/// Disturbs the connections of one process to all brokers, or of all processes to one broker.
fn disturbed(stage: &Stage, planned: &Planned, fault: Fault) -> Struck {
    let everyone: Vec<_> = stage.fleet.all().collect();
    let one = usize::try_from(planned.dice % 8).expect("small");
    let nodes = stage.options.brokers as usize;
    let (rule, whom) = match everyone.get(one) {
        Some(slot) => (Rule::new(fault).of_clients(&slot.name), slot.name.clone()),
        None => {
            let node = 1 + u32::try_from(one % nodes).expect("a node's number");
            (Rule::new(fault).at_node(node), format!("node {node}"))
        }
    };
    let applied = stage.proxy.apply(rule);
    last(planned.lasting);
    let hits = applied.lift();
    if hits.pieces == 0 {
        return Struck::Missed(format!("{whom} had no traffic"));
    }
    Struck::Hit(format!(
        "{whom} for {:?}: {} connections, {} times",
        planned.lasting, hits.connections, hits.pieces
    ))
}

/// One request is carried out by the broker, and its answer lost together with the connection.
fn answer_lost(stage: &Stage, slot: &Slot, fault: Fault) -> Struck {
    let applied = stage.proxy.apply(Rule::new(fault).of_clients(&slot.name));
    holds_within(TARGET_PATIENCE, || applied.hits().pieces > 0);
    if applied.lift().pieces > 0 {
        Struck::Hit(slot.name.clone())
    } else {
        Struck::Missed(format!("{} sent no such request", slot.name))
    }
}

/// No file of the broker can grow any more, which it learns as it learns of a full disk: an I/O error of the write.
///
/// It stops by itself then, its only log folder being lost to it; with room again it is started anew.
fn disk_full(stage: &Stage, node: u32, planned: &Planned) -> Struck {
    let Some(pid) = stage.cluster.node_pid(node) else {
        return Struck::Missed(format!("node {node} was not running"));
    };
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id")).expect("a process id");
    let none = Rlimit {
        current: Some(1),
        maximum: None,
    };
    prlimit(Some(pid), Resource::Fsize, none).expect("our own process can be limited");
    let is_hit = holds_within(TARGET_PATIENCE, || stage.cluster.node_pid(node).is_none());
    if is_hit {
        last(planned.lasting);
    } else {
        stage.cluster.kill_node(node);
    }
    start_node(stage, node);
    if is_hit {
        Struck::Hit(format!("node {node}"))
    } else {
        Struck::InVain(format!("node {node} did not write, and was killed"))
    }
}

/// One to four minutes ahead or back: within the receiver's window for signatures.
fn clock_stepped(stage: &Stage, target: usize, planned: &Planned) -> Struck {
    let everyone: Vec<_> = stage.fleet.all().collect();
    let slot = everyone[target % everyone.len()];
    let minutes = 1 + i64::try_from(planned.dice % 4).expect("small");
    let minutes = if (planned.dice / 4).is_multiple_of(2) {
        minutes
    } else {
        -minutes
    };
    if !holds_within(TARGET_PATIENCE, || slot.is_ready()) {
        return Struck::Missed(format!("{} was not ready", slot.name));
    }
    let life = slot.lives();
    stage.step_clock(slot, minutes * 60_000);
    last(planned.lasting);
    let has_lived_through = slot.is_running() && slot.lives() == life;
    stage.step_clock(slot, 0);
    if !has_lived_through {
        return Struck::InVain(format!("{} ended meanwhile", slot.name));
    }
    Struck::Hit(format!("{} by {minutes} min and back", slot.name))
}

/// Stops the group's members as a crash would, and waits until the log has grown beyond what is committed.
fn stop_processors_behind(stage: &Stage, records: i64) -> Option<(i32, i64, i64)> {
    for processor in &stage.fleet.processors {
        processor.kill();
    }
    let began = Instant::now();
    while began.elapsed() < TARGET_PATIENCE {
        let committed = stage.committed();
        let longest = stage
            .ends()
            .into_iter()
            .filter_map(|(partition, end)| Some((partition, *committed.get(&partition)?, end)))
            // One that has not begun to count what an earlier fault left is not hit again.
            .filter(|(partition, committed, _)| *committed >= stage.earliest(*partition))
            .max_by_key(|(_, committed, end)| end - committed);
        if longest.is_some_and(|(_, committed, end)| end - committed >= records) {
            return longest;
        }
        last(Duration::from_millis(200));
    }
    None
}

fn start_processors(stage: &Stage) {
    for processor in &stage.fleet.processors {
        processor.start();
    }
}

/// Records are deleted that nobody has read: what retention does to a processor that was away for too long.
fn retention_passed(stage: &Stage, planned: &Planned) -> Struck {
    let Some((partition, committed, end)) = stop_processors_behind(stage, 20) else {
        start_processors(stage);
        return Struck::InVain("nothing was left unread".to_owned());
    };
    let beyond = i64::try_from(planned.dice % 10).expect("small");
    let before = committed + 1 + beyond.min(end - committed - 1);
    // What is deleted unread is written down first: the judge must know what is missing on purpose.
    wait_until("the record has what is to be deleted", || {
        stage.record.events_until(partition) >= before
    });
    stage.note_run(partition, RunCause::Retention, before, committed);
    let (admin, options) = stage.admin();
    wait_until("the records are deleted", || {
        let mut wanted = TopicPartitionList::new();
        wanted
            .add_partition_offset(&stage.names.events, partition, Offset::Offset(before))
            .expect("an offset");
        let deleted = block_on(admin.delete_records(&wanted, &options));
        deleted.is_ok_and(|list| list.elements().iter().all(|element| element.error().is_ok()))
    });
    // Retention removes files, and what it removed stays away. What an administrator deletes comes back when all copies are
    // killed before the new start of the log is on their disks.
    wait_until("the new start of the log is on the disks", || {
        let events = &stage.names.events;
        stage.cluster.is_log_start_on_disk(events, partition, before)
    });
    start_processors(stage);
    Struck::Hit(format!("{} records of partition {partition}", before - committed))
}

/// An operator rewinds one partition, with the processors stopped, as the tool demands.
fn offsets_reset(stage: &Stage, planned: &Planned) -> Struck {
    for processor in &stage.fleet.processors {
        processor.stop();
    }
    let committed = stage.committed();
    let places = u64::try_from(committed.len()).expect("a count");
    if places == 0 {
        start_processors(stage);
        return Struck::InVain("nothing was committed yet".to_owned());
    }
    let place = usize::try_from(planned.dice % places).expect("small");
    let (partition, offset) = committed.into_iter().nth(place).expect("one of them");
    let back = 5 + i64::try_from(planned.dice / 64 % 60).expect("small");
    let to = (offset - back).max(stage.earliest(partition));
    if to == offset {
        start_processors(stage);
        return Struck::InVain(format!(
            "partition {partition} begins where it is committed, at {to}"
        ));
    }
    stage.note_run(partition, RunCause::Reset, to, offset);
    stage.reset(partition, to);
    start_processors(stage);
    Struck::Hit(format!("partition {partition} from {offset} to {to}"))
}

/// Both topics grow by one partition; that of the refreshes first, so that a refresh always has its place.
fn partitions_added(stage: &Stage) -> Struck {
    let count = stage.partitions() + 1;
    if count > PARTITIONS_MAX {
        return Struck::Missed(format!("{PARTITIONS_MAX} partitions are enough"));
    }
    let (admin, options) = stage.admin();
    for topic in [&stage.names.refresh, &stage.names.events] {
        wait_until("the partition is added", || {
            let wanted = NewPartitions::new(topic, usize::try_from(count).expect("a count"));
            match block_on(admin.create_partitions(&[wanted], &options)) {
                // Refused because it is there already: an earlier try did it, and was not answered.
                Ok(results) => results.iter().all(|result| {
                    result.as_ref().map_or_else(
                        |(_, code)| *code == rdkafka::types::RDKafkaErrorCode::InvalidPartitions,
                        |_| true,
                    )
                }),
                Err(_) => false,
            }
        });
    }
    Struck::Hit(format!("now {count}"))
}

/// A processor that is started meanwhile cannot register its schema.
fn registry_away(stage: &Stage, processor: &Slot, planned: &Planned) -> Struck {
    let mut registry = stage.registry.lock().expect("no one panics while holding it");
    registry.stop();
    processor.kill();
    processor.start();
    let is_hit = holds_within(TARGET_PATIENCE, || processor.says(REGISTRY_AWAY));
    last(planned.lasting);
    registry.start_again();
    let what = format!(
        "for {:?}, {} was started meanwhile",
        planned.lasting, processor.name
    );
    if is_hit {
        Struck::Hit(what)
    } else {
        Struck::InVain(what)
    }
}

/// How a process says at its start that the registry does not answer.
const REGISTRY_AWAY: &str = "the schema registry is away";

/// How a process says that its transaction was ended under its hands.
const TIMED_OUT: &str = "the transaction was open for longer than processor.transaction_timeout";

/// The process is stopped at the moment when its records are produced and its offsets are not yet sent, until the coordinator
/// has aborted its transaction.
fn transaction_timed_out(stage: &Stage, processor: &Slot) -> Struck {
    let api = ApiKey::AddOffsetsToTxn;
    let rule = Rule::new(Fault::OnRequest { api }).of_clients(&processor.name);
    let mut applied: Applied = stage.proxy.apply(rule);
    let Some(caught) = applied.next_request(TARGET_PATIENCE) else {
        return Struck::Missed(format!("{} had no transaction", processor.name));
    };
    let is_hit = processor.signal(Signal::STOP);
    drop(caught);
    drop(applied);
    last(stage.until_aborted() + Duration::from_secs(1));
    let told = || {
        processor
            .ends()
            .iter()
            .filter(|end| end.said.contains(TIMED_OUT))
            .count()
    };
    let before = told();
    if !processor.signal(Signal::CONT) || !is_hit {
        return Struck::InVain(format!("{} ended meanwhile", processor.name));
    }
    // Noticed by whoever keeps the fleet.
    if holds_within(TARGET_PATIENCE, || told() > before) {
        Struck::Hit(processor.name.clone())
    } else {
        Struck::InVain(format!("the transaction of {} was not ended", processor.name))
    }
}
