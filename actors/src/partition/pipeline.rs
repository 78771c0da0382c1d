//! One batch, from decoded to committed.
//!
//! The order of things is the protocol: external effects before the transaction, everything else inside it, Redis and Kafka
//! after it. Nothing here is retried; what fails comes back to the actor as a [`BatchError`], which knows what to do.

mod account;
mod commit;
mod context;
mod decide;
mod dedupe;
mod effects;
mod errors;
pub(crate) mod letters;
mod measure;
mod observe;
mod prepare;
mod redo;
mod spans;

use std::{
    collections::HashSet,
    time::{Instant, SystemTime},
};

use metrics::histogram;
use tokio::sync::SemaphorePermit;
use uuid::Uuid;

pub(crate) use self::{
    context::{ChainChange, Committed, Context},
    errors::{BatchError, commit_error, fenced, ours, unaccounted, unanswered},
};
use self::{
    errors::stopping,
    redo::{Aborted, Care, Redo},
};
use super::{
    batch::{Outcome, Slot, cut},
    shared::Shared,
};
use crate::{
    connection::Connection,
    handler::Handler,
    lane::Item,
    metrics::BATCH_SECONDS,
    retry::{self, Chains},
    sql, trace,
};

/// Runs a batch: what waited, and behind it what is fresh. `permit` bounds the transactions of the process; it is not held while
/// somebody else's system is called.
pub(crate) async fn run<H: Handler>(
    context: &Context<'_, H>,
    items: Vec<Item>,
    permit: SemaphorePermit<'_>,
) -> Result<Committed, BatchError> {
    let started = Instant::now();
    let traced = trace::recorder().map(|recorder| (recorder, SystemTime::now()));
    let handler = &context.shared.handler;
    let now = context.shared.clock.now();
    let mut slots: Vec<Slot<H>> = items.into_iter().map(|item| Slot::decode(handler, item, now)).collect();
    failpoint!(BatchDecoded);
    let more = beyond(context, &slots).await?;
    gate(context.chains, &more, &mut slots);
    if context.use_hints {
        hint(context, &mut slots).await;
    }
    slots.truncate(within(&slots, context.shared.settings.batch_max_records));
    slots.truncate(cut(handler, &slots));
    // Whatever happens from here on is no fault of those that were cut off.
    context.hand.keep_in_flight(slots.len());
    let permit = match prepare::wanted(handler, &slots) {
        wanted if wanted.is_empty() => permit,
        wanted => {
            drop(permit);
            prepare::prepare(context, &mut slots, &wanted).await?;
            context.hand.keep_in_flight(slots.len());
            failpoint!(BatchPrepared);
            acquire(context.shared).await?
        }
    };
    let open: Vec<bool> = slots.iter().map(|slot| slot.outcome == Outcome::Open).collect();
    let mut care = Care::None;
    // Each time the batch is smaller, or more is known of it: at the most as often as it has events.
    let committed = loop {
        match commit::commit(context, &mut slots, care).await {
            Ok(committed) => break committed,
            // A statement of some event's failed, and its handler has not said so.
            Err(Aborted::Failed(BatchError::Code(cause)))
                if sql::is_of_failed_transaction(&cause)
                    && care == Care::None
                    && handler.one_by_one().is_some() =>
            {
                Redo::WithSavepoints.apply(&mut slots, &open, &mut care);
            }
            Err(Aborted::Failed(error)) => return Err(error),
            // Nobody waits for a batch that is begun again and again.
            Err(Aborted::Redo(_)) if context.hand.is_closing() => return Err(stopping()),
            Err(Aborted::Redo(redo)) => {
                redo.apply(&mut slots, &open, &mut care);
                context.hand.keep_in_flight(slots.len());
            }
        }
    };
    drop(permit);
    failpoint!(BatchCommitted);
    measure::count(context, &slots);
    if let Some((recorder, started)) = traced {
        spans::tell(context, &slots, recorder, started);
    }
    histogram!(BATCH_SECONDS, "group" => context.shared.settings.group.clone())
        .record(started.elapsed().as_secs_f64());
    Ok(committed)
}

/// A place among the process's batch transactions.
pub(crate) async fn acquire<H: Handler>(shared: &Shared<H>) -> Result<SemaphorePermit<'_>, BatchError> {
    // Never closed while the group runs.
    shared.transactions.acquire().await.map_err(|_| stopping())
}

/// Where a batch ends that may hold `max` records. Those that are ignored touch nothing but the lease: they do not count.
fn within<H: Handler>(slots: &[Slot<H>], max: usize) -> usize {
    let counting = slots.iter().enumerate().filter(|(_, slot)| slot.outcome != Outcome::Ignored);
    counting.map(|(at, _)| at).nth(max).unwrap_or(slots.len())
}

/// Keys of fresh records of which others wait that are not held in memory. Nearly always all are.
async fn beyond<H: Handler>(
    context: &Context<'_, H>,
    slots: &[Slot<H>],
) -> Result<HashSet<Box<[u8]>>, BatchError> {
    if context.chains.beyond().is_none() {
        return Ok(HashSet::new());
    }
    let fresh = slots.iter().filter(|slot| slot.item.parked.is_none() && slot.open().is_some());
    let keys: Vec<&[u8]> = fresh.filter_map(|slot| slot.item.record.key.as_deref()).collect();
    let connection = Connection::get(&context.shared.pool).await?;
    let keys = retry::waiting_keys(&*connection, &context.shared.settings.group, context.source, &keys);
    Ok(connection.read(&context.shared.settings.limits, keys).await?)
}

/// Fresh records whose key has others waiting go behind them.
fn gate<H: Handler>(chains: &Chains, beyond: &HashSet<Box<[u8]>>, slots: &mut [Slot<H>]) {
    for slot in slots.iter_mut().filter(|slot| slot.item.parked.is_none() && slot.open().is_some()) {
        if slot.item.record.key.as_deref().is_some_and(|key| chains.holds(key) || beyond.contains(key)) {
            slot.outcome = Outcome::Behind;
        }
    }
}

async fn hint<H: Handler>(context: &Context<'_, H>, slots: &mut [Slot<H>]) {
    // A hint saves an external call and nothing else: of the others there is nothing to ask.
    let handler = &context.shared.handler;
    let wanted = prepare::wanted(handler, slots);
    let ids: Vec<Uuid> = wanted.iter().filter_map(|at| Some(slots[*at].open()?.attempt.event_id)).collect();
    let seen = context.shared.hints.seen(&context.shared.settings.group, &ids).await;
    for (at, seen) in wanted.into_iter().zip(seen) {
        slots[at].hinted = seen;
    }
}
