//! The ledger of `dlq.actions`: what was done with each dead letter, by whom, and what came of it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One line of the ledger, JSON, keyed by the letter's id. Unknown fields are ignored, so old readers read new lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The dead letter this is about: on an outcome, the one that was put back; on a note [`note_id`].
    pub dlq_id: Uuid,
    /// Its consumer group; of a note one in which there is such a failure.
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
    /// What people should know of failures alike. The last one counts. Readers that do not know it pass over it.
    Note {
        /// The failures' fingerprint.
        fingerprint: String,
        /// The note; an empty one takes the last away.
        text: String,
    },
    /// What a later version writes: it means nothing here. It is never written.
    #[serde(other, skip_serializing)]
    Later,
}

/// The id that the notes on a fingerprint have in the ledger, so that they share a partition and stay in order.
pub fn note_id(fingerprint: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("dead-letter-note:{fingerprint}").as_bytes())
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
        let note = Action::Note { fingerprint: "00ff".into(), text: "the limit is raised on Monday".into() };
        let entry = Entry { action: note, by: "kim@desk".into(), ..entry };
        let json = r#"{"dlq_id":"00000000-0000-0000-0000-000000000000","group":"g","action":"note","fingerprint":"00ff","text":"the limit is raised on Monday","at":"1970-01-01T00:00:00Z","by":"kim@desk"}"#;
        assert_eq!(serde_json::to_string(&entry).expect("serialises"), json);
        assert_eq!(serde_json::from_str::<Entry>(json).expect("parses"), entry);
    }

    #[test]
    fn an_action_of_a_later_version_is_read_and_means_nothing() {
        let json = r#"{"dlq_id":"00000000-0000-0000-0000-000000000000","group":"g","action":"edit","diff":[1],"at":"1970-01-01T00:00:00Z","by":"g"}"#;
        let entry = serde_json::from_str::<Entry>(json).expect("parses");
        assert_eq!(entry.action, Action::Later);
        assert!(serde_json::to_string(&entry).is_err(), "it is not written again as something else");
        assert!(serde_json::from_str::<Entry>(r#"{"action":"edit"}"#).is_err(), "the rest has to be there");
    }
}
