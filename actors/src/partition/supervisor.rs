//! The supervisor of a group's partition actors: opens and closes lanes, and restarts what dies.

use std::{collections::HashMap, marker::PhantomData, sync::Arc, time::Instant};

use ::metrics::counter;
use dead_letters::TopicPartition;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::{
    actor::{Msg, PartitionActor},
    command::Supervise,
    restart::{Restart, RestartPolicy},
    shared::Shared,
};
use crate::{
    Cause,
    handler::Handler,
    lane::Lane,
    metrics::{self, ACTOR_RESTARTS},
    status::LaneState,
};

/// The supervisor actor of a group.
#[derive(Debug)]
pub(crate) struct Supervisor<H>(PhantomData<fn() -> H>);

impl<H> Default for Supervisor<H> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// What the supervisor knows.
pub(crate) struct Children<H: Handler> {
    shared: Arc<Shared<H>>,
    lanes: HashMap<TopicPartition, Child>,
    actors: HashMap<ActorId, TopicPartition>,
    /// Numbers openings, so that a restart meant for an earlier one is not taken for this one's.
    openings: u64,
}

struct Child {
    lane: Arc<Lane>,
    opening: u64,
    actor: Option<ActorRef<Msg>>,
    policy: RestartPolicy,
    /// The lane's commits at the last death.
    commits: u64,
}

impl<H: Handler> Actor for Supervisor<H> {
    type Msg = Supervise;
    type State = Children<H>;
    type Arguments = Arc<Shared<H>>;

    async fn pre_start(
        &self,
        _: ActorRef<Supervise>,
        shared: Arc<Shared<H>>,
    ) -> Result<Children<H>, ActorProcessingErr> {
        Ok(Children { shared, lanes: HashMap::new(), actors: HashMap::new(), openings: 0 })
    }

    async fn handle(
        &self,
        myself: ActorRef<Supervise>,
        message: Supervise,
        children: &mut Children<H>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Supervise::Open(lane) => {
                children.drop_lane(&lane.source.clone());
                children.openings += 1;
                metrics::begin_partition(&children.shared.settings.group, &lane.source);
                let (source, opening) = (lane.source.clone(), children.openings);
                let policy = children.policy();
                children
                    .lanes
                    .insert(source.clone(), Child { lane, opening, actor: None, policy, commits: 0 });
                children.spawn(&myself, &source).await;
            }
            Supervise::Drain(source, done) => {
                let Some(child) = children.lanes.remove(&source) else { return Ok(()) };
                child.lane.close();
                match child.actor {
                    // Its last message; the answer is the actor's.
                    Some(actor) => actor.cast(Msg::Drain(done)).unwrap_or_default(),
                    // Its actor died and was not restarted yet: what it left is found by the next owner.
                    None => done.send(child.lane.position().is_none()).unwrap_or_default(),
                }
            }
            Supervise::Drop(source) => children.drop_lane(&source),
            Supervise::Requeued(source) => {
                if let Some(child) = children.lanes.get(&source) {
                    child.lane.chains_changed();
                }
            }
            Supervise::Resume(source) => {
                let policy = children.policy();
                let Some(child) = children.lanes.get_mut(&source) else { return Ok(()) };
                match &child.actor {
                    Some(actor) => actor.cast(Msg::Resume).unwrap_or_default(),
                    None => {
                        // A whole new budget: somebody has looked at it.
                        child.policy = policy;
                        child.lane.set_state(LaneState::Claiming, None);
                        children.spawn(&myself, &source).await;
                    }
                }
            }
            Supervise::Restart(source, opening) => {
                let current = children.lanes.get(&source).is_some_and(|child| {
                    child.opening == opening
                        && child.actor.is_none()
                        && child.lane.state() != LaneState::Halted
                });
                if current {
                    failpoint!(RestartDue);
                    children.spawn(&myself, &source).await;
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Supervise>,
        event: SupervisionEvent,
        children: &mut Children<H>,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(actor, error) => {
                children.died(&myself, actor.get_id(), &error.to_string());
            }
            SupervisionEvent::ActorTerminated(actor, ..) => {
                children.actors.remove(&actor.get_id());
            }
            _ => {}
        }
        Ok(())
    }
}

impl<H: Handler> Children<H> {
    fn policy(&self) -> RestartPolicy {
        let settings = &self.shared.settings;
        RestartPolicy::new(settings.restart.clone(), settings.crash_limit)
    }

    async fn spawn(&mut self, myself: &ActorRef<Supervise>, source: &TopicPartition) {
        let Some(child) = self.lanes.get_mut(source) else { return };
        let arguments = (self.shared.clone(), child.lane.clone());
        match Actor::spawn_linked(None, PartitionActor::<H>::default(), arguments, myself.get_cell()).await {
            Ok((actor, _)) => {
                self.actors.insert(actor.get_id(), source.clone());
                child.actor = Some(actor);
            }
            Err(error) => {
                let cause = Cause::new("actor-start", error.to_string());
                tracing::error!(topic = &*source.topic, partition = source.partition, %cause, "cannot start the partition's actor");
                child.lane.set_state(LaneState::Halted, Some(&cause));
            }
        }
    }

    fn drop_lane(&mut self, source: &TopicPartition) {
        let Some(child) = self.lanes.remove(source) else { return };
        child.lane.close();
        if let Some(actor) = child.actor {
            self.actors.remove(&actor.get_id());
            actor.kill();
        }
    }

    fn died(&mut self, myself: &ActorRef<Supervise>, actor: ActorId, reason: &str) {
        let Some(source) = self.actors.remove(&actor) else { return };
        let Some(child) = self.lanes.get_mut(&source) else { return };
        if child.actor.as_ref().is_none_or(|current| current.get_id() != actor) {
            // The actor of an earlier assignment, which took longer to leave than it was given.
            return;
        }
        child.actor = None;
        let records = child.lane.actor_died(reason);
        let commits = child.lane.commits();
        let progressed = commits != child.commits;
        child.commits = commits;
        let (topic, partition) = (&*source.topic, source.partition);
        // Of several records the guilty one is among half as many now: that is progress too.
        match child.policy.died(Instant::now(), progressed || records > 1, records > 0) {
            Restart::After(delay, attempt) => {
                counter!(ACTOR_RESTARTS, "group" => self.shared.settings.group.clone(), "topic" => topic.to_owned(),
                    "partition" => partition.to_string())
                .increment(1);
                let backoff_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(
                    name: "restart",
                    topic,
                    partition,
                    reason = "panic",
                    panic = reason,
                    attempt,
                    backoff_ms,
                    records_replayed = records,
                    "restarting the partition actor"
                );
                child.lane.set_state(LaneState::Restarting, Some(&Cause::new("panic", reason)));
                failpoint!(RestartPlanned);
                let opening = child.opening;
                myself.send_after(delay, move || Supervise::Restart(source, opening));
            }
            Restart::Halt => {
                tracing::error!(
                    topic,
                    partition,
                    reason = "panic",
                    panic = reason,
                    "the partition actor died too often without progress; the partition is halted, the others go on"
                );
                child.lane.set_state(LaneState::Halted, Some(&Cause::new("restart-budget", reason)));
            }
        }
    }
}
