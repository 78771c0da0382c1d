//! The books of a batch: where the lease moves, and what became of each offset on the way. Whether that adds up is asked before the commit.

use crate::{
    handler::Handler,
    lease::{
        Claim, Counts,
        journal::{Mark, Runs},
    },
    partition::{
        batch::{Outcome, Slot},
        fenced::Passed,
    },
};

/// What the batch has done with the offsets it passes.
pub(super) fn passed<H: Handler>(claim: Claim, slots: &[Slot<H>]) -> Passed {
    Passed { to: moved(claim, slots), counts: counts(slots), journal: journal(slots) }
}

/// Where the lease moves: past the last fresh record, which come after those that waited; nowhere without one.
fn moved<H: Handler>(claim: Claim, slots: &[Slot<H>]) -> Claim {
    match slots.last() {
        Some(slot) if slot.item.parked.is_none() => claim.past(&slot.item.record),
        _ => claim,
    }
}

/// How the batch changes the lease's counts. The gaps are the window's own, noted when the records were delivered: a record
/// that went missing since then leaves an offset without an outcome.
fn counts<H: Handler>(slots: &[Slot<H>]) -> Counts {
    let mut counts = Counts::default();
    for slot in slots.iter().filter(|slot| slot.item.is_counted()) {
        counts.gaps += slot.item.gap;
        let waits = matches!(slot.outcome, Outcome::Behind | Outcome::Again(..));
        match slot.item.parked {
            None => counts.parked += i64::from(waits),
            Some(_) if waits => continue,
            Some(_) => counts.parked -= 1,
        }
        match slot.outcome {
            Outcome::Applied => counts.applied += 1,
            Outcome::Duplicate | Outcome::DeadAlready => counts.duplicate += 1,
            Outcome::Ignored => counts.ignored += 1,
            Outcome::Dead(..) => counts.dead += 1,
            // An open outcome is counted nowhere, so the check before the commit finds it.
            Outcome::Behind | Outcome::Again(..) | Outcome::Open => {}
        }
    }
    counts
}

/// What became of each offset, for the journal; empty where all records waited.
fn journal<H: Handler>(slots: &[Slot<H>]) -> String {
    let mut runs = Runs::default();
    for slot in slots.iter().filter(|slot| slot.item.parked.is_none()) {
        runs.push(Mark::Gap, slot.item.gap);
        let mark = match slot.outcome {
            Outcome::Applied => Mark::Applied,
            Outcome::Duplicate | Outcome::DeadAlready => Mark::Duplicate,
            Outcome::Ignored => Mark::Ignored,
            Outcome::Dead(..) => Mark::Dead,
            Outcome::Behind | Outcome::Again(..) => Mark::Parked,
            Outcome::Open => continue,
        };
        runs.push(mark, 1);
    }
    runs.finish()
}
