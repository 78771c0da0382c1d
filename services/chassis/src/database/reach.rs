//! Where the database is, and connections to it.

use std::{
    error::Error as _,
    time::{Duration, Instant},
};

use actors::connection::Limits;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::{Client, Config, config::SslMode};

use super::{
    error::DatabaseError,
    fitness,
    tls::{self, TlsFiles},
};

/// A start gives up on a database that has not answered for this long.
const START_LIMIT: Duration = Duration::from_secs(60);
const RETRY_EVERY: Duration = Duration::from_millis(500);
const LOG_EVERY: Duration = Duration::from_secs(5);

/// A service's database: where it is and how it is reached.
#[derive(Clone)]
pub struct Database {
    config: Config,
    tls: MakeTlsConnector,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Database {
    /// The database at `url`, for a process that calls itself `application` in `pg_stat_activity`. Connections are
    /// protected as the URL's `sslmode` says; without one they are plain, or, if `files` names any, as by `verify-full`.
    /// PostgreSQL need not be reachable yet.
    ///
    /// # Errors
    /// When the URL is malformed, or a certificate cannot be used.
    pub fn new(url: &str, application: &str, files: &TlsFiles) -> Result<Self, DatabaseError> {
        let (url, mode) = tls::take_mode(url)?;
        let mut config: Config = url.parse().map_err(DatabaseError::Url)?;
        // In the form of name=value pairs it is still there.
        let mode = mode.or(match config.get_ssl_mode() {
            SslMode::Disable => Some(tls::Mode::Disable),
            SslMode::Require => Some(tls::Mode::Require),
            _ => None,
        });
        let (mode, tls) = tls::connector(mode, files)?;
        config
            .ssl_mode(mode)
            .application_name(application)
            .connect_timeout(Duration::from_secs(3))
            .tcp_user_timeout(Duration::from_secs(10))
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(3))
            .keepalives_retries(3);
        Ok(Self { config, tls })
    }

    /// A pool of at most `size` connections. Waiting for a free connection and opening one are bounded; how long a transaction
    /// may take is set in each ([`actors::connection`]), so that no pooler between can lose it.
    ///
    /// # Errors
    /// When the pool's settings are refused.
    pub fn pool(&self, size: usize) -> Result<Pool, DatabaseError> {
        self.pool_with(size, Duration::from_secs(5))
    }

    /// The same, in which nobody waits longer than `wait` for a connection to be free.
    pub(super) fn pool_with(&self, size: usize, wait: Duration) -> Result<Pool, DatabaseError> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(self.config.clone(), self.tls.clone(), recycling);
        let timeouts = Timeouts {
            wait: Some(wait),
            create: Some(Duration::from_secs(5)),
            recycle: Some(Duration::from_secs(5)),
        };
        Ok(Pool::builder(manager).max_size(size).timeouts(timeouts).runtime(Runtime::Tokio1).build()?)
    }

    /// Waits, up to a minute, for PostgreSQL to answer.
    ///
    /// # Errors
    /// [`DatabaseError::Connect`].
    pub async fn reachable(&self) -> Result<(), DatabaseError> {
        self.client().await.map(drop)
    }

    /// Asks, over `pool`, whether the server and whatever is between keep to what the delivery protocol rests on: limits in a
    /// transaction, prepared statements, what is committed stays.
    ///
    /// # Errors
    /// [`DatabaseError::Unfit`], in words.
    pub async fn check(pool: &Pool, limits: &Limits) -> Result<(), DatabaseError> {
        fitness::check(pool, limits).await.map_err(DatabaseError::Unfit)
    }

    /// A connection of its own. Waits up to a minute for PostgreSQL to answer.
    ///
    /// # Errors
    /// [`DatabaseError::Connect`].
    pub async fn client(&self) -> Result<Client, DatabaseError> {
        let started = Instant::now();
        let mut logged: Option<Instant> = None;
        loop {
            let error = match self.config.connect(self.tls.clone()).await {
                Ok((client, connection)) => {
                    tokio::spawn(async move {
                        if let Err(error) = connection.await {
                            tracing::warn!(%error, "a connection to PostgreSQL ended");
                        }
                    });
                    return Ok(client);
                }
                Err(error) if !may_come_up(&error) || started.elapsed() > START_LIMIT => {
                    return Err(DatabaseError::Connect(error));
                }
                Err(error) => error,
            };
            if logged.is_none_or(|at| at.elapsed() > LOG_EVERY) {
                logged = Some(Instant::now());
                let error = actors::Cause::from_error("postgres", &error).message;
                tracing::warn!(error, waited_s = started.elapsed().as_secs(), "waiting for PostgreSQL");
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }
}

/// Whether the server may be just starting. A wrong name or password does not get better by waiting, nor does a
/// certificate.
fn may_come_up(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        None => error.is_closed() || of_the_network(error),
        Some(state) => ["08", "53", "57"].contains(&&state.code()[..2]),
    }
}

fn of_the_network(error: &tokio_postgres::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error.is::<std::io::Error>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests;
