//! Events that had an outcome before.

use std::collections::{HashMap, HashSet};

use dead_letters::Class;
use uuid::Uuid;

use crate::{
    Cause,
    dedupe::Known,
    handler::Handler,
    partition::batch::{Outcome, Slot},
};

/// Marks events that the batch itself or the inbox knows already. `new` are the ids that are new to the inbox, `known` what
/// it says of the others. Only the first of an id stays open; the others are settled by [`decide`](super::decide) once its outcome is known.
pub(super) fn mark_duplicates<H: Handler>(
    slots: &mut [Slot<H>],
    new: &HashSet<Uuid>,
    known: &HashMap<Uuid, Known>,
) {
    for slot in slots {
        let judged = slot.item.diagnosis.dead.is_some();
        let Some(event) = slot.decoded.as_ref().filter(|_| judged || slot.outcome == Outcome::Open) else {
            continue;
        };
        if new.contains(&event.attempt.event_id) {
            continue;
        }
        let Some(known) = known.get(&event.attempt.event_id) else { continue };
        let generation = slot.item.generation();
        slot.outcome = if generation == 1 && known.generation == 1 && known.payload_hash != event.payload_hash
        {
            reused(event.attempt.event_id)
        } else if known.dead {
            Outcome::DeadAlready
        } else {
            Outcome::Duplicate
        };
    }
}

/// The outcome of an event whose id came with another body before.
pub(super) fn reused(event_id: Uuid) -> Outcome {
    let message = format!("event id {event_id} came before with another body: ids must not be reused");
    Outcome::Dead(Class::Permanent, Cause::new("event-id-reused", message))
}
