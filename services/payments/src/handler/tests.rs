mod providers;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use actors::{Offset, TopicPartition};
use chrono::{DateTime, Utc};
use contracts::{Envelope, OrderCancelled, OrderCompleted, OrderCreated, RefundRequested, topics};

use self::providers::{Broken, Counting, Forgotten, Silent};
use super::*;
use crate::{
    domain::Charge,
    provider::{
        Reference,
        simulated::{Simulated, SimulatedSettings},
    },
};

const ORDER: Uuid = Uuid::from_u128(7);
const CAUSE: Uuid = Uuid::from_u128(1);
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn simulated() -> Simulated {
    let settings =
        SimulatedSettings { max_amount_cents: 1_000, test_tokens: true, ..SimulatedSettings::default() };
    Simulated::new(settings, None)
}

fn handler() -> (Payments<Counting>, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let provider = Counting { inner: simulated(), asked: asked.clone() };
    (Payments::new(provider, Duration::from_secs(1)), asked)
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).expect("in range")
}

fn attempt(failed_attempts: u32, crashes: u32) -> Attempt {
    Attempt {
        event_id: CAUSE,
        correlation_id: "c-1".into(),
        failed_attempts,
        crashes,
        generation: 1,
        now: now(),
        age: Duration::ZERO,
    }
}

fn inbound(event: impl Into<Event>) -> Inbound {
    let envelope = Envelope {
        event_id: CAUSE,
        occurred_at: now(),
        correlation_id: "c-1".into(),
        causation_id: None,
        event: event.into(),
    };
    Inbound { written_at: envelope.occurred_at, envelope, traceparent: Some(PARENT.into()) }
}

fn created(token: &str) -> Inbound {
    inbound(OrderCreated {
        order_id: ORDER,
        order_version: 1,
        customer_id: "c".into(),
        item: "pizza".into(),
        quantity: 1,
        amount_cents: 900,
        payment_token: Some(token.into()),
    })
}

fn refund() -> Inbound {
    inbound(RefundRequested { order_id: ORDER, order_version: 3, amount_cents: 900, reason: "late".into() })
}

fn cancelled() -> Inbound {
    inbound(OrderCancelled { order_id: ORDER, order_version: 2, reason: "customer".into() })
}

fn record(inbound: &Inbound) -> Record {
    let emit = events::emit(&inbound.envelope, inbound.traceparent.as_deref());
    Record {
        source: TopicPartition::new(emit.topic.as_str(), 0),
        offset: Offset(5),
        timestamp_ms: 0,
        key: emit.key.map(Vec::into_boxed_slice),
        value: emit.value.map(Vec::into_boxed_slice),
        headers: emit.headers,
    }
}

async fn run<P: PaymentProvider>(
    handler: &Payments<P>,
    body: &Inbound,
    payment: Option<&Payment>,
) -> Result<Decision<Payment>, Failure> {
    let answer = handler.prepare(&attempt(0, 0), body, payment).await?;
    handler.decide(&attempt(0, 0), body, payment, &mut (), Some(&answer))
}

/// The types of what is said.
fn types(decision: &Decision<Payment>) -> Vec<String> {
    let parsed = decision.emit.iter().map(|emit| Envelope::parse(emit.value.as_deref().expect("a body")));
    parsed
        .map(|parsed| match parsed.expect("an envelope") {
            contracts::Parsed::Event(envelope) => envelope.event.event_type().to_owned(),
            contracts::Parsed::Unknown(known) => known.event_type,
        })
        .collect()
}

fn code(failure: Failure) -> (&'static str, String) {
    match failure {
        Failure::Unreachable(cause) => ("unreachable", cause.code.into_owned()),
        Failure::NotYet(cause) => ("not yet", cause.code.into_owned()),
        Failure::Transient(cause) => ("transient", cause.code.into_owned()),
        Failure::Permanent(cause) => ("permanent", cause.code.into_owned()),
    }
}

#[test]
fn only_events_that_concern_a_payment_are_taken() {
    let (handler, _) = handler();
    for body in [created("tok_ok"), refund(), cancelled()] {
        let Ok(Decoded::Event(event)) = handler.decode(&record(&body)) else { panic!("{body:?} is for us") };
        assert_eq!(handler.key(&event.body), ORDER);
        assert!(handler.needs_prepare(&event.body));
        assert_eq!(event.body, body);
    }
    let completed = inbound(OrderCompleted { order_id: ORDER, order_version: 4, courier_id: 1 });
    assert!(matches!(handler.decode(&record(&completed)), Ok(Decoded::Ignored)));
}

#[tokio::test]
async fn what_is_said_names_its_cause_and_carries_its_trace() {
    let (handler, _) = handler();
    let body = created("tok_no_courier");
    let decision = run(&handler, &body, None).await.expect("charged");
    let [emit] = &decision.emit[..] else { panic!("one event, not {}", decision.emit.len()) };
    assert_eq!(emit.topic, topics::PAYMENTS);
    assert_eq!(emit.key.as_deref(), Some(ORDER.to_string().as_bytes()));
    assert_eq!(emit.headers.text("traceparent"), Some(PARENT));
    let said = Envelope::parse(emit.value.as_deref().expect("a body")).expect("an envelope");
    let contracts::Parsed::Event(said) = said else { panic!("a known event") };
    assert_eq!((said.causation_id, said.correlation_id.as_str()), (Some(CAUSE), "c-1"));
    assert_eq!((said.event_id.get_version_num(), said.event_id == CAUSE), (7, false));
    let Event::PaymentSuccess(paid) = said.event else { panic!("charged") };
    assert_eq!((paid.order_version, paid.amount_cents), (1, 900));
    assert_eq!(paid.payment_token.as_deref(), Some("tok_no_courier"));
}

/// As after a requeue: hours later, of another generation, after other attempts.
#[tokio::test]
async fn what_is_said_late_is_what_would_have_been_said() {
    let (handler, _) = handler();
    let late = Attempt { generation: 2, now: now() + Duration::from_secs(7_200), ..attempt(3, 1) };
    for body in [created("tok_ok"), created("tok_declined")] {
        let answer = handler.prepare(&late, &body, None).await.expect("answered");
        let decision = handler.decide(&late, &body, None, &mut (), Some(&answer)).expect("decided");
        assert_eq!(decision.emit, run(&handler, &body, None).await.expect("decided").emit);
    }
}

#[tokio::test]
async fn money_is_asked_for_once() {
    let (handler, asked) = handler();
    let paid =
        run(&handler, &created("tok_ok"), None).await.expect("charged").state.saved().expect("changed");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let again = run(&handler, &created("tok_ok"), Some(&paid)).await.expect("nothing to do");
    assert!(again.state.saved().is_none() && again.emit.is_empty());
    assert_eq!(asked.load(Ordering::Relaxed), 1, "a charge that is booked is not asked for again");
    let refunded =
        run(&handler, &refund(), Some(&paid)).await.expect("refunded").state.saved().expect("changed");
    for late in [refund(), cancelled(), created("tok_ok")] {
        let nothing = run(&handler, &late, Some(&refunded)).await.expect("nothing to do");
        assert!(nothing.state.saved().is_none() && nothing.emit.is_empty());
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_cancelled_order_is_voided_and_not_charged_any_more() {
    let (handler, asked) = handler();
    let decision = run(&handler, &cancelled(), None).await.expect("closed");
    assert_eq!(types(&decision), ["PAYMENT_VOIDED"]);
    let closed = decision.state.saved().expect("changed");
    assert_eq!((&closed.status, asked.load(Ordering::Relaxed)), (&Status::Closed, 1));
    // As when its dead letter is put back: nothing happens, and that is said.
    let late = run(&handler, &created("tok_ok"), Some(&closed)).await.expect("nothing to do");
    assert!(late.emit.is_empty() && late.state.saved().is_none());
    assert_eq!(late.moot.as_deref(), Some("the order is CANCELLED: it is closed to charges"));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_was_charged_without_an_answer_goes_back_and_both_are_booked() {
    let handler = Payments::new(Forgotten, Duration::from_secs(1));
    let decision = run(&handler, &cancelled(), None).await.expect("voided");
    assert_eq!(types(&decision), ["PAYMENT_REFUNDED"]);
    let payment = decision.state.saved().expect("changed");
    let booked: Vec<_> = payment.unsaved.iter().map(|entry| (entry.kind, entry.amount_cents)).collect();
    assert_eq!(booked, [(Kind::Charge, 900), (Kind::Refund, 900)]);
    assert!(matches!(payment.status, Status::Refunded(_)), "{payment:?}");
}

#[test]
fn what_has_to_go_back_is_never_given_up() {
    let (handler, _) = handler();
    assert!(handler.gives_up(&created("tok_ok")));
    assert!(!handler.gives_up(&refund()) && !handler.gives_up(&cancelled()));
}

#[test]
fn a_death_is_told_with_its_letter() {
    let (handler, _) = handler();
    let dead_letter_id = Uuid::from_u128(9);
    let death = Death { dead_letter_id, class: actors::Class::Crash, code: "panic", generation: 2 };
    for body in [created("tok_crash"), refund(), cancelled()] {
        let said = handler.buried(&body, &death);
        let [emit] = &said[..] else { panic!("one event: {said:?}") };
        let parsed = Envelope::parse(emit.value.as_deref().expect("a body")).expect("an envelope");
        let contracts::Parsed::Event(envelope) = parsed else { panic!("a known event") };
        let expected = PaymentStalled {
            order_id: ORDER,
            order_version: body.envelope.event.order_version(),
            dead_letter_id,
            event_type: body.envelope.event.event_type().into(),
            code: "panic".into(),
            generation: 2,
        };
        assert_eq!(envelope.event, expected.into());
    }
}

#[tokio::test]
async fn a_token_that_pays_is_told_nobody() {
    let (handler, _) = handler();
    let decision = run(&handler, &created("card-4242424242424242"), None).await.expect("charged");
    let said = String::from_utf8(decision.emit[0].value.clone().expect("a body")).expect("UTF-8");
    assert!(!said.contains("4242") && !said.contains("payment_token"), "{said}");
}

#[tokio::test]
async fn failures_are_of_the_kind_that_fits() {
    let (handler, _) = handler();
    let failed = |body: Inbound| {
        let handler = &handler;
        async move { code(run(handler, &body, None).await.expect_err("no answer")) }
    };
    let transient = ("transient", "provider-unavailable".to_owned());
    assert_eq!(failed(created("tok_flaky_1")).await, transient);
    assert_eq!(failed(created("tok_down")).await, transient);
    assert_eq!(failed(created("tok_poison")).await, ("permanent", "payment-method-unusable".into()));
    assert_eq!(failed(refund()).await, ("permanent", "nothing-to-refund".into()));
    let mut dear = created("tok_ok");
    let Event::OrderCreated(order) = &mut dear.envelope.event else { unreachable!() };
    order.amount_cents = 1_001;
    assert_eq!(failed(dear).await, ("permanent", "amount-over-limit".into()));
}

#[tokio::test]
async fn durable_counts_reach_the_provider() {
    let (handler, _) = handler();
    let flaky = created("tok_flaky_2");
    assert!(handler.prepare(&attempt(1, 0), &flaky, None).await.is_err());
    assert!(handler.prepare(&attempt(2, 0), &flaky, None).await.is_ok());
    assert!(handler.prepare(&attempt(0, 1), &created("tok_crash_once"), None).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_silent_is_not_waited_for() {
    let handler = Payments::new(Silent, Duration::from_secs(3));
    let failure = run(&handler, &created("tok_ok"), None).await.expect_err("no answer");
    assert_eq!(code(failure), ("transient", "provider-timeout".into()));
}

#[tokio::test]
async fn a_provider_that_fails_for_most_is_not_asked_until_it_answers_again() {
    let handler = Payments::new(Broken(AtomicU32::new(1)), Duration::from_secs(1));
    let body = created("tok_ok");
    let pay = async || run(&handler, &body, None).await.map_err(code);
    for _ in 0..4 {
        assert_eq!(pay().await.expect_err("it fails"), ("transient", "status-500".into()));
    }
    assert_eq!(pay().await.expect_err("most do"), ("unreachable", "status-500".into()));
    assert_eq!(pay().await.expect_err("not asked"), ("unreachable", "status-500".into()));
    handler.provider.0.store(0, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(pay().await.is_ok());
    handler.provider.0.store(2, Ordering::Relaxed);
    assert_eq!(pay().await.expect_err("nobody's fault"), ("unreachable", "connect".into()));
}

#[test]
fn an_answer_that_no_longer_fits_is_tried_again() {
    let (handler, _) = handler();
    let charge = Charge { amount_cents: 900, reference: Reference::new("ch_1") };
    let paid =
        Payment { status: Status::Charged(charge), order_version: 1, updated_at: now(), unsaved: vec![] };
    let failure =
        handler.decide(&attempt(0, 0), &refund(), Some(&paid), &mut (), None).expect_err("not asked");
    assert_eq!(code(failure), ("transient", "payment-state-moved".into()));
}
