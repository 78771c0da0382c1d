//! The books of a batch: where the lease moves, what became of each offset on the way, and whether that adds up.

use crate::{
    handler::Handler,
    lease::{
        Claim, Counts,
        journal::{Mark, Runs},
    },
    partition::batch::{Fate, Slot},
};

/// Where the lease moves: past the last fresh record, which come after those that waited; nowhere without one.
pub(super) fn moved<H: Handler>(claim: Claim, slots: &[Slot<H>]) -> Claim {
    match slots.last() {
        Some(slot) if slot.item.parked.is_none() => claim.past(&slot.item.record),
        _ => claim,
    }
}

/// How the batch changes the lease's counts. The gaps are the window's own, noted when the records were delivered: a record
/// that went missing since then leaves an offset without an outcome.
pub(super) fn counts<H: Handler>(slots: &[Slot<H>]) -> Counts {
    let mut counts = Counts::default();
    for slot in slots.iter().filter(|slot| slot.item.is_counted()) {
        counts.gaps += slot.item.gap;
        let waits = matches!(slot.fate, Fate::Behind | Fate::Again(..));
        match slot.item.parked {
            None => counts.parked += i64::from(waits),
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
    counts
}

/// What became of each offset, for the journal; empty where all records waited.
pub(super) fn journal<H: Handler>(slots: &[Slot<H>]) -> String {
    let mut runs = Runs::default();
    for slot in slots.iter().filter(|slot| slot.item.parked.is_none()) {
        runs.push(Mark::Gap, slot.item.gap);
        let mark = match slot.fate {
            Fate::Applied => Mark::Applied,
            Fate::Duplicate | Fate::DeadAlready => Mark::Duplicate,
            Fate::Ignored => Mark::Ignored,
            Fate::Dead(..) => Mark::Dead,
            Fate::Behind | Fate::Again(..) => Mark::Parked,
            Fate::Open => continue,
        };
        runs.push(mark, 1);
    }
    runs.finish()
}
