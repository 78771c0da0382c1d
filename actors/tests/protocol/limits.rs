//! Transactions that take too long, connections that are no good any more, and halts that end.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use actors::{Group, LaneState};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    delivery::{id, keys},
    support::{World, until},
};

fn state(group: &Group, world: &World, partition: i32) -> Option<LaneState> {
    let lanes = group.partitions().into_iter();
    lanes
        .filter(|lane| lane.topic == world.topic)
        .find(|lane| lane.partition == partition)
        .map(|lane| lane.state)
}

/// Each row of the toy's that is written takes `seconds`, while the table `nap` has a row.
async fn make_slow(world: &World, seconds: f64) {
    world
        .execute(&format!(
            "CREATE TABLE nap (key text);
             CREATE FUNCTION doze() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF EXISTS (SELECT 1 FROM nap WHERE NEW.key LIKE key) THEN PERFORM pg_sleep({seconds}); END IF;
                RETURN NEW; END $$;
             CREATE TRIGGER slow BEFORE INSERT OR UPDATE ON lists FOR EACH ROW EXECUTE FUNCTION doze()"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_does_not_end_in_time_halves_until_it_does() {
    let mut world = World::new(1).await;
    world.settings.limits.statement = Duration::from_millis(300);
    make_slow(&world, 0.004).await;
    world.execute("INSERT INTO nap VALUES ('%')").await;
    let keys = keys(500);
    world.send_lists(&keys, 1).await;
    let group = world.start().await;
    world.until_counted("applied", 500).await;
    assert_eq!((state(&group, &world, 0), world.counted("dead").await), (Some(LaneState::Running), 0));
    // And grows again.
    world.execute("DELETE FROM nap").await;
    for round in 0..4 {
        world.send_lists(&keys, 1).await;
        world.until_counted("applied", 500 * (round + 2)).await;
    }
    assert!(group.shutdown(Duration::from_secs(10)).await);
}

/// A backend that hangs keeps what it has locked for as long as it hangs: nothing but its end can end that. Whatever else there
/// is goes on, and its lane says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_hangs_stops_its_own_partition_alone_and_no_longer_than_it_hangs() {
    let mut world = World::new(2).await;
    let limits = &mut world.settings.limits;
    (limits.lock, limits.whole) = (Duration::from_millis(500), Duration::from_secs(1));
    make_slow(&world, 20.0).await;
    world.execute("INSERT INTO nap VALUES ('frozen')").await;
    let group = world.start().await;
    world.send(Some("frozen"), Some(&World::event(id(), "frozen", 1, "ok"))).await;
    let napping = format!(
        "SELECT coalesce(min(pid), 0)::bigint FROM pg_stat_activity WHERE datname = '{}' AND wait_event = 'PgSleep'",
        world.database
    );
    until("a backend sleeps", || async { world.number(&napping).await > 0 }).await;
    let pid = i32::try_from(world.number(&napping).await).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::STOP).expect("frozen");
    world.execute("DELETE FROM nap").await;
    let degraded = || async { group.partitions().iter().any(|lane| lane.state == LaneState::Degraded) };
    until("its partition says so", degraded).await;
    let keys = keys(40);
    let others: Vec<_> = keys.iter().map(|key| (key.as_str(), World::event(id(), key, 1, "ok"))).collect();
    world.send_all(others.iter().map(|(key, value)| (*key, value.as_slice()))).await;
    until("the other partition goes on", || async { world.counted("applied").await > 5 }).await;
    assert!(degraded().await, "it is still so");
    kill_process(pid, Signal::CONT).expect("thawed");
    world.until_counted("applied", 41).await;
    assert_eq!(world.list("frozen").await, [1], "once");
    group.shutdown(Duration::from_secs(10)).await;
}

/// The backend of a connection that waits in the pool: nothing is locked, so nothing but the connection is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_does_not_answer_is_thrown_away() {
    let mut world = World::new(1).await;
    world.settings.limits.whole = Duration::from_secs(1);
    let group = world.start().await;
    world.send(Some("k"), Some(&World::event(id(), "k", 1, "ok"))).await;
    world.until_counted("applied", 1).await;
    let idle = format!(
        "SELECT coalesce(string_agg(pid::text, ' '), '') FROM pg_stat_activity
         WHERE datname = '{}' AND state = 'idle' AND pid <> pg_backend_pid()",
        world.database
    );
    let pids: Vec<_> = world.texts(&idle).await[0]
        .split_whitespace()
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect();
    pids.iter().for_each(|pid| kill_process(*pid, Signal::STOP).expect("frozen"));
    world.send(Some("k"), Some(&World::event(id(), "k", 2, "ok"))).await;
    let admin = crate::support::pool(&world.database);
    until("it is applied all the same", || async {
        let client = admin.get().await.expect("connection");
        client.query("SELECT 1 FROM lists WHERE list = '{1,2}'", &[]).await.expect("asked").len() == 1
    })
    .await;
    pids.iter().for_each(|pid| kill_process(*pid, Signal::CONT).expect("thawed"));
    group.shutdown(Duration::from_secs(10)).await;
}

/// What was a primary takes no writes any more, and its connections stay open: they are not used again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_a_demoted_primary_are_thrown_away() {
    let world = World::new(1).await;
    let group = world.start().await;
    world.send(Some("k"), Some(&World::event(id(), "k", 1, "ok"))).await;
    world.until_counted("applied", 1).await;
    let (database, server) = (&world.database, crate::support::env("TEST_POSTGRES_URL"));
    let outside = tokio_postgres::connect(&server, tokio_postgres::NoTls);
    let (client, connection) = outside.await.expect("connected");
    tokio::spawn(connection);
    let tell = async |statement: String| client.batch_execute(&statement).await.expect("done");
    tell(format!("ALTER DATABASE {database} SET default_transaction_read_only = on")).await;
    tell(format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"))
        .await;
    world.send(Some("k"), Some(&World::event(id(), "k", 2, "ok"))).await;
    until("it shows", || async {
        let lanes = group.partitions();
        lanes.iter().any(|lane| lane.reason.as_ref().is_some_and(|reason| reason.contains("sql-25006")))
    })
    .await;
    // Connections that are open stay as they are.
    tell(format!("ALTER DATABASE {database} RESET default_transaction_read_only")).await;
    until("it goes on", || async { world.list("k").await == [1, 2] }).await;
    assert_eq!(world.counted("dead").await, 0);
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_halted_by_its_schema_goes_on_once_that_is_mended() {
    let mut world = World::new(1).await;
    world.settings.halt_retry = Duration::from_millis(200);
    let group = world.start().await;
    world.send(Some("k"), Some(&World::event(id(), "k", 1, "ok"))).await;
    world.until_counted("applied", 1).await;
    world.execute("ALTER TABLE lists RENAME TO mislaid").await;
    world.send(Some("k"), Some(&World::event(id(), "k", 2, "ok"))).await;
    let halted = || async { state(&group, &world, 0) == Some(LaneState::Halted) };
    until("it halts", halted).await;
    let reason = || group.partitions().into_iter().find_map(|lane| lane.reason).expect("a reason");
    assert!(reason().contains("sql-42P01") && reason().contains("tried again"), "{}", reason());
    let since = || group.degraded().into_iter().find(|one| one.state == "halted").expect("halted").since;
    let began = since();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(since(), began, "it is halted all the while");
    world.execute("ALTER TABLE mislaid RENAME TO lists").await;
    world.until_counted("applied", 2).await;
    assert_eq!((state(&group, &world, 0), world.counted("dead").await), (Some(LaneState::Running), 0));
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_changes_its_type_under_load_halts_nothing() {
    let world = World::new(3).await;
    let group = world.start().await;
    let keys = keys(30);
    let (stopped, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let watching = async {
        while !done.load(Ordering::Relaxed) {
            if group.partitions().iter().any(|lane| lane.state == LaneState::Halted) {
                stopped.store(true, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let changing = async {
        for width in [200, 300, 400] {
            world.send_lists(&keys, 10).await;
            world.execute(&format!("ALTER TABLE lists ALTER COLUMN key TYPE varchar({width})")).await;
        }
        world.send_lists(&keys, 10).await;
        world.until_counted("applied", 30 * 40).await;
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(watching, changing);
    assert!(!stopped.into_inner(), "no partition halted");
    group.shutdown(Duration::from_secs(10)).await;
}

/// As after a failover to a standby that lacked the last commits: what was published is written, and published, once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_behind_its_outbox_loses_no_event() {
    let world = World::new(1).await;
    let group = world.start().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(id());
        world.send(Some("k"), Some(&World::event(ids[ids.len() - 1], "k", n, "ok"))).await;
    }
    world.until_counted("applied", 5).await;
    until("all published", || async { world.read(&world.out).await.len() == 5 }).await;
    // Three commits are lost.
    world
        .execute(&format!(
            "UPDATE partition_lease SET next_offset = next_offset - 3, applied = applied - 3, outbox_seq = outbox_seq - 3,
                    epoch = epoch + 1, last_offset = NULL WHERE topic NOT LIKE '%requeue';
             UPDATE lists SET list = '{{0,1}}'; DELETE FROM outbox;
             DELETE FROM offset_journal WHERE next_offset > 2;
             DELETE FROM inbox WHERE event_id IN ('{}', '{}', '{}')",
            ids[2], ids[3], ids[4]
        ))
        .await;
    world.send(Some("k"), Some(&World::event(id(), "k", 5, "ok"))).await;
    until("what was lost is done again", || async { world.list("k").await == [0, 1, 2, 3, 4, 5] }).await;
    until("and published", || async { world.read(&world.out).await.len() == 5 + 4 }).await;
    until("and deleted", || async { world.number("SELECT count(*) FROM outbox").await == 0 }).await;
    group.shutdown(Duration::from_secs(10)).await;
}
