//! One request from its head to its answer, the cheapest checks first.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::Settings;
use super::answer::{Answer, Bound, Oversize, Part, Why};
use super::body;
use super::bounds::Bounded;
use super::keys::Keys;
use super::metrics::Metrics;
use super::outlive::Outlive;
use super::quiet::Quiet;
use super::rate::Limiter;
use super::seen::{Seen, Sight};
use super::signature::{Header, Presented, Scheme, Verified};
use crate::lifecycle::{Clock, Instant};
use crate::model::{Event, Kind, TenantId};
use crate::observe::Outage;
use crate::produce::{self, DeadLetter, Handle, Traceparent};
use crate::validate::{self, Delivery, Rejection, Validated};
use crate::wire::headers::REASON;

const SIGNATURE: &str = "x-front-signature";
const TIMESTAMP: &str = "x-front-request-timestamp";
const CHALLENGE: &str = "x-front-challenge";
const EVENT_ID: &str = "x-front-event-id";
const TRACEPARENT: &str = "traceparent";

/// How long a challenge may be: Front's length is unknown, the one captured has 16 characters.
const CHALLENGE_BYTES_MAX: usize = 512;

/// How long the tenant's segment of the URL may be.
const TENANT_BYTES_MAX: usize = 128;

/// What every request shares.
pub(super) struct Edge {
    pub(super) settings: Settings,
    pub(super) keys: Keys,
    pub(super) addresses: Option<Limiter>,
    pub(super) producer: Handle,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) seen: Arc<Seen>,
    pub(super) requests: Bounded,
    pub(super) bytes: Bounded,
    /// Connections, and stores that outlive their request.
    pub(super) tasks: TaskTracker,
    pub(super) lines: Lines,
}

/// The lines that senders can cause, and those that an outage of the brokers causes for each of their requests.
#[derive(Debug, Default)]
pub(super) struct Lines {
    forbidden: Quiet,
    limited: Quiet,
    unauthorized: Quiet,
    rejected: Quiet,
    unknown: Quiet,
    refused: Quiet,
    failed: Outage,
    late: Outage,
}

impl Lines {
    /// A request was stored: what failed for a while before fails no more.
    fn stored(&self) {
        for outage in [&self.failed, &self.late] {
            if let Some(over) = outage.calm(Instant::now()) {
                let (after, failures) = (over.lasted, over.failures);
                tracing::info!(?after, failures, "stores requests again");
            }
        }
    }
}

/// The sender's address, put beside each request by its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Lays the routes out.
pub(super) fn router(edge: Arc<Edge>) -> Router {
    Router::new()
        .route("/api/webhooks/front", post(receive))
        .route("/api/webhooks/front/{tenant}", post(receive_for_tenant))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(edge)
}

async fn receive(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    respond(&edge, answer(&edge, None, request)).await
}

async fn receive_for_tenant(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    let tenant = request.uri().path().rsplit('/').next().map(str::to_owned);
    respond(&edge, answer(&edge, tenant.as_deref(), request)).await
}

async fn not_found(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    let admitted = edge.admit(&request.into_parts().0);
    respond(&edge, std::future::ready(admitted.map(|_| Answer::NotFound))).await
}

async fn method_not_allowed(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    let admitted = edge.admit(&request.into_parts().0);
    respond(
        &edge,
        std::future::ready(admitted.map(|_| Answer::MethodNotAllowed)),
    )
    .await
}

/// Runs a request's work to its answer, whatever happens on the way, and counts it.
async fn respond(edge: &Edge, work: impl Future<Output = Result<Answer, Answer>>) -> Response {
    let started = Instant::now();
    let mut gone = Gone(Some(&edge.metrics));
    let answer = match CatchPanic(pin!(work)).await {
        Ok(Ok(answer) | Err(answer)) => answer,
        Err(panic) => {
            tracing::error!(panic = message(&*panic), "a handler panicked");
            Answer::Internal
        }
    };
    gone.0 = None;
    edge.metrics.answered(&answer, started.elapsed());
    answer.into_response()
}

/// Counts a request that is dropped before it has an answer.
struct Gone<'e>(Option<&'e Metrics>);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        if let Some(metrics) = self.0 {
            metrics.gone();
        }
    }
}

async fn answer(edge: &Arc<Edge>, tenant: Option<&str>, request: Request) -> Result<Answer, Answer> {
    let (head, body) = request.into_parts();
    let client = edge.admit(&head)?;
    let url_tenant = tenant.map(url_tenant).transpose()?;
    let max = edge.settings.body_bytes_max;
    body::check_announced(&body, max, &edge.metrics)?;
    if head
        .headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|coding| coding != "identity")
    {
        return Err(Answer::Encoded);
    }
    let _request = edge.requests.hold(1).ok_or(Answer::Overloaded(Bound::Requests))?;

    let received_at = edge.clock.now();
    let presented = Presented {
        signature: header(&head.headers, SIGNATURE),
        timestamp: header(&head.headers, TIMESTAMP),
    };
    let keys = edge.keys.in_force();
    let claim = keys
        .verifier
        .open(presented, received_at)
        .map_err(|refusal| edge.unauthorized(refusal, None, client))?;
    let reading = body::read(body, max, &edge.bytes, &edge.metrics);
    let (body, _bytes) = timeout(edge.settings.body_timeout, reading)
        .await
        .map_err(|_| Answer::Slow(Part::Body))??;
    let started = Instant::now();
    let verdict = claim.verify(&body);
    let took = started.elapsed();
    let verified = verdict.map_err(|refusal| edge.unauthorized(refusal, Some(took), client))?;
    edge.metrics.took(took);
    keys.count(&verified);

    if let (Scheme::Application, Some(challenge)) = (verified.scheme, head.headers.get(CHALLENGE)) {
        return edge.handshake(
            challenge.as_bytes(),
            head.headers.get_all(CHALLENGE).iter().count(),
        );
    }
    let delivery = Delivery {
        source: verified.scheme.source(),
        received_at,
        url_tenant: url_tenant.as_ref(),
        default_tenant: &edge.settings.default_tenant,
        event_id: text(&head.headers, EVENT_ID),
        retention: edge.settings.retention,
    };
    match validate::validate(&body, &delivery) {
        Ok(Validated::Sync) => Ok(Answer::Sync),
        Ok(Validated::Events {
            events,
            unknown_types,
        }) => {
            edge.note(&events, &unknown_types);
            // The events hold what they need of it.
            drop(body);
            let trace = text(&head.headers, TRACEPARENT).and_then(Traceparent::parse);
            edge.store(events, trace).await
        }
        Err(rejection) => edge.set_aside(body, rejection, &verified, &delivery).await,
    }
}

impl Edge {
    /// Finds out whose request it is, before anything else is looked at; refuses those of networks that are not listed, and those
    /// of an address that sends too many.
    fn admit(&self, head: &Parts) -> Result<IpAddr, Answer> {
        let client = self.client(head)?;
        self.take_turn(client)?;
        Ok(client)
    }

    fn client(&self, head: &Parts) -> Result<IpAddr, Answer> {
        let Peer(peer) = head
            .extensions
            .get()
            .expect("its connection puts the address beside each request");
        let said = self.settings.address.client(peer.ip(), &head.headers);
        let client = said.unwrap_or_else(|proxy| proxy);
        if self.settings.address.is_allowed(said) {
            return Ok(client);
        }
        if let Some(left_out) = self.lines.forbidden.due(self.clock.now()) {
            tracing::warn!(
                network = network(client),
                left_out,
                "refused a request from a network that may not send: see receiver.allowed_networks"
            );
        }
        Err(Answer::Forbidden)
    }

    /// Counts a request against the rate of its address. Of IPv6 that is a network of 64 bits, which one sender has to itself.
    fn take_turn(&self, client: IpAddr) -> Result<(), Answer> {
        let Some(limiter) = &self.addresses else {
            return Ok(());
        };
        let taken = match client {
            IpAddr::V4(address) => limiter.take(&address),
            IpAddr::V6(address) => limiter.take(&(address.to_bits() >> 64)),
        };
        taken.map_err(|wait| {
            if let Some(left_out) = self.lines.limited.due(self.clock.now()) {
                tracing::warn!(
                    network = network(client),
                    left_out,
                    "refused requests of an address that sends too many: see receiver.address_rate"
                );
            }
            Answer::Limited(wait)
        })
    }

    fn unauthorized(
        &self,
        refusal: super::signature::Refusal,
        took: Option<std::time::Duration>,
        client: IpAddr,
    ) -> Answer {
        self.metrics.refused(&refusal);
        if let Some(took) = took {
            self.metrics.took(took);
        }
        if let Some(left_out) = self.lines.unauthorized.due(self.clock.now()) {
            tracing::warn!(
                scheme = refusal.scheme.map(Scheme::as_str),
                reason = refusal.reason.as_str(),
                network = network(client),
                left_out,
                "refused a request that is not authentic"
            );
        }
        Answer::Unauthorized(refusal)
    }

    fn handshake(&self, challenge: &[u8], count: usize) -> Result<Answer, Answer> {
        let is_printable = |byte: &u8| (b' '..=b'~').contains(byte);
        let is_good =
            (1..=CHALLENGE_BYTES_MAX).contains(&challenge.len()) && challenge.iter().all(is_printable);
        if count != 1 || !is_good {
            return Err(Answer::BadChallenge);
        }
        let challenge = std::str::from_utf8(challenge).expect("printable ASCII is UTF-8");
        self.metrics.handshakes.inc();
        tracing::info!("answered Front's handshake");
        Ok(Answer::Handshake(challenge.into()))
    }

    /// Counts what is unusual about events without being wrong.
    fn note(&self, events: &[Event], unknown_types: &[Kind]) {
        let without = events.iter().filter(|event| event.conversation.is_none()).count();
        self.metrics.without_conversation.inc_by(without as u64);
        let Some(one) = unknown_types.first() else {
            return;
        };
        self.metrics.unknown_types.inc_by(unknown_types.len() as u64);
        if let Some(left_out) = self.lines.unknown.due(self.clock.now()) {
            tracing::info!(r#type = ?one.as_str(), left_out, "stored an event of a type that the mapping does not know");
        }
    }

    /// Stores what is not known yet and waits for what others are storing.
    async fn store(
        self: &Arc<Self>,
        events: Vec<Event>,
        trace: Option<Traceparent>,
    ) -> Result<Answer, Answer> {
        let now = self.clock.now();
        let mut ticket = self.seen.ticket();
        let mut fresh = Vec::with_capacity(events.len());
        let mut flights = Vec::new();
        let total = events.len();
        for event in events {
            match ticket.claim(&event, now) {
                Sight::New => fresh.push(event),
                Sight::Before => {}
                Sight::Flying(flight) => flights.push(flight),
            }
        }
        let (stored, duplicates) = (fresh.len(), total - fresh.len());
        self.metrics.duplicates.inc_by(duplicates as u64);

        let edge = Arc::clone(self);
        let storing = (stored > 0).then(|| {
            Outlive::new(&self.tasks, async move {
                let outcome = edge.producer.store(fresh, trace).await;
                ticket.settle(outcome.clone(), edge.clock.now());
                outcome
            })
        });
        let all = async {
            if let Some(storing) = storing {
                storing.await?;
            }
            for flight in flights {
                flight.outcome().await?;
            }
            Ok(())
        };
        match timeout(self.settings.answer_timeout, all).await {
            Ok(Ok(())) if stored == 0 && duplicates > 0 => Ok(Answer::Duplicate),
            Ok(Ok(())) => {
                self.lines.stored();
                Ok(Answer::Accepted { stored, duplicates })
            }
            Ok(Err(error)) => Err(self.failed(&error, Why::Delivery)),
            Err(_) => Err(self.late(Why::AnswerTimeout)),
        }
    }

    /// Sets an authentic body aside that is no event.
    async fn set_aside(
        &self,
        body: Bytes,
        rejection: Rejection,
        verified: &Verified<'_>,
        delivery: &Delivery<'_>,
    ) -> Result<Answer, Answer> {
        let tenant = delivery.url_tenant.unwrap_or(delivery.default_tenant);
        if let Some(left_out) = self.lines.rejected.due(self.clock.now()) {
            tracing::warn!(
                reason = rejection.reason(),
                detail = %rejection,
                bytes = body.len(),
                scheme = verified.scheme.as_str(),
                %tenant,
                left_out,
                "set an authentic body aside: it is no event"
            );
        }
        let letter = DeadLetter {
            headers: vec![
                (REASON, rejection.reason().to_owned()),
                ("frontstream-detail", rejection.to_string()),
                ("frontstream-source", delivery.source.to_string()),
                ("frontstream-tenant", tenant.to_string()),
                ("frontstream-received-at", delivery.received_at.to_string()),
            ],
            body,
            received_at: delivery.received_at,
        };
        let storing = self.producer.store_dead_letter(letter);
        match timeout(self.settings.answer_timeout, storing).await {
            Ok(Ok(())) => Err(Answer::Rejected(rejection)),
            Ok(Err(error)) => Err(self.failed(&error, Why::DeadLetter)),
            Err(_) => Err(self.late(Why::DeadLetter)),
        }
    }

    /// Turns a failure to store into what the sender is to do about it.
    fn failed(&self, error: &produce::Error, why: Why) -> Answer {
        let answer = match error {
            // One record that is refused is no outage: others are stored meanwhile.
            produce::Error::Reject(_) => {
                if let Some(left_out) = self.lines.refused.due(self.clock.now()) {
                    tracing::warn!(%error, left_out, "the log refuses a record for good: answered 413, a retry does not help");
                }
                return Answer::TooLarge(Oversize::Record);
            }
            produce::Error::Backpressure => Answer::Overloaded(Bound::Queue),
            produce::Error::Unavailable(_) | produce::Error::Fatal(_) => Answer::Unavailable(why),
        };
        if let Some(left_out) = self.lines.failed.failed(Instant::now()) {
            tracing::warn!(%error, left_out, "could not store a request: asked its sender for a retry");
        }
        answer
    }

    fn late(&self, why: Why) -> Answer {
        if let Some(left_out) = self.lines.late.failed(Instant::now()) {
            tracing::warn!(
                left_out,
                "the log did not answer in time: asked the sender for a retry"
            );
        }
        Answer::Unavailable(why)
    }
}

/// Takes the tenant's segment of the URL, if it can be one: nothing that would need decoding.
fn url_tenant(segment: &str) -> Result<TenantId, Answer> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_tenant = segment.len() <= TENANT_BYTES_MAX && segment.bytes().all(is_plain);
    TenantId::new(segment)
        .filter(|_| is_tenant)
        .ok_or(Answer::NotFound)
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Header<'h> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Header::Absent,
        (Some(value), None) => Header::Once(value.as_bytes()),
        (Some(_), Some(_)) => Header::Repeated,
    }
}

/// Returns a header that is there once, as text, and not empty.
fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    match header(headers, name) {
        Header::Once(value) => std::str::from_utf8(value).ok().filter(|text| !text.is_empty()),
        Header::Absent | Header::Repeated => None,
    }
}

/// Cuts an address to its network: enough to find a sender, not to name a person.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
    }
}

/// A future whose panic is its outcome: at the edge a panic costs its own request only.
struct CatchPanic<'f, F>(Pin<&'f mut F>);

impl<F: Future> Future for CatchPanic<'_, F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // What the request held is dropped with it; what it shares is safe to go on with after a panic.
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_cut_to_their_network() {
        let cases = [
            ("203.0.113.77", "203.0.113.0/24"),
            ("::ffff:203.0.113.77", "203.0.113.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ];
        for (address, expected) in cases {
            assert_eq!(network(address.parse().unwrap()), expected);
        }
    }

    #[test]
    fn a_tenant_of_the_url_needs_no_decoding() {
        assert_eq!(
            url_tenant("cmp_3k9dz").map(|tenant| tenant.to_string()),
            Ok("cmp_3k9dz".to_owned())
        );
        let long = "a".repeat(TENANT_BYTES_MAX + 1);
        for bad in ["", "a%20b", "a b", "é", "a;b", &long] {
            assert_eq!(url_tenant(bad), Err(Answer::NotFound), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_outcome() {
        let work = pin!(async { panic!("lost {}", 7) });
        let outcome: Result<(), _> = CatchPanic(work).await;
        assert_eq!(message(&*outcome.unwrap_err()), "lost 7");
    }
}
