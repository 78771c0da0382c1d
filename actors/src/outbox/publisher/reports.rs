//! What librdkafka says of the records it was given, and of itself.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use metrics::{Counter, counter};
use parking_lot::{Mutex, RwLock};
use rdkafka::{
    ClientContext, Message, Statistics,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{DeliveryResult, ProducerContext},
};

use super::{health::Health, partitioner::KeptPartitions, spans};
use crate::{
    metrics::{PUBLISH_FAILURES, PUBLISHED},
    outbox::{
        refusal::Refused,
        track::{Sending, Track},
    },
};

/// What a delivery report is about.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(super) track: Arc<Track>,
    pub(super) sending: Sending,
    /// What is told of it once Kafka has it.
    pub(super) span: Option<Box<spans::Sending>>,
}

/// Hears what became of each record.
pub(super) struct Reports {
    /// A counter of acknowledged records for each topic, looked up once a topic and not once a record.
    published: RwLock<HashMap<Box<str>, Counter>>,
    partitions: KeptPartitions,
    health: Arc<Mutex<Health>>,
    /// Another producer has taken this one's place.
    retired: AtomicBool,
}

impl Reports {
    pub(super) fn new(partitions: KeptPartitions, health: Arc<Mutex<Health>>) -> Self {
        Self { published: RwLock::default(), partitions, health, retired: AtomicBool::new(false) }
    }

    /// How its producer is from now on says nothing any more.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

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
    fn stats(&self, statistics: Statistics) {
        let mut health = self.health.lock();
        if !self.retired.load(Ordering::Acquire) {
            health.heard(&statistics, Instant::now());
        }
    }

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
                if let Some(span) = delivery.span {
                    span.acknowledged(message);
                }
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
