//! What keeps batches apart that meet: an order that is new to both, and the couriers.

use deadpool_postgres::GenericClient;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::domain::Courier;

/// New orders are locked by one of so many names: a batch needs few of the database's locks then, however large it is. The names
/// follow the partitions of the topics (for each number of them that divides this), so that only lanes that can meet the same
/// order share one.
const BUCKETS: u32 = 240;

/// Locks, by their names, the orders that have no row to be locked by, in the order of the names. "dlvy" in ASCII.
pub(super) const LOCK_NEW: &str = "
    select pg_advisory_xact_lock(1684829817, bucket)
    from (select distinct bucket from unnest($1::uuid[], $2::integer[]) as new (id, bucket)
          where not exists (select from assignments where order_id = new.id) order by bucket) as names";

/// Couriers for the orders without a row, one for eight: from whoever's turn it is on, those with room that nobody else has locked.
pub(super) const TAKE: &str = "
    select id, name, capacity, load from couriers
    where load < capacity and id > (select nextval('courier_turn') % (select greatest(max(id), 1) from couriers))
    order by id limit (select least((count(*) + 7) / 8, 8) from unnest($1::uuid[]) as new (id)
                       where not exists (select from assignments where order_id = new.id))
    for no key update skip locked";
/// The others with room, those first that nobody has locked.
const TAKE_FREE: &str = "
    select id, name, capacity, load from couriers
    where load < capacity and id <> all($1) order by id limit $2 for no key update skip locked";
const TAKE_REST: &str = "
    select id, name, capacity, load from couriers
    where load < capacity and id <> all($1) order by id for no key update";

/// The orders with the name each is locked by.
pub(super) fn buckets(orders: &[Uuid]) -> (Vec<Uuid>, Vec<i32>) {
    let bucket = |order: &Uuid| (place(order) % BUCKETS).cast_signed();
    (orders.to_vec(), orders.iter().map(bucket).collect())
}

/// The partition of so many in which an order's events lie.
pub fn partition(order: &Uuid, partitions: u32) -> usize {
    usize::try_from(place(order) % partitions).unwrap_or(0)
}

fn place(order: &Uuid) -> u32 {
    murmur2(order.hyphenated().to_string().as_bytes()) & 0x7fff_ffff
}

/// At least as many couriers as it takes to have room for `wanted` orders, if there are. Only where nearly everybody is busy does
/// this wait for other batches, so that nobody is turned away whom a courier could have taken.
pub(super) async fn enough<C: GenericClient>(
    client: &C,
    mut taken: Vec<Courier>,
    wanted: usize,
) -> Result<Vec<Courier>, Error> {
    for statement in [TAKE_FREE, TAKE_REST] {
        let room: i64 = taken.iter().map(|courier| i64::from(courier.capacity - courier.load)).sum();
        let missing = i64::try_from(wanted).unwrap_or(i64::MAX) - room;
        if missing <= 0 {
            break;
        }
        let ids: Vec<i32> = taken.iter().map(|courier| courier.id).collect();
        let prepared = client.prepare_cached(statement).await?;
        // Each has room for one at the least.
        let rows = match statement {
            TAKE_FREE => client.query(&prepared, &[&ids, &missing]).await?,
            _ => client.query(&prepared, &[&ids]).await?,
        };
        for row in &rows {
            taken.push(courier(row)?);
        }
    }
    Ok(taken)
}

pub(super) fn courier(row: &Row) -> Result<Courier, Error> {
    Ok(Courier {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        capacity: row.try_get("capacity")?,
        load: row.try_get("load")?,
    })
}

/// The hash by which Kafka's clients choose the partition of a key.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ (word >> 24)).wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = (hash ^ word).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests;
