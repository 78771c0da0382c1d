//! The consumers of a group in this process.

use std::sync::Arc;

use dead_letters::TopicPartition;
use ractor::ActorRef;
use tokio::{runtime::Handle, time::Instant};

use super::{
    assignment::Assignment,
    poll::{PollThread, start},
    subscription::Subscription,
};
use crate::{Condition, lane::Lane, partition::Supervise, settings::GroupSettings};

/// One consumer for the group's sources and one for its requeue topic, each in a Kafka group of its own: an assignor evens
/// out the number of partitions over all topics of a group, and would give one process the busy ones and another those that
/// are nearly always empty.
pub(crate) struct ConsumerPair {
    sources: Member,
    requeue: Member,
}

struct Member {
    poll: PollThread,
    assignment: Arc<Assignment>,
}

impl Member {
    fn not_joined(&self) -> Option<String> {
        (!self.assignment.joined())
            .then(|| format!("group {} has not been joined yet", self.assignment.group()))
    }
}

impl ConsumerPair {
    /// Subscribes and starts the poll threads.
    ///
    /// # Errors
    /// Settings that librdkafka refuses; a thread that the system refuses.
    pub(crate) fn start(
        settings: &GroupSettings,
        supervisor: &ActorRef<Supervise>,
        runtime: &Handle,
    ) -> Result<Self, String> {
        let member = |subscription| {
            let assignment =
                Assignment::new(settings.clone(), subscription, supervisor.clone(), runtime.clone());
            let (poll, assignment) = start(assignment)?;
            Ok::<_, String>(Member { poll, assignment })
        };
        let sources = member(Subscription::sources(settings))?;
        match member(Subscription::requeue(settings)) {
            Ok(requeue) => Ok(Self { sources, requeue }),
            Err(error) => {
                // Nobody waits for it to end.
                drop(sources.poll.stop());
                Err(error)
            }
        }
    }

    fn members(&self) -> [&Member; 2] {
        [&self.sources, &self.requeue]
    }

    /// Every lane there is.
    pub(crate) fn lanes(&self) -> Vec<Arc<Lane>> {
        self.members().into_iter().flat_map(|member| member.assignment.lanes()).collect()
    }

    /// The lane of a partition, if this process has it.
    pub(crate) fn lane(&self, partition: &TopicPartition) -> Option<Arc<Lane>> {
        self.members().into_iter().find_map(|member| member.assignment.lane(partition))
    }

    /// The consumer that has this partition does not bring what Kafka has of it: it is replaced.
    pub(super) fn give_up(&self, partition: &TopicPartition, why: &'static str) {
        if let Some(member) =
            self.members().into_iter().find(|member| member.assignment.lane(partition).is_some())
        {
            member.assignment.give_up(why);
        }
    }

    /// `None` once Kafka has said which source partitions are this process's; else why it cannot work.
    pub(crate) fn not_ready(&self) -> Option<String> {
        self.dead().or_else(|| self.sources.not_joined())
    }

    /// Which poll thread has ended, if one has.
    pub(crate) fn dead(&self) -> Option<String> {
        let ended = self.members().into_iter().find(|member| !member.poll.is_alive());
        ended.map(|member| {
            format!("the consumer of group {} has ended; restart this process", member.assignment.group())
        })
    }

    /// What is wrong with the consumers, beside their lanes.
    pub(crate) fn degraded(&self) -> Vec<Condition> {
        self.members().into_iter().flat_map(|member| member.assignment.degraded()).collect()
    }

    /// Drains every lane and leaves, until `deadline`. True when nothing was left behind.
    pub(crate) async fn stop(&self, deadline: Instant) -> bool {
        let stopping = self.members().map(|member| (member, member.poll.stop()));
        let mut clean = true;
        let mut leaving = Vec::new();
        for (member, stopping) in stopping {
            let drained = tokio::time::timeout_at(deadline, stopping.drained).await;
            clean &= matches!(drained, Ok(Ok(true)));
            leaving.push((member, stopping.left));
        }
        for (member, left) in leaving {
            // Kafka may be gone: then the others wait for the session to time out, and nothing is lost by that.
            if tokio::time::timeout_at(deadline, left).await.is_err() {
                let group = member.assignment.group();
                tracing::warn!(group, "Kafka does not answer; leaving the group by its session time-out");
            }
        }
        clean
    }
}
