//! What would be closed or opened again, and what would not. Pure.

use chrono::{DateTime, Utc};
use dead_letters::Action;
use uuid::Uuid;

use crate::{
    act::{LeftOut, Target},
    snapshot::{Letter, State},
};

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Closed without running it.
    Discard,
    /// A discard taken back.
    Restore,
}

impl Turn {
    /// The command.
    pub fn command(self) -> &'static str {
        match self {
            Self::Discard => "discard",
            Self::Restore => "restore",
        }
    }

    /// What is said of a letter afterwards.
    pub fn done(self) -> &'static str {
        match self {
            Self::Discard => "discarded",
            Self::Restore => "restored",
        }
    }

    /// The state that is meant where none is named.
    pub fn from(self) -> State {
        match self {
            Self::Discard => State::Open,
            Self::Restore => State::Discarded,
        }
    }

    /// What the ledger calls it.
    pub fn action(self) -> Action {
        match self {
            Self::Discard => Action::Discard,
            Self::Restore => Action::Restore,
        }
    }
}

/// A letter to close, or to open again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The letter's id.
    pub id: Uuid,
    /// The group it died in.
    pub group: String,
    /// Its class.
    pub class: &'static str,
    /// The error's code.
    pub code: Option<String>,
    /// When it died.
    pub failed_at: DateTime<Utc>,
    /// What became of it so far.
    pub state: State,
}

impl Target for Item {
    fn id(&self) -> Uuid {
        self.id
    }

    fn group(&self) -> &str {
        &self.group
    }
}

/// What would be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which way.
    pub turn: Turn,
    /// The letters, the oldest first.
    pub items: Vec<Item>,
    /// Selected, and left as they are.
    pub left_out: Vec<LeftOut>,
}

impl Plan {
    /// Judges the selected letters.
    pub fn new(turn: Turn, selected: Vec<(Letter, State)>, mut left_out: Vec<LeftOut>, force: bool) -> Self {
        let mut items = Vec::new();
        for (letter, state) in selected {
            match why_not(turn, &letter, state, force) {
                Some(left) => left_out.push(left),
                None => items.push(Item {
                    id: letter.id,
                    group: letter.group().to_owned(),
                    class: letter.class(),
                    code: letter.code().map(str::to_owned),
                    failed_at: letter.failed_at(),
                    state,
                }),
            }
        }
        items.sort_by_key(|item| (item.failed_at, item.id));
        Self { turn, items, left_out }
    }
}

fn why_not(turn: Turn, letter: &Letter, state: State, force: bool) -> Option<LeftOut> {
    let left = |why: String, allowed_by| Some(LeftOut { id: letter.id, why, allowed_by });
    match (turn, state) {
        (Turn::Discard, State::Open | State::Foreign) | (Turn::Restore, State::Discarded) => None,
        (Turn::Restore, state) => left(format!("it is not discarded, it is {}", state.as_str()), None),
        (Turn::Discard, State::Discarded) => left("it is discarded already".into(), None),
        (Turn::Discard, State::Resolved) => {
            left("it is resolved: there is nothing left to close".into(), None)
        }
        (Turn::Discard, State::DeadAgain) => {
            let next = letter.dead().map(|dead| dead.id_in(dead.generation.saturating_add(1)));
            left(format!("it died again as {}: discard that one", next.unwrap_or_default()), None)
        }
        (Turn::Discard, State::Requeued) if force => None,
        (Turn::Discard, State::Requeued) => left(
            "it was requeued and has no outcome yet: its group may still apply it".into(),
            Some("--force"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::dead;

    fn plan(turn: Turn, states: &[State], force: bool) -> Plan {
        let letters = states.iter().zip(1..).map(|(state, offset)| (dead(10 - offset, 1), *state));
        Plan::new(turn, letters.collect(), Vec::new(), force)
    }

    #[test]
    fn what_is_open_or_foreign_is_closed_and_the_rest_left_with_its_reason() {
        let states = [
            State::Open,
            State::Requeued,
            State::Resolved,
            State::DeadAgain,
            State::Discarded,
            State::Foreign,
        ];
        let plan = plan(Turn::Discard, &states, false);
        let closed: Vec<_> = plan.items.iter().map(|item| item.state).collect();
        assert_eq!(closed, [State::Foreign, State::Open], "the oldest first");
        let why: Vec<_> = plan.left_out.iter().map(|left| (&left.why[..8], left.allowed_by)).collect();
        let reasons =
            [("it was r", Some("--force")), ("it is re", None), ("it died ", None), ("it is di", None)];
        assert_eq!(why, reasons);
        assert!(plan.left_out[2].why.contains(&dead(6, 2).id.to_string()), "{}", plan.left_out[2].why);
    }

    #[test]
    fn force_closes_what_may_still_be_answered_and_nothing_else() {
        let plan = plan(Turn::Discard, &[State::Requeued, State::Resolved, State::DeadAgain], true);
        assert_eq!((plan.items.len(), plan.left_out.len()), (1, 2));
    }

    #[test]
    fn only_what_is_discarded_is_restored() {
        let plan = plan(Turn::Restore, &[State::Open, State::Discarded, State::Resolved], true);
        assert_eq!((plan.items.len(), plan.left_out.len()), (1, 2));
        assert_eq!(plan.left_out[0].why, "it is not discarded, it is open");
    }
}
