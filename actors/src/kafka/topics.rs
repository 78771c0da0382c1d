//! The topics a service needs: created when missing, refused when their partition count is another.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use dead_letters::{ACTIONS_TOPIC, KafkaSettings, LETTER_MAX, client_config, dlq_topic, requeue_topic};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    error::KafkaError,
    metadata::Metadata,
    types::RDKafkaErrorCode,
};

use super::client::MetadataClient;
use crate::Cause;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Longest wait for an answer about topics.
pub(crate) const REQUEST: Duration = Duration::from_secs(10);
/// How long a number of partitions is believed.
const BELIEVED: Duration = Duration::from_secs(10);
/// How long a topic just created may take to show up everywhere.
const SETTLE: Duration = Duration::from_secs(20);

/// A topic a service needs.
///
/// ```
/// use actors::TopicSpec;
///
/// let compacted = vec![("cleanup.policy".into(), "compact".into())];
/// let topic = TopicSpec { config: compacted, ..TopicSpec::new("prices", 6) };
/// assert_eq!((&*topic.name, topic.partitions), ("prices", 6));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name.
    pub name: String,
    /// Partitions it must have.
    pub partitions: i32,
    /// Topic configuration used when it is created.
    pub config: Vec<(String, String)>,
}

impl TopicSpec {
    /// A topic with the broker's defaults.
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self { name: name.into(), partitions, config: Vec::new() }
    }

    fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.config.push((name.to_owned(), value.to_string()));
        self
    }
}

/// The topics `group` needs beside its sources: `G.dlq`, `G.requeue` and the ledger.
///
/// Dead letters and requeued records keep 30 days and may be larger than their source, which took them compressed; the
/// ledger outlives every dead letter it speaks of.
///
/// ```
/// let topics = actors::group_topics("clicks-counter", 6);
/// let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
/// assert_eq!(names, ["clicks-counter.dlq", "clicks-counter.requeue", "dlq.actions"]);
/// ```
pub fn group_topics(group: &str, partitions: i32) -> Vec<TopicSpec> {
    let letters = |name| {
        TopicSpec::new(name, partitions)
            .with("retention.ms", 30 * DAY_MS)
            .with("max.message.bytes", LETTER_MAX)
    };
    vec![
        letters(dlq_topic(group)),
        letters(requeue_topic(group)),
        TopicSpec::new(ACTIONS_TOPIC, partitions).with("retention.ms", 60 * DAY_MS),
    ]
}

/// Creates the topics that are missing when `create`, and checks the partition counts of all.
///
/// ```no_run
/// use actors::{KafkaSettings, TopicSpec};
///
/// # async fn example() -> Result<(), actors::Cause> {
/// let kafka = KafkaSettings { brokers: "localhost:9092".into(), properties: Vec::new() };
/// let mut topics = actors::group_topics("clicks-counter", 6);
/// topics.push(TopicSpec::new("clicks", 6));
/// actors::ensure_topics(&kafka, &topics, true).await
/// # }
/// ```
///
/// # Errors
/// `kafka-unreachable` when Kafka does not answer, `kafka-refused` when it does not let us in, `topic-missing`, `topic-partitions` or `topic-create` when the
/// cluster is not as the service needs it.
pub async fn ensure_topics(kafka: &KafkaSettings, topics: &[TopicSpec], create: bool) -> Result<(), Cause> {
    let client = MetadataClient::new(kafka)?;
    let missing = missing(topics, &client.fetch(REQUEST).await?)?;
    if missing.is_empty() {
        return Ok(());
    }
    if !create {
        let names: Vec<_> = missing.iter().map(|topic| topic.name.as_str()).collect();
        return Err(Cause::new(
            "topic-missing",
            format!(
                "topics {} do not exist and creating topics is switched off: create them",
                names.join(", ")
            ),
        ));
    }
    let new: Vec<_> = missing
        .iter()
        .map(|topic| {
            let new = NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(-1));
            topic.config.iter().fold(new, |new, (name, value)| new.set(name, value))
        })
        .collect();
    let admin: AdminClient<DefaultClientContext> =
        client_config(kafka, &[]).create().map_err(|error| Cause::from_error("kafka-settings", &error))?;
    let results = admin
        .create_topics(&new, &AdminOptions::new().operation_timeout(Some(REQUEST)))
        .await
        .map_err(unreachable_kafka)?;
    for result in results {
        match result {
            // Another service of the platform was faster.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                return Err(Cause::new("topic-create", format!("cannot create topic {topic}: {code}")));
            }
        }
    }
    let started = Instant::now();
    loop {
        let left = self::missing(topics, &client.fetch(REQUEST).await?)?;
        if left.is_empty() {
            return Ok(());
        }
        if started.elapsed() > SETTLE {
            let names: Vec<_> = left.iter().map(|topic| topic.name.as_str()).collect();
            return Err(Cause::new(
                "topic-missing",
                format!("topics {} were created and do not show up", names.join(", ")),
            ));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many partitions the topics of a group have, asked for when somebody wants to know.
pub(crate) struct Sources {
    client: MetadataClient,
    topics: Vec<String>,
    seen: tokio::sync::Mutex<Option<(Instant, HashMap<String, i32>)>>,
}

impl Sources {
    pub(crate) fn new(client: MetadataClient, topics: &[String]) -> Self {
        Self { client, topics: topics.to_vec(), seen: tokio::sync::Mutex::default() }
    }

    /// The number of partitions of each of the topics that is there, as it was a few seconds ago at the most.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub(crate) async fn counts(&self) -> Result<HashMap<String, i32>, Cause> {
        let mut seen = self.seen.lock().await;
        if let Some((at, counts)) = &*seen
            && at.elapsed() < BELIEVED
        {
            return Ok(counts.clone());
        }
        let metadata = self.client.fetch(REQUEST).await?;
        let ours = metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none() && self.topics.iter().any(|name| name == topic.name()));
        let count = |topic: &rdkafka::metadata::MetadataTopic| {
            (topic.name().to_owned(), i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX))
        };
        let counts: HashMap<_, _> = ours.map(count).collect();
        *seen = Some((Instant::now(), counts.clone()));
        Ok(counts)
    }
}

/// The id of the cluster: offsets of one cluster mean nothing in another.
pub(crate) async fn cluster_id(kafka: &KafkaSettings) -> Result<String, Cause> {
    let admin: AdminClient<DefaultClientContext> =
        client_config(kafka, &[]).create().map_err(|error| Cause::from_error("kafka-settings", &error))?;
    tokio::task::spawn_blocking(move || admin.inner().fetch_cluster_id(REQUEST))
        .await
        .map_err(|error| Cause::from_error("cluster-id-task", &error))?
        .ok_or_else(|| Cause::new("kafka-unreachable", "Kafka does not say which cluster it is"))
}

fn missing<'a>(topics: &'a [TopicSpec], metadata: &Metadata) -> Result<Vec<&'a TopicSpec>, Cause> {
    let (mut missing, mut fewer) = (Vec::new(), Vec::new());
    for topic in topics {
        let found =
            metadata.topics().iter().find(|found| found.name() == topic.name && found.error().is_none());
        match found.map(|found| found.partitions().len()) {
            None | Some(0) => missing.push(topic),
            // With more it starts, and says so: those that were added are neither written nor read.
            Some(count) if usize::try_from(topic.partitions).is_ok_and(|needed| count < needed) => {
                fewer.push((topic, count));
            }
            Some(_) => {}
        }
    }
    if fewer.is_empty() {
        return Ok(missing);
    }
    let each: Vec<_> = fewer
        .iter()
        .map(|(topic, count)| format!("{} {count} of {}", topic.name, topic.partitions))
        .collect();
    let set: Vec<_> = fewer.iter().map(|(topic, count)| format!("{}={count}", topic.name)).collect();
    Err(Cause::new(
        "topic-partitions",
        format!(
            "topics have fewer partitions than this service is set to ({}): set TOPIC_PARTITIONS to what they have, such as \
             NUMBER,{}",
            each.join(", "),
            set.join(",")
        ),
    ))
}

fn unreachable_kafka(error: KafkaError) -> Cause {
    Cause::from_error("kafka-unreachable", &error)
}
