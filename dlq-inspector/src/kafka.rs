//! Kafka clients: how they are configured, and which topics there are.

mod gap;
mod reader;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use dead_letters::KafkaSettings;
use rdkafka::{
    ClientConfig, ClientContext,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use self::gap::Gaps;
pub use self::{
    gap::Gap,
    reader::{Raw, Reader, Start},
};
use crate::{args::Connection, exit::Problem};

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

/// A partition whose leader is being chosen has one after this time.
const LEADERLESS: Duration = Duration::from_secs(5);

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

    /// Reads `topic` from `start` to its end, and on from there if asked to.
    pub fn reader(&self, topic: &str, start: &Start) -> anyhow::Result<Reader<'_>> {
        let partitions = self.partitions(topic).with_context(|| format!("topic {topic} does not exist"))?;
        let complaints = Complaints::default();
        let consumer = self.consumer(&complaints, "read_committed")?;
        // An assignment of a topic whose leaders are not known yet is only looked at again half a second later.
        let asked = Instant::now();
        let leaderless = loop {
            let metadata = consumer
                .fetch_metadata(Some(topic), self.timeout)
                .map_err(|error| self.unreachable(why(&consumer, &error)))?;
            let all = metadata.topics().iter().flat_map(|topic| topic.partitions());
            let leaderless: BTreeSet<i32> = all.filter(|one| one.leader() < 0).map(|one| one.id()).collect();
            if leaderless.is_empty() || asked.elapsed() > LEADERLESS {
                break leaderless;
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        for partition in &leaderless {
            let why = "it has no leader: its brokers are away".to_owned();
            self.note(Gap { topic: topic.to_owned(), partition: *partition, from: None, upto: None, why });
        }
        let readable = (0..partitions).filter(|partition| !leaderless.contains(partition));
        Reader::new(self, consumer, complaints, topic, readable, start)
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
    fn answers(&self, topic: &str) -> bool {
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

    fn consumer(&self, complaints: &Complaints, isolation: &str) -> anyhow::Result<BaseConsumer<Complaints>> {
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
fn why(client: &BaseConsumer<Complaints>, error: &KafkaError) -> String {
    while client.poll(Duration::from_millis(10)).is_some() {}
    client.context().last().unwrap_or_else(|| error.to_string())
}

/// The common configuration: ours, then the file, then KAFKA_PROPERTIES, then `-X`, then `--brokers`.
fn client_config(connection: &Connection) -> anyhow::Result<ClientConfig> {
    let mut config = ClientConfig::new();
    config.set("client.id", "dlq-inspector");
    // No group is joined and nothing is committed; the library wants a name to hand out partitions by.
    config.set("group.id", "dlq-inspector");
    config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
    // An OpenSSL that was not built by the system does not know where the system keeps its authorities.
    config.set("ssl.ca.location", "probe");
    config.set_log_level(RDKafkaLogLevel::Error);

    for (name, value) in given(connection)? {
        let name = if name == "metadata.broker.list" { "bootstrap.servers".to_owned() } else { name };
        config.set(name, value);
    }
    if let Some(brokers) = &connection.brokers {
        config.set("bootstrap.servers", brokers);
    }
    if config.get("bootstrap.servers").is_none_or(str::is_empty) {
        return Err(
            Problem::Usage("where is Kafka? give --brokers host:port or set KAFKA_BROKERS".into()).into()
        );
    }
    Ok(config)
}

/// What the operator gave, the strongest last. No error repeats a value: it may be a password.
fn given(connection: &Connection) -> anyhow::Result<Vec<(String, String)>> {
    let mut given = Vec::new();
    if let Some(path) = &connection.config {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let read = KafkaSettings::read_properties(&text);
        given.extend(read.map_err(|error| Problem::Usage(format!("{}: {error}", path.display())))?);
    }
    for pair in connection.kafka_properties.iter().flat_map(|list| list.split(',')) {
        let pair = KafkaSettings::read_properties(pair);
        given.extend(pair.map_err(|_| Problem::Usage("KAFKA_PROPERTIES is not k=v,k=v".into()))?);
    }
    for (pair, number) in connection.properties.iter().zip(1..) {
        let pair = KafkaSettings::read_properties(pair);
        given.extend(pair.map_err(|_| Problem::Usage(format!("-X number {number} is not KEY=VALUE")))?);
    }
    let kafka = KafkaSettings { properties: given, ..KafkaSettings::default() };
    kafka.check().map_err(|error| Problem::Usage(error.to_string()))?;
    Ok(kafka.properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection {
            brokers: None,
            properties: vec!["client.id=me".into()],
            kafka_properties: Some("client.id=env,linger.ms=1".into()),
            config: None,
            connect_timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn later_settings_win_and_brokers_are_required() {
        let error = client_config(&connection()).expect_err("no brokers");
        assert!(matches!(error.downcast_ref(), Some(Problem::Usage(_))));
        let config =
            client_config(&Connection { brokers: Some("b:1".into()), ..connection() }).expect("complete");
        assert_eq!(config.get("client.id"), Some("me"));
        assert_eq!(config.get("linger.ms"), Some("1"));
        assert_eq!(config.get("bootstrap.servers"), Some("b:1"));
    }

    #[test]
    fn what_cannot_be_a_property_is_told_without_its_value() {
        for (given, expected) in [
            ("secret", "-X number 1 is not KEY=VALUE"),
            ("sasl.pasword=secret", "librdkafka has no property sasl.pasword, or was built without it"),
            ("security.protocol=secret", "librdkafka does not take the value given for security.protocol"),
        ] {
            let connection = Connection { properties: vec![given.into()], ..connection() };
            assert_eq!(client_config(&connection).expect_err("refused").to_string(), expected);
        }
    }
}
