//! `produce`.

use std::{collections::BTreeMap, io::Read as _, process::ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use devstack::{
    clients::topics::{self, Produced},
    topology::KAFKA_BROKERS,
};

use super::open::open_running;

#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    /// The topic
    topic: String,
    /// The record's key; without one the record promises no order
    key: Option<String>,
    /// A header; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// The partition, in place of the one that the key goes to
    #[arg(short, long)]
    partition: Option<i32>,
    /// How the record is compressed
    #[arg(short, long, default_value = "none", value_parser = ["none", "gzip", "snappy", "lz4", "zstd"])]
    compression: String,
    /// No value: a tombstone. Standard input is not read
    #[arg(long)]
    tombstone: bool,
}

/// Publishes standard input, as it is, as one record.
pub(crate) async fn produce(args: ProduceArgs) -> Result<ExitCode> {
    let stack = open_running()?;
    let mut headers = Vec::new();
    for header in &args.headers {
        let (name, value) = header.split_once('=').context("a header is NAME=VALUE")?;
        ensure!(!name.is_empty(), "a header is NAME=VALUE");
        headers.push((name, value.as_bytes()));
    }
    let brokers = stack.url(KAFKA_BROKERS)?.to_owned();
    // Before anybody types a value in vain.
    let known = tokio::task::spawn_blocking({
        let brokers = brokers.clone();
        move || topics::partitions(&brokers)
    });
    ensure_known(&known.await??, &args.topic, args.partition)?;
    let mut value = Vec::new();
    if !args.tombstone {
        std::io::stdin().lock().read_to_end(&mut value).context("standard input cannot be read")?;
    }
    let record = Produced {
        key: args.key.as_deref(),
        value: (!args.tombstone).then_some(value.as_slice()),
        headers,
        partition: args.partition,
        compression: &args.compression,
    };
    let (partition, offset) = topics::produce(&brokers, &args.topic, &record).await?;
    println!("{}/{partition} offset {offset}", args.topic);
    Ok(ExitCode::SUCCESS)
}

/// There is such a topic with such a partition. Kafka's own topics are not offered.
fn ensure_known(topics: &BTreeMap<String, usize>, topic: &str, partition: Option<i32>) -> Result<()> {
    let Some(count) = topics.get(topic) else {
        let there: Vec<&str> =
            topics.keys().map(String::as_str).filter(|name| !name.starts_with("__")).collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        bail!("there is no topic {topic}; there are: {there}");
    };
    let is_there = |partition: &i32| usize::try_from(*partition).is_ok_and(|partition| partition < *count);
    if let Some(partition) = partition.filter(|partition| !is_there(partition)) {
        bail!("{topic} has no partition {partition}, only 0 to {}", count.saturating_sub(1));
    }
    Ok(())
}
