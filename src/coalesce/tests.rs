//! Tests of the coalescer.

use std::time::Duration;

use super::*;
use crate::model::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

#[test]
fn a_burst_becomes_one_refresh() {
    let limits = Limits {
        lanes: Lanes::default(),
        metadata_bytes_max: 4_096,
        event_ids_max: 100,
        dedupe: DedupeHorizon {
            records: 100,
            time: Duration::from_secs(600),
        },
        chunk: ChunkLimits {
            duration: Duration::from_secs(2),
            windows_max: 1_000,
            bytes_max: 1 << 20,
        },
    };
    let run = Run {
        started_at: at(0),
        start: Offset::ZERO,
        cause: RunCause::First,
    };
    let mut core = Coalescer::restore(Partition::new(0).unwrap(), Checkpoint::begin(run), limits);
    let ids: Vec<String> = (0..3).map(|n| format!("evt_{n}")).collect();
    let records = ids.iter().enumerate().map(|(n, id)| Record {
        offset: Offset::new(n as i64).unwrap(),
        log_time: at(1_000),
        content: Content::Change(Change {
            tenant: "t",
            conversation: Some("c"),
            event_id: id,
            kind: "k",
            priority: Priority::High,
            emitted_at: at(900),
            received_at: at(1_000),
        }),
    });
    core.on_batch(records, at(1_000));
    core.on_deadline(at(1_000));
    assert_eq!(core.poll_output(), None);
    assert_eq!(core.next_deadline(), Some((at(1_300), CloseReason::Gap)));
    assert_eq!(core.checkpoint().unwrap().window_starts, [Offset::ZERO]);
    core.on_deadline(at(1_300));
    let Some(Output::Refresh(refresh)) = core.poll_output() else {
        panic!()
    };
    assert_eq!((refresh.event_count, refresh.closed_by), (3, CloseReason::Gap));
    let checkpoint = core.checkpoint().unwrap();
    let text = crate::wire::checkpoint_v1::encode(&checkpoint, 4_096);
    assert_eq!(
        crate::wire::checkpoint_v1::decode(&text, checkpoint.position),
        Ok(checkpoint)
    );
}
