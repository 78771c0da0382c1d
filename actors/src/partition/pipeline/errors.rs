//! Why a batch was not committed.

use dead_letters::TopicPartition;
use tokio_postgres::Error;

use crate::{
    Cause,
    connection::{Soundness, Trouble, Verdict},
    lease::Counts,
    retry::Systemic,
    sql::{self, Blame},
};

/// The code of a record that PostgreSQL cannot store.
pub(crate) const UNSTORABLE: &str = "unstorable";

/// Why a batch was not committed, or is not known to be.
#[derive(Debug)]
pub(crate) enum BatchError {
    /// A server cannot be reached: nobody's fault. The same batch again, later.
    Unreachable(Cause),
    /// The commit's answer was lost, or the lease is somebody else's: claim again, which tells.
    Unknown(Cause),
    /// Redis claimed an event that the inbox does not know: the batch again, without hints.
    HintsLied,
    /// One record's values were refused: half of the batch next, until that one is alone.
    Data(Cause),
    /// Most keys fail alike: nobody's event is to blame. The same batch again, as a probe, later.
    Systemic(Systemic, Cause),
    /// A bug, or a schema that does not fit: halt, and try again now and then.
    Code(Cause),
    /// Somebody has to decide: halt.
    Halt(Cause),
}

impl Verdict for BatchError {
    fn verdict(&self) -> Soundness {
        match self {
            Self::Unreachable(cause) | Self::Unknown(cause) | Self::Code(cause) => sql::soundness_of(cause),
            Self::HintsLied | Self::Data(_) | Self::Systemic(..) | Self::Halt(_) => Soundness::Sound,
        }
    }
}

impl From<Trouble> for BatchError {
    /// Of what only reads, or can be done again.
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(error) => ours(&error),
            Trouble::NoConnection(_) | Trouble::NoAnswer(_) => Self::Unreachable(trouble.cause()),
        }
    }
}

/// An error of a statement of the runtime's own. Its values are bytes of records and nothing else: where they are refused, one
/// record is what PostgreSQL cannot store.
pub(crate) fn ours(error: &Error) -> BatchError {
    match sql::blame(error) {
        Blame::Data => {
            let Cause { code, message } = sql::cause(error);
            BatchError::Data(Cause::new(UNSTORABLE, format!("{message} [{code}]")))
        }
        Blame::Server | Blame::Code => theirs(error),
    }
}

/// An error of a statement of the handler's.
pub(super) fn theirs(error: &Error) -> BatchError {
    match sql::blame(error) {
        Blame::Data => BatchError::Data(sql::cause(error)),
        Blame::Server => BatchError::Unreachable(sql::cause(error)),
        Blame::Code => BatchError::Code(sql::cause(error)),
    }
}

/// A COMMIT that a failing server did not answer with success may have happened all the same. One that is refused for a value
/// was rolled back: a constraint of the handler's that is checked there.
pub(crate) fn commit_error(error: &Error) -> BatchError {
    match theirs(error) {
        BatchError::Unreachable(cause) => BatchError::Unknown(cause),
        other => other,
    }
}

/// A batch that was not answered in time may be committed all the same.
pub(crate) fn unanswered(trouble: Trouble) -> BatchError {
    match trouble {
        Trouble::NoAnswer(_) => BatchError::Unknown(trouble.cause()),
        other => other.into(),
    }
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
