//! Orders that somebody follows, and when they change.
//!
//! One statement, some times a second, asks for the versions of all orders that are followed here, however many follow them and
//! whichever instance changes them. PostgreSQL's NOTIFY would say it sooner, and cost more: in the transaction that changes an order
//! it makes the commits of all lanes wait for each other, after it a crash would lose it, and behind a pooler nobody would hear it.
//! While nobody follows an order nothing is asked.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use actors::{
    Cause,
    connection::{Connection, Limits, Trouble},
};
use chassis::shutdown::Listener;
use deadpool_postgres::Pool;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, watch},
    time::{Instant, sleep},
};
use uuid::Uuid;

use crate::store;

/// A change is seen at the latest after this, and the time the question takes.
const EVERY: Duration = Duration::from_millis(250);
/// When it was not to be found out for so long, that is shown.
const SILENT: Duration = Duration::from_secs(5);

/// Those who follow an order read it so many at a time, however many there are: others read too.
const TURNS: usize = 2;

/// Who follows which order. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    followed: Mutex<HashMap<Uuid, Followed>>,
    begun: Notify,
    turns: Semaphore,
    /// Since when it is not known what changes, and why.
    failing: Mutex<Option<(Instant, Cause)>>,
}

#[derive(Debug)]
struct Followed {
    version: watch::Sender<i64>,
    by: usize,
}

/// Somebody follows an order, for as long as this lives.
#[derive(Debug)]
pub struct Following {
    order: Uuid,
    version: watch::Receiver<i64>,
    of: Arc<Inner>,
}

impl Default for Watch {
    fn default() -> Self {
        Self(Arc::new(Inner {
            followed: Mutex::default(),
            begun: Notify::new(),
            turns: Semaphore::new(TURNS),
            failing: Mutex::default(),
        }))
    }
}

impl Watch {
    /// Follows an order from now on.
    pub fn follow(&self, order: Uuid) -> Following {
        let mut followed = self.0.followed.lock();
        let entry = followed.entry(order).or_insert_with(|| Followed { version: watch::channel(0).0, by: 0 });
        entry.by += 1;
        let version = entry.version.subscribe();
        drop(followed);
        self.0.begun.notify_one();
        Following { order, version, of: self.0.clone() }
    }

    /// Orders that are followed here.
    pub fn followed(&self) -> usize {
        self.0.followed.lock().len()
    }

    /// Looks, until `stop`.
    pub async fn run(self, pool: Pool, stop: Listener) {
        let look = async {
            loop {
                let ids: Vec<Uuid> = self.0.followed.lock().keys().copied().collect();
                if ids.is_empty() {
                    self.0.begun.notified().await;
                    continue;
                }
                let versions = versions(&pool, &ids).await;
                self.note(versions.as_ref().err().map(Trouble::cause));
                self.tell(&versions.unwrap_or_default());
                sleep(EVERY).await;
            }
        };
        let _stopped: Option<()> = stop.unless_fired(look).await;
    }

    /// For a health check.
    ///
    /// # Errors
    /// In words, when those who follow an order have been told nothing for some seconds.
    pub fn sees(&self) -> Result<(), String> {
        match &*self.0.failing.lock() {
            Some((since, cause)) if since.elapsed() >= SILENT => {
                Err(format!("those who follow an order are told nothing, since it cannot be read: {cause}"))
            }
            _ => Ok(()),
        }
    }

    /// Says when it begins, and when it is over, that it cannot be read.
    fn note(&self, cause: Option<Cause>) {
        let mut failing = self.0.failing.lock();
        match (&mut *failing, cause) {
            (Some((_, known)), Some(cause)) => *known = cause,
            (None, Some(cause)) => {
                tracing::warn!(error = %cause, "orders that are followed cannot be read; trying again");
                *failing = Some((Instant::now(), cause));
            }
            (Some((since, _)), None) => {
                let seconds = since.elapsed().as_secs();
                tracing::info!(seconds, "orders that are followed can be read again");
                *failing = None;
            }
            (None, None) => {}
        }
    }

    fn tell(&self, versions: &[(Uuid, i64)]) {
        let followed = self.0.followed.lock();
        for (order, version) in versions {
            if let Some(followed) = followed.get(order) {
                followed.version.send_if_modified(|known| std::mem::replace(known, *version) != *version);
            }
        }
    }
}

async fn versions(pool: &Pool, ids: &[Uuid]) -> Result<Vec<(Uuid, i64)>, Trouble> {
    let connection = Connection::get(pool).await?;
    connection.read(&Limits::default(), store::versions(&*connection, ids)).await
}

impl Following {
    /// Ends when the order is at a later version than `known`. What was told here may be older than what somebody has read meanwhile.
    pub async fn changed_from(&mut self, known: i64) {
        // The sender lives as long as this does.
        if self.version.wait_for(|version| *version > known).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Which one.
    pub fn order(&self) -> Uuid {
        self.order
    }

    /// Waits until it is this one's turn to read; the turn ends with what is returned.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.of.turns.acquire().await.ok()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followed = self.of.followed.lock();
        if let Entry::Occupied(mut entry) = followed.entry(self.order) {
            entry.get_mut().by -= 1;
            if entry.get().by == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests;
