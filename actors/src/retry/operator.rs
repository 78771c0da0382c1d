//! What an operator sees of waiting records, and may do to them.

use dead_letters::TopicPartition;
use deadpool_postgres::GenericClient;
use tokio_postgres::{Error, Row};

use crate::status::{ParkedStatus, WhichParked};

/// Waiting records as people see them, oldest first.
pub(crate) async fn list<C: GenericClient>(
    client: &C,
    consumer: &str,
    limit: i64,
) -> Result<Vec<ParkedStatus>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT topic, partition, \"offset\", key, event_id, attempts, due_at, error_code, error, id FROM parked
             WHERE consumer = $1 ORDER BY id LIMIT $2",
        )
        .await?;
    let rows = client.query(&statement, &[&consumer, &limit]).await?;
    let read = |row: &Row| ParkedStatus {
        id: row.get(9),
        topic: row.get(0),
        partition: row.get(1),
        offset: row.get(2),
        key: row.get::<_, Option<&[u8]>>(3).map(|key| String::from_utf8_lossy(key).into_owned()),
        event_id: row.get(4),
        attempts: u32::try_from(row.get::<_, i32>(5)).unwrap_or(0),
        due_at: row.get(6),
        error: format!("{} [{}]", row.get::<_, &str>(8), row.get::<_, &str>(7)),
    };
    Ok(rows.iter().map(read).collect())
}

/// Where the record that is meant waits: its row, and the row that runs first. `None` when nothing of the kind waits.
pub(crate) async fn find<C: GenericClient>(
    client: &C,
    consumer: &str,
    source: &TopicPartition,
    which: &WhichParked,
) -> Result<Option<(i64, i64)>, Error> {
    const HEAD: &str = "SELECT min(id) FROM parked WHERE consumer = $1 AND topic = $2 AND partition = $3
         AND sha256(key) = sha256($4::bytea) AND key = $4";
    const ROW: &str =
        "SELECT key FROM parked WHERE consumer = $1 AND topic = $2 AND partition = $3 AND id = $4";
    let (topic, partition) = (&*source.topic, source.partition);
    let (wanted, key) = match which {
        WhichParked::Key(key) => (None, Some(key.as_bytes().to_vec())),
        WhichParked::Id(id) => {
            let Some(row) = client.query_opt(ROW, &[&consumer, &topic, &partition, id]).await? else {
                return Ok(None);
            };
            (Some(*id), row.get(0))
        }
    };
    // One without a key waits for nobody.
    let Some(key) = key else { return Ok(wanted.map(|id| (id, id))) };
    let head: Option<i64> = client.query_one(HEAD, &[&consumer, &topic, &partition, &key]).await?.get(0);
    Ok(head.map(|head| (wanted.unwrap_or(head), head)))
}

/// Lets a row run now; with a reason it becomes a dead letter instead. False when it is gone.
pub(crate) async fn hurry<C: GenericClient>(
    client: &C,
    id: i64,
    dead_letter: Option<&str>,
) -> Result<bool, Error> {
    let statement =
        "UPDATE parked SET due_at = clock_timestamp(), given_up = coalesce($2, given_up) WHERE id = $1";
    Ok(client.execute(statement, &[&id, &dead_letter]).await? > 0)
}
