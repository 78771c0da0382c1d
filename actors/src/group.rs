//! A running consumer group member.

mod operate;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use deadpool_postgres::Pool;
use metrics::gauge;
use ractor::{Actor, ActorRef};
use rdkafka::metadata::Metadata;
use thiserror::Error;
use tokio::{runtime::Handle, sync::Semaphore, task::JoinHandle};
use uuid::Uuid;

use crate::{
    Backlog, Cause, Condition, Handler, ParkedStatus, PartitionStatus,
    condition::Conditions,
    consumer::{Consumers, Lane, Probe},
    dead_letter::{ACTIONS_TOPIC, dlq_topic, requeue_topic},
    dedupe::Hints,
    kafka::MetadataClient,
    log_ends::LogEnds,
    lookout::Lookout,
    metrics::{OUTBOX_AGE, OUTBOX_ROWS, PARKED},
    panics,
    partition::{Supervise, Supervisor},
    publisher::Publisher,
    record::TopicPartition,
    retry,
    settings::GroupSettings,
    sql, topics,
    watch::Watch,
};

pub use self::operate::{Consent, OperateError, ResetTo};

/// Longest wait for Kafka at the start.
const START: Duration = Duration::from_secs(10);

/// What a group works with.
#[derive(Clone, Debug)]
pub struct Deps {
    /// The service's database, with the tables of `migrations/runtime`.
    pub pool: Pool,
    /// Redis hints; may be [`Hints::none`].
    pub hints: Hints,
    /// The process's idempotent producer.
    pub publisher: Publisher,
}

/// A group could not be started.
#[derive(Debug, Error)]
#[error("cannot start consumer group {group}: {cause}")]
pub struct StartError {
    /// The group.
    pub group: String,
    /// Why.
    pub cause: Cause,
}

/// What all actors of a group share.
pub(crate) struct Shared<H: Handler> {
    pub(crate) settings: GroupSettings,
    pub(crate) handler: H,
    pub(crate) pool: Pool,
    pub(crate) hints: Hints,
    pub(crate) publisher: Publisher,
    /// Bounds the batch transactions in flight.
    pub(crate) transactions: Semaphore,
    /// This member's name in leases.
    pub(crate) owner: String,
    pub(crate) cluster_id: String,
    /// What does not work, beside the lanes.
    pub(crate) conditions: Conditions,
    /// Where logs begin and end.
    pub(crate) log_ends: LogEnds,
    supervisor: OnceLock<ActorRef<Supervise>>,
}

impl<H: Handler> Shared<H> {
    /// Tells a lane of this process, if it has it, that records were put into its `parked`. Another process's finds out
    /// by itself.
    pub(crate) fn wake_requeued(&self, source: &TopicPartition) {
        if let Some(supervisor) = self.supervisor.get() {
            // A supervisor that is gone has no lanes.
            supervisor.cast(Supervise::Requeued(source.clone())).unwrap_or_default();
        }
    }

    /// Shows what waits beside a lane's window.
    #[allow(clippy::cast_precision_loss, reason = "gauges are floating-point")]
    pub(crate) fn gauges(&self, lane: &Lane, parked: usize, backlog: Backlog) {
        let (topic, partition) = (lane.source.topic.to_string(), lane.source.partition.to_string());
        let group = self.settings.group.clone();
        let name = format!("{group}/{}", lane.source);
        gauge!(PARKED, "group" => group, "topic" => topic, "partition" => partition).set(parked as f64);
        gauge!(OUTBOX_ROWS, "lane" => name.clone()).set(backlog.rows as f64);
        gauge!(OUTBOX_AGE, "lane" => name).set(backlog.oldest.as_secs_f64());
    }
}

/// A consumer group member: its consumers, lanes, actors and supervisor. Cheap to clone.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    log_ends: LogEnds,
    /// How long outcomes are remembered.
    retention: Duration,
    cluster_id: String,
    pool: Pool,
    consumers: Arc<Consumers>,
    conditions: Conditions,
    supervisor: ActorRef<Supervise>,
    watch: JoinHandle<()>,
    lookout: JoinHandle<()>,
}

impl Group {
    /// Subscribes and begins to work. Returns once the consumers run; partitions arrive as Kafka assigns them.
    ///
    /// # Errors
    /// When Kafka cannot be asked for its cluster id, or refuses the settings.
    pub async fn start<H: Handler>(
        settings: GroupSettings,
        handler: H,
        deps: Deps,
    ) -> Result<Self, StartError> {
        let group = settings.group.clone();
        Self::try_start(settings, handler, deps).await.map_err(|cause| StartError { group, cause })
    }

    async fn try_start<H: Handler>(
        mut settings: GroupSettings,
        handler: H,
        deps: Deps,
    ) -> Result<Self, Cause> {
        #[cfg(feature = "failpoints")]
        crate::failpoint::arm_from_environment().map_err(|error| Cause::new("failpoint", error))?;
        panics::install();
        let cluster_id = topics::cluster_id(&settings.kafka).await?;
        let metadata = MetadataClient::new(&settings.kafka)?;
        let topics = needed(&settings, &metadata.fetch(START).await?);
        for (topic, count) in &topics {
            if let Some(count) = count {
                settings.partitions.insert(topic.clone(), *count);
                deps.publisher.keep_partitions(topic, *count);
            }
        }
        let conditions = Conditions::default();
        let log_ends = LogEnds::new(&settings.kafka)?;
        let shared = Arc::new(Shared {
            handler,
            pool: deps.pool.clone(),
            hints: deps.hints,
            publisher: deps.publisher.clone(),
            transactions: Semaphore::new(settings.batch_transactions.max(1)),
            owner: format!("{}/{}", settings.service, Uuid::now_v7()),
            cluster_id: cluster_id.clone(),
            conditions: conditions.clone(),
            log_ends: log_ends.clone(),
            supervisor: OnceLock::new(),
            settings: settings.clone(),
        });
        let (supervisor, _) = Actor::spawn(None, Supervisor::<H>::default(), shared.clone())
            .await
            .map_err(|error| Cause::from_error("supervisor", &error))?;
        shared.supervisor.get_or_init(|| supervisor.clone());
        let consumers = Consumers::start(&settings, &supervisor, &Handle::current())
            .map_err(|error| Cause::new("kafka-consumer", error))?;
        let consumers = Arc::new(consumers);
        let watch =
            Watch { settings: settings.clone(), pool: deps.pool.clone(), consumers: consumers.clone() };
        let watch = tokio::spawn(watch.run());
        let lookout = Lookout {
            probe: Probe::new(&settings.kafka, log_ends.clone())?,
            log_ends: log_ends.clone(),
            metadata,
            consumers: consumers.clone(),
            conditions: conditions.clone(),
            publisher: deps.publisher.clone(),
            topics,
        };
        let lookout = tokio::spawn(lookout.run());
        let GroupSettings { group: name, retention, .. } = settings;
        let retention = retention.inbox;
        let inner = Inner {
            name,
            log_ends,
            retention,
            cluster_id,
            pool: deps.pool,
            consumers,
            conditions,
            supervisor,
            watch,
            lookout,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The lanes this process has, in order of topic and partition.
    pub fn partitions(&self) -> Vec<PartitionStatus> {
        let mut lanes = self.inner.consumers.lanes();
        lanes.sort_by(|a, b| a.source.cmp(&b.source));
        lanes.iter().map(|lane| lane.snapshot()).collect()
    }

    /// Waiting records of this group, oldest first, at most `limit`.
    ///
    /// # Errors
    /// When PostgreSQL cannot be reached.
    pub async fn parked(&self, limit: i64) -> Result<Vec<ParkedStatus>, Cause> {
        let client =
            self.inner.pool.get().await.map_err(|error| Cause::from_error("postgresql-pool", &error))?;
        retry::list(&client, &self.inner.name, limit).await.map_err(|error| sql::cause(&error))
    }

    /// `None` once the group has joined and its consumers are alive; else why it is not ready.
    pub fn not_ready(&self) -> Option<String> {
        self.inner.consumers.not_ready()
    }

    /// What does not work and need not for this process to be of use: partitions, topics, servers.
    pub fn degraded(&self) -> Vec<Condition> {
        let mut all = self.inner.conditions.list();
        let mut lanes = self.inner.consumers.lanes();
        lanes.sort_by(|a, b| a.source.cmp(&b.source));
        all.extend(self.inner.consumers.degraded());
        all.extend(lanes.iter().filter_map(|lane| lane.condition()));
        all
    }

    /// Leaves: no batch is half done, offsets are committed, outboxes flushed as far as Kafka answers, leases marked clean.
    /// True when all of it was done within `limit`.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        let clean = self.inner.consumers.stop(tokio::time::Instant::now() + limit).await;
        self.inner.watch.abort();
        self.inner.lookout.abort();
        self.inner.supervisor.stop(None);
        clean
    }
}

/// The topics that the group needs, with the partitions they have; what it is told of them comes first.
fn needed(settings: &GroupSettings, metadata: &Metadata) -> BTreeMap<String, Option<i32>> {
    let own = [dlq_topic(&settings.group), requeue_topic(&settings.group), ACTIONS_TOPIC.to_owned()];
    let names = settings.topics.iter().chain(&settings.writes).cloned().chain(own);
    let there = |name: &str| {
        let topic = metadata.topics().iter().find(|topic| topic.name() == name && topic.error().is_none());
        topic.and_then(|topic| i32::try_from(topic.partitions().len()).ok()).filter(|count| *count > 0)
    };
    names
        .map(|name| (settings.partitions.get(&name).copied().or_else(|| there(&name)), name))
        .map(|(count, name)| (name, count))
        .collect()
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("name", &self.inner.name).finish_non_exhaustive()
    }
}
