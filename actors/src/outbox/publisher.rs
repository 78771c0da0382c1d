//! The idempotent producer of a process.
//!
//! A lane enqueues its records in order from one place; librdkafka keeps that order per destination partition
//! and never gives a message up (`message.timeout.ms=0`), so an outage of Kafka is only a delay. What was
//! acknowledged is noted in the lane's [`Track`], from which its outbox learns what it may delete. A producer that gets nowhere
//! is replaced, and every lane reads from its outbox what Kafka has not acknowledged.

mod health;
mod partitioner;
mod reports;
mod spans;

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use dead_letters::{KafkaSettings, client_config};
use parking_lot::{Mutex, RwLock};
use rdkafka::{
    ClientConfig,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, Producer, ThreadedProducer},
};
use thiserror::Error;

use self::{
    health::Health,
    partitioner::KeptPartitions,
    reports::{Delivery, Reports},
};
use super::{
    refusal::Refused,
    track::{Sending, Track},
};
use crate::{Backlog, Cause, event::Emit};

/// The process's idempotent producer. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    inner: Arc<Inner>,
}

/// The producer is looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// How long Kafka is waited for when it is asked from the side.
const ASIDE: Duration = Duration::from_secs(2);

type ThisProducer = ThreadedProducer<Reports, KeptPartitions>;

struct Inner {
    config: ClientConfig,
    /// For a client that asks from the side.
    aside: ClientConfig,
    health: Arc<Mutex<Health>>,
    partitions: KeptPartitions,
    current: RwLock<Current>,
    rebuilding: Mutex<()>,
    /// What is known of the rows of those that publish here and own no partition, by the names of their lanes.
    writers: Mutex<Vec<(String, Weak<Track>)>>,
}

/// The producer in use. Both fields change together: a lane that sent to an earlier producer has to read its outbox again
/// before anything newer of its own is sent to this one.
#[derive(Clone)]
struct Current {
    producer: Arc<ThisProducer>,
    /// Counts producers.
    generation: u64,
}

/// There is no producer.
#[derive(Debug, Error)]
pub enum PublisherError {
    /// Its settings were refused.
    #[error("cannot create the Kafka producer: {0}")]
    Kafka(#[from] KafkaError),
    /// The system has no thread for who looks after it.
    #[error("cannot start the thread that watches the Kafka producer: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why a record was not enqueued.
#[derive(Debug)]
pub(crate) enum NotEnqueued {
    /// The producer's buffer is full: Kafka is slow or gone. Try again later.
    Full,
    /// There is another producer by now.
    Replaced,
    /// The producer refused it.
    Refused(Refused),
}

impl Publisher {
    /// Creates the producer; Kafka need not be reachable.
    pub fn start(kafka: &KafkaSettings) -> Result<Self, PublisherError> {
        let mut config = client_config(
            kafka,
            &[
                ("enable.idempotence", "true"),
                // An outbox row is deleted when its record is acknowledged, and a record that timed out could overtake
                // its successors: wait for ever instead.
                ("message.timeout.ms", "0"),
                // With 0 librdkafka still batches whatever queues up, and a saga of four hops does not pay for waiting.
                ("linger.ms", "0"),
                // Dead letters travel here whose records came compressed: what fitted into their topic must fit again.
                ("compression.type", "zstd"),
                // Records without a key are placed by ours as well.
                ("sticky.partitioning.linger.ms", "0"),
                // A topic that was missing and is there again is to be found soon; the default is five minutes. And whether
                // Kafka answers is to be known.
                ("topic.metadata.refresh.interval.ms", "5000"),
                ("queue.buffering.max.kbytes", "65536"),
                // Counted before it is compressed. What a topic refuses, the broker says.
                ("message.max.bytes", "67108864"),
            ],
        );
        // By which it is seen how it is: nobody's to change.
        config.set("statistics.interval.ms", "2000");
        let (partitions, health) = (KeptPartitions::default(), Arc::new(Mutex::new(Health::new())));
        let producer = Arc::new(produce(&config, &partitions, &health)?);
        let current = RwLock::new(Current { producer, generation: 0 });
        let aside = client_config(kafka, &[]);
        let (rebuilding, writers) = (Mutex::default(), Mutex::default());
        let inner = Inner { config, aside, health, partitions, current, rebuilding, writers };
        let inner = Arc::new(inner);
        let watched = Arc::downgrade(&inner);
        thread::Builder::new().name("producer-watch".to_owned()).spawn(move || watch(&watched))?;
        Ok(Self { inner })
    }

    /// `topic` has `count` partitions: records of a key stay in theirs when the topic grows. A topic that nothing is said of keeps the
    /// count it has when it is first written to.
    pub fn keep_partitions(&self, topic: &str, count: i32) {
        self.inner.partitions.keep(topic, count);
    }

    /// Topics written to, with the partitions that are used of them.
    pub(crate) fn kept_partitions(&self) -> HashMap<Box<str>, i32> {
        self.inner.partitions.all()
    }

    /// Somebody who owns no partition publishes here.
    pub(crate) fn is_written_by(&self, lane: &str, track: &Arc<Track>) {
        let mut writers = self.inner.writers.lock();
        writers.retain(|(_, track)| track.strong_count() > 0);
        writers.push((lane.to_owned(), Arc::downgrade(track)));
    }

    /// What Kafka has not acknowledged of theirs, all together; `None` where there is nobody.
    pub(crate) fn backlog(&self) -> Option<Backlog> {
        let writers = self.inner.writers.lock();
        let tracks = writers.iter().filter_map(|(_, track)| track.upgrade());
        tracks
            .map(|track| track.backlog())
            .reduce(|all, one| Backlog { rows: all.rows + one.rows, oldest: all.oldest.max(one.oldest) })
    }

    /// What is wrong with the producer, and what Kafka refuses of theirs; since when.
    pub(crate) fn trouble(&self) -> Vec<(Cause, DateTime<Utc>)> {
        let own = self.inner.health.lock().trouble(Instant::now());
        let writers = self.inner.writers.lock();
        let refused = |(lane, track): &(String, Weak<Track>)| track.upgrade()?.refused_as(lane);
        own.into_iter().chain(writers.iter().filter_map(refused)).collect()
    }

    /// Replaces the producer as if it got nowhere, for tests.
    #[cfg(feature = "failpoints")]
    pub fn replace(&self) -> bool {
        let broken = self.inner.current.read().producer.clone();
        self.inner.rebuild(&broken, "a test says so")
    }

    /// Which producer this is, counted from 0.
    pub(crate) fn generation(&self) -> u64 {
        self.inner.current.read().generation
    }

    /// The producer in use, for a run of records.
    pub(crate) fn sender(&self) -> Sender<'_> {
        let Current { producer, generation } = self.inner.current.read().clone();
        Sender { publisher: self, producer, generation }
    }
}

impl Inner {
    /// Replaces a producer that is of no use any more. What it had and Kafka has not acknowledged, every lane reads from its
    /// outbox again. False when no new one can be built.
    fn rebuild(&self, broken: &Arc<ThisProducer>, why: &str) -> bool {
        let _one_at_a_time = self.rebuilding.lock();
        if !Arc::ptr_eq(&self.current.read().producer, broken) {
            return true;
        }
        tracing::error!(why, "the Kafka producer is of no use any more; building a new one");
        // Nobody who publishes waits for that: it reads files and starts threads.
        let fresh = match produce(&self.config, &self.partitions, &self.health) {
            Ok(fresh) => Arc::new(fresh),
            Err(error) => {
                tracing::error!(%error, "cannot build a new Kafka producer; trying again");
                return false;
            }
        };
        let old = {
            let mut current = self.current.write();
            current.generation += 1;
            std::mem::replace(&mut current.producer, fresh)
        };
        old.context().retire();
        self.health.lock().start_anew(Instant::now());
        dispose(old);
        true
    }
}

fn produce(
    config: &ClientConfig,
    partitions: &KeptPartitions,
    health: &Arc<Mutex<Health>>,
) -> Result<ThisProducer, KafkaError> {
    ThreadedProducer::from_config_and_context(config, Reports::new(partitions.clone(), health.clone()))
}

/// Looks after the producer for as long as anybody publishes. A thread of its own: it is to see also that all others stand still,
/// and nobody waits for what it does.
fn watch(publisher: &Weak<Inner>) {
    loop {
        let before = Instant::now();
        thread::sleep(LOOK);
        let stood_still = before.elapsed() > LOOK * 4;
        let Some(inner) = publisher.upgrade() else { return };
        if stood_still {
            inner.health.lock().start_anew(Instant::now());
        }
        // Where the system has no threads left, a new producer is a panic; the watch goes on, and tries again.
        let looked = std::panic::catch_unwind(AssertUnwindSafe(|| inner.look_after()));
        if looked.is_err() {
            tracing::error!("looking after the Kafka producer panicked; trying again");
        }
    }
}

impl Inner {
    fn look_after(&self) {
        let doubtful = self.health.lock().in_doubt(Instant::now()).map(ToOwned::to_owned);
        if let Some(topic) = doubtful
            && answers(&self.aside, &topic)
        {
            self.health.lock().answered(Instant::now());
        }
        let why = self.health.lock().look(Instant::now());
        if let Some(why) = why {
            let broken = self.current.read().producer.clone();
            self.rebuild(&broken, &why);
        }
    }
}

/// Whether Kafka answers a client that has nothing to do with the producer.
fn answers(config: &ClientConfig, topic: &str) -> bool {
    let asked = config.create::<BaseConsumer>();
    asked.and_then(|client| client.fetch_metadata(Some(topic), ASIDE)).is_ok()
}

/// Ends a producer, with whatever it still has: that waits for its threads, which may take long if they are what is wrong with it.
/// Not before everybody has let go of it: records handed to it after its queues were emptied would overtake those that were in them.
fn dispose(old: Arc<ThisProducer>) {
    let end = move || {
        while Arc::strong_count(&old) > 1 {
            thread::sleep(Duration::from_millis(50));
        }
    };
    if let Err(error) = thread::Builder::new().name("producer-end".to_owned()).spawn(end) {
        tracing::warn!(%error, "no thread for ending the former Kafka producer; ended by whoever uses it last");
    }
}

/// One producer, as long as it is the one in use.
pub(crate) struct Sender<'a> {
    publisher: &'a Publisher,
    producer: Arc<ThisProducer>,
    generation: u64,
}

impl Sender<'_> {
    /// Enqueues one record; `track` receives its outcome.
    pub(crate) fn enqueue(
        &self,
        emit: &Emit,
        sending: Sending,
        track: &Arc<Track>,
    ) -> Result<(), NotEnqueued> {
        if !sending.is_of(self.generation) {
            return Err(NotEnqueued::Replaced);
        }
        let delivery = Box::new(Delivery { track: track.clone(), sending, span: spans::begin(emit) });
        let mut record: BaseRecord<'_, [u8], [u8], _> = BaseRecord::with_opaque_to(&emit.topic, delivery);
        if let Some(key) = &emit.key {
            record = record.key(key);
        }
        if let Some(value) = &emit.value {
            record = record.payload(value);
        }
        if !emit.headers.is_empty() {
            record = record.headers(emit.headers.to_kafka());
        }
        match self.producer.send(record) {
            Ok(()) => Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Err(NotEnqueued::Full),
            Err((error, _)) => {
                if self.producer.client().fatal_error().is_some() {
                    // Where no new one could be built the next record tries again.
                    return Err(match self.publisher.inner.rebuild(&self.producer, "it had a fatal error") {
                        true => NotEnqueued::Replaced,
                        false => NotEnqueued::Full,
                    });
                }
                Err(NotEnqueued::Refused(Refused::new("kafka-enqueue", &error)))
            }
        }
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Publisher")
    }
}
