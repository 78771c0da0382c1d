//! Reading one topic of the cluster to its end. What cannot be read is noted and passed over.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use dead_letters::{Given, Headers, Span, TopicReader};
use rdkafka::message::{BorrowedMessage, Message};

use super::{cluster::Kafka, gap::Gap};

/// Where reading starts.
#[derive(Clone, Debug)]
pub enum Start {
    /// At the oldest record of every partition.
    Oldest,
    /// At these offsets, partition by partition; a partition that is not named starts at its oldest record.
    At(BTreeMap<i32, i64>),
    /// These offsets and no others: the first of a partition, and the last.
    Only(BTreeMap<i32, (i64, i64)>),
}

impl Start {
    fn span(&self, partition: i32) -> Option<Span> {
        let (from, upto) = match self {
            Self::Oldest => (None, None),
            Self::At(offsets) => (offsets.get(&partition).copied(), None),
            Self::Only(offsets) => {
                let (first, last) = offsets.get(&partition)?;
                (Some(*first), Some(last + 1))
            }
        };
        Some(Span { partition, from, upto })
    }
}

/// A record as it lies in the client's buffer.
#[derive(Debug)]
pub struct Raw<'a> {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since the epoch; 0 when the broker gave none.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers,
}

impl<'a> Raw<'a> {
    fn of(message: &'a BorrowedMessage<'_>) -> Self {
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key(),
            value: message.payload(),
            headers: Headers::from_kafka(message),
        }
    }
}

/// Reads one topic.
#[derive(Debug)]
pub struct Reader<'k> {
    kafka: &'k Kafka,
    topic: String,
    reader: TopicReader,
}

impl Kafka {
    /// Reads `topic` from `start`.
    pub fn reader(&self, topic: &str, start: &Start) -> anyhow::Result<Reader<'_>> {
        let partitions = self.partitions(topic).with_context(|| format!("topic {topic} does not exist"))?;
        let spans = (0..partitions).filter_map(|partition| start.span(partition));
        let mut reader = self.topic_reader().map_err(|error| self.why(error))?;
        reader.open(topic, spans).map_err(|error| self.why(error))?;
        for unread in reader.leaderless() {
            self.note(Gap { topic: topic.to_owned(), unread: unread.clone() });
        }
        Ok(Reader { kafka: self, topic: topic.to_owned(), reader })
    }
}

impl Reader<'_> {
    /// Hands every record up to the end of every partition to `visit`; stops early when it says `false`.
    pub fn to_end(&mut self, mut visit: impl FnMut(&Raw<'_>) -> bool) -> anyhow::Result<()> {
        let Self { kafka, topic, reader } = self;
        let read = reader.to_end(|given| match given {
            Given::Record(message) => visit(&Raw::of(message)),
            Given::Unread(unread) => {
                kafka.note(Gap { topic: topic.clone(), unread });
                true
            }
        });
        read.map(drop).map_err(|error| kafka.why(error))
    }

    /// Waits up to `timeout` for one more record, past the end; of what cannot be read takes note and gives the rest.
    pub fn follow(&mut self, timeout: Duration, mut visit: impl FnMut(&Raw<'_>)) -> anyhow::Result<()> {
        let Self { kafka, topic, reader } = self;
        let followed = reader.follow(timeout, |given| match given {
            Given::Record(message) => visit(&Raw::of(message)),
            Given::Unread(unread) => kafka.note(Gap { topic: topic.clone(), unread }),
        });
        followed.map_err(|error| kafka.why(error))
    }

    /// For each partition that gave a record, or was told where to start, the offset to go on from.
    pub fn positions(&self) -> &BTreeMap<i32, i64> {
        self.reader.positions()
    }
}
