use proptest::{prelude::*, sample::Index};

use super::*;

fn paid() -> Fact {
    Fact::Paid(500)
}

fn declined() -> Fact {
    Fact::PaymentFailed("declined".into())
}

fn assigned() -> Fact {
    Fact::Assigned(Courier { id: 7, name: "Ada".into() })
}

fn undeliverable() -> Fact {
    Fact::DeliveryFailed("nobody free".into())
}

fn refunded() -> Fact {
    Fact::Refunded(500)
}

fn completed() -> Option<Notice> {
    Some(Notice::Completed { courier_id: 7 })
}

fn cancelled(reason: &str) -> Option<Notice> {
    Some(Notice::Cancelled { reason: reason.into() })
}

fn refund() -> Option<Notice> {
    Some(Notice::RefundRequested { amount_cents: 500, reason: "nobody free".into() })
}

#[test]
fn each_step_of_a_saga_and_what_is_said_at_it() {
    use State::{Cancelled, Completed, Paid, Pending, Refunding};
    // Each line is one order: facts as they arrive, with the state after and the notice.
    let table: Vec<Vec<(Fact, State, Option<Notice>)>> = vec![
        vec![(paid(), Paid, None), (assigned(), Completed, completed())],
        vec![(assigned(), Pending, None), (paid(), Completed, completed())],
        vec![(declined(), Cancelled, cancelled("declined")), (undeliverable(), Cancelled, None)],
        vec![(assigned(), Pending, None), (declined(), Cancelled, cancelled("declined"))],
        vec![
            (paid(), Paid, None),
            (undeliverable(), Refunding, refund()),
            (refunded(), Cancelled, cancelled("nobody free")),
        ],
        vec![
            (undeliverable(), Pending, None),
            (paid(), Refunding, refund()),
            (refunded(), Cancelled, cancelled("nobody free")),
        ],
        // The refund was asked for: a courier who turns up after all comes too late.
        vec![(paid(), Paid, None), (undeliverable(), Refunding, refund()), (assigned(), Refunding, None)],
        vec![(paid(), Paid, None), (refunded(), Cancelled, cancelled("the payment was refunded"))],
        vec![(paid(), Paid, None), (paid(), Paid, None), (declined(), Paid, None)],
        vec![(paid(), Paid, None), (assigned(), Completed, completed()), (refunded(), Completed, None)],
    ];
    for line in table {
        let mut fate = Fate::new();
        for (step, (fact, state, notice)) in line.iter().enumerate() {
            assert_eq!(fate.hear(fact), *notice, "step {step} of {line:?}");
            assert_eq!(fate.state, *state, "step {step} of {line:?}");
        }
    }
}

#[test]
fn the_version_counts_what_was_learned_and_stops_at_the_end() {
    let mut fate = Fate::new();
    let versions: Vec<i64> = [paid(), paid(), assigned(), undeliverable(), refunded()]
        .iter()
        .map(|fact| {
            fate.hear(fact);
            fate.version
        })
        .collect();
    assert_eq!(versions, [2, 2, 3, 3, 3]);
    assert_eq!(fate.facts.delivery_failed, None, "an order that ended learns nothing");
}

#[test]
fn a_state_is_written_as_it_is_read() {
    for state in State::ALL {
        assert_eq!(State::parse(state.as_str()), Some(state));
        assert_eq!(serde_json::to_value(state).expect("a string"), state.as_str());
    }
    assert_eq!(State::parse("pending"), None);
}

/// The sets of facts that a saga can produce, whole or cut short.
fn saga() -> impl Strategy<Value = Vec<Fact>> {
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

fn any_fact() -> impl Strategy<Value = Fact> {
    prop_oneof![Just(paid()), Just(declined()), Just(assigned()), Just(undeliverable()), Just(refunded())]
}

fn after(facts: &[Fact]) -> (Fate, Vec<Notice>) {
    let mut fate = Fate::new();
    let notices = facts.iter().filter_map(|fact| fate.hear(fact)).collect();
    (fate, notices)
}

proptest! {
    /// Whatever order facts arrive in, and however often: the end is the same, and is announced once.
    #[test]
    fn the_order_of_arrival_does_not_matter(
        (facts, shuffled) in saga().prop_flat_map(|facts| (Just(facts.clone()), Just(facts).prop_shuffle())),
        repeats in proptest::collection::vec((any::<Index>(), any::<Index>()), 0..4),
    ) {
        let mut arrived = shuffled.clone();
        for (what, after) in repeats {
            // A repetition can only come after the first sighting.
            let fact = shuffled[what.index(shuffled.len())].clone();
            let first = arrived.iter().position(|f| *f == fact).expect("it is there");
            let at = first + 1 + after.index(arrived.len() - first);
            arrived.insert(at, fact);
        }
        let (expected, _) = after(&facts);
        let (fate, notices) = after(&arrived);
        prop_assert_eq!(fate.state, expected.state, "{:?}", arrived);
        // A refund is the answer to a failed delivery that we spoke of; heard of first, it has no reason to give.
        if shuffled.first() != Some(&refunded()) && shuffled.get(1) != Some(&refunded()) {
            prop_assert_eq!(&fate.reason, &expected.reason, "{:?}", arrived);
        }
        let ends = notices.iter().filter(|n| !matches!(n, Notice::RefundRequested { .. })).count();
        prop_assert_eq!(ends, usize::from(expected.state.is_final()));
    }

    /// Even of facts that contradict each other: no end is ever left, versions never skip, money is asked back once at most,
    /// and never for an order that was completed.
    #[test]
    fn nonsense_does_no_harm(facts in proptest::collection::vec(any_fact(), 0..12)) {
        let mut fate = Fate::new();
        let mut notices = Vec::new();
        for fact in &facts {
            let before = fate.clone();
            notices.extend(fate.hear(fact));
            prop_assert!(fate.version - before.version <= 1);
            if before.state.is_final() {
                prop_assert_eq!(&fate, &before);
            } else {
                prop_assert_eq!((fate.state, fate.reason.clone()), fate.facts.state());
            }
        }
        let refunds = notices.iter().filter(|n| matches!(n, Notice::RefundRequested { .. })).count();
        let done = notices.iter().filter(|n| matches!(n, Notice::Completed { .. })).count();
        prop_assert!(refunds + done <= 1, "{:?}", notices);
    }
}
