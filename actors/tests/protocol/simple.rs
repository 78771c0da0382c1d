//! The simple door: the same promises for a handler that takes its events one by one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actors::{
    Attempt, Cause, Decoded, Emit, Event, Failure, Group, HandleError, Headers, Record, Rejection, Simple,
    SimpleHandler, dead_letters::Class,
};
use deadpool_postgres::Transaction;
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    delivery::id,
    support::{World, until},
};

#[derive(Debug, Default)]
struct Switches {
    forgiving: AtomicBool,
    /// How often each event was handed over.
    calls: Mutex<HashMap<Uuid, u32>>,
}

/// Appends numbers to lists, one statement each.
struct Appender {
    out: String,
    switches: Arc<Switches>,
}

#[derive(Debug, Deserialize)]
struct Body {
    id: Uuid,
    key: String,
    n: i64,
    mode: String,
}

impl SimpleHandler for Appender {
    type Body = Body;

    fn name(&self) -> &'static str {
        "appender"
    }

    fn decode(&self, record: &Record) -> Result<Decoded<Body>, Rejection> {
        let body: Body = serde_json::from_slice(record.value.as_deref().unwrap_or_default())
            .map_err(|error| Rejection::Poison(Cause::from_error("not-json", &error)))?;
        let (id, event_type) = (body.id, "APPEND".to_owned());
        Ok(Decoded::Event(Event { id, event_type, correlation_id: format!("c-{}", body.key), body }))
    }

    async fn handle(
        &self,
        tx: &Transaction<'_>,
        attempt: &Attempt,
        body: &Body,
    ) -> Result<Vec<Emit>, HandleError> {
        *self.switches.calls.lock().expect("not poisoned").entry(attempt.event_id).or_default() += 1;
        let sql = "INSERT INTO lists (key, list) VALUES ($1, ARRAY[$2::bigint])
                   ON CONFLICT (key) DO UPDATE SET list = lists.list || excluded.list";
        tx.execute(&tx.prepare_cached(sql).await?, &[&body.key, &body.n]).await?;
        // Fails after it has written: that must go.
        let forgiving = self.switches.forgiving.load(Ordering::Relaxed);
        match body.mode.as_str() {
            "permanent" if !forgiving => Err(Failure::permanent("refused", "this one is refused"))?,
            "down" if !forgiving => Err(Failure::transient("down", "this one does not work"))?,
            "schema" if !forgiving => drop(tx.execute("SELECT * FROM no_such_table", &[]).await?),
            "swallow" => drop(tx.execute("SELECT 1 / 0", &[]).await),
            "no-row" => drop(tx.query_one("SELECT 1 WHERE false", &[]).await?),
            "unsendable" => drop(tx.batch_execute("SELECT '\0'").await?),
            "null" => drop(tx.query_one("SELECT NULL::bigint", &[]).await?.try_get::<_, i64>(0)?),
            "type" if !forgiving => drop(tx.query_one("SELECT 'x'::text", &[]).await?.try_get::<_, i64>(0)?),
            "panic" => panic!("the appender panics"),
            _ => {}
        }
        let value = serde_json::json!({"id": body.id, "key": body.key, "n": body.n}).to_string();
        let value = if body.mode == "huge" { vec![b'x'; actors::MAX_RECORD + 1] } else { value.into_bytes() };
        let key = Some(body.key.clone().into_bytes());
        Ok(vec![Emit { topic: self.out.clone(), key, value: Some(value), headers: Headers::new() }])
    }
}

async fn start(world: &World) -> (Group, Arc<Switches>) {
    let switches = Arc::new(Switches::default());
    let handler = Appender { out: world.out.clone(), switches: switches.clone() };
    (world.start_handler(Simple(handler)).await, switches)
}

async fn leave(group: Group) {
    assert!(group.shutdown(Duration::from_secs(10)).await, "it did not drain");
}

async fn send(world: &World, events: &[(&str, i64, &str)]) {
    let events: Vec<_> =
        events.iter().map(|(key, n, mode)| (*key, World::event(id(), key, *n, mode))).collect();
    world.send_all(events.iter().map(|(key, value)| (*key, value.as_slice()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_number_takes_effect_once_in_order_also_over_a_restart_and_where_no_event_fails_once_is_enough()
{
    let world = World::new(3).await;
    let keys: Vec<String> = (0..20).map(|at| format!("key-{at}")).collect();
    for round in 1..=2 {
        let (group, switches) = start(&world).await;
        world.send_lists(&keys, 30).await;
        world.until_counted("applied", 600 * round).await;
        assert!(switches.calls.lock().expect("not poisoned").values().all(|calls| *calls == 1));
        leave(group).await;
    }
    let once: Vec<i64> = (0..30).collect();
    assert!(world.lists().await.values().all(|list| list[..30] == once && list[30..] == once));
    assert_eq!(world.read(&world.out).await.len(), 1_200);
}

/// Each of these has written before it failed, or failed by what it wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_fails_dies_alone_and_leaves_nothing_behind() {
    let world = World::new(1).await;
    send(
        &world,
        &[
            ("a", 1, "ok"),
            ("a", 2, "permanent"),
            ("b", 666, "ok"),
            ("a", 3, "ok"),
            ("c", 1, "huge"),
            ("b", 1, "ok"),
            ("c", 2, "ok"),
        ],
    )
    .await;
    let (group, switches) = start(&world).await;
    world.until_counted("applied", 4).await;
    let mut letters = world.dead_letters(3).await;
    letters.sort_by_key(|letter| letter.offset.0);
    let codes: Vec<_> = letters.iter().map(|letter| (letter.class, letter.error_code.as_str())).collect();
    assert_eq!(
        codes,
        [
            (Class::Permanent, "refused"),
            (Class::Permanent, "sql-23514"),
            (Class::Permanent, "emit-too-large")
        ]
    );
    let lists = world.lists().await;
    assert_eq!((&lists["a"][..], &lists["b"][..], &lists["c"][..]), (&[1, 3][..], &[1][..], &[2][..]));
    assert_eq!(world.read(&world.out).await.len(), 4);
    // One batch, done twice: the second time with savepoints.
    assert!(switches.calls.lock().expect("not poisoned").values().all(|calls| *calls <= 2));
    leave(group).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_fails_for_now_is_retried_and_its_key_waits_behind_it() {
    let mut world = World::new(1).await;
    world.settings.retry.attempts = None;
    send(&world, &[("a", 1, "down"), ("b", 1, "ok"), ("a", 2, "ok"), ("b", 2, "ok")]).await;
    let (group, switches) = start(&world).await;
    world.until_counted("parked", 2).await;
    assert_eq!((world.list("a").await, world.list("b").await), (Vec::new(), vec![1, 2]));
    until("it is tried again", || async {
        world.number("SELECT max(attempts)::bigint FROM parked").await > 1
    })
    .await;
    switches.forgiving.store(true, Ordering::Relaxed);
    world.until_counted("applied", 4).await;
    assert_eq!(world.list("a").await, [1, 2]);
    leave(group).await;
}

/// As its own failure, where it is the last of its batch too; nobody else's statement fails for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_handler_keeps_an_error_to_itself_dies_alone() {
    let world = World::new(1).await;
    send(&world, &[("a", 1, "swallow"), ("b", 1, "ok"), ("c", 1, "swallow")]).await;
    let (group, _) = start(&world).await;
    world.until_counted("applied", 1).await;
    let letters = world.dead_letters(2).await;
    assert!(letters.iter().all(|letter| letter.error_code == "error-swallowed"), "{letters:?}");
    assert_eq!((world.lists().await.len(), world.list("b").await), (1, vec![1]));
    leave(group).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_only_one_event_cannot_use_is_that_events_death() {
    let mut world = World::new(1).await;
    world.settings.retry.attempts = Some(3);
    let events = [("a", "no-row"), ("b", "ok"), ("c", "null"), ("d", "ok"), ("e", "unsendable"), ("f", "ok")];
    send(&world, &events.map(|(key, mode)| (key, 1, mode))).await;
    let (group, _) = start(&world).await;
    world.until_counted("applied", 3).await;
    let mut letters = world.dead_letters(3).await;
    letters.sort_by_key(|letter| letter.offset.0);
    let died: Vec<_> =
        letters.iter().map(|letter| (letter.class, letter.error_code.as_str(), letter.attempts)).collect();
    let value = |attempts| (Class::Permanent, "postgresql-value", attempts);
    // The row might have come yet.
    assert_eq!(died, [(Class::Exhausted, "postgresql-rows", 3), value(1), value(1)]);
    assert_eq!(world.lists().await.len(), 3);
    leave(group).await;
}

/// A table that is not there is no event's fault, nor is a column of another type: nothing dies of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_does_not_fit_halts_the_partition_and_is_tried_again() {
    for (mode, code) in [("schema", "sql-42P01"), ("type", "postgresql")] {
        let mut world = World::new(1).await;
        world.settings.halt_retry = Duration::from_millis(500);
        send(&world, &[("a", 1, mode), ("b", 1, "ok")]).await;
        let (group, switches) = start(&world).await;
        until("the partition is halted", || async {
            group.degraded().iter().any(|condition| condition.code == code)
        })
        .await;
        switches.forgiving.store(true, Ordering::Relaxed);
        world.until_counted("applied", 2).await;
        assert_eq!(world.letters().await.len(), 0);
        leave(group).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_panics_is_found_and_nobody_else_dies_with_it() {
    let world = World::new(1).await;
    let events: Vec<_> =
        (0..40).map(|at| (format!("key-{at}"), if at == 17 { "panic" } else { "ok" })).collect();
    let events: Vec<_> = events.iter().map(|(key, mode)| (key.as_str(), 1, *mode)).collect();
    send(&world, &events).await;
    let (group, _) = start(&world).await;
    world.until_counted("applied", 39).await;
    let letter = world.dead_letters(1).await.remove(0);
    assert_eq!((letter.class, letter.offset.0), (Class::Crash, 17));
    leave(group).await;
}
