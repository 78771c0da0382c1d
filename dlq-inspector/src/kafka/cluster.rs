//! One cluster: which topics there are, and clients of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use rdkafka::{
    ClientConfig, ClientContext,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use super::{
    connection::{Connection, client_config},
    gap::{Gap, Gaps},
};
use crate::exit::Problem;

/// Keeps what the client library last complained about, to be told when something fails, and prints nothing itself.
#[derive(Clone, Debug, Default)]
pub struct Complaints(Arc<std::sync::Mutex<Option<String>>>);

impl Complaints {
    /// The last complaint.
    pub fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn keep(&self, text: &str) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(text.to_owned());
    }
}

impl ClientContext for Complaints {
    fn log(&self, level: RDKafkaLogLevel, _fac: &str, message: &str) {
        if (level as i32) <= RDKafkaLogLevel::Error as i32 {
            self.keep(message);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // That all brokers are down follows the reason and has none of its own.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.keep(reason);
        }
    }
}

impl ConsumerContext for Complaints {}

/// One cluster, reached.
#[derive(Debug)]
pub struct Kafka {
    base: ClientConfig,
    brokers: String,
    topics: BTreeMap<String, i32>,
    timeout: Duration,
    gaps: Gaps,
}

impl Kafka {
    /// Reads the settings and asks for the topics; [`Problem::Unreachable`] when nobody answers in time.
    pub fn connect(connection: &Connection) -> anyhow::Result<Self> {
        let base = client_config(connection)?;
        let brokers = base.get("bootstrap.servers").unwrap_or_default().to_owned();
        let timeout = connection.connect_timeout;
        let mut kafka = Self { base, brokers, topics: BTreeMap::new(), timeout, gaps: Gaps::default() };
        let complaints = Complaints::default();
        let client = kafka.consumer(&complaints, "read_committed")?;
        let metadata = client
            .fetch_metadata(None, kafka.timeout)
            .map_err(|error| kafka.unreachable(why(&client, &error)))?;
        kafka.topics = metadata
            .topics()
            .iter()
            .filter_map(|topic| {
                Some((topic.name().to_owned(), i32::try_from(topic.partitions().len()).ok()?))
            })
            .collect();
        Ok(kafka)
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

    /// Whether somebody says what `topic` is.
    pub(super) fn answers(&self, topic: &str) -> bool {
        let asked = self.consumer(&Complaints::default(), "read_committed");
        asked.is_ok_and(|consumer| consumer.fetch_metadata(Some(topic), self.timeout).is_ok())
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
        let complaints = Complaints::default();
        let client = self.consumer(&complaints, isolation)?;
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
        let mut config = self.base.clone();
        for (name, value) in properties {
            config.set(*name, *value);
        }
        config.create_with_context(context).context("building a Kafka client")
    }

    /// The error that says nobody answers.
    pub fn unreachable(&self, why: String) -> Problem {
        Problem::Unreachable { brokers: self.brokers.clone(), why }
    }

    /// How long a broker may take to answer.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn consumer(
        &self,
        complaints: &Complaints,
        isolation: &str,
    ) -> anyhow::Result<BaseConsumer<Complaints>> {
        self.client(
            complaints.clone(),
            &[
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("enable.partition.eof", "true"),
                ("isolation.level", isolation),
                // Retention may delete the oldest records while they are read.
                ("auto.offset.reset", "earliest"),
                // The end of a partition is told with the first empty answer: let that come soon.
                ("fetch.wait.max.ms", "20"),
                ("fetch.queue.backoff.ms", "10"),
                // What cannot be read is looked for by asking again.
                ("fetch.error.backoff.ms", "20"),
                ("queued.max.messages.kbytes", "16384"),
                ("allow.auto.create.topics", "false"),
            ],
        )
    }
}

/// Why `client` got no answer: its complaints wait in its queue until somebody polls, and a poll of no time at all would end
/// at the first log line.
pub(super) fn why(client: &BaseConsumer<Complaints>, error: &KafkaError) -> String {
    while client.poll(Duration::from_millis(10)).is_some() {}
    client.context().last().unwrap_or_else(|| error.to_string())
}
