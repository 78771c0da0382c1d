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

use actors::connection::{Connection, Limits, Trouble};
use chassis::shutdown::Listener;
use deadpool_postgres::Pool;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use uuid::Uuid;

use crate::store;

/// A change is seen at the latest after this, and the time the question takes.
const EVERY: Duration = Duration::from_millis(250);

/// Who follows which order. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    followed: Mutex<HashMap<Uuid, Followed>>,
    begun: Notify,
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

    /// Looks, until `stop`.
    pub async fn run(self, pool: Pool, stop: Listener) {
        let look = async {
            let mut failed = false;
            loop {
                let ids: Vec<Uuid> = self.0.followed.lock().keys().copied().collect();
                if ids.is_empty() {
                    self.0.begun.notified().await;
                    continue;
                }
                match versions(&pool, &ids).await {
                    Ok(versions) => {
                        failed = false;
                        self.tell(&versions);
                    }
                    // Those who follow see nothing new until it can be read again.
                    Err(trouble) => {
                        if !std::mem::replace(&mut failed, true) {
                            let error = trouble.cause();
                            tracing::warn!(%error, orders = ids.len(), "orders that are followed cannot be read; trying again");
                        }
                    }
                }
                sleep(EVERY).await;
            }
        };
        let _stopped: Option<()> = stop.unless_fired(look).await;
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
    /// Ends when the order is at another version than `known`.
    pub async fn changed_from(&mut self, known: i64) {
        // The sender lives as long as this does. 0 is what is not known yet.
        let changed = self.version.wait_for(|version| *version != 0 && *version != known).await.is_ok();
        if !changed {
            std::future::pending::<()>().await;
        }
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
