//! What is done when there is nothing to do, and before a partition leaves.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    pipeline::{no_connection, ours},
    work::{HELD_UP, Next, Work},
};
use crate::{handler::Handler, lease, outbox, status::LaneState};

/// Acknowledged rows of an idle lane are deleted after this.
const IDLE: Duration = Duration::from_secs(1);

impl<H: Handler> Work<H> {
    /// Deletes what Kafka has acknowledged, once the lane has been quiet for a while. Sleeps until `due` at the latest.
    pub(super) async fn idle(&mut self, due: Option<DateTime<Utc>>) -> Next {
        if let Some((claim, to)) =
            self.claim.zip(self.lane.trailing_gap()).filter(|(claim, to)| *to > claim.next_offset)
        {
            return self.pass_gap(claim, to).await;
        }
        let due = due.map(|at| (at - Utc::now()).to_std().unwrap_or(Duration::from_millis(1)));
        // Asked first: what is acknowledged between the two questions must not be slept over.
        let unacknowledged = (self.relay.backlog().rows > 0).then_some(IDLE);
        let Some(rows) = self.relay.deletable() else {
            return Next::Sleep(due.into_iter().chain(unacknowledged).min());
        };
        let quiet = self.last_write.elapsed();
        if quiet < IDLE {
            return Next::Sleep(due.into_iter().chain([IDLE - quiet]).min());
        }
        failpoint!(RelayAcknowledged);
        match self.shared.pool.get().await {
            Ok(client) => match outbox::delete(&client, self.relay.lane(), rows).await {
                Ok(()) => self.relay.deleted(rows.last),
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
        if self.claim.is_none() || !self.relay.is_behind() {
            return Next::Sleep(None);
        }
        if let Ok(client) = self.shared.pool.get().await
            && matches!(self.relay.catch_up(&client).await, Ok(true))
        {
            return Next::Sleep(None);
        }
        Next::Sleep(Some(IDLE))
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
            if let Some(rows) = self.relay.deletable() {
                outbox::delete(&client, self.relay.lane(), rows).await.map_err(|error| ours(&error))?;
            }
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

    /// Publishes what the outbox still holds and waits for Kafka to acknowledge all of it. True when it did.
    async fn settle(&mut self, limit: Duration) -> bool {
        while self.relay.is_behind() {
            let Ok(client) = self.shared.pool.get().await else { return false };
            match self.relay.catch_up(&client).await {
                Ok(true) => break,
                Ok(false) => tokio::time::sleep(HELD_UP).await,
                Err(_) => return false,
            }
        }
        self.relay.settled(limit).await
    }
}
