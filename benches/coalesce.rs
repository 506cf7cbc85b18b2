//! The coalescer and the checkpoint's code alone, on one core: what an event, a window and a commit cost.

#![expect(clippy::print_stdout, reason = "a benchmark says what it measures")]

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use frontstream::coalesce::{ChunkLimits, Coalescer, Content, DedupeHorizon, Limits, Output, Record};
use frontstream::model::{Change, Checkpoint, Lanes, Offset, Partition, Priority, Run, RunCause, Timestamp};
use frontstream::wire::checkpoint_v1;

/// Kinds as the mapping table has them, with the priority that goes with each.
const KINDS: [(&str, Priority); 6] = [
    ("message.received", Priority::High),
    ("message.sent", Priority::High),
    ("conversation.assigned", Priority::Medium),
    ("conversation.tagged", Priority::Low),
    ("conversation.tagged", Priority::Low),
    ("comment.added", Priority::High),
];

struct Row {
    conversation: String,
    event_id: String,
    kind: &'static str,
    priority: Priority,
    at: Timestamp,
}

/// A log in which conversations have bursts of `burst` events; `per_second` events a second.
fn log(events: usize, conversations: usize, burst: usize, per_second: usize) -> Vec<Row> {
    let mut seed = 7_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    };
    // As many bursts run side by side as a real partition has conversations in discussion.
    let mut running: Vec<usize> = (0..64).map(|_| random(conversations)).collect();
    (0..events)
        .map(|n| {
            let place = random(running.len());
            let conversation = running[place];
            if random(burst) == 0 {
                running[place] = random(conversations);
            }
            let (kind, priority) = KINDS[random(KINDS.len())];
            Row {
                conversation: format!("cnv_{conversation:07x}"),
                event_id: format!("evt_{n:09x}"),
                kind,
                priority,
                at: Timestamp::from_millis(1_795_000_000_000 + (n * 1_000 / per_second) as i64),
            }
        })
        .collect()
}

fn record(offset: usize, row: &Row) -> Record<'_> {
    Record {
        offset: offset_of(offset),
        log_time: row.at,
        content: Content::Change(Change {
            tenant: "cmp_3k9dz",
            conversation: Some(&row.conversation),
            event_id: &row.event_id,
            kind: row.kind,
            priority: row.priority,
            emitted_at: row.at,
            received_at: row.at,
        }),
    }
}

fn offset_of(number: usize) -> Offset {
    Offset::new(number as i64).expect("not negative")
}

fn checkpoint(start: usize) -> Checkpoint {
    Checkpoint::begin(Run {
        started_at: Timestamp::from_millis(1_795_000_000_000),
        start: offset_of(start),
        cause: RunCause::First,
    })
}

fn coalescer(start: usize) -> Coalescer {
    let limits = Limits {
        lanes: Lanes::default(),
        metadata_bytes_max: 4_096,
        event_ids_max: 100,
        dedupe: DedupeHorizon {
            records: 20_000,
            time: Duration::from_secs(600),
        },
        chunk: ChunkLimits {
            duration: Duration::from_secs(2),
            windows_max: 100_000,
            bytes_max: 64 << 20,
        },
    };
    let partition = Partition::new(0).expect("not negative");
    Coalescer::restore(partition, checkpoint(start), limits)
}

/// Feeds the log in batches as the shell would, and returns how many refreshes came out.
fn run(mut core: Coalescer, log: &[Row], batch: usize, late: Duration) -> usize {
    let mut refreshes = 0;
    let mut from = 0;
    for rows in log.chunks(batch) {
        let now = rows.last().expect("no empty batch").at.plus(late);
        core.on_batch((from..).zip(rows).map(|(n, row)| record(n, row)), now);
        from += rows.len();
        core.on_deadline(now);
        refreshes += drain(&mut core);
    }
    core.on_stop(log.last().expect("no empty log").at.plus(late));
    refreshes + drain(&mut core)
}

fn drain(core: &mut Coalescer) -> usize {
    let mut refreshes = 0;
    while let Some(output) = core.poll_output() {
        match output {
            Output::Refresh(_) => refreshes += 1,
            Output::DeadLetter(_) => {}
        }
    }
    refreshes
}

fn events(criterion: &mut Criterion) {
    const EVENTS: usize = 400_000;
    let mut group = criterion.benchmark_group("coalesce");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.sample_size(10);
    let bursty = log(EVENTS, 20_000, 20, 20_000);
    let scattered = log(EVENTS, 200_000, 2, 2_000);
    // Read as fast as the machine can: time hardly passes, so a chunk takes what its bounds allow.
    let backlog = log(EVENTS, 20_000, 2, 400_000);
    for (name, log, late) in [
        ("bursty", &bursty, Duration::ZERO),
        ("scattered", &scattered, Duration::ZERO),
        ("backlog", &backlog, Duration::from_secs(3_600)),
    ] {
        let refreshes = run(coalescer(0), log, 500, late);
        println!("{name}: {EVENTS} events, {refreshes} refreshes");
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || coalescer(0),
                |core| run(core, log, 500, late),
                BatchSize::PerIteration,
            );
        });
    }
    group.bench_function("horizon", |bencher| {
        bencher.iter_batched(
            || coalescer(EVENTS),
            |core| run(core, &bursty, 500, Duration::ZERO),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn checkpoints(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checkpoint");
    for windows in [10, 500, 3_000] {
        let mut checkpoint = checkpoint(0);
        checkpoint.window_starts = (0..windows).map(|n| offset_of(n * 9 + n * n % 8)).collect();
        checkpoint.position = checkpoint.window_starts.last().expect("not empty").next();
        let text = checkpoint_v1::encode(&checkpoint, 4_096);
        println!("{windows} windows: {} bytes", text.len());
        group.bench_function(format!("encode {windows}"), |bencher| {
            bencher.iter(|| checkpoint_v1::encode(&checkpoint, 4_096));
        });
        let committed = checkpoint.committed_offset();
        group.bench_function(format!("decode {windows}"), |bencher| {
            bencher.iter(|| checkpoint_v1::decode(&text, committed));
        });
    }
    group.finish();
}

criterion_group!(benches, events, checkpoints);
criterion_main!(benches);
