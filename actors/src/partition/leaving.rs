//! What is done when there is nothing to do, and before a partition leaves.

use std::time::Duration;

use super::{
    pipeline::{no_connection, ours},
    work::{HELD_UP, Next, Work},
};
use crate::{handler::Handler, lease, status::LaneState};

/// Acknowledged rows of an idle lane are deleted after this.
const IDLE: Duration = Duration::from_secs(1);

impl<H: Handler> Work<H> {
    /// Deletes what Kafka has acknowledged, once the lane has been quiet for a while. Sleeps for `due` at the most.
    pub(super) async fn idle(&mut self, due: Option<Duration>) -> Next {
        if let Some((claim, to)) =
            self.claim.zip(self.lane.trailing_gap()).filter(|(claim, to)| *to > claim.next_offset)
        {
            return self.pass_gap(claim, to).await;
        }
        // Asked first: what is acknowledged between the two questions must not be slept over.
        let unacknowledged = (self.outbox.backlog().rows > 0).then_some(IDLE);
        if !self.outbox.has_deletable() {
            return Next::Sleep(due.into_iter().chain(unacknowledged).min());
        }
        let quiet = self.last_write.elapsed();
        if quiet < IDLE {
            return Next::Sleep(due.into_iter().chain([IDLE - quiet]).min());
        }
        failpoint!(RelayAcknowledged);
        match self.shared.pool.get().await {
            Ok(client) => match self.outbox.delete(&client).await {
                Ok(rows) => self.outbox.deleted(rows),
                Err(error) => return self.failed(ours(&error), None),
            },
            Err(error) => return self.failed(no_connection(&error), None),
        }
        failpoint!(RelayDeleted);
        self.reached();
        Next::Again
    }

    /// Nothing is taken any more, but what was committed before is still published.
    pub(super) async fn halted_step(&mut self) -> Next {
        if self.claim.is_none() {
            return Next::Sleep(None);
        }
        if self.outbox.is_behind()
            && let Ok(client) = self.shared.pool.get().await
            && let Err(error) = self.outbox.catch_up(&client).await
        {
            tracing::debug!(lane = %self.lane.source, %error, "the outbox of a halted partition cannot be read");
        }
        // What Kafka refuses is tried again.
        let waits = self.outbox.is_behind() || self.outbox.backlog().rows > 0;
        Next::Sleep(waits.then_some(IDLE))
    }

    /// A server that was gone has answered, outside a batch.
    pub(super) fn reached(&mut self) {
        if self.lane.state() == LaneState::Degraded {
            self.recovered();
        }
    }

    /// Leaves nothing half done. What Kafka has not acknowledged in time stays in the outbox for the successor.
    pub(super) async fn drain(&mut self) -> bool {
        // Without a claim it either never worked, or does not know how its last batch ended.
        let Some(claim) = self.claim else { return !self.claimed_before };
        let limit = self.shared.settings.drain / 2;
        // A lane claimed a moment ago may not have published yet what its predecessor left.
        let settled = tokio::time::timeout(limit, self.settle(limit)).await.unwrap_or(false);
        let finish = async {
            let client = self.shared.pool.get().await.map_err(|error| no_connection(&error))?;
            self.outbox.delete(&client).await.map_err(|error| ours(&error))?;
            lease::release(&client, &self.shared.settings.group, &self.lane.source, &claim)
                .await
                .map_err(|error| ours(&error))
        };
        match finish.await {
            Ok(()) => settled,
            Err(error) => {
                tracing::warn!(
                    topic = &*self.lane.source.topic,
                    partition = self.lane.source.partition,
                    ?error,
                    "the partition leaves without saying so to PostgreSQL; its successor finds out"
                );
                false
            }
        }
    }

    /// Publishes what the outbox still holds and waits for Kafka to acknowledge it. True when nothing is left but what it
    /// refuses, which the successor's outbox goes on trying.
    async fn settle(&mut self, limit: Duration) -> bool {
        while self.outbox.is_behind() {
            let Ok(client) = self.shared.pool.get().await else { return false };
            match self.outbox.catch_up(&client).await {
                Ok(true) => break,
                Ok(false) => tokio::time::sleep(HELD_UP).await,
                Err(_) => return false,
            }
        }
        self.outbox.settled(limit).await
    }
}
