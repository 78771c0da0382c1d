//! Standard error.

use std::io::{self, Write};

use crate::snapshot::Ledger;

/// A line on standard error. When nobody reads that either, there is nobody left to tell.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
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
