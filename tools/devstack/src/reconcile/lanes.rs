//! How far each consumer group is with each partition, by its lease and by what Kafka holds.

use std::collections::BTreeMap;

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

/// By group, topic and partition: the first offset, less those that count again because a reset went back over them; the
/// next one; the outcomes.
pub(super) type Leases = BTreeMap<(String, String, i32), (i64, i64, BTreeMap<&'static str, i64>)>;

/// Adds the leases that one database holds.
pub(super) async fn read_leases(client: &tokio_postgres::Client, leases: &mut Leases) -> Result<()> {
    let sql = format!(
        "select consumer, topic, partition, first_offset - replayed, next_offset, {} from partition_lease",
        OUTCOMES.join(", ")
    );
    for row in client.query(&sql, &[]).await? {
        let outcomes = OUTCOMES.iter().enumerate().map(|(at, name)| (*name, row.get(5 + at))).collect();
        leases.insert((row.get(0), row.get(1), row.get(2)), (row.get(3), row.get(4), outcomes));
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
                let (first, next, outcomes) = match leases.get(&at) {
                    Some((first, next, outcomes)) => (*first, *next, outcomes.clone()),
                    // Never claimed: all of it waits.
                    None => (extent.low, extent.low, BTreeMap::new()),
                };
                let lag = if next < extent.high {
                    topics::records_from(&brokers, &extent.topic, extent.partition, next)?
                } else {
                    0
                };
                let consumed = next - first;
                let unaccounted = consumed - outcomes.values().sum::<i64>();
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
