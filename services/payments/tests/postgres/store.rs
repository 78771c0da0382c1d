use actors::Lock;
use chrono::{DateTime, Utc};
use deadpool_postgres::Pool;
use payments::{
    domain::{Booking, Charge, Kind, Payment, Status},
    provider::Reference,
    store,
};
use tokio_postgres::error::SqlState;
use uuid::Uuid;

pub(crate) async fn database() -> Pool {
    chassis::testing::migrated("payments", payments::migrations()).await
}

pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + seconds, 0).expect("in range")
}

fn entry(kind: Kind, reference: &str) -> Booking {
    Booking { kind, amount_cents: 900, reference: Reference::new(reference), at: at(0) }
}

fn payment(status: Status, unsaved: Vec<Booking>) -> Payment {
    Payment { status, order_version: 3, updated_at: at(1), unsaved }
}

fn charge() -> Charge {
    Charge { amount_cents: 900, reference: Reference::new("ch_1") }
}

fn charged() -> Payment {
    payment(Status::Charged(charge()), vec![entry(Kind::Charge, "ch_1")])
}

#[tokio::test]
async fn what_was_saved_is_loaded() {
    let database = database().await;
    let client = database.get().await.expect("a connection");
    let saved: Vec<_> = [
        payment(Status::Closed, vec![]),
        charged(),
        payment(Status::Failed { reason: "declined".into() }, vec![]),
        payment(Status::Refunded(charge()), vec![entry(Kind::Charge, "ch_4"), entry(Kind::Refund, "re_4")]),
    ]
    .into_iter()
    .map(|payment| (Uuid::new_v4(), payment))
    .collect();
    store::save(&client, &saved).await.expect("saved");
    let mut keys: Vec<_> = saved.iter().map(|(order, _)| *order).chain([Uuid::new_v4()]).collect();
    keys.sort();
    for lock in [Lock::None, Lock::ForUpdate] {
        let loaded = store::load(&client, &keys, lock).await.expect("loaded").states;
        assert_eq!(loaded.len(), 4, "an order without a payment has none");
        for (order, payment) in &saved {
            assert_eq!(loaded[order], Payment { unsaved: vec![], ..payment.clone() });
        }
    }
    let ledger = client
        .query("select kind, provider_key from charges where order_id = $1 order by kind", &[&saved[3].0])
        .await
        .expect("readable");
    let ledger: Vec<(String, String)> = ledger.iter().map(|row| (row.get(0), row.get(1))).collect();
    let order = saved[3].0;
    let expected = ["charge", "refund"].map(|kind| (kind.to_owned(), format!("{kind}:{order}")));
    assert_eq!(ledger, expected);
}

#[tokio::test]
async fn a_refund_adds_to_the_ledger_and_replaces_the_state() {
    let database = database().await;
    let client = database.get().await.expect("a connection");
    let order = Uuid::new_v4();
    store::save(&client, &[(order, charged())]).await.expect("saved");
    let refunded = payment(Status::Refunded(charge()), vec![entry(Kind::Refund, "re_1")]);
    store::save(&client, &[(order, refunded)]).await.expect("saved");
    let loaded = store::load(&client, &[order], Lock::None).await.expect("loaded").states;
    assert_eq!(loaded[&order].status, Status::Refunded(charge()));
    let count: i64 = client.query_one("select count(*) from charges", &[]).await.expect("readable").get(0);
    assert_eq!(count, 2);
}

#[tokio::test]
async fn the_database_itself_refuses_a_second_charge() {
    let database = database().await;
    let client = database.get().await.expect("a connection");
    let order = Uuid::new_v4();
    store::save(&client, &[(order, charged())]).await.expect("saved");
    let error = store::save(&client, &[(order, charged())]).await.expect_err("a second charge");
    assert_eq!(error.code(), Some(&SqlState::UNIQUE_VIOLATION));
}

#[tokio::test]
async fn loading_for_update_locks_and_loading_without_does_not() {
    let database = database().await;
    let (mut first, second) =
        (database.get().await.expect("a connection"), database.get().await.expect("a connection"));
    let order = Uuid::new_v4();
    store::save(&second, &[(order, charged())]).await.expect("saved");
    let transaction = first.transaction().await.expect("begun");
    store::load(&transaction, &[order], Lock::ForUpdate).await.expect("locked");
    second.batch_execute("set lock_timeout = '100ms'").await.expect("set");
    assert_eq!(store::load(&second, &[order], Lock::None).await.expect("not in the way").states.len(), 1);
    let error = store::load(&second, &[order], Lock::ForUpdate).await.expect_err("locked out");
    assert_eq!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE));
}

/// As after a hand that is not ours: the order that has it is told of, and the others are loaded.
#[tokio::test]
async fn a_row_that_holds_what_none_may_is_told_of_and_hides_no_other() {
    let pool = database().await;
    let client = pool.get().await.expect("a connection");
    let (sound, broken) = (Uuid::now_v7(), Uuid::now_v7());
    client
        .batch_execute(&format!(
            "alter table payments drop constraint payments_state_check;
             insert into payments (order_id, state, order_version, updated_at)
             values ('{sound}', 'closed', 1, now()), ('{broken}', 'mislaid', 1, now())"
        ))
        .await
        .expect("written");
    let loaded = store::load(&client, &[sound, broken], Lock::ForUpdate).await.expect("loaded");
    assert!(loaded.states.contains_key(&sound) && loaded.unreadable.contains_key(&broken));
}
