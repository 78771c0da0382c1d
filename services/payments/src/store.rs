//! All SQL of the payments service: arrays in, rows out.

use std::collections::HashMap;

use actors::{Cause, Loaded, Lock};
use deadpool_postgres::GenericClient;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::{
    domain::{Charge, Payment, Status},
    provider::Reference,
};

const LOAD: &str = "select order_id, state, order_version, amount_cents, provider_reference, failure_reason, updated_at \
     from payments where order_id = any($1) order by order_id";
const LOAD_LOCKED: &str = "select order_id, state, order_version, amount_cents, provider_reference, failure_reason, \
     updated_at from payments where order_id = any($1) order by order_id for update";
const SAVE: &str = "insert into payments (order_id, state, order_version, amount_cents, provider_reference, \
     failure_reason, updated_at) \
     select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], \
     $7::timestamptz[]) \
     on conflict (order_id) do update set state = excluded.state, order_version = excluded.order_version, \
     amount_cents = excluded.amount_cents, provider_reference = excluded.provider_reference, \
     failure_reason = excluded.failure_reason, updated_at = excluded.updated_at";
/// No `on conflict`: a second charge or refund of an order has to fail loudly.
const BOOK: &str = "insert into charges (order_id, kind, amount_cents, provider_key, provider_reference, at) \
     select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::timestamptz[])";

/// The payments of `orders`, those that have one.
pub async fn load<C: GenericClient>(
    client: &C,
    orders: &[Uuid],
    lock: Lock,
) -> Result<Loaded<Uuid, Payment, ()>, Error> {
    let sql = match lock {
        Lock::None => LOAD,
        Lock::ForUpdate => LOAD_LOCKED,
    };
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, &[&orders]).await?;
    let mut loaded = Loaded::new(HashMap::new(), ());
    for row in &rows {
        let order = row.try_get(0)?;
        match payment(row)? {
            Ok(payment) => drop(loaded.states.insert(order, payment)),
            Err(cause) => drop(loaded.unreadable.insert(order, cause)),
        }
    }
    Ok(loaded)
}

/// An error of PostgreSQL's where the table does not fit; a cause where this row holds what none may.
fn payment(row: &Row) -> Result<Result<Payment, Cause>, Error> {
    let state: &str = row.try_get(1)?;
    let (amount, reference, reason): (Option<i64>, Option<String>, Option<String>) =
        (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
    let charge = amount
        .zip(reference)
        .map(|(cents, name)| Charge { amount_cents: cents, reference: Reference::new(name) });
    let status = match (State::parse(state), charge, reason) {
        (Some(State::Closed), ..) => Status::Closed,
        (Some(State::Charged), Some(charge), _) => Status::Charged(charge),
        (Some(State::Failed), _, Some(reason)) => Status::Failed { reason },
        (Some(State::Refunded), Some(charge), _) => Status::Refunded(charge),
        _ => return Ok(Err(Cause::new("row", "its row in payments holds what none may"))),
    };
    let (order_version, updated_at) = (row.try_get(2)?, row.try_get(6)?);
    Ok(Ok(Payment { status, order_version, updated_at, unsaved: Vec::new() }))
}

/// Writes payments, one for each order, and their new ledger entries.
///
/// An entry for money that has moved before is refused with `unique_violation`.
pub async fn save<C: GenericClient>(client: &C, changed: &[(Uuid, Payment)]) -> Result<(), Error> {
    save_payments(client, changed).await?;
    if changed.iter().any(|(_, payment)| !payment.unsaved.is_empty()) {
        book(client, changed).await?;
    }
    Ok(())
}

async fn save_payments<C: GenericClient>(client: &C, changed: &[(Uuid, Payment)]) -> Result<(), Error> {
    let column = |of: fn(&Payment) -> Option<&str>| -> Vec<Option<&str>> {
        changed.iter().map(|(_, payment)| of(payment)).collect()
    };
    let orders: Vec<_> = changed.iter().map(|(order, _)| order).collect();
    let states: Vec<_> = changed.iter().map(|(_, payment)| State::of(&payment.status).as_str()).collect();
    let versions: Vec<_> = changed.iter().map(|(_, payment)| payment.order_version).collect();
    let amounts: Vec<_> =
        changed.iter().map(|(_, payment)| charge(payment).map(|charge| charge.amount_cents)).collect();
    let references = column(|payment| charge(payment).map(|charge| charge.reference.as_str()));
    let reasons = column(|payment| match &payment.status {
        Status::Failed { reason } => Some(reason),
        _ => None,
    });
    let updated: Vec<_> = changed.iter().map(|(_, payment)| payment.updated_at).collect();
    let statement = client.prepare_cached(SAVE).await?;
    client
        .execute(&statement, &[&orders, &states, &versions, &amounts, &references, &reasons, &updated])
        .await?;
    Ok(())
}

fn charge(payment: &Payment) -> Option<&Charge> {
    match &payment.status {
        Status::Charged(charge) | Status::Refunded(charge) => Some(charge),
        Status::Closed | Status::Failed { .. } => None,
    }
}

async fn book<C: GenericClient>(client: &C, changed: &[(Uuid, Payment)]) -> Result<(), Error> {
    let entries: Vec<_> = changed
        .iter()
        .flat_map(|(order, payment)| payment.unsaved.iter().map(move |entry| (order, entry)))
        .collect();
    let orders: Vec<_> = entries.iter().map(|(order, _)| *order).collect();
    let kinds: Vec<_> = entries.iter().map(|(_, entry)| entry.kind.as_str()).collect();
    let amounts: Vec<_> = entries.iter().map(|(_, entry)| entry.amount_cents).collect();
    let keys: Vec<_> = entries.iter().map(|(order, entry)| entry.kind.provider_key(**order)).collect();
    let references: Vec<_> = entries.iter().map(|(_, entry)| entry.reference.as_str()).collect();
    let times: Vec<_> = entries.iter().map(|(_, entry)| entry.at).collect();
    let statement = client.prepare_cached(BOOK).await?;
    client.execute(&statement, &[&orders, &kinds, &amounts, &keys, &references, &times]).await?;
    Ok(())
}

/// The words of `payments.state`.
#[derive(Clone, Copy)]
enum State {
    Closed,
    Charged,
    Failed,
    Refunded,
}

impl State {
    fn of(status: &Status) -> Self {
        match status {
            Status::Closed => Self::Closed,
            Status::Charged(_) => Self::Charged,
            Status::Failed { .. } => Self::Failed,
            Status::Refunded(_) => Self::Refunded,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Charged => "charged",
            Self::Failed => "failed",
            Self::Refunded => "refunded",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Closed, Self::Charged, Self::Failed, Self::Refunded]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}
