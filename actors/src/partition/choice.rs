//! Which records are run next: what waits and is due, what is new, and what has to be tried apart.

use std::time::{Duration, Instant};

use super::{pipeline::BatchError, work::Work};
use crate::{
    Cause,
    connection::Connection,
    handler::Handler,
    lane::Item,
    lease::{Claim, RecordAt},
    retry,
    status::LaneState,
};

impl<H: Handler> Work<H> {
    /// The next batch: what waits and is due, and behind it what is new, in one transaction: a few retries must not cost as
    /// much as many new records.
    pub(super) async fn items(&mut self, due: &[i64], full: Option<Cause>) -> Result<Vec<Item>, BatchError> {
        let mut items = if due.is_empty() { Vec::new() } else { self.waited(due).await? };
        if let Some(cause) = full {
            if due.is_empty() {
                self.pause(&cause);
            }
            return Ok(items);
        }
        if due.is_empty() || self.mixes() {
            let settings = &self.shared.settings;
            let bytes: usize = items.iter().map(|item| item.record.size()).sum();
            let wide = self.wide && !self.size.is_slowed();
            let most = if wide { settings.lane_max_records } else { self.size.most() };
            let records = most.saturating_sub(items.len());
            let bytes = settings.batch_max_bytes.saturating_sub(bytes);
            items.extend(self.fresh(records, bytes));
        }
        Ok(items)
    }

    /// Whether what waited and what is fresh run together: nothing has to run apart.
    fn mixes(&self) -> bool {
        !self.lane.runs_apart() && !self.circuit.is_open()
    }

    /// Why nothing new may be taken, if so many records wait. Those that were put back do not count: they are bounded where
    /// they come from.
    pub(super) fn full(&self, claim: &Claim) -> Option<Cause> {
        let settings = &self.shared.settings;
        let waiting = claim.parked;
        if usize::try_from(waiting).is_ok_and(|waiting| waiting >= settings.parked_max) {
            return Some(Cause::new("parked-full", format!("{waiting} records of this partition wait")));
        }
        let full = self.chains.has_full();
        full.then(|| Cause::new("chain-full", format!("{} records of one key wait", settings.chain_max)))
    }

    /// Waiting records to run now; none when it is the window's turn.
    pub(super) fn due(&self, full: bool) -> Vec<i64> {
        let settings = &self.shared.settings;
        let now = self.shared.clock.now();
        // What processes have died of comes first, so that nothing else's progress hides it.
        match self.lane.quarantine.deadly() {
            Some(RecordAt::Offset(offset)) if !full && self.lane.may_come(offset) => return Vec::new(),
            Some(RecordAt::Parked(id)) if self.chains.is_due(id, now) => return vec![id],
            _ => {}
        }
        if self.circuit.wants_fresh() && !full && self.lane.front().is_some() {
            return Vec::new();
        }
        if self.cut_off.as_ref().is_some_and(|cut_off| cut_off.probe_at > Instant::now()) {
            return Vec::new();
        }
        // Where they run apart, they take turns: neither is held up by the other.
        let apart = !self.circuit.is_open() && !self.mixes();
        if apart && self.rows_were_last && !full && self.lane.front().is_some() {
            return Vec::new();
        }
        let apart = self.lane.quarantine.rows_apart();
        let mut first = self.chains.due_among(now, &apart.rows);
        if !first.is_empty() {
            first.truncate(apart.share(first.len()).min(self.size.most()));
            return first;
        }
        let limit = match self.cut_off {
            Some(_) => 1,
            None => {
                self.circuit.limit(self.size.most()).min(self.lane.quarantine.most_rows()).min(self.appetite)
            }
        };
        // While new records wait, what is old leaves them half of the batch.
        let shares = !full && self.mixes() && self.lane.front().is_some();
        let (limit, bytes) = match shares {
            true => (limit.div_ceil(2), settings.batch_max_bytes / 2),
            false => (limit, settings.batch_max_bytes),
        };
        self.chains.due(now, limit, bytes)
    }

    /// How long until some that wait are to run.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let now = self.shared.clock.now();
        let due = (self.chains.next_due()? - now).to_std().unwrap_or_default();
        let probe =
            self.cut_off.as_ref().map(|cut_off| cut_off.probe_at.saturating_duration_since(Instant::now()));
        Some(due.max(probe.unwrap_or_default()).max(Duration::from_millis(1)))
    }

    /// The next of the window, at most so many records and bytes.
    fn fresh(&mut self, records: usize, bytes: usize) -> Vec<Item> {
        if self.lane.state() == LaneState::Paused {
            self.recovered();
        }
        if records == 0 || bytes == 0 {
            return Vec::new();
        }
        self.lane.take(self.circuit.limit(records), bytes)
    }

    /// Waiting records whose time has come.
    async fn waited(&self, ids: &[i64]) -> Result<Vec<Item>, BatchError> {
        let connection = Connection::get(&self.shared.pool).await?;
        let fetch = retry::fetch(&*connection, &self.lane.source, ids);
        let rows = connection.read(&self.shared.settings.limits, fetch).await?;
        let items = self.lane.take_parked(rows);
        failpoint!(ParkedFetched);
        Ok(items)
    }
}
