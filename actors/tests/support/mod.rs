//! A toy service on real Kafka, PostgreSQL and Redis: appends numbers to lists, one list per key, and fails as it is told.

mod toy;

use std::{
    collections::HashMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use actors::{Deps, Group, GroupSettings, Headers, Hints, KafkaSettings, Publisher, RetryPolicy, TopicSpec};
use deadpool_postgres::{Manager, Pool};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::OwnedMessage,
    producer::{FutureProducer, FutureRecord},
};
use serde_json::json;
use uuid::Uuid;

pub(crate) use self::toy::{Switches, Toy};

/// Everything here happens within this, or the test says what did not.
const LIMIT: Duration = Duration::from_secs(40);

/// One test's own topic, group and database.
pub(crate) struct World {
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) pool: Pool,
    pub(crate) settings: GroupSettings,
    pub(crate) switches: Arc<Switches>,
    producer: FutureProducer,
    redis: String,
}

fn env(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: these tests need real servers; run ./dev test"))
}

impl World {
    /// A topic with `partitions` partitions and an empty database.
    pub(crate) async fn new(partitions: i32) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        let (topic, group) = (format!("toy-{id}"), format!("toy-group-{id}"));
        let kafka = KafkaSettings { brokers: env("KAFKA_BROKERS"), properties: Vec::new() };
        let mut topics = vec![TopicSpec::new(&topic, partitions)];
        topics.extend(
            actors::group_topics(&group, partitions).into_iter().filter(|spec| spec.name != "dlq.actions"),
        );
        actors::ensure_topics(&kafka, &topics, true).await.expect("topics");
        // Shared by all tests of the run, with whatever partition count it was first given.
        let ledger = TopicSpec::new("dlq.actions", 6);
        actors::ensure_topics(&kafka, &[ledger], true).await.expect("the ledger's topic");

        let mut settings = GroupSettings::new("toy", &group, &[&topic], kafka.clone());
        settings.session_timeout = Duration::from_secs(6);
        settings.retry = RetryPolicy {
            initial: Duration::from_millis(50),
            max: Duration::from_millis(200),
            attempts: 5,
            ..RetryPolicy::default()
        };
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &kafka.brokers)
            .set("partitioner", "murmur2_random")
            .create()
            .expect("producer");
        Self {
            topic,
            group,
            pool: database(&format!("toy_{id}")).await,
            settings,
            switches: Arc::default(),
            producer,
            redis: env("REDIS_URL"),
        }
    }

    /// Starts a member of the group.
    pub(crate) async fn start(&self) -> Group {
        let deps = Deps {
            pool: self.pool.clone(),
            hints: Hints::connect(&self.redis).expect("REDIS_URL"),
            publisher: Publisher::start(&self.settings.kafka).expect("publisher"),
        };
        Group::start(self.settings.clone(), Toy::new(self.switches.clone()), deps)
            .await
            .expect("group starts")
    }

    /// An event: append `n` to `key`'s list, in `mode`.
    pub(crate) fn event(id: Uuid, key: &str, n: i64, mode: &str) -> Vec<u8> {
        json!({"id": id, "key": key, "n": n, "mode": mode}).to_string().into_bytes()
    }

    /// Produces a record and waits until it is there.
    pub(crate) async fn send(&self, key: Option<&str>, value: Option<&[u8]>) {
        self.send_to(&self.topic, key, value, &Headers::new()).await;
    }

    /// Produces a record to any topic.
    pub(crate) async fn send_to(
        &self,
        topic: &str,
        key: Option<&str>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) {
        let mut record = FutureRecord::<str, [u8]>::to(topic).headers(headers.to_kafka());
        record = if let Some(key) = key { record.key(key) } else { record };
        record = if let Some(value) = value { record.payload(value) } else { record };
        self.producer.send(record, LIMIT).await.expect("delivered");
    }

    /// Appends 0..count to each of `keys` by new events, interleaved.
    pub(crate) async fn send_lists(&self, keys: &[String], count: i64) {
        let mut sent = Vec::new();
        for n in 0..count {
            for key in keys {
                let value = Self::event(Uuid::now_v7(), key, n, "ok");
                let record = FutureRecord::<str, [u8]>::to(&self.topic).key(key).payload(&value);
                sent.push(self.producer.send_result(record).expect("enqueued"));
            }
        }
        for sent in sent {
            sent.await.expect("not cancelled").expect("delivered");
        }
    }

    /// The list of each key, in the order its numbers took effect.
    pub(crate) async fn lists(&self) -> HashMap<String, Vec<i64>> {
        let client = self.pool.get().await.expect("connection");
        let rows = client.query("SELECT key, list FROM lists", &[]).await.expect("lists");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// The list of one key.
    pub(crate) async fn list(&self, key: &str) -> Vec<i64> {
        self.lists().await.remove(key).unwrap_or_default()
    }

    /// The sum of a lease column over the source topic.
    pub(crate) async fn counted(&self, outcome: &str) -> i64 {
        let client = self.pool.get().await.expect("connection");
        // The column is this file's own word, never a parameter.
        let query =
            format!("SELECT coalesce(sum({outcome}), 0)::bigint FROM partition_lease WHERE topic = $1");
        client.query_one(&query, &[&self.topic]).await.expect("lease").get(0)
    }

    /// Offsets without an outcome, and the difference between counted and real waiting records.
    pub(crate) async fn unaccounted(&self) -> i64 {
        let client = self.pool.get().await.expect("connection");
        let query = "SELECT coalesce(sum(abs(next_offset - first_offset
                        - (applied + duplicate + parked + dead + ignored + moved + gaps + lost))), 0)::bigint
                     + abs(coalesce(sum(parked), 0)::bigint
                        - (SELECT count(*) FROM parked WHERE requeued_from IS NULL))
                     FROM partition_lease";
        client.query_one(query, &[]).await.expect("leases").get(0)
    }

    /// Waits until `outcome` of the source topic has reached `count`, and then checks the accounts.
    pub(crate) async fn until_counted(&self, outcome: &str, count: i64) {
        until(&format!("{outcome} = {count}"), || async { self.counted(outcome).await >= count }).await;
        assert_eq!(self.counted(outcome).await, count, "{outcome}");
        assert_eq!(self.unaccounted().await, 0, "every offset has an outcome");
    }

    /// Everything a topic holds, each partition to its end.
    pub(crate) async fn read(&self, topic: &str) -> Vec<OwnedMessage> {
        let (brokers, topic) = (self.settings.kafka.brokers.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || read(&brokers, &topic)).await.expect("reader")
    }

    /// Waits until the group's dead-letter topic holds `count` records.
    pub(crate) async fn dead_letters(&self, count: usize) -> Vec<actors::dead_letter::DeadLetter> {
        let topic = actors::dead_letter::dlq_topic(&self.group);
        let started = Instant::now();
        loop {
            let records = self.read(&topic).await;
            if records.len() >= count || started.elapsed() > LIMIT {
                assert_eq!(records.len(), count, "dead letters");
                let letter = |record: &OwnedMessage| {
                    actors::dead_letter::DeadLetter::from_headers(&Headers::from_kafka(record))
                        .expect("dlq headers")
                };
                return records.iter().map(letter).collect();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn read(brokers: &str, topic: &str) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "reader")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()
        .expect("consumer");
    let metadata = consumer.fetch_metadata(Some(topic), LIMIT).expect("metadata");
    let partitions = metadata.topics()[0].partitions().len();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        let partition = i32::try_from(partition).expect("few");
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("offset");
    }
    consumer.assign(&list).expect("assign");
    let (mut records, mut ended) = (Vec::new(), 0);
    while ended < partitions {
        match consumer.poll(LIMIT).expect("an end of every partition") {
            Ok(message) => records.push(message.detach()),
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("reading {topic}: {error}"),
        }
    }
    records
}

/// Waits for a condition, at most [`LIMIT`].
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < LIMIT, "did not happen within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn database(name: &str) -> Pool {
    let admin: tokio_postgres::Config = env("TEST_POSTGRES_URL").parse().expect("TEST_POSTGRES_URL");
    let (client, connection) = admin.connect(tokio_postgres::NoTls).await.expect("PostgreSQL");
    tokio::spawn(connection);
    // A name of this function's caller, made of hex digits.
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("database");
    let mut config = admin;
    config.dbname(name);
    let pool = Pool::builder(Manager::new(config, tokio_postgres::NoTls)).max_size(8).build().expect("pool");
    let client = pool.get().await.expect("connection");
    client
        .batch_execute(concat!(
            include_str!("../../../migrations/runtime/V1__runtime.sql"),
            include_str!("../../../migrations/runtime/V2__protocol.sql")
        ))
        .await
        .expect("runtime tables");
    client
        .batch_execute(
            "CREATE TABLE lists (key text PRIMARY KEY, list bigint[] NOT NULL, CHECK (NOT 666 = ANY (list)))",
        )
        .await
        .expect("lists");
    pool
}
