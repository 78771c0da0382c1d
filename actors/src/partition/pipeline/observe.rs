//! What a batch's attempts show of the world, for the circuit.

use std::hash::{DefaultHasher, Hash, Hasher};

use dead_letters::{Class, fingerprint};

use crate::{
    Cause,
    handler::Handler,
    partition::batch::{Outcome, Slot, Tally},
    retry::{Circuit, Observation, Systemic},
};

/// One observation for each event that was tried. Nothing where there is nothing to learn: no failure now, none before.
pub(super) fn observe<H: Handler>(circuit: &Circuit, slots: &[Slot<H>]) -> Vec<Observation> {
    let quiet = circuit.is_quiet() && slots.iter().all(|slot| failure(slot).is_none());
    if quiet {
        return Vec::new();
    }
    slots.iter().filter_map(observation).collect()
}

fn observation<H: Handler>(slot: &Slot<H>) -> Option<Observation> {
    let event = slot.decoded.as_ref().filter(|_| slot.item.diagnosis.dead.is_none())?;
    let failed = failure(slot).map(of_cause);
    let tried =
        failed.is_some() || matches!(slot.outcome, Outcome::Applied | Outcome::Dead(Class::Permanent, _));
    let mut key = DefaultHasher::new();
    event.key.hash(&mut key);
    tried.then(|| Observation { key: key.finish(), failed })
}

/// The transient failure that the slot's attempt ended with.
fn failure<H: Handler>(slot: &Slot<H>) -> Option<&Cause> {
    match &slot.outcome {
        Outcome::Again(cause, _, Tally::Failed) => Some(cause),
        Outcome::Dead(Class::Exhausted, cause) if slot.item.diagnosis.dead.is_none() => Some(cause),
        _ => None,
    }
}

fn of_cause(cause: &Cause) -> u64 {
    // Sixteen hex digits.
    u64::from_str_radix(&fingerprint(Class::Exhausted, &cause.code, &cause.message), 16).unwrap_or(0)
}

/// What most keys fail with, in the words of one of them.
pub(super) fn example<H: Handler>(systemic: Systemic, slots: &[Slot<H>]) -> Cause {
    let alike = slots.iter().filter_map(failure).find(|cause| of_cause(cause) == systemic.fingerprint);
    let Systemic { failing, tried, .. } = systemic;
    let (code, message) =
        alike.map_or(("unknown", "unknown"), |cause| (cause.code.as_ref(), cause.message.as_str()));
    Cause::new(code.to_owned(), format!("{failing} of {tried} keys fail alike: {message}"))
}
