//! A database for each test. Behind the feature `testing`, which only tests switch on.

use deadpool_postgres::Pool;
use refinery::Runner;
use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::database::{Database, TlsFiles};

/// URL of a new and empty database, on the server that `TEST_POSTGRES_URL` names. It stays behind, for a look at it; the server
/// it is on is thrown away.
///
/// # Panics
/// When there is no such server, or its user may not create databases.
pub async fn empty_database(service: &str) -> String {
    let server = std::env::var("TEST_POSTGRES_URL").expect(
        "TEST_POSTGRES_URL is not set: it has to name a PostgreSQL server and a user who may create databases, as `./dev \
         test` provides",
    );
    let (admin, connection) =
        tokio_postgres::connect(&server, NoTls).await.expect("TEST_POSTGRES_URL leads to a server");
    let connection = tokio::spawn(connection);
    let name = format!("test_{service}_{}", Uuid::new_v4().simple());
    admin.batch_execute(&format!("create database {name}")).await.expect("may create databases");
    drop(admin);
    connection.await.expect("no panic").expect("closed in order");
    with_database(&server, &name)
}

/// The database at `url`, as a service reaches it.
///
/// # Panics
/// When `url` is none.
pub fn reach(url: &str) -> Database {
    Database::new(url, "test", &TlsFiles::default()).expect("a sound URL")
}

/// A pool of a new database, migrated as the service does it.
///
/// # Panics
/// As [`empty_database`] does, and when the migrations fail.
pub async fn migrated(service: &str, own: Runner) -> Pool {
    let database = reach(&empty_database(service).await);
    database.migrate(own).await.expect("migrates");
    database.pool(8).expect("a pool")
}

/// The same server and user, another database.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) = match url.split_once('?') {
        Some((base, query)) => (base, format!("?{query}")),
        None => (url, String::new()),
    };
    let authority_ends = base.rfind('/').filter(|at| !base[..*at].ends_with('/')).unwrap_or(base.len());
    format!("{}/{name}{query}", &base[..authority_ends])
}

#[cfg(test)]
mod tests;
