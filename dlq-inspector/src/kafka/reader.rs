//! Reading one topic from a start to its end, past what cannot be read.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use dead_letters::{Headers, end_of_batch, is_unreadable};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{BorrowedMessage, Message},
    types::RDKafkaErrorCode,
};

use super::{
    cluster::{Complaints, Kafka, why},
    gap::Gap,
};

/// A partition that gives neither a record nor its end for this long cannot be reached.
const STALLED: Duration = Duration::from_secs(15);

/// Where reading starts.
#[derive(Clone, Debug)]
pub enum Start {
    /// At the oldest record of every partition.
    Oldest,
    /// At these offsets, partition by partition; a partition that is not named starts at its oldest record.
    At(BTreeMap<i32, i64>),
    /// The same, and partitions that are not named are not read.
    Only(BTreeMap<i32, i64>),
}

/// A record as it lies in the client's buffer.
#[derive(Debug)]
pub struct Raw<'a> {
    /// Its topic.
    pub topic: &'a str,
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
    fn of(message: &'a BorrowedMessage<'a>) -> Self {
        Self {
            topic: message.topic(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key(),
            value: message.payload(),
            headers: Headers::from_kafka(message),
        }
    }
}

/// The same of a partition that is asked alone.
const SILENT: Duration = Duration::from_secs(5);

/// What a visitor wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Record,
    End(i32),
    Nothing,
    /// Some partition cannot be read, and this is why.
    Unreadable(super::gap::Unreadable),
}

/// A partition whose leader is being chosen has one after this time.
const LEADERLESS: Duration = Duration::from_secs(5);

impl Kafka {
    /// Reads `topic` from `start` to its end, and on from there if asked to.
    pub fn reader(&self, topic: &str, start: &Start) -> anyhow::Result<Reader<'_>> {
        let partitions = self.partitions(topic).with_context(|| format!("topic {topic} does not exist"))?;
        let complaints = Complaints::default();
        let consumer = self.consumer(&complaints, "read_committed")?;
        // An assignment of a topic whose leaders are not known yet is only looked at again half a second later.
        let asked = Instant::now();
        let leaderless = loop {
            let metadata = consumer
                .fetch_metadata(Some(topic), self.timeout())
                .map_err(|error| self.unreachable(why(&consumer, &error)))?;
            let all = metadata.topics().iter().flat_map(|topic| topic.partitions());
            let leaderless: BTreeSet<i32> = all.filter(|one| one.leader() < 0).map(|one| one.id()).collect();
            if leaderless.is_empty() || asked.elapsed() > LEADERLESS {
                break leaderless;
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        for partition in &leaderless {
            let why = "it has no leader: its brokers are away".to_owned();
            self.note(Gap { topic: topic.to_owned(), partition: *partition, from: None, upto: None, why });
        }
        let readable = (0..partitions).filter(|partition| !leaderless.contains(partition));
        Reader::new(self, consumer, complaints, topic, readable, start)
    }
}

/// Reads one topic: an end is told by its partition number alone, so topics do not share a client.
pub struct Reader<'k> {
    kafka: &'k Kafka,
    /// `None` only while it is dropped.
    consumer: Option<BaseConsumer<Complaints>>,
    complaints: Complaints,
    topic: String,
    unfinished: BTreeSet<i32>,
    next: BTreeMap<i32, i64>,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("topic", &self.topic).field("next", &self.next).finish_non_exhaustive()
    }
}

impl<'k> Reader<'k> {
    fn new(
        kafka: &'k Kafka,
        consumer: BaseConsumer<Complaints>,
        complaints: Complaints,
        topic: &str,
        partitions: impl IntoIterator<Item = i32>,
        start: &Start,
    ) -> anyhow::Result<Self> {
        let mut list = TopicPartitionList::new();
        let mut next = BTreeMap::new();
        let mut unfinished = BTreeSet::new();
        for partition in partitions {
            let from = match start {
                Start::Oldest => None,
                Start::At(offsets) => offsets.get(&partition).copied(),
                Start::Only(offsets) => match offsets.get(&partition) {
                    Some(offset) => Some(*offset),
                    None => continue,
                },
            };
            let offset = from.map_or(Offset::Beginning, Offset::Offset);
            list.add_partition_offset(topic, partition, offset)
                .with_context(|| format!("reading {topic}"))?;
            next.extend(from.map(|from| (partition, from)));
            unfinished.insert(partition);
        }
        consumer.assign(&list).with_context(|| format!("reading {topic}"))?;
        Ok(Self { kafka, consumer: Some(consumer), complaints, topic: topic.to_owned(), unfinished, next })
    }

    /// Hands every record up to the end of every partition to `visit`; stops early when it says `false`. What cannot be read is
    /// noted and passed over.
    pub fn to_end(&mut self, mut visit: impl FnMut(&Raw<'_>) -> bool) -> anyhow::Result<()> {
        let mut progress = Instant::now();
        let mut wanted = true;
        while wanted && !self.unfinished.is_empty() {
            match self.step(Duration::from_millis(200), |raw| wanted = visit(raw))? {
                Event::Record => progress = Instant::now(),
                Event::End(partition) => {
                    progress = Instant::now();
                    self.unfinished.remove(&partition);
                }
                // The client does not say which partition it is about.
                Event::Unreadable(_) => return self.one_by_one(visit),
                Event::Nothing if progress.elapsed() > STALLED => {
                    let why = self.complaints.last().unwrap_or_else(|| "no broker answers".into());
                    let what = format!("reading {} stalled for {} s: {why}", self.topic, STALLED.as_secs());
                    if !self.kafka.answers(&self.topic) {
                        return Err(self.kafka.unreachable(what).into());
                    }
                    return self.one_by_one(visit);
                }
                Event::Nothing => {}
            }
        }
        Ok(())
    }

    /// Goes on with each partition alone, so that it is known which one cannot be read, and where.
    fn one_by_one(&mut self, mut visit: impl FnMut(&Raw<'_>) -> bool) -> anyhow::Result<()> {
        let mut wanted = true;
        while let Some(partition) = self.unfinished.pop_first().filter(|_| wanted) {
            if let Err(error) = self.alone(partition, |raw| {
                wanted = visit(raw);
                wanted
            }) {
                self.gap(partition, self.next.get(&partition).copied(), None, format!("{error:#}"));
            }
        }
        Ok(())
    }

    /// Reads one partition to its end, past what cannot be read; an error is why nothing can be from some place on.
    fn alone(&mut self, partition: i32, mut visit: impl FnMut(&Raw<'_>) -> bool) -> anyhow::Result<()> {
        let (low, end) = self.consumer()?.fetch_watermarks(&self.topic, partition, self.kafka.timeout())?;
        let first = self.next.entry(partition).or_insert(low);
        *first = low.max(*first);
        loop {
            let from = self.position(partition);
            self.seek(partition, from)?;
            let mut wanted = true;
            let event = self.settled(|raw| {
                wanted = visit(raw);
                wanted
            })?;
            let Event::Unreadable(first) = event else { return Ok(()) };
            let bad = self.position(partition).max(first.batch.unwrap_or_default());
            let past = end_of_batch::<anyhow::Error>(bad, end, |offset| {
                self.seek(partition, offset)?;
                Ok(match self.settled(|_| false)? {
                    Event::Unreadable(other) => other.batch != first.batch,
                    _ => true,
                })
            });
            // Whatever was met while looking, up to here everything was handed over.
            self.next.insert(partition, bad);
            let past = past?;
            self.gap(partition, Some(bad), Some(past), first.why);
            self.next.insert(partition, past);
            if past >= end {
                return Ok(());
            }
        }
    }

    /// Reads until `visit` has enough, the partition ends, or something cannot be read.
    fn settled(&mut self, mut visit: impl FnMut(&Raw<'_>) -> bool) -> anyhow::Result<Event> {
        let mut progress = Instant::now();
        loop {
            let mut wanted = true;
            match self.step(Duration::from_millis(200), |raw| wanted = visit(raw))? {
                Event::Nothing if progress.elapsed() > SILENT => {
                    let why = self.complaints.last().unwrap_or_else(|| "it is silent".into());
                    anyhow::bail!("it gives neither a record nor its end: {why}");
                }
                Event::Nothing => {}
                Event::Record if wanted => progress = Instant::now(),
                event => return Ok(event),
            }
        }
    }

    fn consumer(&self) -> anyhow::Result<&BaseConsumer<Complaints>> {
        self.consumer.as_ref().context("the reader has ended")
    }

    fn seek(&self, partition: i32, offset: i64) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        Ok(self.consumer()?.assign(&list)?)
    }

    fn position(&self, partition: i32) -> i64 {
        self.next.get(&partition).copied().unwrap_or_default()
    }

    fn gap(&self, partition: i32, from: Option<i64>, upto: Option<i64>, why: String) {
        self.kafka.note(Gap { topic: self.topic.clone(), partition, from, upto, why });
    }

    /// Waits up to `timeout` for one more record, past the end.
    pub fn follow(&mut self, timeout: Duration, visit: impl FnOnce(&Raw<'_>)) -> anyhow::Result<()> {
        self.step(timeout, visit).map(|_| ())
    }

    /// For each partition that gave a record, or was told where to start, the offset to go on from.
    pub fn positions(&self) -> &BTreeMap<i32, i64> {
        &self.next
    }

    fn step(&mut self, timeout: Duration, visit: impl FnOnce(&Raw<'_>)) -> anyhow::Result<Event> {
        match self.consumer.as_ref().and_then(|consumer| consumer.poll(timeout)) {
            None => Ok(Event::Nothing),
            Some(Ok(message)) => {
                let raw = Raw::of(&message);
                self.next.insert(raw.partition, raw.offset + 1);
                visit(&raw);
                Ok(Event::Record)
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Event::End(partition)),
            Some(Err(error)) if passes(&error) => Ok(Event::Nothing),
            Some(Err(error)) if is_unreadable(&error) => {
                let why = self.complaints.last().unwrap_or_else(|| error.to_string());
                Ok(Event::Unreadable(super::gap::Unreadable::new(why)))
            }
            Some(Err(error)) => Err(error).with_context(|| format!("reading {}", self.topic)),
        }
    }
}

impl Drop for Reader<'_> {
    /// Closing a client waits for its threads. It has nothing to commit, so nobody needs to wait for it.
    fn drop(&mut self) {
        let consumer = self.consumer.take();
        std::thread::spawn(move || drop(consumer));
    }
}

/// Connection troubles, which the client mends by itself or which end in a stall.
fn passes(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                // This tool belongs to no group, so what it may do with one does not matter.
                | RDKafkaErrorCode::GroupAuthorizationFailed
        )
    )
}
