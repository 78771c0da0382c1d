//! A batch on the broker's disk is damaged after everybody has read it: the audit names it and proves the rest.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
    time::Duration,
};

use ::audit::{Audit, Kind};
use anyhow::{Context, Result, bail, ensure};
use chrono::Utc;
use contracts::{
    Envelope, OrderCancelled,
    topics::{DELIVERY_GROUP, ORDERS, PAYMENTS_GROUP},
};
use devstack::{
    audit,
    servers::kafka,
    testing::{self, Trial},
    topology::KAFKA_BROKERS,
};
use futures_util::future::try_join_all;
use rdkafka::producer::{FutureProducer, FutureRecord};
use uuid::Uuid;

use crate::SETTINGS;

const RECORDS: i64 = 3;

/// Publishes events that nobody is charged for, as one compressed batch: its key, partition and first offset.
async fn batch(trial: &Trial) -> Result<(String, i32, i64)> {
    let mut config = kafka::client(trial.stack.url(KAFKA_BROKERS)?);
    config.set("partitioner", "murmur2_random").set("compression.type", "lz4").set("linger.ms", "300");
    let producer: FutureProducer = config.create()?;
    let order_id = Uuid::new_v4();
    let key = order_id.to_string();
    let event = || Envelope {
        event_id: Uuid::now_v7(),
        occurred_at: Utc::now(),
        correlation_id: "edge-damage".into(),
        causation_id: None,
        event: OrderCancelled { order_id, order_version: 2, reason: "edge ".repeat(100) }.into(),
    };
    let events: Vec<Vec<u8>> = (0..RECORDS).map(|_| event().to_json()).collect();
    let sent = events.iter().map(|event| async {
        let record = FutureRecord::to(ORDERS).key(&key).payload(event);
        producer.send(record, Duration::from_secs(10)).await.map_err(|(error, _)| error)
    });
    let sent = try_join_all(sent).await?;
    let first = sent.iter().map(|delivery| delivery.offset).min().context("nothing was sent")?;
    let partition = sent[0].partition;
    Ok((key, partition, first))
}

/// A byte on disk that is the opposite of what it was until this is dropped.
struct Damage {
    file: File,
    at: u64,
    byte: u8,
}

impl Damage {
    /// Damages the compressed records of the batch that begins at `offset`.
    fn new(segment: &Path, offset: i64) -> Result<Self> {
        let bytes = fs::read(segment).with_context(|| format!("{} cannot be read", segment.display()))?;
        let mut at = 0;
        // A batch is its first offset, its length from there on, 49 bytes more, and its records.
        while let Some(head) = bytes.get(at..at + 12) {
            let first = i64::from_be_bytes(head[..8].try_into()?);
            if first == offset {
                ensure!(bytes[at + 22] & 7 == 3, "the batch is not compressed with lz4");
                let file = OpenOptions::new().write(true).open(segment)?;
                let damage = Self { file, at: u64::try_from(at + 61)?, byte: bytes[at + 61] };
                damage.file.write_at(&[!damage.byte], damage.at)?;
                return Ok(damage);
            }
            at += 12 + usize::try_from(i32::from_be_bytes(head[8..].try_into()?))?;
        }
        bail!("no batch of {} begins at offset {offset}", segment.display())
    }
}

impl Drop for Damage {
    fn drop(&mut self) {
        self.file.write_at(&[self.byte], self.at).expect("the batch is mended for the other tests");
    }
}

async fn audited(trial: &Trial) -> Result<Audit> {
    audit::run(&trial.stack, audit::retention()).await
}

#[test]
fn the_audit_names_a_record_that_cannot_be_read_and_proves_the_rest() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let (key, partition, first) = batch(trial).await?;
        // The services look at the last record of a partition again and again: let that be another one.
        let after = trial.publish(ORDERS, &key, Some(b"no json")).await?;
        for group in [PAYMENTS_GROUP, DELIVERY_GROUP] {
            trial.read_past(group, ORDERS, (partition, first + RECORDS - 1)).await?;
            trial.read_past(group, ORDERS, after).await?;
        }
        trial.totals("still", |totals| totals.is_still() && totals.unaccounted() == 0).await?;
        let sound = audited(trial).await?;
        ensure!(sound.is_clean(), "{sound}");

        let directory = trial.stack.dir().join("data/kafka/data").join(format!("{ORDERS}-{partition}"));
        let damage = Damage::new(&directory.join("00000000000000000000.log"), first)?;
        let audit = audited(trial).await?;
        drop(damage);
        ensure!(!audit.is_clean(), "a batch is damaged: {audit}");
        // Two groups read the topic, and each has the same gap.
        let said: Vec<_> = audit
            .problems
            .iter()
            .map(|problem| {
                (problem.kind, problem.topic.as_str(), problem.partition, problem.offset, problem.offsets)
            })
            .collect();
        ensure!(said == [(Kind::Unread, ORDERS, partition, Some(first), RECORDS); 2], "{audit}");
        let all = sound.proved - 2 * RECORDS;
        ensure!(audit.proved == all, "{} offsets are proved, not {all}: {audit}", audit.proved);
        let words = format!("offsets {first} to {} cannot be read", first + RECORDS - 1);
        ensure!(audit.to_string().contains(&words), "{audit}");

        let mended = audited(trial).await?;
        ensure!(mended.is_clean() && mended.proved == sound.proved, "{mended}");
        Ok(())
    })
}
