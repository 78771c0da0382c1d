//! Which lanes there are, and what a rebalance does to them. All of it runs on the poll thread.

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
    ClientContext, Offset, Statistics, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};
use tokio::{runtime::Handle, sync::oneshot};

use super::lane::{Lane, LaneKind};
use crate::{
    dead_letter::requeue_topic, lease::Watermarks, partition::Supervise, record::TopicPartition,
    settings::GroupSettings,
};

/// How long an assignment waits for its claims: well below any session time-out.
const CLAIMS: Duration = Duration::from_secs(3);
const WATERMARKS: Duration = Duration::from_secs(2);
/// A partition that was just assigned cannot be sought for a few rounds; one that fails for longer is stuck.
const FAILED_SEEKS: u32 = 100;

/// The poll thread's view of the group, and librdkafka's context.
pub(crate) struct Routing {
    settings: GroupSettings,
    requeue_topic: String,
    supervisor: ActorRef<Supervise>,
    runtime: Handle,
    lanes: Mutex<HashMap<TopicPartition, Routed>>,
    joined: AtomicBool,
}

/// A partition that is assigned.
struct Routed {
    /// `None` until Kafka has said where the partition begins and ends.
    lane: Option<Arc<Lane>>,
    paused: bool,
    /// Seeks that failed in a row: Kafka has stopped fetching it.
    failed_seeks: u32,
}

impl Routing {
    pub(crate) fn new(settings: GroupSettings, supervisor: ActorRef<Supervise>, runtime: Handle) -> Self {
        let requeue_topic = requeue_topic(&settings.group);
        Self {
            settings,
            requeue_topic,
            supervisor,
            runtime,
            lanes: Mutex::default(),
            joined: AtomicBool::new(false),
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

    fn assigned(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) -> KafkaResult<()> {
        let sources = sources(partitions);
        for source in &sources {
            let lane = self.open(consumer, source);
            self.lanes.lock().insert(source.clone(), Routed { lane, paused: false, failed_seeks: 0 });
        }
        let deadline = Instant::now() + CLAIMS;
        let mut list = TopicPartitionList::new();
        let mut late = TopicPartitionList::new();
        for source in &sources {
            let lane = self.lane(&source.topic, source.partition);
            match lane.as_ref().and_then(|lane| lane.wait_claimed(deadline)) {
                Some(next) => {
                    list.add_partition_offset(&source.topic, source.partition, Offset::Offset(next.0))?;
                    if let Some(lane) = lane {
                        lane.sought(next.0);
                    }
                }
                // The beginning is a place that exists; nothing is taken from there before the claim and a seek.
                None => {
                    list.add_partition_offset(&source.topic, source.partition, Offset::Beginning)?;
                    late.add_partition(&source.topic, source.partition);
                    if let Some(routed) = self.lanes.lock().get_mut(source) {
                        routed.paused = true;
                    }
                }
            }
        }
        failpoint!(RebalanceAssigned);
        consumer.incremental_assign(&list)?;
        // A pause of an earlier assignment may still be in force.
        consumer.resume(&list)?;
        if late.count() > 0 {
            consumer.pause(&late)?;
        }
        self.joined.store(true, Ordering::Release);
        tracing::info!(group = self.settings.group, partitions = ?sources, claims_outstanding = late.count(), "partitions assigned");
        Ok(())
    }

    /// Opens a lane; `None` when Kafka does not say where the partition begins and ends, which is asked again later.
    fn open(&self, consumer: &BaseConsumer<Self>, source: &TopicPartition) -> Option<Arc<Lane>> {
        let (low, high) = match consumer.fetch_watermarks(&source.topic, source.partition, WATERMARKS) {
            Ok(watermarks) => watermarks,
            Err(error) => {
                tracing::warn!(topic = &*source.topic, partition = source.partition, %error,
                    "Kafka does not say where the partition begins; asking again");
                return None;
            }
        };
        let kind = if *source.topic == *self.requeue_topic { LaneKind::Requeue } else { LaneKind::Source };
        let lane = Arc::new(Lane::new(source.clone(), kind, Watermarks { low, high }));
        self.supervisor.cast(Supervise::Open(lane.clone())).ok()?;
        Some(lane)
    }

    fn revoked(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) -> KafkaResult<()> {
        let sources = sources(partitions);
        failpoint!(RebalanceRevoked);
        if consumer.assignment_lost() {
            tracing::warn!(group = self.settings.group, partitions = ?sources, "partitions lost; their new owners fence this one out");
            for source in &sources {
                self.lanes.lock().remove(source);
                self.supervisor.cast(Supervise::Drop(source.clone())).unwrap_or_default();
            }
        } else {
            let (_, offsets) = self.drain(&sources);
            failpoint!(RebalanceDrained);
            Self::commit(consumer, &offsets);
        }
        consumer.incremental_unassign(partitions)
    }

    /// Lets the batches in hand finish, bounded. True when every lane left nothing behind; and where each lane is.
    fn drain(&self, sources: &[TopicPartition]) -> (bool, TopicPartitionList) {
        let deadline = tokio::time::Instant::now() + self.settings.drain;
        let mut leaving = Vec::new();
        for source in sources {
            let Some(lane) = self.lanes.lock().remove(source).and_then(|routed| routed.lane) else {
                continue;
            };
            lane.close();
            let (done, drained) = oneshot::channel();
            if self.supervisor.cast(Supervise::Drain(source.clone(), done)).is_ok() {
                leaving.push((lane, drained));
            }
        }
        let mut clean = true;
        let mut offsets = TopicPartitionList::new();
        for (lane, drained) in leaving {
            // A timer can only be made inside the runtime.
            let drained = self.runtime.block_on(async { tokio::time::timeout_at(deadline, drained).await });
            let finished = matches!(drained, Ok(Ok(true)));
            if !finished {
                clean = false;
                tracing::warn!(
                    topic = &*lane.source.topic,
                    partition = lane.source.partition,
                    "the partition left before all of its work was done; its next owner goes on from PostgreSQL"
                );
            }
            if let Some(next) = lane.position() {
                let added = offsets.add_partition_offset(
                    &lane.source.topic,
                    lane.source.partition,
                    Offset::Offset(next.0),
                );
                report("note a leaving partition's offset", added);
            }
        }
        (clean, offsets)
    }

    /// Drains everything, for good.
    pub(crate) fn drain_all(&self) -> (bool, TopicPartitionList) {
        let sources: Vec<_> = self.lanes.lock().keys().cloned().collect();
        self.drain(&sources)
    }

    /// Tells Kafka where leaving lanes are, for lag monitors.
    pub(crate) fn commit(consumer: &BaseConsumer<Self>, offsets: &TopicPartitionList) {
        if offsets.count() > 0 {
            report(
                "commit offsets to Kafka; lag monitors are behind",
                consumer.commit(offsets, CommitMode::Sync),
            );
        }
    }

    /// Pauses what is full, resumes what is half empty, seeks what was claimed late.
    pub(crate) fn maintain(&self, consumer: &BaseConsumer<Self>) -> KafkaResult<()> {
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

    /// Assigns those partitions anew whose next record is not in the log any more, or not yet: their new claim counts what
    /// is lost, or halts and says what to do.
    pub(crate) fn reopen_out_of_range(&self, consumer: &BaseConsumer<Self>) {
        let outside = |lane: &Arc<Lane>| {
            let Some(wanted) = lane.wanted() else { return false };
            let ends = consumer.fetch_watermarks(&lane.source.topic, lane.source.partition, WATERMARKS);
            ends.is_ok_and(|(low, high)| wanted < low || wanted > high)
        };
        let sources =
            self.lanes().iter().filter(|lane| outside(lane)).map(|lane| lane.source.clone()).collect();
        self.reopen(consumer, sources);
    }

    /// Assigns partitions anew that Kafka has stopped fetching and that therefore cannot be sought.
    pub(crate) fn reopen_stuck(&self, consumer: &BaseConsumer<Self>) {
        let stuck = |routed: &Routed| routed.failed_seeks > FAILED_SEEKS;
        let sources = self
            .lanes
            .lock()
            .iter()
            .filter(|(_, one)| stuck(one))
            .map(|(source, _)| source.clone())
            .collect();
        self.reopen(consumer, sources);
    }

    fn reopen(&self, consumer: &BaseConsumer<Self>, sources: Vec<TopicPartition>) {
        if sources.is_empty() {
            return;
        }
        tracing::warn!(group = self.settings.group, partitions = ?sources, "assigning partitions anew: their place in the log is not there");
        let mut list = TopicPartitionList::new();
        for source in &sources {
            list.add_partition(&source.topic, source.partition);
        }
        let (_, _) = self.drain(&sources);
        report("let partitions go", consumer.incremental_unassign(&list));
        report("assign partitions anew", self.assigned(consumer, &list));
    }

    /// Opens the lanes whose ends Kafka did not know at their assignment.
    pub(crate) fn open_late(&self, consumer: &BaseConsumer<Self>) {
        let waiting = |routed: &Routed| routed.lane.is_none();
        let sources: Vec<_> = self
            .lanes
            .lock()
            .iter()
            .filter(|(_, routed)| waiting(routed))
            .map(|(source, _)| source.clone())
            .collect();
        for source in sources {
            let lane = self.open(consumer, &source);
            if let Some(routed) = self.lanes.lock().get_mut(&source) {
                routed.lane = lane;
            }
        }
    }

    /// Where every lane is, for Kafka's lag monitors.
    pub(crate) fn positions(&self) -> HashMap<TopicPartition, i64> {
        let position = |lane: &Arc<Lane>| Some((lane.source.clone(), lane.position()?.0));
        self.lanes().iter().filter_map(position).collect()
    }
}

impl ClientContext for Routing {
    /// Where the partitions end, without asking for it: librdkafka learns it with every fetch.
    fn stats(&self, statistics: Statistics) {
        for lane in self.lanes() {
            let topic = statistics.topics.get(&*lane.source.topic);
            if let Some(partition) = topic.and_then(|topic| topic.partitions.get(&lane.source.partition)) {
                lane.set_log_end(partition.ls_offset.max(partition.hi_offset));
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(group = self.settings.group, %error, reason, "the Kafka consumer reports an error");
    }
}

impl ConsumerContext for Routing {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let result = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, partitions),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.revoked(consumer, partitions),
            other => {
                let code: RDKafkaErrorCode = other.into();
                tracing::error!(group = self.settings.group, error = %code, "the rebalance failed; giving all partitions up");
                self.revoked(consumer, partitions)
            }
        };
        report("carry out a rebalance", result);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        match result {
            // Nothing was new, or the partition left meanwhile.
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => {
                tracing::debug!(group = self.settings.group, %error, "offsets are not committed to Kafka; lag monitors are behind");
            }
        }
    }
}

fn sources(partitions: &TopicPartitionList) -> Vec<TopicPartition> {
    partitions
        .elements()
        .iter()
        .map(|element| TopicPartition::new(element.topic(), element.partition()))
        .collect()
}

fn report(what: &str, result: KafkaResult<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "could not {what}");
    }
}
