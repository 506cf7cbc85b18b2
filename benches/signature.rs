//! What it costs to tell whether a request is authentic.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up is to fail")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use frontstream::model::Timestamp;
use frontstream::receive::signature::{Header, Presented, Secret, Settings, Verifier};

const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_500);
/// The vectors `app-inbound-full` and `rule-inbound-full`.
const APPLICATION: &[u8] = b"83HIgYIlTEBGdtnu7dJR5MF19lLMFzt+YuI6Csm0ca8=";
const RULE: &[u8] = b"fWYPRA7YB5Ul+hZbBEmTX1l3dq4=";

fn signature(criterion: &mut Criterion) {
    let application = include_bytes!("../tests/data/front/application/inbound_received.json");
    let rule = include_bytes!("../tests/data/front/rule/inbound.json");
    let secret = |text: &str| Secret::new("bench", text).unwrap();
    let verifier = Verifier::new(&Settings {
        window: Duration::from_secs(300),
        application: vec![secret("4f1d0c9be27a4e5b8a3360d7f5c2e891")],
        rule: vec![secret("rk_test_7c0b9a51d3e84f26")],
        relay: Vec::new(),
    });
    let of_application = |timestamp| Presented {
        signature: Header::Once(APPLICATION),
        timestamp: Header::Once(timestamp),
    };
    let fresh = of_application(b"1795000000123");
    let stale = of_application(b"1794000000123");
    let of_rule = Presented {
        signature: Header::Once(RULE),
        timestamp: Header::Absent,
    };
    let check = |presented, body: &[u8]| {
        verifier
            .open(presented, NOW)
            .and_then(|claim| claim.verify(body))
            .is_ok()
    };
    assert!(check(fresh, application) && check(of_rule, rule) && !check(stale, application));

    let mut group = criterion.benchmark_group("signature");
    group.throughput(Throughput::Bytes(application.len() as u64));
    group.bench_function("application_3k", |bencher| {
        bencher.iter(|| check(fresh, black_box(application)))
    });
    group.throughput(Throughput::Bytes(rule.len() as u64));
    group.bench_function("rule_3k", |bencher| {
        bencher.iter(|| check(of_rule, black_box(rule)))
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("stale", |bencher| {
        bencher.iter(|| check(stale, black_box(application)))
    });
    group.finish();
}

criterion_group!(benches, signature);
criterion_main!(benches);
