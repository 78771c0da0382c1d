//! The ledger of `dlq.actions`: what was done with each dead letter, by whom, and what came of it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One line of the ledger, JSON, keyed by the letter's id. Unknown fields are ignored, so old readers read new lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The dead letter this is about: on an outcome, the one that was put back.
    pub dlq_id: Uuid,
    /// Its consumer group.
    pub group: String,
    /// What was done.
    #[serde(flatten)]
    pub action: Action,
    /// When, UTC.
    pub at: DateTime<Utc>,
    /// Who: `user@host` for people, the group for outcomes.
    pub by: String,
    /// The batch it was part of, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Uuid>,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What was done with a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Put back, to run as `generation`.
    Requeue {
        /// The generation the record was given.
        generation: u32,
    },
    /// The consumer's word on a requeued record.
    Outcome {
        /// The generation that ended.
        generation: u32,
        /// How it ended.
        outcome: RequeueOutcome,
    },
    /// Closed without running it.
    Discard,
    /// A discard taken back.
    Restore,
}

/// How a requeued record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequeueOutcome {
    /// Its effect happened, now.
    Applied,
    /// Its effect had happened before; nothing was done.
    AlreadyApplied,
    /// The handler no longer cares for it.
    Ignored,
    /// It died again, as a new dead letter of this generation.
    DeadAgain,
    /// It could not be put back: it is a new dead letter of this generation, with its origin and the reason.
    Unplaceable,
}

impl RequeueOutcome {
    /// The words people read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::AlreadyApplied => "already applied",
            Self::Ignored => "ignored",
            Self::DeadAgain => "dead again",
            Self::Unplaceable => "could not be put back",
        }
    }

    /// True when nothing is left to do.
    pub fn resolves(self) -> bool {
        !matches!(self, Self::DeadAgain | Self::Unplaceable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_a_contract() {
        let entry = Entry {
            dlq_id: Uuid::nil(),
            group: "g".into(),
            action: Action::Outcome { generation: 2, outcome: RequeueOutcome::AlreadyApplied },
            at: DateTime::from_timestamp_millis(0).expect("in range"),
            by: "g".into(),
            job: None,
            reason: None,
        };
        let json = r#"{"dlq_id":"00000000-0000-0000-0000-000000000000","group":"g","action":"outcome","generation":2,"outcome":"already-applied","at":"1970-01-01T00:00:00Z","by":"g"}"#;
        assert_eq!(serde_json::to_string(&entry).expect("serialises"), json);
        assert_eq!(serde_json::from_str::<Entry>(json).expect("parses"), entry);
    }
}
