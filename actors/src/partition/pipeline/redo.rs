//! A transaction that was rolled back and is begun again at once, knowing more: some event's effects cannot be written, and the
//! others' can.

use std::collections::{HashMap, HashSet};

use super::errors::BatchError;
use crate::{
    Cause,
    connection::{Soundness, Verdict},
    failure::Failure,
    handler::Handler,
    partition::batch::{Outcome, Slot},
};

/// What a batch of single events does against one that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// Nothing: it costs nothing.
    None,
    /// Each has a savepoint.
    Savepoints,
}

/// Why a transaction was not committed.
#[derive(Debug)]
pub(super) enum Aborted {
    /// The batch has failed.
    Failed(BatchError),
    /// It is to be done again, so.
    Redo(Redo),
}

/// What is different the next time.
#[derive(Debug)]
pub(super) enum Redo {
    /// One of the events fails: each has a savepoint.
    WithSavepoints,
    /// The batch ends before this slot: of a key that cannot be saved, each event is tried apart.
    Until(usize),
    /// The events of these slots have failed so.
    Refused(Vec<(usize, Failure)>),
}

impl Redo {
    /// The states of some keys could not be saved: either it is known which event made each what it is, or the batch has to end
    /// before the second of them.
    pub(super) fn without<H: Handler>(slots: &[Slot<H>], failed: &HashMap<H::Key, Failure>) -> Aborted {
        let mut seen = HashSet::new();
        let mut refused = Vec::new();
        for (at, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.outcome == Outcome::Applied) {
            let Some(key) = slot.decoded.as_ref().map(|event| &event.key) else { continue };
            let Some(failure) = failed.get(key) else { continue };
            if !seen.insert(key) {
                return Self::Until(at).into();
            }
            refused.push((at, failure.clone()));
        }
        if refused.is_empty() {
            let message = "the handler cannot save keys that no event of the batch has changed";
            return BatchError::Code(Cause::new("save-unknown-key", message)).into();
        }
        Self::Refused(refused).into()
    }

    /// Makes the batch what is to be tried next. `open` are the slots that had no outcome before the transaction.
    pub(super) fn apply<H: Handler>(self, slots: &mut Vec<Slot<H>>, open: &[bool], care: &mut Care) {
        match self {
            Self::WithSavepoints => *care = Care::Savepoints,
            Self::Until(end) => slots.truncate(end),
            Self::Refused(refused) => {
                refused.into_iter().for_each(|(at, failure)| slots[at].refused = Some(failure));
            }
        }
        for (slot, open) in slots.iter_mut().zip(open) {
            slot.registered = false;
            (slot.moot, slot.note) = (None, None);
            if *open {
                slot.outcome = Outcome::Open;
            } else if let Some((class, cause)) = &slot.item.diagnosis.dead {
                slot.outcome = Outcome::Dead(*class, cause.clone());
            }
        }
    }
}

impl From<BatchError> for Aborted {
    fn from(error: BatchError) -> Self {
        Self::Failed(error)
    }
}

impl From<Redo> for Aborted {
    fn from(redo: Redo) -> Self {
        Self::Redo(redo)
    }
}

impl Verdict for Aborted {
    fn verdict(&self) -> Soundness {
        match self {
            Self::Failed(error) => error.verdict(),
            Self::Redo(_) => Soundness::Sound,
        }
    }
}
