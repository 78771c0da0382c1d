//! Batch SQL as one would write it by hand for this one job: no claims, no retries, no dead letters, no accounts.
//!
//! Inbox, upsert and outbox are set-based in one transaction for up to 500 records of a partition; Redis is asked before and
//! told after. Nobody publishes the outbox: that is another job, which the runtime does meanwhile.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use deadpool_postgres::Pool;
use futures_util::future::try_join_all;
use rdkafka::Message;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    event::Event,
    servers::{PARTITIONS, consumer, database, variable},
    usage::Taken,
};

const BATCH: usize = 500;
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn run(topic: &str, records: usize) -> Result<Taken> {
    let pool = database().await?;
    let redis = redis::Client::open(variable("REDIS_URL")?)?.get_multiplexed_async_connection().await?;
    let (mut senders, mut workers) = (Vec::new(), Vec::new());
    for partition in 0..PARTITIONS {
        let (sender, receiver) = mpsc::channel(4_000);
        senders.push(sender);
        workers.push(tokio::spawn(work(partition, receiver, pool.clone(), redis.clone())));
    }
    let consumer = consumer(&[topic])?;
    let polling = tokio::task::spawn_blocking(move || -> Result<Instant> {
        let mut first = None;
        for _ in 0..records {
            let message = consumer.poll(LIMIT).context("Kafka has no more records")??;
            first.get_or_insert_with(Instant::now);
            let partition = usize::try_from(message.partition())?;
            senders[partition].blocking_send(message.payload().unwrap_or_default().to_vec())?;
        }
        first.context("no record")
    });
    let first = polling.await??;
    for worker in try_join_all(workers).await? {
        worker?;
    }
    let time = first.elapsed();
    let client = pool.get().await?;
    let applied: i64 = client.query_one("select sum(events)::bigint from totals", &[]).await?.get(0);
    anyhow::ensure!(usize::try_from(applied)? == records, "{applied} of {records} were applied");
    Ok(Taken { records, time, swept: 0 })
}

async fn work(
    partition: i32,
    mut receiver: mpsc::Receiver<Vec<u8>>,
    pool: Pool,
    mut redis: redis::aio::MultiplexedConnection,
) -> Result<()> {
    let (mut bodies, mut next_seq) = (Vec::with_capacity(BATCH), 1i64);
    while receiver.recv_many(&mut bodies, BATCH).await > 0 {
        let events: Vec<Event> =
            bodies.iter().map(|body| serde_json::from_slice(body)).collect::<Result<_, _>>()?;
        let mut seen = redis::cmd("MGET");
        for event in &events {
            seen.arg(format!("done:by-hand:{}", event.event_id));
        }
        let _guess: Vec<Option<u8>> = seen.query_async(&mut redis).await?;
        next_seq = commit(partition, &bodies, &events, &pool, next_seq).await?;
        let mut done = redis::pipe();
        for event in &events {
            let key = format!("done:by-hand:{}", event.event_id);
            done.cmd("SET").arg(key).arg(1).arg("EX").arg(3_600).ignore();
        }
        done.query_async::<()>(&mut redis).await?;
        bodies.clear();
    }
    Ok(())
}

async fn commit(
    partition: i32,
    bodies: &[Vec<u8>],
    events: &[Event],
    pool: &Pool,
    next_seq: i64,
) -> Result<i64> {
    let mut client = pool.get().await?;
    let tx = client.transaction().await?;
    let inbox = tx
        .prepare_cached(
            "insert into inbox (consumer, event_id, dead, generation, payload_hash, processed_at)
             select 'by-hand', id, false, 1, 0, now() from unnest($1::uuid[]) as e (id)
             on conflict do nothing returning event_id",
        )
        .await?;
    let ids: Vec<Uuid> = events.iter().map(|event| event.event_id).collect();
    let new: HashSet<Uuid> = tx.query(&inbox, &[&ids]).await?.iter().map(|row| row.get(0)).collect();
    let mut totals: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
    let mut values: Vec<&[u8]> = Vec::with_capacity(events.len());
    for (event, body) in events.iter().zip(bodies).filter(|(event, _)| new.contains(&event.event_id)) {
        let total = totals.entry(i32::try_from(event.key)?).or_default();
        *total = (total.0 + 1, total.1 + event.amount);
        values.push(body);
    }
    let upsert = tx
        .prepare_cached(
            "insert into totals (key, events, amount) select * from unnest($1::integer[], $2::bigint[], $3::bigint[])
             on conflict (key) do update set events = totals.events + excluded.events,
                                             amount = totals.amount + excluded.amount",
        )
        .await?;
    let keys: Vec<i32> = totals.keys().copied().collect();
    let (counts, amounts): (Vec<i64>, Vec<i64>) = totals.values().copied().unzip();
    tx.execute(&upsert, &[&keys, &counts, &amounts]).await?;
    let outbox = tx
        .prepare_cached(
            "insert into outbox (lane, seq, topic, key, value, headers, created_at)
             select $1, seq, 'out', null, value, '', now() from unnest($2::bigint[], $3::bytea[]) as r (seq, value)",
        )
        .await?;
    let last = next_seq + i64::try_from(values.len())?;
    let seqs: Vec<i64> = (next_seq..last).collect();
    tx.execute(&outbox, &[&format!("by-hand/{partition}"), &seqs, &values]).await?;
    tx.commit().await?;
    Ok(last)
}
