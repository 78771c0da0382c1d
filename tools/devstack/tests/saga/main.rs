//! Everything that can happen to one order: each step of each service, in every order that Kafka, retries, dead letters, a cancel and a
//! time-out allow. The services' own decisions, without servers: whatever happens, the order ends, no money is held unasked, and nobody
//! carries an order that is over.

mod world;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use orders::domain::Status;

use self::world::{Allowed, World};

/// More worlds than any of these has.
const MOST: usize = 500_000;

/// Goes through every world that can come of this one. Returns how many there were, and the ends.
fn explore(allowed: Allowed) -> (usize, Vec<World>) {
    let mut seen = HashSet::new();
    let mut ends = Vec::new();
    let mut open = vec![World::new(allowed)];
    while let Some(world) = open.pop() {
        let mut hash = DefaultHasher::new();
        format!("{world:?}").hash(&mut hash);
        if !seen.insert(hash.finish()) {
            continue;
        }
        assert!(seen.len() < MOST, "it never ends: {world:#?}");
        world.check();
        let (next, wishes) = world.steps();
        if next.is_empty() {
            world.check_end();
            ends.push(world);
        }
        open.extend(next.into_iter().chain(wishes));
    }
    (seen.len(), ends)
}

fn statuses(ends: &[World]) -> BTreeSet<&'static str> {
    ends.iter().map(|world| world.order.status.as_str()).collect()
}

/// What the provider and the couriers answered decides how an order ends, and not in which order it became known.
#[test]
fn without_a_cancel_the_order_of_arrival_does_not_matter() {
    for repeats in [0, 2] {
        let (worlds, ends) = explore(Allowed { repeats, lost_answers: 1, ..Allowed::default() });
        let mut by_answer: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
        for end in &ends {
            by_answer.entry(end.answers.clone()).or_default().insert(end.order.status.as_str());
        }
        println!("{worlds} worlds, {} ends with {repeats} repeats: {by_answer:?}", ends.len());
        assert!(by_answer.values().all(|statuses| statuses.len() == 1), "{by_answer:?}");
        assert_eq!(statuses(&ends), BTreeSet::from(["CANCELLED", "COMPLETED"]));
    }
}

#[test]
fn a_cancel_and_a_time_out_may_come_at_any_moment_and_twice() {
    let (worlds, ends) = explore(Allowed { closes: 2, lost_answers: 1, ..Allowed::default() });
    println!("{worlds} worlds, {} ends", ends.len());
    assert!(worlds > 1_000, "{worlds}");
    assert_eq!(statuses(&ends), BTreeSet::from(["CANCELLED", "COMPLETED"]));
    let refunded = ends.iter().filter(|end| end.provider.refunds == 1).count();
    assert!(refunded > 0, "some are charged and refunded");
}

#[test]
fn a_cancel_among_repeated_events_holds_nothing() {
    let (worlds, ends) = explore(Allowed { closes: 1, repeats: 1, ..Allowed::default() });
    println!("{worlds} worlds, {} ends", ends.len());
    assert_eq!(statuses(&ends), BTreeSet::from(["CANCELLED", "COMPLETED"]));
}

#[test]
fn dead_letters_may_be_put_back_at_any_moment_or_never() {
    let (worlds, ends) = explore(Allowed { closes: 1, deaths: 2, lost_answers: 1, ..Allowed::default() });
    println!("{worlds} worlds, {} ends", ends.len());
    let put_back = ends.iter().filter(|end| end.moot > 0).count();
    assert!(put_back > 0, "some are put back too late, and come to nothing");
    let charged_unheard =
        ends.iter().filter(|end| end.order.status == Status::Cancelled && end.provider.refunds == 1);
    assert!(charged_unheard.count() > 0);
}

#[test]
fn all_of_it_at_once() {
    let (worlds, ends) = explore(Allowed { closes: 2, repeats: 1, deaths: 2, lost_answers: 1 });
    println!("{worlds} worlds, {} ends", ends.len());
    assert!(worlds > 50_000, "{worlds}");
}
