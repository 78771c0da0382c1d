//! What an operator sees of waiting records, and may do to them.

use deadpool_postgres::GenericClient;
use tokio_postgres::{Error, Row};

use crate::{record::TopicPartition, status::ParkedStatus};

/// Waiting records as people see them, oldest first.
pub(crate) async fn list<C: GenericClient>(
    client: &C,
    consumer: &str,
    limit: i64,
) -> Result<Vec<ParkedStatus>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT topic, partition, \"offset\", key, event_id, attempts, due_at, error_code, error FROM parked
             WHERE consumer = $1 ORDER BY id LIMIT $2",
        )
        .await?;
    let rows = client.query(&statement, &[&consumer, &limit]).await?;
    let read = |row: &Row| ParkedStatus {
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

/// The head of a key's chain, the only one that runs; `$4` is the key.
const HEAD: &str =
    "id = (SELECT min(id) FROM parked WHERE consumer = $1 AND topic = $2 AND partition = $3 AND key = $4)";

/// Lets the head of a key's chain run now. False when nothing of that key waits.
pub(crate) async fn retry_now<C: GenericClient>(
    client: &C,
    consumer: &str,
    source: &TopicPartition,
    key: &[u8],
) -> Result<bool, Error> {
    let statement = format!("UPDATE parked SET due_at = now() WHERE {HEAD}");
    let changed = client.execute(&statement, &[&consumer, &&*source.topic, &source.partition, &key]).await?;
    Ok(changed > 0)
}

/// Gives the head of a key's chain up: it becomes a dead letter now, and its followers go on. False when nothing of that
/// key waits.
pub(crate) async fn give_up<C: GenericClient>(
    client: &C,
    consumer: &str,
    source: &TopicPartition,
    key: &[u8],
    reason: &str,
) -> Result<bool, Error> {
    let statement = format!("UPDATE parked SET due_at = now(), given_up = $5 WHERE {HEAD}");
    let changed =
        client.execute(&statement, &[&consumer, &&*source.topic, &source.partition, &key, &reason]).await?;
    Ok(changed > 0)
}
