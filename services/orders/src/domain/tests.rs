use contracts::{DeliveryAssigned, DeliveryFailed, PaymentFailed, PaymentRefunded, PaymentSuccess};
use proptest::{prelude::*, sample::Index};

use super::*;

const ORDER: Uuid = Uuid::from_u128(42);

fn paid() -> Event {
    PaymentSuccess {
        order_id: ORDER,
        order_version: 1,
        amount_cents: 500,
        provider_reference: "ch_1".into(),
        payment_token: None,
    }
    .into()
}

fn declined() -> Event {
    PaymentFailed { order_id: ORDER, order_version: 1, reason: "declined".into() }.into()
}

fn assigned() -> Event {
    DeliveryAssigned { order_id: ORDER, order_version: 2, courier_id: 7, courier: "Ada".into() }.into()
}

fn undeliverable() -> Event {
    DeliveryFailed { order_id: ORDER, order_version: 2, reason: "nobody free".into() }.into()
}

fn refunded() -> Event {
    PaymentRefunded {
        order_id: ORDER,
        order_version: 3,
        amount_cents: 500,
        provider_reference: "re_1".into(),
    }
    .into()
}

fn completed(order_version: i64) -> Option<Event> {
    Some(OrderCompleted { order_id: ORDER, order_version, courier_id: 7 }.into())
}

fn cancelled(order_version: i64, reason: &str) -> Option<Event> {
    Some(OrderCancelled { order_id: ORDER, order_version, reason: reason.into() }.into())
}

fn refund(order_version: i64) -> Option<Event> {
    let reason = "nobody free".into();
    Some(RefundRequested { order_id: ORDER, order_version, amount_cents: 500, reason }.into())
}

fn order() -> Order {
    Order::new(DateTime::UNIX_EPOCH)
}

/// Takes `event` in; what there is to say.
fn hear(order: &mut Order, event: &Event) -> Option<Event> {
    let outcome = decide(event, Some(order)).expect("it exists");
    *order = outcome.order;
    outcome.event
}

#[test]
fn each_step_of_a_saga_and_what_is_said_at_it() {
    use Status::{Cancelled, Completed, Paid, Pending, Refunding};
    // Each line is one order: events as they arrive, with the status after and what is said.
    let table: Vec<Vec<(Event, Status, Option<Event>)>> = vec![
        vec![(paid(), Paid, None), (assigned(), Completed, completed(3))],
        vec![(assigned(), Pending, None), (paid(), Completed, completed(3))],
        vec![(declined(), Cancelled, cancelled(2, "declined")), (undeliverable(), Cancelled, None)],
        vec![(assigned(), Pending, None), (declined(), Cancelled, cancelled(3, "declined"))],
        vec![
            (paid(), Paid, None),
            (undeliverable(), Refunding, refund(3)),
            (refunded(), Cancelled, cancelled(4, "nobody free")),
        ],
        vec![
            (undeliverable(), Pending, None),
            (paid(), Refunding, refund(3)),
            (refunded(), Cancelled, cancelled(4, "nobody free")),
        ],
        // The refund was asked for: a courier who turns up after all comes too late.
        vec![(paid(), Paid, None), (undeliverable(), Refunding, refund(3)), (assigned(), Refunding, None)],
        vec![(paid(), Paid, None), (refunded(), Cancelled, cancelled(3, "the payment was refunded"))],
        vec![(paid(), Paid, None), (paid(), Paid, None), (declined(), Paid, None)],
        vec![(paid(), Paid, None), (assigned(), Completed, completed(3)), (refunded(), Completed, None)],
    ];
    for line in table {
        let mut order = order();
        for (step, (event, status, said)) in line.iter().enumerate() {
            assert_eq!(hear(&mut order, event), *said, "step {step} of {line:?}");
            assert_eq!(order.status, *status, "step {step} of {line:?}");
            assert_eq!(order.ended, status.is_final(), "step {step} of {line:?}");
        }
    }
}

#[test]
fn the_version_counts_what_was_learned_and_stops_at_the_end() {
    let mut order = order();
    let versions: Vec<i64> = [paid(), paid(), assigned(), undeliverable(), refunded()]
        .iter()
        .map(|event| {
            hear(&mut order, event);
            order.version
        })
        .collect();
    assert_eq!(versions, [2, 2, 3, 3, 3]);
    assert_eq!(order.facts.delivery_failed, None, "an order that ended learns nothing");
}

#[test]
fn what_is_said_of_an_order_nobody_knows_is_refused() {
    let refusal = decide(&paid(), None).expect_err("no such order");
    assert_eq!(refusal, Refusal::UnknownOrder { event_type: "PAYMENT_SUCCESS", order_id: ORDER });
    assert_eq!(refusal.code(), "unknown-order");
}

#[test]
fn a_status_is_written_as_it_is_read() {
    for status in Status::ALL {
        assert_eq!(Status::parse(status.as_str()), Some(status));
        assert_eq!(serde_json::to_value(status).expect("a string"), status.as_str());
    }
    assert_eq!(Status::parse("pending"), None);
}

/// What a saga can say of an order, whole or cut short.
fn saga() -> impl Strategy<Value = Vec<Event>> {
    prop_oneof![
        Just(vec![paid(), assigned()]),
        Just(vec![paid(), undeliverable(), refunded()]),
        Just(vec![paid(), undeliverable()]),
        Just(vec![paid()]),
        Just(vec![assigned()]),
        Just(vec![declined()]),
        Just(vec![declined(), undeliverable()]),
    ]
}

fn anything() -> impl Strategy<Value = Event> {
    prop_oneof![Just(paid()), Just(declined()), Just(assigned()), Just(undeliverable()), Just(refunded())]
}

fn after(events: &[Event]) -> (Order, Vec<Event>) {
    let mut order = order();
    let said = events.iter().filter_map(|event| hear(&mut order, event)).collect();
    (order, said)
}

proptest! {
    /// Whatever order events arrive in, and however often: the end is the same, and is announced once.
    #[test]
    fn the_order_of_arrival_does_not_matter(
        (events, shuffled) in saga().prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle())),
        repeats in proptest::collection::vec((any::<Index>(), any::<Index>()), 0..4),
    ) {
        let mut arrived = shuffled.clone();
        for (what, after) in repeats {
            // A repetition can only come after the first sighting.
            let event = shuffled[what.index(shuffled.len())].clone();
            let first = arrived.iter().position(|other| *other == event).expect("it is there");
            let at = first + 1 + after.index(arrived.len() - first);
            arrived.insert(at, event);
        }
        let (expected, _) = after(&events);
        let (order, said) = after(&arrived);
        prop_assert_eq!(order.status, expected.status, "{:?}", arrived);
        // A refund is the answer to a failed delivery that we spoke of; heard of first, it has no reason to give.
        if shuffled.first() != Some(&refunded()) && shuffled.get(1) != Some(&refunded()) {
            prop_assert_eq!(&order.reason, &expected.reason, "{:?}", arrived);
        }
        let ends = said.iter().filter(|event| !matches!(event, Event::RefundRequested(_))).count();
        prop_assert_eq!(ends, usize::from(expected.status.is_final()));
    }

    /// Even of events that contradict each other: no end is ever left, versions never skip, money is asked back once at most,
    /// and never for an order that was completed.
    #[test]
    fn nonsense_does_no_harm(events in proptest::collection::vec(anything(), 0..12)) {
        let mut order = order();
        let mut said = Vec::new();
        for event in &events {
            let before = order.clone();
            said.extend(hear(&mut order, event));
            prop_assert!(order.version - before.version <= 1);
            if before.status.is_final() {
                prop_assert_eq!(&order, &before);
            } else {
                prop_assert_eq!((order.status, order.reason.clone()), order.facts.status());
            }
        }
        let refunds = said.iter().filter(|event| matches!(event, Event::RefundRequested(_))).count();
        let done = said.iter().filter(|event| matches!(event, Event::OrderCompleted(_))).count();
        prop_assert!(refunds + done <= 1, "{:?}", said);
    }
}
