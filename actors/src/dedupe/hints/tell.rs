//! Tells Redis what is done, behind everybody's back.

use std::{sync::Weak, time::Duration};

use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    health::Side,
    server::{Redis, key},
};

/// A redelivery comes soon or never: hints live ten minutes.
const LIFETIME_SECONDS: u64 = 10 * 60;
/// Batches that may wait to be told.
const QUEUE: usize = 64;
/// Batches told together.
const TOGETHER: usize = 16;
const TIMEOUT: Duration = Duration::from_millis(500);

/// Events that a group has finished.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) group: Box<str>,
    pub(super) events: Vec<Uuid>,
}

/// Starts whoever tells it; they end with the last of the hints.
pub(super) fn tell(redis: Weak<Redis>) -> mpsc::Sender<Done> {
    let (sender, mut queue) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut batches = Vec::with_capacity(TOGETHER);
        while queue.recv_many(&mut batches, TOGETHER).await > 0 {
            let Some(redis) = redis.upgrade() else { return };
            redis.tell(batches.drain(..)).await;
        }
    });
    sender
}

impl Redis {
    async fn tell(&self, batches: impl Iterator<Item = Done>) {
        let mut pipeline = redis::pipe();
        for Done { group, events } in batches {
            for event in events {
                pipeline.cmd("SET").arg(key(&group, event)).arg(1).arg("EX").arg(LIFETIME_SECONDS).ignore();
            }
        }
        if self.health.rests(Side::Writes) {
            return;
        }
        let set = async {
            let mut connection = self.connection().await?;
            pipeline.query_async::<()>(&mut connection).await
        };
        self.judge(Side::Writes, tokio::time::timeout(TIMEOUT, set).await);
    }
}
