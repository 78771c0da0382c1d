//! Reading topics again: what is kept of each record, and what dead letters and the ledger confirm.

use std::{collections::HashSet, sync::Arc};

use actors::{
    Headers, TopicPartition,
    dead_letters::{ACTIONS_TOPIC, Action, DeadLetter, Entry, dlq_topic},
};
use anyhow::Result;
use contracts::{Envelope, Known, ParseError, Parsed};
use rdkafka::{Message, message::BorrowedMessage};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};
use uuid::Uuid;

use super::visit::{Given, Unread, Visitor};

/// Records handed over at a time.
const CHUNK: usize = 2_000;

/// A dead letter as `dlq.actions` knows it: its id, and the generation it was put back as.
pub(super) type PutBack = (Uuid, u32);

/// What is kept of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) offset: i64,
    /// Milliseconds since the Unix epoch; `i64::MAX` when the broker gave none, since nothing says that it is old.
    pub(super) timestamp_ms: i64,
    /// Its event's id and when that happened, in milliseconds since the Unix epoch; nothing when it holds no event.
    pub(super) event: Option<(Uuid, i64)>,
    /// On a requeued record: what was put back.
    pub(super) put_back: Option<PutBack>,
    /// On a record of another group that lies in the requeue topic: where it first came from.
    pub(super) foreign: Option<(TopicPartition, i64)>,
}

/// What reading took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Records read.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

impl Cost {
    pub(super) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
    }

    fn count(&mut self, message: &BorrowedMessage<'_>) {
        self.records += 1;
        self.bytes += u64::try_from(message.key_len() + message.payload_len()).unwrap_or_default();
    }
}

/// A part of a partition, as it is handed over.
#[derive(Debug)]
pub(super) enum Part {
    /// Records, in order.
    Records(Vec<Seen>),
    /// Offsets whose records cannot be read.
    Unread(Unread),
}

/// What was looked for in a topic.
#[derive(Debug)]
pub(super) struct Search<T> {
    pub(super) found: HashSet<T>,
    pub(super) cost: Cost,
    /// Where the topic cannot be read.
    pub(super) unread: Vec<(TopicPartition, Unread)>,
}

/// Reads topics, one after the other.
#[derive(Clone)]
pub(super) struct Reader(Arc<Visitor>);

impl Reader {
    /// A reader of the Kafka at `brokers`.
    pub(super) fn new(brokers: &str) -> Result<Self> {
        Ok(Self(Arc::new(Visitor::new(brokers)?)))
    }

    /// The first offset that a partition still has.
    pub(super) async fn low(&self, source: &TopicPartition) -> Result<i64> {
        let (reader, source) = (self.clone(), source.clone());
        spawn_blocking(move || reader.0.low(&source.topic, source.partition)).await?
    }

    /// Reads a partition from offset `from` to `upto`, which is not read. Parts come in order; the task ends with what it
    /// took, after the last of them.
    pub(super) fn partition(
        &self,
        source: &TopicPartition,
        from: i64,
        upto: i64,
        requeue: bool,
    ) -> (mpsc::Receiver<Part>, JoinHandle<Result<Cost>>) {
        let (sender, receiver) = mpsc::channel(2);
        let (reader, source) = (self.clone(), source.clone());
        let task = spawn_blocking(move || {
            let (mut cost, mut chunk) = (Cost::default(), Vec::with_capacity(CHUNK));
            reader.0.visit(&source.topic, source.partition, Some(from), upto, |given| {
                let unread = match given {
                    Given::Record(message) if message.offset() < upto => {
                        cost.count(message);
                        chunk.push(seen(message, requeue));
                        None
                    }
                    Given::Record(_) => None,
                    Given::Unread(unread) => Some(Part::Unread(unread)),
                };
                if chunk.len() < CHUNK && unread.is_none() {
                    return true;
                }
                let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK));
                // Nobody listens any more: the audit has ended with an error of its own.
                [Some(Part::Records(full)), unread]
                    .into_iter()
                    .flatten()
                    .all(|part| sender.blocking_send(part).is_ok())
            })?;
            // As above.
            sender.blocking_send(Part::Records(chunk)).unwrap_or_default();
            Ok(cost)
        });
        (receiver, task)
    }

    /// Which of the origins in `wanted` have a dead letter of `group`.
    pub(super) async fn letters(
        &self,
        group: &str,
        wanted: HashSet<(TopicPartition, i64)>,
    ) -> Result<Search<(TopicPartition, i64)>> {
        self.find(dlq_topic(group), wanted, |message| {
            let letter = DeadLetter::from_headers(&Headers::from_kafka(message)).ok()?;
            Some((letter.origin, letter.offset.0))
        })
        .await
    }

    /// Which of the requeued records in `wanted` have an outcome in `dlq.actions`.
    pub(super) async fn outcomes(&self, wanted: HashSet<PutBack>) -> Result<Search<PutBack>> {
        self.find(ACTIONS_TOPIC.to_owned(), wanted, |message| outcome(message.payload()?)).await
    }

    /// Reads a topic until all of `wanted` was found in it, or to its end.
    async fn find<T: std::hash::Hash + Eq + Send + 'static>(
        &self,
        topic: String,
        mut wanted: HashSet<T>,
        what: fn(&BorrowedMessage<'_>) -> Option<T>,
    ) -> Result<Search<T>> {
        let mut search = Search { found: HashSet::new(), cost: Cost::default(), unread: Vec::new() };
        if wanted.is_empty() {
            return Ok(search);
        }
        let reader = self.clone();
        let read = spawn_blocking(move || {
            for partition in reader.0.partitions(&topic)? {
                let more = reader.0.visit(&topic, partition, None, i64::MAX, |given| {
                    match given {
                        Given::Record(message) => {
                            search.cost.count(message);
                            search.found.extend(what(message).and_then(|one| wanted.take(&one)));
                        }
                        Given::Unread(unread) => {
                            search.unread.push((TopicPartition::new(topic.as_str(), partition), unread));
                        }
                    }
                    !wanted.is_empty()
                })?;
                if !more {
                    break;
                }
            }
            Ok(search)
        });
        read.await?
    }

    /// The event id and the correlation id of the record at `offset`, as far as it has them.
    pub(super) async fn names(
        &self,
        source: &TopicPartition,
        offset: i64,
    ) -> Result<(Option<Uuid>, Option<String>)> {
        let (reader, source) = (self.clone(), source.clone());
        let read = spawn_blocking(move || {
            let mut names = (None, None);
            reader.0.visit(&source.topic, source.partition, Some(offset), offset + 1, |given| {
                if let Given::Record(message) = given
                    && message.offset() == offset
                {
                    let event = known(message.payload().unwrap_or_default());
                    let header = || Some(Headers::from_kafka(message).text("correlation-id")?.to_owned());
                    let (id, correlation) = event.map(|(id, _, correlation)| (id, correlation)).unzip();
                    names = (id, correlation.or_else(header));
                }
                false
            })?;
            Ok(names)
        });
        read.await?
    }
}

fn seen(message: &BorrowedMessage<'_>, requeue: bool) -> Seen {
    let letter = requeue.then(|| DeadLetter::from_headers(&Headers::from_kafka(message)).ok()).flatten();
    let group = message.topic().strip_suffix(".requeue");
    let ours = |letter: &&DeadLetter| group == Some(letter.group.as_str());
    Seen {
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(i64::MAX),
        event: message.payload().and_then(known).map(|(id, at_ms, _)| (id, at_ms)),
        put_back: letter.as_ref().filter(ours).map(|letter| (letter.id, letter.generation)),
        foreign: letter.filter(|letter| !ours(&letter)).map(|letter| (letter.origin, letter.offset.0)),
    }
}

/// A body's event id, when it happened, and its correlation id.
fn known(body: &[u8]) -> Option<(Uuid, i64, String)> {
    // When a body says no more than this, nothing says that its event is old.
    let named = |known: Known| (known.event_id, i64::MAX, known.correlation_id);
    match Envelope::parse(body) {
        Ok(Parsed::Event(event)) => {
            Some((event.event_id, event.occurred_at.timestamp_millis(), event.correlation_id))
        }
        Ok(Parsed::Unknown(known)) | Err(ParseError::UnsupportedVersion(known)) => Some(named(known)),
        Err(_) => None,
    }
}

/// What an entry of the ledger, or of the outbox on its way there, says has ended.
pub(super) fn outcome(value: &[u8]) -> Option<PutBack> {
    let entry: Entry = serde_json::from_slice(value).ok()?;
    match entry.action {
        Action::Outcome { generation, .. } => Some((entry.dlq_id, generation)),
        Action::Requeue { .. } | Action::Discard | Action::Restore => None,
    }
}

/// The origin that an encoded header list names as a dead letter's.
pub(super) fn origin(headers: Vec<u8>) -> Option<(TopicPartition, i64)> {
    let letter = DeadLetter::from_headers(&Headers::from_encoded(headers).ok()?).ok()?;
    Some((letter.origin, letter.offset.0))
}
