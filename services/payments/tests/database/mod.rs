//! A database of its own for each test, migrated as the service does it.

use chassis::database::TlsFiles;
use deadpool_postgres::{Object, Pool};
use tokio_postgres::{Config, NoTls};
use uuid::Uuid;

mod schema {
    refinery::embed_migrations!("../../migrations/payments");
}

/// A database that nobody else uses. It stays behind, for a look at it; the server it is on is thrown away.
pub(crate) struct Database {
    pool: Pool,
}

impl Database {
    /// Creates and migrates it.
    pub(crate) async fn create() -> Self {
        let server = std::env::var("TEST_POSTGRES_URL").expect(
            "TEST_POSTGRES_URL is not set: it has to name a PostgreSQL server and a user who may create databases, \
             as in postgres://postgres@localhost:5432/postgres",
        );
        let name = format!("payments_test_{}", Uuid::new_v4().simple());
        let (admin, connection) =
            tokio_postgres::connect(&server, NoTls).await.expect("TEST_POSTGRES_URL leads to a server");
        let connection = tokio::spawn(connection);
        admin.batch_execute(&format!("create database {name}")).await.expect("may create databases");
        drop(admin);
        connection.await.expect("no panic").expect("closed in order");
        let url = with_database(&server, &name);
        let database =
            chassis::database::Database::new(&url, "test", &TlsFiles::default()).expect("a sound URL");
        database.migrate(schema::migrations::runner()).await.expect("migrates");
        Self { pool: database.pool(4).expect("a pool") }
    }

    /// A connection of its own.
    pub(crate) async fn client(&self) -> Object {
        self.pool.get().await.expect("a connection")
    }
}

/// The same server and user, another database.
fn with_database(url: &str, name: &str) -> String {
    let config: Config = url.parse().expect("TEST_POSTGRES_URL is a URL");
    let old = config.get_dbname().expect("TEST_POSTGRES_URL names a database");
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let base = base.strip_suffix(old).expect("the path of TEST_POSTGRES_URL is its database");
    query.map_or_else(|| format!("{base}{name}"), |query| format!("{base}{name}?{query}"))
}
