//! The Kafka consumer of a group's member: how it is made, what it calls back, and how it is replaced.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rdkafka::{
    ClientContext, Statistics, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};

use super::routing::{Routing, report};
use crate::kafka::client_config;

/// The consumer of a member.
pub(super) type Consumer = BaseConsumer<Context>;

/// What librdkafka calls back.
pub(super) struct Context {
    routing: Arc<Routing>,
    /// Another consumer has taken its place: what this one still says concerns nobody.
    retired: AtomicBool,
}

/// Creates the consumer and subscribes.
///
/// # Errors
/// Settings that librdkafka refuses.
pub(super) fn connect(routing: &Arc<Routing>) -> Result<Consumer, String> {
    let (settings, subscription) = (&routing.settings, &routing.subscription);
    let session = settings.session_timeout.as_millis().to_string();
    let heartbeat = settings.heartbeat().as_millis().to_string();
    let config = client_config(
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
            // Pausing throws prefetched records away: fetch little ahead.
            ("queued.min.messages", "10000"),
            ("queued.max.messages.kbytes", "16384"),
            // The default waits a second once that little is there.
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.wait.max.ms", "100"),
            // Where the partitions end, for the lag; and whether it is stuck.
            ("statistics.interval.ms", "2000"),
        ],
    );
    let topics: Vec<&str> = subscription.topics.iter().map(String::as_str).collect();
    let context = Context { routing: routing.clone(), retired: AtomicBool::new(false) };
    let consumer: Consumer =
        BaseConsumer::from_config_and_context(&config, context).map_err(|error| error.to_string())?;
    consumer.subscribe(&topics).map_err(|error| error.to_string())?;
    Ok(consumer)
}

/// Lets a consumer go that is of no use any more. One that is stuck may never finish to say farewell: not on the thread that
/// has to go on.
pub(super) fn retire(consumer: Consumer) {
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

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        if !self.is_retired() {
            self.routing.hear(&statistics);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if !self.is_retired() {
            tracing::warn!(group = self.routing.group(), %error, reason, "the Kafka consumer reports an error");
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &Consumer, event: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        if self.is_retired() {
            return report("let an old consumer's partitions go", consumer.incremental_unassign(partitions));
        }
        let result = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.routing.assigned(consumer, partitions)
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
