use contracts::{
    DeliveryAssigned, DeliveryFailed, DeliveryStalled, PaymentFailed, PaymentRefunded, PaymentStalled,
    PaymentSuccess, PaymentVoided,
};
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

fn payment_stalled(event_type: &str, generation: u32) -> Event {
    PaymentStalled {
        order_id: ORDER,
        order_version: 1,
        dead_letter_id: Uuid::from_u128(u128::from(generation)),
        event_type: event_type.into(),
        code: "payment-method-unusable".into(),
        generation,
    }
    .into()
}

fn delivery_stalled() -> Event {
    DeliveryStalled {
        order_id: ORDER,
        order_version: 2,
        dead_letter_id: Uuid::from_u128(9),
        event_type: "PAYMENT_SUCCESS".into(),
        code: "panic".into(),
        generation: 1,
    }
    .into()
}

fn voided() -> Event {
    PaymentVoided { order_id: ORDER, order_version: 3 }.into()
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).expect("in range")
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
    let outcome = decide(event, Some(order), now()).expect("it exists");
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

/// Ends the order, if it can be; what there is to say.
fn end(order: &mut Order, why: Close) -> Result<Option<Event>, TooLate> {
    let outcome = close(ORDER, order, why, now())?;
    *order = outcome.order;
    Ok(outcome.event)
}

#[test]
fn an_order_is_ended_once_wherever_it_is_and_what_was_paid_goes_back() {
    let why = || "cancelled by the customer".to_owned();
    let late = Close::TimedOut(Duration::from_secs(900));
    // What came before, what is said of the cancel, what arrives afterwards, and the end.
    let refund = |version| RefundRequested {
        order_id: ORDER,
        order_version: version,
        amount_cents: 500,
        reason: why(),
    };
    type Line = (Vec<Event>, Option<Event>, Vec<Event>, Status);
    let table: Vec<Line> = vec![
        (vec![], cancelled(2, &why()), vec![paid(), assigned(), refunded()], Status::Cancelled),
        (vec![assigned()], cancelled(3, &why()), vec![paid(), refunded()], Status::Cancelled),
        (vec![paid()], Some(refund(3).into()), vec![assigned(), undeliverable()], Status::Refunding),
        (vec![paid()], Some(refund(3).into()), vec![assigned(), refunded()], Status::Cancelled),
        (vec![declined()], None, vec![], Status::Cancelled),
        (vec![paid(), undeliverable()], None, vec![refunded()], Status::Cancelled),
    ];
    for (before, said, after, status) in table {
        let mut order = order();
        before.iter().for_each(|event| drop(hear(&mut order, event)));
        assert_eq!(end(&mut order, Close::ByCustomer), Ok(said.clone()), "after {before:?}");
        let again = order.clone();
        for why in [Close::ByCustomer, late] {
            assert_eq!(end(&mut order, why), Ok(None), "the first wish counts: {before:?}");
        }
        assert_eq!(order, again);
        let refunds = after.iter().filter_map(|event| hear(&mut order, event)).collect::<Vec<_>>();
        assert!(!refunds.iter().any(|event| matches!(event, Event::RefundRequested(_))), "asked for once");
        assert_eq!(order.status, status, "{before:?} and {after:?}");
        if said.is_some() {
            assert_eq!(order.reason, Some(why()), "the reason stays: {after:?}");
        }
    }
}

#[test]
fn what_is_delivered_cannot_be_called_off() {
    let mut order = order();
    hear(&mut order, &paid());
    hear(&mut order, &assigned());
    for why in [Close::ByCustomer, Close::TimedOut(Duration::from_secs(1))] {
        assert_eq!(end(&mut order, why), Err(TooLate));
    }
    assert_eq!(order.status, Status::Completed);
}

#[test]
fn a_dead_letter_is_shown_until_it_was_put_back_or_the_order_ends() {
    let created = || payment_stalled("ORDER_CREATED", 1);
    let back = || payment_stalled("REFUND_REQUESTED", 1);
    // Events as they arrive, and whether the order is stalled afterwards.
    let table: Vec<Vec<(Event, bool)>> = vec![
        vec![(created(), true), (paid(), false), (assigned(), false)],
        vec![(created(), true), (declined(), false)],
        vec![(created(), true), (payment_stalled("ORDER_CREATED", 2), true), (paid(), false)],
        vec![(paid(), false), (created(), false)],
        vec![(paid(), false), (delivery_stalled(), true), (assigned(), false)],
        vec![(paid(), false), (delivery_stalled(), true), (undeliverable(), false)],
        vec![(assigned(), false), (delivery_stalled(), false)],
        vec![(paid(), false), (undeliverable(), false), (back(), true), (refunded(), false)],
        vec![(paid(), false), (undeliverable(), false), (refunded(), false), (back(), false)],
        vec![(declined(), false), (created(), false), (payment_stalled("ORDER_CANCELLED", 1), false)],
        // Neither what was waited for nor another one that is moot takes its place.
        vec![
            (paid(), false),
            (undeliverable(), false),
            (back(), true),
            (delivery_stalled(), true),
            (created(), true),
            (paid(), true),
        ],
    ];
    for line in table {
        let mut order = order();
        for (step, (event, stalled)) in line.iter().enumerate() {
            let before = order.clone();
            hear(&mut order, event);
            assert_eq!(order.stalled.is_some(), *stalled, "step {step} of {line:?}");
            let changed = (&order.facts, &order.stalled) != (&before.facts, &before.stalled);
            let raised = order.version - before.version;
            assert_eq!(raised, i64::from(changed && !before.status.is_final()), "step {step} of {line:?}");
        }
    }
}

#[test]
fn what_may_be_owed_is_known_until_it_went_back_or_there_was_nothing() {
    let stalled = || payment_stalled("ORDER_CANCELLED", 1);
    // What came before the cancel, what comes after, and whether money may be owed and a dead letter is waited for then.
    type Line = (Vec<Event>, Vec<(Event, bool, bool)>);
    let table: Vec<Line> = vec![
        (vec![], vec![(paid(), true, false), (assigned(), true, false), (refunded(), false, false)]),
        (vec![], vec![(voided(), false, false)]),
        (vec![], vec![(declined(), false, false)]),
        (vec![], vec![(stalled(), true, true), (paid(), true, true), (refunded(), false, false)]),
        (
            vec![],
            vec![
                (payment_stalled("ORDER_CREATED", 1), true, false),
                (voided(), false, false),
                (stalled(), false, false),
            ],
        ),
        (vec![paid()], vec![(assigned(), true, false), (refunded(), false, false)]),
    ];
    for (before, after) in table {
        let mut order = order();
        before.iter().for_each(|event| drop(hear(&mut order, event)));
        assert_eq!(order.owed_since, None);
        end(&mut order, Close::ByCustomer).expect("not delivered");
        assert_eq!(order.owed_since, Some(now()), "{before:?}");
        for (event, owed, waits) in after {
            hear(&mut order, &event);
            assert_eq!(
                (order.owed_since.is_some(), order.stalled.is_some()),
                (owed, waits),
                "{before:?}, {event:?}"
            );
        }
    }
}

#[test]
fn a_stalled_order_says_by_whom_since_when_and_why() {
    let mut order = order();
    hear(&mut order, &payment_stalled("ORDER_CREATED", 1));
    hear(&mut order, &payment_stalled("ORDER_CREATED", 2));
    let shown = serde_json::to_value(order.stalled.clone()).expect("JSON");
    let expected = serde_json::json!({
        "by": "payments", "event_type": "ORDER_CREATED", "code": "payment-method-unusable", "since": now(),
        "dead_letter_id": Uuid::from_u128(2), "generation": 2
    });
    assert_eq!(shown, expected);
    assert_eq!(end(&mut order, Close::ByCustomer), Ok(cancelled(4, "cancelled by the customer")));
    assert_eq!(order.stalled, None, "its end waits for nothing");
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
    let refusal = decide(&paid(), None, now()).expect_err("no such order");
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
    prop_oneof![
        Just(paid()),
        Just(declined()),
        Just(assigned()),
        Just(undeliverable()),
        Just(refunded()),
        Just(voided()),
        Just(payment_stalled("ORDER_CREATED", 1)),
        Just(payment_stalled("REFUND_REQUESTED", 1)),
        Just(delivery_stalled()),
    ]
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
                let (stalled, owed_since) = (before.stalled.clone(), before.owed_since);
                prop_assert_eq!(&Order { stalled, owed_since, ..order.clone() }, &before);
            } else {
                prop_assert_eq!((order.status, order.reason.clone()), order.facts.status());
            }
        }
        let refunds = said.iter().filter(|event| matches!(event, Event::RefundRequested(_))).count();
        let done = said.iter().filter(|event| matches!(event, Event::OrderCompleted(_))).count();
        prop_assert!(refunds + done <= 1, "{:?}", said);
    }
}
