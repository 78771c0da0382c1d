//! What can be wrong with an offset.

use std::fmt;

use serde::Serialize;

/// What can be wrong with an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The group is past it, and its journal does not mention it.
    NoOutcome,
    /// A record is there, and the journal says there is none.
    GapWithRecord,
    /// The journal names an outcome, and no record is there.
    OutcomeWithoutRecord,
    /// Applied or a duplicate, and the inbox does not know its event.
    NotInInbox,
    /// Applied, and the inbox says that its event died.
    DeadInInbox,
    /// Parked, and it neither waits nor has it ended.
    ParkedNowhere,
    /// Dead, and there is no dead letter.
    NoDeadLetter,
    /// Put back, and it neither waits nor has an outcome.
    MovedNowhere,
    /// Kafka does not give the record again, or the partition.
    Unread,
    /// A row of the journal does not read.
    UnreadableRow,
    /// The journal's rows and the lease do not stand for the same number of offsets.
    Totals,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoOutcome => "without an outcome",
            Self::GapWithRecord => "a record where the journal says there is none",
            Self::OutcomeWithoutRecord => "an outcome where there is no record",
            Self::NotInInbox => "not in the inbox",
            Self::DeadInInbox => "applied, and dead in the inbox",
            Self::ParkedNowhere => "parked, and nowhere to be found",
            Self::NoDeadLetter => "dead without a dead letter",
            Self::MovedNowhere => "put back, and nowhere to be found",
            Self::Unread => "that Kafka does not give",
            Self::UnreadableRow => "in a row of the journal that does not read",
            Self::Totals => "that journal and lease do not agree on",
        })
    }
}
