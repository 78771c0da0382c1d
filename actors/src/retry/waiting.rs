//! What waits in `parked`, without its contents: what a lane keeps in memory, and what it asks of the table.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use dead_letters::TopicPartition;
use deadpool_postgres::GenericClient;
use tokio_postgres::{Error, Row};

use super::ChainKey;

/// A waiting record without its contents.
#[derive(Debug)]
pub(crate) struct ParkedRef {
    pub(crate) id: i64,
    pub(crate) key: ChainKey,
    pub(crate) due_at: DateTime<Utc>,
    /// Bytes of its contents.
    pub(crate) size: usize,
    /// It was put back.
    pub(crate) requeued: bool,
}

/// Which waiting records of a lane are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'a> {
    /// Behind this row, so many.
    Behind(i64, i64),
    /// Those that were put back, behind this row.
    Requeued(i64),
    /// These.
    These(&'a [i64]),
}

/// Waiting records of a lane, in order.
pub(crate) async fn refs<C: GenericClient>(
    client: &C,
    consumer: &str,
    source: &TopicPartition,
    wanted: Wanted<'_>,
) -> Result<Vec<ParkedRef>, Error> {
    const REFS: &str = "SELECT id, key, due_at, coalesce(octet_length(value), 0) + octet_length(headers),
                               requeued_from IS NOT NULL
                        FROM parked WHERE consumer = $1 AND topic = $2 AND partition = $3";
    let condition = match wanted {
        Wanted::Behind(..) => "id > $4 ORDER BY id LIMIT $5",
        Wanted::Requeued(_) => "id > $4 AND requeued_from IS NOT NULL ORDER BY id",
        Wanted::These(_) => "id = ANY($4) ORDER BY id",
    };
    let statement = client.prepare_cached(&format!("{REFS} AND {condition}")).await?;
    let (topic, partition) = (&*source.topic, source.partition);
    let rows = match wanted {
        Wanted::Behind(id, limit) => {
            client.query(&statement, &[&consumer, &topic, &partition, &id, &limit]).await?
        }
        Wanted::Requeued(id) => client.query(&statement, &[&consumer, &topic, &partition, &id]).await?,
        Wanted::These(ids) => client.query(&statement, &[&consumer, &topic, &partition, &ids]).await?,
    };
    let read = |row: &Row| ParkedRef {
        id: row.get(0),
        key: ChainKey::of(row.get(1), row.get(0)),
        due_at: row.get(2),
        size: usize::try_from(row.get::<_, i32>(3)).unwrap_or(0),
        requeued: row.get(4),
    };
    Ok(rows.iter().map(read).collect())
}

/// Which of `keys` have records waiting.
pub(crate) async fn waiting_keys<C: GenericClient>(
    client: &C,
    consumer: &str,
    source: &TopicPartition,
    keys: &[&[u8]],
) -> Result<HashSet<Box<[u8]>>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT DISTINCT key FROM parked WHERE consumer = $1 AND topic = $2 AND partition = $3
             AND sha256(key) IN (SELECT sha256(wanted.key) FROM unnest($4::bytea[]) AS wanted (key)) AND key = ANY($4)",
        )
        .await?;
    let rows = client.query(&statement, &[&consumer, &&*source.topic, &source.partition, &keys]).await?;
    Ok(rows.iter().map(|row| row.get::<_, &[u8]>(0).into()).collect())
}

/// How many put-back records wait in a lane, counted up to `most`.
pub(crate) async fn requeued_waiting<C: GenericClient>(
    client: &C,
    consumer: &str,
    source: &TopicPartition,
    most: i64,
) -> Result<i64, Error> {
    let statement = client
        .prepare_cached(
            "SELECT count(*) FROM (SELECT FROM parked WHERE consumer = $1 AND topic = $2 AND partition = $3
                                   AND requeued_from IS NOT NULL LIMIT $4) AS waiting",
        )
        .await?;
    let row = client.query_one(&statement, &[&consumer, &&*source.topic, &source.partition, &most]).await?;
    Ok(row.get(0))
}

/// So many rows that became due are told at once.
pub(crate) const NOTICED: usize = 1_000;

/// A row that is due.
#[derive(Debug)]
pub(crate) struct CameDue {
    pub(crate) source: TopicPartition,
    pub(crate) id: i64,
    pub(crate) due_at: DateTime<Utc>,
}

/// What became due after `since`, the latest first, and what time it is there: put back or hurried by somebody else, or known
/// to its lane. It costs as much as there is of it, however much waits.
pub(crate) async fn came_due<C: GenericClient>(
    client: &C,
    consumer: &str,
    since: DateTime<Utc>,
) -> Result<(DateTime<Utc>, Vec<CameDue>), Error> {
    let now = client.prepare_cached("SELECT clock_timestamp()").await?;
    let now: DateTime<Utc> = client.query_one(&now, &[]).await?.get(0);
    let statement = client
        .prepare_cached(
            "SELECT topic, partition, id, due_at FROM parked WHERE consumer = $1 AND due_at > $2 AND due_at <= $3
             ORDER BY due_at DESC LIMIT $4",
        )
        .await?;
    let most = i64::try_from(NOTICED).unwrap_or(i64::MAX);
    let rows = client.query(&statement, &[&consumer, &since, &now, &most]).await?;
    let read = |row: &Row| CameDue {
        source: TopicPartition::new(row.get::<_, &str>(0), row.get(1)),
        id: row.get(2),
        due_at: row.get(3),
    };
    Ok((now, rows.iter().map(read).collect()))
}
