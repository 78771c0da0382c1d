//! All SQL of the payments service: arrays in, rows out.

use std::collections::HashMap;

use actors::{Cause, Loaded, Lock};
use deadpool_postgres::GenericClient;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::{
    domain::{Charge, Payment, Status},
    money::Booked,
    provider::Reference,
};

const LOAD: &str = "
    select order_id, state, order_version, amount_cents, provider_reference, failure_reason, updated_at
    from payments where order_id = any($1) order by order_id";
const LOAD_LOCKED: &str = "
    select order_id, state, order_version, amount_cents, provider_reference, failure_reason, updated_at
    from payments where order_id = any($1) order by order_id for update";

/// The payments of the orders `ids`, those that have one; locked in the order of their ids for an update.
///
/// # Errors
/// Of PostgreSQL.
pub async fn load<C: GenericClient>(
    client: &C,
    ids: &[Uuid],
    lock: Lock,
) -> Result<Loaded<Uuid, Payment, ()>, Error> {
    let sql = match lock {
        Lock::None => LOAD,
        Lock::ForUpdate => LOAD_LOCKED,
    };
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, &[&ids]).await?;
    let mut loaded = Loaded::new(HashMap::new(), ());
    for row in &rows {
        let id = row.try_get("order_id")?;
        match payment(row)? {
            Ok(payment) => drop(loaded.states.insert(id, payment)),
            Err(cause) => drop(loaded.unreadable.insert(id, cause)),
        }
    }
    Ok(loaded)
}

/// An error of PostgreSQL's where the table does not fit; a cause where this row holds what none may.
fn payment(row: &Row) -> Result<Result<Payment, Cause>, Error> {
    let charge = charge(row)?;
    let status = match (State::parse(row.try_get("state")?), charge, row.try_get("failure_reason")?) {
        (Some(State::Closed), ..) => Status::Closed,
        (Some(State::Charged), Some(charge), _) => Status::Charged(charge),
        (Some(State::Failed), _, Some(reason)) => Status::Failed { reason },
        (Some(State::Refunded), Some(charge), _) => Status::Refunded(charge),
        _ => return Ok(Err(Cause::new("row", "its row in payments holds what none may"))),
    };
    Ok(Ok(Payment {
        status,
        order_version: row.try_get("order_version")?,
        updated_at: row.try_get("updated_at")?,
        unsaved: Vec::new(),
    }))
}

fn charge(row: &Row) -> Result<Option<Charge>, Error> {
    let (cents, name): (Option<i64>, Option<String>) =
        (row.try_get("amount_cents")?, row.try_get("provider_reference")?);
    Ok(cents.zip(name).map(|(amount_cents, name)| Charge { amount_cents, reference: Reference::new(name) }))
}

const SAVE: &str = "
    insert into payments (order_id, state, order_version, amount_cents, provider_reference, failure_reason, updated_at)
    select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::timestamptz[])
    on conflict (order_id) do update
    set state = excluded.state, order_version = excluded.order_version, amount_cents = excluded.amount_cents,
        provider_reference = excluded.provider_reference, failure_reason = excluded.failure_reason,
        updated_at = excluded.updated_at";
/// No `on conflict`: a second charge or refund of an order has to fail loudly.
const BOOK: &str = "
    insert into charges (order_id, kind, amount_cents, provider_key, provider_reference, at)
    select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::timestamptz[])";

/// Writes payments, one for each order, and their new ledger entries.
///
/// # Errors
/// Of PostgreSQL. An entry for money that has moved before is refused with `unique_violation`.
pub async fn save<C: GenericClient>(client: &C, changed: &[(Uuid, Payment)]) -> Result<(), Error> {
    if changed.is_empty() {
        return Ok(());
    }
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
    let ids: Vec<_> = changed.iter().map(|(id, _)| id).collect();
    let states: Vec<_> = changed.iter().map(|(_, payment)| State::of(&payment.status).as_str()).collect();
    let versions: Vec<_> = changed.iter().map(|(_, payment)| payment.order_version).collect();
    let amounts: Vec<_> =
        changed.iter().map(|(_, payment)| charged(payment).map(|charge| charge.amount_cents)).collect();
    let references = column(|payment| charged(payment).map(|charge| charge.reference.as_str()));
    let reasons = column(|payment| match &payment.status {
        Status::Failed { reason } => Some(reason),
        _ => None,
    });
    let updated: Vec<_> = changed.iter().map(|(_, payment)| payment.updated_at).collect();
    let statement = client.prepare_cached(SAVE).await?;
    client
        .execute(&statement, &[&ids, &states, &versions, &amounts, &references, &reasons, &updated])
        .await?;
    Ok(())
}

fn charged(payment: &Payment) -> Option<&Charge> {
    match &payment.status {
        Status::Charged(charge) | Status::Refunded(charge) => Some(charge),
        Status::Closed | Status::Failed { .. } => None,
    }
}

async fn book<C: GenericClient>(client: &C, changed: &[(Uuid, Payment)]) -> Result<(), Error> {
    let entries: Vec<_> = changed
        .iter()
        .flat_map(|(id, payment)| payment.unsaved.iter().map(move |entry| (id, entry)))
        .collect();
    let ids: Vec<_> = entries.iter().map(|(id, _)| *id).collect();
    let kinds: Vec<_> = entries.iter().map(|(_, entry)| entry.kind.as_str()).collect();
    let amounts: Vec<_> = entries.iter().map(|(_, entry)| entry.amount_cents).collect();
    let keys: Vec<_> = entries.iter().map(|(id, entry)| entry.kind.provider_key(**id)).collect();
    let references: Vec<_> = entries.iter().map(|(_, entry)| entry.reference.as_str()).collect();
    let times: Vec<_> = entries.iter().map(|(_, entry)| entry.at).collect();
    let statement = client.prepare_cached(BOOK).await?;
    client.execute(&statement, &[&ids, &kinds, &amounts, &keys, &references, &times]).await?;
    Ok(())
}

/// The ledger's lines about orders after `after`, at most `limit` of them, two at the least: order by order, and whether there are more.
///
/// # Errors
/// Of PostgreSQL.
pub async fn ledger<C: GenericClient>(
    client: &C,
    after: Uuid,
    limit: i64,
) -> Result<(Vec<(Uuid, Booked)>, bool), Error> {
    const SQL: &str = "
        select order_id, kind, amount_cents, provider_reference from charges
        where order_id > $1 order by order_id, kind limit $2";
    let statement = client.prepare_cached(SQL).await?;
    let rows = client.query(&statement, &[&after, &limit]).await?;
    let mut booked: Vec<(Uuid, Booked)> = Vec::with_capacity(rows.len());
    for row in &rows {
        let order = row.try_get(0)?;
        let line = (row.try_get(2)?, Reference::new(row.try_get::<_, String>(3)?));
        if booked.last().is_none_or(|(last, _)| *last != order) {
            booked.push((order, Booked::default()));
        }
        let Some((_, of_order)) = booked.last_mut() else { continue };
        match row.try_get::<_, &str>(1)? {
            "charge" => of_order.charge = Some(line),
            _ => of_order.refund = Some(line),
        }
    }
    let more = i64::try_from(rows.len()).is_ok_and(|rows| rows >= limit);
    if more && booked.len() > 1 {
        // The rest of its lines may be in the next page: all of them are.
        booked.pop();
    }
    Ok((booked, more))
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
