//! The whole contents of dead letters of which Kafka took only the beginning.

use std::collections::HashSet;

use deadpool_postgres::GenericClient;
use tokio_postgres::Error;
use uuid::Uuid;

/// Of these letters, those whose contents are kept.
pub(crate) async fn kept_bodies<C: GenericClient>(
    client: &C,
    consumer: &str,
    letters: &[Uuid],
) -> Result<HashSet<Uuid>, Error> {
    let statement = client
        .prepare_cached("SELECT letter_id FROM dead_letter_body WHERE consumer = $1 AND letter_id = ANY($2)")
        .await?;
    let rows = client.query(&statement, &[&consumer, &letters]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Gives requeued records their contents back. They do not leave the database for it: they are large.
pub(crate) async fn restore_bodies<C: GenericClient>(
    client: &C,
    consumer: &str,
    letters: &[Uuid],
) -> Result<(), Error> {
    if letters.is_empty() {
        return Ok(());
    }
    let statement = client
        .prepare_cached(
            "UPDATE parked SET key = body.key, value = body.value, headers = body.headers
             FROM dead_letter_body AS body
             WHERE body.consumer = $1 AND body.letter_id = ANY($2)
               AND parked.consumer = $1 AND parked.requeued_from = body.letter_id",
        )
        .await?;
    client.execute(&statement, &[&consumer, &letters]).await?;
    Ok(())
}
