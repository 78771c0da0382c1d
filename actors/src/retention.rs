//! Forgets what has ended long ago, a little at a time.
//!
//! The inbox must remember an event for as long as it may come again, and no longer: it is the one table that grows with
//! every record. One that was ever dead may be put back for as long as its dead letter is kept, also after it was applied. Small batches, so that no statement holds rows or the log for long.

use deadpool_postgres::Client;
use tokio_postgres::Error;

use crate::settings::RetentionSettings;

/// Deletes one batch of each kind that is old enough. True when there may be more.
pub(crate) async fn sweep(client: &Client, group: &str, settings: &RetentionSettings) -> Result<bool, Error> {
    const APPLIED: &str = "DELETE FROM inbox WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM inbox WHERE consumer = $1 AND NOT dead AND generation = 1
            AND processed_at < now() - make_interval(secs => $2) LIMIT $3))";
    const DEAD: &str = "DELETE FROM inbox WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM inbox WHERE consumer = $1 AND (dead OR generation > 1)
            AND processed_at < now() - make_interval(secs => $2) LIMIT $3))";
    const JOURNAL: &str = "DELETE FROM offset_journal WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM offset_journal WHERE consumer = $1
            AND at < now() - make_interval(secs => $2) LIMIT $3))";
    let mut more = false;
    for (statement, age) in [(APPLIED, settings.inbox), (DEAD, settings.dead), (JOURNAL, settings.inbox)] {
        let statement = client.prepare_cached(statement).await?;
        let deleted = client.execute(&statement, &[&group, &age.as_secs_f64(), &settings.batch]).await?;
        more |= i64::try_from(deleted) == Ok(settings.batch);
    }
    Ok(more)
}
