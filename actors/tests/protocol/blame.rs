//! Which record of a batch is guilty, found without asking each.

use std::time::Duration;

use actors::{Group, dead_letters::Class};

use crate::{
    delivery::id,
    support::{World, until},
};

/// Sends `count` events of as many keys, the one at `which` with another number and mode.
async fn send(world: &World, count: i64, which: i64, n: i64, mode: &str) {
    let event = |at| {
        let key = format!("key-{at}");
        let value =
            if at == which { World::event(id(), &key, n, mode) } else { World::event(id(), &key, 1, "ok") };
        (key, value)
    };
    let events: Vec<_> = (0..count).map(event).collect();
    world.send_all(events.iter().map(|(key, value)| (key.as_str(), value.as_slice()))).await;
}

/// Waits until all but one is applied, and that one dead.
async fn all_but_one(world: &World, count: i64) -> actors::dead_letters::DeadLetter {
    until("all but one applied", || async { world.counted("applied").await >= count - 1 }).await;
    let letter = world.dead_letters(1).await.remove(0);
    assert_eq!((world.counted("applied").await, world.counted("dead").await), (count - 1, 1));
    assert_eq!(world.unaccounted().await, 0);
    letter
}

async fn leave(group: Group) {
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_value_among_five_hundred_costs_few_transactions() {
    let world = World::new(1).await;
    send(&world, 500, 317, 666, "ok").await;
    let group = world.start().await;
    let letter = all_but_one(&world, 500).await;
    assert_eq!(
        (letter.class, letter.error_code.as_str(), letter.offset.0),
        (Class::Permanent, "sql-23514", 317)
    );
    let batches = world.number("SELECT count(*) FROM offset_journal").await;
    assert!(batches < 40, "{batches} batches");
    leave(group).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_panics_among_five_hundred_is_found_by_halves_and_nobody_else_is_held_guilty() {
    let world = World::new(1).await;
    send(&world, 500, 317, 1, "panic").await;
    let group = world.start().await;
    let letter = all_but_one(&world, 500).await;
    assert_eq!((letter.class, letter.error_code.as_str(), letter.offset.0), (Class::Crash, "crash", 317));
    let batches = world.number("SELECT count(*) FROM offset_journal").await;
    let restarts = group.partitions().iter().map(|lane| lane.restarts).sum::<u32>();
    assert!(batches < 40 && restarts < 16, "{batches} batches, {restarts} restarts");
    leave(group).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_limit_of_one_crash_its_company_does_not_die_with_it() {
    let mut world = World::new(1).await;
    world.settings.crash_limit = 1;
    send(&world, 20, 7, 1, "panic").await;
    let group = world.start().await;
    let letter = all_but_one(&world, 20).await;
    assert_eq!((letter.class, letter.offset.0), (Class::Crash, 7));
    leave(group).await;
}

/// Its guilty ones wait, in a batch with others that do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_waits_is_found_among_those_that_wait() {
    let mut world = World::new(1).await;
    // That all of them fail at first is no sign of anything.
    world.settings.circuit.min_keys = 1_000;
    for at in 0..60 {
        let (key, n) = (format!("key-{at}"), if at == 41 { 666 } else { 1 });
        world.send(Some(&key), Some(&World::event(id(), &key, n, "flaky:1"))).await;
        world.send(Some(&key), Some(&World::event(id(), &key, 2, "ok"))).await;
    }
    let group = world.start().await;
    let letter = all_but_one(&world, 120).await;
    assert_eq!((letter.error_code.as_str(), letter.offset.0), ("sql-23514", 82));
    let lists = world.lists().await;
    assert_eq!(lists["key-41"], [2], "its follower goes on");
    assert!(lists.iter().all(|(key, list)| key == "key-41" || *list == [1, 2]), "{lists:?}");
    leave(group).await;
}

/// A constraint that is checked at COMMIT.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_refused_for_a_value_blames_one_record() {
    let world = World::new(1).await;
    world
        .execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF 777 = ANY (NEW.list) THEN RAISE check_violation USING MESSAGE = 'no 777'; END IF; RETURN NEW; END $$;
             CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON lists DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await;
    send(&world, 40, 23, 777, "ok").await;
    let group = world.start().await;
    let letter = all_but_one(&world, 40).await;
    assert_eq!((letter.error_code.as_str(), letter.offset.0), ("sql-23514", 23));
    leave(group).await;
}

/// Its own events die, and nothing is done outside for them; the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_cannot_be_read_stops_its_own_key_alone() {
    let world = World::new(1).await;
    world.execute("INSERT INTO lists VALUES ('broken', '{-404}')").await;
    for (key, mode) in [("broken", "ok"), ("a", "ok"), ("broken", "call"), ("b", "call")] {
        world.send(Some(key), Some(&World::event(id(), key, 1, mode))).await;
    }
    let group = world.start().await;
    world.until_counted("applied", 2).await;
    let letters = world.dead_letters(2).await;
    assert!(letters.iter().all(|letter| letter.error_code == "unreadable-state"), "{letters:?}");
    assert_eq!(world.switches.calls.load(std::sync::atomic::Ordering::Relaxed), 1);
    leave(group).await;
}
