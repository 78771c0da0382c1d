//! The JSON contract: one object a line. Fields are added, never renamed or given another meaning.

mod close;
mod groups;
mod note;

use chrono::{DateTime, Utc};
use dead_letters::{Action, RequeueOutcome};
use serde::Serialize;
use uuid::Uuid;

pub use self::{close::CloseJson, groups::GroupJson, note::NoteJson};
use super::text::hex;
use crate::{
    snapshot::{Letter, Line, State},
    time::rfc3339,
};

/// A dead letter, as `list` and `show` print it. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, Serialize)]
pub struct LetterJson<'a> {
    /// The dead letter's id; of a foreign record one made of its place.
    pub id: Uuid,
    /// The consumer group it died in.
    pub group: &'a str,
    /// The handler's name; `null` for a foreign record, like everything below that only a dead letter says.
    pub handler: Option<&'a str>,
    /// `poison`, `permanent`, `exhausted`, `crash` or `foreign`.
    pub class: &'a str,
    /// The error's stable code.
    pub error_code: Option<&'a str>,
    /// The error with its chain; of a foreign record why it is none.
    pub error: &'a str,
    /// The topic it was first read from.
    pub topic: Option<&'a str>,
    /// The partition there.
    pub partition: Option<i32>,
    /// The offset there.
    pub offset: Option<i64>,
    /// The record's key when it is text.
    pub key: Option<&'a str>,
    /// The record's key in hex when it is no text.
    pub key_hex: Option<String>,
    /// The event's id, when it could be decoded.
    pub event_id: Option<Uuid>,
    /// The event's type, when it could be decoded.
    pub event_type: Option<&'a str>,
    /// The correlation id, when there was one.
    pub correlation_id: Option<&'a str>,
    /// How often it was tried in this generation.
    pub attempts: Option<u32>,
    /// 1 for the first death, one more for each requeue that died.
    pub generation: Option<u32>,
    /// `open`, `requeued`, `resolved`, `dead-again`, `discarded` or `foreign`.
    pub state: State,
    /// When it first failed.
    pub first_failed_at: Option<String>,
    /// When it died; of a foreign record, when it was written.
    pub failed_at: String,
    /// The same for failures alike.
    pub fingerprint: Option<&'a str>,
    /// The service that gave it up.
    pub service: Option<&'a str>,
    /// That service's version.
    pub build: Option<&'a str>,
    /// The length of the record's body, in bytes, where only its beginning was kept.
    pub truncated_bytes: Option<u64>,
    /// The dead-letter topic it lies in.
    pub dlq: &'a str,
    /// The partition there.
    pub dlq_partition: i32,
    /// The offset there.
    pub dlq_offset: i64,
}

impl<'a> LetterJson<'a> {
    /// The object for `letter`.
    pub fn new(letter: &'a Letter, state: State) -> Self {
        let dead = letter.dead();
        let text = |key: &'a [u8]| std::str::from_utf8(key).ok();
        Self {
            id: letter.id,
            group: letter.group(),
            handler: dead.map(|dead| dead.handler.as_str()),
            class: letter.class(),
            error_code: letter.code(),
            error: letter.error(),
            topic: dead.map(|dead| &*dead.origin.topic),
            partition: dead.map(|dead| dead.origin.partition),
            offset: dead.map(|dead| dead.offset.0),
            key: letter.key.as_deref().and_then(text),
            key_hex: letter.key.as_deref().filter(|key| text(key).is_none()).map(hex),
            event_id: dead.and_then(|dead| dead.event_id),
            event_type: letter.event_type(),
            correlation_id: letter.correlation_id(),
            attempts: dead.map(|dead| dead.attempts),
            generation: dead.map(|dead| dead.generation),
            state,
            first_failed_at: dead.map(|dead| rfc3339(dead.first_failed_at)),
            failed_at: rfc3339(letter.failed_at()),
            fingerprint: letter.fingerprint(),
            service: dead.map(|dead| dead.service.as_str()),
            build: dead.map(|dead| dead.build.as_str()),
            truncated_bytes: dead.and_then(|dead| Some(dead.truncated.as_ref()?.bytes)),
            dlq: &letter.place.topic,
            dlq_partition: letter.place.partition,
            dlq_offset: letter.place.offset,
        }
    }
}

/// What `show` adds to a dead letter.
#[derive(Clone, Debug, Serialize)]
pub struct ShowJson<'a> {
    /// The letter's own fields.
    #[serde(flatten)]
    pub letter: LetterJson<'a>,
    /// Every header in order, `[name, value]`; a value that is no text is in hex after `0x`, a null one `null`.
    pub headers: Vec<(String, Option<String>)>,
    /// The body as text, masked unless revealed; `null` for a tombstone or when it is no text.
    pub body: Option<String>,
    /// The body in hex, when it is no text.
    pub body_hex: Option<String>,
    /// What people should know of failures alike.
    pub note: Option<NoteJson<'a>>,
    /// What was done with it and its earlier generations, oldest first.
    pub history: Vec<EventJson<'a>>,
}

/// A line of the ledger.
#[derive(Clone, Debug, Serialize)]
pub struct EventJson<'a> {
    /// The letter it is about: this one, or one of its earlier generations.
    pub id: Uuid,
    /// When.
    pub at: String,
    /// Who.
    pub by: &'a str,
    /// `requeue`, `outcome`, `discard`, `restore`; `unknown` is of a later version.
    pub action: &'static str,
    /// The generation put back, or ended.
    pub generation: Option<u32>,
    /// `applied`, `already-applied`, `ignored` or `dead-again`, on an outcome.
    pub outcome: Option<RequeueOutcome>,
    /// The batch it was part of.
    pub job: Option<Uuid>,
    /// Why.
    pub reason: Option<&'a str>,
}

impl<'a> EventJson<'a> {
    /// The object for `line`.
    pub fn new(line: &'a Line) -> Self {
        let entry = &line.entry;
        let (action, generation, outcome) = match &entry.action {
            Action::Requeue { generation } => ("requeue", Some(*generation), None),
            Action::Outcome { generation, outcome } => ("outcome", Some(*generation), Some(*outcome)),
            Action::Discard => ("discard", None, None),
            Action::Restore => ("restore", None, None),
            Action::Note { .. } => ("note", None, None),
            Action::Later => ("unknown", None, None),
        };
        Self {
            id: entry.dlq_id,
            at: rfc3339(entry.at),
            by: &entry.by,
            action,
            generation,
            outcome,
            job: entry.job,
            reason: entry.reason.as_deref(),
        }
    }
}

/// A dead-letter topic, as `topics` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct TopicJson<'a> {
    /// Its name.
    pub topic: &'a str,
    /// The consumer group whose dead letters it holds.
    pub group: &'a str,
    /// Letters in each state; twins count once.
    pub open: u64,
    /// Put back, outcome unknown.
    pub requeued: u64,
    /// Done.
    pub resolved: u64,
    /// Replaced by a letter of the next generation.
    pub dead_again: u64,
    /// Closed by an operator.
    pub discarded: u64,
    /// Records that are no dead letters.
    pub foreign: u64,
    /// When the oldest open letter died.
    pub oldest_open_at: Option<String>,
    /// Letters that died within the last hour.
    pub last_hour: u64,
    /// How long the topic keeps records, milliseconds; -1 for ever; `null` when the broker does not say.
    pub retention_ms: Option<i64>,
    /// The earliest time at which retention may delete the oldest record that is open.
    pub oldest_open_deleted_at: Option<String>,
}

/// A line of `requeue`, told apart by `event`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RequeueJson<'a> {
    /// The plan as a whole; before it a `planned` or `left-out` for each letter.
    Plan {
        /// Letters that would be put back.
        letters: usize,
        /// Letters that were selected and would not be.
        left_out: usize,
        /// Groups concerned.
        groups: Vec<&'a str>,
        /// When the oldest died.
        oldest: Option<String>,
        /// When the newest died.
        newest: Option<String>,
        /// Letters whose key has an older open letter that is not in the plan.
        open_predecessors: usize,
        /// Letters that were resolved by an earlier requeue.
        already_resolved: usize,
        /// Letters that were put back before and have no outcome yet.
        already_requeued: usize,
        /// The command that does it.
        command: String,
    },
    /// A letter that would be put back.
    Planned {
        /// Its id.
        id: Uuid,
        /// Its group.
        group: &'a str,
        /// Its class.
        class: &'a str,
        /// The generation it would run as.
        generation: u32,
        /// What became of it so far: `open`, or `resolved` or `requeued` by an earlier requeue.
        state: State,
    },
    /// A letter that is not put back.
    LeftOut {
        /// Its id.
        id: Uuid,
        /// Why.
        why: String,
        /// The flag that allows it, if one does.
        allowed_by: Option<&'static str>,
    },
    /// It is in the requeue topic now.
    Requeued {
        /// Its id.
        id: Uuid,
        /// Its group.
        group: &'a str,
        /// The generation it runs as.
        generation: u32,
        /// This run of the command, as the ledger has it.
        job: Uuid,
    },
    /// It could not be put back.
    Failed {
        /// Its id.
        id: Uuid,
        /// Why.
        why: String,
    },
    /// It may have been put back: its transaction was sent, and nobody said how it ended.
    Unknown {
        /// Its id.
        id: Uuid,
    },
    /// What became of it.
    Outcome {
        /// Its id.
        id: Uuid,
        /// The consumer's word.
        outcome: RequeueOutcome,
        /// The new letter, when it died again.
        dead_again_as: Option<Uuid>,
    },
    /// No outcome in time; the requeue itself stands.
    Outstanding {
        /// Its id.
        id: Uuid,
    },
    /// The end.
    Summary {
        /// Letters put back.
        requeued: usize,
        /// Letters that were to be put back and were not.
        not_requeued: usize,
        /// Letters of which it is not known; `list --state requeued` tells.
        unknown: usize,
        /// Outcomes that leave nothing to do.
        resolved: usize,
        /// Letters that died again.
        dead_again: usize,
        /// Letters without an outcome so far.
        outstanding: usize,
    },
}

/// RFC 3339, when there is a time.
pub fn time(at: Option<DateTime<Utc>>) -> Option<String> {
    at.map(rfc3339)
}
