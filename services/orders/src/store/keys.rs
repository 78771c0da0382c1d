//! The keys of requests: claimed in the transaction that places their orders, forgotten after a day.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use tokio_postgres::Error;
use uuid::Uuid;

use crate::idempotency::{Held, KEPT, Key};

/// Rows forgotten by one statement.
const FORGET: i64 = 5_000;

/// In the order of their names, so that two instances with the same keys wait for each other and do not lock each other out.
const CLAIM: &str = "
    insert into idempotency as old (subject, key, body_sha256, order_id, created_at)
    select * from unnest($1::text[], $2::text[], $3::bytea[], $4::uuid[], $5::timestamptz[]) order by 1, 2
    on conflict (subject, key) do update
    set body_sha256 = excluded.body_sha256, order_id = excluded.order_id, created_at = excluded.created_at
    where old.created_at < excluded.created_at - $6::bigint * interval '1 second'";

const HELD: &str = "
    select subject, key, order_id, body_sha256 from idempotency
    where (subject, key) in (select * from unnest($1::text[], $2::text[]))";

/// Gives each key to the order it comes with, unless it is known: then waits until whoever has it just now is done. Returns what each
/// stands for then. Of a key that comes more than once the first counts.
///
/// # Errors
/// Of PostgreSQL.
pub async fn claim<C: GenericClient>(
    client: &C,
    wanted: &[(&Key, Uuid, DateTime<Utc>)],
) -> Result<HashMap<(String, String), Held>, Error> {
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let mut first: HashMap<(&str, &str), &(&Key, Uuid, DateTime<Utc>)> = HashMap::new();
    for one in wanted {
        first.entry(one.0.name()).or_insert(one);
    }
    let subjects: Vec<&str> = first.keys().map(|name| name.0).collect();
    let keys: Vec<&str> = first.keys().map(|name| name.1).collect();
    let bodies: Vec<&[u8]> = first.values().map(|one| &one.0.body[..]).collect();
    let orders: Vec<Uuid> = first.values().map(|one| one.1).collect();
    let times: Vec<DateTime<Utc>> = first.values().map(|one| one.2).collect();
    let statement = client.prepare_cached(CLAIM).await?;
    let claimed =
        client.execute(&statement, &[&subjects, &keys, &bodies, &orders, &times, &seconds()]).await?;
    if usize::try_from(claimed) == Ok(first.len()) {
        // Nearly always.
        let held = |one: &&(&Key, Uuid, DateTime<Utc>)| Held { order_id: one.1, body: one.0.body.to_vec() };
        let name = |one: &&(&Key, Uuid, DateTime<Utc>)| (one.0.subject.clone(), one.0.key.clone());
        return Ok(first.values().map(|one| (name(one), held(one))).collect());
    }
    // A statement of its own, which sees what was committed while the one before waited.
    let statement = client.prepare_cached(HELD).await?;
    let rows = client.query(&statement, &[&subjects, &keys]).await?;
    rows.iter()
        .map(|row| {
            let held = Held { order_id: row.try_get(2)?, body: row.try_get(3)? };
            Ok(((row.try_get(0)?, row.try_get(1)?), held))
        })
        .collect()
}

/// Deletes some of the keys that are not known any more; whether there may be others.
///
/// # Errors
/// Of PostgreSQL.
pub async fn forget<C: GenericClient>(client: &C, now: DateTime<Utc>) -> Result<bool, Error> {
    // Later than they may be taken anew: nobody who looks for one finds it gone.
    const SQL: &str = "
        with old as materialized (
            select subject, key from idempotency
            where created_at < $1::timestamptz - ($2::bigint + 3600) * interval '1 second'
            order by created_at limit $3 for update skip locked)
        delete from idempotency as one using old where one.subject = old.subject and one.key = old.key";
    let statement = client.prepare_cached(SQL).await?;
    let deleted = client.execute(&statement, &[&now, &seconds(), &FORGET]).await?;
    Ok(i64::try_from(deleted).is_ok_and(|deleted| deleted >= FORGET))
}

fn seconds() -> i64 {
    i64::try_from(KEPT.as_secs()).unwrap_or(i64::MAX)
}
