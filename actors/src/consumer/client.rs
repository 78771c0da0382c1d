//! The Kafka consumer of a group's member: how it is made, what it calls back, and how it is replaced.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dead_letters::{TopicPartition, client_config};
use rdkafka::{
    ClientContext, Statistics, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, base_consumer::PartitionQueue},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};

use super::subscription::Subscription;
use crate::{lane::Bell, settings::GroupSettings};

/// The consumer of a member.
pub(super) type Consumer = BaseConsumer<Context>;

/// What Kafka has delivered of one partition.
pub(super) type Queue = PartitionQueue<Context>;

/// Events of a consumer for its owner, on the thread that polls it.
pub(super) trait ConsumerEvents: Send + Sync {
    /// What it says of itself, every two seconds.
    fn statistics(&self, statistics: &Statistics);
    /// Partitions arrive.
    fn assigned(&self, consumer: &Arc<Consumer>, partitions: &TopicPartitionList) -> KafkaResult<()>;
    /// Partitions leave.
    fn revoked(&self, consumer: &Consumer, partitions: &TopicPartitionList) -> KafkaResult<()>;
    /// The commit under way has ended, one way or the other.
    fn commit_answered(&self);
}

/// What librdkafka calls back.
pub(super) struct Context {
    events: Arc<dyn ConsumerEvents>,
    /// Kafka's name of the group.
    group: String,
    /// Wakes the thread that polls.
    bell: Arc<Bell>,
    /// Another consumer has taken its place: what this one still says concerns nobody.
    retired: AtomicBool,
    /// The consumer itself; gone once it says farewell.
    consumer: OnceLock<Weak<Consumer>>,
}

/// Creates the consumer and subscribes.
///
/// # Errors
/// Settings that librdkafka refuses.
pub(super) fn connect(
    settings: &GroupSettings,
    subscription: &Subscription,
    bell: &Arc<Bell>,
    events: Arc<dyn ConsumerEvents>,
) -> Result<Arc<Consumer>, String> {
    let session = settings.session_timeout.as_millis().to_string();
    let heartbeat = settings.heartbeat().as_millis().to_string();
    let mut config = client_config(
        &settings.kafka,
        &[
            ("group.id", &subscription.group),
            ("session.timeout.ms", &session),
            ("heartbeat.interval.ms", &heartbeat),
            // The default assignors stop every member at each join.
            ("partition.assignment.strategy", "cooperative-sticky"),
            // Every partition is assigned at the offset its lease names; a reset would hide a loss.
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("isolation.level", "read_committed"),
            // Of each partition.
            ("queued.min.messages", "2000"),
            ("queued.max.messages.kbytes", "4096"),
            // The default waits a second once that little is there.
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.wait.max.ms", "100"),
            // What is missing (a topic, a leader, partitions) is asked for soon.
            ("topic.metadata.refresh.interval.ms", "5000"),
            ("log.connection.close", "false"),
        ],
    );
    // Where the partitions end, for the lag; and whether it is stuck: nobody's to change.
    config.set("statistics.interval.ms", "2000");
    let topics: Vec<&str> = subscription.topics.iter().map(String::as_str).collect();
    let context = Context {
        events,
        group: subscription.group.clone(),
        bell: bell.clone(),
        retired: AtomicBool::new(false),
        consumer: OnceLock::new(),
    };
    let mut consumer: Consumer =
        BaseConsumer::from_config_and_context(&config, context).map_err(|error| error.to_string())?;
    let bell = bell.clone();
    consumer.set_nonempty_callback(move || bell.ring());
    let consumer = Arc::new(consumer);
    consumer.context().consumer.get_or_init(|| Arc::downgrade(&consumer));
    consumer.subscribe(&topics).map_err(|error| error.to_string())?;
    Ok(consumer)
}

/// The queue of a partition that is about to be assigned. `None` for what cannot be a partition.
pub(super) fn queue(consumer: &Arc<Consumer>, source: &TopicPartition, bell: Arc<Bell>) -> Option<Queue> {
    let mut queue = consumer.split_partition_queue(&source.topic, source.partition)?;
    queue.set_nonempty_callback(move || bell.ring());
    Some(queue)
}

/// Lets a consumer go that is of no use any more. One that is stuck may never finish to say farewell: not on the thread that
/// has to go on.
pub(super) fn retire(consumer: Arc<Consumer>) {
    consumer.context().retired.store(true, Ordering::Release);
    let farewell = std::thread::Builder::new().name("old-consumer".to_owned()).spawn(move || drop(consumer));
    if let Err(error) = farewell {
        tracing::warn!(%error, "no thread for an old Kafka consumer's farewell");
    }
}

impl Context {
    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}

// Each call rings the bell: of librdkafka's events, a round receives one.
impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        self.bell.ring();
        if !self.is_retired() {
            self.events.statistics(&statistics);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.bell.ring();
        // Connections come and go; whether Kafka answers is measured.
        let of_connection = [RDKafkaErrorCode::AllBrokersDown, RDKafkaErrorCode::BrokerTransportFailure];
        if self.is_retired() || error.rdkafka_error_code().is_some_and(|code| of_connection.contains(&code)) {
            return;
        }
        tracing::warn!(group = self.group, %error, reason, "the Kafka consumer reports an error");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &Consumer, event: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        self.bell.ring();
        if self.is_retired() {
            return report("let an old consumer's partitions go", consumer.incremental_unassign(partitions));
        }
        let result = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                match self.consumer.get().and_then(Weak::upgrade) {
                    Some(consumer) => self.events.assigned(&consumer, partitions),
                    // It is saying farewell.
                    None => consumer.incremental_unassign(partitions),
                }
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.events.revoked(consumer, partitions),
            other => {
                let code: RDKafkaErrorCode = other.into();
                tracing::error!(group = self.group, error = %code, "the rebalance failed; giving all partitions up");
                self.events.revoked(consumer, partitions)
            }
        };
        report("carry out a rebalance", result);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        self.bell.ring();
        self.events.commit_answered();
        match result {
            // Nothing was new, or the partition left meanwhile.
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => {
                tracing::debug!(group = self.group, %error, "offsets are not committed to Kafka; lag monitors are behind");
            }
        }
    }
}

pub(super) fn report(what: &str, result: KafkaResult<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "could not {what}");
    }
}

/// A list of one partition.
pub(super) fn one(source: &TopicPartition) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition(&source.topic, source.partition);
    list
}

/// Throws away what was delivered of a partition that was stopped or is gone.
pub(super) fn discard(queue: &Queue) {
    while queue.poll(Duration::ZERO).is_some() {}
}
