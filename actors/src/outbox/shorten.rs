//! Dead letters that are too large for their topic are shortened, once.
//!
//! A dead-letter topic of ours takes any record that is read. One that was made otherwise may not, and a letter that
//! cannot be written helps nobody: its beginning is, and the database keeps the whole.

use deadpool_postgres::GenericClient;
use tokio_postgres::Error;

use super::rows::page;
use dead_letters::{DeadLetter, Truncated, Whole, own_headers};

/// Shortens a row. False when it is no letter, or cannot be made smaller.
pub(super) async fn shorten<C: GenericClient>(client: &C, lane: &str, seq: i64) -> Result<bool, Error> {
    let Some(row) = page(client, lane, &[seq]).await?.pop() else { return Ok(false) };
    let Ok(letter) = DeadLetter::from_headers(&row.emit.headers) else { return Ok(false) };
    let headers = own_headers(&row.emit.headers);
    let whole = Whole { key: row.emit.key.as_deref(), value: row.emit.value.as_deref(), headers: &headers };
    if letter.truncated.is_some() || !whole.is_large() {
        return Ok(false);
    }
    let cut = whole.cut();
    let letter = DeadLetter { truncated: Truncated::from_headers(&cut.headers), ..letter };
    // What is large does not leave the database again.
    let statement = client
        .prepare_cached(
            "WITH kept AS (
                INSERT INTO dead_letter_body (consumer, letter_id, key, value, headers, kept_at)
                SELECT $3, $4, key, value, $5, now() FROM outbox WHERE lane = $1 AND seq = $2
                ON CONFLICT DO NOTHING
             )
             UPDATE outbox SET key = $6, value = $7, headers = $8 WHERE lane = $1 AND seq = $2",
        )
        .await?;
    let shortened = letter.to_headers(&cut.headers);
    client
        .execute(
            &statement,
            &[
                &lane,
                &seq,
                &letter.group,
                &letter.id,
                &headers.encoded(),
                &cut.key.as_deref(),
                &cut.value.as_deref(),
                &shortened.encoded(),
            ],
        )
        .await?;
    tracing::warn!(lane, seq, dead_letter_id = %letter.id, to = row.emit.topic, bytes = whole.size(),
        "a dead letter is too large for its topic; its beginning is published, the database keeps the whole");
    Ok(true)
}
