//! Orders that wait, and orders whose time is over.

use std::{collections::HashMap, time::Duration};

use actors::Loaded;
use deadpool_postgres::GenericClient;
use tokio_postgres::Error;
use uuid::Uuid;

use super::loaded;
use crate::domain::Order;

/// The oldest orders that have not ended within `time_out` and are not ending, at most `limit`: locked, without those that another
/// instance has locked for the same purpose, or an event just now.
///
/// They are found by their ids, in which the time of creation comes first: there is an index for states and ids as it is.
///
/// # Errors
/// Of PostgreSQL.
pub async fn overdue<C: GenericClient>(
    client: &C,
    time_out: Duration,
    limit: i64,
) -> Result<Loaded<Uuid, Order, ()>, Error> {
    const SQL: &str = "
        select order_id, state, version, reason, paid_cents, payment_failed, courier_id, courier, delivery_failed,
               refunded_cents, cancelled, stalled, created_at
        from orders
        where state in ('PENDING', 'PAID') and created_at < now() - $1::double precision * interval '1 second'
          -- The first 48 bits are milliseconds; a second more, for clocks that disagree.
          and order_id < (lpad(to_hex(((extract(epoch from now()) - $1::double precision + 1) * 1000)::bigint), 12, '0')
                          || repeat('0', 20))::uuid
        order by order_id limit $2 for update skip locked";
    let statement = client.prepare_cached(SQL).await?;
    let rows = client.query(&statement, &[&time_out.as_secs_f64(), &limit]).await?;
    loaded(&rows)
}

/// Orders in the order of their ids, each with the conversation that it began.
///
/// # Errors
/// Of PostgreSQL.
pub async fn with_correlation<C: GenericClient>(
    client: &C,
    ids: &[Uuid],
    mut orders: HashMap<Uuid, Order>,
) -> Result<Vec<(Uuid, Order, String)>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    const SQL: &str =
        "select order_id, correlation_id from orders where order_id = any($1) order by order_id";
    let statement = client.prepare_cached(SQL).await?;
    let mut found = Vec::with_capacity(ids.len());
    for row in client.query(&statement, &[&ids]).await? {
        let id = row.try_get(0)?;
        let correlation_id = row.try_get(1)?;
        found.extend(orders.remove(&id).map(|order| (id, order, correlation_id)));
    }
    Ok(found)
}

/// Orders that have not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    /// How many wait for a dead letter; those that have ended and whose money has not gone back, too.
    pub stalled: i64,
    /// Seconds since the oldest one that is PENDING was placed; 0 without one.
    pub pending: f64,
    /// The same of those that are PAID.
    pub paid: f64,
    /// Seconds since the first one that is REFUNDING became so.
    pub refunding: f64,
}

/// Those that wait just now.
///
/// # Errors
/// Of PostgreSQL.
pub async fn standing<C: GenericClient>(client: &C) -> Result<Standing, Error> {
    // Of the first two the index has the oldest; of the third there are few.
    const SQL: &str = "
        with since as (
            select (select created_at from orders where state = 'PENDING' order by order_id limit 1) as pending,
                   (select created_at from orders where state = 'PAID' order by order_id limit 1) as paid,
                   (select min(updated_at) from orders where state = 'REFUNDING') as refunding)
        select (select count(*) from orders where stalled is not null),
               coalesce(greatest(extract(epoch from now() - pending)::float8, 0), 0),
               coalesce(greatest(extract(epoch from now() - paid)::float8, 0), 0),
               coalesce(greatest(extract(epoch from now() - refunding)::float8, 0), 0)
        from since";
    let statement = client.prepare_cached(SQL).await?;
    let row = client.query_one(&statement, &[]).await?;
    Ok(Standing {
        stalled: row.try_get(0)?,
        pending: row.try_get(1)?,
        paid: row.try_get(2)?,
        refunding: row.try_get(3)?,
    })
}
