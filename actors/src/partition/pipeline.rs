//! One batch, from decoded to committed.
//!
//! The order of things is the protocol: external effects before the transaction, everything else inside it, Redis and Kafka
//! after it. Nothing here is retried; what fails is told to the actor as a [`BatchError`], which knows what to do.

mod commit;
mod decide;
mod prepare;

use std::{sync::Arc, time::Instant};

use chrono::{DateTime, Utc};
use metrics::{counter, histogram};
use tokio_postgres::Error;
use uuid::Uuid;

use super::batch::{Fate, Item, Slot, cut};
use crate::{
    Cause,
    group::Shared,
    handler::Handler,
    lease::{Claim, Counts},
    metrics::{BATCH_SECONDS, DEDUPE_HITS, RECORDS, RETRIES},
    outbox::Row,
    record::{NextOffset, TopicPartition},
    retry::{ChainKey, Chains},
    sql::{self, Blame},
};

/// Why a batch was not committed, or is not known to be.
#[derive(Debug)]
pub(crate) enum BatchError {
    /// A server cannot be reached: nobody's fault. The same batch again, later.
    Unreachable(Cause),
    /// The commit's answer was lost, or the lease is somebody else's: claim again, which tells.
    Unknown(Cause),
    /// Redis claimed an event that the inbox does not know: the batch again, without hints.
    HintsLied,
    /// One record's values were refused: the batch again, one by one.
    Data(Cause),
    /// A bug or a schema that does not fit: halt.
    Halt(Cause),
}

/// What a committed batch leaves to do.
#[derive(Debug)]
pub(crate) struct Committed {
    /// The lease as it is now.
    pub(crate) claim: Claim,
    /// To be published, in order.
    pub(crate) rows: Vec<Row>,
    /// Outbox rows deleted up to here.
    pub(crate) deleted: Option<i64>,
    /// To be told to Redis.
    pub(crate) done: Vec<Uuid>,
    /// Changes to the lane's chains.
    pub(crate) waiting: Vec<Waiting>,
}

/// A change to the lane's chains.
#[derive(Debug)]
pub(crate) enum Waiting {
    Added(ChainKey, i64, DateTime<Utc>),
    Delayed(ChainKey, i64, DateTime<Utc>),
    Removed(ChainKey, i64),
}

/// What a batch runs against.
pub(crate) struct Context<'a, H: Handler> {
    pub(crate) shared: &'a Arc<Shared<H>>,
    pub(crate) source: &'a TopicPartition,
    pub(crate) lane: &'a str,
    pub(crate) claim: Claim,
    pub(crate) chains: &'a Chains,
    /// Outbox rows acknowledged by Kafka, to be deleted along the way.
    pub(crate) deletable: Option<i64>,
    pub(crate) use_hints: bool,
}

/// Runs a batch. All items are fresh, or all waited.
pub(crate) async fn run<H: Handler>(
    context: &Context<'_, H>,
    items: Vec<Item>,
) -> Result<Committed, BatchError> {
    let started = Instant::now();
    let now = Utc::now();
    let handler = &context.shared.handler;
    let mut slots: Vec<Slot<H>> = items.into_iter().map(|item| Slot::decode(handler, item, now)).collect();
    gate(context.chains, &mut slots);
    if context.use_hints {
        hint(context, &mut slots).await;
    }
    slots.truncate(cut(handler, &slots));
    prepare::prepare(context, &mut slots).await?;
    let next = next_offset(&context.claim, &slots);
    let committed = commit::commit(context, &mut slots, next, now).await?;
    count(context, &slots);
    histogram!(BATCH_SECONDS, "group" => context.shared.settings.group.clone())
        .record(started.elapsed().as_secs_f64());
    Ok(committed)
}

/// Fresh records whose key has others waiting go behind them.
fn gate<H: Handler>(chains: &Chains, slots: &mut [Slot<H>]) {
    for slot in slots.iter_mut().filter(|slot| slot.item.parked.is_none() && slot.open().is_some()) {
        if slot.item.record.key.as_deref().is_some_and(|key| chains.holds(key)) {
            slot.fate = Fate::Behind;
        }
    }
}

async fn hint<H: Handler>(context: &Context<'_, H>, slots: &mut [Slot<H>]) {
    let ids: Vec<Uuid> = slots.iter().filter_map(|slot| Some(slot.open()?.attempt.event_id)).collect();
    let seen = context.shared.hints.seen(&context.shared.settings.group, &ids).await;
    for (slot, seen) in slots.iter_mut().filter(|slot| slot.open().is_some()).zip(seen) {
        slot.hinted = seen;
    }
}

/// Where the lease moves: past the last fresh record; nowhere for records that waited.
fn next_offset<H: Handler>(claim: &Claim, slots: &[Slot<H>]) -> NextOffset {
    match slots.last() {
        Some(slot) if slot.item.parked.is_none() => slot.item.record.offset.next(),
        _ => claim.next_offset,
    }
}

/// How the batch changes the lease's counts.
fn counts<H: Handler>(claim: &Claim, next: NextOffset, slots: &[Slot<H>]) -> Counts {
    let mut counts = Counts::default();
    let mut fresh = 0;
    for slot in slots.iter().filter(|slot| slot.item.is_counted()) {
        let waits = matches!(slot.fate, Fate::Behind | Fate::Again(..));
        match slot.item.parked {
            None => {
                fresh += 1;
                counts.parked += i64::from(waits);
            }
            Some(_) if waits => continue,
            Some(_) => counts.parked -= 1,
        }
        match slot.fate {
            Fate::Applied => counts.applied += 1,
            Fate::Duplicate | Fate::DeadAlready => counts.duplicate += 1,
            Fate::Ignored => counts.ignored += 1,
            Fate::Dead(..) => counts.dead += 1,
            // An open fate is counted nowhere, so the check before the commit finds it.
            Fate::Behind | Fate::Again(..) | Fate::Open => {}
        }
    }
    counts.gaps = next.0 - claim.next_offset.0 - fresh;
    counts
}

fn count<H: Handler>(context: &Context<'_, H>, slots: &[Slot<H>]) {
    let group = &context.shared.settings.group;
    let mut outcomes = [("applied", 0u64), ("duplicate", 0), ("ignored", 0), ("parked", 0), ("dead", 0)];
    let mut retries = 0;
    for slot in slots {
        let at = match slot.fate {
            Fate::Applied => 0,
            Fate::Duplicate | Fate::DeadAlready => 1,
            Fate::Ignored => 2,
            Fate::Behind | Fate::Again(..) if slot.item.parked.is_none() => 3,
            Fate::Dead(..) => 4,
            _ => continue,
        };
        outcomes[at].1 += 1;
    }
    for slot in slots.iter().filter(|slot| slot.item.attempts() > 0 && slot.fate != Fate::Behind) {
        retries += u64::from(slot.decoded.is_some());
    }
    for (outcome, records) in outcomes.into_iter().filter(|(_, records)| *records > 0) {
        counter!(RECORDS, "group" => group.clone(), "topic" => context.source.topic.to_string(), "outcome" => outcome)
            .increment(records);
    }
    if retries > 0 {
        counter!(RETRIES, "group" => group.clone()).increment(retries);
    }
    let duplicates = slots.iter().filter(|slot| matches!(slot.fate, Fate::Duplicate | Fate::DeadAlready));
    let (redis, inbox): (Vec<_>, Vec<_>) = duplicates.partition(|slot| slot.hinted);
    for (source, hits) in [("redis", redis.len()), ("inbox", inbox.len())] {
        if hits > 0 {
            counter!(DEDUPE_HITS, "group" => group.clone(), "source" => source)
                .increment(u64::try_from(hits).unwrap_or(u64::MAX));
        }
    }
}

/// An error of a statement of the runtime's own: never a record's fault.
pub(crate) fn ours(error: &Error) -> BatchError {
    match sql::blame(error) {
        Blame::Server => BatchError::Unreachable(sql::cause(error)),
        Blame::Data | Blame::Code => BatchError::Halt(sql::cause(error)),
    }
}

/// An error of a statement of the handler's.
fn theirs(error: &Error) -> BatchError {
    match sql::blame(error) {
        Blame::Data => BatchError::Data(sql::cause(error)),
        Blame::Server | Blame::Code => ours(error),
    }
}

/// A COMMIT that a failing server did not answer with success may have happened all the same.
pub(crate) fn commit_error(error: &Error) -> BatchError {
    match ours(error) {
        BatchError::Unreachable(cause) => BatchError::Unknown(cause),
        other => other,
    }
}

pub(crate) fn no_connection(error: &deadpool_postgres::PoolError) -> BatchError {
    BatchError::Unreachable(Cause::from_error("postgresql-pool", error))
}

/// The lease is somebody else's, or a commit whose answer was lost has moved it.
pub(crate) fn fenced() -> BatchError {
    BatchError::Unknown(Cause::new("fenced", "the partition's epoch or offset moved on"))
}

/// A bug, and a loud one: the batch is not committed.
pub(crate) fn unaccounted(left: i64, source: &TopicPartition, counts: &Counts) -> BatchError {
    let message = format!("{left} offsets of {source} would be left without an outcome: {counts:?}");
    BatchError::Halt(Cause::new("unaccounted", message))
}
