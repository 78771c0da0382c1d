//! Orders as they are shown.

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use serde::Serialize;
use tokio_postgres::{Error, Row, types::ToSql};
use uuid::Uuid;

use super::{courier, stalled, status};
use crate::domain::{Courier, Stalled, Status};

/// An order as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// Its id.
    pub order_id: Uuid,
    /// Where it is.
    pub status: Status,
    /// Counts its changes.
    pub version: i64,
    /// Who ordered.
    pub customer_id: String,
    /// What.
    pub item: String,
    /// How many.
    pub quantity: i32,
    /// The whole price, in cents.
    pub amount_cents: i64,
    /// Why it is being refunded or was cancelled.
    pub reason: Option<String>,
    /// Who delivers.
    pub courier: Option<Courier>,
    /// The dead letter that keeps it from going on, until that is put back or its time is over.
    pub stalled: Option<Stalled>,
    /// Since when money may have to go back: null once it has, or where there was none.
    pub owed_since: Option<DateTime<Utc>>,
    /// What a person has to see to.
    pub attention: Option<Attention>,
    /// The conversation it started.
    pub correlation_id: String,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When an event last changed it.
    pub updated_at: DateTime<Utc>,
    /// Its events, in the order in which they became known here; left out of lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<serde_json::Value>,
}

/// What does not end by itself, or has not ended for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attention {
    /// A dead letter has to be put back: until then nothing more comes of it.
    DeadLetter,
    /// The money has not gone back for longer than ten minutes; it is tried for ever.
    RefundOverdue,
}

fn view(row: &Row, timeline: Option<serde_json::Value>) -> Result<Option<View>, Error> {
    let order_id = row.try_get("order_id")?;
    let (Some(status), Ok(stalled)) = (status(row)?, stalled(row)?) else {
        tracing::error!(%order_id, "an order's row holds what none may");
        return Ok(None);
    };
    let attention = match (&stalled, row.try_get("overdue")?) {
        (Some(_), _) => Some(Attention::DeadLetter),
        (None, true) => Some(Attention::RefundOverdue),
        (None, false) => None,
    };
    Ok(Some(View {
        order_id,
        status,
        version: row.try_get("version")?,
        customer_id: row.try_get("customer_id")?,
        item: row.try_get("item")?,
        quantity: row.try_get("quantity")?,
        amount_cents: row.try_get("amount_cents")?,
        reason: row.try_get("reason")?,
        courier: courier(row)?,
        stalled,
        owed_since: row.try_get("owed_since")?,
        attention,
        correlation_id: row.try_get("correlation_id")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        timeline,
    }))
}

/// Of every question: `overdue` compares with the database's clock.
macro_rules! select {
    ($more:literal, $($rest:tt)+) => {
        concat!(
            "select order_id, state, version, customer_id, item, quantity, amount_cents, reason, courier_id, courier, stalled,
                    owed_since, coalesce(owed_since < now() - interval '10 minutes', false) as overdue,
                    correlation_id, created_at, updated_at",
            $more,
            " from orders ",
            $($rest)+
        )
    };
}

const GET: &str = select!(", timeline", "where order_id = $1");

/// One order with its timeline.
///
/// # Errors
/// Of PostgreSQL.
pub async fn get<C: GenericClient>(client: &C, id: Uuid) -> Result<Option<View>, Error> {
    let statement = client.prepare_cached(GET).await?;
    let row = client.query_opt(&statement, &[&id]).await?;
    match row {
        Some(row) => view(&row, Some(row.try_get("timeline")?)),
        None => Ok(None),
    }
}

/// Which orders to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those in this state.
    pub status: Option<Status>,
    /// Those that wait for a dead letter, or those that do not.
    pub stalled: Option<bool>,
    /// Those of this customer.
    pub customer_id: Option<String>,
    /// Those of this conversation.
    pub correlation_id: Option<String>,
    /// Those placed before this one.
    pub after: Option<Uuid>,
}

/// What every list asks for.
macro_rules! list {
    ($of:literal, $order:literal) => {
        select!(
            "",
            concat!(
                $of,
                "($1::text is null or state = $1) and ($2::uuid is null or order_id < $2)
                 and ($4::boolean is null or (stalled is not null) = $4) order by ",
                $order,
                " desc limit $3"
            )
        )
    };
}

const LIST: &str = list!("where ", "order_id");
// Statements of their own, for which there are indexes of their own.
const LIST_STALLED: &str =
    list!("where stalled is not null and ($5::text is null or customer_id = $5) and ", "order_id");
const LIST_OF_CUSTOMER: &str = list!(
    "join (select order_id as found from orders_by_customer where customer_id = $5) as f on f.found = order_id
     where ($2::uuid is null or found < $2) and ",
    "found"
);
const LIST_OF_CORRELATION: &str = list!(
    "join (select order_id as found from orders_by_correlation where correlation_id = $5) as f on f.found = order_id
     where ($2::uuid is null or found < $2) and ($6::text is null or customer_id = $6) and ",
    "found"
);

/// Some orders.
#[derive(Clone, Debug)]
pub struct Page {
    /// They, the latest first.
    pub orders: Vec<View>,
    /// The last one that was looked at, where there are others after it.
    pub last: Option<Uuid>,
}

/// The latest orders that `filter` lets through, at most `limit`.
///
/// # Errors
/// Of PostgreSQL.
pub async fn list<C: GenericClient>(client: &C, filter: &Filter, limit: i64) -> Result<Page, Error> {
    let Filter { status, stalled, customer_id, correlation_id, after } = filter;
    let (status, one_more) = (status.map(Status::as_str), limit.saturating_add(1));
    let mut asked: Vec<&(dyn ToSql + Sync)> = vec![&status, after, &one_more, stalled];
    // The narrowest first: a customer may have many orders.
    let sql = match (correlation_id, stalled, customer_id) {
        (Some(correlation_id), ..) => {
            asked.extend([correlation_id as &(dyn ToSql + Sync), customer_id]);
            LIST_OF_CORRELATION
        }
        (None, Some(true), _) => {
            asked.push(customer_id);
            LIST_STALLED
        }
        (None, _, Some(_)) => {
            asked.push(customer_id);
            LIST_OF_CUSTOMER
        }
        (None, ..) => LIST,
    };
    let statement = client.prepare_cached(sql).await?;
    let mut rows = client.query(&statement, &asked).await?;
    let kept = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > kept;
    rows.truncate(kept);
    let last = rows.last().filter(|_| more).map(|row| row.try_get("order_id")).transpose()?;
    // One that cannot be shown hides no others, nor those behind it.
    let orders = rows.iter().filter_map(|row| view(row, None).transpose()).collect::<Result<_, _>>()?;
    Ok(Page { orders, last })
}

/// The versions of those of `ids` that exist.
///
/// # Errors
/// Of PostgreSQL.
pub async fn versions<C: GenericClient>(client: &C, ids: &[Uuid]) -> Result<Vec<(Uuid, i64)>, Error> {
    let statement =
        client.prepare_cached("select order_id, version from orders where order_id = any($1)").await?;
    let rows = client.query(&statement, &[&ids]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
