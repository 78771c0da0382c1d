//! Idle maintenance, and what is done before a partition leaves.

use std::time::{Duration, Instant};

use super::{
    pipeline::BatchError,
    work::{HELD_UP, Next, Work},
};
use crate::{
    connection::{Connection, Trouble},
    handler::Handler,
    lease,
    status::LaneState,
};

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
        let delete = async {
            let connection = Connection::get(&self.shared.pool).await?;
            connection.write(&self.shared.settings.limits, self.outbox.delete(&*connection)).await
        };
        match delete.await {
            Ok(rows) => self.outbox.deleted(rows),
            Err(trouble) => return self.failed(BatchError::from(trouble)),
        }
        failpoint!(RelayDeleted);
        self.reached();
        Next::Again
    }

    /// Nothing is taken any more, but what was committed before is still published.
    pub(super) async fn halted_step(&mut self) -> Next {
        let again = self.try_again.map(|at| at.saturating_duration_since(Instant::now()));
        if self.claim.is_none() {
            return Next::Sleep(again);
        }
        if self.outbox.is_behind()
            && let Err(trouble) = self.catch_up_once().await
        {
            let cause = trouble.cause();
            tracing::debug!(%cause, "the outbox of a halted partition cannot be read");
        }
        // What Kafka refuses is tried again.
        let waits = self.outbox.is_behind() || self.outbox.backlog().rows > 0;
        Next::Sleep(again.into_iter().chain(waits.then_some(IDLE)).min())
    }

    /// Publishes what the table holds and the producer was not given. False when the producer has no room.
    pub(super) async fn catch_up_once(&mut self) -> Result<bool, Trouble> {
        let connection = Connection::get(&self.shared.pool).await?;
        connection.write(&self.shared.settings.limits, self.outbox.catch_up(&*connection)).await
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
            let connection = Connection::get(&self.shared.pool).await?;
            let (client, limits) = (&*connection, &self.shared.settings.limits);
            let leave = async {
                self.outbox.delete(client).await?;
                lease::release(client, &self.shared.settings.group, &self.lane.source, &claim).await
            };
            connection.write(limits, leave).await.map_err(BatchError::from)
        };
        match finish.await {
            Ok(()) => settled,
            Err(error) => {
                tracing::warn!(
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
            match self.catch_up_once().await {
                Ok(true) => break,
                Ok(false) => tokio::time::sleep(HELD_UP).await,
                Err(_) => return false,
            }
        }
        self.outbox.settled(limit).await
    }
}
