//! What an operator may do to a lease.

use dead_letters::{NextOffset, TopicPartition};
use tokio_postgres::Error;

/// Stops a partition, or lets it go on, whoever owns it from now on. False when it was never claimed.
pub(crate) async fn set_paused(
    client: &deadpool_postgres::Client,
    consumer: &str,
    source: &TopicPartition,
    paused: bool,
) -> Result<bool, Error> {
    let statement =
        "UPDATE partition_lease SET paused = $4 WHERE consumer = $1 AND topic = $2 AND partition = $3";
    let changed =
        client.execute(statement, &[&consumer, &&*source.topic, &source.partition, &paused]).await?;
    Ok(changed > 0)
}

/// Where a partition is; `None` when it was never claimed.
pub(crate) async fn place(
    client: &deadpool_postgres::Client,
    consumer: &str,
    source: &TopicPartition,
) -> Result<Option<NextOffset>, Error> {
    let statement =
        "SELECT next_offset FROM partition_lease WHERE consumer = $1 AND topic = $2 AND partition = $3";
    let row = client.query_opt(statement, &[&consumer, &&*source.topic, &source.partition]).await?;
    Ok(row.map(|row| NextOffset(row.get(0))))
}

/// Moves a partition to `to` on the cluster `cluster_id`, if it is at `from` or that does not matter. Offsets skipped are counted
/// as lost, offsets gone back over as replayed; every owner is fenced out. Returns where it was; `None` when it was never claimed,
/// or is elsewhere.
pub(crate) async fn reset(
    client: &deadpool_postgres::Client,
    consumer: &str,
    source: &TopicPartition,
    from: Option<i64>,
    to: NextOffset,
    cluster_id: &str,
) -> Result<Option<NextOffset>, Error> {
    let statement = "UPDATE partition_lease AS lease
         SET next_offset = $4, lost = lease.lost + greatest($4 - lease.next_offset, 0),
             replayed = lease.replayed + greatest(lease.next_offset - $4, 0), epoch = lease.epoch + 1,
             cluster_id = $5, intent_offset = NULL, intent_parked = NULL, intent_until = NULL, intent_rows = NULL,
             deaths = 0, last_offset = NULL, last_timestamp_ms = NULL
         FROM (SELECT next_offset FROM partition_lease
               WHERE consumer = $1 AND topic = $2 AND partition = $3 FOR UPDATE) AS before
         WHERE consumer = $1 AND topic = $2 AND partition = $3 AND coalesce(before.next_offset = $6, true)
         RETURNING before.next_offset";
    let row = client
        .query_opt(statement, &[&consumer, &&*source.topic, &source.partition, &to.0, &cluster_id, &from])
        .await?;
    Ok(row.map(|row| NextOffset(row.get(0))))
}
