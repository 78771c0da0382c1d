//! All SQL of the payments service: arrays in, rows out.

use std::collections::HashMap;

use actors::Lock;
use deadpool_postgres::GenericClient;
use tokio_postgres::{
    Error, Row,
    types::{FromSql, Type},
};
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
) -> Result<HashMap<Uuid, Payment>, Error> {
    let sql = match lock {
        Lock::None => LOAD,
        Lock::ForUpdate => LOAD_LOCKED,
    };
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, &[&orders]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, payment(row)?))).collect()
}

fn payment(row: &Row) -> Result<Payment, Error> {
    let charge = || -> Result<Charge, Error> {
        Ok(Charge { amount_cents: row.try_get(3)?, reference: Reference::new(row.try_get::<_, String>(4)?) })
    };
    let status = match row.try_get(1)? {
        State::Closed => Status::Closed,
        State::Charged => Status::Charged(charge()?),
        State::Failed => Status::Failed { reason: row.try_get(5)? },
        State::Refunded => Status::Refunded(charge()?),
    };
    Ok(Payment { status, order_version: row.try_get(2)?, updated_at: row.try_get(6)?, unsaved: Vec::new() })
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
}

impl<'a> FromSql<'a> for State {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let text = <&str>::from_sql(ty, raw)?;
        [Self::Closed, Self::Charged, Self::Failed, Self::Refunded]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("no payment state is called {text}").into())
    }

    fn accepts(ty: &Type) -> bool {
        <&str as FromSql>::accepts(ty)
    }
}
