//! The inbox: the final outcome of every event, authoritative.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use sha2::{Digest, Sha256};
use tokio_postgres::Error;
use uuid::Uuid;

/// An event about to be handled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InboxRow {
    pub(crate) event_id: Uuid,
    pub(crate) generation: i32,
    pub(crate) payload_hash: i64,
}

/// What the inbox says of an event that is not new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) dead: bool,
    pub(crate) generation: i32,
    pub(crate) payload_hash: i64,
}

/// Eight bytes of SHA-256 over the body: tells a redelivery from another body under the same id.
pub(crate) fn payload_hash(body: &[u8]) -> i64 {
    let hash = Sha256::digest(body);
    i64::from_be_bytes(hash[..8].try_into().expect("SHA-256 has 32 bytes"))
}

/// Registers `entries` (distinct ids) as applied, in one statement, and returns those that are new here: never seen, or
/// dead in an older generation. The others are duplicates.
pub(crate) async fn register<C: GenericClient>(
    client: &C,
    consumer: &str,
    entries: &[InboxRow],
    now: DateTime<Utc>,
) -> Result<Vec<Uuid>, Error> {
    let statement = client
        .prepare_cached(
            "INSERT INTO inbox (consumer, event_id, dead, generation, payload_hash, processed_at)
             SELECT $1, e.id, false, e.generation, e.hash, $5
             FROM unnest($2::uuid[], $3::int[], $4::bigint[]) AS e (id, generation, hash)
             ON CONFLICT (consumer, event_id) DO UPDATE
             SET dead = false, generation = excluded.generation, payload_hash = excluded.payload_hash,
                 processed_at = excluded.processed_at
             WHERE inbox.dead AND inbox.generation < excluded.generation
             RETURNING event_id",
        )
        .await?;
    let ids: Vec<Uuid> = entries.iter().map(|entry| entry.event_id).collect();
    let generations: Vec<i32> = entries.iter().map(|entry| entry.generation).collect();
    let hashes: Vec<i64> = entries.iter().map(|entry| entry.payload_hash).collect();
    let rows = client.query(&statement, &[&consumer, &ids, &generations, &hashes, &now]).await?;
    Ok(rows.into_iter().map(|row| row.get(0)).collect())
}

/// What the inbox says of `events`.
pub(crate) async fn known<C: GenericClient>(
    client: &C,
    consumer: &str,
    events: &[Uuid],
) -> Result<HashMap<Uuid, Known>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT event_id, dead, generation, payload_hash FROM inbox WHERE consumer = $1 AND event_id = ANY($2)",
        )
        .await?;
    let rows = client.query(&statement, &[&consumer, &events]).await?;
    let known = |row: &tokio_postgres::Row| Known {
        dead: row.get(1),
        generation: row.get(2),
        payload_hash: row.get(3),
    };
    Ok(rows.iter().map(|row| (row.get(0), known(row))).collect())
}

/// Corrects what [`register`] said before the outcomes were known: parked events are taken out again, dead ones marked.
pub(crate) async fn finish<C: GenericClient>(
    client: &C,
    consumer: &str,
    parked: &[Uuid],
    dead: &[Uuid],
) -> Result<(), Error> {
    if !parked.is_empty() {
        let statement =
            client.prepare_cached("DELETE FROM inbox WHERE consumer = $1 AND event_id = ANY($2)").await?;
        client.execute(&statement, &[&consumer, &parked]).await?;
    }
    if !dead.is_empty() {
        let statement = client
            .prepare_cached("UPDATE inbox SET dead = true WHERE consumer = $1 AND event_id = ANY($2)")
            .await?;
        client.execute(&statement, &[&consumer, &dead]).await?;
    }
    Ok(())
}
