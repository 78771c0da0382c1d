//! How to reach Kafka, and what to find there.

use std::{collections::BTreeMap, fs, path::PathBuf};

use actors::{KafkaSettings, PropertyError};
use clap::{ArgAction, Args};
use thiserror::Error;

/// How to reach Kafka, and what to find there.
#[derive(Args, Clone)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArgs {
    /// Brokers, `host:port`, comma-separated.
    #[arg(long, env)]
    pub kafka_brokers: String,
    /// File of librdkafka properties laid over ours, `name=value` a line, `#` for comments: the place for security.protocol,
    /// sasl.* and ssl.*.
    #[arg(long, env)]
    pub kafka_config_file: Option<PathBuf>,
    /// librdkafka properties laid over those of the file, comma-separated: `security.protocol=ssl,client.id=a`.
    // Read later than the rest: an error of the command line would repeat it, passwords and all.
    #[arg(long, env, hide_env_values = true, default_value = "")]
    pub kafka_properties: String,
    /// Create the topics that are missing.
    #[arg(long, env, default_value_t = true, action = ArgAction::Set)]
    pub create_topics: bool,
    /// Partitions of every topic, and after it those of topics that have others: `6,orders=9`. Topics are created with so many; of one
    /// that has more, only these are written and read, so that the records of a key stay together.
    #[arg(long, env, default_value_t = TopicPartitions::default())]
    pub topic_partitions: TopicPartitions,
}

impl std::fmt::Debug for KafkaArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaArgs")
            .field("kafka_brokers", &self.kafka_brokers)
            .field("kafka_config_file", &self.kafka_config_file)
            .field("create_topics", &self.create_topics)
            .field("topic_partitions", &self.topic_partitions)
            .finish_non_exhaustive()
    }
}

/// How many partitions topics have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPartitions {
    all: i32,
    others: BTreeMap<String, i32>,
}

impl Default for TopicPartitions {
    fn default() -> Self {
        Self { all: contracts::topics::PARTITIONS, others: BTreeMap::new() }
    }
}

impl TopicPartitions {
    /// Those of `topic`.
    pub fn of(&self, topic: &str) -> i32 {
        self.others.get(topic).copied().unwrap_or(self.all)
    }
}

impl std::str::FromStr for TopicPartitions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = |text: &str| match text.trim().parse::<i32>() {
            Ok(count) if (1..=10_000).contains(&count) => Ok(count),
            _ => Err(format!("{:?} is no number of partitions from 1 to 10000", text.trim())),
        };
        let mut parts = text.split(',');
        let all = count(parts.next().unwrap_or_default())?;
        let other = |part: &str| match part.split_once('=') {
            Some((topic, text)) if !topic.trim().is_empty() => Ok((topic.trim().to_owned(), count(text)?)),
            _ => Err(format!("{:?} is not TOPIC=NUMBER", part.trim())),
        };
        Ok(Self { all, others: parts.map(other).collect::<Result<_, _>>()? })
    }
}

impl std::fmt::Display for TopicPartitions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.all)?;
        self.others.iter().try_for_each(|(topic, count)| write!(f, ",{topic}={count}"))
    }
}

/// What is said of Kafka cannot be followed.
#[derive(Debug, Error)]
pub enum KafkaArgsError {
    /// The file cannot be read.
    #[error("cannot read KAFKA_CONFIG_FILE at {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// The file holds something else, or a property that does not exist.
    #[error("cannot use KAFKA_CONFIG_FILE at {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PropertyError,
    },
    /// Not all of the list is pairs.
    #[error(
        "KAFKA_PROPERTIES is not name=value, comma-separated; a value with a comma goes into KAFKA_CONFIG_FILE"
    )]
    NotPairs,
    /// There is a property in the list that does not exist.
    #[error("cannot use KAFKA_PROPERTIES")]
    List(#[source] PropertyError),
}

impl KafkaArgs {
    /// For the runtime: the file's properties, then those of the list.
    ///
    /// # Errors
    /// When the file cannot be read, or librdkafka refuses a property.
    pub fn settings(&self) -> Result<KafkaSettings, KafkaArgsError> {
        let mut kafka = self.with_file()?;
        for pair in self.kafka_properties.split(',') {
            let pair = KafkaSettings::read_properties(pair).map_err(|_| KafkaArgsError::NotPairs)?;
            kafka.properties.extend(pair);
        }
        kafka.check().map_err(KafkaArgsError::List)?;
        Ok(kafka)
    }

    fn with_file(&self) -> Result<KafkaSettings, KafkaArgsError> {
        let brokers = self.kafka_brokers.clone();
        let mut kafka = KafkaSettings { brokers, ..KafkaSettings::default() };
        if let Some(path) = self.kafka_config_file.clone() {
            let text = fs::read_to_string(&path)
                .map_err(|source| KafkaArgsError::Read { path: path.clone(), source })?;
            let read = KafkaSettings::read_properties(&text).and_then(|properties| {
                kafka.properties = properties;
                kafka.check()
            });
            read.map_err(|source| KafkaArgsError::File { path, source })?;
        }
        Ok(kafka)
    }
}

#[cfg(test)]
mod tests;
