//! The audit of the money: our ledger, the payment provider's own list, and what the orders have become.

use std::{collections::HashMap, fmt, time::Duration};

use anyhow::{Result, anyhow};
use chrono::{DateTime, Utc};
use payments::money::{self, Money};
use serde::Serialize;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{servers::postgres::connect, stack::Stack};

/// Orders that are named; of the others the number.
const NAMED: usize = 1_000;
/// Orders that are looked at together.
const PAGE: i64 = 1_000;

/// What is wrong with the money of one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The order.
    pub order_id: Uuid,
    /// Its state; none where there is no such order.
    pub state: Option<String>,
    /// What is wrong, in one word.
    pub difference: &'static str,
    /// The same for people.
    pub text: String,
    /// Cents that the provider holds of it.
    pub held_cents: i64,
}

/// What was compared and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Orders of which the provider or the ledger knows.
    pub orders: u64,
    /// Cents that the provider holds, of all of them.
    pub held_cents: i64,
    /// What is wrong, at most a thousand.
    pub differences: Vec<Difference>,
    /// Others.
    pub more: u64,
}

impl Report {
    /// Whether all of it adds up.
    pub fn is_clean(&self) -> bool {
        self.differences.is_empty() && self.more == 0
    }

    fn note(&mut self, difference: Difference) {
        if self.differences.len() < NAMED {
            self.differences.push(difference);
        } else {
            self.more += 1;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Difference { order_id, state, difference, text, held_cents } in &self.differences {
            let state = state.as_deref().unwrap_or("no order");
            writeln!(f, "{order_id}  {state:9}  {difference:21}  {held_cents:>10} cents held: {text}")?;
        }
        if self.more > 0 {
            writeln!(f, "and {} more", self.more)?;
        }
        let wrong = self.differences.len() as u64 + self.more;
        write!(
            f,
            "{} orders compared, the provider holds {}.{:02}: {}",
            self.orders,
            self.held_cents / 100,
            self.held_cents % 100,
            match wrong {
                0 => "ledger, provider and orders agree".to_owned(),
                wrong => format!("{wrong} do not add up"),
            }
        )
    }
}

/// An order, as far as its money is concerned.
struct Order {
    state: String,
    amount_cents: i64,
    /// What became of it is so old that its money should have followed.
    settled: bool,
}

/// Compares all of it. What has happened within `grace` may be on its way.
///
/// # Errors
/// When a database cannot be read. What does not add up is no error.
pub async fn run(stack: &Stack, grace: Duration) -> Result<Report> {
    let orders = connect(stack.url("ORDERS_DATABASE_URL")?).await?;
    let (provider, pool) = money::open(stack.url("PAYMENTS_DATABASE_URL")?)?;
    let settled = Utc::now() - grace;
    let mut report = Report::default();
    let mut after = Uuid::nil();
    loop {
        let page = money::page(&provider, &pool, after).await.map_err(|cause| anyhow!("{cause}"))?;
        let ids: Vec<Uuid> = page.orders.keys().copied().collect();
        let known = known(&orders, &ids, settled).await?;
        for (order_id, money) in &page.orders {
            report.orders += 1;
            report.held_cents += money.held();
            let order = known.get(order_id);
            if let Some((difference, text)) = wrong(money, order, settled) {
                let state = order.map(|order| order.state.clone());
                let held_cents = money.held();
                report.note(Difference { order_id: *order_id, state, difference, text, held_cents });
            }
        }
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    delivered_for_nothing(&orders, stack, &mut report).await?;
    Ok(report)
}

/// What is wrong with an order's money, if anything is.
fn wrong(money: &Money, order: Option<&Order>, settled: DateTime<Utc>) -> Option<(&'static str, String)> {
    if let Some(difference) = money.difference(settled) {
        return Some((difference.as_str(), difference.to_string()));
    }
    let held = money.held();
    match order {
        None if held > 0 => {
            Some(("no-order", "the provider holds money of an order that does not exist".into()))
        }
        Some(order) if order.settled && order.state == "CANCELLED" && held > 0 => {
            Some(("held", "the order is CANCELLED, and the provider still holds its money".into()))
        }
        Some(order) if order.settled && order.state == "COMPLETED" && held != order.amount_cents => {
            let text = format!("the order is COMPLETED and costs {} cents", order.amount_cents);
            Some(("not-its-price", text))
        }
        _ => None,
    }
}

async fn known(orders: &Client, ids: &[Uuid], settled: DateTime<Utc>) -> Result<HashMap<Uuid, Order>> {
    let sql = "select order_id, state, amount_cents, updated_at <= $2 from orders where order_id = any($1)";
    let rows = orders.query(sql, &[&ids, &settled]).await?;
    let order = |row: &tokio_postgres::Row| {
        let order = Order { state: row.try_get(1)?, amount_cents: row.try_get(2)?, settled: row.try_get(3)? };
        Ok((row.try_get(0)?, order))
    };
    rows.iter().map(order).collect()
}

/// Orders that are COMPLETED and of which the ledger has no charge at all.
async fn delivered_for_nothing(orders: &Client, stack: &Stack, report: &mut Report) -> Result<()> {
    let payments = connect(stack.url("PAYMENTS_DATABASE_URL")?).await?;
    let mut after = Uuid::nil();
    loop {
        let sql = "select order_id from orders where state = 'COMPLETED' and order_id > $1 order by order_id limit $2";
        let ids: Vec<Uuid> = orders
            .query(sql, &[&after, &PAGE])
            .await?
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()?;
        let Some(last) = ids.last() else { return Ok(()) };
        after = *last;
        let sql = "select id from unnest($1::uuid[]) as id
                   where not exists (select 1 from charges where order_id = id and kind = 'charge')";
        for row in payments.query(sql, &[&ids]).await? {
            report.note(Difference {
                order_id: row.try_get(0)?,
                state: Some("COMPLETED".into()),
                difference: "unpaid",
                text: "the order is COMPLETED, and nobody has paid for it".into(),
                held_cents: 0,
            });
        }
    }
}
