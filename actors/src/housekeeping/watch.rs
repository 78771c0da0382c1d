//! Looks after a group from the side: finds what other processes have put back or paused, notes how far its lanes are, checks the
//! accounts, and sees who keeps dead rows.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use dead_letters::TopicPartition;
use deadpool_postgres::{Client, Pool};
use tokio_postgres::Error;

use super::snapshots::Snapshots;
use crate::{
    Cause,
    clock::Clock,
    condition::Conditions,
    connection::{Connection, Trouble},
    consumer::ConsumerPair,
    lane::LaneKind,
    lease::{self, CaughtUp, Marks, accounts::UNACCOUNTED},
    observed::Observed,
    retry::{self, CameDue},
    settings::GroupSettings,
};

const EVERY: Duration = Duration::from_millis(500);
/// Every so many rounds: each of these reads all leases of the group, through all versions there are of them.
const PAUSES_EVERY: u32 = 4;
/// What is due now may be committed so much later.
const LATE: chrono::Duration = chrono::Duration::seconds(30);
const ACCOUNTS_EVERY: u32 = 10;
const SNAPSHOTS_EVERY: u32 = 10;
/// How far lanes are is looked at this often, or twenty times within the retention.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// And noted this often.
const NOTED_EVERY: Duration = Duration::from_secs(10);

/// What is watched.
pub(crate) struct Watch {
    pub(crate) settings: GroupSettings,
    pub(crate) pool: Pool,
    pub(crate) consumers: Arc<ConsumerPair>,
    pub(crate) conditions: Conditions,
    pub(crate) observed: Observed,
    pub(crate) clock: Clock,
}

/// What is remembered from round to round.
struct State {
    round: u32,
    /// When it was last looked what is due, by the database's clock.
    looked: DateTime<Utc>,
    marks: Marks,
    noted: Instant,
    snapshots: Snapshots,
}

impl Watch {
    /// Runs until it is aborted.
    pub(crate) async fn run(self) {
        let (marks, snapshots) = (Marks::new(self.at_most(NOTED_EVERY)), Snapshots::default());
        let looked = self.clock.now();
        let mut state = State { round: 0, looked, marks, noted: Instant::now(), snapshots };
        loop {
            tokio::time::sleep(EVERY).await;
            state.round = state.round.wrapping_add(1);
            failpoint!(WatchRound);
            if let Err(cause) = self.round(&mut state).await {
                let group = &self.settings.group;
                tracing::debug!(group, %cause, "PostgreSQL does not answer; the lanes say so themselves");
            }
        }
    }

    /// Where outcomes are remembered for a short time, everything that has to do with it is done more often.
    fn at_most(&self, time: Duration) -> Duration {
        (self.settings.retention.inbox / 20).min(time)
    }

    /// Tells lanes what became due in `parked` since the last look, which somebody else may have put there or hurried. When it
    /// looked, by the database's clock, which is told to all.
    async fn notice(&self, client: &Client, before: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
        let (now, due) = retry::came_due(client, &self.settings.group, before - LATE).await?;
        self.clock.set(now);
        let mut lanes: HashMap<TopicPartition, Vec<(i64, DateTime<Utc>)>> = HashMap::new();
        for CameDue { source, id, due_at } in due {
            lanes.entry(source).or_default().push((id, due_at));
        }
        for (source, rows) in lanes {
            if let Some(lane) = self.consumers.lane(&source) {
                lane.notice(rows);
            }
        }
        Ok(now)
    }

    async fn round(&self, state: &mut State) -> Result<(), Cause> {
        self.look(state).await.map_err(|trouble| trouble.cause())
    }

    async fn look(&self, state: &mut State) -> Result<(), Trouble> {
        let connection = Connection::get(&self.pool).await?;
        let (client, limits) = (&*connection, &self.settings.limits);
        state.looked = connection.read(limits, self.notice(client, state.looked)).await?;
        if state.round.is_multiple_of(PAUSES_EVERY) {
            connection.read(limits, self.pauses(client)).await?;
        }
        if state.noted.elapsed() >= self.at_most(PROGRESS_EVERY) {
            let caught_up = self.caught_up(state);
            if !caught_up.is_empty() {
                let note = lease::write_caught_up(client, &self.settings.group, &caught_up);
                let written = connection.write(limits, note).await?;
                state.marks.written(state.noted, &written);
            }
        }
        if state.round.is_multiple_of(ACCOUNTS_EVERY) {
            connection.read(limits, self.accounts(client)).await?;
        }
        if state.round.is_multiple_of(SNAPSHOTS_EVERY) {
            let look = state.snapshots.look(client, &self.conditions, self.settings.snapshot_max);
            let oldest = connection.read(limits, look).await?;
            self.observed.note(|found| found.oldest_snapshot = oldest);
        }
        Ok(())
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

    /// Up to when the lanes here have handled everything. What lies in a requeue topic was dead, and is remembered for longer than
    /// that topic keeps it.
    fn caught_up(&self, state: &mut State) -> Vec<CaughtUp> {
        state.noted = Instant::now();
        let lanes = self.consumers.lanes();
        let sources = lanes.iter().filter(|lane| lane.kind == LaneKind::Source);
        state.marks.look(state.noted, sources.map(|lane| (lane.source.clone(), lane.progress())))
    }

    /// Offsets of each lease without an outcome, whether its count of waiting records is the table's, and since when the one that was
    /// parked first waits.
    async fn accounts(&self, client: &Client) -> Result<(), Error> {
        let group = &self.settings.group;
        let accounts = format!(
            "SELECT l.topic, l.partition, {UNACCOUNTED},
                    l.parked - (SELECT count(*) FROM parked p WHERE p.consumer = l.consumer AND p.topic = l.topic
                                AND p.partition = l.partition AND p.requeued_from IS NULL),
                    (SELECT extract(epoch FROM clock_timestamp() - p.parked_at)::float8 FROM parked p
                     WHERE p.consumer = l.consumer AND p.topic = l.topic AND p.partition = l.partition ORDER BY p.id LIMIT 1)
             FROM partition_lease l WHERE l.consumer = $1"
        );
        let statement = client.prepare_cached(&accounts).await?;
        let (mut unaccounted, mut parked_oldest) = (HashMap::new(), HashMap::new());
        for row in client.query(&statement, &[group]).await? {
            let source = TopicPartition::new(row.get::<_, &str>(0), row.get(1));
            let (left, parked): (i64, i64) = (row.get(2), row.get(3));
            if left != 0 || parked != 0 {
                let (topic, partition) = (&*source.topic, source.partition);
                tracing::error!(
                    group,
                    topic,
                    partition,
                    unaccounted = left,
                    parked_difference = parked,
                    "offsets are not accounted for"
                );
            }
            let oldest = row.get::<_, Option<f64>>(4).and_then(|age| Duration::try_from_secs_f64(age).ok());
            if let Some(oldest) = oldest {
                parked_oldest.insert(source.clone(), oldest);
            }
            unaccounted.insert(source, left.abs() + parked.abs());
        }
        self.observed.note(|found| (found.unaccounted, found.parked_oldest) = (unaccounted, parked_oldest));
        Ok(())
    }
}
