//! How far each consumer group is with each partition, by its lease and by what Kafka holds.

use std::collections::BTreeMap;

use actors::accounts::{PASSED, UNACCOUNTED};
use anyhow::{Context, Result};
use contracts::topics::READERS;

use crate::clients::topics;

/// How far one consumer group is with one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset it reads next.
    pub next: i64,
    /// Offsets consumed: next - first, and those that a reset went back over.
    pub consumed: i64,
    /// The number of records by outcome, as the lease counts them.
    pub outcomes: BTreeMap<&'static str, i64>,
    /// Offsets consumed that no outcome stands for. Anything but 0 is a bug.
    pub unaccounted: i64,
    /// Records that wait in Kafka.
    pub lag: i64,
}

/// The outcomes that a lease counts.
pub(super) const OUTCOMES: [&str; 8] =
    ["applied", "duplicate", "parked", "dead", "ignored", "moved", "gaps", "lost"];

/// By group, topic and partition.
pub(super) type Leases = BTreeMap<(String, String, i32), Lease>;

/// What a lease says.
#[derive(Clone, Default)]
pub(super) struct Lease {
    next: i64,
    /// Offsets passed, with those that were lost.
    consumed: i64,
    unaccounted: i64,
    outcomes: BTreeMap<&'static str, i64>,
}

/// Adds the leases that one database holds.
pub(super) async fn read_leases(client: &tokio_postgres::Client, leases: &mut Leases) -> Result<()> {
    let sql = format!(
        "select consumer, topic, partition, next_offset, {PASSED} + lost, {UNACCOUNTED}, {} from partition_lease",
        OUTCOMES.join(", ")
    );
    for row in client.query(&sql, &[]).await? {
        let outcomes = OUTCOMES.iter().enumerate().map(|(at, name)| (*name, row.get(6 + at))).collect();
        let lease = Lease { next: row.get(3), consumed: row.get(4), unaccounted: row.get(5), outcomes };
        leases.insert((row.get(0), row.get(1), row.get(2)), lease);
    }
    Ok(())
}

/// Joins what the databases say with what Kafka holds.
pub(super) async fn lanes(brokers: String, leases: Leases) -> Result<Vec<Lane>> {
    let read = tokio::task::spawn_blocking(move || -> Result<Vec<Lane>> {
        let mut lanes = Vec::new();
        for (group, sources) in READERS {
            let requeue = format!("{group}.requeue");
            let sources: Vec<String> =
                sources.iter().map(|topic| (*topic).to_owned()).chain([requeue]).collect();
            for extent in topics::extents(&brokers, &sources)? {
                let at = (group.to_owned(), extent.topic.clone(), extent.partition);
                // Never claimed: all of it waits.
                let unclaimed = || Lease { next: extent.low, ..Lease::default() };
                let Lease { next, consumed, unaccounted, outcomes } =
                    leases.get(&at).cloned().unwrap_or_else(unclaimed);
                let lag = if next < extent.high {
                    topics::records_from(&brokers, &extent.topic, extent.partition, next)?
                } else {
                    0
                };
                let (topic, partition) = (extent.topic, extent.partition);
                lanes.push(Lane {
                    group: group.to_owned(),
                    topic,
                    partition,
                    next,
                    consumed,
                    outcomes,
                    unaccounted,
                    lag,
                });
            }
        }
        Ok(lanes)
    });
    read.await?.context("the topics cannot be compared with the leases")
}
