//! Kafka, as an audit reads it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use dead_letters::{KafkaSettings, ReadError, TopicReader};

/// A broker that is there answers within this time.
const LIMIT: Duration = Duration::from_secs(15);

/// By topic and partition: its first offset and one past its last, or why it does not say.
pub type Reach = BTreeMap<(String, i32), Result<(i64, i64), ReadError>>;

/// How far each partition of `topics` goes. Blocks. A topic that is not there has none.
///
/// # Errors
/// When Kafka does not answer.
pub fn reach(kafka: &KafkaSettings, topics: &[String]) -> Result<Reach> {
    let reader = reader(kafka)?;
    let mut reach = Reach::new();
    for topic in topics {
        let partitions = reader.partitions(topic).with_context(|| {
            format!(
                "Kafka at {} does not answer: check its address, and the properties it is reached with",
                kafka.brokers
            )
        })?;
        for partition in partitions.into_keys() {
            reach.insert((topic.clone(), partition), reader.extent(topic, partition));
        }
    }
    Ok(reach)
}

/// Reads topics for an audit.
pub(crate) fn reader(kafka: &KafkaSettings) -> Result<TopicReader, ReadError> {
    TopicReader::new(kafka, "audit", LIMIT)
}
