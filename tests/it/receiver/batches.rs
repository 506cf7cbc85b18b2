//! The relay's scheme: dotted names, batches whole or not at all.

use frontstream::model::{Priority, Source};
use frontstream::produce::{Error, Records};
use tokio::task::JoinSet;

use super::support::{self, Edge, headers, relay};

const BATCH: &str = r#"[ {"type":"message.received","event_id":"e1","conversation_id":"cnv_1","emitted_at":1795000000.93},
  {"type":"conversation.tagged","id":"e2","conversation":{"id":"cnv_2"},"note":"caf\u00e9 \/"} ]"#;

#[tokio::test]
async fn a_batch_is_an_array_or_an_object_with_events() {
    for form in [
        BATCH.to_owned(),
        format!(r#"{{"sent_by":"relay","events":{BATCH}}}"#),
    ] {
        let (edge, log) = Edge::storing(support::settings()).await;
        // The header names one event, and there are two.
        let mut signed = relay(form.as_bytes());
        signed.extend(headers(&[("X-Front-Event-ID", "outside")]));
        edge.post(signed, form.clone())
            .await
            .is(200, r#"{"status":"accepted","events":2}"#);
        let events = log.events();
        let of = |index: usize| {
            let event = &events[index];
            let conversation = event.conversation.as_ref().unwrap().as_str();
            (
                event.id.as_str(),
                conversation,
                event.kind.as_str(),
                event.priority,
                event.source,
            )
        };
        assert_eq!(
            of(0),
            ("e1", "cnv_1", "message.received", Priority::High, Source::Relay)
        );
        assert_eq!(
            of(1),
            ("e2", "cnv_2", "conversation.tagged", Priority::Low, Source::Relay)
        );
        assert_eq!(events[0].emitted_at.as_millis(), 1_795_000_000_930);
        assert_eq!(
            events[1].emitted_at,
            support::NOW,
            "no time of its own: that of receipt"
        );
        let payload = |index: usize| events[index].payload.as_deref().unwrap();
        assert_eq!(payload(1), br#"{"type":"conversation.tagged","id":"e2","conversation":{"id":"cnv_2"},"note":"caf\u00e9 \/"}"#);
        assert!(payload(0).starts_with(br#"{"type":"message.received""#) && payload(0).ends_with(b"}"));
    }
}

#[tokio::test]
async fn a_single_event_takes_the_id_beside_it_only_when_it_has_none() {
    let (edge, log) = Edge::storing(support::settings()).await;
    let cases = [
        (r#"{"type":"comment.added","conversation_id":"cnv_1"}"#, "outside"),
        (
            r#"{"type":"comment.added","conversation_id":"cnv_1","event_id":"inside"}"#,
            "inside",
        ),
        (
            r#"{"type":"comment.added","payload":{"id":"inner","conversation":{"id":"cnv_1"}}}"#,
            "inner",
        ),
    ];
    for (body, id) in cases {
        let mut signed = relay(body.as_bytes());
        signed.extend(headers(&[("x-front-event-id", "outside")]));
        edge.post(signed, body)
            .await
            .is(200, r#"{"status":"accepted","events":1}"#);
        let event = &log.events()[0];
        assert_eq!((event.id.as_str(), event.kind.as_str()), (id, "comment.added"));
        assert_eq!(
            event
                .conversation
                .as_ref()
                .map(|conversation| conversation.as_str()),
            Some("cnv_1")
        );
        assert_eq!(event.payload.as_deref(), Some(body.as_bytes()));
    }
}

#[tokio::test]
async fn every_dotted_name_has_its_priority() {
    let (edge, log) = Edge::storing(support::settings()).await;
    let kinds = [
        ("conversation.created", Priority::High),
        ("conversation.updated", Priority::High),
        ("conversation.archived", Priority::High),
        ("conversation.reopened", Priority::High),
        ("conversation.deleted", Priority::High),
        ("conversation.restored", Priority::High),
        ("message.received", Priority::High),
        ("message.sent", Priority::High),
        ("comment.added", Priority::High),
        ("conversation.assigned", Priority::Medium),
        ("conversation.unassigned", Priority::Medium),
        ("conversation.tagged", Priority::Low),
        ("conversation.untagged", Priority::Low),
    ];
    for (index, (kind, priority)) in kinds.into_iter().enumerate() {
        let body = format!(r#"{{"type":"{kind}","id":"e{index}","conversation_id":"cnv_1"}}"#);
        edge.post(relay(body.as_bytes()), body)
            .await
            .is(200, r#"{"status":"accepted","events":1}"#);
        let event = &log.events()[0];
        assert_eq!((event.kind.as_str(), event.priority), (kind, priority));
    }
    assert_eq!(edge.metric("unknown_types_total", &[]), 0.0);
    let body = r#"{"type":"conversation.painted","id":"e","conversation_id":"cnv_1"}"#;
    edge.post(relay(body.as_bytes()), body)
        .await
        .is(200, r#"{"status":"accepted","events":1}"#);
    let event = &log.events()[0];
    assert_eq!(
        (event.kind.as_str(), event.priority),
        ("conversation.painted", Priority::Low)
    );
    assert_eq!(edge.metric("unknown_types_total", &[]), 1.0);
}

#[tokio::test]
async fn one_bad_event_refuses_the_batch_whole() {
    let (edge, log) = Edge::storing(support::settings()).await;
    let good = r#"{"type":"message.sent","id":"e1","conversation_id":"cnv_1"}"#;
    let cases = [
        (
            format!(r#"[{good},{{"id":"e2","conversation_id":"cnv_2"}}]"#),
            "no_type",
        ),
        (format!("[{good},7]"), "not_an_object"),
        (
            format!(r#"{{"events":[{good},{{"type":"message.sent"}}]}}"#),
            "no_event",
        ),
        (format!("[{good},"), "not_json"),
        (
            format!("[{}{good}]", format!("{good},").repeat(1_000)),
            "too_many_events",
        ),
    ];
    for (body, reason) in cases {
        let answer = edge.post(relay(body.as_bytes()), body.clone()).await;
        answer.is(400, &format!(r#"{{"status":"rejected","reason":"{reason}"}}"#));
        assert_eq!(
            log.dead_letter().body,
            body.as_bytes(),
            "set aside whole, and nothing of it stored"
        );
    }
    // Nothing of them is remembered as stored.
    edge.post(relay(good.as_bytes()), good)
        .await
        .is(200, r#"{"status":"accepted","events":1}"#);
}

#[tokio::test]
async fn a_batch_is_accepted_only_when_all_of_it_is_durable() {
    let (edge, mut orders) = Edge::start(support::settings()).await;
    let mut tasks = JoinSet::new();
    for outcome in [Err(Error::Unavailable("one of two".into())), Ok(())] {
        edge.post_beside(&mut tasks, relay(BATCH.as_bytes()), BATCH.into());
        let order = orders.recv().await.unwrap();
        assert!(
            matches!(&order.records, Records::Events(events, _) if events.len() == 2),
            "a retry is the whole batch"
        );
        order.reply.send(outcome.clone()).unwrap();
        let answer = tasks.join_next().await.unwrap().unwrap();
        match outcome {
            Ok(()) => answer.is(200, r#"{"status":"accepted","events":2}"#),
            Err(_) => answer.is(503, r#"{"status":"unavailable"}"#),
        }
    }
}

#[tokio::test]
async fn what_a_batch_repeats_is_stored_once() {
    let (edge, log) = Edge::storing(support::settings()).await;
    let event = |id: u32| format!(r#"{{"type":"message.sent","id":"e{id}","conversation_id":"cnv_1"}}"#);
    let first = format!("[{},{},{}]", event(1), event(2), event(1));
    let answer = edge.post(relay(first.as_bytes()), first.clone()).await;
    answer.is(200, r#"{"status":"accepted","events":2,"duplicates":1}"#);
    assert_eq!(log.events().len(), 2);
    let second = format!("[{},{}]", event(2), event(3));
    let answer = edge.post(relay(second.as_bytes()), second).await;
    answer.is(200, r#"{"status":"accepted","events":1,"duplicates":1}"#);
    assert_eq!(log.events()[0].id.as_str(), "e3");
    edge.post(relay(first.as_bytes()), first)
        .await
        .is(200, r#"{"status":"duplicate"}"#);
    edge.post(relay(b"[]"), "[]")
        .await
        .is(200, r#"{"status":"accepted","events":0}"#);
    assert_eq!(edge.metric("duplicates_total", &[]), 5.0);
}
