//! The one transaction: lease, inbox, states, outbox, parked, together or not at all.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use tokio_postgres::Error;
use uuid::Uuid;

use super::{
    account::passed,
    context::{ChainChange, Committed, Context},
    dedupe::mark_duplicates,
    effects::effects,
    errors::{BatchError, ours},
    letters,
    observe::{example, observe},
    redo::{Aborted, Care},
    spans,
};
use crate::{
    Cause,
    dedupe::{self, InboxRow},
    failure::Failure,
    handler::Handler,
    outbox::{Row, Rows},
    partition::{
        batch::{Outcome, Slot, Tally},
        calls::CallId,
        fenced::FencedTransaction,
    },
    retry::{self, ChainKey, NewParked, Retried},
};

/// Runs the transaction, within its limits. One that is not answered in time may have happened.
pub(super) async fn commit<H: Handler>(
    context: &Context<'_, H>,
    slots: &mut [Slot<H>],
    care: Care,
) -> Result<Committed, Aborted> {
    let transact = async |tx: FencedTransaction<'_>| transact(tx, context, slots, care).await;
    FencedTransaction::run(context.shared, context.source, &context.claim, transact).await
}

async fn transact<H: Handler>(
    tx: FencedTransaction<'_>,
    context: &Context<'_, H>,
    slots: &mut [Slot<H>],
    care: Care,
) -> Result<Committed, Aborted> {
    let shared = context.shared;
    let (group, now) = (shared.settings.group.as_str(), tx.now());
    slots.iter_mut().for_each(|slot| slot.set_time(now));
    failpoint!(BatchHeld);
    let new = register(&tx, group, slots, now).await.map_err(|error| ours(&error))?;
    if slots.iter().any(|slot| slot.hinted && lied(&shared.handler, slot, &new)) {
        return Err(BatchError::HintsLied.into());
    }
    failpoint!(BatchRegistered);
    let answered = |failure: &Failure| !matches!(failure, Failure::Unreachable(_));
    let reached =
        |slot: &Slot<H>| slot.prepared.as_ref().is_some_and(|call| call.as_ref().err().is_none_or(answered));
    let reached = slots.iter().any(reached);
    let emits = effects(&tx, context, slots, now, care).await?;
    failpoint!(BatchSaved);
    let observed = observe(context.circuit, slots);
    if let Some(systemic) = context.circuit.judge(&observed, Instant::now()) {
        let cause = example(systemic, slots);
        return Err(BatchError::Systemic(systemic, cause).into());
    }
    let rows = rows(context, slots, emits, now);
    let records = async {
        close_inbox(&tx, group, slots, &new).await?;
        park(&tx, context, slots, now).await
    };
    let (waiting, slow) = records.await.map_err(|error: Error| ours(&error))?;
    let (claim, deleted) = tx.finish(context.outbox, &rows, &passed(context.claim, slots)).await?;

    // Hints go to Redis for what it may be asked for, and does not know.
    let finished = |slot: &&Slot<H>| {
        matches!(slot.outcome, Outcome::Applied | Outcome::Duplicate)
            && !slot.hinted
            && slot.needs_prepare(&shared.handler)
    };
    let id = |slot: &Slot<H>| Some(slot.decoded.as_ref()?.attempt.event_id);
    letters::log(context, slots);
    Ok(Committed {
        claim,
        rows,
        deleted,
        done: slots.iter().filter(finished).filter_map(id).collect(),
        waiting,
        observed,
        unreachable: slots.iter().find_map(unreachable).cloned(),
        reached,
        slow,
        old: {
            let old = || slots.iter().filter(|slot| slot.item.parked.is_some());
            let left = old().filter(|slot| slot.outcome == Outcome::Behind).count();
            (old().count() - left, left)
        },
        all_ignored: slots.iter().all(|slot| slot.outcome == Outcome::Ignored),
    })
}

/// The server that the slot's event waits for.
fn unreachable<H: Handler>(slot: &Slot<H>) -> Option<&Cause> {
    match &slot.outcome {
        Outcome::Again(cause, _, Tally::Unreachable) => Some(cause),
        _ => None,
    }
}

/// Tells the inbox of every open event, and marks those it knows. Returns the ids that are new to it.
async fn register<H: Handler>(
    tx: &Transaction<'_>,
    group: &str,
    slots: &mut [Slot<H>],
    now: DateTime<Utc>,
) -> Result<HashSet<Uuid>, Error> {
    let mut seen = HashSet::new();
    let mut entries = Vec::new();
    for slot in slots.iter_mut() {
        // One statement must not name an id twice: a twin's outcome follows from the first's.
        // One that is dead before it was tried is registered too: its event must not be tried when it comes again.
        let judged = slot.item.diagnosis.dead.is_some();
        let event = slot.decoded.as_ref().filter(|_| judged || slot.outcome == Outcome::Open);
        let Some(event) = event.filter(|event| seen.insert(event.attempt.event_id)) else { continue };
        entries.push(InboxRow {
            event_id: event.attempt.event_id,
            generation: i32::try_from(slot.item.generation()).unwrap_or(i32::MAX),
            payload_hash: event.payload_hash,
        });
        slot.registered = true;
    }
    if entries.is_empty() {
        return Ok(HashSet::new());
    }
    let new: HashSet<Uuid> = dedupe::register(tx, group, &entries, now).await?.into_iter().collect();
    if new.len() < entries.len() {
        let old: Vec<Uuid> =
            entries.iter().map(|entry| entry.event_id).filter(|id| !new.contains(id)).collect();
        mark_duplicates(slots, &new, &dedupe::known(tx, group, &old).await?);
    }
    Ok(new)
}

/// A hint skipped the external call of an event that turns out to be new.
fn lied<H: Handler>(handler: &H, slot: &Slot<H>, new: &HashSet<Uuid>) -> bool {
    slot.open()
        .is_some_and(|event| new.contains(&event.attempt.event_id) && handler.needs_prepare(&event.body))
}

/// Everything to be published, numbered, in the order of the batch.
fn rows<H: Handler>(
    context: &Context<'_, H>,
    slots: &[Slot<H>],
    emits: Vec<Vec<crate::Emit>>,
    now: DateTime<Utc>,
) -> Rows {
    let numbered = |(seq, emit)| Row { seq, emit };
    let letters = slots.iter().flat_map(|slot| {
        letters::dead(context, slot, now).into_iter().chain(letters::outcome(context, slot, now))
    });
    let events = slots.iter().zip(emits).flat_map(|(slot, mut emits)| {
        emits.extend(letters::buried(context, slot));
        spans::pass_on(context.shared, slot, &mut emits);
        emits
    });
    Rows {
        events: (context.claim.outbox_seq + 1..).zip(events).map(numbered).collect(),
        letters: (context.claim.letter_seq + 1..).zip(letters).map(numbered).collect(),
    }
}

/// The inbox never says applied of what was not.
async fn close_inbox<H: Handler>(
    tx: &Transaction<'_>,
    group: &str,
    slots: &[Slot<H>],
    new: &HashSet<Uuid>,
) -> Result<(), Error> {
    let ids = |wanted: fn(&Outcome) -> bool| -> Vec<Uuid> {
        let registered = slots.iter().filter(|slot| slot.registered && wanted(&slot.outcome));
        registered
            .filter_map(|slot| Some(slot.decoded.as_ref()?.attempt.event_id))
            .filter(|id| new.contains(id))
            .collect()
    };
    let parked = ids(|outcome| matches!(outcome, Outcome::Behind | Outcome::Again(..)));
    let dead = ids(|outcome| matches!(outcome, Outcome::Dead(..)));
    dedupe::finish(tx, group, &parked, &dead).await
}

/// Changes to the chains, and calls that go on.
type Parked = (Vec<ChainChange>, Vec<(CallId, ChainKey, i64)>);

/// Writes who waits from now on, and takes out who does not any more.
async fn park<H: Handler>(
    tx: &Transaction<'_>,
    context: &Context<'_, H>,
    slots: &[Slot<H>],
    now: DateTime<Utc>,
) -> Result<Parked, Error> {
    let (mut slow, mut slow_new) = (Vec::new(), Vec::new());
    let (mut added, mut again, mut gone, mut waiting) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for slot in slots {
        let attempts = i32::try_from(slot.item.attempts()).unwrap_or(i32::MAX);
        let key = |id| ChainKey::of(slot.item.record.key.as_deref(), id);
        let (attempts, due_at, tally, cause) = match (&slot.outcome, slot.item.parked) {
            (Outcome::Behind, None) => {
                (0, now, None, Cause::new("behind", "waits behind an earlier record of its key"))
            }
            (Outcome::Again(cause, due_at, tally), _) => {
                let counted = i32::from(*tally == Tally::Failed);
                (attempts.saturating_add(counted), *due_at, Some(*tally), cause.clone())
            }
            (Outcome::Behind, Some(_)) => continue,
            (_, None) => continue,
            (_, Some(waited)) => {
                gone.push(waited.id);
                waiting.push(ChainChange::Removed(key(waited.id), waited.id));
                continue;
            }
        };
        let crashes = i32::try_from(slot.item.diagnosis.crashes).unwrap_or(i32::MAX);
        let failed = matches!(tally, Some(Tally::Failed | Tally::NotYet));
        match (slot.item.parked, &slot.decoded) {
            (Some(waited), _) => {
                let anew = tally == Some(Tally::Failed) && waited.attempts == 0;
                if tally == Some(Tally::Slow) {
                    slow.push((CallId::of(&slot.item), key(waited.id), waited.id));
                }
                let uncounted = if tally != Some(Tally::Unreachable) {
                    Duration::ZERO
                } else {
                    (due_at - now).to_std().unwrap_or_default()
                };
                let downtime = if anew { Duration::ZERO } else { slot.item.downtime(now) + uncounted };
                again.push(Retried { id: waited.id, attempts, failed, anew, downtime, due_at, cause });
                waiting.push(ChainChange::Delayed(key(waited.id), waited.id, due_at));
            }
            (None, Some(event)) => {
                slow_new.push((tally == Some(Tally::Slow)).then(|| CallId::of(&slot.item)));
                added.push(NewParked {
                    record: &slot.item.record,
                    event_id: event.attempt.event_id,
                    attempts,
                    crashes,
                    due_at,
                    failed,
                    cause,
                });
            }
            // Only events wait; the sum of the outcomes would find a record that was let slip here.
            (None, None) => {}
        }
    }
    let ids = retry::insert(tx, &context.shared.settings.group, context.source, &added, now).await?;
    for ((id, parked), call) in ids.into_iter().zip(&added).zip(slow_new) {
        let key = ChainKey::of(parked.record.key.as_deref(), id);
        slow.extend(call.map(|call| (call, key.clone(), id)));
        if context.chains.beyond().is_some() {
            // Records of its key may wait that are not held in memory: it is read in its turn.
            continue;
        }
        waiting.push(ChainChange::Added(key, id, parked.due_at, parked.record.size()));
    }
    retry::retry(tx, &again, now).await?;
    retry::delete(tx, &gone).await?;
    Ok((waiting, slow))
}
