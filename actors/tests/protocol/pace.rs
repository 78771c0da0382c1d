//! One sick key slows nobody, and what is old leaves room for what is new.

use std::{
    collections::HashMap,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use actors::{
    Headers, Offset, TopicPartition,
    dead_letters::{Class, DeadLetter, letter_id, requeue_topic},
};
use chrono::Utc;
use uuid::Uuid;

use crate::{
    delivery::{id, keys},
    support::{World, until},
};

/// Sends `count` events with an external call, each of another of `keys`, `gap` apart, and waits until those of healthy keys
/// are applied. The median time from sent to applied.
async fn median(world: &World, keys: &[String], count: usize, gap: Duration) -> Duration {
    let mut sent: HashMap<Uuid, Instant> = HashMap::new();
    let silent = world.switches.silent.lock().expect("not poisoned").clone();
    let mut next = tokio::time::interval(gap);
    for key in keys.iter().cycle().take(count) {
        next.tick().await;
        let event = id();
        if silent.as_ref() != Some(key) {
            sent.insert(event, Instant::now());
        }
        let value = World::event(event, key, 1, "call");
        world.send_all(std::iter::once((key.as_str(), value.as_slice()))).await;
    }
    until("the healthy ones are applied", || async {
        let applied = world.switches.applied.lock().expect("not poisoned");
        sent.keys().all(|event| applied.contains_key(event))
    })
    .await;
    let applied = world.switches.applied.lock().expect("not poisoned");
    let mut times: Vec<Duration> =
        sent.iter().map(|(event, at)| applied[event].duration_since(*at)).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// Measured on a machine that does other things as well: so much is no difference.
const NOISE: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_whose_calls_hang_slows_no_other() {
    let mut world = World::new(1).await;
    world.settings.retry.attempts = None;
    world.switches.latency_ms.store(2, Ordering::Relaxed);
    let keys = keys(100);
    let group = world.start().await;
    median(&world, &keys, 50, Duration::from_millis(10)).await;
    let normal = median(&world, &keys, 200, Duration::from_millis(10)).await;
    *world.switches.silent.lock().expect("not poisoned") = Some(keys[99].clone());
    let sick = median(&world, &keys, 300, Duration::from_millis(10)).await;
    println!("p50 {normal:?}, with one of a hundred keys that hangs {sick:?}");
    assert!(sick <= normal * 2 + NOISE, "{sick:?}, and {normal:?} without");
    // Its calls were not given up: the first was picked up when it failed.
    until("it failed", || async {
        world.number("SELECT coalesce(max(attempts), 0)::bigint FROM parked").await > 0
    })
    .await;
    *world.switches.silent.lock().expect("not poisoned") = None;
    world.until_counted("applied", 550).await;
    assert_eq!(world.list(&keys[99]).await.len(), 5);
    assert_eq!(world.counted("dead").await, 0);
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_takes_its_time_is_made_once_and_its_key_keeps_its_order() {
    let world = World::new(1).await;
    world.switches.latency_ms.store(400, Ordering::Relaxed);
    let group = world.start().await;
    let ids: Vec<_> = (0..3).map(|_| id()).collect();
    for (n, event) in (0..).zip(&ids) {
        world.send(Some("slow"), Some(&World::event(*event, "slow", n, "call"))).await;
    }
    world.send(Some("quick"), Some(&World::event(id(), "quick", 9, "ok"))).await;
    world.until_counted("applied", 4).await;
    assert_eq!(world.list("slow").await, [0, 1, 2]);
    let called = world.switches.called.lock().expect("not poisoned").clone();
    assert!(ids.iter().all(|event| called[event] == 1), "{called:?}");
    group.shutdown(Duration::from_secs(10)).await;
}

/// Puts records back that never were there, as the inspector does with letters.
async fn put_back(world: &World, count: usize, mode: &str) {
    let records: Vec<_> = (0..count)
        .map(|n| {
            let (source, offset) =
                (TopicPartition::new(world.topic.as_str(), 0), Offset(1_000_000 + n as i64));
            let key = format!("old-{n}");
            let letter = DeadLetter {
                id: letter_id(&source, offset, 1, &world.group, 1),
                group: world.group.clone(),
                handler: "toy".into(),
                class: Class::Permanent,
                origin: source,
                offset,
                timestamp_ms: 1,
                event_id: None,
                event_type: None,
                correlation_id: None,
                error_code: "refused".into(),
                error: "refused".into(),
                fingerprint: "0".into(),
                attempts: 1,
                first_failed_at: Utc::now(),
                failed_at: Utc::now(),
                generation: 2,
                service: "toy".into(),
                build: "0".into(),
                truncated: None,
            };
            (key.clone(), World::event(id(), &key, 1, mode), letter.to_headers(&Headers::new()))
        })
        .collect();
    world.send_all_to(&requeue_topic(&world.group), &records).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_that_are_put_back_leave_room_for_what_is_new() {
    let world = World::new(1).await;
    world.switches.latency_ms.store(100, Ordering::Relaxed);
    let keys = keys(100);
    let group = world.start().await;
    median(&world, &keys, 60, Duration::from_millis(20)).await;
    let normal = median(&world, &keys, 60, Duration::from_millis(50)).await;
    put_back(&world, 5_000, "call").await;
    let waiting = "SELECT count(*) FROM parked WHERE requeued_from IS NOT NULL";
    until("they come", || async { world.number(waiting).await > 1_000 }).await;
    let busy = median(&world, &keys, 60, Duration::from_millis(50)).await;
    let left = world.number(waiting).await;
    println!("p50 {normal:?}, beside thousands that were put back {busy:?}; then {left} wait");
    assert!((1..=2_000).contains(&left), "Kafka keeps the others, and not all are run: {left}");
    assert!(busy <= normal * 2 + NOISE, "{busy:?}, and {normal:?} without");
    world.switches.latency_ms.store(0, Ordering::Relaxed);
    until("all have run", || async {
        world.number("SELECT count(*) FROM lists WHERE key LIKE 'old-%'").await == 5_000
    })
    .await;
    assert_eq!(world.unaccounted().await, 0);
    group.shutdown(Duration::from_secs(10)).await;
}

/// More than is held in memory, from a time before there was a bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_with_hundreds_of_thousands_waiting_is_claimed_at_once_and_keeps_every_keys_order() {
    // As many as `PARKED_ROWS` says.
    let rows: u32 =
        std::env::var("PARKED_ROWS").map_or(150_000, |rows| rows.parse().expect("a number of rows"));
    let last = format!("old-{rows}");
    let world = World::new(1).await;
    let group = world.start().await;
    world.send(Some("k"), Some(&World::event(id(), "k", 0, "ok"))).await;
    world.until_counted("applied", 1).await;
    group.shutdown(Duration::from_secs(10)).await;
    let client = world.pool.get().await.expect("connection");
    client.batch_execute("SET statement_timeout = 0").await.expect("set");
    let fill = format!(
        "INSERT INTO parked (consumer, topic, partition, \"offset\", key, value, headers, timestamp_ms, generation,
                             requeued_from, attempts, crashes, due_at, error_code, error, parked_at)
         SELECT '{}', '{}', 0, 2000000 + n, convert_to('old-' || n, 'UTF8'),
                convert_to(json_build_object('id', gen_random_uuid(), 'key', 'old-' || n, 'n', 1, 'mode', 'ok')::text, 'UTF8'),
                decode('', 'hex'), 1, 2, gen_random_uuid(), 0, 0, now() + interval '1 hour', 'requeued', 'put back', now()
         FROM generate_series(1, {rows}) AS n",
        world.group, world.topic
    );
    let started = Instant::now();
    client.batch_execute(&fill).await.expect("filled");
    println!("filled in {:?}", started.elapsed());
    client.batch_execute("ANALYZE parked").await.expect("analysed");
    drop(client);
    let epoch = format!("SELECT epoch FROM partition_lease WHERE topic = '{}'", world.topic);
    let before = world.number(&epoch).await;
    world.send(Some("new"), Some(&World::event(id(), "new", 1, "ok"))).await;
    let group = world.start().await;
    until("it is claimed", || async { world.number(&epoch).await > before }).await;
    let claimed = Instant::now();
    until("it works", || async { world.list("new").await == [1] }).await;
    println!("works {:?} after the claim", claimed.elapsed());
    assert!(claimed.elapsed() < Duration::from_secs(2), "{:?}", claimed.elapsed());
    // The last of them is far from being read: what is new of its key waits behind it all the same.
    world.send(Some(&last), Some(&World::event(id(), &last, 2, "ok"))).await;
    until("it waits", || async { world.counted("parked").await == 1 }).await;
    let others = "DELETE FROM parked WHERE requeued_from IS NOT NULL AND key <> convert_to";
    world
        .execute(&format!("SET statement_timeout = 0; {others}('{last}', 'UTF8'); RESET statement_timeout"))
        .await;
    world.execute("UPDATE parked SET due_at = now()").await;
    until("both in order", || async { world.list(&last).await == [1, 2] }).await;
    assert_eq!(world.unaccounted().await, 0);
    group.shutdown(Duration::from_secs(10)).await;
}
