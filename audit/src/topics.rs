//! Kafka, as an audit reads it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use dead_letters::{KafkaSettings, client_config};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};

const LIMIT: Duration = Duration::from_secs(10);

/// By topic and partition: its first offset and one past its last, or why it does not say.
pub type Reach = BTreeMap<(String, i32), Result<(i64, i64), KafkaError>>;

/// How far each partition of `topics` goes. Blocks. A topic that is not there has none.
///
/// # Errors
/// When Kafka does not answer.
pub fn reach(kafka: &KafkaSettings, topics: &[String]) -> Result<Reach> {
    let consumer: BaseConsumer = reading(kafka).create().context("no consumer can be made")?;
    let metadata = consumer.fetch_metadata(None, LIMIT).with_context(|| {
        format!(
            "Kafka at {} does not answer: check its address, and the properties it is reached with",
            kafka.brokers
        )
    })?;
    let mut reach = Reach::new();
    for topic in metadata.topics().iter().filter(|topic| topics.iter().any(|name| name == topic.name())) {
        for partition in topic.partitions() {
            let answer = consumer.fetch_watermarks(topic.name(), partition.id(), LIMIT);
            reach.insert((topic.name().to_owned(), partition.id()), answer);
        }
    }
    Ok(reach)
}

/// The settings of a client that reads committed records and is told where a partition ends. It is in no group.
pub fn reading(kafka: &KafkaSettings) -> ClientConfig {
    client_config(
        kafka,
        &[
            ("client.id", "audit"),
            ("group.id", "audit"),
            ("enable.auto.commit", "false"),
            ("isolation.level", "read_committed"),
            ("enable.partition.eof", "true"),
        ],
    )
}
