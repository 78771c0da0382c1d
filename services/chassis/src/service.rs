//! The common wiring of a consumer service.

use std::{future::Future, net::SocketAddr, time::Duration};

use actors::{
    Deps, Group, GroupSettings, Handler, Hints, KafkaSettings, Publisher, TopicSpec,
    connection::{Connection, Limits, Trouble},
};
use anyhow::anyhow;
use deadpool_postgres::Pool;
use refinery::Runner;
use tokio::time::Instant;

use crate::{
    admin::{self, Health, Need},
    database::{Database, Pools},
    exit::RunError,
    http::Server,
    settings::CommonArgs,
    shutdown::{Listener, Stop, Trigger, trigger},
};

/// A start gives up on Kafka when it has not answered for this long.
const KAFKA_LIMIT: Duration = Duration::from_secs(60);
/// Time the group is given to leave, out of [`crate::shutdown::LIMIT`].
const GROUP_LIMIT: Duration = Duration::from_secs(8);
/// Time the admin port is given for requests in hand.
const ADMIN_LIMIT: Duration = Duration::from_millis(300);

/// What distinguishes one service from another.
#[expect(missing_debug_implementations, reason = "migrations have none, and the URL holds a password")]
pub struct Spec<'a> {
    /// Its name: in logs, dead letters, `pg_stat_activity`.
    pub name: &'static str,
    /// Its version, in dead letters.
    pub build: &'static str,
    /// Its consumer group.
    pub group: &'a str,
    /// Topics it reads.
    pub reads: &'a [&'a str],
    /// Topics it writes.
    pub writes: &'a [&'a str],
    /// Its database.
    pub database_url: &'a str,
    /// Where the admin port listens.
    pub admin_listen: SocketAddr,
    /// Its own migrations: `refinery::embed_migrations!` makes them.
    pub migrations: Runner,
    /// The settings that services share.
    pub common: &'a CommonArgs,
}

/// A service with everything it needs, before and after its group was started.
#[derive(Debug)]
pub struct Service {
    /// The service's database, migrated.
    pub pools: Pools,
    /// The process's producer.
    pub publisher: Publisher,
    /// What `/readyz` answers from.
    pub health: Health,
    hints: Hints,
    settings: GroupSettings,
    group: Option<Group>,
    admin: Server,
    stop: Trigger,
    listener: Listener,
}

impl Service {
    /// Opens the admin port, migrates the database, makes sure of the topics and creates the producer. Servers that do
    /// not answer yet are waited for, up to a minute each. Ends early, with [`RunError::Stopped`], at `stop`.
    pub async fn open(spec: Spec<'_>, stop: &mut Stop) -> Result<Self, RunError> {
        tokio::select! {
            opened = Self::open_now(spec) => opened.map_err(RunError::Start),
            () = stop => Err(RunError::Stopped),
        }
    }

    async fn open_now(spec: Spec<'_>) -> anyhow::Result<Self> {
        let Spec { name, common, .. } = spec;
        let health = Health::new(name);
        let (stop, listener) = trigger();
        let (guard, limits) = (common.admin.guard()?, common.http.limits());
        let admin = admin::serve(spec.admin_listen, guard, health.clone(), limits, listener.clone()).await?;
        tracing::info!(admin = %admin.address, "starting");

        // What is wrong with the settings is said before any server is waited for.
        let kafka = common.kafka.settings()?;
        let mut settings = GroupSettings::new(name, spec.group, spec.reads, kafka.clone());
        common.runtime.apply(&mut settings);
        let database = Database::new(spec.database_url, name, &common.database.tls_files())?;
        let pools = database.pools(common.database.database_pool, settings.batch_transactions)?;
        database.reachable().await?;
        Database::check(&pools.pipeline, &settings.limits).await?;
        database.migrate(spec.migrations).await?;
        watch_postgres(&health, pools.housekeeping.clone());

        let partitions = &common.kafka.topic_partitions;
        let mut topics = actors::group_topics(spec.group, partitions.of(""));
        topics.extend(spec.reads.iter().chain(spec.writes).map(|topic| TopicSpec::new(*topic, 0)));
        for topic in &mut topics {
            topic.partitions = partitions.of(&topic.name);
        }
        let counts = topics.iter().map(|topic| (topic.name.clone(), topic.partitions)).collect();
        ensure_topics(&kafka, topics, common.kafka.create_topics).await?;
        let publisher = Publisher::start(&kafka)?;
        let hints = hints(&common.redis_url, &health)?;
        settings.writes = spec.writes.iter().map(|topic| (*topic).to_owned()).collect();
        settings.partitions = counts;
        spec.build.clone_into(&mut settings.build);
        Ok(Self { pools, publisher, health, hints, settings, group: None, admin, stop, listener })
    }

    /// Starts the consumer group; from now on the service is ready as soon as the group has joined.
    pub async fn start_group<H: Handler>(&mut self, handler: H) -> Result<(), RunError> {
        let deps = Deps {
            pool: self.pools.pipeline.clone(),
            housekeeping: self.pools.housekeeping.clone(),
            hints: self.hints.clone(),
            publisher: self.publisher.clone(),
        };
        let group = Group::start(self.settings.clone(), handler, deps).await.map_err(RunError::start)?;
        self.health.show(group.clone());
        self.health.serving();
        tracing::info!(group = self.settings.group, topics = ?self.settings.topics, "consumer group started");
        self.group = Some(group);
        Ok(())
    }

    /// Where the admin port listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address
    }

    /// For what else the service runs: fired when the drain begins.
    pub fn listener(&self) -> Listener {
        self.listener.clone()
    }

    /// Runs until `stop`, then drains. `edge` is what drains before the group does, such as an HTTP server and what is
    /// behind it: it is polled once the listeners were told, and says whether it finished.
    pub async fn run(mut self, stop: Stop, edge: impl Future<Output = bool>) -> Result<(), RunError> {
        tokio::select! {
            () = stop => {}
            ended = self.admin.ended() => {
                let why = ended.err().unwrap_or_else(|| anyhow!("the admin port closed by itself"));
                return Err(RunError::Running(why));
            }
            // It cannot be mended from inside: whoever started the process starts it again.
            what = self.health.ended() => return Err(RunError::Running(anyhow!(what))),
        }
        self.drain(edge).await
    }

    async fn drain(self, edge: impl Future<Output = bool>) -> Result<(), RunError> {
        let started = Instant::now();
        self.health.draining();
        self.stop.fire();
        let edge_done = tokio::time::timeout(GROUP_LIMIT / 2, edge).await.unwrap_or(false);
        let left = GROUP_LIMIT.saturating_sub(started.elapsed());
        let group_done = match self.group {
            Some(group) => group.shutdown(left).await,
            None => true,
        };
        self.admin.stopped(ADMIN_LIMIT).await;
        self.pools.close();
        tracing::info!(edge_done, group_done, ms = started.elapsed().as_millis() as u64, "drained");
        if edge_done && group_done { Ok(()) } else { Err(RunError::Drain) }
    }
}

fn watch_postgres(health: &Health, pool: Pool) {
    health.check("postgres", Need::Required, move || {
        let pool = pool.clone();
        async move {
            let ask = async {
                let connection = Connection::get(&pool).await?;
                let answer = async { connection.simple_query("").await.map(drop) };
                connection.read(&Limits::default(), answer).await
            };
            ask.await.map_err(|trouble: Trouble| trouble.cause().message)
        }
    });
}

fn hints(url: &str, health: &Health) -> anyhow::Result<Hints> {
    if url.is_empty() {
        return Ok(Hints::none());
    }
    // The error of a malformed URL must not repeat it: it may hold a password.
    let hints =
        Hints::connect(url).map_err(|_| anyhow!("REDIS_URL is malformed, expected redis://host:port"))?;
    let redis = hints.clone();
    health.check("redis", Need::Optional, move || {
        let redis = redis.clone();
        async move { redis.check().await }
    });
    Ok(hints)
}

async fn ensure_topics(
    kafka: &KafkaSettings,
    mut topics: Vec<TopicSpec>,
    create: bool,
) -> anyhow::Result<()> {
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    topics.dedup_by(|a, b| a.name == b.name);
    let started = Instant::now();
    loop {
        match actors::ensure_topics(kafka, &topics, create).await {
            Ok(()) => return Ok(()),
            Err(cause) if cause.code != "kafka-unreachable" || started.elapsed() > KAFKA_LIMIT => {
                return Err(anyhow!("{cause}").context("cannot make sure of the topics"));
            }
            Err(cause) => {
                tracing::warn!(error = %cause, waited_s = started.elapsed().as_secs(), "waiting for Kafka");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
