//! A toy service on real Kafka, PostgreSQL and Redis: appends numbers to lists, one list per key, and fails as it is told.

mod database;
pub(crate) mod member;
pub(crate) mod model;
mod skew;
mod topics;
mod toy;

use std::{
    collections::HashMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use actors::{
    Deps, Group, GroupSettings, Handler, Headers, Hints, KafkaSettings, Publisher, RetryPolicy, StartError,
    TopicSpec,
    accounts::{PASSED, UNACCOUNTED},
    dead_letters::{DeadLetter, dlq_topic},
};
use dead_letters::{Given, Span, TopicReader};
use deadpool_postgres::Pool;
use rdkafka::{
    ClientConfig,
    message::OwnedMessage,
    producer::{FutureProducer, FutureRecord},
};
use serde_json::json;
use uuid::Uuid;

use self::database::create_database;
pub(crate) use self::{
    database::{admin, pool},
    toy::{BUSY, HEAVY, Switches, Toy, UNSPEAKABLE},
};

/// Everything here happens within this, or the test says what did not.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// One test's own topic, group and database.
pub(crate) struct World {
    pub(crate) topic: String,
    /// Where the toy says what it did.
    pub(crate) out: String,
    pub(crate) database: String,
    pub(crate) group: String,
    pub(crate) pool: Pool,
    pub(crate) settings: GroupSettings,
    pub(crate) switches: Arc<Switches>,
    producer: FutureProducer,
}

/// What every member of a toy group is told: everything happens fast.
pub(crate) fn settings(group: &str, topic: &str, kafka: KafkaSettings) -> GroupSettings {
    let mut settings = GroupSettings::new("toy", group, &[topic], kafka);
    settings.session_timeout = Duration::from_secs(6);
    // Few enough for a lane to be full now and then.
    settings.lane_max_records = 1_000;
    // What a frozen owner holds is let go after two seconds.
    settings.limits.idle = Duration::from_secs(2);
    settings.retry = RetryPolicy {
        initial: Duration::from_millis(50),
        max: Duration::from_millis(200),
        attempts: Some(5),
        ..RetryPolicy::default()
    };
    settings
}

/// Starts a member of a toy group.
pub(crate) async fn start(settings: GroupSettings, pool: Pool, switches: Arc<Switches>, out: &str) -> Group {
    let publisher = Publisher::start(&settings.kafka).expect("publisher");
    try_start(settings, pool, Toy::new(switches, out), publisher).await.expect("group starts")
}

async fn try_start(
    settings: GroupSettings,
    pool: Pool,
    handler: impl Handler,
    publisher: Publisher,
) -> Result<Group, StartError> {
    let deps = Deps {
        housekeeping: pool.clone(),
        pool,
        hints: Hints::connect(&env("REDIS_URL")).expect("REDIS_URL"),
        publisher,
    };
    Group::start(settings, handler, deps).await
}

pub(crate) fn env(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: these tests need real servers; run ./dev test"))
}

impl World {
    /// A topic with `partitions` partitions and an empty database.
    pub(crate) async fn new(partitions: i32) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        let (topic, group) = (format!("toy-{id}"), format!("toy-group-{id}"));
        let kafka = KafkaSettings { brokers: env("KAFKA_BROKERS"), properties: Vec::new() };
        let out = format!("{topic}-out");
        let mut topics = vec![TopicSpec::new(&topic, partitions), TopicSpec::new(&out, partitions)];
        topics.extend(
            actors::group_topics(&group, partitions).into_iter().filter(|spec| spec.name != "dlq.actions"),
        );
        actors::ensure_topics(&kafka, &topics, true).await.expect("topics");
        // Shared by all tests of the run, with whatever partition count it was first given.
        let ledger: Vec<_> =
            actors::group_topics(&group, 6).into_iter().filter(|spec| spec.name == "dlq.actions").collect();
        actors::ensure_topics(&kafka, &ledger, true).await.expect("the ledger's topic");

        let settings = settings(&group, &topic, kafka.clone());
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &kafka.brokers)
            .set("message.max.bytes", "4000000")
            .set("partitioner", "murmur2_random")
            .create()
            .expect("producer");
        let database = format!("toy_{id}");
        Self {
            topic,
            out,
            group,
            pool: create_database(&database).await,
            database,
            settings,
            switches: Arc::default(),
            producer,
        }
    }

    /// Starts a member of the group.
    pub(crate) async fn start(&self) -> Group {
        self.start_handler(self.toy()).await
    }

    /// Starts a member with this handler.
    pub(crate) async fn start_handler(&self, handler: impl Handler) -> Group {
        self.try_start_handler(handler).await.expect("group starts")
    }

    async fn try_start_handler(&self, handler: impl Handler) -> Result<Group, StartError> {
        let publisher = Publisher::start(&self.settings.kafka).expect("publisher");
        try_start(self.settings.clone(), self.pool.clone(), handler, publisher).await
    }

    fn toy(&self) -> Toy {
        Toy::new(self.switches.clone(), &self.out)
    }

    /// The same, where it may be refused.
    pub(crate) async fn try_start(&self) -> Result<Group, StartError> {
        self.try_start_handler(self.toy()).await
    }

    /// Starts a member that publishes with this.
    pub(crate) async fn start_with(&self, publisher: Publisher) -> Group {
        let (settings, pool) = (self.settings.clone(), self.pool.clone());
        try_start(settings, pool, self.toy(), publisher).await.expect("group starts")
    }

    /// An event: append `n` to `key`'s list, in `mode`.
    pub(crate) fn event(id: Uuid, key: &str, n: i64, mode: &str) -> Vec<u8> {
        json!({"id": id, "key": key, "n": n, "mode": mode}).to_string().into_bytes()
    }

    /// The same with `size` more bytes.
    pub(crate) fn large_event(id: Uuid, key: &str, n: i64, size: usize) -> Vec<u8> {
        json!({"id": id, "key": key, "n": n, "mode": "ok", "padding": "x".repeat(size)})
            .to_string()
            .into_bytes()
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
        self.send_bytes_to(topic, key.map(str::as_bytes), value, headers).await;
    }

    /// Produces a record with any key to any topic.
    pub(crate) async fn send_bytes_to(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) {
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).headers(headers.to_kafka());
        record = if let Some(key) = key { record.key(key) } else { record };
        record = if let Some(value) = value { record.payload(value) } else { record };
        self.producer.send(record, LIMIT).await.expect("delivered");
    }

    /// Produces a record with a key that need not be text.
    pub(crate) async fn send_bytes(&self, key: &[u8], value: &[u8]) {
        let record = FutureRecord::to(&self.topic).key(key).payload(value);
        self.producer.send(record, LIMIT).await.expect("delivered");
    }

    /// Produces a record to a partition of the toy's topic, by a producer that knows of new ones.
    pub(crate) async fn send_to_partition(&self, partition: i32, key: &str, value: &[u8]) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.settings.kafka.brokers);
        let producer: FutureProducer = config.create().expect("producer");
        let record = FutureRecord::<str, [u8]>::to(&self.topic).key(key).payload(value).partition(partition);
        producer.send(record, LIMIT).await.expect("delivered");
    }

    /// Produces records of the toy's topic, and waits once for all of them.
    pub(crate) async fn send_all<'a>(&self, records: impl Iterator<Item = (&'a str, &'a [u8])>) {
        let mut sent = Vec::new();
        for (key, value) in records {
            let record = FutureRecord::<str, [u8]>::to(&self.topic).key(key).payload(value);
            sent.push(self.producer.send_result(record).expect("enqueued"));
        }
        for sent in sent {
            sent.await.expect("not cancelled").expect("delivered");
        }
    }

    /// Produces records to any topic, and waits once for all of them.
    pub(crate) async fn send_all_to(&self, topic: &str, records: &[(String, Vec<u8>, Headers)]) {
        let mut sent = Vec::new();
        for (key, value, headers) in records {
            let record = FutureRecord::to(topic).key(key).payload(value).headers(headers.to_kafka());
            sent.push(self.producer.send_result(record).expect("enqueued"));
        }
        for sent in sent {
            sent.await.expect("not cancelled").expect("delivered");
        }
    }

    /// Appends 0..count to each of `keys` by new events, interleaved.
    pub(crate) async fn send_lists(&self, keys: &[String], count: i64) {
        for n in 0..count {
            let values: Vec<_> = keys.iter().map(|key| Self::event(Uuid::now_v7(), key, n, "ok")).collect();
            self.send_all(keys.iter().map(String::as_str).zip(values.iter().map(Vec::as_slice))).await;
        }
    }

    /// Produces one record, compressed by `codec`, however large it is.
    pub(crate) async fn send_compressed(&self, codec: &str, key: &str, value: &[u8]) {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.settings.kafka.brokers)
            .set("partitioner", "murmur2_random")
            .set("message.max.bytes", "300000000")
            .set("compression.type", codec)
            .create()
            .expect("producer");
        let record = FutureRecord::<str, [u8]>::to(&self.topic).key(key).payload(value);
        producer.send(record, LIMIT).await.expect("delivered");
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

    /// Offsets without an outcome, the difference between counted and real waiting records, and offsets the journal lacks.
    pub(crate) async fn unaccounted(&self) -> i64 {
        let client = self.pool.get().await.expect("connection");
        let query = format!(
            "SELECT coalesce(sum(abs({UNACCOUNTED})), 0)::bigint
                + abs(coalesce(sum(parked), 0)::bigint - (SELECT count(*) FROM parked WHERE requeued_from IS NULL))
                + abs(coalesce(sum({PASSED}), 0)::bigint
                    - (SELECT coalesce(sum(next_offset - from_offset), 0)::bigint FROM offset_journal))
             FROM partition_lease"
        );
        client.query_one(&query, &[]).await.expect("leases").get(0)
    }

    /// Waits until `outcome` of the source topic has reached `count`, and then checks the accounts.
    pub(crate) async fn until_counted(&self, outcome: &str, count: i64) {
        until(&format!("{outcome} = {count}"), || async { self.counted(outcome).await >= count }).await;
        assert_eq!(self.counted(outcome).await, count, "{outcome}");
        assert_eq!(self.unaccounted().await, 0, "every offset has an outcome");
    }

    /// Changes the database behind everybody's back.
    pub(crate) async fn execute(&self, statement: &str) {
        let client = self.pool.get().await.expect("connection");
        client.batch_execute(statement).await.expect("changed");
    }

    /// A column of texts from the database.
    pub(crate) async fn texts(&self, query: &str) -> Vec<String> {
        let client = self.pool.get().await.expect("connection");
        client.query(query, &[]).await.expect("texts").iter().map(|row| row.get(0)).collect()
    }

    /// A number from the database.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        let client = self.pool.get().await.expect("connection");
        client.query_one(query, &[]).await.expect("a number").get(0)
    }

    /// Everything a topic holds, each partition to its end.
    pub(crate) async fn read(&self, topic: &str) -> Vec<OwnedMessage> {
        let (kafka, topic) = (self.settings.kafka.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || read(&kafka, &topic)).await.expect("reader")
    }

    /// What the group's dead-letter topic holds.
    pub(crate) async fn letters(&self) -> Vec<DeadLetter> {
        let letter = |record: &OwnedMessage| {
            DeadLetter::from_headers(&Headers::from_kafka(record)).expect("dlq headers")
        };
        self.read(&dlq_topic(&self.group)).await.iter().map(letter).collect()
    }

    /// Waits until the group's dead-letter topic holds `count` records.
    pub(crate) async fn dead_letters(&self, count: usize) -> Vec<DeadLetter> {
        let started = Instant::now();
        loop {
            let letters = self.letters().await;
            if letters.len() >= count || started.elapsed() > LIMIT {
                assert_eq!(letters.len(), count, "dead letters");
                return letters;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn read(kafka: &KafkaSettings, topic: &str) -> Vec<OwnedMessage> {
    let mut reader = TopicReader::new(kafka, "reader", LIMIT).expect("a client");
    let partitions = reader.partitions(topic).expect("partitions");
    reader.open(topic, partitions.into_keys().map(Span::whole)).expect("opened");
    let mut records = Vec::new();
    let read = reader.to_end(|given| match given {
        Given::Record(record) => {
            records.push(record.detach());
            true
        }
        Given::Unread(unread) => panic!("reading {topic}: {unread}"),
    });
    read.expect("an end of every partition");
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
