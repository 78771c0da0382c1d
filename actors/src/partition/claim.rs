//! Claiming: the start, and the way out of every doubt: a restart, a commit without an answer, a lease that moved on.

use super::{
    pipeline::{BatchError, ours},
    work::{Next, Work},
};
use crate::{
    connection::Connection,
    handler::Handler,
    kafka::Watermarks,
    lane::{CrashedRow, LaneKind},
    lease::{self, ClaimError, ClaimRequest, Claimed},
    metrics,
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
                metrics::lost(&self.shared.settings.group, &self.lane.source.topic, claimed.lost);
                if self.outbox.is_ahead_of(&claim) {
                    // Commits were lost: rows that were published will be written again, under the same numbers.
                    tracing::error!(
                        outbox_seq = claim.outbox_seq,
                        letter_seq = claim.letter_seq,
                        "PostgreSQL has lost commits: the lease is behind what was published; publishing anew what it has"
                    );
                }
                self.outbox.claimed(&claim);
                self.recovered();
                self.lane.set_paused(claimed.paused);
                self.begin_quarantine(&claimed);
                self.lane.claimed(
                    claim.epoch,
                    claim.next_offset,
                    claim.last.filter(|last| last.offset.0 >= low),
                );
                tracing::info!(
                    epoch = claim.epoch,
                    next_offset = claim.next_offset.0,
                    parked = self.chains.len(),
                    "partition claimed"
                );
                Next::Again
            }
            Err(error) => {
                // A claim handles no record.
                self.lane.put_back();
                self.failed(error)
            }
        }
    }

    /// After an unclean end the first batch's worth runs a few records at a time, each lot with its intent written: one of them
    /// may be what ended the process. The lot in which a process ended runs record by record.
    fn begin_quarantine(&mut self, claimed: &Claimed) {
        if !claimed.unclean || self.lane.kind == LaneKind::Requeue {
            return;
        }
        let first_batch = self.shared.settings.batch_max_records;
        let until =
            claimed.claim.next_offset.0.saturating_add(i64::try_from(first_batch).unwrap_or(i64::MAX));
        self.lane.quarantine.begin(until, first_batch.min(self.chains.len()), claimed.intent.clone());
        tracing::warn!(
            next_offset = claimed.claim.next_offset.0,
            tried = claimed.intent.as_ref().map(|(intent, _)| display(intent)),
            "unclean shutdown of the last owner; its first records run a few at a time (quarantine)"
        );
    }

    /// The claim, and the first offset the log was asked to have.
    async fn try_claim(&mut self) -> Result<(Claimed, i64), BatchError> {
        failpoint!(ClaimBegun);
        let watermarks = self.log_ends().await?;
        let (claimed, low) = match self.claim_within(watermarks).await? {
            Err(ClaimError::PastLogEnd(_)) => {
                // While the claim waited for the former owner, that one may have gone on, on records written since. A person
                // is called only if the log says so now.
                let fresh = self.shared.log_ends.watermarks(&self.lane.source).await;
                let fresh = fresh.map_err(BatchError::Unreachable)?;
                self.lane.set_log_end(fresh.high);
                (self.claim_within(fresh).await?, fresh.low)
            }
            claimed => (claimed, watermarks.low),
        };
        let mut claimed = claimed.map_err(|error| match error {
            ClaimError::Postgres(error) => ours(&error),
            ClaimError::Halt(cause) | ClaimError::PastLogEnd(cause) => BatchError::Halt(cause),
        })?;
        failpoint!(ClaimCommitted);
        let limits = &self.shared.settings.limits;
        let connection = Connection::get(&self.shared.pool).await?;
        let crashed = self.lane.quarantine.crashed_rows();
        if !crashed.is_empty() {
            let (alone, company): (Vec<_>, Vec<_>) = crashed.iter().partition(|row| row.alone);
            let ids = |rows: Vec<&CrashedRow>| rows.iter().map(|row| row.id).collect::<Vec<_>>();
            let (alone, company) = (ids(alone), ids(company));
            connection.write(limits, retry::count_crash(&*connection, &alone, &company)).await?;
            self.lane.quarantine.crash_counted(&crashed);
        }
        // No number is given twice, whatever became of the lease.
        claimed.claim = connection.read(limits, self.outbox.above_all(&*connection, claimed.claim)).await?;
        self.chains = Chains::new(self.shared.settings.chain_max);
        self.requeued_to = 0;
        self.calls.get_mut().clear();
        self.lane.take_noticed();
        self.read_chains(&connection, Wanted::Behind(0, HELD)).await?;
        let beyond = self.chains.beyond().unwrap_or(i64::MAX);
        self.lane.quarantine.keep_rows(|id| id > beyond || self.chains.due_at(id).is_some());
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

    async fn claim_within(&self, watermarks: Watermarks) -> Result<Result<Claimed, ClaimError>, BatchError> {
        let limits = &self.shared.settings.limits;
        let mut connection = Connection::get(&self.shared.pool).await?;
        let request = ClaimRequest {
            consumer: &self.shared.settings.group,
            source: &self.lane.source,
            owner: &self.shared.owner,
            cluster_id: &self.shared.cluster_id,
            watermarks,
        };
        // A claim that happened without our knowing is made again.
        let claimed = limits.within(lease::claim(connection.begin(), request, limits)).await?;
        connection.settle(&claimed);
        Ok(claimed)
    }

    /// Learns of waiting records: of all of them, so many at a time, or of those that somebody else has changed. However many
    /// wait, a claim reads a bounded number.
    async fn read_chains(&mut self, connection: &Connection, wanted: Wanted<'_>) -> Result<(), BatchError> {
        let refs = retry::refs(&**connection, &self.shared.settings.group, &self.lane.source, wanted);
        let rows = connection.read(&self.shared.settings.limits, refs).await?;
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
        let connection = Connection::get(&self.shared.pool).await?;
        self.read_chains(&connection, Wanted::Behind(last, HELD)).await
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
        let connection = Connection::get(&self.shared.pool).await?;
        if !news.is_empty() {
            self.read_chains(&connection, Wanted::These(&news)).await?;
        }
        // More may have come at once than are noticed one by one.
        if requeued || news.len() >= retry::NOTICED {
            let behind = if requeued { self.requeued_to } else { 0 };
            self.read_chains(&connection, Wanted::Requeued(behind)).await?;
        }
        Ok(())
    }

    /// Whatever held the partition up, it starts over with a claim.
    pub(super) fn claim_again(&mut self) {
        self.lane.put_back();
        self.lane.set_state(LaneState::Claiming, None);
        self.claim = None;
        self.not_before = None;
        self.try_again = None;
        self.stale = 0;
    }
}
