//! Looks after a group from the side: finds records that other processes put back, and checks the accounts.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::Pool;
use metrics::gauge;
use ractor::ActorRef;

use crate::{
    Cause, LaneState,
    consumer::Routing,
    metrics::{DEGRADED, UNACCOUNTED},
    partition::Supervise,
    retry, sql,
};

const REQUEUED_EVERY: Duration = Duration::from_millis(500);
/// The accounts are checked every so many rounds.
const ACCOUNTS_EVERY: u32 = 10;

/// Runs until it is aborted.
pub(crate) async fn watch(group: String, pool: Pool, routing: Arc<Routing>, supervisor: ActorRef<Supervise>) {
    let mut round = 0u32;
    loop {
        tokio::time::sleep(REQUEUED_EVERY).await;
        round = round.wrapping_add(1);
        states(&group, &routing);
        let result = async {
            let client = pool.get().await.map_err(|error| Cause::from_error("postgresql-pool", &error))?;
            let lanes = retry::requeued_lanes(&client, &group).await.map_err(|error| sql::cause(&error))?;
            for source in lanes {
                // A supervisor that is gone has no lanes.
                supervisor.cast(Supervise::Requeued(source)).unwrap_or_default();
            }
            if round.is_multiple_of(ACCOUNTS_EVERY) {
                accounts(&client, &group).await.map_err(|error| sql::cause(&error))?;
            }
            Ok::<(), Cause>(())
        };
        if let Err(cause) = result.await {
            tracing::debug!(group, %cause, "PostgreSQL does not answer; the lanes say so themselves");
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floating-point")]
fn states(group: &str, routing: &Routing) {
    let lanes = routing.lanes();
    for (state, label) in [
        (LaneState::Degraded, "degraded"),
        (LaneState::Restarting, "restarting"),
        (LaneState::Halted, "halted"),
    ] {
        let count = lanes.iter().filter(|lane| lane.state() == state).count();
        gauge!(DEGRADED, "group" => group.to_owned(), "state" => label).set(count as f64);
    }
}

/// Offsets of each lease without an outcome, and whether its count of waiting records is the table's.
#[allow(clippy::cast_precision_loss, reason = "gauges are floating-point")]
async fn accounts(client: &deadpool_postgres::Client, group: &str) -> Result<(), tokio_postgres::Error> {
    let statement = client
        .prepare_cached(
            "SELECT l.topic, l.partition,
                    l.next_offset - l.first_offset
                        - (l.applied + l.duplicate + l.parked + l.dead + l.ignored + l.moved + l.gaps + l.lost),
                    l.parked - (SELECT count(*) FROM parked p WHERE p.consumer = l.consumer AND p.topic = l.topic
                                AND p.partition = l.partition AND p.requeued_from IS NULL)
             FROM partition_lease l WHERE l.consumer = $1",
        )
        .await?;
    for row in client.query(&statement, &[&group]).await? {
        let (topic, partition): (String, i32) = (row.get(0), row.get(1));
        let (left, parked): (i64, i64) = (row.get(2), row.get(3));
        if left != 0 || parked != 0 {
            tracing::error!(
                group,
                topic,
                partition,
                unaccounted = left,
                parked_difference = parked,
                "offsets are not accounted for"
            );
        }
        gauge!(UNACCOUNTED, "group" => group.to_owned(), "topic" => topic, "partition" => partition.to_string())
            .set((left.abs() + parked.abs()) as f64);
    }
    Ok(())
}
