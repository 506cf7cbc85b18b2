//! Reads what an audit needs: one moment of the topics and of the group's offsets, and the records up to it.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::index::{Bounds, Index, IndexBuilder};
use super::proof::{Committed, DeadLetters, Found, Proof, RunKey};
use super::report::{PartitionReport, Report};
use super::{Plan, index::DedupeRule};
use crate::kafka::reader::{self, CommittedOffset, Reader, Record};
use crate::lifecycle::Instant;
use crate::model::{Offset, Partition, Timestamp};
use crate::operate::decoding::Decoders;
use crate::wire::{checkpoint_v1, headers};

/// How long the group may go on committing before we take a checkpoint that is a little older than the refreshes.
const QUIET_MOMENT: Duration = Duration::from_secs(3);
/// How long each answer of a broker may take, and each silence while records are read.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a transaction may stay open whose owner died: longer than the default transaction timeout of 10 s.
const TRANSACTION_END: Duration = Duration::from_secs(25);
/// Between two looks at what has no event of its own.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Reads everything and judges it.
pub(super) fn audit(plan: &Plan) -> anyhow::Result<Report> {
    let reader = Reader::new(
        &plan.kafka,
        plan.group.as_deref().unwrap_or("frontstream-audit"),
        ANSWER_TIMEOUT,
    )?;
    let mut audit = Audit {
        plan,
        reader,
        decoders: Decoders::new(&plan.registry)?,
        progress: Progress::new(plan.timeout),
    };
    let partitions = audit.partitions()?;
    let moments = audit.moments(&partitions)?;
    let dead_letters = audit.dead_letters(partitions.len())?;
    let mut reports = Vec::with_capacity(moments.len());
    for moment in &moments {
        if plan.partitions.is_empty() || plan.partitions.contains(&moment.partition.number()) {
            let nothing = DeadLetters::default();
            let letters = dead_letters.get(row(moment.partition)).unwrap_or(&nothing);
            reports.push(audit.partition(moment, letters)?);
        }
    }
    audit.progress.clear();
    Ok(Report::of(plan.group.clone(), reports, Vec::new()))
}

struct Audit<'a> {
    plan: &'a Plan,
    reader: Reader,
    decoders: Decoders,
    progress: Progress,
}

/// One partition at one moment.
struct Moment {
    partition: Partition,
    events: Bounds,
    refreshes: Bounds,
    committed: Committed,
}

impl Audit<'_> {
    fn partitions(&self) -> anyhow::Result<Vec<Partition>> {
        let names = &self.plan.names;
        let events = self.reader.partitions(&names.events)?;
        let refreshes = self.reader.partitions(&names.refresh)?;
        if events.len() != refreshes.len() {
            bail!(
                "{} has {} partitions and {} has {}: they belong together by number; see `frontstream topics check`",
                names.events,
                events.len(),
                names.refresh,
                refreshes.len()
            );
        }
        if let Some(missing) = self
            .plan
            .partitions
            .iter()
            .find(|number| !events.iter().any(|partition| partition.number() == **number))
        {
            bail!("{} has no partition {missing}", names.events);
        }
        Ok(events)
    }

    /// Takes the ends of both topics and the checkpoints so that they belong together.
    ///
    /// Refreshes and checkpoints change in one transaction, but not in one instant, and the group may be working. A
    /// checkpoint belongs exactly to the refreshes before it if nothing was written to the partition meanwhile, open
    /// transactions included. Where no such moment comes, the refreshes are read to a later end than the checkpoint's.
    fn moments(&self, partitions: &[Partition]) -> anyhow::Result<Vec<Moment>> {
        let names = &self.plan.names;
        let began = Instant::now();
        let mut settled: Vec<Option<(Bounds, Committed)>> = vec![None; partitions.len()];
        loop {
            let open: Vec<Partition> = partitions
                .iter()
                .copied()
                .filter(|partition| settled[row(*partition)].is_none())
                .collect();
            if open.is_empty() {
                break;
            }
            let mut before = Vec::with_capacity(open.len());
            for partition in &open {
                before.push(self.reader.bounds(&names.refresh, *partition)?);
            }
            let committed = match &self.plan.group {
                Some(_) => self.reader.committed(&names.events, &open)?,
                None => vec![None; open.len()],
            };
            let patient = began.elapsed() < QUIET_MOMENT;
            for ((partition, bounds), committed) in open.into_iter().zip(before).zip(committed) {
                let written = self.reader.high_watermark_offset(&names.refresh, partition)?;
                let quiet = written == bounds.end;
                if quiet || !patient {
                    let end = if quiet {
                        written
                    } else {
                        self.decided(partition, written)?
                    };
                    let committed = self.understood(committed, quiet);
                    settled[row(partition)] = Some((
                        Bounds {
                            start: bounds.start,
                            end,
                        },
                        committed,
                    ));
                }
            }
        }
        // Taken last: nothing that a refresh counts lies beyond.
        let mut moments = Vec::with_capacity(partitions.len());
        for (partition, settled) in partitions.iter().zip(settled) {
            let (refreshes, committed) = settled.context("every partition was settled")?;
            moments.push(Moment {
                partition: *partition,
                events: bounds_of(self.reader.bounds(&names.events, *partition)?),
                refreshes,
                committed,
            });
        }
        Ok(moments)
    }

    /// Waits until every transaction before `written` has ended; returns the last stable offset then.
    fn decided(&self, partition: Partition, written: Offset) -> anyhow::Result<Offset> {
        let began = Instant::now();
        loop {
            let stable = self.reader.bounds(&self.plan.names.refresh, partition)?.end;
            if stable >= written {
                return Ok(stable);
            }
            if began.elapsed() > TRANSACTION_END {
                bail!(
                    "a transaction on {} partition {partition} has been open for {} s: find and abort it with \
                     `kafka-transactions find-hanging` and `abort`",
                    self.plan.names.refresh,
                    TRANSACTION_END.as_secs()
                );
            }
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }

    fn understood(&self, committed: Option<CommittedOffset>, quiet: bool) -> Committed {
        if self.plan.group.is_none() {
            return Committed::NotRead;
        }
        let Some(CommittedOffset { offset, metadata }) = committed else {
            return Committed::Nothing;
        };
        if metadata.is_empty() {
            return Committed::Reset(offset);
        }
        match checkpoint_v1::decode(&metadata, offset) {
            Ok(checkpoint) if quiet => Committed::Exact(checkpoint),
            Ok(checkpoint) => Committed::NotNewer(checkpoint),
            Err(error) => Committed::Undecodable {
                offset,
                why: error.to_string(),
            },
        }
    }

    /// Reads all dead letters; they are few, and each may be of any partition.
    fn dead_letters(&mut self, partitions: usize) -> anyhow::Result<Vec<DeadLetters>> {
        let names = &self.plan.names;
        let mut letters = vec![DeadLetters::default(); partitions];
        let mut complete_since: Option<Timestamp> = None;
        for partition in self.reader.partitions(&names.dead_letters)? {
            let bounds = self.reader.bounds(&names.dead_letters, partition)?;
            let mut oldest = None;
            self.reader.read(
                &names.dead_letters,
                partition,
                bounds.start,
                bounds.end,
                |record| {
                    self.progress
                        .step(&names.dead_letters, partition, record.offset(), bounds_of(bounds))?;
                    oldest.get_or_insert(record.recorded_at());
                    if let Some((origin, offset, run)) = origin(&names.events, record)
                        && let Some(letters) = letters.get_mut(row(origin))
                    {
                        letters.by_origin.entry(offset).or_default().push(run);
                    }
                    anyhow::Ok(())
                },
            )?;
            if bounds.start > Offset::ZERO {
                let since = oldest.unwrap_or(Timestamp::from_millis(i64::MAX));
                complete_since = complete_since.max(Some(since));
            }
        }
        for letters in &mut letters {
            letters.complete_since = complete_since;
        }
        Ok(letters)
    }

    fn partition(&mut self, moment: &Moment, letters: &DeadLetters) -> anyhow::Result<PartitionReport> {
        let index = self.index(moment)?;
        let mut proof = Proof::new(&index, moment.refreshes.start);
        let (decoders, progress) = (&mut self.decoders, &mut self.progress);
        let topic = &self.plan.names.refresh;
        let Bounds { start, end } = moment.refreshes;
        self.reader.read(topic, moment.partition, start, end, |record| {
            progress.step(topic, moment.partition, record.offset(), moment.refreshes)?;
            let found = Found {
                offset: record.offset(),
                recorded_at: record.recorded_at(),
                key: record.key(),
            };
            match decoders.refresh(record.value())? {
                Ok(refresh) => proof.refresh(found, &refresh),
                Err(malformed) => proof.undecodable_refresh(found, &malformed.to_string()),
            }
            anyhow::Ok(())
        })?;
        Ok(proof.conclude(&moment.committed, letters))
    }

    fn index(&mut self, moment: &Moment) -> anyhow::Result<Index> {
        let rule = DedupeRule {
            horizon: self.plan.dedupe.horizon,
            records: self.plan.dedupe.records,
        };
        let mut builder = IndexBuilder::new(moment.partition, moment.events, rule);
        let (decoders, progress) = (&mut self.decoders, &mut self.progress);
        let topic = &self.plan.names.events;
        let Bounds { start, end } = moment.events;
        self.reader.read(topic, moment.partition, start, end, |record| {
            progress.step(topic, moment.partition, record.offset(), moment.events)?;
            match decoders.change(record.value())? {
                Ok(decoded) => builder.event(record.offset(), record.recorded_at(), &decoded.change()),
                Err(_) => builder.undecodable(record.offset(), record.recorded_at()),
            }
            anyhow::Ok(())
        })?;
        Ok(builder.build())
    }
}

/// Reads where a dead letter comes from; `None` when it is not from the event topic (the receiver's have no origin).
fn origin(events: &str, record: Record<'_>) -> Option<(Partition, Offset, Option<RunKey>)> {
    let text = |name| {
        record
            .header(name)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
    };
    if text(headers::ORIGIN_TOPIC)? != events {
        return None;
    }
    let partition = text(headers::ORIGIN_PARTITION)?
        .parse()
        .ok()
        .and_then(Partition::new)?;
    let offset = text(headers::ORIGIN_OFFSET)?.parse().ok().and_then(Offset::new)?;
    let run = text(headers::ORIGIN_RUN).and_then(|text| {
        let (started_at, start) = text.rsplit_once('-')?;
        Some(RunKey {
            started_at: Timestamp::from_millis(started_at.parse().ok()?),
            start: start.parse().ok().and_then(Offset::new)?,
        })
    });
    Some((partition, offset, run))
}

fn row(partition: Partition) -> usize {
    usize::try_from(partition.number()).expect("a partition number is not negative")
}

fn bounds_of(bounds: reader::Bounds) -> Bounds {
    Bounds {
        start: bounds.start,
        end: bounds.end,
    }
}

/// Says on a terminal how far the reading is, and ends it when it takes too long.
struct Progress {
    began: Instant,
    timeout: Duration,
    shown: Option<Instant>,
    terminal: bool,
    records: u64,
}

impl Progress {
    fn new(timeout: Duration) -> Self {
        Self {
            began: Instant::now(),
            timeout,
            shown: None,
            terminal: std::io::stderr().is_terminal(),
            records: 0,
        }
    }

    fn step(&mut self, topic: &str, partition: Partition, at: Offset, bounds: Bounds) -> anyhow::Result<()> {
        self.records += 1;
        // The clock is read for few of the records: reading it costs as much as the rest of a record.
        if !self.records.is_multiple_of(1_000) {
            return Ok(());
        }
        if self.began.elapsed() > self.timeout {
            bail!(
                "not all read within {} s (at {topic} partition {partition} offset {at}): allow more with --timeout, or audit \
                 single partitions with --partition",
                self.timeout.as_secs()
            );
        }
        let due = self
            .shown
            .is_none_or(|shown| shown.elapsed() > Duration::from_millis(200));
        if self.terminal && due {
            self.shown = Some(Instant::now());
            let (done, all) = (
                at.distance_from(bounds.start),
                bounds.end.distance_from(bounds.start),
            );
            let percent = (done * 100).checked_div(all).unwrap_or(100);
            let mut stderr = std::io::stderr().lock();
            // Nobody is told when the terminal is gone.
            let _ = write!(
                stderr,
                "\r\x1b[Kreading {topic} partition {partition}: {percent} %"
            );
        }
        Ok(())
    }

    fn clear(&self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}
