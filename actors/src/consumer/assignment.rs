//! Which lanes a consumer fills, and how they and it are.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use dead_letters::TopicPartition;
use parking_lot::Mutex;
use ractor::ActorRef;
use rdkafka::{
    Message, Offset, Statistics, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
};
use tokio::runtime::Handle;

use super::{
    client::{Consumer, Queue, report},
    health::Health,
    subscription::Subscription,
};
use crate::{
    Condition,
    lane::{Bell, Lane},
    partition::Supervise,
    settings::GroupSettings,
};

/// A commit that was not answered for this long never will be.
const COMMIT_LOST: Duration = Duration::from_secs(60);
const SEEK: Duration = Duration::from_secs(2);

/// A poll thread's view of its group, and librdkafka's context.
pub(crate) struct Assignment {
    pub(super) settings: GroupSettings,
    pub(super) subscription: Subscription,
    pub(super) supervisor: ActorRef<Supervise>,
    pub(super) runtime: Handle,
    pub(super) lanes: Mutex<HashMap<TopicPartition, AssignedPartition>>,
    /// Wakes the poll thread.
    pub(super) bell: Arc<Bell>,
    pub(super) joined: AtomicBool,
    pub(super) health: Mutex<Health>,
    /// Partitions that were lost, and since when, until the group has told who has them now.
    pub(super) lost: Mutex<BTreeMap<TopicPartition, DateTime<Utc>>>,
    /// Since when a commit to Kafka is under way.
    committing: Mutex<Option<Instant>>,
}

/// Whether a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backpressure {
    /// Its lane has room.
    None,
    /// Its lane has been full since then.
    Full(Instant),
    /// It is paused: Kafka was told to stop. Since then it does not say where the partition ends.
    Paused,
}

/// A partition that is assigned.
pub(super) struct AssignedPartition {
    pub(super) lane: Arc<Lane>,
    /// What Kafka has delivered of it. While nobody takes from it, librdkafka fetches no more than its bounds, and throws
    /// nothing away, as it does when a partition is paused.
    pub(super) queue: Option<Arc<Queue>>,
    pub(super) backpressure: Backpressure,
    /// Since when seeks fail: Kafka has stopped fetching it.
    pub(super) unsought: Option<Instant>,
}

impl Assignment {
    pub(super) fn new(
        settings: GroupSettings,
        subscription: Subscription,
        supervisor: ActorRef<Supervise>,
        runtime: Handle,
    ) -> Self {
        let health = Health::new(settings.session_timeout);
        Self {
            settings,
            subscription,
            supervisor,
            runtime,
            lanes: Mutex::default(),
            bell: Arc::default(),
            joined: AtomicBool::new(false),
            health: Mutex::new(health),
            lost: Mutex::default(),
            committing: Mutex::new(None),
        }
    }

    /// What Kafka calls the group.
    pub(super) fn group(&self) -> &str {
        &self.subscription.group
    }

    /// What the consumer says of itself, every two seconds: where the partitions end, which it learns with every fetch, and how
    /// it is.
    pub(super) fn hear(&self, statistics: &Statistics) {
        let (lanes, open): (Vec<_>, Vec<_>) = {
            let lanes = self.lanes.lock();
            let open = lanes.iter().filter(|(_, assigned)| assigned.backpressure == Backpressure::None);
            (
                lanes.values().map(|assigned| (assigned.lane.clone(), assigned.backpressure)).collect(),
                open.map(|(source, _)| source.clone()).collect(),
            )
        };
        for (lane, backpressure) in &lanes {
            let topic = statistics.topics.get(&*lane.source.topic);
            let partition = topic.and_then(|topic| topic.partitions.get(&lane.source.partition));
            // Of a partition that is not fetched nothing new is known.
            if let Some(partition) = partition
                .filter(|partition| *backpressure != Backpressure::Paused && partition.hi_offset >= 0)
            {
                lane.set_log_end(partition.hi_offset);
                lane.set_stable(partition.ls_offset, partition.hi_offset);
            }
            lane.look_again();
        }
        self.health.lock().heard(statistics, &open, Instant::now());
    }

    /// The poll thread comes round.
    pub(super) fn polled(&self) {
        self.health.lock().polled(Instant::now());
    }

    /// Why the consumer will not get anywhere any more, if so.
    pub(super) fn is_stuck(&self) -> Option<&'static str> {
        let owns = !self.lanes.lock().is_empty();
        self.health.lock().is_stuck(owns, Instant::now())
    }

    /// The consumer does not bring what Kafka has.
    pub(super) fn give_up(&self, why: &'static str) {
        self.health.lock().give_up(why);
    }

    /// What is wrong with the consumer, and the partitions that it has lost.
    pub(super) fn degraded(&self) -> Vec<Condition> {
        let trouble = self.health.lock().trouble(self.group(), Instant::now());
        let of_group = trouble.into_iter().map(|(cause, since)| Condition {
            topic: None,
            partition: None,
            state: "degraded",
            code: cause.code,
            message: cause.message,
            since,
        });
        let lost = self.lost.lock();
        let lost = lost.iter().map(|(source, since)| Condition {
            topic: Some(source.topic.to_string()),
            partition: Some(source.partition),
            state: "lost",
            code: "partition-lost".into(),
            message: "Kafka did not hear from this member in time; nobody is known to have the partition"
                .to_owned(),
            since: *since,
        });
        of_group.chain(lost).collect()
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

    /// Another commit may be sent.
    pub(super) fn commit_answered(&self) {
        *self.committing.lock() = None;
    }

    /// The consumer is replaced: what it had is another's, as far as is known.
    pub(super) fn forget(&self) {
        self.health.lock().replaced(Instant::now());
        self.commit_answered();
        // Dropped without the lock: with the last queue the consumer may go, which says farewell to its lanes.
        let gone = std::mem::take(&mut *self.lanes.lock());
        for source in gone.keys() {
            self.lose(source);
        }
    }

    /// A partition is gone without a farewell.
    pub(super) fn lose(&self, source: &TopicPartition) {
        self.lost.lock().insert(source.clone(), Utc::now());
        self.supervisor.cast(Supervise::Drop(source.clone())).unwrap_or_default();
    }

    /// True once the group has told this member what it owns.
    pub(crate) fn joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    /// Every lane there is.
    pub(crate) fn lanes(&self) -> Vec<Arc<Lane>> {
        self.lanes.lock().values().map(|assigned| assigned.lane.clone()).collect()
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
            let Some(target) = lane.seek_target().filter(|_| !lane.rests()) else { continue };
            let TopicPartition { topic, partition } = &lane.source;
            let sought = consumer.seek(topic, *partition, Offset::Offset(target), SEEK);
            let mut lanes = self.lanes.lock();
            let Some(assigned) = lanes.get_mut(&lane.source) else { continue };
            match sought {
                Ok(()) => {
                    assigned.unsought = None;
                    lane.sought(target);
                }
                // Not fetching yet: once more in the next round.
                Err(error) => {
                    assigned.unsought.get_or_insert_with(Instant::now);
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
