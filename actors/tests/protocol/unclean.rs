//! Unclean shutdown of a process, and a record that ends every process.

use std::time::{Duration, Instant};

use actors::dead_letters::Class;

use crate::{
    delivery::id,
    support::{
        World,
        member::{Manners, Member},
        until,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_ends_every_process_is_buried_and_its_neighbours_are_not() {
    let world = World::new(1).await;
    for n in 0..8 {
        let (key, mode) = (format!("key-{n}"), if n == 3 { "deadly" } else { "ok" });
        world.send(Some(&key), Some(&World::event(id(), &key, n, mode))).await;
    }
    let manners = Manners { deadly: true, ..Manners::default() };
    // The first dies with a batch in flight, the second with a few records and their intent written; from then on the record is
    // tried alone: five deaths.
    for death in 0..7 {
        let mut member = Member::spawn(&world, &manners);
        member.aborted().await;
        if death > 0 {
            assert!(member.has_said("unclean shutdown"), "{}", member.last_words());
            // Of what the last owner tried nothing is known at first.
            for tried in ["tried=offsets 0 to 7", "tried=offset 3"] {
                let expected = (death == 2 && tried.contains("to")) || (death > 2 && !tried.contains("to"));
                assert_eq!(member.has_said(tried), expected, "{death}: {}", member.last_words());
            }
            assert!(!member.has_said("None"), "{}", member.last_words());
        }
    }
    let last = Member::spawn(&world, &manners);
    world.until_counted("applied", 7).await;
    let letters = world.dead_letters(1).await;
    assert_eq!(
        (letters[0].class, letters[0].error_code.as_str(), letters[0].offset.0),
        (Class::Crash, "process-death", 3)
    );
    last.stop().await;
}

/// A batch's worth of records, each with a call that takes its time, must not run one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_unclean_end_new_events_do_not_wait_for_a_slow_provider_to_be_asked_one_by_one() {
    let world = World::new(1).await;
    let events: Vec<_> = (0..1_500)
        .map(|n| (format!("key-{n}"), World::event(id(), &format!("key-{n}"), 1, "call")))
        .collect();
    world.send_all(events.iter().map(|(key, value)| (key.as_str(), value.as_slice()))).await;
    let manners = Manners { latency: 200, batch: Some(500), ..Manners::default() };
    let first = Member::spawn(&world, &manners);
    until("it is at work", || async { world.counted("applied").await > 0 }).await;
    first.kill().await;
    let left = 1_500 - world.counted("applied").await;
    assert!(left >= 500, "it died with a whole batch in flight, and {left} records are left");
    // What waited is overdue, all of it, and stands in nobody's way.
    world
        .execute(
            "INSERT INTO parked (consumer, topic, partition, \"offset\", key, value, headers, timestamp_ms, event_id,
                                 generation, requeued_from, attempts, crashes, due_at, error_code, error, parked_at)
             SELECT consumer, topic, partition, 0, convert_to('late-' || n, 'UTF8'), convert_to(json_build_object(
                        'id', gen_random_uuid(), 'key', 'late-' || n, 'n', 1, 'mode', 'call')::text, 'UTF8'),
                    '', 0, gen_random_uuid(), 2, gen_random_uuid(), 0, 0, now(), 'requeued', 'put back', now()
             FROM partition_lease, generate_series(1, 1000) AS n WHERE topic NOT LIKE '%requeue'",
        )
        .await;
    let second = Member::spawn(&world, &manners);
    second.until_said("unclean shutdown").await;
    world.send(Some("new"), Some(&World::event(id(), "new", 1, "ok"))).await;
    let started = Instant::now();
    until("the new event is applied", || async { world.list("new").await == [1] }).await;
    let (took, late) = (started.elapsed(), world.number("SELECT count(*) FROM parked").await);
    eprintln!("{left} records were left; the new event took {took:?}, {late} still wait");
    assert!(took < Duration::from_secs(30), "one by one it takes {left} times 200 ms: {took:?}");
    second.kill().await;
}
