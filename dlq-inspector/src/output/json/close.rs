//! What `discard` and `restore` print.

use serde::Serialize;
use uuid::Uuid;

use crate::snapshot::State;

/// A line of `discard` or `restore`, told apart by `event`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum CloseJson<'a> {
    /// The plan as a whole; before it a `planned` or `left-out` for each letter.
    Plan {
        /// `discard` or `restore`.
        action: &'static str,
        /// Letters it would be done with.
        letters: usize,
        /// Letters that were selected and would be left as they are.
        left_out: usize,
        /// Groups concerned.
        groups: Vec<&'a str>,
        /// When the oldest died.
        oldest: Option<String>,
        /// When the newest died.
        newest: Option<String>,
        /// Why.
        reason: &'a str,
        /// The command that does it.
        command: String,
    },
    /// A letter it would be done with.
    Planned {
        /// Its id.
        id: Uuid,
        /// Its group.
        group: &'a str,
        /// Its class.
        class: &'a str,
        /// The error's stable code.
        error_code: Option<&'a str>,
        /// What became of it so far.
        state: State,
    },
    /// A letter that is left as it is.
    LeftOut {
        /// Its id.
        id: Uuid,
        /// Why.
        why: String,
        /// The flag that allows it, if one does.
        allowed_by: Option<&'static str>,
    },
    /// It is closed, and the ledger says so.
    Discarded {
        /// Its id.
        id: Uuid,
        /// Its group.
        group: &'a str,
        /// This run of the command, as the ledger has it.
        job: Uuid,
    },
    /// It is what it was before it was discarded.
    Restored {
        /// Its id.
        id: Uuid,
        /// Its group.
        group: &'a str,
        /// This run of the command, as the ledger has it.
        job: Uuid,
    },
    /// It could not be done.
    Failed {
        /// Its id.
        id: Uuid,
        /// Why.
        why: String,
    },
    /// It may have been done: its transaction was sent, and nobody said how it ended.
    Unknown {
        /// Its id.
        id: Uuid,
    },
    /// The end.
    Summary {
        /// Letters it was done with.
        done: usize,
        /// Letters of the plan that are as they were.
        not_done: usize,
        /// Letters of which it is not known; `list --all` tells.
        unknown: usize,
    },
}
