//! The databases of the tests.

use deadpool_postgres::{Manager, Pool};

use super::env;

/// A pool on a toy's database.
pub(crate) fn pool(name: &str) -> Pool {
    let mut config: tokio_postgres::Config = env("TEST_POSTGRES_URL").parse().expect("TEST_POSTGRES_URL");
    config.dbname(name);
    Pool::builder(Manager::new(config, tokio_postgres::NoTls)).max_size(8).build().expect("pool")
}

/// A connection that may make databases, and close them.
pub(crate) async fn admin() -> tokio_postgres::Client {
    let admin: tokio_postgres::Config = env("TEST_POSTGRES_URL").parse().expect("TEST_POSTGRES_URL");
    let (client, connection) = admin.connect(tokio_postgres::NoTls).await.expect("PostgreSQL");
    tokio::spawn(connection);
    client
}

/// A new one, with the runtime's tables and the toy's.
pub(super) async fn create_database(name: &str) -> Pool {
    let client = admin().await;
    // A name of this function's caller, made of hex digits.
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("database");
    let pool = pool(name);
    let mut client = pool.get().await.expect("connection");
    actors::migrations().run_async(&mut **client).await.expect("runtime tables");
    client
        .batch_execute(
            "CREATE TABLE lists (key text PRIMARY KEY, list bigint[] NOT NULL, CHECK (NOT 666 = ANY (list)));
             CREATE TABLE written (n bigint PRIMARY KEY)",
        )
        .await
        .expect("the toy's tables");
    pool
}
