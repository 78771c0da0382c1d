//! Folds a batch's events through the handler's pure `decide`, in order.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use chrono::{DateTime, Utc};
use dead_letters::Class;
use uuid::Uuid;

use super::{dedupe::reused, errors::BatchError};
use crate::{
    Cause,
    failure::Failure,
    handler::{Decision, Emit, Handler, Loaded},
    outbox::MAX_RECORD,
    partition::batch::{Item, Outcome, Slot, Tally},
    retry::{delay, patience, spread},
    settings::RetryPolicy,
};

/// What waits for a server is tried again after this; while nobody reaches it, the lane tries one at a time.
const UNREACHABLE: Duration = Duration::from_secs(2);

/// What was decided.
pub(super) struct Decided<H: Handler> {
    /// The states to save, in the order of their keys.
    pub(super) changed: BTreeMap<H::Key, H::State>,
    /// The shared rows to save.
    pub(super) shared: H::Shared,
    /// What each slot emits.
    pub(super) emits: Vec<Vec<Emit>>,
}

/// Gives every open slot its outcome.
pub(super) fn decide<H: Handler>(
    handler: &H,
    retry: &RetryPolicy,
    slots: &mut [Slot<H>],
    loaded: Loaded<H::Key, H::State, H::Shared>,
    now: DateTime<Utc>,
) -> Result<Decided<H>, BatchError> {
    let Loaded { states, unreadable, shared } = loaded;
    let mut decided = Decided {
        changed: BTreeMap::new(),
        shared,
        emits: std::iter::repeat_with(Vec::new).take(slots.len()).collect(),
    };
    let mut first: HashMap<Uuid, usize> = HashMap::new();
    let mut waiting: HashSet<Box<[u8]>> = HashSet::new();
    for at in 0..slots.len() {
        let (before, rest) = slots.split_at_mut(at);
        let slot = &mut rest[0];
        if let Some(event) = slot.decoded.as_ref().filter(|_| slot.item.verdict.is_some()) {
            first.entry(event.attempt.event_id).or_insert(at);
        }
        // A record that was gated, or waits again, holds its key's later ones back.
        if let Some(event) = slot.decoded.as_ref().filter(|_| slot.outcome == Outcome::Open) {
            let blocked = slot.item.record.key.as_ref().is_some_and(|key| waiting.contains(key));
            let twin = first.get(&event.attempt.event_id).map(|at| &before[*at]);
            first.entry(event.attempt.event_id).or_insert(at);
            slot.outcome = if blocked {
                Outcome::Behind
            } else if let Some(twin) = twin {
                twin_fate(twin, event.payload_hash, event.attempt.event_id)
            } else if let Some(cause) = unreadable.get(&event.key) {
                Outcome::Dead(Class::Permanent, unreadable_state(cause))
            } else {
                let state = decided.changed.get(&event.key).or_else(|| states.get(&event.key));
                let decision = match slot.prepared.take().transpose() {
                    Ok(prepared) => {
                        handler.decide(&event.attempt, &event.body, state, &mut decided.shared, prepared)
                    }
                    Err(failure) => Err(failure),
                };
                if let Ok(decision) = &decision {
                    sized(decision)?;
                }
                match decision {
                    Ok(decision) => {
                        if let Some(state) = decision.state {
                            decided.changed.insert(event.key.clone(), state);
                        }
                        decided.emits[at] = decision.emit;
                        Outcome::Applied
                    }
                    Err(failure) => after_failure(retry, &slot.item, failure, now),
                }
            };
        }
        if matches!(slot.outcome, Outcome::Behind | Outcome::Again(..))
            && let Some(key) = &slot.item.record.key
        {
            waiting.insert(key.clone());
        }
    }
    Ok(decided)
}

/// Why an event dies whose state cannot be read.
pub(super) fn unreadable_state(cause: &Cause) -> Cause {
    Cause::new("unreadable-state", format!("the state of its key cannot be read: {cause}"))
}

/// The outcome of a second event with an id that the batch has already seen.
fn twin_fate<H: Handler>(twin: &Slot<H>, payload_hash: i64, event_id: Uuid) -> Outcome {
    let other_body = twin.decoded.as_ref().is_some_and(|event| event.payload_hash != payload_hash);
    match twin.outcome {
        _ if other_body && twin.item.generation() == 1 => reused(event_id),
        Outcome::Behind | Outcome::Again(..) => Outcome::Behind,
        Outcome::Dead(..) | Outcome::DeadAlready => Outcome::DeadAlready,
        _ => Outcome::Duplicate,
    }
}

/// Tries again later, unless the event is to blame for ever, or its attempts or its time ran out.
fn after_failure(retry: &RetryPolicy, item: &Item, failure: Failure, now: DateTime<Utc>) -> Outcome {
    match failure {
        Failure::Permanent(cause) => Outcome::Dead(Class::Permanent, cause),
        Failure::Unreachable(cause) => {
            Outcome::Again(cause, later(now, spread(retry, UNREACHABLE)), Tally::Unreachable)
        }
        Failure::NotYet(cause) => {
            Outcome::Again(cause, later(now, patience(retry, item.age(now))), Tally::NotYet)
        }
        Failure::Transient(cause) => {
            let attempts = item.attempts() + 1;
            // Its time begins with its first own failure.
            let elapsed = if attempts == 1 { Duration::ZERO } else { item.age(now) };
            if retry.attempts.is_some_and(|most| attempts >= most) || elapsed >= retry.deadline {
                return Outcome::Dead(Class::Exhausted, cause);
            }
            Outcome::Again(cause, later(now, delay(retry, attempts)), Tally::Failed)
        }
    }
}

fn later(now: DateTime<Utc>, wait: Duration) -> DateTime<Utc> {
    let wait = chrono::Duration::from_std(wait).unwrap_or(chrono::Duration::MAX);
    now.checked_add_signed(wait).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Refuses what no topic would take: it would block the lane's outbox for ever. The batch is redone without it, since the
/// shared rows may hold what was decided.
fn sized<S>(decision: &Decision<S>) -> Result<(), BatchError> {
    let Some(emit) = decision.emit.iter().find(|emit| emit.size() > MAX_RECORD) else { return Ok(()) };
    Err(BatchError::Data(Cause::new(
        "emit-too-large",
        format!(
            "the handler emits a record of {} bytes to {}, more than {MAX_RECORD}",
            emit.size(),
            emit.topic
        ),
    )))
}

#[cfg(test)]
mod tests;
