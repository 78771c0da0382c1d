//! Orders of the time before it was noted who has placed them.

use deadpool_postgres::GenericClient;
use tokio_postgres::Error;

/// Orders noted by one statement.
const SOME: i64 = 2_000;

/// In the order of their ids, which is that of their time. One instance does it, for as long as it has the row. The rows are written before the
/// mark moves, in one statement.
const NOTE: &str = "
    with mark as materialized (select after from orders_noted where not done for update skip locked),
         older as materialized (
             select order_id, customer_id, correlation_id from orders
             where order_id > (select after from mark) order by order_id limit $1),
         customers as (insert into orders_by_customer select customer_id, order_id from older on conflict do nothing),
         correlations as (insert into orders_by_correlation select correlation_id, order_id from older on conflict do nothing)
    update orders_noted
    set after = coalesce((select order_id from older order by order_id desc limit 1), after),
        done = (select count(*) from older) < $1
    where exists (select from mark)
    returning done";

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// There may be more.
    Some,
    /// None is left.
    All,
    /// Another instance is at it.
    ByAnother,
}

/// Notes some.
///
/// # Errors
/// Of PostgreSQL.
pub async fn note_some<C: GenericClient>(client: &C) -> Result<Noted, Error> {
    let statement = client.prepare_cached(NOTE).await?;
    if let Some(row) = client.query_opt(&statement, &[&SOME]).await? {
        return Ok(if row.try_get("done")? { Noted::All } else { Noted::Some });
    }
    let statement = client.prepare_cached("select done from orders_noted").await?;
    let done: bool = client.query_one(&statement, &[]).await?.try_get(0)?;
    Ok(if done { Noted::All } else { Noted::ByAnother })
}
