//! Claiming: the start, and the way out of every doubt: a restart, a commit without an answer, a lease that moved on.

use super::{
    pipeline::{BatchError, no_connection, ours},
    work::{Next, Work},
};
use crate::{
    consumer::LaneKind,
    handler::Handler,
    lease::{self, ClaimError, ClaimRequest, Claimed, Watermarks},
    retry::{self, Chains, ParkedRef, Wanted},
    status::LaneState,
};

/// Waiting records that a claim reads; more of them between batches, as many at a time.
const HELD: i64 = 4_000;
/// With so many in memory no more are read, whether they can run or not.
const HELD_MOST: usize = 100_000;

impl<H: Handler> Work<H> {
    /// Claims the partition and learns all there is to know of it.
    pub(super) async fn take_claim(&mut self) -> Next {
        let claimed = self.try_claim().await;
        match claimed {
            Ok((claimed, low)) => {
                let claim = claimed.claim;
                self.claim = Some(claim);
                self.claimed_before = true;
                self.shared.clock.set(claimed.now);
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
        self.chains = Chains::new(self.shared.settings.chain_max);
        self.requeued_to = 0;
        self.calls.get_mut().clear();
        self.lane.take_noticed();
        self.read_chains(&client, Wanted::Behind(0, HELD)).await?;
        let beyond = self.chains.beyond().unwrap_or(i64::MAX);
        self.lane.keep_solo(|id| id > beyond || self.chains.due_at(id).is_some());
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

    /// Learns of waiting records: of all of them, so many at a time, or of those that somebody else has changed. However many
    /// wait, a claim reads a bounded number.
    async fn read_chains(
        &mut self,
        client: &deadpool_postgres::Client,
        wanted: Wanted<'_>,
    ) -> Result<(), BatchError> {
        let rows = retry::refs(client, &self.shared.settings.group, &self.lane.source, wanted).await;
        let rows = rows.map_err(|error| ours(&error))?;
        if let Wanted::Behind(_, limit) = wanted {
            let more = i64::try_from(rows.len()).is_ok_and(|read| read >= limit);
            self.chains.set_beyond(rows.last().filter(|_| more).map(|row| row.id));
        }
        let beyond = self.chains.beyond().unwrap_or(i64::MAX);
        // In order: of those behind the last one that is held, none may come before the others of its key.
        for ParkedRef { id, key, due_at, size, requeued } in rows.into_iter().filter(|row| row.id <= beyond) {
            if requeued {
                self.requeued_to = self.requeued_to.max(id);
            }
            self.chains.push(key, id, due_at, size);
        }
        Ok(())
    }

    /// Learns of more records that wait, where a claim found more than it reads.
    pub(super) async fn read_on(&mut self) -> Result<(), BatchError> {
        let Some(last) = self.chains.beyond().filter(|_| self.chains.len() < HELD_MOST) else {
            return Ok(());
        };
        let client = self.shared.pool.get().await.map_err(|error| no_connection(&error))?;
        self.read_chains(&client, Wanted::Behind(last, HELD)).await
    }

    /// Learns of what somebody else may have changed: records that were put back, or hurried.
    pub(super) async fn look(&mut self) -> Result<(), BatchError> {
        let requeued = self.lane.take_chains_changed();
        let noticed = self.lane.take_noticed();
        let news = noticed.iter().filter(|(id, due_at)| self.chains.due_at(*id) != Some(*due_at));
        let beyond = self.chains.beyond().unwrap_or(i64::MAX);
        let news: Vec<i64> = news.map(|(id, _)| *id).filter(|id| *id <= beyond).collect();
        if news.is_empty() && !requeued {
            return Ok(());
        }
        let client = self.shared.pool.get().await.map_err(|error| no_connection(&error))?;
        if !news.is_empty() {
            self.read_chains(&client, Wanted::These(&news)).await?;
        }
        // More may have come at once than are noticed one by one.
        if requeued || news.len() >= retry::NOTICED {
            let behind = if requeued { self.requeued_to } else { 0 };
            self.read_chains(&client, Wanted::Requeued(behind)).await?;
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
}
