use actors::Headers;
use chrono::DateTime;
use contracts::{
    DeliveryAssigned, DeliveryFailed, Envelope, OrderCancelled, OrderCompleted, Parsed, PaymentRefunded,
    PaymentSuccess, RefundRequested, topics,
};

use super::*;
use crate::domain::Status;

const ORDER: Uuid = Uuid::from_u128(42);

fn attempt() -> Attempt {
    Attempt {
        event_id: Uuid::from_u128(1),
        correlation_id: "c-1".into(),
        failed_attempts: 0,
        crashes: 0,
        generation: 1,
        now: DateTime::from_timestamp(1_790_000_002, 0).expect("in range"),
        age: std::time::Duration::ZERO,
    }
}

fn order() -> Order {
    Order::new(DateTime::from_timestamp(1_790_000_000, 0).expect("in range"))
}

fn inbound(id: u128, event: impl Into<Event>) -> Inbound {
    let envelope = Envelope {
        event_id: Uuid::from_u128(id),
        occurred_at: DateTime::from_timestamp(1_790_000_001, 0).expect("in range"),
        correlation_id: "c-1".into(),
        causation_id: None,
        event: event.into(),
    };
    Inbound { written_at: envelope.occurred_at, envelope, traceparent: Some("00-a-b-01".into()) }
}

fn paid() -> Inbound {
    let provider_reference = "ch_1".to_owned();
    inbound(
        1,
        PaymentSuccess {
            order_id: ORDER,
            order_version: 1,
            amount_cents: 500,
            provider_reference,
            payment_token: None,
        },
    )
}

fn assigned() -> Inbound {
    inbound(2, DeliveryAssigned { order_id: ORDER, order_version: 2, courier_id: 7, courier: "Ada".into() })
}

/// Folds events into an order as the runtime does.
fn fold(events: &[Inbound]) -> (Order, Vec<Envelope>) {
    let mut state = order();
    let mut said = Vec::new();
    for event in events {
        let decision = Orders.decide(&attempt(), event, Some(&state), &mut (), None).expect("decides");
        for emit in decision.emit {
            assert_eq!(emit.topic, topics::ORDERS);
            assert_eq!(emit.headers.text("traceparent"), Some("00-a-b-01"));
            match Envelope::parse(emit.value.as_deref().expect("a body")).expect("ours") {
                Parsed::Event(envelope) => said.push(*envelope),
                Parsed::Unknown(known) => panic!("{known:?}"),
            }
        }
        state = decision.state.saved().unwrap_or(state);
    }
    (state, said)
}

#[test]
fn two_facts_of_one_batch_complete_an_order_and_all_of_it_is_in_the_timeline() {
    let (order, said) = fold(&[assigned(), paid()]);
    assert_eq!((order.status, order.version, order.ended), (Status::Completed, 3, true));
    let timeline: Vec<_> = order.unsaved.iter().map(|e| (e.event_type, e.service, e.order_version)).collect();
    let expected = [
        ("DELIVERY_ASSIGNED", "delivery", 2),
        ("PAYMENT_SUCCESS", "payments", 3),
        ("ORDER_COMPLETED", "orders", 3),
    ];
    assert_eq!(timeline, expected);
    let [said] = &said[..] else { panic!("one event: {said:?}") };
    assert_eq!(said.event, OrderCompleted { order_id: ORDER, order_version: 3, courier_id: 7 }.into());
    assert_eq!((said.causation_id, said.correlation_id.as_str()), (Some(Uuid::from_u128(1)), "c-1"));
}

#[test]
fn what_cannot_be_delivered_is_refunded_and_then_cancelled() {
    let failed = DeliveryFailed { order_id: ORDER, order_version: 2, reason: "nobody free".into() };
    let refunded = PaymentRefunded {
        order_id: ORDER,
        order_version: 3,
        amount_cents: 500,
        provider_reference: "re_1".into(),
    };
    let (order, said) = fold(&[paid(), inbound(3, failed), inbound(4, refunded)]);
    assert_eq!(order.status, Status::Cancelled);
    let said: Vec<Event> = said.into_iter().map(|envelope| envelope.event).collect();
    let reason = || "nobody free".to_owned();
    let refund = RefundRequested { order_id: ORDER, order_version: 3, amount_cents: 500, reason: reason() };
    let cancelled = OrderCancelled { order_id: ORDER, order_version: 4, reason: reason() };
    assert_eq!(said, [refund.into(), cancelled.into()]);
}

/// As after a requeue: hours later, of another generation. What is said is the same to the byte, and has its cause's time; the
/// timeline tells when it was heard and said.
#[test]
fn what_is_said_late_is_what_would_have_been_said() {
    let (waiting, _) = fold(&[assigned()]);
    let late =
        Attempt { generation: 2, now: attempt().now + std::time::Duration::from_secs(7_200), ..attempt() };
    let decide =
        |attempt: &Attempt| Orders.decide(attempt, &paid(), Some(&waiting), &mut (), None).expect("decides");
    let decision = decide(&late);
    assert_eq!(decision.emit, decide(&attempt()).emit);
    let order = decision.state.saved().expect("changed");
    for entry in &order.unsaved[1..] {
        assert_eq!((entry.occurred_at, entry.recorded_at), (paid().written_at, late.now), "{entry:?}");
    }
    let said: Vec<_> = order.unsaved[1..].iter().map(|entry| entry.event_type).collect();
    assert_eq!(said, ["PAYMENT_SUCCESS", "ORDER_COMPLETED"]);
}

#[test]
fn an_order_that_ended_only_remembers() {
    let (completed, _) = fold(&[paid(), assigned()]);
    let late = inbound(5, DeliveryFailed { order_id: ORDER, order_version: 2, reason: "late".into() });
    let decision = Orders.decide(&attempt(), &late, Some(&completed), &mut (), None).expect("decides");
    let after = decision.state.saved().expect("its timeline grew");
    assert_eq!((after.status, after.version, &after.facts), (Status::Completed, 3, &completed.facts));
    assert!(decision.emit.is_empty());
    assert_eq!(after.unsaved.last().map(|entry| entry.event_type), Some("DELIVERY_FAILED"));
}

#[test]
fn an_order_nobody_knows_is_a_permanent_failure() {
    let failure = Orders.decide(&attempt(), &paid(), None, &mut (), None).expect_err("no such order");
    let Failure::Permanent(cause) = failure else { panic!("{failure:?}") };
    assert_eq!(cause.code, "unknown-order");
    assert!(cause.message.contains(&ORDER.to_string()), "{cause}");
}

#[test]
fn its_own_topic_is_not_for_it() {
    let own = inbound(6, OrderCompleted { order_id: ORDER, order_version: 3, courier_id: 7 });
    let emitted = events::emit(&own.envelope, None);
    let record = Record {
        source: actors::TopicPartition::new(topics::ORDERS, 0),
        offset: actors::Offset(0),
        timestamp_ms: 0,
        key: None,
        value: emitted.value.map(Vec::into_boxed_slice),
        headers: Headers::new(),
    };
    assert!(matches!(Orders.decode(&record), Ok(Decoded::Ignored)));
}

/// One line of the log for each order that has ended, however much is heard of it afterwards.
#[test]
fn an_end_is_noted_once() {
    let refused = inbound(6, DeliveryFailed { order_id: ORDER, order_version: 2, reason: "late".into() });
    let (mut state, mut notes) = (order(), Vec::new());
    for event in [paid(), assigned(), refused] {
        let decision = Orders.decide(&attempt(), &event, Some(&state), &mut (), None).expect("decides");
        notes.push(decision.note);
        state = decision.state.saved().unwrap_or(state);
    }
    assert_eq!(notes, [None, Some("order completed"), None]);
    assert!(state.ended, "of several events in one batch, one ends it");
}
