//! The codecs: what one event and one refresh cost, with the `apache-avro` crate beside them in the same run.
//!
//! `cargo bench --bench wire`. An event of 2 KB, as Front's webhooks are; a refresh of five events.

use std::hint::black_box;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use frontstream::model::{
    CloseReason, ConversationId, Event, EventId, Kind, Offset, Partition, Priority, Refresh, Run, RunCause,
    Source, TenantId, Timestamp,
};
use frontstream::wire::{Encoding, EventDecoder, SchemaId, event_v1, headers, refresh_v1};

/// What precedes the Avro bytes in the single-object encoding.
const FRAME_BYTES: usize = 10;

fn events(c: &mut Criterion) {
    let event = event();
    let mut framed = Vec::new();
    event_v1::write(&mut framed, Encoding::SingleObject, &event);
    let datum = &framed[FRAME_BYTES..];
    let decoder = EventDecoder::new();
    let schema = Schema::parse_str(event_v1::SCHEMA).expect("our schema is valid");
    let reader = GenericDatumReader::builder(&schema)
        .build()
        .expect("our schema resolves");
    let writer = GenericDatumWriter::builder(&schema)
        .build()
        .expect("our schema resolves");
    let value = reader.read_value(&mut &*datum).expect("we wrote it");

    let mut group = c.benchmark_group("event, 2 KB");
    group.throughput(Throughput::Elements(1));
    let mut out = Vec::new();
    group.bench_function("write", |b| {
        b.iter(|| {
            out.clear();
            event_v1::write(&mut out, Encoding::SingleObject, black_box(&event));
            black_box(out.len())
        });
    });
    group.bench_function("decode_change", |b| {
        b.iter(|| event_v1::decode_change(black_box(datum)).is_ok());
    });
    group.bench_function("EventDecoder::decode", |b| {
        b.iter(|| {
            let decoded = decoder.decode(black_box(&framed)).expect("we wrote it");
            black_box(decoded.change().emitted_at)
        });
    });
    group.bench_function("EventDecoder::event", |b| {
        b.iter(|| decoder.event(black_box(&framed)));
    });
    group.bench_function("headers", |b| {
        b.iter(|| {
            headers::of_event(black_box(&event), None)
                .map(|(_, value)| value.len())
                .sum::<usize>()
        });
    });
    group.bench_function("apache-avro write", |b| {
        b.iter_batched(
            || value.clone(),
            |value| writer.write_value_to_vec(value),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("apache-avro read", |b| {
        b.iter(|| reader.read_value(&mut black_box(datum)));
    });
    group.finish();
}

/// A record of a later version, which the processor of this one meets only when it was rolled back.
fn later_events(c: &mut Criterion) {
    let mut later: serde_json::Value = serde_json::from_str(event_v1::SCHEMA).expect("our schema is valid");
    let attempt = serde_json::json!({"name": "attempt", "type": "long", "default": 0});
    later["fields"]
        .as_array_mut()
        .expect("a record has fields")
        .insert(0, attempt);
    let id = SchemaId(2);
    let mut decoder = EventDecoder::new();
    decoder
        .learn(id, &later.to_string())
        .expect("it can be read as ours");
    let mut bytes = vec![0, 0, 0, 0, 2, 14];
    event_v1::encode(&mut bytes, &event());

    let mut group = c.benchmark_group("event of a later version, 2 KB");
    group.throughput(Throughput::Elements(1));
    group.bench_function("EventDecoder::decode", |b| {
        b.iter(|| decoder.decode(black_box(&bytes)).expect("it can be read as ours"));
    });
    group.finish();
}

fn refreshes(c: &mut Criterion) {
    let refresh = refresh();
    let mut framed = Vec::new();
    refresh_v1::write(&mut framed, Encoding::SingleObject, &refresh);
    let datum = &framed[FRAME_BYTES..];
    let schema = Schema::parse_str(refresh_v1::SCHEMA).expect("our schema is valid");
    let reader = GenericDatumReader::builder(&schema)
        .build()
        .expect("our schema resolves");
    let writer = GenericDatumWriter::builder(&schema)
        .build()
        .expect("our schema resolves");
    let value = reader.read_value(&mut &*datum).expect("we wrote it");

    let mut group = c.benchmark_group("refresh of 5 events");
    group.throughput(Throughput::Elements(1));
    let mut out = Vec::new();
    group.bench_function("write", |b| {
        b.iter(|| {
            out.clear();
            refresh_v1::write(&mut out, Encoding::SingleObject, black_box(&refresh));
            black_box(out.len())
        });
    });
    group.bench_function("decode", |b| b.iter(|| refresh_v1::decode(black_box(datum))));
    group.bench_function("headers", |b| {
        b.iter(|| {
            headers::of_refresh(black_box(&refresh))
                .map(|(_, value)| value.len())
                .sum::<usize>()
        });
    });
    group.bench_function("apache-avro write", |b| {
        b.iter_batched(
            || value.clone(),
            |value| writer.write_value_to_vec(value),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("apache-avro read", |b| {
        b.iter(|| reader.read_value(&mut black_box(datum)));
    });
    group.finish();
}

fn event() -> Event {
    Event {
        tenant: TenantId::new("cmp_2zk").expect("not empty"),
        conversation: ConversationId::new("cnv_8xk3m1"),
        id: EventId::new("evt_1a2b3c4d").expect("not empty"),
        kind: Kind::new("message.received").expect("not empty"),
        front_type: Some("inbound_received".into()),
        front_inner_type: Some("inbound".into()),
        priority: Priority::High,
        source: Source::Webhook,
        emitted_at: Timestamp::from_millis(1_795_000_000_123),
        received_at: Timestamp::from_millis(1_795_000_000_930),
        payload: Some(vec![b'x'; 1_950].into()),
    }
}

fn refresh() -> Refresh {
    let kinds = ["message.received", "conversation.assigned", "conversation.tagged"];
    let offset = |number| Offset::new(number).expect("not negative");
    Refresh {
        tenant: TenantId::new("cmp_2zk").expect("not empty"),
        conversation: ConversationId::new("cnv_8xk3m1").expect("not empty"),
        priority: Priority::High,
        kinds: kinds.into_iter().filter_map(Kind::new).collect(),
        event_count: 5,
        event_ids: (0..5)
            .filter_map(|n| EventId::new(format!("evt_1a2b3c4{n}")))
            .collect(),
        event_ids_truncated: false,
        first_emitted_at: Timestamp::from_millis(1_795_000_000_123),
        last_emitted_at: Timestamp::from_millis(1_795_000_000_823),
        first_received_at: Timestamp::from_millis(1_795_000_000_930),
        last_received_at: Timestamp::from_millis(1_795_000_001_100),
        partition: Partition::new(7).expect("not negative"),
        first_offset: offset(1_234_567),
        last_offset: offset(1_234_599),
        run: Run {
            started_at: Timestamp::from_millis(1_794_990_000_000),
            start: Offset::ZERO,
            cause: RunCause::First,
        },
        closed_by: CloseReason::Gap,
    }
}

criterion_group!(benches, events, later_events, refreshes);
criterion_main!(benches);
