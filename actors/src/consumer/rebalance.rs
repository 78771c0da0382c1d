//! What a rebalance does to the lanes. All of it runs on the poll thread.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use dead_letters::TopicPartition;
use rdkafka::{Offset, Statistics, TopicPartitionList, consumer::Consumer as _, error::KafkaResult};
use tokio::sync::oneshot;

use super::{
    assignment::{AssignedPartition, Assignment, Backpressure},
    client::{Consumer, ConsumerEvents, Queue, discard, one, queue, report},
};
use crate::{
    Cause, LaneState,
    lane::{CrashLimits, Lane},
    partition::Supervise,
};

/// How long an assignment waits for its claims: well below any session time-out.
const CLAIMS: Duration = Duration::from_secs(3);
/// A partition that was just assigned cannot be sought for a moment; one that fails for longer is stuck.
const UNSOUGHT: Duration = Duration::from_secs(1);

impl ConsumerEvents for Assignment {
    fn statistics(&self, statistics: &Statistics) {
        self.hear(statistics);
    }

    fn assigned(&self, consumer: &Arc<Consumer>, partitions: &TopicPartitionList) -> KafkaResult<()> {
        let sources = sources(partitions);
        for source in &sources {
            let lane = self.open(source);
            // Before anything is fetched, so that all of it comes this way.
            let queue = queue(consumer, source, self.bell.clone()).map(Arc::new);
            self.lanes.lock().insert(
                source.clone(),
                AssignedPartition { lane, queue, backpressure: Backpressure::None, unsought: None },
            );
        }
        let deadline = Instant::now() + CLAIMS;
        let mut list = TopicPartitionList::new();
        let (mut sought, mut late) = (Vec::new(), 0);
        for source in &sources {
            let lane = self.lane(source);
            match lane.as_ref().and_then(|lane| lane.wait_claimed(deadline)) {
                Some(start) => {
                    list.add_partition_offset(&source.topic, source.partition, Offset::Offset(start))?;
                    sought.extend(lane.map(|lane| (lane, start)));
                }
                // The beginning is a place that exists; nothing is taken from there before the claim and a seek.
                None => {
                    list.add_partition_offset(&source.topic, source.partition, Offset::Beginning)?;
                    late += 1;
                }
            }
        }
        failpoint!(RebalanceAssigned);
        consumer.incremental_assign(&list)?;
        for (lane, start) in sought {
            lane.sought(start);
        }
        // One that was paused when it left.
        consumer.resume(&list)?;
        self.joined.store(true, Ordering::Release);
        // The group has told each member what it has: what is not here is somebody's.
        self.lost.lock().clear();
        tracing::info!(group = self.group(), partitions = ?sources, claims_outstanding = late, "partitions assigned");
        Ok(())
    }

    fn revoked(&self, consumer: &Consumer, partitions: &TopicPartitionList) -> KafkaResult<()> {
        let sources = sources(partitions);
        let queues = self.queues(&sources);
        failpoint!(RebalanceRevoked);
        if consumer.assignment_lost() {
            tracing::warn!(group = self.group(), partitions = ?sources, "partitions lost; their new owners fence this one out");
            for source in &sources {
                self.lanes.lock().remove(source);
                self.lose(source);
            }
        } else {
            let (_, offsets) = self.drain(&sources);
            failpoint!(RebalanceDrained);
            Self::commit(consumer, &offsets);
        }
        let unassigned = consumer.incremental_unassign(partitions);
        // Nobody would read it any more, and librdkafka would keep it for the next time.
        queues.iter().for_each(|queue| discard(queue));
        unassigned
    }

    fn commit_answered(&self) {
        Self::commit_answered(self);
    }
}

impl Assignment {
    /// Opens a lane, whatever is known of its partition: its claim finds out, and says what it waits for.
    fn open(&self, source: &TopicPartition) -> Arc<Lane> {
        let limits = CrashLimits::from(&self.settings);
        let lane = Arc::new(Lane::new(source.clone(), self.subscription.kind, limits, self.bell.clone()));
        if let Some(known) =
            self.settings.partitions.get(&*source.topic).filter(|known| source.partition >= **known)
        {
            // Nobody works on it: what a key's other records wait for may be in its former partition.
            lane.set_state(LaneState::Halted, Some(&grown(source, *known)));
            return lane;
        }
        if self.supervisor.cast(Supervise::Open(lane.clone())).is_err() {
            // The group is going away, and takes the lane with it.
            lane.close();
        }
        lane
    }

    fn queues(&self, sources: &[TopicPartition]) -> Vec<Arc<Queue>> {
        let lanes = self.lanes.lock();
        sources.iter().filter_map(|source| lanes.get(source)?.queue.clone()).collect()
    }

    /// Lets the batches in flight finish, bounded. True when every lane left nothing behind; and where each lane is.
    fn drain(&self, sources: &[TopicPartition]) -> (bool, TopicPartitionList) {
        let deadline = tokio::time::Instant::now() + self.settings.drain;
        let mut leaving = Vec::new();
        for source in sources {
            let Some(AssignedPartition { lane, .. }) = self.lanes.lock().remove(source) else { continue };
            lane.close();
            if lane.is_unknown() {
                continue;
            }
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
    pub(super) fn drain_all(&self) -> (bool, TopicPartitionList) {
        let sources: Vec<_> = self.lanes.lock().keys().cloned().collect();
        self.drain(&sources)
    }

    /// Assigns partitions anew that Kafka has stopped fetching and that therefore cannot be sought: most likely the next
    /// record is not in the log any more, or not yet. Their new claim counts what is lost, or halts and says what to do.
    pub(super) fn reopen_stuck(&self, consumer: &Arc<Consumer>) {
        // What was delivered before comes first: it may not be there any more.
        let stuck = |assigned: &AssignedPartition| {
            assigned.unsought.is_some_and(|since| since.elapsed() > UNSOUGHT) && assigned.lane.may_leave()
        };
        for source in self.those(stuck) {
            self.reopen(consumer, source);
        }
    }

    fn reopen(&self, consumer: &Arc<Consumer>, source: TopicPartition) {
        tracing::warn!(
            topic = &*source.topic,
            partition = source.partition,
            "assigning the partition anew: its place in the log is not there"
        );
        let list = one(&source);
        let sources = [source];
        let queues = self.queues(&sources);
        let (_, _) = self.drain(&sources);
        report("let a partition go", consumer.incremental_unassign(&list));
        queues.iter().for_each(|queue| discard(queue));
        // Their farewell takes the bell from the queue, which is the next one's too.
        drop(queues);
        report("assign a partition anew", self.assigned(consumer, &list));
    }

    fn those(&self, wanted: impl Fn(&AssignedPartition) -> bool) -> Vec<TopicPartition> {
        let lanes = self.lanes.lock();
        lanes.iter().filter(|(_, assigned)| wanted(assigned)).map(|(source, _)| source.clone()).collect()
    }
}

fn grown(source: &TopicPartition, known: i32) -> Cause {
    let message = format!(
        "topic {} had {known} partitions when this process started, or was set to: what others write here waits, since a key's \
         earlier records may still be in another partition (docs/operations.md, \"A topic that has grown\")",
        source.topic
    );
    Cause::new("topic-partitions", message)
}

fn sources(partitions: &TopicPartitionList) -> Vec<TopicPartition> {
    partitions
        .elements()
        .iter()
        .map(|element| TopicPartition::new(element.topic(), element.partition()))
        .collect()
}
