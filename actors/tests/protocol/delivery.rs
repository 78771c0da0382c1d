//! Single records and their ends.

use std::{sync::atomic::Ordering, time::Duration};

use actors::{
    Headers, LaneState,
    dead_letters::{Class, DeadLetter, requeue_topic},
};

use uuid::Uuid;

use crate::support::{World, until};

pub(crate) fn id() -> Uuid {
    Uuid::now_v7()
}

pub(crate) fn keys(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("key-{n}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_takes_effect_in_order_once() {
    let world = World::new(3).await;
    let group = world.start().await;
    let keys = keys(20);
    world.send_lists(&keys, 50).await;
    world.until_counted("applied", 1_000).await;
    let lists = world.lists().await;
    for key in &keys {
        assert_eq!(lists[key], (0..50).collect::<Vec<_>>(), "{key}");
    }
    assert!(group.shutdown(Duration::from_secs(10)).await, "a quiet group leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_keeps_its_order_while_it_retries_and_others_pass() {
    let world = World::new(1).await;
    let group = world.start().await;
    world.send(Some("slow"), Some(&World::event(id(), "slow", 0, "flaky:4"))).await;
    for n in 1..4 {
        world.send(Some("slow"), Some(&World::event(id(), "slow", n, "ok"))).await;
    }
    world.send(Some("quick"), Some(&World::event(id(), "quick", 9, "ok"))).await;
    until("the other key passes", || async { world.list("quick").await == [9] }).await;
    assert_eq!(world.list("slow").await, [0i64; 0], "followers wait behind the failing head");
    world.until_counted("applied", 5).await;
    assert_eq!(world.list("slow").await, [0, 1, 2, 3]);
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_run_out_and_the_followers_go_on() {
    let world = World::new(1).await;
    let group = world.start().await;
    world.send(Some("k"), Some(&World::event(id(), "k", 0, "down"))).await;
    world.send(Some("k"), Some(&World::event(id(), "k", 1, "ok"))).await;
    world.until_counted("applied", 1).await;
    let letters = world.dead_letters(1).await;
    assert_eq!((letters[0].class, letters[0].attempts), (Class::Exhausted, 5));
    assert_eq!((letters[0].error_code.as_str(), letters[0].offset.0), ("down", 0));
    assert_eq!(world.list("k").await, [1]);
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_handled_is_buried_with_its_reason() {
    let world = World::new(1).await;
    let group = world.start().await;
    world.send(Some("k"), Some(b"no json")).await;
    world.send(Some("k"), Some(b"")).await;
    world.send(Some("k"), None).await;
    world.send(None, Some(&World::event(id(), "k", 1, "ignored"))).await;
    world.send(Some("k"), Some(&World::event(id(), "k", 2, "permanent"))).await;
    world.send(Some("k"), Some(&World::event(id(), "k", 3, "ok"))).await;
    world.until_counted("applied", 1).await;
    assert_eq!((world.counted("ignored").await, world.counted("dead").await), (2, 3));
    let mut letters = world.dead_letters(3).await;
    letters.sort_by_key(|letter| letter.offset.0);
    let seen: Vec<_> = letters.iter().map(|l| (l.offset.0, l.class, l.error_code.as_str())).collect();
    assert_eq!(
        seen,
        [(0, Class::Poison, "not-json"), (1, Class::Poison, "empty-value"), (4, Class::Permanent, "refused")]
    );
    assert_eq!(letters[2].correlation_id.as_deref(), Some("c-k"));
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_event_is_a_duplicate_and_another_body_is_refused() {
    let world = World::new(1).await;
    let twice = id();
    let event = World::event(twice, "k", 1, "ok");
    // Both before the start: one batch. And again after it: another batch.
    world.send(Some("k"), Some(&event)).await;
    world.send(Some("k"), Some(&event)).await;
    let group = world.start().await;
    world.until_counted("duplicate", 1).await;
    world.send(Some("k"), Some(&event)).await;
    world.send(Some("k"), Some(&World::event(twice, "k", 2, "ok"))).await;
    world.until_counted("dead", 1).await;
    assert_eq!(world.dead_letters(1).await[0].error_code, "event-id-reused");
    assert_eq!((world.counted("applied").await, world.counted("duplicate").await), (1, 2));
    assert_eq!(world.list("k").await, [1]);
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_claim_what_it_likes() {
    let world = World::new(1).await;
    let lied_about = id();
    let client = redis::Client::open(std::env::var("REDIS_URL").expect("REDIS_URL")).expect("a sound URL");
    let mut redis = client.get_multiplexed_async_connection().await.expect("Redis");
    let key = format!("done:{}:{lied_about}", world.group);
    redis::cmd("SET").arg(key).arg(1).exec_async(&mut redis).await.expect("set");
    let group = world.start().await;
    world.send(Some("k"), Some(&World::event(lied_about, "k", 1, "call"))).await;
    world.until_counted("applied", 1).await;
    assert_eq!(world.switches.calls.load(Ordering::Relaxed), 1, "the external call was made after all");

    // Where the inbox agrees, the hint saves the call; but one that takes longer than 20 ms is not waited for.
    let mut saved = false;
    for repeated in 1..=20 {
        let before = world.switches.calls.load(Ordering::Relaxed);
        world.send(Some("k"), Some(&World::event(lied_about, "k", 1, "call"))).await;
        world.until_counted("duplicate", repeated).await;
        saved = world.switches.calls.load(Ordering::Relaxed) == before;
        if saved {
            break;
        }
    }
    assert!(saved, "none of twenty hints saved its call");
    assert_eq!(world.list("k").await, [1]);
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_counts_no_attempt_and_buries_nothing() {
    let world = World::new(1).await;
    world.switches.provider_down.store(true, Ordering::Relaxed);
    let group = world.start().await;
    for n in 0..3 {
        world.send(Some("k"), Some(&World::event(id(), "k", n, "call"))).await;
    }
    // More tries than a failing event would be given.
    until("many tries", || async { world.switches.calls.load(Ordering::Relaxed) > 8 }).await;
    assert!(group.partitions().iter().any(|lane| lane.state == LaneState::Degraded), "it shows");
    world.switches.provider_down.store(false, Ordering::Relaxed);
    world.until_counted("applied", 3).await;
    assert_eq!(world.list("k").await, [0, 1, 2]);
    assert_eq!((world.counted("dead").await, world.counted("parked").await), (0, 0));
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_constraint_violation_blames_one_record_of_its_batch() {
    let world = World::new(1).await;
    for (n, key) in keys(5).iter().enumerate() {
        let n = if n == 2 { 666 } else { i64::try_from(n).expect("small") };
        world.send(Some(key), Some(&World::event(id(), key, n, "ok"))).await;
    }
    let group = world.start().await;
    world.until_counted("applied", 4).await;
    let letters = world.dead_letters(1).await;
    assert_eq!(
        (letters[0].class, letters[0].error_code.as_str(), letters[0].offset.0),
        (Class::Permanent, "sql-23514", 2)
    );
    let error = &letters[0].error;
    assert!(error.contains("constraint") && error.contains("table") && !error.contains("key-"), "{error}");
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_crasher_is_buried_and_its_neighbours_are_not() {
    let world = World::new(1).await;
    for (n, mode) in ["ok", "panic", "ok", "panic-once", "ok"].into_iter().enumerate() {
        let key = format!("key-{n}");
        world.send(Some(&key), Some(&World::event(id(), &key, 1, mode))).await;
    }
    let group = world.start().await;
    world.until_counted("applied", 4).await;
    let letters = world.dead_letters(1).await;
    assert_eq!((letters[0].class, letters[0].offset.0), (Class::Crash, 1));
    let error = &letters[0].error;
    let told = error.starts_with("panicked at ") && error.contains("toy.rs:");
    assert!(told && error.contains("the toy panics on 1"), "{error}");
    let lane = group.partitions().into_iter().find(|lane| lane.topic == world.topic).expect("the lane");
    assert_eq!(lane.state, LaneState::Running);
    assert!(lane.restarts >= 3, "{}", lane.restarts);
    group.shutdown(Duration::from_secs(10)).await;
}

/// What the inspector does: the letter's record with its generation raised.
pub(crate) async fn requeue(world: &World, letter: &DeadLetter) {
    let topic = actors::dead_letters::dlq_topic(&world.group);
    for record in world.read(&topic).await {
        let headers = Headers::from_kafka(&record);
        let read = DeadLetter::from_headers(&headers).expect("dlq headers");
        if read.id == letter.id {
            use rdkafka::Message;
            let back = DeadLetter { generation: read.generation + 1, ..read };
            world
                .send_bytes_to(
                    &requeue_topic(&world.group),
                    record.key(),
                    record.payload(),
                    &back.to_headers(&headers),
                )
                .await;
            return;
        }
    }
    panic!("no letter {}", letter.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_requeued_twice_takes_effect_once() {
    let world = World::new(1).await;
    let group = world.start().await;
    world.send(Some("k"), Some(&World::event(id(), "k", 7, "permanent"))).await;
    let letter = world.dead_letters(1).await.remove(0);

    // The cause is still there: it dies again, as generation 2.
    requeue(&world, &letter).await;
    let letters = world.dead_letters(2).await;
    let again = letters.iter().find(|letter| letter.generation == 2).expect("generation 2");
    assert_ne!(again.id, letter.id);
    assert_eq!(again.offset, letter.offset, "the origin stays");

    world.switches.forgiving.store(true, Ordering::Relaxed);
    requeue(&world, again).await;
    until("applied", || async { world.list("k").await == [7] }).await;
    requeue(&world, again).await;
    requeue(&world, &letter).await;
    let waiting = "SELECT count(*) FROM parked";
    let moved = "SELECT coalesce(sum(moved), 0)::bigint FROM partition_lease";
    until("all four moved and run", || async {
        let client = world.pool.get().await.expect("connection");
        let moved: i64 = client.query_one(moved, &[]).await.expect("lease").get(0);
        let waiting: i64 = client.query_one(waiting, &[]).await.expect("parked").get(0);
        (moved, waiting) == (4, 0)
    })
    .await;
    assert_eq!(world.list("k").await, [7]);
    assert_eq!(world.unaccounted().await, 0);
    assert_eq!(
        (world.counted("dead").await, world.counted("applied").await),
        (1, 0),
        "offsets keep their first outcome"
    );
    group.shutdown(Duration::from_secs(10)).await;
}
