//! What a reader sees of transactions, and when.

use std::time::Duration;

use bytes::Bytes;
use frontstream::lifecycle::{Clock, Instant};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::FetchRequest;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use super::super::deletions::delete_before;
use super::super::raw::{
    FETCH, Fetch, LIST_OFFSETS, Raw, error, eventually, fetch_request, list_offsets_request, plain, records,
    values,
};
use super::writer::{End, Writer, committed_values, stable_end};
use crate::support::{Cluster, block_on};

/// All there is, committed only.
const COMMITTED: Fetch = Fetch {
    max_wait_ms: 0,
    min_bytes: 1,
    max_bytes: 1 << 20,
    partition_max_bytes: 1 << 20,
    isolation_level: 1,
};

fn topic(cluster: &Cluster, partitions: i32) -> String {
    let name = cluster.unique_prefix("txn");
    cluster.create_topic(&name, partitions);
    name
}

/// Makes a writer with a transactional id that is the topic's and this word.
fn writer(cluster: &Cluster, topic: &str, word: &str) -> Writer {
    Writer::new(cluster, &format!("{topic}{word}"))
}

/// Committed records are seen, aborted ones only by those who ask for all; each end takes an offset.
pub(super) fn commit_and_abort(cluster: &Cluster) {
    let topic = topic(cluster, 1);
    let mut writer = writer(cluster, &topic, "a");
    assert_eq!(writer.write(&topic, 0, &["a", "b"]), 0);
    writer.end(End::Commit);
    assert_eq!(writer.write(&topic, 0, &["c", "d"]), 3);
    writer.end(End::Abort);
    assert_eq!(writer.write(&topic, 0, &["e"]), 6);
    writer.end(End::Commit);
    assert_eq!(committed_values(cluster, &topic, 8), ["a", "b", "e"]);

    let mut raw = Raw::connect(cluster);
    let all = raw.fetch(&topic, 0, 0, &Fetch::default());
    assert_eq!(
        values(&all),
        ["a", "b", "control", "c", "d", "control", "e", "control"]
    );
    assert_eq!(all.aborted_transactions, None, "who asks for all needs no list");
    let offsets: Vec<_> = records(&all).iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (0..8).collect::<Vec<_>>());
    let committed = raw.fetch(&topic, 0, 0, &COMMITTED);
    assert_eq!(
        values(&committed),
        values(&all),
        "readers leave out the aborted ones themselves"
    );
    let aborted = committed.aborted_transactions.unwrap_or_default();
    let ranges: Vec<_> = aborted
        .iter()
        .map(|range| (range.producer_id.0, range.first_offset))
        .collect();
    assert_eq!(ranges, [(writer.producer.id, 3)]);
}

/// A mark is a control record of its producer, whose key says which end it is.
pub(super) fn marks(cluster: &Cluster) {
    let topic = topic(cluster, 1);
    let mut writer = writer(cluster, &topic, "a");
    for end in [End::Commit, End::Abort] {
        writer.write(&topic, 0, &["x"]);
        writer.end(end);
    }
    committed_values(cluster, &topic, 4);
    let all = Raw::connect(cluster).fetch(&topic, 0, 0, &Fetch::default());
    let marks: Vec<_> = records(&all)
        .into_iter()
        .filter(|record| record.control)
        .collect();
    let keys: Vec<_> = marks
        .iter()
        .map(|mark| mark.key.clone().unwrap_or_default())
        .collect();
    assert_eq!(
        keys,
        [
            Bytes::from_static(&[0, 0, 0, 1]),
            Bytes::from_static(&[0, 0, 0, 0])
        ]
    );
    for mark in &marks {
        assert!(mark.transactional);
        assert_eq!(
            (mark.producer_id, mark.producer_epoch),
            (writer.producer.id, writer.producer.epoch)
        );
        // Version 0 and the coordinator's epoch.
        let value = mark.value.clone().unwrap_or_default();
        assert_eq!((value.len(), &value[..2]), (6, &[0, 0][..]));
    }
}

/// Before the end of a transaction nobody sees it, nor what comes after it, whoever wrote that.
pub(super) fn held_back(cluster: &Cluster) {
    let topic = topic(cluster, 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["before"]));
    let mut writer = writer(cluster, &topic, "a");
    writer.write(&topic, 0, &["in it"]);
    raw.store(&topic, 0, &plain(&["after"]));

    let seen = raw.fetch(&topic, 0, 0, &COMMITTED);
    assert_eq!(values(&seen), ["before"]);
    assert_eq!((seen.last_stable_offset, seen.high_watermark), (1, 3));
    assert_eq!(values(&raw.fetch(&topic, 0, 1, &COMMITTED)), Vec::<String>::new());
    let all = raw.fetch(&topic, 0, 0, &Fetch::default());
    assert_eq!(values(&all), ["before", "in it", "after"]);
    assert_eq!(
        (
            stable_end(&mut raw, &topic),
            raw.list_offset(&topic, 0, -1).offset
        ),
        (1, 3)
    );
    let first = cluster.records(&topic);
    assert_eq!(first.len(), 1, "librdkafka sees the end there too");

    writer.end(End::Commit);
    assert_eq!(committed_values(cluster, &topic, 4), ["before", "in it", "after"]);
    assert_eq!(raw.fetch(&topic, 0, 0, &COMMITTED).last_stable_offset, 4);
}

/// A reader that waits for more is woken by the end of a transaction.
pub(super) fn wakes_readers(cluster: &Cluster) {
    let topic = topic(cluster, 1);
    for end in [End::Commit, End::Abort] {
        let mut writer = writer(cluster, &topic, "a");
        let offset = writer.write(&topic, 0, &["x"]);
        let mut reader = Raw::connect(cluster);
        let long = Fetch {
            max_wait_ms: 20_000,
            ..COMMITTED
        };
        let asked = reader.send(FETCH, &fetch_request(&topic, &[(0, offset)], &long));
        let began = Instant::now();
        writer.end(end);
        let answer = reader.receive::<FetchRequest>(FETCH, asked);
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{end:?}: after {:?}",
            began.elapsed()
        );
        let seen = &answer.responses[0].partitions[0];
        assert_eq!(values(seen), ["x", "control"], "{end:?}");
    }
}

/// Producers that take turns in one partition end each on its own; the oldest open one holds all back.
pub(super) fn interleaved(cluster: &Cluster) {
    let topic = topic(cluster, 1);
    let mut writers: Vec<_> = ["commits", "aborts", "stays"]
        .map(|word| writer(cluster, &topic, word))
        .into();
    let mut raw = Raw::connect(cluster);
    for round in ["1", "2"] {
        for (writer, word) in writers.iter_mut().zip(["c", "a", "s"]) {
            writer.write(&topic, 0, &[&format!("{word}{round}")]);
        }
    }
    raw.store(&topic, 0, &plain(&["plain"]));
    writers[0].end(End::Commit);
    writers[1].end(End::Abort);
    eventually("the marks are there", || {
        (raw.list_offset(&topic, 0, -1).offset == 9).then_some(())
    });
    assert_eq!(
        stable_end(&mut raw, &topic),
        2,
        "up to the first of the one that stays"
    );
    assert_eq!(cluster.records(&topic).len(), 1, "the first one's first");
    writers[2].end(End::Commit);
    assert_eq!(
        committed_values(cluster, &topic, 10),
        ["c1", "s1", "c2", "s2", "plain"]
    );
    // The range of the aborted one is told also to who begins within it.
    for from in [0, 3, 5] {
        let aborted = raw
            .fetch(&topic, 0, from, &COMMITTED)
            .aborted_transactions
            .unwrap_or_default();
        let ranges: Vec<_> = aborted
            .iter()
            .map(|range| (range.producer_id.0, range.first_offset))
            .collect();
        assert_eq!(ranges, [(writers[1].producer.id, 1)], "from {from}");
    }
    // Its mark is the last of it: behind it there is nothing to leave out.
    let aborted = raw
        .fetch(&topic, 0, 9, &COMMITTED)
        .aborted_transactions
        .unwrap_or_default();
    assert_eq!(aborted.len(), 0);
}

/// A producer that aborts and then commits: only the range of the aborted one is left out.
pub(super) fn aborted_ranges(cluster: &Cluster) {
    let topic = topic(cluster, 1);
    let mut writer = writer(cluster, &topic, "a");
    let mut end = 0;
    for (number, how) in [End::Abort, End::Commit, End::Abort, End::Commit, End::Abort]
        .into_iter()
        .enumerate()
    {
        writer.write(&topic, 0, &[&format!("{number}"), &format!("{number}+")]);
        writer.end(how);
        end += 3;
    }
    assert_eq!(committed_values(cluster, &topic, end), ["1", "1+", "3", "3+"]);
    let mut raw = Raw::connect(cluster);
    let aborted = raw
        .fetch(&topic, 0, 4, &COMMITTED)
        .aborted_transactions
        .unwrap_or_default();
    let ranges: Vec<_> = aborted.iter().map(|range| range.first_offset).collect();
    assert_eq!(ranges, [6, 12], "what ended before is not said");
}

/// All partitions of a transaction come or none; one that was added and never written to gets its mark.
pub(super) fn several_partitions(cluster: &Cluster) {
    let (first, second) = (topic(cluster, 2), topic(cluster, 1));
    let mut writer = writer(cluster, &first, "a");
    for (end, wanted) in [(End::Abort, 0), (End::Commit, 3)] {
        writer.write(&first, 0, &["a"]);
        writer.write(&first, 1, &["b"]);
        writer.write(&second, 0, &["c"]);
        let seen = [&first, &second].map(|topic| cluster.records(topic).len());
        assert_eq!(seen, [0, 0], "{end:?}: not before its end");
        writer.end(end);
        eventually("all partitions have their mark", || {
            let seen = [&first, &second].map(|topic| cluster.records(topic).len());
            (seen.iter().sum::<usize>() == wanted && stable_end(&mut writer.raw, &second) % 2 == 0)
                .then_some(())
        });
    }
    let empty = topic(cluster, 1);
    assert_eq!(writer.add(&empty, &[0]), [None]);
    writer.end(End::Commit);
    assert_eq!(committed_values(cluster, &empty, 1), Vec::<String>::new());
}

/// Records deleted up to the middle of an open transaction: the rest is seen when that ends, and its beginning is gone.
pub(super) fn records_deleted(cluster: &Cluster) {
    let topic = topic(cluster, 1);
    let mut writer = writer(cluster, &topic, "a");
    writer.write(&topic, 0, &["a"]);
    writer.write(&topic, 0, &["b"]);
    let mut raw = Raw::connect(cluster);
    assert_eq!(delete_before(&mut raw, &topic, 0, 1), Ok(1));
    assert_eq!(
        stable_end(&mut raw, &topic),
        1,
        "no further than what is left of it"
    );
    raw.store(&topic, 0, &plain(&["after"]));
    assert_eq!(stable_end(&mut raw, &topic), 1);
    writer.end(End::Commit);
    assert_eq!(committed_values(cluster, &topic, 4), ["b", "after"]);
    let seen = raw.fetch(&topic, 0, 0, &COMMITTED);
    assert_eq!(error(seen.error_code), Some(ResponseError::OffsetOutOfRange));
}

/// A transaction goes on although one of its topics was deleted.
pub(super) fn deleted_topic(cluster: &Cluster) {
    let (kept, gone) = (topic(cluster, 1), topic(cluster, 1));
    let mut writer = writer(cluster, &kept, "a");
    writer.write(&gone, 0, &["lost"]);
    writer.write(&kept, 0, &["kept"]);
    let admin: AdminClient<DefaultClientContext> = cluster.client_config().create().expect("an admin client");
    let results = block_on(admin.delete_topics(&[&gone], &AdminOptions::new())).expect("an answer");
    assert_eq!(results, [Ok(gone.clone())]);
    writer.end(End::Commit);
    assert_eq!(committed_values(cluster, &kept, 2), ["kept"]);
    writer.write(&kept, 0, &["next"]);
    writer.end(End::Commit);
    assert_eq!(committed_values(cluster, &kept, 4), ["kept", "next"]);
}

/// A batch of an open transaction that has the newest timestamp is not found before it is committed.
pub(super) fn newest_timestamp(cluster: &Cluster) {
    let topic = topic(cluster, 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["old"]));
    let old = raw.list_offset(&topic, 0, -3).timestamp;
    let mut writer = writer(cluster, &topic, "a");
    // The clock has to have moved on: of two records of the same time the first is the newest.
    eventually("a newer millisecond", || {
        (Clock::system().now().as_millis() > old).then_some(())
    });
    assert_eq!(writer.write(&topic, 0, &["new"]), 1);
    let mut newest = |isolation_level| {
        let request = list_offsets_request(&topic, 0, -3).with_isolation_level(isolation_level);
        raw.ask(LIST_OFFSETS, &request).topics[0].partitions[0].offset
    };
    assert_eq!((newest(0), newest(1)), (1, -1));
    writer.end(End::Commit);
    eventually("it is committed", || (newest(1) >= 1).then_some(()));
}

/// A batch that comes a second time on a detour, when its transaction is over: nothing of it may count again.
pub(super) fn sent_again(cluster: &Cluster) {
    let topic = topic(cluster, 1);
    let mut one = writer(cluster, &topic, "a");
    let again = |writer: &mut Writer, sequence: i32, values: &[&str]| {
        let batch = writer.producer.transactional_batch(sequence, values);
        let answer = writer.raw.produce_as(Some(&writer.id), &topic, 0, batch);
        error(answer.error_code)
    };
    assert_eq!(one.write(&topic, 0, &["a", "b"]), 0);
    assert_eq!(again(&mut one, 0, &["a", "b"]), None, "while it is open");
    one.end(End::Commit);
    assert_eq!(committed_values(cluster, &topic, 3), ["a", "b"]);
    assert_eq!(
        again(&mut one, 0, &["a", "b"]),
        Some(ResponseError::TransactionAbortable)
    );
    assert_eq!(one.write(&topic, 0, &["lost"]), 3);
    one.end(End::Abort);
    assert_eq!(committed_values(cluster, &topic, 5), ["a", "b"]);
    assert_eq!(
        again(&mut one, 2, &["lost"]),
        Some(ResponseError::TransactionAbortable)
    );
    let _replacing = writer(cluster, &topic, "a");
    for (sequence, values) in [(0, &["a", "b"][..]), (2, &["lost"])] {
        assert!(again(&mut one, sequence, values).is_some(), "fenced as well");
    }
    assert_eq!(committed_values(cluster, &topic, 5), ["a", "b"]);
}
