//! The `parked` table: records that wait, durable, with their attempts.

use std::time::Duration;

use chrono::{DateTime, Utc};
use dead_letters::{Headers, Offset, TopicPartition};
use deadpool_postgres::GenericClient;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::{Cause, record::Record};

/// A record about to be parked in its own lane.
#[derive(Debug)]
pub(crate) struct NewParked<'a> {
    pub(crate) record: &'a Record,
    pub(crate) event_id: Uuid,
    /// 0 for a follower.
    pub(crate) attempts: i32,
    pub(crate) crashes: i32,
    pub(crate) due_at: DateTime<Utc>,
    /// It was tried, and its time runs.
    pub(crate) failed: bool,
    /// Why it waits.
    pub(crate) cause: Cause,
}

/// A waiting record as it is run.
#[derive(Debug)]
pub(crate) struct ParkedRecord {
    pub(crate) id: i64,
    pub(crate) record: Record,
    pub(crate) generation: u32,
    pub(crate) requeued_from: Option<Uuid>,
    pub(crate) attempts: u32,
    pub(crate) crashes: u32,
    pub(crate) first_failed_at: Option<DateTime<Utc>>,
    /// When it was to run.
    pub(crate) due_at: DateTime<Utc>,
    /// Time since then in which it was not run although it was due, before it was tried last.
    pub(crate) downtime: Duration,
    /// Why it waits: what it failed with last.
    pub(crate) cause: Cause,
    /// Why an operator makes it a dead letter now.
    pub(crate) dead_letter: Option<String>,
}

/// A waiting record that has to wait again.
#[derive(Debug)]
pub(crate) struct Retried {
    pub(crate) id: i64,
    pub(crate) attempts: i32,
    /// It was tried, and its time runs.
    pub(crate) failed: bool,
    /// Its time begins anew: what it waited before was not its own failure.
    pub(crate) anew: bool,
    /// Time since it first failed that does not count.
    pub(crate) downtime: Duration,
    pub(crate) due_at: DateTime<Utc>,
    pub(crate) cause: Cause,
}

/// A requeued record on its way into the lane it first came from.
#[derive(Debug)]
pub(crate) struct Requeued {
    /// The record as it first was: its own place and headers.
    pub(crate) record: Record,
    pub(crate) event_id: Option<Uuid>,
    pub(crate) generation: i32,
    pub(crate) requeued_from: Uuid,
}

/// Parks records of the lane itself, in order. Returns their ids in the same order.
pub(crate) async fn insert<C: GenericClient>(
    client: &C,
    consumer: &str,
    source: &TopicPartition,
    parked: &[NewParked<'_>],
    now: DateTime<Utc>,
) -> Result<Vec<i64>, Error> {
    if parked.is_empty() {
        return Ok(Vec::new());
    }
    let statement = client
        .prepare_cached(
            "INSERT INTO parked (consumer, topic, partition, \"offset\", key, value, headers, timestamp_ms, event_id,
                                 generation, attempts, crashes, due_at, first_failed_at, error_code, error, parked_at)
             SELECT $1, $2, $3, p.off, p.key, p.value, p.headers, p.ts, p.event_id, 1, p.attempts, p.crashes, p.due_at,
                    CASE WHEN p.failed THEN $14::timestamptz END, p.code, p.error, $14
             FROM unnest($4::bigint[], $5::bytea[], $6::bytea[], $7::bytea[], $8::bigint[], $9::uuid[], $10::int[],
                         $11::int[], $12::timestamptz[], $13::text[], $15::text[], $16::bool[])
                  AS p (off, key, value, headers, ts, event_id, attempts, crashes, due_at, code, error, failed)
             ORDER BY p.off
             RETURNING id, \"offset\"",
        )
        .await?;
    let column = |f: fn(&NewParked<'_>) -> i64| parked.iter().map(f).collect::<Vec<_>>();
    let offsets = column(|p| p.record.offset.0);
    let keys: Vec<Option<&[u8]>> = parked.iter().map(|p| p.record.key.as_deref()).collect();
    let values: Vec<Option<&[u8]>> = parked.iter().map(|p| p.record.value.as_deref()).collect();
    let headers: Vec<&[u8]> = parked.iter().map(|p| p.record.headers.encoded()).collect();
    let timestamps = column(|p| p.record.timestamp_ms);
    let events: Vec<Uuid> = parked.iter().map(|p| p.event_id).collect();
    let attempts: Vec<i32> = parked.iter().map(|p| p.attempts).collect();
    let crashes: Vec<i32> = parked.iter().map(|p| p.crashes).collect();
    let due: Vec<DateTime<Utc>> = parked.iter().map(|p| p.due_at).collect();
    let codes: Vec<&str> = parked.iter().map(|p| &*p.cause.code).collect();
    let errors: Vec<&str> = parked.iter().map(|p| p.cause.message.as_str()).collect();
    let failed: Vec<bool> = parked.iter().map(|p| p.failed).collect();
    let mut rows = client
        .query(
            &statement,
            &[
                &consumer,
                &&*source.topic,
                &source.partition,
                &offsets,
                &keys,
                &values,
                &headers,
                &timestamps,
                &events,
                &attempts,
                &crashes,
                &due,
                &codes,
                &now,
                &errors,
                &failed,
            ],
        )
        .await?
        .iter()
        .map(|row| (row.get::<_, i64>(1), row.get::<_, i64>(0)))
        .collect::<Vec<_>>();
    // The batch is in order of offset, and so are the ids.
    rows.sort_unstable();
    Ok(rows.into_iter().map(|(_, id)| id).collect())
}

/// Moves requeued records into the lanes they first came from, due now.
pub(crate) async fn insert_requeued<C: GenericClient>(
    client: &C,
    consumer: &str,
    requeued: &[Requeued],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if requeued.is_empty() {
        return Ok(());
    }
    let statement = client
        .prepare_cached(
            "INSERT INTO parked (consumer, topic, partition, \"offset\", key, value, headers, timestamp_ms, event_id,
                                 generation, requeued_from, attempts, crashes, due_at, error_code, error, parked_at)
             SELECT $1, p.topic, p.partition, p.off, p.key, p.value, p.headers, p.ts, p.event_id, p.generation, p.letter,
                    0, 0, $12::timestamptz, 'requeued', 'put back from dead letter ' || p.letter, $12::timestamptz
             FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bytea[], $6::bytea[], $7::bytea[], $8::bigint[],
                         $9::uuid[], $10::int[], $11::uuid[])
                  WITH ORDINALITY
                  AS p (topic, partition, off, key, value, headers, ts, event_id, generation, letter, ord)
             ORDER BY p.ord",
        )
        .await?;
    let topics: Vec<&str> = requeued.iter().map(|r| &*r.record.source.topic).collect();
    let partitions: Vec<i32> = requeued.iter().map(|r| r.record.source.partition).collect();
    let offsets: Vec<i64> = requeued.iter().map(|r| r.record.offset.0).collect();
    let keys: Vec<Option<&[u8]>> = requeued.iter().map(|r| r.record.key.as_deref()).collect();
    let values: Vec<Option<&[u8]>> = requeued.iter().map(|r| r.record.value.as_deref()).collect();
    let headers: Vec<&[u8]> = requeued.iter().map(|r| r.record.headers.encoded()).collect();
    let timestamps: Vec<i64> = requeued.iter().map(|r| r.record.timestamp_ms).collect();
    let events: Vec<Option<Uuid>> = requeued.iter().map(|r| r.event_id).collect();
    let generations: Vec<i32> = requeued.iter().map(|r| r.generation).collect();
    let letters: Vec<Uuid> = requeued.iter().map(|r| r.requeued_from).collect();
    client
        .execute(
            &statement,
            &[
                &consumer,
                &topics,
                &partitions,
                &offsets,
                &keys,
                &values,
                &headers,
                &timestamps,
                &events,
                &generations,
                &letters,
                &now,
            ],
        )
        .await?;
    Ok(())
}

/// The records to run, in the order of `ids`. Rows that are gone are left out.
pub(crate) async fn fetch<C: GenericClient>(
    client: &C,
    source: &TopicPartition,
    ids: &[i64],
) -> Result<Vec<ParkedRecord>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT p.id, p.\"offset\", p.key, p.value, p.headers, p.timestamp_ms, p.generation, p.requeued_from, p.attempts,
                    p.crashes, p.first_failed_at, p.paused_ms, p.given_up, p.due_at, p.error_code, p.error
             FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, ord) JOIN parked p USING (id) ORDER BY wanted.ord",
        )
        .await?;
    let rows = client.query(&statement, &[&ids]).await?;
    Ok(rows.into_iter().map(|row| parked_record(source, &row)).collect())
}

fn parked_record(source: &TopicPartition, row: &Row) -> ParkedRecord {
    let count = |column: usize| u32::try_from(row.get::<_, i32>(column)).unwrap_or(0);
    let headers = Headers::from_encoded(row.get(4)).unwrap_or_else(|error| {
        tracing::error!(%error, "a parked record's headers are unreadable");
        Headers::new()
    });
    ParkedRecord {
        id: row.get(0),
        record: Record {
            source: source.clone(),
            offset: Offset(row.get(1)),
            timestamp_ms: row.get(5),
            key: row.get::<_, Option<Vec<u8>>>(2).map(Vec::into_boxed_slice),
            value: row.get::<_, Option<Vec<u8>>>(3).map(Vec::into_boxed_slice),
            headers,
        },
        generation: count(6),
        requeued_from: row.get(7),
        attempts: count(8),
        crashes: count(9),
        first_failed_at: row.get(10),
        downtime: Duration::from_millis(u64::try_from(row.get::<_, i64>(11)).unwrap_or(0)),
        dead_letter: row.get(12),
        due_at: row.get(13),
        cause: Cause::new(row.get::<_, String>(14), row.get::<_, String>(15)),
    }
}

/// Notes that each has to wait again.
pub(crate) async fn retry<C: GenericClient>(
    client: &C,
    retried: &[Retried],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if retried.is_empty() {
        return Ok(());
    }
    let statement = client
        .prepare_cached(
            "UPDATE parked SET attempts = r.attempts, due_at = r.due_at, error_code = r.code, error = r.error,
                    first_failed_at = CASE WHEN r.anew THEN $6::timestamptz
                        WHEN r.failed THEN coalesce(first_failed_at, $6) ELSE first_failed_at END,
                    paused_ms = r.downtime
             FROM unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::text[], $5::text[], $7::bool[], $8::bool[],
                         $9::bigint[])
                  AS r (id, attempts, due_at, code, error, failed, anew, downtime)
             WHERE parked.id = r.id",
        )
        .await?;
    let ids: Vec<i64> = retried.iter().map(|r| r.id).collect();
    let attempts: Vec<i32> = retried.iter().map(|r| r.attempts).collect();
    let due: Vec<DateTime<Utc>> = retried.iter().map(|r| r.due_at).collect();
    let codes: Vec<&str> = retried.iter().map(|r| &*r.cause.code).collect();
    let errors: Vec<&str> = retried.iter().map(|r| r.cause.message.as_str()).collect();
    let failed: Vec<bool> = retried.iter().map(|r| r.failed).collect();
    let anew: Vec<bool> = retried.iter().map(|r| r.anew).collect();
    let downtime = retried.iter().map(|r| i64::try_from(r.downtime.as_millis()).unwrap_or(i64::MAX));
    let downtime: Vec<i64> = downtime.collect();
    client
        .execute(&statement, &[&ids, &attempts, &due, &codes, &errors, &now, &failed, &anew, &downtime])
        .await?;
    Ok(())
}

/// Records that ended otherwise.
pub(crate) async fn delete<C: GenericClient>(client: &C, ids: &[i64]) -> Result<(), Error> {
    if ids.is_empty() {
        return Ok(());
    }
    let statement = client.prepare_cached("DELETE FROM parked WHERE id = ANY($1)").await?;
    client.execute(&statement, &[&ids]).await?;
    Ok(())
}

/// Counts a dead actor against each of `alone`; those it had in company are held guilty once at most.
pub(crate) async fn count_crash<C: GenericClient>(
    client: &C,
    alone: &[i64],
    company: &[i64],
) -> Result<(), Error> {
    let statement = client
        .prepare_cached(
            "UPDATE parked SET crashes = CASE WHEN id = ANY($1) THEN crashes + 1 ELSE greatest(crashes, 1) END
             WHERE id = ANY($1) OR id = ANY($2)",
        )
        .await?;
    client.execute(&statement, &[&alone, &company]).await?;
    Ok(())
}
