//! Where the servers are, and a database for each run.

use actors::KafkaSettings;
use anyhow::{Context, Result};
use deadpool_postgres::{Manager, Pool};
use rdkafka::ClientConfig;
use tokio_postgres::NoTls;
use uuid::Uuid;

/// Partitions of every topic here.
pub(crate) const PARTITIONS: i32 = 6;

pub(crate) fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: run `./dev bench runtime`"))
}

/// How the runtime reaches the brokers that the variable names.
pub(crate) fn kafka_settings() -> Result<KafkaSettings> {
    Ok(KafkaSettings { brokers: variable("KAFKA_BROKERS")?, properties: Vec::new() })
}

/// A Kafka client of the brokers that the variable names.
pub(crate) fn kafka() -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", variable("KAFKA_BROKERS")?);
    Ok(config)
}

/// A consumer of all of `topics` from their beginnings, tuned alike for every way that is written by hand.
pub(crate) fn consumer(topics: &[&str]) -> Result<rdkafka::consumer::BaseConsumer> {
    use rdkafka::{Offset, TopicPartitionList, consumer::Consumer};
    let consumer: rdkafka::consumer::BaseConsumer = kafka()?
        .set("group.id", "by-hand")
        .set("enable.auto.commit", "false")
        // As far ahead as memory allows: what it waits for is to be Kafka alone.
        .set("queued.min.messages", "1000000")
        .set("queued.max.messages.kbytes", "262144")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    let mut list = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// A pool on a database of its own, with the tables of the runtime and of the work.
pub(crate) async fn database() -> Result<Pool> {
    let admin: tokio_postgres::Config = variable("TEST_POSTGRES_URL")?.parse()?;
    let (client, connection) = admin.connect(NoTls).await.context("PostgreSQL does not answer")?;
    tokio::spawn(connection);
    let name = format!("bench_{}", Uuid::new_v4().simple());
    client.batch_execute(&format!("create database {name}")).await?;
    let mut config = admin;
    config.dbname(&name);
    let pool = Pool::builder(Manager::new(config, NoTls)).max_size(8).build()?;
    let mut client = pool.get().await?;
    actors::migrations().run_async(&mut **client).await?;
    let totals =
        "create table totals (key integer primary key, events bigint not null, amount bigint not null)";
    client.batch_execute(totals).await?;
    Ok(pool)
}
