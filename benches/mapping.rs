//! What it costs to turn an authentic body into events: parse, map, own.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up is to fail")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use frontstream::model::{Source, TenantId, Timestamp};
use frontstream::validate::{Delivery, Retention, validate};

fn mapping(criterion: &mut Criterion) {
    let default_tenant = TenantId::new("default").unwrap();
    let delivery = |source| Delivery {
        source,
        received_at: Timestamp::from_millis(1_795_000_000_500),
        url_tenant: None,
        default_tenant: &default_tenant,
        event_id: None,
        retention: Retention::Full,
    };
    let event = include_str!("../tests/data/front/application-preview/inbound_received.json");
    let batch = format!("[{}]", [event; 10].join(","));
    let bodies = [
        (
            "application_3k",
            Source::Webhook,
            &include_bytes!("../tests/data/front/application/inbound_received.json")[..],
        ),
        (
            "application_240k",
            Source::Webhook,
            &include_bytes!("../tests/data/front/awkward/big_body.json")[..],
        ),
        (
            "escaped_4k",
            Source::Webhook,
            &include_bytes!("../tests/data/front/awkward/unicode_escaped.json")[..],
        ),
        (
            "rule_preview",
            Source::Rule,
            &include_bytes!("../tests/data/front/rule-preview/inbound.json")[..],
        ),
        ("relay_batch_of_10", Source::Relay, batch.as_bytes()),
    ];
    let mut group = criterion.benchmark_group("mapping");
    for (name, source, body) in bodies {
        let body = Bytes::copy_from_slice(body);
        let delivery = delivery(source);
        validate(&body, &delivery).unwrap();
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| validate(black_box(&body), &delivery))
        });
    }
    group.finish();
}

criterion_group!(benches, mapping);
criterion_main!(benches);
