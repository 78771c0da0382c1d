use actors::{Offset, TopicPartition};
use chrono::{DateTime, Utc};
use contracts::{
    Envelope, OrderCancelled, OrderCompleted, OrderCreated, Parsed, PaymentFailed, PaymentSuccess,
    RefundRequested, topics,
};

use super::*;
use crate::domain::Courier;

const ORDER: Uuid = Uuid::from_u128(7);
const CAUSE: Uuid = Uuid::from_u128(1);
const PATIENCE: Duration = Duration::from_secs(60);
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).expect("in range")
}

fn attempt(seconds: u64) -> Attempt {
    Attempt {
        event_id: CAUSE,
        correlation_id: "c-1".into(),
        failed_attempts: 0,
        crashes: 0,
        generation: 1,
        now: now(),
        age: Duration::from_secs(seconds),
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

fn paid() -> Inbound {
    inbound(PaymentSuccess {
        order_id: ORDER,
        order_version: 2,
        amount_cents: 900,
        provider_reference: "ch_1".into(),
        payment_token: None,
    })
}

fn ends() -> [Inbound; 3] {
    [
        inbound(OrderCompleted { order_id: ORDER, order_version: 3, courier_id: 1 }),
        inbound(OrderCancelled { order_id: ORDER, order_version: 3, reason: "customer".into() }),
        inbound(RefundRequested {
            order_id: ORDER,
            order_version: 3,
            amount_cents: 900,
            reason: "late".into(),
        }),
    ]
}

fn couriers(load: i32) -> Couriers {
    Couriers::new(vec![Courier { id: 1, name: "courier-01".into(), capacity: 1, load }])
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

#[test]
fn only_events_that_concern_couriers_are_taken() {
    let handler = Deliveries::new(true, PATIENCE);
    for body in ends().into_iter().chain([paid()]) {
        let Ok(Decoded::Event(event)) = handler.decode(&record(&body)) else { panic!("{body:?} is for us") };
        assert_eq!(handler.key(&event.body), ORDER);
        assert!(!handler.needs_prepare(&event.body));
        assert_eq!(event.body, body);
    }
    let created = OrderCreated {
        order_id: ORDER,
        order_version: 1,
        customer_id: "c".into(),
        item: "pizza".into(),
        quantity: 1,
        amount_cents: 900,
        payment_token: None,
    };
    let declined = PaymentFailed { order_id: ORDER, order_version: 1, reason: "declined".into() };
    for other in [inbound(created), inbound(declined)] {
        assert!(matches!(handler.decode(&record(&other)), Ok(Decoded::Ignored)), "{other:?}");
    }
}

#[test]
fn an_assignment_names_its_cause_and_carries_its_trace() {
    let decision = Deliveries::new(true, PATIENCE)
        .decide(&attempt(0), &paid(), None, &mut couriers(0), None)
        .expect("somebody is free");
    let [emit] = &decision.emit[..] else { panic!("one event, not {}", decision.emit.len()) };
    assert_eq!(emit.topic, topics::DELIVERIES);
    assert_eq!(emit.headers.text("traceparent"), Some(PARENT));
    let said = Envelope::parse(emit.value.as_deref().expect("a body")).expect("an envelope");
    let Parsed::Event(said) = said else { panic!("a known event") };
    assert_eq!((said.causation_id, said.correlation_id.as_str()), (Some(CAUSE), "c-1"));
    assert_eq!((said.event_id.get_version_num(), said.event_id == CAUSE), (7, false));
    let Event::DeliveryAssigned(assigned) = said.event else { panic!("assigned") };
    assert_eq!((assigned.order_version, assigned.courier.as_str()), (2, "courier-01"));
}

/// As after a requeue: hours later, of another generation.
#[test]
fn what_is_said_late_is_what_would_have_been_said() {
    let handler = Deliveries::new(true, PATIENCE);
    let late = Attempt { generation: 2, now: now() + Duration::from_secs(7_200), ..attempt(0) };
    let said = |attempt: &Attempt| {
        handler.decide(attempt, &paid(), None, &mut couriers(0), None).expect("somebody is free").emit
    };
    assert_eq!(said(&late), said(&attempt(0)));
}

#[test]
fn a_full_fleet_is_waited_for_and_then_given_up() {
    let handler = Deliveries::new(true, PATIENCE);
    let mut full = couriers(1);
    let failure = handler.decide(&attempt(0), &paid(), None, &mut full, None).expect_err("nobody is free");
    let Failure::NotYet(cause) = failure else { panic!("may pass: {failure:?}") };
    assert_eq!(cause.code, "no-courier-free");
    assert_eq!(full, couriers(1), "an error leaves the couriers as they were");
    let last = attempt(PATIENCE.as_secs());
    let decision = handler.decide(&last, &paid(), None, &mut full, None).expect("given up");
    assert_eq!(decision.emit.len(), 1);
}

#[test]
fn one_batch_can_assign_and_release() {
    let handler = Deliveries::new(true, PATIENCE);
    for end in ends() {
        let mut couriers = couriers(0);
        let assigned = handler.decide(&attempt(0), &paid(), None, &mut couriers, None).expect("assigned");
        let released =
            handler.decide(&attempt(0), &end, assigned.state.saved().as_ref(), &mut couriers, None);
        let released = released.expect("released");
        assert!(released.emit.is_empty());
        assert!(matches!(
            released.state.saved().expect("changed").status,
            Status::Released { courier_id: 1, .. }
        ));
        assert_eq!(couriers.iter().map(|courier| courier.load).sum::<i32>(), 0);
    }
}
