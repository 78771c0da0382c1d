//! Folds a batch's events through the handler's pure `decide`, in order.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use chrono::{DateTime, Utc};
use dead_letters::Class;
use uuid::Uuid;

use super::{dedupe::reused, errors::BatchError};
use crate::{
    Cause,
    event::{Change, Decision, Emit},
    failure::Failure,
    handler::{Handler, Loaded},
    lane::Item,
    outbox::MAX_RECORD,
    partition::batch::{Outcome, Slot, Tally},
    retry::{delay, patience, spread},
    settings::RetryPolicy,
};

/// What waits for a server is tried again after this; while nobody reaches it, the lane tries one at a time.
const UNREACHABLE: Duration = Duration::from_secs(2);

/// What was decided.
pub(super) struct Decided<H: Handler> {
    /// What becomes of states: saved, or deleted where there is none.
    pub(super) changed: BTreeMap<H::Key, Option<H::State>>,
    /// The shared rows to save.
    pub(super) shared: H::Shared,
    /// What each slot emits.
    pub(super) emits: Vec<Vec<Emit>>,
    /// The slots whose events came to nothing, and why.
    pub(super) moot: Vec<(usize, Cow<'static, str>)>,
    /// What is to be said of slots.
    pub(super) notes: Vec<(usize, &'static str)>,
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
        emits: no_emits(slots),
        moot: Vec::new(),
        notes: Vec::new(),
    };
    let mut order = InOrder::default();
    for at in 0..slots.len() {
        if order.reach(slots, at)
            && let Some(event) = &slots[at].decoded
        {
            let slot = &slots[at];
            let outcome = if let Some(failure) = &slot.refused {
                after_failure(retry, &slot.item, handler.gives_up(&event.body), failure.clone(), now)
            } else if let Some(cause) = unreadable.get(&event.key) {
                Outcome::Dead(Class::Permanent, unreadable_state(cause))
            } else {
                let state = match decided.changed.get(&event.key) {
                    Some(changed) => changed.as_ref(),
                    None => states.get(&event.key),
                };
                let decision = match &slot.prepared {
                    Some(Err(failure)) => Err(failure.clone()),
                    prepared => {
                        let prepared = prepared.as_ref().and_then(|prepared| prepared.as_ref().ok());
                        handler.decide(&event.attempt, &event.body, state, &mut decided.shared, prepared)
                    }
                };
                match decision {
                    Ok(Decision { state, emit, moot, note }) => {
                        // The batch is redone without it, since the shared rows may hold what was decided.
                        sized(&emit).map_err(BatchError::Data)?;
                        let changed = match state {
                            Change::Keep => None,
                            Change::Save(state) => Some(Some(state)),
                            Change::Delete => Some(None),
                        };
                        if let Some(changed) = changed {
                            decided.changed.insert(event.key.clone(), changed);
                        }
                        decided.emits[at] = emit;
                        decided.moot.extend(moot.map(|why| (at, why)));
                        decided.notes.extend(note.map(|note| (at, note)));
                        Outcome::Applied
                    }
                    Err(failure) => {
                        after_failure(retry, &slot.item, handler.gives_up(&event.body), failure, now)
                    }
                }
            };
            slots[at].outcome = outcome;
        }
        order.pass(&slots[at]);
    }
    Ok(decided)
}

/// Room for what each slot emits.
pub(super) fn no_emits<H: Handler>(slots: &[Slot<H>]) -> Vec<Vec<Emit>> {
    std::iter::repeat_with(Vec::new).take(slots.len()).collect()
}

/// What the events of a batch so far mean for the next one.
#[derive(Debug, Default)]
pub(super) struct InOrder {
    /// Where each event came first.
    first: HashMap<Uuid, usize>,
    /// Keys that wait from now on.
    waiting: HashSet<Box<[u8]>>,
}

impl InOrder {
    /// Comes to the slot at `at`. True if it is to be handled; else it has its outcome, perhaps from those before it.
    pub(super) fn reach<H: Handler>(&mut self, slots: &mut [Slot<H>], at: usize) -> bool {
        let (before, rest) = slots.split_at_mut(at);
        let slot = &mut rest[0];
        let Some(event) = &slot.decoded else { return false };
        let id = event.attempt.event_id;
        if slot.item.diagnosis.dead.is_some() {
            self.first.entry(id).or_insert(at);
        }
        if slot.outcome != Outcome::Open {
            return false;
        }
        let blocked = slot.item.record.key.as_ref().is_some_and(|key| self.waiting.contains(key));
        let twin = self.first.get(&id).map(|at| &before[*at]);
        slot.outcome = match twin {
            _ if blocked => Outcome::Behind,
            Some(twin) => twin_fate(twin, event.payload_hash, id),
            None => Outcome::Open,
        };
        self.first.entry(id).or_insert(at);
        slot.outcome == Outcome::Open
    }

    /// The slot has its outcome: a record that was gated, or waits again, holds its key's later ones back.
    pub(super) fn pass<H: Handler>(&mut self, slot: &Slot<H>) {
        if matches!(slot.outcome, Outcome::Behind | Outcome::Again(..))
            && let Some(key) = &slot.item.record.key
        {
            self.waiting.insert(key.clone());
        }
    }
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
pub(super) fn after_failure(
    retry: &RetryPolicy,
    item: &Item,
    gives_up: bool,
    failure: Failure,
    now: DateTime<Utc>,
) -> Outcome {
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
            let over = retry.attempts.is_some_and(|most| attempts >= most) || elapsed >= retry.deadline;
            if gives_up && over {
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

/// Refuses what no topic would take: it would block the lane's outbox for ever.
pub(super) fn sized(emit: &[Emit]) -> Result<(), Cause> {
    let Some(emit) = emit.iter().find(|emit| emit.size() > MAX_RECORD) else { return Ok(()) };
    let (size, topic) = (emit.size(), &emit.topic);
    let message = format!("the handler emits a record of {size} bytes to {topic}, more than {MAX_RECORD}");
    Err(Cause::new("emit-too-large", message))
}

#[cfg(test)]
mod tests;
