//! How a run of `requeue` ended, letter by letter.

use std::collections::HashMap;

use dead_letters::RequeueOutcome;
use uuid::Uuid;

use super::plan::Item;

/// How a letter of the plan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// As far as is known it was not put back: its turn did not come, or its batch did not get through.
    Planned,
    /// It was its turn, and it was not put back.
    Failed,
    /// Its batch was sent, and nobody said whether it got through.
    Unknown,
    /// Put back, and nobody waited for more.
    Requeued,
    /// Put back, without an outcome in time.
    Outstanding,
    /// Put back, and this is what its group says.
    Outcome(RequeueOutcome),
}

/// The one ending of each letter of a plan.
#[derive(Debug, Default)]
pub(super) struct Endings {
    letters: HashMap<Uuid, Ending>,
    tally: Tally,
}

impl Endings {
    /// Of a plan of which nothing was done yet.
    pub(super) fn of(items: &[Item]) -> Self {
        let mut endings = Self::default();
        items.iter().for_each(|item| endings.note(item.id, Ending::Planned));
        endings
    }

    /// From now on this is how the letter ended.
    pub(super) fn note(&mut self, id: Uuid, ending: Ending) {
        if let Some(before) = self.letters.insert(id, ending) {
            *self.tally.count(before) -= 1;
        }
        *self.tally.count(ending) += 1;
    }

    /// Whether the letter was put back and nothing more is known of it.
    pub(super) fn is_requeued(&self, id: Uuid) -> bool {
        self.letters.get(&id) == Some(&Ending::Requeued)
    }

    /// How many letters ended how.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }
}

/// How many letters ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    planned: usize,
    failed: usize,
    /// Put back or not.
    pub(super) unknown: usize,
    requeued: usize,
    /// Put back, without an outcome in time.
    pub(super) outstanding: usize,
    /// Put back, with an outcome that leaves nothing to do.
    pub(super) resolved: usize,
    /// Put back, and dead again.
    pub(super) dead_again: usize,
}

impl Tally {
    fn count(&mut self, ending: Ending) -> &mut usize {
        match ending {
            Ending::Planned => &mut self.planned,
            Ending::Failed => &mut self.failed,
            Ending::Unknown => &mut self.unknown,
            Ending::Requeued => &mut self.requeued,
            Ending::Outstanding => &mut self.outstanding,
            Ending::Outcome(outcome) if outcome.resolves() => &mut self.resolved,
            Ending::Outcome(_) => &mut self.dead_again,
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> usize {
        self.requeued() + self.not_requeued() + self.unknown
    }

    /// Put back, whatever became of them.
    pub(super) fn requeued(&self) -> usize {
        self.requeued + self.outstanding + self.resolved + self.dead_again
    }

    /// Not put back.
    pub(super) fn not_requeued(&self) -> usize {
        self.planned + self.failed
    }

    /// Whether some did not end as they were meant to.
    pub(super) fn some_failed(&self) -> bool {
        self.not_requeued() + self.unknown + self.dead_again + self.outstanding > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        requeue::Plan,
        snapshot::{State, tests::dead},
    };

    #[test]
    fn every_letter_counts_once_whatever_becomes_of_it() {
        let letters = (1..=3).map(|offset| (dead(offset, 1), State::Open));
        let items = Plan::new(letters.collect(), vec![], &[], false).items;
        let mut endings = Endings::of(&items);
        let counts = |endings: &Endings| {
            let tally = endings.tally();
            let requeued = (tally.requeued(), tally.not_requeued(), tally.unknown);
            (requeued, tally.resolved, tally.dead_again, tally.outstanding)
        };
        assert_eq!((counts(&endings), endings.tally().some_failed()), (((0, 3, 0), 0, 0, 0), true));
        let steps = [
            (0, Ending::Requeued, ((1, 2, 0), 0, 0, 0)),
            (0, Ending::Outcome(RequeueOutcome::AlreadyApplied), ((1, 2, 0), 1, 0, 0)),
            (1, Ending::Failed, ((1, 2, 0), 1, 0, 0)),
            (1, Ending::Unknown, ((1, 1, 1), 1, 0, 0)),
            (1, Ending::Requeued, ((2, 1, 0), 1, 0, 0)),
            (1, Ending::Outcome(RequeueOutcome::Unplaceable), ((2, 1, 0), 1, 1, 0)),
            (2, Ending::Outstanding, ((3, 0, 0), 1, 1, 1)),
            (2, Ending::Outcome(RequeueOutcome::Applied), ((3, 0, 0), 2, 1, 0)),
        ];
        for (letter, ending, expected) in steps {
            endings.note(items[letter].id, ending);
            assert_eq!(counts(&endings), expected, "{ending:?}");
            assert_eq!(endings.tally().all(), 3);
        }
        assert!(endings.tally().some_failed() && !endings.is_requeued(items[0].id));
        endings.note(items[1].id, Ending::Outcome(RequeueOutcome::Ignored));
        assert!(!endings.tally().some_failed());
    }
}
