//! Connections to PostgreSQL that end what they began in time, and go back to their pool only when nothing speaks against it.
//!
//! PostgreSQL's own limits are set in each transaction, so that no pooler between can drop them, and are sent along with the
//! first statement, so that they cost no round trip. What a server does not end (it hangs, it is gone, a pooler lost it) ends by
//! our clock: then the outcome is not known, and the connection is closed.

use std::{
    future::Future,
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use deadpool_postgres::{Client, Pool, PoolError};
use futures_util::FutureExt;
use thiserror::Error;
use tokio_postgres::Error;

pub use crate::sql::Soundness;
use crate::{failure::Cause, sql};

/// How long a transaction may take.
///
/// ```
/// use std::time::Duration;
///
/// use actors::connection::Limits;
///
/// let limits = Limits { statement: Duration::from_secs(2), ..Limits::default() };
/// assert!(limits.set().starts_with("SET LOCAL statement_timeout = 2000; SET LOCAL lock_timeout = 5000"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One statement: `statement_timeout`.
    pub statement: Duration,
    /// Waiting for one lock: `lock_timeout`.
    pub lock: Duration,
    /// Between two statements: `idle_in_transaction_session_timeout`. A frozen owner holds its successor up no longer.
    pub idle: Duration,
    /// All of it, by our own clock.
    pub whole: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let statement = Duration::from_secs(5);
        Self { statement, lock: statement, idle: statement, whole: Duration::from_secs(8) }
    }
}

impl Limits {
    /// The statements that set PostgreSQL's part of it for the transaction at hand. Poll it before the transaction's first
    /// statement, and both together: then it costs no round trip.
    pub fn set(&self) -> String {
        let Self { statement, lock, idle, .. } = self;
        format!(
            "SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; \
             SET LOCAL idle_in_transaction_session_timeout = {}",
            statement.as_millis(),
            lock.as_millis(),
            idle.as_millis()
        )
    }

    /// Waits for `work` as long as a transaction may take.
    ///
    /// # Errors
    /// [`Trouble::NoAnswer`].
    pub async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Trouble> {
        tokio::time::timeout(self.whole, work).await.map_err(|_| Trouble::NoAnswer(self.whole))
    }
}

/// Why PostgreSQL did not do what it was asked for.
#[derive(Debug, Error)]
pub enum Trouble {
    /// There is no connection.
    #[error("no connection to PostgreSQL")]
    NoConnection(#[source] PoolError),
    /// There was no answer in time: it is not known whether it was done.
    #[error("PostgreSQL did not answer within {} ms", .0.as_millis())]
    NoAnswer(Duration),
    /// It said no.
    #[error(transparent)]
    Refused(#[from] Error),
}

impl Trouble {
    /// As it is shown.
    pub fn cause(&self) -> Cause {
        match self {
            Self::NoConnection(error) => Cause::from_error("postgresql-pool", error),
            Self::NoAnswer(_) => Cause::new(sql::NO_ANSWER, self.to_string()),
            Self::Refused(error) => sql::cause(error),
        }
    }

    /// Whether the connection alone is to blame, as far as that can be told: asking once more, on another one, may help.
    pub fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Refused(error) => sql::soundness(error) != Soundness::Sound,
            _ => false,
        }
    }
}

/// A connection on loan. Dropped, it is closed, unless its last use has ended well or with an error that says nothing against it.
///
/// ```no_run
/// use actors::connection::{Connection, Limits, Trouble};
///
/// # async fn example(pool: deadpool_postgres::Pool) -> Result<(), Trouble> {
/// let connection = Connection::get(&pool).await?;
/// let insert = connection.execute("INSERT INTO clicks (name) VALUES ($1)", &[&"alice"]);
/// let rows: u64 = connection.write(&Limits::default(), insert).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Connection {
    client: Option<Client>,
    pool: Pool,
    sound: AtomicBool,
}

impl Connection {
    /// Takes one out of `pool`.
    ///
    /// # Errors
    /// [`Trouble::NoConnection`].
    pub async fn get(pool: &Pool) -> Result<Self, Trouble> {
        let client = pool.get().await.map_err(Trouble::NoConnection)?;
        Ok(Self { client: Some(client), pool: pool.clone(), sound: AtomicBool::new(true) })
    }

    /// Runs `work`, statements that only read, on this connection, in a transaction with limits of which nobody waits for the
    /// end.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn read<T>(
        &self,
        limits: &Limits,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Trouble> {
        self.limited(limits, work, false).await
    }

    /// Runs `work` on this connection in a transaction with limits.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn write<T>(
        &self,
        limits: &Limits,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Trouble> {
        self.limited(limits, work, true).await
    }

    async fn limited<T>(
        &self,
        limits: &Limits,
        work: impl Future<Output = Result<T, Error>>,
        wait: bool,
    ) -> Result<T, Trouble> {
        let client: &Client = self;
        let begin = format!("BEGIN; {}", limits.set());
        let all = async {
            let (begun, worked) = tokio::join!(biased; client.batch_execute(&begin), work);
            begun?;
            let ending = client.batch_execute(if worked.is_ok() { "COMMIT" } else { "ROLLBACK" });
            if wait && worked.is_ok() {
                ending.await?;
            } else if let Some(ended) = ending.now_or_never() {
                // Sent, and its answer left to the connection; it has one already only when it is broken.
                ended?;
            }
            worked
        };
        self.sound.store(false, Ordering::Relaxed);
        let ended = limits.within(all).await?;
        self.settle(&ended);
        ended.map_err(Trouble::Refused)
    }

    fn judge(&self, error: &impl Verdict) {
        let verdict = error.verdict();
        if verdict == Soundness::Stale {
            // All of them have prepared the same statements against the tables as they were.
            self.pool.manager().statement_caches.clear();
        }
        self.sound.store(verdict == Soundness::Sound, Ordering::Relaxed);
    }

    /// For a transaction of the caller's own: until [`Connection::settle`] the connection is closed when it is dropped.
    pub fn begin(&mut self) -> &mut Client {
        *self.sound.get_mut() = false;
        self
    }

    /// What was begun has ended so.
    pub fn settle<T, E: Verdict>(&self, ended: &Result<T, E>) {
        match ended {
            Ok(_) => self.sound.store(true, Ordering::Relaxed),
            Err(error) => self.judge(error),
        }
    }
}

/// An error that says something of the connection it came over.
pub trait Verdict {
    /// What it says.
    fn verdict(&self) -> Soundness;
}

impl Verdict for Error {
    fn verdict(&self) -> Soundness {
        sql::soundness(self)
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client.as_ref().expect("taken in drop alone")
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Client {
        self.client.as_mut().expect("taken in drop alone")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(client) = self.client.take().filter(|_| !self.sound.load(Ordering::Relaxed)) {
            // Closes it at once: what PostgreSQL still does on it is rolled back as soon as it notices.
            drop(Client::take(client));
        }
    }
}
