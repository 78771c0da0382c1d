//! Where the logs of partitions begin and end, asked when a decision needs it.
//!
//! Never from the poll thread: a partition without a leader takes seconds to say nothing. Whoever asks waits; everybody else
//! goes on.

use std::time::Duration;

use dead_letters::{KafkaSettings, TopicPartition, client_config};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, DefaultConsumerContext},
    error::KafkaError,
};

use super::renewed::Renewed;
use crate::Cause;

/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(3);

/// The partition's ends in Kafka, as asked for the decision at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watermarks {
    pub(crate) low: i64,
    pub(crate) high: i64,
}

/// Asks Kafka. One client for all of a group; cheap to clone.
#[derive(Clone)]
pub(crate) struct LogEnds(Renewed<DefaultConsumerContext>);

impl LogEnds {
    /// A client of its own; Kafka need not be reachable.
    ///
    /// # Errors
    /// Settings that librdkafka refuses.
    pub(crate) fn new(kafka: &KafkaSettings) -> Result<Self, Cause> {
        Renewed::new(client_config(kafka, &[("log.connection.close", "false")])).map(Self)
    }

    /// The first offset there is and one past the last.
    ///
    /// # Errors
    /// `kafka-partition` when Kafka does not say: it is gone, or the partition has no leader, or is not there.
    pub(crate) async fn watermarks(&self, source: &TopicPartition) -> Result<Watermarks, Cause> {
        let (low, high) = self
            .ask(source, |client, topic, partition| client.fetch_watermarks(topic, partition, LIMIT))
            .await?;
        Ok(Watermarks { low, high })
    }

    /// The first offset whose record was written at `since_ms` (milliseconds since the Unix epoch) or later; `None` when none was.
    ///
    /// # Errors
    /// As [`LogEnds::watermarks`].
    pub(crate) async fn first_since(
        &self,
        source: &TopicPartition,
        since_ms: i64,
    ) -> Result<Option<i64>, Cause> {
        self.ask(source, move |client, topic, partition| {
            let mut times = TopicPartitionList::new();
            times.add_partition_offset(topic, partition, Offset::Offset(since_ms))?;
            let found = client.offsets_for_times(times, LIMIT)?;
            let element = found.find_partition(topic, partition);
            Ok(element.and_then(|element| match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            }))
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        source: &TopicPartition,
        question: impl FnOnce(&BaseConsumer, &str, i32) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, Cause> {
        let (client, asked) = (self.0.clone(), source.clone());
        let answer = tokio::task::spawn_blocking(move || {
            client.ask(|client| question(client, &asked.topic, asked.partition))
        });
        let answer = answer.await;
        let answer = answer.map_err(|error| Cause::from_error("watermarks-task", &error))?;
        answer.map_err(|error| {
            let message = format!("Kafka does not say where {source} begins and ends: {error}");
            Cause::new("kafka-partition", message)
        })
    }
}

impl std::fmt::Debug for LogEnds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogEnds")
    }
}
