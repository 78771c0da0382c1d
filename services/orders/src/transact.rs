//! Transactions of this process that belong to no partition: what they change and the events that say so, together or not at all.

use actors::{
    Backlog, Cause, Emit, OutboxWriter, Publisher, WriteError, Written,
    connection::{Connection, Limits, Soundness, Verdict},
};
use deadpool_postgres::{Client, Pool, Transaction};
use thiserror::Error;
use tokio_postgres::Error;

/// Why a transaction was not committed.
#[derive(Debug, Error)]
pub enum Failed {
    /// Nothing was done: another process has taken the outbox instance over.
    #[error("the outbox instance was taken over")]
    Fenced,
    /// Nothing was done.
    #[error("rolled back: {0}")]
    RolledBack(Cause),
    /// It may have been done. [`Transactor::resync`] waits until it has an outcome.
    #[error("the outcome of the commit is unknown: {0}")]
    Unknown(Cause),
}

impl Verdict for Failed {
    fn verdict(&self) -> Soundness {
        match self {
            Self::Fenced => Soundness::Sound,
            Self::RolledBack(_) | Self::Unknown(_) => Soundness::Broken,
        }
    }
}

fn rolled_back(error: Error) -> Failed {
    Failed::RolledBack(Cause::from_error("postgres", &error))
}

/// What a transaction does.
pub trait Work: Send {
    /// What comes of it.
    type Done: Send;

    /// Does it, and gives the events that say what was done. Called a second time where the outbox instance turns out to be
    /// another's: what the first time has left in `self` is of no use then.
    fn run(
        &mut self,
        tx: &Transaction<'_>,
    ) -> impl Future<Output = Result<(Self::Done, Vec<Emit>), Error>> + Send;
}

/// Runs them, one after the other, and publishes what they have written.
#[derive(Debug)]
pub struct Transactor {
    pool: Pool,
    publisher: Publisher,
    prefix: &'static str,
    writer: OutboxWriter,
    /// A commit's outcome was never found out: the writer must look before it writes again.
    unsure: bool,
}

impl Transactor {
    /// Opens an outbox instance, whose lane's name begins with `prefix`.
    ///
    /// # Errors
    /// When PostgreSQL cannot be reached.
    pub async fn open(pool: Pool, publisher: Publisher, prefix: &'static str) -> Result<Self, Cause> {
        let writer = OutboxWriter::open(pool.clone(), publisher.clone(), prefix).await?;
        Ok(Self { pool, publisher, prefix, writer, unsure: false })
    }

    /// The pool its connections are from.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What Kafka has not acknowledged yet.
    pub fn backlog(&self) -> Backlog {
        self.writer.backlog()
    }

    /// Ends when nobody keeps the outbox instance any more: a bug.
    pub async fn ended(&self) {
        self.writer.ended().await;
    }

    /// Whether something may have been committed whose events were not published yet.
    pub fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// Waits for the transaction in question to end, and publishes what it has written if it happened.
    ///
    /// # Errors
    /// When PostgreSQL cannot be reached: ask again.
    pub async fn resync(&mut self) -> Result<(), Cause> {
        self.writer.resync().await?;
        self.unsure = false;
        Ok(())
    }

    /// Waits, at most `limit`, for Kafka to have everything. True when it has; else another instance will publish the rest.
    pub async fn close(self, limit: std::time::Duration) -> bool {
        self.writer.close(limit).await
    }

    /// Does `work`, and publishes its events after the commit. Where there are none, there is nothing to commit either.
    ///
    /// # Errors
    /// See [`Failed`].
    pub async fn commit<W: Work>(&mut self, work: &mut W) -> Result<W::Done, Failed> {
        match self.attempt(work).await {
            Err(Failed::Fenced) => {
                tracing::warn!("outbox instance taken over: opening a new one");
                let opened = OutboxWriter::open(self.pool.clone(), self.publisher.clone(), self.prefix).await;
                self.writer = opened.map_err(Failed::RolledBack)?;
                self.attempt(work).await
            }
            ended => ended,
        }
    }

    async fn attempt<W: Work>(&mut self, work: &mut W) -> Result<W::Done, Failed> {
        if self.unsure {
            self.resync().await.map_err(Failed::RolledBack)?;
        }
        let connection = Connection::get(&self.pool).await;
        let mut connection = connection.map_err(|trouble| Failed::RolledBack(trouble.cause()))?;
        let ended = Limits::default().within(transact(connection.begin(), &mut self.writer, work)).await;
        let ended = ended.unwrap_or_else(|trouble| Err(Failed::Unknown(trouble.cause())));
        connection.settle(&ended);
        self.unsure |= matches!(ended, Err(Failed::Unknown(_)));
        let (done, written) = ended?;
        if let Some(written) = written {
            self.writer.publish(written);
        }
        Ok(done)
    }
}

async fn transact<W: Work>(
    client: &mut Client,
    writer: &mut OutboxWriter,
    work: &mut W,
) -> Result<(W::Done, Option<Written>), Failed> {
    let tx = client.transaction().await.map_err(rolled_back)?;
    // One round trip with the first statement: the server runs one after the other.
    let limits = Limits::default().set();
    let ((), (done, emits)) =
        tokio::try_join!(biased; tx.batch_execute(&limits), work.run(&tx)).map_err(rolled_back)?;
    if emits.is_empty() {
        tx.rollback().await.map_err(rolled_back)?;
        return Ok((done, None));
    }
    let written = writer.write(&tx, emits).await.map_err(|error| match error {
        WriteError::Fenced => Failed::Fenced,
        WriteError::TooLarge { .. } => Failed::RolledBack(Cause::from_error("too-large", &error)),
        WriteError::Postgres(error) => rolled_back(error),
    })?;
    tx.commit().await.map_err(|error| Failed::Unknown(Cause::from_error("commit", &error)))?;
    Ok((done, Some(written)))
}
