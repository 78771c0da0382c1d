//! Reading a topic from here to there, past what nobody can read.

mod alone;
mod client;
mod span;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::BorrowedMessage,
};

use self::client::{client, config, is_final, partitions, topics, wrong};
pub use self::span::{Given, ReadError, Span, Unread};
use crate::{
    client::KafkaSettings,
    complaints::Complaints,
    unreadable::{batch_named, is_unreadable},
};

/// A partition that gives neither a record nor its end for this long does not answer.
const STALLED: Duration = Duration::from_secs(15);
/// A partition whose leader is being chosen has one after this time.
const LEADERLESS: Duration = Duration::from_secs(5);
/// What a poll waits for at most.
const TICK: Duration = Duration::from_millis(200);

/// Reads topics, one after the other, in bounded memory and without a group. It sees decided transactions alone.
///
/// The end of a partition is what the broker says it is, never an offset that was computed: the last offsets may be markers of
/// transactions, or deleted by compaction, and then no record has them. What cannot be read is handed over as a value and passed
/// over; only where Kafka as a whole does not answer is there an error.
pub struct TopicReader {
    /// `None` only while it is dropped.
    consumer: Option<BaseConsumer<Complaints>>,
    config: ClientConfig,
    /// How long a broker may take to answer a question.
    timeout: Duration,
    topic: String,
    /// Partitions whose end was not met.
    unfinished: BTreeSet<i32>,
    /// Offsets at which reading a partition ends; where it ended, once it has.
    upto: BTreeMap<i32, i64>,
    /// For each partition that gave a record, or was told where to start, the offset to go on from.
    next: BTreeMap<i32, i64>,
    /// What was found out before anything was read.
    leaderless: Vec<Unread>,
}

/// What a poll gave.
enum Event {
    Record,
    End(i32),
    Nothing,
    /// Some partition has a batch that cannot be read: where it begins, if the client says so, and why.
    Unreadable(Option<i64>, String),
}

impl std::fmt::Debug for TopicReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicReader")
            .field("topic", &self.topic)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl TopicReader {
    /// A reader that is known to the brokers as `client_id`, and waits up to `timeout` for the answer to a question.
    ///
    /// # Errors
    /// [`ReadError::Client`].
    pub fn new(kafka: &KafkaSettings, client_id: &str, timeout: Duration) -> Result<Self, ReadError> {
        let config = config(kafka, client_id);
        Ok(Self {
            consumer: Some(client(&config)?),
            config,
            timeout,
            topic: String::new(),
            unfinished: BTreeSet::new(),
            upto: BTreeMap::new(),
            next: BTreeMap::new(),
            leaderless: Vec::new(),
        })
    }

    /// Every topic, Kafka's own included, with the number of its partitions.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn topics(&self) -> Result<BTreeMap<String, usize>, ReadError> {
        topics(self.consumer()?, self.timeout)
    }

    /// The partitions of `topic`, each with whether it has a leader; none when there is no such topic.
    ///
    /// # Errors
    /// When nobody answers, or this reader may not know.
    pub fn partitions(&self, topic: &str) -> Result<BTreeMap<i32, bool>, ReadError> {
        partitions(self.consumer()?, topic, self.timeout)
    }

    /// The first offset that a partition still has, and one past the last that a reader of decided transactions sees.
    ///
    /// # Errors
    /// When it has no leader, or nobody answers.
    pub fn extent(&self, topic: &str, partition: i32) -> Result<(i64, i64), ReadError> {
        let asked = self.consumer()?.fetch_watermarks(topic, partition, self.timeout);
        asked.map_err(|source| wrong(topic, source))
    }

    /// Begins to read `spans` of `topic`, in place of what was read before. Each partition is named once.
    ///
    /// # Errors
    /// When nobody answers, or the client does not take it.
    pub fn open(&mut self, topic: &str, spans: impl IntoIterator<Item = Span>) -> Result<(), ReadError> {
        topic.clone_into(&mut self.topic);
        self.unfinished.clear();
        self.upto.clear();
        self.next.clear();
        self.leaderless.clear();
        self.consumer()?.context().clear();
        let spans: Vec<Span> = spans.into_iter().collect();
        // An assignment of a topic whose leaders are not known yet is only looked at again half a second later.
        let asked = Instant::now();
        let without_leader = loop {
            let led = self.partitions(topic)?;
            let without: BTreeSet<i32> = spans
                .iter()
                .map(|span| span.partition)
                .filter(|partition| led.get(partition) == Some(&false))
                .collect();
            if without.is_empty() || asked.elapsed() > LEADERLESS {
                break without;
            }
            std::thread::sleep(TICK);
        };
        for Span { partition, from, upto } in spans {
            if without_leader.contains(&partition) {
                let why = "it has no leader: its brokers are away".to_owned();
                self.leaderless.push(Unread { partition, from, upto, why });
                continue;
            }
            self.next.extend(from.map(|from| (partition, from)));
            self.upto.extend(upto.map(|upto| (partition, upto)));
            self.unfinished.insert(partition);
        }
        self.assign(self.unfinished.iter().copied())
    }

    /// What is known not to be readable before anything is read; [`to_end`](Self::to_end) hands it over first.
    pub fn leaderless(&self) -> &[Unread] {
        &self.leaderless
    }

    /// Hands everything up to the end of every span to `visit`, each partition in its order; stops early when it says `false`, and
    /// then says so itself. Nothing is read any more afterwards.
    ///
    /// # Errors
    /// When Kafka as a whole does not answer, or refuses.
    pub fn to_end(&mut self, mut visit: impl FnMut(Given<'_>) -> bool) -> Result<bool, ReadError> {
        let wanted = self.leaderless.drain(..).all(|unread| visit(Given::Unread(unread)));
        let wanted = wanted && self.together(&mut visit)?;
        self.consumer()?.unassign().map_err(|source| wrong(&self.topic, source))?;
        Ok(wanted)
    }

    /// Waits up to `timeout` for one more record, at or past the end, in place of [`to_end`](Self::to_end). Where something cannot be
    /// read it takes longer: then all is handed over that the partitions have by now. Silence is no error: a topic that nobody
    /// writes to is silent too.
    ///
    /// # Errors
    /// When the brokers refuse, or do not answer where something could not be read.
    pub fn follow(&mut self, timeout: Duration, mut visit: impl FnMut(Given<'_>)) -> Result<(), ReadError> {
        let event = self.step(timeout, |message| visit(Given::Record(message)))?;
        if matches!(event, Event::Unreadable(..)) {
            let followed = self.unfinished.clone();
            self.one_by_one(&mut |given| {
                visit(given);
                true
            })?;
            self.unfinished = followed;
            self.assign(self.unfinished.iter().copied())?;
        }
        Ok(())
    }

    /// For each partition that gave a record, or was told where to start, the offset to go on from.
    pub fn positions(&self) -> &BTreeMap<i32, i64> {
        &self.next
    }

    /// Reads what is unfinished side by side, as long as all goes well.
    fn together(&mut self, visit: &mut impl FnMut(Given<'_>) -> bool) -> Result<bool, ReadError> {
        let mut progress = Instant::now();
        let mut wanted = true;
        while wanted && !self.unfinished.is_empty() {
            match self.step(TICK, |message| wanted = visit(Given::Record(message)))? {
                Event::Record => progress = Instant::now(),
                Event::End(partition) if self.unfinished.contains(&partition) => {
                    progress = Instant::now();
                    self.end(partition)?;
                }
                // The client does not say which partition it is about.
                Event::Unreadable(..) => return self.one_by_one(visit),
                Event::Nothing | Event::End(_) if progress.elapsed() > STALLED => return self.stalled(visit),
                Event::Nothing | Event::End(_) => {}
            }
        }
        Ok(wanted)
    }

    fn step(
        &mut self,
        timeout: Duration,
        visit: impl FnOnce(&BorrowedMessage<'_>),
    ) -> Result<Event, ReadError> {
        match self.consumer.as_ref().and_then(|consumer| consumer.poll(timeout)) {
            None => Ok(Event::Nothing),
            Some(Ok(message)) => {
                let (partition, offset) = (message.partition(), message.offset());
                let upto = self.upto.get(&partition).copied().unwrap_or(i64::MAX);
                if offset < upto {
                    self.next.insert(partition, offset + 1);
                    visit(&message);
                }
                Ok(if offset + 1 < upto { Event::Record } else { Event::End(partition) })
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Event::End(partition)),
            Some(Err(error)) if is_unreadable(&error) => {
                let why = self.last_words().unwrap_or_else(|| error.to_string());
                Ok(Event::Unreadable(batch_named(&why), why))
            }
            Some(Err(error)) if is_final(&error) => Err(wrong(&self.topic, error)),
            Some(Err(error)) => {
                self.consumer()?.context().note(&error);
                Ok(Event::Nothing)
            }
        }
    }

    /// A partition is done with: what is written to it from now on is not asked for. One that goes on beyond its span would be read
    /// on; the others begin again where they are.
    fn end(&mut self, partition: i32) -> Result<(), ReadError> {
        self.unfinished.remove(&partition);
        let position = self.next.get(&partition).copied().unwrap_or_default();
        let goes_on = self.upto.insert(partition, position).is_some();
        if goes_on { self.assign(self.unfinished.iter().copied()) } else { Ok(()) }
    }

    /// Reads these partitions from where they are, and no others.
    fn assign(&self, partitions: impl Iterator<Item = i32>) -> Result<(), ReadError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            let offset = self.next.get(&partition).map_or(Offset::Beginning, |next| Offset::Offset(*next));
            let added = list.add_partition_offset(&self.topic, partition, offset);
            added.map_err(|source| wrong(&self.topic, source))?;
        }
        self.consumer()?.assign(&list).map_err(|source| wrong(&self.topic, source))
    }

    fn last_words(&self) -> Option<String> {
        self.consumer.as_ref()?.context().last()
    }

    fn consumer(&self) -> Result<&BaseConsumer<Complaints>, ReadError> {
        self.consumer.as_ref().ok_or(ReadError::Client(KafkaError::Canceled))
    }
}

impl Drop for TopicReader {
    /// Closing a client waits for its threads. It has nothing to commit, so nobody needs to wait for it.
    fn drop(&mut self) {
        let consumer = self.consumer.take();
        std::thread::spawn(move || drop(consumer));
    }
}
