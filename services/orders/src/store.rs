//! All SQL of the orders service. Every statement takes arrays and is prepared once per connection.

mod closing;
pub mod keys;
mod noted;
mod shown;

use std::collections::{HashMap, HashSet};

use actors::{Cause, Loaded, Lock};
use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use tokio_postgres::{Error, Row, types::Json};
use uuid::Uuid;

pub use self::{
    closing::{Late, Overdue, Standing, overdue, standing},
    noted::{Noted, note_some},
    shown::{Filter, Page, View, get, list, versions},
};
use crate::{
    domain::{Courier, Facts, Order, Stalled, Status},
    timeline::TimelineEntry,
};

/// An order to be inserted, PENDING at version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrder {
    /// Its id, UUIDv7.
    pub order_id: Uuid,
    /// Who ordered.
    pub customer_id: String,
    /// What.
    pub item: String,
    /// How many.
    pub quantity: u32,
    /// The whole price, in cents.
    pub amount_cents: i64,
    /// How to pay.
    pub payment_token: Option<String>,
    /// The conversation it starts.
    pub correlation_id: String,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// Its first entry: ORDER_CREATED.
    pub created: TimelineEntry,
}

const INSERT: &str = "
    insert into orders (order_id, state, version, customer_id, item, quantity, amount_cents, payment_token,
                        correlation_id, timeline, created_at, updated_at)
    select order_id, 'PENDING', 1, customer_id, item, quantity, amount_cents, payment_token,
           correlation_id, jsonb_build_array(created), created_at, created_at
    from unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::bigint[], $6::text[], $7::text[], $8::jsonb[],
                $9::timestamptz[])
      as new (order_id, customer_id, item, quantity, amount_cents, payment_token, correlation_id, created, created_at)";

/// Inserts new orders.
///
/// # Errors
/// Of PostgreSQL.
pub async fn insert<C: GenericClient>(client: &C, orders: &[&NewOrder]) -> Result<(), Error> {
    let column = |of: fn(&NewOrder) -> &str| orders.iter().map(|order| of(order)).collect::<Vec<_>>();
    let ids: Vec<Uuid> = orders.iter().map(|order| order.order_id).collect();
    // The column is an integer and requests are limited to far less than it holds.
    let quantities: Vec<i32> =
        orders.iter().map(|order| i32::try_from(order.quantity).unwrap_or(i32::MAX)).collect();
    let amounts: Vec<i64> = orders.iter().map(|order| order.amount_cents).collect();
    let tokens: Vec<Option<&str>> = orders.iter().map(|order| order.payment_token.as_deref()).collect();
    let created: Vec<Json<&TimelineEntry>> = orders.iter().map(|order| Json(&order.created)).collect();
    let times: Vec<DateTime<Utc>> = orders.iter().map(|order| order.created_at).collect();
    let statement = client.prepare_cached(INSERT).await?;
    client
        .execute(
            &statement,
            &[
                &ids,
                &column(|order| &order.customer_id),
                &column(|order| &order.item),
                &quantities,
                &amounts,
                &tokens,
                &column(|order| &order.correlation_id),
                &created,
                &times,
            ],
        )
        .await?;
    Ok(())
}

/// Which of `ids` exist.
///
/// # Errors
/// Of PostgreSQL.
pub async fn existing<C: GenericClient>(client: &C, ids: &[Uuid]) -> Result<HashSet<Uuid>, Error> {
    let statement = client.prepare_cached("select order_id from orders where order_id = any($1)").await?;
    let rows = client.query(&statement, &[&ids]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// What [`order`] reads, and what else is asked for.
macro_rules! select_orders {
    ($more:literal, $rest:literal) => {
        concat!(
            "select order_id, state, version, reason, paid_cents, payment_failed, courier_id, courier, delivery_failed,
                    refunded_cents, cancelled, stalled, owed_since, created_at", $more, " from orders ",
            $rest
        )
    };
}
use select_orders;

const LOAD: &str = select_orders!("", "where order_id = any($1) order by order_id");
const LOAD_LOCKED: &str = select_orders!("", "where order_id = any($1) order by order_id for update");

/// The orders that exist among `ids`; locked in the order of their ids for an update.
///
/// # Errors
/// Of PostgreSQL.
pub async fn load<C: GenericClient>(
    client: &C,
    ids: &[Uuid],
    lock: Lock,
) -> Result<Loaded<Uuid, Order, ()>, Error> {
    let sql = match lock {
        Lock::None => LOAD,
        Lock::ForUpdate => LOAD_LOCKED,
    };
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, &[&ids]).await?;
    let mut loaded = Loaded::new(HashMap::new(), ());
    for row in &rows {
        let id = row.try_get("order_id")?;
        match order(row)? {
            Ok(order) => drop(loaded.states.insert(id, order)),
            Err(cause) => drop(loaded.unreadable.insert(id, cause)),
        }
    }
    Ok(loaded)
}

/// An error of PostgreSQL's where the table does not fit; a cause where this row holds what none may.
fn order(row: &Row) -> Result<Result<Order, Cause>, Error> {
    let Some(status) = status(row)? else {
        return Ok(Err(Cause::new("row", "its row in orders holds what none may")));
    };
    let facts = Facts {
        paid: row.try_get("paid_cents")?,
        payment_failed: row.try_get("payment_failed")?,
        courier: courier(row)?,
        delivery_failed: row.try_get("delivery_failed")?,
        refunded: row.try_get("refunded_cents")?,
        cancelled: row.try_get("cancelled")?,
    };
    let Ok(stalled) = stalled(row)? else {
        return Ok(Err(Cause::new("row", "its row in orders holds a `stalled` that is none")));
    };
    Ok(Ok(Order {
        status,
        reason: row.try_get("reason")?,
        version: row.try_get("version")?,
        facts,
        created_at: row.try_get("created_at")?,
        stalled,
        owed_since: row.try_get("owed_since")?,
        unsaved: Vec::new(),
        ended: false,
    }))
}

/// `None` where it is none there is.
fn status(row: &Row) -> Result<Option<Status>, Error> {
    Ok(Status::parse(row.try_get("state")?))
}

/// What keeps it from going on; the inner error where nobody can read it.
fn stalled(row: &Row) -> Result<Result<Option<Stalled>, serde_json::Error>, Error> {
    let stalled: Option<serde_json::Value> = row.try_get("stalled")?;
    Ok(stalled.map(serde_json::from_value).transpose())
}

fn courier(row: &Row) -> Result<Option<Courier>, Error> {
    let (id, name): (Option<i32>, Option<String>) = (row.try_get("courier_id")?, row.try_get("courier")?);
    Ok(id.zip(name).map(|(id, name)| Courier { id, name }))
}

const SAVE: &str = "
    update orders as o
    set state = n.state, version = n.version, reason = n.reason, paid_cents = n.paid_cents,
        payment_failed = n.payment_failed, courier_id = n.courier_id, courier = n.courier,
        delivery_failed = n.delivery_failed, refunded_cents = n.refunded_cents, cancelled = n.cancelled,
        stalled = n.stalled, owed_since = n.owed_since, timeline = o.timeline || n.news, updated_at = n.updated_at
    from unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::integer[], $8::text[],
                $9::text[], $10::bigint[], $11::text[], $12::jsonb[], $13::timestamptz[],
                $14::jsonb[], $15::timestamptz[])
      as n (order_id, state, version, reason, paid_cents, payment_failed, courier_id, courier, delivery_failed,
            refunded_cents, cancelled, stalled, owed_since, news, updated_at)
    where o.order_id = n.order_id";

/// Writes back orders that were loaded with a lock in the same transaction.
///
/// # Errors
/// Of PostgreSQL.
pub async fn save<C: GenericClient>(client: &C, changed: &[(Uuid, Order)]) -> Result<(), Error> {
    if changed.is_empty() {
        return Ok(());
    }
    let orders = || changed.iter().map(|(_, order)| order);
    let facts = || orders().map(|order| &order.facts);
    let ids: Vec<Uuid> = changed.iter().map(|(id, _)| *id).collect();
    let states: Vec<&str> = orders().map(|order| order.status.as_str()).collect();
    let versions: Vec<i64> = orders().map(|order| order.version).collect();
    let reasons: Vec<Option<&str>> = orders().map(|order| order.reason.as_deref()).collect();
    let paid: Vec<Option<i64>> = facts().map(|facts| facts.paid).collect();
    let payment_failed: Vec<Option<&str>> = facts().map(|facts| facts.payment_failed.as_deref()).collect();
    let courier_ids: Vec<Option<i32>> = facts().map(|facts| facts.courier.as_ref().map(|c| c.id)).collect();
    let couriers: Vec<Option<&str>> = facts().map(|f| f.courier.as_ref().map(|c| c.name.as_str())).collect();
    let delivery_failed: Vec<Option<&str>> = facts().map(|facts| facts.delivery_failed.as_deref()).collect();
    let refunded: Vec<Option<i64>> = facts().map(|facts| facts.refunded).collect();
    let cancelled: Vec<Option<&str>> = facts().map(|facts| facts.cancelled.as_deref()).collect();
    let stalled: Vec<Option<Json<&Stalled>>> =
        orders().map(|order| order.stalled.as_ref().map(Json)).collect();
    let owed: Vec<Option<DateTime<Utc>>> = orders().map(|order| order.owed_since).collect();
    let news: Vec<Json<&[TimelineEntry]>> = orders().map(|order| Json(&order.unsaved[..])).collect();
    let updated = |order: &Order| order.unsaved.last().map_or(order.created_at, |entry| entry.recorded_at);
    let times: Vec<DateTime<Utc>> = orders().map(updated).collect();
    let statement = client.prepare_cached(SAVE).await?;
    client
        .execute(
            &statement,
            &[
                &ids,
                &states,
                &versions,
                &reasons,
                &paid,
                &payment_failed,
                &courier_ids,
                &couriers,
                &delivery_failed,
                &refunded,
                &cancelled,
                &stalled,
                &owed,
                &news,
                &times,
            ],
        )
        .await?;
    Ok(())
}
