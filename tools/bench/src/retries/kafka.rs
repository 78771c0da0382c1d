//! The topics of a way, and its producer.

use std::time::Duration;

use actors::{TopicSpec, dead_letters::dlq_topic, ensure_topics, group_topics};
use anyhow::{Context, Result};
use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    producer::{DeliveryFuture, FutureProducer, FutureRecord},
};
use uuid::Uuid;

use super::{DELAYS, Way, load::Event};
use crate::servers::{PARTITIONS, kafka, kafka_settings};

const LIMIT: Duration = Duration::from_secs(10);

/// Where a way reads and writes.
pub(crate) struct Topics {
    /// The runtime's consumer group.
    pub(crate) group: String,
    pub(crate) source: String,
    /// Of retry topics: one for each delay.
    pub(crate) retries: Vec<String>,
    pub(crate) dead: String,
    ends: BaseConsumer,
}

impl Topics {
    /// New ones, for this run of this way.
    pub(crate) async fn create(way: Way) -> Result<Self> {
        let group = format!("bench-{}-{}", way.name(), Uuid::new_v4().simple());
        let source = format!("{group}-events");
        let (mut specs, mut retries) = (vec![TopicSpec::new(source.as_str(), PARTITIONS)], Vec::new());
        if way == Way::RetryTopics {
            retries = (1..=DELAYS.len()).map(|level| format!("{source}-retry-{level}")).collect();
        }
        specs.extend(retries.iter().map(|name| TopicSpec::new(name.as_str(), PARTITIONS)));
        specs.extend(group_topics(&group, PARTITIONS));
        ensure_topics(&kafka_settings()?, &specs, true).await?;
        let dead = dlq_topic(&group);
        Ok(Self { group, source, retries, dead, ends: kafka()?.create()? })
    }

    /// Records in the dead-letter topic.
    pub(crate) fn dead(&self) -> Result<i64> {
        self.records(&self.dead)
    }

    /// Records in every topic of this way but the source.
    pub(crate) fn written(&self) -> Result<i64> {
        let retries: Result<Vec<i64>> = self.retries.iter().map(|topic| self.records(topic)).collect();
        Ok(retries?.iter().sum::<i64>() + self.dead()?)
    }

    fn records(&self, topic: &str) -> Result<i64> {
        let mut all = 0;
        for partition in 0..PARTITIONS {
            let (low, high) = self.ends.fetch_watermarks(topic, partition, LIMIT)?;
            all += high - low;
        }
        Ok(all)
    }
}

/// An idempotent producer that waits for company no longer than it takes to be fast.
pub(crate) fn producer() -> Result<FutureProducer> {
    Ok(kafka()?
        .set("partitioner", "murmur2_random")
        .set("enable.idempotence", "true")
        .set("linger.ms", "2")
        .set("queue.buffering.max.messages", "1000000")
        .create()?)
}

/// Enqueues `event` under its key.
pub(crate) fn send(producer: &FutureProducer, topic: &str, event: &Event) -> Result<DeliveryFuture> {
    let (key, body) = (event.key.to_string(), serde_json::to_vec(event)?);
    let record = FutureRecord::<str, [u8]>::to(topic).key(&key).payload(&body);
    producer.send_result(record).map_err(|(error, _)| error).context("cannot enqueue")
}
