//! All SQL of the delivery service: arrays in, rows out.

mod turns;

pub use self::turns::partition;

use std::collections::HashMap;

use actors::{Cause, Loaded, Lock};
use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use tokio_postgres::{Error, Row, types::ToSql};
use uuid::Uuid;

use crate::domain::{Assignment, Couriers, Status};

const LOAD: &str = "
    select order_id, state, order_version, courier_id, assigned_at, released_at
    from assignments where order_id = any($1) order by order_id";
const LOAD_LOCKED: &str = "
    select order_id, state, order_version, courier_id, assigned_at, released_at
    from assignments where order_id = any($1) order by order_id for update";

/// The assignments of the orders `ids`, those that have one, and couriers to send for those that have none; locked in the order
/// of their ids for an update.
///
/// Two lanes may meet the same order at the same time, one with its payment and one with its end, before it has a row
/// that could be locked. So an order without a row is locked by its name ([`turns`]), and the assignments, read by a later
/// statement, are seen as the one before left them. Couriers are taken in turn, each batch its own few: no batch waits for
/// another that works on other orders. Without a lock there are no couriers: nothing is decided then.
///
/// # Errors
/// Of PostgreSQL.
pub async fn load<C: GenericClient>(
    client: &C,
    ids: &[Uuid],
    lock: Lock,
) -> Result<Loaded<Uuid, Assignment, Couriers>, Error> {
    let of_orders: [&(dyn ToSql + Sync); 1] = [&ids];
    let (rows, couriers) = match lock {
        Lock::None => {
            let statement = client.prepare_cached(LOAD).await?;
            (client.query(&statement, &of_orders).await?, Vec::new())
        }
        Lock::ForUpdate => {
            let (names, buckets) = turns::buckets(ids);
            let naming = client.prepare_cached(turns::LOCK_NEW).await?;
            let reading = client.prepare_cached(LOAD_LOCKED).await?;
            let taking = client.prepare_cached(turns::TAKE).await?;
            let named: [&(dyn ToSql + Sync); 2] = [&names, &buckets];
            // One round trip: they are sent in this order, and the server runs one after the other.
            let (_, rows, taken) = tokio::try_join! {
                biased;
                client.query(&naming, &named),
                client.query(&reading, &of_orders),
                client.query(&taking, &of_orders),
            }?;
            let taken = taken.iter().map(turns::courier).collect::<Result<_, _>>()?;
            let wanted = ids.len().saturating_sub(rows.len());
            (rows, turns::enough(client, taken, wanted).await?)
        }
    };
    let mut loaded = Loaded::new(HashMap::new(), Couriers::new(couriers));
    for row in &rows {
        let id = row.try_get("order_id")?;
        match assignment(row)? {
            Ok(assignment) => drop(loaded.states.insert(id, assignment)),
            Err(cause) => drop(loaded.unreadable.insert(id, cause)),
        }
    }
    Ok(loaded)
}

/// An error of PostgreSQL's where the table does not fit; a cause where this row holds what none may.
fn assignment(row: &Row) -> Result<Result<Assignment, Cause>, Error> {
    let state = State::parse(row.try_get("state")?);
    let (assigned, released) = (row.try_get("assigned_at")?, row.try_get("released_at")?);
    let status = match (state, row.try_get("courier_id")?, assigned, released) {
        (Some(State::Assigned), Some(courier_id), Some(at), _) => Status::Assigned { courier_id, at },
        (Some(State::Released), Some(courier_id), Some(assigned_at), Some(at)) => {
            Status::Released { courier_id, assigned_at, at }
        }
        (Some(State::Failed), _, _, Some(at)) => Status::Failed { at },
        (Some(State::Closed), _, _, Some(at)) => Status::Closed { at },
        _ => return Ok(Err(Cause::new("row", "its row in assignments holds what none may"))),
    };
    Ok(Ok(Assignment { status, order_version: row.try_get("order_version")? }))
}

const SAVE: &str = "
    insert into assignments (order_id, state, order_version, courier_id, assigned_at, released_at)
    select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::integer[], $5::timestamptz[], $6::timestamptz[])
    on conflict (order_id) do update
    set state = excluded.state, order_version = excluded.order_version, courier_id = excluded.courier_id,
        assigned_at = excluded.assigned_at, released_at = excluded.released_at";
/// Whoever frees a courier has not locked it before: all do so in the order of the ids.
const SAVE_LOADS: &str = "
    with held as (select id from couriers where id = any($1) order by id for no key update)
    update couriers set load = load + change.by
    from unnest($1::integer[], $2::integer[]) as change (id, by), held
    where couriers.id = change.id and held.id = change.id";

/// Writes assignments, one for each order, and the loads that changed.
///
/// # Errors
/// Of PostgreSQL.
pub async fn save<C: GenericClient>(
    client: &C,
    changed: &[(Uuid, Assignment)],
    couriers: &Couriers,
) -> Result<(), Error> {
    if !changed.is_empty() {
        save_assignments(client, changed).await?;
    }
    let (ids, changes): (Vec<_>, Vec<_>) = couriers.changes().unzip();
    if !ids.is_empty() {
        let statement = client.prepare_cached(SAVE_LOADS).await?;
        client.execute(&statement, &[&ids, &changes]).await?;
    }
    Ok(())
}

async fn save_assignments<C: GenericClient>(client: &C, changed: &[(Uuid, Assignment)]) -> Result<(), Error> {
    let rows: Vec<_> = changed.iter().map(|(_, assignment)| Columns::of(&assignment.status)).collect();
    let ids: Vec<_> = changed.iter().map(|(id, _)| id).collect();
    let versions: Vec<_> = changed.iter().map(|(_, assignment)| assignment.order_version).collect();
    let states: Vec<_> = rows.iter().map(|row| row.state.as_str()).collect();
    let couriers: Vec<_> = rows.iter().map(|row| row.courier_id).collect();
    let assigned: Vec<_> = rows.iter().map(|row| row.assigned_at).collect();
    let released: Vec<_> = rows.iter().map(|row| row.released_at).collect();
    let statement = client.prepare_cached(SAVE).await?;
    client.execute(&statement, &[&ids, &states, &versions, &couriers, &assigned, &released]).await?;
    Ok(())
}

struct Columns {
    state: State,
    courier_id: Option<i32>,
    assigned_at: Option<DateTime<Utc>>,
    released_at: Option<DateTime<Utc>>,
}

impl Columns {
    fn of(status: &Status) -> Self {
        let over = |state, at| Self { state, courier_id: None, assigned_at: None, released_at: Some(at) };
        match *status {
            Status::Assigned { courier_id, at } => Self {
                state: State::Assigned,
                courier_id: Some(courier_id),
                assigned_at: Some(at),
                released_at: None,
            },
            Status::Released { courier_id, assigned_at, at } => Self {
                state: State::Released,
                courier_id: Some(courier_id),
                assigned_at: Some(assigned_at),
                released_at: Some(at),
            },
            Status::Failed { at } => over(State::Failed, at),
            Status::Closed { at } => over(State::Closed, at),
        }
    }
}

/// The words of `assignments.state`.
#[derive(Clone, Copy)]
enum State {
    Assigned,
    Released,
    Failed,
    Closed,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Released => "released",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Assigned, Self::Released, Self::Failed, Self::Closed]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}
