//! Claiming: the start, and the way out of every doubt: a restart, a commit without an answer, a lease that moved on.

use super::{
    pipeline::{BatchError, no_connection, ours},
    work::{Next, Work},
};
use crate::{
    handler::Handler,
    lease::{self, Claim, ClaimError, ClaimRequest, Watermarks},
    retry::{self, Chains},
};

impl<H: Handler> Work<H> {
    /// Claims the partition and learns all there is to know of it.
    pub(super) async fn take_claim(&mut self) -> Next {
        let claimed = self.try_claim().await;
        match claimed {
            Ok(claim) => {
                self.claim = Some(claim);
                self.claimed_before = true;
                self.relay.fall_behind();
                self.recovered();
                self.lane.claimed(claim.epoch, claim.next_offset);
                tracing::info!(
                    topic = &*self.lane.source.topic,
                    partition = self.lane.source.partition,
                    epoch = claim.epoch,
                    next_offset = claim.next_offset.0,
                    parked = self.chains.len(),
                    "partition claimed"
                );
                Next::Again
            }
            Err(BatchError::Halt(cause)) => self.halt(&cause),
            Err(BatchError::Unreachable(cause) | BatchError::Unknown(cause) | BatchError::Data(cause)) => {
                self.degrade(&cause)
            }
            Err(BatchError::HintsLied) => Next::Again,
        }
    }

    async fn try_claim(&mut self) -> Result<Claim, BatchError> {
        let mut client = self.shared.pool.get().await.map_err(|error| no_connection(&error))?;
        // The ends seen at the assignment say nothing against an offset that was reached since.
        let watermarks = match self.claimed_before || self.lane.position().is_some() {
            true => Watermarks { high: i64::MAX, ..self.lane.watermarks },
            false => self.lane.watermarks,
        };
        let request = ClaimRequest {
            consumer: &self.shared.settings.group,
            source: &self.lane.source,
            owner: &self.shared.owner,
            cluster_id: &self.shared.cluster_id,
            watermarks,
        };
        let claim = lease::claim(&mut client, request).await.map_err(|error| match error {
            ClaimError::Postgres(error) => ours(&error),
            ClaimError::Halt(cause) => BatchError::Halt(cause),
        })?;
        let crashed = self.lane.crashed_parked();
        if !crashed.is_empty() {
            retry::count_crash(&client, &crashed).await.map_err(|error| ours(&error))?;
            self.lane.crash_counted(&crashed);
        }
        self.read_chains(&client).await?;
        Ok(claim)
    }

    async fn read_chains(&mut self, client: &deadpool_postgres::Client) -> Result<(), BatchError> {
        let rows = retry::refs(client, &self.shared.settings.group, &self.lane.source).await;
        self.chains = Chains::default();
        let rows = rows.map_err(|error| ours(&error))?;
        self.lane.keep_solo(&rows.iter().map(|(id, ..)| *id).collect());
        for (id, key, due_at) in rows {
            self.chains.push(key, id, due_at);
        }
        Ok(())
    }

    /// Somebody else changed the lane's `parked`.
    pub(super) async fn reload_chains(&mut self) {
        if self.claim.is_none() {
            // They are read with the next claim.
            return;
        }
        let read = async {
            let client = self.shared.pool.get().await.map_err(|error| no_connection(&error))?;
            self.read_chains(&client).await
        };
        if read.await.is_err() {
            // Half-read chains would let records of a key overtake: learn everything again.
            self.claim = None;
        }
    }
}
