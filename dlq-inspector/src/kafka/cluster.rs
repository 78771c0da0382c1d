//! One cluster: which topics there are, and clients of it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use dead_letters::{KafkaSettings, ReadError, TopicReader, client_config};
use rdkafka::{
    ClientContext,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer, DefaultConsumerContext},
};

use super::{
    connection::Connection,
    gap::{Gap, Gaps},
};
use crate::exit::Problem;

/// What the brokers know this tool by.
const CLIENT_ID: &str = "dlq-inspector";

/// One cluster, reached.
#[derive(Debug)]
pub struct Kafka {
    settings: KafkaSettings,
    topics: BTreeMap<String, i32>,
    timeout: Duration,
    gaps: Gaps,
}

impl Kafka {
    /// Reads the settings and asks for the topics; [`Problem::Unreachable`] when nobody answers in time.
    pub fn connect(connection: &Connection) -> anyhow::Result<Self> {
        let settings = connection.settings()?;
        let (topics, timeout, gaps) = (BTreeMap::new(), connection.connect_timeout, Gaps::default());
        let mut kafka = Self { settings, topics, timeout, gaps };
        let topics = kafka.topic_reader().and_then(|reader| reader.topics());
        let topics = topics.map_err(|error| kafka.why(error))?;
        let counted = topics.into_iter().filter_map(|(name, count)| Some((name, i32::try_from(count).ok()?)));
        kafka.topics = counted.collect();
        Ok(kafka)
    }

    /// What reads topics of this cluster.
    pub(super) fn topic_reader(&self) -> Result<TopicReader, ReadError> {
        TopicReader::new(&self.settings, CLIENT_ID, self.timeout)
    }

    /// Every dead-letter topic, by name.
    pub fn dlq_topics(&self) -> impl Iterator<Item = &str> {
        self.topics.keys().map(String::as_str).filter(|topic| dead_letters::group_of(topic).is_some())
    }

    /// Partitions of `topic`; `None` when there is no such topic.
    pub fn partitions(&self, topic: &str) -> Option<i32> {
        self.topics.get(topic).copied()
    }

    /// Notes what could not be read.
    pub fn note(&self, gap: Gap) {
        self.gaps.note(gap);
    }

    /// What could not be read so far.
    pub fn gaps(&self) -> Vec<Gap> {
        self.gaps.all()
    }

    /// Where each partition of `topic` ends, whether or not the transactions there are decided.
    pub fn high_watermarks(&self, topic: &str) -> anyhow::Result<Vec<(i32, i64)>> {
        self.ends(topic, "read_uncommitted")
    }

    /// Where each partition of `topic` ends for a reader of decided transactions.
    pub fn stable_offsets(&self, topic: &str) -> anyhow::Result<Vec<(i32, i64)>> {
        self.ends(topic, "read_committed")
    }

    fn ends(&self, topic: &str, isolation: &str) -> anyhow::Result<Vec<(i32, i64)>> {
        let client = self.consumer(isolation)?;
        (0..self.partitions(topic).with_context(|| format!("topic {topic} does not exist"))?)
            .map(|partition| {
                let (_, high) = client
                    .fetch_watermarks(topic, partition, self.timeout)
                    .with_context(|| format!("asking where {topic}/{partition} ends"))?;
                Ok((partition, high))
            })
            .collect()
    }

    /// Any other client of this cluster, with `properties` over the common ones.
    pub fn client<C, T>(&self, context: C, properties: &[(&str, &str)]) -> anyhow::Result<T>
    where
        C: ClientContext,
        T: FromClientConfigAndContext<C>,
    {
        let mut config = client_config(&self.settings, &[("client.id", CLIENT_ID), ("group.id", CLIENT_ID)]);
        config.set_log_level(RDKafkaLogLevel::Error);
        for (name, value) in properties {
            config.set(*name, *value);
        }
        config.create_with_context(context).context("building a Kafka client")
    }

    /// The error that says nobody answers.
    pub fn unreachable(&self, why: String) -> Problem {
        Problem::Unreachable { brokers: self.settings.brokers.clone(), why }
    }

    /// Why a topic could not be read.
    pub(super) fn why(&self, error: ReadError) -> anyhow::Error {
        match error {
            ReadError::Unanswered { .. } => self.unreachable(error.to_string()).into(),
            ReadError::Client(_) | ReadError::Topic { .. } => error.into(),
        }
    }

    /// How long a broker may take to answer.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    fn consumer(&self, isolation: &str) -> anyhow::Result<BaseConsumer> {
        let properties = [
            ("enable.auto.commit", "false"),
            ("isolation.level", isolation),
            ("allow.auto.create.topics", "false"),
        ];
        self.client(DefaultConsumerContext, &properties)
    }
}
