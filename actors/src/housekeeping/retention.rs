//! Forgets what has ended long ago, beside everything else.
//!
//! The inbox must remember an event for as long as it may come again, and no longer: it is the one table that grows with
//! every record. One that was ever dead may be put back for as long as its dead letter is kept, also after it was applied.
//!
//! A sweep takes a fifth of the time, a batch at a time, until nothing is left; processes side by side take different rows.
//! It never forgets what a partition that stands still may bring once it goes on, nor what waits in `parked`.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use dead_letters::TopicPartition;
use deadpool_postgres::Pool;
use tokio_postgres::{Row, types::ToSql};

use crate::{
    Cause,
    condition::{Conditions, Raised, Subject},
    connection::{Connection, Trouble},
    observed::Observed,
    settings::{GroupSettings, RetentionSettings},
};

/// After a batch it rests for so many times as long as that took.
const REST: u32 = 4;
/// It is said who holds the sweep back after a fifth of the retention, within these.
const SAID_AFTER: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(600)];
/// The code of a partition that holds the sweep back.
const HELD_BACK: &str = "sweep-held-back";

/// Of a little over 100 bytes each, and one statement a batch.
const APPLIED: &str = "WITH old AS MATERIALIZED (
        SELECT ctid, processed_at FROM inbox
        WHERE consumer = $1 AND NOT dead AND generation = 1 AND processed_at >= $2 AND processed_at < $3
        ORDER BY processed_at LIMIT $4 FOR UPDATE SKIP LOCKED
     ), gone AS (DELETE FROM inbox WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)))
     SELECT count(*), max(processed_at), set_config('synchronous_commit', 'off', true) FROM old";
const DEAD: &str = "WITH old AS MATERIALIZED (
        SELECT ctid, processed_at FROM inbox
        WHERE consumer = $1 AND (dead OR generation > 1) AND processed_at >= $2 AND processed_at < $3
        ORDER BY processed_at LIMIT $4 FOR UPDATE SKIP LOCKED
     ), gone AS (DELETE FROM inbox WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)))
     SELECT count(*), max(processed_at), set_config('synchronous_commit', 'off', true) FROM old";
const JOURNAL: &str = "WITH old AS MATERIALIZED (
        SELECT ctid, at FROM offset_journal WHERE consumer = $1 AND at >= $2 AND at < $3
        ORDER BY at LIMIT $4 FOR UPDATE SKIP LOCKED
     ), gone AS (DELETE FROM offset_journal WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)))
     SELECT count(*), max(at), set_config('synchronous_commit', 'off', true) FROM old";
/// They are large: fewer at a time.
const BODIES: &str = "WITH old AS MATERIALIZED (
        SELECT ctid, kept_at FROM dead_letter_body WHERE consumer = $1 AND kept_at >= $2 AND kept_at < $3
        ORDER BY kept_at LIMIT greatest($4::bigint / 20, 1) FOR UPDATE SKIP LOCKED
     ), gone AS (DELETE FROM dead_letter_body WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)))
     SELECT count(*), max(kept_at), set_config('synchronous_commit', 'off', true) FROM old";

/// Sweeps a group's tables.
#[derive(Debug)]
pub(crate) struct Sweeper {
    settings: GroupSettings,
    pool: Pool,
    conditions: Conditions,
    observed: Observed,
    raised: Raised,
}

/// Up to where may be forgotten, by the database's clock.
struct Limits {
    now: DateTime<Utc>,
    /// Whoever may bring the oldest records yet.
    holder: Option<Holder>,
}

/// A partition, and since when something of it may have been left.
struct Holder {
    source: TopicPartition,
    since: DateTime<Utc>,
    /// What was read of it waits in `parked`; else it is not read.
    waits: bool,
}

impl Limits {
    /// Everything written before then was handled.
    fn handled_to(&self) -> DateTime<Utc> {
        self.holder.as_ref().map_or(self.now, |holder| self.now.min(holder.since))
    }
}

impl Sweeper {
    pub(crate) fn new(
        settings: GroupSettings,
        pool: Pool,
        conditions: Conditions,
        observed: Observed,
    ) -> Self {
        Self { settings, pool, conditions, observed, raised: Raised::default() }
    }

    /// Runs until it is aborted.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::time::sleep(self.settings.retention.every).await;
            if let Err(cause) = self.round().await {
                let group = &self.settings.group;
                tracing::debug!(group, %cause, "the sweep is put off; the lanes say themselves what is wrong");
            }
        }
    }

    async fn round(&mut self) -> Result<(), Cause> {
        let RetentionSettings { inbox, dead, .. } = self.settings.retention;
        let limits = self.limits().await?;
        let limit = before(limits.handled_to(), inbox);
        self.say_who_holds(&limits);
        let observed = self.observed.clone();
        let past = |oldest: DateTime<Utc>| {
            let past = (before(limits.now, inbox) - oldest).to_std().unwrap_or_default();
            observed.note(|found| found.inbox_past_retention = past);
        };
        self.sweep(APPLIED, limit, past).await?;
        past(self.oldest(limit).await?.unwrap_or(limits.now));
        self.sweep(DEAD, before(limits.handled_to(), dead), |_| ()).await?;
        self.sweep(BODIES, before(limits.now, dead), |_| ()).await?;
        self.sweep(JOURNAL, before(limits.now, inbox), |_| ()).await
    }

    /// Deletes what is older than `limit`, batch by batch, and says after each how far it is.
    async fn sweep(
        &self,
        statement: &str,
        limit: DateTime<Utc>,
        reached: impl Fn(DateTime<Utc>),
    ) -> Result<(), Cause> {
        let batch = self.settings.retention.batch;
        let mut from = DateTime::UNIX_EPOCH;
        loop {
            let started = Instant::now();
            let values: [&(dyn ToSql + Sync); 4] = [&self.settings.group, &from, &limit, &batch];
            let row = self.query(statement, &values).await?;
            let (deleted, last): (i64, Option<DateTime<Utc>>) = (row.get(0), row.get(1));
            let Some(last) = last.filter(|_| deleted >= batch) else { return Ok(()) };
            reached(last);
            // What lies before is deleted, and not vacuumed yet: to be looked at once, not by every batch.
            from = last;
            tokio::time::sleep(started.elapsed() * REST).await;
        }
    }

    async fn limits(&self) -> Result<Limits, Cause> {
        const OLDEST: &str = "SELECT now(), topic, partition, at, waits FROM (
                SELECT 1) AS always LEFT JOIN LATERAL (
                SELECT topic, partition, caught_up_at AS at, false AS waits FROM partition_lease
                WHERE consumer = $1 AND topic = ANY ($2)
                UNION ALL
                (SELECT topic, partition, parked_at, true FROM parked WHERE consumer = $1 ORDER BY parked_at LIMIT 1)
                ORDER BY at LIMIT 1) AS oldest ON true";
        let row = self.query(OLDEST, &[&self.settings.group, &self.settings.topics]).await?;
        let holder = row.get::<_, Option<&str>>(1).map(|topic| Holder {
            source: TopicPartition::new(topic, row.get(2)),
            since: row.get(3),
            waits: row.get(4),
        });
        Ok(Limits { now: row.get(0), holder })
    }

    /// When the oldest event ended that is remembered beyond `limit`.
    async fn oldest(&self, limit: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Cause> {
        const OLDEST: &str = "SELECT (SELECT processed_at FROM inbox
                WHERE consumer = $1 AND NOT dead AND generation = 1 AND processed_at >= $2
                ORDER BY processed_at LIMIT 1)";
        Ok(self.query(OLDEST, &[&self.settings.group, &limit]).await?.get(0))
    }

    async fn query(&self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Row, Cause> {
        let ask = async {
            let connection = Connection::get(&self.pool).await?;
            let answer = async {
                let statement = connection.prepare_cached(statement).await?;
                connection.query_one(&statement, values).await
            };
            connection.write(&self.settings.limits, answer).await
        };
        ask.await.map_err(|trouble: Trouble| trouble.cause())
    }

    /// Names the partition that keeps the inbox from forgetting, once that shows.
    fn say_who_holds(&mut self, limits: &Limits) {
        let retention = self.settings.retention.inbox;
        let [least, most] = SAID_AFTER;
        let said_after = (retention / 5).clamp(least, most);
        let holder = limits.holder.as_ref().filter(|holder| before(limits.now, said_after) > holder.since);
        let found = holder.map(|Holder { source, since, waits }| {
            let why = match waits {
                true => "has had a record waiting for another attempt since then",
                false => "was last at the end of its log then",
            };
            let message = format!(
                "the inbox forgets nothing younger than {} s before {since}: {source} {why}, and what came twice may still \
                 lie there; it grows until the partition goes on",
                retention.as_secs()
            );
            ((Subject::Partition(source.clone()), HELD_BACK), message)
        });
        self.raised.say(&self.conditions, found.into_iter().collect());
    }
}

/// The time `age` before `at`.
fn before(at: DateTime<Utc>, age: Duration) -> DateTime<Utc> {
    let age = TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX);
    at.checked_sub_signed(age).unwrap_or(DateTime::UNIX_EPOCH)
}
