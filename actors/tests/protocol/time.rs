//! Time: whose clock it is, what of it counts, and what ends by it.

use std::{sync::atomic::Ordering, time::Instant};

use actors::dead_letters::Class;

use crate::{
    delivery::{id, keys},
    support::{
        World,
        member::{Manners, Member},
        until,
    },
};
use std::time::Duration;

/// How far clocks are apart: more than the retry deadline.
const APART: i64 = 40 * 60;
/// Retries that come too late for a test to see.
const LATER: Duration = Duration::from_secs(600);

/// As if it had been due for an hour and nobody had run it.
async fn an_hour_passes(world: &World) {
    let hour = "UPDATE parked SET first_failed_at = first_failed_at - interval '1 hour', due_at = now() - interval '1 hour'";
    world.execute(hour).await;
}

/// A flaky record has failed once, and waits.
async fn failed_once(world: &World) {
    world.send(Some("k"), Some(&World::event(id(), "k", 1, "flaky:2"))).await;
    until("it waits", || async { world.number("SELECT count(*) FROM parked WHERE attempts = 1").await == 1 })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_in_which_nobody_was_there_is_no_part_of_a_deadline() {
    let mut world = World::new(1).await;
    world.settings.retry.initial = LATER;
    world.settings.retry.max = LATER;
    let group = world.start().await;
    failed_once(&world).await;
    group.shutdown(Duration::from_secs(10)).await;
    an_hour_passes(&world).await;
    // It fails once more, is given the time it had, and passes.
    world.settings.retry.initial = Duration::from_millis(50);
    let group = world.start().await;
    world.until_counted("applied", 1).await;
    assert_eq!(world.counted("dead").await, 0);
    group.shutdown(Duration::from_secs(10)).await;

    // Time in which somebody was there does count.
    let hour = "UPDATE parked SET first_failed_at = first_failed_at - interval '1 hour', due_at = now()";
    world.settings.retry.initial = LATER;
    let group = world.start().await;
    failed_once(&world).await;
    world.execute(hour).await;
    let letters = world.dead_letters(1).await;
    assert_eq!((letters[0].class, letters[0].attempts), (Class::Exhausted, 2));
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_a_killed_process_is_no_part_of_a_deadline_either() {
    let world = World::new(1).await;
    let member = Member::spawn(&world, &Manners { retry: Some(LATER), ..Manners::default() });
    failed_once(&world).await;
    member.kill().await;
    an_hour_passes(&world).await;
    let next = Member::spawn(&world, &Manners::default());
    world.until_counted("applied", 1).await;
    next.stop().await;
}

/// A process whose clock is wrong writes the database's time, and runs what is due by it.
async fn runs_by_the_databases_clock(skew: i64) {
    let world = World::new(1).await;
    let member = Member::spawn(&world, &Manners { skew, retry: Some(LATER), ..Manners::default() });
    failed_once(&world).await;
    let apart = "SELECT abs(extract(epoch FROM first_failed_at - now()))::bigint FROM parked";
    assert!(world.number(apart).await < 60, "it failed just now");
    let due = "SELECT extract(epoch FROM due_at - now())::bigint FROM parked";
    let due = world.number(due).await;
    assert!((400..700).contains(&due), "it is due in ten minutes: {due} s");
    let hurried = Instant::now();
    world.execute("UPDATE parked SET due_at = now()").await;
    until("it is tried", || async { world.number("SELECT attempts::bigint FROM parked").await == 2 }).await;
    assert!(hurried.elapsed() < Duration::from_secs(5), "{:?}", hurried.elapsed());
    member.kill().await;

    // One whose clock is wrong the other way takes over.
    let next = Member::spawn(&world, &Manners { skew: -skew, ..Manners::default() });
    next.until_claimed(&world).await;
    world.execute("UPDATE parked SET due_at = now()").await;
    world.until_counted("applied", 1).await;
    assert_eq!(world.counted("dead").await, 0);
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_clock_is_behind_runs_what_is_due() {
    runs_by_the_databases_clock(-APART).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_clock_is_ahead_runs_what_is_due() {
    runs_by_the_databases_clock(APART).await;
}

/// More than twenty keys wait for the domain alike: no circuit opens, and the domain gives each up by its age.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_domain_waits_for_counts_no_attempt_and_is_given_up_by_its_age() {
    let world = World::new(2).await;
    world.switches.patience_ms.store(1_000, Ordering::Relaxed);
    let keys = keys(200);
    let values: Vec<_> = keys.iter().map(|key| World::event(id(), key, 1, "not-yet")).collect();
    world.send_all(keys.iter().map(String::as_str).zip(values.iter().map(Vec::as_slice))).await;
    let group = world.start().await;
    until("all wait", || async { world.counted("parked").await == 200 }).await;
    assert_eq!(world.number("SELECT coalesce(sum(attempts), 0) FROM parked").await, 0);
    world.until_counted("applied", 200).await;
    assert_eq!(world.list("key-7").await, [-1], "given up");
    // What it waits for comes.
    world.switches.patience_ms.store(1_000_000, Ordering::Relaxed);
    world.send(Some("k"), Some(&World::event(id(), "k", 1, "not-yet"))).await;
    until("it waits", || async { world.counted("parked").await == 1 }).await;
    world.switches.forgiving.store(true, Ordering::Relaxed);
    world.until_counted("applied", 201).await;
    assert_eq!((world.list("k").await, world.counted("dead").await), (vec![1], 0));
    group.shutdown(Duration::from_secs(10)).await;
}
