//! One batch, from decoded to committed.
//!
//! The order of things is the protocol: external effects before the transaction, everything else inside it, Redis and Kafka
//! after it. Nothing here is retried; what fails is told to the actor as a [`BatchError`], which knows what to do.

mod account;
mod commit;
mod decide;
mod errors;
mod measure;
mod observe;
mod prepare;

use std::{collections::HashSet, sync::Arc, time::Instant};

use chrono::{DateTime, Utc};
use metrics::histogram;
use parking_lot::Mutex;
use tokio::sync::SemaphorePermit;
use uuid::Uuid;

pub(crate) use self::errors::{BatchError, commit_error, fenced, ours, unaccounted, unanswered};
use self::errors::{stopping, theirs};
use super::{
    batch::{Fate, Item, Slot, cut},
    calls::{CallId, Calls},
};
use crate::{
    Cause,
    connection::Connection,
    consumer::Lane,
    group::Shared,
    handler::Handler,
    lease::Claim,
    metrics::BATCH_SECONDS,
    outbox::{Rows, Spans, Streams},
    record::TopicPartition,
    retry::{self, ChainKey, Chains, Circuit, Observation},
};

/// What a committed batch leaves to do.
#[derive(Debug)]
pub(crate) struct Committed {
    /// The lease as it is now.
    pub(crate) claim: Claim,
    /// To be published, in order.
    pub(crate) rows: Rows,
    /// Outbox rows deleted on the way.
    pub(crate) deleted: Spans,
    /// To be told to Redis.
    pub(crate) done: Vec<Uuid>,
    /// Changes to the lane's chains.
    pub(crate) waiting: Vec<Waiting>,
    /// What the attempts showed, for the circuit.
    pub(crate) observed: Vec<Observation>,
    /// A server that some event waits for.
    pub(crate) unreachable: Option<Cause>,
    /// Waiting records that were run, and those that there was no time for.
    pub(crate) old: (usize, usize),
    /// Calls that go on, and where their records wait.
    pub(crate) slow: Vec<(CallId, ChainKey, i64)>,
    /// Some external call was answered.
    pub(crate) reached: bool,
    /// Every record was ignored: such a batch can be many times as large.
    pub(crate) all_ignored: bool,
}

/// A change to the lane's chains.
#[derive(Debug)]
pub(crate) enum Waiting {
    Added(ChainKey, i64, DateTime<Utc>, usize),
    Delayed(ChainKey, i64, DateTime<Utc>),
    Removed(ChainKey, i64),
}

/// What a batch runs against.
pub(crate) struct Context<'a, H: Handler> {
    pub(crate) shared: &'a Arc<Shared<H>>,
    pub(crate) source: &'a TopicPartition,
    pub(crate) outbox: &'a Streams,
    /// Where the records are in hand.
    pub(crate) hand: &'a Lane,
    pub(crate) claim: Claim,
    pub(crate) chains: &'a Chains,
    pub(crate) use_hints: bool,
    pub(crate) circuit: &'a Circuit,
    /// Calls that batches before this one did not wait for.
    pub(crate) calls: &'a Mutex<Calls<H::Prepared>>,
    /// Whose fault a death is has to be known: no call may go on without its record.
    pub(crate) alone: bool,
}

/// Runs a batch: what waited, and behind it what is fresh. `permit` bounds the transactions of the process; it is not held while
/// somebody else's system is called.
pub(crate) async fn run<H: Handler>(
    context: &Context<'_, H>,
    items: Vec<Item>,
    permit: SemaphorePermit<'_>,
) -> Result<Committed, BatchError> {
    let started = Instant::now();
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
    context.hand.keep_in_hand(slots.len());
    let permit = match prepare::wanted(handler, &slots) {
        wanted if wanted.is_empty() => permit,
        wanted => {
            drop(permit);
            prepare::prepare(context, &mut slots, &wanted).await?;
            context.hand.keep_in_hand(slots.len());
            failpoint!(BatchPrepared);
            acquire(context.shared).await?
        }
    };
    let committed = commit::commit(context, &mut slots).await?;
    drop(permit);
    failpoint!(BatchCommitted);
    measure::count(context, &slots);
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
    let counting = slots.iter().enumerate().filter(|(_, slot)| slot.fate != Fate::Ignored);
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
            slot.fate = Fate::Behind;
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
