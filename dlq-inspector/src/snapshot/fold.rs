//! Letters as they are read, each given its state once.

use std::collections::HashSet;

use uuid::Uuid;

use super::{Ledger, Letter, State};

/// Collapses twins and knows which letters were superseded by one of the next generation.
#[derive(Debug, Default)]
pub struct Fold {
    seen: HashSet<Uuid>,
    superseded: HashSet<Uuid>,
    late: bool,
}

/// What a fold knows when all has been read.
#[derive(Debug, Default)]
pub struct Folded {
    /// Every id.
    pub ids: Vec<Uuid>,
    /// Ids that a letter of the next generation replaced.
    pub superseded: HashSet<Uuid>,
    /// Some letter was given a state before its successor was read: fold again, knowing the superseded.
    pub late: bool,
}

impl Fold {
    /// A fold that already knows which letters are superseded.
    pub fn knowing(superseded: HashSet<Uuid>) -> Self {
        Self { superseded, ..Self::default() }
    }

    /// The letter's state; `None` for the twin of one seen before.
    pub fn admit(&mut self, letter: &Letter, ledger: &Ledger) -> Option<State> {
        if !self.seen.insert(letter.id) {
            return None;
        }
        let Some(dead) = letter.dead() else {
            let state = ledger.state(letter.id);
            return Some(if state == State::Discarded { state } else { State::Foreign });
        };
        if dead.generation > 1 {
            let before = dead.id_in(dead.generation - 1);
            let news = self.superseded.insert(before);
            // Normally the ledger said so already, since the group reports every death.
            self.late |= news && self.seen.contains(&before) && ledger.state(before) != State::DeadAgain;
        }
        Some(if self.superseded.contains(&letter.id) { State::DeadAgain } else { ledger.state(letter.id) })
    }

    /// Ends it.
    pub fn finish(self) -> Folded {
        Folded { ids: self.seen.into_iter().collect(), superseded: self.superseded, late: self.late }
    }
}

#[cfg(test)]
mod tests {
    use dead_letters::{Action, Entry, RequeueOutcome};

    use super::*;
    use crate::{snapshot::letter::tests::dead, time::from_ms};

    fn ledger(lines: &[(Uuid, Action)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (offset, (id, action)) in lines.iter().enumerate() {
            let entry = Entry {
                dlq_id: *id,
                group: "g".into(),
                action: action.clone(),
                at: from_ms(0),
                by: "me".into(),
                job: None,
                reason: None,
            };
            ledger.add(0, offset as i64, entry);
        }
        ledger
    }

    #[test]
    fn twins_are_one_letter() {
        let mut fold = Fold::default();
        assert_eq!(fold.admit(&dead(1, 1), &Ledger::default()), Some(State::Open));
        assert_eq!(fold.admit(&dead(1, 1), &Ledger::default()), None);
        assert_eq!(fold.finish().ids, [dead(1, 1).id]);
    }

    #[test]
    fn a_letter_dies_again_whatever_is_read_first() {
        let (first, second) = (dead(1, 1), dead(1, 2));
        let requeued = (first.id, Action::Requeue { generation: 2 });
        let again = (first.id, Action::Outcome { generation: 2, outcome: RequeueOutcome::DeadAgain });

        // The new letter first, the outcome not yet written.
        let mut fold = Fold::default();
        let unknown = ledger(std::slice::from_ref(&requeued));
        assert_eq!(fold.admit(&second, &unknown), Some(State::Open));
        assert_eq!(fold.admit(&first, &unknown), Some(State::DeadAgain));
        assert!(!fold.finish().late);

        // The old letter first: its state was given too early, and a second fold knows better.
        let mut fold = Fold::default();
        assert_eq!(fold.admit(&first, &unknown), Some(State::Requeued));
        assert_eq!(fold.admit(&second, &unknown), Some(State::Open));
        let folded = fold.finish();
        assert!(folded.late);
        let mut fold = Fold::knowing(folded.superseded);
        assert_eq!(fold.admit(&first, &unknown), Some(State::DeadAgain));
        assert_eq!(fold.admit(&second, &unknown), Some(State::Open));
        assert!(!fold.finish().late, "the second fold is the last");

        // The outcome is known: nothing to repeat.
        let mut fold = Fold::default();
        let known = ledger(&[requeued, again]);
        assert_eq!(fold.admit(&first, &known), Some(State::DeadAgain));
        assert_eq!(fold.admit(&second, &known), Some(State::Open));
        assert!(!fold.finish().late);
    }
}
