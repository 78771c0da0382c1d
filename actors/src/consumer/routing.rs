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
    Offset, Statistics, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::KafkaResult,
};
use tokio::runtime::Handle;

use super::{lane::Lane, member::Consumer, subscription::Subscription};
use crate::{partition::Supervise, record::TopicPartition, settings::GroupSettings};

/// A commit that was not answered for this long never will be.
const COMMIT_LOST: Duration = Duration::from_secs(60);
/// Letting partitions go takes moments, or as long as a commit may wait for an answer.
const STUCK: Duration = Duration::from_secs(15);

/// A poll thread's view of its group, and librdkafka's context.
pub(crate) struct Routing {
    pub(super) settings: GroupSettings,
    pub(super) subscription: Subscription,
    pub(super) supervisor: ActorRef<Supervise>,
    pub(super) runtime: Handle,
    pub(super) lanes: Mutex<HashMap<TopicPartition, Routed>>,
    pub(super) joined: AtomicBool,
    /// Since when the consumer has been in a state that it should leave by itself within moments.
    unsettled: Mutex<Option<Instant>>,
    /// Since when a commit to Kafka is under way.
    committing: Mutex<Option<Instant>>,
}

/// A partition that is assigned.
pub(super) struct Routed {
    /// `None` until Kafka has said where the partition begins and ends.
    pub(super) lane: Option<Arc<Lane>>,
    pub(super) paused: bool,
    /// Seeks that failed in a row: Kafka has stopped fetching it.
    pub(super) failed_seeks: u32,
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
        let sources: Vec<_> = self.lanes.lock().drain().map(|(source, _)| source).collect();
        for source in sources {
            self.supervisor.cast(Supervise::Drop(source)).unwrap_or_default();
        }
    }

    /// True once the group has told this member what it owns.
    pub(crate) fn joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    /// Every lane there is.
    pub(crate) fn lanes(&self) -> Vec<Arc<Lane>> {
        self.lanes.lock().values().filter_map(|routed| routed.lane.clone()).collect()
    }

    /// The lane of a partition.
    pub(crate) fn lane(&self, topic: &str, partition: i32) -> Option<Arc<Lane>> {
        let lanes = self.lanes.lock();
        lanes.iter().find(|(key, _)| key.partition == partition && &*key.topic == topic)?.1.lane.clone()
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

    /// Whether a lane that Kafka delivers to holds as much as it may.
    pub(super) fn has_full(&self) -> bool {
        let (records, bytes) = (self.settings.lane_max_records, self.settings.lane_max_bytes);
        let full = |routed: &Routed| routed.lane.as_ref().is_some_and(|lane| lane.over(records, bytes));
        self.lanes.lock().values().any(|routed| !routed.paused && full(routed))
    }

    /// Pauses what is full, resumes what is half empty, seeks what was claimed late.
    pub(super) fn maintain(&self, consumer: &Consumer) -> KafkaResult<()> {
        let (records, bytes) = (self.settings.lane_max_records, self.settings.lane_max_bytes);
        let mut pause = TopicPartitionList::new();
        let mut resume = TopicPartitionList::new();
        let mut lanes = self.lanes.lock();
        for (source, routed) in lanes.iter_mut() {
            let Some(lane) = &routed.lane else { continue };
            if let Some(target) = lane.seek_target() {
                match consumer.seek(
                    &source.topic,
                    source.partition,
                    Offset::Offset(target),
                    Duration::from_secs(2),
                ) {
                    Ok(()) => {
                        routed.failed_seeks = 0;
                        lane.sought(target);
                    }
                    // Not fetching yet: once more in the next round.
                    Err(error) => {
                        routed.failed_seeks += 1;
                        tracing::debug!(topic = &*source.topic, partition = source.partition, %error, "seek not possible yet");
                        continue;
                    }
                }
            }
            if !routed.paused && lane.over(records, bytes) {
                pause.add_partition(&source.topic, source.partition);
                routed.paused = true;
            } else if routed.paused && lane.position().is_some() && !lane.over(records / 2, bytes / 2) {
                resume.add_partition(&source.topic, source.partition);
                routed.paused = false;
            }
        }
        drop(lanes);
        if pause.count() > 0 {
            consumer.pause(&pause)?;
        }
        if resume.count() > 0 {
            consumer.resume(&resume)?;
        }
        Ok(())
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
