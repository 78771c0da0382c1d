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
    time::Instant,
};
use uuid::Uuid;

use super::{
    Relay, Row, Track,
    rows::{MAX_RECORD, Span, delete, insert},
};
use crate::{Backlog, Cause, handler::Emit, publisher::Publisher, sql};

/// How long an instance is believed alive without a sign of it.
const LEASE_SECONDS: f64 = 6.0;
const HEARTBEAT: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(200);
/// Acknowledged rows are deleted this often.
const DELETE: Duration = Duration::from_millis(500);

/// Writes outbox rows for a process that owns no partition, such as an HTTP instance, and publishes them after commit.
#[derive(Debug)]
pub struct OutboxWriter {
    instance: Arc<Instance>,
    /// Number of the next row. Moves when rows are published, so a rollback leaves no hole.
    next_seq: i64,
    keeper: JoinHandle<()>,
}

#[derive(Debug)]
struct Instance {
    pool: Pool,
    publisher: Publisher,
    prefix: String,
    lane: String,
    relay: Mutex<Relay>,
    /// Rows were committed that the relay was not given.
    missed: AtomicBool,
    /// Tells the keeper so.
    wake: Notify,
    fenced: AtomicBool,
    track: Arc<Track>,
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
        let client = pool.get().await.map_err(|error| Cause::from_error("postgresql-pool", &error))?;
        let statement = "INSERT INTO outbox_instance (lane, epoch, expires_at)
                         VALUES ($1, 1, now() + make_interval(secs => $2))";
        client.execute(statement, &[&lane, &LEASE_SECONDS]).await.map_err(|error| sql::cause(&error))?;
        let relay = Relay::fresh(lane.clone(), publisher.clone());
        let instance = Arc::new(Instance {
            track: relay.track(),
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
        Ok(Self { instance, next_seq: 1, keeper })
    }

    /// Writes rows in the caller's transaction, in order. Once per transaction: the rows' numbers are taken when they are
    /// published.
    ///
    /// # Errors
    /// See [`WriteError`]; the transaction is to be rolled back.
    pub async fn write(&mut self, tx: &Transaction<'_>, emits: Vec<Emit>) -> Result<Written, WriteError> {
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
            Ok(mut relay) if !self.instance.missed.load(Ordering::Acquire) => relay.publish(&written.rows),
            // The keeper is reading the table, or has to: these rows come after those it will find.
            _ => self.instance.missed(),
        }
    }

    /// After a commit whose outcome is unknown: finds out from the tables, and publishes if it happened.
    ///
    /// # Errors
    /// When PostgreSQL cannot be reached: the outcome stays unknown, ask again.
    pub async fn resync(&mut self) -> Result<(), Cause> {
        let mut client =
            self.instance.pool.get().await.map_err(|error| Cause::from_error("postgresql-pool", &error))?;
        let read = async {
            let tx = client.transaction().await?;
            // Waits for the unknown transaction to end: it holds this row.
            tx.execute("SELECT 1 FROM outbox_instance WHERE lane = $1 FOR UPDATE", &[&self.instance.lane])
                .await?;
            let last: Option<i64> = tx
                .query_one("SELECT max(seq) FROM outbox WHERE lane = $1", &[&self.instance.lane])
                .await?
                .get(0);
            tx.commit().await?;
            Ok(last)
        };
        let last = read.await.map_err(|error: tokio_postgres::Error| sql::cause(&error))?;
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
        let rows = self.next_seq - 1 - self.instance.track.settled_to();
        Backlog { rows: usize::try_from(rows).unwrap_or(0), ..self.instance.track.backlog() }
    }

    /// Waits for Kafka to acknowledge everything, at most `limit`; true when it did. What remains is published by another
    /// instance.
    pub async fn close(self, limit: Duration) -> bool {
        self.keeper.abort();
        let close = async {
            let Ok(mut client) = self.instance.pool.get().await else { return false };
            self.instance.close(&mut client, limit).await.unwrap_or(false)
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
    }
}

impl Instance {
    fn missed(&self) {
        self.missed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Publishes all there is and goes. True when Kafka has everything and nothing is left.
    async fn close(
        &self,
        client: &mut deadpool_postgres::Client,
        limit: Duration,
    ) -> Result<bool, tokio_postgres::Error> {
        let mut relay = self.relay.lock().await;
        // Whatever happened before: nothing is deleted below that the table held and Kafka was not given.
        relay.is_behind();
        relay.fall_behind();
        let tx = client.transaction().await?;
        // A commit without an answer may still be under way: it holds this row, and its own rows are not to be seen yet.
        tx.execute("SELECT 1 FROM outbox_instance WHERE lane = $1 FOR UPDATE", &[&self.lane]).await?;
        let sent = relay.catch_up(&tx).await?;
        tx.commit().await?;
        if !sent || !relay.settled(limit).await {
            return Ok(false);
        }
        remove(client, &self.lane, relay.highest()).await
    }
}

/// Deletes what Kafka has acknowledged, up to `seq`, and the instance if that was all. True when it was.
async fn remove(
    client: &deadpool_postgres::Client,
    lane: &str,
    seq: i64,
) -> Result<bool, tokio_postgres::Error> {
    delete(client, lane, Span { first: i64::MIN, last: seq }).await?;
    let statement = "DELETE FROM outbox_instance WHERE lane = $1
                     AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.lane = $1)";
    Ok(client.execute(statement, &[&lane]).await? > 0)
}

/// Keeps the lease, publishes what was missed, deletes what was acknowledged, takes over the dead.
async fn keep(instance: Arc<Instance>) {
    let mut due = Due { heartbeat: Instant::now() + HEARTBEAT, delete: Instant::now() + DELETE };
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = instance.wake.notified() => {}
        }
        if let Err(cause) = tick(&instance, &mut due).await {
            tracing::warn!(lane = instance.lane, %cause, "the outbox instance cannot reach PostgreSQL; trying again");
            tokio::time::sleep(HEARTBEAT).await;
        }
        if instance.fenced.load(Ordering::Acquire) {
            tracing::warn!(lane = instance.lane, "the outbox instance was taken over by another process");
            return;
        }
    }
}

/// When the keeper does what it does not do all the time.
struct Due {
    heartbeat: Instant,
    delete: Instant,
}

async fn tick(instance: &Instance, due: &mut Due) -> Result<(), Cause> {
    let behind = {
        let mut relay = instance.relay.lock().await;
        if instance.missed.swap(false, Ordering::AcqRel) {
            relay.fall_behind();
        }
        relay.is_behind()
    };
    let now = Instant::now();
    let deletable = instance.track.prefix().filter(|_| now >= due.delete);
    let beat = now >= due.heartbeat;
    if !behind && !beat && deletable.is_none() {
        return Ok(());
    }
    let client = instance.pool.get().await.map_err(|error| Cause::from_error("postgresql-pool", &error))?;
    let work = async {
        if behind {
            // The one thing that needs the relay for long: rows published meanwhile come after those it finds.
            instance.relay.lock().await.catch_up(&client).await?;
        }
        if let Some(rows) = deletable {
            delete(&client, &instance.lane, rows).await?;
            instance.track.deleted(rows.last);
            due.delete = now + DELETE;
        }
        if beat {
            let statement = "UPDATE outbox_instance SET expires_at = now() + make_interval(secs => $2)
                             WHERE lane = $1 AND epoch = 1";
            if client.execute(statement, &[&instance.lane, &LEASE_SECONDS]).await? == 0 {
                instance.fenced.store(true, Ordering::Release);
                return Ok(());
            }
            due.heartbeat = now + HEARTBEAT;
            take_over(instance, &client).await?;
        }
        Ok(())
    };
    work.await.map_err(|error: tokio_postgres::Error| sql::cause(&error))
}

/// Publishes what a dead instance of the same prefix left, and removes it.
async fn take_over(
    instance: &Instance,
    client: &deadpool_postgres::Client,
) -> Result<(), tokio_postgres::Error> {
    if instance.publisher.is_busy() {
        // While Kafka does not answer, every takeover would put the same rows into the producer's buffer once more.
        return Ok(());
    }
    let statement =
        "UPDATE outbox_instance SET epoch = epoch + 1, expires_at = now() + make_interval(secs => $2)
                     WHERE lane = (SELECT lane FROM outbox_instance
                                   WHERE starts_with(lane, $1 || '/') AND expires_at < now()
                                   LIMIT 1 FOR UPDATE SKIP LOCKED)
                     RETURNING lane";
    let Some(row) = client.query_opt(statement, &[&instance.prefix, &LEASE_SECONDS]).await? else {
        return Ok(());
    };
    let lane: String = row.get(0);
    failpoint!(WriterTookOver);
    let mut relay = Relay::new(lane.clone(), instance.publisher.clone());
    let sent = relay.catch_up(client).await?;
    let rows = relay.backlog().rows;
    if sent
        && relay.settled(Duration::from_secs_f64(LEASE_SECONDS / 2.0)).await
        && remove(client, &lane, relay.highest()).await?
    {
        tracing::info!(lane, rows, "published what a dead outbox instance left");
    }
    // Else its lease expires again and somebody tries again: a record seen twice is a duplicate, not a second effect.
    Ok(())
}
