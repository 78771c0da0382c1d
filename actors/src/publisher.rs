//! The idempotent producer of a process.
//!
//! A lane enqueues its records in order from one place; librdkafka keeps that order per destination partition
//! and never gives a message up (`message.timeout.ms=0`), so an outage of Kafka is only a delay. What was
//! acknowledged is told to the lane's [`Track`], from which its outbox learns what it may delete.

mod partitioner;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use chrono::{DateTime, Utc};
use metrics::{Counter, counter};
use parking_lot::{Mutex, RwLock};
use rdkafka::{
    ClientConfig, ClientContext, Message,
    config::FromClientConfigAndContext,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig, ThreadedProducer},
};
use thiserror::Error;

use self::partitioner::KeptPartitions;
use crate::{
    Cause,
    handler::Emit,
    kafka::client_config,
    metrics::{PUBLISH_FAILURES, PUBLISHED},
    outbox::{Refused, Sending, Track},
    settings::KafkaSettings,
};

/// The process's idempotent producer. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClientConfig,
    partitions: KeptPartitions,
    current: RwLock<Current>,
    /// What is known of the rows of those that publish here and own no partition, by the names of their lanes.
    writers: Mutex<Vec<(String, Weak<Track>)>>,
}

/// The producer in use. Both fields change together: a lane that sent to an earlier producer has to read its outbox again
/// before anything newer of its own is sent to this one.
#[derive(Clone)]
struct Current {
    producer: Arc<ThreadedProducer<Reports, KeptPartitions>>,
    /// Counts producers.
    generation: u64,
}

/// The producer's settings were refused.
#[derive(Debug, Error)]
#[error("cannot create the Kafka producer: {0}")]
pub struct PublisherError(#[from] KafkaError);

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

/// What a delivery report is about.
#[derive(Debug)]
pub(crate) struct Delivery {
    track: Arc<Track>,
    sending: Sending,
}

/// Hears what became of each record.
#[derive(Default)]
struct Reports {
    /// A counter of acknowledged records for each topic, looked up once a topic and not once a record.
    published: RwLock<HashMap<Box<str>, Counter>>,
    partitions: KeptPartitions,
}

impl Reports {
    fn count(&self, topic: &str) {
        if let Some(counter) = self.published.read().get(topic) {
            return counter.increment(1);
        }
        let counter = counter!(PUBLISHED, "topic" => topic.to_owned());
        counter.increment(1);
        self.published.write().insert(topic.into(), counter);
    }
}

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            // Also said when idle connections are closed; that a broker is gone, its own error says.
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                tracing::debug!(%error, reason, "the Kafka producer has no connection");
            }
            _ => tracing::warn!(%error, reason, "the Kafka producer reports an error"),
        }
    }
}

impl ProducerContext<KeptPartitions> for Reports {
    type DeliveryOpaque = Box<Delivery>;

    fn get_custom_partitioner(&self) -> Option<&KeptPartitions> {
        Some(&self.partitions)
    }

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Box<Delivery>) {
        match result {
            Ok(message) => {
                self.count(message.topic());
                delivery.track.acknowledged(delivery.sending);
            }
            Err((error, _)) if is_purged(error) => delivery.track.unsent(delivery.sending),
            Err((error, message)) => {
                counter!(PUBLISH_FAILURES, "topic" => message.topic().to_owned()).increment(1);
                delivery.track.refused(delivery.sending, Refused::new("kafka-publish", error));
            }
        }
    }
}

/// The producer gave it up with itself: the record is not to blame.
fn is_purged(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight | RDKafkaErrorCode::Fatal)
    )
}

impl Publisher {
    /// Creates the producer; Kafka need not be reachable.
    pub fn start(kafka: &KafkaSettings) -> Result<Self, PublisherError> {
        let config = client_config(
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
                // A topic that was missing and is there again is to be found soon; the default is five minutes.
                ("topic.metadata.refresh.interval.ms", "10000"),
                ("queue.buffering.max.kbytes", "65536"),
                // Counted before it is compressed. What a topic refuses, the broker says.
                ("message.max.bytes", "67108864"),
            ],
        );
        let partitions = KeptPartitions::default();
        let reports = Reports { partitions: partitions.clone(), ..Reports::default() };
        let producer = Arc::new(ThreadedProducer::from_config_and_context(&config, reports)?);
        let current = RwLock::new(Current { producer, generation: 0 });
        Ok(Self { inner: Arc::new(Inner { config, partitions, current, writers: Mutex::default() }) })
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

    /// What Kafka refuses of theirs, and since when.
    pub(crate) fn refusals(&self) -> Vec<(Cause, DateTime<Utc>)> {
        let writers = self.inner.writers.lock();
        let refused = |(lane, track): &(String, Weak<Track>)| track.upgrade()?.refused_as(lane);
        writers.iter().filter_map(refused).collect()
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

    /// Replaces a producer that had a fatal error. What it had and Kafka has not acknowledged, every lane reads from its
    /// outbox again. False when no new one can be built.
    fn rebuild(&self, broken: &Arc<ThreadedProducer<Reports, KeptPartitions>>) -> bool {
        let mut current = self.inner.current.write();
        if !Arc::ptr_eq(&current.producer, broken) {
            return true;
        }
        tracing::error!("the Kafka producer had a fatal error; building a new one");
        let reports = Reports { partitions: self.inner.partitions.clone(), ..Reports::default() };
        match ThreadedProducer::from_config_and_context(&self.inner.config, reports) {
            Ok(fresh) => {
                let old = std::mem::replace(&mut current.producer, Arc::new(fresh));
                current.generation += 1;
                old.purge(PurgeConfig::default().queue().inflight());
                true
            }
            Err(error) => {
                tracing::error!(%error, "cannot build a new Kafka producer; trying again with the next record");
                false
            }
        }
    }
}

/// One producer, as long as it is the one in use.
pub(crate) struct Sender<'a> {
    publisher: &'a Publisher,
    producer: Arc<ThreadedProducer<Reports, KeptPartitions>>,
    generation: u64,
}

impl Sender<'_> {
    /// Enqueues one record; its fate is told to `track`.
    pub(crate) fn enqueue(
        &self,
        emit: &Emit,
        sending: Sending,
        track: &Arc<Track>,
    ) -> Result<(), NotEnqueued> {
        if !sending.is_of(self.generation) {
            return Err(NotEnqueued::Replaced);
        }
        let delivery = Box::new(Delivery { track: track.clone(), sending });
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
                    return Err(match self.publisher.rebuild(&self.producer) {
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
