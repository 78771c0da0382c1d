//! The Kafka consumer of a group's member: how it is made, what it calls back, and how it is replaced.

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicBool, Ordering},
};

use rdkafka::{
    ClientContext, Statistics, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, base_consumer::PartitionQueue},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};

use super::{
    bell::Bell,
    routing::{Routing, report},
};
use crate::{kafka::client_config, record::TopicPartition};

/// The consumer of a member.
pub(super) type Consumer = BaseConsumer<Context>;

/// What Kafka has delivered of one partition.
pub(super) type Queue = PartitionQueue<Context>;

/// What librdkafka calls back.
pub(super) struct Context {
    routing: Arc<Routing>,
    /// Another consumer has taken its place: what this one still says concerns nobody.
    retired: AtomicBool,
    /// The consumer itself; gone once it says farewell.
    consumer: OnceLock<Weak<Consumer>>,
}

/// Creates the consumer and subscribes.
///
/// # Errors
/// Settings that librdkafka refuses.
pub(super) fn connect(routing: &Arc<Routing>) -> Result<Arc<Consumer>, String> {
    let (settings, subscription) = (&routing.settings, &routing.subscription);
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
    let context =
        Context { routing: routing.clone(), retired: AtomicBool::new(false), consumer: OnceLock::new() };
    let mut consumer: Consumer =
        BaseConsumer::from_config_and_context(&config, context).map_err(|error| error.to_string())?;
    let bell = routing.bell.clone();
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

// Each call rings the bell: of what librdkafka has to say, a round hears one thing.
impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        self.routing.bell.ring();
        if !self.is_retired() {
            self.routing.hear(&statistics);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.routing.bell.ring();
        // Connections come and go; whether Kafka answers is measured.
        let of_connection = [RDKafkaErrorCode::AllBrokersDown, RDKafkaErrorCode::BrokerTransportFailure];
        if self.is_retired() || error.rdkafka_error_code().is_some_and(|code| of_connection.contains(&code)) {
            return;
        }
        tracing::warn!(group = self.routing.group(), %error, reason, "the Kafka consumer reports an error");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &Consumer, event: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        self.routing.bell.ring();
        if self.is_retired() {
            return report("let an old consumer's partitions go", consumer.incremental_unassign(partitions));
        }
        let result = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                match self.consumer.get().and_then(Weak::upgrade) {
                    Some(consumer) => self.routing.assigned(&consumer, partitions),
                    // It is saying farewell.
                    None => consumer.incremental_unassign(partitions),
                }
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                self.routing.revoked(consumer, partitions)
            }
            other => {
                let code: RDKafkaErrorCode = other.into();
                tracing::error!(group = self.routing.group(), error = %code, "the rebalance failed; giving all partitions up");
                self.routing.revoked(consumer, partitions)
            }
        };
        report("carry out a rebalance", result);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        self.routing.bell.ring();
        self.routing.commit_answered();
        match result {
            // Nothing was new, or the partition left meanwhile.
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => {
                tracing::debug!(group = self.routing.group(), %error, "offsets are not committed to Kafka; lag monitors are behind");
            }
        }
    }
}
