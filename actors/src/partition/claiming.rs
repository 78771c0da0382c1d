//! Claiming: the start, and the way out of every doubt: a restart, a commit without an answer, a lease that moved on.

use super::{
    pipeline::{BatchError, no_connection, ours},
    work::{Next, Work},
};
use crate::{
    consumer::LaneKind,
    handler::Handler,
    lease::{self, ClaimError, ClaimRequest, Claimed, Watermarks},
    retry::{self, Chains, ParkedRef},
    status::LaneState,
};

impl<H: Handler> Work<H> {
    /// Claims the partition and learns all there is to know of it.
    pub(super) async fn take_claim(&mut self) -> Next {
        let claimed = self.try_claim().await;
        match claimed {
            Ok((claimed, low)) => {
                let claim = claimed.claim;
                self.claim = Some(claim);
                self.claimed_before = true;
                self.outbox.claimed(&claim);
                self.recovered();
                self.lane.set_paused(claimed.paused);
                self.take_care(&claimed);
                self.lane.claimed(
                    claim.epoch,
                    claim.next_offset,
                    claim.last.filter(|last| last.offset.0 >= low),
                );
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
            // A claim handles no record: neither can happen, and trying again is right if one did.
            Err(BatchError::HintsLied | BatchError::Systemic(..)) => Next::Again,
        }
    }

    /// After an unclean end the first batch's records run alone, each with its intent written: one of them may be what ended
    /// the process.
    fn take_care(&mut self, claimed: &Claimed) {
        if !claimed.unclean || self.lane.kind == LaneKind::Requeue {
            return;
        }
        let first_batch = self.shared.settings.batch_max_records;
        let until =
            claimed.claim.next_offset.0.saturating_add(i64::try_from(first_batch).unwrap_or(i64::MAX));
        self.lane.go_careful(until, claimed.intent);
        tracing::warn!(
            topic = &*self.lane.source.topic,
            partition = self.lane.source.partition,
            next_offset = claimed.claim.next_offset.0,
            suspect = ?claimed.intent,
            "the last owner ended without a word; its first records run one by one"
        );
    }

    /// The claim, and the first offset the log was asked to have.
    async fn try_claim(&mut self) -> Result<(Claimed, i64), BatchError> {
        failpoint!(ClaimBegun);
        let watermarks = self.log_ends().await?;
        let mut client = self.shared.pool.get().await.map_err(|error| no_connection(&error))?;
        let (claimed, low) = match self.claim_within(&mut client, watermarks).await {
            Err(ClaimError::PastLogEnd(_)) => {
                // While the claim waited for the former owner, that one may have gone on, on records written since. A person
                // is called only if the log says so now.
                let fresh = self.shared.log_ends.watermarks(&self.lane.source).await;
                let fresh = fresh.map_err(BatchError::Unreachable)?;
                (self.claim_within(&mut client, fresh).await, fresh.low)
            }
            claimed => (claimed, watermarks.low),
        };
        let claimed = claimed.map_err(|error| match error {
            ClaimError::Postgres(error) => ours(&error),
            ClaimError::Halt(cause) | ClaimError::PastLogEnd(cause) => BatchError::Halt(cause),
        })?;
        failpoint!(ClaimCommitted);
        let crashed = self.lane.crashed_parked();
        if !crashed.is_empty() {
            retry::count_crash(&client, &crashed).await.map_err(|error| ours(&error))?;
            self.lane.crash_counted(&crashed);
        }
        self.read_chains(&client).await?;
        Ok((claimed, low))
    }

    /// Where the log begins and ends, as far as it has to be known.
    async fn log_ends(&self) -> Result<Watermarks, BatchError> {
        if self.claimed_before || self.lane.position().is_some() {
            // It was compared before: what is claimed again here needs no answer of Kafka's.
            return Ok(Watermarks { low: 0, high: i64::MAX });
        }
        let asked =
            self.shared.log_ends.watermarks(&self.lane.source).await.map_err(BatchError::Unreachable)?;
        self.lane.set_log_end(asked.high);
        Ok(asked)
    }

    async fn claim_within(
        &self,
        client: &mut deadpool_postgres::Client,
        watermarks: Watermarks,
    ) -> Result<Claimed, ClaimError> {
        let request = ClaimRequest {
            consumer: &self.shared.settings.group,
            source: &self.lane.source,
            owner: &self.shared.owner,
            cluster_id: &self.shared.cluster_id,
            watermarks,
        };
        lease::claim(client, request).await
    }

    async fn read_chains(&mut self, client: &deadpool_postgres::Client) -> Result<(), BatchError> {
        let rows = retry::refs(client, &self.shared.settings.group, &self.lane.source).await;
        self.chains = Chains::new(self.shared.settings.chain_max);
        let rows = rows.map_err(|error| ours(&error))?;
        self.lane.keep_solo(&rows.iter().map(|row| row.id).collect());
        for ParkedRef { id, key, due_at, size } in rows {
            self.chains.push(key, id, due_at, size);
        }
        Ok(())
    }

    /// Whatever held the partition up, it starts over with a claim.
    pub(super) fn claim_again(&mut self) {
        self.lane.put_back();
        self.lane.set_state(LaneState::Claiming, None);
        self.claim = None;
        self.not_before = None;
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
