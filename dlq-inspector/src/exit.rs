//! How the process ends, as a contract for scripts.

use thiserror::Error;

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Ok,
    /// 1: something went wrong that has no code of its own.
    Error,
    /// 2: the command line asks for something that does not exist or is ambiguous.
    Usage,
    /// 3: no dead letter matched.
    NothingMatched,
    /// 4: some were not requeued, died again, had no outcome in time, or could not be read.
    SomeFailed,
    /// 5: refused for safety, or planned so; a flag that allows it is named in the message.
    Refused,
    /// 6: Kafka could not be reached.
    Unreachable,
    /// 7: another operator took over the group.
    Fenced,
    /// 130: stopped by a signal after the transaction in hand.
    Interrupted,
}

impl Exit {
    /// The number the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::NothingMatched => 3,
            Self::SomeFailed => 4,
            Self::Refused => 5,
            Self::Unreachable => 6,
            Self::Fenced => 7,
            Self::Interrupted => 130,
        }
    }
}

/// An error that has an exit code of its own.
#[derive(Debug, Error)]
pub enum Problem {
    /// The command line cannot be followed.
    #[error("{0}")]
    Usage(String),
    /// Nothing matched what was asked for.
    #[error("{0}")]
    NothingMatched(String),
    /// It would not be safe.
    #[error("{0}")]
    Refused(String),
    /// No broker answered in time.
    #[error(
        "cannot reach Kafka at {brokers}: {why}; check --brokers (KAFKA_BROKERS), the network and -X settings"
    )]
    Unreachable {
        /// The bootstrap list.
        brokers: String,
        /// What the client library said last.
        why: String,
    },
}

impl Problem {
    /// Its exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::NothingMatched(_) => Exit::NothingMatched,
            Self::Refused(_) => Exit::Refused,
            Self::Unreachable { .. } => Exit::Unreachable,
        }
    }
}

/// The exit code an error asks for.
pub fn of_error(error: &anyhow::Error) -> Exit {
    error.downcast_ref::<Problem>().map_or(Exit::Error, Problem::exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_keeps_its_code_under_context() {
        let problem = Problem::Unreachable { brokers: "b:1".into(), why: "refused".into() };
        let error = anyhow::Error::from(problem).context("reading the ledger");
        assert_eq!(of_error(&error), Exit::Unreachable);
        assert_eq!(of_error(&anyhow::anyhow!("other")), Exit::Error);
    }
}
