use contracts::{OrderCancelled, OrderCompleted, OrderCreated, RefundRequested};
use proptest::prelude::*;

use super::*;

const ORDER: Uuid = Uuid::from_u128(7);

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + seconds, 0).expect("in range")
}

fn created(amount_cents: i64) -> Event {
    OrderCreated {
        order_id: ORDER,
        order_version: 1,
        customer_id: "c".into(),
        item: "pizza".into(),
        quantity: 1,
        amount_cents,
        payment_token: Some("tok_no_courier".into()),
    }
    .into()
}

fn refund(amount_cents: i64) -> Event {
    RefundRequested { order_id: ORDER, order_version: 4, amount_cents, reason: "not delivered".into() }.into()
}

fn cancelled() -> Event {
    OrderCancelled { order_id: ORDER, order_version: 3, reason: "by the customer".into() }.into()
}

fn completed() -> Event {
    OrderCompleted { order_id: ORDER, order_version: 5, courier_id: 1 }.into()
}

fn charge() -> Charge {
    Charge { amount_cents: 900, reference: Reference::new("ch_1") }
}

fn payment(status: Status) -> Payment {
    Payment { status, order_version: 2, updated_at: at(0), unsaved: Vec::new() }
}

fn every_status() -> [Option<Payment>; 5] {
    [
        None,
        Some(payment(Status::Closed)),
        Some(payment(Status::Charged(charge()))),
        Some(payment(Status::Failed { reason: "declined".into() })),
        Some(payment(Status::Refunded(charge()))),
    ]
}

fn approved() -> Answer {
    Answer::Charge(ChargeAnswer::Approved(Reference::new("ch_1")))
}

fn declined() -> Answer {
    Answer::Charge(ChargeAnswer::Declined { reason: "declined".into() })
}

fn given_back() -> Answer {
    Answer::Refund(Reference::new("re_1"))
}

#[test]
fn what_is_asked_of_the_provider() {
    let take = || Ok(Call::Charge { amount_cents: 900 });
    let back = || Ok(Call::Refund(charge()));
    let nothing = || Ok(Call::Nothing);
    let none = || Err(Refusal::NothingToRefund);
    //                 no payment  closed     charged    failed     refunded
    let table = [
        (created(900), [take(), nothing(), nothing(), nothing(), nothing()]),
        (refund(900), [none(), none(), back(), none(), nothing()]),
        (cancelled(), [Ok(Call::Void), nothing(), back(), nothing(), nothing()]),
        (completed(), [nothing(), nothing(), nothing(), nothing(), nothing()]),
    ];
    for (event, expected) in table {
        for (payment, expected) in every_status().iter().zip(expected) {
            assert_eq!(call(&event, payment.as_ref()), expected, "{} at {payment:?}", event.event_type());
        }
    }
}

#[test]
fn amounts_that_make_no_sense_are_refused() {
    assert_eq!(call(&created(0), None), Ok(Call::Charge { amount_cents: 0 }), "a free order is an order");
    assert_eq!(call(&created(-1), None), Err(Refusal::InvalidAmount(-1)));
    let charged = payment(Status::Charged(charge()));
    assert_eq!(
        call(&refund(901), Some(&charged)),
        Err(Refusal::RefundAmountMismatch { requested: 901, charged: 900 })
    );
}

#[test]
fn an_approved_charge_is_booked_and_said() {
    let outcome = decide(&created(900), None, approved(), at(1)).expect("decided");
    let entry =
        Booking { kind: Kind::Charge, amount_cents: 900, reference: Reference::new("ch_1"), at: at(1) };
    let payment = outcome.payment.expect("changed");
    assert_eq!(payment.status, Status::Charged(charge()));
    assert_eq!((payment.order_version, payment.unsaved), (1, vec![entry]));
    let said = PaymentSuccess {
        order_id: ORDER,
        order_version: 1,
        amount_cents: 900,
        provider_reference: "ch_1".into(),
        payment_token: Some("tok_no_courier".into()),
    };
    assert_eq!(outcome.event, Some(said.into()));
}

#[test]
fn a_declined_charge_moves_no_money() {
    let outcome = decide(&created(900), None, declined(), at(1)).expect("decided");
    let payment = outcome.payment.expect("changed");
    assert_eq!(payment.status, Status::Failed { reason: "declined".into() });
    assert!(payment.unsaved.is_empty());
    let said = PaymentFailed { order_id: ORDER, order_version: 1, reason: "declined".into() };
    assert_eq!(outcome.event, Some(said.into()));
}

#[test]
fn a_refund_follows_its_charge_into_the_ledger() {
    let charged = decide(&created(900), None, approved(), at(1)).expect("decided").payment.expect("changed");
    for cause in [refund(900), cancelled()] {
        let outcome = decide(&cause, Some(&charged), given_back(), at(2)).expect("decided");
        let payment = outcome.payment.expect("changed");
        assert_eq!(payment.status, Status::Refunded(charge()));
        let kinds: Vec<_> = payment.unsaved.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [Kind::Charge, Kind::Refund], "one batch may hold both");
        let said = PaymentRefunded {
            order_id: ORDER,
            order_version: cause.order_version(),
            amount_cents: 900,
            provider_reference: "re_1".into(),
        };
        assert_eq!(outcome.event, Some(said.into()));
    }
}

#[test]
fn a_cancelled_order_is_closed_to_charges_once_nothing_is_held() {
    let outcome = decide(&cancelled(), None, Answer::Void(VoidAnswer::Nothing), at(1)).expect("decided");
    assert_eq!(outcome.event, Some(PaymentVoided { order_id: ORDER, order_version: 3 }.into()));
    let closed = outcome.payment.expect("changed");
    assert_eq!((&closed.status, closed.order_version), (&Status::Closed, 3));
    assert_eq!(decide(&created(900), Some(&closed), Answer::NotAsked, at(2)), Ok(Outcome::NOTHING));
    assert!(moot(&created(900), Some(&closed)).is_some_and(|why| why.contains("CANCELLED")));
}

#[test]
fn of_what_comes_to_nothing_it_is_known_why() {
    for event in [created(900), refund(900), cancelled()] {
        for payment in every_status() {
            let payment = payment.as_ref();
            let nothing = call(&event, payment) == Ok(Call::Nothing);
            assert_eq!(moot(&event, payment).is_some(), nothing, "{} at {payment:?}", event.event_type());
        }
    }
}

#[test]
fn an_answer_to_another_question_is_not_booked() {
    let charged = payment(Status::Charged(charge()));
    for (event, payment, answer) in [
        (created(900), None, Answer::NotAsked),
        (created(900), None, given_back()),
        (created(900), Some(&charged), approved()),
        (refund(900), Some(&charged), Answer::NotAsked),
        (cancelled(), None, Answer::NotAsked),
        (cancelled(), Some(&charged), Answer::Void(VoidAnswer::Nothing)),
    ] {
        let refusal = decide(&event, payment, answer, at(1)).expect_err("not booked");
        assert_eq!(refusal, Refusal::StateMoved);
        assert!(refusal.is_transient(), "asking again asks what is needed now");
    }
}

/// One step of an arbitrary history: an event, and how the provider answers if it is asked.
fn step() -> impl Strategy<Value = (Event, bool)> {
    let event = prop_oneof![
        Just(created(900)),
        Just(refund(900)),
        Just(refund(1)),
        Just(cancelled()),
        Just(completed())
    ];
    (event, any::<bool>())
}

proptest! {
    #[test]
    fn money_moves_at_most_once_each_way(steps in prop::collection::vec(step(), 0..24)) {
        let (mut payment, mut calls, mut events) = (None::<Payment>, Vec::new(), Vec::new());
        for (event, approve) in steps {
            let answer = match call(&event, payment.as_ref()) {
                Err(_) => continue,
                Ok(Call::Nothing) => Answer::NotAsked,
                Ok(Call::Charge { .. }) if approve => approved(),
                Ok(Call::Charge { .. }) => declined(),
                Ok(Call::Refund(_)) => given_back(),
                Ok(Call::Void) if approve => Answer::Void(VoidAnswer::Nothing),
                Ok(Call::Void) => Answer::Void(VoidAnswer::Returned {
                    amount_cents: 900,
                    charge: Reference::new("ch_1"),
                    refund: Reference::new("re_1"),
                }),
            };
            if answer != Answer::NotAsked {
                calls.push(format!("{answer:?}"));
            }
            let outcome = decide(&event, payment.as_ref(), answer, at(1)).expect("the answer to what was asked");
            events.extend(outcome.event.map(|event| event.event_type()));
            payment = outcome.payment.or(payment);
        }
        let entries = payment.as_ref().map_or(&[][..], |payment| &payment.unsaved);
        let of = |kind| entries.iter().filter(|entry| entry.kind == kind).count();
        let refunded = matches!(payment.as_ref().map(|p| &p.status), Some(Status::Refunded(_)));
        let charged = refunded || matches!(payment.as_ref().map(|p| &p.status), Some(Status::Charged(_)));
        prop_assert_eq!(of(Kind::Charge), usize::from(charged));
        prop_assert_eq!(of(Kind::Refund), usize::from(refunded));
        prop_assert!(calls.len() <= 2, "asked {:?}", calls);
        let said = |name| events.iter().filter(|event| **event == name).count();
        let voided = said("PAYMENT_SUCCESS") == 0 && refunded;
        prop_assert_eq!(said("PAYMENT_SUCCESS"), usize::from(charged && !voided));
        prop_assert_eq!(said("PAYMENT_REFUNDED"), usize::from(refunded));
    }
}
