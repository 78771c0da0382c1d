//! Outages that last longer than a record may be retried: nothing is buried, everything ends.

use std::{sync::atomic::Ordering, time::Duration};

use actors::{Breaker, Group, LaneState};
use uuid::Uuid;

use crate::{
    delivery::{id, keys},
    support::{World, admin, until},
};

/// How long records are retried.
const DEADLINE: Duration = Duration::from_secs(2);

async fn world(partitions: i32) -> World {
    let mut world = World::new(partitions).await;
    world.settings.retry.attempts = None;
    world.settings.retry.deadline = DEADLINE;
    world.switches.breaker.set(Breaker::new("toy-provider")).expect("set once");
    world
}

/// Events of as many keys, each with an external call, `gap` apart.
async fn send_calls(world: &World, count: usize, gap: Duration) -> Vec<Uuid> {
    let keys = keys(count);
    let mut ids = Vec::new();
    for key in &keys {
        ids.push(id());
        let value = World::event(ids[ids.len() - 1], key, 1, "call");
        world.send_all(std::iter::once((key.as_str(), value.as_slice()))).await;
        tokio::time::sleep(gap).await;
    }
    ids
}

/// Waits until the outage has lasted twice as long as a record is retried.
async fn until_long_over_the_deadline(world: &World) {
    let since = "SELECT coalesce(extract(epoch FROM now() - min(parked_at)), 0)::bigint FROM parked";
    until("it lasts", || async { world.number(since).await > 4 }).await;
}

/// The provider is down for every key: those that do not need it pass meanwhile.
async fn down(count: usize, gap: Duration) {
    let world = world(3).await;
    world.switches.sick_tenths.store(10, Ordering::Relaxed);
    let group = world.start().await;
    send_calls(&world, count, gap).await;
    until("what needs the provider waits", || async {
        world.counted("parked").await == i64::try_from(count).expect("few")
    })
    .await;
    let degraded = |group: &Group| group.partitions().iter().any(|lane| lane.state == LaneState::Degraded);
    until("it shows", || async { degraded(&group) }).await;
    for n in 0..10 {
        let key = format!("other-{n}");
        world.send(Some(&key), Some(&World::event(id(), &key, 1, "ok"))).await;
    }
    world.until_counted("applied", 10).await;
    until_long_over_the_deadline(&world).await;
    let calls = world.switches.calls.load(Ordering::Relaxed);
    until("it is asked now and then", || async { world.switches.calls.load(Ordering::Relaxed) > calls })
        .await;
    world.switches.sick_tenths.store(0, Ordering::Relaxed);
    world.until_counted("applied", 10 + i64::try_from(count).expect("few")).await;
    assert_eq!((world.counted("dead").await, world.letters().await.len()), (0, 0));
    until("nothing shows", || async { !degraded(&group) }).await;
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_down_buries_nothing_at_low_traffic() {
    down(20, Duration::from_millis(60)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_down_buries_nothing_at_high_traffic() {
    down(600, Duration::ZERO).await;
}

/// Nobody can tell a provider that fails for some from records that fail: they are given the time they have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_fails_for_some_keys_stops_no_others() {
    let mut world = world(3).await;
    world.settings.retry.deadline = Duration::from_secs(30);
    world.switches.sick_tenths.store(3, Ordering::Relaxed);
    let group = world.start().await;
    send_calls(&world, 300, Duration::from_millis(2)).await;
    world.until_counted("applied", 210).await;
    until("they are tried again and again", || async {
        world.number("SELECT coalesce(min(attempts), 0)::bigint FROM parked").await > 3
    })
    .await;
    assert!(!world.switches.breaker.get().expect("set").is_open());
    world.switches.sick_tenths.store(0, Ordering::Relaxed);
    world.until_counted("applied", 300).await;
    assert_eq!(world.counted("dead").await, 0);
    group.shutdown(Duration::from_secs(10)).await;
}

/// What waits for its second try waits for the database as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_buries_nothing() {
    let mut world = world(1).await;
    world.settings.retry.initial = Duration::from_millis(1_000);
    world.settings.retry.max = Duration::from_millis(1_000);
    world.send(Some("k"), Some(&World::event(id(), "k", 1, "flaky:2"))).await;
    let group = world.start().await;
    until("it waits", || async { world.counted("parked").await == 1 }).await;
    let admin = admin().await;
    let refuse = format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", world.database);
    let close = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
        world.database
    );
    admin.batch_execute(&refuse).await.expect("refused");
    admin.batch_execute(&close).await.expect("closed");
    until("it shows", || async { group.partitions().iter().any(|lane| lane.state == LaneState::Degraded) })
        .await;
    tokio::time::sleep(DEADLINE * 2).await;
    let allow = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", world.database);
    admin.batch_execute(&allow).await.expect("allowed");
    until("it is back", || async { world.pool.get().await.is_ok() }).await;
    world.until_counted("applied", 1).await;
    assert_eq!(world.counted("dead").await, 0);
    group.shutdown(Duration::from_secs(10)).await;
}
