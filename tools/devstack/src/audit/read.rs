//! Reading topics again: what is kept of each record, and what dead letters and the ledger confirm.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use actors::{
    Headers, TopicPartition,
    dead_letter::{ACTIONS_TOPIC, Action, DeadLetter, Entry, dlq_topic},
};
use anyhow::{Context, Result, anyhow};
use contracts::{Envelope, Known, ParseError, Parsed};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::BorrowedMessage,
};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};
use uuid::Uuid;

use crate::topics;

/// A partition that gives neither a record nor its end for this long does not answer.
const STALLED: Duration = Duration::from_secs(15);
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

/// Reads topics, one after the other.
#[derive(Clone)]
pub(super) struct Reader(Arc<BaseConsumer>);

impl Reader {
    /// A reader of the Kafka at `brokers`.
    pub(super) fn new(brokers: &str) -> Result<Self> {
        let mut config = topics::reading(brokers);
        // What retention deletes while it is read is no error: the offsets are told apart afterwards.
        config.set("auto.offset.reset", "earliest").set("fetch.wait.max.ms", "5");
        config.set("queued.max.messages.kbytes", "16384");
        Ok(Self(Arc::new(config.create().context("no consumer can be made")?)))
    }

    /// The first offset that a partition still has.
    pub(super) async fn low(&self, source: &TopicPartition) -> Result<i64> {
        let (reader, source) = (self.clone(), source.clone());
        let asked =
            spawn_blocking(move || reader.0.fetch_watermarks(&source.topic, source.partition, STALLED));
        Ok(asked.await?.context("Kafka does not say where a partition begins")?.0)
    }

    /// Reads a partition from offset `from` to `upto`, which is not read. Chunks come in order; the task ends with what it
    /// took, after the last of them.
    pub(super) fn partition(
        &self,
        source: &TopicPartition,
        from: i64,
        upto: i64,
        requeue: bool,
    ) -> (mpsc::Receiver<Vec<Seen>>, JoinHandle<Result<Cost>>) {
        let (sender, receiver) = mpsc::channel(2);
        let (reader, source) = (self.clone(), source.clone());
        let task = spawn_blocking(move || {
            let (mut cost, mut chunk) = (Cost::default(), Vec::with_capacity(CHUNK));
            let place = [(source.partition, Offset::Offset(from))];
            reader.visit(&source.topic, &place, |message| {
                if message.offset() < upto {
                    cost.count(message);
                    chunk.push(seen(message, requeue));
                }
                let last = message.offset() + 1 >= upto;
                if chunk.len() == CHUNK {
                    let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK));
                    // Nobody listens any more: the audit has ended with an error of its own.
                    return sender.blocking_send(full).is_ok() && !last;
                }
                !last
            })?;
            // As above.
            sender.blocking_send(chunk).unwrap_or_default();
            Ok(cost)
        });
        (receiver, task)
    }

    /// Which of the origins in `wanted` have a dead letter of `group`.
    pub(super) async fn letters(
        &self,
        group: &str,
        wanted: HashSet<(TopicPartition, i64)>,
    ) -> Result<(HashSet<(TopicPartition, i64)>, Cost)> {
        self.find(dlq_topic(group), wanted, |message| {
            let letter = DeadLetter::from_headers(&Headers::from_kafka(message)).ok()?;
            Some((letter.origin, letter.offset.0))
        })
        .await
    }

    /// Which of the requeued records in `wanted` have an outcome in `dlq.actions`.
    pub(super) async fn outcomes(&self, wanted: HashSet<PutBack>) -> Result<(HashSet<PutBack>, Cost)> {
        self.find(ACTIONS_TOPIC.to_owned(), wanted, |message| outcome(message.payload()?)).await
    }

    /// Reads a topic until all of `wanted` was found in it, or to its end.
    async fn find<T: std::hash::Hash + Eq + Send + 'static>(
        &self,
        topic: String,
        mut wanted: HashSet<T>,
        what: fn(&BorrowedMessage<'_>) -> Option<T>,
    ) -> Result<(HashSet<T>, Cost)> {
        if wanted.is_empty() {
            return Ok((HashSet::new(), Cost::default()));
        }
        let reader = self.clone();
        let read = spawn_blocking(move || {
            let (mut found, mut cost) = (HashSet::new(), Cost::default());
            let metadata = reader.0.fetch_metadata(Some(&topic), STALLED);
            let metadata = metadata.with_context(|| format!("Kafka does not say where {topic} is"))?;
            let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
            let places: Vec<(i32, Offset)> = partitions.map(|one| (one.id(), Offset::Beginning)).collect();
            reader.visit(&topic, &places, |message| {
                cost.count(message);
                found.extend(what(message).and_then(|one| wanted.take(&one)));
                !wanted.is_empty()
            })?;
            Ok((found, cost))
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
            reader.visit(&source.topic, &[(source.partition, Offset::Offset(offset))], |message| {
                if message.offset() == offset {
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

    /// Hands the records of some partitions of a topic to `visit`, until it says `false` or all have come to their end.
    fn visit(
        &self,
        topic: &str,
        places: &[(i32, Offset)],
        mut visit: impl FnMut(&BorrowedMessage<'_>) -> bool,
    ) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in places {
            list.add_partition_offset(topic, *partition, *offset)?;
        }
        // A client that does not know the topic's broker takes most of a second to find out by itself.
        self.0
            .fetch_metadata(Some(topic), STALLED)
            .with_context(|| format!("Kafka does not say where {topic} is"))?;
        self.0.assign(&list).with_context(|| format!("{topic} cannot be read"))?;
        let mut unfinished: BTreeSet<i32> = places.iter().map(|(partition, _)| *partition).collect();
        let mut progress = Instant::now();
        let mut complaint = None;
        while !unfinished.is_empty() {
            match self.0.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    progress = Instant::now();
                    if !visit(&message) {
                        break;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    progress = Instant::now();
                    unfinished.remove(&partition);
                }
                // A broker that comes back answers soon; one that does not ends in the stall below.
                Some(Err(error)) => complaint = Some(error),
                None => {}
            }
            if progress.elapsed() > STALLED {
                let stalled = anyhow!("{topic} gives neither a record nor its end for {STALLED:?}");
                return Err(match complaint {
                    Some(error) => anyhow!(error).context(stalled),
                    None => stalled,
                });
            }
        }
        self.0.unassign().with_context(|| format!("{topic} cannot be let go"))
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
