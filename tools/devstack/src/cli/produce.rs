//! `produce`.

use std::{io::Read as _, process::ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;
use devstack::{
    clients::topics::{self, Produced},
    topology::KAFKA_BROKERS,
};

use super::stack;

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
    let stack = stack::open_running()?;
    let mut headers = Vec::new();
    for header in &args.headers {
        let (name, value) = header.split_once('=').context("a header is NAME=VALUE")?;
        ensure!(!name.is_empty(), "a header is NAME=VALUE");
        headers.push((name, value.as_bytes()));
    }
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
    let (partition, offset) = topics::produce(stack.url(KAFKA_BROKERS)?, &args.topic, &record).await?;
    println!("{}/{partition} offset {offset}", args.topic);
    Ok(ExitCode::SUCCESS)
}
