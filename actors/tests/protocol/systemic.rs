//! Is it these events that fail, or everything? And how much may wait.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use actors::{Group, LaneState, dead_letters::Class};
use uuid::Uuid;

use crate::{
    delivery::{id, keys},
    support::{
        World,
        member::{Manners, Member},
        until,
    },
};

fn state(group: &Group, world: &World) -> Option<LaneState> {
    group.partitions().into_iter().find(|lane| lane.topic == world.topic).map(|lane| lane.state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_every_key_buries_nothing_and_ends_by_itself() {
    let world = World::new(1).await;
    world.switches.all_fail.store(true, Ordering::Relaxed);
    let keys = keys(30);
    for (n, key) in (0..).zip(&keys) {
        world.send(Some(key), Some(&World::event(id(), key, n, "call"))).await;
        world.send(Some(key), Some(&World::event(id(), key, n + 100, "ok"))).await;
    }
    let group = world.start().await;
    until("the circuit opens", || async { state(&group, &world) == Some(LaneState::Open) }).await;
    // More probes than an event of its own would be given attempts.
    let calls = world.switches.calls.load(Ordering::Relaxed);
    until("many probes", || async { world.switches.calls.load(Ordering::Relaxed) > calls + 8 }).await;
    assert_eq!((world.counted("dead").await, world.letters().await.len()), (0, 0));

    world.switches.all_fail.store(false, Ordering::Relaxed);
    world.until_counted("applied", 60).await;
    assert_eq!(state(&group, &world), Some(LaneState::Running));
    let lists = world.lists().await;
    for (n, key) in (0..).zip(&keys) {
        assert_eq!(lists[key], [n, n + 100], "{key}");
    }
    assert_eq!(world.letters().await.len(), 0);

    // One key alone is another matter: it is that event's own failure, and the others do not wait for it.
    *world.switches.one_fails.lock().expect("not poisoned") = Some(keys[0].clone());
    for (n, key) in (200..).zip(&keys) {
        world.send(Some(key), Some(&World::event(id(), key, n, "call"))).await;
    }
    world.until_counted("dead", 1).await;
    let letters = world.dead_letters(1).await;
    assert_eq!((letters[0].class, letters[0].error_code.as_str()), (Class::Exhausted, "provider-fails"));
    assert_eq!(world.counted("applied").await, 60 + 29);
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_poison_goes_through_without_a_pause() {
    const FLOOD: usize = 10_000;
    let world = World::new(2).await;
    world.send_all((0..FLOOD).map(|n| (["a", "b", "c"][n % 3], b"no json".as_slice()))).await;
    world.send(Some("k"), Some(&World::event(Uuid::now_v7(), "k", 1, "ok"))).await;
    let group = world.start().await;
    let paused = AtomicBool::new(false);
    until("the flood has passed", || async {
        let stopped = [LaneState::Open, LaneState::Paused, LaneState::Halted];
        if state(&group, &world).is_some_and(|state| stopped.contains(&state)) {
            paused.store(true, Ordering::Relaxed);
        }
        world.counted("dead").await == 10_000 && world.counted("applied").await == 1
    })
    .await;
    assert!(!paused.into_inner(), "it never stopped");
    assert_eq!(world.dead_letters(FLOOD).await.len(), FLOOD);
    assert_eq!(world.unaccounted().await, 0);
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_takes_nothing_new_while_one_key_has_as_many_waiting_as_may() {
    let mut world = World::new(1).await;
    world.settings.chain_max = 5;
    world.settings.batch_max_records = 4;
    world.settings.retry.attempts = None;
    *world.switches.one_fails.lock().expect("not poisoned") = Some("full".into());
    for n in 0..20 {
        world.send(Some("full"), Some(&World::event(id(), "full", n, "call"))).await;
    }
    world.send(Some("other"), Some(&World::event(id(), "other", 1, "ok"))).await;
    let group = world.start().await;
    until("it pauses", || async { state(&group, &world) == Some(LaneState::Paused) }).await;
    let waiting = world.counted("parked").await;
    assert!((5..=8).contains(&waiting), "the cap, and what its batch held beside: {waiting}");
    *world.switches.one_fails.lock().expect("not poisoned") = None;
    world.until_counted("applied", 21).await;
    assert_eq!(world.list("full").await, (0..20).collect::<Vec<_>>());
    assert_eq!(state(&group, &world), Some(LaneState::Running));
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_whose_actor_dies_without_progress_halts_and_the_others_go_on() {
    let world = World::new(2).await;
    for key in keys(12) {
        world.send(Some(&key), Some(&World::event(id(), &key, 1, "ok"))).await;
    }
    // A death that no record can be blamed for, and no budget for it.
    let manners = Manners { budget: Some(0), ..Manners::failing("claim-begun:1:panic") };
    let member = Member::spawn(&world, &manners);
    member.until_said("the partition is halted, the others go on").await;
    until("the others go on", || async { world.counted("applied").await > 0 }).await;
    member.stop().await;
    let next = Member::spawn(&world, &Manners::default());
    world.until_counted("applied", 12).await;
    next.stop().await;
}
