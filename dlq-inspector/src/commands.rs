//! The commands that only look.

mod list;
mod show;
mod topics;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

pub use self::{list::list, show::show, topics::topics};
use crate::{
    output::{Cell, Ink, complain},
    snapshot::{Ledger, State},
};

/// The time, no finer than it is printed.
pub fn now() -> DateTime<Utc> {
    let now = Utc::now();
    now.duration_trunc(TimeDelta::milliseconds(1)).unwrap_or(now)
}

/// A state in its colour.
pub fn state_cell(state: State) -> Cell {
    let ink = match state {
        State::Open | State::DeadAgain => Ink::Bad,
        State::Requeued | State::Foreign => Ink::Warn,
        State::Resolved => Ink::Good,
        State::Discarded => Ink::Dim,
    };
    Cell::inked(state.as_str(), ink)
}

/// Says so when the ledger held records that are no entries: the states may lack what they said.
pub fn warn_unreadable(ledger: &Ledger) {
    if ledger.unreadable() > 0 {
        complain(&format!(
            "warning: {} records of the ledger are no entries and were ignored",
            ledger.unreadable()
        ));
    }
}
