//! An offset with which something is wrong, and how that is said.

use std::fmt;

use actors::journal::Mark;
use dead_letters::{TopicPartition, Unread};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    kind::Kind,
    walk::{Finding, Pending},
};

/// An offset, or a run of them, with which something is wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// What.
    pub kind: Kind,
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset; none where it is about the partition as a whole.
    pub offset: Option<i64>,
    /// How many offsets, from that one on.
    pub offsets: i64,
    /// What the journal says, and what is missing.
    pub detail: String,
    /// The event there, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<Uuid>,
    /// Its correlation id; only of the first problem of a kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

impl Problem {
    pub(crate) fn of_finding(group: &str, source: &TopicPartition, finding: Finding) -> Self {
        let Finding { kind, from, upto, says } = finding;
        let last = upto - 1;
        let word = says.map_or("nothing", Mark::word);
        let detail = match kind {
            Kind::Totals => {
                let (less, more) = if upto > from { ("fewer", upto - from) } else { ("more", from - upto) };
                format!(
                    "the journal's rows stand for {more} offsets {less} than the lease says were consumed"
                )
            }
            Kind::NoOutcome => {
                format!("the group is past it; the journal has no row for offsets {from} to {last}")
            }
            Kind::UnreadableRow => format!("the journal's row for offsets {from} to {last} does not read"),
            Kind::GapWithRecord => "the journal says that no record is there; there is one".to_owned(),
            _ => {
                format!("the journal says {word} for offsets {from} to {last}; the topic has no record there")
            }
        };
        Self {
            kind,
            group: group.to_owned(),
            topic: source.topic.to_string(),
            partition: source.partition,
            offset: (kind != Kind::Totals).then_some(from),
            offsets: (upto - from).abs(),
            detail,
            event_id: None,
            correlation_id: None,
        }
    }

    pub(crate) fn of_unread(group: &str, source: &TopicPartition, unread: &Unread) -> Self {
        let Unread { from, upto, why, .. } = unread;
        let (offsets, detail) = match (from, upto) {
            (Some(from), Some(upto)) if upto - from == 1 => (1, format!("its record cannot be read: {why}")),
            (Some(from), Some(upto)) => {
                let last = upto - 1;
                (upto - from, format!("the records of offsets {from} to {last} cannot be read: {why}"))
            }
            // A topic that is read to its end has none that is known.
            (Some(_), None) => (1, format!("it cannot be read from there on: {why}")),
            (None, _) => (1, format!("it cannot be read: {why}")),
        };
        Self {
            kind: Kind::Unread,
            group: group.to_owned(),
            topic: source.topic.to_string(),
            partition: source.partition,
            offset: *from,
            offsets,
            detail,
            event_id: None,
            correlation_id: None,
        }
    }

    pub(crate) fn of_pending(group: &str, pending: &Pending) -> Self {
        let no_event = "the record holds no event that could be in the inbox";
        let (kind, missing) = match pending.mark {
            Mark::Parked => (
                Kind::ParkedNowhere,
                "it does not wait, its event is not in the inbox, and it has no dead letter",
            ),
            Mark::Dead => (Kind::NoDeadLetter, "it has no dead letter, in Kafka or in the outbox"),
            Mark::Moved if pending.put_back.is_none() => {
                (Kind::MovedNowhere, "its headers name no dead letter it was put back from")
            }
            Mark::Moved => (Kind::MovedNowhere, "it does not wait, and the ledger has no outcome of it"),
            _ if pending.event.is_none() => (Kind::NotInInbox, no_event),
            _ if pending.dead => (Kind::DeadInInbox, "the inbox says that its event died"),
            _ => (Kind::NotInInbox, "its event is not in the inbox"),
        };
        Self {
            kind,
            group: group.to_owned(),
            topic: pending.source.topic.to_string(),
            partition: pending.source.partition,
            offset: Some(pending.offset),
            offsets: 1,
            detail: format!("the journal says {}; {missing}", pending.mark.word()),
            event_id: pending.event,
            correlation_id: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.group, self.topic, self.partition)?;
        if let Some(offset) = self.offset {
            write!(f, " offset {offset}")?;
        }
        write!(f, ": {}", self.detail)?;
        if let Some(id) = self.event_id {
            write!(f, "; event {id}")?;
        }
        match &self.correlation_id {
            Some(id) => write!(f, ", correlation id {id}"),
            None => Ok(()),
        }
    }
}
