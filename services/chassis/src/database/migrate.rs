//! Migrations: the runtime's, then the service's own, one process after the other.

use std::time::{Duration, Instant};

use refinery::Runner;
use tokio_postgres::Client;

use super::{error::DatabaseError, reach::Database};

/// History of the service's own migrations.
const SERVICE_HISTORY: &str = "service_migrations";
/// Names our advisory lock: "backburn" in ASCII.
const MIGRATION_LOCK: i64 = 0x6261_636b_6275_726e;
/// A migration that takes longer than this ends the start.
const MIGRATION_LIMIT: Duration = Duration::from_secs(300);
const RETRY_EVERY: Duration = Duration::from_millis(100);
const LOG_EVERY: Duration = Duration::from_secs(5);

impl Database {
    /// Brings the database up to date: the runtime's tables, then the service's own. Waits up to a minute for PostgreSQL
    /// to answer. Any number of processes may do this at the same time: an advisory lock lets one through after the other.
    ///
    /// # Errors
    /// When the database cannot be used, or a migration fails.
    pub async fn migrate(&self, own: Runner) -> Result<(), DatabaseError> {
        let work = async {
            let mut locking = self.client().await?;
            // Held by a transaction of its own, which ends with it, however this ends: a lock of the session would stay with a
            // pooler's connection.
            let lock = take_lock(&mut locking).await.map_err(DatabaseError::Lock)?;
            let mut client = self.client().await?;
            apply(&mut client, actors::migrations(), actors::HISTORY).await?;
            // During a deploy an old version starts beside a new one: it finds migrations that it does not know.
            let mut own = own.set_abort_missing(false);
            own.set_migration_table_name(SERVICE_HISTORY);
            apply(&mut client, own, SERVICE_HISTORY).await?;
            lock.rollback().await.map_err(DatabaseError::Lock)
        };
        tokio::time::timeout(MIGRATION_LIMIT, work)
            .await
            .map_err(|_| DatabaseError::TimedOut(MIGRATION_LIMIT))?
    }
}

/// Waits for the lock that lets one process migrate after the other.
async fn take_lock(client: &mut Client) -> Result<tokio_postgres::Transaction<'_>, tokio_postgres::Error> {
    let tx = client.transaction().await?;
    // It idles for as long as the migrations take.
    tx.batch_execute("set local idle_in_transaction_session_timeout = 0; set local lock_timeout = 0").await?;
    let mut logged = Instant::now();
    loop {
        let taken = tx.query_one("select pg_try_advisory_xact_lock($1)", &[&MIGRATION_LOCK]).await?;
        if taken.get(0) {
            return Ok(tx);
        }
        if logged.elapsed() > LOG_EVERY {
            logged = Instant::now();
            tracing::warn!(
                "waiting for another process to end its migrations (the advisory lock of pg_locks)"
            );
        }
        tokio::time::sleep(RETRY_EVERY).await;
    }
}

async fn apply(client: &mut Client, runner: Runner, history: &'static str) -> Result<(), DatabaseError> {
    let report =
        runner.run_async(client).await.map_err(|source| DatabaseError::Migrate { history, source })?;
    for migration in report.applied_migrations() {
        tracing::info!(history, migration = %migration, "migration applied");
    }
    Ok(())
}
