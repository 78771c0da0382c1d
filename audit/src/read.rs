//! Reading topics again: what is kept of each record, and what dead letters and the ledger confirm.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use dead_letters::{
    ACTIONS_TOPIC, Action, DeadLetter, Entry, Given, Headers, KafkaSettings, ReadError, Span, TopicPartition,
    TopicReader, Unread, dlq_topic,
};
use rdkafka::{Message, message::BorrowedMessage};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};
use uuid::Uuid;

use crate::{event::ReadEvent, topics::reader};

/// A dead letter as `dlq.actions` knows it: its id, and the generation it was put back as.
pub(crate) type PutBack = (Uuid, u32);

/// What is kept of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) offset: i64,
    /// Milliseconds since the Unix epoch; `i64::MAX` when the broker gave none, since nothing says that it is old.
    pub(crate) timestamp_ms: i64,
    /// Its event's id and when that happened, in milliseconds since the Unix epoch; nothing when it holds no event.
    pub(crate) event: Option<(Uuid, i64)>,
    /// On a requeued record: what was put back.
    pub(crate) put_back: Option<PutBack>,
    /// On a record of another group that lies in the requeue topic: where it first came from.
    pub(crate) foreign: Option<(TopicPartition, i64)>,
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
    pub(crate) fn add(&mut self, other: Self) {
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
pub(crate) enum Part {
    /// Records, in order.
    Records(Vec<Seen>),
    /// Offsets whose records cannot be read.
    Unread(Unread),
}

/// What was looked for in a topic.
#[derive(Debug)]
pub(crate) struct Search<T> {
    pub(crate) found: HashSet<T>,
    pub(crate) cost: Cost,
    /// Where the topic cannot be read.
    pub(crate) unread: Vec<(TopicPartition, Unread)>,
}

/// Reads topics, one after the other.
#[derive(Clone)]
pub(crate) struct Reader {
    /// Reads lanes, and holds while whoever takes their records looks something up.
    lanes: Arc<Mutex<TopicReader>>,
    /// For what is looked up meanwhile: the one above would be waited for by whom it waits for.
    beside: Arc<Mutex<TopicReader>>,
    event: ReadEvent,
    /// Records handed over at a time.
    chunk: usize,
}

impl Reader {
    pub(crate) fn new(kafka: &KafkaSettings, event: ReadEvent, chunk: usize) -> Result<Self> {
        let one = || Ok::<_, anyhow::Error>(Arc::new(Mutex::new(reader(kafka)?)));
        Ok(Self { lanes: one()?, beside: one()?, event, chunk })
    }

    fn beside(&self) -> MutexGuard<'_, TopicReader> {
        locked(&self.beside)
    }

    /// Hands what a part of a partition holds to `visit`, in order, until it says `false`, which this says then too. Blocks.
    ///
    /// # Errors
    /// When Kafka as a whole does not answer.
    fn visit(
        topics: &mut TopicReader,
        topic: &str,
        span: Span,
        mut visit: impl FnMut(Given<'_>) -> bool,
    ) -> Result<bool> {
        let read = topics.open(topic, [span]).and_then(|()| topics.to_end(&mut visit));
        match read {
            Err(error @ ReadError::Topic { .. }) => {
                let Span { partition, from, upto } = span;
                let from = topics.positions().get(&partition).copied().or(from);
                Ok(visit(Given::Unread(Unread { partition, from, upto, why: error.why() })))
            }
            read => Ok(read?),
        }
    }

    /// The first offset that a partition still has.
    pub(crate) async fn low(&self, source: &TopicPartition) -> Result<i64> {
        let (reader, source) = (self.clone(), source.clone());
        let asked = spawn_blocking(move || reader.beside().extent(&source.topic, source.partition));
        Ok(asked.await??.0)
    }

    /// Reads a partition from offset `from` to `upto`, which is not read. Parts come in order; the task ends with what it
    /// took, after the last of them.
    pub(crate) fn partition(
        &self,
        source: &TopicPartition,
        from: i64,
        upto: i64,
        requeue: bool,
    ) -> (mpsc::Receiver<Part>, JoinHandle<Result<Cost>>) {
        let (sender, receiver) = mpsc::channel(2);
        let (reader, source) = (self.clone(), source.clone());
        let task = spawn_blocking(move || {
            let (mut cost, mut chunk) = (Cost::default(), Vec::new());
            let span = Span { partition: source.partition, from: Some(from), upto: Some(upto) };
            Self::visit(&mut locked(&reader.lanes), &source.topic, span, |given| {
                let unread = match given {
                    Given::Record(message) => {
                        cost.count(message);
                        chunk.push(reader.seen(message, requeue));
                        None
                    }
                    Given::Unread(unread) => Some(Part::Unread(unread)),
                };
                if chunk.len() < reader.chunk && unread.is_none() {
                    return true;
                }
                let full = std::mem::take(&mut chunk);
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
    pub(crate) async fn letters(
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
    pub(crate) async fn outcomes(&self, wanted: HashSet<PutBack>) -> Result<Search<PutBack>> {
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
            let partitions = reader.beside().partitions(&topic)?;
            for partition in partitions.into_keys() {
                let more = Self::visit(&mut reader.beside(), &topic, Span::whole(partition), |given| {
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
    pub(crate) async fn names(
        &self,
        source: &TopicPartition,
        offset: i64,
    ) -> Result<(Option<Uuid>, Option<String>)> {
        let (reader, source) = (self.clone(), source.clone());
        let read = spawn_blocking(move || {
            let mut names = (None, None);
            let span = Span { partition: source.partition, from: Some(offset), upto: Some(offset + 1) };
            Self::visit(&mut reader.beside(), &source.topic, span, |given| {
                if let Given::Record(message) = given
                    && message.offset() == offset
                {
                    let event = (reader.event)(message.payload().unwrap_or_default());
                    let header = || Some(Headers::from_kafka(message).text("correlation-id")?.to_owned());
                    let (id, correlation) = event.map(|event| (event.id, event.correlation_id)).unzip();
                    names = (id, correlation.flatten().or_else(header));
                }
                false
            })?;
            Ok(names)
        });
        read.await?
    }

    fn seen(&self, message: &BorrowedMessage<'_>, requeue: bool) -> Seen {
        let letter = requeue.then(|| DeadLetter::from_headers(&Headers::from_kafka(message)).ok()).flatten();
        let group = message.topic().strip_suffix(".requeue");
        let ours = |letter: &&DeadLetter| group == Some(letter.group.as_str());
        let event = message.payload().and_then(|body| (self.event)(body));
        Seen {
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(i64::MAX),
            // When a body does not say when it happened, nothing says that its event is old.
            event: event.map(|event| (event.id, event.at_ms.unwrap_or(i64::MAX))),
            put_back: letter.as_ref().filter(ours).map(|letter| (letter.id, letter.generation)),
            foreign: letter.filter(|letter| !ours(&letter)).map(|letter| (letter.origin, letter.offset.0)),
        }
    }
}

fn locked(reader: &Mutex<TopicReader>) -> MutexGuard<'_, TopicReader> {
    reader.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an entry of the ledger, or of the outbox on its way there, says has ended.
pub(crate) fn outcome(value: &[u8]) -> Option<PutBack> {
    let entry: Entry = serde_json::from_slice(value).ok()?;
    match entry.action {
        Action::Outcome { generation, .. } => Some((entry.dlq_id, generation)),
        _ => None,
    }
}

/// The origin that an encoded header list names as a dead letter's.
pub(crate) fn origin(headers: Vec<u8>) -> Option<(TopicPartition, i64)> {
    let letter = DeadLetter::from_headers(&Headers::from_encoded(headers).ok()?).ok()?;
    Some((letter.origin, letter.offset.0))
}
