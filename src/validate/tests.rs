//! Properties: whatever is posted, the answer is a value.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn delivery(source: Source) -> Delivery<'static> {
    static DEFAULT: std::sync::LazyLock<TenantId> =
        std::sync::LazyLock::new(|| TenantId::new("default").unwrap());
    Delivery {
        source,
        received_at: Timestamp::from_millis(1_795_000_000_500),
        url_tenant: None,
        default_tenant: &DEFAULT,
        event_id: Some("outside"),
        retention: Retention::Full,
    }
}

/// JSON of any shape, with the members that are read among its keys.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let names = [
        "type",
        "id",
        "_links",
        "self",
        "related",
        "conversation",
        "emitted_at",
        "target",
        "data",
        "_meta",
        "payload",
        "authorization",
        "events",
        "event_id",
        "conversation_id",
        "assignee",
    ];
    let name = prop_oneof![4 => prop::sample::select(names.to_vec()).prop_map(str::to_owned), 1 => "[a-z\\\\\"é]{0,4}"];
    let texts = [
        "conversations_merged",
        "assignee_changed",
        "inbound",
        "teammate",
        "cnv_1",
        "https://a.api.frontapp.com/c/cnv_1/",
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        prop::sample::select(texts.to_vec()).prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            4 => prop::collection::btree_map(name.clone(), inner, 0..8)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// What holds of every outcome.
fn check(body: &Bytes, source: Source) -> Result<(), TestCaseError> {
    let Ok(Validated::Events {
        events,
        unknown_types,
    }) = validate(body, &delivery(source))
    else {
        return Ok(());
    };
    prop_assert!(events.len() <= Rejection::EVENTS_MAX);
    prop_assert!(unknown_types.len() <= events.len());
    let mut known = BTreeSet::new();
    for event in &events {
        let payload = event.payload.as_ref().expect("everything is retained");
        prop_assert!(source == Source::Relay || payload == body);
        prop_assert!(
            body.as_ptr_range().contains(&payload.as_ptr()),
            "shared, not copied"
        );
        prop_assert!(event.front_type.is_some() || event.front_inner_type.is_some());
        let conversation = event.conversation.clone();
        known.insert((event.id.clone(), conversation));
    }
    prop_assert!(
        source == Source::Relay || known.len() == events.len(),
        "each conversation once"
    );
    Ok(())
}

/// A merge of `conversations`, `bytes` long.
fn merge(conversations: usize, bytes: usize) -> Bytes {
    let ids: Vec<String> = (0..conversations)
        .map(|number| format!("\"cnv_{number}\""))
        .collect();
    let begin = format!(
        r#"{{"id":"evt_1","type":"conversations_merged","target":{{"data":[{}]}},"rest":""#,
        ids.join(",")
    );
    let rest = "x".repeat(bytes - begin.len() - 2);
    format!("{begin}{rest}\"}}").into()
}

#[test]
fn a_merge_costs_no_more_than_its_body_and_the_bound_on_copies() {
    // The usual one: each of its events has the body.
    let body = merge(4, Writer::COPIES_BYTES_MAX / 4);
    let outcome = validate(&body, &delivery(Source::Rule)).unwrap();
    let Validated::Events { events, .. } = outcome else {
        panic!("no events: {outcome:?}");
    };
    assert_eq!(events.len(), 4);
    assert!(events.iter().all(|event| event.payload.as_ref() == Some(&body)));

    // Each a record of its own, the bodies of these would be 900 MB.
    let body = merge(1_000, 900_000);
    let outcome = validate(&body, &delivery(Source::Rule)).unwrap();
    let Validated::Events { events, .. } = outcome else {
        panic!("no events: {outcome:?}");
    };
    assert_eq!(events.len(), 1_000, "every conversation is there");
    assert_eq!(events[0].payload.as_ref(), Some(&body));
    let all: usize = events
        .iter()
        .filter_map(|event| event.payload.as_ref())
        .map(Bytes::len)
        .sum();
    assert!(all <= body.len() + Writer::COPIES_BYTES_MAX, "{all}");
}

proptest! {
    #[test]
    fn any_bytes_have_an_outcome(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for source in Source::ALL {
            check(&Bytes::from(body.clone()), source)?;
        }
    }

    #[test]
    fn any_json_has_an_outcome(value in json()) {
        let body = Bytes::from(value.to_string());
        for source in Source::ALL {
            check(&body, source)?;
        }
    }

    #[test]
    fn a_body_cut_anywhere_is_set_aside(cut in 0_usize..3_133) {
        let whole = include_bytes!("../../tests/data/front/application/inbound_received.json");
        let outcome = validate(&Bytes::from_static(&whole[..cut]), &delivery(Source::Webhook));
        prop_assert!(matches!(outcome, Err(Rejection::NotJson { .. })), "{outcome:?}");
    }
}
