//! A running consumer group member.

mod operate;
mod scrape;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dead_letters::{ACTIONS_TOPIC, dlq_topic, requeue_topic};
use deadpool_postgres::Pool;
use ractor::{Actor, ActorRef, ActorStatus};
use rdkafka::metadata::Metadata;
use thiserror::Error;
use tokio::{runtime::Handle, sync::Semaphore, task::JoinHandle};
use uuid::Uuid;

use crate::{
    Cause, Condition, Handler, ParkedStatus, PartitionStatus,
    clock::Clock,
    condition::{self, Conditions},
    connection::{Connection, Limits},
    consumer::{ConsumerPair, Probe},
    dedupe::Hints,
    housekeeping::{Looking, Lookout, Reporter, Sweeper, Watch},
    kafka::{self, LogEnds, MetadataClient, Sources},
    metrics,
    observed::Observed,
    outbox::Publisher,
    panics,
    partition::{Pace, Shared, Supervise, Supervisor},
    retry::{self, Sample},
    settings::GroupSettings,
};

pub use self::operate::{Consent, OperateError, ResetTo};

/// Longest wait for Kafka at the start.
const START: Duration = Duration::from_secs(10);

/// What a group works with.
#[derive(Clone, Debug)]
pub struct Deps {
    /// The service's database, with the tables of [`migrations`](crate::migrations): for batches and claims, and nothing else.
    pub pool: Pool,
    /// The same database, for what goes on beside the partitions; 2 connections are enough. What it waits for holds no batch up,
    /// and the other way round.
    pub housekeeping: Pool,
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

/// A consumer group member: its consumers, lanes, actors and supervisor. Cheap to clone.
///
/// ```no_run
/// use std::{error::Error, time::Duration};
///
/// use actors::{Deps, Group, GroupSettings, Handler, Hints, KafkaSettings, Publisher};
///
/// # async fn example(handler: impl Handler, pool: deadpool_postgres::Pool) -> Result<(), Box<dyn Error>> {
/// let kafka = KafkaSettings { brokers: "localhost:9092".into(), properties: Vec::new() };
/// let publisher = Publisher::start(&kafka)?;
/// let deps = Deps { pool: pool.clone(), housekeeping: pool, hints: Hints::none(), publisher };
/// let settings = GroupSettings::new("counter", "clicks-counter", &["clicks"], kafka);
/// let member = Group::start(settings, handler, deps).await?;
/// tokio::select! {
///     _ = tokio::signal::ctrl_c() => {}
///     // What ended never should: better a new process than one that looks well.
///     what = member.ended() => return Err(what.into()),
/// }
/// let clean = member.shutdown(Duration::from_secs(10)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    log_ends: LogEnds,
    /// How long outcomes are remembered.
    retention: Duration,
    limits: Limits,
    cluster_id: String,
    /// For what operators ask.
    pool: Pool,
    publisher: Publisher,
    consumers: Arc<ConsumerPair>,
    conditions: Conditions,
    observed: Observed,
    supervisor: ActorRef<Supervise>,
    /// What runs beside the partitions, by name. None of it ends by itself.
    tasks: [(&'static str, JoinHandle<()>); 5],
    stopping: AtomicBool,
}

/// How often it is looked whether something has ended.
const LOOK: Duration = Duration::from_millis(500);

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
        let cluster_id = kafka::cluster_id(&settings.kafka).await?;
        let metadata = MetadataClient::new(&settings.kafka)?;
        let topics = needed(&settings, &metadata.fetch(START).await?);
        for (topic, count) in &topics {
            if let Some(count) = count {
                settings.partitions.insert(topic.clone(), *count);
                deps.publisher.keep_partitions(topic, *count);
            }
        }
        let (conditions, clock) = (Conditions::default(), Clock::default());
        let log_ends = LogEnds::new(&settings.kafka)?;
        let mut looking = Looking::new(&settings, metadata.clone(), conditions.clone())?;
        looking.begin().await?;
        let shared = Arc::new(Shared {
            handler,
            pool: deps.pool.clone(),
            hints: deps.hints,
            publisher: deps.publisher.clone(),
            clock: clock.clone(),
            sample: Sample::default(),
            pace: Pace::default(),
            transactions: Semaphore::new(settings.batch_transactions.max(1)),
            owner: format!("{}/{}", settings.service, Uuid::now_v7()),
            cluster_id: cluster_id.clone(),
            log_ends: log_ends.clone(),
            topics: Sources::new(metadata.clone(), &settings.topics),
            supervisor: OnceLock::new(),
            settings: settings.clone(),
        });
        let (supervisor, _) = Actor::spawn(None, Supervisor::<H>::default(), shared.clone())
            .await
            .map_err(|error| Cause::from_error("supervisor", &error))?;
        shared.supervisor.get_or_init(|| supervisor.clone());
        let consumers = ConsumerPair::start(&settings, &supervisor, &Handle::current())
            .map_err(|error| Cause::new("kafka-consumer", error))?;
        let consumers = Arc::new(consumers);
        begin_metrics(&settings);
        let (observed, pool) = (Observed::default(), deps.housekeeping);
        let watch = Watch {
            settings: settings.clone(),
            pool: pool.clone(),
            consumers: consumers.clone(),
            conditions: conditions.clone(),
            observed: observed.clone(),
            clock,
        };
        let lookout = Lookout {
            probe: Probe::new(&settings.kafka, log_ends.clone())?,
            log_ends: log_ends.clone(),
            metadata,
            consumers: consumers.clone(),
            conditions: conditions.clone(),
            publisher: deps.publisher.clone(),
            topics,
        };
        let sweeper = Sweeper::new(settings.clone(), pool.clone(), conditions.clone(), observed.clone());
        let reported = (deps.publisher.clone(), conditions.clone(), consumers.clone());
        let name = settings.group.clone();
        let reporter = Reporter::default()
            .run(settings.group.clone(), move || degraded(&name, &reported.0, &reported.1, &reported.2));
        let tasks = [
            ("the watch", tokio::spawn(watch.run())),
            ("the lookout", tokio::spawn(lookout.run())),
            ("the inbox sweep", tokio::spawn(sweeper.run())),
            ("the look at the topics", tokio::spawn(looking.run())),
            ("the reporter", tokio::spawn(reporter)),
        ];
        let GroupSettings { group: name, retention, limits, .. } = settings;
        let retention = retention.inbox;
        let inner = Inner {
            name,
            log_ends,
            retention,
            limits,
            cluster_id,
            pool,
            publisher: deps.publisher,
            consumers,
            conditions,
            observed,
            supervisor,
            tasks,
            stopping: AtomicBool::new(false),
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
        let ask = async || {
            let connection = Connection::get(&self.inner.pool).await?;
            let list = retry::list(&*connection, &self.inner.name, limit);
            connection.read(&self.inner.limits, list).await
        };
        let parked = match ask().await {
            // Once more, on another connection.
            Err(trouble) if trouble.is_of_the_connection() => ask().await,
            asked => asked,
        };
        parked.map_err(|trouble| trouble.cause())
    }

    /// `None` once the group has joined and its consumers are alive; else why it is not ready.
    pub fn not_ready(&self) -> Option<String> {
        self.inner.consumers.not_ready()
    }

    /// What does not work and need not for this process to be of use: partitions, topics, servers.
    ///
    /// ```
    /// # fn example(member: &actors::Group) {
    /// for condition in member.degraded() {
    ///     println!("{} since {}: {}", condition.code, condition.since, condition.message);
    /// }
    /// # }
    /// ```
    pub fn degraded(&self) -> Vec<Condition> {
        degraded(&self.inner.name, &self.inner.publisher, &self.inner.conditions, &self.inner.consumers)
    }

    /// What of the group has ended, or panicked, while nobody told it to stop: this process is to be restarted then.
    pub fn dead(&self) -> Option<String> {
        if self.inner.stopping.load(Ordering::Acquire) {
            return None;
        }
        let name = &self.inner.name;
        let task = self.inner.tasks.iter().find(|(_, task)| task.is_finished());
        if let Some((task, _)) = task {
            return Some(format!("{task} of group {name} has ended"));
        }
        if self.inner.supervisor.get_status() == ActorStatus::Stopped {
            return Some(format!("the supervisor of group {name} has ended"));
        }
        self.inner.consumers.dead()
    }

    /// Ends when something of the group has, with its name: see [`Group::dead`].
    pub async fn ended(&self) -> String {
        loop {
            if let Some(what) = self.dead() {
                return what;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Leaves: no batch is half done, offsets are committed, outboxes flushed as far as Kafka answers, leases marked clean.
    /// True when all of it was done within `limit`.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        self.inner.stopping.store(true, Ordering::Release);
        let clean = self.inner.consumers.stop(tokio::time::Instant::now() + limit).await;
        self.inner.tasks.iter().for_each(|(_, task)| task.abort());
        self.inner.supervisor.stop(None);
        clean
    }
}

/// The topics that the group needs, with the partitions they have; what its settings say comes first.
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

fn degraded(
    group: &str,
    publisher: &Publisher,
    conditions: &Conditions,
    consumers: &ConsumerPair,
) -> Vec<Condition> {
    let mut all = conditions.list();
    let mut lanes = consumers.lanes();
    lanes.sort_by(|a, b| a.source.cmp(&b.source));
    all.extend(consumers.degraded());
    all.extend(lanes.iter().filter_map(|lane| lane.condition()));
    all.extend(lanes.iter().flat_map(|lane| lane.refused(&format!("{group}/{}", lane.source))));
    all.extend(publisher.trouble().into_iter().map(Condition::of_process));
    condition::once(all, "kafka-unreachable")
}

/// Every series that is known now begins at 0.
fn begin_metrics(settings: &GroupSettings) {
    let group = &settings.group;
    metrics::begin_group(group, &settings.topics, &requeue_topic(group));
    let own = [dlq_topic(group), ACTIONS_TOPIC.to_owned()];
    metrics::begin_topics(own.iter().chain(&settings.writes).map(String::as_str));
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("name", &self.inner.name).finish_non_exhaustive()
    }
}
