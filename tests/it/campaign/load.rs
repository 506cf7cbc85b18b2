//! The load: signed webhooks in bursts, posted as Front posts them, with a list of what was sent and how it was answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frontstream::lifecycle::{Clock, Instant};
use frontstream::model::{Priority, Timestamp};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::task::JoinSet;

use crate::support::Random;

/// The secret that receivers and load share; a made-up one.
pub(crate) const SECRET: &str = "4f1d0c9be27a4e5b8a3360d7f5c2e891";

/// The pauses before Front's retries: it tries up to three times more and does not say when. Source:
/// `front-protocol.md`, delivery.
const RETRY_AFTER: [Duration; 3] = [
    Duration::from_millis(400),
    Duration::from_millis(1_500),
    Duration::from_secs(4),
];

/// Front gives up on an answer after five seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How many conversations there are: few enough that bursts of one meet.
const CONVERSATIONS: u64 = 120;

/// Of a hundred webhooks, how many are posted a second time although they were answered.
const REPEATED_PERCENT: u64 = 6;

/// When the second one comes, in milliseconds after the answer to the first: while its window is open, and long after
/// the window's refresh and the offset behind it were committed, so that only the dedupe horizon tells.
const REPEATED_AFTER_MS: std::ops::Range<u64> = 100..20_000;

/// The companies: ids of one must never be taken for the other's.
const TENANTS: [&str; 2] = ["cmp_3k9dz", "cmp_7x1pq"];

/// The bodies, with the ids that are replaced, what their events are worth, and how often each is taken.
const BODIES: [(&str, Priority, u64); 6] = [
    (
        include_str!("../../data/front/application/inbound_received.json"),
        Priority::High,
        4,
    ),
    (
        include_str!("../../data/front/application/outbound_sent_reply.json"),
        Priority::High,
        3,
    ),
    (
        include_str!("../../data/front/application/assignee_changed_assign.json"),
        Priority::Medium,
        3,
    ),
    (
        include_str!("../../data/front/application/tag_added.json"),
        Priority::Low,
        5,
    ),
    (
        include_str!("../../data/front/application/new_comment_added.json"),
        Priority::High,
        1,
    ),
    (
        include_str!("../../data/front/application/conversation_archived.json"),
        Priority::High,
        2,
    ),
];

/// A webhook that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) tenant: String,
    pub(crate) conversation: String,
    pub(crate) priority: Priority,
    /// How often it was posted.
    pub(crate) attempts: u32,
    /// How often it was answered 200.
    pub(crate) accepted: u32,
}

/// Everything that was sent, by event id, and every answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) sent: BTreeMap<String, Sent>,
    /// How often each answer came; 0: none.
    pub(crate) answers: BTreeMap<u16, u64>,
    /// Of each answer other than 200, or none: when the webhook was posted, and until when that took.
    pub(crate) refusals: Vec<(Timestamp, Timestamp, u16)>,
}

/// Posts until told to stop, and waits for the last answers. Blocks.
pub(crate) fn run(seed: u64, rate: f64, receivers: &[SocketAddr], is_over: impl Fn() -> bool) -> Ledger {
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let sender = Arc::new(Sender::new(receivers, Arc::clone(&ledger)));
        let mut random = Random::new(seed);
        let mut tasks = JoinSet::new();
        let mut number = 0;
        let began = Instant::now();
        let mut due = 0.0;
        while !is_over() {
            let burst = Burst::draw(&mut random);
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let mean_pause = burst.webhooks as f64 / rate;
            due += random.exponential(mean_pause);
            tokio::time::sleep(Duration::from_secs_f64(due).saturating_sub(began.elapsed())).await;
            for _ in 0..burst.webhooks {
                number += 1;
                let conversation = match burst.conversation {
                    Some(conversation) => format!("cnv_{conversation}"),
                    None => format!("cnv_new_{number}"),
                };
                let webhook = Webhook::new(&format!("evt_{seed}_{number}"), &conversation, &mut random);
                tasks.spawn(Arc::clone(&sender).deliver(webhook));
                // Rules act some milliseconds apart.
                tokio::time::sleep(Duration::from_millis(random.below(12))).await;
            }
            while tasks.try_join_next().is_some() {}
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("posting does not panic");
        }
    });
    std::mem::take(&mut *ledger.lock().expect("no one panics while holding the ledger"))
}

/// Webhooks that come one upon the other.
struct Burst {
    webhooks: u64,
    /// Which conversation they are of; `None`: each of another that was never heard of.
    conversation: Option<u64>,
}

impl Burst {
    /// Mostly what a few rules do; at times somebody closes a whole inbox, or a conversation is written to by a machine.
    fn draw(random: &mut Random) -> Self {
        match random.below(250) {
            0 => Self {
                webhooks: 80,
                conversation: None,
            },
            1 => Self {
                webhooks: 150,
                conversation: Some(skewed(random)),
            },
            _ => Self {
                webhooks: 1 + random.below(6),
                conversation: Some(skewed(random)),
            },
        }
    }
}

/// Some conversations are busier than others.
fn skewed(random: &mut Random) -> u64 {
    random.below(CONVERSATIONS).min(random.below(CONVERSATIONS))
}

/// What is posted for one event.
struct Webhook {
    event: String,
    tenant: &'static str,
    conversation: String,
    priority: Priority,
    body: String,
    /// When it is posted again after it was accepted, if it is.
    repeated_after: Option<Duration>,
    first: usize,
}

impl Webhook {
    fn new(event: &str, conversation: &str, random: &mut Random) -> Self {
        let mut left = random.below(BODIES.iter().map(|(.., weight)| weight).sum());
        let (body, priority, _) = BODIES
            .iter()
            .find(|(.., weight)| {
                let found = left < *weight;
                left = left.saturating_sub(*weight);
                found
            })
            .expect("the weights add up");
        // Both companies have conversations of the same names, which are not the same conversations.
        let tenant = TENANTS[usize::from(random.below(8) == 0)];
        Self {
            event: event.to_owned(),
            tenant,
            conversation: conversation.to_owned(),
            priority: *priority,
            body: with_ids(body, tenant, event, conversation),
            repeated_after: (random.below(100) < REPEATED_PERCENT).then(|| {
                let times = REPEATED_AFTER_MS.end - REPEATED_AFTER_MS.start;
                Duration::from_millis(REPEATED_AFTER_MS.start + random.below(times))
            }),
            first: usize::try_from(random.below(8)).expect("small"),
        }
    }
}

/// Puts our ids into one of Front's bodies.
fn with_ids(body: &str, tenant: &str, event: &str, conversation: &str) -> String {
    let parsed: serde_json::Value = serde_json::from_str(body).expect("a fixture is JSON");
    let id = |pointer| {
        parsed
            .pointer(pointer)
            .and_then(serde_json::Value::as_str)
            .expect("a fixture has ids")
    };
    body.replace(id("/authorization/id"), tenant)
        .replace(id("/payload/id"), event)
        .replace(id("/payload/conversation/id"), conversation)
}

struct Sender {
    client: reqwest::Client,
    urls: Vec<String>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Sender {
    fn new(receivers: &[SocketAddr], ledger: Arc<Mutex<Ledger>>) -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER_TIMEOUT)
            .build()
            .expect("an HTTP client");
        let url = |address: &SocketAddr| format!("http://{address}/api/webhooks/front");
        Self {
            client,
            urls: receivers.iter().map(url).collect(),
            ledger,
        }
    }

    /// Posts a webhook until it is accepted, and perhaps once more later.
    async fn deliver(self: Arc<Self>, webhook: Webhook) {
        let answered_by = self.insist(&webhook, webhook.first).await;
        if let (Some(receiver), Some(pause)) = (answered_by, webhook.repeated_after) {
            tokio::time::sleep(pause).await;
            self.insist(&webhook, receiver + 1).await;
        }
    }

    /// Posts a webhook as often as Front would, each time to the next receiver; returns which one accepted it.
    async fn insist(&self, webhook: &Webhook, first: usize) -> Option<usize> {
        for attempt in 0..=RETRY_AFTER.len() {
            let receiver = first + attempt;
            let posted = Clock::system().now();
            let status = self.post(webhook, receiver).await;
            self.note(webhook, posted, status);
            if status == 200 {
                return Some(receiver);
            }
            if let Some(pause) = RETRY_AFTER.get(attempt) {
                tokio::time::sleep(*pause).await;
            }
        }
        None
    }

    async fn post(&self, webhook: &Webhook, receiver: usize) -> u16 {
        let url = &self.urls[receiver % self.urls.len()];
        let at = Clock::system().now().as_millis().to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("HMAC takes any key");
        mac.update(format!("{at}:").as_bytes());
        mac.update(webhook.body.as_bytes());
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("x-front-request-timestamp", &at)
            .header("x-front-signature", STANDARD.encode(mac.finalize().into_bytes()))
            .body(webhook.body.clone());
        match request.send().await {
            // Only an answer that arrived whole counts.
            Ok(answer) => {
                let status = answer.status().as_u16();
                answer.bytes().await.map_or(0, |_| status)
            }
            Err(_) => 0,
        }
    }

    fn note(&self, webhook: &Webhook, posted: Timestamp, status: u16) {
        let mut ledger = self
            .ledger
            .lock()
            .expect("no one panics while holding the ledger");
        *ledger.answers.entry(status).or_default() += 1;
        if status != 200 {
            ledger.refusals.push((posted, Clock::system().now(), status));
        }
        let sent = ledger.sent.entry(webhook.event.clone()).or_insert_with(|| Sent {
            tenant: webhook.tenant.to_owned(),
            conversation: webhook.conversation.clone(),
            priority: webhook.priority,
            attempts: 0,
            accepted: 0,
        });
        sent.attempts += 1;
        sent.accepted += u32::from(status == 200);
    }
}
