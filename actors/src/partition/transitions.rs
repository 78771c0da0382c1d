//! What becomes of a batch that was committed, and of one that was not.

use std::time::Instant;

use metrics::counter;

use super::{
    pipeline::{BatchError, ChainChange, Committed},
    work::{CutOff, HELD_UP, Next, Work},
};
use crate::{
    Cause,
    connection::Soundness,
    handler::Handler,
    lane::Refusal,
    metrics::CIRCUIT_OPENED,
    retry::{Systemic, delay},
    sql,
    status::LaneState,
};

/// So many waiting records are worth a batch.
const LEAST: usize = 16;

/// Statements that do not fit their tables any more are prepared anew so often before that is taken for an error that stays.
const STALE_TRIES: u32 = 3;

impl<H: Handler> Work<H> {
    pub(super) fn committed(&mut self, committed: Committed) -> Next {
        self.claim = Some(committed.claim);
        self.size.in_time(self.lane.in_flight());
        self.lane.finish(committed.claim.next_offset);
        self.outbox.publish(&committed.rows);
        failpoint!(BatchPublished);
        self.outbox.deleted(committed.deleted);
        for change in committed.waiting {
            match change {
                ChainChange::Added(key, id, due_at, size) => self.chains.push(key, id, due_at, size),
                ChainChange::Delayed(key, id, due_at) => self.chains.delay(&key, id, due_at),
                ChainChange::Removed(key, id) => {
                    self.chains.remove(&key, id);
                    self.calls.get_mut().forget(id);
                }
            }
        }
        for (call, key, id) in committed.slow {
            self.calls.get_mut().parked(call, key, id);
        }
        self.appetite = match committed.old {
            (_, 0) => self.appetite.saturating_mul(2),
            (run, _) => (run + run / 2).max(LEAST),
        };
        self.use_hints = true;
        self.stale = 0;
        self.wide = committed.all_ignored;
        self.last_write = Instant::now();
        if self.circuit.committed(&committed.observed, self.last_write) {
            tracing::info!("a probe passed; the circuit is closed, and attempts count again");
        }
        match committed.unreachable.filter(|_| !committed.reached) {
            Some(cause) => self.cut_off(cause),
            None if committed.reached || self.chains.len() == 0 => self.cut_off = None,
            None => {}
        }
        self.recovered();
        self.shared.hints.done(&self.shared.settings.group, committed.done);
        failpoint!(BatchHinted);
        Next::Again
    }

    pub(super) fn failed(&mut self, error: BatchError) -> Next {
        if let BatchError::Unreachable(cause) | BatchError::Unknown(cause) = &error
            && sql::is_slow(cause)
        {
            self.too_slow(cause);
        }
        match error {
            BatchError::Unreachable(cause) => {
                self.lane.put_back();
                self.degrade(&cause)
            }
            BatchError::Unknown(cause) => {
                self.lane.put_back();
                self.claim = None;
                tracing::warn!(%cause, "the batch's outcome is not known; claiming again to find out");
                // If the partition is somebody else's, Kafka will have said so by the second heartbeat from now.
                let fenced = cause.code == "fenced";
                let wait = if fenced { self.shared.settings.heartbeat() * 2 } else { HELD_UP };
                self.not_before = Some(Instant::now() + wait);
                Next::Sleep(Some(wait))
            }
            BatchError::HintsLied => {
                self.lane.put_back();
                self.use_hints = false;
                Next::Again
            }
            BatchError::Data(cause) => self.refused(cause),
            BatchError::Systemic(systemic, cause) => {
                self.lane.put_back();
                self.open_circuit(systemic, &cause)
            }
            BatchError::Code(cause) => self.out_of_order(cause),
            BatchError::Halt(cause) => self.halt(&cause),
        }
    }

    /// A record's values were refused: the next batch is half of this one, until the record that fails is alone.
    fn refused(&mut self, cause: Cause) -> Next {
        match self.lane.values_refused(&cause) {
            Refusal::OfNone => return self.out_of_order(cause),
            Refusal::OfOne => {
                tracing::warn!(%cause,
                    "a record's values were refused; redoing the batch by halves to find it");
            }
            Refusal::Again => {}
        }
        Next::Again
    }

    /// A batch took longer than it may: the next one is half of it.
    fn too_slow(&mut self, cause: &Cause) {
        let records = self.lane.in_flight();
        if records == 0 {
            return;
        }
        self.size.too_slow(records);
        tracing::warn!(%cause, records, next = self.size.most(),
            "a batch did not end in time; the next one is smaller");
    }

    /// The code, or the schema, does not fit. What was prepared before a table changed is prepared anew at once; else somebody
    /// has to look, and until then it is tried again now and then.
    fn out_of_order(&mut self, cause: Cause) -> Next {
        self.lane.put_back();
        if sql::soundness_of(&cause) == Soundness::Stale && self.stale < STALE_TRIES {
            self.stale += 1;
            tracing::info!(%cause, "a prepared statement does not fit any more; preparing it anew");
            return Next::Again;
        }
        self.stale = 0;
        let wait = self.shared.settings.halt_retry;
        let cause = Cause::new(cause.code, format!("{}; tried again every {wait:?}", cause.message));
        if !self.lane.is_halted() {
            tracing::error!(%cause, "the partition is halted; the others go on");
        }
        self.lane.set_state(LaneState::Halted, Some(&cause));
        self.try_again = Some(Instant::now() + wait);
        Next::Sleep(Some(wait))
    }

    /// There is nothing to do: what halted the partition, if it was not for somebody to decide, fails nothing now.
    pub(super) fn nothing_fails(&mut self) {
        if self.lane.is_halted() {
            self.recovered();
        }
    }

    fn open_circuit(&mut self, systemic: Systemic, cause: &Cause) -> Next {
        if self.circuit.opened(systemic) {
            counter!(CIRCUIT_OPENED, "group" => self.shared.settings.group.clone()).increment(1);
            tracing::debug!(%cause, failing = systemic.failing, tried = systemic.tried,
                "most keys fail alike; the circuit is open, nothing counts until a probe passes");
        }
        self.lane.set_state(LaneState::Open, Some(cause));
        let wait = delay(&self.shared.settings.unreachable, self.circuit.probes() + 1);
        self.not_before = Some(Instant::now() + wait);
        Next::Sleep(Some(wait))
    }

    /// Takes nothing new, and says why. What waits may run all the same.
    pub(super) fn pause(&mut self, cause: &Cause) {
        if self.cut_off.is_some() {
            // That is why so many wait.
            return;
        }
        if self.lane.state() != LaneState::Paused {
            tracing::debug!(%cause, "the partition takes nothing new for now");
            self.lane.set_state(LaneState::Paused, Some(cause));
        }
    }

    /// No external call was answered: what needs one waits, and the lane tries with one at a time.
    fn cut_off(&mut self, cause: Cause) {
        let now = Instant::now();
        let probe_at = match &self.cut_off {
            Some(known) if known.probe_at > now => known.probe_at,
            _ => {
                self.failures = self.failures.saturating_add(1);
                now + delay(&self.shared.settings.unreachable, self.failures)
            }
        };
        if self.cut_off.is_none() {
            tracing::warn!(%cause, "a server cannot be reached; what needs it waits");
        }
        self.cut_off = Some(CutOff { cause, probe_at });
    }

    pub(super) fn degrade(&mut self, cause: &Cause) -> Next {
        self.failures = self.failures.saturating_add(1);
        let wait = delay(&self.shared.settings.unreachable, self.failures);
        if self.failures == 1 {
            tracing::debug!(%cause, "a server cannot be reached; the batch waits");
        }
        self.lane.set_state(LaneState::Degraded, Some(cause));
        self.not_before = Some(Instant::now() + wait);
        Next::Sleep(Some(wait))
    }

    pub(super) fn recovered(&mut self) {
        if let Some(CutOff { cause, .. }) = &self.cut_off {
            self.lane.set_state(LaneState::Degraded, Some(cause));
            return;
        }
        if self.failures > 0 {
            tracing::debug!(attempts = self.failures, "working again");
        }
        self.failures = 0;
        self.try_again = None;
        if !self.circuit.is_open() {
            self.lane.set_state(LaneState::Running, None);
        }
    }

    pub(super) fn halt(&mut self, cause: &Cause) -> Next {
        self.lane.put_back();
        self.try_again = None;
        self.lane.set_state(LaneState::Halted, Some(cause));
        tracing::error!(%cause, "the partition is halted; the others go on");
        Next::Sleep(None)
    }
}
