//! An owned Kafka record.
//!
//! librdkafka lends a message for as long as its buffer lives; a record waits in a lane, may be parked for
//! hours and may end in a dead-letter topic, so it owns its bytes. Headers stay encoded until somebody asks:
//! on the hot path nobody does.

use std::time::Duration;

use chrono::{DateTime, Utc};
use dead_letters::{Headers, Offset, TopicPartition};
use rdkafka::Timestamp;
use uuid::Uuid;

/// The namespace of ids that are places.
const PLACES: Uuid = Uuid::from_u128(0x0b5c_92d1_7c4e_4f0a_8e31_5a6f_d2c7_1b94);

/// When a record was written, in milliseconds since the Unix epoch; 0 where its format does not say.
pub(crate) fn timestamp_ms(timestamp: Timestamp) -> i64 {
    match timestamp {
        Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => ms,
        Timestamp::NotAvailable => 0,
    }
}

/// A record with its place in Kafka. A record that was parked or requeued keeps the place it first came from.
///
/// A test of a handler makes its own:
///
/// ```
/// use actors::{Headers, Offset, Record, TopicPartition};
///
/// let mut headers = Headers::new();
/// headers.push("correlation-id", Some(b"c-1"));
/// let record = Record {
///     source: TopicPartition::new("clicks", 0),
///     offset: Offset(7),
///     timestamp_ms: 1_789_999_999_000,
///     key: Some(Box::from(*b"alice")),
///     value: Some(Box::from(*b"3")),
///     headers,
/// };
/// assert_eq!(record.headers.text("correlation-id"), Some("c-1"));
/// assert_eq!(record.source.to_string(), "clicks/0");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where the record was first read.
    pub source: TopicPartition,
    /// Its offset there.
    pub offset: Offset,
    /// Milliseconds since the Unix epoch, as the broker gave it; 0 when it gave none.
    pub timestamp_ms: i64,
    /// The key; `None` promises no order.
    pub key: Option<Box<[u8]>>,
    /// The body; `None` is a tombstone.
    pub value: Option<Box<[u8]>>,
    /// The headers as they came.
    pub headers: Headers,
}

impl Record {
    /// Bytes this record holds in memory, near enough to bound a window by.
    pub fn size(&self) -> usize {
        let body = self.key.as_deref().map_or(0, <[u8]>::len) + self.value.as_deref().map_or(0, <[u8]>::len);
        body + self.headers.encoded().len() + std::mem::size_of::<Self>()
    }

    /// An id for an event that brings none, from its place: topic, partition, offset and timestamp, which tells it from another record
    /// at the same place of a topic that was made anew. The same record put back from a dead letter has the same. An event that its
    /// producer sends twice has two.
    ///
    /// ```
    /// use actors::{Headers, Offset, Record, TopicPartition};
    ///
    /// let source = TopicPartition::new("clicks", 0);
    /// let (key, value, headers) = (None, None, Headers::new());
    /// let record = Record { source, offset: Offset(7), timestamp_ms: 1_000, key, value, headers };
    /// assert_eq!(record.place_id(), record.clone().place_id());
    /// assert_ne!(record.place_id(), Record { offset: Offset(8), ..record.clone() }.place_id());
    /// ```
    pub fn place_id(&self) -> Uuid {
        let Self { source, offset, timestamp_ms, .. } = self;
        Uuid::new_v5(&PLACES, format!("{source}/{offset}@{timestamp_ms}").as_bytes())
    }

    /// How long ago it was written, by whoever set its time; none where nobody did.
    pub(crate) fn age(&self, now: DateTime<Utc>) -> Option<Duration> {
        let age = now.timestamp_millis().saturating_sub(self.timestamp_ms);
        (self.timestamp_ms > 0).then(|| Duration::from_millis(u64::try_from(age).unwrap_or(0)))
    }
}
