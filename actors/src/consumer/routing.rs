//! Which lanes a consumer fills, and how they and it are.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use ractor::ActorRef;
use rdkafka::{
    Message, Offset, Statistics, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::KafkaResult,
};
use tokio::runtime::Handle;

use super::{
    bell::Bell,
    feed::Flow,
    lane::Lane,
    member::{Consumer, Queue},
    subscription::Subscription,
};
use crate::{partition::Supervise, record::TopicPartition, settings::GroupSettings};

/// A commit that was not answered for this long never will be.
const COMMIT_LOST: Duration = Duration::from_secs(60);
const SEEK: Duration = Duration::from_secs(2);
/// Letting partitions go takes moments, or as long as a commit may wait for an answer.
const STUCK: Duration = Duration::from_secs(15);

/// A poll thread's view of its group, and librdkafka's context.
pub(crate) struct Routing {
    pub(super) settings: GroupSettings,
    pub(super) subscription: Subscription,
    pub(super) supervisor: ActorRef<Supervise>,
    pub(super) runtime: Handle,
    pub(super) lanes: Mutex<HashMap<TopicPartition, Routed>>,
    /// Wakes the poll thread.
    pub(super) bell: Arc<Bell>,
    pub(super) joined: AtomicBool,
    /// Since when the consumer has been in a state that it should leave by itself within moments.
    unsettled: Mutex<Option<Instant>>,
    /// Since when a commit to Kafka is under way.
    committing: Mutex<Option<Instant>>,
}

/// A partition that is assigned.
pub(super) struct Routed {
    pub(super) lane: Arc<Lane>,
    /// What Kafka has delivered of it. While nobody takes from it, librdkafka fetches no more than its bounds, and throws
    /// nothing away, as it does when a partition is paused.
    pub(super) queue: Option<Arc<Queue>>,
    pub(super) flow: Flow,
    /// Since when seeks fail: Kafka has stopped fetching it.
    pub(super) unsought: Option<Instant>,
}

impl Routing {
    pub(super) fn new(
        settings: GroupSettings,
        subscription: Subscription,
        supervisor: ActorRef<Supervise>,
        runtime: Handle,
    ) -> Self {
        Self {
            settings,
            subscription,
            supervisor,
            runtime,
            lanes: Mutex::default(),
            bell: Arc::default(),
            joined: AtomicBool::new(false),
            unsettled: Mutex::new(None),
            committing: Mutex::new(None),
        }
    }

    /// What Kafka calls the group.
    pub(super) fn group(&self) -> &str {
        &self.subscription.group
    }

    /// What the consumer says of itself, every two seconds. Where the partitions end it learns with every fetch; and it may
    /// be stuck: librdkafka can lose a commit that waits for a coordinator, and then waits for that commit for ever before it
    /// joins the group again.
    pub(super) fn hear(&self, statistics: &Statistics) {
        for lane in self.lanes() {
            let topic = statistics.topics.get(&*lane.source.topic);
            if let Some(partition) = topic.and_then(|topic| topic.partitions.get(&lane.source.partition)) {
                lane.set_log_end(partition.ls_offset.max(partition.hi_offset));
            }
        }
        let leaving =
            statistics.cgrp.as_ref().is_some_and(|group| group.join_state.ends_with("unassign-to-complete"));
        let reachable = statistics.brokers.values().any(|broker| broker.state == "UP");
        let mut unsettled = self.unsettled.lock();
        match leaving && reachable {
            true => *unsettled = unsettled.or_else(|| Some(Instant::now())),
            false => *unsettled = None,
        }
    }

    /// Whether a commit may be sent: one at a time, so that few can wait for a coordinator that is gone.
    pub(super) fn may_commit(&self) -> bool {
        let mut committing = self.committing.lock();
        let free = committing.is_none_or(|since| since.elapsed() > COMMIT_LOST);
        if free {
            *committing = Some(Instant::now());
        }
        free
    }

    /// The commit under way has ended, one way or the other.
    pub(super) fn commit_answered(&self) {
        *self.committing.lock() = None;
    }

    /// Whether the consumer will not get anywhere any more.
    pub(super) fn is_stuck(&self) -> bool {
        self.unsettled.lock().is_some_and(|since| since.elapsed() > STUCK)
    }

    /// The consumer is replaced: what it had is another's, as far as is known.
    pub(super) fn forget(&self) {
        *self.unsettled.lock() = None;
        self.commit_answered();
        self.joined.store(false, Ordering::Release);
        // Dropped without the lock: with the last queue the consumer may go, which says farewell to its lanes.
        let gone = std::mem::take(&mut *self.lanes.lock());
        for source in gone.keys() {
            self.supervisor.cast(Supervise::Drop(source.clone())).unwrap_or_default();
        }
    }

    /// True once the group has told this member what it owns.
    pub(crate) fn joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    /// Every lane there is.
    pub(crate) fn lanes(&self) -> Vec<Arc<Lane>> {
        self.lanes.lock().values().map(|routed| routed.lane.clone()).collect()
    }

    /// The lane of a partition.
    pub(crate) fn lane(&self, source: &TopicPartition) -> Option<Arc<Lane>> {
        Some(self.lanes.lock().get(source)?.lane.clone())
    }

    /// Tells Kafka where leaving lanes are, for lag monitors.
    pub(super) fn commit(consumer: &Consumer, offsets: &TopicPartitionList) {
        if offsets.count() > 0 {
            report(
                "commit offsets to Kafka; lag monitors are behind",
                consumer.commit(offsets, CommitMode::Sync),
            );
        }
    }

    /// A record came by another way than its partition's queue: out of order, as far as is known. It is fetched once more.
    pub(super) fn gone_astray(&self, message: &impl Message) {
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        tracing::warn!(
            topic,
            partition,
            offset,
            "a record came astray; reading the partition again from where it is"
        );
        if let Some(lane) = self.lane(&TopicPartition::new(topic, partition)) {
            lane.gone_astray();
        }
    }

    /// Seeks what was claimed late, or claimed again elsewhere, or has to be read again.
    pub(super) fn seek(&self, consumer: &Consumer) {
        // Without the lock: a seek may take its time.
        for lane in self.lanes() {
            let Some(target) = lane.seek_target() else { continue };
            let TopicPartition { topic, partition } = &lane.source;
            let sought = consumer.seek(topic, *partition, Offset::Offset(target), SEEK);
            let mut lanes = self.lanes.lock();
            let Some(routed) = lanes.get_mut(&lane.source) else { continue };
            match sought {
                Ok(()) => {
                    routed.unsought = None;
                    lane.sought(target);
                }
                // Not fetching yet: once more in the next round.
                Err(error) => {
                    routed.unsought.get_or_insert_with(Instant::now);
                    tracing::debug!(topic = &**topic, partition, %error, "seek not possible yet");
                }
            }
        }
    }

    /// Where every lane is, for Kafka's lag monitors.
    pub(crate) fn positions(&self) -> HashMap<TopicPartition, i64> {
        let position = |lane: &Arc<Lane>| Some((lane.source.clone(), lane.position()?.0));
        self.lanes().iter().filter_map(position).collect()
    }
}

pub(super) fn report(what: &str, result: KafkaResult<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "could not {what}");
    }
}
