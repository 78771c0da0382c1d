//! What is held against a lane's records: see [`super::super::quarantine`].

use super::Lane;
use crate::{
    lane::quarantine::{CrashedRow, Questioned},
    lease::{Intent, Place},
};

impl Lane {
    /// The one record in flight, if it is one.
    pub(crate) fn alone(&self) -> Option<Place> {
        self.window.lock().alone()
    }

    /// One of the records in flight is guilty: half of them are run next.
    pub(crate) fn blame(&self) {
        self.window.lock().blame();
    }

    /// Until the partition is at `offset`, and so many parked rows have run, a few are tried at a time, with their intent
    /// written first; those of `intent` each alone.
    pub(crate) fn go_into_quarantine(&self, offset: i64, rows: usize, intent: Option<(Intent, u32)>) {
        self.window.lock().go_into_quarantine(offset, rows, intent);
    }

    /// Whether that is so for the window.
    pub(crate) fn is_in_quarantine(&self) -> bool {
        self.window.lock().is_in_quarantine()
    }

    /// Whether that is so for parked rows.
    pub(crate) fn quarantines_rows(&self) -> bool {
        self.window.lock().quarantines_rows()
    }

    /// How many parked rows may be tried at a time.
    pub(crate) fn most_rows(&self) -> usize {
        self.window.lock().most_rows()
    }

    /// Parked rows to be run before others.
    pub(crate) fn questioned(&self) -> Questioned {
        self.window.lock().questioned()
    }

    /// What processes were trying alone when they ended, and how many did.
    pub(crate) fn suspect(&self) -> Option<(Place, u32)> {
        self.window.lock().suspect()
    }

    /// Whether something is held against the window's first record, or against rows that wait.
    pub(crate) fn questions(&self) -> bool {
        self.window.lock().questions()
    }

    /// Nothing is held any more against rows that do not wait.
    pub(crate) fn keep_rows(&self, waiting: impl Fn(i64) -> bool) {
        self.window.lock().keep_rows(waiting);
    }

    /// Parked rows that were in flight when an actor died, and whose crash is not counted in the table yet.
    pub(crate) fn crashed_rows(&self) -> Vec<CrashedRow> {
        self.window.lock().crashed_rows()
    }

    /// Their crash is counted.
    pub(crate) fn crash_counted(&self, rows: &[CrashedRow]) {
        self.window.lock().crash_counted(rows);
    }

    /// The last panic's message.
    pub(crate) fn last_panic(&self) -> Option<String> {
        self.window.lock().last_panic()
    }

    /// The actor died. Counts the crash against the records in flight, where one may kill `limit` actors. Returns how many
    /// there were.
    pub(crate) fn actor_died(&self, panic: &str, limit: u32) -> usize {
        self.status.lock().restarts += 1;
        self.window.lock().actor_died(panic, limit)
    }
}
