//! A record in flight: from the window or from `parked`, with what is known of it before it is tried.

use std::{borrow::Cow, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use dead_letters::Class;
use uuid::Uuid;

use super::quarantine::{Diagnosis, Quarantine};
use crate::{
    Cause,
    failure::{MAX_MESSAGE, shorten},
    lease::RecordAt,
    record::Record,
    retry::ParkedRecord,
};

/// A record in flight.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) record: Arc<Record>,
    /// Offsets before it that hold no record: transaction markers, compaction.
    pub(crate) gap: i64,
    /// Set for a record that waited in `parked`; `None` for one fresh from the window.
    pub(crate) parked: Option<Waited>,
    /// What was known of it before it was tried: it may be dead.
    pub(crate) diagnosis: Diagnosis,
}

/// What a parked record brings along.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waited {
    pub(crate) id: i64,
    pub(crate) generation: u32,
    pub(crate) requeued_from: Option<Uuid>,
    pub(crate) attempts: u32,
    pub(crate) first_failed_at: Option<DateTime<Utc>>,
    /// When it was to run.
    pub(crate) due_at: DateTime<Utc>,
    /// Time since it first failed in which it was due and not run, before it was tried last.
    pub(crate) downtime: Duration,
}

impl Item {
    /// A record that waited.
    pub(super) fn waited(parked: ParkedRecord, quarantine: &Quarantine) -> Self {
        let waited = Waited {
            id: parked.id,
            generation: parked.generation,
            requeued_from: parked.requeued_from,
            attempts: parked.attempts,
            first_failed_at: parked.first_failed_at,
            downtime: parked.downtime,
            due_at: parked.due_at,
        };
        let mut diagnosis = quarantine.diagnose(RecordAt::Parked(parked.id), parked.crashes);
        // An operator has ended its retries.
        let by_hand = parked.dead_letter.map(|reason| (Class::Exhausted, ended(&parked.cause, &reason)));
        diagnosis.dead = diagnosis.dead.or(by_hand);
        Self { record: Arc::new(parked.record), gap: 0, parked: Some(waited), diagnosis }
    }

    /// Where it is: in the log, or in `parked`.
    pub(crate) fn place(&self) -> RecordAt {
        self.parked.map_or(RecordAt::Offset(self.record.offset), |waited| RecordAt::Parked(waited.id))
    }

    /// Failed attempts so far.
    pub(crate) fn attempts(&self) -> u32 {
        self.parked.map_or(0, |waited| waited.attempts)
    }

    /// Time since it first failed that does not count: it was due, and nobody ran it. The process was gone or frozen, a server
    /// was, the circuit was open, an operator had paused it, others came first: whatever it was, it is not the record's fault.
    pub(crate) fn downtime(&self, now: DateTime<Utc>) -> Duration {
        let Some(waited) = self.parked else { return Duration::ZERO };
        waited.downtime.saturating_add((now - waited.due_at).to_std().unwrap_or_default())
    }

    /// Time since it first failed, without what does not count.
    pub(crate) fn age(&self, now: DateTime<Utc>) -> Duration {
        let since = self.parked.and_then(|waited| waited.first_failed_at);
        let elapsed = since.and_then(|since| (now - since).to_std().ok()).unwrap_or_default();
        elapsed.saturating_sub(self.downtime(now))
    }

    /// 1 unless it was requeued.
    pub(crate) fn generation(&self) -> u32 {
        self.parked.map_or(1, |waited| waited.generation)
    }

    /// A record of the lane's own offsets, as opposed to one that was put back: its outcome is counted in the lease.
    pub(crate) fn is_counted(&self) -> bool {
        self.parked.is_none_or(|waited| waited.requeued_from.is_none())
    }
}

/// Bytes of what a record failed with beside an operator's word.
const OWN: usize = MAX_MESSAGE / 2;
/// Parts the two.
const ENDED: &str = "; an operator ended its retries: ";

/// Why a record is dead whose retries an operator has ended: what it failed with last, and the operator's word.
fn ended(cause: &Cause, reason: &str) -> Cause {
    let failed = shorten(&cause.message, OWN);
    Cause::new(cause.code.clone(), format!("{failed}{ENDED}{reason}"))
}

/// What a record failed with by itself, of all that its dead letter says; the same whether or not an operator has ended it.
pub(crate) fn own_failure(message: &str) -> Cow<'_, str> {
    shorten(message.split(ENDED).next().unwrap_or(message), OWN)
}
