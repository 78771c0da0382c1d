//! What lies in the dead-letter topics, and what became of it: letters, the ledger, and both folded into a state.

mod counts;
mod fold;
mod groups;
mod ledger;
mod letter;
mod prefix;
mod read;

pub use self::{
    counts::{Counts, Tally, count},
    fold::{Fold, Folded},
    groups::{Alike, Groups, Sort},
    ledger::{History, Keep, Ledger, Line, Mark, Note, Standing, Tried},
    letter::{About, Foreign, Letter, Place, State},
    prefix::{Prefix, Resolved, ambiguous, resolve, short_len},
    read::{Fetched, Scope, fetch, read_ledger, scan, scan_letters},
};

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::letter::tests::dead;
}
