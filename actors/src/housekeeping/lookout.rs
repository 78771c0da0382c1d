//! Looks at Kafka from the side, every few seconds: whether it answers, whether the topics are there as they were, where the logs
//! end that nobody reads at the moment, and whether they are still the logs that were read.
//!
//! A consumer learns only what comes with what it fetches. A topic that is gone, a leader that nobody elects, a log that was
//! replaced behind a frozen reader send nothing: somebody has to look.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use dead_letters::TopicPartition;
use futures_util::StreamExt;
use parking_lot::Mutex;
use rdkafka::metadata::{Metadata, MetadataTopic};

use crate::{
    condition::{Conditions, Found, Raised, Subject},
    consumer::{ConsumerPair, Probe, Unread},
    kafka::{LogEnds, MetadataClient},
    lane::Lane,
    outbox::Publisher,
};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(4);
/// Longest wait for Kafka in one look.
const LIMIT: Duration = Duration::from_secs(4);
/// A topic that is missing in one look may be about to appear.
const MISSING_LOOKS: u32 = 2;

/// Partitions that are asked for their ends at the same time.
const ASKED: usize = 8;

const NO_LEADER: &str = "no-leader";
const UNREACHABLE: &str = "kafka-unreachable";

/// What is looked at.
pub(crate) struct Lookout {
    pub(crate) metadata: MetadataClient,
    pub(crate) log_ends: LogEnds,
    pub(crate) probe: Probe,
    pub(crate) consumers: Arc<ConsumerPair>,
    pub(crate) conditions: Conditions,
    pub(crate) publisher: Publisher,
    /// The topics the group needs, with the partitions they had when it started.
    pub(crate) topics: BTreeMap<String, Option<i32>>,
}

/// What was seen in the last look, so that what is over can be taken back.
#[derive(Default)]
struct Seen {
    raised: Raised,
    missing: HashMap<String, u32>,
}

/// What the last look at the topics found of Kafka: nothing while it does not answer, else the partitions without a leader.
type Leaderless = Mutex<Option<BTreeSet<TopicPartition>>>;

impl Lookout {
    /// Runs until it is aborted. The topics are looked at beside the logs: what does not answer there must not delay what is said of it.
    pub(crate) async fn run(self) {
        let Self { metadata, log_ends, probe, consumers, conditions, publisher, topics } = self;
        let leaderless = Leaderless::default();
        let topics = Topics { metadata, conditions: conditions.clone(), publisher, topics };
        let logs = Logs { log_ends, probe, consumers, conditions };
        tokio::join!(topics.run(&leaderless), logs.run(&leaderless));
    }
}

/// Whether Kafka answers, and the topics are as they were.
struct Topics {
    metadata: MetadataClient,
    conditions: Conditions,
    publisher: Publisher,
    topics: BTreeMap<String, Option<i32>>,
}

impl Topics {
    async fn run(mut self, leaderless: &Leaderless) {
        let mut seen = Seen::default();
        loop {
            tokio::time::sleep(EVERY).await;
            match self.metadata.fetch(LIMIT).await {
                Ok(metadata) => {
                    for (topic, count) in self.publisher.kept_partitions() {
                        self.topics.insert(topic.into(), Some(count));
                    }
                    let found = seen.judge(&self.topics, &metadata);
                    *leaderless.lock() = Some(without_leader(&found));
                    seen.raised.say(&self.conditions, found);
                }
                Err(cause) => {
                    *leaderless.lock() = None;
                    let message = format!(
                        "Kafka does not answer: {}; check that it runs and can be reached",
                        cause.message
                    );
                    // What was wrong with the topics before is neither over nor known to last.
                    seen.raised.add(&self.conditions, Subject::Process, UNREACHABLE, message);
                }
            }
        }
    }
}

/// Where logs end that nobody reads at the moment, and whether they are still those that were read.
struct Logs {
    log_ends: LogEnds,
    probe: Probe,
    consumers: Arc<ConsumerPair>,
    conditions: Conditions,
}

impl Logs {
    async fn run(self, leaderless: &Leaderless) {
        let mut unread = Unread::default();
        loop {
            tokio::time::sleep(EVERY).await;
            let known = leaderless.lock().clone();
            let Some(leaderless) = known else { continue };
            let mut lanes = self.consumers.lanes();
            // Nobody would answer for them.
            lanes.retain(|lane| !leaderless.contains(&lane.source));
            self.ends(&lanes).await;
            unread.look(&self.consumers, &lanes, &self.log_ends, &self.conditions).await;
            self.probe.look(&lanes).await;
        }
    }

    /// Of a paused partition nothing is fetched that would say where it ends.
    async fn ends(&self, lanes: &[Arc<Lane>]) {
        let mut asked = Vec::new();
        for lane in lanes.iter().filter(|lane| lane.is_backpressured()) {
            asked.push(end(self.log_ends.clone(), lane.clone()));
        }
        futures_util::stream::iter(asked).buffer_unordered(ASKED).collect::<()>().await;
    }
}

async fn end(log_ends: LogEnds, lane: Arc<Lane>) {
    match log_ends.watermarks(&lane.source).await {
        Ok(ends) => lane.set_log_end(ends.high),
        Err(cause) => {
            tracing::debug!(topic = &*lane.source.topic, partition = lane.source.partition, %cause,
                "the end of a partition that is paused is not known")
        }
    }
}

/// Those of which it was found that they have no leader.
fn without_leader(found: &Found) -> BTreeSet<TopicPartition> {
    let of = |(subject, code): &(Subject, &'static str)| match subject {
        Subject::Partition(source) if *code == NO_LEADER => Some(source.clone()),
        _ => None,
    };
    found.keys().filter_map(of).collect()
}

impl Seen {
    /// What is wrong with `topics`.
    fn judge(&mut self, topics: &BTreeMap<String, Option<i32>>, metadata: &Metadata) -> Found {
        let mut found = Found::new();
        for (name, partitions) in topics {
            let topic =
                metadata.topics().iter().find(|topic| topic.name() == name && topic.error().is_none());
            let Some(topic) = topic.filter(|topic| !topic.partitions().is_empty()) else {
                let looks = self.missing.entry(name.clone()).or_default();
                *looks += 1;
                if *looks >= MISSING_LOOKS {
                    let with = partitions.map_or(String::new(), |count| format!(" with {count} partitions"));
                    let message =
                        format!("topic {name} is not there: create it{with}, or restart a service that may");
                    found.insert((Subject::Topic(name.as_str().into()), "topic-missing"), message);
                }
                continue;
            };
            self.missing.remove(name);
            of_topic(topic, *partitions, &mut found);
        }
        found
    }
}

fn of_topic(topic: &MetadataTopic, partitions: Option<i32>, found: &mut Found) {
    let name: Arc<str> = topic.name().into();
    let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
    if let Some(partitions) = partitions.filter(|partitions| count != *partitions) {
        let message = format!(
            "topic {name} has {count} partitions and had {partitions} when this process started: records of a key would part. \
             New records go to the first {partitions} and the others are not read; see docs/operations.md for how to grow a topic"
        );
        found.insert((Subject::Topic(name.clone()), "topic-partitions"), message);
    }
    for partition in topic.partitions().iter().filter(|partition| partition.leader() < 0) {
        let source = TopicPartition { topic: name.clone(), partition: partition.id() };
        let message = format!(
            "{source} has no leader: it can be neither read nor written until a replica of it is back"
        );
        found.insert((Subject::Partition(source), NO_LEADER), message);
    }
}
