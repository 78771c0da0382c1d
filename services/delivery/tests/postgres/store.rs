use std::time::Duration;

use actors::Lock;
use chrono::{DateTime, Utc};
use contracts::{Event, OrderCancelled, PaymentSuccess};
use deadpool_postgres::Pool;
use delivery::{
    domain::{self, Assignment, Status, Try},
    store,
};
use tokio_postgres::error::SqlState;
use uuid::Uuid;

async fn database() -> Pool {
    chassis::testing::migrated("delivery", delivery::migrations()).await
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + seconds, 0).expect("in range")
}

fn this_try() -> Try {
    Try {
        age: std::time::Duration::ZERO,
        patience: std::time::Duration::from_secs(60),
        now: at(0),
        test_tokens: false,
    }
}

fn paid(order_id: Uuid) -> Event {
    let provider_reference = "ch_1".to_owned();
    PaymentSuccess { order_id, order_version: 1, amount_cents: 9, provider_reference, payment_token: None }
        .into()
}

fn cancelled(order_id: Uuid) -> Event {
    OrderCancelled { order_id, order_version: 2, reason: "customer".into() }.into()
}

/// What the runtime does with one event, inside `transaction`.
async fn handle(transaction: &deadpool_postgres::Transaction<'_>, event: &Event) {
    let order = event.order_id();
    let loaded = store::load(transaction, &[order], Lock::ForUpdate).await.expect("loaded");
    let (states, mut couriers) = (loaded.states, loaded.shared);
    let outcome = domain::decide(event, states.get(&order), &mut couriers, this_try()).expect("decided");
    let changed: Vec<_> = outcome.assignment.map(|assignment| (order, assignment)).into_iter().collect();
    store::save(transaction, &changed, &couriers).await.expect("saved");
}

#[tokio::test]
async fn the_seeded_fleet_is_large_and_free() {
    let database = database().await;
    let client = database.get().await.expect("a connection");
    let all = client.query("select name, load, capacity from couriers order by id", &[]).await.expect("read");
    let names: Vec<&str> = all.iter().map(|row| row.get(0)).collect();
    assert_eq!((names[0], names[39], names.len()), ("courier-01", "courier-40", 40));
    assert!(all.iter().all(|row| (row.get::<_, i32>(1), row.get::<_, i32>(2)) == (0, 250)));
    let unlocked = store::load(&client, &[Uuid::new_v4()], Lock::None).await.expect("loaded").shared;
    assert_eq!(unlocked.iter().count(), 0, "couriers are read to be locked, or not at all");
}

#[tokio::test]
async fn what_was_saved_is_loaded() {
    let database = database().await;
    let client = database.get().await.expect("a connection");
    let saved: Vec<_> = [
        Status::Assigned { courier_id: 3, at: at(1) },
        Status::Released { courier_id: 40, assigned_at: at(1), at: at(2) },
        Status::Failed { at: at(3) },
        Status::Closed { at: at(4) },
    ]
    .into_iter()
    .map(|status| (Uuid::new_v4(), Assignment { status, order_version: 5 }))
    .collect();
    let couriers = store::load(&client, &[], Lock::ForUpdate).await.expect("loaded").shared;
    store::save(&client, &saved, &couriers).await.expect("saved");
    let keys: Vec<_> = saved.iter().map(|(order, _)| *order).chain([Uuid::new_v4()]).collect();
    let loaded = store::load(&client, &keys, Lock::ForUpdate).await.expect("loaded").states;
    assert_eq!(loaded, saved.into_iter().collect());
}

#[tokio::test]
async fn load_in_the_table_is_what_is_assigned() {
    let database = database().await;
    let mut client = database.get().await.expect("a connection");
    let orders: Vec<_> = (0..50).map(|_| Uuid::new_v4()).collect();
    for (count, event) in [(50, paid as fn(Uuid) -> Event), (0, cancelled)] {
        for order in &orders {
            let transaction = client.transaction().await.expect("begun");
            handle(&transaction, &event(*order)).await;
            transaction.commit().await.expect("committed");
        }
        let row = client
            .query_one(
                "select (select sum(load) from couriers), (select max(load) from couriers), \
                 (select count(*) from assignments where released_at is null)",
                &[],
            )
            .await
            .expect("readable");
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(2)), (count, count));
        assert_eq!(row.get::<_, i32>(1), if count == 0 { 0 } else { 2 }, "50 orders spread over 40 couriers");
    }
}

/// Two lanes meet an order that has no row yet: whichever comes first, nobody is sent to a cancelled order and no
/// courier stays taken.
#[tokio::test]
async fn a_payment_and_a_cancellation_at_the_same_time_leave_nobody_on_the_way() {
    let database = database().await;
    for payment_first in [true, false] {
        let order = Uuid::new_v4();
        let (mut first, mut second) =
            (database.get().await.expect("a connection"), database.get().await.expect("a connection"));
        let (one, other) =
            if payment_first { (paid(order), cancelled(order)) } else { (cancelled(order), paid(order)) };
        let transaction = first.transaction().await.expect("begun");
        handle(&transaction, &one).await;
        let waiting = tokio::spawn(async move {
            let transaction = second.transaction().await.expect("begun");
            handle(&transaction, &other).await;
            transaction.commit().await.expect("committed");
        });
        let watcher = database.get().await.expect("a connection");
        wait_until_somebody_is_blocked(&watcher).await;
        transaction.commit().await.expect("committed");
        waiting.await.expect("no panic");
        let row = watcher
            .query_one(
                "select (select sum(load) from couriers), state from assignments where order_id = $1",
                &[&order],
            )
            .await
            .expect("one row");
        let expected = if payment_first { "released" } else { "closed" };
        assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1)), (0, expected));
    }
}

/// Batches of different orders do not wait for each other, and neither for a courier whom somebody else has locked.
#[tokio::test]
async fn batches_of_other_orders_and_locked_couriers_hold_nobody_up() {
    let database = database().await;
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(database.get().await.expect("a connection"));
    }
    let (locked, lanes) = open.split_first_mut().expect("six");
    let operator = locked.transaction().await.expect("begun");
    operator.execute("update couriers set capacity = 251 where id <= 20", &[]).await.expect("held");
    let mut transactions = Vec::new();
    for lane in lanes {
        let transaction = lane.transaction().await.expect("begun");
        // A lock that has to be waited for is an error here.
        transaction.batch_execute("set local lock_timeout = '100ms'").await.expect("set");
        transactions.push(transaction);
    }
    for (partition, transaction) in transactions.iter().enumerate() {
        handle(transaction, &paid(order_of(partition))).await;
    }
    for transaction in transactions {
        transaction.commit().await.expect("committed");
    }
    operator.commit().await.expect("committed");
    assert_eq!(loads(&database).await, (5, 1));
}

/// An order whose key lies in that partition of six.
fn order_of(partition: usize) -> Uuid {
    use std::iter::repeat_with;
    let there = |order: &Uuid| store::partition(order, 6) == partition;
    repeat_with(Uuid::new_v4).find(there).expect("there are enough")
}

/// The sum of all loads, and the largest.
async fn loads(database: &Pool) -> (i64, i32) {
    let client = database.get().await.expect("a connection");
    let row = client.query_one("select sum(load), max(load) from couriers", &[]).await.expect("read");
    (row.get(0), row.get(1))
}

/// However many come at once: nobody carries more than they can, and nobody is turned away while somebody has room.
#[tokio::test]
async fn a_small_fleet_is_filled_to_the_last_place_and_not_beyond() {
    let database = database().await;
    let client = database.get().await.expect("a connection");
    client
        .batch_execute("delete from couriers where id > 4; update couriers set capacity = 5")
        .await
        .expect("small");
    drop(client);
    let lanes: Vec<_> = (0..6)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move {
                let (mut client, mut turned_away) = (database.get().await.expect("a connection"), 0);
                for _ in 0..6 {
                    loop {
                        let transaction = client.transaction().await.expect("begun");
                        match try_to_send(&transaction, Uuid::new_v4()).await {
                            Ok(sent) => {
                                transaction.commit().await.expect("committed");
                                turned_away += i32::from(!sent);
                                break;
                            }
                            // Two that each wait for the other's courier: the runtime redoes such a batch.
                            Err(error) => {
                                assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{error:?}");
                            }
                        }
                    }
                }
                turned_away
            })
        })
        .collect();
    let mut turned_away = 0;
    for lane in lanes {
        turned_away += lane.await.expect("no panic");
    }
    assert_eq!((loads(&database).await, turned_away), ((20, 5), 16), "36 orders, 20 places");
}

async fn try_to_send(
    transaction: &deadpool_postgres::Transaction<'_>,
    order: Uuid,
) -> Result<bool, tokio_postgres::Error> {
    let loaded = store::load(transaction, &[order], Lock::ForUpdate).await?;
    let (states, mut couriers) = (loaded.states, loaded.shared);
    let Ok(outcome) = domain::decide(&paid(order), states.get(&order), &mut couriers, this_try()) else {
        return Ok(false);
    };
    let changed: Vec<_> = outcome.assignment.map(|assignment| (order, assignment)).into_iter().collect();
    store::save(transaction, &changed, &couriers).await.map(|()| true)
}

async fn wait_until_somebody_is_blocked(watcher: &deadpool_postgres::Object) {
    let blocked = "select count(*) from pg_stat_activity \
                   where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0";
    for _ in 0..400 {
        let count: i64 = watcher.query_one(blocked, &[]).await.expect("readable").get(0);
        if count > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the second transaction was not held up within 4 s: nothing keeps the two apart");
}

#[tokio::test]
async fn the_database_itself_refuses_more_than_a_courier_can_carry() {
    let database = database().await;
    let client = database.get().await.expect("a connection");
    let error = client.execute("update couriers set load = capacity + 1 where id = 1", &[]).await;
    assert_eq!(error.expect_err("refused").code(), Some(&SqlState::CHECK_VIOLATION));
    let assigned = Assignment { status: Status::Assigned { courier_id: 999, at: at(0) }, order_version: 1 };
    let couriers = store::load(&client, &[], Lock::ForUpdate).await.expect("loaded").shared;
    let error = store::save(&client, &[(Uuid::new_v4(), assigned)], &couriers).await.expect_err("refused");
    assert_eq!(error.code(), Some(&SqlState::FOREIGN_KEY_VIOLATION));
}
