//! The orders service against a real PostgreSQL.

mod closing;
mod following;
mod found;
mod idempotency;
mod intake;
mod store;
mod support;

use chassis::{
    database::DatabaseError,
    testing::{empty_database, reach},
};

/// Two processes that start at the same moment on an empty database.
#[tokio::test]
async fn concurrent_starts_migrate_once_and_a_later_one_finds_nothing_to_do() {
    let database = reach(&empty_database("orders").await);
    let start = || database.migrate(orders::migrations());
    let (one, other) = tokio::join!(start(), start());
    one.expect("the one migrates");
    other.expect("the other waits for it");
    start().await.expect("nothing to do");
    let pool = database.pool(1).expect("a pool");
    let client = pool.get().await.expect("a connection");
    for history in ["runtime_migrations", "service_migrations"] {
        let versions = format!("select array_agg(version order by version) from {history}");
        let versions: Vec<i32> = client.query_one(&versions, &[]).await.expect("a history").get(0);
        assert!(!versions.is_empty() && versions.is_sorted_by(|a, b| a < b), "{history}: {versions:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_or_name_ends_the_start_at_once() {
    let url = empty_database("orders").await;
    let wrong = url.replace("test_orders_", "no_such_");
    let error = reach(&wrong).migrate(orders::migrations()).await.expect_err("no such database");
    assert!(matches!(error, DatabaseError::Connect(_)), "{error:?}");
}
