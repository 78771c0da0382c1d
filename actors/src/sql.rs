//! What an SQL error means, by its SQLSTATE.

mod text;

use tokio_postgres::{
    Error,
    error::{DbError, SqlState},
    types::WrongType,
};

pub(crate) use self::text::text;
use crate::failure::{Cause, Failure};

/// The code of a transaction that was not answered in time.
pub(crate) const NO_ANSWER: &str = "postgresql-no-answer";

/// What an error says of the connection it came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Soundness {
    /// Nothing.
    Sound,
    /// It is broken, or leads to a server that cannot be used: close it.
    Broken,
    /// A statement prepared on it does not fit any more: close it, and prepare all statements anew.
    Stale,
}

/// Whose fault an SQL error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The server's or the network's: try the same again later.
    Server,
    /// A value's (classes 22, 23 and 54): one record of the batch.
    Data,
    /// A bug, or a schema that does not fit: somebody has to look, if it does not end by itself.
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
        // Too many columns, or too many arguments: no value's fault.
        "54011" | "54023" => Blame::Code,
        code => match &code[..2.min(code.len())] {
            "40" | "08" | "53" | "57" | "58" => Blame::Server,
            "22" | "23" | "54" => Blame::Data,
            _ => Blame::Code,
        },
    }
}

/// The failure of the one event whose statement it was, where it is that event's: its values were refused, do not convert, or are not
/// of as many rows as its handler expects. Not where a type or a column is another than in the code, which fails every event.
pub(crate) fn failure_of_one(error: &Error) -> Option<Failure> {
    // The library does not say which kind of error it is, but in words. What it says of a value may hold the value, and is left out.
    let said = error.to_string();
    let unfit = || Failure::permanent("postgresql-value", format!("postgresql: {said}"));
    if said == "error encoding message to server" {
        return Some(unfit());
    }
    match blame(error) {
        Blame::Data => return Some(Failure::Permanent(cause(error))),
        Blame::Server => return None,
        Blame::Code => {}
    }
    if said == "query returned an unexpected number of rows" {
        // Another partition's record may bring the row yet.
        return Some(Failure::transient("postgresql-rows", format!("postgresql: {said}")));
    }
    let source = std::error::Error::source(error)?;
    let conversion = !source.is::<DbError>() && !source.is::<WrongType>();
    conversion.then(unfit)
}

/// What `error` says of its connection.
pub(crate) fn soundness(error: &Error) -> Soundness {
    match error.code() {
        None => Soundness::Broken,
        Some(state) => soundness_of_state(state.code()),
    }
}

/// The same, from the code that [`cause`] gave the error; of any other cause nothing.
pub(crate) fn soundness_of(cause: &Cause) -> Soundness {
    match cause.code.strip_prefix("sql-") {
        Some(state) => soundness_of_state(state),
        None if cause.code == "postgresql" || cause.code == NO_ANSWER => Soundness::Broken,
        None => Soundness::Sound,
    }
}

fn soundness_of_state(state: &str) -> Soundness {
    match state {
        // A plan or a prepared statement that does not fit the table, or the connection, any more.
        "0A000" | "26000" | "42P05" => Soundness::Stale,
        // The one statement was ended; the transaction is rolled back like any other.
        "55P03" | "57014" => Soundness::Sound,
        state => match &state[..2.min(state.len())] {
            "22" | "23" | "40" | "54" => Soundness::Sound,
            _ => Soundness::Broken,
        },
    }
}

/// Whether a cause says that a transaction took longer than it may.
pub(crate) fn is_slow(cause: &Cause) -> bool {
    ["sql-57014", "sql-55P03", "sql-25P03", NO_ANSWER].contains(&cause.code.as_ref())
}

/// Whether a cause says that a statement before it had failed, so that its transaction was good for nothing any more.
pub(crate) fn is_of_failed_transaction(cause: &Cause) -> bool {
    cause.code == "sql-25P02"
}

/// The error as a cause: its code carries the SQLSTATE, its text what the server said, without values of rows.
pub(crate) fn cause(error: &Error) -> Cause {
    match error.as_db_error() {
        Some(db) => Cause::new(format!("sql-{}", db.code().code()), format!("postgresql: {}", text(db))),
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
            ("54000", Blame::Data),   // too large for an index
            ("54023", Blame::Code),   // too many arguments
            ("42P01", Blame::Code),   // no such table
            ("XX000", Blame::Code),
        ];
        for (state, expected) in table {
            assert_eq!(blame_of_state(&SqlState::from_code(state)), expected, "{state}");
        }
    }

    #[test]
    fn a_connection_is_closed_when_its_error_says_so() {
        for (state, expected) in [
            ("23505", Soundness::Sound),
            ("40P01", Soundness::Sound),
            ("57014", Soundness::Sound),
            ("57P01", Soundness::Broken),
            ("25006", Soundness::Broken),
            ("42703", Soundness::Broken),
            ("0A000", Soundness::Stale),
            ("26000", Soundness::Stale),
        ] {
            assert_eq!(soundness_of(&Cause::new(format!("sql-{state}"), "")), expected, "{state}");
        }
        assert_eq!(soundness_of(&Cause::new("provider-down", "")), Soundness::Sound);
        assert!(is_slow(&Cause::new(NO_ANSWER, "")) && !is_slow(&Cause::new("sql-57P01", "")));
    }
}
