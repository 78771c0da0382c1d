//! Outbox rows of a process that owns no partition: an HTTP or timer instance.
//!
//! An instance is a row with an epoch and an expiry that its process keeps moving. Every write locks that row against a
//! takeover. When a process dies its row expires, and any other instance of the same prefix takes the lane over,
//! publishes what is left and removes it. An instance that was fenced takes a new name.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::{Pool, Transaction};
use tokio::{
    sync::{Mutex, Notify},
    task::JoinHandle,
};
use uuid::Uuid;

use super::{
    heir::inherit,
    instance::{HEARTBEAT, Instance, LEASE_SECONDS, keep},
    publisher::Publisher,
    relay::Relay,
    rows::{MAX_RECORD, Row, insert},
    track::Track,
};
use crate::{
    Backlog, Cause,
    connection::{Connection, Limits, Trouble},
    event::Emit,
    trace,
};

/// Writes outbox rows for a process that owns no partition, such as an HTTP instance, and publishes them after commit.
///
/// ```no_run
/// use std::error::Error;
///
/// use actors::{Emit, Headers, KafkaSettings, OutboxWriter, Publisher};
///
/// # async fn example(pool: deadpool_postgres::Pool, kafka: KafkaSettings) -> Result<(), Box<dyn Error>> {
/// let publisher = Publisher::start(&kafka)?;
/// let mut writer = OutboxWriter::open(pool.clone(), publisher, "clicks-http").await?;
///
/// let mut client = pool.get().await?;
/// let tx = client.transaction().await?;
/// tx.execute("INSERT INTO clicks (name) VALUES ($1)", &[&"alice"]).await?;
/// let emit = Emit {
///     topic: "clicks".into(),
///     key: Some(b"alice".to_vec()),
///     value: Some(b"1".to_vec()),
///     headers: Headers::new(),
/// };
/// let written = writer.write(&tx, vec![emit]).await?;
/// match tx.commit().await {
///     Ok(()) => writer.publish(written),
///     // It may have happened all the same.
///     Err(_) => writer.resync().await?,
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct OutboxWriter {
    instance: Arc<Instance>,
    /// Number of the next row. Moves when rows are published, so a rollback leaves no hole.
    next_seq: i64,
    keeper: JoinHandle<()>,
    /// Publishes what dead instances left.
    heir: JoinHandle<()>,
}

/// Rows written in a transaction that is not committed yet.
#[derive(Debug)]
#[must_use = "publish after the commit, or the rows wait until the instance is resynchronised"]
pub struct Written {
    rows: Vec<Row>,
}

/// A row could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another process took this instance over: roll back, open a new one, try again.
    #[error("this outbox instance was taken over")]
    Fenced,
    /// One record is larger than the topic takes.
    #[error("record for {topic} has {size} bytes, more than the {limit} allowed")]
    TooLarge {
        /// The destination.
        topic: String,
        /// Bytes of key, value and headers.
        size: usize,
        /// Bytes allowed: [`MAX_RECORD`].
        limit: usize,
    },
    /// PostgreSQL refused or could not be reached.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
}

impl OutboxWriter {
    /// Opens a new instance named `{prefix}/{uuid}`, keeps its lease alive in the background, and takes over rows that
    /// dead instances of `prefix` left.
    ///
    /// # Errors
    /// When PostgreSQL cannot be reached or refuses.
    pub async fn open(pool: Pool, publisher: Publisher, prefix: &str) -> Result<Self, Cause> {
        let lane = format!("{prefix}/{}", Uuid::now_v7());
        let statement = "INSERT INTO outbox_instance (lane, epoch, expires_at)
                         VALUES ($1, 1, now() + make_interval(secs => $2))";
        let connection = Connection::get(&pool).await.map_err(|trouble| trouble.cause())?;
        let open = async { connection.execute(statement, &[&lane, &LEASE_SECONDS]).await };
        connection.write(&Limits::default(), open).await.map_err(|trouble| trouble.cause())?;
        let track = Arc::new(Track::new(true));
        publisher.is_written_by(&lane, &track);
        let relay = Relay::fresh(lane.clone(), publisher.clone(), track.clone());
        let instance = Arc::new(Instance {
            track,
            pool,
            publisher,
            prefix: prefix.to_owned(),
            lane,
            relay: Mutex::new(relay),
            missed: AtomicBool::new(false),
            wake: Notify::new(),
            fenced: AtomicBool::new(false),
        });
        let keeper = tokio::spawn(keep(instance.clone()));
        let heir = tokio::spawn(inherit(instance.clone()));
        Ok(Self { instance, next_seq: 1, keeper, heir })
    }

    /// Writes rows in the caller's transaction, in order. Once per transaction: the rows' numbers are taken when they are
    /// published.
    ///
    /// # Errors
    /// See [`WriteError`]; the transaction is to be rolled back.
    pub async fn write(&mut self, tx: &Transaction<'_>, mut emits: Vec<Emit>) -> Result<Written, WriteError> {
        if self.instance.fenced.load(Ordering::Acquire) {
            return Err(WriteError::Fenced);
        }
        if let Some(emit) = emits.iter().find(|emit| emit.size() > MAX_RECORD) {
            return Err(WriteError::TooLarge {
                topic: emit.topic.clone(),
                size: emit.size(),
                limit: MAX_RECORD,
            });
        }
        let lease = tx
            .prepare_cached("SELECT 1 FROM outbox_instance WHERE lane = $1 AND epoch = 1 FOR SHARE")
            .await?;
        if tx.query_opt(&lease, &[&self.instance.lane]).await?.is_none() {
            self.instance.fenced.store(true, Ordering::Release);
            return Err(WriteError::Fenced);
        }
        emits.iter_mut().for_each(|emit| trace::written(emit, None));
        let rows: Vec<Row> = (self.next_seq..).zip(emits).map(|(seq, emit)| Row { seq, emit }).collect();
        insert(tx, &self.instance.lane, &rows).await?;
        failpoint!(WriterWritten);
        Ok(Written { rows })
    }

    /// Publishes what was written, once its transaction has committed. Does not wait for Kafka.
    pub fn publish(&mut self, written: Written) {
        failpoint!(WriterCommitted);
        let Some(last) = written.rows.last() else { return };
        self.next_seq = last.seq + 1;
        match self.instance.relay.try_lock() {
            Ok(mut relay) => relay.publish(&written.rows),
            // The keeper is reading the table: these rows come after those it finds.
            Err(_) => {
                let rows = written.rows.iter().map(|row| (row.seq, row.emit.topic.as_str()));
                self.instance.track.written(rows);
                self.instance.wake.notify_one();
            }
        }
    }

    /// After a commit whose outcome is unknown: finds out from the tables, and publishes if it happened.
    ///
    /// # Errors
    /// When PostgreSQL cannot be reached: the outcome stays unknown, ask again.
    pub async fn resync(&mut self) -> Result<(), Cause> {
        let read = async {
            let connection = Connection::get(&self.instance.pool).await?;
            let client = &*connection;
            let last = async {
                // Waits for the unknown transaction to end: it holds this row.
                let hold = "SELECT 1 FROM outbox_instance WHERE lane = $1 FOR UPDATE";
                client.execute(hold, &[&self.instance.lane]).await?;
                let last = "SELECT max(seq) FROM outbox WHERE lane = $1";
                client.query_one(last, &[&self.instance.lane]).await?.try_get(0)
            };
            connection.write(&Limits::default(), last).await
        };
        let last: Option<i64> = read.await.map_err(|trouble: Trouble| trouble.cause())?;
        // The rows in question may have been published and deleted meanwhile: their numbers are taken all the same.
        let taken = self.instance.relay.lock().await.highest().max(last.unwrap_or(0));
        if taken >= self.next_seq {
            self.next_seq = taken + 1;
            self.instance.missed();
        }
        Ok(())
    }

    /// Ends when whoever keeps the instance has ended otherwise than by a takeover, which the next write finds out: a bug.
    pub async fn ended(&self) {
        while !self.keeper.is_finished() || self.instance.fenced.load(Ordering::Acquire) {
            tokio::time::sleep(HEARTBEAT).await;
        }
    }

    /// What Kafka has not acknowledged yet, whether it was sent or still waits in the table.
    pub fn backlog(&self) -> Backlog {
        if self.instance.fenced.load(Ordering::Acquire) {
            // Its rows are another's now, and the next write has to find that out.
            return Backlog::default();
        }
        let known = self.instance.track.backlog();
        let unknown = usize::try_from(self.next_seq - 1 - self.instance.track.highest()).unwrap_or(0);
        Backlog { rows: known.rows + unknown, ..known }
    }

    /// Waits for Kafka to acknowledge everything, at most `limit`; true when it did. What remains is published by another
    /// instance.
    pub async fn close(self, limit: Duration) -> bool {
        self.keeper.abort();
        self.heir.abort();
        let close = async {
            let Ok(mut connection) = Connection::get(&self.instance.pool).await else { return false };
            let closed = self.instance.close(connection.begin(), limit).await;
            connection.settle(&closed);
            closed.unwrap_or(false)
        };
        let done = tokio::time::timeout(limit, close).await.unwrap_or(false);
        if !done {
            tracing::warn!(
                lane = self.instance.lane,
                "closed before Kafka acknowledged every row; another instance publishes them"
            );
        }
        done
    }
}

impl Drop for OutboxWriter {
    fn drop(&mut self) {
        self.keeper.abort();
        self.heir.abort();
    }
}
