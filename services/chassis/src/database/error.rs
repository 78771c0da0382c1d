//! What can be wrong with the database.

use std::time::Duration;

use thiserror::Error;

use super::tls::TlsError;

/// The database cannot be used.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The URL is malformed.
    #[error("the database URL is malformed, expected postgres://user:password@host:port/name")]
    Url(#[source] tokio_postgres::Error),
    /// What it or the settings say of TLS cannot be done.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The pool's settings were refused.
    #[error("cannot build the connection pool")]
    Pool(#[from] deadpool_postgres::BuildError),
    /// There would not be enough connections for each use.
    #[error(
        "DATABASE_POOL is {connections}, too few for BATCH_TRANSACTIONS of {transactions} beside requests and housekeeping: at \
         least {least} are needed"
    )]
    TooFew {
        /// Connections that may be opened.
        connections: usize,
        /// Batch transactions that may run at a time.
        transactions: usize,
        /// How many connections are enough.
        least: usize,
    },
    /// The server refused us, we do not trust it, or it could not be reached for a minute.
    #[error(
        "cannot connect to the database: check that it runs, its name, user and password, and its sslmode and certificates"
    )]
    Connect(#[source] tokio_postgres::Error),
    /// The lock that keeps concurrent starts apart could not be taken.
    #[error("cannot take the migration lock")]
    Lock(#[source] tokio_postgres::Error),
    /// A migration failed; what it did is rolled back.
    #[error("cannot apply the migrations of {history}")]
    Migrate {
        /// The history table.
        history: &'static str,
        /// What failed.
        source: refinery::Error,
    },
    /// The server, or a pooler before it, does not keep to what the delivery protocol rests on.
    #[error("the database cannot be used as it is: {0}")]
    Unfit(String),
    /// Another process holds the lock, or a migration is too slow.
    #[error("migrations did not finish within {} s", .0.as_secs())]
    TimedOut(Duration),
}
