//! What an SQL error means, by its SQLSTATE.

use tokio_postgres::{Error, error::SqlState};

use crate::Cause;

/// Whose fault an SQL error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The server's or the network's: try the same again later.
    Server,
    /// A value's (classes 22 and 23): one record of the batch, if a handler's own statement raised it.
    Data,
    /// A bug, or a schema that does not fit: somebody has to look.
    Code,
}

/// Tells whose fault `error` is.
pub(crate) fn blame(error: &Error) -> Blame {
    match error.code() {
        // No SQLSTATE: the connection broke, or a value did not convert on our side.
        None if error.is_closed()
            || std::error::Error::source(error).is_some_and(|e| e.is::<std::io::Error>()) =>
        {
            Blame::Server
        }
        None => Blame::Code,
        Some(code) => blame_of_state(code),
    }
}

fn blame_of_state(state: &SqlState) -> Blame {
    match state.code() {
        "55P03" | "25P03" | "25006" => Blame::Server,
        code => match &code[..2.min(code.len())] {
            "40" | "08" | "53" | "57" | "58" => Blame::Server,
            "22" | "23" => Blame::Data,
            _ => Blame::Code,
        },
    }
}

/// The error as a cause: its code carries the SQLSTATE, its text what the server said.
pub(crate) fn cause(error: &Error) -> Cause {
    match error.as_db_error() {
        Some(db) => {
            let detail = db.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            Cause::new(format!("sql-{}", db.code().code()), format!("postgresql: {}{detail}", db.message()))
        }
        None => Cause::from_error("postgresql", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_says_whose_fault_it_is() {
        let table = [
            ("40P01", Blame::Server), // deadlock
            ("40001", Blame::Server),
            ("08006", Blame::Server),
            ("53300", Blame::Server), // too many connections
            ("57P01", Blame::Server), // shutdown
            ("57014", Blame::Server), // statement time-out
            ("58030", Blame::Server), // I/O error
            ("55P03", Blame::Server), // lock time-out
            ("25P03", Blame::Server), // idle in transaction
            ("25006", Blame::Server), // read-only: a standby
            ("22003", Blame::Data),   // out of range
            ("23505", Blame::Data),   // unique
            ("42P01", Blame::Code),   // no such table
            ("XX000", Blame::Code),
        ];
        for (state, expected) in table {
            assert_eq!(blame_of_state(&SqlState::from_code(state)), expected, "{state}");
        }
    }
}
