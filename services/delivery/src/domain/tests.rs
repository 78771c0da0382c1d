use std::collections::HashMap;

use contracts::{OrderCancelled, OrderCompleted, OrderCreated, RefundRequested};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + seconds, 0).expect("in range")
}

fn first_try(seconds: i64) -> Try {
    Try { age: Duration::ZERO, patience: Duration::from_secs(60), now: at(seconds), test_tokens: true }
}

fn order(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn paid(n: u128, token: Option<&str>) -> Event {
    PaymentSuccess {
        order_id: order(n),
        order_version: 1,
        amount_cents: 900,
        provider_reference: "ch_1".into(),
        payment_token: token.map(str::to_owned),
    }
    .into()
}

fn completed(n: u128) -> Event {
    OrderCompleted { order_id: order(n), order_version: 3, courier_id: 1 }.into()
}

fn cancelled(n: u128) -> Event {
    OrderCancelled { order_id: order(n), order_version: 3, reason: "customer".into() }.into()
}

fn refund(n: u128) -> Event {
    RefundRequested { order_id: order(n), order_version: 3, amount_cents: 900, reason: "late".into() }.into()
}

fn created(n: u128) -> Event {
    OrderCreated {
        order_id: order(n),
        order_version: 1,
        customer_id: "c".into(),
        item: "pizza".into(),
        quantity: 1,
        amount_cents: 900,
        payment_token: None,
    }
    .into()
}

fn couriers(capacity_and_load: &[(i32, i32)]) -> Couriers {
    let courier = |(id, &(capacity, load)): (i32, &(i32, i32))| Courier {
        id,
        name: format!("courier-{id:02}"),
        capacity,
        load,
    };
    Couriers::new((1..).zip(capacity_and_load).map(courier).collect())
}

fn loads(couriers: &Couriers) -> Vec<i32> {
    couriers.iter().map(|courier| courier.load).collect()
}

fn assigned(courier_id: i32) -> Assignment {
    Assignment { status: Status::Assigned { courier_id, at: at(0) }, order_version: 1 }
}

#[test]
fn the_least_loaded_courier_with_room_is_sent() {
    for (fleet, chosen) in [
        (&[(5, 2), (5, 1), (5, 3)][..], Some(2)),
        (&[(5, 1), (5, 1)], Some(1)),
        (&[(2, 1), (10, 3)], Some(2)),
        (&[(1, 1), (0, 0), (9, 8)], Some(3)),
        (&[(1, 1), (0, 0)], None),
        (&[], None),
    ] {
        let mut couriers = couriers(fleet);
        let before = loads(&couriers);
        let outcome = decide(&paid(1, None), None, &mut couriers, first_try(1));
        let Some(chosen) = chosen else {
            assert_eq!(outcome, Err(Refusal::NoCourierFree));
            assert_eq!(
                (loads(&couriers), couriers.changes().count()),
                (before, 0),
                "an error changes nothing"
            );
            continue;
        };
        let outcome = outcome.expect("somebody has room");
        let said = DeliveryAssigned {
            order_id: order(1),
            order_version: 1,
            courier_id: chosen,
            courier: format!("courier-{chosen:02}"),
        };
        assert_eq!(outcome.event, Some(said.into()));
        let status = Status::Assigned { courier_id: chosen, at: at(1) };
        assert_eq!(outcome.assignment, Some(Assignment { status, order_version: 1 }));
        assert_eq!(couriers.changes().map(|(id, _)| id).collect::<Vec<_>>(), [chosen]);
    }
}

#[test]
fn looking_for_a_courier_ends_after_some_time() {
    let mut full = couriers(&[(1, 1)]);
    let attempt = |seconds, couriers: &mut Couriers| {
        decide(&paid(1, None), None, couriers, Try { age: Duration::from_secs(seconds), ..first_try(1) })
    };
    for seconds in [0, 1, 59] {
        assert_eq!(attempt(seconds, &mut full), Err(Refusal::NoCourierFree), "after {seconds} s");
    }
    let outcome = attempt(60, &mut full).expect("given up");
    let Some(Event::DeliveryFailed(said)) = outcome.event else { panic!("failed, not {:?}", outcome.event) };
    assert!(said.reason.starts_with("no courier"), "{}", said.reason);
    assert_eq!(outcome.assignment.map(|a| a.status), Some(Status::Failed { at: at(1) }));
}

#[test]
fn nobody_is_found_for_the_test_token_while_it_counts() {
    let mut free = couriers(&[(5, 0)]);
    let outcome = decide(&paid(1, Some(NO_COURIER_TOKEN)), None, &mut free, first_try(1)).expect("decided");
    assert!(matches!(outcome.event, Some(Event::DeliveryFailed(_))));
    assert_eq!(loads(&free), [0]);
    let off = Try { test_tokens: false, ..first_try(1) };
    let outcome = decide(&paid(1, Some(NO_COURIER_TOKEN)), None, &mut free, off).expect("decided");
    assert!(matches!(outcome.event, Some(Event::DeliveryAssigned(_))));
}

#[test]
fn however_an_order_ends_its_courier_is_free_again() {
    for end in [completed(1), cancelled(1), refund(1)] {
        let mut couriers = couriers(&[(5, 4), (5, 1)]);
        let outcome = decide(&end, Some(&assigned(1)), &mut couriers, first_try(9)).expect("decided");
        assert_eq!(loads(&couriers), [3, 1]);
        assert_eq!(outcome.event, None);
        let status = Status::Released { courier_id: 1, assigned_at: at(0), at: at(9) };
        let released = Assignment { status, order_version: 3 };
        assert_eq!(outcome.assignment.as_ref(), Some(&released));
        for late in [completed(1), cancelled(1), refund(1), paid(1, None)] {
            let again = decide(&late, Some(&released), &mut couriers, first_try(10)).expect("decided");
            assert_eq!(again, Outcome { assignment: None, event: None });
            assert_eq!(loads(&couriers), [3, 1], "freed twice by {}", late.event_type());
        }
    }
}

#[test]
fn a_payment_for_an_order_that_is_over_sends_nobody() {
    let mut couriers = couriers(&[(5, 0)]);
    let closed = decide(&cancelled(1), None, &mut couriers, first_try(1)).expect("decided").assignment;
    assert_eq!(closed.as_ref().map(|a| &a.status), Some(&Status::Closed { at: at(1) }));
    let late = decide(&paid(1, None), closed.as_ref(), &mut couriers, first_try(2)).expect("decided");
    assert_eq!(late, Outcome { assignment: None, event: None });
    assert_eq!(loads(&couriers), [0]);
}

#[test]
fn what_does_not_concern_delivery_changes_nothing() {
    let mut couriers = couriers(&[(5, 1)]);
    for (event, state) in [(created(1), None), (paid(1, None), Some(assigned(1)))] {
        let outcome = decide(&event, state.as_ref(), &mut couriers, first_try(1)).expect("decided");
        assert_eq!(outcome, Outcome { assignment: None, event: None });
    }
    assert_eq!(couriers.changes().count(), 0);
}

fn step() -> impl Strategy<Value = (Event, u64)> {
    let event = (1..12_u128, 0..6).prop_map(|(n, kind)| match kind {
        0 => completed(n),
        1 => cancelled(n),
        2 => refund(n),
        3 => paid(n, Some(NO_COURIER_TOKEN)),
        _ => paid(n, None),
    });
    (event, 0..90_u64)
}

proptest! {
    #[test]
    fn load_is_what_is_in_hand_and_never_above_capacity(
        capacities in prop::collection::vec(0..4, 1..4),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let fleet: Vec<_> = capacities.into_iter().map(|capacity| (capacity, 0)).collect();
        let mut couriers = couriers(&fleet);
        let mut assignments: HashMap<Uuid, Assignment> = HashMap::new();
        let mut answers: HashMap<Uuid, u32> = HashMap::new();
        for (event, seconds) in steps {
            let id = event.order_id();
            let this_try = Try { age: Duration::from_secs(seconds), ..first_try(0) };
            if let Ok(outcome) = decide(&event, assignments.get(&id), &mut couriers, this_try) {
                *answers.entry(id).or_default() += u32::from(outcome.event.is_some());
                assignments.extend(outcome.assignment.map(|assignment| (id, assignment)));
            }
            for courier in couriers.iter() {
                let has = |a: &&Assignment| {
                    matches!(a.status, Status::Assigned { courier_id, .. } if courier_id == courier.id)
                };
                let in_hand = assignments.values().filter(has).count();
                prop_assert_eq!(usize::try_from(courier.load), Ok(in_hand));
                prop_assert!(courier.load <= courier.capacity);
            }
        }
        prop_assert!(answers.values().all(|count| *count <= 1), "an order was answered twice");
    }
}
