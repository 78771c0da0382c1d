//! Why a batch was not committed.

use tokio_postgres::Error;

use crate::{
    Cause,
    lease::Counts,
    record::TopicPartition,
    retry::Systemic,
    sql::{self, Blame},
};

/// Why a batch was not committed, or is not known to be.
#[derive(Debug)]
pub(crate) enum BatchError {
    /// A server cannot be reached: nobody's fault. The same batch again, later.
    Unreachable(Cause),
    /// The commit's answer was lost, or the lease is somebody else's: claim again, which tells.
    Unknown(Cause),
    /// Redis claimed an event that the inbox does not know: the batch again, without hints.
    HintsLied,
    /// One record's values were refused: the batch again, one by one.
    Data(Cause),
    /// Most keys fail alike: nobody's event is to blame. The same batch again, as a probe, later.
    Systemic(Systemic, Cause),
    /// A bug or a schema that does not fit: halt.
    Halt(Cause),
}

/// An error of a statement of the runtime's own: never a record's fault.
pub(crate) fn ours(error: &Error) -> BatchError {
    match sql::blame(error) {
        Blame::Server => BatchError::Unreachable(sql::cause(error)),
        Blame::Data | Blame::Code => BatchError::Halt(sql::cause(error)),
    }
}

/// An error of a statement of the handler's.
pub(super) fn theirs(error: &Error) -> BatchError {
    match sql::blame(error) {
        Blame::Data => BatchError::Data(sql::cause(error)),
        Blame::Server | Blame::Code => ours(error),
    }
}

/// A COMMIT that a failing server did not answer with success may have happened all the same.
pub(crate) fn commit_error(error: &Error) -> BatchError {
    match ours(error) {
        BatchError::Unreachable(cause) => BatchError::Unknown(cause),
        other => other,
    }
}

pub(crate) fn no_connection(error: &deadpool_postgres::PoolError) -> BatchError {
    BatchError::Unreachable(Cause::from_error("postgresql-pool", error))
}

/// The lease is somebody else's, or a commit whose answer was lost has moved it.
pub(crate) fn fenced() -> BatchError {
    BatchError::Unknown(Cause::new("fenced", "the partition's epoch or offset moved on"))
}

/// A bug, and a loud one: the batch is not committed.
pub(crate) fn unaccounted(left: i64, source: &TopicPartition, counts: &Counts) -> BatchError {
    let message = format!("{left} offsets of {source} would be left without an outcome: {counts:?}");
    BatchError::Halt(Cause::new("unaccounted", message))
}

/// The group is going away.
pub(super) fn stopping() -> BatchError {
    BatchError::Unreachable(Cause::new("stopping", "the group is stopping"))
}
