//! The outbox table, set-based.

use std::time::Duration;

use dead_letters::Headers;
use deadpool_postgres::GenericClient;
use tokio_postgres::Error;

use crate::event::Emit;

/// Largest record, key, value and headers together, in bytes, that may be emitted: what Kafka's default
/// `message.max.bytes` (1,048,588) takes, with room for the record's framing.
pub const MAX_RECORD: usize = 1_000_000;

/// A row as the table has it, without its contents.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) seq: i64,
    pub(crate) topic: String,
    /// Time since it was written.
    pub(crate) age: Duration,
}

/// Bytes read from the table at once.
const PAGE_BYTES: i64 = 8 << 20;

/// A row with its number in the lane.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) seq: i64,
    pub(crate) emit: Emit,
}

/// Rows of a lane by their numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: i64,
    pub(crate) last: i64,
}

/// Inserts rows.
pub(crate) async fn insert<C: GenericClient>(client: &C, lane: &str, rows: &[Row]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = client
        .prepare_cached(
            "INSERT INTO outbox (lane, seq, topic, key, value, headers, created_at)
             SELECT $1, r.seq, r.topic, r.key, r.value, r.headers, now()
             FROM unnest($2::bigint[], $3::text[], $4::bytea[], $5::bytea[], $6::bytea[])
                  AS r (seq, topic, key, value, headers)",
        )
        .await?;
    let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
    let topics: Vec<&str> = rows.iter().map(|row| row.emit.topic.as_str()).collect();
    let keys: Vec<Option<&[u8]>> = rows.iter().map(|row| row.emit.key.as_deref()).collect();
    let values: Vec<Option<&[u8]>> = rows.iter().map(|row| row.emit.value.as_deref()).collect();
    let headers: Vec<&[u8]> = rows.iter().map(|row| row.emit.headers.encoded()).collect();
    client.execute(&statement, &[&lane, &seqs, &topics, &keys, &values, &headers]).await?;
    Ok(())
}

/// Deletes what Kafka has acknowledged.
pub(crate) async fn delete<C: GenericClient>(client: &C, lane: &str, rows: Span) -> Result<(), Error> {
    // Without its lower end PostgreSQL looks at every row of the lane that was deleted before and not yet vacuumed.
    let statement =
        client.prepare_cached("DELETE FROM outbox WHERE lane = $1 AND seq BETWEEN $2 AND $3").await?;
    client.execute(&statement, &[&lane, &rows.first, &rows.last]).await?;
    Ok(())
}

/// The number of the lane's last row; 0 when it has none.
pub(crate) async fn last<C: GenericClient>(client: &C, lane: &str) -> Result<i64, Error> {
    let statement = client.prepare_cached("SELECT coalesce(max(seq), 0) FROM outbox WHERE lane = $1").await?;
    Ok(client.query_one(&statement, &[&lane]).await?.get(0))
}

/// All rows of a lane, without their contents.
pub(crate) async fn list<C: GenericClient>(client: &C, lane: &str) -> Result<Vec<Listed>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT seq, topic, extract(epoch FROM clock_timestamp() - created_at)::float8
             FROM outbox WHERE lane = $1 ORDER BY seq",
        )
        .await?;
    let rows = client.query(&statement, &[&lane]).await?;
    let age = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let listed =
        |row: &tokio_postgres::Row| Listed { seq: row.get(0), topic: row.get(1), age: age(row.get(2)) };
    Ok(rows.iter().map(listed).collect())
}

/// The lane's rows of these numbers, in order: as many of the first as fit in [`PAGE_BYTES`], but at least one.
pub(crate) async fn page<C: GenericClient>(client: &C, lane: &str, seqs: &[i64]) -> Result<Vec<Row>, Error> {
    // Sizes are known without reading what is large: only what is returned is.
    let statement = client
        .prepare_cached(
            "SELECT seq, topic, key, value, headers FROM (
                SELECT *, sum(coalesce(octet_length(value), 0) + coalesce(octet_length(key), 0) + octet_length(headers))
                              OVER (ORDER BY seq) AS bytes,
                       row_number() OVER (ORDER BY seq) AS number
                FROM outbox WHERE lane = $1 AND seq = ANY($2)
             ) AS page
             WHERE bytes <= $3 OR number = 1 ORDER BY seq",
        )
        .await?;
    let rows = client.query(&statement, &[&lane, &seqs, &PAGE_BYTES]).await?;
    Ok(rows
        .into_iter()
        .map(|row| Row {
            seq: row.get(0),
            emit: Emit {
                topic: row.get(1),
                key: row.get(2),
                value: row.get(3),
                headers: Headers::from_encoded(row.get(4)).unwrap_or_else(|error| {
                    // Only a hand that is not ours can have written this; the record matters more than its headers.
                    tracing::error!(lane, seq = row.get::<_, i64>(0), %error, "an outbox row's headers are unreadable");
                    Headers::new()
                }),
            },
        })
        .collect())
}
