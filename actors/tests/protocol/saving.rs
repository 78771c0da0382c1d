//! States that cannot be saved, and states that go: each concerns its own key.

use std::{sync::atomic::Ordering, time::Duration};

use actors::{Group, dead_letters::Class};

use crate::{
    delivery::id,
    support::{BUSY, HEAVY, World, until},
};

async fn leave(group: Group) {
    group.shutdown(Duration::from_secs(10)).await;
}

/// Sends events of these keys and numbers, in this order.
async fn send(world: &World, events: &[(&str, i64, &str)]) {
    let events: Vec<_> =
        events.iter().map(|(key, n, mode)| (*key, World::event(id(), key, *n, mode))).collect();
    world.send_all(events.iter().map(|(key, value)| (*key, value.as_slice()))).await;
}

/// Of its key the others, before it and behind it, take effect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_state_cannot_be_saved_dies_alone() {
    let world = World::new(1).await;
    send(&world, &[("a", 1, "ok"), ("b", 1, "ok"), ("a", HEAVY, "ok"), ("c", 1, "call"), ("a", 2, "ok")])
        .await;
    let group = world.start().await;
    world.until_counted("applied", 4).await;
    let letter = world.dead_letters(1).await.remove(0);
    assert_eq!(
        (letter.class, letter.error_code.as_str(), letter.offset.0),
        (Class::Permanent, "too-heavy", 2)
    );
    let lists = world.lists().await;
    assert_eq!((&lists["a"][..], &lists["b"][..], &lists["c"][..]), (&[1, 2][..], &[1][..], &[1][..]));
    leave(group).await;
}

/// No lane is halted, no other key waits, and what it emitted is published once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_cannot_be_saved_for_now_is_retried_with_its_followers() {
    let mut world = World::new(1).await;
    world.settings.retry.attempts = None;
    send(&world, &[("a", BUSY, "ok"), ("b", 1, "ok"), ("a", 2, "ok"), ("b", 2, "ok")]).await;
    let group = world.start().await;
    world.until_counted("parked", 2).await;
    assert_eq!((world.list("a").await, world.list("b").await), (Vec::new(), vec![1, 2]));
    until("it is tried again", || async {
        world.number("SELECT max(attempts)::bigint FROM parked").await > 1
    })
    .await;
    world.switches.forgiving.store(true, Ordering::Relaxed);
    world.until_counted("applied", 4).await;
    assert_eq!(world.list("a").await, [BUSY, 2]);
    assert_eq!(world.letters().await.len(), 0);
    until("all is published", || async { world.read(&world.out).await.len() == 4 }).await;
    leave(group).await;
}

/// Many keys at once, each with a guilty event among several: few transactions more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_states_that_cannot_be_saved_cost_few_transactions() {
    let world = World::new(1).await;
    let keys: Vec<String> = (0..60).map(|at| format!("key-{at}")).collect();
    let events: Vec<_> = keys.iter().map(|key| (key.as_str(), HEAVY, "ok")).collect();
    send(&world, &events).await;
    let events: Vec<_> = keys.iter().map(|key| (key.as_str(), 1, "ok")).collect();
    send(&world, &events).await;
    let group = world.start().await;
    world.until_counted("applied", 60).await;
    assert_eq!(world.dead_letters(60).await.len(), 60);
    let batches = world.number("SELECT count(*) FROM offset_journal").await;
    assert!(batches < 8, "{batches} batches");
    assert!(world.lists().await.values().all(|list| list[..] == [1]));
    leave(group).await;
}

/// The next event of the key, in its batch and after it, finds nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_is_deleted_is_gone_for_the_next_event() {
    let world = World::new(1).await;
    send(&world, &[("a", 1, "ok"), ("b", 1, "ok"), ("a", 0, "forget"), ("a", 2, "ok"), ("b", 0, "forget")])
        .await;
    let group = world.start().await;
    world.until_counted("applied", 5).await;
    assert_eq!((world.lists().await.len(), world.list("a").await), (1, vec![2]));
    // One that is not there can go, and one that is made and goes in one batch was never there.
    send(&world, &[("c", 1, "ok"), ("c", 0, "forget"), ("b", 0, "forget"), ("b", 3, "ok")]).await;
    world.until_counted("applied", 9).await;
    assert_eq!((world.list("c").await, world.list("b").await), (Vec::new(), vec![3]));
    assert_eq!(world.lists().await.len(), 2);
    leave(group).await;
}
