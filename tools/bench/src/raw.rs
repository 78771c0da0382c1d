//! Consume and parse, on one thread: what no consumer can beat.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::Message;

use crate::{event::Event, servers::consumer, usage::Taken};

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn run(topic: &str, records: usize) -> Result<Taken> {
    let consumer = consumer(&[topic])?;
    let (mut first, mut amount) = (None, 0i64);
    for _ in 0..records {
        let message = consumer.poll(LIMIT).context("Kafka has no more records")??;
        first.get_or_insert_with(Instant::now);
        let event: Event = serde_json::from_slice(message.payload().unwrap_or_default())?;
        amount = amount.wrapping_add(event.amount);
    }
    std::hint::black_box(amount);
    Ok(Taken { records, time: first.context("no record")?.elapsed(), swept: 0 })
}
