//! Makes the records.

use anyhow::{Context, Result};
use rdkafka::producer::{FutureProducer, FutureRecord};
use uuid::Uuid;

use crate::{
    event::{Event, Fails},
    servers::{PARTITIONS, kafka, kafka_settings},
};

/// Topics with the same number of records in each, but for what the mix repeats.
#[derive(Debug)]
pub(crate) struct Topics {
    pub(crate) plain: String,
    pub(crate) mix: String,
    /// Records in the mix, repetitions included.
    pub(crate) mixed: usize,
}

/// Creates and fills them.
pub(crate) async fn topics(events: usize) -> Result<Topics> {
    let id = Uuid::new_v4().simple().to_string();
    let (plain, mix) = (format!("bench-{id}"), format!("bench-mix-{id}"));
    let settings = kafka_settings()?;
    let specs = [&plain, &mix].map(|name| actors::TopicSpec::new(name.as_str(), PARTITIONS));
    actors::ensure_topics(&settings, &specs, true).await.map_err(|cause| anyhow::anyhow!("{cause}"))?;
    let producer: FutureProducer = kafka()?
        .set("partitioner", "murmur2_random")
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "20")
        .set("queue.buffering.max.messages", "500000")
        .create()?;
    let mut sent = Vec::new();
    let mut mixed = 0;
    for n in 0..events {
        let body = serde_json::to_vec(&Event::new(n, Fails::Never))?;
        send(&producer, &plain, n, &body, &mut sent).await?;
        let (fails, poison, twice) = match n % 100 {
            7 => (Fails::Never, true, false),
            23 => (Fails::ForEver, false, false),
            41 | 83 => (Fails::Once, false, false),
            at => (Fails::Never, false, at % 20 == 9),
        };
        let event = Event::new(n, fails);
        let body = if poison { b"{not json".to_vec() } else { serde_json::to_vec(&event)? };
        for _ in 0..1 + usize::from(twice) {
            send(&producer, &mix, n, &body, &mut sent).await?;
            mixed += 1;
        }
    }
    for delivery in sent {
        delivery.await?.map_err(|(error, _)| error)?;
    }
    Ok(Topics { plain, mix, mixed })
}

async fn send(
    producer: &FutureProducer,
    topic: &str,
    n: usize,
    body: &[u8],
    sent: &mut Vec<rdkafka::producer::DeliveryFuture>,
) -> Result<()> {
    let key = Event::new(n, Fails::Never).key.to_string();
    let record = FutureRecord::<str, [u8]>::to(topic).key(&key).payload(body);
    sent.push(producer.send_result(record).map_err(|(error, _)| error).context("cannot enqueue")?);
    // Enough in flight; the first is the oldest.
    if sent.len() >= 200_000 {
        for delivery in sent.drain(..) {
            delivery.await?.map_err(|(error, _)| error)?;
        }
    }
    Ok(())
}
