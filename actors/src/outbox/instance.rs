//! A process in the outbox that owns no partition: its row, its lane, and who keeps both.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::Pool;
use tokio::{
    sync::{Mutex, Notify},
    time::Instant,
};

use super::{publisher::Publisher, relay::Relay, rows::delete, track::Track};
use crate::{
    connection::{Connection, Limits, Trouble},
    failure::Cause,
};

/// How long an instance is believed alive without a sign of it.
pub(super) const LEASE_SECONDS: f64 = 6.0;
pub(super) const HEARTBEAT: Duration = Duration::from_secs(2);
/// Acknowledged rows are deleted this often.
const DELETE: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(200);
/// A round that takes longer has met a connection that does not answer.
pub(super) const TICK_LIMITS: Limits = Limits {
    statement: Duration::from_secs(5),
    lock: Duration::from_secs(5),
    idle: Duration::from_secs(5),
    whole: Duration::from_secs(20),
};
/// One such process.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) pool: Pool,
    pub(super) publisher: Publisher,
    pub(super) prefix: String,
    pub(super) lane: String,
    pub(super) relay: Mutex<Relay>,
    /// Rows were committed that the relay was not given.
    pub(super) missed: AtomicBool,
    /// Tells the keeper so.
    pub(super) wake: Notify,
    pub(super) fenced: AtomicBool,
    pub(super) track: Arc<Track>,
}

impl Instance {
    pub(super) fn missed(&self) {
        self.missed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Publishes all there is and goes. True when Kafka has everything and nothing is left.
    pub(super) async fn close(
        &self,
        client: &mut deadpool_postgres::Client,
        limit: Duration,
    ) -> Result<bool, tokio_postgres::Error> {
        let mut relay = self.relay.lock().await;
        // Whatever happened before: what is in the table is looked at once more.
        relay.fall_behind();
        let tx = client.transaction().await?;
        tx.batch_execute(&Limits::default().set()).await?;
        // A commit without an answer may still be under way: it holds this row, and its own rows are not to be seen yet.
        tx.execute("SELECT 1 FROM outbox_instance WHERE lane = $1 FOR UPDATE", &[&self.lane]).await?;
        let sent = relay.catch_up(&tx).await?;
        tx.commit().await?;
        if !sent || !relay.settled(limit).await {
            return Ok(false);
        }
        remove(client, &relay).await
    }
}

/// Deletes what Kafka has acknowledged, and the instance if that was all. True when it was.
pub(super) async fn remove(
    client: &deadpool_postgres::Client,
    relay: &Relay,
) -> Result<bool, tokio_postgres::Error> {
    let lane = relay.lane();
    while let Some(rows) = relay.deletable() {
        delete(client, lane, rows).await?;
        relay.deleted(rows);
    }
    let statement = "DELETE FROM outbox_instance WHERE lane = $1
                     AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.lane = $1)";
    Ok(client.execute(statement, &[&lane]).await? > 0)
}

/// Keeps the lease, publishes what was missed, deletes what was acknowledged.
pub(super) async fn keep(instance: Arc<Instance>) {
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
    let deletable = instance.track.deletable().filter(|_| now >= due.delete);
    let beat = now >= due.heartbeat;
    if !behind && !beat && deletable.is_none() {
        return Ok(());
    }
    let mut connection = Connection::get(&instance.pool).await.map_err(|trouble| trouble.cause())?;
    let client = &*connection.begin();
    let work = async {
        if behind {
            // The one thing that needs the relay for long: rows published meanwhile come after those it finds.
            instance.relay.lock().await.catch_up(client).await?;
        }
        if let Some(rows) = deletable {
            delete(client, &instance.lane, rows).await?;
            instance.track.deleted(rows);
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
        }
        Ok(())
    };
    let done: Result<Result<(), tokio_postgres::Error>, _> = TICK_LIMITS.within(work).await;
    let done = done.map_err(|trouble| trouble.cause())?;
    connection.settle(&done);
    done.map_err(|error| Trouble::Refused(error).cause())
}
