//! Orders that wait, and orders whose time is over.

use std::time::Duration;

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use tokio_postgres::{Error, types::ToSql};
use uuid::Uuid;

use super::{order, select_orders};
use crate::domain::{Order, Status};

/// Orders whose time is over.
#[derive(Clone, Copy, Debug)]
pub struct Overdue<'a> {
    /// PENDING or PAID.
    pub state: Status,
    /// How long an order may take.
    pub time_out: Duration,
    /// Up to when everything was heard that others say of orders. What lies unread may say that an order is delivered: so the time of
    /// one stands still while nobody reads, though not for longer than `grace`. `None` where nobody has read anything yet.
    pub heard: Option<DateTime<Utc>>,
    /// For so long at the most.
    pub grace: Duration,
    /// Those whose rows cannot be read.
    pub without: &'a [Uuid],
}

/// Orders whose time is over, the oldest first.
#[derive(Debug, Default)]
pub struct Late {
    /// They, each with the conversation that it began.
    pub orders: Vec<(Uuid, Order, String)>,
    /// Those whose rows hold what none may.
    pub unreadable: Vec<Uuid>,
}

/// The oldest orders that have not ended in time and are not ending, at most `limit`: locked, without those that another instance has
/// locked for the same purpose, or an event just now.
///
/// They are found by their ids, in which the time of creation comes first: the index of states and ids has them in this order.
///
/// # Errors
/// Of PostgreSQL.
pub async fn overdue<C: GenericClient>(client: &C, overdue: Overdue<'_>, limit: i64) -> Result<Late, Error> {
    const SQL: &str = select_orders!(
        ", correlation_id",
        "where state = $1 and order_id < $2 and created_at < $3 and order_id <> all ($4::uuid[])
         order by order_id limit $5 for update skip locked"
    );
    // By the database's clock.
    const BEFORE: &str = "
        select greatest(least(now(), coalesce($1::timestamptz, now())), now() - $3::float8 * interval '1 second')
               - $2::float8 * interval '1 second'";
    let Overdue { state, time_out, heard, grace, without } = overdue;
    let statement = client.prepare_cached(BEFORE).await?;
    let values: [&(dyn ToSql + Sync); 3] = [&heard, &time_out.as_secs_f64(), &grace.as_secs_f64()];
    let before: DateTime<Utc> = client.query_one(&statement, &values).await?.try_get(0)?;
    // The first 48 bits are milliseconds; a second more, for clocks that disagree.
    let millis = u64::try_from(before.timestamp_millis().saturating_add(1_000)).unwrap_or(0);
    let least = uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid();
    let statement = client.prepare_cached(SQL).await?;
    let mut late = Late::default();
    for row in client.query(&statement, &[&state.as_str(), &least, &before, &without, &limit]).await? {
        let id = row.try_get("order_id")?;
        match order(&row)? {
            Ok(order) => late.orders.push((id, order, row.try_get("correlation_id")?)),
            Err(_cause) => late.unreadable.push(id),
        }
    }
    Ok(late)
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
    /// Seconds for which money may have to go back, of the order of which that has been so for longest.
    pub owed: f64,
}

/// Those that wait just now.
///
/// # Errors
/// Of PostgreSQL.
pub async fn standing<C: GenericClient>(client: &C) -> Result<Standing, Error> {
    // Each is the first entry of an index.
    const SQL: &str = "
        with since as (
            select (select created_at from orders where state = 'PENDING' order by order_id limit 1) as pending,
                   (select created_at from orders where state = 'PAID' order by order_id limit 1) as paid,
                   (select min(owed_since) from orders where owed_since is not null) as owed)
        select (select count(*) from orders where stalled is not null),
               coalesce(greatest(extract(epoch from now() - pending)::float8, 0), 0),
               coalesce(greatest(extract(epoch from now() - paid)::float8, 0), 0),
               coalesce(greatest(extract(epoch from now() - owed)::float8, 0), 0)
        from since";
    let statement = client.prepare_cached(SQL).await?;
    let row = client.query_one(&statement, &[]).await?;
    Ok(Standing {
        stalled: row.try_get(0)?,
        pending: row.try_get(1)?,
        paid: row.try_get(2)?,
        owed: row.try_get(3)?,
    })
}
