//! Looks after a group from the side: finds what other processes have put back or paused, checks the accounts, forgets what
//! has ended long ago.

use std::{collections::HashMap, sync::Arc, time::Duration};

use deadpool_postgres::{Client, Pool};
use metrics::gauge;
use tokio::time::Instant;
use tokio_postgres::Error;

use crate::{
    Cause, LaneState,
    consumer::Consumers,
    metrics::{DEGRADED, LAG, OLDEST, UNACCOUNTED},
    record::TopicPartition,
    retention, retry,
    settings::GroupSettings,
    sql,
};

const EVERY: Duration = Duration::from_millis(500);
/// The accounts are checked every so many rounds.
const ACCOUNTS_EVERY: u32 = 10;

/// What is watched.
pub(crate) struct Watch {
    pub(crate) settings: GroupSettings,
    pub(crate) pool: Pool,
    pub(crate) consumers: Arc<Consumers>,
}

impl Watch {
    /// Runs until it is aborted.
    pub(crate) async fn run(self) {
        let mut round = 0u32;
        let mut sweep_at = Instant::now() + self.settings.retention.every;
        loop {
            tokio::time::sleep(EVERY).await;
            round = round.wrapping_add(1);
            self.gauges();
            match self.round(round, sweep_at <= Instant::now()).await {
                Ok(true) => sweep_at = Instant::now(),
                Ok(false) if sweep_at <= Instant::now() => {
                    sweep_at = Instant::now() + self.settings.retention.every;
                }
                Ok(false) => {}
                Err(cause) => {
                    let group = &self.settings.group;
                    tracing::debug!(group, %cause, "PostgreSQL does not answer; the lanes say so themselves");
                }
            }
        }
    }

    /// True when there is more to sweep.
    async fn round(&self, round: u32, sweep: bool) -> Result<bool, Cause> {
        let client = self.pool.get().await.map_err(|error| Cause::from_error("postgresql-pool", &error))?;
        let group = &self.settings.group;
        let work = async {
            for source in retry::requeued_lanes(&client, group).await? {
                if let Some(lane) = self.consumers.lane(&source) {
                    lane.chains_changed();
                }
            }
            self.pauses(&client).await?;
            if round.is_multiple_of(ACCOUNTS_EVERY) {
                accounts(&client, group).await?;
            }
            if sweep { retention::sweep(&client, group, &self.settings.retention).await } else { Ok(false) }
        };
        work.await.map_err(|error| sql::cause(&error))
    }

    /// Partitions that were paused or resumed through another process.
    async fn pauses(&self, client: &Client) -> Result<(), Error> {
        let statement = "SELECT topic, partition, paused FROM partition_lease WHERE consumer = $1";
        let statement = client.prepare_cached(statement).await?;
        let rows = client.query(&statement, &[&self.settings.group]).await?;
        let paused: HashMap<TopicPartition, bool> = rows
            .iter()
            .map(|row| (TopicPartition::new(row.get::<_, &str>(0), row.get(1)), row.get(2)))
            .collect();
        for lane in self.consumers.lanes() {
            let paused = paused.get(&lane.source).copied().unwrap_or(false);
            if lane.is_paused() != paused {
                lane.set_paused(paused);
                lane.wake();
            }
        }
        Ok(())
    }

    #[allow(clippy::cast_precision_loss, reason = "gauges are floating-point")]
    fn gauges(&self) {
        let group = &self.settings.group;
        let lanes = self.consumers.lanes();
        for (state, label) in [
            (LaneState::Degraded, "degraded"),
            (LaneState::Open, "open"),
            (LaneState::Paused, "paused"),
            (LaneState::Restarting, "restarting"),
            (LaneState::Halted, "halted"),
        ] {
            let count = lanes.iter().filter(|lane| lane.state() == state).count();
            gauge!(DEGRADED, "group" => group.clone(), "state" => label).set(count as f64);
        }
        for lane in lanes {
            let status = lane.snapshot();
            let labels = [
                ("group", group.clone()),
                ("topic", status.topic),
                ("partition", status.partition.to_string()),
            ];
            gauge!(LAG, &labels).set(status.lag as f64);
            gauge!(OLDEST, &labels).set(lane.oldest().as_secs_f64());
        }
    }
}

/// Offsets of each lease without an outcome, and whether its count of waiting records is the table's.
#[allow(clippy::cast_precision_loss, reason = "gauges are floating-point")]
async fn accounts(client: &Client, group: &str) -> Result<(), Error> {
    let statement = client
        .prepare_cached(
            "SELECT l.topic, l.partition,
                    l.next_offset - l.first_offset + l.replayed
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
