//! What is asked of a reader, and what it gives.

use std::fmt;

use rdkafka::{error::KafkaError, message::BorrowedMessage};
use thiserror::Error;

/// A part of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The partition.
    pub partition: i32,
    /// The first offset to read; `None` for the oldest record. One that the partition does not have, since retention has deleted it
    /// or the topic was made anew, means the oldest record too.
    pub from: Option<i64>,
    /// The first offset not to read; `None` for the partition's end, wherever that is once it is reached.
    pub upto: Option<i64>,
}

impl Span {
    /// All that a partition holds.
    pub fn whole(partition: i32) -> Self {
        Self { partition, from: None, upto: None }
    }
}

/// What a topic gives.
#[derive(Debug)]
pub enum Given<'a> {
    /// A record, in the client's own buffer.
    Record(&'a BorrowedMessage<'a>),
    /// Offsets whose records cannot be read.
    Unread(Unread),
}

/// Offsets of a partition that Kafka does not give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The partition.
    pub partition: i32,
    /// The first of them; `None` when nothing of the partition could be read.
    pub from: Option<i64>,
    /// The first offset after them; `None` when nothing could be read from there to the end.
    pub upto: Option<i64>,
    /// Why.
    pub why: String,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.upto) {
            (None, _) => f.write_str("cannot be read")?,
            (Some(from), None) => write!(f, "cannot be read from offset {from} on")?,
            (Some(from), Some(upto)) if upto == from + 1 => write!(f, "offset {from} cannot be read")?,
            (Some(from), Some(upto)) => write!(f, "offsets {from} to {} cannot be read", upto - 1)?,
        }
        write!(f, ": {}", self.why)
    }
}

/// Why a topic is not read at all.
#[derive(Debug, Error)]
pub enum ReadError {
    /// There is no client to read with.
    #[error("a Kafka client cannot be built")]
    Client(#[source] KafkaError),
    /// No broker answers, whatever is asked.
    #[error("{what}: {why}")]
    Unanswered {
        /// What was being done.
        what: String,
        /// What the client said last.
        why: String,
    },
    /// Something is wrong with the topic, or with what this reader may do with it.
    #[error("reading {topic}")]
    Topic {
        /// The topic.
        topic: String,
        /// What the client says.
        #[source]
        source: KafkaError,
    },
}

impl ReadError {
    /// Why, without what was being read.
    pub fn why(&self) -> String {
        match self {
            Self::Client(error) | Self::Topic { source: error, .. } => error.to_string(),
            Self::Unanswered { why, .. } => why.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named_by_its_offsets() {
        let said = |from, upto| Unread { partition: 3, from, upto, why: "BadCompression".into() }.to_string();
        for (from, upto, expected) in [
            (Some(7), Some(8), "offset 7 cannot be read: BadCompression"),
            (Some(7), Some(10), "offsets 7 to 9 cannot be read: BadCompression"),
            (Some(7), None, "cannot be read from offset 7 on: BadCompression"),
            (None, None, "cannot be read: BadCompression"),
        ] {
            assert_eq!(said(from, upto), expected);
        }
    }
}
